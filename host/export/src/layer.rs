//! `Compressor`: tar streams into layer blobs, with diff id, digest and size computed in the one pass.
//!
//! One pool of threads serves all layers of all builds: it compresses blocks, whichever layer's they are. So one big layer uses every core, and so do many small
//! ones.
use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use rhost_llb::{BlobDigest, DiffId};

use crate::blobs::{BlobSink, BlobSource};
use crate::blocks::{BlockCache, BlockPlace};
use crate::compression::{Compression, LayerKind};
use crate::encoder::{LayerEncoder, Recipe};
use crate::error::ExportError;
use crate::pool::Pool;
use crate::spare::Spare;

/// A layer as a blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LayerBlob {
    /// Digest of the tar.
    pub diff_id: DiffId,
    /// Digest of the blob.
    pub digest: BlobDigest,
    /// Bytes of the blob.
    pub size: u64,
    /// How the blob is compressed.
    pub kind: LayerKind,
}

/// Writes a layer's tar to the stream it is given; an error of that stream must be passed on.
pub type TarProducer = Box<dyn FnOnce(&mut dyn Write) -> io::Result<()> + Send>;

/// A layer to be packed.
pub enum LayerSource {
    /// A new layer: writes its tar. Called once, on the thread that packs it.
    Tar(TarProducer),
    /// A layer that is a blob already, of a base image or of an earlier build.
    Blob(LayerBlob),
}

