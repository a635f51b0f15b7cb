//! Cache mounts that leave the machine or come to it: reading an instance, and putting another in its place.
//!
//! Whoever reads an instance shares it: what holds it exclusively is waited for by the caller, who can say so. A *successor* is made beside the instance that it stands for, under a name that is
//! none of an instance, and takes its place by renames: a process that is killed at any point leaves the old instance whole, and what it had made is swept.
//! *Notes* lie in an instance's directory beside what is mounted: bytes that save their writer work, and may be lost.
use std::fs::File;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FlockOperation, Timespec, Timestamps, utimensat};

use crate::cache_mount::{CacheMount, CacheMountKey, NEW, OLD, lock_name, write_holder};
use crate::store::Store;
use crate::{Error, Result};

/// The name of an instance's notes, beside its `fs`.
const NOTES: &str = "notes-v1";
/// Bytes of notes at most that are read.
const MOST_NOTES: u64 = 1 << 30;

/// The answer to who wants to read an instance.
#[derive(Debug)]
pub enum CacheMountReading {
    /// It cannot be had exclusively until this is dropped; those who share it go on.
    Held(CacheMount),
    /// A step has it for itself.
    Busy {
        /// The process that has it, if it said so.
        holder: Option<u32>,
    },
    /// It is not there.
    Gone,
}

/// An instance that is being made, to stand in another's place. Dropped without [`CacheMountSuccessor::publish`] it goes.
#[derive(Debug)]
pub struct CacheMountSuccessor {
    store: Store,
    name: String,
    /// Until it is published.
    lock: Option<File>,
}

impl Store {
    /// Asks to read the instance `name`, as [`Store::cache_mounts`] names it. Does not wait.
    ///
    /// # Errors
    /// The disk.
    pub fn read_cache_mount(&self, name: &str) -> Result<CacheMountReading> {
        if !self.cache_mount_names("")?.iter().any(|known| known == name) {
            return Ok(CacheMountReading::Gone);
        }
        let Some(mut lock) = self.flock(&lock_name(name), FlockOperation::NonBlockingLockShared)? else {
            return Ok(CacheMountReading::Busy { holder: self.cache_mount_holder(name).map(|holder| holder.process) });
        };
        if !self.cache_mount_bucket().join(name).is_dir() {
            return Ok(CacheMountReading::Gone);
        }
        write_holder(&mut lock, "");
        Ok(CacheMountReading::Held(CacheMount::held(self, name.to_owned(), lock)))
    }
}

impl Store {
    /// Begins an instance of `key` that nobody sees until it is published.
    ///
    /// # Errors
    /// The disk.
    pub fn new_cache_mount(&self, key: &CacheMountKey) -> Result<CacheMountSuccessor> {
        CacheMountSuccessor::begin(self, &key.prefix())
    }
}

impl CacheMountKey {
    /// The key of an instance, from its id and the part of its name that stands for what it began with.
    ///
    /// # Errors
    /// That part is not 32 hex digits.
    pub fn from_name(id: &str, base: Option<&str>) -> Result<Self> {
        let read = |base: &str| {
            let wrong = || Error::BadName { name: base.to_owned() };
            // Only its first half is in the name.
            format!("sha256:{base}{}", "0".repeat(32)).parse().map_err(|_| wrong())
        };
        Ok(Self { id: id.to_owned(), base: base.map(read).transpose()? })
    }
}

impl CacheMount {
    /// Lets claims of any sharing wait for this instance, which must be held exclusively: it is about to be replaced.
    pub fn announce_import(&mut self) {
        write_holder(self.lock_file(), " import");
    }

    /// What was noted of it, if anything was.
    pub fn notes(&self) -> Option<Vec<u8>> {
        let place = self.dir().with_file_name(NOTES);
        let length = std::fs::symlink_metadata(&place).ok()?.len();
        if length > MOST_NOTES { None } else { std::fs::read(place).ok() }
    }

    /// Notes `bytes`, whole or not at all.
    ///
    /// # Errors
    /// The disk.
    pub fn set_notes(&self, bytes: &[u8]) -> Result<()> {
        let place = self.dir().with_file_name(NOTES);
        let partial = place.with_file_name(crate::lock::unique_name());
        let instance = self.store().cache_mount_bucket().join(self.name());
        let age = age(&instance);
        let written = std::fs::write(&partial, bytes).and_then(|()| std::fs::rename(&partial, &place));
        set_age(&instance, age);
        if written.is_err() {
            // A few bytes, which go with the instance.
            let _ = std::fs::remove_file(&partial);
        }
        written.map_err(|e| Error::io("write", &place, e))
    }

