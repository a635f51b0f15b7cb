//! `MemoryCache`: a `CacheStore` that forgets with the process. For tests, and the reference for the durable one.
use std::collections::{BTreeSet, HashMap};
use std::sync::{Mutex, PoisonError};

use rhost_llb::Digest;

use crate::cache::{CacheStore, Link};

/// Keys and results in memory.
pub struct MemoryCache<T>(Mutex<Tables<T>>);

struct Tables<T> {
    links: HashMap<Link, BTreeSet<Digest>>,
    /// The links that lead to each key.
    ways: HashMap<Digest, Vec<Link>>,
    results: HashMap<Digest, T>,
}

impl<T> Default for MemoryCache<T> {
    fn default() -> Self {
        Self(Mutex::new(Tables { links: HashMap::new(), ways: HashMap::new(), results: HashMap::new() }))
    }
}

impl<T> MemoryCache<T> {
    /// Forgets the result for `key`, as a collector would.
    pub fn forget(&self, key: Digest) -> Option<T> {
        self.tables().results.remove(&key)
    }

    /// The keys that have results.
    pub fn keys(&self) -> Vec<Digest> {
        self.tables().results.keys().copied().collect()
    }

    fn tables(&self) -> std::sync::MutexGuard<'_, Tables<T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T: Clone + Send + Sync> CacheStore<T> for MemoryCache<T> {
    fn follow(&self, link: &Link) -> Vec<Digest> {
        self.tables().links.get(link).map(|keys| keys.iter().copied().collect()).unwrap_or_default()
    }

    fn has(&self, key: Digest) -> bool {
        self.tables().results.contains_key(&key)
    }

    fn load(&self, key: Digest) -> Option<T> {
        self.tables().results.get(&key).cloned()
    }

    fn save(&self, key: Digest, links: &[Link], value: &T) {
        let mut tables = self.tables();
        for old in tables.ways.insert(key, links.to_vec()).unwrap_or_default() {
            if let Some(keys) = tables.links.get_mut(&old) {
                keys.remove(&key);
            }
        }
        for link in links {
            tables.links.entry(*link).or_default().insert(key);
        }
        tables.results.insert(key, value.clone());
    }
}
