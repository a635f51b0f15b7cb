//! Writing an overlay upper directory as a layer tar (OCI image-spec, layer.md): the entries, in the order and with the bytes, of BuildKit's
//! overlay differ over the same directory.
//!
//! Depth first, names sorted by bytes. What the layers below hold already, by mode, owner, size, time and attributes, is left out: a directory that
//! was only looked into, a file that was opened for writing and not changed. A directory stands before the first change in it. No user names, no access or
//! change times; modification times in whole seconds. overlayfs's whiteouts become `.wh.` entries; an opaque directory becomes whiteouts of what it hides,
//! which every unpacker understands in any order of entries.
use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags};

use crate::copy_entry::open_path;
use crate::file_ops::MAX_DEPTH;
use crate::layer_sink::{Items, Sink};
use crate::path::{join, os, owned};
use crate::root::{self, stat_fd, try_stat_at};
use crate::tar_header::{Flag, TarHeader};
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
    /// Bytes written.
    pub size: u64,
    /// Entries written; 0 means an empty layer.
    pub entries: u64,
}

/// What is known of the layers below the one that is written.
#[derive(Debug, Clone, Copy)]
pub enum Below<'a> {
    /// Nothing: every entry is written, every whiteout kept, opaque directories are marked `.wh..wh..opq`.
    Unknown,
    /// There are none: marks hide nothing and are left out.
    Nothing,
    /// All of them as one tree.
    Tree(&'a Root),
}

/// Writes the overlay upper (or lower) directory `upper` as a layer tar.
///
/// # Errors
/// A file cannot be read or changes while it is read, or `out` fails.
pub fn write_layer(upper: &Root, below: Below<'_>, out: impl Write, options: &LayerOptions) -> Result<LayerInfo> {
    let base = match below {
        Below::Unknown => Base::Unknown,
        Below::Nothing => Base::Absent,
        Below::Tree(root) => Base::Dir(root.open_dir(b"/")?),
    };
    let top = Level::open(upper.open_dir(b"/")?, base, false, Vec::new(), None)?;
    let layer = Layer { items: Items::default(), entries: 0, links: HashMap::new(), options: options.clone() };
    let mut walk = Walk { layer, levels: vec![top] };
    let mut sink = Sink::new(out);
    let first = walk.some()?;
    sink.put(first)?;
    let over = walk.levels.is_empty();
    let entries = if over { walk.entries() } else { sink.follow(walk)? };
    Ok(LayerInfo { size: sink.end()?, entries })
}

/// The walk over the directory, as far as it is.
pub(crate) struct Walk {
    layer: Layer,
    levels: Vec<Level>,
}

impl Walk {
    /// What comes next, some at a time; nothing at the end.
    pub(crate) fn some(&mut self) -> Result<Items> {
        while let Some(level) = self.levels.last_mut() {
            let Some(name) = level.todo.pop() else {
                self.levels.pop();
                continue;
            };
            if let Some(next) = self.layer.entry(&mut self.levels, &name)? {
                if self.levels.len() >= MAX_DEPTH {
                    return Err(Error::TooDeep { path: owned(&next.path), limit: MAX_DEPTH });
                }
                self.levels.push(next);
            }
            if self.layer.items.is_full() {
                break;
            }
        }
        Ok(std::mem::take(&mut self.layer.items))
    }

    /// Entries so far.
    pub(crate) fn entries(&self) -> u64 {
        self.layer.entries
    }
}

/// The same directory in the layers below.
enum Base {
    Unknown,
    /// It is not there, or is no directory.
    Absent,
    Dir(OwnedFd),
}

struct Level {
    fd: OwnedFd,
    base: Base,
    /// Whether nothing of the layers below shows through: the directory, or one above it, is opaque.
    opaque: bool,
    path: Vec<u8>,
    /// Its entry, until it is written.
    pending: Option<(Stat, Vec<Attribute>)>,
    todo: Vec<Vec<u8>>,
}

type Attribute = (Vec<u8>, Vec<u8>);

