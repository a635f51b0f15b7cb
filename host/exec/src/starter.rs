//! The starter: a process with one thread that forks a supervisor for each step.
//!
//! It is this binary again, started at the first step. A fork of it costs a tenth of a start of this large program, with its dynamic linking, and
//! supervisors share its memory. It knows nothing of steps: it is handed a supervisor's socket and output pipes, and whatever the step is told
//! goes past it. Losing the parent ends it, after its supervisors.
use std::io::{Error, ErrorKind, Result};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};

use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::error::ExecError;
use crate::init::{INIT_NAME, supervise};
use crate::run::program;
use crate::sys::{self, Forked};
use crate::wire::{self, Report, line};

/// The parent's end.
struct Starter {
    control: UnixStream,
    /// `None` on a kernel without pidfds.
    process: Option<OwnedFd>,
}

static STARTER: Mutex<Option<Starter>> = Mutex::new(None);

impl Starter {
    fn spawn() -> Result<Self> {
        let (control, theirs) = UnixStream::pair()?;
        // No `pre_exec`: it would make a fork of this large process out of a vfork.
        let mut command = Command::new(program());
        command.arg0(INIT_NAME).env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").current_dir("/");
        command.stdin(Stdio::from(OwnedFd::from(theirs))).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn()?;
        let process = Pid::from_raw(child.id() as i32).and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
        Ok(Self { control, process })
    }
}

/// Begins a supervisor with the socket and the output pipes it is to have. What becomes of it is said on its socket.
///
/// # Errors
/// No process can be started.
pub(crate) fn begin(socket: &OwnedFd, stdout: &OwnedFd, stderr: &OwnedFd) -> Result<()> {
    let mut known = STARTER.lock().unwrap_or_else(PoisonError::into_inner);
    let descriptors = [socket.as_fd(), stdout.as_fd(), stderr.as_fd()];
    if let Some(starter) = &*known
        && wire::send(&starter.control, &[0], &descriptors).is_ok()
    {
        return Ok(());
    }
    // The first, or somebody has killed the one before.
    let starter = known.insert(Starter::spawn()?);
    wire::send(&starter.control, &[0], &descriptors)
}

/// No more steps: gives what shows the end of the last supervisor.
pub(crate) fn end() -> Option<OwnedFd> {
    let starter = STARTER.lock().unwrap_or_else(PoisonError::into_inner).take();
    starter.and_then(|starter| starter.process)
}

/// The starter's side. Returns when the parent is gone, and all supervisors after it.
pub(crate) fn starter_main() {
    let Ok(control) = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3).map(UnixStream::from) else { return };
    let Ok(null) = openat(CWD, "/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()) else { return };
    if rustix::stdio::dup2_stdin(null).is_err() {
        return;
    }
    // Away from the terminal's process group: its Ctrl-C is the parent's to handle.
    let _ = rustix::process::setsid();
    // A parent that is gone is an error where something is written to it.
    sys::ignore_signal(libc::SIGPIPE);
    sys::ignore_signal(libc::SIGCHLD);
    loop {
        let mut descriptors = Vec::new();
        match wire::receive(&control, &mut [0], &mut descriptors) {
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Ok(1) => {}
            _ => break,
        }
        let Ok([socket, stdout, stderr]) = <[OwnedFd; 3]>::try_from(descriptors) else { break };
        match sys::fork_into(0) {
            Ok(Forked::Child) => {
                drop(control);
                begun(socket, stdout, stderr);
                sys::exit_now(0);
            }
            Ok(Forked::Parent(..)) => {}
            Err(error) => {
                let report = Report::Failed(ExecError::system("starting a supervisor", error));
                let _ = wire::send(&socket, &line(&report), &[]);
            }
        }
    }
    sys::wait_for_all();
}

/// A supervisor's beginning.
fn begun(socket: OwnedFd, stdout: OwnedFd, stderr: OwnedFd) {
    // It waits for its own.
    sys::reset_signal(libc::SIGCHLD);
    let _ = rustix::process::setsid();
    if rustix::stdio::dup2_stdout(stdout).is_err() || rustix::stdio::dup2_stderr(stderr).is_err() {
        return;
    }
    let control = UnixStream::from(socket);
    let own = pidfd_open(rustix::process::getpid(), PidfdFlags::empty()).map_err(Error::from);
    let told = own.and_then(|own| wire::send(&control, &line(&Report::Begun), &[own.as_fd()]));
    if told.is_ok() {
        supervise(control);
    }
}
