//! `Notes`: what is known of an instance's files without reading them, and of packs without compressing them. They lie beside the instance and go with it.
//!
//! Nothing in them is needed: damage, or another layout, is as if there were none. A file's record holds as long as its identity (device, inode, size, times) does;
//! what has not rested long enough to be told apart from a later write is not recorded (`rhost_store::Settled`). A pack is recorded only by who made or checked it.
use std::collections::HashMap;

use rhost_export::cache::Chunk;
use rhost_llb::{BlobDigest, Digest};
use rhost_rootfs::{Attribute, FileIdentity};

/// Begins the bytes; another layout takes another word.
const MAGIC: &[u8; 8] = b"rhostcn1";

/// What is known of one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// When it holds.
    pub file: FileIdentity,
    /// Its attributes.
    pub xattrs: Vec<Attribute>,
    /// Its chunks; of what is no regular file, none.
    pub chunks: Vec<Chunk>,
}

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Notes {
    /// By device and inode.
    files: HashMap<(u64, u64), Known>,
    /// Pack key to blob and its size.
    pub packs: HashMap<[u8; 32], (BlobDigest, u64)>,
}

impl Notes {
    /// What is known of `file`.
    pub fn get(&self, file: &FileIdentity) -> Option<&Known> {
        self.files.get(&(file.dev, file.ino)).filter(|known| known.file == *file)
    }

    /// Adds to what is known.
    pub fn put(&mut self, known: Known) {
        self.files.insert((known.file.dev, known.file.ino), known);
    }

    /// Reads what [`Notes::to_bytes`] wrote; nothing where anything is wrong with it.
    pub fn from_bytes(bytes: &[u8]) -> Self {
        let Some(body) = rhost_store::unseal(MAGIC, bytes) else { return Self::default() };
        read(&mut Reader(body)).unwrap_or_default()
    }

    /// As bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut body = Vec::with_capacity(self.files.len() * 96);
        number(&mut body, self.files.len());
        for Known { file, xattrs, chunks } in self.files.values() {
            for part in [file.dev, file.ino, file.size, file.mtime as u64, file.ctime as u64] {
                body.extend(part.to_le_bytes());
            }
            number(&mut body, xattrs.len());
            for part in xattrs.iter().flat_map(|(name, value)| [name, value]) {
                number(&mut body, part.len());
                body.extend(part);
            }
            number(&mut body, chunks.len());
            for chunk in chunks {
                body.extend(chunk.id);
                body.extend(chunk.len.to_le_bytes());
            }
        }
        number(&mut body, self.packs.len());
        for (key, (digest, size)) in &self.packs {
            body.extend(key);
            body.extend(digest.0.as_raw());
            body.extend(size.to_le_bytes());
        }
        rhost_store::seal(MAGIC, &body)
    }
}

fn number(out: &mut Vec<u8>, count: usize) {
    out.extend(u32::try_from(count).unwrap_or(u32::MAX).to_le_bytes());
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn bytes(&mut self, count: usize) -> Option<&[u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.bytes(N)?.try_into().ok()
    }

    fn number(&mut self) -> Option<usize> {
        Some(u32::from_le_bytes(self.array()?) as usize)
    }

    fn long(&mut self) -> Option<u64> {
        Some(u64::from_le_bytes(self.array()?))
    }
}

fn read(from: &mut Reader<'_>) -> Option<Notes> {
    let mut notes = Notes::default();
    for _ in 0..from.number()? {
        let file = FileIdentity {
            dev: from.long()?,
            ino: from.long()?,
            size: from.long()?,
            mtime: from.long()? as i64,
            ctime: from.long()? as i64,
        };
        let part = |from: &mut Reader<'_>| {
            let length = from.number()?;
            from.bytes(length).map(<[u8]>::to_vec)
        };
        let mut xattrs = Vec::new();
        for _ in 0..from.number()? {
            xattrs.push((part(from)?, part(from)?));
        }
        let mut chunks = Vec::new();
        for _ in 0..from.number()? {
            chunks.push(Chunk { id: from.array()?, len: u32::from_le_bytes(from.array()?) });
        }
        notes.put(Known { file, xattrs, chunks });
    }
    for _ in 0..from.number()? {
        let (key, digest) = (from.array()?, BlobDigest(Digest::from_raw(from.array()?)));
        notes.packs.insert(key, (digest, from.long()?));
    }
    Some(notes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_are_read_as_written_and_damage_is_nothing() {
        let file = |ino| FileIdentity { dev: 1, ino, size: 3, mtime: -4, ctime: 5 };
        let mut notes = Notes::default();
        notes.put(Known { file: file(1), xattrs: vec![(b"user.a".to_vec(), b"b".to_vec())], chunks: Vec::new() });
        notes.put(Known { file: file(2), xattrs: Vec::new(), chunks: vec![Chunk::of(b"x"), Chunk::of(b"yy")] });
        notes.packs.insert([7; 32], (BlobDigest(Digest::of("pack")), 9));
        let bytes = notes.to_bytes();
        let again = Notes::from_bytes(&bytes);
        assert_eq!(again, notes);
        assert!(again.get(&file(2)).is_some() && again.get(&FileIdentity { ctime: 6, ..file(2) }).is_none());
        for damaged in [&bytes[..bytes.len() - 1], &bytes[..20], &[], b"rhostcn2"] {
            assert_eq!(Notes::from_bytes(damaged), Notes::default());
        }
        let mut flipped = bytes.clone();
        flipped[60] ^= 1;
        assert_eq!(Notes::from_bytes(&flipped), Notes::default());
    }
}
