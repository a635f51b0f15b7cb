//! `Layers`: the layers of images that are recorded and not there yet: who offers them, and how they get there when somebody needs them.
//!
//! A `FROM` only records its layers. They are brought when a step mounts them or reads their files; an export needs their blobs and no
//! more. All layers of an image are fetched and unpacked at once, each while it downloads: a layer waits for those below it only where its tar refers
//! to them. What is laid down is what the image's config says: the diff id is compared before a layer gets its place.
use std::collections::HashMap;
use std::io::{BufReader, Read};
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use jiff::Timestamp;
use rhost_llb::{BlobDigest, DiffId, VertexDigest};
use rhost_registry::{BlobSink as _, Descriptor, ImageSource, Reference};
use rhost_rootfs::{Apply, Lowers, OwnerPolicy, Root, apply_layer, decompress};
use rhost_store::{BlobRecord, LayerWriter, SnapshotId, SnapshotInfo, Store};

use crate::arriving::Incoming;
use crate::event::{Event, Events};
use crate::images::Found;
use crate::once::Once;
use crate::op_error::{OpFailure, blocking};

/// Layers fetched and unpacked at once, as BuildKit and Docker fetch.
const PARALLEL: usize = 4;

/// Between two reports of one download.
const REPORT: Duration = Duration::from_millis(100);

/// Who has a layer.
struct Offer {
    /// The source whose progress it is.
    vertex: VertexDigest,
    /// Its name.
    name: Arc<str>,
    image: Reference,
    source: Arc<dyn ImageSource>,
    blob: Descriptor,
}

/// Brings layers of images, each once.
pub struct Layers {
    store: Store,
    owners: OwnerPolicy,
    events: Events,
    once: Arc<Once>,
    offers: Mutex<HashMap<DiffId, Arc<Offer>>>,
    /// Blobs that were found, and are in use.
    kept: Mutex<HashMap<DiffId, Vec<BlobRecord>>>,
    /// Layers being laid down in this process, by directory.
    busy: Mutex<HashMap<PathBuf, Weak<tokio::sync::Mutex<()>>>>,
    /// How many are at work for each source.
    at_work: Mutex<HashMap<VertexDigest, usize>>,
}

impl Layers {
    /// Lays layers down in `store`, and tells `events`.
    pub fn new(store: Store, owners: OwnerPolicy, events: Events, once: Arc<Once>) -> Self {
        Self {
            store,
            owners,
            events,
            once,
            offers: Mutex::default(),
            kept: Mutex::default(),
            busy: Mutex::default(),
            at_work: Mutex::default(),
        }
    }

    /// Remembers where the layers of `found` come from; `vertex`, which people know as `name`, is the source that resolved it.
    pub fn offer(&self, vertex: VertexDigest, name: &Arc<str>, found: &Found) {
        let mut offers = self.offers.lock().unwrap_or_else(PoisonError::into_inner);
        for (blob, diff_id) in found.image.layers.iter().zip(&found.image.diff_ids) {
            offers.entry(*diff_id).or_insert_with(|| {
                let (image, source) = (found.image.reference.clone(), found.source.clone());
                Arc::new(Offer { vertex, name: name.clone(), image, source, blob: blob.clone() })
            });
        }
    }

    fn offered(&self, diff_id: &DiffId) -> Option<Arc<Offer>> {
        self.offers.lock().unwrap_or_else(PoisonError::into_inner).get(diff_id).cloned()
    }

    /// Which repository each layer was offered from, by blob.
    pub fn homes(&self) -> Vec<(BlobDigest, Reference)> {
        let offers = self.offers.lock().unwrap_or_else(PoisonError::into_inner);
        offers.values().map(|offer| (offer.blob.digest, offer.image.clone())).collect()
    }

    /// Whether the layer of `info` is there, or could be.
    pub fn is_obtainable(&self, info: &SnapshotInfo) -> bool {
        info.is_present()
            || info.diff_id.is_some_and(|diff_id| {
                self.offered(&diff_id).is_some() || self.store.blobs_of(&diff_id).is_ok_and(|blobs| !blobs.is_empty())
            })
    }

