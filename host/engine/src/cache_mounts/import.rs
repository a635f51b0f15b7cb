//! Importing: every wanted mount is laid down beside the instance it replaces; when all of them are whole, they take their places.
use std::sync::Arc;

use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use jiff::Timestamp;
use rhost_export::cache::{
    CachePlace, Config, MOST_PACK_BYTES, MOST_TREE_BYTES, MountConfig, TreeEntry, TreeReader, pack_key, unpack,
};
use rhost_llb::{BlobDigest, VertexDigest};
use rhost_registry::{Descriptor, ManifestKind, fetch_small};
use rhost_rootfs::{FileIdentity, OwnerPolicy, Root, scan};
use rhost_store::{
    CacheMount, CacheMountClaim, CacheMountKey, CacheMountSharing, CacheMountSuccessor, Settled, Store, human,
};

use super::export::MountChoice;
use super::look::{Looked, look};
use super::notes::{Known, Notes};
use super::restore::Plan;
use super::source::Source;
use super::{CacheFailure, listed, means, on_thread, say, shown_id, title, wait};
use crate::engine::Engine;
use crate::error::{BuildError, Kind};
use crate::event::{Event, Events};

/// The largest config that is read.
const LARGEST_CONFIG: u64 = 64 << 20;
/// The largest compressed tree and pack: zstd makes nothing much larger than it was.
const LARGEST_PART: u64 = MOST_PACK_BYTES + (MOST_PACK_BYTES >> 6);
/// What all trees of a mount may unpack to.
const MOST_TREES: u64 = 2 << 30;
/// Parts that are fetched at once.
const PARALLEL: usize = 4;

/// What becomes of what a mount holds already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ImportMode {
    /// It goes: the mount is what was exported.
    Replace,
    /// What was not exported stays beside what was; where both have a path, what was exported does.
    Merge,
}

/// What became of one mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImportedMount {
    /// As a build file writes it.
    pub id: String,
    /// Things in it now.
    pub entries: u64,
    /// Bytes of the files that were exported.
    pub bytes: u64,
    /// Files that it had already.
    pub kept: u64,
    /// Packs that were exported.
    pub parts: u64,
    /// Of these, how many were fetched.
    pub fetched: u64,
    /// And their bytes.
    pub fetched_bytes: u64,
}

/// A mount that is whole, and not yet in its place.
struct Staged {
    id: String,
    old: Option<CacheMount>,
    successor: CacheMountSuccessor,
    entries: Arc<Plan>,
    notes: Notes,
}

impl Engine {
    /// Imports cache mounts from `place`. Returns what became of each.
    ///
    /// # Errors
    /// An id that is not there; what is no export, or damaged; the store, the registry. No mount has changed then.
    pub async fn import_cache(
        &self,
        place: &CachePlace,
        choice: &MountChoice,
        mode: ImportMode,
        events: &Events,
    ) -> Result<Vec<ImportedMount>, BuildError> {
        // What is made through this handle is known to be a dead process's when this one is killed.
        let store = self.store.for_build();
        let imported = self.import_in(&store, place, choice, mode, events).await;
        drop(store);
        if let Err(error) = self.store.recover() {
            tracing::warn!(%error, "what a crash left is not cleared away");
        }
        imported
    }

    async fn import_in(
        &self,
        store: &Store,
        place: &CachePlace,
        choice: &MountChoice,
        mode: ImportMode,
        events: &Events,
    ) -> Result<Vec<ImportedMount>, BuildError> {
        let source = Source::open(self, store, place).await?;
        let name = format!("importing from {place}");
        let done = events.step(&name, |vertex| async move {
            let import = Import { engine: self, store, source: &source, mode, events, vertex };
            let what = format!("importing from `{place}`");
            let imported = import.run(choice, &what).await?;
            for mount in &imported {
                say(events, vertex, &mount.to_string());
            }
            Ok(imported)
        });
        done.await
    }
}

