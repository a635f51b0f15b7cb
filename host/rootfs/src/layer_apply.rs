//! Laying down a layer's tar as an overlay lower directory, and archives into a directory (ADD).
//!
//! Both go through one `Extractor`. It never hands a name of the archive to the kernel as a path: names are anchored and cleaned, the parent
//! is resolved inside the root (symlinks that the archive itself planted lead back inside), and the last component is
//! created in the parent's descriptor. Parent descriptors are cached, so that the cost is about one system call per entry more than tar's.
use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::rc::Rc;

use rhost_llb::DiffId;
use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;

use crate::copy_entry::{Finish, copy_file, finish, finish_open, make_node, set_times, xattrs_of};
use crate::file_ops::remove_all;
use crate::path::{anchor, base, bytes, dir, join, os, owned};
use crate::root::{self, Last, try_stat_at};
use crate::tar_read::{TarEntry, TarReader, What};
use crate::{Error, Kind, OverlayXattrs, Owner, OwnerPolicy, Result, Root, Timestamp, xattr};

const WHITEOUT: &[u8] = b".wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";

/// Parent directories kept open.
const OPEN_PARENTS: usize = 64;

/// The layers below one that is laid down, topmost first. Few layers ask for them, so several can be laid down at once.
#[derive(Clone, Copy)]
pub enum Lowers<'a> {
    /// They are there. May be empty.
    Here(&'a [Root]),
    /// Waits until they are there. Asked once, by a layer that needs them.
    Later(&'a dyn Fn() -> Result<Vec<Root>>),
}

impl std::fmt::Debug for Lowers<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Here(roots) => f.debug_tuple("Here").field(&roots.len()).finish(),
            Self::Later(_) => f.write_str("Later"),
        }
    }
}

/// How a layer is laid down.
#[derive(Debug, Clone, Copy)]
pub struct Apply<'a> {
    /// How whiteouts of the tar become overlayfs marks in the directory.
    pub xattrs: OverlayXattrs,
    /// What a refused change of owner means.
    pub owners: OwnerPolicy,
    /// Layers below: where a hard link may find its target and a parent directory its metadata when the layer itself has them not.
    pub lowers: Lowers<'a>,
}

/// What was read while a layer was applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    /// Digest of the uncompressed tar, to the end of the stream.
    pub diff_id: DiffId,
    /// Size of the uncompressed tar in bytes.
    pub size: u64,
    /// Entries of the tar.
    pub entries: u64,
}

/// Applies an uncompressed layer tar to the empty directory `root` (an overlay lower directory).
///
/// # Errors
/// A broken archive, an entry that cannot be made (the message names it), or a full disk. What was laid down so far stays: throw it away.
pub fn apply_layer(root: &Root, tar: impl Read, options: Apply<'_>) -> Result<Applied> {
    let mut reader = TarReader::new(tar);
    let mut extractor = Extractor::new(root, b"/", Some(options.xattrs), options.owners, None, options.lowers);
    let entries = extractor.run(&mut reader)?;
    let (digest, size) = reader.finish()?;
    Ok(Applied { diff_id: DiffId(digest), size, entries })
}

/// Owner, mode, time, attributes.
type Described = (Owner, u32, Timestamp, Vec<(Vec<u8>, Vec<u8>)>);

pub(crate) struct Extractor<'a> {
    root: &'a Root,
    /// Where names begin, resolved.
    base: Vec<u8>,
    /// `Some`: a layer, `.wh.` names are marks. `None`: a plain archive.
    overlay: Option<OverlayXattrs>,
    owners: OwnerPolicy,
    owner: Option<Owner>,
    lowers: Lowers<'a>,
    /// What [`Lowers::Later`] answered.
    arrived: Option<Vec<Root>>,
    parents: HashMap<Vec<u8>, Rc<OwnedFd>>,
    /// Directories whose times are set last, because what is made in them moves them.
    dirs: HashMap<Vec<u8>, Timestamp>,
}

