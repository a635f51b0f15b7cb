//! `KnownBlocks`: where compressed blocks of layers lie in the blobs of the store, so that a layer that differs from an earlier one in a few files is not compressed
//! from its beginning.
//!
//! One file of fixed records, the oldest first, read whole when a layer of several blocks is packed. Nothing in it is needed: a record of a blob that is
//! gone, a torn or a damaged one is as if there were none, because whoever takes bytes from its place checks them.
use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use rhost_llb::{BlobDigest, Digest};

use crate::{Error, Result, Store};

/// Key, blob, offset, length, check, and what fills up.
const RECORD: usize = 32 + 32 + 8 + 4 + 16 + 4;
/// Records kept: of 4 GiB of layers or so.
const MOST: usize = 16 * 1024;
/// No block is compressed to more.
const LARGEST: u32 = 64 << 20;

/// Where one block's compressed bytes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KnownBlock {
    /// What the block holds and how it was compressed.
    pub key: [u8; 32],
    /// In which blob.
    pub blob: BlobDigest,
    /// From which byte on.
    pub offset: u64,
    /// How many bytes.
    pub length: u32,
    /// What they hash to, as the caller hashes.
    pub check: [u8; 16],
}

/// The blocks that are known.
pub struct KnownBlocks {
    store: Store,
    /// Read when it is first asked.
    known: OnceLock<HashMap<[u8; 32], KnownBlock>>,
    /// Blobs that were asked for; none where one is gone.
    open: Mutex<HashMap<BlobDigest, Option<Arc<File>>>>,
}

impl Store {
    /// The compressed blocks that are known. Cheap until it is asked.
    pub fn known_blocks(&self) -> KnownBlocks {
        KnownBlocks { store: self.clone(), known: OnceLock::new(), open: Mutex::default() }
    }

    fn blocks_path(&self) -> PathBuf {
        self.root().join("blocks-v1")
    }
}

impl KnownBlocks {
    /// The compressed bytes of `key` as they lie in the store, and what they must hash to.
    pub fn find(&self, key: &[u8; 32]) -> Option<(Vec<u8>, [u8; 16])> {
        let known = self.known.get_or_init(|| {
            let bytes = std::fs::read(self.store.blocks_path()).unwrap_or_default();
            bytes.chunks_exact(RECORD).map(decode).map(|block| (block.key, block)).collect()
        });
        let block = known.get(key).filter(|block| block.length <= LARGEST)?;
        let file = {
            let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
            let slot = open.entry(block.blob);
            slot.or_insert_with(|| self.store.open_blob(&block.blob).ok().flatten().map(Arc::new)).clone()?
        };
        let mut bytes = vec![0; block.length as usize];
        file.read_exact_at(&mut bytes, block.offset).ok()?;
        Some((bytes, block.check))
    }

    /// Remembers `blocks`. The oldest are forgotten.
    ///
    /// # Errors
    /// The disk.
    pub fn remember(&self, blocks: &[KnownBlock]) -> Result<()> {
        let path = self.store.blocks_path();
        let failed = |error| Error::io("write", &path, error);
        let new: Vec<u8> = blocks.iter().rev().take(MOST).rev().flat_map(encode).collect();
        // Two builds at once must not both write what they have read.
        let _alone = self.store.lock("known blocks")?;
        let size = std::fs::metadata(&path).map_or(0, |found| found.len());
        let whole = size.is_multiple_of(RECORD as u64);
        if whole && size + new.len() as u64 <= (MOST * RECORD) as u64 {
            let file = OpenOptions::new().create(true).append(true).open(&path);
            return file.and_then(|mut file| file.write_all(&new)).map_err(failed);
        }
        // Too many, or a record was torn: the younger half of what is there.
        let old = std::fs::read(&path).unwrap_or_default();
        let count = (old.len() / RECORD).min(MOST / 2).min(MOST - new.len() / RECORD);
        let end = old.len() / RECORD * RECORD;
        let mut bytes = old[end - count * RECORD..end].to_vec();
        bytes.extend(new);
        let beside = self.store.root().join("ingest-v1").join(crate::lock::unique_name());
        std::fs::write(&beside, bytes).and_then(|()| std::fs::rename(&beside, &path)).map_err(failed)
    }
}

