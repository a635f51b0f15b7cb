//! `Remote`: what names a repository, read strictly: it goes to git's command line, and what git takes for an option, a program or a local path is
//! refused here.
use zeroize::Zeroizing;

use super::error::GitError;

/// How a repository is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// `http://`, `https://`
    Http,
    /// `ssh://`, `user@host:path`
    Ssh,
    /// `git://`
    Git,
}

/// A repository, without credentials.
#[derive(Clone, PartialEq, Eq)]
pub struct Remote {
    /// What git is told.
    pub url: String,
    /// How it is reached.
    pub transport: Transport,
    /// Host with port; the empty text for `user@host:path`.
    pub host: String,
    /// User and password that stood in the URL.
    pub login: Option<(String, Zeroizing<String>)>,
}

impl std::fmt::Debug for Remote {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.url)
    }
}

/// Longest name of a remote, in bytes.
const LONGEST: usize = 8 << 10;

/// The scheme before `://`, where there is one.
fn scheme(text: &str) -> Option<(&str, &str)> {
    let (scheme, rest) = text.split_once("://")?;
    let plain = !scheme.is_empty() && scheme.bytes().all(|b| b.is_ascii_alphanumeric());
    plain.then_some((scheme, rest))
}

/// `user@host:path`.
fn scp(text: &str) -> Option<(&str, &str, &str)> {
    let (user, rest) = text.split_once('@')?;
    let (host, path) = rest.split_once(':')?;
    let word = |text: &str, more: &[u8]| {
        !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || more.contains(&b))
    };
    (word(user, b"-_") && word(host, b"-.")).then_some((user, host, path))
}

/// Whether `text` says itself how it is reached, as BuildKit sees it; anything else is https.
fn says_transport(text: &str) -> bool {
    let known = |scheme: &str| ["http", "https", "ssh", "git"].contains(&scheme.to_ascii_lowercase().as_str());
    scheme(text).is_some_and(|(scheme, _)| known(scheme)) || scp(text).is_some()
}

/// `%XX` replaced; what is malformed, or no UTF-8 then, stays.
pub fn percent_decode(text: &str) -> String {
    String::from_utf8(rhost_registry::percent_decode(text)).unwrap_or_else(|_| text.to_owned())
}

impl Remote {
    /// Reads the name of a repository. One without a transport is https, as in BuildKit.
    ///
    /// # Errors
    /// A transport that is not fetched by, or a name that git could take for something else.
    pub fn parse(text: &str) -> Result<Self, GitError> {
        let wrong = |reason: &str| GitError::Remote { remote: rhost_registry::redact(text), reason: reason.to_owned() };
        if text.len() > LONGEST {
            return Err(GitError::Remote {
                remote: format!("{}…", rhost_registry::redact(text).chars().take(80).collect::<String>()),
                reason: format!("its name is longer than {LONGEST} bytes"),
            });
        }
        if text.chars().any(|c| c.is_control() || c.is_whitespace()) {
            return Err(wrong("its name has spaces or control characters"));
        }
        if text.starts_with('-') {
            return Err(wrong("git would take its name for an option"));
        }
        if let Some((_, host, path)) = scp(text).filter(|_| scheme(text).is_none()) {
            if text.starts_with('-') || host.starts_with('-') || path.starts_with('-') || path.is_empty() {
                return Err(wrong("git would take a part of its name for an option"));
            }
            let url = text.to_owned();
            return Ok(Self { url, transport: Transport::Ssh, host: String::new(), login: None });
        }
        let whole =
            if says_transport(text) || scheme(text).is_some() { text.to_owned() } else { format!("https://{text}") };
        let (scheme, rest) = scheme(&whole).ok_or_else(|| wrong("it has no transport"))?;
        let scheme = scheme.to_ascii_lowercase();
        let transport = match scheme.as_str() {
            "http" | "https" => Transport::Http,
            "ssh" => Transport::Ssh,
            "git" => Transport::Git,
            other => return Err(wrong(&format!("`{other}` is no transport; http, https, ssh and git are"))),
        };
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let (user, host) = authority.rsplit_once('@').map_or((None, authority), |(user, host)| (Some(user), host));
        if host.is_empty() || host.starts_with('-') || host.contains([':', '/']) && host.starts_with(':') {
            return Err(wrong("it has no host"));
        }
        if path.len() < 2 || path.starts_with("/-") {
            return Err(wrong("it has no path, or one that could be an option"));
        }
        if user.is_some_and(|user| user.starts_with('-')) {
            return Err(wrong("its user could be an option"));
        }
        let (user, password) = match user.map(|user| user.split_once(':').unwrap_or((user, ""))) {
            Some((user, password)) => (Some(user), Some(password).filter(|text| !text.is_empty())),
            None => (None, None),
        };
        let login = match (transport, user, password) {
            (Transport::Http, user, Some(password)) => {
                Some((percent_decode(user.unwrap_or_default()), Zeroizing::new(percent_decode(password))))
            }
            _ => None,
        };
        // ssh wants to know who; a name without a password is nothing to an http server that does not ask.
        let user = user.filter(|user| transport == Transport::Ssh && !user.is_empty());
        let user = user.map(|user| format!("{user}@")).unwrap_or_default();
        let host = host.to_owned();
        Ok(Self { url: format!("{scheme}://{user}{host}{path}"), transport, host, login })
    }

