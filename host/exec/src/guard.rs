//! Programs of the host that a build needs (git), run so that nothing of them outlives the build.
//!
//! As for steps, the threaded parent does not fork: it spawns this binary again, a guard with one thread, which starts the program in a
//! process group of its own with a umask of 022 and nothing but the environment it is given. Losing the parent (cancelled, crashed, killed) ends
//! the group: asked first, so that the program can remove its temporary files, then killed. Nothing here confines the program: it acts
//! with the caller's rights.
use std::ffi::{CString, OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{CWD, Mode, OFlags, openat};
use tokio::io::AsyncReadExt;

use crate::error::{ExecError, Result};
use crate::run::{ExitStatus, OutputSink, OutputStream, program};
use crate::sys::{self, Forked};
use crate::{Held, wire};

/// `argv[0]` of the guard; the program and its arguments follow.
pub const GUARD_NAME: &str = "rhost-exec-guard";

/// How long a program that is asked to end may take.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// A program of the host.
#[derive(Clone, Debug)]
pub struct HostCommand {
    /// Its file.
    pub program: PathBuf,
    /// Its arguments; everybody on the machine can read them.
    pub arguments: Vec<OsString>,
    /// All of its environment.
    pub environment: Vec<(OsString, OsString)>,
    /// Where it runs.
    pub directory: PathBuf,
    /// Locks that are held until the last process of it is gone.
    pub held: Held,
    /// It is ended when it says nothing for so long.
    pub patience: Option<Duration>,
}

/// How a program of the host ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostExit {
    /// By itself.
    Ended(ExitStatus),
    /// It said nothing for longer than its patience, and was killed with its children.
    Silent,
}

impl HostCommand {
    /// Runs it without input. Dropping the future ends it and all its children.
    ///
    /// # Errors
    /// It could not be started.
    pub async fn run(&self, sink: &mut dyn OutputSink) -> Result<HostExit> {
        let said = |doing: &'static str| move |e: std::io::Error| ExecError::system(doing, e);
        let (ours, theirs) = UnixStream::pair().map_err(said("making a socket"))?;
        let held: Vec<_> = self.held.0.iter().map(|descriptor| descriptor.as_fd()).collect();
        wire::send(&ours, &[0], &held).map_err(said("handing locks over"))?;
        let mut command = tokio::process::Command::new(program());
        command.arg0(GUARD_NAME).arg(&self.program).args(&self.arguments).current_dir(&self.directory);
        command.env_clear().envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::from(OwnedFd::from(theirs))).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(said("starting a guard"))?;
        drop(command);
        if let Some(pid) = child.id() {
            crate::settle::started(pid);
        }
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let (Some(mut stdout), Some(mut stderr)) = (stdout, stderr) else {
            return Err(ExecError::Lost("it has no output".into()));
        };
        let (mut out, mut err) = (vec![0; 32 << 10], vec![0; 32 << 10]);
        let (mut out_open, mut err_open, mut silent) = (true, true, false);
        let mut control = Some(ours);
        while out_open || err_open {
            let next = async {
                tokio::select! {
                    read = stdout.read(&mut out), if out_open => (OutputStream::Stdout, read.unwrap_or(0)),
                    read = stderr.read(&mut err), if err_open => (OutputStream::Stderr, read.unwrap_or(0)),
                }
            };
            let (stream, count) = match self.patience.filter(|_| !silent) {
                None => next.await,
                Some(patience) => match tokio::time::timeout(patience, next).await {
                    Ok(read) => read,
                    Err(_) => {
                        // The guard sees this end, and ends the rest; what is still said is heard.
                        silent = true;
                        control = None;
                        continue;
                    }
                },
            };
            match (stream, count) {
                (OutputStream::Stdout, 0) => out_open = false,
                (OutputStream::Stderr, 0) => err_open = false,
                (OutputStream::Stdout, count) => sink.output(stream, &out[..count]),
                (OutputStream::Stderr, count) => sink.output(stream, &err[..count]),
            }
        }
        let status = child.wait().await.map_err(said("waiting for a guard"))?;
        drop(control);
        if silent {
            return Ok(HostExit::Silent);
        }
        match status.code() {
            Some(code @ 129..) => Ok(HostExit::Ended(ExitStatus::Signal(code - 128))),
            Some(code) => Ok(HostExit::Ended(ExitStatus::Code(code))),
            None => Err(ExecError::Lost(status.to_string())),
        }
    }
}

/// The file of `program` in the first of `directories` that has it.
pub fn find_program(program: &str, directories: &[PathBuf]) -> Option<PathBuf> {
    let runs = |path: &Path| path.is_file() && rustix::fs::access(path, rustix::fs::Access::EXEC_OK).is_ok();
    directories.iter().filter(|dir| dir.is_absolute()).map(|dir| dir.join(program)).find(|path| runs(path))
}

/// To standard error at once: `eprintln` writes piece by piece, and who reads may take them for several messages.
fn say(text: &str) {
    use std::io::Write as _;
    // Nobody is left to be told.
    let _ = std::io::stderr().write_all(text.as_bytes());
}

