//! The parent's side of a step: have a supervisor begun, hand it the spec, stream output, collect the exit.
use std::future::Future;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::pin::{Pin, pin};
use std::sync::OnceLock;

use rustix::fs::CWD;
use rustix::mount::{OpenTreeFlags, open_tree};
use rustix::net::Shutdown;
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncReadExt, Interest};
use tokio::net::unix::pipe;
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinSet;

use crate::error::{ExecError, Result};
use crate::lend::Service;
use crate::step::{MountSource, Step};
use crate::system_mounts::set_read_only;
use crate::wire::{self, Report};
use crate::{starter, validate};

/// Which stream a chunk came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutputStream {
    /// Descriptor 1.
    Stdout,
    /// Descriptor 2.
    Stderr,
}

/// Receives output while the step runs, in chunks as the kernel hands them over (at most 64 KiB, not split at lines).
pub trait OutputSink: Send {
    /// Must not block for long: the step's pipe fills meanwhile.
    fn output(&mut self, stream: OutputStream, chunk: &[u8]);
}

impl<F: FnMut(OutputStream, &[u8]) + Send> OutputSink for F {
    fn output(&mut self, stream: OutputStream, chunk: &[u8]) {
        self(stream, chunk);
    }
}

/// How pid 1 of the step ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExitStatus {
    /// It returned this code.
    Code(i32),
    /// This signal killed it.
    Signal(i32),
}

/// A step that ran.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exit {
    /// How it ended.
    pub status: ExitStatus,
    /// Whether `status` counts as success for this step (`valid_exit_codes`).
    pub success: bool,
    /// What was asked for and could not be had softly (cgroup limits, limits above the host's), one sentence each.
    pub warnings: Vec<String>,
}

impl Exit {
    /// The code a shell would show: the exit code, or 128 plus the signal.
    pub fn code(&self) -> i32 {
        match self.status {
            ExitStatus::Code(code) => code,
            ExitStatus::Signal(signal) => 128 + signal,
        }
    }
}

/// Runs one step. Dropping the future kills every process of the step; its mounts and cgroup go a moment later.
///
/// Needs a tokio runtime with I/O enabled.
///
/// # Errors
/// When the step could not be started; a step that ran and failed is an `Exit`.
pub async fn run(step: Step, sink: &mut dyn OutputSink) -> Result<Exit> {
    run_until(step, sink, std::future::pending()).await
}

/// `run` that stops when `cancel` is ready, and answers `Cancelled` only after all of the step is gone and unmounted.
///
/// # Errors
/// As `run`.
pub async fn run_until(step: Step, sink: &mut dyn OutputSink, cancel: impl Future<Output = ()> + Send) -> Result<Exit> {
    validate::check(&step)?;
    let spec = wire::encode(&step).map_err(|e| ExecError::Invalid(e.to_string()))?;
    let mut cancel = pin!(cancel);
    let mut heard = hear(&step, &spec, sink, cancel.as_mut()).await?;
    if let Heard::Nothing = heard {
        // No supervisor was begun: somebody has killed who begins them, and the next one is another's.
        heard = hear(&step, &spec, sink, cancel.as_mut()).await?;
    }
    match heard {
        Heard::Cancelled => Err(ExecError::Cancelled),
        Heard::Nothing => Err(ExecError::Lost("it never began".into())),
        Heard::Reports(text) => {
            conclude(&text, &step)?.ok_or_else(|| ExecError::Lost("it ended without a report".into()))
        }
    }
}

/// What a supervisor has said to its end.
enum Heard {
    Reports(Vec<u8>),
    Nothing,
    Cancelled,
}