    /// The URLs that a credential for this remote is sent to: those that begin so. As in BuildKit, one for a repository at GitHub is good for all
    /// of GitHub, which private submodules need.
    pub fn scope(&self) -> &str {
        let github = ["https://github.com/", "https://www.github.com/"];
        github.into_iter().find(|prefix| self.url.starts_with(prefix)).unwrap_or(&self.url)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transports_and_hosts() {
        for (text, url, transport, host) in [
            ("https://h/x.git", "https://h/x.git", Transport::Http, "h"),
            ("HTTP://h:81/x", "http://h:81/x", Transport::Http, "h:81"),
            ("github.com/a/b", "https://github.com/a/b", Transport::Http, "github.com"),
            ("ssh://git@h:22/x", "ssh://git@h:22/x", Transport::Ssh, "h:22"),
            ("git@h:x/y.git", "git@h:x/y.git", Transport::Ssh, ""),
            ("git://h/x", "git://h/x", Transport::Git, "h"),
            ("https://me@h/x", "https://h/x", Transport::Http, "h"),
        ] {
            let remote = Remote::parse(text).unwrap();
            assert_eq!((remote.url.as_str(), remote.transport, remote.host.as_str()), (url, transport, host));
            assert!(remote.login.is_none());
        }
    }

    #[test]
    fn credentials_leave_the_name() {
        let remote = Remote::parse("https://me:p%40ss@h/x.git").unwrap();
        assert_eq!(remote.url, "https://h/x.git");
        assert_eq!(remote.login.as_ref().map(|(user, word)| (user.as_str(), word.as_str())), Some(("me", "p@ss")));
        assert!(!format!("{remote:?}").contains("p@ss"));
        assert_eq!(Remote::parse("ssh://git:secret@h/x").unwrap().url, "ssh://git@h/x");
        let error = Remote::parse("ext://me:hush@h/x").unwrap_err().to_string();
        assert!(!error.contains("hush"), "{error}");
    }

    #[test]
    fn what_is_no_remote() {
        for text in [
            "file:///etc",
            "ext://sh -c id",
            "ext::sh",
            "ftp://h/x",
            "ssh://-oProxyCommand=id/x",
            "ssh://u@-oProxyCommand=id/x",
            "-oProxyCommand@h:x",
            "git@-h:x",
            "git@h:-x",
            "git@h:",
            "--upload-pack=id",
            "https://h",
            "https:///x",
            "https://h/x y",
            "https://h/\nx",
            "git://h/--upload-pack",
        ] {
            assert!(Remote::parse(text).is_err(), "{text}");
        }
    }
}
