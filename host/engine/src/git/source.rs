//! `GitSource`: a git source operation, read: identifier and attributes (spec A.2).
use std::path::Path;

use rhost_llb::{SourceOp, attr};

use super::error::GitError;
use super::remote::{Remote, Transport, percent_decode};

/// What a git source operation says.
#[derive(Debug, Clone)]
pub struct GitSource {
    /// The repository.
    pub remote: Remote,
    /// Branch, tag, commit or other ref; empty is the default branch.
    pub reference: String,
    /// Directory of the repository, without slashes around; empty is all of it.
    pub subdir: String,
    /// What the commit (or the tag) must be, or how that begins; lower case.
    pub checksum: Option<String>,
    /// Keep `.git`.
    pub keep_git_dir: bool,
    /// Without submodules.
    pub skip_submodules: bool,
    /// Files have the time of the commit.
    pub commit_time: bool,
    /// Fetch the commit that the checksum names, whatever the ref stands for.
    pub by_commit: bool,
    /// Id of the secret that holds a token.
    pub token_secret: String,
    /// Id of the secret that holds an `Authorization` header.
    pub header_secret: String,
    /// The agent to lend to ssh.
    pub agent: Option<String>,
    /// Host keys that ssh is to take, as lines of known_hosts.
    pub known_hosts: Option<String>,
}

