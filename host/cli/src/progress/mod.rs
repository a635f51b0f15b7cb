//! Progress for people and for programs: one renderer for each `--progress`, fed by one stream of events.
mod plain;
mod rawjson;
mod tails;
mod text;
mod tty;

use std::io::{IsTerminal, Write};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use jiff::Timestamp;
use rhost_engine::{Event, Events, Finding};

use crate::arguments::Progress;

/// Time between two frames on a terminal.
const FRAME: Duration = Duration::from_millis(100);

/// What a renderer does with each event.
trait Render: Send {
    /// Writes what `event` adds.
    fn event(&mut self, event: &Event, out: &mut dyn Write) -> std::io::Result<()>;
    /// Time has passed.
    fn tick(&mut self, _now: Timestamp, _out: &mut dyn Write) -> std::io::Result<()> {
        Ok(())
    }
    /// Writes what is still held back.
    fn finish(&mut self, out: &mut dyn Write) -> std::io::Result<()>;
}

type Shared = Arc<Mutex<Box<dyn Render>>>;

/// The findings of the frontend, together at the end, where they are seen.
fn write_findings(findings: &[Arc<Finding>], out: &mut dyn Write) -> std::io::Result<()> {
    if findings.is_empty() {
        return Ok(());
    }
    let plural = if findings.len() == 1 { "" } else { "s" };
    writeln!(out, "\n {} warning{plural} found (`rhost build --check` explains them):", findings.len())?;
    findings.iter().try_for_each(|finding| writeln!(out, " - {}", finding.short()))
}

/// The stream of events for `progress`, rendered to stderr, and a guard that flushes when the build is over.
pub fn start(progress: Progress) -> (Events, Finish) {
    let live = match progress {
        Progress::Auto => std::io::stderr().is_terminal() && std::env::var_os("TERM").is_none_or(|term| term != "dumb"),
        Progress::Tty => true,
        Progress::Plain | Progress::Rawjson | Progress::Quiet => false,
    };
    let renderer: Box<dyn Render> = match progress {
        Progress::Quiet => Box::new(tails::Quiet::default()),
        Progress::Rawjson => Box::new(rawjson::RawJson),
        _ if live => {
            let colour = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
            Box::new(tty::Tty::new(Box::new(terminal_size), colour, Timestamp::now()))
        }
        _ => Box::new(plain::Plain::default()),
    };
    let shared: Shared = Arc::new(Mutex::new(renderer));
    let ticker = live.then(|| tick(shared.clone()));
    let finish = Finish { renderer: Some(shared.clone()), ticker };
    let events = Events::new(move |event| {
        if let Ok(mut renderer) = shared.lock() {
            whole(|out| renderer.event(&event, out));
        }
    });
    (events, finish)
}

/// Writes what `render` gives to stderr, in one piece: formatted text would go out word by word, each a system call. A closed stderr loses progress, never
/// the build.
fn whole(render: impl FnOnce(&mut dyn Write) -> std::io::Result<()>) {
    let mut text = Vec::new();
    if render(&mut text).is_ok() && !text.is_empty() {
        let _ = std::io::stderr().lock().write_all(&text);
    }
}

/// Columns and lines of the terminal at stderr; 80 by 24 where it does not tell.
fn terminal_size() -> (usize, usize) {
    match rustix::termios::tcgetwinsize(std::io::stderr()) {
        Ok(size) if size.ws_col > 0 && size.ws_row > 0 => (size.ws_col.into(), size.ws_row.into()),
        _ => (80, 24),
    }
}

/// Ticks until the sender is dropped.
fn tick(shared: Shared) -> (Sender<()>, JoinHandle<()>) {
    let (stop, stopped) = channel::<()>();
    let thread = std::thread::spawn(move || {
        while stopped.recv_timeout(FRAME) == Err(RecvTimeoutError::Timeout) {
            let mut renderer = shared.lock().unwrap_or_else(PoisonError::into_inner);
            whole(|out| renderer.tick(Timestamp::now(), out));
        }
    });
    (stop, thread)
}

/// Stops the clock and flushes the renderer when dropped.
pub struct Finish {
    renderer: Option<Shared>,
    ticker: Option<(Sender<()>, JoinHandle<()>)>,
}

impl Drop for Finish {
    fn drop(&mut self) {
        if let Some((stop, thread)) = self.ticker.take() {
            drop(stop);
            let _ = thread.join();
        }
        if let Some(shared) = self.renderer.take()
            && let Ok(mut renderer) = shared.lock()
        {
            whole(|out| renderer.finish(out));
        }
    }
}
