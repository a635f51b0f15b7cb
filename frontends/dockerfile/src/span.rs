//! Places in a build file. A span has bytes (for underlining) and lines (for LLB source maps, which are line based):
//! both are kept because the lines of an instruction also cover its heredocs and skipped comment lines.

/// A piece of the source: bytes `start..end` and the 1-based lines `first_line..=last_line`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Span {
    /// Offset of the first byte in the source as it was given (byte order mark included).
    pub start: usize,
    /// Offset behind the last byte.
    pub end: usize,
    /// Line of the first byte, counted from 1.
    pub first_line: u32,
    /// Last line that belongs to it, counted from 1.
    pub last_line: u32,
}

impl Span {
    /// The lines as LLB source maps want them: one entry for each line.
    pub fn lines(self) -> impl Iterator<Item = u32> {
        self.first_line..=self.last_line
    }

    /// The smallest span that covers both.
    pub fn to(self, other: Span) -> Span {
        Span {
            start: self.start.min(other.start),
            end: self.end.max(other.end),
            first_line: self.first_line.min(other.first_line),
            last_line: self.last_line.max(other.last_line),
        }
    }
}

/// A value and where it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spanned<T> {
    pub value: T,
    pub span: Span,
}

/// A word in a line before the line is tied to the source: `start..end` are bytes of the joined line.
pub(crate) type Word = Spanned<String>;

impl Spanned<String> {
    /// A word at `start..end` of a joined line (its lines are filled in when it is tied to the source).
    pub(crate) fn word(value: impl Into<String>, start: usize, end: usize) -> Word {
        Spanned { value: value.into(), span: Span { start, end, first_line: 0, last_line: 0 } }
    }
}
