//! The seam to the kernel: the few calls that rustix does not wrap. All `unsafe` of this crate is here and in the entry macro.
use std::ffi::{CStr, CString};
use std::io::{Error, ErrorKind, Result};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

fn check(value: libc::c_long) -> Result<libc::c_long> {
    if value < 0 { Err(Error::last_os_error()) } else { Ok(value) }
}

/// What `fork_into` returned to.
pub enum Forked {
    /// The new process.
    Child,
    /// The old one: child's pid (in the old namespace) and its pidfd.
    Parent(i32, OwnedFd),
}

/// Forks with `CLONE_NEW*` flags. The caller has one thread, so the child may do anything.
pub fn fork_into(namespaces: libc::c_int) -> Result<Forked> {
    let mut pidfd: RawFd = -1;
    let flags = (namespaces | libc::CLONE_PIDFD | libc::SIGCHLD) as libc::c_ulong;
    // SAFETY: a null stack makes clone a fork; the process has a single thread, so the copied heap and locks are consistent;
    // `pidfd` is valid for the kernel's write. Argument order differs between architectures only after the third.
    let pid = check(unsafe { libc::syscall(libc::SYS_clone, flags, 0usize, &raw mut pidfd, 0usize, 0usize) })?;
    if pid == 0 {
        return Ok(Forked::Child);
    }
    // SAFETY: the kernel made this descriptor for us (CLONE_PIDFD).
    Ok(Forked::Parent(pid as i32, unsafe { OwnedFd::from_raw_fd(pidfd) }))
}

/// `fork_into` that starts the child in a cgroup (of the unified hierarchy).
pub fn fork_into_cgroup(namespaces: libc::c_int, cgroup: BorrowedFd<'_>) -> Result<Forked> {
    const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;
    let mut pidfd: RawFd = -1;
    // SAFETY: all-zero is a valid `clone_args`.
    let mut arguments: libc::clone_args = unsafe { std::mem::zeroed() };
    arguments.flags = namespaces as u64 | libc::CLONE_PIDFD as u64 | CLONE_INTO_CGROUP;
    arguments.pidfd = (&raw mut pidfd) as u64;
    arguments.exit_signal = libc::SIGCHLD as u64;
    arguments.cgroup = cgroup.as_raw_fd() as u64;
    // SAFETY: as in `fork_into`; the arguments outlive the call and their size is given.
    let pid = check(unsafe { libc::syscall(libc::SYS_clone3, &raw const arguments, size_of_val(&arguments)) })?;
    if pid == 0 {
        return Ok(Forked::Child);
    }
    // SAFETY: the kernel made this descriptor for us (CLONE_PIDFD).
    Ok(Forked::Parent(pid as i32, unsafe { OwnedFd::from_raw_fd(pidfd) }))
}

/// Loads a program (BPF, cgroup-device type) that judges the use of device nodes.
pub fn load_device_program(code: &[u64]) -> Result<OwnedFd> {
    const LOAD: libc::c_int = 5;
    #[repr(C)]
    struct Load {
        kind: u32,
        instructions: u32,
        code: u64,
        license: u64,
        log: [u32; 2],
        log_buffer: u64,
        rest: [u32; 2],
    }
    let load = Load {
        kind: 15,
        instructions: code.len() as u32,
        code: code.as_ptr() as u64,
        license: c"".as_ptr() as u64,
        log: [0; 2],
        log_buffer: 0,
        rest: [0; 2],
    };
    // SAFETY: the attributes are those of BPF_PROG_LOAD, their size is given, and what they point to outlives the call.
    let fd = check(unsafe { libc::syscall(libc::SYS_bpf, LOAD, &raw const load, size_of_val(&load)) })?;
    // SAFETY: the kernel made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

/// Attaches it to a cgroup, beside those that are there: all of them must agree.
pub fn attach_device_program(cgroup: BorrowedFd<'_>, program: BorrowedFd<'_>) -> Result<()> {
    const ATTACH: libc::c_int = 8;
    const CGROUP_DEVICE: u32 = 6;
    const ALLOW_MULTI: u32 = 2;
    let attach = [cgroup.as_raw_fd() as u32, program.as_raw_fd() as u32, CGROUP_DEVICE, ALLOW_MULTI];
    // SAFETY: the attributes are those of BPF_PROG_ATTACH, and their size is given.
    check(unsafe { libc::syscall(libc::SYS_bpf, ATTACH, attach.as_ptr(), size_of_val(&attach)) }).map(drop)
}

/// `unshare(2)`.
pub fn unshare(flags: libc::c_int) -> Result<()> {
    // SAFETY: no pointers; the caller has one thread.
    check(unsafe { libc::unshare(flags) }.into()).map(drop)
}

/// `waitpid` on one child; the raw status.
pub fn wait(pid: i32) -> Result<i32> {
    let mut status = 0;
    loop {
        // SAFETY: `status` is valid for the write.
        match check(unsafe { libc::waitpid(pid, &raw mut status, 0) }.into()) {
            Ok(_) => return Ok(status),
            Err(error) if error.raw_os_error() == Some(libc::EINTR) => {}
            Err(error) => return Err(error),
        }
    }
}

/// Sends a signal to one of our children.
pub fn kill(pid: i32, signal: libc::c_int) {
    // SAFETY: no pointers. The pid is a child that has not been waited for, so it names no other process.
    unsafe { libc::kill(pid, signal) };
}

/// Sets attributes of a mount (and of everything below it).
pub fn mount_setattr(mount: BorrowedFd<'_>, set: u64, clear: u64, recursive: Recursion) -> Result<()> {
    let attr = libc::mount_attr { attr_set: set, attr_clr: clear, propagation: 0, userns_fd: 0 };
    let flags = libc::AT_EMPTY_PATH | if recursive == Recursion::Tree { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: the path is a terminated string, `attr` lives through the call and its size is given.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const attr,
            size_of_val(&attr),
        )
    };
    check(result).map(drop)
}

