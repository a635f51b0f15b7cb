//! Exporting: look at the chosen instances, cut their chunks into packs, send the packs that the destination lacks.
//!
//! A pack whose blob is known (it was made or fetched before) and that the destination has costs nothing but a question. All others are read again and compressed, which gives the same bytes. A file
//! that is written to between look and reading is found out by its chunks' names: then the instance is looked at anew.
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use jiff::Timestamp;
use rhost_export::cache::{
    CachePlace, Config, MountConfig, PackConfig, Sequenced, cut_packs, pack, pack_key, pack_target, sequence,
    tree_segments, write_entries,
};
use rhost_llb::{BlobDigest, Digest, VertexDigest};
use rhost_registry::Error as RegistryError;
use rhost_store::{CacheMount, CacheMountInfo, CacheMountReading, human};

use super::destination::Destination;
use super::look::{Looked, look, read_chunks, shown};
use super::{CacheFailure, listed, means, on_thread, say, shown_id, title, wait};
use crate::blame;
use crate::engine::Engine;
use crate::error::{BuildError, Kind};
use crate::event::{Event, Events};

/// How often instances are looked at anew because files in them changed meanwhile.
const TRIES: usize = 5;

/// Which mounts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MountChoice {
    /// All that have an id.
    All,
    /// These ids, as a build file writes them.
    These(Vec<String>),
}

/// What became of one mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExportedMount {
    /// As a build file writes it.
    pub id: String,
    /// Things in it.
    pub entries: u64,
    /// Bytes of its files.
    pub bytes: u64,
    /// Packs and trees that it consists of.
    pub parts: u64,
    /// Of these, how many were sent.
    pub sent: u64,
    /// And their bytes.
    pub sent_bytes: u64,
}

/// A mount that is being exported.
struct Mount {
    id: String,
    base: Option<String>,
    held: CacheMount,
    looked: Arc<Looked>,
    chunks: Arc<Vec<Sequenced>>,
}

/// A part on its way to the destination.
struct Part {
    mount: usize,
    /// Of a pack.
    key: Option<[u8; 32]>,
    digest: BlobDigest,
    size: u64,
    /// `None`: the destination has it.
    bytes: Option<Bytes>,
}

/// What a part is made from.
enum Piece {
    Tree(std::ops::Range<usize>),
    Pack(std::ops::Range<usize>),
}

impl Engine {
    /// Exports cache mounts to `place`. Returns what the export is called, and what became of each mount.
    ///
    /// # Errors
    /// An id that is not there; a place that cannot be written; the store, the registry.
    pub async fn export_cache(
        &self,
        choice: &MountChoice,
        place: &CachePlace,
        events: &Events,
    ) -> Result<(String, Vec<ExportedMount>), BuildError> {
        let chosen = self.choose(choice, events)?;
        let destination = Destination::open(self, place).await?;
        let name = format!("exporting {} to {place}", listed(chosen.iter().filter_map(|info| info.id.as_deref())));
        events
            .step(&name, |vertex| async move {
                let mut mounts = Vec::new();
                for info in chosen {
                    if let Some(mount) = self.open_mount(&info, events, vertex).await? {
                        mounts.push(mount);
                    }
                }
                let mut export = Export { destination: &destination, events, vertex, mounts };
                let done = export.run().await;
                let done = done.map_err(|error| error.into_error(&format!("exporting to `{place}`")))?;
                for mount in &done.1 {
                    say(events, vertex, &mount.to_string());
                }
                Ok(done)
            })
            .await
    }

