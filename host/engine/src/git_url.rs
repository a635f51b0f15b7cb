//! Git repositories as a client writes them (spec B.1): `https://host/path.git`, `ssh://…`, `git://…`, `user@host:path`, `github.com/…`, with
//! `#ref:subdir` or a query, as the source operation that BuildKit's clients make of them.
//!
//! The Dockerfile frontend reads them too, for it may be told of contexts by others; that both say the same is tested by the vertex, which is one.
use std::collections::BTreeMap;

use rhost_llb::{SourceOp, attr, clean_path};

/// A repository, and what of it is wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GitUrl {
    /// What git is told.
    remote: String,
    /// Host and path, the same for all protocols.
    place: String,
    ssh: bool,
    reference: String,
    subdir: String,
    checksum: String,
    keep_git_dir: bool,
    no_submodules: bool,
    mtime: String,
    fetch_by_commit: bool,
}

/// The text before query and fragment, the query, the fragment.
fn split(text: &str) -> (&str, Option<&str>, &str) {
    let (text, fragment) = text.split_once('#').unwrap_or((text, ""));
    match text.split_once('?') {
        Some((text, query)) => (text, Some(query), fragment),
        None => (text, None, fragment),
    }
}

/// `%XX` replaced; `None` if malformed or not UTF-8.
fn percent_decode(text: &str) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
        match byte {
            b'%' => out.push((digit(bytes.next())? * 16 + digit(bytes.next())?) as u8),
            byte => out.push(byte),
        }
    }
    String::from_utf8(out).ok()
}

fn is_true(text: &str) -> Option<bool> {
    match text {
        "" | "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

impl GitUrl {
    /// Reads a context; `None` if it is no repository.
    ///
    /// # Errors
    /// It is one, but its query is wrong; the text says how.
    pub fn parse(text: &str) -> Result<Option<Self>, String> {
        if text.starts_with("github.com/") {
            return Self::build("https", text).map(Some);
        }
        if text.starts_with("./") || text.starts_with("../") {
            return Ok(None);
        }
        let Some((scheme, rest)) = text.split_once("://") else { return Self::from_scp(text) };
        let scheme = scheme.to_lowercase();
        let path = split(rest).0.split_once('/').map_or("", |(_, path)| path);
        match scheme.as_str() {
            "git" | "ssh" => {}
            "http" | "https" if path.ends_with(".git") => {}
            _ => return Ok(None),
        }
        Self::build(&scheme, rest).map(Some)
    }

    fn build(scheme: &str, rest: &str) -> Result<Self, String> {
        let (plain, query, fragment) = split(rest);
        let (authority, path) = plain.split_once('/').unwrap_or((plain, ""));
        let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
        let path = percent_decode(path).unwrap_or_else(|| path.to_owned());
        let found = Self {
            remote: format!("{scheme}://{plain}"),
            place: format!("{host}{}", clean_path("/", &path)),
            ssh: scheme == "ssh",
            ..Self::default()
        };
        found.refined(query, fragment)
    }

    fn from_scp(text: &str) -> Result<Option<Self>, String> {
        let word = |text: &str, also: &[u8]| {
            !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || also.contains(&b))
        };
        let Some((user, rest)) = text.split_once('@') else { return Ok(None) };
        let Some((host, rest)) = rest.split_once(':') else { return Ok(None) };
        if !word(user, b"_") || !word(host, b".") {
            return Ok(None);
        }
        let (path, query, fragment) = split(rest);
        let found = Self {
            remote: format!("{user}@{host}:{path}"),
            place: format!("{host}{}", clean_path("/", path)),
            ssh: true,
            ..Self::default()
        };
        found.refined(query, fragment).map(Some)
    }

    fn refined(mut self, query: Option<&str>, fragment: &str) -> Result<Self, String> {
        let fragment = percent_decode(fragment).unwrap_or_else(|| fragment.to_owned());
        let (reference, subdir) = fragment.split_once(':').unwrap_or((&fragment, ""));
        reference.clone_into(&mut self.reference);
        clean_path("/", subdir)[1..].clone_into(&mut self.subdir);
        let mut values = BTreeMap::new();
        for pair in query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let decode = |text: &str| {
                percent_decode(&text.replace('+', " ")).ok_or_else(|| format!("its query is malformed at `{text}`"))
            };
            let key = decode(key)?;
            if values.insert(key.clone(), decode(value)?).is_some() {
                return Err(format!("its query has `{key}` twice"));
            }
        }
        let mut wanted: Option<String> = None;
        for (key, value) in values {
            let flag = || {
                is_true(&value).ok_or_else(|| format!("its query has `{key}={value}`, which is neither true nor false"))
            };
            let optional = matches!(key.as_str(), "submodules" | "keep-git-dir" | "fetch-by-commit");
            if value.is_empty() && !optional {
                return Err(format!("its query has no value for `{key}`"));
            }
            let full =
                |prefix: &str| if value.starts_with(prefix) { value.clone() } else { format!("{prefix}{value}") };
            let reference = match key.as_str() {
                "ref" => value.clone(),
                "tag" => full("refs/tags/"),
                "branch" => full("refs/heads/"),
                "subdir" if self.subdir.is_empty() || self.subdir == value => {
                    self.subdir = value;
                    continue;
                }
                "subdir" => {
                    return Err(format!("its query wants the directory `{value}`, its fragment `{}`", self.subdir));
                }
                "checksum" | "commit" => {
                    self.checksum = value;
                    continue;
                }
                "keep-git-dir" => {
                    self.keep_git_dir = flag()?;
                    continue;
                }
                "submodules" => {
                    self.no_submodules = !flag()?;
                    continue;
                }
                "fetch-by-commit" => {
                    self.fetch_by_commit = flag()?;
                    continue;
                }
                "mtime" if matches!(value.as_str(), "checkout" | "commit") => {
                    self.mtime = value;
                    continue;
                }
                "mtime" => return Err(format!("its query has `mtime={value}`: wanted checkout or commit")),
                other => {
                    return Err(format!(
                        "its query has an unknown key `{other}`: there are ref, tag, branch, subdir, checksum, commit, keep-git-dir, submodules, mtime, fetch-by-commit"
                    ));
                }
            };
            let before = wanted.as_ref().or(Some(&self.reference).filter(|reference| !reference.is_empty()));
            if let Some(before) = before.filter(|before| **before != reference) {
                return Err(format!("its query wants `{reference}`, but also `{before}` is wanted"));
            }
            wanted = Some(reference);
        }
        self.reference = wanted.unwrap_or(self.reference);
        Ok(self)
    }

    /// The source operation. `keep` keeps `.git`, `dated` gives files the time of the commit where the URL does not say.
    pub fn op(&self, keep: bool, dated: bool) -> SourceOp {
        let mut identifier = format!("git://{}", self.place);
        if !self.reference.is_empty() || !self.subdir.is_empty() {
            identifier.push_str(&format!("#{}", self.reference));
            if !self.subdir.is_empty() {
                identifier.push_str(&format!(":{}", self.subdir));
            }
        }
        let mtime = if self.mtime.is_empty() && dated { "commit" } else { &self.mtime };
        let attrs = [
            (true, attr::GIT_FULL_URL, self.remote.as_str()),
            (true, attr::GIT_AUTH_TOKEN_SECRET, "GIT_AUTH_TOKEN"),
            (true, attr::GIT_AUTH_HEADER_SECRET, "GIT_AUTH_HEADER"),
            (keep || self.keep_git_dir, attr::GIT_KEEP_DIR, "true"),
            (self.ssh, attr::GIT_MOUNT_SSH_SOCK, "default"),
            (!self.checksum.is_empty(), attr::GIT_CHECKSUM, self.checksum.as_str()),
            (self.no_submodules, attr::GIT_SKIP_SUBMODULES, "true"),
            (!mtime.is_empty(), attr::GIT_MTIME, mtime),
            (self.fetch_by_commit, attr::GIT_FETCH_BY_COMMIT, "true"),
        ];
        let attrs = attrs.into_iter().filter(|(wanted, ..)| *wanted);
        let attrs = attrs.map(|(_, name, value)| (name.to_owned(), value.to_owned())).collect();
        SourceOp { identifier, attrs }
    }
}

