//! `BlobSource`, `BlobSink`: the ports through which this crate sees blobs; with one in memory and one in a directory.
//!
//! The store has its own types. Its adapter implements these two traits with a few lines, and this crate stays free of
//! SQLite, leases and locks.
use std::collections::HashMap;
use std::fs;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use rhost_llb::BlobDigest;

use crate::partial::Partial;

/// Where the bytes of existing blobs come from.
pub trait BlobSource: Send + Sync {
    /// A reader over all bytes of `digest`. `NotFound` when there is no such blob.
    fn open(&self, digest: BlobDigest) -> io::Result<Box<dyn Read + Send>>;
}

/// Where finished blobs go.
pub trait BlobSink: Send + Sync {
    /// A new blob, nameless until [`BlobWriter::commit`]. Dropped without a commit it leaves nothing behind.
    fn create(&self) -> io::Result<Box<dyn BlobWriter>>;

    /// Publishes `bytes` under `digest`, which is theirs. Whoever has them already need not write them again.
    fn put(&self, digest: BlobDigest, bytes: &[u8]) -> io::Result<()> {
        let mut blob = self.create()?;
        blob.write_all(bytes)?;
        blob.commit(digest, bytes.len() as u64)
    }
}

/// A blob that is being written.
pub trait BlobWriter: Write + Send {
    /// Publishes the `size` bytes written under `digest`, which the caller has computed over them. Not an error when
    /// the blob exists already.
    fn commit(self: Box<Self>, digest: BlobDigest, size: u64) -> io::Result<()>;
}

/// Blobs in memory: for tests, and for exports that go straight to a stream.
#[derive(Clone, Default)]
pub struct MemoryBlobs(Arc<Mutex<HashMap<BlobDigest, Arc<[u8]>>>>);

impl MemoryBlobs {
    /// No blobs.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds `bytes` and names them.
    pub fn insert(&self, bytes: &[u8]) -> BlobDigest {
        let digest = BlobDigest(rhost_llb::Digest::of(bytes));
        self.put(digest, bytes);
        digest
    }

    /// The bytes of `digest`.
    pub fn get(&self, digest: BlobDigest) -> Option<Arc<[u8]>> {
        self.0.lock().unwrap_or_else(|e| e.into_inner()).get(&digest).cloned()
    }

    fn put(&self, digest: BlobDigest, bytes: &[u8]) {
        self.0.lock().unwrap_or_else(|e| e.into_inner()).insert(digest, bytes.into());
    }
}

impl BlobSource for MemoryBlobs {
    fn open(&self, digest: BlobDigest) -> io::Result<Box<dyn Read + Send>> {
        let bytes = self.get(digest).ok_or(io::ErrorKind::NotFound)?;
        Ok(Box::new(io::Cursor::new(bytes)))
    }
}

impl BlobSink for MemoryBlobs {
    fn create(&self) -> io::Result<Box<dyn BlobWriter>> {
        Ok(Box::new(MemoryBlob { blobs: self.clone(), bytes: Vec::new() }))
    }
}

struct MemoryBlob {
    blobs: MemoryBlobs,
    bytes: Vec<u8>,
}

impl Write for MemoryBlob {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.bytes.extend_from_slice(buffer);
        Ok(buffer.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl BlobWriter for MemoryBlob {
    fn commit(self: Box<Self>, digest: BlobDigest, _size: u64) -> io::Result<()> {
        self.blobs.put(digest, &self.bytes);
        Ok(())
    }
}

/// Blobs in `DIR/blobs/sha256/`, as an OCI image layout has them (image-spec, image-layout.md).
#[derive(Clone)]
pub struct DirBlobs {
    folder: PathBuf,
}

impl DirBlobs {
    /// The blobs of the layout at `root`; makes the folder when it is missing.
    pub fn open(root: &Path) -> io::Result<Self> {
        let folder = root.join("blobs").join("sha256");
        fs::create_dir_all(&folder)?;
        Ok(Self { folder })
    }

    /// Where `digest` is or would be.
    pub fn path(&self, digest: BlobDigest) -> PathBuf {
        self.folder.join(digest.0.hex())
    }
}

impl BlobSource for DirBlobs {
    fn open(&self, digest: BlobDigest) -> io::Result<Box<dyn Read + Send>> {
        Ok(Box::new(fs::File::open(self.path(digest))?))
    }
}

impl BlobSink for DirBlobs {
    fn create(&self) -> io::Result<Box<dyn BlobWriter>> {
        Ok(Box::new(DirBlob { blobs: self.clone(), partial: Partial::within(&self.folder)? }))
    }
}

struct DirBlob {
    blobs: DirBlobs,
    partial: Partial,
}

impl Write for DirBlob {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.partial.file().write(buffer)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.partial.file().flush()
    }
}

impl BlobWriter for DirBlob {
    fn commit(mut self: Box<Self>, digest: BlobDigest, _size: u64) -> io::Result<()> {
        // Bytes before names: after a crash no blob is there under its name with less in it.
        self.partial.file().sync_all()?;
        self.partial.publish(&self.blobs.path(digest))
    }
}