    /// The instances that are meant: of several with one key the one that was used last.
    fn choose(&self, choice: &MountChoice, events: &Events) -> Result<Vec<CacheMountInfo>, BuildError> {
        let all = self.store.cache_mounts().map_err(|error| blame::store(&error))?;
        let nameless = all.iter().filter(|info| info.id.is_none()).count();
        if nameless > 0 && *choice == MountChoice::All {
            let message = format!(
                "{nameless} cache mounts whose ids were lost with the store's records are left out; a build that uses one tells its id"
            );
            events.send(Event::Warning { vertex: None, message: message.into() });
        }
        if let MountChoice::These(ids) = choice {
            let known = |wanted: &&String| all.iter().any(|info| info.id.as_ref().is_some_and(|id| means(wanted, id)));
            if let Some(unknown) = ids.iter().find(|id| !known(id)) {
                let message = format!("there is no cache mount `{unknown}`");
                let there = listed(all.iter().filter_map(|info| info.id.as_deref()));
                let hint = if there.is_empty() {
                    "no build has made one yet".to_owned()
                } else {
                    format!("there are {there}")
                };
                return Err(BuildError::new(Kind::Request, message).hint(hint));
            }
        }
        let mut chosen: BTreeMap<(String, Option<String>), CacheMountInfo> = BTreeMap::new();
        for info in all {
            let Some(id) = info.id.clone() else { continue };
            let wanted = match choice {
                MountChoice::All => true,
                MountChoice::These(ids) => ids.iter().any(|wanted| means(wanted, &id)),
            };
            if !wanted {
                continue;
            }
            let key = (id, info.base.clone());
            if chosen.get(&key).is_none_or(|other| other.last_used < info.last_used) {
                chosen.insert(key, info);
            }
        }
        if chosen.is_empty() {
            return Err(BuildError::new(Kind::Request, "there are no cache mounts to export")
                .hint("`RUN --mount=type=cache,target=DIR` makes one"));
        }
        Ok(chosen.into_values().collect())
    }

    /// Holds and looks at an instance; `None` where it went away meanwhile.
    async fn open_mount(
        &self,
        info: &CacheMountInfo,
        events: &Events,
        vertex: VertexDigest,
    ) -> Result<Option<Mount>, BuildError> {
        let id = info.id.clone().unwrap_or_default();
        let what = title(&id, info.base.as_deref());
        let ask = async || {
            let (store, name) = (self.store.clone(), info.name.clone());
            let answer = on_thread(move || Ok(store.read_cache_mount(&name)?)).await?;
            Ok::<_, CacheFailure>(match answer {
                CacheMountReading::Held(mount) => Ok(Some(mount)),
                CacheMountReading::Gone => Ok(None),
                CacheMountReading::Busy { holder } => Err(holder),
            })
        };
        let held = wait(events, vertex, ask, |who| format!("waiting for {what}, which {who} has")).await;
        let opened = match held {
            Ok(None) => return Ok(None),
            Ok(Some(held)) => on_thread(move || look(&held).map(|looked| (held, looked))).await,
            Err(error) => Err(error),
        };
        let (held, looked) = opened.map_err(|error| error.into_error(&what))?;
        if looked.left_out > 0 {
            let message = format!("{what}: {} devices and sockets are left out; they do not travel", looked.left_out);
            events.send(Event::Warning { vertex: Some(vertex), message: message.into() });
        }
        let chunks = Arc::new(sequence(&looked.entries));
        Ok(Some(Mount { id, base: info.base.clone(), held, looked: Arc::new(looked), chunks }))
    }
}

/// An export that runs.
struct Export<'a> {
    destination: &'a Destination,
    events: &'a Events,
    vertex: VertexDigest,
    mounts: Vec<Mount>,
}

