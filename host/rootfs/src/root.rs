//! `Root`: a directory descriptor below which paths are resolved as if it were `/`.
//!
//! Two steps, both confined. `resolve` walks the components by `O_PATH|O_NOFOLLOW` descriptors and expands symlinks itself, because
//! BuildKit wants the answer also for paths that do not exist yet (a destination below a dangling link). The resolved path then goes to
//! `openat2(RESOLVE_IN_ROOT)`: if somebody swaps a component for a symlink in between, the kernel still stays inside.
use std::ffi::OsString;
use std::fs::File;
use std::io::Read;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{AtFlags, Mode, OFlags, RawDir, ResolveFlags};
use rustix::io::Errno;

use crate::stat::Stat;
use crate::{Error, Result, path};

/// Most symlinks followed in one resolution (spec C.2).
const MAX_LINKS: usize = 255;

/// Whether the last component is followed when it is a symlink.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Last {
    /// Follow it.
    Follow,
    /// Stop at the link itself.
    Keep,
}

/// A name in a directory.
#[derive(Debug, Clone)]
pub struct DirEntry {
    /// Its name, without directory.
    pub name: OsString,
    /// Its metadata (of the link, not of its target).
    pub stat: Stat,
}

/// A directory that acts as `/` for every path looked up through it. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Root {
    fd: Arc<OwnedFd>,
}