/// Whether `text` is the name of an object, whole: 40 or 64 lower-case hexadecimal digits.
pub fn is_object(text: &str) -> bool {
    matches!(text.len(), 40 | 64) && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// Refuses names that git could take for an option or a pattern (GHSA-hw3h-2gp9-cxpv). They come from build files and from remotes.
pub fn check_ref(reference: &str) -> Result<(), GitError> {
    let wrong = |reason| Err(GitError::Ref { reference: reference.to_owned(), reason });
    let name = reference.strip_prefix("refs/heads/").or(reference.strip_prefix("refs/tags/")).unwrap_or(reference);
    if name.starts_with('-') {
        return wrong("git could take it for an option");
    }
    if reference.bytes().any(|b| b.is_ascii_control() || b" ~^:?*[\\".contains(&b)) || reference.contains("..") {
        return wrong("git has no such names");
    }
    Ok(())
}

fn unsupported(name: &str) -> GitError {
    GitError::Attribute { name: name.to_owned(), reason: "is not supported yet".into() }
}

impl GitSource {
    /// Reads `source`; `rest` is what follows `git://` in its identifier.
    ///
    /// # Errors
    /// What is wrong with it, or not supported.
    pub fn parse(source: &SourceOp, rest: &str) -> Result<Self, GitError> {
        let (place, fragment) = rest.split_once('#').unwrap_or((rest, ""));
        let fragment = percent_decode(fragment);
        let (reference, subdir) = fragment.split_once(':').unwrap_or((&fragment, ""));
        let mut out = Self {
            remote: Remote::parse(match source.attr(attr::GIT_FULL_URL) {
                Some(url) if !url.is_empty() => url.split('#').next().unwrap_or_default(),
                _ => place.split('?').next().unwrap_or_default(),
            })?,
            reference: if reference == "HEAD" { String::new() } else { reference.to_owned() },
            subdir: rhost_llb::clean_path("/", subdir).trim_matches('/').to_owned(),
            checksum: None,
            keep_git_dir: false,
            skip_submodules: false,
            commit_time: false,
            by_commit: false,
            token_secret: String::new(),
            header_secret: String::new(),
            agent: None,
            known_hosts: None,
        };
        for (name, value) in &source.attrs {
            let (wrong, flag) = (
                |reason: &str| GitError::Attribute { name: name.clone(), reason: format!("`{value}` {reason}") },
                value == "true",
            );
            match name.as_str() {
                attr::GIT_FULL_URL => {}
                attr::GIT_KEEP_DIR => out.keep_git_dir = flag,
                attr::GIT_SKIP_SUBMODULES => out.skip_submodules = flag,
                attr::GIT_FETCH_BY_COMMIT => out.by_commit = flag,
                attr::GIT_AUTH_TOKEN_SECRET => out.token_secret.clone_from(value),
                attr::GIT_AUTH_HEADER_SECRET => out.header_secret.clone_from(value),
                attr::GIT_KNOWN_SSH_HOSTS => out.known_hosts = Some(value.clone()).filter(|text| !text.is_empty()),
                attr::GIT_MOUNT_SSH_SOCK => out.agent = Some(value.clone()).filter(|text| !text.is_empty()),
                attr::GIT_MTIME => match value.as_str() {
                    "" | "checkout" => {}
                    "commit" => out.commit_time = true,
                    _ => return Err(wrong("is neither checkout nor commit")),
                },
                attr::GIT_CHECKSUM if value.is_empty() => {}
                attr::GIT_CHECKSUM => {
                    if !value.bytes().all(|b| b.is_ascii_hexdigit()) {
                        return Err(wrong("is no commit: hexadecimal digits are"));
                    }
                    out.checksum = Some(value.to_ascii_lowercase());
                }
                attr::GIT_CHECKOUT_BUNDLE if !flag => {}
                other if other.starts_with("git.") => return Err(unsupported(other)),
                _ => {}
            }
        }
        check_ref(&out.reference)?;
        if out.by_commit && !is_object(&out.reference) && !out.checksum.as_deref().is_some_and(is_object) {
            let reason = "wants a whole commit, as ref or as checksum".into();
            return Err(GitError::Attribute { name: attr::GIT_FETCH_BY_COMMIT.into(), reason });
        }
        if Path::new(&out.subdir).components().any(|part| part.as_os_str() == ".git") {
            let (remote, subdir) = (out.remote.url.clone(), out.subdir.clone());
            let (at, commit) = (subdir.clone(), "any commit".into());
            return Err(GitError::Subdir { remote, commit, subdir, at, reason: "is never" });
        }
        Ok(out)
    }

    /// Reads `URL#REF`, all of a repository, with the ids of secrets and agents that BuildKit's clients name.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn named(name: &str) -> Result<Self, GitError> {
        let (url, reference) = name.split_once('#').unwrap_or((name, ""));
        let remote = Remote::parse(url)?;
        check_ref(reference)?;
        if reference.contains(':') {
            return Err(GitError::Ref { reference: reference.to_owned(), reason: "git has no such names" });
        }
        let agent = (remote.transport == Transport::Ssh).then(|| "default".to_owned());
        Ok(Self {
            remote,
            reference: if reference == "HEAD" { String::new() } else { reference.to_owned() },
            subdir: String::new(),
            checksum: None,
            keep_git_dir: false,
            skip_submodules: false,
            commit_time: false,
            by_commit: false,
            token_secret: "GIT_AUTH_TOKEN".into(),
            header_secret: "GIT_AUTH_HEADER".into(),
            agent,
            known_hosts: None,
        })
    }

    /// What of it is wanted, for people.
    pub fn shown(&self) -> String {
        let subdir = if self.subdir.is_empty() { String::new() } else { format!(":{}", self.subdir) };
        format!("{}#{}{subdir}", self.remote.url, self.reference)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(identifier: &str, attrs: &[(&str, &str)]) -> Result<GitSource, GitError> {
        let mut source = SourceOp { identifier: format!("git://{identifier}"), attrs: Default::default() };
        source.attrs.extend(attrs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        GitSource::parse(&source, identifier)
    }

    #[test]
    fn identifiers_and_attributes() {
        let source = parse("h/x.git#main:a/../b//c/", &[("git.mtime", "commit"), ("git.checksum", "ABC")]).unwrap();
        assert_eq!((source.remote.url.as_str(), source.reference.as_str()), ("https://h/x.git", "main"));
        assert_eq!(
            (source.subdir.as_str(), source.commit_time, source.checksum.as_deref()),
            ("b/c", true, Some("abc"))
        );
        let source = parse("h/x#:../../d", &[("git.fullurl", "ssh://git@h/x")]).unwrap();
        assert_eq!((source.remote.url.as_str(), source.subdir.as_str()), ("ssh://git@h/x", "d"));
        assert_eq!(parse("h/x#HEAD", &[]).unwrap().reference, "");
        assert_eq!(parse("h/x#a%2Fb", &[]).unwrap().reference, "a/b");
    }

    #[test]
    fn what_is_refused() {
        for (identifier, attrs) in [
            ("h/x#-x", &[][..]),
            ("h/x#--upload-pack=id", &[]),
            ("h/x#refs/heads/-x", &[]),
            ("h/x#a*", &[]),
            ("h/x#%2dx", &[]),
            ("h/x#main:.git", &[]),
            ("h/x#main:a/.git/hooks", &[]),
            ("h/x", &[("git.fullurl", "file:///etc")]),
            ("h/x", &[("git.checksum", "xyz")]),
            ("h/x", &[("git.mtime", "now")]),
            ("h/x", &[("git.bundle", "docker-image+blob://a@sha256:1")]),
            ("h/x", &[("git.checkoutbundle", "true")]),
            ("h/x", &[("git.sig.pubkey", "k")]),
            ("h/x", &[("git.fetchbycommit", "true")]),
            ("h/x#main", &[("git.fetchbycommit", "true"), ("git.checksum", "abc")]),
        ] {
            assert!(parse(identifier, attrs).is_err(), "{identifier} {attrs:?}");
        }
    }
}
