//! The supervisor of a step: makes the mounts, clones the container, waits, cleans up. And the entry of all that this binary is started as.
//!
//! It ends the container when the parent hangs up (cancel, crash) or a signal asks for it; the container's processes end with it
//! because their pid 1 is tied to this process, which has one thread. Whatever happens, removal of mount stubs comes last.
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{CWD, Mode, OFlags, openat};

use crate::cgroup::Cgroup;
use crate::container::{self, Teller};
use crate::devices::{Gate, Nodes};
use crate::error::{ExecError, Result};
use crate::step::{Network, Security, Step};
use crate::stubs::{self, Stub};
use crate::sys::{self, Forked};
use crate::wire::{self, Progress, Report, line};
use crate::{emulation, guard, seccomp, starter, trees, userns};

/// `argv[0]` of the starter of supervisors, and so of these.
pub const INIT_NAME: &str = "rhost-exec-init";

/// Call first thing in `main`, before threads and async runtimes. Returns at once in an ordinary process; in the starter of supervisors and in them it
/// never returns.
pub fn init_main() {
    // Not std::env::args: this may run before the runtime has them.
    let line = std::fs::read("/proc/self/cmdline").unwrap_or_default();
    let words: Vec<&[u8]> = guard::words(&line);
    if words[0] == INIT_NAME.as_bytes() {
        starter::starter_main();
        sys::exit_now(0);
    }
    if words[0] == guard::GUARD_NAME.as_bytes() {
        sys::exit_now(guard::guard_main(&words[1..]));
    }
    if words[0] == emulation::PROBE_NAME.as_bytes() {
        emulation::probe_main(&words[1..]);
    }
}

/// Runs the step that it is told of.
pub(crate) fn supervise(mut control: UnixStream) {
    // Held to the end of this process: locks that must not be given to others while anything of the step lives.
    let mut held = Vec::new();
    if !matches!(wire::receive(&control, &mut [0], &mut held), Ok(1)) {
        return;
    }
    let Ok(step) = wire::decode(&mut control) else { return };
    let report = match run(&step, &control) {
        Ok(status) => Report::Ended(status),
        Err(error) => Report::Failed(error),
    };
    let _ = control.write_all(&line(&report));
    drop(held);
}

fn run(step: &Step, control: &UnixStream) -> Result<i32> {
    let filter = match step.security {
        Security::Insecure => Vec::new(),
        Security::Sandbox => seccomp::sandbox_filter().ok_or_else(|| {
            ExecError::Unsupported(format!(
                "no system call filter for {}; only amd64 and arm64 have one",
                std::env::consts::ARCH
            ))
        })?,
    };
    let signals = sys::termination_signals().map_err(|e| ExecError::system("listening for signals", e))?;
    if userns::enter_user_namespace()? == userns::UserNamespace::NotNeeded {
        sys::unshare(libc::CLONE_NEWNS).map_err(|e| ExecError::system("making a mount namespace", e))?;
    }
    let warn = |text: String| {
        let _ = (&*control).write_all(&line(&Report::Warning(text)));
    };
    let cgroup = Cgroup::enter(step, warn);
    let mut gate = Gate::make(step, cgroup.unified());
    let sockets = trees::prepare(step)?;
    if !sockets.is_empty() {
        let numbers = sockets.iter().map(|(index, _)| *index).collect();
        let descriptors: Vec<_> = sockets.iter().map(|(_, listener)| listener.as_fd()).collect();
        wire::send(control, &line(&Report::Sockets(numbers)), &descriptors)
            .map_err(|e| ExecError::system("handing sockets over", e))?;
        drop(sockets);
    }
    let root = openat(CWD, "root", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|e| ExecError::system("opening the root", e))?;
    if let Some(emulator) = &step.emulator {
        emulation::register(emulator)?;
    }
    let (ours, theirs) = UnixStream::pair().map_err(|e| ExecError::system("making a socket", e))?;
    let mut namespaces =
        libc::CLONE_NEWNS | libc::CLONE_NEWPID | libc::CLONE_NEWIPC | libc::CLONE_NEWUTS | libc::CLONE_NEWCGROUP;
    if step.network == Network::None {
        namespaces |= libc::CLONE_NEWNET;
    }
    let forked = gate.as_ref().and_then(|gate| sys::fork_into_cgroup(namespaces, gate.descriptor()).ok());
    if forked.is_none()
        && let Some(gate) = gate.take()
    {
        gate.remove();
    }
    let nodes = match (&gate, step.security) {
        (_, Security::Insecure) => Nodes::Open,
        (Some(_), Security::Sandbox) => Nodes::Gated,
        (None, Security::Sandbox) => Nodes::Closed,
    };
    match forked
        .map_or_else(|| sys::fork_into(namespaces), Ok)
        .map_err(|e| ExecError::NoPrivilege { reason: format!("cloning the container: {e}") })?
    {
        Forked::Child => {
            drop(ours);
            let teller = Teller(&theirs);
            teller.say(&Progress::Failed(container::enter(step, nodes, &filter, teller)));
            sys::exit_now(127);
        }
        Forked::Parent(pid, pidfd) => {
            drop(theirs);
            cgroup.leave();
            silence();
            let mut watch = Watch { control, signals: signals.as_fd(), pidfd: pidfd.as_fd(), progress: ours, pid };
            let (stubs, outcome) = watch.wait(warn);
            stubs::remove(root.as_fd(), &stubs, step.remove_mount_stubs_recursive);
            if let Some(gate) = gate {
                gate.remove();
            }
            cgroup.remove();
            outcome
        }
    }
}

