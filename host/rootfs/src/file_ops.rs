//! mkdir, mkfile, symlink and rm of BuildKit's FileOp (spec A.1). Destinations are resolved inside the root first, symlinks followed,
//! also those that lead to what does not exist yet; then only descriptors are used.
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Gid, Mode, OFlags, Uid};
use rustix::io::Errno;

use crate::glob::{glob_match, split_wildcard, validate};
use crate::path::{anchor, base, bytes, dir, join, os, owned};
use crate::root::{self, Last, Root};
use crate::stat::timestamps;
use crate::{Error, Owner, OwnerPolicy, Result, Timestamp};

/// Flags of a removal (spec A.1 Rm).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rm {
    /// Nothing there is no error.
    pub allow_not_found: bool,
    /// The path is a pattern.
    pub wildcard: bool,
}

/// Deepest directory nesting that is followed.
pub(crate) const MAX_DEPTH: usize = 2000;

/// Makes directory `path`; one that exists is left as it is.
pub fn mkdir(
    root: &Root,
    path: &str,
    mode: u32,
    owner: Option<Owner>,
    timestamp: Option<Timestamp>,
    owners: OwnerPolicy,
) -> Result<()> {
    let resolved = root.resolve(path, Last::Follow)?;
    let Some((parent, name)) = parent_of(root, &resolved)? else { return Ok(()) };
    match rustix::fs::mkdirat(&parent, os(&name), Mode::from_raw_mode(mode & 0o777)) {
        // As BuildKit: what exists is left alone, whatever it is.
        Err(Errno::EXIST) => return Ok(()),
        other => other.map_err(|e| Error::io("create directory", &resolved, e))?,
    }
    finish_dir(&parent, &name, &resolved, mode & 0o777, owner, timestamp, owners)
}

/// As [`mkdir`], with missing parents, each with this mode, owner and time.
pub fn mkdir_all(
    root: &Root,
    path: &str,
    mode: u32,
    owner: Option<Owner>,
    timestamp: Option<Timestamp>,
    owners: OwnerPolicy,
) -> Result<()> {
    let resolved = root.resolve(path, Last::Follow)?;
    let made = make_dirs(root, bytes(&resolved), mode & 0o777, owner, timestamp, owners)?;
    settle(root, &made, timestamp)
}

/// Writes file `path`, replacing the content of one that exists.
pub fn mkfile(
    root: &Root,
    path: &str,
    data: &[u8],
    mode: u32,
    owner: Option<Owner>,
    timestamp: Option<Timestamp>,
    owners: OwnerPolicy,
) -> Result<()> {
    let resolved = root.resolve(path, Last::Follow)?;
    let Some((parent, name)) = parent_of(root, &resolved)? else { return Err(Error::NotRegular { path: resolved }) };
    let create = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let permissions = Mode::from_raw_mode(mode & 0o777);
    let failed = |e| Error::io("write", &resolved, e);
    let fd = match rustix::fs::openat(&parent, os(&name), create, permissions) {
        Ok(fd) => {
            rustix::fs::fchmod(&fd, permissions).map_err(failed)?;
            fd
        }
        Err(Errno::EXIST) => {
            // Never a pipe or a device: opening one can block, writing to one can do anything.
            if !root::stat_at(&parent, &name, &resolved)?.is_file() {
                return Err(Error::NotRegular { path: resolved });
            }
            let flags = OFlags::WRONLY | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
            rustix::fs::openat(&parent, os(&name), flags, Mode::empty()).map_err(failed)?
        }
        Err(error) => return Err(failed(error)),
    };
    let mut file = std::fs::File::from(fd);
    file.write_all(data).map_err(|e| Error::io("write", &resolved, e))?;
    drop(file);
    chown(&parent, &name, owner, owners, &resolved)?;
    touch(&parent, &name, timestamp, &resolved)
}

/// Makes symlink `link` that points at `target`.
pub fn symlink(
    root: &Root,
    target: &str,
    link: &str,
    owner: Option<Owner>,
    timestamp: Option<Timestamp>,
    owners: OwnerPolicy,
) -> Result<()> {
    let resolved = root.resolve(link, Last::Follow)?;
    let Some((parent, name)) = parent_of(root, &resolved)? else {
        return Err(Error::IsRoot { path: link.into(), action: "replaced" });
    };
    rustix::fs::symlinkat(target, &parent, os(&name)).map_err(|e| Error::io("create symlink", &resolved, e))?;
    chown(&parent, &name, owner, owners, &resolved)?;
    touch(&parent, &name, timestamp, &resolved)
}

/// Removes `path` with everything below it. The path is anchored at `/` before `..` is applied, and a symlink at its end is removed, not
/// followed.
pub fn rm(root: &Root, path: &str, options: Rm) -> Result<()> {
    let anchored = anchor(path.as_bytes());
    if !options.wildcard {
        return rm_one(root, &anchored, options.allow_not_found);
    }
    for found in expand(root, &anchored, Last::Keep)? {
        rm_one(root, &found, options.allow_not_found)?;
    }
    Ok(())
}

