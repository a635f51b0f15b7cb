//! Copying one file: its bytes (shared where the file system can, holes kept), then owner, mode, times, attributes, in the order in which
//! each leaves the others alone: chown drops setuid bits and file capabilities, so it comes first and attributes come last.
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;

use crate::file_ops::{chown, chown_open};
use crate::path::os;
use crate::root::stat_fd;
use crate::stat::timestamps;
use crate::{Error, Kind, Owner, OwnerPolicy, Result, Stat, Timestamp, xattr};

/// A file that was copied, and its copy, both still open.
pub(crate) struct Copied {
    pub(crate) source: File,
    pub(crate) target: File,
}

/// Copies the regular file `from` of `src` to the new file `to` of `dst`.
pub(crate) fn copy_file(
    (src, from): (BorrowedFd<'_>, &[u8]),
    (dst, to): (BorrowedFd<'_>, &[u8]),
    shown: &Path,
) -> Result<Copied> {
    let read = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let source = rustix::fs::openat(src, os(from), read, Mode::empty()).map_err(|e| Error::io("open", shown, e))?;
    let before = stat_fd(&source, shown)?;
    if !before.is_file() {
        return Err(Error::Changed { path: shown.to_path_buf() });
    }
    let create = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let target = rustix::fs::openat(dst, os(to), create, Mode::from_raw_mode(0o600))
        .map_err(|e| Error::io("create", shown, e))?;
    let (mut source, mut target) = (File::from(source), File::from(target));
    copy_bytes(&mut source, &mut target, &before).map_err(|e| Error::io("copy", shown, e))?;
    let after = stat_fd(&source, shown)?;
    if (before.size, before.mtime, before.ctime) != (after.size, after.mtime, after.ctime)
        && before.mtime != after.mtime
    {
        return Err(Error::Changed { path: shown.to_path_buf() });
    }
    Ok(Copied { source, target })
}

/// Whether a file could not be made because its name is taken.
pub(crate) fn is_taken(error: &Error) -> bool {
    matches!(error, Error::Io { source, .. } if source.raw_os_error() == Some(libc::EEXIST))
}

/// Files of at most so many bytes go through a buffer: the kernel's own copy costs more to begin than they cost to read.
const SMALL: usize = 16 << 10;

fn copy_bytes(source: &mut File, target: &mut File, stat: &Stat) -> std::io::Result<()> {
    if stat.size == 0 {
        // Files of pseudo file systems say 0 and have bytes.
        std::io::copy(source, target)?;
        return Ok(());
    }
    let whole = stat.blocks.saturating_mul(512) >= stat.size;
    if whole && stat.size < SMALL as u64 {
        let (mut buffer, mut copied) = ([0; SMALL], 0);
        while copied < stat.size {
            match source.read(&mut buffer)? {
                0 => break,
                count => {
                    target.write_all(&buffer[..count])?;
                    copied += count as u64;
                }
            }
        }
        return Ok(());
    }
    if rustix::fs::ioctl_ficlone(&*target, &*source).is_ok() {
        return Ok(());
    }
    if whole {
        return copy_range(source, target, 0, stat.size);
    }
    let mut at = 0;
    while at < stat.size {
        let start = match rustix::fs::seek(&*source, rustix::fs::SeekFrom::Data(at)) {
            Ok(start) => start,
            Err(Errno::NXIO) => break,
            Err(_) => return copy_range(source, target, at, stat.size),
        };
        let end = rustix::fs::seek(&*source, rustix::fs::SeekFrom::Hole(start))?.min(stat.size);
        if end > start {
            copy_range(source, target, start, end)?;
        }
        at = end.max(start + 1);
    }
    target.set_len(stat.size)
}

/// Copies bytes `from..to`, in the kernel where it can.
fn copy_range(source: &mut File, target: &mut File, from: u64, to: u64) -> std::io::Result<()> {
    let (mut read_at, mut write_at) = (from, from);
    while read_at < to {
        let wanted = usize::try_from(to - read_at).unwrap_or(usize::MAX).min(1 << 30);
        match rustix::fs::copy_file_range(&*source, Some(&mut read_at), &*target, Some(&mut write_at), wanted) {
            Ok(0) => return Ok(()),
            Ok(_) => {}
            Err(Errno::INTR) => {}
            Err(Errno::NOSPC) => return Err(Errno::NOSPC.into()),
            Err(_) => {
                source.seek(SeekFrom::Start(read_at))?;
                target.seek(SeekFrom::Start(write_at))?;
                let mut left = source.take(to - read_at);
                let mut buffer = vec![0; 128 << 10];
                loop {
                    match left.read(&mut buffer)? {
                        0 => return Ok(()),
                        count => target.write_all(&buffer[..count])?,
                    }
                }
            }
        }
    }
    Ok(())
}

/// Makes a device, pipe or (as an empty file, which is what can be kept of it) socket.
pub(crate) fn make_node(dst: BorrowedFd<'_>, to: &[u8], kind: Kind, rdev: (u32, u32), shown: &Path) -> Result<()> {
    let file_type = match kind {
        Kind::CharDevice => FileType::CharacterDevice,
        Kind::BlockDevice => FileType::BlockDevice,
        Kind::Fifo => FileType::Fifo,
        _ => FileType::RegularFile,
    };
    let dev = rustix::fs::makedev(rdev.0, rdev.1);
    rustix::fs::mknodat(dst, os(to), file_type, Mode::from_raw_mode(0o600), dev)
        .map_err(|e| Error::io("create device", shown, e))
}

/// What a file gets once it is there.
pub(crate) struct Finish<'a> {
    pub(crate) owner: Option<Owner>,
    pub(crate) owners: OwnerPolicy,
    /// `None` for a symlink.
    pub(crate) mode: Option<u32>,
    pub(crate) atime: Timestamp,
    pub(crate) mtime: Timestamp,
    pub(crate) xattrs: &'a [(Vec<u8>, Vec<u8>)],
}

/// Applies `finish` to `name` in `dir`. Attributes that the file system refuses are left out, as BuildKit leaves them out.
pub(crate) fn finish(dir: BorrowedFd<'_>, name: &[u8], finish: &Finish<'_>, shown: &Path) -> Result<()> {
    chown(dir, name, finish.owner, finish.owners, shown)?;
    if let Some(mode) = finish.mode {
        chmod(dir, name, mode, shown)?;
    }
    if !finish.xattrs.is_empty() {
        let fd = open_path(dir, name, shown)?;
        for (key, value) in finish.xattrs {
            if let Err(error) = xattr::set(&fd, key, value) {
                tracing::debug!(%error, path = %shown.display(), key = %String::from_utf8_lossy(key), "attribute not kept");
            }
        }
    }
    set_times(dir, name, finish.atime, finish.mtime, shown)
}

/// As [`finish`] for a file that is open, which takes half the calls.
pub(crate) fn finish_open(file: &File, finish: &Finish<'_>, shown: &Path) -> Result<()> {
    chown_open(file, finish.owner, finish.owners, shown)?;
    if let Some(mode) = finish.mode {
        rustix::fs::fchmod(file, Mode::from_raw_mode(mode & 0o7777)).map_err(|e| Error::io("set mode of", shown, e))?;
    }
    for (key, value) in finish.xattrs {
        if let Err(error) = xattr::set(file, key, value) {
            tracing::debug!(%error, path = %shown.display(), key = %String::from_utf8_lossy(key), "attribute not kept");
        }
    }
    rustix::fs::futimens(file, &timestamps(finish.atime, finish.mtime)).map_err(|e| Error::io("set times of", shown, e))
}

/// Sets the times of `name` in `dir`.
pub(crate) fn set_times(
    dir: BorrowedFd<'_>,
    name: &[u8],
    atime: Timestamp,
    mtime: Timestamp,
    shown: &Path,
) -> Result<()> {
    rustix::fs::utimensat(dir, os(name), &timestamps(atime, mtime), AtFlags::SYMLINK_NOFOLLOW)
        .map_err(|e| Error::io("set times of", shown, e))
}

/// Sets the mode of what is known to be no symlink. Goes over a descriptor: `fchmodat` would follow a link that was swapped in.
pub(crate) fn chmod(dir: BorrowedFd<'_>, name: &[u8], mode: u32, shown: &Path) -> Result<()> {
    let fd = open_path(dir, name, shown)?;
    if stat_fd(&fd, shown)?.is_symlink() {
        return Err(Error::Changed { path: shown.to_path_buf() });
    }
    let proc = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&fd.as_fd()));
    rustix::fs::chmod(proc.as_str(), Mode::from_raw_mode(mode & 0o7777)).map_err(|e| Error::io("set mode of", shown, e))
}

/// An `O_PATH` descriptor of `name` itself.
pub(crate) fn open_path(dir: BorrowedFd<'_>, name: &[u8], shown: &Path) -> Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(dir, os(name), flags, Mode::empty()).map_err(|e| Error::io("open", shown, e))
}

/// The attributes of an open file, without those of overlayfs.
pub(crate) fn xattrs_of_open(file: impl AsFd, shown: &Path) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let mut found = xattr::list_open(file).map_err(|e| Error::io("list attributes of", shown, e))?;
    found.retain(|(key, _)| !xattr::is_overlay(key));
    Ok(found)
}

/// The attributes of `name` in `dir`, without those of overlayfs.
pub(crate) fn xattrs_of(dir: BorrowedFd<'_>, name: &[u8], shown: &Path) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let fd = open_path(dir, name, shown)?;
    let mut found = xattr::list(&fd).map_err(|e| Error::io("list attributes of", shown, e))?;
    found.retain(|(key, _)| !xattr::is_overlay(key));
    Ok(found)
}
