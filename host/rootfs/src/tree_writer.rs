//! `TreeWriter`: lays down a tree entry by entry, in the order in which [`crate::scan`] tells one, into an empty directory that nobody else sees yet.
//!
//! Names are single components below a directory that was made here, opened by descriptor; nothing of the entries becomes a path that could lead out. Directories
//! get their owner, mode and times at the end, deepest first, because what is made in them moves them.
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{AtFlags, Mode, OFlags};

use crate::copy_entry::{Finish, finish, finish_open, make_node};
use crate::path::{os, owned};
use crate::scan::{Attribute, last, open_parent, split};
use crate::{Error, FileIdentity, Kind, Owner, OwnerPolicy, Result, Root, Stat, Timestamp};

/// What an entry has beside its content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TreeMeta {
    /// Permission bits, at most 0o7777. Not used for symlinks.
    pub mode: u32,
    /// Owner.
    pub owner: Owner,
    /// Modification time; the access time becomes the same.
    pub mtime: Timestamp,
    /// Extended attributes.
    pub xattrs: Vec<Attribute>,
}

/// Writes a tree. See the module.
pub struct TreeWriter {
    root: Root,
    owners: OwnerPolicy,
    /// The directory that the last entry went to.
    parent: Option<(Vec<u8>, OwnedFd)>,
    dirs: Vec<(Vec<u8>, TreeMeta)>,
}

impl TreeWriter {
    /// Writes into `root`.
    pub fn new(root: Root, owners: OwnerPolicy) -> Self {
        Self { root, owners, parent: None, dirs: Vec::new() }
    }

    /// The directory.
    pub fn root(&self) -> &Root {
        &self.root
    }

    /// The open directory that `path` goes to.
    fn parent(&mut self, path: &[u8]) -> Result<&OwnedFd> {
        let parent = split(path).0;
        if self.parent.as_ref().is_none_or(|(known, _)| known != parent) {
            self.parent = Some((parent.to_vec(), open_parent(&self.root, parent)?));
        }
        match &self.parent {
            Some((_, fd)) => Ok(fd),
            None => Err(Error::NotFound { path: owned(parent) }),
        }
    }

    fn finishing<'a>(&self, meta: &'a TreeMeta, kind: Kind) -> Finish<'a> {
        Finish {
            owner: Some(meta.owner),
            owners: self.owners,
            mode: (kind != Kind::Symlink).then_some(meta.mode),
            atime: meta.mtime,
            mtime: meta.mtime,
            xattrs: &meta.xattrs,
        }
    }

    /// Makes directory `path`; the empty path is the root, which is there.
    ///
    /// # Errors
    /// Those of the kernel.
    pub fn dir(&mut self, path: &[u8], meta: &TreeMeta) -> Result<()> {
        if !path.is_empty() {
            let parent = self.parent(path)?;
            rustix::fs::mkdirat(parent, last(path), Mode::from_raw_mode(0o700))
                .map_err(|e| Error::io("create directory", owned(path), e))?;
        }
        self.dirs.push((path.to_vec(), meta.clone()));
        Ok(())
    }

    /// Makes a symlink.
    ///
    /// # Errors
    /// Those of the kernel.
    pub fn symlink(&mut self, path: &[u8], target: &[u8], meta: &TreeMeta) -> Result<()> {
        let parent = self.parent(path)?;
        rustix::fs::symlinkat(os(target), parent, last(path))
            .map_err(|e| Error::io("create symlink", owned(path), e))?;
        self.finish_at(path, meta, Kind::Symlink)
    }

    /// Makes a named pipe.
    ///
    /// # Errors
    /// Those of the kernel.
    pub fn fifo(&mut self, path: &[u8], meta: &TreeMeta) -> Result<()> {
        let parent = self.parent(path)?;
        make_node(parent.as_fd(), split(path).1, Kind::Fifo, (0, 0), &owned(path))?;
        self.finish_at(path, meta, Kind::Fifo)
    }

    fn finish_at(&mut self, path: &[u8], meta: &TreeMeta, kind: Kind) -> Result<()> {
        let values = self.finishing(meta, kind);
        let parent = self.parent(path)?;
        finish(parent.as_fd(), split(path).1, &values, &owned(path))
    }

    /// Makes `path` another name of `first`, which was written before.
    ///
    /// # Errors
    /// Those of the kernel.
    pub fn hard_link(&mut self, path: &[u8], first: &[u8]) -> Result<()> {
        let from = open_parent(&self.root, split(first).0)?;
        let parent = self.parent(path)?;
        rustix::fs::linkat(&from, last(first), parent, last(path), AtFlags::empty())
            .map_err(|e| Error::io("create hard link", owned(path), e))
    }

    /// Makes an empty regular file, to be filled and given to [`TreeWriter::finish_file`].
    ///
    /// # Errors
    /// Those of the kernel.
    pub fn file(&mut self, path: &[u8]) -> Result<File> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let parent = self.parent(path)?;
        rustix::fs::openat(parent, last(path), flags, Mode::from_raw_mode(0o600))
            .map(File::from)
            .map_err(|e| Error::io("create", owned(path), e))
    }

    /// Gives a file that is written what it has beside its content.
    ///
    /// # Errors
    /// Those of the kernel.
    pub fn finish_file(&self, path: &[u8], file: &File, meta: &TreeMeta) -> Result<()> {
        finish_open(file, &self.finishing(meta, Kind::File), &owned(path))
    }

    /// Makes `path` another name of the file `old` of `from`, if that still is what `stat` says; false where it is not, or lies on another file system.
    /// Nobody else may write to `from`.
    ///
    /// # Errors
    /// Those of the kernel.
    pub fn link_from(&mut self, path: &[u8], from: &Root, old: &[u8], stat: &Stat) -> Result<bool> {
        let fd = match from.open_in(old, OFlags::PATH | OFlags::NOFOLLOW, "open") {
            Err(error) if error.is_not_found() => return Ok(false),
            other => other?,
        };
        let found = crate::root::stat_fd(&fd, &owned(old))?;
        if FileIdentity::new(&found) != FileIdentity::new(stat) || !found.is_file() {
            return Ok(false);
        }
        let name = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&fd));
        let parent = self.parent(path)?;
        match rustix::fs::linkat(rustix::fs::CWD, name, parent, last(path), AtFlags::SYMLINK_FOLLOW) {
            Ok(()) => Ok(true),
            // Too many names, another mount, or a kernel that lets only owners link: copied then.
            Err(rustix::io::Errno::MLINK | rustix::io::Errno::XDEV | rustix::io::Errno::PERM) => Ok(false),
            Err(rustix::io::Errno::NOENT) => Ok(false),
            Err(error) => Err(Error::io("create hard link", owned(path), error)),
        }
    }

    /// Gives directories what they have beside their content.
    ///
    /// # Errors
    /// Those of the kernel.
    pub fn finish(mut self) -> Result<()> {
        self.parent = None;
        for (path, meta) in std::mem::take(&mut self.dirs).into_iter().rev() {
            let fd = open_parent(&self.root, &path)?;
            finish(fd.as_fd(), b".", &self.finishing(&meta, Kind::Dir), &owned(&path))?;
        }
        Ok(())
    }
}