fn rm_one(root: &Root, path: &[u8], allow_not_found: bool) -> Result<()> {
    if path == b"/" {
        return Err(Error::IsRoot { path: owned(path), action: "removed" });
    }
    let resolved = root.resolve(owned(&dir(path)), Last::Follow)?;
    let name = base(path);
    let shown = owned(path);
    let gone = || if allow_not_found { Ok(()) } else { Err(Error::NotFound { path: shown.clone() }) };
    let parent = match root.open_dir(bytes(&resolved)) {
        Ok(parent) => parent,
        Err(error) if error.is_not_found() => return gone(),
        Err(error) => return Err(error),
    };
    match root::try_stat_at(&parent, name, &shown)? {
        None => gone(),
        Some(_) => remove_all(parent.as_fd(), name, &shown),
    }
}

/// Paths that a pattern stands for, as fsutil finds them: below the part without wildcards, a directory that matches is not searched further.
/// A path without wildcards stands for itself.
pub(crate) fn expand(root: &Root, pattern: &[u8], last: Last) -> Result<Vec<Vec<u8>>> {
    let (fixed, wild) = split_wildcard(pattern);
    if wild.is_empty() {
        return Ok(vec![pattern.to_vec()]);
    }
    validate(&wild)?;
    let start = match last {
        Last::Follow => root.resolve(owned(&fixed), Last::Follow)?,
        Last::Keep => root.resolve(owned(&fixed), Last::Keep)?,
    };
    let depth = wild.split(|b| *b == b'/').count();
    let mut found = Vec::new();
    let mut todo: Vec<Vec<u8>> = vec![bytes(&start).to_vec()];
    while let Some(at) = todo.pop() {
        let fd = match root.open_dir(&at) {
            Ok(fd) => fd,
            Err(Error::NotDirectory { .. }) => continue,
            Err(error) if error.is_not_found() && at != bytes(&start) => continue,
            Err(error) => return Err(error),
        };
        let mut below = Vec::new();
        for name in root::names(&fd, &owned(&at))? {
            let path = join(&at, &name);
            let relative = path[bytes(&start).len()..].strip_prefix(b"/").unwrap_or(&path[bytes(&start).len()..]);
            if glob_match(&wild, relative)? {
                found.push(path);
                continue;
            }
            if relative.split(|b| *b == b'/').count() >= depth {
                continue;
            }
            if root::try_stat_at(&fd, &name, &owned(&path))?.is_some_and(|s| s.is_dir()) {
                below.push(path);
            }
        }
        todo.extend(below.into_iter().rev());
    }
    found.sort_by(|a, b| a.split(|c| *c == b'/').cmp(b.split(|c| *c == b'/')));
    Ok(found)
}

/// Removes `name` in `parent` with everything below it. Keeps one descriptor per level and never follows a symlink.
pub(crate) fn remove_all(parent: BorrowedFd<'_>, name: &[u8], shown: &Path) -> Result<()> {
    let failed = |e| Error::io("remove", shown, e);
    if unlink(parent, name).map_err(failed)? {
        return Ok(());
    }
    struct Level {
        fd: OwnedFd,
        name: Vec<u8>,
        todo: Vec<Vec<u8>>,
    }
    let open = |at: BorrowedFd<'_>, name: &[u8]| -> Result<Level> {
        let fd = root::open_subdir(at, name, shown)?;
        let todo = root::names(&fd, shown)?;
        Ok(Level { fd, name: name.to_vec(), todo })
    };
    let mut levels = vec![open(parent, name)?];
    while let Some(level) = levels.last_mut() {
        match level.todo.pop() {
            Some(child) => {
                if !unlink(level.fd.as_fd(), &child).map_err(failed)? {
                    if levels.len() >= MAX_DEPTH {
                        return Err(Error::TooDeep { path: shown.to_path_buf(), limit: MAX_DEPTH });
                    }
                    let next = open(levels[levels.len() - 1].fd.as_fd(), &child)?;
                    levels.push(next);
                }
            }
            None => {
                let done = levels.pop().map(|l| l.name).unwrap_or_default();
                let above = levels.last().map_or(parent, |l| l.fd.as_fd());
                match rustix::fs::unlinkat(above, os(&done), AtFlags::REMOVEDIR) {
                    Ok(()) | Err(Errno::NOENT) => {}
                    Err(error) => return Err(failed(error)),
                }
            }
        }
    }
    Ok(())
}

/// Unlinks what is no directory; false when it is one.
fn unlink(parent: BorrowedFd<'_>, name: &[u8]) -> std::result::Result<bool, Errno> {
    match rustix::fs::unlinkat(parent, os(name), AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(true),
        Err(Errno::ISDIR) => Ok(false),
        // Some file systems answer PERM for a directory.
        Err(Errno::PERM) => {
            let is_dir = rustix::fs::statat(parent, os(name), AtFlags::SYMLINK_NOFOLLOW)
                .is_ok_and(|s| rustix::fs::FileType::from_raw_mode(s.st_mode).is_dir());
            if is_dir { Ok(false) } else { Err(Errno::PERM) }
        }
        Err(error) => Err(error),
    }
}

