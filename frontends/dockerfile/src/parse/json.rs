//! JSON arrays of strings. Own reader rather than serde's: the outcome has three values (an array of strings; an array
//! with something else in it, which is refused; no JSON, which is shell text), must agree with Go's reader in each case,
//! and words keep their places.

use crate::span::{Spanned, Word};
use crate::text;

/// What the text of an instruction turned out to be.
#[derive(Debug, PartialEq)]
pub(super) enum Json {
    Strings(Vec<Word>),
    /// Right JSON, but not only strings.
    NotStrings,
    /// No JSON array: the text is in shell form.
    Not,
}

/// Go's limit on nested arrays and objects.
const MAX_DEPTH: usize = 10_000;

enum Want {
    Value,
    ValueOrEnd,
    CommaOrEnd,
    KeyOrEnd,
    Key,
    Colon,
}

/// Reads `source`; words are placed relative to it.
pub(super) fn strings(source: &str) -> Json {
    let trimmed = source.trim_start_matches(text::is_space);
    if !trimmed.starts_with('[') {
        return Json::Not;
    }
    let mut reader = Reader { source, at: source.len() - trimmed.len() };
    reader.array().unwrap_or(Json::Not)
}

struct Reader<'s> {
    source: &'s str,
    at: usize,
}

impl Reader<'_> {
    fn peek(&self) -> Option<u8> {
        self.source.as_bytes().get(self.at).copied()
    }

    fn next(&mut self) -> Option<u8> {
        let byte = self.peek()?;
        self.at += 1;
        Some(byte)
    }

    fn eat(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    fn blanks(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\r' | b'\n')) {
            self.at += 1;
        }
    }

    /// The whole document; `None` where it is no JSON.
    fn array(&mut self) -> Option<Json> {
        let mut open = Vec::new();
        let mut words = Vec::new();
        let mut only_strings = true;
        let mut want = Want::Value;
        loop {
            self.blanks();
            let byte = self.peek()?;
            let in_object = open.last() == Some(&b'{');
            match (&want, byte) {
                (Want::ValueOrEnd | Want::CommaOrEnd, b']') if !in_object => want = self.close(&mut open),
                (Want::KeyOrEnd | Want::CommaOrEnd, b'}') if in_object => want = self.close(&mut open),
                (Want::CommaOrEnd, b',') => {
                    self.at += 1;
                    want = if in_object { Want::Key } else { Want::Value };
                }
                (Want::Colon, b':') => {
                    self.at += 1;
                    want = Want::Value;
                }
                (Want::Key | Want::KeyOrEnd, b'"') => {
                    self.string()?;
                    want = Want::Colon;
                }
                (Want::Value | Want::ValueOrEnd, _) => {
                    let start = self.at;
                    if byte == b'"' {
                        let value = self.string()?;
                        if open.len() == 1 {
                            words.push(Spanned::word(value, start, self.at));
                        }
                        want = Want::CommaOrEnd;
                        continue;
                    }
                    only_strings &= open.is_empty();
                    want = match byte {
                        b'[' => Want::ValueOrEnd,
                        b'{' => Want::KeyOrEnd,
                        _ => {
                            self.scalar()?;
                            Want::CommaOrEnd
                        }
                    };
                    if matches!(byte, b'[' | b'{') {
                        self.at += 1;
                        open.push(byte);
                        if open.len() > MAX_DEPTH {
                            return None;
                        }
                    }
                }
                _ => return None,
            }
            if open.is_empty() {
                break;
            }
        }
        self.blanks();
        match self.peek() {
            Some(_) => None,
            None if only_strings => Some(Json::Strings(words)),
            None => Some(Json::NotStrings),
        }
    }

    fn close(&mut self, open: &mut Vec<u8>) -> Want {
        self.at += 1;
        open.pop();
        Want::CommaOrEnd
    }

    fn scalar(&mut self) -> Option<()> {
        for word in ["true", "false", "null"] {
            if self.source[self.at..].starts_with(word) {
                self.at += word.len();
                return Some(());
            }
        }
        self.number()
    }

    fn digits(&mut self) -> Option<()> {
        let start = self.at;
        while self.peek().is_some_and(|b| b.is_ascii_digit()) {
            self.at += 1;
        }
        (self.at > start).then_some(())
    }

    /// A number; one that overflows a float is no JSON to Go.
    fn number(&mut self) -> Option<()> {
        let start = self.at;
        self.eat(b'-');
        if !self.eat(b'0') {
            self.digits()?;
        }
        if self.eat(b'.') {
            self.digits()?;
        }
        if self.eat(b'e') || self.eat(b'E') {
            if !self.eat(b'+') {
                self.eat(b'-');
            }
            self.digits()?;
        }
        self.source[start..self.at].parse::<f64>().ok().filter(|f| f.is_finite()).map(|_| ())
    }

    fn string(&mut self) -> Option<String> {
        self.at += 1;
        let mut out = String::new();
        loop {
            let rest = &self.source[self.at..];
            let plain = rest.find(|c: char| c == '"' || c == '\\' || c < ' ')?;
            out.push_str(&rest[..plain]);
            self.at += plain;
            match self.next()? {
                b'"' => return Some(out),
                b'\\' => out.push(self.escape()?),
                _ => return None,
            }
        }
    }

    fn escape(&mut self) -> Option<char> {
        Some(match self.next()? {
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                let high = self.hex4()?;
                self.surrogates(high)
            }
            c @ (b'"' | b'\\' | b'/') => char::from(c),
            _ => return None,
        })
    }

    fn hex4(&mut self) -> Option<u32> {
        let digits = self.source.get(self.at..self.at + 4)?;
        if !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
            return None;
        }
        self.at += 4;
        u32::from_str_radix(digits, 16).ok()
    }

    /// A code unit, with the second half of its pair if one follows; a lone half becomes U+FFFD.
    fn surrogates(&mut self, unit: u32) -> char {
        if let Some(c) = char::from_u32(unit) {
            return c;
        }
        let before = self.at;
        if self.eat(b'\\') && self.eat(b'u') {
            if let Some(low) = self.hex4()
                && let (0xd800..0xdc00, 0xdc00..0xe000) = (unit, low)
            {
                let code = 0x10000 + ((unit - 0xd800) << 10) + (low - 0xdc00);
                return char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER);
            }
        }
        self.at = before;
        char::REPLACEMENT_CHARACTER
    }
}
