//! `--progress plain`: `#3 [build 2/5] RUN make`, its log line by line with the seconds since it began, then `#3 DONE 0.1s`.
//! Logs are never clipped. Numbers are given in order of appearance.
use std::collections::HashMap;
use std::io::{self, Write};

use jiff::Timestamp;
use rhost_engine::Event;
use rhost_llb::VertexDigest;

use super::text::bytes;

/// What is known of each vertex.
#[derive(Default)]
pub struct Plain {
    vertices: HashMap<VertexDigest, Vertex>,
    last: usize,
}

#[derive(Default)]
struct Vertex {
    number: usize,
    started: Option<Timestamp>,
    headed: bool,
    /// A line of each stream that has no end yet.
    partial: [Vec<u8>; 2],
}

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
            Event::Status { vertex, id, current, total, done, .. } => {
                let number = self.vertex(*vertex).number;
                if *done {
                    self.turn_to(number, out)?;
                    let size = if *total > 0 { *total } else { *current };
                    writeln!(out, "#{number} {id} {} done", bytes(size))?;
                }
                Ok(())
            }
            Event::Log { vertex, stream, bytes, at } => {
                let state = self.vertex(*vertex);
                let (number, seconds) = (state.number, seconds(state.started, *at));
                let partial = &mut state.partial[usize::from(*stream == 2)];
                partial.extend_from_slice(bytes);
                let Some(end) = partial.iter().rposition(|b| *b == b'\n') else { return Ok(()) };
                let rest = partial.split_off(end + 1);
                let whole = std::mem::replace(partial, rest);
                self.turn_to(number, out)?;
                for line in whole[..end].split(|b| *b == b'\n') {
                    write_line(out, number, seconds, line)?;
                }
                Ok(())
            }
            Event::Warning { message, .. } => writeln!(out, "WARNING: {message}"),
        }
    }

    fn finish(&mut self, out: &mut dyn Write) -> io::Result<()> {
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
