//! Which compression a stream has, by its first bytes, and a reader of what is inside. Layers carry a media type, but BuildKit and docker
//! trust the bytes, and ADD has nothing else to go by.
use std::io::{BufReader, Chain, Cursor, Read};

use crate::{Error, Result};

/// Compression of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// None.
    None,
    /// gzip.
    Gzip,
    /// Zstandard.
    Zstd,
    /// bzip2.
    Bzip2,
    /// xz.
    Xz,
}

impl Compression {
    /// By the first bytes; ten are enough.
    pub fn detect(head: &[u8]) -> Self {
        match head {
            [0x1f, 0x8b, 0x08, ..] => Self::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Self::Zstd,
            [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Self::Zstd,
            [b'B', b'Z', b'h', ..] => Self::Bzip2,
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Self::Xz,
            _ => Self::None,
        }
    }
}

/// Detects the compression of `reader` and gives its uncompressed bytes. Concatenated gzip members and zstd frames are read through.
///
/// # Errors
/// The first bytes cannot be read, or the decompressor cannot start.
pub fn decompress<'a>(mut reader: impl Read + Send + 'a) -> Result<(Compression, Box<dyn Read + Send + 'a>)> {
    let mut head = Vec::with_capacity(10);
    reader.by_ref().take(10).read_to_end(&mut head).map_err(|source| Error::Stream { source })?;
    let compression = Compression::detect(&head);
    let whole: Chain<Cursor<Vec<u8>>, _> = Cursor::new(head).chain(reader);
    let inner: Box<dyn Read + Send + 'a> = match compression {
        Compression::None => Box::new(whole),
        Compression::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(BufReader::with_capacity(128 << 10, whole))),
        Compression::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::new(whole).map_err(|source| Error::Stream { source })?;
            // 128 MiB: what the zstd command line accepts without --long.
            decoder.window_log_max(27).map_err(|source| Error::Stream { source })?;
            Box::new(decoder)
        }
        Compression::Bzip2 => Box::new(bzip2::read::MultiBzDecoder::new(whole)),
        Compression::Xz => Box::new(xz2::read::XzDecoder::new_multi_decoder(whole)),
    };
    Ok((compression, inner))
}