impl Level {
    fn open(
        fd: OwnedFd,
        base: Base,
        opaque: bool,
        path: Vec<u8>,
        pending: Option<(Stat, Vec<Attribute>)>,
    ) -> Result<Self> {
        let mut todo = root::names(&fd, &owned(&path))?;
        if let (Base::Dir(base), true) = (&base, opaque) {
            todo.extend(root::names(base, &owned(&path))?);
            todo.sort_unstable();
            todo.dedup();
        }
        todo.reverse();
        Ok(Self { fd, base, opaque, path, pending, todo })
    }

    /// `name` in the layers below; for [`Base::Unknown`] nothing.
    fn below(&self, name: &[u8], shown: &std::path::Path) -> Result<Option<Stat>> {
        match &self.base {
            Base::Dir(fd) => try_stat_at(fd, name, shown),
            Base::Unknown | Base::Absent => Ok(None),
        }
    }
}

struct Attributes {
    kept: Vec<Attribute>,
    opaque: bool,
}

/// What of a file's attributes goes into a layer: not what belongs to this machine (labels, ACL caches, overlayfs's marks).
fn attributes(fd: BorrowedFd<'_>, shown: &std::path::Path) -> Result<Attributes> {
    attributes_among(xattr::list(fd), shown)
}

/// As [`attributes`] for a descriptor that is open for reading.
fn attributes_of_open(fd: impl AsFd, shown: &std::path::Path) -> Result<Attributes> {
    attributes_among(xattr::list_open(fd), shown)
}

fn attributes_among(
    all: std::result::Result<Vec<Attribute>, rustix::io::Errno>,
    shown: &std::path::Path,
) -> Result<Attributes> {
    let all = all.map_err(|e| Error::io("list attributes of", shown, e))?;
    let opaque = all.iter().any(|(k, v)| xattr::is_overlay(k) && k.ends_with(b".overlay.opaque") && v == b"y");
    let keep = |key: &[u8]| key == b"security.capability" || (key.starts_with(b"user.") && !xattr::is_overlay(key));
    Ok(Attributes { kept: all.into_iter().filter(|(k, _)| keep(k)).collect(), opaque })
}

struct Layer {
    items: Items,
    entries: u64,
    links: HashMap<(u64, u64), Vec<u8>>,
    options: LayerOptions,
}

impl Layer {
    /// Writes `name` of the last level; a directory is answered, to go on in.
    fn entry(&mut self, levels: &mut [Level], name: &[u8]) -> Result<Option<Level>> {
        let Some(level) = levels.last() else { return Ok(None) };
        let path = if level.path.is_empty() { name.to_vec() } else { join(&level.path, name) };
        let shown = owned(&path);
        let below = level.below(name, &shown)?;
        let stat = try_stat_at(&level.fd, name, &shown)?.filter(|stat| !(level.opaque && stat.is_whiteout()));
        let Some(stat) = stat else {
            // Only below, hidden by an opaque directory.
            return if below.is_some() { self.whiteout(levels, name, 0).map(|()| None) } else { Ok(None) };
        };
        if stat.is_whiteout() {
            if below.is_some() || matches!(level.base, Base::Unknown) {
                let time = if matches!(level.base, Base::Unknown) { stat.mtime } else { 0 };
                self.whiteout(levels, name, time)?;
            }
            return Ok(None);
        }
        if stat.is_dir() {
            return self.directory(levels, name, path, stat, below.as_ref()).map(Some);
        }
        // Sockets are not kept by any tar of layers.
        if stat.kind == Kind::Socket {
            return Ok(None);
        }
        // A file is opened once, for its attributes and its bytes.
        let (file, xattrs) = if stat.is_file() {
            let file = open_file(level.fd.as_fd(), name, &shown)?;
            let found = attributes_of_open(&file, &shown)?;
            (Some(file), found.kept)
        } else {
            (None, attributes(open_path(level.fd.as_fd(), name, &shown)?.as_fd(), &shown)?.kept)
        };
        if let (Some(below), Base::Dir(base)) = (&below, &level.base)
            && is_same((level.fd.as_fd(), &stat, &xattrs), (base.as_fd(), below), name, &shown)?
        {
            return Ok(None);
        }
        self.parents(levels)?;
        let Some(level) = levels.last() else { return Ok(None) };
        self.leaf((level.fd.as_fd(), file), name, &path, &stat, &xattrs).map(|()| None)
    }

