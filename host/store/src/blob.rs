//! Blobs: bytes named by their SHA-256, laid out as an OCI image layout (image-spec, image-layout.md).
//!
//! A blob is written beside its place, hashed on the way by the writer or by who hands it the bytes, flushed by the store's durability, then renamed: a file under its digest
//! is whole or damaged by the disk, never half. Readers that take bytes into memory check the digest again; a mismatch removes the file and is
//! a miss.
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rhost_llb::{BlobDigest, Digest, Hasher};
use rustix::fs::{FlockOperation, flock};

use crate::in_use::Use;
use crate::store::{Durability, Store};
use crate::{Error, Result};

/// Largest blob that [`Store::read_blob`] takes by default: manifests, indexes and configs are far smaller.
pub const MAX_READ: u64 = 64 << 20;

pub(crate) fn write_layout_marker(root: &Path) -> Result<()> {
    let layout = root.join("blobs-v1");
    for (name, text) in [
        ("oci-layout", r#"{"imageLayoutVersion":"1.0.0"}"#),
        ("index.json", r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}"#),
    ] {
        let path = layout.join(name);
        if !path.exists() {
            std::fs::write(&path, text).map_err(|e| Error::io("write", &path, e))?;
        }
    }
    Ok(())
}

/// Facts: what the file of a blob looked like when its bytes were right.
pub(crate) const STAMPS: &str = "blob stamps";

/// Size, times and inode of a file: other bytes in it have another.
pub(crate) fn stamp(path: &Path) -> Option<Vec<u8>> {
    let found = std::fs::symlink_metadata(path).ok().filter(std::fs::Metadata::is_file)?;
    let parts =
        [found.size() as i64, found.mtime(), found.mtime_nsec(), found.ctime(), found.ctime_nsec(), found.ino() as i64];
    Some(parts.iter().flat_map(|part| part.to_le_bytes()).collect())
}

/// A blob being written. Dropped without [`BlobWriter::commit`] it leaves nothing, unless it was opened to be resumed.
pub struct BlobWriter {
    store: Store,
    file: File,
    path: PathBuf,
    /// None where the caller hashes.
    hasher: Option<Hasher>,
    size: u64,
    keep: bool,
    /// Held while a resumable download is written, so that two processes do not write one file.
    _lock: Option<crate::Lock>,
}

impl BlobWriter {
    /// Bytes written so far; a resumed download starts above 0.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Reads what is being written, from the first byte on, also after it was published. What is read is not checked yet.
    ///
    /// # Errors
    /// The disk.
    pub fn reader(&self) -> io::Result<File> {
        File::open(&self.path)
    }

    /// The same, for a caller that hashes the bytes itself before it hands them over: they are not hashed again, and [`BlobWriter::commit`] must be told their
    /// digest.
    #[must_use]
    pub fn hashed_by_caller(self) -> Self {
        let mut writer = self;
        writer.hasher = None;
        writer
    }

    /// Publishes the bytes under their digest.
    ///
    /// # Errors
    /// [`Error::DigestMismatch`] when `wanted` is another digest (what was written is thrown away), or the disk fails.
    pub fn commit(mut self, wanted: Option<BlobDigest>) -> Result<(BlobDigest, u64)> {
        self.file.flush().map_err(|e| Error::io("write", &self.path, e))?;
        let size = self.size;
        let found = match (self.hasher.take(), wanted) {
            (Some(hasher), _) => BlobDigest(hasher.finish()),
            (None, Some(digest)) => digest,
            (None, None) => {
                let source = io::Error::other("nobody has hashed it");
                return Err(Error::io("publish blob", &self.path, source));
            }
        };
        if let Some(wanted) = wanted.filter(|w| *w != found) {
            self.keep = false;
            return Err(Error::DigestMismatch { wanted, found, size });
        }
        let place = self.store.blob_path(&found);
        if self.store.options().durability == Durability::Flush {
            self.file.sync_all().map_err(|e| Error::io("flush", &self.path, e))?;
        }
        self.store.uses.add(Use::Blob(found))?;
        std::fs::rename(&self.path, &place).map_err(|e| Error::io("publish blob", &place, e))?;
        self.store.uses.made_blob(found, size);
        if self.store.options().durability == Durability::Flush {
            let dir = self.store.blobs_dir();
            File::open(&dir).and_then(|d| d.sync_all()).map_err(|e| Error::io("flush", &dir, e))?;
        }
        self.keep = true;
        Ok((found, size))
    }
}

impl Write for BlobWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.file.write(bytes)?;
        if let Some(hasher) = &mut self.hasher {
            hasher.update(&bytes[..count]);
        }
        self.size += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for BlobWriter {
    fn drop(&mut self) {
        if !self.keep {
            // What cannot be removed now is removed by the next sweep of the ingest directory.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

impl Store {
    pub(crate) fn blobs_dir(&self) -> PathBuf {
        self.inner.root.join("blobs-v1/blobs/sha256")
    }

    /// Where the bytes of `digest` lie, or would lie.
    pub fn blob_path(&self, digest: &BlobDigest) -> PathBuf {
        self.blobs_dir().join(digest.0.hex())
    }

    /// Size in bytes of a stored blob; `None` when it is not there. Cheap: the bytes are not read.
    pub fn blob_size(&self, digest: &BlobDigest) -> Option<u64> {
        std::fs::symlink_metadata(self.blob_path(digest)).ok().filter(|m| m.is_file()).map(|m| m.len())
    }

    /// As [`Store::blob_size`], for who will rely on it: it is in use from now on.
    ///
    /// # Errors
    /// The disk.
    pub fn keep_blob(&self, digest: &BlobDigest) -> Result<Option<u64>> {
        Ok(self.keep_blobs(std::slice::from_ref(digest))?.pop().flatten())
    }

    /// As [`Store::keep_blob`] for several, in order.
    pub(crate) fn keep_blobs(&self, digests: &[BlobDigest]) -> Result<Vec<Option<u64>>> {
        self.uses.add_all(digests.iter().map(|digest| Use::Blob(*digest)))?;
        let keys: Vec<&[u8]> = digests.iter().map(|digest| digest.0.as_raw().as_slice()).collect();
        let known = self.inner.db.facts(STAMPS, &keys)?;
        let sizes = digests.iter().zip(known).map(|(digest, known)| {
            Ok(if self.is_sound(digest, known.as_deref())? { self.blob_size(digest) } else { None })
        });
        sizes.collect()
    }

    /// Whether the bytes of a blob are those that were written. Cheap where nobody has touched the file since it was last looked at (its size, times and
    /// inode are remembered); else it is read and hashed, and removed when it is damaged.
    fn is_sound(&self, digest: &BlobDigest, known: Option<&[u8]>) -> Result<bool> {
        let path = self.blob_path(digest);
        let Some(now) = stamp(&path) else { return Ok(false) };
        if known == Some(now.as_slice()) {
            return Ok(true);
        }
        if !self.verify_blob(digest)? {
            return Ok(false);
        }
        self.set_fact(STAMPS, digest.0.as_raw(), &now)?;
        Ok(true)
    }

    /// Opens a stored blob for reading; `None` when it is not there. The bytes are not checked: a reader of layers computes the digest on the
    /// way, and calls [`Store::remove_blob`] when it differs.
    pub fn open_blob(&self, digest: &BlobDigest) -> Result<Option<File>> {
        let path = self.blob_path(digest);
        match File::open(&path) {
            Ok(file) => Ok(Some(file)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::io("open", path, error)),
        }
    }

    /// The bytes of a stored blob of at most `limit` bytes, checked against the digest; damaged bytes are removed and `None`.
    ///
    /// # Errors
    /// [`Error::TooLarge`], or the disk fails.
    pub fn read_blob(&self, digest: &BlobDigest, limit: u64) -> Result<Option<Vec<u8>>> {
        let Some(file) = self.open_blob(digest)? else { return Ok(None) };
        let path = self.blob_path(digest);
        let size = file.metadata().map_err(|e| Error::io("stat", &path, e))?.len();
        if size > limit {
            return Err(Error::TooLarge { digest: *digest, size, limit });
        }
        let mut bytes = Vec::with_capacity(size as usize);
        file.take(limit + 1).read_to_end(&mut bytes).map_err(|e| Error::io("read", &path, e))?;
        if Digest::of(&bytes) != digest.0 {
            self.warn(format!(
                "the stored blob {digest} was damaged and is removed; what needs it is made or fetched again"
            ));
            self.remove_blob(digest)?;
            return Ok(None);
        }
        Ok(Some(bytes))
    }

    /// Reads a stored blob through and says whether its bytes are right; wrong ones are removed.
    pub fn verify_blob(&self, digest: &BlobDigest) -> Result<bool> {
        let Some(mut file) = self.open_blob(digest)? else { return Ok(false) };
        let mut hasher = Hasher::new();
        let mut buffer = vec![0; 256 << 10];
        loop {
            match file.read(&mut buffer).map_err(|e| Error::io("read", self.blob_path(digest), e))? {
                0 => break,
                count => hasher.update(&buffer[..count]),
            }
        }
        let right = hasher.finish() == digest.0;
        if !right {
            self.warn(format!(
                "the stored blob {digest} was damaged and is removed; what needs it is made or fetched again"
            ));
            self.remove_blob(digest)?;
        }
        Ok(right)
    }

    /// Removes a blob; one that is not there is no error.
    pub fn remove_blob(&self, digest: &BlobDigest) -> Result<()> {
        let path = self.blob_path(digest);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Error::io("remove", path, error)),
            _ => Ok(()),
        }
    }

    /// Stores `bytes`.
    pub fn put_blob(&self, bytes: &[u8]) -> Result<BlobDigest> {
        let digest = BlobDigest(Digest::of(bytes));
        self.uses.add(Use::Blob(digest))?;
        // Read rather than looked at: it is small, and damage would be kept.
        if self.read_blob(&digest, bytes.len() as u64).ok().flatten().is_some() {
            return Ok(digest);
        }
        let mut writer = self.blob_writer()?;
        writer.write_all(bytes).map_err(|e| Error::io("write", &writer.path, e))?;
        Ok(writer.commit(Some(digest))?.0)
    }

    /// Begins a blob whose digest is not known yet.
    pub fn blob_writer(&self) -> Result<BlobWriter> {
        self.uses.begin()?;
        let (path, file) = loop {
            let path = self.inner.root.join("ingest-v1").join(crate::lock::unique_name());
            let file = OpenOptions::new().read(true).write(true).create_new(true).open(&path);
            let file = file.map_err(|e| Error::io("create", &path, e))?;
            // Says that somebody writes it. A sweep that came between may have taken it for a dead one's.
            let held = flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok();
            if held && file.metadata().is_ok_and(|found| found.nlink() > 0) {
                break (path, file);
            }
        };
        Ok(BlobWriter {
            store: self.clone(),
            file,
            path,
            hasher: Some(Hasher::new()),
            size: 0,
            keep: false,
            _lock: None,
        })
    }

    /// Begins or resumes the download of `digest`: what an earlier, interrupted one left is hashed and kept ([`BlobWriter::size`] says how much).
    /// Blocks while another process downloads the same; look for the blob again afterwards.
    pub fn resume_blob(&self, digest: &BlobDigest) -> Result<BlobWriter> {
        let lock = self.lock(&format!("ingest {digest}"))?;
        let path = self.inner.root.join("ingest-v1").join(format!("partial-{}", digest.0.hex()));
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(|e| Error::io("create", &path, e))?;
        let mut hasher = Hasher::new();
        let mut size = 0;
        let mut buffer = vec![0; 256 << 10];
        loop {
            match file.read(&mut buffer).map_err(|e| Error::io("read", &path, e))? {
                0 => break,
                count => {
                    hasher.update(&buffer[..count]);
                    size += count as u64;
                }
            }
        }
        Ok(BlobWriter { store: self.clone(), file, path, hasher: Some(hasher), size, keep: true, _lock: Some(lock) })
    }

    /// Throws away what an interrupted download of `digest` left.
    pub fn forget_partial(&self, digest: &BlobDigest) -> Result<()> {
        let _lock = self.lock(&format!("ingest {digest}"))?;
        let path = self.inner.root.join("ingest-v1").join(format!("partial-{}", digest.0.hex()));
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Error::io("remove", path, error)),
            _ => Ok(()),
        }
    }
}