impl Export<'_> {
    async fn run(&mut self) -> Result<(String, Vec<ExportedMount>), CacheFailure> {
        let mut tries = 0;
        loop {
            tries += 1;
            match self.send().await {
                Ok(sent) => {
                    match self.destination.finish(&sent.config.artifact(&sent.layers)?, sent.layers.len()).await {
                        // A part of the export before has gone from the registry: all are asked for, once.
                        Err(CacheFailure::Registry(RegistryError::Refused { .. } | RegistryError::NotFound { .. }))
                            if self.destination.doubt() => {}
                        Err(error) => return Err(error),
                        Ok(name) => {
                            self.note(&sent).await;
                            return Ok((name, sent.mounts));
                        }
                    }
                }
                Err((Some(changed), _)) if tries < TRIES => self.look_again(changed).await?,
                Err((_, error)) => return Err(error),
            }
        }
    }

    /// Looks anew at a mount of which a file changed.
    async fn look_again(&mut self, number: usize) -> Result<(), CacheFailure> {
        let mount = self.mounts.remove(number);
        let (held, looked) = on_thread(move || look(&mount.held).map(|looked| (mount.held, looked))).await?;
        let chunks = Arc::new(sequence(&looked.entries));
        let again = Mount { id: mount.id, base: mount.base, held, looked: Arc::new(looked), chunks };
        self.mounts.insert(number, again);
        Ok(())
    }

    /// Sends all parts. An error has the number of the mount of which a file changed, where that is the cause.
    async fn send(&self) -> Result<Sent, (Option<usize>, CacheFailure)> {
        let total: u64 = self.mounts.iter().flat_map(|mount| mount.chunks.iter()).map(|c| u64::from(c.chunk.len)).sum();
        let target = pack_target(total);
        let (mut pieces, mut sent) = (Vec::new(), Sent::default());
        let mut configs = Vec::new();
        for (number, mount) in self.mounts.iter().enumerate() {
            let trees = tree_segments(&mount.looked.entries);
            let bytes = mount.looked.entries.iter().map(rhost_export::cache::TreeEntry::size).sum();
            let mut config = MountConfig {
                id: mount.id.clone(),
                base: mount.base.clone(),
                entries: mount.looked.entries.len() as u64,
                bytes,
                trees: vec![0; trees.len()],
                packs: Vec::new(),
            };
            pieces.extend(trees.into_iter().map(|range| (number, Piece::Tree(range))));
            let mut from = 0;
            for count in cut_packs(&mount.chunks, target) {
                let chunks = &mount.chunks[from..from + count];
                let bytes = chunks.iter().map(|c| u64::from(c.chunk.len)).sum();
                config.packs.push(PackConfig { bytes, chunks: count as u64 });
                pieces.push((number, Piece::Pack(from..from + count)));
                from += count;
            }
            sent.mounts.push(ExportedMount {
                id: shown_id(&mount.id).to_owned(),
                entries: config.entries,
                bytes: config.bytes,
                parts: (config.trees.len() + config.packs.len()) as u64,
                sent: 0,
                sent_bytes: 0,
            });
            configs.push(config);
        }
        let all = pieces.len();
        let started = Timestamp::now();
        let mut trees_seen = vec![0; self.mounts.len()];
        let threads = rhost_rootfs::processors();
        let made = stream::iter(pieces).map(|(number, piece)| self.make(number, piece)).buffered(threads.min(8) + 1);
        let put = made.map_ok(|(part, unpacked)| async move {
            let new = match part.bytes.clone() {
                None => false,
                Some(bytes) => self.destination.put(part.digest, bytes).await.map_err(|error| (None, error))?,
            };
            Ok((Part { bytes: None, ..part }, unpacked, new))
        });
        let mut put = std::pin::pin!(put.try_buffered(self.destination.at_once()));
        while let Some((part, unpacked, new)) = put.try_next().await? {
            sent.layers.push((part.digest, part.size));
            let mount = &mut sent.mounts[part.mount];
            if new {
                mount.sent += 1;
                mount.sent_bytes += part.size;
            }
            match part.key {
                Some(key) => drop(sent.packs.insert((part.mount, key), (part.digest, part.size))),
                None => {
                    configs[part.mount].trees[trees_seen[part.mount]] = unpacked;
                    trees_seen[part.mount] += 1;
                }
            }
            let (vertex, done) = (self.vertex, sent.layers.len() == all);
            let current = sent.mounts.iter().map(|mount| mount.sent_bytes).sum();
            if new || done {
                let (id, at) = ("sent".into(), Timestamp::now());
                self.events.send(Event::Status { vertex, id, current, total: 0, started, at, done });
            }
        }
        sent.config = Config::new(configs);
        Ok(sent)
    }

    /// Makes one part, or finds out that the destination has it. With how much a tree unpacks to.
    async fn make(&self, number: usize, piece: Piece) -> Result<(Part, u64), (Option<usize>, CacheFailure)> {
        let failed = |error| (None, error);
        let mount = &self.mounts[number];
        let (looked, chunks) = (mount.looked.clone(), mount.chunks.clone());
        let (key, made) = match piece {
            Piece::Tree(range) => {
                let made = on_thread(move || {
                    let lines = write_entries(&looked.entries[range])?;
                    compress(&lines).map(|(digest, bytes)| (digest, bytes, lines.len() as u64))
                });
                (None, made.await.map_err(failed)?)
            }
            Piece::Pack(range) => {
                let key = pack_key(&chunks[range.clone()]);
                if let Some(&(digest, size)) = looked.notes.packs.get(&key)
                    && self.destination.has(digest, size).await.map_err(failed)?
                {
                    return Ok((Part { mount: number, key: Some(key), digest, size, bytes: None }, 0));
                }
                let made = on_thread(move || {
                    let bytes = read_pack(&looked, &chunks[range])?;
                    compress(&bytes).map(|(digest, packed)| (digest, packed, 0))
                });
                let changed = |error| (matches!(error, CacheFailure::Changing { .. }).then_some(number), error);
                (Some(key), made.await.map_err(changed)?)
            }
        };
        let (digest, bytes, unpacked) = made;
        let size = bytes.len() as u64;
        Ok((Part { mount: number, key, digest, size, bytes: Some(bytes) }, unpacked))
    }

    /// Notes what was found out. It may be lost: a failure to note it is none of the export.
    async fn note(&self, sent: &Sent) {
        for (number, mount) in self.mounts.iter().enumerate() {
            let mut notes = mount.looked.notes.clone();
            let of_mount = sent.packs.iter().filter(|((of, _), _)| *of == number);
            notes.packs = of_mount.map(|((_, key), blob)| (*key, *blob)).collect();
            if !mount.looked.learnt && notes.packs == mount.looked.notes.packs {
                continue;
            }
            let bytes = notes.to_bytes();
            if let Err(error) = mount.held.set_notes(&bytes) {
                tracing::warn!(%error, "what is known of a cache mount is not noted");
            }
        }
    }
}

