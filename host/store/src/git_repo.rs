//! Repositories that git sources fetch into: what was fetched once is there for the next build.
//!
//! `git-v1/<hash of the remote>/repository` belongs to whoever holds its lock, an exclusive `flock`; so it is free again when its user is gone, however
//! that went. The remote's name is hashed and never becomes a path. What is in it is git's business and may be damaged: its user then makes
//! another one beside it ([`GitRepository::replacement`]), and puts that in its place once it is good. What is told of it (the remote, when it was
//! used, its size) is a fact of the records and may be lost without harm.
use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use rhost_llb::Digest;
use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};

use crate::usage::disk_size;
use crate::{Error, Result, Store};

pub(crate) const GIT_DIR: &str = "git-v1";
const FACTS: &str = "git-repository";
/// Of the table `usage`.
pub(crate) const USAGE: &str = "git";
/// Set aside to be removed.
const OLD: &str = "old-";

/// A repository that nobody else uses. Given back when dropped.
#[derive(Debug)]
pub struct GitRepository {
    store: Store,
    name: String,
    lock: File,
}

/// What is known of a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GitRepositoryInfo {
    /// Names it in the store.
    pub name: String,
    /// The remote, for people; `None` when the records were lost.
    pub remote: Option<String>,
    /// Its directory.
    pub dir: PathBuf,
    /// Whether somebody has it now.
    pub in_use: bool,
    /// Unix seconds; 0 is not known.
    pub created: i64,
    /// Unix seconds; 0 is not known.
    pub last_used: i64,
    /// How often it was used.
    pub uses: u64,
}

#[derive(Default, Serialize, Deserialize)]
struct Facts {
    remote: String,
    created: i64,
    last_used: i64,
    uses: u64,
}

fn lock_name(name: &str) -> String {
    format!("git {name}")
}

impl GitRepository {
    /// Where git's files are; not there in a new one.
    pub fn dir(&self) -> PathBuf {
        self.place().join("repository")
    }

    /// A directory for one more, beside it; what an earlier user left there is removed.
    ///
    /// # Errors
    /// The disk.
    pub fn replacement(&self) -> Result<PathBuf> {
        let dir = self.place().join("replacement");
        self.store.remove_in_git(&format!("{}/replacement", self.name))?;
        Ok(dir)
    }

    /// The replacement takes the repository's place.
    ///
    /// # Errors
    /// The disk.
    pub fn replace(&self) -> Result<()> {
        self.store.remove_in_git(&format!("{}/repository", self.name))?;
        let from = self.place().join("replacement");
        std::fs::rename(&from, self.dir()).map_err(|e| Error::io("name", &from, e))
    }

    /// The lock itself once more: it is held until this descriptor is closed, too.
    ///
    /// # Errors
    /// The process has too many descriptors.
    pub fn lock(&self) -> Result<OwnedFd> {
        let copy = self.lock.try_clone().map_err(|e| Error::io("keep the lock of", self.place(), e))?;
        Ok(copy.into())
    }

    fn place(&self) -> PathBuf {
        self.store.git_bucket().join(&self.name)
    }
}

impl Drop for GitRepository {
    fn drop(&mut self) {
        // While it is still ours; a size that is not remembered is measured by whoever asks.
        let size = disk_size(&self.place());
        let _ = self.store.inner.db.set_sizes(USAGE, &[(self.name.clone(), size)]);
    }
}

impl Store {
    pub(crate) fn git_bucket(&self) -> PathBuf {
        self.root().join(GIT_DIR)
    }

    /// The repository for `key`, any text; `None` while somebody else has it. `remote` is for people. Does not block.
    ///
    /// # Errors
    /// The disk.
    pub fn try_git_repository(&self, key: &str, remote: &str) -> Result<Option<GitRepository>> {
        let name = Digest::of(format!("git {key}")).hex()[..32].to_owned();
        let Some(lock) = self.flock(&lock_name(&name), FlockOperation::NonBlockingLockExclusive)? else {
            return Ok(None);
        };
        let place = self.git_bucket().join(&name);
        std::fs::create_dir_all(&place).map_err(|e| Error::io("create directory", &place, e))?;
        self.note_git_repository(&name, remote);
        Ok(Some(GitRepository { store: self.clone(), name, lock }))
    }

