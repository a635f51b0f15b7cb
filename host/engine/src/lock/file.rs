//! `rhost.lock`: read strictly, since a stranger's change to it comes with a pull request, and written so that a change of one thing is a change of one line.
//!
//! Each kind of source has a table, each source one line in it: its name, and what the name stands for. Names are written in one form only (an image's in
//! full, a URL without credentials): another spelling would never be looked up, and is refused rather than passed over.
use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use rhost_llb::{BlobDigest, Digest};
use rhost_registry::{Reference, UrlRequest};
use serde::Deserialize;
use toml::Spanned;

use crate::file_name;
use crate::git::{GitSource, is_object};

/// The version that is written, and the newest that is read.
pub const VERSION: i64 = 1;
/// The file's name.
pub const FILE_NAME: &str = "rhost.lock";
/// Longest file, in bytes.
const LONGEST: u64 = 4 << 20;
/// Longest name of an entry, in bytes.
const LONGEST_NAME: usize = 8 << 10;

/// What kind of thing is locked; each has its table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LockKind {
    /// What `# syntax=` names.
    Frontend,
    /// A repository and a ref.
    Git,
    /// A file at a URL.
    Http,
    /// What `FROM` names.
    Image,
}

impl fmt::Display for LockKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Frontend => "frontend",
            Self::Git => "git",
            Self::Http => "http",
            Self::Image => "image",
        })
    }
}

/// Names an entry: `image docker.io/library/debian:12`, `git https://host/x.git#main`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LockKey {
    /// Its table.
    pub kind: LockKind,
    /// In its one form.
    pub name: String,
}

impl LockKey {
    /// Of this kind and name.
    pub fn new(kind: LockKind, name: impl Into<String>) -> Self {
        Self { kind, name: name.into() }
    }
}

impl fmt::Display for LockKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind, self.name)
    }
}

/// What a git ref stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GitPin {
    /// The commit, 40 or 64 hexadecimal digits.
    pub commit: String,
    /// The whole name of the ref: `refs/heads/main`; `HEAD` of a repository whose head is detached.
    pub reference: String,
    /// The tag object, where the ref is an annotated tag.
    pub tag: Option<String>,
}

/// What is at a URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpPin {
    /// Of the bytes.
    pub digest: Digest,
    /// `Last-Modified`, which becomes the file's time.
    pub modified: Option<Timestamp>,
    /// The name that the server gives it, where that is not how the URL ends.
    pub filename: Option<String>,
}

/// What a name stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pin {
    /// Of a frontend or an image: its manifest, or the index of all its platforms.
    Manifest(BlobDigest),
    /// Of a git ref.
    Git(GitPin),
    /// Of a URL.
    Http(HttpPin),
}

impl fmt::Display for Pin {
    /// The part that people compare.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Manifest(digest) => digest.fmt(f),
            Self::Git(pin) => f.write_str(&pin.commit),
            Self::Http(pin) => pin.digest.fmt(f),
        }
    }
}

/// What names stand for.
pub type Entries = BTreeMap<LockKey, Pin>;

/// A lock file as it was read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LockFile {
    /// Where it lies.
    pub path: PathBuf,
    /// What it says.
    pub entries: Entries,
    /// Where it says so, lines from 1.
    lines: BTreeMap<LockKey, u32>,
}

/// A lock file that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}{}: {reason}", path.display(), line.map(|line| format!(":{line}")).unwrap_or_default())]
pub struct LockError {
    /// The file.
    pub path: PathBuf,
    /// Its line, from 1.
    pub line: Option<u32>,
    /// What is wrong with it.
    pub reason: String,
    /// A way out.
    pub hint: Option<&'static str>,
}

/// The line that begins at or before byte `at`, from 1.
fn line_of(text: &str, at: usize) -> u32 {
    text.as_bytes().iter().take(at).filter(|byte| **byte == b'\n').count() as u32 + 1
}

