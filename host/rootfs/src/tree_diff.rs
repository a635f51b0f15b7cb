//! What makes one tree out of another, as an overlay upper directory: LLB's diff of trees that do not stand on each other.
//!
//! Both are walked side by side. What counts as the same is BuildKit's rule (continuity's `fs.Changes`): kind, mode, owner, device number,
//! file capabilities; for files also size, modification time, and the bytes where both times are whole seconds (a tar has cut them). What only
//! `lower` has becomes a whiteout, what `upper` has differently is copied with the directories that lead to it.
use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;

use crate::copy_entry::{Finish, copy_file, finish, make_node, xattrs_of};
use crate::file_ops::MAX_DEPTH;
use crate::path::{join, os, owned};
use crate::root::{self, stat_fd, try_stat_at};
use crate::{Error, Kind, OwnerPolicy, Result, Root, Stat};

/// Writes into `layer`, an empty overlay upper directory, what `upper` has other than `lower`; `None` is the empty tree. Answers how many files
/// and directories were written or marked as removed.
///
/// # Errors
/// A file cannot be read or made, or the disk is full. What was written so far stays: throw it away.
pub fn write_tree_diff(lower: Option<&Root>, upper: Option<&Root>, layer: &Root, owners: OwnerPolicy) -> Result<u64> {
    let open = |root: Option<&Root>| root.map(|root| root.open_dir(b"/")).transpose();
    let (lower, upper) = (open(lower)?, open(upper)?);
    let target = layer.open_dir(b"/")?;
    let stat = match &upper {
        Some(fd) => Some(stat_fd(fd, &owned(b"/"))?),
        None => None,
    };
    let mut writer = Writer { layer, owners, changes: 0, inodes: HashMap::new() };
    let todo = names(lower.as_ref(), upper.as_ref(), b"/")?;
    let top = Level { path: b"/".to_vec(), lower, upper, stat: stat.clone(), target: Some(target), todo };
    writer.walk(top)?;
    if let Some(stat) = stat {
        let fd = layer.open_dir(b"/")?;
        let values = Finish {
            owner: Some(stat.owner),
            owners,
            mode: Some(stat.mode),
            atime: stat.atime,
            mtime: stat.mtime,
            xattrs: &[],
        };
        finish(fd.as_fd(), b".", &values, &owned(b"/"))?;
    }
    Ok(writer.changes)
}

/// One directory of the walk, at the same path of both trees.
struct Level {
    path: Vec<u8>,
    /// Not there, or no directory there.
    lower: Option<OwnedFd>,
    /// `None` only at the top, for the empty tree.
    upper: Option<OwnedFd>,
    /// The upper directory's metadata.
    stat: Option<Stat>,
    /// Open once something has to be written to it.
    target: Option<OwnedFd>,
    todo: Vec<Vec<u8>>,
}

struct Writer<'a> {
    layer: &'a Root,
    owners: OwnerPolicy,
    changes: u64,
    /// (device, inode) of a file with several links to the first path it was copied to.
    inodes: HashMap<(u64, u64), Vec<u8>>,
}

/// Names in either directory, the last in order first.
fn names(lower: Option<&OwnedFd>, upper: Option<&OwnedFd>, path: &[u8]) -> Result<Vec<Vec<u8>>> {
    let mut all = Vec::new();
    for fd in [lower, upper].into_iter().flatten() {
        all.extend(root::names(fd, &owned(path))?);
    }
    all.sort();
    all.dedup();
    all.reverse();
    Ok(all)
}

