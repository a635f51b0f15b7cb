//! Mount points in a root: found or made by descriptor, and unmade by descriptor when the step is over.
//!
//! Destinations are untrusted, and so are the symlinks in the image. The walk resolves every component itself, below the root,
//! and each open refuses symlinks, so that an exchange between look and use is an error instead of an escape. Removal looks at
//! names in directories reached without symlinks, takes only empty things, and puts the parent's times back.
use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, StatxFlags, Timespec, Timestamps, Uid};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

/// Something made in the root only to be mounted on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stub {
    /// Directory that holds it, without symlinks, relative to the root; empty is the root.
    parent: String,
    name: String,
    directory: bool,
    /// Whether it is the mount point itself, not a directory on the way.
    last: bool,
    /// Modification time of the parent before and after, in (s, ns).
    before: (i64, i64),
    after: (i64, i64),
}

/// What a mount point has to be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    Directory,
    File,
}

const MAX_LINKS: usize = 40;

/// Opens `path` inside `root` without following magic links; symlinks of the image stay in the root.
pub fn open_in_root(root: BorrowedFd<'_>, path: &str) -> rustix::io::Result<OwnedFd> {
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    retry(|| {
        rustix::fs::openat2(
            root,
            if path.is_empty() { "." } else { path },
            OFlags::PATH | OFlags::CLOEXEC,
            Mode::empty(),
            resolve,
        )
    })
}

fn open_plain(root: BorrowedFd<'_>, path: &str) -> rustix::io::Result<OwnedFd> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    let flags = OFlags::PATH | OFlags::CLOEXEC | OFlags::DIRECTORY;
    retry(|| rustix::fs::openat2(root, if path.is_empty() { "." } else { path }, flags, Mode::empty(), resolve))
}

/// openat2 answers EAGAIN when something else was renamed meanwhile.
fn retry<T>(mut open: impl FnMut() -> rustix::io::Result<T>) -> rustix::io::Result<T> {
    for _ in 0..128 {
        match open() {
            Err(Errno::AGAIN | Errno::INTR) => {}
            other => return other,
        }
    }
    open()
}

/// Which mount a descriptor is on.
pub fn mount_id(fd: BorrowedFd<'_>) -> Option<u64> {
    rustix::fs::statx(fd, "", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID).ok().map(|stat| stat.stx_mnt_id)
}

fn modified(fd: BorrowedFd<'_>) -> rustix::io::Result<(i64, i64)> {
    let stat = rustix::fs::statat(fd, "", AtFlags::EMPTY_PATH)?;
    Ok((stat.st_mtime as i64, stat.st_mtime_nsec as i64))
}

/// The mount point `path` in `root`, made where it is missing. What was made on the root's own file system is handed to `made`.
pub fn ensure(root: BorrowedFd<'_>, path: &str, kind: Kind, mut made: impl FnMut(Stub)) -> rustix::io::Result<OwnedFd> {
    match open_in_root(root, path) {
        Err(Errno::NOENT) => {}
        other => return other,
    }
    let root_mount = mount_id(root);
    let mut todo: VecDeque<String> = path.split('/').map(str::to_owned).collect();
    let (mut at, mut links): (Vec<String>, usize) = (Vec::new(), 0);
    while let Some(name) = todo.pop_front() {
        match name.as_str() {
            "" | "." => continue,
            ".." => {
                at.pop();
                continue;
            }
            _ => {}
        }
        let parent_path = at.join("/");
        let parent = open_plain(root, &parent_path)?;
        match rustix::fs::statat(&parent, &name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Symlink => {
                links += 1;
                if links > MAX_LINKS {
                    return Err(Errno::LOOP);
                }
                let target = rustix::fs::readlinkat(&parent, &name, Vec::new())?;
                let target = target.to_str().map_err(|_| Errno::ILSEQ)?;
                if target.starts_with('/') {
                    at.clear();
                }
                for part in target.split('/').rev() {
                    todo.push_front(part.to_owned());
                }
                continue;
            }
            Ok(_) => {}
            Err(Errno::NOENT) => {
                let last = !todo.iter().any(|part| !matches!(part.as_str(), "" | "."));
                let directory = !last || kind == Kind::Directory;
                let before = modified(parent.as_fd())?;
                make(parent.as_fd(), &name, directory)?;
                if mount_id(parent.as_fd()) == root_mount {
                    let after = modified(parent.as_fd())?;
                    made(Stub { parent: parent_path, name: name.clone(), directory, last, before, after });
                }
            }
            Err(error) => return Err(error),
        }
        at.push(name);
    }
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    let found = at.join("/");
    retry(|| {
        rustix::fs::openat2(
            root,
            if found.is_empty() { "." } else { &found },
            OFlags::PATH | OFlags::CLOEXEC,
            Mode::empty(),
            resolve,
        )
    })
}

fn make(parent: BorrowedFd<'_>, name: &str, directory: bool) -> rustix::io::Result<()> {
    let made = if directory {
        rustix::fs::mkdirat(parent, name, Mode::from_raw_mode(0o755))
    } else {
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        rustix::fs::openat(parent, name, flags, Mode::from_raw_mode(0o644)).map(drop)
    };
    match made {
        // A shared mount: another step made it first.
        Err(Errno::EXIST) => Ok(()),
        other => other,
    }
}

