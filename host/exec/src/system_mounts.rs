//! What every container has besides its root: /proc, /dev, /sys, and what is hidden or read-only in them.
//!
//! Device nodes are the step's own, or the host's bound read-only one by one; which may be opened is in `devices.rs`. Mounted before anything
//! that is the step's own choice.
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags, openat, openat2};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, fsconfig_create, fsconfig_set_flag,
    fsconfig_set_string, fsmount, fsopen, move_mount, open_tree,
};

use crate::devices::Nodes;
use crate::error::{ExecError, Result};
use crate::step::{Security, Step};
use crate::stubs::{self, Kind, Stub};
use crate::sys::{self, Recursion};
use crate::trees::clone_of;

const NODES: [(&str, u32, u32); 6] =
    [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];

/// Docker's masked paths.
const MASKED: [&str; 12] = [
    "proc/acpi",
    "proc/asound",
    "proc/interrupts",
    "proc/kcore",
    "proc/keys",
    "proc/latency_stats",
    "proc/timer_list",
    "proc/timer_stats",
    "proc/sched_debug",
    "proc/scsi",
    "sys/firmware",
    "sys/devices/virtual/powercap",
];

/// Docker's read-only paths.
const READ_ONLY: [&str; 5] = ["proc/bus", "proc/fs", "proc/irq", "proc/sys", "proc/sysrq-trigger"];

const PLAIN: MountAttrFlags =
    MountAttrFlags::MOUNT_ATTR_NOSUID.union(MountAttrFlags::MOUNT_ATTR_NODEV).union(MountAttrFlags::MOUNT_ATTR_NOEXEC);

/// Mounts all of it below `root`.
pub fn mount(root: BorrowedFd<'_>, step: &Step, nodes: Nodes, mut made: impl FnMut(Stub)) -> Result<()> {
    let sandboxed = step.security == Security::Sandbox;
    let proc = new_filesystem("proc", &[], PLAIN).map_err(|e| failed("/proc", e))?;
    attach(root, "proc", &proc, &mut made)?;
    devices(root, step, nodes, &mut made)?;
    system(root, sandboxed, &mut made)?;
    if sandboxed {
        for path in MASKED {
            mask(root, path).map_err(|e| failed(&format!("/{path}"), e))?;
        }
        for path in READ_ONLY {
            read_only(root, path).map_err(|e| failed(&format!("/{path}"), e))?;
        }
    }
    Ok(())
}

fn failed(destination: &str, error: impl std::fmt::Display) -> ExecError {
    ExecError::Mount { destination: destination.into(), reason: error.to_string() }
}

/// A new file system, detached.
pub fn new_filesystem(kind: &str, options: &[(&str, &str)], attributes: MountAttrFlags) -> rustix::io::Result<OwnedFd> {
    let context = fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
    for (key, value) in options {
        if value.is_empty() { fsconfig_set_flag(&context, *key)? } else { fsconfig_set_string(&context, *key, *value)? }
    }
    fsconfig_create(&context)?;
    fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
}

/// Puts a detached mount on a descriptor.
pub fn put(mount: BorrowedFd<'_>, target: BorrowedFd<'_>) -> rustix::io::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(mount, "", target, "", flags)
}

/// `proc`, `dev` and `sys` of the root: made where missing, refused where they are links.
fn attach(root: BorrowedFd<'_>, name: &str, mount: &OwnedFd, made: &mut impl FnMut(Stub)) -> Result<()> {
    let said = |error| failed(&format!("/{name}"), error);
    if let Ok(stat) = rustix::fs::statat(root, name, AtFlags::SYMLINK_NOFOLLOW)
        && rustix::fs::FileType::from_raw_mode(stat.st_mode) != rustix::fs::FileType::Directory
    {
        return Err(failed(&format!("/{name}"), "it is not a directory in the image"));
    }
    stubs::ensure(root, name, Kind::Directory, made).map_err(said)?;
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let target = openat(root, name, flags, Mode::empty()).map_err(said)?;
    put(mount.as_fd(), target.as_fd()).map_err(said)
}