/// Has the step run once. Dropping the future closes the socket: the supervisor sees that and kills the container.
async fn hear(
    step: &Step,
    spec: &[u8],
    sink: &mut dyn OutputSink,
    mut cancel: Pin<&mut (impl Future<Output = ()> + Send)>,
) -> Result<Heard> {
    let said = |doing: &'static str| move |e: std::io::Error| ExecError::system(doing, e);
    let (ours, theirs) = std::os::unix::net::UnixStream::pair().map_err(said("making a socket"))?;
    let held: Vec<_> = step.held.0.iter().map(|descriptor| descriptor.as_fd()).collect();
    // The first thing in an empty socket: it does not block.
    wire::send(&ours, &[0], &held).map_err(said("handing locks over"))?;
    ours.set_nonblocking(true).map_err(said("making a socket"))?;
    let (stdout, stdout_theirs) = output().map_err(said("making a pipe"))?;
    let (stderr, stderr_theirs) = output().map_err(said("making a pipe"))?;
    let theirs = OwnedFd::from(theirs);
    starter::begin(&theirs, &stdout_theirs, &stderr_theirs).map_err(said("starting the supervisor"))?;
    drop((theirs, stdout_theirs, stderr_theirs));
    let control = UnixStream::from_std(ours).map_err(said("making a socket"))?;
    let mut cancelled = false;
    let (text, process) = {
        let mut told = pin!(async {
            // One that cannot be told all has ended, and may have said why.
            let _ = write(&control, spec).await;
            listen(&control, step).await
        });
        let mut output = pin!(stream(Some(stdout), Some(stderr), sink));
        let (mut answer, mut silent) = (None, false);
        loop {
            tokio::select! {
                heard = &mut told, if answer.is_none() => answer = Some(heard),
                () = &mut output, if !silent => silent = true,
                () = &mut cancel, if !cancelled => {
                    cancelled = true;
                    // This half only: the report is still heard.
                    let _ = rustix::net::shutdown(&control, Shutdown::Write);
                }
            }
            if silent && answer.is_some() {
                break;
            }
        }
        answer.unwrap_or_default()
    };
    let began = process.is_some() || !text.is_empty();
    if let Some(process) = process {
        // Its mounts go after its socket.
        // SAFETY: the descriptor belongs to what is registered, and is open as long.
        let process = unsafe { AsyncFd::register_with_interest(process, Interest::READABLE) };
        let process = process.map_err(|error| said("waiting for the supervisor")(error.into()))?;
        drop(process.readable().await.map_err(said("waiting for the supervisor"))?);
    }
    Ok(match (cancelled, began) {
        (true, _) => Heard::Cancelled,
        (false, true) => Heard::Reports(text),
        (false, false) => Heard::Nothing,
    })
}

/// A pipe: our end, and the one that the step writes to.
fn output() -> std::io::Result<(pipe::Receiver, OwnedFd)> {
    let (ours, theirs) = std::io::pipe()?;
    Ok((pipe::Receiver::from_owned_fd(ours.into())?, theirs.into()))
}

