//! The physical lines of a build file, and logical lines joined from them.

use crate::error::{ErrorKind, ParseError};
use crate::span::Span;
use crate::text;

/// Reads lines in order; knows which line an offset is on.
pub(super) struct Lines<'s> {
    source: &'s [u8],
    starts: Vec<usize>,
    /// How many lines were read, which is the number of the last one.
    pub(super) number: u32,
}

impl<'s> Lines<'s> {
    pub(super) fn new(source: &'s [u8]) -> Result<Self, ParseError> {
        let mut starts = Vec::new();
        let mut at = 0;
        for line in source.split_inclusive(|b| *b == b'\n') {
            starts.push(at);
            let number = starts.len() as u32;
            if !text::line_fits(line) {
                let span = Span { start: at, end: at + line.len(), first_line: number, last_line: number };
                return Err(ParseError::new(ErrorKind::LineTooLong { line: number, length: line.len() }, span));
            }
            at += line.len();
        }
        Ok(Lines { source, starts, number: 0 })
    }

    pub(super) fn next(&mut self) -> Option<Physical<'s>> {
        let index = self.number as usize;
        let start = *self.starts.get(index)?;
        let end = self.starts.get(index + 1).copied().unwrap_or(self.source.len());
        self.number += 1;
        let bytes = &self.source[start..end];
        let bare = if index == 0 { text::without_bom(bytes) } else { bytes };
        Some(Physical { bytes: bare, start: start + bytes.len() - bare.len(), number: self.number })
    }

    /// A span from byte offsets of the source.
    pub(super) fn span(&self, start: usize, end: usize) -> Span {
        let line = |at: usize| self.starts.partition_point(|s| *s <= at).max(1) as u32;
        Span { start, end, first_line: line(start), last_line: line(end.max(start + 1) - 1) }
    }
}

/// A line, or a part of one, as it stands in the source.
#[derive(Clone, Copy)]
pub(super) struct Physical<'s> {
    pub(super) bytes: &'s [u8],
    pub(super) start: usize,
    pub(super) number: u32,
}

impl<'s> Physical<'s> {
    pub(super) fn span(&self) -> Span {
        let end = self.start + self.bytes.len();
        Span { start: self.start, end, first_line: self.number, last_line: self.number }
    }

    fn left_blanks(&self) -> usize {
        let mut length = 0;
        for chunk in self.bytes.utf8_chunks() {
            let rest = chunk.valid().trim_start_matches(text::is_space);
            length += chunk.valid().len() - rest.len();
            if !rest.is_empty() || !chunk.invalid().is_empty() {
                break;
            }
        }
        length
    }

    pub(super) fn is_comment(&self) -> bool {
        self.bytes.get(self.left_blanks()) == Some(&b'#')
    }

    pub(super) fn is_blank(&self) -> bool {
        self.left_blanks() == self.bytes.len()
    }

    /// The text behind the first byte, which for an indented comment is not its `#`: BuildKit has it so.
    pub(super) fn comment_text(&self) -> String {
        text::trim_space(&text::decode(self.bytes.get(1..).unwrap_or_default())).into()
    }

    pub(super) fn without_newline(self) -> Self {
        let kept = self.bytes.iter().rposition(|b| !matches!(b, b'\r' | b'\n')).map_or(0, |last| last + 1);
        Physical { bytes: &self.bytes[..kept], ..self }
    }

    pub(super) fn trimmed_left(self) -> Self {
        let blanks = self.left_blanks();
        Physical { bytes: &self.bytes[blanks..], start: self.start + blanks, ..self }
    }

    /// The line without its continuation mark, and whether it has one: the escape character at the end (blanks may
    /// follow), unless another escape character stands before it.
    pub(super) fn continuation(self, escape: char) -> (Self, bool) {
        let blank = |b: &u8| matches!(b, b' ' | b'\t');
        let end = self.bytes.iter().rposition(|b| !blank(b)).map_or(0, |last| last + 1);
        let is_escape = |at: usize| self.bytes.get(at).is_some_and(|b| char::from(*b) == escape);
        if end == 0 || !is_escape(end - 1) || (end >= 2 && is_escape(end - 2)) {
            return (self, false);
        }
        (Physical { bytes: &self.bytes[..end - 1], ..self }, true)
    }
}

/// A logical line. Its offsets can be traced back to the source.
#[derive(Default)]
pub(super) struct Joined {
    pub(super) text: String,
    pieces: Vec<Piece>,
}

struct Piece {
    /// Offset in the joined text.
    joined: usize,
    /// Offset in the source.
    source: usize,
    /// Bytes it has in the source.
    length: usize,
}

impl Joined {
    pub(super) fn push(&mut self, part: &Physical<'_>) {
        let mut source = part.start;
        let mut add = |text: &mut String, piece: &str, length: usize| {
            self.pieces.push(Piece { joined: text.len(), source, length });
            text.push_str(piece);
            source += length;
        };
        for chunk in part.bytes.utf8_chunks() {
            if !chunk.valid().is_empty() {
                add(&mut self.text, chunk.valid(), chunk.valid().len());
            }
            for _ in chunk.invalid() {
                add(&mut self.text, "\u{fffd}", 1);
            }
        }
    }

    /// The source offsets of the first byte in this span that is no UTF-8 (such a piece is one byte long).
    pub(super) fn broken(&self, local: Span) -> Option<(usize, usize)> {
        let mark = |p: &&Piece| p.length == 1 && self.text[p.joined..].starts_with('\u{fffd}');
        let found = self.pieces.iter().filter(mark).find(|p| (local.start..local.end).contains(&p.joined))?;
        Some((found.source, found.source + 1))
    }

    fn piece(&self, at: usize) -> Option<(&Piece, usize)> {
        let index = self.pieces.partition_point(|p| p.joined <= at).checked_sub(1)?;
        let piece = &self.pieces[index];
        Some((piece, at - piece.joined))
    }

    /// The source offsets of a span of the joined text; `None` where the line is empty.
    pub(super) fn place(&self, local: Span) -> Option<(usize, usize)> {
        let (first, offset) = self.piece(local.start)?;
        let start = first.source + offset.min(first.length);
        if local.end <= local.start {
            return Some((start, start));
        }
        let (last, offset) = self.piece(local.end - 1)?;
        Some((start, (last.source + (offset + 1).min(last.length)).max(start)))
    }
}
