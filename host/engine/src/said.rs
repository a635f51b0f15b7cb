//! `Said`: what a frontend says while it works, as the log of a vertex of its own that appears with the first line. What it warns of stands by itself, as
//! all warnings do; what only helps to debug it is in the trace of its calls. How much it may say is bounded where it is run (`Limits`).
use std::sync::{Mutex, PoisonError};

use jiff::Timestamp;
use rhost_frontend::Level;
use rhost_llb::{Digest, VertexDigest};
use rhost_registry::redact;

use crate::event::{Event, Events};

/// The log of one build's frontend.
#[derive(Default)]
pub(crate) struct Said(Mutex<Option<(VertexDigest, std::sync::Arc<str>)>>);

impl Said {
    /// Passes on a line, or several, of the frontend `name`.
    pub fn say(&self, events: &Events, name: &str, level: Level, message: &str) {
        match level {
            Level::Trace | Level::Debug => return,
            Level::Info => {}
            Level::Warn | Level::Error => {
                return events.send(Event::Warning { vertex: None, message: message.into() });
            }
        }
        let title = format!("[internal] run frontend {name}");
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (vertex, _) = known.get_or_insert_with(|| {
            let vertex = VertexDigest(Digest::of(format!("internal {title}")));
            let name: std::sync::Arc<str> = redact(&title).into();
            events.send(Event::Started { vertex, name: name.clone(), inputs: Vec::new(), at: Timestamp::now() });
            (vertex, name)
        });
        let bytes = format!("{}\n", message.strip_suffix('\n').unwrap_or(message)).into_bytes();
        events.send(Event::Log { vertex: *vertex, stream: 1, bytes: bytes.into(), at: Timestamp::now() });
    }

    /// The frontend has answered, or failed with `error`: its log, where there is one, is whole.
    pub fn end(&self, events: &Events, error: Option<&str>) {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some((vertex, name)) = known {
            let error = error.map(|error| redact(error).into());
            events.send(Event::Completed { vertex, name, at: Timestamp::now(), cached: false, error });
        }
    }
}
