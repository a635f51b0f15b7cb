//! Progress for people and for programs: one renderer for each `--progress`, fed by one stream of events.
mod plain;
mod rawjson;

use std::io::Write;
use std::sync::Mutex;

use rhost_engine::{Event, Events};

use crate::arguments::Progress;

/// What a renderer does with each event.
trait Render: Send {
    /// Writes what `event` adds.
    fn event(&mut self, event: &Event, out: &mut dyn Write) -> std::io::Result<()>;
    /// Writes what is still held back.
    fn finish(&mut self, out: &mut dyn Write) -> std::io::Result<()>;
}

/// The stream of events for `progress`, rendered to stderr, and a guard that flushes when the build is over.
pub fn start(progress: Progress) -> (Events, Finish) {
    let renderer: Option<Box<dyn Render>> = match progress {
        Progress::Quiet => None,
        Progress::Rawjson => Some(Box::new(rawjson::RawJson)),
        Progress::Auto | Progress::Plain => Some(Box::new(plain::Plain::default())),
    };
    let Some(renderer) = renderer else { return (Events::none(), Finish(None)) };
    let shared = std::sync::Arc::new(Mutex::new(renderer));
    let finish = Finish(Some(shared.clone()));
    let events = Events::new(move |event| {
        if let Ok(mut renderer) = shared.lock() {
            let mut out = std::io::stderr().lock();
            // A closed stderr loses progress, never the build.
            let _ = renderer.event(&event, &mut out);
        }
    });
    (events, finish)
}

/// Flushes the renderer when dropped.
pub struct Finish(Option<std::sync::Arc<Mutex<Box<dyn Render>>>>);

impl Drop for Finish {
    fn drop(&mut self) {
        if let Some(shared) = self.0.take()
            && let Ok(mut renderer) = shared.lock()
        {
            let _ = renderer.finish(&mut std::io::stderr().lock());
        }
    }
}