impl<'a> Extractor<'a> {
    pub(crate) fn new(
        root: &'a Root,
        base: &[u8],
        overlay: Option<OverlayXattrs>,
        owners: OwnerPolicy,
        owner: Option<Owner>,
        lowers: Lowers<'a>,
    ) -> Self {
        let (parents, dirs) = (HashMap::new(), HashMap::new());
        Self { root, base: base.to_vec(), overlay, owners, owner, lowers, arrived: None, parents, dirs }
    }

    /// The layers below, once they are there.
    fn lowers(&mut self) -> Result<&[Root]> {
        match self.lowers {
            Lowers::Here(roots) => Ok(roots),
            Lowers::Later(wait) => {
                if self.arrived.is_none() {
                    self.arrived = Some(wait()?);
                }
                Ok(self.arrived.as_deref().unwrap_or_default())
            }
        }
    }

    pub(crate) fn run<R: Read>(&mut self, reader: &mut TarReader<R>) -> Result<u64> {
        let mut count = 0;
        while let Some(entry) = reader.next()? {
            count += 1;
            self.entry(&entry, reader).map_err(|error| name_entry(&entry.path, error))?;
        }
        self.parents.clear();
        let mut dirs: Vec<_> = std::mem::take(&mut self.dirs).into_iter().collect();
        dirs.sort();
        for (path, mtime) in dirs.into_iter().rev() {
            match self.root.open_dir(&path) {
                Ok(fd) => set_times(fd.as_fd(), b".", mtime, mtime, &owned(&path))?,
                // Replaced by a later entry.
                Err(error) if error.is_not_found() => {}
                Err(error) => return Err(error),
            }
        }
        Ok(count)
    }

    /// Below the base, with `..` of the archive applied above it for nothing.
    fn place(&self, name: &[u8]) -> Vec<u8> {
        join(&self.base, &anchor(name)[1..])
    }

    fn entry<R: Read>(&mut self, entry: &TarEntry, reader: &mut TarReader<R>) -> Result<()> {
        if matches!(entry.what, What::Skip) {
            return Ok(());
        }
        let place = self.place(&entry.path);
        if place == self.base || place == b"/" {
            return self.top(entry);
        }
        let (parent, parent_path) = self.parent(&dir(&place))?;
        let name = base(&place);
        if name == b".." || name == b"." || name.len() > 255 {
            return Err(Error::BadEntry {
                path: owned(&entry.path),
                reason: "its name cannot be a file's name".into(),
            });
        }
        if let Some(overlay) = self.overlay {
            if name == OPAQUE {
                let shown = owned(&parent_path);
                return xattr::set(&*parent, overlay.opaque().as_bytes(), b"y")
                    .map_err(|e| Error::io("mark opaque", shown, e));
            }
            if let Some(hidden) = name.strip_prefix(WHITEOUT) {
                // `.wh..wh.plnk` and the like: bookkeeping of AUFS, nothing of the image.
                if hidden.starts_with(WHITEOUT) {
                    return Ok(());
                }
                return self.whiteout(&parent, &parent_path, hidden, &entry.path);
            }
        }
        let place = join(&parent_path, name);
        let shown = owned(&place);
        let there = try_stat_at(&parent, name, &shown)?;
        let is_dir = matches!(entry.what, What::Node(Kind::Dir, _));
        if let Some(there) = &there
            && !(is_dir && there.is_dir())
        {
            if let What::HardLink(target) = &entry.what
                && self.place(target) == place
            {
                return Ok(());
            }
            self.forget(&place);
            remove_all(parent.as_fd(), name, &shown)?;
        }
        let mut file = None;
        match &entry.what {
            What::Skip => return Ok(()),
            What::Node(Kind::Dir, _) => match rustix::fs::mkdirat(&*parent, os(name), Mode::from_raw_mode(0o700)) {
                Ok(()) | Err(Errno::EXIST) => {
                    self.dirs.insert(place.clone(), entry.mtime);
                }
                Err(error) => return Err(Error::io("create directory", shown, error)),
            },
            What::Node(Kind::File, _) => file = Some(write_file(&parent, name, entry, reader)?),
            What::Node(kind, rdev) => {
                if self.overlay.is_some() && *kind == Kind::CharDevice && *rdev == (0, 0) {
                    // It would hide a file of a lower layer without being a `.wh.` entry: what overlayfs calls a whiteout.
                    return Err(Error::BadEntry {
                        path: owned(&entry.path),
                        reason: "a character device 0/0 is refused".into(),
                    });
                }
                if !self.special(&parent, name, *kind, *rdev, &shown)? {
                    return Ok(());
                }
            }
            What::Symlink(target) => {
                if target.is_empty() {
                    return Err(Error::BadEntry { path: owned(&entry.path), reason: "a symlink to nowhere".into() });
                }
                rustix::fs::symlinkat(os(target), &*parent, os(name))
                    .map_err(|e| Error::io("create symlink", &shown, e))?;
            }
            What::HardLink(target) => {
                // The owner, mode and times are those of the first name.
                return self.hard_link(target, &parent, name, &entry.path);
            }
        }
        let symlink = matches!(entry.what, What::Symlink(_));
        let owner = self.owner.unwrap_or(Owner { uid: entry.uid, gid: entry.gid });
        let xattrs: Vec<_> = entry.xattrs.iter().filter(|(k, _)| !xattr::is_overlay(k)).cloned().collect();
        let values = Finish {
            owner: Some(owner),
            owners: self.owners,
            mode: (!symlink).then_some(entry.mode),
            atime: entry.mtime,
            mtime: entry.mtime,
            xattrs: &xattrs,
        };
        match file {
            Some(file) => finish_open(&file, &values, &shown),
            None => finish(parent.as_fd(), name, &values, &shown),
        }
    }