impl Writer<'_> {
    fn walk(&mut self, top: Level) -> Result<()> {
        let mut levels = vec![top];
        loop {
            let depth = levels.len();
            let Some(level) = levels.last_mut() else { return Ok(()) };
            let Some(name) = level.todo.pop() else {
                let done = levels.pop();
                if let Some(done) = done.filter(|_| !levels.is_empty()) {
                    self.leave(&done)?;
                }
                continue;
            };
            let path = join(&level.path, &name);
            let shown = owned(&path);
            let stat = |fd: &Option<OwnedFd>| match fd {
                Some(fd) => try_stat_at(fd, &name, &shown),
                None => Ok(None),
            };
            let (below, above) = (stat(&level.lower)?, stat(&level.upper)?);
            match (below, above) {
                (None, None) => {}
                (Some(_), None) => {
                    self.make_pending(&mut levels)?;
                    let target = target(&levels)?;
                    make_node(target, &name, Kind::CharDevice, (0, 0), &shown)?;
                    self.changes += 1;
                }
                (below, Some(above)) if above.is_dir() => {
                    if depth >= MAX_DEPTH {
                        return Err(Error::TooDeep { path: shown, limit: MAX_DEPTH });
                    }
                    let open = |fd: &Option<OwnedFd>| fd.as_ref().map(|fd| root::open_subdir(fd, &name, &shown));
                    let upper = open(&level.upper).transpose()?;
                    let both = below.as_ref().is_some_and(Stat::is_dir);
                    let lower = if both { open(&level.lower).transpose()? } else { None };
                    let changed = match (&below, &lower, &upper) {
                        (Some(below), Some(lower), Some(upper)) => {
                            !same_metadata(below, &above)
                                || capabilities(lower.as_fd(), b".", &shown)?
                                    != capabilities(upper.as_fd(), b".", &shown)?
                        }
                        _ => true,
                    };
                    let todo = names(lower.as_ref(), upper.as_ref(), &path)?;
                    levels.push(Level { path, lower, upper, stat: Some(above), target: None, todo });
                    if changed {
                        self.make_pending(&mut levels)?;
                        self.changes += 1;
                    }
                }
                (below, Some(above)) => {
                    let Some(upper) = &level.upper else { continue };
                    if let (Some(below), Some(lower)) = (&below, &level.lower)
                        && same_file((lower.as_fd(), below), (upper.as_fd(), &above), &name, &shown)?
                    {
                        continue;
                    }
                    self.make_pending(&mut levels)?;
                    self.leaf(&levels, &name, &path, &above)?;
                    self.changes += 1;
                }
            }
        }
    }

    /// Makes the directories that lead to where something is about to be written.
    fn make_pending(&self, levels: &mut [Level]) -> Result<()> {
        for index in 1..levels.len() {
            if levels[index].target.is_some() {
                continue;
            }
            let shown = owned(&levels[index].path);
            let name = crate::path::base(&levels[index].path).to_vec();
            let parent = target(&levels[..index])?;
            rustix::fs::mkdirat(parent, os(&name), Mode::from_raw_mode(0o700))
                .map_err(|e| Error::io("create directory", &shown, e))?;
            let fd = root::open_subdir(parent, &name, &shown)?;
            levels[index].target = Some(fd);
        }
        Ok(())
    }

    /// Gives a directory its metadata, once all of it is there.
    fn leave(&self, level: &Level) -> Result<()> {
        let (Some(target), Some(upper), Some(stat)) = (&level.target, &level.upper, &level.stat) else { return Ok(()) };
        let shown = owned(&level.path);
        let xattrs = xattrs_of(upper.as_fd(), b".", &shown)?;
        finish(target.as_fd(), b".", &self.finish(stat, &xattrs), &shown)
    }

    fn leaf(&mut self, levels: &[Level], name: &[u8], path: &[u8], stat: &Stat) -> Result<()> {
        let shown = owned(path);
        let to = target(levels)?;
        let Some(from) = levels.last().and_then(|level| level.upper.as_ref()) else { return Ok(()) };
        match stat.kind {
            Kind::File => {
                let several = (stat.links > 1).then_some((stat.dev, stat.ino));
                if let Some(first) = several.and_then(|id| self.inodes.get(&id)) {
                    let parent = self.layer.open_dir(&crate::path::dir(first))?;
                    match rustix::fs::linkat(&parent, os(crate::path::base(first)), to, os(name), AtFlags::empty()) {
                        Ok(()) => return Ok(()),
                        Err(Errno::MLINK) => {}
                        Err(error) => return Err(Error::io("create hard link", shown, error)),
                    }
                }
                copy_file((from.as_fd(), name), (to, name), &shown)?;
                if let Some(id) = several {
                    self.inodes.insert(id, path.to_vec());
                }
            }
            Kind::Symlink => {
                let link = root::read_link_at(from, name, &shown)?;
                rustix::fs::symlinkat(os(&link), to, os(name)).map_err(|e| Error::io("create symlink", &shown, e))?;
            }
            // No layer keeps a socket.
            Kind::Socket => return Ok(()),
            kind => make_node(to, name, kind, stat.rdev, &shown)?,
        }
        let xattrs = xattrs_of(from.as_fd(), name, &shown)?;
        finish(to, name, &self.finish(stat, &xattrs), &shown)
    }

    fn finish<'x>(&self, stat: &Stat, xattrs: &'x [(Vec<u8>, Vec<u8>)]) -> Finish<'x> {
        Finish {
            owner: Some(stat.owner),
            owners: self.owners,
            mode: (!stat.is_symlink()).then_some(stat.mode),
            atime: stat.atime,
            mtime: stat.mtime,
            xattrs,
        }
    }
}

