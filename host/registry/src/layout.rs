//! `OciLayout`: a directory of OCI image-layout as a source of images, with the same interface as a registry.
//!
//! Only the tag and the digest of a reference matter. Blob names are made from parsed digests, so no text from the
//! directory becomes a path; every blob is hashed as it is read.
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use rhost_llb::{BlobDigest, Hasher};
use serde::Deserialize;
use tokio::io::AsyncReadExt as _;

use crate::client::LARGEST_MANIFEST;
use crate::source::{BlobSink, ImageSource};
use crate::{Descriptor, Error, RawManifest, Reference};

const REF_NAME: &str = "org.opencontainers.image.ref.name";
const CONTAINERD_NAME: &str = "io.containerd.image.name";

/// A directory with `oci-layout`, `index.json` and `blobs/sha256/`.
#[derive(Clone, Debug)]
pub struct OciLayout {
    path: PathBuf,
    index: Vec<Descriptor>,
}

impl OciLayout {
    /// Opens the layout at `path` and reads its index.
    ///
    /// # Errors
    /// [`Error::Layout`] when it is none, or of another version than 1.0.x.
    pub async fn open(path: &Path) -> Result<Self, Error> {
        #[derive(Deserialize)]
        struct Marker {
            #[serde(rename = "imageLayoutVersion")]
            version: String,
        }
        #[derive(Deserialize)]
        struct Index {
            manifests: Vec<Descriptor>,
        }
        let broken = |reason: String| Error::Layout { path: path.to_owned(), reason };
        let marker =
            read_limited(&path.join("oci-layout"), 4096).await.map_err(|e| broken(format!("`oci-layout`: {e}")))?;
        let marker: Marker = serde_json::from_slice(&marker).map_err(|e| broken(format!("`oci-layout`: {e}")))?;
        if !marker.version.starts_with("1.0.") {
            return Err(broken(format!("its version is `{}`; wanted 1.0.0", marker.version)));
        }
        let index = read_limited(&path.join("index.json"), LARGEST_MANIFEST)
            .await
            .map_err(|e| broken(format!("`index.json`: {e}")))?;
        let index: Index = serde_json::from_slice(&index).map_err(|e| broken(format!("`index.json`: {e}")))?;
        Ok(Self { path: path.to_owned(), index: index.manifests })
    }

    /// The entries of its index: what it offers, with names in annotations.
    pub fn entries(&self) -> &[Descriptor] {
        &self.index
    }

    fn blob_path(&self, digest: &BlobDigest) -> PathBuf {
        self.path.join("blobs/sha256").join(digest.0.hex())
    }

    /// Whether there is a blob of that name; its bytes are looked at when it is read.
    pub fn has(&self, digest: &BlobDigest) -> bool {
        std::fs::symlink_metadata(self.blob_path(digest)).is_ok_and(|found| found.is_file())
    }

    fn missing(&self, what: String) -> Error {
        Error::NotFound { registry: self.path.display().to_string(), what }
    }

    /// The digest that `image` stands for here: its digest; else the entry with its tag; else the only entry.
    ///
    /// # Errors
    /// [`Error::NotFound`] when there is no such entry.
    pub fn find(&self, image: &Reference) -> Result<BlobDigest, Error> {
        if let Some(digest) = image.digest() {
            return Ok(digest);
        }
        let tag = image.tag().unwrap_or("latest");
        let full = image.clone().tagged().to_string();
        let named = |entry: &&Descriptor| {
            let is = |key: &str, value: &str| entry.annotations.get(key).is_some_and(|v| v == value);
            is(REF_NAME, tag) || is(REF_NAME, &full) || is(CONTAINERD_NAME, &full)
        };
        match (self.index.iter().find(named), &self.index[..]) {
            (Some(entry), _) => Ok(entry.digest),
            (None, [only]) if image.tag().is_none() || !only.annotations.contains_key(REF_NAME) => Ok(only.digest),
            _ => Err(self.missing(format!("tag `{tag}`"))),
        }
    }
}

async fn read_limited(path: &Path, limit: u64) -> std::io::Result<Vec<u8>> {
    let file = tokio::fs::File::open(path).await?;
    if !file.metadata().await?.is_file() {
        return Err(std::io::Error::other("not a regular file"));
    }
    let mut bytes = Vec::new();
    file.take(limit + 1).read_to_end(&mut bytes).await?;
    match bytes.len() as u64 > limit {
        true => Err(std::io::Error::other(format!("more than {limit} bytes"))),
        false => Ok(bytes),
    }
}

#[async_trait]
impl ImageSource for OciLayout {
    async fn head(&self, image: &Reference) -> Result<Descriptor, Error> {
        Ok(self.manifest(image).await?.descriptor)
    }

    async fn manifest(&self, image: &Reference) -> Result<RawManifest, Error> {
        let digest = self.find(image)?;
        let bytes = read_limited(&self.blob_path(&digest), LARGEST_MANIFEST).await.map_err(|e| match e.kind() {
            std::io::ErrorKind::NotFound => self.missing(format!("manifest {digest}")),
            _ => Error::Local { action: "read", digest, source: Arc::new(e) },
        })?;
        let stated = self.index.iter().find(|entry| entry.digest == digest).map(|entry| entry.media_type.as_str());
        RawManifest::new(image, bytes.into(), stated, Some(digest))
    }

    async fn blob(&self, _: &Reference, blob: &Descriptor, sink: &mut dyn BlobSink) -> Result<(), Error> {
        let digest = blob.digest;
        let what = || format!("blob {digest} of `{}`", self.path.display());
        let reading = |e: std::io::Error| match e.kind() {
            std::io::ErrorKind::NotFound => self.missing(format!("blob {digest}")),
            _ => Error::Local { action: "read", digest, source: Arc::new(e) },
        };
        let mut file = tokio::fs::File::open(self.blob_path(&digest)).await.map_err(reading)?;
        let (mut hasher, mut got) = (Hasher::new(), 0u64);
        let mut buffer = vec![0; 256 << 10];
        loop {
            let n = file.read(&mut buffer).await.map_err(reading)?;
            if n == 0 {
                break;
            }
            got += n as u64;
            if got > blob.size {
                return Err(Error::TooLarge { what: what(), limit: blob.size });
            }
            hasher.update(&buffer[..n]);
            let bytes = Bytes::copy_from_slice(&buffer[..n]);
            sink.write(bytes).await.map_err(|e| Error::Local { action: "write", digest, source: Arc::new(e) })?;
        }
        if got < blob.size {
            return Err(Error::Truncated { what: what(), wanted: blob.size, got });
        }
        match BlobDigest(hasher.finish()) {
            found if found == digest => Ok(()),
            found => Err(Error::DigestMismatch { what: what(), wanted: digest, found }),
        }
    }
}