async fn write(control: &UnixStream, mut bytes: &[u8]) -> std::io::Result<()> {
    while !bytes.is_empty() {
        control.writable().await?;
        match control.try_write(bytes) {
            Ok(count) => bytes = &bytes[count..],
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// The supervisor's reports to their end, and its pidfd; meanwhile the step's sockets are answered.
async fn listen(stream: &UnixStream, step: &Step) -> (Vec<u8>, Option<OwnedFd>) {
    let (mut text, mut seen, mut descriptors, mut services) = (Vec::new(), 0, Vec::new(), JoinSet::new());
    let (mut buffer, mut process) = (vec![0; 8 << 10], None);
    loop {
        let read = stream.async_io(Interest::READABLE, || wire::receive(stream, &mut buffer, &mut descriptors)).await;
        let Ok(count @ 1..) = read else { return (text, process) };
        text.extend_from_slice(&buffer[..count]);
        while let Some(end) = text[seen..].iter().position(|b| *b == b'\n') {
            let line = &text[seen..seen + end];
            seen += end + 1;
            match serde_json::from_slice(line) {
                Ok(Report::Begun) if !descriptors.is_empty() => process = Some(descriptors.remove(0)),
                Ok(Report::Sockets(mounts)) => {
                    for (mount, descriptor) in mounts.into_iter().zip(descriptors.drain(..)) {
                        if let Some(MountSource::Socket { service, .. }) = step.mounts.get(mount).map(|m| &m.source) {
                            services.spawn(accept(descriptor, service.clone()));
                        }
                    }
                }
                _ => {}
            }
        }
    }
}

/// Connections of one socket that are served at once; more wait.
const CONNECTIONS: usize = 32;

async fn accept(descriptor: OwnedFd, service: Service) {
    let listener = std::os::unix::net::UnixListener::from(descriptor);
    let Ok(listener) = listener.set_nonblocking(true).and_then(|()| UnixListener::from_std(listener)) else { return };
    let mut connections = JoinSet::new();
    loop {
        while connections.len() >= CONNECTIONS {
            connections.join_next().await;
        }
        match listener.accept().await {
            Ok((stream, _)) => drop(connections.spawn(service.answer(stream))),
            Err(error) => {
                tracing::warn!(%error, "a socket of a step is no longer answered");
                return;
            }
        }
        while connections.try_join_next().is_some() {}
    }
}

fn conclude(text: &[u8], step: &Step) -> Result<Option<Exit>> {
    let (mut warnings, mut ended) = (Vec::new(), None);
    for line in text.split(|b| *b == b'\n').filter(|line| !line.is_empty()) {
        match serde_json::from_slice(line).map_err(|e| ExecError::Lost(format!("its report cannot be read: {e}")))? {
            Report::Warning(text) => warnings.push(text),
            Report::Failed(error) => return Err(error),
            Report::Begun | Report::Sockets(_) => {}
            Report::Ended(status) => ended = Some(status),
        }
    }
    Ok(ended.map(|raw| {
        let status = if libc::WIFSIGNALED(raw) {
            ExitStatus::Signal(libc::WTERMSIG(raw))
        } else {
            ExitStatus::Code(libc::WEXITSTATUS(raw))
        };
        let success = match status {
            ExitStatus::Code(code) if step.valid_exit_codes.is_empty() => code == 0,
            ExitStatus::Code(code) => step.valid_exit_codes.contains(&code),
            ExitStatus::Signal(_) => false,
        };
        Exit { status, success, warnings }
    }))
}

/// Bytes of stdout in a row after which stderr has its turn: more than what a pipe holds.
const IN_A_ROW: usize = 1 << 20;

/// What the step says, in an order that it can have been said in: what a program printed before another complained is heard before the complaint. Two pipes tell no
/// more than that what is in one was there when the other was looked at, so stdout is emptied first.
async fn stream(
    stdout: Option<impl AsyncRead + Unpin>,
    stderr: Option<impl AsyncRead + Unpin>,
    sink: &mut dyn OutputSink,
) {
    let (Some(mut stdout), Some(mut stderr)) = (stdout, stderr) else { return };
    let (mut out, mut err) = (vec![0; 32 << 10], vec![0; 32 << 10]);
    let (mut out_open, mut err_open, mut in_a_row) = (true, true, 0);
    while out_open || err_open {
        let (stream, read) = if in_a_row < IN_A_ROW {
            tokio::select! {
                biased;
                read = stdout.read(&mut out), if out_open => (OutputStream::Stdout, read),
                read = stderr.read(&mut err), if err_open => (OutputStream::Stderr, read),
            }
        } else {
            in_a_row = 0;
            tokio::select! {
                biased;
                read = stderr.read(&mut err), if err_open => (OutputStream::Stderr, read),
                read = stdout.read(&mut out), if out_open => (OutputStream::Stdout, read),
            }
        };
        let count = read.unwrap_or(0);
        match stream {
            OutputStream::Stdout if count == 0 => out_open = false,
            OutputStream::Stderr if count == 0 => err_open = false,
            OutputStream::Stdout => {
                in_a_row += count;
                sink.output(stream, &out[..count]);
            }
            OutputStream::Stderr => {
                in_a_row = 0;
                sink.output(stream, &err[..count]);
            }
        }
    }
}

/// This binary, through a read-only mount of its own where that can be made: whoever gets hold of it from inside of a container
/// finds a read-only file system (CVE-2019-5736).
pub fn program() -> String {
    static SEALED: OnceLock<Option<OwnedFd>> = OnceLock::new();
    let sealed = SEALED.get_or_init(|| {
        let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        let mount = open_tree(CWD, "/proc/self/exe", flags).ok()?;
        set_read_only(mount.as_fd()).ok()?;
        Some(mount)
    });
    sealed.as_ref().map_or_else(|| "/proc/self/exe".to_owned(), |fd| format!("/proc/self/fd/{}", fd.as_raw_fd()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(stdout: impl AsyncRead + Unpin, stderr: impl AsyncRead + Unpin) -> Vec<(OutputStream, usize)> {
        let mut told: Vec<(OutputStream, usize)> = Vec::new();
        let mut sink = |stream: OutputStream, bytes: &[u8]| match told.last_mut() {
            Some((last, count)) if *last == stream => *count += bytes.len(),
            _ => told.push((stream, bytes.len())),
        };
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        runtime.block_on(stream(Some(stdout), Some(stderr), &mut sink));
        told
    }

    #[test]
    fn a_complaint_comes_after_what_was_printed_before_it() {
        // A choice by lot would get through this once in 2^64.
        for _ in 0..64 {
            let told = told(&[b'1'; 100_000][..], &b"nosuchcommand: not found"[..]);
            assert_eq!(told, [(OutputStream::Stdout, 100_000), (OutputStream::Stderr, 24)]);
        }
    }

    #[test]
    fn who_prints_without_end_does_not_keep_complaints_away() {
        let told = told(tokio::io::repeat(b'x').take(10 * IN_A_ROW as u64), &b"complaint"[..]);
        assert_eq!(told[0], (OutputStream::Stdout, IN_A_ROW));
        assert_eq!(told[1], (OutputStream::Stderr, 9));
        assert_eq!(told[2], (OutputStream::Stdout, 9 * IN_A_ROW));
    }
}
