//! Directories of files that builds keep only to be fast, or to explain: no build needs one, each is whole or as good as not there, and any may go at any time. They are records of the
//! store like its layers, and bounded apart from it: the latest stay.
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::{Duration, SystemTime};

use crate::usage::{Inventory, RecordKind, Thing, UsageRecord};
use crate::{Error, Result, Store};

/// One such directory.
pub(crate) struct KeptFiles {
    /// Its name in the store.
    pub(crate) dir: &'static str,
    kind: RecordKind,
    /// What a file is, for people.
    description: &'static str,
    /// Files that stay, the latest used, and their bytes; and for how long without use they do.
    most: usize,
    bytes: u64,
    age: Duration,
}

const DAY: Duration = Duration::from_secs(24 * 3600);

/// What earlier builds were made of.
pub(crate) const HISTORY: KeptFiles = KeptFiles {
    dir: "history-v1",
    kind: RecordKind::History,
    description: "what a build was made of, for --explain",
    most: 256,
    bytes: 128 << 20,
    age: Duration::from_secs(90 * 24 * 3600),
};

/// What the files of contexts hash to.
pub(crate) const CONTEXTS: KeptFiles = KeptFiles {
    dir: "contexts-v1",
    kind: RecordKind::ContextDigests,
    description: "what the files of a context hash to",
    most: 256,
    bytes: 128 << 20,
    age: Duration::from_secs(60 * 24 * 3600),
};

const ALL: [&KeptFiles; 2] = [&HISTORY, &CONTEXTS];

/// Their names in the store.
pub(crate) fn kept_directories() -> impl Iterator<Item = &'static str> {
    ALL.iter().map(|kept| kept.dir)
}

/// The file at `path` is used now. Its time says so to the day: who reads a file shall not write each time.
pub(crate) fn used(path: &Path) {
    let stale = |found: fs::Metadata| found.modified().ok()?.elapsed().ok().filter(|age| *age > DAY);
    if fs::metadata(path).ok().and_then(stale).is_some()
        && let Ok(file) = fs::File::options().write(true).open(path)
    {
        // On a disk that takes no writes it grows old.
        let _ = file.set_modified(SystemTime::now());
    }
}

impl Store {
    /// Removes what is old or too much of `kept`. Returns how many.
    pub(crate) fn sweep_kept(&self, kept: &KeptFiles) -> Result<usize> {
        let mut files = Vec::new();
        self.each(kept.dir, |_, path| {
            let found = fs::metadata(path).and_then(|found| Ok((found.modified()?, found.len())));
            files.push((found.unwrap_or((SystemTime::UNIX_EPOCH, 0)), path.to_owned()));
            Ok(false)
        })?;
        // The latest first.
        files.sort_by(|a, b| b.cmp(a));
        let (mut removed, mut bytes) = (0, 0u64);
        for (index, ((at, length), path)) in files.iter().enumerate() {
            bytes = bytes.saturating_add(*length);
            let old = SystemTime::now().duration_since(*at).is_ok_and(|age| age > kept.age);
            if old || index >= kept.most || bytes > kept.bytes {
                removed += usize::from(fs::remove_file(path).is_ok());
            }
        }
        Ok(removed)
    }

    /// All of them that are old or too much. Returns how many.
    pub(crate) fn sweep_all_kept(&self) -> Result<usize> {
        ALL.iter().map(|kept| self.sweep_kept(kept)).sum()
    }

    pub(crate) fn kept_files_in(&self, inventory: &mut Inventory) -> Result<()> {
        for kept in ALL {
            self.each(kept.dir, |name, path| {
                // One that went meanwhile is not there.
                let Ok(found) = fs::symlink_metadata(path) else { return Ok(false) };
                inventory.records.push(UsageRecord {
                    id: name.to_owned(),
                    kind: kept.kind,
                    size: found.blocks() * 512,
                    shared: false,
                    in_use: false,
                    created: found.mtime(),
                    last_used: found.mtime(),
                    uses: 0,
                    description: kept.description.to_owned(),
                    parents: Vec::new(),
                });
                inventory.things.push(Thing::KeptFile { dir: kept.dir, name: name.to_owned() });
                Ok(false)
            })?;
        }
        Ok(())
    }

    /// Removes the file; false when it went by itself.
    pub(crate) fn remove_kept_file(&self, dir: &str, name: &str) -> Result<bool> {
        let path = self.root().join(dir).join(name);
        match fs::remove_file(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
            other => other.map(|()| true).map_err(|e| Error::io("remove", path, e)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Durability, PruneOptions, SpaceLimits, StoreOptions};
    use rhost_llb::Digest;
    use rhost_rootfs::{DigestCache as _, FileIdentity, Modes};

    fn age(path: &Path, days: u64) {
        let file = fs::File::options().write(true).open(path).unwrap();
        file.set_modified(SystemTime::now() - DAY * u32::try_from(days).unwrap()).unwrap();
    }

    #[test]
    fn they_are_told_and_the_least_used_go() {
        let dir = tempfile::tempdir().unwrap();
        let overlay = rhost_rootfs::OverlayXattrs::Trusted;
        let store = Store::open(dir.path(), StoreOptions { durability: Durability::Fast, overlay }).unwrap();
        let identity = FileIdentity { dev: 1, ino: 2, size: 3, mtime: 4, ctime: 5 };
        let context = |name: &str| {
            let digests = store.context_digests(name, Modes::AsTheyAre);
            digests.put(&identity, Digest::of(name));
            drop(digests);
            dir.path().join(CONTEXTS.dir).join(Digest::of(name).hex())
        };
        let (old, used, new) = (context("/old"), context("/used"), context("/new"));
        store.set_history(Digest::of("build"), b"what it was made of");
        let told = |kind: RecordKind| {
            let all = store.disk_usage().unwrap();
            all.into_iter().filter(|record| record.kind == kind && record.size > 0).count()
        };
        assert_eq!((told(RecordKind::ContextDigests), told(RecordKind::History)), (3, 1));
        // What a build reads is used, whatever it writes.
        age(&old, 61);
        age(&used, 61);
        assert!(store.context_digests("/used", Modes::AsTheyAre).get(&identity).is_some());
        assert_eq!((store.sweep().unwrap(), old.exists(), used.exists(), new.exists()), (1, false, true, true));
        for number in 0..CONTEXTS.most {
            context(&format!("/{number}"));
        }
        age(&used, 2);
        age(&new, 1);
        assert_eq!((store.sweep().unwrap(), used.exists(), new.exists()), (2, false, false), "the oldest of too many");
        // By itself a prune leaves them, with --all the digests go, and the history where somebody says so or room is wanted.
        let prune = |options: PruneOptions| {
            store.prune(&options, &mut |_| {}).unwrap();
            (told(RecordKind::ContextDigests), told(RecordKind::History))
        };
        assert_eq!(prune(PruneOptions::default()), (CONTEXTS.most, 1));
        assert_eq!(prune(PruneOptions { all: true, ..PruneOptions::default() }), (0, 1));
        let filters = vec!["type==history".parse().unwrap()];
        assert_eq!(prune(PruneOptions { filters, ..PruneOptions::default() }), (0, 0));
        store.set_history(Digest::of("build"), b"what it was made of");
        let limits = SpaceLimits { max_used: 1, ..SpaceLimits::default() };
        assert!(store.is_above(&limits).unwrap(), "they count");
        assert_eq!(prune(PruneOptions { all: true, limits, ..PruneOptions::default() }), (0, 0));
    }
}
