//! Slash paths as values: cleaning and joining, never touching a file system.

/// The shortest path that names the same thing: no `.`, no doubled `/`, `..` resolved. The empty path becomes `.`.
pub fn clean(path: &str) -> String {
    let rooted = path.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => match parts.last() {
                Some(&"..") | None if !rooted => parts.push(".."),
                Some(_) => {
                    parts.pop();
                }
                None => {}
            },
            _ => parts.push(part),
        }
    }
    let joined = parts.join("/");
    match (rooted, joined.is_empty()) {
        (true, _) => format!("/{joined}"),
        (false, true) => ".".into(),
        (false, false) => joined,
    }
}

/// The non-empty parts with `/` between them, cleaned; the empty path if all are empty.
pub fn join(parts: &[&str]) -> String {
    let joined = parts.iter().filter(|p| !p.is_empty()).copied().collect::<Vec<_>>().join("/");
    if joined.is_empty() { joined } else { clean(&joined) }
}

/// Last part of a path; `.` for the empty path, `/` for the root.
pub fn base(path: &str) -> &str {
    if path.is_empty() {
        return ".";
    }
    match path.trim_end_matches('/') {
        "" => "/",
        trimmed => trimmed.rsplit('/').next().unwrap_or(trimmed),
    }
}

/// Everything before the last part, cleaned.
pub fn dir(path: &str) -> String {
    match path.rsplit_once('/') {
        Some((dir, _)) => clean(if dir.is_empty() { "/" } else { dir }),
        None => ".".into(),
    }
}

/// `path` seen from `parent`, not cleaned when it is absolute already; with `keep_slash`, a trailing `/` or `/.` (which says
/// "directory" to a copy) survives.
pub fn absolute(parent: &str, path: &str, keep_slash: bool) -> String {
    let parent = if parent.starts_with('/') { parent.to_owned() } else { join(&["/", parent]) };
    let mut out = match path {
        "" => parent,
        p if p.starts_with('/') => p.to_owned(),
        p => join(&[&parent, p]),
    };
    if keep_slash {
        if path.ends_with('/') && !out.ends_with('/') {
            out.push('/');
        } else if path.ends_with("/.") && !out.ends_with("/.") {
            if out != "/" {
                out.push('/');
            }
            out.push('.');
        }
    }
    out
}

/// The destination of a copy as LLB has it: clean, but a trailing `/` or `/.` survives.
pub fn clean_keep_slash(path: &str) -> String {
    let mut out = clean(path);
    if path.ends_with('/') && !out.ends_with('/') {
        out.push('/');
    } else if path.ends_with("/.") {
        if out != "/" {
            out.push('/');
        }
        out.push('.');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cleaning() {
        for (path, wanted) in [
            ("", "."),
            ("/", "/"),
            ("a//b/./c/..", "a/b"),
            ("/../a", "/a"),
            ("../a", "../a"),
            ("../../x", "../../x"),
            ("./", "."),
        ] {
            assert_eq!(clean(path), wanted, "{path}");
        }
        assert_eq!(join(&["/", "./a/"]), "/a");
        assert_eq!(join(&["", ""]), "");
    }

    #[test]
    fn seen_from_a_directory() {
        for (parent, path, wanted) in [
            ("/w", "x/", "/w/x/"),
            ("/w", "./", "/w/"),
            ("/w", ".", "/w"),
            ("/", "./", "/"),
            ("/w", "/a//b", "/a//b"),
            ("/w", "d/.", "/w/d/."),
        ] {
            assert_eq!(absolute(parent, path, true), wanted, "{parent} {path}");
        }
    }

    #[test]
    fn last_parts() {
        assert_eq!((base("/a/b/"), base("/"), base("")), ("b", "/", "."));
        assert_eq!((dir("/a/b"), dir("b"), dir("/b")), ("/a".into(), ".".into(), "/".into()));
    }
}