/// Whether a mount operation covers submounts.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Recursion {
    /// This mount only.
    One,
    /// With all submounts.
    Tree,
}

/// `prctl` with one argument.
pub fn prctl(option: libc::c_int, argument: libc::c_ulong) -> Result<()> {
    // SAFETY: only called with options whose argument is a number.
    check(unsafe { libc::prctl(option, argument, 0, 0, 0) }.into()).map(drop)
}

/// Marks every descriptor from `first` on close-on-exec, so that the program sees none of them.
pub fn cloexec_from(first: libc::c_uint) -> Result<()> {
    // SAFETY: no pointers.
    check(unsafe { libc::syscall(libc::SYS_close_range, first, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC) })
        .map(drop)
}

/// The effective, permitted and inheritable capability sets of this process.
pub fn capabilities() -> Result<[u64; 3]> {
    let header = [0x2008_0522_u32, 0];
    let mut data = [0_u32; 6];
    // SAFETY: version 3 of the interface wants one header and two data records of three words.
    check(unsafe { libc::syscall(libc::SYS_capget, header.as_ptr(), data.as_mut_ptr()) })?;
    Ok([0, 1, 2].map(|i| u64::from(data[i]) | u64::from(data[i + 3]) << 32))
}

/// Sets effective and permitted to `caps`.
pub fn set_capabilities(caps: u64, inheritable: u64) -> Result<()> {
    let header = [0x2008_0522_u32, 0];
    let (low, high) = (caps as u32, (caps >> 32) as u32);
    let data = [low, low, inheritable as u32, high, high, (inheritable >> 32) as u32];
    // SAFETY: as in `capabilities`.
    check(unsafe { libc::syscall(libc::SYS_capset, header.as_ptr(), data.as_ptr()) }).map(drop)
}

/// Makes one capability ambient; it is permitted and inheritable already.
pub fn raise_ambient(capability: libc::c_ulong) -> Result<()> {
    // SAFETY: no pointers.
    check(unsafe { libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_RAISE, capability, 0, 0) }.into()).map(drop)
}

/// Supplementary groups, then gid, then uid, all three ids of each.
pub fn set_ids(uid: u32, gid: u32, groups: Option<&[u32]>) -> Result<()> {
    if let Some(groups) = groups {
        // SAFETY: pointer and length come from one slice.
        check(unsafe { libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr()) })?;
    }
    // SAFETY: no pointers; the process has one thread, so the raw calls are enough.
    check(unsafe { libc::syscall(libc::SYS_setresgid, gid, gid, gid) })?;
    // SAFETY: as above.
    check(unsafe { libc::syscall(libc::SYS_setresuid, uid, uid, uid) }).map(drop)
}

/// Loads a seccomp filter for this process and its children.
pub fn load_filter(filter: &[libc::sock_filter]) -> Result<()> {
    let len = u16::try_from(filter.len()).map_err(|_| Error::from_raw_os_error(libc::EINVAL))?;
    let program = libc::sock_fprog { len, filter: filter.as_ptr().cast_mut() };
    let load = |flags: libc::c_ulong| {
        // SAFETY: `program` points at `len` instructions that outlive the call; the kernel only reads them.
        check(unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const program) })
    };
    load(libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW).or_else(|_| load(0)).map(drop)
}

/// Default action for every signal, none blocked: what a program expects at its start.
pub fn reset_signals() {
    // The kernel's own form of sigaction, all zero: SIG_DFL. Past libc, which keeps signals 32 and 33 for itself and would leave
    // them ignored where our caller has them so.
    let default = [0_u64; 4];
    // SAFETY: `default` is at least as large as the kernel's struct, the mask's size is given; refusals (KILL, STOP) are harmless;
    // the set is initialised first.
    unsafe {
        for signal in 1..=64 {
            libc::syscall(libc::SYS_rt_sigaction, signal, default.as_ptr(), 0usize, 8usize);
        }
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
    }
}

