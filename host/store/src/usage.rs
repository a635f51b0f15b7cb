//! Disk usage: what the store holds, how much of the disk it takes, who needs it, when it was last used.
//!
//! Sizes are the disk's (allocated blocks; of a file with several names each counts its part). A layer is measured once, when it is committed, by a thread of the
//! build; what was not measured (the build was killed) is measured by whoever asks. Directories and blobs are the truth, the table `usage` only
//! remembers: what it lost is told as unused since it was made.
use std::collections::{HashMap, HashSet};
use std::path::Path;

use rhost_llb::{BlobDigest, DiffId};
use rusqlite::params;
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, openat, statat};

use crate::db::{Db, now};
use crate::in_use::Use;
use crate::kept_files::kept_directories;
use crate::store::snapshots_dir;
use crate::{Error, Result, SnapshotId, Store};

/// Uses within so many seconds of the last are not written down: nothing is collected by such small differences.
pub(crate) const FRESH: i64 = 60;

/// What a record is. The names are BuildKit's where it has one (spec G).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RecordKind {
    /// A layer that a step made or an image brought.
    Regular,
    /// A blob: a layer as it travels, a manifest, a config.
    Blob,
    /// An image that has no name, only its digest. Its blobs are records of their own.
    Image,
    /// A compiled frontend.
    Frontend,
    /// A cache mount.
    CacheMount,
    /// A repository that git sources fetch into.
    GitRepository,
    /// What a build was made of.
    History,
    /// What the files of a context hash to.
    ContextDigests,
}

impl std::fmt::Display for RecordKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Regular => "regular",
            Self::Blob => "blob",
            Self::Image => "image",
            Self::Frontend => "frontend",
            Self::CacheMount => "exec.cachemount",
            Self::GitRepository => "source.git.checkout",
            Self::History => "history",
            Self::ContextDigests => "context.digests",
        })
    }
}

/// One thing that the store holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsageRecord {
    /// Names it, for filters.
    pub id: String,
    /// What it is.
    pub kind: RecordKind,
    /// Bytes of the disk that it takes itself.
    pub size: u64,
    /// A named image needs it too, or several snapshots have the same directory.
    pub shared: bool,
    /// A build that runs now relies on it, or a named image.
    pub in_use: bool,
    /// Unix seconds; 0 is not known.
    pub created: i64,
    /// Unix seconds.
    pub last_used: i64,
    /// How many builds used it.
    pub uses: u64,
    /// For people.
    pub description: String,
    /// Records that it stands on.
    pub parents: Vec<String>,
}

/// A row of the table `usage`.
#[derive(Debug, Clone, Default)]
pub(crate) struct Known {
    pub(crate) size: i64,
    pub(crate) last_used: i64,
    pub(crate) uses: i64,
    pub(crate) description: String,
}

pub(crate) type KnownByKey = HashMap<(String, String), Known>;

/// A row of the table `snapshots`.
pub(crate) struct SnapshotRow {
    pub(crate) id: SnapshotId,
    pub(crate) name: String,
    pub(crate) parent: Option<SnapshotId>,
    pub(crate) chain: Option<String>,
    pub(crate) diff_id: Option<DiffId>,
    pub(crate) created: i64,
}

/// What a build made, to be remembered at its end.
#[derive(Debug)]
pub(crate) enum Made {
    Layer { name: String, size: u64 },
    Blob { digest: BlobDigest, size: u64 },
}

