//! `ContextDigests`: what the files of one context directory hash to, remembered between builds in one file that is read whole.
//!
//! Thousands of rows of a database cost more to read than the files' metadata; this is one read and a binary search by (device, inode). A path
//! is no part of a file's digest, so it is no part of its key.
//! Nothing in it is needed: a file that is missing, damaged or of another layout is as if there were none.
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use rhost_llb::Digest;
use rhost_rootfs::{DigestCache, FileIdentity, Modes};

use crate::kept_files::{self, CONTEXTS};
use crate::{Store, sealed};

/// Begins the file; another layout takes another word.
const MAGIC: &[u8; 8] = b"rhostcd1";
/// Bytes of a record: five numbers and a digest.
const RECORD: usize = 5 * 8 + 32;
/// Records of files that were not asked about this time, beyond twice as many as were: those of contexts with other filters stay, those of
/// files that are gone do not pile up.
const SPARE: usize = 10_000;

/// Nanoseconds after which a file that has not changed counts as settled where the file system's clock may be coarse or another machine's.
const SETTLED: i64 = 2_000_000_000;
/// The same on a local file system that keeps nanoseconds: several ticks of the kernel's clock (at most 10 ms each).
const SETTLED_LOCAL: i64 = 50_000_000;

/// ext2 to ext4, XFS, Btrfs, tmpfs, overlayfs, F2FS, bcachefs, ZFS (linux/magic.h and theirs): they take times from this kernel's clock.
const LOCAL: [u64; 8] =
    [0xef53, 0x5846_5342, 0x9123_683e, 0x0102_1994, 0x794c_7630, 0xf2f5_2010, 0xca45_1a4e, 0x2fc1_2fc1];

#[derive(Clone, Copy)]
struct Record {
    file: FileIdentity,
    digest: Digest,
}

/// A [`DigestCache`] in a file. What is not settled is not remembered: it could change again within one tick of the clock. What was new is
/// written when it is dropped, or by [`ContextDigests::save`].
pub struct ContextDigests {
    place: PathBuf,
    /// Sorted by device and inode.
    known: Vec<Record>,
    fresh: Mutex<Vec<Record>>,
    /// Questions that were answered.
    hits: AtomicUsize,
    settled: Settled,
}

/// Tells which files have rested so long that a change after they were read would show in their times.
#[derive(Debug, Clone, Copy)]
pub struct Settled {
    /// When it was made, before any file was read, in nanoseconds.
    began: i64,
    /// The device that `rest` is about; files on others are waited for longer.
    device: u64,
    rest: i64,
}

impl Settled {
    /// As of now, for files below `directory`.
    pub fn now(directory: &Path) -> Self {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
        let began = (now.tv_sec as i64).saturating_mul(1_000_000_000).saturating_add(now.tv_nsec as i64);
        let device = rustix::fs::stat(directory).map_or(0, |stat| stat.st_dev);
        let local = rustix::fs::statfs(directory).is_ok_and(|found| LOCAL.contains(&(found.f_type as u64)));
        Self { began, device, rest: if local { SETTLED_LOCAL } else { SETTLED } }
    }

    /// How long a file on the same file system must rest.
    pub fn rest(&self) -> std::time::Duration {
        std::time::Duration::from_nanos(self.rest.unsigned_abs())
    }

    /// Whether a change after it was read would show.
    pub fn is_settled(&self, file: &FileIdentity) -> bool {
        let changed = file.ctime.max(file.mtime);
        let coarse = file.dev != self.device || file.ctime % 1_000_000 == 0;
        self.began.saturating_sub(changed) >= if coarse { SETTLED } else { self.rest }
    }
}

impl Store {
    /// Digests of the files of one context directory under `modes`, remembered between builds. `context` is its absolute path.
    pub fn context_digests(&self, context: &str, modes: Modes) -> ContextDigests {
        let name = match modes {
            Modes::AsTheyAre => Digest::of(context),
            // No path has a NUL in it.
            Modes::Normalized => Digest::of(format!("normalized\0{context}")),
        };
        let place = self.root().join(CONTEXTS.dir).join(name.hex());
        kept_files::used(&place);
        let settled = Settled::now(Path::new(context));
        ContextDigests { known: read(&place), place, fresh: Mutex::default(), hits: AtomicUsize::new(0), settled }
    }
}

impl ContextDigests {
    /// Writes what was added since.
    pub fn save(&mut self) {
        let fresh = std::mem::take(self.fresh.get_mut().unwrap_or_else(PoisonError::into_inner));
        if fresh.is_empty() {
            return;
        }
        let key = |record: &Record| (record.file.dev, record.file.ino);
        let seen = fresh.len() + self.hits.load(Ordering::Relaxed);
        let mut all = fresh;
        all.extend(self.known.iter().take(seen.saturating_mul(2).saturating_add(SPARE)));
        // Stable: of two records of one file the fresh one stays.
        all.sort_by_key(key);
        all.dedup_by_key(|record| key(record));
        if let Err(error) = write(&self.place, &all) {
            tracing::warn!(%error, place = %self.place.display(), "digests of context files are not remembered");
        }
        self.known = all;
    }
}