    /// The blob of layer `diff_id` for an export: one that is known to hold it, else the one that its image names.
    ///
    /// # Errors
    /// The store.
    pub fn blobs(&self, diff_id: &DiffId) -> Result<Vec<BlobRecord>, OpFailure> {
        if let Some(kept) = self.kept().get(diff_id) {
            return Ok(kept.clone());
        }
        let blobs = self.store.blobs_of(diff_id)?;
        self.with_offered(diff_id, blobs)
    }

    /// As [`Layers::blobs`], asked for all of `records` at once and remembered: what was found is in use until the build ends.
    fn look_for_blobs(&self, records: &[SnapshotInfo]) -> Result<(), OpFailure> {
        let unknown = |diff_id: &DiffId| !self.kept().contains_key(diff_id);
        let diff_ids: Vec<DiffId> = records.iter().filter_map(|info| info.diff_id).filter(unknown).collect();
        for (diff_id, blobs) in diff_ids.iter().zip(self.store.blobs_of_all(&diff_ids)?) {
            let blobs = self.with_offered(diff_id, blobs)?;
            if !blobs.is_empty() {
                self.kept().insert(*diff_id, blobs);
            }
        }
        Ok(())
    }

    fn kept(&self) -> MutexGuard<'_, HashMap<DiffId, Vec<BlobRecord>>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn with_offered(&self, diff_id: &DiffId, mut blobs: Vec<BlobRecord>) -> Result<Vec<BlobRecord>, OpFailure> {
        if blobs.is_empty()
            && let Some(offer) = self.offered(diff_id)
            && self.store.keep_blob(&offer.blob.digest)? == Some(offer.blob.size)
        {
            blobs.push(record(&offer.blob));
        }
        Ok(blobs)
    }

    /// Brings the blobs of `id`'s layers that an image offers.
    ///
    /// # Errors
    /// The registry, the disk.
    pub async fn fetch(&self, id: SnapshotId) -> Result<(), OpFailure> {
        let records = self.store.records(id)?.ok_or(rhost_store::Error::NoSnapshot { id: id.0 })?;
        self.look_for_blobs(&records)?;
        let mut wanted: Vec<Arc<Offer>> = Vec::new();
        for diff_id in records.iter().rev().filter_map(|info| info.diff_id) {
            if self.blobs(&diff_id)?.is_empty() {
                wanted.extend(self.offered(&diff_id));
            }
        }
        let fetches: Vec<_> = wanted.iter().map(|offer| self.fetch_one(offer)).collect();
        let work = stream::iter(fetches).buffered(PARALLEL).try_for_each(|()| async { Ok(()) });
        match wanted.first() {
            Some(offer) => self.shift(offer).end(work.await),
            None => work.await,
        }
    }

    /// The blob of `offer`, unless another process has brought it meanwhile.
    async fn fetch_one(&self, offer: &Offer) -> Result<(), OpFailure> {
        let _alone = self.once.lead(&format!("blob {}", offer.blob.digest)).await;
        if self.store.keep_blob(&offer.blob.digest)? == Some(offer.blob.size) {
            return Ok(());
        }
        self.download(offer, |_| Ok(())).await
    }

    /// The snapshot that the layer of `id` was written on.
    ///
    /// # Errors
    /// The store.
    pub fn written_on(&self, id: SnapshotId) -> Result<Option<SnapshotId>, OpFailure> {
        let origin = self.store.origin(id)?;
        Ok(self.store.record(origin)?.and_then(|info| info.parent))
    }

    /// Brings what the layers of `id` that are no blobs yet were written on: their tars are made against it.
    ///
    /// # Errors
    /// As [`Layers::lay_down`].
    pub async fn bring_below_new(self: &Arc<Self>, id: SnapshotId) -> Result<(), OpFailure> {
        let records = self.store.records(id)?.ok_or(rhost_store::Error::NoSnapshot { id: id.0 })?;
        for info in records {
            let is_blob = info.diff_id.map(|diff_id| self.blobs(&diff_id)).transpose()?.is_some_and(|b| !b.is_empty());
            if !is_blob && let Some(below) = self.written_on(info.id)? {
                self.lay_down(below).await?;
            }
        }
        Ok(())
    }

    /// Brings the layers of `id` and all that they were written on, so that each can be packed anew.
    ///
    /// # Errors
    /// As [`Layers::lay_down`].
    pub async fn bring_to_pack(self: &Arc<Self>, id: SnapshotId) -> Result<(), OpFailure> {
        self.lay_down(id).await?;
        for info in self.store.records(id)?.ok_or(rhost_store::Error::NoSnapshot { id: id.0 })? {
            if let Some(below) = self.written_on(info.id)?.filter(|below| Some(*below) != info.parent) {
                self.lay_down(below).await?;
            }
        }
        Ok(())
    }

    /// The source of `offer` is at work again, though it was done when it had recorded its layers.
    fn shift(&self, offer: &Offer) -> Shift<'_> {
        let mut at_work = self.at_work.lock().unwrap_or_else(PoisonError::into_inner);
        let count = at_work.entry(offer.vertex).or_default();
        *count += 1;
        let (vertex, name) = (offer.vertex, offer.name.clone());
        if *count == 1 {
            self.events.send(Event::Started { vertex, name: name.clone(), inputs: Vec::new(), at: Timestamp::now() });
        }
        Shift { layers: self, vertex, name, error: None }
    }

    /// Downloads the blob of `offer` to the store. `begun` may follow it from the first byte on.
    async fn download(
        &self,
        offer: &Offer,
        begun: impl FnOnce(&Incoming) -> std::io::Result<()>,
    ) -> Result<(), OpFailure> {
        let digest = offer.blob.digest;
        let local =
            |source: std::io::Error| rhost_registry::Error::Local { action: "write", digest, source: Arc::new(source) };
        let mut report = Report::new(&self.events, offer.vertex, &digest.to_string(), offer.blob.size);
        report.at(0, false);
        let (started, events) = (report.started, self.events.clone());
        let mut incoming = Incoming::new(&self.store, digest, move |bytes| report.at(bytes, false)).map_err(local)?;
        begun(&incoming).map_err(local)?;
        offer.source.blob(&offer.image, &offer.blob, &mut incoming).await?;
        Box::new(incoming).commit().await.map_err(local)?;
        let mut report = Report { started, ..Report::new(&events, offer.vertex, &digest.to_string(), offer.blob.size) };
        report.at(offer.blob.size, true);
        Ok(())
    }

    /// Brings all of `id` that is not there.
    ///
    /// # Errors
    /// The registry, a layer that is not what its image says, the disk.
    pub async fn lay_down(self: &Arc<Self>, id: SnapshotId) -> Result<(), OpFailure> {
        if self.store.is_standing(id) {
            return Ok(());
        }
        let gone = || OpFailure::from(rhost_store::Error::NoSnapshot { id: id.0 });
        let records = self.store.records(id)?.ok_or_else(gone)?;
        for info in &records {
            if !info.is_present() {
                // Those below may be layers of the same image: they come with it.
                self.lay_down_image(self.store.origin(info.id)?).await?;
                if !info.is_present() {
                    return Err(gone());
                }
            }
        }
        if records.iter().any(SnapshotInfo::is_unfit) || self.store.wants_flat(&records)?.is_some() {
            let this = self.clone();
            blocking(move || this.make_mountable(&records)).await?;
        }
        Ok(())
    }

    /// Makes second forms of the layers in `records` (topmost first) where overlayfs cannot take them as they are.
    fn make_mountable(&self, records: &[SnapshotInfo]) -> Result<(), OpFailure> {
        for (at, info) in records.iter().enumerate().rev().filter(|(_, info)| info.is_unfit()) {
            self.flatten(&records[at + 1..])?;
            self.fit(info)?;
        }
        self.flatten(records)
    }

    /// Makes the lower part of the chain `records` one directory where it is too long.
    fn flatten(&self, records: &[SnapshotInfo]) -> Result<(), OpFailure> {
        let Some(id) = self.store.wants_flat(records)? else { return Ok(()) };
        let (xattrs, owners) = (self.store.options().overlay, self.owners);
        self.store.flatten(id, |out, layers| {
            let out = Root::open(out)?;
            for layer in layers {
                rhost_rootfs::flatten_layer(&Root::open(layer)?, &out, xattrs, owners)?;
            }
            Ok(())
        })
    }

    /// Makes the layer of `info`, which stands on other layers than it was written on, fit for them. What is below it is.
    fn fit(&self, info: &SnapshotInfo) -> Result<(), OpFailure> {
        let below = match info.parent {
            Some(parent) => {
                let spec = self.store.mount(parent)?.ok_or(rhost_store::Error::NoSnapshot { id: parent.0 })?;
                Some(crate::overlay::open(&spec).map_err(OpFailure::overlay)?)
            }
            None => None,
        };
        let (layer, xattrs) = (Root::open(&info.dir)?, self.store.options().overlay);
        self.store.fit(info.id, |out| {
            Ok(rhost_rootfs::fit_layer(&layer, below.as_ref(), &Root::open(out)?, xattrs, self.owners)?)
        })
    }

    async fn lay_down_image(self: &Arc<Self>, id: SnapshotId) -> Result<(), OpFailure> {
        let records = self.store.records(id)?.ok_or(rhost_store::Error::NoSnapshot { id: id.0 })?;
        let stack = Arc::new(Stack::new(records.into_iter().rev().collect()));
        // In order: a layer waits only for those that were begun before it.
        let all = (0..stack.layers.len()).map(|index| self.clone().lay_one(stack.clone(), index));
        let work = stream::iter(all).buffered(PARALLEL).try_for_each(|()| async { Ok(()) });
        let absent = stack.layers.iter().filter(|info| !info.is_present());
        match absent.filter_map(|info| info.diff_id).find_map(|diff_id| self.offered(&diff_id)) {
            Some(offer) => self.shift(&offer).end(work.await),
            None => work.await,
        }
    }

    async fn lay_one(self: Arc<Self>, stack: Arc<Stack>, index: usize) -> Result<(), OpFailure> {
        let info = stack.layers[index].clone();
        let turn = Turn { stack: stack.clone(), index };
        if info.is_present() {
            turn.done();
            return Ok(());
        }
        let mutex = self.busy(&info.dir);
        let _here = mutex.lock().await;
        let _everywhere = self.once.lead(&format!("layer {}", info.dir.display())).await;
        if !info.is_present() {
            self.bring(&stack, index).await?;
        }
        turn.done();
        Ok(())
    }

    fn busy(&self, dir: &PathBuf) -> Arc<tokio::sync::Mutex<()>> {
        let mut busy = self.busy.lock().unwrap_or_else(PoisonError::into_inner);
        busy.retain(|_, mutex| mutex.strong_count() > 0);
        let slot = busy.entry(dir.clone()).or_default();
        slot.upgrade().unwrap_or_else(|| {
            let mutex = Arc::default();
            *slot = Arc::downgrade(&mutex);
            mutex
        })
    }

    /// From a blob of the store, else from who offers it.
    async fn bring(self: &Arc<Self>, stack: &Arc<Stack>, index: usize) -> Result<(), OpFailure> {
        let info = &stack.layers[index];
        let gone = || OpFailure::from(rhost_store::Error::NoSnapshot { id: info.id.0 });
        let diff_id = info.diff_id.ok_or_else(gone)?;
        let offer = self.offered(&diff_id);
        for blob in self.blobs(&diff_id)? {
            match self.unpack_stored(stack, index, &blob, offer.clone()).await {
                Ok(()) => return Ok(()),
                Err(error) if is_damage(&error) => {
                    tracing::warn!(%error, digest = %blob.digest, "a stored layer is damaged; removed");
                    self.store.remove_blob(&blob.digest)?;
                    if offer.is_none() {
                        return Err(error);
                    }
                }
                Err(error) => return Err(error),
            }
        }
        let offer = offer.ok_or_else(gone)?;
        let (sender, receiver) = tokio::sync::oneshot::channel();
        let download = self.download(&offer, |incoming| {
            let _ = sender.send(incoming.reader()?);
            Ok(())
        });
        let unpack = async {
            // Dropped where the download could not even begin; its error is the one to tell.
            let Ok(reader) = receiver.await else { return Ok(None) };
            let (this, stack, offer) = (self.clone(), stack.clone(), offer.clone());
            let work = blocking(move || Ok(this.unpack(&stack, index, reader, &record(&offer.blob), Some(&offer))));
            work.await.map(Some)
        };
        let (downloaded, unpacked) = tokio::join!(download, unpack);
        downloaded?;
        match unpacked? {
            Some(Ok(writer)) => self.publish(writer, diff_id, record(&offer.blob)).await,
            // The bytes are right as a whole: what was read came from a source that had to begin again, or the layer is broken.
            Some(Err(error)) if !is_damage(&error) => Err(error),
            _ => self.unpack_stored(stack, index, &record(&offer.blob), Some(offer)).await,
        }
    }

    async fn unpack_stored(
        self: &Arc<Self>,
        stack: &Arc<Stack>,
        index: usize,
        blob: &BlobRecord,
        offer: Option<Arc<Offer>>,
    ) -> Result<(), OpFailure> {
        let (this, stack, blob) = (self.clone(), stack.clone(), blob.clone());
        let writer = blocking(move || {
            let file = this.store.open_blob(&blob.digest)?;
            let file = file.ok_or_else(|| rhost_registry::Error::NotFound {
                registry: "the store".into(),
                what: format!("layer {}", blob.digest),
            })?;
            let writer = this.unpack(&stack, index, file, &blob, offer.as_deref())?;
            Ok((writer, stack.layers[index].diff_id, blob))
        });
        let (writer, diff_id, blob) = writer.await?;
        match diff_id {
            Some(diff_id) => self.publish(writer, diff_id, blob).await,
            None => Ok(()),
        }
    }

    async fn publish(&self, writer: LayerWriter, diff_id: DiffId, blob: BlobRecord) -> Result<(), OpFailure> {
        let store = self.store.clone();
        blocking(move || {
            store.link_blob(&diff_id, &blob)?;
            Ok(writer.publish()?)
        })
        .await
    }

    fn unpack(
        &self,
        stack: &Stack,
        index: usize,
        blob: impl Read + Send,
        record: &BlobRecord,
        offer: Option<&Offer>,
    ) -> Result<LayerWriter, OpFailure> {
        let info = &stack.layers[index];
        let writer = self.store.lay_down(info.id)?;
        let mut report =
            offer.map(|offer| Report::new(&self.events, offer.vertex, &format!("extracting {}", record.digest), 0));
        if let Some(report) = &mut report {
            report.at(0, false);
        }
        let (_, tar) = decompress(BufReader::with_capacity(1 << 18, blob))?;
        let below = || stack.below(index);
        let options =
            Apply { xattrs: self.store.options().overlay, owners: self.owners, lowers: Lowers::Later(&below) };
        let applied = apply_layer(&Root::open(writer.dir())?, tar, options)?;
        match info.diff_id {
            Some(wanted) if wanted != applied.diff_id => {
                let image = offer.map_or_else(|| "the store".to_owned(), |offer| offer.image.to_string());
                Err(OpFailure::WrongDiffId { image, digest: record.digest, wanted, found: applied.diff_id })
            }
            _ => {
                if let Some(report) = &mut report {
                    report.at(0, true);
                }
                Ok(writer)
            }
        }
    }
}

