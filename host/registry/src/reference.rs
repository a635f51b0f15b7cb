//! `Reference`: the name of an image, with docker's normalisation: `alpine` is `docker.io/library/alpine`.
//!
//! The grammar is the distribution project's (reference grammar, facts only): a first component with a dot, a colon, an
//! upper-case letter, or equal to `localhost` is a registry; the rest is a path of lower-case components; then `:tag`
//! and `@digest`, either, both or none.
use std::fmt;
use std::str::FromStr;

use rhost_llb::BlobDigest;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

const DOCKER_HUB: &str = "docker.io";
/// Longest `registry/repository`, in bytes (distribution: NameTotalLengthMax).
const LONGEST_NAME: usize = 255;
/// Longest tag, in bytes.
const LONGEST_TAG: usize = 128;

/// The name of an image: registry, repository, and a tag, a digest, both, or neither.
///
/// `Display` writes the full form (`docker.io/library/alpine:3.20`), [`Reference::familiar`] the short one.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Reference {
    registry: String,
    repository: String,
    tag: Option<String>,
    digest: Option<BlobDigest>,
}

/// A text names no image.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not an image name: {reason}")]
pub struct ReferenceError {
    /// What was refused, at most 200 characters of it, credentials masked.
    pub text: String,
    /// What is wrong with it, and what would be right.
    pub reason: String,
}

impl Reference {
    /// The registry as a person writes it, with its port: `docker.io`, `127.0.0.1:5000`.
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// The path inside the registry: `library/alpine`.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The tag, if one was said.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest, if one was said.
    pub fn digest(&self) -> Option<BlobDigest> {
        self.digest
    }

    /// `registry/repository`, without tag and digest.
    pub fn name(&self) -> String {
        format!("{}/{}", self.registry, self.repository)
    }

    /// The same name with tag `latest` when it has neither tag nor digest (distribution: TagNameOnly).
    #[must_use]
    pub fn tagged(mut self) -> Self {
        if self.tag.is_none() && self.digest.is_none() {
            self.tag = Some("latest".into());
        }
        self
    }

    /// The same name with this tag, and no digest.
    ///
    /// # Errors
    /// When `tag` is no tag.
    pub fn with_tag(&self, tag: &str) -> Result<Self, ReferenceError> {
        check_tag(tag).map_err(|reason| refuse(tag, reason))?;
        Ok(Self { tag: Some(tag.into()), digest: None, ..self.clone() })
    }

    /// The same name and tag, pinned to `digest`.
    #[must_use]
    pub fn with_digest(&self, digest: BlobDigest) -> Self {
        Self { digest: Some(digest), ..self.clone() }
    }

    /// The same name, without its digest.
    #[must_use]
    pub fn without_digest(&self) -> Self {
        Self { digest: None, ..self.clone() }
    }

    /// The short form people write: `alpine:3.20` for `docker.io/library/alpine:3.20`.
    pub fn familiar(&self) -> String {
        let full = self.to_string();
        match full.strip_prefix("docker.io/") {
            Some(rest) => rest.strip_prefix("library/").filter(|r| !r.contains('/')).unwrap_or(rest).to_owned(),
            None => full,
        }
    }

    /// What a manifest is asked for by: the digest if there is one, else the tag, else `latest`.
    pub(crate) fn manifest_key(&self) -> String {
        match (&self.digest, &self.tag) {
            (Some(digest), _) => digest.to_string(),
            (None, Some(tag)) => tag.clone(),
            (None, None) => "latest".into(),
        }
    }
}

fn refuse(text: &str, reason: impl Into<String>) -> ReferenceError {
    ReferenceError { text: crate::redact(text).chars().take(200).collect(), reason: reason.into() }
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        parse(text).map_err(|reason| refuse(text, reason))
    }
}