impl Root {
    /// Opens the directory at `path` of the host (symlinks followed: the caller vouches for this path).
    ///
    /// # Errors
    /// Not a directory, missing, or no permission.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::open(path, flags, Mode::empty()).map_err(|e| Error::io("open directory", path, e))?;
        Ok(Self { fd: Arc::new(fd) })
    }

    /// A root from a directory descriptor, for instance of a detached mount.
    pub fn from_fd(fd: OwnedFd) -> Self {
        Self { fd: Arc::new(fd) }
    }

    /// The directory `path` of this root, as a root of its own. Symlinks on the way are resolved in this root.
    pub fn dir(&self, path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let resolved = self.resolve(path, Last::Follow)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        Ok(Self { fd: Arc::new(self.open_in(path::bytes(&resolved), flags, "open directory")?) })
    }

    /// The descriptor.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// The path free of symlinks that `path` leads to: absolute, clean, inside the root. Components that do not exist are kept as they are,
    /// so the answer may name something that does not exist.
    ///
    /// # Errors
    /// More than 255 symlinks, or a directory that may not be searched.
    pub fn resolve(&self, path: impl AsRef<Path>, last: Last) -> Result<PathBuf> {
        let original = path.as_ref();
        let mut todo: Vec<Vec<u8>> = split_reversed(path::bytes(original));
        let mut fds: Vec<Option<OwnedFd>> = Vec::new();
        let mut done: Vec<Vec<u8>> = Vec::new();
        let mut links = 0;
        while let Some(part) = todo.pop() {
            if part == b".." {
                done.pop();
                fds.pop();
                continue;
            }
            let parent = match fds.last() {
                None => Some(self.fd()),
                Some(fd) => fd.as_ref().map(AsFd::as_fd),
            };
            let Some(parent) = parent else {
                done.push(part);
                fds.push(None);
                continue;
            };
            let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            match rustix::fs::openat(parent, path::os(&part), flags, Mode::empty()) {
                Ok(fd) => {
                    let is_last = todo.is_empty();
                    let stat = rustix::fs::fstat(&fd).map_err(|e| Error::io("stat", original, e))?;
                    if !Stat::from_raw(&stat).is_symlink() || (is_last && last == Last::Keep) {
                        done.push(part);
                        fds.push(Some(fd));
                        continue;
                    }
                    links += 1;
                    if links > MAX_LINKS {
                        return Err(Error::TooManyLinks { path: original.to_path_buf() });
                    }
                    let target = rustix::fs::readlinkat(&fd, c"", Vec::new())
                        .map_err(|e| Error::io("read link", original, e))?
                        .into_bytes();
                    if target.first() == Some(&b'/') {
                        done.clear();
                        fds.clear();
                    }
                    todo.extend(split_reversed(&target));
                }
                Err(Errno::NOENT | Errno::NOTDIR) => {
                    done.push(part);
                    fds.push(None);
                }
                Err(error) => return Err(Error::io("look up", original, error)),
            }
        }
        let mut out = vec![b'/'];
        out.extend_from_slice(&done.join(&b'/'));
        Ok(path::owned(&out))
    }

    /// Opens `path` with `flags`, confined; the path must be free of symlinks already (from [`Root::resolve`]), except that a symlink
    /// as last component may be opened with `O_PATH|O_NOFOLLOW`.
    pub(crate) fn open_in(&self, path: &[u8], flags: OFlags, action: &'static str) -> Result<OwnedFd> {
        let relative = path::relative(path);
        // A rename elsewhere in the tree makes the kernel answer EAGAIN for confined look-ups: try again, a bounded number of times.
        for _ in 0..64 {
            let answer = rustix::fs::openat2(
                self.fd(),
                path::os(relative),
                flags | OFlags::CLOEXEC,
                Mode::empty(),
                ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS,
            );
            match answer {
                Err(Errno::AGAIN | Errno::INTR) => continue,
                other => return other.map_err(|e| Error::io(action, path::owned(path), e)),
            }
        }
        Err(Error::io(action, path::owned(path), Errno::AGAIN))
    }

    /// Metadata of `path`.
    pub fn stat(&self, path: impl AsRef<Path>, last: Last) -> Result<Stat> {
        let resolved = self.resolve(path, last)?;
        let fd = self.open_in(path::bytes(&resolved), OFlags::PATH | OFlags::NOFOLLOW, "stat")?;
        stat_fd(&fd, &resolved)
    }

    /// Metadata of `path`, or `None` where nothing is.
    pub fn try_stat(&self, path: impl AsRef<Path>, last: Last) -> Result<Option<Stat>> {
        match self.stat(path, last) {
            Ok(stat) => Ok(Some(stat)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Opens the regular file `path` for reading; symlinks are followed inside the root. Never blocks on a pipe or a device.
    pub fn open_file(&self, path: impl AsRef<Path>) -> Result<File> {
        let resolved = self.resolve(path, Last::Follow)?;
        let bytes = path::bytes(&resolved);
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
        let fd = self.open_in(bytes, flags, "open")?;
        if !stat_fd(&fd, &resolved)?.is_file() {
            return Err(Error::NotRegular { path: resolved });
        }
        Ok(File::from(fd))
    }

    /// The bytes of the regular file `path`, at most `limit` of them.
    pub fn read(&self, path: impl AsRef<Path>, limit: u64) -> Result<Vec<u8>> {
        let path = path.as_ref();
        let file = self.open_file(path)?;
        let mut bytes = Vec::new();
        file.take(limit.saturating_add(1)).read_to_end(&mut bytes).map_err(|e| Error::io("read", path, e))?;
        if bytes.len() as u64 > limit {
            return Err(Error::TooLarge { path: path.to_path_buf(), limit });
        }
        Ok(bytes)
    }

    /// The names in directory `path`, sorted by bytes, without `.` and `..`.
    pub fn read_dir(&self, path: impl AsRef<Path>) -> Result<Vec<DirEntry>> {
        let path = path.as_ref();
        let dir = self.dir(path)?;
        let mut entries = Vec::new();
        for name in names(dir.fd(), path)? {
            match stat_at(dir.fd(), &name, &path.join(path::os(&name))) {
                Ok(stat) => entries.push(DirEntry { name: OsString::from_vec(name), stat }),
                Err(error) if error.is_not_found() => {}
                Err(error) => return Err(error),
            }
        }
        Ok(entries)
    }

    /// Where the symlink `path` points, as written in it.
    pub fn read_link(&self, path: impl AsRef<Path>) -> Result<PathBuf> {
        let resolved = self.resolve(path, Last::Keep)?;
        let fd = self.open_in(path::bytes(&resolved), OFlags::PATH | OFlags::NOFOLLOW, "read link")?;
        let target = rustix::fs::readlinkat(&fd, c"", Vec::new()).map_err(|e| Error::io("read link", &resolved, e))?;
        Ok(path::owned(target.as_bytes()))
    }

    /// Opens the directory `path` (already resolved) for use as a parent.
    pub(crate) fn open_dir(&self, path: &[u8]) -> Result<OwnedFd> {
        self.open_in(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW, "open directory")
    }
}

fn split_reversed(path: &[u8]) -> Vec<Vec<u8>> {
    path.split(|b| *b == b'/').filter(|p| !p.is_empty() && *p != b".").map(<[u8]>::to_vec).rev().collect()
}

/// Metadata of what `fd` is open on; `path` is for the message.
pub(crate) fn stat_fd(fd: impl AsFd, path: &Path) -> Result<Stat> {
    Ok(Stat::from_raw(&rustix::fs::fstat(fd).map_err(|e| Error::io("stat", path, e))?))
}

/// Metadata of `name` in `dir`, not following a symlink.
pub(crate) fn stat_at(dir: impl AsFd, name: &[u8], path: &Path) -> Result<Stat> {
    let raw =
        rustix::fs::statat(dir, path::os(name), AtFlags::SYMLINK_NOFOLLOW).map_err(|e| Error::io("stat", path, e))?;
    Ok(Stat::from_raw(&raw))
}

/// As [`stat_at`], `None` where nothing is.
pub(crate) fn try_stat_at(dir: impl AsFd, name: &[u8], path: &Path) -> Result<Option<Stat>> {
    match stat_at(dir, name, path) {
        Ok(stat) => Ok(Some(stat)),
        Err(Error::NotFound { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Sorted names in the directory open as `dir`, which nobody has read from yet.
pub(crate) fn names(dir: impl AsFd, path: &Path) -> Result<Vec<Vec<u8>>> {
    let mut names = Vec::new();
    let mut buffer = [MaybeUninit::uninit(); LISTED];
    let mut entries = RawDir::new(dir, &mut buffer);
    while let Some(entry) = entries.next() {
        let entry = entry.map_err(|e| Error::io("list", path, e))?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push(name.to_vec());
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// Bytes of a directory's entries that are read at once.
const LISTED: usize = 8 << 10;

/// Opens directory `name` in `dir`, refusing a symlink.
pub(crate) fn open_subdir(dir: impl AsFd, name: &[u8], path: &Path) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(dir, path::os(name), flags, Mode::empty()).map_err(|e| Error::io("open directory", path, e))
}

/// The target of the symlink `name` in `dir`.
pub(crate) fn read_link_at(dir: impl AsFd, name: &[u8], path: &Path) -> Result<Vec<u8>> {
    let target =
        rustix::fs::readlinkat(dir, path::os(name), Vec::new()).map_err(|e| Error::io("read link", path, e))?;
    Ok(target.into_bytes())
}
