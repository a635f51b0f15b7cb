//! `UrlGlob`: which repositories and files at URLs a rule names: `github.com/team`, `https://files.example`, `*.example:8443/**/releases`.
//!
//! What is compared is what a server would be asked for, in one form: host in lower case, the usual port left out, the path decoded, without query. A path
//! that a server might read in another way than it stands there (`..`, `\`) is below its host and below nothing else.
use std::fmt;

use rhost_registry::{UrlRequest, percent_decode};

use super::pattern::Glob;

/// Transports that a pattern may begin with, and their ports.
const TRANSPORTS: [(&str, &str); 4] = [("http", ":80"), ("https", ":443"), ("ssh", ":22"), ("git", ":9418")];

/// A glob over hosts, and what is below them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct UrlGlob {
    text: String,
    /// Any where there is none.
    scheme: Option<String>,
    name: Glob,
}

impl UrlGlob {
    /// Reads one: `files.example` and `files.example/team` are all below them, over any transport; `https://files.example` over this one.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let (scheme, name) = match text.split_once("://") {
            Some((scheme, name)) => (Some(scheme.to_ascii_lowercase()), name),
            None => (None, text),
        };
        if let Some(other) = scheme.as_deref().filter(|scheme| !TRANSPORTS.iter().any(|(known, _)| known == scheme)) {
            return Err(format!("`{text}`: `{other}` is no transport; http, https, ssh and git are"));
        }
        if name.contains(['@', '#']) {
            return Err(format!("`{text}`: wanted host and path, without user, ref or query, as in `github.com/team`"));
        }
        let (host, path) = name.split_once('/').map_or((name, None), |(host, path)| (host, Some(path)));
        let mut host = usual(scheme.as_deref().unwrap_or_default(), &host.to_ascii_lowercase());
        if host.starts_with('[') && host.split(']').next().is_some_and(|inner| inner.contains(':')) {
            // An address of IPv6, and no choice of letters.
            host = host.replace('[', "\\[").replace(']', "\\]");
        }
        let whole = match path.map(|path| path.trim_end_matches('/')).filter(|path| !path.is_empty()) {
            Some(path) => format!("{host}/{path}"),
            None => host,
        };
        Ok(Self { text: text.to_owned(), scheme, name: Glob::parse(&whole)? })
    }

    /// Whether it is what `url` names, or something above it.
    pub(crate) fn covers(&self, url: &str) -> bool {
        let Some((scheme, name)) = place(url) else { return false };
        self.scheme.as_ref().is_none_or(|wanted| *wanted == scheme)
            && (self.name.covers(&name) || name.strip_suffix(".git").is_some_and(|name| self.name.covers(name)))
    }
}

impl fmt::Display for UrlGlob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// `host` without the port that `scheme` has anyway.
fn usual(scheme: &str, host: &str) -> String {
    let port = TRANSPORTS.iter().find(|(known, _)| *known == scheme).map(|(_, port)| *port);
    port.and_then(|port| host.strip_suffix(port)).unwrap_or(host).to_owned()
}

/// Transport, and host with path, of a URL or of git's `user@host:path`. `None`: it is neither, and no rule is about it.
fn place(url: &str) -> Option<(String, String)> {
    let (scheme, rest) = match url.split_once("://") {
        Some((scheme, _)) if ["http", "https"].contains(&scheme.to_ascii_lowercase().as_str()) => {
            let request = UrlRequest::new(url).ok()?;
            let (scheme, rest) = request.plain().split_once("://")?;
            (scheme.to_owned(), rest.to_owned())
        }
        Some((scheme, rest)) => (scheme.to_ascii_lowercase(), rest.to_owned()),
        None => {
            let (host, path) = url.split_once(':')?;
            ("ssh".to_owned(), format!("{host}/{}", path.trim_start_matches('/')))
        }
    };
    let rest = rest.split(['?', '#']).next().unwrap_or_default();
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let host = usual(&scheme, &host.to_ascii_lowercase());
    let path = String::from_utf8(percent_decode(path)).ok();
    let path = path.filter(|path| !path.contains('\\') && !path.split('/').any(|part| part == ".."));
    let name = match path.as_deref().map(|path| path.trim_end_matches('/')) {
        Some(path) if !path.is_empty() => format!("{host}/{path}"),
        _ => host,
    };
    Some((scheme, name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_paths_and_transports() {
        let covers = |pattern: &str, url: &str| UrlGlob::parse(pattern).expect(pattern).covers(url);
        for (pattern, url) in [
            ("github.com", "https://github.com/a/b.git"),
            ("github.com/team", "https://github.com/team/app.git"),
            ("github.com/team/app", "https://github.com/team/app.git"),
            ("github.com/team/app", "git@github.com:team/app.git"),
            ("github.com/team", "ssh://git@GitHub.com:22/team/app"),
            ("GitHub.com", "git://github.com:9418/x"),
            ("https://h", "https://h:443/x"),
            ("https://h:443/", "https://h/x?y=z"),
            ("h:8080", "http://h:8080/x"),
            ("*.example", "https://a.example/x"),
            ("h/**/releases", "https://h/a/b/releases/v1.tar"),
            ("h/a b", "https://h/a%20b"),
            ("h", "https://h/a/%5c..%2f"),
            ("[::1]:8080", "http://[::1]:8080/x"),
        ] {
            assert!(covers(pattern, url), "{pattern} {url}");
        }
        for (pattern, url) in [
            ("github.com", "https://github.com.evil/a"),
            ("github.com", "https://evil/github.com"),
            ("github.com", "https://github.com@evil/a"),
            ("github.com", "https://github.com:444/a"),
            ("github.com", "git@github.com.evil:a"),
            ("github.com/team", "https://github.com/teams/x"),
            ("github.com/team", "https://github.com/team/../other/x"),
            ("github.com/team", "https://github.com/team/%2e%2e/other"),
            ("github.com/team", "https://github.com/team%2f..%2fother"),
            ("github.com/team", "ssh://git@github.com/team/../other"),
            ("github.com/team", "git@github.com:team/../other"),
            ("github.com/team", "https://github.com//team/x"),
            ("https://h", "http://h/x"),
            ("https://h", "git@h:x"),
            ("*.example", "https://example/x"),
            ("h", "file:///h"),
            ("h", "/h"),
        ] {
            assert!(!covers(pattern, url), "{pattern} {url}");
        }
        for wrong in ["", "ftp://h", "git@h:x", "https://", "h//x", "h/a**"] {
            assert!(UrlGlob::parse(wrong).is_err(), "{wrong}");
        }
    }
}
