//! What can go wrong in a conversion, always with the place in the build file when there is one.

use crate::convert::graph::Range;
use crate::host::HostError;

/// A conversion that failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}{kind}", place(file, ranges))]
pub struct ConvertError {
    /// What went wrong.
    pub kind: ErrorKind,
    /// Name of the build file; empty when the fault lies elsewhere (an option, the context).
    pub file: String,
    /// Where in the build file; empty when the fault has no place.
    pub ranges: Vec<Range>,
}

/// The kinds of faults.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ErrorKind {
    /// The build file does not follow the language.
    #[error("{0}")]
    Syntax(String),
    /// An instruction asks for something that cannot be, for example a stage that does not exist.
    #[error("{0}")]
    Instruction(String),
    /// An option of the client is malformed.
    #[error("option `{key}`: {message}")]
    Option {
        /// Name of the option.
        key: String,
        /// What is wrong with it.
        message: String,
    },
    /// A feature of the language that this frontend does not have.
    #[error("{0} is not supported yet")]
    Unsupported(String),
    /// The build file is missing.
    #[error("there is no build file `{0}`: name it with the option `filename`")]
    NoBuildFile(String),
    /// The host could not answer.
    #[error("{what}: {source}")]
    Host {
        /// What was asked.
        what: String,
        /// Its answer.
        source: HostError,
    },
}

fn place(file: &str, ranges: &[Range]) -> String {
    match (file.is_empty(), ranges.first()) {
        (true, _) => String::new(),
        (false, None) => format!("{file}: "),
        (false, Some(range)) => format!("{file}:{}: ", range.start_line),
    }
}

impl From<ErrorKind> for ConvertError {
    fn from(kind: ErrorKind) -> Self {
        Self { kind, file: String::new(), ranges: Vec::new() }
    }
}

impl ConvertError {
    /// An instruction that asks for something that cannot be.
    pub(crate) fn instruction(message: impl Into<String>) -> Self {
        ErrorKind::Instruction(message.into()).into()
    }

    /// A malformed option.
    pub(crate) fn option(key: impl Into<String>, message: impl Into<String>) -> Self {
        ErrorKind::Option { key: key.into(), message: message.into() }.into()
    }

    /// A feature that is missing.
    pub(crate) fn unsupported(what: impl Into<String>) -> Self {
        ErrorKind::Unsupported(what.into()).into()
    }

    /// The host's refusal of `what`.
    pub(crate) fn host(what: impl Into<String>, source: HostError) -> Self {
        ErrorKind::Host { what: what.into(), source }.into()
    }

    /// Says where, unless something closer to the fault said it before.
    #[must_use]
    pub(crate) fn at(mut self, ranges: &[Range]) -> Self {
        if self.ranges.is_empty() {
            self.ranges = ranges.to_vec();
        }
        self
    }

    /// Says in which file, if it has a place in it.
    #[must_use]
    pub(crate) fn in_file(mut self, file: &str) -> Self {
        if !self.ranges.is_empty() && self.file.is_empty() {
            self.file = file.to_owned();
        }
        self
    }
}