/// The directory that what is below the last level is written to.
fn target(levels: &[Level]) -> Result<BorrowedFd<'_>> {
    let level = levels.last();
    let path = level.map(|level| owned(&level.path)).unwrap_or_default();
    level.and_then(|level| level.target.as_ref()).map(AsFd::as_fd).ok_or(Error::NotFound { path })
}

fn same_metadata(a: &Stat, b: &Stat) -> bool {
    (a.kind, a.mode, a.owner, a.rdev) == (b.kind, b.mode, b.owner, b.rdev)
}

fn capabilities(dir: BorrowedFd<'_>, name: &[u8], shown: &std::path::Path) -> Result<Option<Vec<u8>>> {
    let found = xattrs_of(dir, name, shown)?.into_iter().find(|(key, _)| key == b"security.capability");
    Ok(found.map(|(_, value)| value))
}

fn same_file(
    (lower, below): (BorrowedFd<'_>, &Stat),
    (upper, above): (BorrowedFd<'_>, &Stat),
    name: &[u8],
    shown: &std::path::Path,
) -> Result<bool> {
    if (below.dev, below.ino) == (above.dev, above.ino) {
        return Ok(true);
    }
    const SECOND: i64 = 1_000_000_000;
    if !same_metadata(below, above) || below.size != above.size || below.mtime != above.mtime {
        return Ok(false);
    }
    if below.is_symlink() {
        return Ok(root::read_link_at(lower, name, shown)? == root::read_link_at(upper, name, shown)?);
    }
    if capabilities(lower, name, shown)? != capabilities(upper, name, shown)? {
        return Ok(false);
    }
    if below.is_file() && below.mtime.rem_euclid(SECOND) == 0 {
        return same_bytes((lower, upper), name, shown);
    }
    Ok(true)
}

fn same_bytes((a, b): (BorrowedFd<'_>, BorrowedFd<'_>), name: &[u8], shown: &std::path::Path) -> Result<bool> {
    let failed = |e: std::io::Error| Error::io("read", shown, e);
    let open = |dir: BorrowedFd<'_>| {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(dir, os(name), flags, Mode::empty()).map_err(|e| Error::io("open", shown, e))?;
        Ok::<_, Error>(std::io::BufReader::with_capacity(128 << 10, File::from(fd)))
    };
    let (mut a, mut b) = (open(a)?, open(b)?);
    let (mut left, mut right) = ([0; 16 << 10], [0; 16 << 10]);
    loop {
        let count = a.read(&mut left).map_err(failed)?;
        if count == 0 {
            return Ok(b.read(&mut right[..1]).map_err(failed)? == 0);
        }
        match b.read_exact(&mut right[..count]) {
            Ok(()) if left[..count] == right[..count] => {}
            Ok(()) => return Ok(false),
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(false),
            Err(error) => return Err(failed(error)),
        }
    }
}
