//! The collector: removes what is used least, down to a limit, and never what is in use.
//!
//! One at a time (a lock). It takes leaves only (a snapshot that nothing stands on, a blob that no image needs), the one not used for longest first,
//! and takes its parent into account next. How it keeps apart from builds that begin meanwhile is told in [`crate::in_use`].
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet};
use std::time::Duration;

use rhost_llb::BlobDigest;
use rusqlite::{OptionalExtension, params};

use crate::cache::FACTS_KEPT;
use crate::db::{Db, now, opened};
use crate::filter::Filter;
use crate::in_use::Use;
use crate::snapshot::remove_tree;
use crate::store::snapshots_dir;
use crate::usage::{Inventory, RecordKind, Thing, UsageRecord, is_name};
use crate::{Error, Result, SnapshotId, Store};

/// Names a blob that is being collected.
pub(crate) const ASIDE: &str = "aside-";

/// How much the store may take. Zero is no limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SpaceLimits {
    /// Bytes that the store takes at most.
    pub max_used: u64,
    /// Bytes that are to be left free on the disk.
    pub min_free: u64,
    /// Bytes that the store keeps, however little is free.
    pub reserved: u64,
}

impl SpaceLimits {
    /// BuildKit's defaults for a disk of `disk` bytes (spec G): at most 80 % of it and 100 GB, 20 % left free, 10 % and at most 10 GB kept.
    pub fn standard(disk: u64) -> Self {
        const GB: u64 = 1_000_000_000;
        Self { max_used: (disk / 5 * 4).min(100 * GB), min_free: disk / 5, reserved: (disk / 10).min(10 * GB) }
    }

    fn is_none(&self) -> bool {
        self.max_used == 0 && self.min_free == 0
    }

    /// How many bytes of `used` may stay where `free` are left.
    fn target(&self, used: u64, free: u64) -> u64 {
        let mut target = if self.max_used > 0 { self.max_used } else { u64::MAX };
        if free < self.min_free {
            target = target.min(used.saturating_sub(self.min_free - free));
        }
        target.max(self.reserved)
    }
}

/// What is to be removed.
#[derive(Debug, Clone, Default)]
pub struct PruneOptions {
    /// Compiled frontends and shared layers too.
    pub all: bool,
    /// Only records that one of these fits; none is every record.
    pub filters: Vec<Filter>,
    /// Only what was not used for so long.
    pub keep: Option<Duration>,
    /// Only until the store is below these; none is everything.
    pub limits: SpaceLimits,
    /// Nothing is removed.
    pub dry_run: bool,
}

/// Something that was removed, or would be.
#[derive(Debug, Clone)]
pub struct Pruned {
    /// What.
    pub record: UsageRecord,
    /// Why, for people.
    pub reason: String,
}

impl Store {
    /// Bytes of the disk that holds the store, and how many of them are free.
    ///
    /// # Errors
    /// The disk.
    pub fn disk(&self) -> Result<(u64, u64)> {
        let found = rustix::fs::statvfs(self.root()).map_err(|e| Error::io("stat file system", self.root(), e))?;
        Ok((found.f_blocks.saturating_mul(found.f_frsize), found.f_bavail.saturating_mul(found.f_frsize)))
    }

    /// Whether the store is above `limits`, as far as is known without looking at everything.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn is_above(&self, limits: &SpaceLimits) -> Result<bool> {
        let (used, (_, free)) = (self.inner.db.known_total()? + self.files_total(), self.disk()?);
        Ok(!limits.is_none() && used > limits.target(used, free))
    }

    /// Removes what `options` say, and what crashes left; `told` hears of each. Answers the bytes that were (or would be) freed. Waits while another
    /// process collects.
    ///
    /// # Errors
    /// The store cannot be read; a removal fails.
    pub fn prune(&self, options: &PruneOptions, told: &mut dyn FnMut(Pruned)) -> Result<u64> {
        let _alone = self.lock("collector")?;
        if !options.dry_run {
            self.sweep()?;
        }
        let inventory = self.inventory()?;
        let mut run = Run::new(self, options, &inventory)?;
        run.go(told)?;
        let freed = run.freed;
        if !options.dry_run {
            self.note_removals(&run.removed);
            self.inner.db.forget_usage(&run.gone)?;
            // Second forms of layers (for other places in a stack) go with their records.
            self.sweep_layers()?;
        }
        Ok(freed)
    }
}

/// One collection.
struct Run<'a> {
    store: &'a Store,
    options: &'a PruneOptions,
    inventory: &'a Inventory,
    /// Records on top of each.
    above: Vec<usize>,
    /// Index of each snapshot.
    snapshots: HashMap<SnapshotId, usize>,
    /// Images without a name that are still there, and the blobs of each.
    unnamed: HashSet<&'a str>,
    blobs_of: HashMap<&'a str, Vec<usize>>,
    heap: BinaryHeap<Reverse<(i64, usize)>>,
    used: u64,
    target: u64,
    now: i64,
    freed: u64,
    gone: Vec<(String, String)>,
    /// Snapshots, and why they went.
    removed: Vec<(SnapshotId, String)>,
}