fn record(blob: &Descriptor) -> BlobRecord {
    BlobRecord { digest: blob.digest, size: blob.size, media_type: blob.media_type.clone() }
}

/// Whether a stored blob does not hold the layer that it should.
fn is_damage(error: &OpFailure) -> bool {
    use rhost_rootfs::Error;
    match error {
        OpFailure::WrongDiffId { .. } => true,
        OpFailure::Files(error) => {
            !error.is_no_space()
                && matches!(error, Error::BadArchive { .. } | Error::BadEntry { .. } | Error::Stream { .. })
        }
        _ => false,
    }
}

/// The layers of one image, the base first, and how far each is.
struct Stack {
    layers: Vec<SnapshotInfo>,
    /// `Some(true)`: there. `Some(false)`: will not come.
    done: Mutex<Vec<Option<bool>>>,
    moved: Condvar,
}

impl Stack {
    fn new(layers: Vec<SnapshotInfo>) -> Self {
        let done = Mutex::new(vec![None; layers.len()]);
        Self { layers, done, moved: Condvar::new() }
    }

    /// Waits for the layers below `index`, and opens them, topmost first.
    fn below(&self, index: usize) -> rhost_rootfs::Result<Vec<Root>> {
        let mut done = self.done.lock().unwrap_or_else(PoisonError::into_inner);
        while !done[..index].iter().all(|done| *done == Some(true)) {
            if done[..index].contains(&Some(false)) {
                let source = std::io::Error::other("it could not be laid down");
                return Err(rhost_rootfs::Error::Io { action: "open", path: "the layer below".into(), source });
            }
            done = self.moved.wait(done).unwrap_or_else(PoisonError::into_inner);
        }
        drop(done);
        self.layers[..index].iter().rev().map(|info| Root::open(&info.dir)).collect()
    }

