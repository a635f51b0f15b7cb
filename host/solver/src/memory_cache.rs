//! `MemoryCache`: a `CacheStore` that forgets with the process. For tests, and the reference for the durable one.
use std::collections::{BTreeSet, HashMap};
use std::sync::{Mutex, PoisonError};

use rhost_llb::Digest;

use crate::cache::{CacheStore, Link, Recollection};

/// Keys and results in memory.
pub struct MemoryCache<T>(Mutex<Tables<T>>);

struct Tables<T> {
    links: HashMap<Link, BTreeSet<Digest>>,
    /// The links that lead to each key.
    ways: HashMap<Digest, Vec<Link>>,
    /// With the number of the save.
    results: HashMap<Digest, (u64, T)>,
    /// With the number of the result's save.
    targets: HashMap<Digest, (u64, Recollection)>,
    saves: u64,
}

impl<T> Default for MemoryCache<T> {
    fn default() -> Self {
        Self(Mutex::new(Tables {
            links: HashMap::new(),
            ways: HashMap::new(),
            results: HashMap::new(),
            targets: HashMap::new(),
            saves: 0,
        }))
    }
}

impl<T> MemoryCache<T> {
    /// Forgets the result for `key`, as a collector would.
    pub fn forget(&self, key: Digest) -> Option<T> {
        self.tables().results.remove(&key).map(|(_, value)| value)
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
        self.tables().results.get(&key).map(|(_, value)| value.clone())
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
        tables.saves += 1;
        let number = tables.saves;
        tables.results.insert(key, (number, value.clone()));
    }

    fn recall(&self, target: Digest) -> Option<Recollection> {
        self.tables().targets.get(&target).map(|(_, found)| found.clone())
    }

    fn recalled(&self, target: Digest, remembered: &Recollection) -> Option<T> {
        let tables = self.tables();
        let (was, _) = tables.targets.get(&target)?;
        let (is, value) = tables.results.get(&remembered.result)?;
        (was == is).then(|| value.clone())
    }

    fn remember(&self, target: Digest, found: &Recollection) {
        let mut tables = self.tables();
        if let Some((number, _)) = tables.results.get(&found.result) {
            let number = *number;
            tables.targets.insert(target, (number, found.clone()));
        }
    }
}