/// What was sent.
#[derive(Default)]
struct Sent {
    config: Config,
    layers: Vec<(BlobDigest, u64)>,
    mounts: Vec<ExportedMount>,
    /// By mount and key.
    packs: HashMap<(usize, [u8; 32]), (BlobDigest, u64)>,
}

fn compress(bytes: &[u8]) -> Result<(BlobDigest, Bytes), CacheFailure> {
    let packed = pack(bytes).map_err(|error| CacheFailure::Stopped(format!(": compressing: {error}")))?;
    Ok((BlobDigest(Digest::of(&packed)), packed.into()))
}

/// What a pack holds.
fn read_pack(looked: &Looked, chunks: &[Sequenced]) -> Result<Vec<u8>, CacheFailure> {
    let mut bytes = Vec::with_capacity(chunks.iter().map(|c| c.chunk.len as usize).sum());
    let follows = |a: &Sequenced, b: &Sequenced| a.entry == b.entry && a.offset + u64::from(a.chunk.len) == b.offset;
    for run in chunks.chunk_by(follows) {
        let (entry, first) = (run[0].entry, run[0].offset);
        let names: Vec<_> = run.iter().map(|c| c.chunk).collect();
        let (path, stat) = (&looked.entries[entry].path, &looked.stats[entry]);
        let read = read_chunks(&looked.root, path, stat, first, &names)?;
        bytes.extend(read.ok_or_else(|| CacheFailure::Changing { path: shown(path) })?);
    }
    Ok(bytes)
}

impl std::fmt::Display for ExportedMount {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { id, entries, bytes, parts, sent, sent_bytes } = self;
        write!(f, "{id}: {entries} files, {}; sent {sent} of {parts} parts, {}", human(*bytes), human(*sent_bytes))
    }
}
