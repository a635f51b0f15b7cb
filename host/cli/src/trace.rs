//! `RHOST_FRONTEND_TRACE`: every call between a frontend and the host on a line: name, arguments, answer, time; and how long the whole took.
//!
//! The bindings of the frontend's interfaces say what is called to whoever subscribes to `tracing`; without the variable nobody does.
use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt::{Debug, Write as _};
use std::io::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

/// Characters of one argument or answer that are shown.
const LONGEST: usize = 200;
/// How the bindings call a call.
const CALL: &str = "wit-bindgen import";

/// One call that has not returned.
struct Call {
    name: String,
    arguments: String,
    since: Instant,
    answer: Option<(String, Duration)>,
}

/// Writes a line for each call.
struct Trace {
    out: Mutex<Box<dyn Write + Send>>,
    /// Whether calls are told, not only how long frontends took.
    calls_told: bool,
    next: AtomicU64,
    calls: Mutex<HashMap<u64, Call>>,
    /// When the last frontend began to be loaded, until it calls.
    loading: Mutex<Option<Instant>>,
}

thread_local! {
    /// The calls that this thread is in.
    static INSIDE: RefCell<Vec<u64>> = const { RefCell::new(Vec::new()) };
}

/// Traces from here on, if the environment says so: `1` to stderr, `times` there without the calls, anything else to a file of that name.
///
/// # Errors
/// The file cannot be written.
pub fn begin() -> Result<(), String> {
    let Some(place) = std::env::var_os("RHOST_FRONTEND_TRACE").filter(|value| !value.is_empty() && value != "0") else {
        return Ok(());
    };
    let calls_told = place != "times";
    let out: Box<dyn Write + Send> = if place == "1" || !calls_told {
        Box::new(std::io::stderr())
    } else {
        let file = std::fs::File::create(&place);
        Box::new(file.map_err(|error| format!("RHOST_FRONTEND_TRACE={}: {error}", place.display()))?)
    };
    let trace = Trace {
        out: Mutex::new(out),
        calls_told,
        next: AtomicU64::new(1),
        calls: Mutex::default(),
        loading: Mutex::default(),
    };
    tracing::subscriber::set_global_default(trace).map_err(|error| error.to_string())
}

fn short(text: &str) -> String {
    match text.char_indices().nth(LONGEST) {
        Some((cut, _)) => format!("{}… ({} bytes)", &text[..cut], text.len()),
        None => text.to_owned(),
    }
}

/// Collects fields: `module` and `function` of a span, arguments or `result` of an event.
#[derive(Default)]
struct Fields {
    module: String,
    function: String,
    result: Option<String>,
    message: String,
    others: String,
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let text = format!("{value:?}");
        match field.name() {
            "module" => self.module = text.trim_matches('"').to_owned(),
            "function" => self.function = text.trim_matches('"').to_owned(),
            "result" => self.result = Some(text),
            "message" => self.message = text,
            name => {
                let separator = if self.others.is_empty() { "" } else { ", " };
                let _ = write!(self.others, "{separator}{name}={}", short(&readable(&text)));
            }
        }
    }
}

/// Handles as their numbers, lists of bytes as text.
fn readable(text: &str) -> String {
    const HANDLE: &str = "Resource { rep: ";
    // What a host function gives is wrapped once more, for traps.
    let mut rest = text.strip_prefix("Ok(").and_then(|inner| inner.strip_suffix(')')).unwrap_or(text);
    let mut out = String::new();
    while let Some(at) = rest.find([HANDLE.as_bytes()[0] as char, '[']) {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        if let Some((number, after)) = rest.strip_prefix(HANDLE).and_then(|handle| handle.split_once(", "))
            && let Some((_, after)) = after.split_once(" }")
        {
            out.push('#');
            out.push_str(number);
            rest = after;
        } else if let Some((bytes, after)) = rest.strip_prefix('[').and_then(|list| list.split_once(']'))
            && let Ok(bytes) = bytes.split(", ").map(str::parse).collect::<Result<Vec<u8>, _>>()
            && let Ok(text) = String::from_utf8(bytes)
        {
            let _ = write!(out, "{text:?}");
            rest = after;
        } else {
            let first = rest.chars().next().map_or(0, char::len_utf8);
            out.push_str(&rest[..first]);
            rest = &rest[first..];
        }
    }
    out + rest
}