struct Import<'a> {
    engine: &'a Engine,
    store: &'a Store,
    source: &'a Source,
    mode: ImportMode,
    events: &'a Events,
    vertex: VertexDigest,
}

/// A mount of the export, and its layers.
struct Wanted {
    config: MountConfig,
    trees: Vec<Descriptor>,
    packs: Vec<Descriptor>,
}

impl Import<'_> {
    async fn run(&self, choice: &MountChoice, what: &str) -> Result<Vec<ImportedMount>, BuildError> {
        let failed = |error: CacheFailure| error.into_error(what);
        let all = self.read().await.map_err(failed)?;
        let mut wanted = chosen(all, choice)?;
        // In one order, so that two imports never wait for each other; steps claim theirs in this order, too.
        wanted.sort_by(|a, b| (&a.config.id, &a.config.base).cmp(&(&b.config.id, &b.config.base)));
        let (mut staged, mut imported) = (Vec::new(), Vec::new());
        for mount in &wanted {
            let name = title(&mount.config.id, mount.config.base.as_deref());
            let laid = self.stage(mount, &name).await.map_err(|error| error.into_error(&format!("{what}: {name}")))?;
            staged.push(laid.0);
            imported.push(laid.1);
        }
        for mount in staged {
            on_thread(move || publish(mount)).await.map_err(failed)?;
        }
        Ok(imported)
    }

    /// What the export consists of.
    async fn read(&self) -> Result<Vec<Wanted>, CacheFailure> {
        let (images, image) = (&*self.source.images, &self.source.image);
        let registry = CacheFailure::Registry;
        let raw = images.manifest(image).await.map_err(registry)?;
        let manifest = match raw.parse(image).map_err(registry)? {
            ManifestKind::Image(manifest) => manifest,
            ManifestKind::Index(_) => {
                let reason = "it is an index of images".to_owned();
                return Err(rhost_export::cache::CacheFormatError::NotOne(reason).into());
            }
        };
        Config::check_type(&manifest.config.media_type)?;
        let config = fetch_small(images, image, &manifest.config, LARGEST_CONFIG).await.map_err(registry)?;
        let config = Config::parse(&config, manifest.layers.len())?;
        let mut layers = manifest.layers.into_iter();
        let wanted = config.mounts.into_iter().map(|config| {
            let trees = layers.by_ref().take(config.trees.len()).collect();
            let packs = layers.by_ref().take(config.packs.len()).collect();
            Wanted { config, trees, packs }
        });
        Ok(wanted.collect())
    }

    /// Fetches and unpacks a part.
    async fn part(&self, blob: &Descriptor, size: u64, most: u64, what: &str) -> Result<Vec<u8>, CacheFailure> {
        let packed = fetch_small(&*self.source.images, &self.source.image, blob, LARGEST_PART).await;
        let packed = packed.map_err(CacheFailure::Registry)?;
        let what = format!("{what} {}", blob.digest);
        on_thread(move || Ok(unpack(&packed, size, most, &what)?)).await
    }

    async fn tree(&self, mount: &Wanted) -> Result<Vec<TreeEntry>, CacheFailure> {
        if mount.config.trees.iter().fold(0u64, |sum, size| sum.saturating_add(*size)) > MOST_TREES {
            let (what, reason) = ("config".to_owned(), format!("its trees have more than {MOST_TREES} bytes"));
            return Err(rhost_export::cache::CacheFormatError::Broken { what, reason }.into());
        }
        let parts = mount.trees.iter().zip(&mount.config.trees);
        let parts = parts.map(|(blob, size)| self.part(blob, *size, MOST_TREE_BYTES, "tree"));
        let mut parts = stream::iter(parts.collect::<Vec<_>>()).buffered(PARALLEL);
        let mut reader = TreeReader::default();
        while let Some(lines) = parts.try_next().await? {
            reader = on_thread(move || {
                reader.read(&lines)?;
                Ok(reader)
            })
            .await?;
        }
        Ok(reader.finish()?.0)
    }

    /// Holds the instance that is to be replaced, alone; `None` where there is none.
    async fn claim(&self, key: &CacheMountKey, name: &str) -> Result<Option<CacheMount>, CacheFailure> {
        let ask = async || {
            let (store, key) = (self.store.clone(), key.clone());
            // None is made: what is killed now must not leave an empty one, of which a build would think that it had begun as it should.
            let none = |_: &std::path::Path| Err(CacheFailure::NoInstance);
            let claim = on_thread(move || store.claim_cache_mount(&key, CacheMountSharing::Locked, none));
            Ok::<_, CacheFailure>(match claim.await {
                Ok(CacheMountClaim::Held(mount)) => Ok(Some(mount)),
                Ok(CacheMountClaim::Busy { holder, .. }) => Err(holder),
                Err(CacheFailure::NoInstance) => Ok(None),
                Err(error) => return Err(error),
            })
        };
        let what = |who: &str| format!("waiting for {name}, which {who} has");
        let mut mount: Option<CacheMount> = wait(self.events, self.vertex, ask, what).await?;
        if let Some(mount) = &mut mount {
            mount.announce_import();
        }
        Ok(mount)
    }

    /// Lays one mount down.
    async fn stage(&self, mount: &Wanted, name: &str) -> Result<(Staged, ImportedMount), CacheFailure> {
        let entries = self.tree(mount).await?;
        let key = CacheMountKey::from_name(&mount.config.id, mount.config.base.as_deref())?;
        let old = self.claim(&key, name).await?;
        let (packs, merge) = (mount.config.packs.clone(), self.mode == ImportMode::Merge);
        let store = self.store.clone();
        let (old, plan, successor) = on_thread(move || {
            let (looked, successor) = match &old {
                Some(old) => (look(old)?, old.successor()?),
                None => {
                    let successor = store.new_cache_mount(&key)?;
                    (Looked::nothing(Root::open(successor.dir())?), successor)
                }
            };
            let plan = Plan::new(entries, &packs, looked, merge)?;
            let (wanted, free) = (plan.bytes(), free(&successor)?);
            if wanted > free {
                return Err(CacheFailure::NoRoom { wanted, free });
            }
            Ok((old, Arc::new(plan), successor))
        })
        .await?;
        let owners = if self.engine.options.single_id { OwnerPolicy::BestEffort } else { OwnerPolicy::Exact };
        let (send, mut receive) = tokio::sync::mpsc::channel::<(usize, Vec<u8>)>(2);
        let (laying, dir) = (plan.clone(), successor.dir());
        let lay = on_thread(move || {
            laying.lay(Root::open(&dir)?, owners, |number| match receive.blocking_recv() {
                Some((found, bytes)) if found == number => Ok(bytes),
                // Whoever fetches has an error to tell.
                _ => Err(CacheFailure::Stopped(String::new())),
            })
        });
        let fetch = async {
            let parts = plan.needed.iter().map(|number| async move {
                let (blob, size) = (&mount.packs[*number], mount.config.packs[*number].bytes);
                Ok::<_, CacheFailure>((*number, self.part(blob, size, MOST_PACK_BYTES, "pack").await?))
            });
            let mut parts = stream::iter(parts.collect::<Vec<_>>()).buffered(PARALLEL);
            let (started, mut bytes) = (Timestamp::now(), 0);
            while let Some((number, part)) = parts.try_next().await? {
                bytes += mount.packs[number].size;
                self.tell(name, bytes, started, false);
                if send.send((number, part)).await.is_err() {
                    break;
                }
            }
            drop(send);
            if bytes > 0 {
                self.tell(name, bytes, started, true);
            }
            Ok::<_, CacheFailure>(bytes)
        };
        let (laid, fetched_bytes) = tokio::join!(lay, fetch);
        let (fetched_bytes, laid) = (fetched_bytes?, laid?);
        let mut notes = Notes::default();
        for (number, blob) in mount.packs.iter().enumerate() {
            let key = pack_key(&plan.chunks[plan.starts[number]..plan.starts[number + 1]]);
            // A pack that was not looked into is only said to hold this.
            let found = plan.needed.binary_search(&number).is_ok().then_some((blob.digest, blob.size));
            let found: Option<(BlobDigest, u64)> = found.or_else(|| plan.old.notes.packs.get(&key).copied());
            notes.packs.extend(found.map(|found| (key, found)));
        }
        let imported = ImportedMount {
            id: shown_id(&mount.config.id).to_owned(),
            entries: laid.entries,
            bytes: plan.entries.iter().map(TreeEntry::size).sum(),
            kept: laid.linked,
            parts: mount.packs.len() as u64,
            fetched: plan.needed.len() as u64,
            fetched_bytes,
        };
        Ok((Staged { id: mount.config.id.clone(), old, successor, entries: plan, notes }, imported))
    }

    fn tell(&self, name: &str, current: u64, started: Timestamp, done: bool) {
        let (vertex, id) = (self.vertex, format!("fetching {name}").into());
        self.events.send(Event::Status { vertex, id, current, total: 0, started, at: Timestamp::now(), done });
    }
}

