//! Reading a `.dockerignore` into patterns as moby's ignorefile package does: comments only at column 0, both ends
//! trimmed, paths cleaned lexically, one leading slash dropped. Matching the patterns is the work of whoever walks files.

use crate::text;

/// A `.dockerignore` that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line} of the ignore file is longer than 65535 bytes")]
pub struct IgnoreError {
    /// Counted from 1.
    pub line: u32,
}

/// The patterns of an ignore file in order; an exception keeps its `!`.
///
/// # Errors
/// A line that exceeds 64 KiB.
pub fn read(source: &[u8]) -> Result<Vec<String>, IgnoreError> {
    let mut patterns = Vec::new();
    for (index, line) in source.split_inclusive(|b| *b == b'\n').enumerate() {
        if !text::line_fits(line) {
            return Err(IgnoreError { line: index as u32 + 1 });
        }
        let line = if index == 0 { text::without_bom(line) } else { line };
        let line = text::decode(line);
        if line.starts_with('#') {
            continue;
        }
        let pattern = text::trim_space(&line);
        match pattern.strip_prefix('!') {
            _ if pattern.is_empty() => {}
            Some(rest) => patterns.push(format!("!{}", clean(text::trim_space(rest)))),
            None => patterns.push(clean(pattern)),
        }
    }
    Ok(patterns)
}

/// Lexically shortest path, without one leading slash; nothing stays nothing.
fn clean(pattern: &str) -> String {
    if pattern.is_empty() {
        return String::new();
    }
    let rooted = pattern.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in pattern.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|p| *p != "..") => {
                parts.pop();
            }
            ".." if rooted => {}
            _ => parts.push(part),
        }
    }
    match (parts.is_empty(), rooted) {
        (true, true) => "/".into(),
        (true, false) => ".".into(),
        _ => parts.join("/"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(source: &str, expect: &[&str]) {
        assert_eq!(read(source.as_bytes()).unwrap(), expect, "{source:?}");
    }

    #[test]
    fn comments_only_at_column_zero() {
        check("# a\n #b\nc # d\n", &["#b", "c # d"]);
    }

    #[test]
    fn blanks_and_ends_are_trimmed() {
        check("\n  \n\t a b \t\r\n\n", &["a b"]);
        check("a\u{a0}\n\u{2003}b", &["a", "b"]);
    }

    #[test]
    fn byte_order_mark_is_dropped_once() {
        check("\u{feff}# c\na", &["a"]);
        check("a\n\u{feff}b", &["a", "\u{feff}b"]);
    }

    #[test]
    fn paths_are_cleaned() {
        check("/a/b", &["a/b"]);
        check("//a//b/", &["a/b"]);
        check("./a/./b/../c", &["a/c"]);
        check("..\n../a\n/..\n/../a\na/..\n", &["..", "../a", "/", "a", "."]);
        check("/", &["/"]);
        check("**/*.o\na\\ b", &["**/*.o", "a\\ b"]);
    }

    #[test]
    fn exceptions() {
        check("!a\n! /b/\n!\n!!a\n!  # x", &["!a", "!b", "!", "!!a", "!# x"]);
        check("!/", &["!/"]);
    }

    #[test]
    fn long_lines() {
        let mut long = "a".repeat(65535);
        assert!(read(long.as_bytes()).is_ok());
        long.push('\n');
        assert!(read(long.as_bytes()).is_ok());
        long.insert(0, 'a');
        assert_eq!(read(format!("x\n{long}").as_bytes()), Err(IgnoreError { line: 2 }));
    }
}
