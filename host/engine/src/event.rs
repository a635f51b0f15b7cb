//! `Event`: progress as data. One closed enum; how it looks is the cli's business. Shapes follow spec C.5.
use std::sync::Arc;

use jiff::Timestamp;
use rhost_llb::VertexDigest;

use crate::explain::{Explanation, StepExplained};

/// Something happened in a build.
#[derive(Debug, Clone)]
pub enum Event {
    /// A vertex began to be worked on.
    Started {
        /// Which vertex.
        vertex: VertexDigest,
        /// Its name for people, as in `[build 2/5] RUN make`.
        name: Arc<str>,
        /// What it stands on.
        inputs: Vec<VertexDigest>,
        /// When.
        at: Timestamp,
    },
    /// A vertex is done.
    Completed {
        /// Which vertex.
        vertex: VertexDigest,
        /// Its name for people.
        name: Arc<str>,
        /// When.
        at: Timestamp,
        /// The answer came from the cache.
        cached: bool,
        /// Why it failed.
        error: Option<Arc<str>>,
    },
    /// A part of a vertex's work, as in the download of one layer; upserted by (vertex, id).
    Status {
        /// Which vertex.
        vertex: VertexDigest,
        /// The part, as in a blob's digest.
        id: Arc<str>,
        /// How much is done, in bytes.
        current: u64,
        /// How much there is, in bytes; 0 is "not known", or nothing that is counted.
        total: u64,
        /// When the part began.
        started: Timestamp,
        /// When.
        at: Timestamp,
        /// The part is done.
        done: bool,
    },
    /// A vertex waits for something that somebody else has.
    Waiting {
        /// Which vertex.
        vertex: VertexDigest,
        /// For what, and who has it; one line. The same at the end.
        what: Arc<str>,
        /// When.
        at: Timestamp,
        /// It has it now.
        over: bool,
    },
    /// Output of a step.
    Log {
        /// Which vertex.
        vertex: VertexDigest,
        /// 1 is stdout, 2 is stderr.
        stream: u8,
        /// The bytes as they came; not always whole lines.
        bytes: Arc<[u8]>,
        /// When.
        at: Timestamp,
    },
    /// Something a person should know that fails nothing.
    Warning {
        /// The vertex it is about.
        vertex: Option<VertexDigest>,
        /// One line.
        message: Arc<str>,
    },
    /// The frontend has found something in the build file that fails nothing.
    Finding(Arc<Finding>),
    /// Why a vertex that an earlier build had runs all the same.
    Because {
        /// Which vertex.
        vertex: VertexDigest,
        /// The step, and what differs.
        step: Arc<StepExplained>,
    },
    /// All steps, and why they ran or did not (`--explain`).
    Explanation(Arc<Explanation>),
}

/// What a frontend has found in its build file.
#[derive(Debug, Clone)]
pub struct Finding {
    /// Stable name of the rule, or empty.
    pub rule: String,
    /// One line.
    pub message: String,
    /// More lines.
    pub details: Vec<String>,
    /// Where to read more.
    pub url: Option<String>,
    /// Where in the build file: its name and text, and the lines of each range.
    pub place: Option<(String, Vec<u8>, Vec<(u32, u32)>)>,
}

impl Finding {
    /// As BuildKit words it: `Rule: message (line 3)`.
    pub fn short(&self) -> String {
        let line = self.place.as_ref().and_then(|(_, _, ranges)| ranges.first()).filter(|(line, _)| *line > 0);
        let line = line.map(|(line, _)| format!(" (line {line})")).unwrap_or_default();
        let rule = if self.rule.is_empty() { String::new() } else { format!("{}: ", self.rule) };
        format!("{rule}{}{line}", self.message)
    }
}

/// Where events go. Cheap to clone; an event that nobody reads is dropped.
#[derive(Clone)]
pub struct Events(Arc<dyn Fn(Event) + Send + Sync>);

impl Events {
    /// Events are handed to `sink`, which must not block for long.
    pub fn new(sink: impl Fn(Event) + Send + Sync + 'static) -> Self {
        Self(Arc::new(sink))
    }

    /// Nobody listens.
    pub fn none() -> Self {
        Self::new(drop)
    }

    /// Tells of `event`.
    pub fn send(&self, event: Event) {
        (self.0)(event);
    }
}
