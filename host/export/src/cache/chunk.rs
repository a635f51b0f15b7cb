//! Where a file is cut into chunks: where its own bytes say so (gear hashing, as in FastCDC).
//!
//! Small files are one chunk. A large one is cut at least every 4 MiB and about every 1 MiB; bytes that were put in or taken out move no cut far from them. These
//! numbers and the table are part of the format in so far as files cut differently share nothing with what was exported before.
use std::io::{self, Read};

/// Files up to this size are one chunk.
const WHOLE: usize = 1 << 20;
/// No chunk of a larger file is smaller, but its last.
const LEAST: usize = 256 << 10;
/// Until here a cut is a little harder to find than behind it, so that sizes lie closer together.
const NORMAL: usize = 1 << 20;
/// None is larger.
const MOST: usize = 4 << 20;
/// Bits that must be zero before and behind [`NORMAL`].
const HARD: u64 = mask(21);
const EASY: u64 = mask(18);

/// Some bytes of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Chunk {
    /// BLAKE3 of them.
    pub id: [u8; 32],
    /// How many, at most 4 MiB.
    pub len: u32,
}

impl Chunk {
    /// The longest there can be.
    pub const MOST: u32 = MOST as u32;

    /// The chunk of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self { id: chunk_id(bytes), len: u32::try_from(bytes.len()).unwrap_or(u32::MAX) }
    }
}

/// The name of a chunk that holds `bytes`.
pub fn chunk_id(bytes: &[u8]) -> [u8; 32] {
    *blake3::hash(bytes).as_bytes()
}

/// The chunks of what `input` holds, in order. An empty file has none. `buffer` is memory to use again.
///
/// # Errors
/// Those of `input`.
pub fn chunks_of(mut input: impl Read, buffer: &mut Vec<u8>) -> io::Result<Vec<Chunk>> {
    let mut chunks = Vec::new();
    buffer.clear();
    let mut ended = false;
    loop {
        if !ended {
            // Twice the largest, so that little is moved.
            ended = !fill(&mut input, buffer, 2 * MOST)?;
        }
        if ended && chunks.is_empty() && buffer.len() <= WHOLE {
            if !buffer.is_empty() {
                chunks.push(Chunk::of(buffer));
            }
            return Ok(chunks);
        }
        let mut from = 0;
        while buffer.len() - from >= MOST || (ended && from < buffer.len()) {
            let length = cut(&buffer[from..]);
            chunks.push(Chunk::of(&buffer[from..from + length]));
            from += length;
        }
        buffer.drain(..from);
        if ended {
            return Ok(chunks);
        }
    }
}

/// Reads until `buffer` holds `size` bytes; false at the end.
fn fill(input: &mut impl Read, buffer: &mut Vec<u8>, size: usize) -> io::Result<bool> {
    let wanted = size - buffer.len();
    let read = input.take(wanted as u64).read_to_end(buffer)?;
    Ok(read == wanted)
}

/// Length of the chunk that `bytes` begin with.
fn cut(bytes: &[u8]) -> usize {
    let most = bytes.len().min(MOST);
    if most <= LEAST {
        return most;
    }
    let mut hash = 0u64;
    let normal = most.min(NORMAL);
    for (range, mask) in [(LEAST..normal, HARD), (normal..most, EASY)] {
        let start = range.start;
        for (at, byte) in bytes[range].iter().enumerate() {
            hash = (hash << 1).wrapping_add(GEAR[usize::from(*byte)]);
            if hash & mask == 0 {
                return start + at + 1;
            }
        }
    }
    most
}

/// The highest `bits`: they depend on the last 64 bytes.
const fn mask(bits: u32) -> u64 {
    !0 << (64 - bits)
}

/// 256 numbers of no meaning, the same for ever (SplitMix64 from 0).
const GEAR: [u64; 256] = gear();

const fn gear() -> [u64; 256] {
    let (mut table, mut state, mut at) = ([0; 256], 0u64, 0);
    while at < 256 {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        table[at] = mixed ^ (mixed >> 31);
        at += 1;
    }
    table
}

/// Whether `bytes` are all zero: a hole will do for them.
pub fn is_zeros(bytes: &[u8]) -> bool {
    let words = bytes.chunks_exact(16);
    let rest = words.remainder();
    words.into_iter().all(|word| word == [0; 16]) && rest.iter().all(|byte| *byte == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(length: usize) -> Vec<u8> {
        let mut state = 7u64;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 56) as u8
        };
        (0..length).map(|_| next()).collect()
    }

    fn cuts(bytes: &[u8]) -> Vec<Chunk> {
        chunks_of(bytes, &mut Vec::new()).expect("read")
    }

    #[test]
    fn chunks_are_the_file_and_small_files_are_one() {
        assert_eq!(cuts(b""), []);
        assert_eq!(cuts(b"a"), [Chunk::of(b"a")]);
        let bytes = noise(12 << 20);
        assert_eq!(cuts(&bytes[..WHOLE]).len(), 1);
        let chunks = cuts(&bytes);
        assert_eq!(chunks.iter().map(|c| c.len as usize).sum::<usize>(), bytes.len());
        let (last, others) = chunks.split_last().expect("some");
        assert!(others.iter().all(|c| (LEAST..=MOST).contains(&(c.len as usize))) && last.len > 0);
        let mean = bytes.len() / chunks.len();
        assert!((600 << 10..1800 << 10).contains(&mean), "{mean} bytes on average");
        // However it is read.
        struct Slowly<'a>(&'a [u8]);
        impl Read for Slowly<'_> {
            fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
                let most = out.len().min(40_961);
                self.0.read(&mut out[..most])
            }
        }
        assert_eq!(chunks_of(Slowly(&bytes), &mut Vec::new()).expect("read"), chunks);
    }

    #[test]
    fn an_insertion_changes_few_chunks() {
        let bytes = noise(12 << 20);
        let mut changed = bytes.clone();
        changed.splice((9 << 20)..(9 << 20), b"something new".iter().copied());
        let before: std::collections::HashSet<Chunk> = cuts(&bytes).into_iter().collect();
        let new = cuts(&changed).into_iter().filter(|chunk| !before.contains(chunk)).count();
        assert!((1..=3).contains(&new), "{new} new chunks");
        assert!(
            cuts(&vec![0; 9 << 20]).iter().take(2).all(|c| c.len as usize == MOST),
            "zeros are cut where they must be"
        );
    }

    #[test]
    fn zeros_are_known() {
        assert!(is_zeros(&[]) && is_zeros(&[0; 100]));
        for at in [0, 15, 16, 63, 99] {
            let mut bytes = [0; 100];
            bytes[at] = 1;
            assert!(!is_zeros(&bytes), "{at}");
        }
    }
}
