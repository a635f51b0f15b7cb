//! Progress on a terminal. What is finished is written once and scrolls away like any other text; below it stays a
//! small live region, redrawn in place: a headline, and for each vertex at work its time, its downloads and the last
//! lines of its log. So nothing that was shown is ever erased, however many steps a build has, and when a step fails
//! its whole log follows.
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::sync::Arc;

use jiff::Timestamp;
use rhost_engine::{Event, Finding};
use rhost_llb::VertexDigest;
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use super::text::{bytes, printable};

/// Lines of a running step's log that are shown.
const TAIL: usize = 6;

/// The terminal's size, asked before each frame.
pub type Size = Box<dyn Fn() -> (usize, usize) + Send>;

/// All that is shown.
pub struct Tty {
    size: Size,
    colour: bool,
    began: Timestamp,
    running: Vec<(VertexDigest, Running)>,
    seen: HashMap<VertexDigest, bool>,
    finished: usize,
    /// Lines of the live region that stand on the screen.
    live: usize,
    findings: Vec<Arc<Finding>>,
}

struct Running {
    name: Arc<str>,
    started: Timestamp,
    tail: VecDeque<String>,
    partial: Vec<u8>,
    parts: BTreeMap<Arc<str>, (u64, u64)>,
    waits: Vec<Arc<str>>,
    /// Why it runs although an earlier build had it.
    because: Option<String>,
    /// The whole log, in a file without a name: a step may write more than memory holds.
    log: Option<File>,
}

impl Tty {
    /// A renderer for a terminal of `size` columns and lines.
    pub fn new(size: Size, colour: bool, began: Timestamp) -> Self {
        let (running, seen) = (Vec::new(), HashMap::new());
        Self { size, colour, began, running, seen, finished: 0, live: 0, findings: Vec::new() }
    }

    fn running(&mut self, vertex: VertexDigest) -> Option<&mut Running> {
        self.running.iter_mut().find(|(digest, _)| *digest == vertex).map(|(_, running)| running)
    }

