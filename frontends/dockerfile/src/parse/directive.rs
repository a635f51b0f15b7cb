//! Parser directives: `# syntax=`, `# escape=`, `# check=` in the leading comment block, and the looser ways in which the
//! choice of a frontend can be written (`// syntax=`, JSON), since that choice comes before any language is known.

use crate::error::ErrorKind;
use crate::instruction::Directive;
use crate::span::Span;
use crate::text;

const NAMES: [&str; 3] = ["syntax", "escape", "check"];

/// Reads directives until the first line that is none.
pub(super) struct Directives {
    mark: &'static str,
    seen: Vec<String>,
    done: bool,
}

impl Directives {
    pub(super) fn new(mark: &'static str) -> Self {
        Directives { mark, seen: Vec::new(), done: false }
    }

    /// The directive on this line (without its newline), if it is one and the block has not ended.
    pub(super) fn line(&mut self, line: &str, span: Span) -> Result<Option<Directive>, ErrorKind> {
        if self.done {
            return Ok(None);
        }
        let Some((name, value)) = line.strip_prefix(self.mark).and_then(assignment) else {
            self.done = true;
            return Ok(None);
        };
        if self.seen.contains(&name) {
            return Err(ErrorKind::RepeatedDirective(name));
        }
        self.seen.push(name.clone());
        Ok(Some(Directive { name, value, span }))
    }
}

/// `name = value` with a known name.
fn assignment(comment: &str) -> Option<(String, String)> {
    let comment = comment.trim_start_matches(text::is_space);
    let end = comment.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(comment.len());
    let (name, rest) = comment.split_at(end);
    let name = name.to_ascii_lowercase();
    let rest = rest.trim_start_matches(text::is_regex_space).strip_prefix('=')?;
    if !NAMES.contains(&name.as_str()) {
        return None;
    }
    let value = rest.trim_matches(text::is_regex_space);
    if value.is_empty() {
        // The pattern wants one character at least and then takes the last blank.
        return rest.chars().last().filter(|c| *c != '\n').map(|c| (name, c.into()));
    }
    Some((name, value.into()))
}

/// The frontend that a build file asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Syntax {
    /// The reference: the first word of the value.
    pub reference: String,
    /// The whole value, which a frontend is told as its command line.
    pub command_line: String,
    /// Line of the directive, counted from 1 (0: the file is JSON).
    pub line: u32,
}

/// Finds `# syntax=…`, `// syntax=…` or a JSON object with `"syntax"`. A byte order mark and a `#!` line are skipped.
pub fn detect_syntax(source: &[u8]) -> Option<Syntax> {
    let (body, skipped) = body(source);
    search(body, skipped, "#", "syntax").or_else(|| search(body, skipped, "//", "syntax")).or_else(|| {
        let object: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(body).ok()?;
        let value = object.get("syntax")?.as_str()?.to_owned();
        Some(Syntax { reference: value.clone(), command_line: value, line: skipped })
    })
}

/// The value of `# check=…`, with the line it is on.
pub fn check_directive(source: &[u8]) -> Option<(String, u32)> {
    let (body, skipped) = body(source);
    search(body, skipped, "#", "check").map(|found| (found.command_line, found.line))
}

/// The text behind a byte order mark and a `#!` line, and how many lines that skipped.
fn body(source: &[u8]) -> (&[u8], u32) {
    let source = text::without_bom(source);
    if !source.starts_with(b"#!") {
        return (source, 0);
    }
    let rest = source.iter().position(|b| *b == b'\n').map_or(&source[..0], |at| &source[at + 1..]);
    (rest, 1)
}

fn search(body: &[u8], skipped: u32, mark: &'static str, name: &str) -> Option<Syntax> {
    let mut directives = Directives::new(mark);
    for (index, line) in body.split_inclusive(|b| *b == b'\n').enumerate() {
        if !text::line_fits(line) {
            return None;
        }
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let found = directives.line(&text::decode(line), Span::default()).ok()?;
        match found {
            Some(found) if found.name == name => {
                let reference = found.value.split(' ').next().unwrap_or_default().to_owned();
                let line = skipped + index as u32 + 1;
                return Some(Syntax { reference, command_line: found.value, line });
            }
            Some(_) => {}
            None => return None,
        }
    }
    None
}
