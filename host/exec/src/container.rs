//! The container's first process, from the clone to the program: it finds its mounts in the working directory, assembles the
//! root, leaves the host behind and gives up its privileges. Single-threaded, alone in its pid namespace until `execve`.
use std::ffi::CString;
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat, openat2};
use rustix::io::Errno;
use rustix::mount::{MountAttrFlags, UnmountFlags};

use crate::devices::Nodes;
use crate::error::{ExecError, Result};
use crate::step::{Access, Mount, MountSource, Network, ResolvConf, Step};
use crate::stubs::{self, Kind};
use crate::system_mounts::{new_filesystem, put, set_read_only};
use crate::user::{self, Identity};
use crate::wire::{Progress, line};
use crate::{launch, sys, system_mounts, trees};

/// Tells the supervisor.
#[derive(Clone, Copy)]
pub struct Teller<'a>(pub &'a UnixStream);

impl Teller<'_> {
    pub fn say(self, progress: &Progress) {
        let _ = (&mut &*self.0).write_all(&line(progress));
    }

    fn is_alone(self) -> bool {
        let mut fds = [rustix::event::PollFd::new(self.0, rustix::event::PollFlags::empty())];
        let now = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
        rustix::event::poll(&mut fds, Some(&now)).is_ok_and(|ready| ready > 0)
    }

    pub fn warn(self, text: String) {
        self.say(&Progress::Warning(text));
    }
}

/// Becomes the step's program. Returns only when that failed.
pub fn enter(step: &Step, nodes: Nodes, filter: &[libc::sock_filter], teller: Teller<'_>) -> ExecError {
    match assemble(step, nodes, teller) {
        Ok(identity) => launch::program(step, &identity, filter, teller),
        Err(error) => error,
    }
}

fn assemble(step: &Step, nodes: Nodes, teller: Teller<'_>) -> Result<Identity> {
    sys::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as _)
        .map_err(|e| ExecError::system("tying to the supervisor", e))?;
    if teller.is_alone() {
        // The supervisor died before the line above could see it.
        sys::exit_now(127);
    }
    let _ = rustix::process::setsid();
    sys::new_keyring();
    rustix::process::umask(Mode::empty());
    let hostname = if step.hostname.is_empty() { trees::HOSTNAME } else { &step.hostname };
    rustix::system::sethostname(hostname.as_bytes())
        .map_err(|e| ExecError::system(format!("host name `{hostname}`"), e))?;
    if step.network == Network::None {
        sys::loopback_up().map_err(|e| ExecError::system("bringing lo up", e))?;
    }
    let root = take_root(nodes).map_err(|e| failed("/", e))?;
    let identity = user::resolve(root.as_fd(), &step.user)?;
    // What is made for these stays in the root, as BuildKit leaves it there.
    system_mounts::mount(root.as_fd(), step, nodes, |_| ())?;
    if step.resolv_conf != ResolvConf::Image {
        let file = generated("files/resolv.conf").map_err(|e| failed("/etc/resolv.conf", e))?;
        place(root.as_fd(), "/etc/resolv.conf", file.as_fd(), Kind::File, teller)?;
    }
    let file = generated("files/hosts").map_err(|e| failed("/etc/hosts", e))?;
    place(root.as_fd(), "/etc/hosts", file.as_fd(), Kind::File, teller)?;
    for (index, mount) in step.mounts.iter().enumerate() {
        place_mount(root.as_fd(), index, mount, nodes, teller)?;
    }
    let cwd = if step.cwd.is_empty() { "/" } else { &step.cwd };
    rustix::process::umask(Mode::from_raw_mode(0o022));
    let said = |e| ExecError::system(format!("working directory `{cwd}`"), e);
    let mut made = Vec::new();
    stubs::ensure(root.as_fd(), cwd, Kind::Directory, |stub| made.push(stub)).map_err(said)?;
    // As BuildKit: one that had to be made is the user's own.
    stubs::give(root.as_fd(), &made, identity.uid, identity.gid).map_err(said)?;
    if step.root_access == Access::ReadOnly {
        sys::mount_setattr(root.as_fd(), libc::MOUNT_ATTR_RDONLY, 0, sys::Recursion::One)
            .map_err(|e| failed("/", e))?;
    }
    leave_host(root.as_fd()).map_err(|e| ExecError::system("entering the root", e))?;
    enter_directory(cwd)?;
    Ok(identity)
}

fn failed(destination: &str, error: impl std::fmt::Display) -> ExecError {
    ExecError::Mount { destination: destination.into(), reason: error.to_string() }
}

