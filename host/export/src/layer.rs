//! `Compressor`: tar streams into layer blobs, with diff id, digest and size computed in the one pass.
//!
//! One pool of threads serves all layers of all builds: a layer's own thread reads, hashes and writes, the pool
//! compresses blocks. So one big layer uses every core, and so do many small ones, without more threads than that.
use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex};
use std::thread;

use rhost_llb::{BlobDigest, DiffId, Hasher};

use crate::blobs::{BlobSink, BlobSource};
use crate::compression::{Compression, LayerKind};
use crate::error::ExportError;
use crate::gzip::{self, BLOCK};
use crate::pool::Pool;

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
}

impl Compressor {
    /// A compressor that keeps `threads` cores busy.
    pub fn new(threads: NonZeroUsize) -> Self {
        Self { threads, pool: Pool::new(threads) }
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
        out: impl Write,
        stop: &Stop,
    ) -> Result<LayerBlob, ExportError> {
        self.compress_layer(0, produce, compression, out, &|| stop.is_stopped())
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
        let (packed, old) = match source {
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
        Ok(packed)
    }

    fn compress_layer(
        &self,
        layer: usize,
        produce: impl FnOnce(&mut dyn Write) -> io::Result<()>,
        compression: Compression,
        out: impl Write,
        halted: &dyn Fn() -> bool,
    ) -> Result<LayerBlob, ExportError> {
        // A plain tar is hashed once: its digest is its diff id.
        let hasher = (compression != Compression::None).then(Hasher::new);
        let mut encoder = LayerEncoder {
            layer,
            halted,
            diff: Hasher::new(),
            block: Vec::with_capacity(BLOCK),
            coder: Coder::new(self, compression, HashingWriter { inner: out, hasher, size: 0 })
                .map_err(|source| ExportError::WriteLayer { layer, source })?,
            failure: None,
        };
        let produced = produce(&mut encoder);
        // What went wrong below the producer is the cause of what the producer reports.
        if let Some(failure) = encoder.failure {
            return Err(failure);
        }
        produced.map_err(|source| ExportError::ReadLayer { layer, source })?;
        let out = encoder.coder.finish(&encoder.block).map_err(|e| e.of_layer(layer, compression.kind()))?;
        let diff = encoder.diff.finish();
        Ok(LayerBlob {
            diff_id: DiffId(diff),
            digest: BlobDigest(out.hasher.map_or(diff, Hasher::finish)),
            size: out.size,
            kind: compression.kind(),
        })
    }
}

/// Cuts what a producer writes into blocks, hashes them and hands them to the coder.
struct LayerEncoder<'a, W: Write> {
    layer: usize,
    halted: &'a dyn Fn() -> bool,
    diff: Hasher,
    block: Vec<u8>,
    coder: Coder<'a, W>,
    failure: Option<ExportError>,
}

