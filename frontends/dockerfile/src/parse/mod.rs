//! From bytes to a [`Dockerfile`]. Two passes, as in BuildKit, so that the same mistake is reported first: lines are joined
//! and cut into nodes (here and in `line`), then nodes become typed instructions ([`crate::instruction`]).
//!
//! A joined line remembers where its pieces come from ([`source::Joined`]), which is how words keep exact places through
//! continuations, comments between them and bytes that are no UTF-8.

mod directive;
mod heredoc;
mod json;
mod line;
mod source;
mod words;

pub use directive::{Syntax, check_directive, detect_syntax};
pub(crate) use heredoc::word as heredoc_word;
pub(crate) use line::{Body, Node};

use crate::error::{ErrorKind, ParseError};
use crate::instruction::{Dockerfile, Heredoc, Instruction, Stage, Warning, build};
use crate::span::Span;
use crate::text;
use directive::Directives;
use source::{Joined, Lines, Physical};

/// Parses a build file.
///
/// # Errors
/// The first thing that BuildKit would refuse, with its place.
pub fn parse(source: &[u8]) -> Result<Dockerfile, ParseError> {
    match parse_part(source)? {
        (file, None) => Ok(file),
        (_, Some(error)) => Err(error),
    }
}

/// As [`parse`], but what stands before a wrong instruction is given with the fault, for those who judge it by itself.
///
/// # Errors
/// When the text cannot be cut into instructions.
pub fn parse_part(source: &[u8]) -> Result<(Dockerfile, Option<ParseError>), ParseError> {
    let (nodes, mut file) = nodes(source)?;
    for node in nodes {
        let placed = build::build(node).and_then(|built| match built {
            build::Built::Stage(stage) => {
                file.stages.push(stage);
                Ok(())
            }
            build::Built::Instruction(instruction) => place(&mut file, instruction),
        });
        if let Err(error) = placed {
            return Ok((file, Some(error)));
        }
    }
    Ok((file, None))
}

fn place(file: &mut Dockerfile, instruction: Instruction) -> Result<(), ParseError> {
    use crate::instruction::Kind;
    match (file.stages.last_mut(), &instruction.kind) {
        (Some(Stage { instructions, .. }), _) => instructions.push(instruction),
        (None, Kind::Arg(_)) => file.global_args.push(instruction),
        (None, _) => {
            return Err(ParseError::new(ErrorKind::NoStage(instruction.keyword.clone()), instruction.keyword_span));
        }
    }
    Ok(())
}

/// An instruction, cut but not understood: for languages that are built upon this one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// As written.
    pub keyword: String,
    /// The line, continuations joined, keyword included.
    pub text: String,
    /// With its heredocs.
    pub span: Span,
}

/// Cuts a build file into instructions, whatever their keywords. The second value is the escape character. A file without any is no error.
///
/// # Errors
/// What [`parse`] would refuse before it looks at keywords.
pub fn lines(source: &[u8]) -> Result<(Vec<Line>, char), ParseError> {
    let (nodes, file) = match nodes(source) {
        Ok(found) => found,
        Err(ParseError { kind: ErrorKind::NoInstructions, .. }) => return Ok((Vec::new(), '\\')),
        Err(error) => return Err(error),
    };
    let line = |node: Node| Line { keyword: node.keyword.value, text: node.original, span: node.span };
    Ok((nodes.into_iter().map(line).collect(), file.escape))
}

/// Parses the text of an ONBUILD trigger. It is a file of its own: the escape character is `\` again and spans are
/// relative to the trigger's text.
///
/// # Errors
/// As [`parse`], and when the trigger holds more than one instruction. FROM is refused as a trigger.
pub fn parse_trigger(trigger: &str) -> Result<Instruction, ParseError> {
    let (mut nodes, _) = nodes(trigger.as_bytes())?;
    let all = Span { start: 0, end: trigger.len(), first_line: 1, last_line: trigger.lines().count().max(1) as u32 };
    match (nodes.pop(), nodes.len()) {
        (Some(node), 0) => match build::build(node)? {
            build::Built::Instruction(instruction) => Ok(instruction),
            build::Built::Stage(stage) => Err(ParseError::new(ErrorKind::ForbiddenTrigger("FROM".into()), stage.span)),
        },
        (_, others) => Err(ParseError::new(ErrorKind::TriggerCount(others + 1), all)),
    }
}

/// The first pass. The second value is the file with everything but its instructions.
fn nodes(source: &[u8]) -> Result<(Vec<Node>, Dockerfile), ParseError> {
    let mut parser = Parser {
        lines: Lines::new(source)?,
        directives: Directives::new("#"),
        file: Dockerfile {
            escape: '\\',
            directives: Vec::new(),
            global_args: Vec::new(),
            stages: Vec::new(),
            warnings: Vec::new(),
        },
        comments: Vec::new(),
    };
    let mut nodes = Vec::new();
    while let Some(first) = parser.lines.next() {
        nodes.extend(parser.instruction(first)?);
    }
    if nodes.is_empty() {
        let span = Span { start: 0, end: source.len(), first_line: 1, last_line: parser.lines.number.max(1) };
        return Err(ParseError::new(ErrorKind::NoInstructions, span));
    }
    Ok((nodes, parser.file))
}

