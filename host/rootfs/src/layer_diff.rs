//! Writing an overlay upper directory as a layer tar (OCI image-spec, layer.md), the same bytes for the same tree.
//!
//! Depth first, names sorted by bytes; PAX headers only where ustar has no room; no user names, no access or change times, modification times in
//! whole seconds, as BuildKit's layers have them. overlayfs's whiteouts become `.wh.` entries and its opaque mark `.wh..wh..opq`.
use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rhost_llb::{DiffId, Hasher};
use rustix::fs::{Mode, OFlags};
use tar_core::EntryType;
use tar_core::builder::EntryBuilder;

use crate::copy_entry::open_path;
use crate::file_ops::MAX_DEPTH;
use crate::path::{join, os, owned};
use crate::root::{self, Last, stat_at, stat_fd};
use crate::{Error, Kind, Result, Root, Stat, Timestamp, xattr};

/// How a layer is written.
#[derive(Debug, Clone, Default)]
pub struct LayerOptions {
    /// No file gets a later modification time than this (SOURCE_DATE_EPOCH, rewrite-timestamp). Nanoseconds.
    pub clamp_mtime: Option<Timestamp>,
}

/// A layer that was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerInfo {
    /// Digest of the bytes written.
    pub diff_id: DiffId,
    /// Bytes written.
    pub size: u64,
    /// Entries written; 0 means an empty layer.
    pub entries: u64,
}

/// Writes the overlay upper (or lower) directory `upper` as a layer tar.
///
/// # Errors
/// A file cannot be read or changes while it is read, or `out` fails.
pub fn write_layer(upper: &Root, out: impl Write, options: &LayerOptions) -> Result<LayerInfo> {
    write_layer_over(upper, &[], out, options)
}

/// As [`write_layer`] when the layers below are at hand: an opaque mark on a directory that none of them has is left out, for there is
/// nothing to hide.
///
/// # Errors
/// As [`write_layer`].
pub fn write_layer_over(upper: &Root, lowers: &[Root], out: impl Write, options: &LayerOptions) -> Result<LayerInfo> {
    let mut layer = Layer { out, hasher: Hasher::new(), size: 0, entries: 0, links: HashMap::new(), lowers, options };
    let top = upper.open_dir(b"/")?;
    let mut levels = vec![Level::open(top, Vec::new())?];
    while let Some(level) = levels.last_mut() {
        let Some(name) = level.todo.pop() else {
            levels.pop();
            continue;
        };
        let path = if level.path.is_empty() { name.clone() } else { join(&level.path, &name) };
        let shown = owned(&path);
        let stat = stat_at(&level.fd, &name, &shown)?;
        if stat.is_whiteout() {
            let hidden = [b".wh.".as_slice(), &name].concat();
            let path = if level.path.is_empty() { hidden } else { join(&level.path, &hidden) };
            layer.mark(&path, &stat)?;
        } else if stat.is_dir() {
            if levels.len() >= MAX_DEPTH {
                return Err(Error::TooDeep { path: shown, limit: MAX_DEPTH });
            }
            let fd = root::open_subdir(&levels[levels.len() - 1].fd, &name, &shown)?;
            let xattrs = attributes(fd.as_fd(), &shown)?;
            layer.header(&path, EntryType::Directory, &stat, 0, None, &xattrs.kept)?;
            if xattrs.opaque && layer.exists_below(&path)? {
                layer.mark(&join(&path, b".wh..wh..opq"), &stat)?;
            }
            levels.push(Level::open(fd, path)?);
        } else {
            let fd = level.fd.as_fd();
            layer.leaf(fd, &name, &path, &stat)?;
        }
    }
    layer.write(&[0; 1024])?;
    layer.out.flush().map_err(|source| Error::Sink { source })?;
    Ok(LayerInfo { diff_id: DiffId(layer.hasher.finish()), size: layer.size, entries: layer.entries })
}

struct Level {
    fd: OwnedFd,
    path: Vec<u8>,
    todo: Vec<Vec<u8>>,
}

impl Level {
    fn open(fd: OwnedFd, path: Vec<u8>) -> Result<Self> {
        let mut todo = root::names(&fd, &owned(&path))?;
        todo.reverse();
        Ok(Self { fd, path, todo })
    }
}

struct Attributes {
    kept: Vec<(Vec<u8>, Vec<u8>)>,
    opaque: bool,
}

/// What of a file's attributes goes into a layer: not what belongs to this machine (labels, ACL caches, overlayfs's marks).
fn attributes(fd: BorrowedFd<'_>, shown: &std::path::Path) -> Result<Attributes> {
    let all = xattr::list(fd).map_err(|e| Error::io("list attributes of", shown, e))?;
    let opaque = all.iter().any(|(k, v)| xattr::is_overlay(k) && k.ends_with(b".overlay.opaque") && v == b"y");
    let keep = |key: &[u8]| key == b"security.capability" || (key.starts_with(b"user.") && !xattr::is_overlay(key));
    Ok(Attributes { kept: all.into_iter().filter(|(k, _)| keep(k)).collect(), opaque })
}

struct Layer<'a, W> {
    out: W,
    hasher: Hasher,
    size: u64,
    entries: u64,
    links: HashMap<(u64, u64), Vec<u8>>,
    lowers: &'a [Root],
    options: &'a LayerOptions,
}

