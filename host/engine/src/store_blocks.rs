//! The store as what remembers compressed blocks of layers.
use rhost_export::{BlockCache, BlockKey, BlockPlace, block_check};
use rhost_llb::BlobDigest;
use rhost_store::{KnownBlock, KnownBlocks, Store};

/// Compressed blocks of earlier layers that are in the store.
pub struct StoreBlocks(KnownBlocks);

impl StoreBlocks {
    /// Those of `store`.
    pub fn new(store: &Store) -> Self {
        Self(store.known_blocks())
    }
}

impl BlockCache for StoreBlocks {
    fn find(&self, key: &BlockKey) -> Option<Vec<u8>> {
        let (bytes, check) = self.0.find(&key.0)?;
        (block_check(&bytes) == check).then_some(bytes)
    }

    fn remember(&self, blob: BlobDigest, blocks: &[BlockPlace]) {
        let known = |place: &BlockPlace| {
            let BlockPlace { key, offset, length, check } = *place;
            KnownBlock { key: key.0, blob, offset, length, check }
        };
        // What is forgotten is compressed again.
        if let Err(error) = self.0.remember(&blocks.iter().map(known).collect::<Vec<_>>()) {
            tracing::debug!(%error, "the blocks of a layer are not remembered");
        }
    }
}
