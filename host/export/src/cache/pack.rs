//! Packs: runs of chunks that are compressed and sent together.
//!
//! A pack ends after a chunk whose name is small for its length, so that cuts are a function of the chunks alone and a changed one moves no cut but its own. The more there is in
//! all, the larger packs are: a manifest can name only so many (registries take 4 MiB of manifest, some no more than some thousand layers).
use std::collections::HashSet;

use super::chunk::Chunk;
use super::tree::{Node, TreeEntry};
use super::{CacheFormatError, chunk_id};

/// Packs are about this size at least.
const LEAST_TARGET: u64 = 1 << 20;
/// And not larger than this, however much there is.
const MOST_TARGET: u64 = 64 << 20;
/// About so many packs, where that keeps them in these bounds.
const PACKS: u64 = 2048;
/// No pack unpacks to more.
pub const MOST_PACK_BYTES: u64 = 256 << 20;
/// zstd's default: a cache is read more often than it is written, but both on the way of a build.
const LEVEL: i32 = 3;

/// A chunk where it is met first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sequenced {
    /// Which.
    pub chunk: Chunk,
    /// Number of the file in the tree.
    pub entry: usize,
    /// Where in the file.
    pub offset: u64,
}

/// Every chunk of a tree once, in order.
pub fn sequence(entries: &[TreeEntry]) -> Vec<Sequenced> {
    let (mut seen, mut found) = (HashSet::new(), Vec::new());
    for (entry, TreeEntry { node, .. }) in entries.iter().enumerate() {
        let Node::File(chunks) = node else { continue };
        let mut offset = 0;
        for chunk in chunks {
            if seen.insert(*chunk) {
                found.push(Sequenced { chunk: *chunk, entry, offset });
            }
            offset += u64::from(chunk.len);
        }
    }
    found
}

/// How large packs are where all chunks together have `bytes`.
pub fn pack_target(bytes: u64) -> u64 {
    (bytes / PACKS).next_power_of_two().clamp(LEAST_TARGET, MOST_TARGET)
}

/// How many chunks each pack has.
pub fn cut_packs(chunks: &[Sequenced], target: u64) -> Vec<usize> {
    let (least, spacing, most) = (target / 2, target / 2, target * 2);
    let (mut packs, mut count, mut bytes) = (Vec::new(), 0, 0u64);
    for Sequenced { chunk, .. } in chunks {
        count += 1;
        bytes += u64::from(chunk.len);
        if bytes >= most || (bytes >= least && is_last(chunk, spacing)) {
            packs.push(count);
            (count, bytes) = (0, 0);
        }
    }
    if count > 0 {
        packs.push(count);
    }
    packs
}

/// One byte in `spacing` is the end of a pack; a chunk is as likely to have it as it is long.
fn is_last(chunk: &Chunk, spacing: u64) -> bool {
    let mut first = [0; 8];
    first.copy_from_slice(&chunk.id[..8]);
    u128::from(u64::from_be_bytes(first)) * u128::from(spacing) < u128::from(chunk.len) << 64
}

/// Names what a pack holds, however it is compressed.
pub fn pack_key(chunks: &[Sequenced]) -> [u8; 32] {
    let mut text = b"rhost cache pack 1".to_vec();
    for Sequenced { chunk, .. } in chunks {
        text.extend(chunk.id);
        text.extend(chunk.len.to_le_bytes());
    }
    chunk_id(&text)
}

/// Compresses what a pack holds, its chunks one after the other.
///
/// # Errors
/// The compressor.
pub fn pack(bytes: &[u8]) -> std::io::Result<Vec<u8>> {
    zstd::bulk::compress(bytes, LEVEL)
}

/// What `packed` holds, which must be exactly `size` bytes.
///
/// # Errors
/// It is no such thing.
pub fn unpack(packed: &[u8], size: u64, most: u64, what: &str) -> Result<Vec<u8>, CacheFormatError> {
    let broken = |reason: String| CacheFormatError::Broken { what: what.to_owned(), reason };
    let capacity = usize::try_from(size).ok().filter(|_| size <= most);
    let capacity =
        capacity.ok_or_else(|| broken(format!("it says that it unpacks to {size} bytes; {most} are the most")))?;
    // Never more memory than it may have: what is longer fails.
    let bytes = zstd::bulk::decompress(packed, capacity).map_err(|e| broken(format!("it does not unpack: {e}")))?;
    if bytes.len() != capacity {
        return Err(broken(format!("it unpacks to {} bytes, not {size}", bytes.len())));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk(number: u64, len: u32) -> Sequenced {
        Sequenced { chunk: Chunk { id: chunk_id(&number.to_le_bytes()), len }, entry: 0, offset: 0 }
    }

    #[test]
    fn a_changed_chunk_moves_no_cut_but_its_own() {
        let mut chunks: Vec<_> = (0..40_000).map(|n| chunk(n, 20_000 + (n % 7) as u32 * 5000)).collect();
        let groups = |chunks: &[Sequenced]| {
            let mut from = 0;
            let packs = cut_packs(chunks, LEAST_TARGET).into_iter().map(|count| {
                from += count;
                pack_key(&chunks[from - count..from])
            });
            packs.collect::<HashSet<_>>()
        };
        let before = groups(&chunks);
        let mean = chunks.iter().map(|c| u64::from(c.chunk.len)).sum::<u64>() / before.len() as u64;
        assert!((LEAST_TARGET * 3 / 4..LEAST_TARGET * 5 / 4).contains(&mean), "{mean} bytes on average");
        chunks.splice(20_000..20_001, [chunk(1 << 40, 3), chunk(1 << 41, 100_000)]);
        let new = groups(&chunks).difference(&before).count();
        assert!((1..=4).contains(&new), "{new} new packs");
        let large = cut_packs(&(0..100).map(|n| chunk(n, Chunk::MOST)).collect::<Vec<_>>(), LEAST_TARGET);
        assert_eq!(large, vec![1; 100]);
    }

    #[test]
    fn packs_grow_with_what_there_is() {
        assert_eq!(pack_target(0), LEAST_TARGET);
        assert_eq!(pack_target(2 << 30), 1 << 20);
        assert_eq!(pack_target(20 << 30), 16 << 20);
        assert_eq!(pack_target(u64::MAX / 2), MOST_TARGET);
        assert!(2 * MOST_TARGET + u64::from(Chunk::MOST) <= MOST_PACK_BYTES);
    }

    #[test]
    fn only_what_it_says_is_unpacked() {
        let packed = pack(&[7; 10_000]).expect("packed");
        assert_eq!(unpack(&packed, 10_000, MOST_PACK_BYTES, "pack").expect("unpacked"), [7; 10_000]);
        for (size, most) in
            [(9_999, MOST_PACK_BYTES), (10_001, MOST_PACK_BYTES), (10_000, 9_999), (u64::MAX, u64::MAX - 1)]
        {
            assert!(unpack(&packed, size, most, "pack").is_err(), "{size}");
        }
        assert!(unpack(&packed[..packed.len() - 1], 10_000, MOST_PACK_BYTES, "pack").is_err());
        assert!(unpack(b"not zstd", 8, MOST_PACK_BYTES, "pack").is_err());
    }
}