impl Drop for ContextDigests {
    fn drop(&mut self) {
        self.save();
    }
}

impl DigestCache for ContextDigests {
    fn get(&self, file: &FileIdentity) -> Option<Digest> {
        let at =
            self.known.binary_search_by_key(&(file.dev, file.ino), |record| (record.file.dev, record.file.ino)).ok()?;
        let found = (self.known[at].file == *file).then_some(self.known[at].digest);
        self.hits.fetch_add(usize::from(found.is_some()), Ordering::Relaxed);
        found
    }

    fn put(&self, file: &FileIdentity, digest: Digest) {
        if self.settled.is_settled(file) {
            self.fresh.lock().unwrap_or_else(PoisonError::into_inner).push(Record { file: *file, digest });
        }
    }
}

/// Nothing where anything is wrong with it.
fn read(place: &Path) -> Vec<Record> {
    let Ok(bytes) = fs::read(place) else { return Vec::new() };
    let Some(records) = sealed::unseal(MAGIC, &bytes) else {
        tracing::warn!(place = %place.display(), "remembered digests are damaged; taken as none");
        return Vec::new();
    };
    let record = |bytes: &[u8]| {
        let number = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| bytes[at * 8 + i]));
        let file = FileIdentity {
            dev: number(0),
            ino: number(1),
            size: number(2),
            mtime: number(3) as i64,
            ctime: number(4) as i64,
        };
        Record { file, digest: Digest::from_raw(std::array::from_fn(|i| bytes[40 + i])) }
    };
    records.chunks_exact(RECORD).map(record).collect()
}

/// Whole or not at all: beside its place, then renamed. Of two writers the last stays.
fn write(place: &Path, records: &[Record]) -> std::io::Result<()> {
    let mut body = Vec::with_capacity(records.len() * RECORD);
    for Record { file, digest } in records {
        for number in [file.dev, file.ino, file.size, file.mtime as u64, file.ctime as u64] {
            body.extend(number.to_le_bytes());
        }
        body.extend(digest.as_raw());
    }
    sealed::write(place, MAGIC, &body)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;
    use crate::{Durability, StoreOptions};

    fn identity(path: &Path) -> FileIdentity {
        let found = fs::metadata(path).unwrap();
        let at = |seconds: i64, nanos: i64| seconds * 1_000_000_000 + nanos;
        FileIdentity {
            dev: found.dev(),
            ino: found.ino(),
            size: found.len(),
            mtime: at(found.mtime(), found.mtime_nsec()),
            ctime: at(found.ctime(), found.ctime_nsec()),
        }
    }

    #[test]
    fn settled_files_are_remembered_until_anything_differs() {
        let (state, context) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let overlay = rhost_rootfs::OverlayXattrs::Trusted;
        let store = Store::open(state.path(), StoreOptions { durability: Durability::Fast, overlay }).unwrap();
        let modes = Modes::AsTheyAre;
        let open = || store.context_digests(context.path().to_str().unwrap(), modes);
        let normalized = || store.context_digests(context.path().to_str().unwrap(), Modes::Normalized);
        fs::write(context.path().join("a"), "a").unwrap();
        // What a file of an hour ago looks like: nobody can set a change time.
        let old = FileIdentity {
            mtime: 1,
            ctime: identity(&context.path().join("a")).ctime - 3_600_000_000_001,
            ..identity(&context.path().join("a"))
        };
        let fresh = FileIdentity { ino: old.ino + 1, ctime: i64::MAX, ..old };
        let (one, two) = (Digest::of("one"), Digest::of("two"));
        let digests = open();
        assert_eq!(digests.get(&old), None);
        digests.put(&old, one);
        digests.put(&fresh, two);
        drop(digests);
        let mut digests = open();
        assert_eq!((digests.get(&old), digests.get(&fresh)), (Some(one), None));
        assert_eq!(normalized().get(&old), None, "another mode is another digest");
        assert_eq!(digests.get(&FileIdentity { size: 2, ..old }), None);
        // A newer digest of the same file takes its place, and others stay.
        let (other, again) = (FileIdentity { ino: old.ino + 2, ..old }, FileIdentity { size: 2, ..old });
        digests.put(&other, two);
        digests.put(&again, two);
        digests.save();
        drop(digests);
        let digests = open();
        assert_eq!((digests.get(&again), digests.get(&old), digests.get(&other)), (Some(two), None, Some(two)));
        let place = digests.place.clone();
        drop(digests);
        let mut bytes = fs::read(&place).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        fs::write(&place, &bytes).unwrap();
        assert_eq!(open().get(&other), None, "damaged");
        fs::write(&place, &bytes[..20]).unwrap();
        assert_eq!(open().get(&other), None, "cut short");
    }
}