struct Parser<'s> {
    lines: Lines<'s>,
    directives: Directives,
    file: Dockerfile,
    /// Comment lines since the last instruction or empty comment.
    comments: Vec<String>,
}

impl Parser<'_> {
    /// The instruction that begins on `first`; `None` for comments, directives and blank lines.
    fn instruction(&mut self, first: Physical<'_>) -> Result<Option<Node>, ParseError> {
        if first.is_comment() {
            match first.comment_text() {
                text if text.is_empty() => self.comments.clear(),
                text => self.comments.push(text),
            }
        }
        let first = first.without_newline().trimmed_left();
        self.directive(&first)?;
        if first.is_comment() {
            return Ok(None);
        }
        let (piece, mut continued) = first.continuation(self.file.escape);
        if !continued && piece.bytes.is_empty() {
            return Ok(None);
        }
        let mut joined = Joined::default();
        joined.push(&piece);
        let mut empty_line = false;
        let mut last = first.span();
        while continued && let Some(line) = self.lines.next() {
            let line = line.without_newline();
            last = line.span();
            if line.is_comment() {
                continue;
            }
            if line.is_blank() {
                empty_line = true;
                continue;
            }
            let (piece, more) = line.continuation(self.file.escape);
            joined.push(&piece);
            continued = more;
        }
        let lines_span = first.span().to(last);
        if empty_line {
            self.file.warnings.push(Warning::EmptyContinuation { line: joined.text.clone(), span: lines_span });
        }
        let tie = |lines: &Lines<'_>, local: Span| joined.place(local).map_or(lines_span, |(a, b)| lines.span(a, b));
        let located = |lines: &Lines<'_>, (kind, local): line::Local| {
            ParseError::new(kind, local.map_or(lines_span, |l| tie(lines, l)))
        };
        let mut span = lines_span;
        let mut node = line::node(&joined.text, self.file.escape).map_err(|e| located(&self.lines, e))?;
        if let Some((start, end)) = node.shell_words().iter().find_map(|w| joined.broken(w.span)) {
            return Err(ParseError::new(ErrorKind::NotUtf8("RUN"), self.lines.span(start, end)));
        }
        node.each_span(&mut |s| *s = tie(&self.lines, *s));
        if node.takes_heredocs() && joined.text.contains("<<") {
            for (heredoc, local) in heredoc::of_line(&joined.text).map_err(|e| located(&self.lines, e))? {
                let word = tie(&self.lines, local);
                let (heredoc, end) = self.body(heredoc, word, &node)?;
                span = span.to(end);
                node.heredocs.push(heredoc);
            }
        }
        node.span = span;
        node.comments = std::mem::take(&mut self.comments);
        Ok(Some(node))
    }

    fn directive(&mut self, line: &Physical<'_>) -> Result<(), ParseError> {
        let span = line.span();
        let found = self.directives.line(&text::decode(line.bytes), span).map_err(|k| ParseError::new(k, span))?;
        let Some(found) = found else { return Ok(()) };
        self.comments.pop();
        if found.name == "escape" {
            self.file.escape = match found.value.as_str() {
                "\\" => '\\',
                "`" => '`',
                other => return Err(ParseError::new(ErrorKind::EscapeDirective(other.into()), span)),
            };
        }
        self.file.directives.push(found);
        Ok(())
    }

    /// Reads a heredoc's lines up to its delimiter.
    fn body(&mut self, mut heredoc: Heredoc, word: Span, node: &Node) -> Result<(Heredoc, Span), ParseError> {
        let mut content = Vec::new();
        while let Some(line) = self.lines.next() {
            let bare = line.without_newline();
            let mut delimiter = bare.bytes;
            while heredoc.chomp
                && let Some(rest) = delimiter.strip_prefix(b"\t")
            {
                delimiter = rest;
            }
            if delimiter == heredoc.name.as_bytes() {
                if let Some(name) = node.passes_bytes(heredoc.expand)
                    && std::str::from_utf8(&content).is_err()
                {
                    return Err(ParseError::new(ErrorKind::NotUtf8(name), word));
                }
                heredoc.content = text::decode(&content);
                return Ok((heredoc, bare.span()));
            }
            content.extend_from_slice(line.bytes);
        }
        Err(ParseError::new(ErrorKind::UnterminatedHeredoc(heredoc.name), word))
    }
}

#[cfg(test)]
mod tests;
