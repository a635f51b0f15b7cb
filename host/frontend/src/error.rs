//! Why a frontend cannot be used, and why a run of it failed.
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rhost_llb::Digest;

use crate::host::{HostError, Range, SourceText};

/// The name that messages call a frontend by, and what it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// As the user knows it: an image reference, a path, `dockerfile (built in)`.
    pub name: String,
    /// Of the component's bytes.
    pub digest: Digest,
}

impl std::fmt::Display for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let digest = self.digest.to_string();
        write!(f, "frontend {} ({})", self.name, digest.get(..19).unwrap_or(&digest))
    }
}

/// Bytes do not become a frontend.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// The bytes are something else.
    #[error(
        "{identity} is no WebAssembly component: {found}. A frontend is a component for the world rhost:frontend/frontend@0.1.0"
    )]
    NotAComponent {
        /// Whose.
        identity: Identity,
        /// What they are.
        found: String,
    },
    /// Machine code from elsewhere would run without a sandbox.
    #[error(
        "{identity} is precompiled machine code, which is never loaded from outside; publish the WebAssembly component itself"
    )]
    Precompiled {
        /// Whose.
        identity: Identity,
    },
    /// It wants more of the world than a frontend gets.
    #[error("{identity} is refused: it imports {}, and a frontend may import rhost:* only", wanted.join(", "))]
    ForeignImports {
        /// Whose.
        identity: Identity,
        /// All of them.
        wanted: Vec<String>,
    },
    /// It was made for another version.
    #[error("{identity} wants {}, this rhost offers rhost:frontend@0.1.0: {side}", wanted.join(", "))]
    OtherVersion {
        /// Whose.
        identity: Identity,
        /// Interfaces that are not here.
        wanted: Vec<String>,
        /// Who has to move.
        side: &'static str,
    },
    /// A component, but for another world.
    #[error("{identity} is a component, but no frontend of rhost:frontend@0.1.0: {reason}")]
    NotAFrontend {
        /// Whose.
        identity: Identity,
        /// What does not fit.
        reason: String,
    },
    /// The compiler ran into its limits or died.
    #[error("{identity} could not be compiled: {reason}")]
    Compile {
        /// Whose.
        identity: Identity,
        /// What happened.
        reason: String,
    },
    /// Others could put machine code there.
    #[error("the directory of compiled frontends, {}, is not private: {reason}. Remove it, or `chmod 700` it as its owner", path.display())]
    CacheNotPrivate {
        /// Which.
        path: PathBuf,
        /// Why.
        reason: String,
    },
}

/// A run of a frontend did not answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// The frontend says no: usually an error in the build file. Its findings were reported before.
    #[error("{error}")]
    Refused {
        /// Whose.
        identity: Identity,
        /// What it says.
        error: HostError,
        /// How many findings of severity `error` it reported. With some, the text is only a summary.
        reported_errors: usize,
    },
    /// It was stopped, or fell.
    #[error("{identity} {stop}")]
    Stopped {
        /// Whose.
        identity: Identity,
        /// How.
        stop: Stop,
        /// Where in the guest, innermost first; may be empty.
        backtrace: Vec<String>,
        /// The place in a build file that it spoke of last.
        place: Option<(Arc<SourceText>, Range)>,
    },
    /// Its answer makes no sense.
    #[error("{identity} gave a wrong answer: {reason}")]
    BadAnswer {
        /// Whose.
        identity: Identity,
        /// What is wrong.
        reason: String,
    },
}

impl RunError {
    /// Whose.
    pub fn identity(&self) -> &Identity {
        match self {
            Self::Refused { identity, .. } | Self::Stopped { identity, .. } | Self::BadAnswer { identity, .. } => {
                identity
            }
        }
    }

    /// What happened, without what changes with each build of the frontend.
    pub fn what(&self) -> String {
        match self {
            Self::Refused { error, .. } => error.to_string(),
            Self::Stopped { stop, .. } => format!("the frontend {stop}"),
            Self::BadAnswer { reason, .. } => format!("the frontend gave a wrong answer: {reason}"),
        }
    }
}

/// How a guest was stopped or fell.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Stop {
    /// Endless loop, or far too much work.
    #[error("was stopped: it computed for longer than {limit:?} (limit: compute time)")]
    Time {
        /// The limit.
        limit: Duration,
    },
    /// Endless reading.
    #[error("was stopped: it read files for longer than {limit:?} (limit: reading time)")]
    Reading {
        /// The limit.
        limit: Duration,
    },
    /// Endless allocation, or far too much data.
    #[error("was stopped: it asked for {wanted} MiB of memory (limit: {limit} MiB)")]
    Memory {
        /// MiB asked for.
        wanted: usize,
        /// MiB allowed.
        limit: usize,
    },
    /// Endless recursion.
    #[error("was stopped: its calls are nested too deeply (limit: stack)")]
    Stack,
    /// Some other bound.
    #[error("was stopped: {what} (limit: {limit})")]
    Limit {
        /// Which.
        what: String,
        /// The limit.
        limit: usize,
    },
    /// It said why before it died.
    #[error("panicked: {message}")]
    Panic {
        /// Its words.
        message: String,
    },
    /// It died.
    #[error("crashed: {reason}")]
    Trap {
        /// The kind of trap.
        reason: String,
    },
}
