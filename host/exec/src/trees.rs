//! The supervisor's mounts: a scratch tmpfs in its private namespace with every tree of the step mounted below it.
//!
//! The working directory is the scratch, so that a child in a copied namespace finds its own copies under the same relative
//! names: `root`, `tree-N`, `files/…`, `empty`. Nothing is ever reachable from outside, and all of it goes with the processes.
use std::fs::File;
use std::io::Write;
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Mode, OFlags, openat};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags,
    fsconfig_create, fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, move_mount, open_tree,
};

use crate::error::{ExecError, Result};
use crate::step::{MountSource, ResolvConf, Step, Tree};

/// Name of the host when a step does not say.
pub const HOSTNAME: &str = "buildkitsandbox";

/// Prepares everything and makes the scratch the working directory. The listening sockets of mounts, by the mount's number.
pub fn prepare(step: &Step) -> Result<Vec<(usize, UnixListener)>> {
    let mut sockets = Vec::new();
    let scratch = scratch_for(step)?;
    let fail =
        |what: &str, error: std::io::Error| ExecError::Mount { destination: what.into(), reason: error.to_string() };
    make_directory("root")
        .and_then(|()| make_directory("files"))
        .and_then(|()| make_directory("empty"))
        .map_err(|e| fail("/", e.into()))?;
    mount_tree(scratch.as_fd(), &step.root, "root")
        .map_err(|reason| ExecError::Mount { destination: "/".into(), reason })?;
    for (index, mount) in step.mounts.iter().enumerate() {
        let name = format!("tree-{index}");
        let refuse = |reason: String| ExecError::Mount { destination: mount.destination.clone(), reason };
        match &mount.source {
            MountSource::Tree { tree, .. } => {
                make_directory(&name).map_err(|e| refuse(e.to_string()))?;
                mount_tree(scratch.as_fd(), tree, &name).map_err(refuse)?;
            }
            MountSource::HostFile(path) => {
                write_file(&name, b"", 0o600).map_err(|e| fail(&mount.destination, e))?;
                let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let file =
                    openat(CWD, path, flags, Mode::empty()).map_err(|e| refuse(format!("{}: {e}", path.display())))?;
                bind(file.as_fd(), &name).map_err(|e| refuse(format!("{}: {e}", path.display())))?;
            }
            MountSource::Secret { bytes, uid, gid, mode } => {
                let file = write_file(&format!("files/secret-{index}"), bytes.expose(), 0o600)
                    .map_err(|e| fail(&mount.destination, e))?;
                std::os::unix::fs::fchown(&file, Some(*uid), Some(*gid))
                    .map_err(|e| refuse(unmapped(*uid, *gid, &e)))?;
                rustix::fs::fchmod(&file, Mode::from_raw_mode(mode & 0o7777)).map_err(|e| refuse(e.to_string()))?;
            }
            MountSource::Socket { uid, gid, mode, .. } => {
                let name = format!("files/socket-{index}");
                let listener = UnixListener::bind(&name).map_err(|e| fail(&mount.destination, e))?;
                std::os::unix::fs::lchown(&name, Some(*uid), Some(*gid))
                    .map_err(|e| refuse(unmapped(*uid, *gid, &e)))?;
                rustix::fs::chmodat(CWD, &name, Mode::from_raw_mode(mode & 0o7777), AtFlags::empty())
                    .map_err(|e| refuse(e.to_string()))?;
                sockets.push((index, listener));
            }
            MountSource::Tmpfs { .. } => {}
        }
    }
    if let Some(text) = resolv_conf(&step.resolv_conf) {
        write_file("files/resolv.conf", text.as_bytes(), 0o644).map_err(|e| fail("/etc/resolv.conf", e))?;
    }
    write_file("files/hosts", hosts(step)?.as_bytes(), 0o644).map_err(|e| fail("/etc/hosts", e))?;
    Ok(sockets)
}

fn unmapped(uid: u32, gid: u32, error: &std::io::Error) -> String {
    format!("owner {uid}:{gid}: {error}; in a user namespace it must be mapped (ranges in /etc/subuid and /etc/subgid)")
}

/// Makes the scratch tmpfs of a private mount namespace, and it the working directory.
pub fn scratch_for(step: &Step) -> Result<OwnedFd> {
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    rustix::mount::mount_change("/", private).map_err(|e| ExecError::system("making mounts private", e))?;
    scratch(step).map_err(|e| ExecError::system("mounting the scratch tmpfs", e))
}

fn scratch(step: &Step) -> rustix::io::Result<OwnedFd> {
    // Over the root, where it hides nothing from us: lookups start below it. But a process whose root is covered may not make user
    // namespaces, which emulation needs; binfmt_misc's own mount point is always empty and covering it hides no part of /proc.
    let place = if step.emulator.is_some() { "/proc/sys/fs/binfmt_misc" } else { "/" };
    let context = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(&context, "mode", "0755")?;
    // Secrets are not to reach a swap device either. Wants Linux 6.4 and the machine's first user namespace.
    if step.mounts.iter().any(|mount| matches!(mount.source, MountSource::Secret { .. })) {
        let _ = fsconfig_set_flag(&context, "noswap");
    }
    fsconfig_create(&context)?;
    let attributes =
        MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    let mount = fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)?;
    move_mount(&mount, "", CWD, place, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?;
    rustix::process::fchdir(&mount)?;
    Ok(mount)
}

fn make_directory(name: &str) -> rustix::io::Result<()> {
    rustix::fs::mkdirat(CWD, name, Mode::from_raw_mode(0o755))
}

