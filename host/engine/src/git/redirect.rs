//! Redirects of an http remote that a credential is sent to.
//!
//! git sends a configured header wherever it is redirected to. So with a credential it follows no redirect of that remote; where one is
//! answered, it is looked at here; so it is where a rule says which remotes may be asked, of submodules too. To the same host (a repository that was renamed) the credential goes along; to another host, or from https to http,
//! the request goes without it.
use super::command::{Run, Runner};
use super::error::GitError;
use super::remote::{Remote, Transport};
use crate::op_error::OpFailure;

/// Redirects that are followed one after the other, as curl's users expect.
const MOST: usize = 5;

/// What a request for refs ends in.
const REFS: &str = "/info/refs";

/// Where a remote was moved to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Redirect {
    /// The place.
    pub url: String,
    /// It gets the credential, too.
    pub trusted: bool,
}

/// `scheme://host` of a URL, and the two parts.
fn origin(url: &str) -> Option<(&str, &str, &str)> {
    let (scheme, rest) = url.split_once("://")?;
    let host = rest.split(['/', '?', '#']).next()?;
    Some((&url[..scheme.len() + 3 + host.len()], scheme, host))
}

/// Reads a `Location` that a request for the refs of `from` was answered with.
fn read(from: &str, location: &str) -> Result<Redirect, String> {
    let (base, scheme, host) = origin(from).ok_or("its URL has no host")?;
    let whole = if location.starts_with('/') && !location.starts_with("//") {
        format!("{base}{location}")
    } else {
        location.to_owned()
    };
    let path = whole.split(['?', '#']).next().unwrap_or_default();
    let place = path.strip_suffix(REFS).ok_or("it redirects to what is no repository")?;
    let to = Remote::parse(place).map_err(|error| error.to_string())?;
    if to.transport != Transport::Http {
        return Err("it redirects to another transport".into());
    }
    let (_, new_scheme, new_host) = origin(&to.url).ok_or("it redirects to no host")?;
    let trusted = new_host.eq_ignore_ascii_case(host) && (new_scheme == scheme || new_scheme == "https");
    Ok(Redirect { url: to.url.clone(), trusted })
}

impl Runner<'_> {
    /// Whether `complaint` is of a redirect that was not followed, of the source's remote or of `others`; then it is looked up where to, for the runs to come.
    ///
    /// # Errors
    /// It leads nowhere that is fetched from, or that a rule allows.
    pub async fn follow_redirect(&self, complaint: &str, others: &[String]) -> Result<bool, OpFailure> {
        let answered =
            ["301", "302", "303", "307", "308"].iter().any(|code| complaint.contains(&format!("error: {code}")));
        if !answered || !self.looks_at_redirects() {
            return Ok(false);
        }
        let asked = |url: &&String| complaint.contains(&format!("'{}/'", self.moved(url).trim_end_matches('/')));
        for first in others.iter().filter(asked).chain([&self.source.remote.url]) {
            if self.look_up_redirect(first).await? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether git follows no redirect by itself: there is a credential that it would send along, or a rule that it does not know.
    fn looks_at_redirects(&self) -> bool {
        self.lent.has_credential || self.shared.rules.names_remotes()
    }

    /// Where `url` has moved to, as far as that is known. git replaces the beginning of what it is told, so a name that begins with another's moves with it.
    pub(super) fn moved(&self, url: &str) -> String {
        let known = self.shared.git.moves();
        let begins = known.iter().filter(|(first, _)| url.starts_with(first.as_str()));
        let longest = begins.max_by_key(|(first, _)| first.len());
        longest.map_or_else(|| url.to_owned(), |(first, to)| format!("{to}{}", &url[first.len()..]))
    }

    async fn look_up_redirect(&self, first: &str) -> Result<bool, OpFailure> {
        let known = self.shared.git.redirects(first);
        let wrong = |reason: String| GitError::Remote { remote: first.to_owned(), reason };
        if known.len() >= MOST {
            return Err(wrong(format!("it redirects more than {MOST} times")).into());
        }
        let others = [first.to_owned()];
        let run = Run { doing: "ls-remote", remote: true, traced: true, others: &others, ..Run::default() };
        let said = Box::pin(self.run_once(&["ls-remote", "--", first, "HEAD"], &run)).await?;
        let Some(location) = said.location else { return Ok(false) };
        let from = known.last().map_or(first, |redirect| redirect.url.as_str());
        let mut redirect = read(from, &location).map_err(wrong)?;
        self.shared.rules.check_git(&redirect.url, Some(first))?;
        redirect.trusted &= known.last().is_none_or(|before| before.trusted);
        let note = if redirect.trusted || !self.lent.has_credential { "" } else { ", which gets no credential" };
        self.tell(&format!("{from} redirects to {}{note}", redirect.url));
        self.shared.git.add_redirect(first, redirect);
        Ok(true)
    }

    /// Configuration by which git goes to where the source's remote and `others` were moved to.
    pub fn redirect_config(&self, others: &[String]) -> Vec<(String, String)> {
        let mut config = Vec::new();
        if self.shared.rules.names_remotes() {
            config.push(("http.followRedirects".into(), "false".into()));
        }
        for first in others.iter().filter(|other| **other != self.source.remote.url) {
            if let Some(redirect) = self.shared.git.redirects(first).pop() {
                config.push((format!("url.{}.insteadOf", redirect.url), first.clone()));
            }
        }
        let first = &self.source.remote.url;
        let Some(redirect) = self.shared.git.redirects(first).pop() else { return config };
        let to = &redirect.url;
        config.push((format!("url.{to}.insteadOf"), first.clone()));
        if redirect.trusted {
            config.push((format!("http.{to}.followRedirects"), "false".into()));
            let header = self.lent.config.iter().find(|(key, _)| key.ends_with(".extraheader"));
            config.extend(header.map(|(_, value)| (format!("http.{to}.extraheader"), value.clone())));
        }
        config
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_gets_the_credential() {
        let found = |from: &str, to: &str| {
            let to = to.replace('@', "/info/refs?service=git-upload-pack");
            read(from, &to).ok().map(|redirect| (redirect.url, redirect.trusted))
        };
        let place = |url: &str, trusted: bool| Some((url.to_owned(), trusted));
        assert_eq!(found("https://h/a.git", "https://h/b.git@"), place("https://h/b.git", true));
        assert_eq!(found("https://h/a.git", "/b.git@"), place("https://h/b.git", true));
        assert_eq!(found("http://h/a.git", "https://h/a.git@"), place("https://h/a.git", true));
        assert_eq!(found("https://h/a.git", "http://h/a.git@"), place("http://h/a.git", false));
        assert_eq!(found("https://h/a.git", "https://h.evil/a.git@"), place("https://h.evil/a.git", false));
        assert_eq!(found("https://h/a.git", "https://h:444/a.git@"), place("https://h:444/a.git", false));
        for to in ["file:///etc@", "ssh://h/a@", "https://h/login", "//h/a@", ""] {
            assert_eq!(found("https://h/a.git", to), None, "{to}");
        }
    }
}
