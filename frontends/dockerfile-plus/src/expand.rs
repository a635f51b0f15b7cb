//! `Plus`: from dockerfile+ to Dockerfile, line by line. Lines that are the Dockerfile's stay as they are, byte for byte; each remembers its file.
use std::collections::BTreeMap;

use rhost_dockerfile::Span;
use rhost_dockerfile::instruction::Kind;
use rhost_dockerfile::layer::{Fault, File, Layer, Origin, Reader, Rewritten};
use rhost_dockerfile::parse::{self, Line};

use crate::condition;

/// Files in files, at most.
const DEEPEST: usize = 32;
/// Bytes of all files together, at most.
const LARGEST: usize = 4 << 20;

/// The language.
#[derive(Debug, Clone, Copy)]
pub struct Plus;

impl Layer for Plus {
    fn rewrite(
        &self,
        name: &str,
        data: Vec<u8>,
        arguments: &[(String, String)],
        read: &Reader<'_>,
    ) -> Result<Rewritten, Box<Fault>> {
        let mut expansion = Expansion {
            read,
            made: Rewritten::default(),
            variables: arguments.iter().cloned().collect(),
            given: arguments.iter().map(|(name, _)| name.clone()).collect(),
            escape: None,
            in_stage: false,
        };
        expansion.file(name.to_owned(), data, &mut Vec::new())?;
        Ok(expansion.made)
    }
}

struct Expansion<'r> {
    read: &'r Reader<'r>,
    made: Rewritten,
    /// For conditions: build arguments, and defaults of ARGs before the first FROM.
    variables: BTreeMap<String, String>,
    /// What the user says has the last word.
    given: Vec<String>,
    /// The build file's; others must have the same.
    escape: Option<char>,
    in_stage: bool,
}

/// An IF whose ENDIF is to come.
struct Branch {
    span: Span,
    /// These lines count.
    active: bool,
    /// Lines before them did, or nothing around does.
    taken: bool,
    /// After ELSE.
    last: bool,
}

