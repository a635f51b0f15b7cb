//! Lexical paths as Go's `path` package treats them, on bytes: file names need not be UTF-8. BuildKit's formulas (spec C.1, C.2)
//! are written in terms of these functions, and `std::path` differs (it keeps `..`, and drops `/.`).
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Go's `path.Clean`: no `.`, no doubled or trailing `/`, `..` applied lexically, empty becomes `.`.
pub fn clean(path: &[u8]) -> Vec<u8> {
    let rooted = path.first() == Some(&b'/');
    let mut parts: Vec<&[u8]> = Vec::new();
    for part in path.split(|b| *b == b'/') {
        match part {
            b"" | b"." => {}
            b".." => match parts.last() {
                Some(last) if *last != b".." => {
                    parts.pop();
                }
                _ if rooted => {}
                _ => parts.push(part),
            },
            _ => parts.push(part),
        }
    }
    let mut out = Vec::with_capacity(path.len());
    if rooted {
        out.push(b'/');
    }
    out.extend_from_slice(&parts.join(&b'/'));
    if out.is_empty() {
        out.push(b'.');
    }
    out
}

/// `path` anchored at `/`, then cleaned: `..` can never climb out (GHSA-32pv-7hq5-qhwq).
pub fn anchor(path: &[u8]) -> Vec<u8> {
    let mut rooted = Vec::with_capacity(path.len() + 1);
    rooted.push(b'/');
    rooted.extend_from_slice(path);
    clean(&rooted)
}

/// Anchored and cleaned, but a trailing `/` or `/.` of the original is kept (BuildKit's FileOp keeps them; they change what a copy means).
pub fn anchor_keep_tail(path: &[u8]) -> Vec<u8> {
    let mut out = anchor(path);
    if path.ends_with(b"/.") {
        if out != b"/" {
            out.push(b'/');
        }
        out.push(b'.');
    } else if path.ends_with(b"/") && out != b"/" {
        out.push(b'/');
    }
    out
}

/// Last component of a cleaned path: Go's `path.Base`.
pub fn base(path: &[u8]) -> &[u8] {
    if path.is_empty() {
        return b".";
    }
    let end = path.iter().rposition(|b| *b != b'/').map_or(0, |i| i + 1);
    let trimmed = &path[..end];
    if trimmed.is_empty() {
        return b"/";
    }
    trimmed.rsplit(|b| *b == b'/').next().unwrap_or(trimmed)
}

/// Everything before the last component of a clean path: Go's `path.Dir`.
pub fn dir(path: &[u8]) -> Vec<u8> {
    match path.iter().rposition(|b| *b == b'/') {
        Some(at) => clean(&path[..=at]),
        None => b".".to_vec(),
    }
}

/// `left/right`, cleaned: Go's `path.Join`.
pub fn join(left: &[u8], right: &[u8]) -> Vec<u8> {
    if left.is_empty() && right.is_empty() {
        return Vec::new();
    }
    if left.is_empty() {
        return clean(right);
    }
    let mut out = left.to_vec();
    out.push(b'/');
    out.extend_from_slice(right);
    clean(&out)
}

pub(crate) fn bytes(path: &Path) -> &[u8] {
    path.as_os_str().as_bytes()
}

pub(crate) fn owned(bytes: &[u8]) -> PathBuf {
    PathBuf::from(OsStr::from_bytes(bytes))
}

pub(crate) fn os(bytes: &[u8]) -> &OsStr {
    OsStr::from_bytes(bytes)
}

/// A clean absolute path as the kernel wants it below a descriptor: without the leading `/`, `.` for the root.
pub(crate) fn relative(path: &[u8]) -> &[u8] {
    let start = path.iter().position(|b| *b != b'/').unwrap_or(path.len());
    if path[start..].is_empty() { b"." } else { &path[start..] }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clean_follows_go() {
        for (input, want) in [
            ("", "."),
            ("/", "/"),
            ("//a//b/", "/a/b"),
            ("a/./b", "a/b"),
            ("a/../b", "b"),
            ("../a", "../a"),
            ("/../a", "/a"),
            ("a/../../b", "../b"),
            ("./.", "."),
            ("/a/b/../../..", "/"),
        ] {
            assert_eq!(clean(input.as_bytes()), want.as_bytes(), "{input}");
        }
    }

    #[test]
    fn anchored_paths_never_climb() {
        assert_eq!(anchor(b"../../etc"), b"/etc");
        assert_eq!(anchor(b".."), b"/");
        assert_eq!(anchor_keep_tail(b"a/"), b"/a/");
        assert_eq!(anchor_keep_tail(b"a/."), b"/a/.");
        assert_eq!(anchor_keep_tail(b"/."), b"/.");
        assert_eq!(anchor_keep_tail(b"/"), b"/");
    }

    #[test]
    fn base_dir_join() {
        assert_eq!(base(b"/a/b/"), b"b");
        assert_eq!(base(b"/"), b"/");
        assert_eq!(base(b""), b".");
        assert_eq!(dir(b"/a"), b"/");
        assert_eq!(dir(b"a"), b".");
        assert_eq!(join(b"/a", b"../b"), b"/b");
        assert_eq!(relative(b"/"), b".");
    }
}
