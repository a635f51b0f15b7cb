//! The parent's side of a step: spawn the supervisor, hand it the spec, stream output, collect the exit.
use std::future::Future;

use crate::error::{ExecError, Result};
use crate::step::Step;

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
pub async fn run_until(step: Step, sink: &mut dyn OutputSink, cancel: impl Future<Output = ()>) -> Result<Exit> {
    let _ = (step, sink, cancel);
    Err(ExecError::Unsupported("the executor is being written".into()))
}
