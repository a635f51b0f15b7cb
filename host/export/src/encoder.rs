//! `LayerEncoder`: one layer's tar on its way into a blob.
//!
//! The thread that writes the tar only cuts it into blocks. The pool compresses them; one more thread for each layer takes them in order, hashes the
//! tar and the blob, and writes. So each byte is hashed once as tar and once as blob, and nobody waits for the hashes. A layer of
//! one block, as most are, needs no thread.
use std::io::{self, Write};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{Scope, ScopedJoinHandle};

use rhost_llb::{Digest, Hasher};

use crate::blocks::{BlockCache, BlockKey, BlockPlace, block_check};
use crate::compression::{Compression, LayerKind};
use crate::cut::Cut;
use crate::error::ExportError;
use crate::gzip;
use crate::pool::Pool;
use crate::spare::{Block, Spare};

/// What a layer became.
pub(crate) struct Encoded {
    /// Digest of the tar.
    pub(crate) diff: Digest,
    /// Digest of the blob.
    pub(crate) digest: Digest,
    /// Bytes of the blob.
    pub(crate) size: u64,
    /// Where its blocks are, if there are several.
    pub(crate) places: Vec<BlockPlace>,
}

/// What is the same for all blocks of a layer.
#[derive(Clone)]
pub(crate) struct Recipe {
    pub(crate) compression: Compression,
    pub(crate) blocks: Option<Arc<dyn BlockCache>>,
    pub(crate) spare: Arc<Spare>,
}

/// A compressed block.
struct Packed {
    bytes: Block,
    crc: Option<flate2::Crc>,
    /// Its key and what its bytes hash to, where somebody remembers them.
    name: Option<(BlockKey, [u8; 16])>,
}

impl Recipe {
    /// Compresses `input`, which follows `before`. `several`: the layer has more blocks.
    fn pack(&self, before: &[u8], input: &[u8], last: bool, several: bool) -> Result<Packed, String> {
        let before = match self.compression {
            Compression::Gzip { .. } => &before[before.len().saturating_sub(gzip::WINDOW)..],
            _ => &[],
        };
        let cache = self.blocks.as_ref().filter(|_| several && !input.is_empty());
        let key = cache.map(|_| BlockKey::of(self.compression, before, input, last));
        let found = key.zip(cache).and_then(|(key, cache)| cache.find(&key));
        let bytes = match found {
            Some(bytes) => Block::alone(bytes),
            None => self.compress(before, input, last)?,
        };
        let crc = matches!(self.compression, Compression::Gzip { .. }).then(|| {
            let mut crc = flate2::Crc::new();
            crc.update(input);
            crc
        });
        let name = key.map(|key| (key, block_check(&bytes)));
        Ok(Packed { bytes, crc, name })
    }

    fn compress(&self, before: &[u8], input: &[u8], last: bool) -> Result<Block, String> {
        match self.compression {
            Compression::None => Ok(Block::alone(input.to_vec())),
            Compression::Gzip { level } => {
                let (buffer, length) = gzip::compress_block(before, input, last, level, self.spare.take())?;
                Ok(self.spare.block(buffer, length))
            }
            // A compressor of its own for each block, as for gzip: what it did before leaves no trace.
            Compression::Zstd { level } => {
                zstd::bulk::compress(input, i32::from(level.clamp(1, 22))).map(Block::alone).map_err(|e| e.to_string())
            }
        }
    }
}

/// A block on its way: what is hashed, and what comes of it.
struct Piece {
    input: Arc<Block>,
    /// None where blocks are written as they are.
    packed: Option<Receiver<Result<Packed, String>>>,
}

/// Why a layer could not be encoded: its stream or its algorithm.
pub(crate) enum CodeError {
    Write(io::Error),
    Compress(String),
}

impl CodeError {
    pub(crate) fn of_layer(self, layer: usize, kind: LayerKind) -> ExportError {
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

/// The thread that writes a layer, and the way to it.
struct Line<'scope> {
    pieces: SyncSender<Piece>,
    writer: ScopedJoinHandle<'scope, Result<Encoded, CodeError>>,
}

/// Cuts what a producer writes into blocks and sends them on.
pub(crate) struct LayerEncoder<'scope, 'env, 'a, W> {
    scope: &'scope Scope<'scope, 'env>,
    pool: &'a Pool,
    recipe: Recipe,
    halted: &'a dyn Fn() -> bool,
    cut: Cut,
    /// The block that is being filled, and how much of it was looked at for a cut.
    block: Vec<u8>,
    seen: usize,
    before: Arc<Block>,
    /// Until the thread has it.
    out: Option<W>,
    line: Option<Line<'scope>>,
    /// Blocks on their way at most.
    most: usize,
    /// Whether it was told to stop.
    pub(crate) cancelled: bool,
}

