//! `rhost save`: an image of the store as an archive, byte for byte the blobs that are there.
use std::collections::BTreeMap;
use std::path::Path;

use rhost_export::{
    Assembled, Descriptor, Destination, ImageManifest, ImageName, write_docker_tar, write_oci_tar, write_to,
};
use rhost_llb::BlobDigest;
use rhost_store::{ImageRecord, MAX_READ};

use crate::engine::Engine;
use crate::error::{BuildError, Kind};
use crate::export::StoreBlobs;

impl Engine {
    /// Writes `image` to `path`, or to stdout, as `docker` or `oci` archive.
    ///
    /// # Errors
    /// A blob is missing, several platforms in a docker archive, or the destination cannot be written.
    pub fn save(&self, image: &ImageRecord, format: &str, path: Option<&Path>) -> Result<(), BuildError> {
        let failed =
            |error: &dyn std::fmt::Display| BuildError::new(Kind::Store, format!("saving `{}`: {error}", image.name));
        let digest: BlobDigest = image.descriptor.digest().to_string().parse().map_err(|error| failed(&error))?;
        let mut blobs = BTreeMap::new();
        let (mut manifests, mut config) = (Vec::new(), None);
        let mut waiting = vec![digest];
        while let Some(digest) = waiting.pop() {
            let bytes = self.store().read_blob(&digest, MAX_READ).map_err(|error| failed(&error))?;
            let bytes = bytes.ok_or_else(|| failed(&format!("its manifest {digest} is gone; build it again")))?;
            blobs.insert(digest, bytes.len() as u64);
            let value: serde_json::Value = serde_json::from_slice(&bytes).map_err(|error| failed(&error))?;
            if let Some(entries) = value.get("manifests").and_then(|list| list.as_array()) {
                let digests =
                    entries.iter().filter_map(|entry| entry.get("digest")?.as_str()?.parse::<BlobDigest>().ok());
                waiting.extend(digests);
                continue;
            }
            let manifest = manifest_of(value).map_err(|error| failed(&error))?;
            for blob in manifest.layers.iter().chain([&manifest.config]) {
                blobs.insert(blob.digest, blob.size);
            }
            config = Some(manifest.config.clone());
            manifests.push(manifest);
        }
        let descriptor = Descriptor {
            media_type: image.descriptor.media_type().to_string(),
            digest,
            size: image.descriptor.size(),
            annotations: BTreeMap::new(),
            platform: None,
        };
        let single = manifests.len() == 1;
        let assembled = Assembled { descriptor, config: config.filter(|_| single), manifests, blobs };
        let names: Vec<ImageName> = image.name.parse().into_iter().collect();
        let destination = path.map_or(Destination::Stdout, |path| Destination::File(path.to_path_buf()));
        let source = StoreBlobs(self.store().clone());
        let written = write_to(&destination, |out| match format {
            "oci" => write_oci_tar(&assembled, &names, &source, out),
            _ => write_docker_tar(&assembled, &names, &source, out),
        });
        written.map_err(|error| failed(&error))
    }
}

/// A manifest as it was stored.
fn manifest_of(value: serde_json::Value) -> Result<ImageManifest, serde_json::Error> {
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Stored {
        media_type: String,
        config: rhost_registry::Descriptor,
        layers: Vec<rhost_registry::Descriptor>,
        #[serde(default)]
        annotations: BTreeMap<String, String>,
    }
    let stored: Stored = serde_json::from_value(value)?;
    let convert = |found: rhost_registry::Descriptor| Descriptor {
        media_type: found.media_type,
        digest: found.digest,
        size: found.size,
        annotations: found.annotations,
        platform: found.platform,
    };
    Ok(ImageManifest {
        schema_version: 2,
        media_type: stored.media_type,
        config: convert(stored.config),
        layers: stored.layers.into_iter().map(convert).collect(),
        annotations: stored.annotations,
    })
}

/// The full form of an image's name: `docker.io/library/app:latest` for `app`.
pub fn full_name(text: &str) -> Option<String> {
    text.parse::<ImageName>().ok().map(|name| name.to_string())
}