/// From now on `signal` does nothing; with SIGCHLD, children that end are gone and nobody waits for each.
pub fn ignore_signal(signal: libc::c_int) {
    // SAFETY: SIG_IGN is a valid disposition.
    unsafe {
        libc::signal(signal, libc::SIG_IGN);
    }
}

/// Default action for `signal`.
pub fn reset_signal(signal: libc::c_int) {
    // SAFETY: SIG_DFL is a valid disposition; no handler of ours is called afterwards.
    unsafe {
        libc::signal(signal, libc::SIG_DFL);
    }
}

/// Waits until the last child has ended, where they are ignored.
pub fn wait_for_all() {
    // POSIX, wait(): with SIGCHLD ignored it returns when there is no child any more, with ECHILD.
    // SAFETY: no status is asked for.
    while unsafe { libc::wait(std::ptr::null_mut()) } != -1 || Error::last_os_error().kind() == ErrorKind::Interrupted {
    }
}

/// Default action for the signals that ask a process to end.
pub fn reset_stop_signals() {
    [libc::SIGINT, libc::SIGTERM, libc::SIGHUP].into_iter().for_each(reset_signal);
}

/// Blocks the signals that ask a process to end, and gives a descriptor that is readable when one came.
pub fn termination_signals() -> Result<OwnedFd> {
    // SAFETY: the set is initialised before use; the descriptor is new and ours.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        for signal in [libc::SIGTERM, libc::SIGINT, libc::SIGHUP, libc::SIGQUIT] {
            libc::sigaddset(&raw mut set, signal);
        }
        libc::sigprocmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut());
        let fd = check(libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK).into())?;
        Ok(OwnedFd::from_raw_fd(fd as RawFd))
    }
}

/// Replaces this process. Returns only on failure.
pub fn execve(path: &CStr, args: &[CString], env: &[CString]) -> Error {
    let vector = |list: &[CString]| list.iter().map(|s| s.as_ptr()).chain([std::ptr::null()]).collect::<Vec<_>>();
    let (args, env) = (vector(args), vector(env));
    // SAFETY: both vectors end in null and hold terminated strings that outlive the call.
    unsafe { libc::execve(path.as_ptr(), args.as_ptr(), env.as_ptr()) };
    Error::last_os_error()
}

/// A fresh session keyring, so that the step sees none of the host's keys. Kernels without keyrings have none to hide.
pub fn new_keyring() {
    // SAFETY: KEYCTL_JOIN_SESSION_KEYRING (1) with a null name makes an anonymous ring.
    unsafe { libc::syscall(libc::SYS_keyctl, 1, 0usize) };
}

/// Sets one limit; `None` from the kernel's view is unlimited.
pub fn set_rlimit(resource: i32, soft: u64, hard: u64) -> Result<()> {
    let limit = libc::rlimit64 { rlim_cur: soft, rlim_max: hard };
    // SAFETY: `limit` lives through the call, no old value is asked for.
    let result = unsafe { libc::syscall(libc::SYS_prlimit64, 0, resource, &raw const limit, 0usize) };
    check(result).map(drop)
}

/// The soft and hard value of one limit.
pub fn rlimit(resource: i32) -> Result<(u64, u64)> {
    let mut limit = libc::rlimit64 { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is valid for the write.
    check(unsafe { libc::syscall(libc::SYS_prlimit64, 0, resource, 0usize, &raw mut limit) })?;
    Ok((limit.rlim_cur, limit.rlim_max))
}

/// Brings `lo` up in a new network namespace.
pub fn loopback_up() -> Result<()> {
    // SAFETY: the request is a zeroed plain structure with a terminated name; the socket is new, used and closed here.
    unsafe {
        let socket = OwnedFd::from_raw_fd(check(
            libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0).into(),
        )? as RawFd);
        let mut request: libc::ifreq = std::mem::zeroed();
        request.ifr_name[0] = b'l' as libc::c_char;
        request.ifr_name[1] = b'o' as libc::c_char;
        check(libc::ioctl(socket.as_raw_fd(), libc::SIOCGIFFLAGS, &raw mut request).into())?;
        request.ifr_ifru.ifru_flags |= libc::IFF_UP as libc::c_short;
        check(libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request).into()).map(drop)
    }
}

/// Ends this process without running destructors or flushing buffers copied from a parent.
pub fn exit_now(code: i32) -> ! {
    // SAFETY: never returns, touches nothing.
    unsafe { libc::_exit(code) }
}