impl Db {
    /// Remembers what a build used and made.
    pub(crate) fn remember(&self, used: &HashSet<Use>, made: &[Made]) -> Result<()> {
        let now = now();
        self.write(|t| {
            let mut layer = t.prepare_cached(
                "INSERT INTO usage (kind, key, size, last_used, uses, description)
                 SELECT 'layer', name, -1, ?2, 1, '' FROM snapshots WHERE id = ?1
                 ON CONFLICT (kind, key) DO UPDATE SET last_used = ?2, uses = uses + 1 WHERE last_used < ?3 OR uses = 0",
            )?;
            let mut blob = t.prepare_cached(
                "INSERT INTO usage (kind, key, size, last_used, uses, description) VALUES ('blob', ?1, -1, ?2, 1, '')
                 ON CONFLICT (kind, key) DO UPDATE SET last_used = ?2, uses = uses + 1 WHERE last_used < ?3 OR uses = 0",
            )?;
            for what in used {
                match what {
                    Use::Snapshot(id) => layer.execute(params![id.0, now, now - FRESH])?,
                    Use::Blob(digest) => blob.execute(params![digest.0.hex(), now, now - FRESH])?,
                };
            }
            for made in made {
                match made {
                    Made::Layer { name, size } => set_size(t, "layer", name, *size, now)?,
                    Made::Blob { digest, size } => set_size(t, "blob", &digest.0.hex(), *size, now)?,
                }
            }
            Ok(())
        })
    }

    pub(crate) fn set_sizes(&self, kind: &str, sizes: &[(String, u64)]) -> Result<()> {
        let now = now();
        self.write(|t| sizes.iter().try_for_each(|(key, size)| set_size(t, kind, key, *size, now)))
    }

    /// What is remembered of everything.
    pub(crate) fn known_usage(&self) -> Result<KnownByKey> {
        self.run(|c| {
            c.prepare_cached("SELECT kind, key, size, last_used, uses, description FROM usage")?
                .query_map([], |r| {
                    let known =
                        Known { size: r.get(2)?, last_used: r.get(3)?, uses: r.get(4)?, description: r.get(5)? };
                    Ok(((r.get(0)?, r.get(1)?), known))
                })?
                .collect()
        })
    }

    /// The sum of what was measured.
    pub(crate) fn known_total(&self) -> Result<u64> {
        let sum: i64 = self.run(|c| {
            c.prepare_cached("SELECT ifnull(sum(size), 0) FROM usage WHERE size > 0")?.query_row([], |r| r.get(0))
        })?;
        Ok(u64::try_from(sum).unwrap_or(0))
    }

    pub(crate) fn forget_usage(&self, keys: &[(String, String)]) -> Result<()> {
        self.write(|t| {
            let mut delete = t.prepare_cached("DELETE FROM usage WHERE kind = ?1 AND key = ?2")?;
            keys.iter().try_for_each(|(kind, key)| delete.execute(params![kind, key]).map(drop))
        })
    }

    pub(crate) fn snapshot_rows(&self, bucket: &str) -> Result<Vec<SnapshotRow>> {
        self.run(|c| {
            c.prepare_cached(
                "SELECT id, name, parent, chain, diff_id, created FROM snapshots WHERE bucket = ?1 ORDER BY id",
            )?
            .query_map([bucket], |r| {
                Ok(SnapshotRow {
                    id: SnapshotId(r.get(0)?),
                    name: r.get(1)?,
                    parent: r.get::<_, Option<i64>>(2)?.map(SnapshotId),
                    chain: r.get(3)?,
                    diff_id: r.get::<_, Option<String>>(4)?.and_then(|text| text.parse().ok()),
                    created: r.get(5)?,
                })
            })?
            .collect()
        })
    }
}

/// Remembers what a new layer is, for people.
pub(crate) fn describe_layer(t: &rusqlite::Transaction<'_>, name: &str, text: &str) -> rusqlite::Result<()> {
    t.prepare_cached(
        "INSERT INTO usage (kind, key, size, last_used, uses, description) VALUES ('layer', ?1, -1, ?2, 0, ?3)
         ON CONFLICT (kind, key) DO UPDATE SET description = ?3",
    )?
    .execute(params![name, now(), text])
    .map(drop)
}

fn set_size(t: &rusqlite::Transaction<'_>, kind: &str, key: &str, size: u64, now: i64) -> rusqlite::Result<()> {
    t.prepare_cached(
        "INSERT INTO usage (kind, key, size, last_used, uses, description) VALUES (?1, ?2, ?3, ?4, 0, '')
         ON CONFLICT (kind, key) DO UPDATE SET size = ?3",
    )?
    .execute(params![kind, key, i64::try_from(size).unwrap_or(i64::MAX), now])
    .map(drop)
}