/// The open parent directory of a resolved path and its last component; `None` for the root.
pub(crate) fn parent_of(root: &Root, resolved: &Path) -> Result<Option<(OwnedFd, Vec<u8>)>> {
    let path = bytes(resolved);
    if path == b"/" {
        return Ok(None);
    }
    Ok(Some((root.open_dir(&dir(path))?, base(path).to_vec())))
}

/// Makes the directories of a resolved path that are missing; answers those made, outermost first.
pub(crate) fn make_dirs(
    root: &Root,
    path: &[u8],
    mode: u32,
    owner: Option<Owner>,
    timestamp: Option<Timestamp>,
    owners: OwnerPolicy,
) -> Result<Vec<PathBuf>> {
    let mut made = Vec::new();
    let mut at: Vec<u8> = Vec::from(*b"/");
    let mut fd = root.open_dir(b"/")?;
    for part in path.split(|b| *b == b'/').filter(|p| !p.is_empty()) {
        at = join(&at, part);
        let shown = owned(&at);
        match rustix::fs::mkdirat(&fd, os(part), Mode::from_raw_mode(mode & 0o7777)) {
            Ok(()) => {
                finish_dir(&fd, part, &shown, mode, owner, timestamp, owners)?;
                made.push(shown.clone());
            }
            Err(Errno::EXIST) => {}
            Err(error) => return Err(Error::io("create directory", shown, error)),
        }
        fd = root::open_subdir(&fd, part, &shown)?;
    }
    Ok(made)
}

/// Sets the times of directories made on the way once more: making what is in them has moved them.
pub(crate) fn settle(root: &Root, made: &[PathBuf], timestamp: Option<Timestamp>) -> Result<()> {
    if timestamp.is_some() {
        for path in made.iter().rev() {
            if let Some((parent, name)) = parent_of(root, path)? {
                touch(&parent, &name, timestamp, path)?;
            }
        }
    }
    Ok(())
}

fn finish_dir(
    parent: &OwnedFd,
    name: &[u8],
    shown: &Path,
    mode: u32,
    owner: Option<Owner>,
    timestamp: Option<Timestamp>,
    owners: OwnerPolicy,
) -> Result<()> {
    chown(parent, name, owner, owners, shown)?;
    let fd = root::open_subdir(parent, name, shown)?;
    // mkdir obeys the umask and keeps a parent's setgid bit; the mode asked for is set exactly.
    rustix::fs::fchmod(&fd, Mode::from_raw_mode(mode)).map_err(|e| Error::io("set mode of", shown, e))?;
    touch(parent, name, timestamp, shown)
}

/// Sets the owner of `name` in `parent`, not following a symlink.
pub(crate) fn chown(
    parent: impl AsFd,
    name: &[u8],
    owner: Option<Owner>,
    owners: OwnerPolicy,
    shown: &Path,
) -> Result<()> {
    changed_owner(owner, owners, shown, |uid, gid| {
        rustix::fs::chownat(parent, os(name), Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
    })
}

/// As [`chown`] for an open file.
pub(crate) fn chown_open(file: impl AsFd, owner: Option<Owner>, owners: OwnerPolicy, shown: &Path) -> Result<()> {
    changed_owner(owner, owners, shown, |uid, gid| rustix::fs::fchown(file, Some(uid), Some(gid)))
}

fn changed_owner(
    owner: Option<Owner>,
    owners: OwnerPolicy,
    shown: &Path,
    change: impl FnOnce(Uid, Gid) -> std::result::Result<(), Errno>,
) -> Result<()> {
    let Some(Owner { uid, gid }) = owner else { return Ok(()) };
    if uid == u32::MAX || gid == u32::MAX {
        return Err(Error::io("set owner of", shown, Errno::INVAL));
    }
    match change(Uid::from_raw(uid), Gid::from_raw(gid)) {
        Err(Errno::INVAL | Errno::PERM) if owners == OwnerPolicy::BestEffort => Ok(()),
        Err(Errno::INVAL) => Err(Error::Unmapped { path: shown.to_path_buf(), uid, gid }),
        other => other.map_err(|e| Error::io("set owner of", shown, e)),
    }
}

/// Sets both times of `name` in `parent`, not following a symlink.
pub(crate) fn touch(parent: impl AsFd, name: &[u8], timestamp: Option<Timestamp>, shown: &Path) -> Result<()> {
    let Some(at) = timestamp else { return Ok(()) };
    rustix::fs::utimensat(parent, os(name), &timestamps(at, at), AtFlags::SYMLINK_NOFOLLOW)
        .map_err(|e| Error::io("set times of", shown, e))
}
