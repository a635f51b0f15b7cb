//! Things that are made once: a directory in the user's cache, made under a lock, published by rename.
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use rustix::fs::FlockOperation;

/// The directory `name` of the kit's cache (`$XDG_CACHE_HOME/rhost/kit`), filled by `make` the first time. `name` must
/// change when the recipe does. Several processes make it once.
///
/// # Errors
/// Those of `make`, and of the disk.
pub fn cached(name: &str, make: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
    let root = root()?;
    let done = root.join(name);
    if done.is_dir() {
        return Ok(done);
    }
    fs::create_dir_all(&root).with_context(|| format!("making `{}`", root.display()))?;
    let lock = fs::File::create(root.join(format!(".{name}.lock")))?;
    rustix::fs::flock(&lock, FlockOperation::LockExclusive)?;
    if done.is_dir() {
        return Ok(done);
    }
    let scratch = tempfile::Builder::new().prefix(".making-").tempdir_in(&root)?;
    let inside = scratch.path().join("it");
    fs::create_dir(&inside)?;
    make(&inside).with_context(|| format!("making `{name}` for tests"))?;
    fs::rename(&inside, &done)?;
    Ok(done)
}

/// As [`cached`], for what cannot be moved once it is made: `make` fills the directory where it stays. What a run that was cut off has left is made anew.
///
/// # Errors
/// Those of `make`, and of the disk.
pub fn kept(name: &str, make: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
    let root = root()?;
    let (place, mark) = (root.join(name), root.join(format!(".{name}.whole")));
    fs::create_dir_all(&root).with_context(|| format!("making `{}`", root.display()))?;
    let lock = fs::File::create(root.join(format!(".{name}.lock")))?;
    rustix::fs::flock(&lock, FlockOperation::LockExclusive)?;
    if !(mark.exists() && place.is_dir()) {
        if place.exists() {
            fs::remove_dir_all(&place)?;
        }
        fs::create_dir(&place)?;
        make(&place).with_context(|| format!("making `{name}` for tests"))?;
        fs::write(&mark, "")?;
    }
    Ok(place)
}

fn root() -> Result<PathBuf> {
    Ok(cache_home()?.join("kit"))
}

/// `$XDG_CACHE_HOME/rhost` or `~/.cache/rhost`.
pub(crate) fn cache_home() -> Result<PathBuf> {
    let from = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    let base = from("XDG_CACHE_HOME").or_else(|| Some(from("HOME")?.join(".cache")));
    Ok(base.context("neither XDG_CACHE_HOME nor HOME is set: nowhere to cache base images")?.join("rhost"))
}
