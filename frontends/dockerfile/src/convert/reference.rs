//! Image references in their normal form: `alpine` is `docker.io/library/alpine:latest`.

/// A normalised reference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    domain: String,
    path: String,
    tag: Option<String>,
    digest: Option<String>,
}

/// A text that is no reference.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is no image reference: {reason}")]
pub struct ReferenceError {
    text: String,
    reason: &'static str,
}

fn component(text: &str) -> bool {
    // Lower-case letters and digits, joined by `.`, `_`, `__` or any number of `-`.
    let bytes = text.as_bytes();
    let alnum = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    if bytes.is_empty() || !alnum(bytes[0]) || !alnum(bytes[bytes.len() - 1]) {
        return false;
    }
    text.split(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
        .all(|sep| matches!(sep, "" | "." | "_" | "__") || sep.bytes().all(|b| b == b'-'))
}

fn domain(text: &str) -> bool {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((ip, port)) if ip.bytes().all(|b| b.is_ascii_hexdigit() || b == b':') => {
                return port.is_empty() || port_ok(port);
            }
            _ => return false,
        },
        None => text.find(':').map_or((text, ""), |i| text.split_at(i)),
    };
    host.split('.').all(|label| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    }) && (port.is_empty() || port_ok(port))
}

fn port_ok(port: &str) -> bool {
    port.strip_prefix(':').is_some_and(|p| !p.is_empty() && p.bytes().all(|b| b.is_ascii_digit()))
}

fn tag_ok(tag: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    tag.len() <= 128 && tag.bytes().next().is_some_and(word) && tag.bytes().all(|b| word(b) || matches!(b, b'.' | b'-'))
}

fn digest_ok(digest: &str) -> bool {
    digest.split_once(':').is_some_and(|(algorithm, hex)| {
        let wanted = match algorithm {
            "sha256" => 64,
            "sha384" => 96,
            "sha512" => 128,
            _ => return false,
        };
        hex.len() == wanted && hex.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
    })
}

impl Reference {
    /// Reads a reference as people write it.
    ///
    /// # Errors
    /// When it is none.
    pub fn parse(text: &str) -> Result<Self, ReferenceError> {
        let fail = |reason| ReferenceError { text: text.to_owned(), reason };
        if text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit() && !b.is_ascii_uppercase()) {
            return Err(fail("64 hexadecimal digits cannot be a name"));
        }
        let (name, digest) = match text.split_once('@') {
            Some((name, digest)) => (name, Some(digest)),
            None => (text, None),
        };
        if digest.is_some_and(|d| !digest_ok(d)) {
            return Err(fail("the digest is malformed"));
        }
        let (registry, rest) = match name.split_once('/') {
            Some((first, rest))
                if first.contains(['.', ':']) || first == "localhost" || first.to_lowercase() != first =>
            {
                (first, rest)
            }
            _ => ("docker.io", name),
        };
        let registry = if registry == "index.docker.io" { "docker.io" } else { registry };
        let (path, tag) = match rest.rsplit_once(':') {
            Some((path, tag)) => (path, Some(tag)),
            None => (rest, None),
        };
        if path.to_lowercase() != path {
            return Err(fail("repository names are in lower case"));
        }
        if !domain(registry) || !path.split('/').all(component) || tag.is_some_and(|t| !tag_ok(t)) {
            return Err(fail("wanted [registry/]name[:tag][@digest]"));
        }
        let path =
            if registry == "docker.io" && !path.contains('/') { format!("library/{path}") } else { path.to_owned() };
        if path.len() > 255 {
            return Err(fail("the name is longer than 255 characters"));
        }
        Ok(Self { domain: registry.to_owned(), path, tag: tag.map(str::to_owned), digest: digest.map(str::to_owned) })
    }

    /// With the tag `latest` if there is neither tag nor digest.
    #[must_use]
    pub fn tagged(mut self) -> Self {
        if self.tag.is_none() && self.digest.is_none() {
            self.tag = Some("latest".into());
        }
        self
    }

    /// With this digest.
    ///
    /// # Errors
    /// When the digest is malformed.
    pub fn with_digest(mut self, digest: &str) -> Result<Self, ReferenceError> {
        if !digest_ok(digest) {
            return Err(ReferenceError { text: digest.to_owned(), reason: "the digest is malformed" });
        }
        self.digest = Some(digest.to_owned());
        Ok(self)
    }

    /// The digest, if it has one.
    pub fn digest(&self) -> Option<&str> {
        self.digest.as_deref()
    }

    /// As people write it, without what is implied.
    pub fn familiar(&self) -> String {
        let full = self.to_string();
        if self.domain != "docker.io" {
            return full;
        }
        let short = full.strip_prefix("docker.io/").unwrap_or(&full);
        match short.strip_prefix("library/") {
            Some(name) if !self.path["library/".len()..].contains('/') => name.to_owned(),
            _ => short.to_owned(),
        }
    }
}

impl std::fmt::Display for Reference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.domain, self.path)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn normal_forms() {
        for (text, full, familiar) in [
            ("alpine", "docker.io/library/alpine:latest", "alpine:latest"),
            ("a/b:1", "docker.io/a/b:1", "a/b:1"),
            ("localhost:5000/x", "localhost:5000/x:latest", "localhost:5000/x:latest"),
            ("index.docker.io/x", "docker.io/library/x:latest", "x:latest"),
            ("ghcr.io/o/r-a__b.c", "ghcr.io/o/r-a__b.c:latest", "ghcr.io/o/r-a__b.c:latest"),
        ] {
            let reference = Reference::parse(text).unwrap().tagged();
            assert_eq!((reference.to_string(), reference.familiar()), (full.to_owned(), familiar.to_owned()));
        }
        for text in ["", "Alpine", "a:", "a@sha256:1", "-a", "a..b", "a b", "/a", &"a".repeat(64)] {
            assert!(Reference::parse(text).is_err(), "{text}");
        }
    }
}