/// Gives what `ensure` made to a user. In a user namespace where the user is not mapped it stays as it is.
pub fn give(root: BorrowedFd<'_>, stubs: &[Stub], uid: u32, gid: u32) -> rustix::io::Result<()> {
    for stub in stubs {
        let parent = open_plain(root, &stub.parent)?;
        let (uid, gid) = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
        match rustix::fs::chownat(&parent, &stub.name, uid, gid, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::INVAL | Errno::PERM) => {}
            other => other?,
        }
    }
    Ok(())
}

/// Removes what `ensure` made, newest first. Anything that is no longer an empty directory or an empty regular file stays.
pub fn remove(root: BorrowedFd<'_>, stubs: &[Stub], with_parents: bool) {
    for stub in stubs.iter().rev().filter(|stub| stub.last || with_parents) {
        let Ok(parent) = open_plain(root, &stub.parent) else { continue };
        let Ok(now) = rustix::fs::statat(&parent, "", AtFlags::EMPTY_PATH) else { continue };
        let modified = (now.st_mtime, now.st_mtime_nsec as i64);
        let removed = if stub.directory {
            rustix::fs::unlinkat(&parent, &stub.name, AtFlags::REMOVEDIR)
        } else {
            match rustix::fs::statat(&parent, &stub.name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile && stat.st_size == 0 => {
                    rustix::fs::unlinkat(&parent, &stub.name, AtFlags::empty())
                }
                _ => continue,
            }
        };
        if removed.is_err() {
            continue;
        }
        // Untouched by the step: as it was before us. Otherwise as the step left it.
        let restored = if modified == stub.after { stub.before } else { modified };
        let time = |(tv_sec, tv_nsec): (i64, i64)| Timespec { tv_sec, tv_nsec: tv_nsec as _ };
        let times = Timestamps {
            last_access: time((now.st_atime, now.st_atime_nsec as i64)),
            last_modification: time(restored),
        };
        // An O_PATH descriptor cannot be used for this: open the directory itself.
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        if let Ok(directory) = rustix::fs::openat(&parent, ".", flags, Mode::empty()) {
            let _ = rustix::fs::futimens(directory, &times);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::time::{Duration, SystemTime};

    use super::*;

    fn root() -> (tempfile::TempDir, OwnedFd) {
        let dir = tempfile::tempdir().unwrap();
        let fd = rustix::fs::open(dir.path(), OFlags::PATH | OFlags::DIRECTORY, Mode::empty()).unwrap();
        (dir, fd)
    }

    #[test]
    fn made_and_removed_with_times() {
        let (dir, fd) = root();
        fs::create_dir(dir.path().join("etc")).unwrap();
        let old = SystemTime::UNIX_EPOCH + Duration::from_secs(1000);
        fs::File::open(dir.path().join("etc")).unwrap().set_modified(old).unwrap();
        let mut stubs = Vec::new();
        ensure(fd.as_fd(), "/etc/a/b/c", Kind::File, |stub| stubs.push(stub)).unwrap();
        ensure(fd.as_fd(), "/etc/hosts", Kind::File, |stub| stubs.push(stub)).unwrap();
        assert_eq!(stubs.len(), 4);
        assert!(dir.path().join("etc/a/b/c").is_file());
        remove(fd.as_fd(), &stubs, true);
        assert_eq!(fs::read_dir(dir.path().join("etc")).unwrap().count(), 0);
        assert_eq!(fs::metadata(dir.path().join("etc")).unwrap().modified().unwrap(), old);
    }

    #[test]
    fn parents_stay_when_told_so_and_used_stubs_stay() {
        let (dir, fd) = root();
        let mut stubs = Vec::new();
        ensure(fd.as_fd(), "x/y", Kind::Directory, |stub| stubs.push(stub)).unwrap();
        ensure(fd.as_fd(), "f", Kind::File, |stub| stubs.push(stub)).unwrap();
        fs::write(dir.path().join("f"), "used").unwrap();
        remove(fd.as_fd(), &stubs, false);
        assert!(dir.path().join("x").is_dir() && !dir.path().join("x/y").exists());
        assert!(dir.path().join("f").exists());
    }

    #[test]
    fn links_of_the_image_stay_in_the_root() {
        let (dir, fd) = root();
        let outside = tempfile::tempdir().unwrap();
        symlink(outside.path(), dir.path().join("out")).unwrap();
        symlink("../../../../../../etc", dir.path().join("up")).unwrap();
        symlink("loop", dir.path().join("loop")).unwrap();
        ensure(fd.as_fd(), "out/x", Kind::Directory, |_| ()).unwrap();
        ensure(fd.as_fd(), "up/y", Kind::File, |_| ()).unwrap();
        assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
        assert!(dir.path().join("etc/y").is_file());
        assert!(dir.path().join(outside.path().strip_prefix("/").unwrap()).join("x").is_dir());
        assert!(ensure(fd.as_fd(), "loop/z", Kind::File, |_| ()).is_err());
    }

    #[test]
    fn a_parent_swapped_for_a_link_is_not_followed_at_removal() {
        let (dir, fd) = root();
        let outside = tempfile::tempdir().unwrap();
        fs::write(outside.path().join("victim"), "").unwrap();
        let mut stubs = Vec::new();
        ensure(fd.as_fd(), "d/victim", Kind::File, |stub| stubs.push(stub)).unwrap();
        fs::remove_dir_all(dir.path().join("d")).unwrap();
        symlink(outside.path(), dir.path().join("d")).unwrap();
        remove(fd.as_fd(), &stubs, true);
        assert!(outside.path().join("victim").exists());
    }
}
