//! `--progress plain`: `#3 [build 2/5] RUN make`, its log line by line with the seconds since it began, then `#3 DONE 0.1s`.
//! Logs are never clipped. Numbers are given in order of appearance.
use std::collections::HashMap;
use std::io::{self, Write};
use std::sync::Arc;

use jiff::Timestamp;
use rhost_engine::{Event, Finding};
use rhost_llb::VertexDigest;

use super::tails::Tails;
use super::text::bytes;

/// What is known of each vertex.
pub struct Plain {
    vertices: HashMap<VertexDigest, Vertex>,
    last: usize,
    /// Shown together at the end, where they are seen.
    findings: Vec<Arc<Finding>>,
    tails: Tails,
}

impl Default for Plain {
    fn default() -> Self {
        // As many lines as BuildKit says again.
        Self { vertices: HashMap::new(), last: 0, findings: Vec::new(), tails: Tails::new(10) }
    }
}

#[derive(Default)]
struct Vertex {
    number: usize,
    started: Option<Timestamp>,
    headed: bool,
    /// A line of each stream that has no end yet.
    partial: [Vec<u8>; 2],
    /// When each part was last told of, and how many bytes it had.
    parts: HashMap<Arc<str>, (Timestamp, u64)>,
}

/// Seconds between two lines about one part, and the share of it that must be new: as BuildKit's plain output.
const PART_SECONDS: f64 = 5.0;
const PART_SHARE: f64 = 0.05;

/// A line without end is written in pieces of about this many bytes: what a step says must not fill the memory.
const LONGEST_LINE: usize = 256 << 10;

impl Plain {
    fn vertex(&mut self, digest: VertexDigest) -> &mut Vertex {
        let next = self.vertices.len() + 1;
        self.vertices.entry(digest).or_insert_with(|| Vertex { number: next, ..Vertex::default() })
    }

    /// A blank line where the output goes over to another vertex, so that blocks can be told apart.
    fn turn_to(&mut self, number: usize, out: &mut dyn Write) -> io::Result<()> {
        if self.last != number {
            if self.last != 0 {
                writeln!(out)?;
            }
            self.last = number;
        }
        Ok(())
    }
}

impl super::Render for Plain {
    fn event(&mut self, event: &Event, out: &mut dyn Write) -> io::Result<()> {
        self.tails.take(event);
        match event {
            Event::Started { vertex, name, at, .. } => {
                let state = self.vertex(*vertex);
                state.started = Some(*at);
                state.headed = true;
                let number = state.number;
                self.turn_to(number, out)?;
                writeln!(out, "#{number} {name}")
            }
            Event::Completed { vertex, name, at, cached, error } => {
                let state = self.vertex(*vertex);
                let (number, headed) = (state.number, std::mem::replace(&mut state.headed, true));
                let seconds = seconds(state.started, *at);
                let partial = std::mem::take(&mut state.partial);
                self.turn_to(number, out)?;
                if !headed {
                    writeln!(out, "#{number} {name}")?;
                }
                for line in partial.iter().filter(|line| !line.is_empty()) {
                    write_line(out, number, seconds, line)?;
                }
                match error {
                    Some(error) => writeln!(out, "#{number} ERROR: {error}"),
                    None if *cached => writeln!(out, "#{number} CACHED"),
                    None => writeln!(out, "#{number} DONE {seconds:.1}s"),
                }
            }
            Event::Status { vertex, id, current, total, started, at, done } => {
                let state = self.vertex(*vertex);
                let number = state.number;
                if let Some((last, before)) = state.parts.get(id)
                    && !done
                {
                    let new = current.saturating_sub(*before) as f64;
                    if seconds(Some(*last), *at) < PART_SECONDS || new < *total as f64 * PART_SHARE {
                        return Ok(());
                    }
                }
                state.parts.insert(id.clone(), (*at, *current));
                self.turn_to(number, out)?;
                write!(out, "#{number} {id}")?;
                match (*current, *total) {
                    (0, 0) => {}
                    (current, 0) => write!(out, " {}", bytes(current))?,
                    (current, total) => write!(out, " {} / {}", bytes(current), bytes(total))?,
                }
                let took = seconds(Some(*started), *at);
                if took > 0.01 {
                    write!(out, " {took:.1}s")?;
                }
                writeln!(out, "{}", if *done { " done" } else { "" })
            }
            Event::Waiting { over: true, .. } => Ok(()),
            Event::Waiting { vertex, what, .. } => {
                let number = self.vertex(*vertex).number;
                self.turn_to(number, out)?;
                writeln!(out, "#{number} {what}")
            }
            Event::Log { vertex, stream, bytes, at } => {
                let state = self.vertex(*vertex);
                let (number, seconds) = (state.number, seconds(state.started, *at));
                let partial = &mut state.partial[usize::from(*stream == 2)];
                let Some(end) = bytes.iter().rposition(|b| *b == b'\n') else {
                    partial.extend_from_slice(bytes);
                    if partial.len() >= LONGEST_LINE {
                        let piece = std::mem::take(partial);
                        self.turn_to(number, out)?;
                        write_line(out, number, seconds, &piece)?;
                    }
                    return Ok(());
                };
                partial.extend_from_slice(&bytes[..end]);
                let whole = std::mem::replace(partial, bytes[end + 1..].to_vec());
                self.turn_to(number, out)?;
                for line in whole.split(|b| *b == b'\n') {
                    write_line(out, number, seconds, line)?;
                }
                Ok(())
            }
            Event::Warning { message, .. } => writeln!(out, "WARNING: {message}"),
            Event::Because { vertex, step } => {
                let (number, Some(line)) = (self.vertex(*vertex).number, step.line()) else { return Ok(()) };
                self.turn_to(number, out)?;
                writeln!(out, "#{number} {line}")
            }
            Event::Explanation(_) => Ok(()),
            Event::Finding(finding) => {
                self.findings.push(finding.clone());
                Ok(())
            }
        }
    }

    fn finish(&mut self, out: &mut dyn Write) -> io::Result<()> {
        super::write_findings(&std::mem::take(&mut self.findings), out)?;
        self.tails.write(out)?;
        out.flush()
    }
}

fn seconds(from: Option<Timestamp>, to: Timestamp) -> f64 {
    from.map_or(0.0, |from| to.duration_since(from).as_secs_f64().max(0.0))
}

fn write_line(out: &mut dyn Write, number: usize, seconds: f64, line: &[u8]) -> io::Result<()> {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    write!(out, "#{number} {seconds:.3} ")?;
    out.write_all(line)?;
    out.write_all(b"\n")
}
