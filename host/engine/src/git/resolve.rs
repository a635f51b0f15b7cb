//! What a name stands for at the remote: one question (`ls-remote`), asked once in a build.
use rhost_llb::VertexDigest;

use super::auth;
use super::command::{Run, Runner};
use super::error::GitError;
use super::source::{GitSource, check_ref, is_object};
use crate::lock::{GitPin, LockKey, LockKind, Pin, git_name};
use crate::op_error::OpFailure;
use crate::shared::Shared;

/// What a remote answers for one name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refs {
    /// The object: a commit, or an annotated tag.
    object: String,
    /// The commit that an annotated tag stands for.
    commit: Option<String>,
    /// The whole name of the ref.
    name: String,
    /// The name that was asked for; the default branch's where none was.
    asked: String,
}

/// What a source stands for now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved {
    /// The object to fetch: a commit, or an annotated tag.
    pub object: String,
    /// The whole name of its ref; `None` where a commit was asked for.
    pub name: Option<String>,
    /// The name that was asked for, as BuildKit keeps it in `.git`.
    pub asked: String,
    /// Nobody was asked what the ref is now: it may have moved.
    pub pinned: bool,
    /// The key of the content (spec C.1).
    pub key: String,
}

/// The key of what `object` holds for `source` (spec C.1). `reference` is the whole name of the ref, or the object.
fn key(source: &GitSource, object: &str, reference: &str) -> String {
    let mut key = object.to_owned();
    if source.keep_git_dir {
        key.push_str(".git");
        if !reference.is_empty() {
            key = format!("{key}#{reference}");
        }
    }
    if !source.subdir.is_empty() {
        key = format!("{key}:{}", source.subdir);
    }
    if source.skip_submodules {
        key.push_str("(skip-submodules)");
    }
    if source.commit_time {
        key.push_str("(mtime=commit)");
    }
    key
}

fn differs(source: &GitSource, reference: &str, wanted: &str, found: String) -> OpFailure {
    let (remote, reference, wanted) = (source.remote.url.clone(), reference.to_owned(), wanted.to_owned());
    GitError::Checksum { remote, reference, wanted, found }.into()
}

/// What `source` stands for. Asks the remote unless a commit is named.
///
/// # Errors
/// The remote cannot be asked, has no such ref, or has another commit than it must be.
pub async fn resolve(shared: &Shared, source: &GitSource, log: VertexDigest) -> Result<Resolved, OpFailure> {
    let wanted = source.checksum.as_deref();
    if is_object(&source.reference) {
        let object = source.reference.clone();
        if let Some(wanted) = wanted.filter(|wanted| !object.starts_with(wanted)) {
            return Err(differs(source, &object, wanted, object.clone()));
        }
        let key = key(source, &object, &object);
        return Ok(Resolved { asked: object.clone(), object, name: None, pinned: true, key });
    }
    if let Some(object) = wanted.filter(|_| source.by_commit) {
        // A bare name is a branch, as in BuildKit.
        let name = match source.reference.as_str() {
            "" => None,
            name if name.starts_with("refs/") => Some(name.to_owned()),
            name => Some(format!("refs/heads/{name}")),
        };
        let key = key(source, object, name.as_deref().unwrap_or(object));
        let asked = name.unwrap_or_else(|| object.to_owned());
        return Ok(Resolved { object: object.to_owned(), name: None, asked, pinned: true, key });
    }
    let lock_key = LockKey::new(LockKind::Git, git_name(&source.remote.url, &source.reference));
    let pin = match shared.pins.get(&lock_key)? {
        Some(Pin::Git(pin)) => Some(pin),
        _ => None,
    };
    let pinned = pin.is_some();
    let refs = match pin {
        Some(pin) => Refs::of(source, pin),
        None => {
            let asked = shared.git.asked(lock_key.name.clone());
            let refs = asked.get_or_try_init(|| ask(shared, source, log)).await?.clone();
            shared.pins.found(lock_key, Pin::Git(refs.pin()));
            refs
        }
    };
    if let Some(wanted) = wanted {
        let fits = |object: &String| object.starts_with(wanted);
        if !fits(&refs.object) && !refs.commit.as_ref().is_some_and(fits) {
            let found = match &refs.commit {
                Some(commit) => format!("{} or {commit}", refs.object),
                None => refs.object.clone(),
            };
            return Err(differs(source, &refs.asked, wanted, found));
        }
    }
    // Without `.git` it is the commit that counts, so that a tag and its commit are one.
    let counts = refs.commit.as_ref().filter(|_| !source.keep_git_dir).unwrap_or(&refs.object);
    let key = key(source, counts, &refs.name);
    Ok(Resolved { object: refs.object, name: Some(refs.name), asked: refs.asked, pinned, key })
}