fn write_file(name: &str, bytes: &[u8], mode: u32) -> std::io::Result<File> {
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
    let mut file = File::from(openat(CWD, name, flags, Mode::from_raw_mode(mode))?);
    file.write_all(bytes)?;
    Ok(file)
}

/// A detached copy of the mount (part) that `source` names. Submounts come along only where the kernel insists (they are locked
/// to it in a user namespace).
pub fn clone_of(source: BorrowedFd<'_>) -> rustix::io::Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    match open_tree(source, "", flags) {
        Err(Errno::INVAL) => open_tree(source, "", flags | OpenTreeFlags::AT_RECURSIVE),
        other => other,
    }
}

fn bind(source: BorrowedFd<'_>, name: &str) -> rustix::io::Result<()> {
    move_mount(clone_of(source)?, "", CWD, name, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
}

fn mount_tree(scratch: BorrowedFd<'_>, tree: &Tree, name: &str) -> std::result::Result<(), String> {
    match tree {
        Tree::Dir(path) => bind_directory(path, name),
        Tree::Overlay { lowers, upper: None } if lowers.len() == 1 => {
            bind_directory(&lowers[0], name)?;
            let mount =
                openat(scratch, name, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).map_err(|e| e.to_string())?;
            crate::sys::mount_setattr(mount.as_fd(), libc::MOUNT_ATTR_RDONLY, 0, crate::sys::Recursion::One)
                .map_err(|e| e.to_string())
        }
        Tree::Overlay { .. } => match overlay(tree) {
            Ok(mount) => {
                move_mount(mount, "", CWD, name, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH).map_err(|e| e.to_string())
            }
            // `lowerdir+` came with Linux 6.7; before that only mount(2) takes long lists.
            Err(Errno::INVAL) => legacy_overlay(tree, name).map_err(|e| format!("overlay: {e}")),
            Err(error) => Err(format!("overlay: {error}")),
        },
    }
}

fn bind_directory(path: &Path, name: &str) -> std::result::Result<(), String> {
    let said = |e: Errno| format!("{}: {e}", path.display());
    let source = openat(CWD, path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).map_err(said)?;
    bind(source.as_fd(), name).map_err(said)
}

fn overlay(tree: &Tree) -> rustix::io::Result<OwnedFd> {
    let Tree::Overlay { lowers, upper } = tree else { return Err(Errno::INVAL) };
    let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
    // Values are limited to 255 bytes; a longer path goes through a descriptor.
    let mut held = Vec::new();
    let mut set = |key: &str, path: &Path| {
        if path.as_os_str().len() < 250 {
            return fsconfig_set_string(&context, key, path);
        }
        let fd = openat(CWD, path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        let result = fsconfig_set_string(&context, key, format!("/proc/self/fd/{}", fd.as_raw_fd()));
        held.push(fd);
        result
    };
    for lower in lowers {
        set("lowerdir+", lower)?;
    }
    if let Some(upper) = upper {
        set("upperdir", &upper.upper)?;
        set("workdir", &upper.work)?;
        fsconfig_set_string(&context, "index", "off")?;
    }
    // What would make an upper directory unreadable on its own. `userxattr` forbids every other word than this one.
    fsconfig_set_string(&context, "redirect_dir", "nofollow")?;
    fsconfig_set_string(&context, "metacopy", "off")?;
    if crate::userns::in_user_namespace() {
        fsconfig_set_flag(&context, "userxattr")?;
    }
    fsconfig_create(&context)?;
    fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())
}

fn legacy_overlay(tree: &Tree, name: &str) -> rustix::io::Result<()> {
    let Tree::Overlay { lowers, upper } = tree else { return Err(Errno::INVAL) };
    let mut held = Vec::new();
    let mut short = |path: &Path| {
        let fd = openat(CWD, path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        held.push(fd);
        Ok::<_, Errno>(format!("/proc/self/fd/{}", held[held.len() - 1].as_raw_fd()))
    };
    let lower = lowers.iter().map(|path| short(path)).collect::<rustix::io::Result<Vec<_>>>()?.join(":");
    let mut options = format!("lowerdir={lower},redirect_dir=nofollow,metacopy=off");
    if let Some(upper) = upper {
        options.push_str(&format!(",upperdir={},workdir={},index=off", short(&upper.upper)?, short(&upper.work)?));
    }
    if crate::userns::in_user_namespace() {
        options.push_str(",userxattr");
    }
    let options = std::ffi::CString::new(options).map_err(|_| Errno::INVAL)?;
    rustix::mount::mount("overlay", name, "overlay", MountFlags::empty(), options.as_c_str())
}

fn resolv_conf(wanted: &ResolvConf) -> Option<String> {
    match wanted {
        ResolvConf::Image => None,
        ResolvConf::Text(text) => Some(text.clone()),
        ResolvConf::Host => Some(std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default()),
    }
}

/// `/etc/hosts` as BuildKit writes it, then the step's own lines.
fn hosts(step: &Step) -> Result<String> {
    let name = if step.hostname.is_empty() { HOSTNAME } else { &step.hostname };
    let mut text = format!("127.0.0.1\tlocalhost {name}\n::1\tlocalhost ip6-localhost ip6-loopback\n");
    for (host, address) in &step.extra_hosts {
        let address: IpAddr = address
            .parse()
            .map_err(|_| ExecError::Invalid(format!("`{address}` for host `{host}` is not an IP address")))?;
        text.push_str(&format!("{address}\t{host}\n"));
    }
    Ok(text)
}
