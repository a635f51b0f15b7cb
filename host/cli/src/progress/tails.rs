//! `Tails`: the last lines of each step's log, to be said again where a build failed: what ran beside it may have pushed them far up, or
//! nothing was shown at all.
use std::collections::{HashMap, VecDeque};
use std::io::{self, Write};
use std::sync::Arc;

use rhost_engine::Event;
use rhost_llb::VertexDigest;

/// A line of which more is not kept.
const LONGEST: usize = 4096;

/// The ends of logs, and of those that failed.
pub struct Tails {
    lines: usize,
    running: HashMap<VertexDigest, Tail>,
    failed: Vec<(Arc<str>, Tail)>,
}

#[derive(Default)]
struct Tail {
    whole: VecDeque<Vec<u8>>,
    partial: Vec<u8>,
    left_out: usize,
}

impl Tails {
    /// Of `lines` lines each.
    pub fn new(lines: usize) -> Self {
        Self { lines, running: HashMap::new(), failed: Vec::new() }
    }

    /// Takes what `event` adds.
    pub fn take(&mut self, event: &Event) {
        match event {
            Event::Log { vertex, bytes, .. } => {
                let tail = self.running.entry(*vertex).or_default();
                for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
                    let room = LONGEST.saturating_sub(tail.partial.len());
                    tail.partial.extend_from_slice(&piece[..piece.len().min(room)]);
                    if piece.ends_with(b"\n") {
                        tail.whole.push_back(std::mem::take(&mut tail.partial));
                    }
                    if tail.whole.len() > self.lines {
                        tail.whole.pop_front();
                        tail.left_out += 1;
                    }
                }
            }
            Event::Completed { vertex, name, error, .. } => {
                let tail = self.running.remove(vertex);
                if let (Some(_), Some(tail)) = (error, tail) {
                    self.failed.push((name.clone(), tail));
                }
            }
            _ => {}
        }
    }

    /// The logs of what failed.
    pub fn write(&mut self, out: &mut dyn Write) -> io::Result<()> {
        for (name, tail) in std::mem::take(&mut self.failed) {
            writeln!(out, "------\n > {name}:")?;
            if tail.left_out > 0 {
                writeln!(out, "[{} lines before]", tail.left_out)?;
            }
            for line in tail.whole.iter().chain((!tail.partial.is_empty()).then_some(&tail.partial)) {
                let line = line.strip_suffix(b"\n").unwrap_or(line);
                out.write_all(line.strip_suffix(b"\r").unwrap_or(line))?;
                out.write_all(b"\n")?;
            }
            writeln!(out, "------")?;
        }
        Ok(())
    }
}

/// `--progress quiet`: nothing, unless a step fails.
pub struct Quiet(Tails);

impl Default for Quiet {
    fn default() -> Self {
        // Nothing of it was seen before.
        Self(Tails::new(100))
    }
}

impl super::Render for Quiet {
    fn event(&mut self, event: &Event, _: &mut dyn Write) -> io::Result<()> {
        self.0.take(event);
        Ok(())
    }

    fn finish(&mut self, out: &mut dyn Write) -> io::Result<()> {
        self.0.write(out)?;
        out.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_of_what_failed_are_said_again() {
        let vertex = |n: u8| VertexDigest(rhost_llb::Digest::of([n]));
        let at = jiff::Timestamp::UNIX_EPOCH;
        let log = |n, text: &str| Event::Log { vertex: vertex(n), stream: 1, bytes: text.as_bytes().into(), at };
        let done = |n, error: Option<&str>| {
            let (name, error) = (format!("RUN {n}").into(), error.map(Into::into));
            Event::Completed { vertex: vertex(n), name, at, cached: false, error }
        };
        let mut tails = Tails::new(2);
        for event in
            [log(1, "a\nb\nc\nd"), log(2, "well\n"), log(1, "d\n"), log(1, "end"), done(2, None), done(1, Some("no"))]
        {
            tails.take(&event);
        }
        let mut out = Vec::new();
        tails.write(&mut out).expect("written");
        assert_eq!(String::from_utf8_lossy(&out), "------\n > RUN 1:\n[2 lines before]\nc\ndd\nend\n------\n");
    }
}