impl Trace {
    fn line(&self, line: std::fmt::Arguments<'_>) {
        let mut out = self.out.lock().unwrap_or_else(PoisonError::into_inner);
        // Who cannot write a trace goes on without.
        let _ = writeln!(out, "{line}");
    }

    fn with<T>(&self, id: u64, work: impl FnOnce(&mut Call) -> T) -> Option<T> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner).get_mut(&id).map(work)
    }
}

impl Subscriber for Trace {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        [rhost_frontend::LOADING, rhost_frontend::ANSWERED].contains(&metadata.target())
            || self.calls_told && metadata.target().starts_with("rhost_frontend::v0_1::bindings")
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        if span.metadata().name() == CALL {
            if let Some(since) = self.loading.lock().unwrap_or_else(PoisonError::into_inner).take() {
                let took = since.elapsed().as_secs_f64() * 1e3;
                self.line(format_args!("frontend: its first call, {took:.2} ms after it began to be loaded"));
            }
            let mut fields = Fields::default();
            span.record(&mut fields);
            let call = Call {
                name: format!("{}.{}", fields.module, fields.function),
                arguments: String::new(),
                since: Instant::now(),
                answer: None,
            };
            self.calls.lock().unwrap_or_else(PoisonError::into_inner).insert(id, call);
        }
        Id::from_u64(id)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        if event.metadata().target() == rhost_frontend::LOADING {
            let mut fields = Fields::default();
            event.record(&mut fields);
            self.line(format_args!("frontend: {} is loaded", fields.message));
            *self.loading.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
            return;
        }
        if event.metadata().target() == rhost_frontend::ANSWERED {
            let mut fields = Fields::default();
            event.record(&mut fields);
            self.line(format_args!("frontend: it ended, {} ms after its instance began to be made", fields.message));
            return;
        }
        let Some(id) = INSIDE.with_borrow(|inside| inside.last().copied()) else { return };
        let mut fields = Fields::default();
        event.record(&mut fields);
        let returned = fields.message.contains("return");
        self.with(id, |call| {
            if returned {
                let answer = short(&readable(&fields.result.unwrap_or_default()));
                call.answer = Some((answer, call.since.elapsed()));
            } else {
                call.arguments = fields.others;
            }
        });
    }

    fn enter(&self, span: &Id) {
        INSIDE.with_borrow_mut(|inside| inside.push(span.into_u64()));
    }

    fn exit(&self, _: &Id) {
        INSIDE.with_borrow_mut(|inside| {
            inside.pop();
        });
    }

    fn try_close(&self, span: Id) -> bool {
        let call = self.calls.lock().unwrap_or_else(PoisonError::into_inner).remove(&span.into_u64());
        if let Some(Call { name, arguments, since, answer }) = call {
            match answer {
                Some((answer, took)) => {
                    self.line(format_args!("frontend: {name}({arguments}) -> {answer} [{took:.1?}]"))
                }
                None => self.line(format_args!("frontend: {name}({arguments}) stopped [{:.1?}]", since.elapsed())),
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::readable;

    #[test]
    fn values_are_made_readable() {
        for (value, wanted) in [
            ("Ok(())", "()"),
            ("Ok(Resource { rep: 12, state: \"own (not in table)\" })", "#12"),
            ("Ok(Ok([70, 82]))", "Ok(\"FR\")"),
            ("[(\"a\", \"R[1]\")]", "[(\"a\", \"R\"\\u{1}\"\")]"),
            ("[255, 1]", "[255, 1]"),
            ("Some(Resource { rep: 3, state: \"borrow\" })", "Some(#3)"),
        ] {
            assert_eq!(readable(value), wanted);
        }
    }
}