    fn directory(
        &mut self,
        levels: &mut [Level],
        name: &[u8],
        path: Vec<u8>,
        stat: Stat,
        below: Option<&Stat>,
    ) -> Result<Level> {
        let shown = owned(&path);
        let level = &levels[levels.len() - 1];
        let fd = root::open_subdir(&level.fd, name, &shown)?;
        let found = attributes(fd.as_fd(), &shown)?;
        let opaque = level.opaque || found.opaque;
        let (base, same) = match (&level.base, below) {
            (Base::Unknown, _) => (Base::Unknown, false),
            (Base::Dir(base), Some(below)) if below.is_dir() => {
                let base = root::open_subdir(base, name, &shown)?;
                let theirs = attributes(base.as_fd(), &shown)?.kept;
                let same = (stat.mode, stat.owner) == (below.mode, below.owner) && found.kept == theirs;
                (Base::Dir(base), same)
            }
            _ => (Base::Absent, false),
        };
        let unknown = matches!(base, Base::Unknown);
        let mut next = Level::open(fd, base, opaque && !unknown, path, Some((stat, found.kept)))?;
        if !same {
            self.parents(levels)?;
            self.pending(&mut next)?;
        }
        if unknown && found.opaque {
            let stat = stat_fd(&next.fd, &shown)?;
            self.mark(&join(&next.path, b".wh..wh..opq"), stat.mtime)?;
        }
        Ok(next)
    }

    /// The directories that a change lies in, before the change.
    fn parents(&mut self, levels: &mut [Level]) -> Result<()> {
        levels.iter_mut().try_for_each(|level| self.pending(level))
    }

    fn pending(&mut self, level: &mut Level) -> Result<()> {
        match level.pending.take() {
            Some((stat, xattrs)) => self.header(&level.path, Flag::Dir, &stat, 0, b"", &xattrs),
            None => Ok(()),
        }
    }

    fn whiteout(&mut self, levels: &mut [Level], name: &[u8], mtime: Timestamp) -> Result<()> {
        self.parents(levels)?;
        let hidden = [b".wh.".as_slice(), name].concat();
        let path = levels.last().map(|level| level.path.as_slice()).filter(|path| !path.is_empty());
        self.mark(&path.map_or(hidden.clone(), |path| join(path, &hidden)), mtime)
    }

    /// A whiteout or opaque entry: empty, owned by root, of no mode and (over known layers) no time.
    fn mark(&mut self, path: &[u8], mtime: Timestamp) -> Result<()> {
        self.entries += 1;
        let header = TarHeader {
            name: path,
            flag: Flag::File,
            mode: 0,
            uid: 0,
            gid: 0,
            size: 0,
            mtime: self.seconds(mtime),
            link: b"",
            device: (0, 0),
            xattrs: &[],
        };
        self.items.bytes(&header.bytes());
        Ok(())
    }