impl<'a> Run<'a> {
    fn new(store: &'a Store, options: &'a PruneOptions, inventory: &'a Inventory) -> Result<Self> {
        let used = inventory.records.iter().map(|record| record.size).sum();
        let target = if options.limits.is_none() { 0 } else { options.limits.target(used, store.disk()?.1) };
        let (mut snapshots, mut unnamed) = (HashMap::new(), HashSet::new());
        let mut blobs_of: HashMap<&str, Vec<usize>> = HashMap::new();
        for (index, thing) in inventory.things.iter().enumerate() {
            match thing {
                Thing::Snapshot { id, .. } => drop(snapshots.insert(*id, index)),
                Thing::Image(name) => drop(unnamed.insert(name.as_str())),
                Thing::Blob(_) => {
                    for image in &inventory.records[index].parents {
                        blobs_of.entry(image).or_default().push(index);
                    }
                }
                Thing::Frontend(_) | Thing::CacheMount(_) | Thing::GitRepository(_) | Thing::KeptFile { .. } => {}
            }
        }
        let mut run = Self {
            store,
            options,
            inventory,
            above: vec![0; inventory.things.len()],
            snapshots,
            unnamed,
            blobs_of,
            heap: BinaryHeap::new(),
            used,
            target,
            now: now(),
            freed: 0,
            gone: Vec::new(),
            removed: Vec::new(),
        };
        for index in 0..inventory.things.len() {
            if let Some(below) = run.below(index) {
                run.above[below] += 1;
            }
        }
        for index in 0..inventory.things.len() {
            run.consider(index);
        }
        Ok(run)
    }

    /// The record that can go only after `index` is gone.
    fn below(&self, index: usize) -> Option<usize> {
        match &self.inventory.things[index] {
            Thing::Snapshot { parent: Some(id), .. } => self.snapshots.get(id).copied(),
            _ => None,
        }
    }

    fn consider(&mut self, index: usize) {
        let record = &self.inventory.records[index];
        let free = self.above[index] == 0 && !record.in_use;
        // A blob of an image without a name goes after the image.
        let held = record.parents.iter().any(|name| self.unnamed.contains(name.as_str()));
        if free && !held && self.is_wanted(record) {
            self.heap.push(Reverse((record.last_used, index)));
        }
    }

    fn is_wanted(&self, record: &UsageRecord) -> bool {
        let options = self.options;
        let idle = self.now.saturating_sub(record.last_used);
        let kept = options.keep.is_some_and(|keep| idle < i64::try_from(keep.as_secs()).unwrap_or(i64::MAX));
        let fits = options.filters.is_empty() || options.filters.iter().any(|filter| filter.fits(record));
        let wanted = match record.kind {
            // It says why steps run that ran before, also because of this.
            RecordKind::History => !options.filters.is_empty() || !options.limits.is_none(),
            RecordKind::ContextDigests => options.all || !options.filters.is_empty(),
            kind => options.all || !(record.shared || kind == RecordKind::Frontend),
        };
        !kept && fits && wanted
    }

    fn reason(&self, record: &UsageRecord) -> String {
        let idle = self.now.saturating_sub(record.last_used);
        let mut reason = match idle {
            ..60 => "not in use".to_owned(),
            60..3600 => format!("not used for {} min", idle / 60),
            3600..172_800 => format!("not used for {} h", idle / 3600),
            _ => format!("not used for {} days", idle / 86_400),
        };
        if !self.options.limits.is_none() {
            reason += &format!("; the store takes {} and may take {}", human(self.used), human(self.target));
        }
        reason
    }

    fn go(&mut self, told: &mut dyn FnMut(Pruned)) -> Result<()> {
        while self.options.limits.is_none() || self.used > self.target {
            let Some(Reverse((_, index))) = self.heap.pop() else { break };
            let (record, thing) = (&self.inventory.records[index], &self.inventory.things[index]);
            if !self.options.dry_run && !self.store.remove(thing)? {
                continue;
            }
            let reason = self.reason(record);
            if let Thing::Snapshot { id, .. } = thing {
                self.removed.push((*id, reason.clone()));
            }
            told(Pruned { record: record.clone(), reason });
            // What others share of it stays, as theirs.
            let size = record.size.saturating_sub(self.kept_by_sharers(index)?);
            self.freed += size;
            self.used = self.used.saturating_sub(size);
            match thing {
                Thing::Snapshot { .. } => {}
                Thing::Blob(digest) => self.gone.push(("blob".into(), digest.0.hex())),
                Thing::Frontend(_) | Thing::CacheMount(_) | Thing::GitRepository(_) | Thing::KeptFile { .. } => {}
                Thing::Image(name) => {
                    self.unnamed.remove(name.as_str());
                    for blob in self.blobs_of.remove(name.as_str()).unwrap_or_default() {
                        self.consider(blob);
                    }
                }
            }
            if let Some(below) = self.below(index) {
                self.above[below] -= 1;
                self.consider(below);
            }
        }
        Ok(())
    }
}