fn devices(root: BorrowedFd<'_>, step: &Step, nodes: Nodes, made: &mut impl FnMut(Stub)) -> Result<()> {
    let mut attributes = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    if nodes == Nodes::Closed {
        attributes |= MountAttrFlags::MOUNT_ATTR_NODEV;
    }
    let dev =
        new_filesystem("tmpfs", &[("mode", "755"), ("size", "65536k")], attributes).map_err(|e| failed("/dev", e))?;
    attach(root, "dev", &dev, made)?;
    for (name, major, minor) in NODES {
        own_node(dev.as_fd(), name, major, minor, nodes).map_err(|e| failed(&format!("/dev/{name}"), e))?;
    }
    for (name, target) in [
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
        ("ptmx", "pts/ptmx"),
    ] {
        rustix::fs::symlinkat(target, &dev, name).map_err(|e| failed(&format!("/dev/{name}"), e))?;
    }
    if step.security == Security::Insecure {
        for (name, kind, major, minor) in insecure_nodes() {
            // As BuildKit: what this machine or this user namespace does not have is left out.
            let _ = insecure_node(dev.as_fd(), &name, kind, major, minor);
        }
    }
    let terminals = [("newinstance", ""), ("ptmxmode", "0666"), ("mode", "0620"), ("gid", "5")];
    let pts_attributes = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    let pts = new_filesystem("devpts", &terminals, pts_attributes)
        // Group 5 (tty) may not be mapped.
        .or_else(|_| new_filesystem("devpts", &terminals[..3], pts_attributes));
    let shm_size = step.shm_size.unwrap_or(64 << 20).to_string();
    let shm = new_filesystem("tmpfs", &[("mode", "1777"), ("size", &shm_size)], PLAIN);
    for (name, mount) in [("pts", pts), ("shm", shm), ("mqueue", new_filesystem("mqueue", &[], PLAIN))] {
        let placed = mount.and_then(|mount| {
            rustix::fs::mkdirat(&dev, name, Mode::from_raw_mode(0o755))?;
            let target = openat(&dev, name, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
            put(mount.as_fd(), target.as_fd())
        });
        match placed {
            // Kernels are built without message queues.
            Err(Errno::NODEV) if name == "mqueue" => {}
            other => other.map_err(|e| failed(&format!("/dev/{name}"), e))?,
        }
    }
    Ok(())
}

/// A device node of the host, only if it is the one that its name promises.
fn host_node(name: &str, major: u32, minor: u32) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let node = openat(CWD, format!("/dev/{name}"), flags, Mode::empty())?;
    let stat = rustix::fs::fstat(&node)?;
    let is_character = rustix::fs::FileType::from_raw_mode(stat.st_mode) == rustix::fs::FileType::CharacterDevice;
    if !is_character || (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev)) != (major, minor) {
        return Err(Errno::NODEV);
    }
    Ok(node)
}

/// What BuildKit gives to insecure steps beside the usual nodes, with loop devices for eight more than the machine has.
fn insecure_nodes() -> Vec<(String, FileType, u32, u32)> {
    const NODES: [(&str, u32, u32); 6] = [
        ("kmsg", 1, 11),
        ("cuse", 10, 203),
        ("fuse", 10, 229),
        ("kvm", 10, 232),
        ("net/tun", 10, 200),
        ("loop-control", 10, 237),
    ];
    let character = |(name, major, minor): (&str, u32, u32)| (name.to_owned(), FileType::CharacterDevice, major, minor);
    let number = |entry: std::fs::DirEntry| entry.file_name().to_str()?.strip_prefix("loop")?.parse::<u32>().ok();
    let loops = std::fs::read_dir("/sys/block").into_iter().flatten().flatten().filter_map(number);
    let first_new = loops.max().map_or(0, |last| (last + 1).min(1024));
    let loops = (0..first_new.max(1) + 7).map(|n| (format!("loop{n}"), FileType::BlockDevice, 7, n));
    NODES.into_iter().map(character).chain(loops).collect()
}

/// Made where that is allowed, else bound from the host.
fn insecure_node(dev: BorrowedFd<'_>, name: &str, kind: FileType, major: u32, minor: u32) -> rustix::io::Result<()> {
    if let Some((parent, _)) = name.split_once('/') {
        match rustix::fs::mkdirat(dev, parent, Mode::from_raw_mode(0o755)) {
            Err(Errno::EXIST) => {}
            other => other?,
        }
    }
    match rustix::fs::mknodat(dev, name, kind, Mode::from_raw_mode(0o666), rustix::fs::makedev(major, minor)) {
        Err(Errno::PERM) if kind == FileType::CharacterDevice => bind_node(dev, name, major, minor),
        other => other,
    }
}

