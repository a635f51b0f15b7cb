//! gzip in blocks that several threads compress, with bytes that do not depend on how many.
//!
//! The input is cut into blocks where its bytes say so ([`crate::cut`]). Each is one raw deflate run whose dictionary is the 32 KiB before it, so
//! that matches reach over the cut, and ends on a byte boundary with an empty stored block (a sync flush); the last one
//! ends the stream. Concatenated, they are one gzip member (RFC 1951, RFC 1952). Cuts are fixed by the input alone.
use flate2::Crc;
use zlib_rs::{Deflate, DeflateFlush, Status};

/// How far back deflate can look.
pub(crate) const WINDOW: usize = 32 * 1024;
/// Magic, deflate, no flags, no time, no extra flags, unknown system: what BuildKit's layers start with.
pub(crate) const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];

/// Compresses `input`, which follows `before` (its last bytes count), at `level` 0 to 9.
///
/// Each block has a compressor of its own. A used one, reset, finds other matches than a new one, so that the bytes
/// would depend on which thread had which blocks before; a new one costs 1 % of the time. Gives `bytes`, whatever was in it, with how many of its
/// bytes it has filled.
pub(crate) fn compress_block(
    before: &[u8],
    input: &[u8],
    last: bool,
    level: u8,
    mut bytes: Vec<u8>,
) -> Result<(Vec<u8>, usize), String> {
    let mut deflate = Deflate::new(i32::from(level.min(9)), false, 15);
    if !before.is_empty() {
        let window = &before[before.len().saturating_sub(WINDOW)..];
        deflate.set_dictionary(window).map_err(|e| e.as_str().to_owned())?;
    }
    let flush = if last { DeflateFlush::Finish } else { DeflateFlush::SyncFlush };
    let room = zlib_rs::compress_bound(input.len()) + 64;
    if bytes.is_empty() {
        // The kernel's zeros.
        bytes = vec![0; room];
    } else if bytes.len() < room {
        bytes.resize(room, 0);
    }
    let mut filled = 0;
    loop {
        let taken = usize::try_from(deflate.total_in()).map_err(|e| e.to_string())?;
        let status =
            deflate.compress(&input[taken..], &mut bytes[filled..], flush).map_err(|e| e.as_str().to_owned())?;
        filled = usize::try_from(deflate.total_out()).map_err(|e| e.to_string())?;
        let room = filled < bytes.len();
        match status {
            Status::StreamEnd => break,
            // A flush is complete when there was room left over.
            Status::Ok if !last && room && deflate.total_in() == input.len() as u64 => break,
            Status::BufError if room => return Err("deflate made no progress".to_owned()),
            _ => bytes.resize(bytes.len() * 2, 0),
        }
    }
    Ok((bytes, filled))
}

/// The eight bytes after the last block.
pub(crate) fn trailer(crc: &Crc, size: u64) -> [u8; 8] {
    let mut bytes = [0; 8];
    bytes[..4].copy_from_slice(&crc.sum().to_le_bytes());
    // ISIZE is the size modulo 2^32 (RFC 1952, 2.3.1).
    bytes[4..].copy_from_slice(&((size & 0xffff_ffff) as u32).to_le_bytes());
    bytes
}
