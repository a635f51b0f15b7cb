//! Writing to a layer without mounting it over those below, where the answer is the same: what is to be made does not exist in any of them, and on the way
//! to it there are plain directories only. Mounting costs several times what making a directory does.
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, RawMode, Stat as RawStat};
use rustix::io::Errno;

use crate::copy_entry::{Finish, finish, set_times, xattrs_of_open};
use crate::path::{anchor, os};
use crate::root::open_subdir;
use crate::{OwnerPolicy, Result, Root};

/// Makes the way to `path` in the directory `upper` of a layer, as overlayfs would: directories on it that the layers `lowers` (topmost first; directories
/// of the caller's, with no symlinks on their paths) have are there in `upper` afterwards, with the same owner, mode, times and attributes. True when nothing is at `path`, nor
/// was ever removed on the way to it, and no symlink is on the way: then what is made at `path` in `upper` is what it would be in a mounted view. False when
/// a view is needed; `upper` is untouched then.
///
/// # Errors
/// The disk.
pub fn way_without_mount(upper: &Root, lowers: &[PathBuf], path: &str, owners: OwnerPolicy) -> Result<bool> {
    // What `..` after a symlink means is known once the link has been followed.
    if path.split('/').any(|part| part == "..") {
        return Ok(false);
    }
    let path = anchor(path.as_bytes());
    let mut way: Vec<(&[u8], OwnedFd)> = Vec::new();
    // Layers that have the directory reached so far; above the first step that is all of them, by their paths.
    let mut layers: Option<Vec<OwnedFd>> = None;
    for part in path.split(|b| *b == b'/').filter(|part| !part.is_empty()) {
        let mut found = Vec::new();
        for at in 0..layers.as_ref().map_or(lowers.len(), Vec::len) {
            let below = match &layers {
                None => look(CWD, &lowers[at].join(os(part)))?,
                Some(layers) => look(&layers[at], Path::new(os(part)))?,
            };
            match below {
                Below::Nothing => continue,
                Below::Else => return Ok(false),
                Below::Directory(fd) => {
                    let opaque = is_opaque(&fd);
                    found.push(fd);
                    if opaque {
                        break;
                    }
                }
            }
        }
        if found.is_empty() {
            return make_way(upper, &way, owners).map(|()| true);
        }
        // All layers but the topmost are only looked at: a copy of its descriptor stays for its metadata.
        let Ok(top) = found[0].try_clone() else { return Ok(false) };
        way.push((part, top));
        layers = Some(found);
    }
    Ok(false)
}

enum Below {
    Nothing,
    Directory(OwnedFd),
    /// A file, a link, the mark of a removed file.
    Else,
}

fn look(at: impl AsFd, path: &Path) -> Result<Below> {
    let failed = |error| crate::Error::io("look up", path, error);
    let found: RawStat = match rustix::fs::statat(&at, path, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(found) => found,
        Err(Errno::NOENT) => return Ok(Below::Nothing),
        Err(error) => return Err(failed(error)),
    };
    if !FileType::from_raw_mode(found.st_mode as RawMode).is_dir() {
        return Ok(Below::Else);
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(&at, path, flags, Mode::empty()).map(Below::Directory).map_err(failed)
}

/// Whether what layers further down have in this directory does not show.
fn is_opaque(directory: &OwnedFd) -> bool {
    let mut value = [0; 4];
    ["trusted.overlay.opaque", "user.overlay.opaque"]
        .iter()
        .any(|name| rustix::fs::fgetxattr(directory, *name, &mut value[..]).is_ok())
}

fn make_way(upper: &Root, way: &[(&[u8], OwnedFd)], owners: OwnerPolicy) -> Result<()> {
    if way.is_empty() {
        return Ok(());
    }
    let mut at = upper.open_dir(b"/")?;
    let mut shown = PathBuf::from("/");
    let mut above = crate::root::stat_fd(&at, &shown)?;
    for (name, like) in way {
        shown.push(os(name));
        let stat = crate::root::stat_fd(like, &shown)?;
        rustix::fs::mkdirat(&at, os(name), Mode::from_raw_mode(0o700))
            .map_err(|e| crate::Error::io("create directory", &shown, e))?;
        let xattrs = xattrs_of_open(like, &shown)?;
        let like = Finish {
            owner: Some(stat.owner),
            owners,
            mode: Some(stat.mode),
            atime: stat.atime,
            mtime: stat.mtime,
            xattrs: &xattrs,
        };
        finish(at.as_fd(), name, &like, &shown)?;
        // As overlayfs does: what is only copied from below moves no time.
        set_times(at.as_fd(), b".", above.atime, above.mtime, &shown)?;
        at = open_subdir(&at, name, &shown)?;
        above = stat;
    }
    Ok(())
}