/// Stops packing from another thread. Clones share one state.
#[derive(Clone, Debug, Default)]
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    /// Not stopped.
    pub fn new() -> Self {
        Self::default()
    }

    /// Stops; packing returns [`ExportError::Cancelled`] within one block.
    pub fn stop(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether [`Stop::stop`] was called.
    pub fn is_stopped(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Compresses layers on a fixed number of threads. The bytes do not depend on that number.
pub struct Compressor {
    threads: NonZeroUsize,
    pool: Pool,
    blocks: Option<Arc<dyn BlockCache>>,
}

impl Compressor {
    /// A compressor that keeps `threads` cores busy.
    pub fn new(threads: NonZeroUsize) -> Self {
        Self { threads, pool: Pool::new(threads), blocks: None }
    }

    /// Takes blocks of layers that were packed before from `blocks`, and remembers new ones there. The bytes of layers do not depend on it.
    pub fn with_blocks(self, blocks: Arc<dyn BlockCache>) -> Self {
        Self { blocks: Some(blocks), ..self }
    }

    /// Packs `sources`, several at once, and answers in their order. New layers get `compression`. Existing blobs are
    /// passed on as they are; with `force` those of another kind are read from `blobs` and compressed anew.
    pub fn pack(
        &self,
        sources: Vec<LayerSource>,
        compression: Compression,
        force: bool,
        blobs: &dyn BlobSource,
        sink: &dyn BlobSink,
        stop: &Stop,
    ) -> Result<Vec<LayerBlob>, ExportError> {
        let mut done: Vec<Option<LayerBlob>> = vec![None; sources.len()];
        let mut todo = VecDeque::new();
        for (layer, source) in sources.into_iter().enumerate() {
            match source {
                LayerSource::Blob(blob) if !force || blob.kind == compression.kind() => done[layer] = Some(blob),
                source => todo.push_back((layer, source)),
            }
        }
        let packers = self.threads.get().min(todo.len());
        let todo = Mutex::new(todo);
        let results = Mutex::new(Vec::new());
        // A failing layer stops its siblings, not the caller's other work.
        let failed = AtomicBool::new(false);
        let halted = || stop.is_stopped() || failed.load(Ordering::Relaxed);
        thread::scope(|scope| {
            for _ in 0..packers {
                scope.spawn(|| {
                    while let Some((layer, source)) = lock(&todo).pop_front() {
                        let result = self.pack_one(layer, source, compression, blobs, sink, &halted);
                        if result.is_err() {
                            failed.store(true, Ordering::Relaxed);
                        }
                        lock(&results).push((layer, result));
                    }
                });
            }
        });
        let mut results = results.into_inner().unwrap_or_else(|e| e.into_inner());
        // The first real failure is the one to tell; `Cancelled` may only be its echo.
        results.sort_by_key(|(layer, result)| (matches!(result, Err(ExportError::Cancelled)), *layer));
        for (layer, result) in results {
            done[layer] = Some(result?);
        }
        Ok(done.into_iter().flatten().collect())
    }

    /// Compresses the tar that `produce` writes into `out`.
    pub fn compress(
        &self,
        produce: impl FnOnce(&mut dyn Write) -> io::Result<()>,
        compression: Compression,
        out: impl Write + Send,
        stop: &Stop,
    ) -> Result<LayerBlob, ExportError> {
        self.compress_layer(0, produce, compression, out, &|| stop.is_stopped()).map(|(layer, _)| layer)
    }

    fn pack_one(
        &self,
        layer: usize,
        source: LayerSource,
        compression: Compression,
        blobs: &dyn BlobSource,
        sink: &dyn BlobSink,
        halted: &dyn Fn() -> bool,
    ) -> Result<LayerBlob, ExportError> {
        if halted() {
            return Err(ExportError::Cancelled);
        }
        let write_error = |source| ExportError::WriteLayer { layer, source };
        let mut blob = sink.create().map_err(write_error)?;
        let ((packed, places), old) = match source {
            LayerSource::Tar(produce) => (self.compress_layer(layer, produce, compression, &mut *blob, halted)?, None),
            LayerSource::Blob(old) => {
                let read = |out: &mut dyn Write| {
                    let mut tar = decompressed(blobs.open(old.digest)?, old.kind)?;
                    io::copy(&mut tar, out).map(drop)
                };
                let packed =
                    self.compress_layer(layer, read, compression, &mut *blob, halted).map_err(|e| match e {
                        ExportError::ReadLayer { source, .. } => ExportError::ReadBlob { digest: old.digest, source },
                        other => other,
                    })?;
                (packed, Some(old))
            }
        };
        if let Some(old) = old
            && old.diff_id != packed.diff_id
        {
            return Err(ExportError::WrongDiffId { digest: old.digest, wanted: old.diff_id, found: packed.diff_id });
        }
        blob.commit(packed.digest, packed.size).map_err(write_error)?;
        if let (Some(blocks), false) = (&self.blocks, places.is_empty()) {
            blocks.remember(packed.digest, &places);
        }
        Ok(packed)
    }

    fn compress_layer(
        &self,
        layer: usize,
        produce: impl FnOnce(&mut dyn Write) -> io::Result<()>,
        compression: Compression,
        out: impl Write + Send,
        halted: &dyn Fn() -> bool,
    ) -> Result<(LayerBlob, Vec<BlockPlace>), ExportError> {
        let spare = Spare::new(self.pool.threads());
        let recipe = Recipe { compression, blocks: self.blocks.clone(), spare };
        thread::scope(|scope| {
            let mut encoder = LayerEncoder::new(scope, &self.pool, recipe, halted, out);
            let produced = produce(&mut encoder);
            let cancelled = encoder.cancelled;
            let encoded = encoder.finish(produced.is_ok() && !cancelled);
            if cancelled {
                return Err(ExportError::Cancelled);
            }
            // What went wrong below the producer is the cause of what the producer reports.
            let encoded = encoded.map_err(|e| e.of_layer(layer, compression.kind()))?;
            produced.map_err(|source| ExportError::ReadLayer { layer, source })?;
            let Some(encoded) = encoded else { return Err(ExportError::Cancelled) };
            let blob = LayerBlob {
                diff_id: DiffId(encoded.diff),
                digest: BlobDigest(encoded.digest),
                size: encoded.size,
                kind: compression.kind(),
            };
            Ok((blob, encoded.places))
        })
    }
}

/// The tar inside a layer blob.
pub(crate) fn decompressed(bytes: Box<dyn Read + Send>, kind: LayerKind) -> io::Result<Box<dyn Read + Send>> {
    Ok(match kind {
        LayerKind::Tar => bytes,
        LayerKind::Gzip => Box::new(flate2::read::MultiGzDecoder::new(bytes)),
        LayerKind::Zstd => Box::new(zstd::Decoder::new(bytes)?),
    })
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|e| e.into_inner())
}