/// What the ref of `source` stands for now.
///
/// # Errors
/// The remote cannot be asked, or has no such ref.
pub async fn refresh(shared: &Shared, source: &GitSource, log: VertexDigest) -> Result<GitPin, OpFailure> {
    Ok(ask(shared, source, log).await?.pin())
}

impl Refs {
    /// As it stands in a lock file.
    fn pin(&self) -> GitPin {
        let (commit, tag) = match &self.commit {
            Some(commit) => (commit.clone(), Some(self.object.clone())),
            None => (self.object.clone(), None),
        };
        GitPin { commit, reference: self.name.clone(), tag }
    }

    /// From a lock file.
    fn of(source: &GitSource, pin: GitPin) -> Self {
        let asked = match (source.reference.as_str(), pin.reference.strip_prefix("refs/heads/")) {
            ("", Some(branch)) => branch.to_owned(),
            ("", None) => pin.commit.clone(),
            (asked, _) => asked.to_owned(),
        };
        let (object, commit) = match pin.tag {
            Some(tag) => (tag, Some(pin.commit)),
            None => (pin.commit, None),
        };
        Self { object, commit, name: pin.reference, asked }
    }
}

async fn ask(shared: &Shared, source: &GitSource, log: VertexDigest) -> Result<Refs, OpFailure> {
    let lent = auth::lend(shared, source, shared.git.patience.as_secs()).await?;
    let runner = Runner { shared, source, lent: &lent, log: Some(log), repository: None };
    let run = Run { doing: "ls-remote", remote: true, ..Run::default() };
    let reference = if source.reference.is_empty() { "HEAD" } else { &source.reference };
    let peeled = format!("{reference}^{{}}");
    let arguments = ["ls-remote", "--symref", "--", &source.remote.url, reference, &peeled];
    let said = runner.run(&arguments, &run).await?;
    read(source, &String::from_utf8_lossy(&said.answer))
}

