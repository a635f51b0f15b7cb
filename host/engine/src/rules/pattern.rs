//! Globs of rules, over names that have parts: `registry.example/team/*`, `build/**/*.star`.
use std::fmt;

use rhost_rootfs::glob_match;

/// A glob. `*`, `?` and `[…]` stay within a part, `**` is any number of parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Glob {
    text: String,
    parts: Vec<String>,
}

impl Glob {
    /// Reads one.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let parts: Vec<String> = text.split('/').map(str::to_owned).collect();
        if parts.iter().any(String::is_empty) {
            return Err(format!("`{text}` is no pattern: a part between two `/` is empty"));
        }
        if parts.len() > 64 || text.len() > 1024 {
            return Err("the pattern is longer than any name".into());
        }
        for part in &parts {
            if part.contains("**") && part != "**" {
                return Err(format!("`{text}` is no pattern: `**` stands for whole parts of a name, as in `a/**/b`"));
            }
            glob_match(part, "").map_err(|error| error.to_string())?;
        }
        Ok(Self { text: text.to_owned(), parts })
    }

    /// Whether it has directories in it.
    pub(crate) fn is_path(&self) -> bool {
        self.parts.len() > 1
    }

    /// Whether it is all of `name`.
    pub(crate) fn matches(&self, name: &str) -> bool {
        let name: Vec<&str> = name.split('/').collect();
        matched(&self.parts, &name, false)
    }

    /// Whether it is `name` or something above it.
    pub(crate) fn covers(&self, name: &str) -> bool {
        let name: Vec<&str> = name.split('/').collect();
        matched(&self.parts, &name, true)
    }
}

impl fmt::Display for Glob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// `below`: what is left of the name does not matter. Row by row, so that many `**` cost no more than pattern times name.
fn matched(parts: &[String], name: &[&str], below: bool) -> bool {
    // reached[i]: the parts so far can be the first i of the name.
    let mut reached = vec![false; name.len() + 1];
    reached[0] = true;
    for part in parts {
        let mut next = vec![false; name.len() + 1];
        if part == "**" {
            let mut any = false;
            for (at, was) in reached.iter().enumerate() {
                any |= was;
                next[at] = any;
            }
        } else {
            for (at, found) in name.iter().enumerate() {
                next[at + 1] = reached[at] && glob_match(part, found).unwrap_or(false);
            }
        }
        reached = next;
    }
    if below { reached.contains(&true) } else { reached[name.len()] }
}

/// A glob over images: registry and repository, with defaults as references have them, and perhaps a tag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ImageGlob {
    text: String,
    name: Glob,
    tag: Option<Glob>,
}

impl ImageGlob {
    /// Reads one: `registry.example` and `registry.example/team` are all below them, `debian` is `docker.io/library/debian`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        if text.contains("://") || text.contains('@') {
            return Err(format!("`{text}`: wanted registry and repository, without scheme or digest"));
        }
        let last = text.rfind('/').map_or(0, |at| at + 1);
        // A port is not a tag: `registry.example:5000` alone is a registry.
        let (name, tag) = match text[last..].split_once(':') {
            Some((head, tag)) if last > 0 || !tag.bytes().all(|byte| byte.is_ascii_digit()) => {
                (&text[..last + head.len()], Some(Glob::parse(tag)?))
            }
            _ => (text, None),
        };
        let first = name.split('/').next().unwrap_or_default();
        let is_host = first == "localhost" || first.contains(['.', ':', '*', '?', '[']);
        let whole = match (is_host, name.contains('/')) {
            (true, _) => name.to_owned(),
            (false, true) => format!("docker.io/{name}"),
            (false, false) => format!("docker.io/library/{name}"),
        };
        Ok(Self { text: text.to_owned(), name: Glob::parse(&whole)?, tag })
    }

    /// Whether it is `name` (registry and repository) with `tag`, or something above it.
    pub(crate) fn covers(&self, name: &str, tag: Option<&str>) -> bool {
        match &self.tag {
            None => self.name.covers(name),
            Some(wanted) => self.name.matches(name) && tag.is_some_and(|tag| wanted.matches(tag)),
        }
    }
}

impl fmt::Display for ImageGlob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_matched_one_by_one() {
        let is = |pattern: &str, name: &str| Glob::parse(pattern).expect(pattern).matches(name);
        assert!(is("*.star", "Build.star") && !is("*.star", "a/Build.star") && !is("*.star", "Build.star.txt"));
        assert!(
            is("**/*.star", "Build.star")
                && is("**/*.star", "a/b/Build.star")
                && is("a/**", "a")
                && is("a/**/b", "a/b")
        );
        assert!(is("a/**/b/*.c", "a/x/y/b/z.c") && !is("a/**/b/*.c", "a/x/y/c/z.c") && is("[ab]?", "bx"));
        for wrong in ["", "a//b", "/a", "a/", "a**", "[", "x\\"] {
            assert!(Glob::parse(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn many_stars_are_cheap() {
        let pattern = Glob::parse(&["**/*a*"; 30].join("/")).expect("a pattern");
        assert!(!pattern.matches(&["aaab"; 400].join("/").replace('a', "b")));
    }

    #[test]
    fn an_image_pattern_covers_what_is_below_it() {
        let covers = |pattern: &str, name: &str, tag: &str| {
            ImageGlob::parse(pattern).expect(pattern).covers(name, (!tag.is_empty()).then_some(tag))
        };
        assert!(covers("registry.example", "registry.example/team/app", "1"));
        assert!(covers("registry.example:5000", "registry.example:5000/app", ""));
        assert!(!covers("registry.example", "registry.example.evil/app", "1"));
        assert!(covers("registry.example/team", "registry.example/team/app", "1"));
        assert!(!covers("registry.example/team", "registry.example/teams/app", "1"));
        assert!(covers("debian", "docker.io/library/debian", "12") && !covers("debian", "docker.io/debian", "12"));
        assert!(covers("debian:12*", "docker.io/library/debian", "12-slim"));
        assert!(
            !covers("debian:12*", "docker.io/library/debian", "13")
                && !covers("debian:12*", "docker.io/library/debian", "")
        );
        assert!(covers("*.example/**/app", "a.example/x/y/app", "") && covers("**", "docker.io/library/x", ""));
        assert!(ImageGlob::parse("docker-image://x").is_err() && ImageGlob::parse("x@sha256:0").is_err());
    }
}