/// A node of the step's own where that can be opened, else the host's.
fn own_node(dev: BorrowedFd<'_>, name: &str, major: u32, minor: u32, nodes: Nodes) -> rustix::io::Result<()> {
    let device = rustix::fs::makedev(major, minor);
    let make = || rustix::fs::mknodat(dev, name, FileType::CharacterDevice, Mode::from_raw_mode(0o666), device);
    match nodes {
        Nodes::Closed => bind_node(dev, name, major, minor),
        // Refused in a user namespace.
        Nodes::Gated | Nodes::Open => make().or_else(|_| bind_node(dev, name, major, minor)),
    }
}

/// The host's node, read-only: data goes through such a mount, but the step's root could otherwise change the mode and the owner of
/// the host's own node.
fn bind_node(dev: BorrowedFd<'_>, name: &str, major: u32, minor: u32) -> rustix::io::Result<()> {
    let source = clone_of(host_node(name, major, minor)?.as_fd())?;
    set_read_only(source.as_fd())?;
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
    drop(openat(dev, name, flags, Mode::from_raw_mode(0o644))?);
    let target = openat(dev, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
    put(source.as_fd(), target.as_fd())
}

fn system(root: BorrowedFd<'_>, sandboxed: bool, made: &mut impl FnMut(Stub)) -> Result<()> {
    let said = |error| failed("/sys", error);
    let access = if sandboxed { MountAttrFlags::MOUNT_ATTR_RDONLY } else { MountAttrFlags::empty() };
    let sys = match new_filesystem("sysfs", &[], PLAIN | access) {
        Ok(mount) => mount,
        // The network namespace is not this user namespace's: only the host's own can be shown, read-only.
        Err(Errno::PERM) => {
            let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_RECURSIVE;
            let mount = open_tree(CWD, "/sys", flags).map_err(said)?;
            sys::mount_setattr(mount.as_fd(), libc::MOUNT_ATTR_RDONLY, 0, Recursion::Tree)
                .map_err(|e| failed("/sys", e))?;
            return attach(root, "sys", &mount, made);
        }
        Err(error) => return Err(said(error)),
    };
    attach(root, "sys", &sys, made)?;
    // Unified hierarchy only: the step's own cgroup. On older layouts the directory stays empty.
    const CGROUP2: u64 = 0x6367_7270;
    if rustix::fs::statfs("/sys/fs/cgroup").is_ok_and(|stat| stat.f_type as u64 == CGROUP2)
        && let Ok(mount) = new_filesystem("cgroup2", &[], PLAIN | access)
        && let Ok(target) = in_plain(root, "sys/fs/cgroup")
    {
        let _ = put(mount.as_fd(), target.as_fd());
    }
    Ok(())
}

fn in_plain(root: BorrowedFd<'_>, path: &str) -> rustix::io::Result<OwnedFd> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    openat2(root, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), resolve)
}

/// Hides a path that exists: a file behind the host's verified /dev/null, a directory behind an empty one.
fn mask(root: BorrowedFd<'_>, path: &str) -> rustix::io::Result<()> {
    let target = match in_plain(root, path) {
        Err(Errno::NOENT | Errno::NOTDIR | Errno::ACCESS) => return Ok(()),
        other => other?,
    };
    let stat = rustix::fs::fstat(&target)?;
    if rustix::fs::FileType::from_raw_mode(stat.st_mode) == rustix::fs::FileType::Directory {
        let empty = openat(CWD, "empty", OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
        let cover = clone_of(empty.as_fd())?;
        set_read_only(cover.as_fd())?;
        put(cover.as_fd(), target.as_fd())
    } else {
        let cover = clone_of(host_node("null", 1, 3)?.as_fd())?;
        set_read_only(cover.as_fd())?;
        put(cover.as_fd(), target.as_fd())
    }
}

fn read_only(root: BorrowedFd<'_>, path: &str) -> rustix::io::Result<()> {
    let target = match in_plain(root, path) {
        Err(Errno::NOENT | Errno::NOTDIR | Errno::ACCESS) => return Ok(()),
        other => other?,
    };
    let cover = clone_of(target.as_fd())?;
    set_read_only(cover.as_fd())?;
    put(cover.as_fd(), target.as_fd())
}

/// Makes one detached mount read-only.
pub fn set_read_only(mount: BorrowedFd<'_>) -> rustix::io::Result<()> {
    let set = |recursion| sys::mount_setattr(mount, libc::MOUNT_ATTR_RDONLY, 0, recursion);
    set(Recursion::Tree).map_err(|e| Errno::from_io_error(&e).unwrap_or(Errno::INVAL))
}
