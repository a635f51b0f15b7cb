//! Flattening: overlay directories laid over each other into one plain directory that reads as they do when they are mounted. Files are linked, not
//! copied; what a mark hides is removed, and no mark is left. One layer after the other, the lowest first, so that two descriptors for each level
//! are enough however many layers there are.
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::Mode;

use crate::copy_entry::{finish, xattrs_of};
use crate::file_ops::{MAX_DEPTH, remove_all};
use crate::layer_fit::{finish_of, link_or_copy};
use crate::path::{join, os, owned};
use crate::root::{self, stat_fd, try_stat_at};
use crate::{Error, OverlayXattrs, OwnerPolicy, Result, Root, Stat, xattr};

struct Level {
    fd: OwnedFd,
    path: Vec<u8>,
    stat: Stat,
    todo: Vec<Vec<u8>>,
    target: OwnedFd,
}

/// Lays the overlay directory `layer` over the plain directory `out`, which holds what is below it.
///
/// # Errors
/// A file cannot be read or made, or the disk is full. `out` is of no use then.
pub fn flatten_layer(layer: &Root, out: &Root, xattrs: OverlayXattrs, owners: OwnerPolicy) -> Result<()> {
    // A mark on the root itself means nothing to overlayfs.
    let mut levels = vec![level(layer.open_dir(b"/")?, Vec::from(*b"/"), out.open_dir(b"/")?)?];
    loop {
        let depth = levels.len();
        let Some(at) = levels.last_mut() else { return Ok(()) };
        let Some(name) = at.todo.pop() else {
            if let Some(done) = levels.pop() {
                leave(&done, owners)?;
            }
            continue;
        };
        let path = join(&at.path, &name);
        let shown = owned(&path);
        let Some(stat) = try_stat_at(&at.fd, &name, &shown)? else { continue };
        if !stat.is_dir() {
            remove_all(at.target.as_fd(), &name, &shown)?;
            if !stat.is_whiteout() {
                link_or_copy(&at.fd, &at.target, &name, &stat, owners, &shown)?;
            }
            continue;
        }
        if depth >= MAX_DEPTH {
            return Err(Error::TooDeep { path: shown, limit: MAX_DEPTH });
        }
        let fd = root::open_subdir(&at.fd, &name, &shown)?;
        let there = try_stat_at(&at.target, &name, &shown)?;
        let stays = there.as_ref().is_some_and(Stat::is_dir) && !is_opaque(&fd, xattrs, &shown)?;
        if !stays {
            if there.is_some() {
                remove_all(at.target.as_fd(), &name, &shown)?;
            }
            rustix::fs::mkdirat(&at.target, os(&name), Mode::from_raw_mode(0o700))
                .map_err(|e| Error::io("create directory", &shown, e))?;
        }
        let target = root::open_subdir(&at.target, &name, &shown)?;
        levels.push(level(fd, path, target)?);
    }
}

fn is_opaque(fd: &OwnedFd, xattrs: OverlayXattrs, shown: &Path) -> Result<bool> {
    let found = xattr::list(fd).map_err(|e| Error::io("list attributes of", shown, e))?;
    Ok(found.iter().any(|(key, value)| key == xattrs.opaque().as_bytes() && value == b"y"))
}

/// A directory is as its topmost layer has it: what those below gave it, or a parent with default permissions, goes.
fn leave(level: &Level, owners: OwnerPolicy) -> Result<()> {
    let shown = owned(&level.path);
    let failed = |e| Error::io("list attributes of", &shown, e);
    let xattrs = xattrs_of(level.fd.as_fd(), b".", &shown)?;
    for (key, _) in xattr::list(&level.target).map_err(failed)? {
        if !xattrs.iter().any(|(kept, _)| *kept == key)
            && let Err(error) = xattr::remove(&level.target, &key)
        {
            // One of the system's own, as a security label.
            tracing::debug!(%error, path = %shown.display(), key = %String::from_utf8_lossy(&key), "attribute not removed");
        }
    }
    finish(level.target.as_fd(), b".", &finish_of(&level.stat, owners, &xattrs), &shown)
}

fn level(fd: OwnedFd, path: Vec<u8>, target: OwnedFd) -> Result<Level> {
    let shown = owned(&path);
    let (stat, todo) = (stat_fd(&fd, &shown)?, root::names(&fd, &shown)?);
    Ok(Level { fd, path, stat, todo, target })
}