impl<W: Write> Write for LayerEncoder<'_, W> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let fail = |failure: &mut Option<ExportError>, error: ExportError| {
            let told = io::Error::other(error.to_string());
            failure.get_or_insert(error);
            Err(told)
        };
        if self.failure.is_some() || (self.halted)() {
            return fail(&mut self.failure, ExportError::Cancelled);
        }
        let taken = buffer.len().min(BLOCK - self.block.len());
        self.diff.update(&buffer[..taken]);
        self.block.extend_from_slice(&buffer[..taken]);
        if self.block.len() == BLOCK {
            let block = std::mem::replace(&mut self.block, Vec::with_capacity(BLOCK));
            if let Err(error) = self.coder.block(block) {
                return fail(&mut self.failure, error.of_layer(self.layer, self.coder.kind()));
            }
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Why a coder failed: its stream or its algorithm.
enum CodeError {
    Write(io::Error),
    Compress(String),
}

impl CodeError {
    fn of_layer(self, layer: usize, kind: LayerKind) -> ExportError {
        match self {
            Self::Write(source) => ExportError::WriteLayer { layer, source },
            Self::Compress(reason) => ExportError::Compress { layer, kind: kind.name(), reason },
        }
    }
}

impl From<io::Error> for CodeError {
    fn from(error: io::Error) -> Self {
        Self::Write(error)
    }
}

/// The three ways of writing a layer.
enum Coder<'a, W: Write> {
    Plain(HashingWriter<W>),
    Gzip(GzipCoder<'a, W>),
    Zstd(Box<zstd::Encoder<'static, HashingWriter<W>>>),
}

impl<'a, W: Write> Coder<'a, W> {
    fn new(compressor: &'a Compressor, compression: Compression, mut out: HashingWriter<W>) -> io::Result<Self> {
        Ok(match compression {
            Compression::None => Self::Plain(out),
            Compression::Gzip { level } => {
                out.write_all(&gzip::HEADER)?;
                Self::Gzip(GzipCoder {
                    compressor,
                    level,
                    out,
                    crc: flate2::Crc::new(),
                    size: 0,
                    before: Arc::default(),
                    pending: VecDeque::new(),
                })
            }
            Compression::Zstd { level } => {
                let mut encoder = zstd::Encoder::new(out, i32::from(level.clamp(1, 22)))?;
                // At least one worker: the bytes of zstd's threaded mode do not depend on their number, but differ
                // from those of its unthreaded mode.
                encoder.multithread(u32::try_from(compressor.threads.get()).unwrap_or(1))?;
                Self::Zstd(Box::new(encoder))
            }
        })
    }

    fn kind(&self) -> LayerKind {
        match self {
            Self::Plain(_) => LayerKind::Tar,
            Self::Gzip(_) => LayerKind::Gzip,
            Self::Zstd(_) => LayerKind::Zstd,
        }
    }

    /// Takes one full block.
    fn block(&mut self, block: Vec<u8>) -> Result<(), CodeError> {
        match self {
            Self::Plain(out) => Ok(out.write_all(&block)?),
            Self::Gzip(coder) => coder.block(block, false),
            Self::Zstd(encoder) => Ok(encoder.write_all(&block)?),
        }
    }

    /// Takes the last block, which may be empty, and ends the stream.
    fn finish(self, last: &[u8]) -> Result<HashingWriter<W>, CodeError> {
        let mut out = match self {
            Self::Plain(mut out) => {
                out.write_all(last)?;
                out
            }
            Self::Gzip(coder) => coder.finish(last)?,
            Self::Zstd(mut encoder) => {
                encoder.write_all(last)?;
                encoder.finish()?
            }
        };
        out.flush()?;
        Ok(out)
    }
}

/// Sends blocks to the pool and writes them in order, at most twice as many on the way as there are threads.
struct GzipCoder<'a, W> {
    compressor: &'a Compressor,
    level: u8,
    out: HashingWriter<W>,
    crc: flate2::Crc,
    size: u64,
    before: Arc<Vec<u8>>,
    pending: VecDeque<Receiver<Result<gzip::Block, String>>>,
}

impl<W: Write> GzipCoder<'_, W> {
    fn block(&mut self, block: Vec<u8>, last: bool) -> Result<(), CodeError> {
        while self.pending.len() >= self.compressor.threads.get() * 2 {
            self.write_next()?;
        }
        self.size += block.len() as u64;
        let block = Arc::new(block);
        let before = std::mem::replace(&mut self.before, Arc::clone(&block));
        let level = self.level;
        let work = move || gzip::compress_block(&before, &block, last, level);
        self.pending.push_back(self.compressor.pool.run(work));
        Ok(())
    }

    fn write_next(&mut self) -> Result<(), CodeError> {
        let Some(next) = self.pending.pop_front() else { return Ok(()) };
        let block = next.recv().map_err(|_| CodeError::Compress("the compressor stopped".to_owned()))?;
        let block = block.map_err(CodeError::Compress)?;
        self.out.write_all(&block.bytes)?;
        self.crc.combine(&block.crc);
        Ok(())
    }

    fn finish(mut self, last: &[u8]) -> Result<HashingWriter<W>, CodeError> {
        self.block(last.to_vec(), true)?;
        while !self.pending.is_empty() {
            self.write_next()?;
        }
        let trailer = gzip::trailer(&self.crc, self.size);
        self.out.write_all(&trailer)?;
        Ok(self.out)
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

struct HashingWriter<W> {
    inner: W,
    /// None where the caller hashes the same bytes itself.
    hasher: Option<Hasher>,
    size: u64,
}

impl<W: Write> Write for HashingWriter<W> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(buffer)?;
        if let Some(hasher) = &mut self.hasher {
            hasher.update(&buffer[..written]);
        }
        self.size += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}
