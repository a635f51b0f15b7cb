//! `ExecError`: everything that keeps a step from running. A step that ran and failed is an `Exit`, never an error.
use serde::{Deserialize, Serialize};

/// A step could not be run.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum ExecError {
    /// The step's values make no sense; nothing was started.
    #[error("the step is not valid: {0}")]
    Invalid(String),
    /// The program is not in the image or cannot be executed there.
    #[error("cannot start `{program}`: {reason}")]
    Start {
        /// `args[0]`.
        program: String,
        /// Why, with what was looked for.
        reason: String,
        /// 127 where it is missing, 126 where it cannot be executed: what a shell would answer.
        code: i32,
    },
    /// `user` names nobody in the image.
    #[error("cannot run as `{user}`: {reason}")]
    User {
        /// As the step said it.
        user: String,
        /// Why.
        reason: String,
    },
    /// A mount could not be made.
    #[error("cannot mount at `{destination}`: {reason}")]
    Mount {
        /// Path in the container.
        destination: String,
        /// Why.
        reason: String,
    },
    /// Neither root nor a user namespace is to be had.
    #[error(
        "cannot make containers here: {reason}; run rhost as root, or allow unprivileged user namespaces (sysctl user.max_user_namespaces, kernel.apparmor_restrict_unprivileged_userns)"
    )]
    NoPrivilege {
        /// What was tried and what the kernel said.
        reason: String,
    },
    /// This build of rhost or this kernel cannot do what the step asks for.
    #[error("not supported: {0}")]
    Unsupported(String),
    /// A system call failed.
    #[error("{doing}: {reason}")]
    System {
        /// What was being done.
        doing: String,
        /// The kernel's answer.
        reason: String,
    },
    /// The init process ended without saying why.
    #[error("the step's supervisor ended early: {0}")]
    Lost(String),
    /// `run_until` was told to stop; all processes of the step are gone.
    #[error("the step was cancelled")]
    Cancelled,
}

impl ExecError {
    pub(crate) fn system(doing: impl Into<String>, error: impl std::fmt::Display) -> Self {
        Self::System { doing: doing.into(), reason: error.to_string() }
    }
}

pub(crate) type Result<T> = std::result::Result<T, ExecError>;