impl Run<'_> {
    fn kept_by_sharers(&self, index: usize) -> Result<u64> {
        match &self.inventory.layers.get(&index) {
            Some(name) if !self.options.dry_run => self.store.measure_sharers(name),
            _ => Ok(0),
        }
    }
}

impl Store {
    /// Removes one record; false when somebody has come to use it.
    fn remove(&self, thing: &Thing) -> Result<bool> {
        match thing {
            Thing::Snapshot { id, .. } => self.collect_snapshot(*id),
            Thing::Blob(digest) => self.collect_blob(digest),
            Thing::Image(name) => self.untag(name),
            Thing::CacheMount(name) => self.remove_cache_mount(name),
            Thing::GitRepository(name) => self.remove_git_repository(name),
            Thing::KeptFile { dir, name } => self.remove_kept_file(dir, name),
            Thing::Frontend(name) => {
                let path = self.inner.root.join("guests-v1").join(name);
                std::fs::remove_file(&path).map_err(|e| Error::io("remove", path, e))?;
                Ok(true)
            }
        }
    }

    fn collect_snapshot(&self, id: SnapshotId) -> Result<bool> {
        let bucket = snapshots_dir(self.options().overlay);
        let Some(info) = self.inner.db.snapshot(id, bucket)? else { return Ok(false) };
        let Some(dir) = info.dir.parent() else { return Ok(false) };
        let name = dir.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
        // Its maker has it in use, or is about to write that down.
        if self.is_begun(&name) {
            return Ok(false);
        }
        let Some(_lock) = self.try_lock(&format!("snapshot {name}"))? else { return Ok(false) };
        let Some(taken) = self.inner.db.take_snapshot(id)? else { return Ok(false) };
        self.uses.forget_standing();
        if self.in_use()?.contains(&Use::Snapshot(id)) {
            self.inner.db.put_back(&taken)?;
            return Ok(false);
        }
        self.drop_flat(id)?;
        if taken.last {
            self.inner.db.forget_usage(&[("layer".into(), name)])?;
            remove_tree(self, dir)?;
        }
        Ok(true)
    }

    /// Takes the blob's name away, looks whether somebody needs it, and then removes it.
    fn collect_blob(&self, digest: &BlobDigest) -> Result<bool> {
        let place = self.blob_path(digest);
        // Should we be killed now, the next sweep puts it back.
        let aside = self.inner.root.join("ingest-v1").join(format!("{ASIDE}{}", digest.0.hex()));
        match std::fs::rename(&place, &aside) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
            other => other.map_err(|e| Error::io("set aside", &place, e))?,
        }
        // In this order: whoever has given its image a name and ended meanwhile is seen by the name.
        let mut needed = self.in_use()?.contains(&Use::Blob(*digest));
        if !needed {
            let images = self.inner.db.images()?;
            let named = images.iter().filter(|image| is_name(&image.name)).map(|image| &image.descriptor);
            needed = self.reachable(named).contains(digest);
        }
        if needed && !place.exists() {
            std::fs::rename(&aside, &place).map_err(|e| Error::io("put back", &place, e))?;
            return Ok(false);
        }
        std::fs::remove_file(&aside).map_err(|e| Error::io("remove", &aside, e))?;
        Ok(!needed)
    }
}

/// A row that was taken out.
struct Taken {
    id: i64,
    bucket: String,
    name: String,
    parent: Option<i64>,
    chain: Option<String>,
    diff_id: Option<String>,
    created: i64,
    apart: bool,
    mounted: Option<String>,
    /// No other snapshot has its directory.
    last: bool,
}

