//! `BlockCache`: the port through which compressed blocks of earlier layers are found again.
//!
//! A block's bytes are a function of its input, of what a compressor may look back at, and of how it compresses: all three are in its key. Where a layer
//! differs from an earlier one in one file, all blocks but one or two are taken from there, and the layer has the bytes that it would have had without.
use rhost_llb::BlobDigest;

use crate::compression::Compression;

/// Names what a block holds and how it is compressed (BLAKE3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct BlockKey(pub [u8; 32]);

/// Where the compressed bytes of a block lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockPlace {
    /// What they hold.
    pub key: BlockKey,
    /// In the blob.
    pub offset: u64,
    /// Bytes.
    pub length: u32,
    /// What they hash to (the first half of BLAKE3): whoever finds others there has found nothing.
    pub check: [u8; 16],
}

/// Remembers compressed blocks. May forget at any time.
pub trait BlockCache: Send + Sync {
    /// The compressed bytes of `key`, checked.
    fn find(&self, key: &BlockKey) -> Option<Vec<u8>>;
    /// Remembers that `blob` has these blocks.
    fn remember(&self, blob: BlobDigest, blocks: &[BlockPlace]);
}

impl BlockKey {
    /// The key of `input`, after `before` of which the compressor sees all, as a stream's last block or not.
    pub(crate) fn of(compression: Compression, before: &[u8], input: &[u8], last: bool) -> Self {
        let mut hasher = blake3::Hasher::new();
        // Another version of a compressor may find other matches.
        let encoder = format!(
            "{} {} {compression:?} {last} {} ",
            env!("CARGO_PKG_VERSION"),
            zstd::zstd_safe::version_number(),
            before.len()
        );
        hasher.update(encoder.as_bytes()).update(before).update(input);
        Self(*hasher.finalize().as_bytes())
    }
}

/// What [`BlockPlace::check`] says of `bytes`.
pub fn block_check(bytes: &[u8]) -> [u8; 16] {
    let mut check = [0; 16];
    check.copy_from_slice(&blake3::hash(bytes).as_bytes()[..16]);
    check
}
