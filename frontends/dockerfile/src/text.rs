//! Text as Go sees it. The language is defined by a Go program, so its idea of white space, of lower case and of bytes
//! that are no UTF-8 decides what a file means; Rust's differ in corners and are wrapped here once.

/// Go's `unicode.IsSpace`: Unicode White_Space, which is also Rust's definition.
pub(crate) fn is_space(c: char) -> bool {
    c.is_whitespace()
}

/// `is_space` on a byte taken for a code point, which some of the parsers do: 0x85 and 0xA0 count.
pub(crate) fn is_space_byte(b: u8) -> bool {
    is_space(char::from(b))
}

pub(crate) fn trim_space(s: &str) -> &str {
    s.trim_matches(is_space)
}

/// The `\s` of Go's regular expressions: five ASCII characters, not vertical tab.
pub(crate) fn is_regex_space(c: char) -> bool {
    matches!(c, '\t' | '\n' | '\x0c' | '\r' | ' ')
}

/// Separators between the words of an instruction: not a newline, not Unicode.
pub(crate) fn is_separator(c: char) -> bool {
    matches!(c, '\t' | '\x0b' | '\x0c' | '\r' | ' ')
}

/// Go maps one rune to one rune: no special casing of dotted capital I.
pub(crate) fn lower(s: &str) -> String {
    s.chars().map(|c| if c == '\u{130}' { 'i' } else { c.to_lowercase().next().unwrap_or(c) }).collect()
}

pub(crate) fn upper(s: &str) -> String {
    s.chars()
        .map(|c| {
            let mut up = c.to_uppercase();
            match (up.next(), up.next()) {
                (Some(one), None) => one,
                _ => c,
            }
        })
        .collect()
}

/// Simple case folding of a word against a lower-case ASCII one.
pub(crate) fn equal_fold(word: &str, ascii: &str) -> bool {
    let folded = word.chars().map(|c| match c {
        '\u{17f}' => 's',
        '\u{212a}' => 'k',
        c => c.to_ascii_lowercase(),
    });
    folded.eq(ascii.chars())
}

pub(crate) fn without_bom(bytes: &[u8]) -> &[u8] {
    bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes)
}

/// Whether a line (with its newline, if it has one) fits the scanner's buffer of 64 KiB.
pub(crate) fn line_fits(line: &[u8]) -> bool {
    line.len() <= if line.ends_with(b"\n") { 65536 } else { 65535 }
}

/// Decodes bytes; each byte that is no UTF-8 becomes one U+FFFD.
pub(crate) fn decode(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        out.push_str(chunk.valid());
        out.extend(chunk.invalid().iter().map(|_| char::REPLACEMENT_CHARACTER));
    }
    out
}
