//! Where a layer's tar is cut into the blocks that are compressed apart: where its own bytes say so.
//!
//! A tar is a row of records of 512 bytes. A block ends after a record whose hash ends in so many zeros, at least `least` and at most `most` bytes after the cut
//! before. So cuts depend on the tar alone, never on threads or on the size of writes; and a file that changed, grew or went moves
//! no cut far from it: all other blocks of the layer are those of the layer before, and their compressed bytes can be taken from there.
use crate::compression::Compression;

/// Bytes of a tar's record.
const RECORD: usize = 512;

/// How blocks are cut. Sizes are multiples of 512.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cut {
    /// No block is smaller, but the last.
    least: usize,
    /// None is larger.
    most: usize,
    /// Bits of a record's hash that are zero where a block ends: one record of 2^bits.
    bits: u32,
}

impl Cut {
    /// For gzip 256 KiB or so: a block costs 5 bytes and a Huffman table, and sees the 32 KiB before it. zstd's blocks are frames that see nothing of each other: they are
    /// as large as what its level looks back for.
    pub(crate) fn of(compression: Compression) -> Self {
        let around = |size: usize| Self { least: size / 2, most: size * 2, bits: (size / 2 / RECORD).ilog2() };
        match compression {
            Compression::None | Compression::Gzip { .. } => around(256 << 10),
            Compression::Zstd { level: ..=5 } => around(2 << 20),
            Compression::Zstd { level: ..=12 } => around(4 << 20),
            Compression::Zstd { .. } => around(8 << 20),
        }
    }

    /// How many more bytes a block of `length` bytes takes before it is looked at again: none, and it is full.
    pub(crate) fn room(self, length: usize) -> usize {
        match self.least.checked_sub(length) {
            Some(left) if left > 0 => left,
            // A little at a time: what stands behind a cut is moved to the next block.
            _ => (self.most - length).min(16 << 10),
        }
    }

    /// Where `block`, of which the first `seen` bytes were looked at before, ends; `None` where it goes on.
    pub(crate) fn find(self, block: &[u8], seen: usize) -> Option<usize> {
        let first = seen.max(self.least - RECORD) / RECORD;
        let mut records = block.chunks_exact(RECORD).enumerate().skip(first);
        let found = records.find(|(_, record)| ends(record, self.bits)).map(|(at, _)| (at + 1) * RECORD);
        found.or_else(|| (block.len() >= self.most).then_some(self.most))
    }
}

/// Any function of all bytes would do that takes little time and is the same for ever.
fn ends(record: &[u8], bits: u32) -> bool {
    let mut hash = 0u64;
    for word in record.chunks_exact(8) {
        let word = u64::from_le_bytes(word.try_into().unwrap_or_default());
        hash = (hash ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        hash ^= hash >> 29;
    }
    // Zeros hash to zero, and a hole must not be all cuts.
    hash != 0 && hash.leading_zeros() >= bits
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lengths of the blocks of `input`.
    fn cuts(cut: Cut, input: &[u8]) -> Vec<usize> {
        let (mut at, mut lengths) = (0, Vec::new());
        while let Some(length) = cut.find(&input[at..input.len().min(at + cut.most)], 0) {
            lengths.push(length);
            at += length;
        }
        lengths
    }

    #[test]
    fn sizes_stay_within_their_bounds() {
        let cut = Cut::of(Compression::GZIP);
        let mut state = 1u64;
        let noise: Vec<u8> = std::iter::repeat_with(|| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 56) as u8
        })
        .take(16 << 20)
        .collect();
        let lengths = cuts(cut, &noise);
        assert!(lengths.iter().all(|length| (cut.least..=cut.most).contains(length) && length % RECORD == 0));
        let mean = lengths.iter().sum::<usize>() / lengths.len();
        assert!((200 << 10..320 << 10).contains(&mean), "{mean} bytes on average");
        // A hole is cut where it must be.
        assert!(cuts(cut, &vec![0; 4 << 20]).iter().all(|length| *length == cut.most));
    }
}