/// Our own copy of the root, on top of the inherited one, which is locked in a nested user namespace.
fn take_root(nodes: Nodes) -> std::io::Result<OwnedFd> {
    let open = || openat(CWD, "root", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
    let inherited = open()?;
    let own = trees::clone_of(inherited.as_fd())?;
    if nodes.attributes() != 0 {
        sys::mount_setattr(own.as_fd(), nodes.attributes(), 0, sys::Recursion::Tree)?;
    }
    put(own.as_fd(), inherited.as_fd())?;
    Ok(open()?)
}

/// A file of the scratch as a read-only mount (which inherits nosuid, nodev and noexec).
fn generated(name: &str) -> rustix::io::Result<OwnedFd> {
    let file = openat(CWD, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
    let mount = trees::clone_of(file.as_fd())?;
    set_read_only(mount.as_fd())?;
    Ok(mount)
}

fn place_mount(root: BorrowedFd<'_>, index: usize, mount: &Mount, nodes: Nodes, teller: Teller<'_>) -> Result<()> {
    let said = |e: Errno| failed(&mount.destination, e);
    let detached = match &mount.source {
        MountSource::Tree { subpath, .. } => {
            let name = format!("tree-{index}");
            let tree = openat(CWD, &name, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).map_err(said)?;
            let found = stubs::open_in_root(tree.as_fd(), subpath)
                .map_err(|e| failed(&mount.destination, format!("`{subpath}` in the mount's source: {e}")))?;
            trees::clone_of(found.as_fd()).map_err(said)?
        }
        MountSource::HostFile(_) => {
            let file =
                openat(CWD, format!("tree-{index}"), OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).map_err(said)?;
            trees::clone_of(file.as_fd()).map_err(said)?
        }
        MountSource::Secret { mode, .. } => {
            let file = generated(&format!("files/secret-{index}")).map_err(said)?;
            if mode & 0o111 != 0 {
                // As BuildKit. Where the flag is locked (a nested user namespace) it stays.
                let _ = sys::mount_setattr(file.as_fd(), 0, libc::MOUNT_ATTR_NOEXEC, sys::Recursion::One);
            }
            file
        }
        MountSource::Socket { .. } => generated(&format!("files/socket-{index}")).map_err(said)?,
        MountSource::Tmpfs { size } => {
            let size = size.map(|size| size.to_string());
            let mut options = vec![("mode", "1777")];
            options.extend(size.as_ref().map(|size| ("size", size.as_str())));
            new_filesystem("tmpfs", &options, MountAttrFlags::MOUNT_ATTR_NOSUID).map_err(said)?
        }
    };
    let mut attributes = nodes.attributes();
    if mount.access == Access::ReadOnly {
        attributes |= libc::MOUNT_ATTR_RDONLY;
    }
    if attributes != 0 {
        sys::mount_setattr(detached.as_fd(), attributes, 0, sys::Recursion::Tree)
            .map_err(|e| failed(&mount.destination, e))?;
    }
    let stat = rustix::fs::fstat(&detached).map_err(said)?;
    let is_directory = rustix::fs::FileType::from_raw_mode(stat.st_mode) == rustix::fs::FileType::Directory;
    let kind = if is_directory { Kind::Directory } else { Kind::File };
    place(root, &mount.destination, detached.as_fd(), kind, teller)
}

/// Mounts at a destination in the root, never on the kernel's own file systems.
fn place(root: BorrowedFd<'_>, destination: &str, mount: BorrowedFd<'_>, kind: Kind, teller: Teller<'_>) -> Result<()> {
    let said = |e: Errno| failed(destination, e);
    let target = stubs::ensure(root, destination, kind, |stub| teller.say(&Progress::Stub(stub))).map_err(said)?;
    const PROC: u64 = 0x9fa0;
    const SYSFS: u64 = 0x6265_6572;
    let filesystem = rustix::fs::fstatfs(&target).map_err(said)?.f_type as u64;
    if matches!(filesystem, PROC | SYSFS) {
        return Err(failed(destination, "nothing can be mounted in /proc and /sys"));
    }
    let (here, there) = (rustix::fs::fstat(&target).map_err(said)?, rustix::fs::fstat(root).map_err(said)?);
    if (here.st_dev, here.st_ino) == (there.st_dev, there.st_ino) {
        return Err(failed(destination, "it is the root itself"));
    }
    put(mount, target.as_fd()).map_err(said)
}

/// The host's tree goes on top of the new root, out of sight of every path but `/..`, and is then let go of.
///
/// It is a stack: the scratch may cover the host's root, so one unmount is not enough. `..` at the root follows whatever is mounted
/// there, which is how the rest would be reached from inside, and how it is found here.
fn leave_host(root: BorrowedFd<'_>) -> rustix::io::Result<()> {
    rustix::process::fchdir(root)?;
    rustix::process::pivot_root(".", ".")?;
    const MOST: usize = 8;
    let own = stubs::mount_id(root);
    for _ in 0..MOST {
        let top = openat(CWD, "/..", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        if own.is_some() && stubs::mount_id(top.as_fd()) == own {
            return rustix::process::chdir("/");
        }
        drop(top);
        rustix::mount::unmount("/..", UnmountFlags::DETACH)?;
    }
    Err(Errno::BUSY)
}

/// Magic links (`/proc/self/fd/N`) are no working directories: they could lead out of the root.
fn enter_directory(cwd: &str) -> Result<()> {
    let said = |e: Errno| ExecError::system(format!("working directory `{cwd}`"), e);
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = openat2(CWD, cwd, flags, Mode::empty(), ResolveFlags::NO_MAGICLINKS).map_err(said)?;
    rustix::process::fchdir(&directory).map_err(said)?;
    let text = rustix::process::getcwd(Vec::new()).map_err(said)?;
    if text.as_bytes().starts_with(b"/") {
        Ok(())
    } else {
        Err(ExecError::system(format!("working directory `{cwd}`"), "it is outside of the root"))
    }
}

/// A string for the kernel.
pub fn c_string(text: &str) -> Result<CString> {
    CString::new(text).map_err(|_| ExecError::Invalid(format!("`{}` contains a NUL byte", text.escape_debug())))
}