    fn leaf(
        &mut self,
        (dir, file): (BorrowedFd<'_>, Option<File>),
        name: &[u8],
        path: &[u8],
        stat: &Stat,
        xattrs: &[Attribute],
    ) -> Result<()> {
        if stat.links > 1 {
            let id = (stat.dev, stat.ino);
            if let Some(first) = self.links.get(&id).cloned() {
                return self.header(path, Flag::Link, stat, 0, &first, xattrs);
            }
            self.links.insert(id, path.to_vec());
        }
        if let Some(file) = file {
            return self.file(file, path, stat, xattrs);
        }
        match stat.kind {
            Kind::Symlink => {
                let target = root::read_link_at(dir, name, &owned(path))?;
                self.header(path, Flag::Symlink, stat, 0, &target, xattrs)
            }
            Kind::CharDevice => self.header(path, Flag::Char, stat, 0, b"", xattrs),
            Kind::BlockDevice => self.header(path, Flag::Block, stat, 0, b"", xattrs),
            Kind::File | Kind::Fifo | Kind::Socket | Kind::Dir => self.header(path, Flag::Fifo, stat, 0, b"", xattrs),
        }
    }

    fn file(&mut self, file: File, path: &[u8], stat: &Stat, xattrs: &[Attribute]) -> Result<()> {
        self.header(path, Flag::File, stat, stat.size, b"", xattrs)?;
        self.items.file(file, path, stat);
        Ok(())
    }

    fn seconds(&self, mtime: Timestamp) -> i64 {
        mtime.min(self.options.clamp_mtime.unwrap_or(Timestamp::MAX)).div_euclid(1_000_000_000)
    }

    fn header(
        &mut self,
        path: &[u8],
        flag: Flag,
        stat: &Stat,
        size: u64,
        link: &[u8],
        xattrs: &[Attribute],
    ) -> Result<()> {
        let mut name = path.to_vec();
        if flag == Flag::Dir {
            name.push(b'/');
        }
        let device = if matches!(stat.kind, Kind::CharDevice | Kind::BlockDevice) { stat.rdev } else { (0, 0) };
        self.entries += 1;
        let header = TarHeader {
            name: &name,
            flag,
            mode: stat.mode,
            uid: stat.owner.uid,
            gid: stat.owner.gid,
            size,
            mtime: self.seconds(stat.mtime),
            link,
            device,
            xattrs,
        };
        self.items.bytes(&header.bytes());
        Ok(())
    }
}

fn open_file(dir: BorrowedFd<'_>, name: &[u8], shown: &std::path::Path) -> Result<File> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let fd = rustix::fs::openat(dir, os(name), flags, Mode::empty()).map_err(|e| Error::io("open", shown, e))?;
    Ok(File::from(fd))
}

/// Whether `name`, no directory, is what the layers below hold already. Times that tell nothing (whole seconds, as out of a tar) are no proof:
/// the bytes are compared then.
fn is_same(
    (dir, stat, xattrs): (BorrowedFd<'_>, &Stat, &[Attribute]),
    (base, below): (BorrowedFd<'_>, &Stat),
    name: &[u8],
    shown: &std::path::Path,
) -> Result<bool> {
    let of = |stat: &Stat| (stat.kind, stat.mode, stat.owner, stat.rdev, stat.size, stat.mtime);
    if of(stat) != of(below) {
        return Ok(false);
    }
    let fd = open_path(base, name, shown)?;
    if attributes(fd.as_fd(), shown)?.kept != xattrs {
        return Ok(false);
    }
    if stat.mtime % 1_000_000_000 != 0 || stat.size == 0 {
        return Ok(true);
    }
    match stat.kind {
        Kind::Symlink => Ok(root::read_link_at(dir, name, shown)? == root::read_link_at(base, name, shown)?),
        Kind::File => {
            let same = |a: &mut File, b: &mut File| -> std::io::Result<bool> {
                let (mut ours, mut theirs) = (vec![0; 64 << 10], vec![0; 64 << 10]);
                loop {
                    let count = a.read(&mut ours)?;
                    if count == 0 {
                        return Ok(b.read(&mut theirs[..1])? == 0);
                    }
                    match b.read_exact(&mut theirs[..count]) {
                        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(false),
                        other => other?,
                    }
                    if ours[..count] != theirs[..count] {
                        return Ok(false);
                    }
                }
            };
            let (mut ours, mut theirs) = (open_file(dir, name, shown)?, open_file(base, name, shown)?);
            same(&mut ours, &mut theirs).map_err(|e| Error::io("read", shown, e))
        }
        _ => Ok(true),
    }
}