#[derive(Deserialize)]
struct Head {
    version: Option<Spanned<i64>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    #[allow(dead_code)]
    version: i64,
    #[serde(default)]
    frontend: BTreeMap<Spanned<String>, BlobDigest>,
    #[serde(default)]
    git: BTreeMap<Spanned<String>, RawGit>,
    #[serde(default)]
    http: BTreeMap<Spanned<String>, RawHttp>,
    #[serde(default)]
    image: BTreeMap<Spanned<String>, BlobDigest>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawGit {
    commit: String,
    #[serde(rename = "ref")]
    reference: String,
    tag: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawHttp {
    digest: Digest,
    modified: Option<String>,
    filename: Option<String>,
}

fn reference(name: &str, digest: BlobDigest) -> Result<Pin, String> {
    let found: Reference = name.parse().map_err(|error: rhost_registry::ReferenceError| error.to_string())?;
    if found.digest().is_some() {
        return Err(format!("`{name}` has a digest of its own, and needs no entry"));
    }
    let full = found.tagged().to_string();
    if full != name { Err(format!("`{name}` is written `{full}` here")) } else { Ok(Pin::Manifest(digest)) }
}

/// The name of `reference` at the repository `url`.
pub fn git_name(url: &str, reference: &str) -> String {
    if reference.is_empty() { url.to_owned() } else { format!("{url}#{reference}") }
}

fn git(name: &str, raw: RawGit) -> Result<Pin, String> {
    let source = GitSource::named(name).map_err(|error| error.to_string())?;
    let full = git_name(&source.remote.url, &source.reference);
    if full != name || source.remote.login.is_some() {
        return Err(format!("`{}` is written `{}` here", rhost_registry::redact(name), rhost_registry::redact(&full)));
    }
    let wrong = |text: &str| Err(format!("`{text}` is no commit: wanted 40 or 64 hexadecimal digits, lower case"));
    for object in [Some(&raw.commit), raw.tag.as_ref()].into_iter().flatten() {
        if !is_object(object) || object.len() != raw.commit.len() {
            return wrong(object);
        }
    }
    crate::git::check_ref(&raw.reference).map_err(|error| error.to_string())?;
    if raw.reference != "HEAD" && !raw.reference.starts_with("refs/") {
        return Err(format!("`ref = {:?}` is no whole name of a ref: wanted refs/… or HEAD", raw.reference));
    }
    Ok(Pin::Git(GitPin { commit: raw.commit, reference: raw.reference, tag: raw.tag }))
}

fn http(name: &str, raw: RawHttp) -> Result<Pin, String> {
    let request = UrlRequest::new(name).map_err(|error| error.to_string())?;
    if request.plain() != name {
        return Err(format!("`{}` is written `{}` here", rhost_registry::redact(name), request.plain()));
    }
    let modified = raw.modified.map(|text| {
        let time = text.parse::<Timestamp>().ok();
        time.filter(|time| time.to_string() == text)
            .ok_or_else(|| format!("`modified = {text:?}` is no time: wanted 2024-01-31T23:59:00Z"))
    });
    if let Some(name) = &raw.filename
        && file_name::of_download("", Some(name), None) != *name
    {
        return Err(format!("`filename = {name:?}` cannot be the name of a file"));
    }
    Ok(Pin::Http(HttpPin { digest: raw.digest, modified: modified.transpose()?, filename: raw.filename }))
}

impl LockFile {
    /// An empty one at `path`.
    pub fn empty(path: PathBuf) -> Self {
        Self { path, ..Self::default() }
    }

    /// Reads the file at `path`; `None` where there is none.
    ///
    /// # Errors
    /// It cannot be read, or not be used.
    pub fn read(path: &Path) -> Result<Option<Self>, LockError> {
        use std::io::Read as _;
        let wrong = |reason: String| LockError { path: path.to_owned(), line: None, reason, hint: None };
        let file = match std::fs::File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(wrong(format!("it cannot be read: {error}"))),
        };
        if !file.metadata().is_ok_and(|found| found.is_file()) {
            return Err(wrong("it is no file".into()));
        }
        let mut bytes = Vec::new();
        file.take(LONGEST + 1).read_to_end(&mut bytes).map_err(|error| wrong(format!("it cannot be read: {error}")))?;
        let text = String::from_utf8(bytes).map_err(|_| wrong("it is no text (UTF-8)".into()))?;
        Self::parse(path, &text).map(Some)
    }

    /// Reads `text`, which is said to lie at `path`.
    ///
    /// # Errors
    /// It is malformed, of a newer version, or names something in another form than its own.
    pub fn parse(path: &Path, text: &str) -> Result<Self, LockError> {
        let wrong = |line: Option<u32>, reason: String| LockError { path: path.to_owned(), line, reason, hint: None };
        if text.len() as u64 > LONGEST {
            return Err(wrong(None, format!("it is longer than {LONGEST} bytes")));
        }
        let malformed = |error: toml::de::Error| {
            wrong(error.span().map(|span| line_of(text, span.start)), error.message().to_owned())
        };
        if let Some(at) = text.find("<<<<<<< ").filter(|at| *at == 0 || text.as_bytes()[at - 1] == b'\n') {
            return Err(LockError {
                hint: Some("keep the lines of both sides, each name once; then `rhost lock` puts it in order"),
                ..wrong(Some(line_of(text, at)), "a merge left a conflict here".into())
            });
        }
        let head: Head = toml::from_str(text).map_err(malformed)?;
        match head.version {
            None => return Err(wrong(None, format!("it has no version: wanted `version = {VERSION}`"))),
            Some(version) if *version.get_ref() == VERSION => {}
            Some(version) => {
                let (line, found) = (line_of(text, version.span().start), version.get_ref());
                let reason = format!("it is of version {found}, and this rhost reads version {VERSION}");
                let hint = if *found > VERSION {
                    "a newer rhost wrote it: update this one"
                } else {
                    "`rhost lock` writes it anew once it is removed"
                };
                return Err(LockError { hint: Some(hint), ..wrong(Some(line), reason) });
            }
        }
        let raw: Raw = toml::from_str(text).map_err(malformed)?;
        let mut found = Self::empty(path.to_owned());
        let mut add = |kind: LockKind, name: Spanned<String>, pin: &mut dyn FnMut(&str) -> Result<Pin, String>| {
            let line = line_of(text, name.span().start);
            let name = name.into_inner();
            if name.len() > LONGEST_NAME {
                return Err(wrong(Some(line), format!("a name longer than {LONGEST_NAME} bytes")));
            }
            let pin = pin(&name).map_err(|reason| wrong(Some(line), reason))?;
            let key = LockKey { kind, name };
            found.lines.insert(key.clone(), line);
            found.entries.insert(key, pin);
            Ok(())
        };
        for (name, digest) in raw.frontend {
            add(LockKind::Frontend, name, &mut |name| reference(name, digest))?;
        }
        for (name, digest) in raw.image {
            add(LockKind::Image, name, &mut |name| reference(name, digest))?;
        }
        for (name, raw) in raw.git {
            let mut raw = Some(raw);
            add(LockKind::Git, name, &mut |name| raw.take().map_or(Err(String::new()), |raw| git(name, raw)))?;
        }
        for (name, raw) in raw.http {
            let mut raw = Some(raw);
            add(LockKind::Http, name, &mut |name| raw.take().map_or(Err(String::new()), |raw| http(name, raw)))?;
        }
        Ok(found)
    }

    /// Where `key` stands, for people: `rhost.lock:12`.
    pub fn place(&self, key: &LockKey) -> String {
        let line = self.lines.get(key).map(|line| format!(":{line}")).unwrap_or_default();
        format!("{}{line}", self.path.display())
    }
}

/// `text` as a TOML string.
fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if c.is_control() => drop(write!(out, "\\u{:04X}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// One entry's value.
pub(crate) fn value(pin: &Pin) -> String {
    let member = |name: &str, value: &Option<String>| {
        value.as_ref().map(|value| format!(", {name} = {}", quoted(value))).unwrap_or_default()
    };
    match pin {
        Pin::Manifest(digest) => quoted(&digest.to_string()),
        Pin::Git(pin) => {
            format!(
                "{{ commit = {}, ref = {}{} }}",
                quoted(&pin.commit),
                quoted(&pin.reference),
                member("tag", &pin.tag)
            )
        }
        Pin::Http(pin) => {
            let modified = pin.modified.map(|time| time.to_string());
            let (modified, filename) = (member("modified", &modified), member("filename", &pin.filename));
            format!("{{ digest = {}{modified}{filename} }}", quoted(&pin.digest.to_string()))
        }
    }
}

/// The text of a lock file that says `entries`.
pub fn print(entries: &Entries) -> String {
    let mut out = format!(
        "# What the names in this repository's builds stand for. Written by `rhost lock`; commit it, and change it with `rhost lock --update`.\nversion = {VERSION}\n"
    );
    let mut table = None;
    for (LockKey { kind, name }, pin) in entries {
        if table.replace(*kind) != Some(*kind) {
            let _ = write!(out, "\n[{kind}]\n");
        }
        let _ = writeln!(out, "{} = {}", quoted(name), value(pin));
    }
    out
}
