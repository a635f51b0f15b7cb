//! What is built: bytes that are the same in every run, and compress about as programs and texts do.
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::Path;

use anyhow::Result;

/// splitmix64.
pub struct Random(pub u64);

impl Random {
    /// The next number.
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

/// Writes `size` bytes: three quarters words of a vocabulary of 4,096, one quarter noise.
pub fn write(path: &Path, size: usize, seed: u64) -> Result<()> {
    let mut random = Random(seed);
    let words: Vec<Vec<u8>> = {
        // One vocabulary for all files, as in a source tree.
        let mut random = Random(7);
        (0..4096)
            .map(|_| (0..2 + random.next() % 9).map(|_| b'a' + (random.next() % 26) as u8).chain([b' ']).collect())
            .collect()
    };
    let mut out = BufWriter::with_capacity(1 << 16, File::create(path)?);
    let mut written = 0;
    while written < size {
        if random.next().is_multiple_of(4) {
            let block: Vec<u8> = (0..64).flat_map(|_| random.next().to_le_bytes()).collect();
            let block = &block[..block.len().min(size - written)];
            out.write_all(block)?;
            written += block.len();
        } else {
            let before = written;
            while written < (before + 512).min(size) {
                let word = &words[(random.next() % 4096) as usize];
                let word = &word[..word.len().min(size - written)];
                out.write_all(word)?;
                written += word.len();
            }
        }
    }
    Ok(out.flush()?)
}

/// Fills `directory` with `files` files of `size` bytes, a hundred to a directory.
pub fn tree(directory: &Path, files: usize, size: usize, seed: u64) -> Result<()> {
    for file in 0..files {
        let parent = directory.join(format!("d{:03}", file / 100));
        if file % 100 == 0 {
            fs::create_dir_all(&parent)?;
        }
        write(&parent.join(format!("file-{file:05}.txt")), size, seed.wrapping_add(file as u64 * 1_000_003))?;
    }
    Ok(())
}
