//! `scan`: everything below a directory with all its metadata, while others may be at work in it.
//!
//! For what is copied elsewhere whole (cache mounts). What goes away between its listing and its look is as if it had never been there; what changes is for the
//! caller to notice: each file is told with the `Stat` that its content must still have when it was read ([`read_unchanged`]).
use std::fs::File;
use std::os::fd::AsFd;

use rustix::fs::OFlags;

use crate::copy_entry::open_path;
use crate::path::{join, os, owned};
use crate::root::{names, read_link_at, stat_fd, try_stat_at};
use crate::{Error, FileIdentity, Kind, Result, Root, Stat, xattr};

/// Name and value.
pub type Attribute = (Vec<u8>, Vec<u8>);

/// One thing below a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scanned {
    /// Relative to the directory, without a leading `/`; empty for the directory itself.
    pub path: Vec<u8>,
    /// Metadata.
    pub stat: Stat,
    /// Extended attributes that go with a file wherever it goes: `user.*`, file capabilities, ACLs. Sorted.
    pub xattrs: Vec<Attribute>,
    /// Of a symlink.
    pub target: Vec<u8>,
}

/// Lists what is below `root`, itself first: parents before children, siblings by bytes, a directory's content right after it. `known` may answer the attributes
/// of a file that has not changed, so that it need not be opened.
///
/// # Errors
/// A directory that cannot be read; a path that is longer than the kernel takes.
pub fn scan(root: &Root, known: &dyn Fn(&FileIdentity) -> Option<Vec<Attribute>>) -> Result<Vec<Scanned>> {
    let top = stat_fd(root.fd(), &owned(b"/"))?;
    let mut xattrs = xattr::list_open(root.fd()).map_err(|e| Error::io("list attributes of", "/", e))?;
    xattrs.retain(|(name, _)| travels(name));
    let mut found = vec![Scanned { path: Vec::new(), stat: top, xattrs, target: Vec::new() }];
    below(root, &[], known, &mut found)?;
    Ok(found)
}

/// Whether an attribute means the same on another machine. Labels of a security module, signatures and marks of file systems do not.
fn travels(name: &[u8]) -> bool {
    let kept = name.starts_with(b"user.") || name == b"security.capability" || name.starts_with(b"system.posix_acl_");
    kept && !xattr::is_overlay(name)
}

fn below(
    root: &Root,
    path: &[u8],
    known: &dyn Fn(&FileIdentity) -> Option<Vec<Attribute>>,
    found: &mut Vec<Scanned>,
) -> Result<()> {
    let shown = owned(path);
    let dir = match root.open_dir(path) {
        // Went away, or is something else now.
        Err(error) if error.is_not_found() => return Ok(()),
        other => other?,
    };
    for name in names(&dir, &shown)? {
        let child = if path.is_empty() { name.clone() } else { join(path, &name) };
        let shown = owned(&child);
        let Some(stat) = try_stat_at(&dir, &name, &shown)? else { continue };
        let entry = match describe(dir.as_fd(), &name, &shown, &stat, known) {
            Err(error) if error.is_not_found() => continue,
            Err(Error::Io { source, .. }) if source.raw_os_error() == Some(libc::EINVAL) => continue,
            other => other?,
        };
        let is_dir = stat.is_dir();
        found.push(Scanned { path: child.clone(), stat, xattrs: entry.0, target: entry.1 });
        if is_dir {
            // One descriptor at a time would do, but a directory that moves while it is read must not lead elsewhere: each is opened anew from the root.
            below(root, &child, known, found)?;
        }
    }
    Ok(())
}

/// Attributes and link target.
fn describe(
    dir: std::os::fd::BorrowedFd<'_>,
    name: &[u8],
    shown: &std::path::Path,
    stat: &Stat,
    known: &dyn Fn(&FileIdentity) -> Option<Vec<Attribute>>,
) -> Result<(Vec<Attribute>, Vec<u8>)> {
    let target = if stat.is_symlink() { read_link_at(dir, name, shown)? } else { Vec::new() };
    if let Some(xattrs) = known(&FileIdentity::new(stat)) {
        return Ok((xattrs, target));
    }
    if stat.is_symlink() {
        // The kernel lets nobody give one an attribute that travels.
        return Ok((Vec::new(), target));
    }
    let fd = open_path(dir, name, shown)?;
    let mut xattrs = xattr::list(&fd).map_err(|e| Error::io("list attributes of", shown, e))?;
    xattrs.retain(|(name, _)| travels(name));
    Ok((xattrs, target))
}

/// Opens the regular file `path` (relative, free of symlinks) that was seen as `stat`, and lets `read` have it. `None` when it is gone, is another one, or was written
/// to before `read` was done.
///
/// # Errors
/// Those of `read`; a file that may not be opened.
pub fn read_unchanged<T>(
    root: &Root,
    path: &[u8],
    stat: &Stat,
    read: impl FnOnce(&mut File) -> std::io::Result<T>,
) -> Result<Option<T>> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
    let fd = match root.open_in(path, flags, "open") {
        Err(error) if error.is_not_found() => return Ok(None),
        Err(Error::Io { source, .. }) if source.raw_os_error() == Some(libc::ELOOP) => return Ok(None),
        other => other?,
    };
    let shown = owned(path);
    let same = |found: &Stat| found.kind == Kind::File && FileIdentity::new(found) == FileIdentity::new(stat);
    if !same(&stat_fd(&fd, &shown)?) {
        return Ok(None);
    }
    let mut file = File::from(fd);
    let value = match read(&mut file) {
        Ok(value) => value,
        // Cut while it was read.
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(Error::io("read", &shown, error)),
    };
    Ok(same(&stat_fd(&file, &shown)?).then_some(value))
}

/// What `path` (relative, free of symlinks) is now; `None` when it is gone.
///
/// # Errors
/// Those of the kernel.
pub fn stat_now(root: &Root, path: &[u8]) -> Result<Option<Stat>> {
    let fd = match root.open_in(path, OFlags::PATH | OFlags::NOFOLLOW, "stat") {
        Err(error) if error.is_not_found() => return Ok(None),
        other => other?,
    };
    stat_fd(&fd, &owned(path)).map(Some)
}

pub(crate) fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(at) => (&path[..at], &path[at + 1..]),
        None => (&[], path),
    }
}

/// The name of `path` in its directory, for the kernel.
pub(crate) fn last(path: &[u8]) -> &std::ffi::OsStr {
    os(split(path).1)
}

/// Opens directory `path` below `root`, which is the root itself where it is empty.
pub(crate) fn open_parent(root: &Root, path: &[u8]) -> Result<std::os::fd::OwnedFd> {
    root.open_in(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW, "open directory")
}
