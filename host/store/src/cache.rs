//! `DurableCache`: the solver's port `CacheStore`, kept in the records.
//!
//! The store does not know what a result is: a [`ResultCodec`] of the caller turns it into bytes and back, and says by `None` that
//! what the bytes name is no longer there. Such a record is dropped. Every failure is a miss, said in the log.
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use rhost_llb::Digest;
use rhost_rootfs::{DigestCache, FileIdentity};
use rhost_solver::{CacheStore, Link};

use crate::db::LinkRow;
use crate::{Result, Store};

/// Turns results into bytes and back.
pub trait ResultCodec<T>: Send + Sync {
    /// Names the format. Records of another kind are misses: a new format takes a new name.
    fn kind(&self) -> &str;
    /// The bytes to keep; `None` for a result that is not worth keeping.
    fn encode(&self, value: &T) -> Option<Vec<u8>>;
    /// The result that `bytes` name, if everything it needs is still there. Must be quick: looks, does not fetch.
    fn decode(&self, bytes: &[u8]) -> Option<T>;
}

/// Nanoseconds after which a file that has not changed counts as settled.
const SETTLED: i64 = 2_000_000_000;

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
}

fn row(link: &Link) -> LinkRow {
    LinkRow { from: link.from, input: link.input, output: link.output, selector: link.selector }
}

fn or_miss<T>(what: &str, answer: Result<T>) -> Option<T> {
    answer.inspect_err(|error| tracing::warn!(%error, "cache: cannot {what}; treated as a miss")).ok()
}

impl Store {
    /// Remembers a small fact under `kind` and `key`: the digest a tag resolved to, an image's config. Facts may be lost at any time.
    pub fn set_fact(&self, kind: &str, key: &[u8], value: &[u8]) -> Result<()> {
        self.inner.db.set_facts(kind, &[(key.to_vec(), value.to_vec())])
    }

    /// The fact remembered under `kind` and `key`.
    pub fn fact(&self, kind: &str, key: &[u8]) -> Result<Option<Vec<u8>>> {
        self.inner.db.fact(kind, key)
    }

    /// Digests of the files of one context directory, remembered between builds. `context` tells contexts apart (its absolute path).
    /// Reads all of them at once; what was new is written when the answer is dropped, or by [`ContextDigests::save`].
    pub fn context_digests(&self, context: &str) -> ContextDigests {
        let kind = format!("context {context}");
        let known = or_miss("read file digests", self.inner.db.facts(&kind)).unwrap_or_default();
        let known = known
            .into_iter()
            .filter_map(|(path, value)| {
                let (identity, digest) = value.split_at_checked(32)?;
                Some((path, (Digest::from_raw(identity.try_into().ok()?), Digest::from_raw(digest.try_into().ok()?))))
            })
            .collect();
        ContextDigests { store: self.clone(), kind, files: Mutex::new(Files { known, fresh: Vec::new() }) }
    }
}

/// A [`DigestCache`] in the records. A file whose change time is less than two seconds old is not remembered: it could change
/// again within one tick of the clock.
pub struct ContextDigests {
    store: Store,
    kind: String,
    files: Mutex<Files>,
}

struct Files {
    /// Path to (identity, digest).
    known: HashMap<Vec<u8>, (Digest, Digest)>,
    fresh: Vec<(Vec<u8>, Vec<u8>)>,
}

impl ContextDigests {
    /// Writes what was added since.
    pub fn save(&self) {
        let fresh = std::mem::take(&mut self.files.lock().unwrap_or_else(PoisonError::into_inner).fresh);
        if !fresh.is_empty() {
            or_miss("write file digests", self.store.inner.db.set_facts(&self.kind, &fresh));
        }
    }
}

impl Drop for ContextDigests {
    fn drop(&mut self) {
        self.save();
    }
}

impl DigestCache for ContextDigests {
    fn get(&self, file: &FileIdentity) -> Option<Digest> {
        let files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        let (identity, digest) = files.known.get(&file.path)?;
        (*identity == identity_of(file)).then_some(*digest)
    }

    fn put(&self, file: &FileIdentity, digest: Digest) {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
        let now = (now.tv_sec as i64).saturating_mul(1_000_000_000);
        if now.saturating_sub(file.ctime.max(file.mtime)) < SETTLED {
            return;
        }
        let identity = identity_of(file);
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        files.known.insert(file.path.clone(), (identity, digest));
        files.fresh.push((file.path.clone(), [*identity.as_raw(), *digest.as_raw()].concat()));
    }
}

fn identity_of(file: &FileIdentity) -> Digest {
    let FileIdentity { path: _, dev, ino, size, mtime, ctime } = file;
    Digest::of(format!("{dev} {ino} {size} {mtime} {ctime}"))
}
