//! `BuildError`: what went wrong, whose fault it is (the exit code), where, and the way out.
use std::fmt;

use rhost_llb::VertexDigest;

/// Whose fault an error is; each has its documented exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A step failed, or its sources are missing: 1.
    Build,
    /// The request itself is wrong: 2.
    Request,
    /// The build file is wrong: 3.
    BuildFile,
    /// The frontend failed or was stopped: 4.
    Frontend,
    /// A registry or the network failed: 5.
    Network,
    /// The store or the disk failed: 6.
    Store,
    /// A policy forbids it: 7.
    Policy,
    /// A source is not in the lock file, not what that says, or (offline) not here: 8.
    Sources,
    /// Somebody asked to stop, by this signal: 128 and its number.
    Interrupted(u8),
}

impl Kind {
    /// The exit code of the process.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Build => 1,
            Self::Request => 2,
            Self::BuildFile => 3,
            Self::Frontend => 4,
            Self::Network => 5,
            Self::Store => 6,
            Self::Policy => 7,
            Self::Sources => 8,
            Self::Interrupted(signal) => 128 + signal,
        }
    }
}

/// A place in a build file. Lines and columns count from 1 and 0, as LLB's source locations do (spec A.1, Position).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Name of the file as the user knows it.
    pub file: String,
    /// First line.
    pub first_line: u32,
    /// Last line.
    pub last_line: u32,
    /// The whole text of the file, for a snippet.
    pub text: String,
}

/// A failed build.
#[derive(Debug, Clone)]
pub struct BuildError {
    /// Whose fault.
    pub kind: Kind,
    /// What was wanted and what was found, in one or a few lines.
    pub message: String,
    /// Ways out.
    pub hints: Vec<String>,
    /// Where in the build file.
    pub place: Option<Place>,
    /// The failed vertex.
    pub vertex: Option<VertexDigest>,
}

impl BuildError {
    /// An error with neither place nor hint. Credentials in URLs are taken out of `message`.
    pub fn new(kind: Kind, message: impl fmt::Display) -> Self {
        Self {
            kind,
            message: rhost_registry::redact(&message.to_string()),
            hints: Vec::new(),
            place: None,
            vertex: None,
        }
    }

    /// The same error with a way out.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(place) = &self.place {
            write!(f, "{}:{}: ", place.file, place.first_line)?;
        }
        f.write_str(&self.message)
    }
}

impl std::error::Error for BuildError {}
