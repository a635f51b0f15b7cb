//! `DurableCache`: the solver's port `CacheStore`, kept in the records.
//!
//! The store does not know what a result is: a [`ResultCodec`] of the caller turns it into bytes and back, and says by `None` that
//! what the bytes name is no longer there. Such a record is dropped. Every failure is a miss, said in the log.
use rhost_llb::Digest;
use rhost_solver::{CacheStore, Link, Recollection};

use crate::db::{LinkRow, now};
use crate::history::{BUILDS, REMOVED};
use crate::solved::SolvedTarget;
use crate::usage::FRESH;
use crate::{Result, SnapshotId, Store};

/// The kind of facts that hold [`SolvedTarget`]s.
pub(crate) const TARGETS: &str = "target-v1";
/// The kind of facts that hold frontends' transcripts.
pub const TRANSCRIPTS: &str = "transcript-v1";
/// The kind of facts that tell what was at a URL.
pub const DOWNLOADS: &str = "download-v1";
/// The kind of facts that tell what a name stood for when it was last asked for.
pub const RESOLVED: &str = "resolved-v1";
/// The kind of facts that say that an image is signed.
pub const SIGNED: &str = "signed-v1";
/// The kind of facts that hold an image's signatures.
pub const SIGNATURES: &str = "signatures-v1";
/// The kind of facts that hold the definitions that builds inside a build were last made of.
pub const NESTED: &str = "nested-v1";
/// How many facts of a kind the collector leaves, the newest.
pub(crate) const FACTS_KEPT: [(&str, u32); 9] = [
    (TARGETS, 4096),
    (TRANSCRIPTS, 64),
    (DOWNLOADS, 4096),
    (RESOLVED, 4096),
    (SIGNED, 4096),
    (SIGNATURES, 1024),
    (NESTED, 128),
    (BUILDS, 1024),
    (REMOVED, 16384),
];

/// Turns results into bytes and back.
pub trait ResultCodec<T>: Send + Sync {
    /// Names the format. Records of another kind are misses: a new format takes a new name.
    fn kind(&self) -> &str;
    /// The bytes to keep; `None` for a result that is not worth keeping.
    fn encode(&self, value: &T) -> Option<Vec<u8>>;
    /// The result that `bytes` name, if everything it needs is still there. Must be quick: looks, does not fetch.
    fn decode(&self, bytes: &[u8]) -> Option<T>;
    /// The snapshot that `bytes` name, if they name one; not looked at.
    fn snapshot(&self, bytes: &[u8]) -> Option<SnapshotId>;
}

/// Cache records on disk.
pub struct DurableCache<C> {
    store: Store,
    codec: C,
}

impl<C> DurableCache<C> {
    /// The cache of `store`, its results read and written by `codec`.
    pub fn new(store: Store, codec: C) -> Self {
        Self { store, codec }
    }
}

impl<T, C: ResultCodec<T>> CacheStore<T> for DurableCache<C> {
    fn follow(&self, link: &Link) -> Vec<Digest> {
        or_miss("follow", self.store.inner.db.follow(&row(link))).unwrap_or_default()
    }

    fn has(&self, key: Digest) -> bool {
        self.load(key).is_some()
    }

    fn load(&self, key: Digest) -> Option<T> {
        let bytes = or_miss("load", self.store.inner.db.cache_result(self.codec.kind(), key))??;
        let value = self.codec.decode(&bytes);
        if value.is_none() {
            tracing::debug!(%key, "what a cache record names is gone; dropped");
            or_miss("forget", self.store.inner.db.forget_cache(key));
        }
        value
    }

    fn save(&self, key: Digest, links: &[Link], value: &T) {
        let Some(bytes) = self.codec.encode(value) else { return };
        let rows: Vec<LinkRow> = links.iter().map(row).collect();
        or_miss("save", self.store.inner.db.save_cache(self.codec.kind(), key, &rows, &bytes));
    }

    fn recall(&self, target: Digest) -> Option<Recollection> {
        let row = or_miss("recall", self.store.fact(TARGETS, target.as_raw()))??;
        SolvedTarget::read(self.codec.kind(), &row).map(|solved| solved.found)
    }

    fn recalled(&self, target: Digest, remembered: &Recollection) -> Option<T> {
        let db = &self.store.inner.db;
        let row = or_miss("recall", self.store.fact(TARGETS, target.as_raw()))??;
        let mut solved = SolvedTarget::read(self.codec.kind(), &row)?;
        let bytes = or_miss("load", db.cache_result(self.codec.kind(), remembered.result))??;
        if solved.found != *remembered || solved.value != bytes {
            return None;
        }
        let value = self.codec.decode(&bytes)?;
        let now = now();
        if now - solved.touched > FRESH {
            self.store.uses.touch(&solved.snapshots);
            solved.touched = now;
            or_miss("remember", self.store.set_fact(TARGETS, target.as_raw(), &solved.bytes(self.codec.kind())));
        }
        Some(value)
    }

    fn remember(&self, target: Digest, found: &Recollection) {
        let db = &self.store.inner.db;
        let results = or_miss("remember", db.cache_values(self.codec.kind(), &found.used)).unwrap_or_default();
        let Some(Some(value)) = or_miss("load", db.cache_result(self.codec.kind(), found.result)) else { return };
        let snapshots = results.iter().filter_map(|bytes| self.codec.snapshot(bytes)).collect();
        let found = Recollection { used: Vec::new(), ..found.clone() };
        let solved = SolvedTarget { touched: now(), value, snapshots, found };
        or_miss("remember", self.store.set_fact(TARGETS, target.as_raw(), &solved.bytes(self.codec.kind())));
    }
}

fn row(link: &Link) -> LinkRow {
    LinkRow { from: link.from, input: link.input, output: link.output, selector: link.selector }
}

fn or_miss<T>(what: &str, answer: Result<T>) -> Option<T> {
    answer.inspect_err(|error| tracing::warn!(%error, "cache: cannot {what}; treated as a miss")).ok()
}

impl Store {
    /// Forgets the results of `kind` that are `dead`.
    ///
    /// # Errors
    /// The records.
    pub fn forget_results(&self, kind: &str, dead: impl Fn(&[u8]) -> bool) -> Result<()> {
        let results = self.inner.db.cache_results(kind)?;
        let dead: Vec<Vec<u8>> = results.into_iter().filter(|(_, value)| dead(value)).map(|(key, _)| key).collect();
        self.inner.db.forget_results(&dead)?;
        self.inner.db.tidy_links()?;
        self.inner.db.trim_facts()
    }

    /// Remembers a small fact under `kind` and `key`: the digest a tag resolved to, an image's config. Facts may be lost at any time.
    pub fn set_fact(&self, kind: &str, key: &[u8], value: &[u8]) -> Result<()> {
        self.inner.db.set_facts(kind, &[(key.to_vec(), value.to_vec())])
    }

    /// The fact remembered under `kind` and `key`.
    pub fn fact(&self, kind: &str, key: &[u8]) -> Result<Option<Vec<u8>>> {
        self.inner.db.fact(kind, key)
    }
}
