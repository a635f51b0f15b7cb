//! A layer of a commit: the files as git checks them out (root's, umask 022), with submodules, of a directory, with or without `.git`, as the source
//! says.
//!
//! git writes into a directory of the new layer that nobody else has; what it wrote is then looked at by descriptors only, since names in it are
//! the remote's. Everything beside the layer's files (index, scratch repository) is gone before the layer is committed.
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rhost_rootfs::{Filter, Last, Rm, Root, rm, walk};
use rhost_store::{ActiveSnapshot, SnapshotId};
use rustix::fs::{AtFlags, Timespec, Timestamps, renameat, utimensat};

use super::GitSource;
use super::command::{Run, Runner};
use super::error::GitError;
use super::resolve::Resolved;
use super::source::is_object;
use crate::op_error::{OpFailure, blocking};

/// Where `.git` is fetched from: a repository of the store, which only this run may reach.
const LOCAL: &str = "file";

/// Directories of a checkout, beside the layer's files.
struct Places {
    /// The files of the layer.
    layer: PathBuf,
    /// Where git checks out.
    tree: PathBuf,
    /// git's own directory.
    git: PathBuf,
}

impl Places {
    fn new(active: &ActiveSnapshot, source: &GitSource) -> Self {
        let layer = active.upper();
        let beside = |name: &str| layer.with_file_name(name);
        let keeps = keeps(source);
        let tree = if source.subdir.is_empty() { layer.clone() } else { beside("checkout") };
        let git = if keeps { tree.join(".git") } else { beside("git") };
        Self { tree, git, layer }
    }
}

/// Whether `.git` stays: as in BuildKit only with the whole tree.
fn keeps(source: &GitSource) -> bool {
    source.keep_git_dir && source.subdir.is_empty()
}