impl Expansion<'_> {
    fn file(&mut self, name: String, data: Vec<u8>, chain: &mut Vec<String>) -> Result<(), Box<Fault>> {
        let file = File { name: name.clone(), data };
        let whole = Span { start: 0, end: 0, first_line: 1, last_line: 1 };
        let fault = |span: Span, message: String, help: Option<&str>| {
            Box::new(Fault { message, help: help.map(str::to_owned), file: file.clone(), span })
        };
        let (lines, escape) = parse::lines(&file.data).map_err(|error| fault(error.span, error.message(), None))?;
        if !lines.is_empty() && *self.escape.get_or_insert(escape) != escape {
            let message = "its escape character is another than the build file's".into();
            return Err(fault(whole, message, Some("write the same `# escape=` line in both")));
        }
        let index = self.made.files.len();
        self.made.files.push(file.clone());
        if self.made.files.iter().map(|file| file.data.len()).sum::<usize>() > LARGEST {
            return Err(fault(
                whole,
                format!("the build file and what it includes are more than {LARGEST} bytes"),
                None,
            ));
        }
        chain.push(name);
        let physical: Vec<&[u8]> = file.data.split_inclusive(|byte| *byte == b'\n').collect();
        let mut branches: Vec<Branch> = Vec::new();
        let mut next = 1;
        for line in &lines {
            let active = branches.iter().all(|branch| branch.active);
            self.keep(index, &physical, next, line.span.first_line, active);
            next = line.span.last_line + 1;
            let arguments = line.text.trim_start().get(line.keyword.len()..).unwrap_or_default().trim();
            let told = |message: String| fault(line.span, message, None);
            match line.keyword.to_ascii_uppercase().as_str() {
                "IF" => {
                    let holds = condition::holds(arguments, &self.variables, escape).map_err(told)?;
                    branches.push(Branch {
                        span: line.span,
                        active: active && holds,
                        taken: !active || holds,
                        last: false,
                    });
                }
                word @ ("ELIF" | "ELSE") => {
                    let holds = match word {
                        "ELIF" => condition::holds(arguments, &self.variables, escape).map_err(told)?,
                        _ if arguments.is_empty() => true,
                        _ => {
                            return Err(fault(
                                line.span,
                                "ELSE stands alone".into(),
                                Some("a further condition is ELIF"),
                            ));
                        }
                    };
                    match branches.last_mut() {
                        Some(branch) if !branch.last => {
                            branch.active = holds && !branch.taken;
                            branch.taken |= holds;
                            branch.last = word == "ELSE";
                        }
                        Some(branch) => {
                            let else_of = branch.span.first_line;
                            return Err(told(format!("{word} after the ELSE of the IF in line {else_of}")));
                        }
                        None => {
                            return Err(fault(line.span, format!("{word} without an IF before it in this file"), None));
                        }
                    }
                }
                "ENDIF" => {
                    if branches.pop().is_none() {
                        return Err(told("ENDIF without an IF before it in this file".into()));
                    }
                }
                _ if !active => {}
                "INCLUDE" => self.include(line, arguments, escape, chain, &fault)?,
                "COPY" => {
                    let raw = &physical[line.span.first_line as usize - 1..line.span.last_line as usize];
                    let text = raw.concat();
                    let kept = optional(&text, line, escape).map_err(told)?.unwrap_or(text);
                    self.lines(index, &kept, line.span.first_line);
                }
                keyword => {
                    if keyword == "FROM" {
                        self.in_stage = true;
                    }
                    if keyword == "ARG" && !self.in_stage {
                        self.defaults(&line.text, escape);
                    }
                    self.keep(index, &physical, line.span.first_line, next, true);
                }
            }
        }
        let active = branches.iter().all(|branch| branch.active);
        self.keep(index, &physical, next, physical.len() as u32 + 1, active);
        if let Some(open) = branches.pop() {
            return Err(fault(open.span, "IF without ENDIF in this file".into(), Some("close it with ENDIF")));
        }
        chain.pop();
        Ok(())
    }

    /// Takes over lines `from..to` (from 1) of file `index` as they are.
    fn keep(&mut self, index: usize, physical: &[&[u8]], from: u32, to: u32, active: bool) {
        if !active {
            return;
        }
        for number in from..to {
            let Some(line) = physical.get(number as usize - 1) else { break };
            self.lines(index, line, number);
        }
    }

    /// Takes over `text`, which begins in line `first` of file `index`.
    fn lines(&mut self, index: usize, text: &[u8], first: u32) {
        for (number, line) in (first..).zip(text.split_inclusive(|byte| *byte == b'\n')) {
            // A mark at the beginning of a file would be a character in the middle of this one.
            let bare = line.strip_prefix(b"\xef\xbb\xbf").filter(|_| number == 1 && index > 0).unwrap_or(line);
            self.made.text.extend_from_slice(bare);
            if !bare.ends_with(b"\n") {
                self.made.text.push(b'\n');
            }
            self.made.origins.push(Origin { file: index, line: number });
        }
    }

    /// Defaults of an ARG before the first FROM are known to conditions behind it.
    fn defaults(&mut self, text: &str, escape: char) {
        // A wrong one is told by who reads the Dockerfile.
        let Ok(instruction) = parse::parse_trigger(text) else { return };
        let Kind::Arg(arguments) = instruction.kind else { return };
        for argument in arguments {
            if let (Some(value), false) = (argument.value, self.given.contains(&argument.key)) {
                let lexer = rhost_dockerfile::shell::Lexer::new(escape);
                let value = lexer.expand(&value, &self.variables).map_or(value, |found| found.text);
                self.variables.insert(argument.key, value);
            }
        }
    }

    fn include(
        &mut self,
        line: &Line,
        arguments: &str,
        escape: char,
        chain: &mut Vec<String>,
        fault: &dyn Fn(Span, String, Option<&str>) -> Box<Fault>,
    ) -> Result<(), Box<Fault>> {
        let words = rhost_dockerfile::shell::Lexer::new(escape).words(arguments, &self.variables);
        let words = words.map_err(|error| fault(line.span, error.to_string(), None))?;
        let (flags, names): (Vec<_>, Vec<_>) = words.into_iter().partition(|word| word.starts_with("--"));
        if let Some(flag) = flags.iter().find(|flag| *flag != "--optional") {
            return Err(fault(line.span, format!("unknown flag {flag} of INCLUDE"), Some("there is --optional")));
        }
        if names.is_empty() {
            return Err(fault(line.span, "INCLUDE wants the name of a file".into(), None));
        }
        for name in names {
            let from = chain.last().map(String::as_str).unwrap_or_default();
            let path = beside(from, &name)
                .ok_or_else(|| fault(line.span, format!("`{name}` leads out of the context"), None))?;
            if chain.contains(&path) {
                let message = format!("`{path}` includes itself: {} -> {path}", chain.join(" -> "));
                return Err(fault(line.span, message, None));
            }
            if chain.len() >= DEEPEST {
                return Err(fault(line.span, format!("files include each other more than {DEEPEST} deep"), None));
            }
            match (self.read)(&path).map_err(|error| fault(line.span, error, None))? {
                Some(data) => self.file(path, data, chain)?,
                None if flags.is_empty() => {
                    let help = "INCLUDE is relative to the file that it stands in; with a leading `/` to the context. `INCLUDE --optional` passes over what is not there";
                    return Err(fault(line.span, format!("there is no file `{path}`"), Some(help)));
                }
                None => {}
            }
        }
        Ok(())
    }
}

