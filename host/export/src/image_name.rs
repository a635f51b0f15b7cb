//! `ImageName`: the name of an image as `-t` and `name=` give it, with docker's defaults filled in.
//!
//! The rules are those of the distribution project's reference grammar. Only what an exporter writes is here: a name and a
//! tag, no digest; what may be pulled is the registry room's business.
use std::fmt;
use std::str::FromStr;

/// `docker.io/library/foo:latest`: host, path and tag.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ImageName {
    host: String,
    path: String,
    tag: String,
}

/// A text names no image.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not an image name: {reason}")]
pub struct ImageNameError {
    /// What was refused, at most 120 characters of it.
    pub text: String,
    /// Why.
    pub reason: &'static str,
}

impl ImageName {
    /// The tag; `latest` when none was given.
    pub fn tag(&self) -> &str {
        &self.tag
    }

    /// `docker.io/library/foo`.
    pub fn repository(&self) -> String {
        format!("{}/{}", self.host, self.path)
    }

    /// Whether `text` says a tag itself.
    pub fn says_tag(text: &str) -> bool {
        text.rsplit_once(':').is_some_and(|(_, tag)| !tag.contains('/'))
    }

    /// As people write it: without `docker.io/` and `library/`, with the tag.
    pub fn familiar(&self) -> String {
        let Self { host, path, tag } = self;
        match (host.as_str(), path.strip_prefix("library/")) {
            ("docker.io", Some(name)) if !name.contains('/') => format!("{name}:{tag}"),
            ("docker.io", _) => format!("{path}:{tag}"),
            _ => format!("{host}/{path}:{tag}"),
        }
    }
}

impl fmt::Display for ImageName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}:{}", self.host, self.path, self.tag)
    }
}

impl FromStr for ImageName {
    type Err = ImageNameError;

    fn from_str(text: &str) -> Result<Self, ImageNameError> {
        let refuse = |reason| ImageNameError { text: text.chars().take(120).collect(), reason };
        if text.contains('@') {
            return Err(refuse("a result is named by a tag, not by a digest"));
        }
        let (name, tag) = match text.rsplit_once(':') {
            Some((name, tag)) if !tag.contains('/') => (name, tag),
            _ => (text, "latest"),
        };
        let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
        let tag_ok = tag.len() <= 128
            && tag.bytes().next().is_some_and(word)
            && tag.bytes().all(|b| word(b) || matches!(b, b'.' | b'-'));
        if !tag_ok {
            return Err(refuse("a tag is 1 to 128 letters, digits, `_`, `.`, `-`, and begins with no `.` or `-`"));
        }
        let (host, path) = match name.split_once('/') {
            Some((host, path)) if is_host(host) => (host, path.to_owned()),
            Some(_) => ("docker.io", name.to_owned()),
            None => ("docker.io", format!("library/{name}")),
        };
        let (host, path) = match host {
            "index.docker.io" | "docker.io" if !path.contains('/') => ("docker.io", format!("library/{path}")),
            "index.docker.io" => ("docker.io", path),
            host => (host, path),
        };
        if path.bytes().any(|b| b.is_ascii_uppercase()) {
            return Err(refuse("a repository is in lower case"));
        }
        if path.len() > 255 || !path.split('/').all(is_component) {
            return Err(refuse("wanted [HOST[:PORT]/]NAME[/NAME…][:TAG]"));
        }
        if !host.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b':' | b'[' | b']')) {
            return Err(refuse("the part before the first `/` is no host"));
        }
        Ok(Self { host: host.to_owned(), path, tag: tag.to_owned() })
    }
}

/// Docker's rule: a first part with a dot, a port, or `localhost`, or with upper case, is a host.
fn is_host(part: &str) -> bool {
    part == "localhost" || part.contains(['.', ':']) || part.bytes().any(|b| b.is_ascii_uppercase())
}

/// Runs of lower-case letters and digits, joined by `.`, `_`, `__` or dashes.
fn is_component(part: &str) -> bool {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = part.as_bytes();
    let (Some(first), Some(last)) = (bytes.first(), bytes.last()) else { return false };
    plain(*first)
        && plain(*last)
        && bytes.split(|b| plain(*b)).all(|joint| {
            matches!(joint, b"" | b"." | b"_" | b"__") || (!joint.is_empty() && joint.iter().all(|b| *b == b'-'))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, full: &str, familiar: &str) {
        let name: ImageName = text.parse().unwrap();
        assert_eq!((name.to_string().as_str(), name.familiar().as_str()), (full, familiar), "{text}");
    }

    #[test]
    fn fills_in_dockers_defaults() {
        check("foo", "docker.io/library/foo:latest", "foo:latest");
        check("foo:x", "docker.io/library/foo:x", "foo:x");
        check("bar/b", "docker.io/bar/b:latest", "bar/b:latest");
        check("docker.io/foo", "docker.io/library/foo:latest", "foo:latest");
        check("index.docker.io/library/foo", "docker.io/library/foo:latest", "foo:latest");
        check("127.0.0.1:5000/a/b:1", "127.0.0.1:5000/a/b:1", "127.0.0.1:5000/a/b:1");
        check("localhost/a", "localhost/a:latest", "localhost/a:latest");
        check("ghcr.io/a/b-c__d.e", "ghcr.io/a/b-c__d.e:latest", "ghcr.io/a/b-c__d.e:latest");
    }

    #[test]
    fn refuses_what_is_no_name() {
        for text in [
            "",
            ":x",
            "Foo",
            "a/B",
            "a:",
            "a:-x",
            "a//b",
            "a b",
            "-a",
            "a-",
            "a___b",
            "a..b",
            "a@sha256:00",
            "é",
            "/a",
            "x.y/",
        ] {
            assert!(text.parse::<ImageName>().is_err(), "{text}");
        }
    }
}
