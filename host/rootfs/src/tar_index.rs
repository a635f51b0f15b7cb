//! `tar_members`: where the files of an archive lie in it, so that some can be read without the others.
use std::io::Read;

use crate::tar_read::{TarReader, What};
use crate::{Error, Kind, Result};

/// Members of an archive at most: each costs memory.
const MOST_MEMBERS: usize = 200_000;

/// A regular file in an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TarMember {
    /// As written, less `./` before it.
    pub name: Vec<u8>,
    /// Where its content begins.
    pub offset: u64,
    /// Bytes.
    pub size: u64,
}

/// The regular files of an uncompressed tar, in its order.
///
/// # Errors
/// A broken archive, or one with more than 200,000 members.
pub fn tar_members(tar: impl Read) -> Result<Vec<TarMember>> {
    let mut reader = TarReader::new(tar);
    let mut found = Vec::new();
    while let Some(entry) = reader.next()? {
        if found.len() >= MOST_MEMBERS {
            let reason = format!("it has more than {MOST_MEMBERS} members");
            return Err(Error::BadArchive { offset: reader.offset(), reason });
        }
        if matches!(entry.what, What::Node(Kind::File, _)) && entry.sparse.is_none() {
            let name = entry.path.strip_prefix(b"./").unwrap_or(&entry.path).to_vec();
            found.push(TarMember { name, offset: reader.offset(), size: entry.size });
        }
    }
    Ok(found)
}