fn parse(text: &str) -> Result<Reference, String> {
    if text.is_empty() {
        return Err("it is empty".into());
    }
    if text.contains("://") {
        return Err("write it without a scheme, as in `registry.example.com/team/app:1.0`".into());
    }
    if is_hex_digest(text) {
        return Err("64 hex digits alone are ambiguous; write `NAME@sha256:<digits>`".into());
    }
    let (rest, digest) = match text.split_once('@') {
        Some((rest, digest)) => (rest, Some(digest.parse::<BlobDigest>().map_err(|e| e.to_string())?)),
        None => (text, None),
    };
    let (registry, path) = split_registry(rest);
    let (repository, tag) = match path.split_once(':') {
        Some((repository, tag)) => (repository, Some(tag)),
        None => (path, None),
    };
    if let Some(tag) = tag {
        check_tag(tag)?;
    }
    let registry = match registry {
        None | Some("index.docker.io") => DOCKER_HUB,
        Some(registry) => {
            check_registry(registry)?;
            registry
        }
    };
    check_repository(repository)?;
    let repository = match registry == DOCKER_HUB && !repository.contains('/') {
        true => format!("library/{repository}"),
        false => repository.to_owned(),
    };
    if registry.len() + 1 + repository.len() > LONGEST_NAME {
        return Err(format!("the name is longer than {LONGEST_NAME} bytes"));
    }
    Ok(Reference { registry: registry.to_owned(), repository, tag: tag.map(str::to_owned), digest })
}

/// Splits a registry off, if the first component reads as one.
fn split_registry(text: &str) -> (Option<&str>, &str) {
    match text.split_once('/') {
        Some((first, rest))
            if first.contains(['.', ':']) || first == "localhost" || first.bytes().any(|b| b.is_ascii_uppercase()) =>
        {
            (Some(first), rest)
        }
        _ => (None, text),
    }
}

fn is_hex_digest(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// A host name, IPv4 address or bracketed IPv6 address, and perhaps a port.
pub(crate) fn check_registry(text: &str) -> Result<(), String> {
    let wrong = || format!("`{text}` is not a registry; wanted HOST or HOST:PORT");
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (address, after) = rest.split_once(']').ok_or_else(wrong)?;
            if address.is_empty() || !address.bytes().all(|b| b.is_ascii_hexdigit() || b == b':') {
                return Err(wrong());
            }
            match after {
                "" => return Ok(()),
                after => ("v6", Some(after.strip_prefix(':').ok_or_else(wrong)?)),
            }
        }
        None => match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    let label = |l: &str| {
        !l.is_empty()
            && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !l.starts_with('-')
            && !l.ends_with('-')
    };
    if !host.split('.').all(label) {
        return Err(wrong());
    }
    match port {
        Some(port) if port.parse::<u16>().is_err() || !port.bytes().all(|b| b.is_ascii_digit()) => Err(wrong()),
        _ => Ok(()),
    }
}

fn check_repository(text: &str) -> Result<(), String> {
    if text.is_empty() {
        return Err("the repository is missing".into());
    }
    if text.bytes().any(|b| b.is_ascii_uppercase()) {
        return Err(format!("the repository must be lower case; try `{}`", text.to_ascii_lowercase()));
    }
    match text.split('/').find(|component| !is_path_component(component)) {
        Some(bad) => Err(format!(
            "`{bad}` is not a path component; wanted lower-case letters and digits, separated by `.`, `_`, `__` or `-`"
        )),
        None => Ok(()),
    }
}

/// `[a-z0-9]+` runs joined by `.`, `_`, `__` or dashes.
fn is_path_component(text: &str) -> bool {
    let alphanumeric = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = text.as_bytes();
    if !bytes.first().is_some_and(&alphanumeric) || !bytes.last().is_some_and(&alphanumeric) {
        return false;
    }
    bytes
        .split(|b| alphanumeric(b))
        .all(|separator| matches!(separator, b"" | b"." | b"_" | b"__") || separator.iter().all(|b| *b == b'-'))
}

fn check_tag(text: &str) -> Result<(), String> {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    let mut bytes = text.bytes();
    let good = bytes.next().is_some_and(word) && bytes.all(|b| word(b) || matches!(b, b'.' | b'-'));
    if !good || text.len() > LONGEST_TAG {
        return Err(format!(
            "`{}` is not a tag; wanted at most {LONGEST_TAG} letters, digits, `_`, `.` and `-`, not beginning with `.` or `-`",
            text.chars().take(60).collect::<String>()
        ));
    }
    Ok(())
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Reference {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Reference {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}