/// Reads an answer of `ls-remote --symref`.
fn read(source: &GitSource, answer: &str) -> Result<Refs, OpFailure> {
    let remote = || source.remote.url.clone();
    let lines = || answer.lines().filter_map(|line| line.split_once('\t'));
    let find = |name: &str| {
        let found = lines().find(|(object, found)| *found == name && !object.starts_with("ref: "));
        found.map(|(object, _)| object.trim().to_owned())
    };
    let (object, name, commit, asked);
    if source.reference.is_empty() {
        object = find("HEAD").ok_or_else(|| GitError::Empty { remote: remote() })?;
        let branch = lines().find(|(_, name)| *name == "HEAD").and_then(|(text, _)| text.strip_prefix("ref: "));
        match branch.filter(|branch| branch.starts_with("refs/heads/")) {
            Some(branch) => {
                // It comes from the remote: nobody has looked at it yet.
                check_ref(branch)?;
                asked = branch["refs/heads/".len()..].to_owned();
                name = branch.to_owned();
            }
            // Detached: the commit is all there is to say.
            None => (name, asked) = ("HEAD".to_owned(), object.clone()),
        }
        commit = None;
    } else {
        let wanted = source.reference.as_str();
        let with = |prefix: &str| format!("{prefix}{}", wanted.strip_prefix(prefix).unwrap_or(wanted));
        let (partial, branch, tag) = (with("refs/"), with("refs/heads/"), with("refs/tags/"));
        // A whole name of a tag is a tag, not some other ref. Branches come before tags, as in git.
        let first = [partial, branch].into_iter().filter(|name| *name != tag);
        let found = first.filter_map(|name| find(&name).map(|object| (object, name))).next();
        match found {
            Some(found) => ((object, name), commit) = (found, None),
            None => {
                commit = find(&format!("{tag}^{{}}"));
                object =
                    find(&tag).ok_or_else(|| GitError::NoRef { remote: remote(), reference: wanted.to_owned() })?;
                name = tag;
            }
        }
        asked = wanted.to_owned();
    }
    if let Some(wrong) = [Some(&object), commit.as_ref()].into_iter().flatten().find(|object| !is_object(object)) {
        let reason = format!("`{}` is no commit", rhost_registry::redact(wrong));
        return Err(GitError::Answer { remote: remote(), reason }.into());
    }
    Ok(Refs { object, commit, name, asked })
}

#[cfg(test)]
mod tests {
    use rhost_llb::SourceOp;

    use super::*;

    const A: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    const B: &str = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";

    fn source(fragment: &str) -> GitSource {
        let source = SourceOp { identifier: String::new(), attrs: Default::default() };
        GitSource::parse(&source, &format!("h/x#{fragment}")).unwrap()
    }

    fn found(fragment: &str, answer: &str) -> Option<(String, Option<String>, String)> {
        let answer = answer.replace('<', A).replace('>', B);
        let refs = read(&source(fragment), &answer).ok()?;
        Some((refs.object[..1].to_owned(), refs.commit.map(|commit| commit[..1].to_owned()), refs.name))
    }

    #[test]
    fn branches_tags_and_defaults() {
        let branch = |object: &str, name: &str| Some((object.to_owned(), None, name.to_owned()));
        let both = "<\trefs/heads/x\n>\trefs/tags/x\n";
        assert_eq!(found("x", both), branch("a", "refs/heads/x"), "branches come first");
        assert_eq!(found("refs/tags/x", both), branch("b", "refs/tags/x"));
        assert_eq!(found("tags/x", both), branch("b", "refs/tags/x"));
        assert_eq!(found("x", "<\trefs/heads/y/x\n"), None, "only the end is equal");
        let annotated = "<\trefs/tags/v\n>\trefs/tags/v^{}\n";
        assert_eq!(found("v", annotated), Some(("a".into(), Some("b".into()), "refs/tags/v".into())));
        assert_eq!(found("pull/1/head", "<\trefs/pull/1/head\n"), branch("a", "refs/pull/1/head"));
        assert_eq!(found("", "ref: refs/heads/main\tHEAD\n<\tHEAD\n"), branch("a", "refs/heads/main"));
        assert_eq!(found("", "<\tHEAD\n"), branch("a", "HEAD"));
        assert_eq!(found("", ""), None, "empty");
        assert_eq!(found("", "ref: refs/heads/--upload-pack=x\tHEAD\n<\tHEAD\n"), None, "an option");
        assert_eq!(found("x", "zzz\trefs/heads/x\n"), None, "no commit");
    }

    #[test]
    fn keys_are_buildkits() {
        let mut one = source("main:a/b");
        assert_eq!(key(&one, A, "refs/heads/main"), format!("{A}:a/b"));
        (one.keep_git_dir, one.skip_submodules, one.commit_time) = (true, true, true);
        let wanted = format!("{A}.git#refs/heads/main:a/b(skip-submodules)(mtime=commit)");
        assert_eq!(key(&one, A, "refs/heads/main"), wanted);
    }
}