    /// The entry for the root of a layer carries its metadata; an archive's is nobody's business.
    fn top(&mut self, entry: &TarEntry) -> Result<()> {
        if self.overlay.is_none() || !matches!(entry.what, What::Node(Kind::Dir, _)) {
            return Ok(());
        }
        let fd = self.root.open_dir(&self.base)?;
        let xattrs: Vec<_> = entry.xattrs.iter().filter(|(k, _)| !xattr::is_overlay(k)).cloned().collect();
        let values = Finish {
            owner: Some(Owner { uid: entry.uid, gid: entry.gid }),
            owners: self.owners,
            mode: Some(entry.mode),
            atime: entry.mtime,
            mtime: entry.mtime,
            xattrs: &xattrs,
        };
        self.dirs.insert(self.base.clone(), entry.mtime);
        finish(fd.as_fd(), b".", &values, &owned(&self.base))
    }

    fn whiteout(&mut self, parent: &OwnedFd, parent_path: &[u8], hidden: &[u8], entry: &[u8]) -> Result<()> {
        if hidden.is_empty() || hidden == b"." || hidden == b".." {
            return Err(Error::BadEntry { path: owned(entry), reason: "a whiteout that names no file".into() });
        }
        let place = join(parent_path, hidden);
        let shown = owned(&place);
        // Something of this very layer with that name stays: a whiteout is about the layers below. A directory becomes opaque.
        if let Some(there) = try_stat_at(parent, hidden, &shown)? {
            if there.is_dir()
                && let Some(overlay) = self.overlay
            {
                let fd = root::open_subdir(parent, hidden, &shown)?;
                xattr::set(&fd, overlay.opaque().as_bytes(), b"y").map_err(|e| Error::io("mark opaque", &shown, e))?;
            }
            return Ok(());
        }
        make_node(parent.as_fd(), hidden, Kind::CharDevice, (0, 0), &shown)
    }