/// `name` as a path in the context; beside the file `from` unless it begins with `/`. `None`: above the context.
fn beside(from: &str, name: &str) -> Option<String> {
    let base = if name.starts_with('/') { "" } else { from.rsplit_once('/').map_or("", |(directory, _)| directory) };
    let mut parts: Vec<&str> = Vec::new();
    for part in base.split('/').chain(name.split('/')) {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()?),
            part => parts.push(part),
        }
    }
    (!parts.is_empty()).then(|| parts.join("/"))
}

/// The text of a COPY with `--optional` as a Dockerfile has it: each source is made a pattern that matches nothing but itself, since a pattern without
/// a match is no error. `None`: it is an ordinary COPY.
fn optional(text: &[u8], line: &Line, escape: char) -> Result<Option<Vec<u8>>, String> {
    let mut words = line.text.split_whitespace().skip(1);
    if !words.by_ref().take_while(|word| word.starts_with("--")).any(|word| word == "--optional") {
        return Ok(None);
    }
    let text = String::from_utf8(text.to_vec()).map_err(|_| "COPY --optional takes UTF-8 only")?;
    if line.text.contains("<<") || line.text.contains('[') {
        return Err("COPY --optional takes plain sources: no heredoc, no JSON form, no `[…]`".into());
    }
    // Words by their places, so that continuations and comments between them stay.
    let mut places: Vec<(usize, usize)> = Vec::new();
    let mut at = 0;
    for row in text.split_inclusive('\n') {
        if !row.trim_start().starts_with('#') {
            let mut start = None;
            for (offset, c) in row.char_indices().chain([(row.len(), ' ')]) {
                match (c.is_whitespace(), start) {
                    (false, None) => start = Some(offset),
                    (true, Some(from)) => {
                        let word = &row[from..offset];
                        if word.len() > escape.len_utf8() || !word.starts_with(escape) {
                            places.push((at + from, at + offset));
                        }
                        start = None;
                    }
                    _ => {}
                }
            }
        }
        at += row.len();
    }
    let flags = places.iter().skip(1).take_while(|(from, _)| text[*from..].starts_with("--")).count();
    let sources = places.len().saturating_sub(1);
    let mut made = String::with_capacity(text.len() + 16);
    let mut done = 0;
    for (number, (from, to)) in places.iter().enumerate() {
        made.push_str(&text[done..*from]);
        let word = &text[*from..*to];
        match number {
            number if number > 0 && number <= flags && word == "--optional" => {}
            number if number > flags && number < sources => made.push_str(&itself(word)),
            _ => made.push_str(word),
        }
        done = *to;
    }
    made.push_str(&text[done..]);
    Ok(Some(made.into_bytes()))
}

/// A pattern that matches the path `word` alone. Patterns, variables and quotes stay what they are.
fn itself(word: &str) -> String {
    let end = word.trim_end_matches('/').len();
    match word[..end].char_indices().next_back() {
        Some((at, c)) if c.is_alphanumeric() && !word.contains(['*', '?', '$', '"', '\'', '\\', '`']) => {
            format!("{}[{c}]{}", &word[..at], &word[at + c.len_utf8()..])
        }
        _ => word.to_owned(),
    }
}

#[cfg(test)]
mod tests;