#[cfg(test)]
mod tests {
    use super::GitUrl;

    #[test]
    fn repositories_and_what_is_none() {
        for text in
            ["git@h:x/y", "ssh://h/x", "git://h/x", "https://h/x.git#main", "http://h/x.git?ref=a", "github.com/a/b"]
        {
            assert!(GitUrl::parse(text).unwrap().is_some(), "{text}");
        }
        for text in ["a", "a@b", "https://h/x", "https://h.git", "./a@b:c/", "c:/x", "."] {
            assert!(GitUrl::parse(text).unwrap().is_none(), "{text}");
        }
    }

    #[test]
    fn the_operation_says_what_was_written() {
        let git = GitUrl::parse("https://u@h/x.git?branch=b&keep-git-dir&submodules=false#:/a/../d").unwrap().unwrap();
        let op = git.op(false, true);
        assert_eq!(op.identifier, "git://h/x.git#refs/heads/b:d");
        let attr = |name: &str| op.attrs.get(name).map(String::as_str);
        assert_eq!(attr("git.fullurl"), Some("https://u@h/x.git"));
        assert_eq!((attr("git.keepgitdir"), attr("git.skipsubmodules")), (Some("true"), Some("true")));
        assert_eq!((attr("git.mtime"), attr("git.mountsshsock")), (Some("commit"), None));
        let ssh = GitUrl::parse("git@h:team/x.git#v1").unwrap().unwrap().op(false, false);
        assert_eq!(
            (ssh.identifier.as_str(), ssh.attrs["git.mountsshsock"].as_str()),
            ("git://h/team/x.git#v1", "default")
        );
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
            assert!(GitUrl::parse(&format!("https://h/x.git{bad}")).is_err(), "{bad}");
        }
    }
}