    /// Makes a device or pipe; false when it is left out: a user namespace may make no devices, and base images that carry some (every container
    /// gets its own `/dev` anyway) must be usable there. The layer itself stays what it is.
    fn special(&self, parent: &OwnedFd, name: &[u8], kind: Kind, rdev: (u32, u32), shown: &Path) -> Result<bool> {
        let is_device = matches!(kind, Kind::CharDevice | Kind::BlockDevice);
        match make_node(parent.as_fd(), name, kind, rdev, shown) {
            Err(Error::Io { source, .. }) if is_device && source.raw_os_error() == Some(libc::EPERM) => {
                tracing::warn!(path = %shown.display(), "device left out: this user may make none");
                Ok(false)
            }
            other => other.map(|()| true),
        }
    }

    fn hard_link(&mut self, target: &[u8], parent: &OwnedFd, name: &[u8], entry: &[u8]) -> Result<()> {
        let wanted = self.place(target);
        let resolved = self.root.resolve(owned(&dir(&wanted)), Last::Follow)?;
        let shown = owned(&wanted);
        let from = base(&wanted).to_vec();
        if let Ok(fd) = self.root.open_dir(bytes(&resolved)) {
            match rustix::fs::linkat(&fd, os(&from), parent, os(name), AtFlags::empty()) {
                Ok(()) => return Ok(()),
                Err(Errno::NOENT) => {}
                Err(Errno::MLINK) => return copy_file((fd.as_fd(), &from), (parent.as_fd(), name), &shown).map(drop),
                Err(error) => return Err(Error::io("create hard link", shown, error)),
            }
        }
        let (owners, lowers) = (self.owners, self.lowers()?);
        for lower in lowers {
            let Some(stat) = lower.try_stat(&shown, Last::Keep)? else { continue };
            if !stat.is_file() {
                break;
            }
            let resolved = lower.resolve(owned(&dir(&wanted)), Last::Follow)?;
            let fd = lower.open_dir(bytes(&resolved))?;
            copy_file((fd.as_fd(), &from), (parent.as_fd(), name), &shown)?;
            let xattrs = xattrs_of(fd.as_fd(), &from, &shown)?;
            let values = Finish {
                owner: Some(stat.owner),
                owners,
                mode: Some(stat.mode),
                atime: stat.atime,
                mtime: stat.mtime,
                xattrs: &xattrs,
            };
            return finish(parent.as_fd(), name, &values, &shown);
        }
        let reason = format!("a hard link to `{}`, which is in no layer", shown.display());
        Err(Error::BadEntry { path: owned(entry), reason })
    }

    /// The open directory that `path` leads to, made where it is missing, and its path free of symlinks.
    fn parent(&mut self, path: &[u8]) -> Result<(Rc<OwnedFd>, Vec<u8>)> {
        if let Some(fd) = self.parents.get(path) {
            return Ok((fd.clone(), path.to_vec()));
        }
        let resolved = self.root.resolve(owned(path), Last::Follow)?;
        let resolved = bytes(&resolved).to_vec();
        let fd = match self.root.open_dir(&resolved) {
            Ok(fd) => fd,
            Err(Error::NotFound { .. }) => {
                // In an archive a link that leads nowhere is no directory; nothing is made behind it.
                if self.overlay.is_none() && self.root.try_stat(owned(path), Last::Keep)?.is_some() {
                    return Err(Error::NotFound { path: owned(&resolved) });
                }
                self.make_parents(&resolved)?;
                self.root.open_dir(&resolved)?
            }
            Err(error) => return Err(error),
        };
        if self.parents.len() >= OPEN_PARENTS {
            self.parents.clear();
        }
        let fd = Rc::new(fd);
        if resolved == path {
            self.parents.insert(resolved.clone(), fd.clone());
        }
        // Making things in it moves its times; an entry that sets them has come before, or comes later.
        Ok((fd, resolved))
    }