    fn paint(&self, code: &str, text: &str) -> String {
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    /// `text` at the left, `right` at the right edge.
    fn row(&self, text: &str, right: &str) -> String {
        let width = (self.size)().0.max(20);
        let room = width.saturating_sub(right.width() + 2);
        let text = cut(text, room);
        let gap = room.saturating_sub(text.width());
        format!("{text}{:gap$} {right}", "")
    }

    /// Takes the live region off the screen.
    fn erase(&mut self, out: &mut dyn Write) -> io::Result<()> {
        if self.live > 0 {
            write!(out, "\x1b[{}A\r\x1b[J", self.live)?;
            self.live = 0;
        }
        Ok(())
    }

    fn frame(&self, now: Timestamp) -> Vec<String> {
        let (width, height) = (self.size)();
        let mut rows = vec![self.row(
            &format!("[+] Building {:.1}s ({}/{})", seconds(self.began, now), self.finished, self.seen.len()),
            "",
        )];
        // One line for each vertex first; what room is left goes to details, the oldest vertex first.
        let mut room = height.saturating_sub(2 + self.running.len());
        for (_, running) in self.running.iter().take(height.saturating_sub(2)) {
            rows.push(self.row(&format!(" => {}", running.name), &format!("{:.1}s", seconds(running.started, now))));
            for (id, (current, total)) in &running.parts {
                if room > 0 {
                    room -= 1;
                    let size =
                        if *total > 0 { format!("{} / {}", bytes(*current), bytes(*total)) } else { bytes(*current) };
                    rows.push(self.row(&format!(" => => {id}"), &size));
                }
            }
            for what in running.waits.iter().take(room) {
                rows.push(self.row(&format!(" => => {what}"), ""));
            }
            room -= running.waits.len().min(room);
            if let Some(line) = running.because.as_ref().filter(|_| room > 0) {
                room -= 1;
                rows.push(self.paint("2", &cut(&format!(" => => {line}"), width.saturating_sub(1))));
            }
            let shown = running.tail.len().min(room);
            room -= shown;
            for line in running.tail.iter().skip(running.tail.len() - shown) {
                rows.push(self.paint("2", &cut(&format!(" => => # {line}"), width.saturating_sub(1))));
            }
        }
        rows
    }

    /// Draws the live region anew.
    pub fn draw(&mut self, now: Timestamp, out: &mut dyn Write) -> io::Result<()> {
        let rows = self.frame(now);
        let mut text = Vec::new();
        self.erase(&mut text)?;
        for row in &rows {
            writeln!(text, "{row}")?;
        }
        self.live = rows.len();
        // One write: a terminal that shows half a frame flickers.
        out.write_all(&text)?;
        out.flush()
    }

    fn completed(&mut self, vertex: VertexDigest, event: &Event, out: &mut dyn Write) -> io::Result<()> {
        let Event::Completed { name, at, cached, error, .. } = event else { return Ok(()) };
        let known = self.running.iter().position(|(digest, _)| *digest == vertex);
        let running = known.map(|index| self.running.remove(index).1);
        if self.seen.insert(vertex, true) != Some(true) {
            self.finished += 1;
        }
        let time = running.as_ref().map_or(0.0, |running| seconds(running.started, *at));
        let word = match (error, cached) {
            (Some(_), _) => "ERROR ",
            (None, true) => "CACHED ",
            (None, false) => "",
        };
        self.erase(out)?;
        let row = self.row(&format!(" => {word}{name}"), &format!("{time:.1}s"));
        writeln!(out, "{}", self.paint(if error.is_some() { "31" } else { "34" }, &row))?;
        if let Some(line) = running.as_ref().and_then(|running| running.because.as_ref()) {
            writeln!(out, "{}", self.paint("2", &format!(" => => {line}")))?;
        }
        if let (Some(_), Some(mut running)) = (error, running)
            && let Some(log) = &mut running.log
        {
            writeln!(out, "------\n > {name}:")?;
            log.rewind()?;
            let mut whole = Vec::new();
            log.read_to_end(&mut whole)?;
            out.write_all(&whole)?;
            if whole.last().is_some_and(|byte| *byte != b'\n') {
                writeln!(out)?;
            }
            writeln!(out, "------")?;
        }
        Ok(())
    }
}

impl super::Render for Tty {
    fn event(&mut self, event: &Event, out: &mut dyn Write) -> io::Result<()> {
        match event {
            Event::Started { vertex, name, at, .. } => {
                self.seen.entry(*vertex).or_insert(false);
                if self.running(*vertex).is_none() {
                    let (tail, partial, parts, log) = Default::default();
                    let waits = Vec::new();
                    let because = None;
                    let running =
                        Running { name: name.clone(), started: *at, tail, partial, parts, waits, because, log };
                    self.running.push((*vertex, running));
                }
                Ok(())
            }
            Event::Completed { vertex, .. } => self.completed(*vertex, event, out),
            Event::Status { vertex, id, current, total, done, .. } => {
                if let Some(running) = self.running(*vertex) {
                    if *done {
                        running.parts.remove(id);
                    } else {
                        running.parts.insert(id.clone(), (*current, *total));
                    }
                }
                Ok(())
            }
            Event::Waiting { vertex, what, over, .. } => {
                if let Some(running) = self.running(*vertex) {
                    running.waits.retain(|known| known != what);
                    if !over {
                        running.waits.push(what.clone());
                    }
                }
                Ok(())
            }
            Event::Log { vertex, bytes, .. } => {
                let Some(running) = self.running(*vertex) else { return Ok(()) };
                if running.log.is_none() {
                    running.log = Some(tempfile::tempfile()?);
                }
                if let Some(log) = &mut running.log {
                    log.write_all(bytes)?;
                }
                running.take(bytes);
                Ok(())
            }
            Event::Warning { message, .. } => {
                self.erase(out)?;
                writeln!(out, "{}", self.paint("33", &format!("WARNING: {message}")))
            }
            Event::Because { vertex, step } => {
                let Some(line) = step.line() else { return Ok(()) };
                // Below its step, where it will stand when that is done.
                if let Some(running) = self.running(*vertex) {
                    running.because = Some(line);
                    return Ok(());
                }
                self.erase(out)?;
                writeln!(out, "{}", self.paint("2", &format!(" => => {line}")))
            }
            Event::Explanation(_) => Ok(()),
            Event::Finding(finding) => {
                self.findings.push(finding.clone());
                Ok(())
            }
        }
    }

