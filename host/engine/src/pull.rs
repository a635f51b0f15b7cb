//! `rhost pull` and `rhost tag`: images come into the store whole, before their names do.
use std::io;

use async_trait::async_trait;
use jiff::Timestamp;
use rhost_llb::{Platform, VertexDigest};
use rhost_registry::{
    BlobSink, BlobStore, Descriptor, Error, ImageSource, ManifestKind, RawManifest, Reference, pull_blobs, resolve,
};
use rhost_store::{ImageRecord, Store};

use crate::arriving::Incoming;
use crate::blame;
use crate::engine::Engine;
use crate::error::{BuildError, Kind};
use crate::event::{Event, Events};

/// Blobs fetched at once.
const PARALLEL: usize = 4;

/// Which platforms of an image are pulled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PullPlatforms {
    /// One; the name then stands for its manifest.
    One(Platform),
    /// All; the name stands for the index.
    All,
}

impl Engine {
    /// Pulls `reference` into the store, under its full name. Returns `NAME@DIGEST`.
    ///
    /// # Errors
    /// Malformed, unreachable, not there, not for this platform; the disk.
    pub async fn pull(
        &self,
        reference: &str,
        platforms: &PullPlatforms,
        events: &Events,
    ) -> Result<String, BuildError> {
        let image: Reference = reference.parse().map_err(|error| BuildError::new(Kind::Request, error))?;
        let image = image.tagged();
        let failed = |error: Error| blame::registry(&error, error.to_string(), Kind::Network);
        let source = crate::images::registries(&self.store, &self.client, None);
        let title = format!("pulling {image}");
        let pulled = events.step(&title, |vertex| async move {
            let (root, blobs) = match platforms {
                PullPlatforms::One(platform) => {
                    let found = resolve(&source, &image, platform).await.map_err(failed)?;
                    (found.manifest, found.layers.into_iter().chain([found.config]).collect())
                }
                PullPlatforms::All => whole(&source, &image).await.map_err(failed)?,
            };
            let into = PullInto { store: &self.store, events, vertex };
            pull_blobs(&source, &image, &blobs, &into, PARALLEL).await.map_err(failed)?;
            let store = |error: rhost_store::Error| BuildError::new(Kind::Store, error);
            self.store.put_blob(&root.bytes).map_err(store)?;
            let of = &root.descriptor;
            let value =
                serde_json::json!({"mediaType": of.media_type, "digest": of.digest.to_string(), "size": of.size});
            let descriptor = serde_json::from_value(value).map_err(|error| BuildError::new(Kind::Store, error))?;
            self.store.tag(&image.to_string(), &descriptor).map_err(store)?;
            Ok(image.with_digest(of.digest).to_string())
        });
        pulled.await
    }

    /// Lets the full form of `name` stand for `image`, too. Returns it.
    ///
    /// # Errors
    /// `name` is no name; the store.
    pub fn tag(&self, image: &ImageRecord, name: &str) -> Result<String, BuildError> {
        let full: rhost_export::ImageName = name.parse().map_err(|error| BuildError::new(Kind::Request, error))?;
        self.store.tag(&full.to_string(), &image.descriptor).map_err(|error| BuildError::new(Kind::Store, error))?;
        Ok(full.to_string())
    }
}

/// The root of `image` and all blobs and manifests below it.
async fn whole(source: &dyn ImageSource, image: &Reference) -> Result<(RawManifest, Vec<Descriptor>), Error> {
    let root = source.manifest(image).await?;
    let mut blobs = Vec::new();
    let mut waiting = vec![(root.clone(), 0)];
    while let Some((manifest, depth)) = waiting.pop() {
        match manifest.parse(image)? {
            ManifestKind::Image(manifest) => blobs.extend(manifest.layers.into_iter().chain([manifest.config])),
            ManifestKind::Index(entries) if depth < 4 => {
                for entry in entries {
                    // Reading it keeps it: the source stores what came by digest.
                    waiting.push((source.manifest(&image.with_digest(entry.digest)).await?, depth + 1));
                }
            }
            ManifestKind::Index(_) => {
                let (digest, reason) = (manifest.descriptor.digest, "indexes are nested too deeply".to_owned());
                return Err(Error::BadManifest { image: image.clone(), digest, reason });
            }
        }
    }
    Ok((root, blobs))
}

/// The store as a place for pulled blobs.
struct PullInto<'a> {
    store: &'a Store,
    events: &'a Events,
    vertex: VertexDigest,
}

#[async_trait]
impl BlobStore for PullInto<'_> {
    async fn has(&self, blob: &Descriptor) -> io::Result<bool> {
        Ok(self.store.blob_size(&blob.digest) == Some(blob.size))
    }

    async fn start(&self, blob: &Descriptor) -> io::Result<Box<dyn BlobSink>> {
        let (events, vertex, total, started) = (self.events.clone(), self.vertex, blob.size, Timestamp::now());
        let id: std::sync::Arc<str> = blob.digest.to_string().into();
        let tell = move |current| {
            let (id, done) = (id.clone(), current == total);
            events.send(Event::Status { vertex, id, current, total, started, at: Timestamp::now(), done });
        };
        Ok(Box::new(Incoming::new(self.store, blob.digest, tell)?))
    }
}