impl Db {
    /// Takes out the record of a snapshot that nothing stands on.
    fn take_snapshot(&self, id: SnapshotId) -> Result<Option<Taken>> {
        self.write(|t| {
            let row = t
                .prepare_cached(
                    "SELECT id, bucket, name, parent, chain, diff_id, created, apart, mounted FROM snapshots s
                     WHERE id = ?1 AND NOT EXISTS (SELECT 1 FROM snapshots c WHERE c.parent = s.id)",
                )?
                .query_row([id.0], |r| {
                    Ok(Taken {
                        id: r.get(0)?,
                        bucket: r.get(1)?,
                        name: r.get(2)?,
                        parent: r.get(3)?,
                        chain: r.get(4)?,
                        diff_id: r.get(5)?,
                        created: r.get(6)?,
                        apart: r.get(7)?,
                        mounted: r.get(8)?,
                        last: false,
                    })
                })
                .optional()?;
            let Some(mut taken) = row else { return Ok(None) };
            t.execute("DELETE FROM snapshots WHERE id = ?1", [id.0])?;
            taken.last = t
                .prepare_cached("SELECT 1 FROM snapshots WHERE bucket = ?1 AND name = ?2")?
                .query_row(params![taken.bucket, taken.name], |_| Ok(()))
                .optional()?
                .is_none();
            Ok(Some(taken))
        })
    }

    fn put_back(&self, taken: &Taken) -> Result<()> {
        self.write(|t| {
            t.execute(
                "INSERT OR IGNORE INTO snapshots (id, bucket, name, parent, chain, diff_id, created, apart, mounted) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
                params![taken.id, taken.bucket, taken.name, taken.parent, taken.chain, taken.diff_id, taken.created, taken.apart, taken.mounted],
            )
            .map(drop)
        })
    }

    /// Keys and values of all results of `kind`.
    pub(crate) fn cache_results(&self, kind: &str) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
        let rows: Vec<(Vec<u8>, Vec<u8>)> = self.run(|c| {
            c.prepare_cached("SELECT key, value FROM cache_results WHERE kind = ?1")?
                .query_map([kind], |r| Ok((r.get(0)?, r.get(1)?)))?
                .collect()
        })?;
        // A damaged value names nothing.
        let read = |(key, value): (Vec<u8>, Vec<u8>)| {
            let value = opened(kind, &key, value).unwrap_or_default();
            (key, value)
        };
        Ok(rows.into_iter().map(read).collect())
    }

    pub(crate) fn forget_results(&self, keys: &[Vec<u8>]) -> Result<()> {
        self.write(|t| {
            let mut delete = t.prepare_cached("DELETE FROM cache_results WHERE key = ?1")?;
            keys.iter().try_for_each(|key| delete.execute([key]).map(drop))
        })
    }

    /// Removes the oldest facts of the kinds that would grow for ever.
    pub(crate) fn trim_facts(&self) -> Result<()> {
        self.write(|t| {
            let mut trim = t.prepare_cached(
                "DELETE FROM facts WHERE kind = ?1 AND key NOT IN
                 (SELECT key FROM facts WHERE kind = ?1 ORDER BY created DESC LIMIT ?2)",
            )?;
            FACTS_KEPT.iter().try_for_each(|kept| trim.execute(params![kept.0, kept.1]).map(drop))
        })
    }

    /// Removes links to keys that have neither a result nor links of their own, and so on down.
    pub(crate) fn tidy_links(&self) -> Result<()> {
        // Each pass takes one layer of a graph; what a deeper one leaves is taken the next time.
        for _ in 0..100 {
            let removed = self.write(|t| {
                t.execute(
                    "DELETE FROM cache_links WHERE NOT EXISTS (SELECT 1 FROM cache_results r WHERE r.key = cache_links.key)
                     AND NOT EXISTS (SELECT 1 FROM cache_links n WHERE n.origin = cache_links.key)",
                    [],
                )
            })?;
            if removed == 0 {
                break;
            }
        }
        Ok(())
    }
}

/// Bytes for people, in powers of a thousand as BuildKit tells them.
pub fn human(bytes: u64) -> String {
    let mut value = bytes as f64;
    for unit in ["B", "kB", "MB", "GB", "TB"] {
        if value < 1000.0 || unit == "TB" {
            return if unit == "B" { format!("{bytes} B") } else { format!("{value:.1} {unit}") };
        }
        value /= 1000.0;
    }
    String::new()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_buildkits() {
        const GB: u64 = 1_000_000_000;
        let limits = SpaceLimits::standard(1000 * GB);
        assert_eq!(limits, SpaceLimits { max_used: 100 * GB, min_free: 200 * GB, reserved: 10 * GB });
        assert_eq!(limits.target(50 * GB, 500 * GB), 100 * GB);
        assert_eq!(limits.target(50 * GB, 190 * GB), 40 * GB, "the disk is to have 200 GB free");
        assert_eq!(limits.target(50 * GB, 0), 10 * GB, "but so much is kept");
        let none = SpaceLimits::default();
        assert!(none.is_none() && none.target(7, 0) == u64::MAX);
    }

    #[test]
    fn bytes_are_told_in_thousands() {
        assert_eq!([human(0), human(999), human(1500), human(2_000_000_000)], ["0 B", "999 B", "1.5 kB", "2.0 GB"]);
    }
}