/// Bytes of the disk below `path`, itself included; what cannot be read counts nothing. A file with several names counts a part with each: so the sum
/// over all that have it is its size, whether they are in one layer or in several.
pub(crate) fn disk_size(path: &Path) -> u64 {
    let Ok(found) = std::fs::symlink_metadata(path) else { return 0 };
    let own = std::os::unix::fs::MetadataExt::blocks(&found) * 512;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match rustix::fs::open(path, flags, Mode::empty()) {
        Ok(fd) => own + below(fd, 0),
        Err(_) => own,
    }
}

/// Deeper trees count as if they ended here: each level holds a descriptor.
const DEEPEST: usize = 500;

fn below(fd: std::os::fd::OwnedFd, depth: usize) -> u64 {
    let Ok(mut dir) = Dir::new(fd) else { return 0 };
    let mut sum = 0;
    while let Some(Ok(entry)) = dir.next() {
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        let Ok(here) = dir.fd() else { return sum };
        let Ok(found) = statat(here, name, AtFlags::SYMLINK_NOFOLLOW) else { continue };
        let is_dir = FileType::from_raw_mode(found.st_mode) == FileType::Directory;
        let names = if is_dir { 1 } else { (found.st_nlink as u64).max(1) };
        sum += found.st_blocks as u64 * 512 / names;
        if is_dir && depth < DEEPEST {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            if let Ok(child) = openat(here, name, flags, Mode::empty()) {
                sum += below(child, depth + 1);
            }
        }
    }
    sum
}

/// Everything in the store, and how it hangs together.
pub(crate) struct Inventory {
    pub(crate) records: Vec<UsageRecord>,
    /// For each record what it is in the store.
    pub(crate) things: Vec<Thing>,
    /// By index, the names of layers that share files with others.
    pub(crate) layers: HashMap<usize, String>,
}

/// What a record is in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Thing {
    Snapshot { id: SnapshotId, parent: Option<SnapshotId> },
    Blob(BlobDigest),
    Image(String),
    Frontend(String),
    CacheMount(String),
    GitRepository(String),
    KeptFile { dir: &'static str, name: String },
}