impl Runner<'_> {
    /// Makes a layer of `wanted`, which is in the bare repository at `dir`.
    ///
    /// # Errors
    /// Its objects are damaged, a submodule cannot be had, the directory is not in it.
    pub async fn checkout(&self, dir: &Path, wanted: &Resolved) -> Result<SnapshotId, OpFailure> {
        let store = self.shared.store.clone();
        let active = blocking(move || Ok(store.prepare(None)?)).await?;
        let places = Places::new(&active, self.source);
        for path in [&places.layer, &places.tree] {
            std::fs::create_dir_all(path).map_err(|error| GitError::io("make", path, error))?;
            let open = std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755));
            open.map_err(|error| GitError::io("open", path, error))?;
        }
        let run = Run { doing: "rev-parse", dir: Some(dir), ..Run::default() };
        let commit = self.run(&["rev-parse", "--verify", &format!("{}^{{commit}}", wanted.object)], &run).await?.line();
        if !is_object(&commit) {
            let (remote, reason) = (self.source.remote.url.clone(), format!("`{}` is no commit", wanted.object));
            return Err(GitError::Answer { remote, reason }.into());
        }
        let time = if self.source.commit_time { Some(self.commit_time(dir, &commit).await?) } else { None };
        if keeps(self.source) {
            self.check_out_kept(dir, &places, wanted).await?;
        } else {
            self.check_out(dir, &places, &commit).await?;
        }
        if !self.source.skip_submodules {
            self.submodules(&places.git, &places.tree).await?;
        }
        let (source, keeps) = (self.source.clone(), keeps(self.source));
        let name = format!("git snapshot for {}", self.source.shown());
        blocking(move || {
            if !keeps {
                remove_git_files(&places.tree)?;
            }
            if !source.subdir.is_empty() {
                let (tree, layer) = (Root::open(&places.tree)?, Root::open(&places.layer)?);
                take_subdir(&tree, &layer, &source, &commit)?;
                remove(&places.tree)?;
            }
            if !keeps {
                remove(&places.git)?;
            }
            if let Some(time) = time {
                set_times(&places.layer, time)?;
            }
            Ok(active.commit_as(&name)?)
        })
        .await
    }

    /// Without `.git`: the index and what submodules need lie in a scratch repository that borrows the objects.
    async fn check_out(&self, dir: &Path, places: &Places, commit: &str) -> Result<(), OpFailure> {
        self.scratch(dir, places, commit)?;
        let run =
            Run { doing: "checkout", dir: Some(&places.git), tree: Some(&places.tree), told: true, ..Run::default() };
        self.run(&["read-tree", "--reset", "-u", commit], &run).await.map(drop)
    }

    /// A repository by hand: what `git init` makes beside is of no use here.
    fn scratch(&self, dir: &Path, places: &Places, commit: &str) -> Result<(), OpFailure> {
        let write = |name: &str, text: String| -> Result<(), GitError> {
            let path = places.git.join(name);
            let made = path.parent().map_or(Ok(()), std::fs::create_dir_all).and_then(|()| std::fs::write(&path, text));
            made.map_err(|error| GitError::io("write", path, error))
        };
        let format = if commit.len() == 64 {
            "repositoryformatversion = 1\n[extensions]\n\tobjectformat = sha256\n"
        } else {
            "repositoryformatversion = 0\n"
        };
        let url = self.source.remote.url.replace('\\', "\\\\").replace('"', "\\\"");
        write("HEAD", format!("{commit}\n"))?;
        write("config", format!("[core]\n\t{format}[core]\n\tbare = false\n[remote \"origin\"]\n\turl = \"{url}\"\n"))?;
        write("objects/info/alternates", format!("{}\n", dir.join("objects").display()))?;
        write("refs/keep", String::new())?;
        let shallow = dir.join("shallow");
        if shallow.exists() {
            let copied = std::fs::copy(&shallow, places.git.join("shallow"));
            copied.map_err(|error| GitError::io("copy", shallow, error))?;
        }
        Ok(())
    }

    /// With `.git`, as BuildKit leaves it: one commit, detached, its ref under the name that was asked for, the remote as origin.
    async fn check_out_kept(&self, dir: &Path, places: &Places, wanted: &Resolved) -> Result<(), OpFailure> {
        let run = || Run { doing: "checkout", dir: Some(&places.git), tree: Some(&places.tree), ..Run::default() };
        let format = if wanted.object.len() == 64 { "--object-format=sha256" } else { "--object-format=sha1" };
        self.run(&["init", "--quiet", format], &run()).await?;
        // A path rather than a URL, in which some characters mean something else.
        let local = dir.display().to_string();
        self.run(&["remote", "add", "origin", &local], &run()).await?;
        let kind = Run { doing: "cat-file", dir: Some(dir), ..Run::default() };
        let is_tag = self.run(&["cat-file", "-t", &wanted.object], &kind).await?.line() == "tag";
        let refspec = match wanted.asked.as_str() {
            asked if is_object(asked) => wanted.object.clone(),
            asked if is_tag => {
                format!("{}:refs/tags/{}", wanted.object, asked.strip_prefix("refs/tags/").unwrap_or(asked))
            }
            asked if asked.starts_with("refs/") => format!("{}:{asked}", wanted.object),
            asked if ["heads/", "tags/", "remotes/"].iter().any(|prefix| asked.starts_with(prefix)) => {
                format!("{}:refs/{asked}", wanted.object)
            }
            asked => format!("{}:refs/heads/{asked}", wanted.object),
        };
        let fetch = Run { environment: vec![("GIT_ALLOW_PROTOCOL", LOCAL.into())], ..run() };
        let arguments = ["fetch", "--quiet", "-u", "--depth=1", "--no-auto-gc", "--", "origin", &refspec];
        self.run(&arguments, &fetch).await?;
        self.run(&["checkout", "--quiet", "FETCH_HEAD"], &Run { told: true, ..run() }).await?;
        self.run(&["remote", "set-url", "origin", &self.source.remote.url], &run()).await?;
        self.run(&["reflog", "expire", "--all", "--expire=now"], &run()).await?;
        let fetched = places.git.join("FETCH_HEAD");
        match std::fs::remove_file(&fetched) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(GitError::io("remove", fetched, error).into())
            }
            _ => Ok(()),
        }
    }

    /// The committer's time, in seconds.
    async fn commit_time(&self, dir: &Path, commit: &str) -> Result<i64, OpFailure> {
        let run = Run { doing: "cat-file", dir: Some(dir), ..Run::default() };
        let said = self.run(&["cat-file", "commit", commit], &run).await?;
        let text = String::from_utf8_lossy(&said.answer).into_owned();
        let line = text.lines().take_while(|line| !line.is_empty()).find_map(|line| line.strip_prefix("committer "));
        let time = line.and_then(|line| line.rsplit(' ').nth(1)).and_then(|time| time.parse().ok());
        Ok(time.ok_or_else(|| GitError::Answer {
            remote: self.source.remote.url.clone(),
            reason: format!("commit {commit} has no time"),
        })?)
    }
}

