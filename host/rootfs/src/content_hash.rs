//! sig
use rhost_llb::Digest;

use crate::Stat;

/// How a path is hashed: the fields of BuildKit's selector (spec C.1 "File: secondary input of copy").
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ChecksumOptions {
    /// Follow a symlink at the end of the path.
    pub follow_links: bool,
    /// The path is a pattern.
    pub wildcard: bool,
    /// Only what matches.
    pub include: Vec<String>,
    /// Not what matches.
    pub exclude: Vec<String>,
    /// Prefixes of which each must be among the files.
    pub required: Vec<String>,
}

/// What identifies the bytes and metadata of a file without reading it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct FileIdentity {
    /// Path inside the context.
    pub path: Vec<u8>,
    /// Device.
    pub dev: u64,
    /// Inode.
    pub ino: u64,
    /// Size in bytes.
    pub size: u64,
    /// Modification time.
    pub mtime: i64,
    /// Change time.
    pub ctime: i64,
}

impl FileIdentity {
    /// Identity of a file of a context.
    pub fn new(path: &[u8], stat: &Stat) -> Self {
        Self {
            path: path.to_vec(),
            dev: stat.dev,
            ino: stat.ino,
            size: stat.size,
            mtime: stat.mtime,
            ctime: stat.ctime,
        }
    }
}

/// Remembers content digests of context files between builds. Lookups may miss at any time.
pub trait DigestCache: Send + Sync {
    /// The digest remembered for `file`.
    fn get(&self, file: &FileIdentity) -> Option<Digest>;
    /// Remembers.
    fn put(&self, file: &FileIdentity, digest: Digest);
}