impl<W: Write> Layer<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.out.write_all(bytes).map_err(|source| Error::Sink { source })?;
        self.hasher.update(bytes);
        self.size += bytes.len() as u64;
        Ok(())
    }

    fn exists_below(&self, path: &[u8]) -> Result<bool> {
        if self.lowers.is_empty() {
            return Ok(true);
        }
        for lower in self.lowers {
            if lower.try_stat(owned(&join(b"/", path)), Last::Keep)?.is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// A whiteout or opaque entry: empty, owned by root, with the time of what made it.
    fn mark(&mut self, path: &[u8], stat: &Stat) -> Result<()> {
        let stat = Stat { mode: 0, owner: crate::Owner::default(), mtime: stat.mtime, ..stat.clone() };
        self.header(path, EntryType::Regular, &stat, 0, None, &[])
    }

    fn leaf(&mut self, dir: BorrowedFd<'_>, name: &[u8], path: &[u8], stat: &Stat) -> Result<()> {
        let shown = owned(path);
        // Sockets are not kept by any tar of layers.
        if stat.kind == Kind::Socket {
            return Ok(());
        }
        if stat.links > 1 {
            let id = (stat.dev, stat.ino);
            if let Some(first) = self.links.get(&id).cloned() {
                return self.header(path, EntryType::Link, stat, 0, Some(&first), &[]);
            }
            self.links.insert(id, path.to_vec());
        }
        let fd = open_path(dir, name, &shown)?;
        let xattrs = attributes(fd.as_fd(), &shown)?.kept;
        match stat.kind {
            Kind::File => self.file(dir, name, path, stat, &xattrs),
            Kind::Symlink => {
                let target = root::read_link_at(dir, name, &shown)?;
                self.header(path, EntryType::Symlink, stat, 0, Some(&target), &xattrs)
            }
            Kind::CharDevice => self.header(path, EntryType::Char, stat, 0, None, &xattrs),
            Kind::BlockDevice => self.header(path, EntryType::Block, stat, 0, None, &xattrs),
            Kind::Fifo | Kind::Socket | Kind::Dir => self.header(path, EntryType::Fifo, stat, 0, None, &xattrs),
        }
    }

    fn file(
        &mut self,
        dir: BorrowedFd<'_>,
        name: &[u8],
        path: &[u8],
        stat: &Stat,
        xattrs: &[(Vec<u8>, Vec<u8>)],
    ) -> Result<()> {
        let shown = owned(path);
        self.header(path, EntryType::Regular, stat, stat.size, None, xattrs)?;
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(dir, os(name), flags, Mode::empty()).map_err(|e| Error::io("open", &shown, e))?;
        let mut file = File::from(fd);
        let mut buffer = vec![0; usize::try_from(stat.size.clamp(1, 256 << 10)).unwrap_or(1)];
        let mut left = stat.size;
        while left > 0 {
            let wanted = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
            let count = file.read(&mut buffer[..wanted]).map_err(|e| Error::io("read", &shown, e))?;
            if count == 0 {
                return Err(Error::Changed { path: shown });
            }
            self.write(&buffer[..count])?;
            left -= count as u64;
        }
        if stat_fd(&file, &shown)?.size != stat.size {
            return Err(Error::Changed { path: shown });
        }
        let padding = usize::try_from(stat.size.next_multiple_of(512) - stat.size).unwrap_or(0);
        self.write(&[0; 512][..padding])
    }

    fn header(
        &mut self,
        path: &[u8],
        entry_type: EntryType,
        stat: &Stat,
        size: u64,
        link: Option<&[u8]>,
        xattrs: &[(Vec<u8>, Vec<u8>)],
    ) -> Result<()> {
        let mut name = path.to_vec();
        if entry_type == EntryType::Directory {
            name.push(b'/');
        }
        let mtime = stat.mtime.min(self.options.clamp_mtime.unwrap_or(Timestamp::MAX)).div_euclid(1_000_000_000);
        let failed = |e: tar_core::HeaderError| Error::BadEntry { path: owned(path), reason: e.to_string() };
        let mut entry = EntryBuilder::new_ustar();
        entry.path(&name).entry_type(entry_type);
        entry.mode(stat.mode).map_err(failed)?;
        entry.uid(stat.owner.uid.into()).map_err(failed)?;
        entry.gid(stat.owner.gid.into()).map_err(failed)?;
        entry.size(size).map_err(failed)?;
        match u64::try_from(mtime) {
            Ok(mtime) => {
                entry.mtime(mtime).map_err(failed)?;
            }
            Err(_) => {
                entry.mtime(0).map_err(failed)?;
                entry.add_pax("mtime", mtime.to_string());
            }
        }
        if let Some(link) = link {
            entry.link_name(link);
        }
        if matches!(entry_type, EntryType::Char | EntryType::Block) {
            entry.device(stat.rdev.0, stat.rdev.1).map_err(failed)?;
        }
        for (key, value) in xattrs {
            // Attribute names are text in PAX keys; the kernel's own always are.
            if let Ok(key) = std::str::from_utf8(key) {
                entry.add_pax(&format!("SCHILY.xattr.{key}"), value);
            }
        }
        self.entries += 1;
        let bytes = entry.finish_bytes();
        self.write(&bytes)
    }
}
