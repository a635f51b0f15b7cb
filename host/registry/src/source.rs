//! The ports of this crate: where images come from, and where their bytes go to and come from.
//!
//! A registry and an OCI layout directory are the same to a caller; a content store, a file or memory are the same to us.
use std::io;

use async_trait::async_trait;
use bytes::Bytes;
use rhost_llb::BlobDigest;
use tokio::io::AsyncRead;

use crate::descriptor::ManifestKind;
use crate::{Descriptor, Error, RawManifest, Reference};

/// A place that has images: a registry ([`crate::Client`]) or a directory ([`crate::OciLayout`]).
#[async_trait]
pub trait ImageSource: Send + Sync {
    /// What `image` stands for now: an index or a manifest. A name with a digest stands for that digest.
    async fn head(&self, image: &Reference) -> Result<Descriptor, Error>;

    /// The bytes of the manifest or index that `image` stands for. The digest is checked when the name has one.
    async fn manifest(&self, image: &Reference) -> Result<RawManifest, Error>;

    /// Writes the bytes of `blob` to `sink`, in order. Returns after size and digest were found right; the sink is not
    /// committed. After an error the sink holds bytes that must be thrown away.
    async fn blob(&self, image: &Reference, blob: &Descriptor, sink: &mut dyn BlobSink) -> Result<(), Error>;

    /// Manifests that say to belong to `subject`, as signatures do; none where there are none. The referrers tag schema (OCI distribution-spec,
    /// "Unavailable Referrers API"): an index under a tag that is made of the digest.
    async fn referrers(&self, image: &Reference, subject: BlobDigest) -> Result<Vec<Descriptor>, Error> {
        referrers_by_tag(self, image, subject).await
    }
}

pub(crate) async fn referrers_by_tag<S: ImageSource + ?Sized>(
    source: &S,
    image: &Reference,
    subject: BlobDigest,
) -> Result<Vec<Descriptor>, Error> {
    let Ok(tagged) = image.with_tag(&subject.to_string().replace(':', "-")) else { return Ok(Vec::new()) };
    match source.manifest(&tagged).await {
        Ok(raw) => match raw.parse(&tagged)? {
            ManifestKind::Index(entries) => Ok(entries),
            ManifestKind::Image(_) => Ok(Vec::new()),
        },
        Err(Error::NotFound { .. }) => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// Takes the bytes of one blob.
#[async_trait]
pub trait BlobSink: Send {
    /// Appends `bytes`.
    async fn write(&mut self, bytes: Bytes) -> io::Result<()>;

    /// Throws away all that was written, to begin again with other bytes (a mirror's copy was wrong).
    async fn restart(&mut self) -> io::Result<()>;

    /// Makes the blob durable. Called once, after its digest was found right. Dropping the sink instead abandons it.
    async fn commit(self: Box<Self>) -> io::Result<()>;
}

/// Opens sinks: what a content store offers to a pull.
#[async_trait]
pub trait BlobStore: Send + Sync {
    /// Whether the blob is here already.
    async fn has(&self, blob: &Descriptor) -> io::Result<bool>;

    /// Begins to write the blob.
    async fn start(&self, blob: &Descriptor) -> io::Result<Box<dyn BlobSink>>;
}

/// Opens bytes for reading: what a content store offers to a push.
#[async_trait]
pub trait BlobSource: Send + Sync {
    /// Reads the blob from byte `offset` on.
    async fn open(&self, blob: &Descriptor, offset: u64) -> io::Result<Box<dyn AsyncRead + Send + Unpin>>;
}

/// A sink in memory, for small things (configs, guests) and tests. Refuses to grow above its limit.
#[derive(Debug)]
pub struct MemorySink {
    bytes: Vec<u8>,
    limit: u64,
}

impl MemorySink {
    /// An empty sink that takes at most `limit` bytes.
    pub fn new(limit: u64) -> Self {
        Self { bytes: Vec::new(), limit }
    }

    /// What was written.
    pub fn into_bytes(self) -> Bytes {
        self.bytes.into()
    }
}

#[async_trait]
impl BlobSink for MemorySink {
    async fn write(&mut self, bytes: Bytes) -> io::Result<()> {
        if self.bytes.len() as u64 + bytes.len() as u64 > self.limit {
            return Err(io::Error::other(format!("more than {} bytes", self.limit)));
        }
        self.bytes.extend_from_slice(&bytes);
        Ok(())
    }

    async fn restart(&mut self) -> io::Result<()> {
        self.bytes.clear();
        Ok(())
    }

    async fn commit(self: Box<Self>) -> io::Result<()> {
        Ok(())
    }
}

/// A store of blobs in memory that are all at hand: a source for pushes of small things.
#[async_trait]
impl BlobSource for std::collections::HashMap<rhost_llb::BlobDigest, Bytes> {
    async fn open(&self, blob: &Descriptor, offset: u64) -> io::Result<Box<dyn AsyncRead + Send + Unpin>> {
        let bytes = self.get(&blob.digest).ok_or(io::ErrorKind::NotFound)?;
        let from = usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
        Ok(Box::new(io::Cursor::new(bytes.slice(from..))))
    }
}