    fn tick(&mut self, now: Timestamp, out: &mut dyn Write) -> io::Result<()> {
        self.draw(now, out)
    }

    fn finish(&mut self, out: &mut dyn Write) -> io::Result<()> {
        self.erase(out)?;
        super::write_findings(&std::mem::take(&mut self.findings), out)?;
        out.flush()
    }
}

impl Running {
    /// Keeps the last lines of `bytes`; a line without an end counts as one.
    fn take(&mut self, bytes: &[u8]) {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let whole = piece.ends_with(b"\n");
            self.partial.extend_from_slice(piece);
            // A progress bar writes one line over and over: what stands after the last carriage return is what is seen.
            let keep = self.partial.len().min(4096);
            self.partial.drain(..self.partial.len() - keep);
            if whole {
                let line = printable(&std::mem::take(&mut self.partial));
                self.tail.push_back(line);
                if self.tail.len() > TAIL {
                    self.tail.pop_front();
                }
            }
        }
    }
}

fn seconds(from: Timestamp, to: Timestamp) -> f64 {
    to.duration_since(from).as_secs_f64().max(0.0)
}

/// As much of `text` as `columns` hold.
fn cut(text: &str, columns: usize) -> String {
    if text.width() <= columns {
        return text.to_owned();
    }
    let mut used = 1;
    let mut kept: String = text
        .chars()
        .take_while(|c| {
            used += c.width().unwrap_or(0);
            used <= columns
        })
        .collect();
    kept.push('…');
    kept
}

#[cfg(test)]
mod tests {
    use super::super::Render as _;
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn vertex(n: u8) -> VertexDigest {
        VertexDigest(rhost_llb::Digest::of([n]))
    }

    fn tty(columns: usize, lines: usize) -> Tty {
        Tty::new(Box::new(move || (columns, lines)), false, at(0))
    }

    fn started(n: u8, name: &str, second: i64) -> Event {
        Event::Started { vertex: vertex(n), name: name.into(), inputs: Vec::new(), at: at(second) }
    }

    fn completed(n: u8, name: &str, second: i64, cached: bool, error: Option<&str>) -> Event {
        let error = error.map(Into::into);
        Event::Completed { vertex: vertex(n), name: name.into(), at: at(second), cached, error }
    }

    fn log(n: u8, text: &str) -> Event {
        Event::Log { vertex: vertex(n), stream: 1, bytes: text.as_bytes().into(), at: at(1) }
    }

