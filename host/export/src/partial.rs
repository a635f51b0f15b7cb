//! `Partial` and `Staging`: what is written appears under its name whole or not at all, and a killed export leaves no rubbish behind.
//!
//! A file without a name (`O_TMPFILE`) goes with the process that writes it, however that ends. Where the file system has none, and where
//! whole trees are written, there is a hidden entry beside the wanted one; it is locked as long as somebody writes it, so that the next
//! export can tell what a killed one left and removes it.
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{AtFlags, CWD, FlockOperation, Mode, OFlags, flock};
use rustix::io::Errno;

/// How hidden entries begin; a process id and a number follow.
const PREFIX: &str = ".rhost-partial-";

/// A file that is gone unless it is published.
pub(crate) struct Partial {
    file: File,
    folder: PathBuf,
    /// `None`: it has no name yet.
    named: Option<PathBuf>,
}

impl Partial {
    /// A new file in the folder of `path`, with the mode that the umask gives.
    pub(crate) fn beside(path: &Path) -> io::Result<Self> {
        let folder = match path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        Self::within(folder)
    }

    /// A new file in `folder`.
    pub(crate) fn within(folder: &Path) -> io::Result<Self> {
        let folder = folder.to_owned();
        let nameless = OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC;
        // Its name is given to it by way of /proc.
        if Path::new("/proc/self/fd").exists()
            && let Ok(file) = rustix::fs::open(&folder, nameless, Mode::from_raw_mode(0o666))
        {
            return Ok(Self { file: file.into(), folder, named: None });
        }
        sweep(&folder);
        loop {
            let path = folder.join(next_name());
            match fs::OpenOptions::new().write(true).create_new(true).mode(0o666).open(&path) {
                // Somebody may take it for a killed export's before it is locked.
                Ok(file) if lock(&file) && is_at(&file, &path) => return Ok(Self { file, folder, named: Some(path) }),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// What to write to.
    pub(crate) fn file(&mut self) -> &mut File {
        &mut self.file
    }

    /// Gives it the name `path`, in the folder that it was made in; what had that name is replaced.
    pub(crate) fn publish(mut self, path: &Path) -> io::Result<()> {
        if self.named.is_none() {
            match self.link(path) {
                Ok(()) => return Ok(()),
                Err(Errno::EXIST) => {}
                Err(errno) => return Err(errno.into()),
            }
            // A name can be given, but not taken from another file, except by renaming.
            sweep(&self.folder);
            lock(&self.file);
            self.named = Some(loop {
                let hidden = self.folder.join(next_name());
                match self.link(&hidden) {
                    Ok(()) => break hidden,
                    Err(Errno::EXIST) => {}
                    Err(errno) => return Err(errno.into()),
                }
            });
        }
        if let Some(hidden) = &self.named {
            fs::rename(hidden, path)?;
        }
        self.named = None;
        Ok(())
    }

    fn link(&self, path: &Path) -> Result<(), Errno> {
        let own = format!("/proc/self/fd/{}", self.file.as_raw_fd());
        rustix::fs::linkat(CWD, own, CWD, path, AtFlags::SYMLINK_FOLLOW)
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        if let Some(path) = &self.named {
            // The error that brought us here is the one to tell.
            let _ = fs::remove_file(path);
        }
    }
}

/// A hidden directory in which one file after the other is written, to be renamed to its place. Gone when it is dropped.
pub(crate) struct Staging {
    path: PathBuf,
    fd: OwnedFd,
}

impl Staging {
    /// In the directory `folder`; what killed exports left there is removed.
    pub(crate) fn within(folder: &Path) -> io::Result<Self> {
        sweep(folder);
        loop {
            let path = folder.join(next_name());
            match fs::create_dir(&path) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
                Err(error) => return Err(error),
            }
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            match rustix::fs::open(&path, flags, Mode::empty()) {
                Ok(fd) if lock(&fd) && is_at(&fd, &path) => return Ok(Self { path, fd }),
                Ok(_) | Err(Errno::NOENT) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }
}

impl AsFd for Staging {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// A name that no other export of this process has.
fn next_name() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    format!("{PREFIX}{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Whether the lock was to be had. Where the file system has none, entries count as locked: nothing is swept there.
fn lock(file: &impl AsFd) -> bool {
    matches!(
        flock(file, FlockOperation::NonBlockingLockExclusive),
        Ok(()) | Err(Errno::NOTSUP | Errno::NOSYS | Errno::INVAL)
    )
}

/// Whether `file` is still what is at `path`.
fn is_at(file: &impl AsFd, path: &Path) -> bool {
    let (Ok(own), Ok(found)) = (rustix::fs::fstat(file), fs::symlink_metadata(path)) else { return false };
    (own.st_dev, own.st_ino) == (found.dev(), found.ino())
}

/// Removes what killed exports left in `folder`: entries named as ours that nobody has locked. Whatever fails is left for another time.
pub(crate) fn sweep(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let numbers = name.to_str().and_then(|name| name.strip_prefix(PREFIX)).and_then(|rest| rest.split_once('-'));
        let number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        if !numbers.is_some_and(|(process, count)| number(process) && number(count)) {
            continue;
        }
        let path = entry.path();
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let Ok(found) = rustix::fs::open(&path, flags, Mode::empty()) else { continue };
        if flock(&found, FlockOperation::NonBlockingLockExclusive).is_err() {
            continue;
        }
        let _ = if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            fs::remove_dir_all(&path)
        } else {
            fs::remove_file(&path)
        };
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).expect("listed");
        let mut names: Vec<String> =
            entries.map(|entry| entry.expect("entry").file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_appears_when_it_is_published_and_replaces_what_was_there() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("out");
        for text in ["first", "second"] {
            let mut partial = Partial::beside(&path).expect("made");
            partial.file().write_all(text.as_bytes()).expect("written");
            partial.publish(&path).expect("published");
            assert_eq!(fs::read_to_string(&path).expect("there"), text);
            assert_eq!(names(folder.path()), ["out"]);
        }
        drop(Partial::beside(&path).expect("made"));
        assert_eq!(names(folder.path()), ["out"]);
    }

    #[test]
    fn what_killed_exports_left_is_swept_and_what_is_written_now_is_not() {
        let folder = tempfile::tempdir().expect("a folder");
        let at = |name: &str| folder.path().join(name);
        fs::create_dir_all(at(".rhost-partial-1-0/d")).expect("made");
        fs::write(at(".rhost-partial-1-1"), "half").expect("written");
        fs::write(at(".rhost-partial-mine"), "of the user").expect("written");
        fs::write(at(".rhost-partial-1-"), "of the user").expect("written");
        let busy = Staging::within(folder.path()).expect("made");
        let other = Staging::within(folder.path()).expect("made");
        assert!(busy.path.exists() && other.path.exists());
        drop((busy, other));
        assert_eq!(names(folder.path()), [".rhost-partial-1-", ".rhost-partial-mine"]);
    }
}