    /// Every repository.
    ///
    /// # Errors
    /// The disk.
    pub fn git_repositories(&self) -> Result<Vec<GitRepositoryInfo>> {
        let mut found = Vec::new();
        for name in self.git_names()?.into_iter().filter(|name| !name.starts_with(OLD)) {
            let facts = self.git_facts(&name);
            let free = self.flock(&lock_name(&name), FlockOperation::NonBlockingLockExclusive)?.is_some();
            found.push(GitRepositoryInfo {
                dir: self.git_bucket().join(&name),
                in_use: !free,
                remote: facts.as_ref().map(|facts| facts.remote.clone()),
                created: facts.as_ref().map_or(0, |facts| facts.created),
                last_used: facts.as_ref().map_or(0, |facts| facts.last_used),
                uses: facts.map_or(0, |facts| facts.uses),
                name,
            });
        }
        Ok(found)
    }

    /// Removes one by the name that [`Store::git_repositories`] gives; false when somebody has it, or it is not there.
    ///
    /// # Errors
    /// The disk.
    pub fn remove_git_repository(&self, name: &str) -> Result<bool> {
        if name.starts_with(OLD) || !self.git_names()?.iter().any(|known| known == name) {
            return Ok(false);
        }
        let Some(_lock) = self.flock(&lock_name(name), FlockOperation::NonBlockingLockExclusive)? else {
            return Ok(false);
        };
        let old = format!("{OLD}{name}-{}", crate::lock::unique_name());
        let from = self.git_bucket().join(name);
        std::fs::rename(&from, self.git_bucket().join(&old)).map_err(|e| Error::io("set aside", &from, e))?;
        self.remove_in_git(&old)?;
        let forgotten = self.inner.db.forget_fact(FACTS, name.as_bytes());
        if let Err(error) = forgotten.and_then(|()| self.inner.db.forget_usage(&[(USAGE.into(), name.into())])) {
            tracing::warn!(%error, "a removed git repository stays in the records");
        }
        Ok(true)
    }

    /// Removes what removals left that were killed. Returns how many.
    pub(crate) fn sweep_git(&self) -> Result<usize> {
        let old: Vec<_> = self.git_names()?.into_iter().filter(|name| name.starts_with(OLD)).collect();
        old.iter().try_for_each(|name| self.remove_in_git(name))?;
        Ok(old.len())
    }

    fn git_names(&self) -> Result<Vec<String>> {
        let bucket = self.git_bucket();
        let entries = match std::fs::read_dir(&bucket) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(Error::io("list", bucket, error)),
        };
        let names = entries.map(|entry| entry.map_err(|e| Error::io("list", &bucket, e)).map(|e| e.file_name()));
        let mut names = names.collect::<Result<Vec<_>>>()?.into_iter().filter_map(|name| name.into_string().ok());
        let mut found: Vec<String> = names.by_ref().collect();
        found.sort();
        Ok(found)
    }

    fn remove_in_git(&self, path: &str) -> Result<()> {
        let root = rhost_rootfs::Root::open(self.git_bucket())?;
        Ok(rhost_rootfs::rm(&root, path, rhost_rootfs::Rm { allow_not_found: true, wildcard: false })?)
    }

    fn git_facts(&self, name: &str) -> Option<Facts> {
        serde_json::from_slice(&self.fact(FACTS, name.as_bytes()).ok()??).ok()
    }

    /// Best effort: the records only tell about it.
    fn note_git_repository(&self, name: &str, remote: &str) {
        let now = crate::db::now();
        let mut facts = self.git_facts(name).unwrap_or_default();
        if facts.created == 0 {
            facts.created = now;
        }
        facts.remote = remote.to_owned();
        facts.last_used = now;
        facts.uses += 1;
        let bytes = serde_json::to_vec(&facts).unwrap_or_default();
        if let Err(error) = self.set_fact(FACTS, name.as_bytes(), &bytes) {
            tracing::warn!(%error, "the use of a git repository is not recorded");
        }
    }
}