fn encode(block: &KnownBlock) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(RECORD);
    bytes.extend_from_slice(&block.key);
    bytes.extend_from_slice(block.blob.0.as_raw());
    bytes.extend_from_slice(&block.offset.to_le_bytes());
    bytes.extend_from_slice(&block.length.to_le_bytes());
    bytes.extend_from_slice(&block.check);
    bytes.resize(RECORD, 0);
    bytes
}

fn decode(record: &[u8]) -> KnownBlock {
    fn part<const N: usize>(record: &[u8], at: usize) -> [u8; N] {
        let mut bytes = [0; N];
        bytes.copy_from_slice(&record[at..at + N]);
        bytes
    }
    KnownBlock {
        key: part(record, 0),
        blob: BlobDigest(Digest::from_raw(part(record, 32))),
        offset: u64::from_le_bytes(part(record, 64)),
        length: u32::from_le_bytes(part(record, 72)),
        check: part(record, 76),
    }
}

#[cfg(test)]
mod tests {
    use rhost_rootfs::OverlayXattrs;

    use super::*;
    use crate::{Durability, StoreOptions};

    fn store() -> (tempfile::TempDir, Store) {
        let dir = tempfile::tempdir().unwrap();
        let options = StoreOptions { durability: Durability::Fast, overlay: OverlayXattrs::Trusted };
        let store = Store::open(dir.path(), options).unwrap();
        (dir, store)
    }

    fn block(store: &Store, number: u32, text: &[u8]) -> KnownBlock {
        let blob = store.put_blob(text).unwrap();
        let mut key = [0; 32];
        key[..4].copy_from_slice(&number.to_le_bytes());
        KnownBlock { key, blob, offset: 1, length: text.len() as u32 - 1, check: [7; 16] }
    }

    #[test]
    fn what_is_remembered_is_found_while_its_blob_is_there() {
        let (_dir, store) = store();
        let one = block(&store, 1, b"xhello");
        assert_eq!(store.known_blocks().find(&one.key), None);
        store.known_blocks().remember(&[one]).unwrap();
        assert_eq!(store.known_blocks().find(&one.key), Some((b"hello".to_vec(), [7; 16])));
        store.remove_blob(&one.blob).unwrap();
        assert_eq!(store.known_blocks().find(&one.key), None);
    }

    #[test]
    fn a_torn_record_is_dropped_and_the_oldest_are_forgotten() {
        let (dir, store) = store();
        let one = block(&store, 1, b"xhello");
        store.known_blocks().remember(&[one]).unwrap();
        let path = dir.path().join("blocks-v1");
        OpenOptions::new().append(true).open(&path).unwrap().write_all(b"torn").unwrap();
        assert!(store.known_blocks().find(&one.key).is_some());
        let two = block(&store, 2, b"xworld");
        store.known_blocks().remember(&[two]).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().len(), 2 * RECORD as u64);
        assert!(store.known_blocks().find(&one.key).is_some() && store.known_blocks().find(&two.key).is_some());
        let many: Vec<_> = (3..MOST as u32 + 2).map(|number| KnownBlock { key: block_key(number), ..two }).collect();
        store.known_blocks().remember(&many).unwrap();
        assert!(std::fs::metadata(&path).unwrap().len() <= (MOST * RECORD) as u64);
        assert!(store.known_blocks().find(&one.key).is_none());
        assert!(store.known_blocks().find(&block_key(MOST as u32 + 1)).is_some());
    }

    fn block_key(number: u32) -> [u8; 32] {
        let mut key = [0; 32];
        key[..4].copy_from_slice(&number.to_le_bytes());
        key
    }
}