fn remove(dir: &Path) -> Result<(), OpFailure> {
    let (Some(parent), Some(name)) = (dir.parent(), dir.file_name().and_then(|name| name.to_str())) else {
        return Ok(());
    };
    Ok(rm(&Root::open(parent)?, name, Rm { allow_not_found: true, wildcard: false })?)
}

/// Removes the files by which submodules name their repositories, which do not stay. git never checks out a file of this name.
fn remove_git_files(tree: &Path) -> Result<(), OpFailure> {
    let root = Root::open(tree)?;
    for entry in walk(&root, &Filter::default())? {
        if entry.path.file_name().is_some_and(|name| name == ".git")
            && let Some(path) = entry.path.to_str()
        {
            rm(&root, path, Rm { allow_not_found: true, wildcard: false })?;
        }
    }
    Ok(())
}

/// Moves what is in the directory that `source` names into the layer. Each part of its path is a real directory (CVE-2026-33748).
fn take_subdir(tree: &Root, layer: &Root, source: &GitSource, commit: &str) -> Result<(), OpFailure> {
    let mut at = String::new();
    for part in source.subdir.split('/') {
        at = if at.is_empty() { part.to_owned() } else { format!("{at}/{part}") };
        let wrong = |reason| GitError::Subdir {
            remote: source.remote.url.clone(),
            commit: commit.to_owned(),
            subdir: source.subdir.clone(),
            at: at.clone(),
            reason,
        };
        match tree.try_stat(&at, Last::Keep)? {
            Some(found) if found.is_dir() => {}
            Some(found) if found.is_symlink() => return Err(wrong("is a symbolic link, non-directory,").into()),
            Some(_) => return Err(wrong("is non-directory").into()),
            None => return Err(wrong("is not (no such file or directory)").into()),
        }
    }
    let from = tree.dir(&source.subdir)?;
    for entry in from.read_dir("/")? {
        renameat(from.fd(), &entry.name, layer.fd(), &entry.name)
            .map_err(|error| GitError::io("move", &entry.name, error.into()))?;
    }
    Ok(())
}

/// Gives everything one time, children before their directories.
fn set_times(layer: &Path, seconds: i64) -> Result<(), OpFailure> {
    let root = Root::open(layer)?;
    let time = Timespec { tv_sec: seconds, tv_nsec: 0 };
    let times = Timestamps { last_access: time, last_modification: time };
    for entry in walk(&root, &Filter::default())?.iter().rev() {
        utimensat(root.fd(), &entry.path, &times, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|error| GitError::io("set the time of", &entry.path, error.into()))?;
    }
    rustix::fs::futimens(root.fd().as_fd(), &times)
        .map_err(|error| GitError::io("set the time of", layer, error.into()).into())
}