    fn set(&self, index: usize, there: bool) {
        let mut done = self.done.lock().unwrap_or_else(PoisonError::into_inner);
        done[index].get_or_insert(there);
        self.moved.notify_all();
    }
}

/// One layer's turn: however it ends, those above hear of it.
struct Turn {
    stack: Arc<Stack>,
    index: usize,
}

impl Turn {
    fn done(&self) {
        self.stack.set(self.index, true);
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.stack.set(self.index, false);
    }
}

/// Work for a source while it lasts: the first begins it, the last ends it.
struct Shift<'a> {
    layers: &'a Layers,
    vertex: VertexDigest,
    name: Arc<str>,
    error: Option<Arc<str>>,
}

impl Shift<'_> {
    fn end<T>(mut self, answer: Result<T, OpFailure>) -> Result<T, OpFailure> {
        self.error = answer.as_ref().err().map(|error| error.to_string().into());
        answer
    }
}

impl Drop for Shift<'_> {
    fn drop(&mut self) {
        let mut at_work = self.layers.at_work.lock().unwrap_or_else(PoisonError::into_inner);
        let left = at_work.get_mut(&self.vertex).map_or(0, |count| {
            *count = count.saturating_sub(1);
            *count
        });
        if left == 0 {
            let (vertex, name) = (self.vertex, self.name.clone());
            let error = self.error.take();
            self.layers.events.send(Event::Completed { vertex, name, at: Timestamp::now(), cached: false, error });
        }
    }
}

/// Reports of one part of a vertex's work, not too many.
struct Report {
    events: Events,
    vertex: VertexDigest,
    id: Arc<str>,
    total: u64,
    started: Timestamp,
    last: Option<Instant>,
}

impl Report {
    fn new(events: &Events, vertex: VertexDigest, id: &str, total: u64) -> Self {
        Self { events: events.clone(), vertex, id: id.into(), total, started: Timestamp::now(), last: None }
    }

    fn at(&mut self, current: u64, done: bool) {
        if done || self.last.is_none_or(|last| last.elapsed() >= REPORT) {
            self.last = Some(Instant::now());
            let (vertex, id, total, started) = (self.vertex, self.id.clone(), self.total, self.started);
            self.events.send(Event::Status { vertex, id, current, total, started, at: Timestamp::now(), done });
        }
    }
}
