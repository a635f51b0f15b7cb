//! Brings a commit into a repository of the store: as little as the server gives (one commit, by the ref's name, then by its own), else all.
//!
//! The repository is bare and belongs to one build at a time. What is there already is not asked for. No history is kept on purpose: a checkout
//! wants one commit, and a server that cannot cut history gives all of it.
use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;
use rhost_exec::ExitStatus;
use rhost_llb::{Digest, VertexDigest};
use rhost_store::GitRepository;

use super::command::{Run, Runner};
use super::error::GitError;
use super::resolve::Resolved;
use crate::event::Event;
use crate::op_error::{OpFailure, blocking};
use crate::shared::Shared;

/// How often a busy repository is asked for.
const ASK_FIRST: Duration = Duration::from_millis(5);
const ASK_LAST: Duration = Duration::from_millis(200);

/// The repository for `remote`, once nobody else has it. `object` tells which hash it is for: a repository has one.
///
/// # Errors
/// The store.
pub async fn claim(
    shared: &Shared,
    vertex: VertexDigest,
    remote: &str,
    object: &str,
) -> Result<GitRepository, OpFailure> {
    let key = format!("{} {remote}", object.len());
    let (mut pause, mut waiting) = (ASK_FIRST, None);
    loop {
        let (store, key, remote) = (shared.store.clone(), key.clone(), remote.to_owned());
        let what = format!("waiting for the repository of {remote}, which another fetch has");
        if let Some(repository) = blocking(move || Ok(store.try_git_repository(&key, &remote)?)).await? {
            if let Some(what) = waiting {
                shared.events.send(Event::Waiting { vertex, what, at: Timestamp::now(), over: true });
            }
            return Ok(repository);
        }
        if waiting.is_none() {
            let what: std::sync::Arc<str> = what.into();
            shared.events.send(Event::Waiting { vertex, what: what.clone(), at: Timestamp::now(), over: false });
            waiting = Some(what);
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(ASK_LAST);
    }
}

/// Whether the server does not give what was asked for, but may give it in another way.
fn may_give_otherwise(said: &str) -> bool {
    let refusals = [
        "not our ref",
        "unadvertised object",
        "remote ref",
        "shallow",
        "--depth",
        "dumb http",
        "expected shallow list",
    ];
    refusals.iter().any(|text| said.contains(text))
}

impl Runner<'_> {
    /// Makes a bare repository at `dir`, which is not there or empty.
    ///
    /// # Errors
    /// The disk.
    pub async fn init(&self, dir: &Path, object: &str) -> Result<(), OpFailure> {
        std::fs::create_dir_all(dir).map_err(|error| GitError::io("make", dir, error))?;
        let format = if object.len() == 64 { "--object-format=sha256" } else { "--object-format=sha1" };
        let run = Run { doing: "init", dir: Some(dir), ..Run::default() };
        self.run(&["init", "--quiet", "--bare", "--template=", format], &run).await.map(drop)
    }

    /// Whether the commit of `object`, and the object itself, are in the repository at `dir`.
    pub async fn has(&self, dir: &Path, object: &str) -> Result<bool, OpFailure> {
        let run = Run { doing: "cat-file", dir: Some(dir), ..Run::default() };
        let said = self.try_run(&["cat-file", "-e", &format!("{object}^{{commit}}")], &run).await?;
        Ok(said.status == ExitStatus::Code(0))
    }

    /// Brings what `wanted` stands for into the bare repository at `dir`.
    ///
    /// # Errors
    /// The remote does not give it.
    pub async fn fetch(&self, dir: &Path, wanted: &Resolved) -> Result<(), OpFailure> {
        let object = wanted.object.as_str();
        if self.has(dir, object).await? {
            return Ok(());
        }
        // Left by a git that was killed. Whoever holds the repository is alone in it.
        for lock in ["shallow.lock", "config.lock", "packed-refs.lock", "HEAD.lock"] {
            let path = dir.join(lock);
            match std::fs::remove_file(&path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(GitError::io("remove", path, error).into());
                }
                _ => {}
            }
        }
        let kept = |name: &str| format!("refs/rhost/{}", &Digest::of(name).hex()[..40]);
        let one = wanted.name.as_deref().map(|name| format!("+{name}:{}", kept(name)));
        let by_object = format!("+{object}:{}", kept(object));
        let by_name = one.iter();
        let order: Vec<&String> = if wanted.pinned {
            [&by_object].into_iter().chain(by_name).collect()
        } else {
            by_name.chain([&by_object]).collect()
        };
        for refspec in order {
            let shallow = self.fetch_refs(dir, &["--depth=1"], &[refspec]).await?;
            if let Err(said) = shallow
                && (said.contains("shallow") || said.contains("depth"))
                && let Err(said) = self.fetch_refs(dir, &[], &[refspec]).await?
            {
                tracing::debug!(%said, "fetched otherwise");
            }
            // The ref may have moved since it was resolved; then the object is asked for by its own name.
            if self.has(dir, object).await? {
                return Ok(());
            }
        }
        let all = ["+refs/heads/*:refs/all/heads/*", "+refs/tags/*:refs/all/tags/*"];
        let mut refspecs = all.map(str::to_owned).to_vec();
        refspecs.extend(one.filter(|spec| !spec.starts_with("+refs/heads/") && !spec.starts_with("+refs/tags/")));
        let refspecs: Vec<&str> = refspecs.iter().map(String::as_str).collect();
        let whole: &[&str] = if dir.join("shallow").exists() { &["--unshallow"] } else { &[] };
        let fetched = self.fetch_refs(dir, whole, &refspecs).await?;
        if self.has(dir, object).await? {
            return Ok(());
        }
        match fetched {
            Ok(()) => {
                let (remote, commit) = (self.source.remote.url.clone(), object.to_owned());
                Err(GitError::NoCommit { remote, commit }.into())
            }
            Err(said) => {
                let (remote, status) = (self.source.remote.url.clone(), "a refusal".to_owned());
                Err(GitError::Failed { remote, doing: "fetch", status, said }.into())
            }
        }
    }

    /// One fetch; a refusal that another may not meet is the inner error.
    async fn fetch_refs(
        &self,
        dir: &Path,
        options: &[&str],
        refspecs: &[&str],
    ) -> Result<Result<(), String>, OpFailure> {
        let mut arguments = vec!["fetch", "--force", "--progress", "--no-tags", "--no-recurse-submodules"];
        arguments.extend(["--no-auto-gc", "--no-write-fetch-head"]);
        arguments.extend(options);
        arguments.extend(["--", self.source.remote.url.as_str()]);
        arguments.extend(refspecs.iter().copied());
        let run = Run { doing: "fetch", dir: Some(dir), remote: true, told: true, ..Run::default() };
        let said = self.try_run(&arguments, &run).await?;
        match said.status {
            ExitStatus::Code(0) => Ok(Ok(())),
            _ if may_give_otherwise(&said.complaint) => Ok(Err(said.complaint)),
            _ => Err(self.failed("fetch", &said).into()),
        }
    }
}
