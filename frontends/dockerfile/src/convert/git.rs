//! Git repositories as sources: `https://host/path.git`, `ssh://…`, `git://…`, `user@host:path`, with `#ref:subdir` or a query
//! (spec B.1). Host keys for ssh are not looked up here, since that takes the network; whoever fetches has to.

use std::borrow::Cow;
use std::collections::BTreeMap;

use crate::convert::error::ConvertError;
use crate::convert::golang::parse_bool;
use crate::convert::graph::{Graph, Meta, Op, Output, Source};
use crate::convert::paths;

/// A repository and what of it is wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GitRef {
    /// What git is told.
    pub remote: String,
    /// Host and path, the same for all protocols.
    place: String,
    ssh: bool,
    /// Branch, tag or commit; empty for the default.
    pub reference: String,
    /// Directory in the repository, or empty.
    pub subdir: String,
    /// Commit that it must be, or empty.
    pub checksum: String,
    /// Keep `.git`; `None` leaves it open.
    pub keep_git_dir: Option<bool>,
    submodules: Option<bool>,
    mtime: String,
    fetch_by_commit: bool,
}

fn split(text: &str) -> (&str, Option<&str>, &str) {
    let (text, fragment) = text.split_once('#').unwrap_or((text, ""));
    match text.split_once('?') {
        Some((text, query)) => (text, Some(query), fragment),
        None => (text, None, fragment),
    }
}

/// `%XX` replaced; `None` if malformed or not UTF-8.
pub(crate) fn percent_decode(text: &str) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(b) = bytes.next() {
        if b != b'%' {
            out.push(b);
            continue;
        }
        let high = char::from(bytes.next()?).to_digit(16)?;
        let low = char::from(bytes.next()?).to_digit(16)?;
        out.push(u8::try_from(high * 16 + low).ok()?);
    }
    String::from_utf8(out).ok()
}

/// `text` without user and password where it is a URL that has them: it goes into the image for all to read. (BuildKit leaves them there.)
pub(crate) fn without_password(text: &str) -> Cow<'_, str> {
    let Some((scheme, rest)) = text.split_once("://") else { return text.into() };
    let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    match authority.rsplit_once('@') {
        // With ssh a name alone says which door, not who.
        Some((user, host)) if !scheme.eq_ignore_ascii_case("ssh") || user.contains(':') => {
            format!("{scheme}://xxxxx:xxxxx@{host}{path}").into()
        }
        _ => text.into(),
    }
}

impl GitRef {
    /// Reads a source; `None` if it is no repository.
    ///
    /// # Errors
    /// When it is one, but its query is wrong.
    pub fn parse(text: &str) -> Result<Option<Self>, ConvertError> {
        if text.starts_with("./") || text.starts_with("../") {
            return Ok(None);
        }
        let scheme =
            text.split_once("://").filter(|(s, _)| !s.is_empty() && s.bytes().all(|b| b.is_ascii_alphanumeric()));
        match scheme {
            Some((scheme, rest)) => Self::from_url(&scheme.to_lowercase(), rest),
            None => Self::from_scp(text),
        }
    }

    /// As [`GitRef::parse`], but `github.com/…` is a repository too, as it is for build contexts.
    ///
    /// # Errors
    /// As [`GitRef::parse`].
    pub fn parse_context(text: &str) -> Result<Option<Self>, ConvertError> {
        if text.starts_with("github.com/") {
            return Self::build("https", text).map(Some);
        }
        Self::parse(text)
    }

    fn from_url(scheme: &str, rest: &str) -> Result<Option<Self>, ConvertError> {
        let path = split(rest).0.split_once('/').map_or("", |(_, path)| path);
        match scheme {
            "git" | "ssh" => {}
            "http" | "https" if path.ends_with(".git") => {}
            _ => return Ok(None),
        }
        Self::build(scheme, rest).map(Some)
    }

    fn build(scheme: &str, rest: &str) -> Result<Self, ConvertError> {
        let (plain, query, fragment) = split(rest);
        let (authority, path) = plain.split_once('/').unwrap_or((plain, ""));
        let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
        let path = percent_decode(path).unwrap_or_else(|| path.to_owned());
        let mut out = Self {
            remote: format!("{scheme}://{plain}"),
            place: format!("{host}{}", paths::join(&["/", &path])),
            ssh: scheme == "ssh",
            ..Self::default()
        };
        out.read_fragment(fragment);
        out.read_query(query)?;
        Ok(out)
    }

