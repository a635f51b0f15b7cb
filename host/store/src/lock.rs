//! `flock` files: a lock ends with its process, whatever ends the process, so nothing is left to clean up after a crash.
//!
//! The name of a lock is hashed before it becomes a file name: ids never become paths.
use std::fs::{File, OpenOptions};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use rhost_llb::Digest;
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use crate::store::Store;
use crate::{Error, Result};

/// An exclusive lock between processes and threads; released when dropped.
#[derive(Debug)]
pub struct Lock {
    file: File,
    path: PathBuf,
}

impl Drop for Lock {
    fn drop(&mut self) {
        // While it is held: whoever waits for it sees that the file has no name any more, and takes a new one. A file that was removed before may
        // have a successor, which is not ours.
        let inode = |found: std::io::Result<std::fs::Metadata>| found.ok().map(|found| found.ino());
        if inode(self.file.metadata()) == inode(std::fs::symlink_metadata(&self.path)) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// A shared claim: while one is held, an exclusive lock of the same name is not given. Released when dropped.
#[derive(Debug)]
pub struct Lease {
    _file: File,
    /// Its file, where nobody else shares the claim.
    own: Option<PathBuf>,
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(path) = &self.own {
            let _ = std::fs::remove_file(path);
        }
    }
}

impl Store {
    fn lock_path(&self, name: &str) -> PathBuf {
        self.inner.root.join("locks-v1").join(Digest::of(name).hex())
    }

    /// Waits for the exclusive lock `name`. Blocks the thread: call it where blocking is allowed.
    pub fn lock(&self, name: &str) -> Result<Lock> {
        let file = self.flock(name, FlockOperation::LockExclusive)?.ok_or(Error::Stopped)?;
        Ok(Lock { file, path: self.lock_path(name) })
    }

    /// The exclusive lock `name` if nobody holds it.
    pub fn try_lock(&self, name: &str) -> Result<Option<Lock>> {
        let file = self.flock(name, FlockOperation::NonBlockingLockExclusive)?;
        Ok(file.map(|file| Lock { file, path: self.lock_path(name) }))
    }

    /// A shared claim on `name`; waits only while somebody holds the exclusive lock.
    pub fn lease(&self, name: &str) -> Result<Lease> {
        Ok(Lease { _file: self.flock(name, FlockOperation::LockShared)?.ok_or(Error::Stopped)?, own: None })
    }

    /// As [`Store::lease`] for a name that nobody else claims.
    pub fn own_lease(&self, name: &str) -> Result<Lease> {
        let file = self.flock(name, FlockOperation::LockShared)?.ok_or(Error::Stopped)?;
        Ok(Lease { _file: file, own: Some(self.lock_path(name)) })
    }

    pub(crate) fn flock(&self, name: &str, how: FlockOperation) -> Result<Option<File>> {
        let path = self.lock_path(name);
        let open = || {
            let file = OpenOptions::new().create(true).truncate(false).read(true).write(true).open(&path);
            file.map_err(|e| Error::io("open lock", &path, e))
        };
        let mut file = open()?;
        loop {
            match flock(&file, how) {
                // Swept between our open and our lock: another process may hold a new file of that name.
                Ok(()) if file.metadata().is_ok_and(|found| found.nlink() == 0) => file = open()?,
                Ok(()) => return Ok(Some(file)),
                Err(Errno::INTR) => {}
                Err(Errno::WOULDBLOCK) => return Ok(None),
                Err(error) => return Err(Error::io("lock", path, error)),
            }
        }
    }

    /// Removes the file of a lock whose name will never be asked for again. The caller has the lock.
    pub(crate) fn forget_lock(&self, name: &str) {
        // What stays behind is an empty file.
        let _ = std::fs::remove_file(self.lock_path(name));
    }

    /// The file of lock `name` to read what its holder wrote into it.
    pub(crate) fn lock_text(&self, name: &str) -> Option<File> {
        File::open(self.lock_path(name)).ok()
    }
}

/// Whether an open lock could be changed to exclusive at once.
pub(crate) fn try_upgrade(file: &File) -> bool {
    flock(file, FlockOperation::NonBlockingLockExclusive).is_ok()
}

/// A file name that no other process or thread uses: process id, boot-relative start nanoseconds, counter.
pub(crate) fn unique_name() -> String {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
    let count = COUNTER.fetch_add(1, Ordering::Relaxed);
    format!("tmp-{}-{:x}{:08x}-{count}", std::process::id(), now.tv_sec, now.tv_nsec)
}