/// The guard's side: runs the program, and ends with its exit code, or 128 and the signal that killed it.
pub(crate) fn guard_main(words: &[&[u8]]) -> i32 {
    let failed = |error: &dyn std::fmt::Display| {
        let name = words.first().map(|name| String::from_utf8_lossy(name).into_owned()).unwrap_or_default();
        say(&format!("cannot start `{name}`: {error}\n"));
        126
    };
    match guard(words) {
        Ok(status) if libc::WIFSIGNALED(status) => 128 + libc::WTERMSIG(status),
        Ok(status) => libc::WEXITSTATUS(status),
        Err(error) => failed(&error),
    }
}

fn guard(words: &[&[u8]]) -> std::io::Result<i32> {
    let control = UnixStream::from(rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3)?);
    let null = openat(CWD, "/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
    rustix::stdio::dup2_stdin(null)?;
    // Away from the terminal: its Ctrl-C is the parent's to handle, and nobody is asked for passwords there.
    let _ = rustix::process::setsid();
    let mut held = Vec::new();
    if !matches!(wire::receive(&control, &mut [0], &mut held), Ok(1)) {
        return Err(std::io::Error::other("its parent is gone"));
    }
    rustix::process::umask(Mode::from_raw_mode(0o022));
    // A program that crashes must not write what it was lent into a file.
    let (_, hard) = sys::rlimit(libc::RLIMIT_CORE as i32)?;
    sys::set_rlimit(libc::RLIMIT_CORE as i32, 0, hard)?;
    // What loses its parent below becomes a child of this process, and so is seen.
    sys::prctl(libc::PR_SET_CHILD_SUBREAPER, 1)?;
    let signals = sys::termination_signals()?;
    let text = |bytes: &[u8]| CString::new(bytes).map_err(std::io::Error::other);
    let arguments = words.iter().map(|word| text(word)).collect::<std::io::Result<Vec<_>>>()?;
    let variable = |(name, value): (OsString, OsString)| text(&[name.as_bytes(), b"=", value.as_bytes()].concat());
    let environment = std::env::vars_os().map(variable).collect::<std::io::Result<Vec<_>>>()?;
    let Some(program) = arguments.first() else { return Err(std::io::Error::other("no program is named")) };
    match sys::fork_into(0)? {
        Forked::Child => {
            let _ = rustix::process::setpgid(None, None);
            let _ = sys::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as _);
            sys::reset_signals();
            let error = sys::execve(program, &arguments, &environment);
            say(&format!("cannot start `{}`: {error}\n", OsStr::from_bytes(program.as_bytes()).display()));
            sys::exit_now(127)
        }
        Forked::Parent(pid, ended) => {
            // Both sides, so that it holds whoever comes first.
            let group = rustix::process::Pid::from_raw(pid);
            let _ = rustix::process::setpgid(group, group);
            wait(pid, ended.as_fd(), &control, signals.as_fd())
        }
    }
}

/// Waits for the program's end, which comes soon when the parent hangs up.
fn wait(pid: i32, ended: BorrowedFd<'_>, control: &UnixStream, signals: BorrowedFd<'_>) -> std::io::Result<i32> {
    let mut deadline = None;
    loop {
        let left = deadline.map(|at: Instant| at.saturating_duration_since(Instant::now()));
        let timeout = left.map(|left| Timespec { tv_sec: left.as_secs() as _, tv_nsec: left.subsec_nanos() as _ });
        let mut fds = vec![PollFd::from_borrowed_fd(ended, PollFlags::IN)];
        if deadline.is_none() {
            fds.push(PollFd::new(control, PollFlags::IN));
            fds.push(PollFd::from_borrowed_fd(signals, PollFlags::IN));
        }
        let ready = match poll(&mut fds, timeout.as_ref()) {
            Err(rustix::io::Errno::INTR) => continue,
            other => other?,
        };
        if !fds[0].revents().is_empty() || ready == 0 {
            break;
        }
        sys::kill(-pid, libc::SIGTERM);
        deadline = Some(Instant::now() + LAST_WORDS);
    }
    // Not waited for yet, so the group's number is still its own.
    sys::kill(-pid, libc::SIGKILL);
    sys::wait(pid)
}

/// As words of an argument list.
pub(crate) fn words(line: &[u8]) -> Vec<&[u8]> {
    line.strip_suffix(b"\0").unwrap_or(line).split(|b| *b == 0).collect()
}

impl HostCommand {
    /// `program` with `arguments`, an empty environment and all patience.
    pub fn new<S: Into<Vec<u8>>>(program: PathBuf, arguments: impl IntoIterator<Item = S>, directory: PathBuf) -> Self {
        let arguments = arguments.into_iter().map(|word| OsString::from_vec(word.into())).collect();
        Self { program, arguments, environment: Vec::new(), directory, held: Held::default(), patience: None }
    }
}
