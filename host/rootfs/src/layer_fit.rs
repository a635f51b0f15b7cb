//! Fitting a layer to a base that it was not written on: overlayfs lists a directory that only one layer has as it lies on the disk, so a mark
//! for a removed file shows there as a file that cannot be opened. Marks for what the base does not have are left out; files are linked, not copied.
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, Mode};
use rustix::io::Errno;

use crate::copy_entry::{Finish, copy_file, finish, make_node, xattrs_of};
use crate::file_ops::MAX_DEPTH;
use crate::path::{join, os, owned};
use crate::root::{self, Last, stat_fd, try_stat_at};
use crate::{Error, OverlayXattrs, OwnerPolicy, Result, Root, Stat, xattr};

struct Level {
    fd: OwnedFd,
    path: Vec<u8>,
    stat: Stat,
    todo: Vec<Vec<u8>>,
    target: Option<OwnedFd>,
}

/// Writes to the empty directory `out` what the overlay directory `layer` is on top of `below` (`None`: on top of nothing), without marks that hide
/// nothing. False, and nothing was written, when there are none.
///
/// # Errors
/// A file cannot be read or made, or the disk is full.
pub fn fit_layer(
    layer: &Root,
    below: Option<&Root>,
    out: &Root,
    xattrs: OverlayXattrs,
    owners: OwnerPolicy,
) -> Result<bool> {
    let mut fit = Fit { layer, below, xattrs, owners, idle: false };
    fit.walk(None)?;
    if fit.idle {
        fit.walk(Some(out))?;
    }
    Ok(fit.idle)
}

struct Fit<'a> {
    layer: &'a Root,
    below: Option<&'a Root>,
    xattrs: OverlayXattrs,
    owners: OwnerPolicy,
    /// A mark that hides nothing was met.
    idle: bool,
}

impl Fit<'_> {
    fn walk(&mut self, out: Option<&Root>) -> Result<()> {
        let top = self.layer.open_dir(b"/")?;
        let target = out.map(|out| out.open_dir(b"/")).transpose()?;
        let mut levels = vec![level(top, Vec::from(*b"/"), target)?];
        loop {
            let depth = levels.len();
            let Some(at) = levels.last_mut() else { return Ok(()) };
            let Some(name) = at.todo.pop() else {
                if let Some(done) = levels.pop() {
                    self.leave(&done)?;
                }
                continue;
            };
            let path = join(&at.path, &name);
            let shown = owned(&path);
            let Some(stat) = try_stat_at(&at.fd, &name, &shown)? else { continue };
            if stat.is_whiteout() && !self.is_below(&shown)? {
                self.idle = true;
                if out.is_none() {
                    return Ok(());
                }
            } else if stat.is_dir() {
                if depth >= MAX_DEPTH {
                    return Err(Error::TooDeep { path: shown, limit: MAX_DEPTH });
                }
                let fd = root::open_subdir(&at.fd, &name, &shown)?;
                let target = match &at.target {
                    None => None,
                    Some(parent) => {
                        rustix::fs::mkdirat(parent, os(&name), Mode::from_raw_mode(0o700))
                            .map_err(|e| Error::io("create directory", &shown, e))?;
                        Some(root::open_subdir(parent, &name, &shown)?)
                    }
                };
                levels.push(level(fd, path, target)?);
            } else if let Some(target) = &at.target {
                link_or_copy(&at.fd, target, &name, &stat, self.owners, &shown)?;
            }
        }
    }

    fn is_below(&self, path: &Path) -> Result<bool> {
        match self.below {
            None => Ok(false),
            Some(below) => Ok(below.try_stat(path, Last::Keep)?.is_some()),
        }
    }

    fn leave(&self, level: &Level) -> Result<()> {
        let Some(target) = &level.target else { return Ok(()) };
        let shown = owned(&level.path);
        let mut xattrs = xattrs_of(level.fd.as_fd(), b".", &shown)?;
        let opaque = self.xattrs.opaque();
        let all = xattr::list(&level.fd).map_err(|e| Error::io("list attributes of", &shown, e))?;
        xattrs.extend(all.into_iter().filter(|(key, _)| key == opaque.as_bytes()));
        finish(target.as_fd(), b".", &finish_of(&level.stat, self.owners, &xattrs), &shown)
    }
}

/// Makes `name`, which is no directory, in `to` too: by another link, or by a copy where the file system wants no more links.
pub(crate) fn link_or_copy(
    from: &OwnedFd,
    to: &OwnedFd,
    name: &[u8],
    stat: &Stat,
    owners: OwnerPolicy,
    shown: &Path,
) -> Result<()> {
    match rustix::fs::linkat(from, os(name), to, os(name), AtFlags::empty()) {
        Ok(()) => return Ok(()),
        Err(Errno::MLINK | Errno::PERM | Errno::XDEV) => {}
        Err(error) => return Err(Error::io("create hard link", shown, error)),
    }
    if stat.is_file() {
        copy_file((from.as_fd(), name), (to.as_fd(), name), shown)?;
    } else if stat.is_symlink() {
        let link = root::read_link_at(from, name, shown)?;
        rustix::fs::symlinkat(os(&link), to, os(name)).map_err(|e| Error::io("create symlink", shown, e))?;
    } else {
        make_node(to.as_fd(), name, stat.kind, stat.rdev, shown)?;
    }
    if stat.is_whiteout() {
        return Ok(());
    }
    let xattrs = xattrs_of(from.as_fd(), name, shown)?;
    finish(to.as_fd(), name, &finish_of(stat, owners, &xattrs), shown)
}

/// What makes a file like one with `stat` and `xattrs`.
pub(crate) fn finish_of<'x>(stat: &Stat, owners: OwnerPolicy, xattrs: &'x [(Vec<u8>, Vec<u8>)]) -> Finish<'x> {
    Finish {
        owner: Some(stat.owner),
        owners,
        mode: (!stat.is_symlink()).then_some(stat.mode),
        atime: stat.atime,
        mtime: stat.mtime,
        xattrs,
    }
}

fn level(fd: OwnedFd, path: Vec<u8>, target: Option<OwnedFd>) -> Result<Level> {
    let shown = owned(&path);
    let (stat, todo) = (stat_fd(&fd, &shown)?, root::names(&fd, &shown)?);
    Ok(Level { fd, path, stat, todo, target })
}