    #[test]
    fn the_live_region_shows_what_runs_and_the_tail_of_its_log() {
        let mut tty = tty(40, 20);
        let mut out = Vec::new();
        tty.event(&started(1, "[1/2] RUN make", 0), &mut out).unwrap();
        for line in 0..9 {
            tty.event(&log(1, &format!("line {line}\n")), &mut out).unwrap();
        }
        tty.event(&log(1, "half"), &mut out).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "", "nothing is drawn before a tick");
        let frame = tty.frame(at(2));
        assert_eq!(frame[0].trim_end(), "[+] Building 2.0s (0/1)");
        assert_eq!(frame[1], " => [1/2] RUN make                 2.0s");
        assert_eq!(frame.len(), 2 + TAIL);
        assert_eq!(frame[2], " => => # line 3");
    }

    #[test]
    fn what_is_finished_is_written_once_and_the_live_region_is_taken_back() {
        let mut tty = tty(40, 20);
        let mut out = Vec::new();
        tty.event(&started(1, "a", 0), &mut out).unwrap();
        tty.draw(at(1), &mut out).unwrap();
        out.clear();
        tty.event(&completed(1, "a", 3, false, None), &mut out).unwrap();
        let text = String::from_utf8(std::mem::take(&mut out)).unwrap();
        assert_eq!(text, "\x1b[2A\r\x1b[J => a                              3.0s\n");
        tty.event(&completed(2, "b", 3, true, None), &mut out).unwrap();
        assert!(String::from_utf8(out).unwrap().starts_with(" => CACHED b"));
        assert_eq!(tty.frame(at(3)).len(), 1);
    }

    #[test]
    fn why_a_step_ran_stands_below_it_whenever_it_is_known() {
        let because = |n: u8| Event::Because {
            vertex: vertex(n),
            step: Arc::new(rhost_engine::StepExplained {
                vertex: vertex(n).to_string(),
                step: "[2/2] RUN make".into(),
                line: 2,
                state: rhost_engine::State::Ran,
                matched_by: None,
                compared_with: None,
                causes: Vec::new(),
                because: Some("a.c changed".into()),
                hint: None,
                parts: Vec::new(),
                inputs: Vec::new(),
            }),
        };
        let line = " => => [2/2] RUN make: ran, because a.c changed";
        let mut tty = tty(60, 20);
        let mut out = Vec::new();
        tty.event(&started(1, "[2/2] RUN make", 0), &mut out).unwrap();
        tty.event(&because(1), &mut out).unwrap();
        assert_eq!(String::from_utf8_lossy(&out), "", "while it runs it is in the live region");
        assert_eq!(tty.frame(at(1))[2], line);
        tty.event(&completed(1, "[2/2] RUN make", 3, false, None), &mut out).unwrap();
        let text = String::from_utf8(std::mem::take(&mut out)).unwrap();
        assert_eq!(text.lines().nth(1), Some(line), "{text}");
        // A short step may be over before it is known.
        tty.event(&because(1), &mut out).unwrap();
        assert_eq!(String::from_utf8(out).unwrap().trim_end(), line);
    }

    #[test]
    fn a_step_that_fails_is_followed_by_its_whole_log() {
        let mut tty = tty(60, 5);
        let mut out = Vec::new();
        tty.event(&started(1, "RUN false", 0), &mut out).unwrap();
        for line in 0..100 {
            tty.event(&log(1, &format!("line {line}\n")), &mut out).unwrap();
        }
        tty.event(&completed(1, "RUN false", 1, false, Some("exit code 1")), &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        for line in 0..100 {
            assert!(text.contains(&format!("\nline {line}\n")), "{text}");
        }
    }

    #[test]
    fn no_row_is_wider_than_the_terminal_nor_more_rows_than_it_has() {
        let mut tty = tty(30, 8);
        let mut out = Vec::new();
        for n in 0..20 {
            tty.event(&started(n, "[stage 1/2] RUN 日本語の長い名前 and some more text that is long", 0), &mut out)
                .unwrap();
            tty.event(&log(n, "\x1b[31mred\x1b[0m and 日本語日本語日本語日本語日本語日本語\n"), &mut out).unwrap();
        }
        let frame = tty.frame(at(1));
        assert!(frame.len() < 8, "{frame:?}");
        for row in frame {
            assert!(row.width() <= 30, "{row}");
        }
    }

    #[test]
    fn downloads_are_shown_until_they_are_done() {
        let mut tty = tty(60, 10);
        let mut out = Vec::new();
        tty.event(&started(1, "FROM busybox", 0), &mut out).unwrap();
        let part = |current, done| {
            let id = "sha256:1234".into();
            Event::Status { vertex: vertex(1), id, current, total: 2_000_000, started: at(1), at: at(1), done }
        };
        tty.event(&part(500_000, false), &mut out).unwrap();
        assert!(tty.frame(at(1))[2].ends_with("500.00kB / 2.00MB"), "{:?}", tty.frame(at(1)));
        tty.event(&part(2_000_000, true), &mut out).unwrap();
        assert_eq!(tty.frame(at(1)).len(), 2);
    }
}
