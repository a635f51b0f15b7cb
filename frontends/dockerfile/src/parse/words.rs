//! Cutting the text of an instruction into words. There are three ways, each with its own idea of quotes and blanks:
//! flags (bytes, quotes removed), name=value words (quotes kept for the shell lexer), and plain blanks.
//! All offsets are relative to the joined line.

use crate::span::{Spanned, Word};
use crate::text;

/// A slice of the joined line that knows where it begins.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slice<'a> {
    pub(super) text: &'a str,
    pub(super) at: usize,
}

impl<'a> Slice<'a> {
    pub(super) fn trimmed(self) -> Slice<'a> {
        let right = self.text.trim_end_matches(text::is_space);
        let text = right.trim_start_matches(text::is_space);
        Slice { text, at: self.at + right.len() - text.len() }
    }

    pub(super) fn word(self) -> Word {
        Spanned::word(self.text, self.at, self.at + self.text.len())
    }

    fn range(self, start: usize, end: usize) -> Slice<'a> {
        Slice { text: &self.text[start..end], at: self.at + start }
    }

    /// Cuts at the first run of separators.
    pub(super) fn cut(self) -> (Slice<'a>, Option<Slice<'a>>) {
        let Some(end) = self.text.find(text::is_separator) else { return (self, None) };
        let rest = self.text[end..].trim_start_matches(text::is_separator);
        (self.range(0, end), Some(self.range(self.text.len() - rest.len(), self.text.len())))
    }

    /// Cuts at every run of separators; a leading or trailing run gives an empty word.
    pub(super) fn pieces(self) -> Vec<Word> {
        let mut out = Vec::new();
        let mut rest = Some(self);
        while let Some(slice) = rest {
            let (word, more) = slice.cut();
            out.push(word.word());
            rest = more;
        }
        out
    }
}

#[derive(PartialEq)]
enum Phase {
    Blank,
    Word,
    Quote(char),
}

/// Takes the leading `--flags` off. Works on bytes, each taken for a code point, as BuildKit does: text beyond ASCII in a
/// flag comes out as mojibake there, and so it does here. Returns the flags and the offset of the rest in `text`.
pub(super) fn flags(slice: Slice<'_>, escape: char) -> (Vec<Word>, usize) {
    let bytes = slice.text.as_bytes();
    let mut flags = Vec::new();
    let mut phase = Phase::Blank;
    let (mut word, mut start, mut quoted) = (String::new(), 0, false);
    let mut at = 0;
    while at < bytes.len() {
        let c = char::from(bytes[at]);
        match phase {
            Phase::Blank => {
                if text::is_space_byte(bytes[at]) {
                    at += 1;
                    continue;
                }
                if !bytes[at..].starts_with(b"--") {
                    return (flags, at);
                }
                (phase, start) = (Phase::Word, at);
                continue;
            }
            Phase::Word if text::is_space_byte(bytes[at]) => {
                phase = Phase::Blank;
                if word == "--" {
                    return (flags, at);
                }
                if quoted || !word.is_empty() {
                    flags.push(Spanned::word(std::mem::take(&mut word), slice.at + start, slice.at + at));
                }
                quoted = false;
            }
            Phase::Word if matches!(c, '\'' | '"') => {
                quoted = true;
                phase = Phase::Quote(c);
            }
            Phase::Quote(quote) if c == quote => phase = Phase::Word,
            _ if c == escape => {
                // At the very end it is dropped.
                at += 1;
                word.extend(bytes.get(at).map(|b| char::from(*b)));
            }
            _ => word.push(c),
        }
        at += 1;
    }
    // A flag that ends in a quote which is never closed still counts.
    if phase != Phase::Blank && word != "--" && (quoted || !word.is_empty()) {
        flags.push(Spanned::word(word, slice.at + start, slice.at + bytes.len()));
    }
    (flags, bytes.len())
}

/// Words of ENV, LABEL and ARG: separated by blanks outside quotes; quotes and escapes stay in the word.
pub(super) fn quoted(slice: Slice<'_>, escape: char) -> Vec<Word> {
    let mut words = Vec::new();
    let mut phase = Phase::Blank;
    let (mut word, mut start, mut had_quote) = (String::new(), 0, false);
    let mut chars = slice.text.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        if phase == Phase::Blank {
            if text::is_space(c) {
                continue;
            }
            (phase, start) = (Phase::Word, at);
        }
        match phase {
            Phase::Word if text::is_space(c) => {
                phase = Phase::Blank;
                if had_quote || !word.is_empty() {
                    words.push(Spanned::word(std::mem::take(&mut word), slice.at + start, slice.at + at));
                }
                had_quote = false;
                continue;
            }
            Phase::Word if matches!(c, '\'' | '"') => {
                had_quote = true;
                phase = Phase::Quote(c);
            }
            Phase::Quote(quote) if c == quote => phase = Phase::Word,
            _ => {}
        }
        if c == escape && !matches!(phase, Phase::Quote('\'')) {
            // At the very end it is dropped; elsewhere it stays and takes the next character along.
            let Some((_, next)) = chars.next() else { break };
            word.push(c);
            word.push(next);
            continue;
        }
        word.push(c);
    }
    if phase != Phase::Blank && (had_quote || !word.is_empty()) {
        words.push(Spanned::word(word, slice.at + start, slice.at + slice.text.len()));
    }
    words
}
