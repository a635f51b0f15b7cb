//! Go's `path.Match`, on bytes: `*` and `?` stop at `/`, `[a-z]` and `[^a-z]` classes, `\` escapes. BuildKit matches wildcards of COPY, ADD
//! and rm with it.
use crate::{Error, Result};

/// True when `pattern` matches all of `name`.
///
/// # Errors
/// [`Error::BadPattern`]: an open `[`, a trailing `\`, an empty range.
pub fn glob_match(pattern: impl AsRef<[u8]>, name: impl AsRef<[u8]>) -> Result<bool> {
    let pattern = pattern.as_ref();
    validate(pattern)?;
    Ok(matches(pattern, name.as_ref()))
}

/// True when a path contains a wildcard that is not escaped.
pub(crate) fn has_wildcard(text: &[u8]) -> bool {
    let mut bytes = text.iter();
    while let Some(byte) = bytes.next() {
        match byte {
            b'\\' => {
                bytes.next();
            }
            b'*' | b'?' | b'[' => return true,
            _ => {}
        }
    }
    false
}

/// Splits a path before its first component with a wildcard. The second part is empty when there is none.
pub(crate) fn split_wildcard(path: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let clean = crate::path::clean(path);
    let parts: Vec<&[u8]> = clean.split(|b| *b == b'/').collect();
    let at = parts.iter().position(|p| has_wildcard(p)).unwrap_or(parts.len());
    let mut fixed = parts[..at].join(&b'/');
    if fixed.is_empty() && clean.first() == Some(&b'/') {
        fixed.push(b'/');
    }
    (fixed, parts[at..].join(&b'/'))
}

pub(crate) fn validate(pattern: &[u8]) -> Result<()> {
    let bad = |reason| Error::BadPattern { pattern: String::from_utf8_lossy(pattern).into_owned(), reason };
    let mut at = 0;
    while at < pattern.len() {
        match pattern[at] {
            b'\\' => {
                if at + 1 == pattern.len() {
                    return Err(bad("it ends in a lone `\\`"));
                }
                at += 2;
            }
            b'[' => match class(&pattern[at..], None) {
                Some((length, _)) => at += length,
                None => return Err(bad("a `[` has no valid class behind it")),
            },
            _ => at += 1,
        }
    }
    Ok(())
}

/// Backtracks to the last `*` only: linear in pattern times name, whatever the pattern.
fn matches(pattern: &[u8], name: &[u8]) -> bool {
    let (mut p, mut n) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    loop {
        if p < pattern.len() && pattern[p] == b'*' {
            star = Some((p + 1, n));
            p += 1;
            continue;
        }
        if p == pattern.len() && n == name.len() {
            return true;
        }
        if p < pattern.len()
            && n < name.len()
            && let Some((plen, nlen)) = one(&pattern[p..], &name[n..])
        {
            p += plen;
            n += nlen;
            continue;
        }
        match star {
            Some((after, from)) if from < name.len() && name[from] != b'/' => {
                let next = from + 1;
                star = Some((after, next));
                p = after;
                n = next;
            }
            _ => return false,
        }
    }
}

/// Matches one pattern element against the start of `name`: bytes used of both.
fn one(pattern: &[u8], name: &[u8]) -> Option<(usize, usize)> {
    match pattern[0] {
        b'?' => (name[0] != b'/').then(|| (1, char_len(name))),
        b'[' => {
            let (length, hit) = class(pattern, Some(name))?;
            hit.then(|| (length, char_len(name)))
        }
        b'\\' => (pattern.get(1) == Some(&name[0])).then_some((2, 1)),
        byte => (byte == name[0]).then_some((1, 1)),
    }
}