    fn from_scp(text: &str) -> Result<Option<Self>, ConvertError> {
        let word = |s: &str, also: &[u8]| {
            !s.is_empty() && s.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || also.contains(&b))
        };
        let Some((user, rest)) = text.split_once('@') else { return Ok(None) };
        let Some((host, rest)) = rest.split_once(':') else { return Ok(None) };
        if !word(user, b"_") || !word(host, b".") {
            return Ok(None);
        }
        let (path, query, fragment) = split(rest);
        let mut out = Self {
            remote: format!("{user}@{host}:{path}"),
            place: format!("{host}{}", paths::join(&["/", path])),
            ssh: true,
            ..Self::default()
        };
        out.read_fragment(fragment);
        out.read_query(query)?;
        Ok(Some(out))
    }

    fn read_fragment(&mut self, fragment: &str) {
        let fragment = percent_decode(fragment).unwrap_or_else(|| fragment.to_owned());
        let (reference, subdir) = fragment.split_once(':').unwrap_or((&fragment, ""));
        reference.clone_into(&mut self.reference);
        paths::join(&["/", subdir])[1..].clone_into(&mut self.subdir);
    }

    fn read_query(&mut self, query: Option<&str>) -> Result<(), ConvertError> {
        let wrong = |message: String| ConvertError::instruction(format!("the query of the repository {message}"));
        let mut values: BTreeMap<String, String> = BTreeMap::new();
        for pair in query.unwrap_or_default().split('&').filter(|p| !p.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let decode =
                |s: &str| percent_decode(&s.replace('+', " ")).ok_or_else(|| wrong(format!("is malformed at `{s}`")));
            let key = decode(key)?;
            if values.insert(key.clone(), decode(value)?).is_some() {
                return Err(wrong(format!("has `{key}` twice")));
            }
        }
        let mut wanted: Option<String> = None;
        for (key, value) in &values {
            let flag = || match value.as_str() {
                "" => Ok(true),
                v => parse_bool(v).ok_or_else(|| wrong(format!("has `{key}={v}`, which is neither true nor false"))),
            };
            if value.is_empty() && !matches!(key.as_str(), "submodules" | "keep-git-dir" | "fetch-by-commit") {
                return Err(wrong(format!("has no value for `{key}`")));
            }
            let full = |prefix: &str| {
                if value.starts_with(prefix) { value.clone() } else { format!("{prefix}{value}") }
            };
            let reference = match key.as_str() {
                "ref" => Some(value.clone()),
                "tag" => Some(full("refs/tags/")),
                "branch" => Some(full("refs/heads/")),
                "subdir" => {
                    if !self.subdir.is_empty() && self.subdir != *value {
                        return Err(wrong(format!("wants the directory `{value}`, the fragment `{}`", self.subdir)));
                    }
                    self.subdir.clone_from(value);
                    None
                }
                "checksum" | "commit" => {
                    self.checksum.clone_from(value);
                    None
                }
                "keep-git-dir" => {
                    self.keep_git_dir = Some(flag()?);
                    None
                }
                "submodules" => {
                    self.submodules = Some(flag()?);
                    None
                }
                "fetch-by-commit" => {
                    self.fetch_by_commit = flag()?;
                    None
                }
                "mtime" if matches!(value.as_str(), "checkout" | "commit") => {
                    self.mtime.clone_from(value);
                    None
                }
                "mtime" => return Err(wrong(format!("has `mtime={value}`: wanted checkout or commit"))),
                other => return Err(wrong(format!("has an unknown key `{other}`"))),
            };
            if let Some(reference) = reference {
                let before = wanted.as_ref().or(Some(&self.reference).filter(|r| !r.is_empty()));
                if let Some(before) = before.filter(|b| **b != reference) {
                    return Err(wrong(format!("wants `{reference}`, but also `{before}` is wanted")));
                }
                wanted = Some(reference);
            }
        }
        if let Some(reference) = wanted {
            self.reference = reference;
        }
        Ok(())
    }

    /// The same with files dated when they are checked out.
    #[must_use]
    pub fn undated(mut self) -> Self {
        self.mtime.clear();
        self
    }

    /// The same with files that have the time of the commit.
    #[must_use]
    pub fn dated(&self) -> Self {
        Self { mtime: "commit".into(), ..self.clone() }
    }

    /// The source operation. `keep` keeps `.git`.
    pub fn op(&self, keep: bool) -> Op {
        let mut identifier = format!("git://{}", self.place);
        if !self.reference.is_empty() || !self.subdir.is_empty() {
            identifier.push_str(&format!("#{}", self.reference));
            if !self.subdir.is_empty() {
                identifier.push_str(&format!(":{}", self.subdir));
            }
        }
        let mut attrs = BTreeMap::new();
        let mut set = |key: &str, value: &str| _ = attrs.insert(format!("git.{key}"), value.to_owned());
        set("fullurl", &self.remote);
        set("authtokensecret", "GIT_AUTH_TOKEN");
        set("authheadersecret", "GIT_AUTH_HEADER");
        for (wanted, key, value) in [
            (keep, "keepgitdir", "true"),
            (self.ssh, "mountsshsock", "default"),
            (!self.checksum.is_empty(), "checksum", self.checksum.as_str()),
            (self.submodules == Some(false), "skipsubmodules", "true"),
            (!self.mtime.is_empty(), "mtime", self.mtime.as_str()),
            (self.fetch_by_commit, "fetchbycommit", "true"),
        ] {
            if wanted {
                set(key, value);
            }
        }
        Op::Source(Source { identifier, attrs, platform: None })
    }

    /// The node of a repository that is a context. `dated` gives its files the time of the commit.
    pub fn add_context(&self, graph: &mut Graph, text: &str, keep: bool, dated: bool) -> Output {
        let mut git = self.clone();
        if git.mtime.is_empty() && dated {
            git.mtime = "commit".into();
        }
        let op = git.op(keep || self.keep_git_dir == Some(true));
        graph.add(op, Meta::named(format!("[internal] load git source {text}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Option<GitRef> {
        GitRef::parse(text).unwrap()
    }

    #[test]
    fn kinds_of_sources() {
        for text in [
            "git@host:x/y",
            "ssh://h/x",
            "git://h/x",
            "https://h/x.git",
            "https://h/x.git#main",
            "http://h/x.git?ref=a",
        ] {
            assert!(parse(text).is_some(), "{text}");
        }
        for text in ["a", "a@b", "https://h/x", "https://h.git", "./a@b:c/", "c:/x", "github.com/a/b"] {
            assert!(parse(text).is_none(), "{text}");
        }
        let shorthand = GitRef::parse_context("github.com/a/b#v1").unwrap().unwrap();
        assert_eq!(shorthand.remote, "https://github.com/a/b");
    }

    #[test]
    fn passwords_stay_out_of_images() {
        assert_eq!(without_password("https://me:pw@h/x.git#a@b"), "https://xxxxx:xxxxx@h/x.git#a@b");
        assert_eq!(without_password("https://token@h"), "https://xxxxx:xxxxx@h");
        for text in ["ssh://git@h/x", "git@h:x", "https://h/a@b", "a@b://c", "file"] {
            assert_eq!(without_password(text), text);
        }
    }

    #[test]
    fn fragments_and_queries() {
        let git = parse("https://u@h/x.git?branch=b&keep-git-dir&submodules=false#:/a/../d").unwrap();
        assert_eq!((git.reference.as_str(), git.subdir.as_str(), git.keep_git_dir), ("refs/heads/b", "d", Some(true)));
        let Op::Source(source) = git.op(true) else { panic!() };
        assert_eq!(source.identifier, "git://h/x.git#refs/heads/b:d");
        assert_eq!(source.attrs["git.fullurl"], "https://u@h/x.git");
        for bad in [
            "?ref=a&ref=b",
            "?ref=",
            "?what=1",
            "?mtime=x",
            "?ref=a#b",
            "?tag=a&branch=b",
            "?subdir=a#:b",
            "?submodules=x",
        ] {
            assert!(GitRef::parse(&format!("https://h/x.git{bad}")).is_err(), "{bad}");
        }
    }
}