    /// Begins an instance that will stand in this one's place, which must be held exclusively.
    ///
    /// # Errors
    /// The disk.
    pub fn successor(&self) -> Result<CacheMountSuccessor> {
        CacheMountSuccessor::begin(self.store(), &prefix_of(self.name()))
    }
}

impl CacheMountSuccessor {
    fn begin(store: &Store, prefix: &str) -> Result<Self> {
        let store = store.clone();
        // So that it is noticed when this process is killed.
        store.uses.begin()?;
        let name = format!("{prefix}{}", crate::lock::unique_name().trim_start_matches("tmp-"));
        let lock = store.flock(&lock_name(&name), FlockOperation::NonBlockingLockExclusive)?.ok_or(Error::Stopped)?;
        let successor = CacheMountSuccessor { store, name, lock: Some(lock) };
        let dir = successor.dir();
        std::fs::create_dir_all(&dir)
            .and_then(|()| std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(0o755)))
            .map_err(|e| Error::io("create directory", &dir, e))?;
        Ok(successor)
    }

    /// The empty directory that is to be filled; root's, mode 0755.
    pub fn dir(&self) -> PathBuf {
        self.place().join("fs")
    }

    fn place(&self) -> PathBuf {
        self.store.cache_mount_bucket().join(format!("{NEW}{}", self.name))
    }

    /// Becomes an instance in the place of `old`, which goes; `id` is for people. It is held exclusively. Where there was none, it is the first choice among those that builds have made
    /// meanwhile.
    ///
    /// # Errors
    /// The disk; the old one is as it was then.
    pub fn publish(mut self, old: Option<CacheMount>, id: &str) -> Result<CacheMount> {
        let bucket = self.store.cache_mount_bucket();
        let prefix = prefix_of(&self.name);
        let _choosing = self.store.lock(&format!("cache-mounts {prefix}"))?;
        let (from, whole) = (self.place(), bucket.join(&self.name));
        let oldest = match &old {
            Some(old) => age(&bucket.join(old.name())),
            None => {
                let first = self.store.cache_mount_names(&prefix)?.into_iter().next();
                let before = |age: Timespec| Timespec { tv_sec: age.tv_sec - 1, ..age };
                first.and_then(|first| age(&bucket.join(first))).map(before)
            }
        };
        set_age(&from, oldest);
        std::fs::rename(&from, &whole).map_err(|e| Error::io("name", &whole, e))?;
        let lock = self.lock.take().ok_or(Error::Stopped)?;
        let mut mount = CacheMount::held(&self.store, self.name.clone(), lock);
        mount.announce_import();
        self.store.note_cache_mount(&self.name, id);
        let Some(old) = old else { return Ok(mount) };
        self.store.set_aside_cache_mount(old.name())?;
        // Dropped, it would go by itself; what cannot be removed now is swept later.
        if let Err(error) = self.store.remove_in_cache_mounts(&format!("{OLD}{}", old.name())) {
            tracing::warn!(%error, "a cache mount that was replaced is removed later");
        }
        Ok(mount)
    }
}

impl Drop for CacheMountSuccessor {
    fn drop(&mut self) {
        if self.lock.is_some() {
            // What stays is swept.
            let _ = self.store.remove_in_cache_mounts(&format!("{NEW}{}", self.name));
        }
    }
}

/// What all instances of a key begin with.
fn prefix_of(name: &str) -> String {
    name.splitn(3, '-').take(2).flat_map(|part| [part, "-"]).collect()
}

fn age(of: &Path) -> Option<Timespec> {
    let found = rustix::fs::stat(of).ok()?;
    Some(Timespec { tv_sec: found.st_mtime as _, tv_nsec: found.st_mtime_nsec as _ })
}

/// Whoever chooses takes the oldest instance that is free. Best effort: that is a preference.
fn set_age(of: &Path, age: Option<Timespec>) {
    let Some(at) = age else { return };
    let _ = utimensat(CWD, of, &Timestamps { last_access: at, last_modification: at }, AtFlags::empty());
}
