//! Blocks of earlier layers: found again, checked, and without a trace in the bytes.
use std::collections::HashMap;
use std::io;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use rhost_export::{
    BlobSink, BlobWriter, BlockCache, BlockKey, BlockPlace, Compression, Compressor, LayerBlob, MemoryBlobs, Stop,
    block_check,
};
use rhost_llb::BlobDigest;

use crate::kit::{bytes, compressor, tar_of};

/// Remembers as a store does.
#[derive(Default)]
struct Remembered {
    blobs: MemoryBlobs,
    places: Mutex<HashMap<BlockKey, (BlobDigest, BlockPlace)>>,
    found: AtomicUsize,
    asked: AtomicUsize,
}

impl BlockCache for Remembered {
    fn find(&self, key: &BlockKey) -> Option<Vec<u8>> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let (blob, place) = *self.places.lock().unwrap().get(key)?;
        let from = place.offset as usize;
        let bytes = self.blobs.get(blob)?[from..from + place.length as usize].to_vec();
        assert_eq!(block_check(&bytes), place.check, "a block is not where it was said to be");
        self.found.fetch_add(1, Ordering::Relaxed);
        Some(bytes)
    }

    fn remember(&self, blob: BlobDigest, blocks: &[BlockPlace]) {
        self.places.lock().unwrap().extend(blocks.iter().map(|place| (place.key, (blob, *place))));
    }
}

fn pack(compressor: &Compressor, input: &[u8], compression: Compression, blobs: &MemoryBlobs) -> LayerBlob {
    let sources = vec![tar_of(input.to_vec())];
    compressor.pack(sources, compression, false, blobs, blobs, &Stop::new()).unwrap()[0]
}

/// What is found of `second` after `first` was packed, in blocks, of how many.
fn again(first: &[u8], second: &[u8], compression: Compression) -> (usize, usize) {
    let cold = pack(&compressor(2), second, compression, &MemoryBlobs::new());
    let cache = Arc::new(Remembered::default());
    let warm = Compressor::new(NonZeroUsize::new(2).unwrap()).with_blocks(cache.clone());
    pack(&warm, first, compression, &cache.blobs);
    cache.asked.store(0, Ordering::Relaxed);
    assert_eq!(cache.found.swap(0, Ordering::Relaxed), 0);
    assert_eq!(pack(&warm, second, compression, &cache.blobs), cold, "other bytes than without earlier blocks");
    (cache.found.load(Ordering::Relaxed), cache.asked.load(Ordering::Relaxed))
}

#[test]
fn a_change_costs_the_blocks_around_it() {
    let input = bytes(14 << 20, 5);
    for compression in [Compression::GZIP, Compression::ZSTD] {
        let (found, asked) = again(&input, &input, compression);
        assert!(found == asked && asked > 3, "{compression:?}: {found} of {asked}");
        // In place, and with everything behind it moved by some records.
        let mut changed = input.clone();
        changed[7 << 20] ^= 1;
        let mut longer = input.clone();
        longer.splice(7 << 20..7 << 20, bytes(5 * 512, 99));
        for other in [changed, longer] {
            let (found, asked) = again(&input, &other, compression);
            assert!(found + 3 >= asked && found > 2, "{compression:?}: {found} of {asked}");
        }
    }
}

#[test]
fn another_level_is_another_block() {
    let input = bytes(3 << 20, 8);
    let cache = Arc::new(Remembered::default());
    let warm = Compressor::new(NonZeroUsize::new(2).unwrap()).with_blocks(cache.clone());
    for level in [1, 6, 9] {
        pack(&warm, &input, Compression::Gzip { level }, &cache.blobs);
    }
    assert_eq!(cache.found.load(Ordering::Relaxed), 0);
}

#[test]
fn small_layers_ask_nobody() {
    let cache = Arc::new(Remembered::default());
    let warm = Compressor::new(NonZeroUsize::new(2).unwrap()).with_blocks(cache.clone());
    for compression in [Compression::None, Compression::GZIP, Compression::ZSTD] {
        pack(&warm, &bytes(100_000, 3), compression, &cache.blobs);
    }
    assert_eq!((cache.asked.load(Ordering::Relaxed), cache.places.lock().unwrap().len()), (0, 0));
}

/// A sink whose blobs fail after some bytes.
struct Full(usize);

struct FullBlob(usize);

impl BlobSink for Full {
    fn create(&self) -> io::Result<Box<dyn BlobWriter>> {
        Ok(Box::new(FullBlob(self.0)))
    }
}

impl io::Write for FullBlob {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.0 = self.0.checked_sub(buffer.len()).ok_or(io::ErrorKind::StorageFull)?;
        Ok(buffer.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl BlobWriter for FullBlob {
    fn commit(self: Box<Self>, _: BlobDigest, _: u64) -> io::Result<()> {
        panic!("a blob that could not be written is not published");
    }
}

#[test]
fn a_full_disk_is_told_and_nothing_is_remembered() {
    let cache = Arc::new(Remembered::default());
    let warm = Compressor::new(NonZeroUsize::new(2).unwrap()).with_blocks(cache.clone());
    for compression in [Compression::None, Compression::GZIP, Compression::ZSTD] {
        let sources = vec![tar_of(bytes(8 << 20, 1))];
        let error = warm
            .pack(sources, compression, false, &MemoryBlobs::new(), &Full(1 << 20), &Stop::new())
            .unwrap_err()
            .to_string();
        assert!(error.starts_with("writing layer 0: "), "{error}");
    }
    assert!(cache.places.lock().unwrap().is_empty());
}
