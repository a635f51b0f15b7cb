//! `Vendor`: a directory that stands for the network. It is an OCI image layout (images and frontends under their full names), whose blobs are also files
//! from URLs and trees of git sources, with an index of rhost's own beside the layout's.
//!
//! Images, frontends and files are named by digest in the lock file or in the index, and every blob is hashed while it is read: what is
//! in the directory is what was put there, or an error.
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use rhost_llb::{BlobDigest, Digest};
use rhost_registry::{BlobSink, Client, Descriptor, Error, ImageSource, MemorySink, OciLayout, RawManifest, Reference};
use serde::{Deserialize, Serialize};

use super::file::{Entries, LockFile};
use crate::error::{BuildError, Kind};

/// The index's name.
pub const INDEX: &str = "rhost-vendor.json";
/// The version that is written and read.
pub const VERSION: u32 = 1;
/// Largest index, in bytes.
const LARGEST: u64 = 16 << 20;

/// A blob of the directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VendoredBlob {
    /// Of its bytes.
    pub digest: BlobDigest,
    /// In bytes.
    pub size: u64,
    /// Of a file at a URL: its `Last-Modified`, in seconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub modified: Option<i64>,
}

/// `rhost-vendor.json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VendorIndex {
    /// See [`VERSION`].
    pub version: u32,
    /// A lock file: what names stand for.
    pub lock: VendoredBlob,
    /// Files by URL, without credentials.
    pub files: BTreeMap<String, VendoredBlob>,
    /// Trees of git sources, as layers, by [`tree_name`].
    pub trees: BTreeMap<String, VendoredBlob>,
}

/// The name of a git source's tree: the repository and the key of the content, which has the commit in it.
pub fn tree_name(url: &str, key: &str) -> String {
    format!("{url} {key}")
}

/// A vendor directory that was opened.
#[derive(Debug)]
pub struct Vendor {
    layout: OciLayout,
    path: PathBuf,
    /// What names stand for in it.
    pub entries: Entries,
    index: VendorIndex,
}

impl Vendor {
    /// Opens the directory at `path`.
    ///
    /// # Errors
    /// It is none, or damaged, or of another version.
    pub async fn open(path: &Path) -> Result<Self, BuildError> {
        let wrong = |reason: &dyn std::fmt::Display| {
            BuildError::new(Kind::Request, format!("vendor directory `{}`: {reason}", path.display()))
                .hint(format!("`rhost vendor -o {}`, with the flags of this build, makes it", path.display()))
        };
        let file = path.join(INDEX);
        let text = match std::fs::metadata(&file) {
            Ok(found) if found.len() > LARGEST => {
                return Err(wrong(&format!("`{INDEX}` is larger than {LARGEST} bytes")));
            }
            Ok(_) => std::fs::read(&file).map_err(|error| wrong(&format!("`{INDEX}`: {error}")))?,
            Err(error) => return Err(wrong(&format!("`{INDEX}`: {error}"))),
        };
        #[derive(Deserialize)]
        struct Head {
            version: u32,
        }
        let head: Head = serde_json::from_slice(&text).map_err(|error| wrong(&format!("`{INDEX}`: {error}")))?;
        if head.version != VERSION {
            return Err(wrong(&format!("it is of version {}, and this rhost reads version {VERSION}", head.version)));
        }
        let index: VendorIndex =
            serde_json::from_slice(&text).map_err(|error| wrong(&format!("`{INDEX}`: {error}")))?;
        let layout = OciLayout::open(path).await.map_err(|error| wrong(&error))?;
        let found = Self { layout, path: path.to_owned(), entries: Entries::new(), index };
        let mut lock = MemorySink::new(LARGEST);
        found.read(&found.index.lock, &mut lock).await.map_err(|error| wrong(&error))?;
        let lock = String::from_utf8(lock.into_bytes().to_vec()).map_err(|error| wrong(&error))?;
        let lock = LockFile::parse(&file, &lock).map_err(|error| wrong(&error))?;
        Ok(Self { entries: lock.entries, ..found })
    }

    /// Its images, frontends, and their signatures.
    pub(crate) fn layout(&self) -> &OciLayout {
        &self.layout
    }

    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn has(&self, digest: &BlobDigest) -> bool {
        self.layout.has(digest)
    }

    /// The file that was at `url`; with `digest`, the one that must have been.
    pub fn file(&self, url: &str, digest: Option<Digest>) -> Option<VendoredBlob> {
        let named = self.index.files.get(url);
        let found = named.filter(|found| digest.is_none_or(|digest| found.digest.0 == digest));
        found.filter(|found| self.has(&found.digest)).cloned()
    }

    /// The tree of a git source.
    pub fn tree(&self, name: &str) -> Option<&VendoredBlob> {
        self.index.trees.get(name)
    }

    /// Writes `blob` to `sink`.
    ///
    /// # Errors
    /// It is not there, or not what it is called.
    pub async fn read(&self, blob: &VendoredBlob, sink: &mut dyn BlobSink) -> Result<(), Error> {
        // The layout looks at nothing else of a name.
        let name: Reference = "vendor".parse()?;
        let descriptor = Descriptor {
            media_type: "application/octet-stream".into(),
            digest: blob.digest,
            size: blob.size,
            platform: None,
            annotations: BTreeMap::new(),
            artifact_type: None,
        };
        self.layout.blob(&name, &descriptor, sink).await
    }

    /// Opens the tree of `blob`, to be hashed by who reads it.
    ///
    /// # Errors
    /// It cannot be opened.
    pub fn open_blob(&self, blob: &VendoredBlob) -> io::Result<std::fs::File> {
        std::fs::File::open(self.path.join("blobs/sha256").join(blob.digest.0.hex()))
    }
}

/// Registries, and a vendor directory that goes before them for what is named by digest.
#[derive(Clone)]
pub struct Upstream {
    /// Registries.
    pub client: Client,
    /// The directory.
    pub vendor: Option<Arc<Vendor>>,
}

impl Upstream {
    fn vendored(&self, image: &Reference) -> Option<&OciLayout> {
        let (vendor, digest) = (self.vendor.as_ref()?, image.digest()?);
        vendor.has(&digest).then_some(&vendor.layout)
    }
}

#[async_trait]
impl ImageSource for Upstream {
    async fn head(&self, image: &Reference) -> Result<Descriptor, Error> {
        match self.vendored(image) {
            Some(layout) => layout.head(image).await,
            None => self.client.head(image).await,
        }
    }

    async fn manifest(&self, image: &Reference) -> Result<RawManifest, Error> {
        match self.vendored(image) {
            Some(layout) => layout.manifest(image).await,
            None => self.client.manifest(image).await,
        }
    }

    async fn blob(&self, image: &Reference, blob: &Descriptor, sink: &mut dyn BlobSink) -> Result<(), Error> {
        match self.vendor.as_ref().filter(|vendor| vendor.has(&blob.digest)) {
            Some(vendor) => vendor.layout.blob(image, blob, sink).await,
            None => self.client.blob(image, blob, sink).await,
        }
    }

    async fn referrers(&self, image: &Reference, subject: BlobDigest) -> Result<Vec<Descriptor>, Error> {
        self.client.referrers(image, subject).await
    }
}