/// Reads a class at the start of `pattern`: its length, and whether it holds the first character of `name`.
fn class(pattern: &[u8], name: Option<&[u8]>) -> Option<(usize, bool)> {
    let mut at = 1;
    let negated = pattern.get(at) == Some(&b'^');
    if negated {
        at += 1;
    }
    let wanted = name.map(|n| char_at(n).0);
    let mut hit = false;
    let mut ranges = 0;
    loop {
        if pattern.get(at)? == &b']' && ranges > 0 {
            at += 1;
            break;
        }
        let low = class_char(pattern, &mut at)?;
        let mut high = low;
        if pattern.get(at)? == &b'-' {
            at += 1;
            high = class_char(pattern, &mut at)?;
        }
        if let Some(wanted) = wanted {
            hit |= low <= wanted && wanted <= high;
        }
        ranges += 1;
    }
    Some((at, hit != negated))
}

fn class_char(pattern: &[u8], at: &mut usize) -> Option<u32> {
    match pattern.get(*at)? {
        b'-' | b']' => return None,
        b'\\' => *at += 1,
        _ => {}
    }
    let rest = pattern.get(*at..)?;
    if rest.is_empty() {
        return None;
    }
    let (value, length) = char_at(rest);
    *at += length;
    Some(value)
}

/// Length of the class at the start of `pattern`, brackets included.
pub(crate) fn class_len(pattern: &[u8]) -> Option<usize> {
    class(pattern, None).map(|(length, _)| length)
}

/// True when the first character of `name` is in `class`.
pub(crate) fn class_matches(pattern: &[u8], name: &[u8]) -> bool {
    class(pattern, Some(name)).is_some_and(|(_, hit)| hit)
}

pub(crate) fn char_len(text: &[u8]) -> usize {
    char_at(text).1
}

/// First character of `text` and its length; a byte that is not UTF-8 counts as U+FFFD of length 1, as in Go.
fn char_at(text: &[u8]) -> (u32, usize) {
    let length = match text[0] {
        0..=0x7f => 1,
        0xc2..=0xdf => 2,
        0xe0..=0xef => 3,
        0xf0..=0xf4 => 4,
        _ => return (0xfffd, 1),
    };
    match text.get(..length).and_then(|b| std::str::from_utf8(b).ok()).and_then(|s| s.chars().next()) {
        Some(c) => (c as u32, length),
        None => (0xfffd, 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matches_as_go_does() {
        for (pattern, name, want) in [
            ("abc", "abc", true),
            ("*", "abc", true),
            ("*c", "abc", true),
            ("a*", "a", true),
            ("a*", "ab/c", false),
            ("a*/b", "abc/b", true),
            ("a*/b", "a/c/b", false),
            ("a*b*c*d*e*/f", "axbxcxdxe/f", true),
            ("a*b?c*x", "abxbbxdbxebxczzx", true),
            ("ab[c]", "abc", true),
            ("ab[b-d]", "abc", true),
            ("ab[^c]", "abc", false),
            ("a\\*b", "a*b", true),
            ("a\\*b", "ab", false),
            ("a?b", "a☺b", true),
            ("a[^a]b", "a☺b", true),
            ("a???b", "a☺b", false),
            ("a?b", "a/b", false),
            ("a*b", "a/b", false),
            ("[\\]a]", "]", true),
            ("[x\\-]", "-", true),
            ("*x", "xxx", true),
            ("", "", true),
            ("*", "", true),
            ("*", "a/b", false),
        ] {
            assert_eq!(glob_match(pattern, name).unwrap(), want, "{pattern} {name}");
        }
        for bad in ["[]a]", "[-]", "[x-]", "[-x]", "[a-b-c]", "[", "[^", "a[", "a\\"] {
            assert!(glob_match(bad, "a").is_err(), "{bad}");
        }
    }

    #[test]
    fn splitting() {
        assert_eq!(split_wildcard(b"/a/b*/c"), (b"/a".to_vec(), b"b*/c".to_vec()));
        assert_eq!(split_wildcard(b"/*"), (b"/".to_vec(), b"*".to_vec()));
        assert_eq!(split_wildcard(b"/a/\\*"), (b"/a/\\*".to_vec(), Vec::new()));
    }

    #[test]
    fn many_stars_stay_fast() {
        let pattern = "a*".repeat(200) + "b";
        assert!(!glob_match(pattern, "a".repeat(2000)).unwrap());
    }
}