impl Store {
    /// Everything that the store holds.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn disk_usage(&self) -> Result<Vec<UsageRecord>> {
        Ok(self.inventory()?.records)
    }

    pub(crate) fn inventory(&self) -> Result<Inventory> {
        let known = self.inner.db.known_usage()?;
        let in_use = self.in_use()?;
        let images = self.inner.db.images()?;
        let (named, unnamed): (Vec<_>, Vec<_>) = images.iter().partition(|image| is_name(&image.name));
        let of_named = self.reachable(named.iter().map(|image| &image.descriptor));
        let mut of_unnamed = HashMap::new();
        for image in &unnamed {
            for digest in self.reachable(std::iter::once(&image.descriptor)) {
                of_unnamed.entry(digest).or_insert_with(Vec::new).push(image.name.clone());
            }
        }
        let mut inventory = Inventory { records: Vec::new(), things: Vec::new(), layers: HashMap::new() };
        self.layers_of(&mut inventory, &known, &in_use)?;
        self.blobs_in(&mut inventory, &known, &in_use, &of_named, &of_unnamed)?;
        for image in unnamed {
            inventory.records.push(UsageRecord {
                id: image.name.clone(),
                kind: RecordKind::Image,
                size: 0,
                shared: false,
                in_use: image.descriptor.digest().to_string().parse().is_ok_and(|d| in_use.contains(&Use::Blob(d))),
                created: image.updated,
                last_used: image.updated,
                uses: 0,
                description: "image without a name".into(),
                parents: Vec::new(),
            });
            inventory.things.push(Thing::Image(image.name.clone()));
        }
        self.frontends_in(&mut inventory)?;
        self.cache_mounts_in(&mut inventory)?;
        self.git_repositories_in(&mut inventory)?;
        self.kept_files_in(&mut inventory)?;
        Ok(inventory)
    }

    fn layers_of(&self, inventory: &mut Inventory, known: &KnownByKey, in_use: &HashSet<Use>) -> Result<()> {
        let rows = self.inner.db.snapshot_rows(snapshots_dir(self.options().overlay))?;
        let (mut first, mut measured) = (HashSet::new(), Vec::new());
        let (flats, sharing) = (self.flats()?, self.inner.db.sharing()?);
        let mut times: HashMap<&str, usize> = HashMap::new();
        for row in &rows {
            *times.entry(&row.name).or_default() += 1;
        }
        for row in &rows {
            let seen = known.get(&("layer".to_owned(), row.name.clone())).cloned().unwrap_or_default();
            // A directory that several snapshots have is counted with the first of them.
            let size = match u64::try_from(seen.size) {
                _ if !first.insert(&row.name) => 0,
                Ok(size) if seen.size > 0 && !sharing.contains(&row.name) => size,
                _ => {
                    let dir = self.bucket().join(&row.name);
                    let size = disk_size(&dir);
                    // One that is not laid down yet is measured when it is.
                    if size > 0 {
                        measured.push((row.name.clone(), size));
                    }
                    size
                }
            };
            let flat = match flats.get(&row.id) {
                Some(name) => match known.get(&("layer".to_owned(), name.clone())) {
                    Some(seen) if seen.size > 0 => u64::try_from(seen.size).unwrap_or(0),
                    _ => disk_size(&self.bucket().join(name)),
                },
                None => 0,
            };
            let description = match (seen.description.as_str(), &row.chain) {
                ("", Some(_)) => row.diff_id.map(|id| format!("layer {id} of an image")).unwrap_or_default(),
                (text, _) => text.to_owned(),
            };
            inventory.records.push(UsageRecord {
                id: row.id.to_string(),
                kind: RecordKind::Regular,
                size: size + flat,
                shared: times.get(row.name.as_str()).is_some_and(|count| *count > 1),
                in_use: in_use.contains(&Use::Snapshot(row.id)),
                created: row.created,
                last_used: seen.last_used.max(row.created),
                uses: u64::try_from(seen.uses).unwrap_or(0),
                description,
                parents: row.parent.iter().map(ToString::to_string).collect(),
            });
            if size > 0 && sharing.contains(&row.name) {
                inventory.layers.insert(inventory.things.len(), row.name.clone());
            }
            inventory.things.push(Thing::Snapshot { id: row.id, parent: row.parent });
        }
        if !measured.is_empty() {
            self.inner.db.set_sizes("layer", &measured)?;
        }
        Ok(())
    }

    fn blobs_in(
        &self,
        inventory: &mut Inventory,
        known: &KnownByKey,
        in_use: &HashSet<Use>,
        of_named: &HashSet<BlobDigest>,
        of_unnamed: &HashMap<BlobDigest, Vec<String>>,
    ) -> Result<()> {
        let dir = self.blobs_dir();
        for entry in std::fs::read_dir(&dir).map_err(|e| Error::io("list", &dir, e))? {
            let entry = entry.map_err(|e| Error::io("list", &dir, e))?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            let (Ok(found), Ok(digest)) = (entry.metadata(), format!("sha256:{name}").parse::<BlobDigest>()) else {
                continue;
            };
            use std::os::unix::fs::MetadataExt as _;
            let seen = known.get(&("blob".to_owned(), name)).cloned().unwrap_or_default();
            let layer = self.inner.db.diff_id_of(&digest)?;
            inventory.records.push(UsageRecord {
                id: digest.to_string(),
                kind: RecordKind::Blob,
                size: found.blocks() * 512,
                shared: of_named.contains(&digest),
                in_use: in_use.contains(&Use::Blob(digest)) || of_named.contains(&digest),
                created: found.mtime(),
                last_used: seen.last_used.max(found.mtime()),
                uses: u64::try_from(seen.uses).unwrap_or(0),
                description: layer
                    .map_or_else(|| "manifest, config or other".into(), |id| format!("layer {id}, packed")),
                parents: of_unnamed.get(&digest).cloned().unwrap_or_default(),
            });
            inventory.things.push(Thing::Blob(digest));
        }
        Ok(())
    }

    fn cache_mounts_in(&self, inventory: &mut Inventory) -> Result<()> {
        for mount in self.cache_mounts()? {
            let id = mount.id.unwrap_or_else(|| "unknown id".into());
            inventory.records.push(UsageRecord {
                id: mount.name.clone(),
                kind: RecordKind::CacheMount,
                size: disk_size(&mount.dir),
                shared: false,
                in_use: mount.in_use,
                created: mount.created,
                last_used: mount.last_used.max(mount.created),
                uses: mount.uses,
                description: format!("cache mount {id}"),
                parents: Vec::new(),
            });
            inventory.things.push(Thing::CacheMount(mount.name));
        }
        Ok(())
    }

    fn git_repositories_in(&self, inventory: &mut Inventory) -> Result<()> {
        for repository in self.git_repositories()? {
            let remote = repository.remote.unwrap_or_else(|| "an unknown remote".into());
            inventory.records.push(UsageRecord {
                id: repository.name.clone(),
                kind: RecordKind::GitRepository,
                size: disk_size(&repository.dir),
                shared: false,
                in_use: repository.in_use,
                created: repository.created,
                last_used: repository.last_used.max(repository.created),
                uses: repository.uses,
                description: format!("git repository of {remote}"),
                parents: Vec::new(),
            });
            inventory.things.push(Thing::GitRepository(repository.name));
        }
        Ok(())
    }

    /// Bytes of the disk that files take of which nothing is written down: compiled frontends, and what is kept beside the cache.
    pub(crate) fn files_total(&self) -> u64 {
        let directories = ["guests-v1"].into_iter().chain(kept_directories());
        let entries = directories.flat_map(|name| std::fs::read_dir(self.inner.root.join(name))).flatten().flatten();
        let blocks = entries.filter_map(|entry| entry.metadata().ok());
        blocks.map(|found| std::os::unix::fs::MetadataExt::blocks(&found) * 512).sum()
    }

    fn frontends_in(&self, inventory: &mut Inventory) -> Result<()> {
        let dir = self.inner.root.join("guests-v1");
        let entries = match std::fs::read_dir(&dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(Error::io("list", &dir, error)),
        };
        for entry in entries.flatten() {
            use std::os::unix::fs::MetadataExt as _;
            let (Ok(name), Ok(found)) = (entry.file_name().into_string(), entry.metadata()) else { continue };
            let Some(id) = name.strip_suffix(".code") else { continue };
            let component = id.get(..12).unwrap_or(id);
            inventory.records.push(UsageRecord {
                id: id.to_owned(),
                kind: RecordKind::Frontend,
                size: found.blocks() * 512,
                shared: false,
                in_use: false,
                created: found.mtime(),
                last_used: found.atime().max(found.mtime()),
                uses: 0,
                description: format!("compiled frontend {component}"),
                parents: Vec::new(),
            });
            inventory.things.push(Thing::Frontend(name));
        }
        Ok(())
    }

    /// The blobs that images need: manifests, configs, layers.
    pub(crate) fn reachable<'d>(
        &self,
        roots: impl Iterator<Item = &'d oci_spec::image::Descriptor>,
    ) -> HashSet<BlobDigest> {
        let mut found = HashSet::new();
        let mut stack: Vec<BlobDigest> = roots.filter_map(|root| root.digest().to_string().parse().ok()).collect();
        while let Some(digest) = stack.pop() {
            // What is no manifest names nothing.
            if !found.insert(digest) || self.blob_size(&digest).is_none_or(|size| size > crate::MAX_READ) {
                continue;
            }
            let Ok(bytes) = std::fs::read(self.blob_path(&digest)) else { continue };
            let Ok(manifest) = serde_json::from_slice::<serde_json::Value>(&bytes) else { continue };
            let digest_of = |value: &serde_json::Value| value.get("digest")?.as_str()?.parse::<BlobDigest>().ok();
            let list = |name: &str| manifest.get(name).and_then(|v| v.as_array()).into_iter().flatten();
            stack.extend(list("manifests").filter_map(digest_of));
            let leaves = list("layers").chain(manifest.get("config"));
            found.extend(leaves.filter_map(digest_of));
        }
        found
    }
}

/// Whether an image's name is one that somebody gave, rather than its digest.
pub(crate) fn is_name(name: &str) -> bool {
    !name.starts_with("sha256:")
}