/// The output pipes are the container's alone, so that the parent sees their end.
fn silence() {
    if let Ok(null) = openat(CWD, "/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()) {
        let _ = rustix::stdio::dup2_stdout(&null);
        let _ = rustix::stdio::dup2_stderr(&null);
    }
}

struct Watch<'a> {
    control: &'a UnixStream,
    signals: BorrowedFd<'a>,
    pidfd: BorrowedFd<'a>,
    progress: UnixStream,
    pid: i32,
}

impl Watch<'_> {
    /// Until pid 1 is gone, and with it every process of its namespace.
    fn wait(&mut self, warn: impl Fn(String)) -> (Vec<Stub>, Result<i32>) {
        let (mut text, mut told, mut asked) = (Vec::new(), true, false);
        loop {
            let quiet = PollFlags::empty();
            let mut fds = [
                PollFd::from_borrowed_fd(self.pidfd, PollFlags::IN),
                PollFd::from_borrowed_fd(
                    self.control.as_fd(),
                    if asked { quiet } else { PollFlags::IN | PollFlags::RDHUP },
                ),
                PollFd::from_borrowed_fd(self.signals, if asked { quiet } else { PollFlags::IN }),
                PollFd::from_borrowed_fd(self.progress.as_fd(), if told { PollFlags::IN } else { quiet }),
            ];
            // HUP is reported even when not asked for: leave a finished descriptor out.
            let count = if told { 4 } else { 3 };
            if poll(&mut fds[..count], None).is_err() {
                continue;
            }
            let [ended, hung_up, signalled, progress] = [0, 1, 2, 3].map(|i| !fds[i].revents().is_empty());
            if told && progress {
                told = self.read(&mut text);
            }
            if ended {
                while told && self.read(&mut text) {}
                break;
            }
            if (hung_up || signalled) && !asked {
                sys::kill(self.pid, libc::SIGKILL);
                asked = true;
            } else if asked && hung_up {
                // The killed container is about to end; do not spin on the closed socket.
                let _ = poll(&mut [PollFd::from_borrowed_fd(self.pidfd, PollFlags::IN)], None);
            }
        }
        let status = sys::wait(self.pid).map_err(|e| ExecError::system("waiting for the container", e));
        let (mut stubs, mut failure) = (Vec::new(), None);
        for line in text.split(|b| *b == b'\n').filter(|line| !line.is_empty()) {
            match serde_json::from_slice(line) {
                Ok(Progress::Stub(stub)) => stubs.push(stub),
                Ok(Progress::Warning(text)) => warn(text),
                Ok(Progress::Failed(error)) => failure = Some(error),
                Err(_) => {}
            }
        }
        (stubs, failure.map_or(status, Err))
    }

    /// Whether more may come.
    fn read(&mut self, text: &mut Vec<u8>) -> bool {
        let mut buffer = [0; 4096];
        match self.progress.read(&mut buffer) {
            Ok(0) | Err(_) => false,
            Ok(count) => {
                text.extend_from_slice(&buffer[..count]);
                true
            }
        }
    }
}