/// Those of `all` that are meant.
fn chosen(all: Vec<Wanted>, choice: &MountChoice) -> Result<Vec<Wanted>, BuildError> {
    let MountChoice::These(ids) = choice else { return Ok(all) };
    if let Some(unknown) = ids.iter().find(|wanted| !all.iter().any(|mount| means(wanted, &mount.config.id))) {
        let there = listed(all.iter().map(|mount| mount.config.id.as_str()));
        return Err(BuildError::new(Kind::Request, format!("the export has no cache mount `{unknown}`"))
            .hint(format!("it has {there}")));
    }
    Ok(all.into_iter().filter(|mount| ids.iter().any(|wanted| means(wanted, &mount.config.id))).collect())
}

fn free(successor: &CacheMountSuccessor) -> Result<u64, CacheFailure> {
    let dir = successor.dir();
    let found = rustix::fs::statvfs(&dir).map_err(|errno| rhost_rootfs::Error::Io {
        action: "ask for the free space of",
        path: dir,
        source: errno.into(),
    })?;
    Ok(found.f_bavail.saturating_mul(found.f_frsize))
}

/// Puts a mount in its place, and notes what its files are: their content is known, and nobody has it yet.
fn publish(staged: Staged) -> Result<(), CacheFailure> {
    let Staged { id, old, successor, entries: plan, mut notes } = staged;
    let mount = successor.publish(old, &id)?;
    let dir = mount.dir();
    // A later write must show in the times of what was written just now.
    std::thread::sleep(Settled::now(&dir).rest());
    let settled = Settled::now(&dir);
    let mut known: std::collections::HashMap<&[u8], &TreeEntry> =
        plan.old.entries.iter().map(|entry| (&entry.path[..], entry)).collect();
    known.extend(plan.entries.iter().map(|entry| (&entry.path[..], entry)));
    let root = Root::open(&dir)?;
    for found in scan(&root, &|_| Some(Vec::new()))? {
        let (file, entry) = (FileIdentity::new(&found.stat), known.get(&found.path[..]));
        let Some(entry) = entry.filter(|entry| settled.is_settled(&file) && entry.size() == found.stat.size) else {
            continue;
        };
        if let rhost_export::cache::Node::File(chunks) = &entry.node {
            notes.put(Known { file, xattrs: entry.xattrs.clone(), chunks: chunks.clone() });
        }
    }
    if let Err(error) = mount.set_notes(&notes.to_bytes()) {
        tracing::warn!(%error, "what is known of a cache mount is not noted");
    }
    Ok(())
}

impl std::fmt::Display for ImportedMount {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { id, entries, bytes, kept, parts, fetched, fetched_bytes } = self;
        let (all, came) = (human(*bytes), human(*fetched_bytes));
        write!(f, "{id}: {entries} files, {all}; fetched {fetched} of {parts} packs, {came}; {kept} files were there")
    }
}