impl<'scope, 'env, 'a, W: Write + Send + 'scope> LayerEncoder<'scope, 'env, 'a, W> {
    pub(crate) fn new(
        scope: &'scope Scope<'scope, 'env>,
        pool: &'a Pool,
        recipe: Recipe,
        halted: &'a dyn Fn() -> bool,
        out: W,
    ) -> Self {
        let cut = Cut::of(recipe.compression);
        let (before, most) = (Arc::new(Block::alone(Vec::new())), pool.threads());
        let (block, out) = (Vec::new(), Some(out));
        Self { scope, pool, recipe, halted, cut, block, seen: 0, before, out, line: None, most, cancelled: false }
    }

    /// Sends the first `length` bytes of the block on their way.
    fn send(&mut self, length: usize, last: bool) -> io::Result<()> {
        let mut rest = self.recipe.spare.take();
        rest.clear();
        rest.extend_from_slice(&self.block[length..]);
        let input = Arc::new(self.recipe.spare.block(std::mem::replace(&mut self.block, rest), length));
        self.seen = 0;
        let packed = (self.recipe.compression != Compression::None).then(|| {
            let (recipe, input) = (self.recipe.clone(), input.clone());
            let before = std::mem::replace(&mut self.before, input.clone());
            self.pool.run(move || recipe.pack(&before, &input, last, true))
        });
        let line = match (&mut self.line, self.out.take()) {
            (Some(line), _) => line,
            (None, Some(out)) => {
                let (pieces, received) = sync_channel(self.most);
                let compression = self.recipe.compression;
                let writer = self.scope.spawn(move || write_pieces(out, compression, received));
                self.line.insert(Line { pieces, writer })
            }
            (None, None) => return Err(io::Error::other("the layer is closed")),
        };
        // The writer has gone where it failed; `finish` tells why.
        line.pieces.send(Piece { input, packed }).map_err(|_| io::Error::other("the layer cannot be written"))
    }

    /// Ends the layer. `produced`: whether all of its tar was written.
    pub(crate) fn finish(mut self, produced: bool) -> Result<Option<Encoded>, CodeError> {
        if produced && self.line.is_some() {
            let length = self.block.len();
            // What fails here is what the writer tells.
            let _ = self.send(length, true);
        }
        match (self.line, self.out) {
            (Some(line), _) => {
                drop(line.pieces);
                let written = line.writer.join().unwrap_or_else(|_| Err(CodeError::Compress("it stopped".to_owned())));
                // What is cut short is thrown away; that the writer failed is why.
                written.map(|encoded| produced.then_some(encoded))
            }
            (None, Some(out)) if produced => {
                let mut writer = Writer::new(out, self.recipe.compression)?;
                writer.diff.update(&self.block);
                match self.recipe.compression {
                    Compression::None => writer.out.write_all(&self.block)?,
                    _ => {
                        writer.packed(self.recipe.pack(&[], &self.block, true, false).map_err(CodeError::Compress)?)?
                    }
                }
                writer.size = self.block.len() as u64;
                writer.finish().map(Some)
            }
            _ => Ok(None),
        }
    }
}

impl<'scope, W: Write + Send + 'scope> Write for LayerEncoder<'scope, '_, '_, W> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        if self.cancelled || (self.halted)() {
            self.cancelled = true;
            return Err(io::Error::other("cancelled"));
        }
        let taken = buffer.len().min(self.cut.room(self.block.len()));
        self.block.extend_from_slice(&buffer[..taken]);
        if let Some(end) = self.cut.find(&self.block, self.seen) {
            self.send(end, false)?;
        }
        // A record that is not whole yet is looked at again.
        self.seen = self.block.len() / 512 * 512;
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Hashes and writes a layer, in order.
struct Writer<W: Write> {
    out: HashingWriter<W>,
    diff: Hasher,
    crc: Option<flate2::Crc>,
    /// Bytes of the tar.
    size: u64,
    places: Vec<BlockPlace>,
}

impl<W: Write> Writer<W> {
    fn new(out: W, compression: Compression) -> Result<Self, CodeError> {
        // A plain tar is hashed once: its digest is its diff id.
        let hasher = (compression != Compression::None).then(Hasher::new);
        let mut out = HashingWriter { inner: out, hasher, size: 0 };
        let crc = match compression {
            Compression::Gzip { .. } => {
                out.write_all(&gzip::HEADER)?;
                Some(flate2::Crc::new())
            }
            _ => None,
        };
        Ok(Self { out, diff: Hasher::new(), crc, size: 0, places: Vec::new() })
    }

    fn packed(&mut self, packed: Packed) -> Result<(), CodeError> {
        if let Some((key, check)) = packed.name {
            let length = u32::try_from(packed.bytes.len()).map_err(|e| CodeError::Compress(e.to_string()))?;
            self.places.push(BlockPlace { key, offset: self.out.size, length, check });
        }
        self.out.write_all(&packed.bytes)?;
        if let (Some(crc), Some(of_block)) = (&mut self.crc, &packed.crc) {
            crc.combine(of_block);
        }
        Ok(())
    }

    fn finish(mut self) -> Result<Encoded, CodeError> {
        if let Some(crc) = &self.crc {
            let trailer = gzip::trailer(crc, self.size);
            self.out.write_all(&trailer)?;
        }
        self.out.flush()?;
        let diff = self.diff.finish();
        let digest = self.out.hasher.map_or(diff, Hasher::finish);
        Ok(Encoded { diff, digest, size: self.out.size, places: self.places })
    }
}

fn write_pieces<W: Write>(out: W, compression: Compression, pieces: Receiver<Piece>) -> Result<Encoded, CodeError> {
    let mut writer = Writer::new(out, compression)?;
    for piece in pieces {
        writer.diff.update(&**piece.input);
        writer.size += piece.input.len() as u64;
        match piece.packed {
            None => writer.out.write_all(&piece.input)?,
            Some(packed) => {
                drop(piece.input);
                let packed = packed.recv().map_err(|_| CodeError::Compress("the compressor stopped".to_owned()))?;
                writer.packed(packed.map_err(CodeError::Compress)?)?;
            }
        }
    }
    writer.finish()
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
