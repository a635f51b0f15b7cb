//! Pieces of text that more than one renderer writes.

/// Bytes for people, with decimal units as BuildKit prints them.
pub fn bytes(n: u64) -> String {
    const UNITS: [&str; 5] = ["B", "kB", "MB", "GB", "TB"];
    let (mut value, mut unit) = (n as f64, 0);
    while value >= 1000.0 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    if unit == 0 { format!("{n}B") } else { format!("{value:.2}{}", UNITS[unit]) }
}

/// One line of a log as it may stand in a region that is redrawn: without escape sequences and control characters, and
/// of a line that was written over with carriage returns, the last version.
pub fn printable(line: &[u8]) -> String {
    let text = String::from_utf8_lossy(line);
    let text = text.trim_end_matches(['\r', '\n']);
    let text = text.rsplit('\r').next().unwrap_or_default();
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            // ECMA-48: CSI ends with a byte from @ to ~, OSC with BEL or ST; other escapes have one more character.
            '\x1b' => match chars.next() {
                Some('[') => while chars.next().is_some_and(|c| !('@'..='~').contains(&c)) {},
                Some(']') => while chars.next().is_some_and(|c| c != '\x07' && c != '\\') {},
                _ => {}
            },
            '\t' => out.push_str("    "),
            c if c.is_control() => {}
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_loses_what_would_move_the_cursor() {
        assert_eq!(printable(b"\x1b[1;31mred\x1b[0m\tx\x07\n"), "red    x");
        assert_eq!(printable(b"10%\r20%\r30%\r\n"), "30%");
        assert_eq!(printable(b"\x1b]0;title\x07shell\n"), "shell");
        assert_eq!(printable(b"\xff\xfe"), "\u{fffd}\u{fffd}");
        assert_eq!(printable(b"cut \x1b["), "cut ");
    }

    #[test]
    fn bytes_have_decimal_units() {
        assert_eq!([0, 999, 1000, 1_500_000, u64::MAX].map(bytes), ["0B", "999B", "1.00kB", "1.50MB", "18446744.07TB"]);
    }
}