    fn make_parents(&mut self, path: &[u8]) -> Result<()> {
        let mut at = Vec::from(*b"/");
        let mut fd = self.root.open_dir(b"/")?;
        for part in path.split(|b| *b == b'/').filter(|p| !p.is_empty()) {
            at = join(&at, part);
            let shown = owned(&at);
            match rustix::fs::mkdirat(&fd, os(part), Mode::from_raw_mode(0o755)) {
                Ok(()) => {
                    let owner = self.owner.unwrap_or_default();
                    // A directory that nobody described has no time of its own: the epoch, so that extraction is a function of the tar.
                    let (owner, mode, mtime, xattrs) =
                        self.described_below(&at)?.unwrap_or((owner, 0o755, 0, Vec::new()));
                    let values = Finish {
                        owner: Some(owner),
                        owners: self.owners,
                        mode: Some(mode),
                        atime: mtime,
                        mtime,
                        xattrs: &xattrs,
                    };
                    finish(fd.as_fd(), part, &values, &shown)?;
                    if self.overlay.is_some() {
                        self.dirs.insert(at.clone(), mtime);
                    }
                }
                Err(Errno::EXIST) => {}
                Err(error) => return Err(Error::io("create directory", shown, error)),
            }
            fd = root::open_subdir(&fd, part, &shown)?;
        }
        Ok(())
    }

    /// Owner, mode, time and attributes of the directory `path` of the layers below.
    fn described_below(&mut self, path: &[u8]) -> Result<Option<Described>> {
        let shown = owned(path);
        let found = self.lowers()?.iter().find_map(|lower| match lower.try_stat(&shown, Last::Keep) {
            Ok(Some(stat)) if stat.is_dir() => Some((lower, stat)),
            _ => None,
        });
        let Some((lower, stat)) = found else { return Ok(None) };
        let xattrs = xattrs_of(lower.open_dir(path)?.as_fd(), b".", &shown)?;
        Ok(Some((stat.owner, stat.mode, stat.mtime, xattrs)))
    }

    fn forget(&mut self, path: &[u8]) {
        let below = |p: &[u8]| p == path || (p.starts_with(path) && p.get(path.len()) == Some(&b'/'));
        self.parents.retain(|p, _| !below(p));
        self.dirs.retain(|p, _| !below(p));
    }
}

fn name_entry(path: &[u8], error: Error) -> Error {
    match error {
        Error::NotFound { .. } | Error::NotDirectory { .. } | Error::TooManyLinks { .. } => {
            Error::BadEntry { path: owned(path), reason: error.to_string() }
        }
        other => other,
    }
}

fn write_file<R: Read>(parent: &OwnedFd, name: &[u8], entry: &TarEntry, reader: &mut TarReader<R>) -> Result<File> {
    let shown = owned(name);
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let fd = rustix::fs::openat(parent, os(name), flags, Mode::from_raw_mode(0o600))
        .map_err(|e| Error::io("create", &shown, e))?;
    let mut file = File::from(fd);
    let failed = |e| Error::io("write", &shown, e);
    let Some((map, size)) = &entry.sparse else {
        loop {
            let chunk = reader.chunk()?;
            if chunk.is_empty() {
                return Ok(file);
            }
            file.write_all(chunk).map_err(failed)?;
        }
    };
    let broken = |reason: &str| Error::BadEntry { path: owned(&entry.path), reason: reason.into() };
    let size_fits = |end: Option<u64>| end.is_some_and(|end| end <= *size);
    file.set_len(*size).map_err(failed)?;
    let mut rest: Vec<u8> = Vec::new();
    for (offset, length) in map {
        if !size_fits(offset.checked_add(*length)) {
            return Err(broken("a sparse file with data beyond its end"));
        }
        file.seek(SeekFrom::Start(*offset)).map_err(failed)?;
        let mut left = *length;
        while left > 0 {
            if rest.is_empty() {
                rest.extend_from_slice(reader.chunk()?);
                if rest.is_empty() {
                    return Err(broken("a sparse file with less data than its map says"));
                }
            }
            let count = rest.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            file.write_all(&rest[..count]).map_err(failed)?;
            rest.drain(..count);
            left -= count as u64;
        }
    }
    Ok(file)
}
