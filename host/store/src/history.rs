//! What earlier builds were made of, kept so that a later one can say why a step ran: a file for each kind of build, and how results were removed.
//!
//! The bytes are the engine's. A file is whole or not there: it carries its checksum, and whatever is wrong with one is as if there were none.
//! Old and surplus files go when the store is swept.
use std::collections::HashMap;
use std::fs;

use rhost_llb::Digest;

use crate::db::now;
use crate::kept_files::HISTORY;
use crate::{SnapshotId, Store, sealed};

/// Where the files are.
const DIR: &str = HISTORY.dir;
/// Begins a file.
const MAGIC: &[u8; 8] = b"rhosthi1";
/// A longer one is not read.
const LONGEST: u64 = 64 << 20;
/// The kind of facts that say where else a build file was built.
pub(crate) const BUILDS: &str = "build-v1";
/// The kind of facts that say when and why a snapshot was removed.
pub(crate) const REMOVED: &str = "removed-v1";

/// A snapshot that was removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Removal {
    /// When, in Unix seconds.
    pub at: i64,
    /// Why, as [`crate::Pruned::reason`] says it.
    pub reason: String,
}

impl Store {
    /// The history under `name`.
    pub fn history(&self, name: Digest) -> Option<Vec<u8>> {
        let path = self.root().join(DIR).join(name.hex());
        if fs::metadata(&path).ok()?.len() > LONGEST {
            return None;
        }
        let bytes = fs::read(&path).ok()?;
        let whole = sealed::unseal(MAGIC, &bytes);
        if whole.is_none() {
            tracing::debug!(path = %path.display(), "a build's history is damaged; taken as none");
        }
        whole.map(<[u8]>::to_vec)
    }

    /// Puts `body` in place of the history under `name`. It may be lost at any time.
    pub fn set_history(&self, name: Digest, body: &[u8]) {
        if let Err(error) = sealed::write(&self.root().join(DIR).join(name.hex()), MAGIC, body) {
            tracing::debug!(%error, "a build's history is not remembered");
        }
    }

    /// The history under which a build file of this `text` was last built, wherever that was.
    pub fn history_of(&self, text: Digest) -> Option<Digest> {
        let found = self.fact(BUILDS, text.as_raw()).ok()??;
        Some(Digest::from_raw(found.try_into().ok()?))
    }

    /// Remembers that a build file of this `text` was built under `name`.
    pub fn set_history_of(&self, text: Digest, name: Digest) {
        if let Err(error) = self.set_fact(BUILDS, text.as_raw(), name.as_raw()) {
            tracing::debug!(%error, "where a build file was built is not remembered");
        }
    }

    /// Remembers why snapshots were removed.
    pub(crate) fn note_removals(&self, removed: &[(SnapshotId, String)]) {
        if removed.is_empty() {
            return;
        }
        let fact = |(id, reason): &(SnapshotId, String)| {
            (id.0.to_le_bytes().to_vec(), [&now().to_le_bytes(), reason.as_bytes()].concat())
        };
        if let Err(error) = self.inner.db.set_facts(REMOVED, &removed.iter().map(fact).collect::<Vec<_>>()) {
            tracing::debug!(%error, "why results were removed is not remembered");
        }
    }

    /// When and why snapshot `id` was removed, if it was and that is still known.
    pub fn removal(&self, id: SnapshotId) -> Option<Removal> {
        let found = self.fact(REMOVED, &id.0.to_le_bytes()).ok()??;
        let (at, reason) = found.split_first_chunk()?;
        Some(Removal { at: i64::from_le_bytes(*at), reason: String::from_utf8_lossy(reason).into_owned() })
    }

    /// Whether the records were found damaged and begun anew after `when` (Unix seconds).
    pub fn records_lost_since(&self, when: i64) -> bool {
        use std::os::unix::fs::MetadataExt as _;
        let aside = self.root().join(crate::db::DAMAGED);
        fs::metadata(aside).is_ok_and(|found| found.ctime() >= when)
    }

    /// The snapshots that the results of `kind` under `keys` name, by key. `snapshot` reads a result.
    pub fn result_snapshots(
        &self,
        kind: &str,
        keys: &[Digest],
        snapshot: impl Fn(&[u8]) -> Option<SnapshotId>,
    ) -> HashMap<Digest, SnapshotId> {
        let values = self.inner.db.cache_values_by_key(kind, keys).unwrap_or_default();
        values.into_iter().filter_map(|(key, value)| Some((key, snapshot(&value)?))).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::*;
    use crate::{Durability, StoreOptions};

    #[test]
    fn what_is_not_whole_is_none_and_old_files_go() {
        let dir = tempfile::tempdir().unwrap();
        let overlay = rhost_rootfs::OverlayXattrs::Trusted;
        let store = Store::open(dir.path(), StoreOptions { durability: Durability::Fast, overlay }).unwrap();
        let name = Digest::of("a build");
        assert_eq!(store.history(name), None);
        store.set_history(name, b"first");
        store.set_history(name, b"second");
        assert_eq!(store.history(name).as_deref(), Some(b"second".as_slice()));
        let path = dir.path().join(DIR).join(name.hex());
        let bytes = fs::read(&path).unwrap();
        for length in 0..bytes.len() {
            fs::write(&path, &bytes[..length]).unwrap();
            assert_eq!(store.history(name), None, "{length} bytes");
        }
        for at in 0..bytes.len() {
            let mut flipped = bytes.clone();
            flipped[at] ^= 1;
            fs::write(&path, flipped).unwrap();
            assert_eq!(store.history(name), None, "byte {at}");
        }
        fs::write(&path, bytes).unwrap();
        for number in 0..256 {
            store.set_history(Digest::of(number.to_string()), b"another");
        }
        let file = fs::File::options().write(true).open(&path).unwrap();
        file.set_modified(SystemTime::now() - Duration::from_secs(3600)).unwrap();
        assert_eq!((store.sweep_kept(&HISTORY).unwrap(), store.history(name)), (1, None), "the oldest of too many");
        let other = Digest::of("7");
        let file = fs::File::options().write(true).open(dir.path().join(DIR).join(other.hex())).unwrap();
        file.set_modified(SystemTime::now() - Duration::from_secs(91 * 24 * 3600)).unwrap();
        assert_eq!((store.sweep_kept(&HISTORY).unwrap(), store.history(other)), (1, None), "one that is too old");
        let large = fs::File::create(dir.path().join(DIR).join(Digest::of("large").hex())).unwrap();
        large.set_len((128 << 20) + 1).unwrap();
        large.set_modified(SystemTime::now() - Duration::from_secs(60)).unwrap();
        assert_eq!(
            (store.sweep_kept(&HISTORY).unwrap(), store.history(Digest::of("9")).is_some()),
            (1, true),
            "one too large"
        );
    }

    #[test]
    fn removals_and_places_are_remembered() {
        let dir = tempfile::tempdir().unwrap();
        let overlay = rhost_rootfs::OverlayXattrs::Trusted;
        let store = Store::open(dir.path(), StoreOptions { durability: Durability::Fast, overlay }).unwrap();
        assert_eq!((store.removal(SnapshotId(3)), store.history_of(Digest::of("text"))), (None, None));
        store.note_removals(&[(SnapshotId(3), "not in use".into())]);
        assert_eq!(store.removal(SnapshotId(3)).map(|removal| removal.reason).as_deref(), Some("not in use"));
        store.set_history_of(Digest::of("text"), Digest::of("build"));
        assert_eq!(store.history_of(Digest::of("text")), Some(Digest::of("build")));
        assert!(!store.records_lost_since(0));
    }
}
