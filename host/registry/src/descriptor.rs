//! Descriptors, manifests and indexes as registries send them: small types of our own over the OCI and Docker forms.
//!
//! Parsing is strict where it matters (digests, sizes, media types) and ignores the rest: raw bytes are always kept
//! beside the parsed form, because only they have the digest.
use std::collections::BTreeMap;

use bytes::Bytes;
use rhost_llb::{BlobDigest, Digest, Platform};
use serde::{Deserialize, Serialize};

use crate::{Error, Reference};

/// Media types of OCI image-spec and Docker's image manifest v2 schema 2.
pub mod media_type {
    /// An OCI index.
    pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
    /// An OCI manifest.
    pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
    /// An OCI image config.
    pub const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
    /// A layer, not compressed.
    pub const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
    /// A layer, gzip.
    pub const OCI_LAYER_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
    /// A layer, zstd.
    pub const OCI_LAYER_ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";
    /// A Docker manifest list.
    pub const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
    /// A Docker manifest.
    pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
    /// A Docker image config.
    pub const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
    /// A Docker layer, gzip.
    pub const DOCKER_LAYER_GZIP: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";
    /// The config of a CNCF Wasm OCI artifact.
    pub const WASM_CONFIG: &str = "application/vnd.wasm.config.v0+json";
    /// The one layer of a CNCF Wasm OCI artifact.
    pub const WASM: &str = "application/wasm";
}

/// Names some bytes: what they are, their digest, their length (OCI image-spec, descriptor.md).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Descriptor {
    /// What the bytes are.
    #[serde(rename = "mediaType", default)]
    pub media_type: String,
    /// SHA-256 of the bytes.
    pub digest: BlobDigest,
    /// How many bytes.
    pub size: u64,
    /// What the image runs on; in entries of an index.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    /// Free pairs.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "null_is_default")]
    pub annotations: BTreeMap<String, String>,
    /// What an artifact is; in entries of an index.
    #[serde(rename = "artifactType", default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
}

impl Descriptor {
    /// A descriptor with no platform and no annotations.
    pub fn new(media_type: impl Into<String>, digest: BlobDigest, size: u64) -> Self {
        let (platform, annotations, artifact_type) = (None, BTreeMap::new(), None);
        Self { media_type: media_type.into(), digest, size, platform, annotations, artifact_type }
    }

    /// The descriptor of `bytes`.
    pub fn of(media_type: impl Into<String>, bytes: &[u8]) -> Self {
        Self::new(media_type, BlobDigest(Digest::of(bytes)), bytes.len() as u64)
    }

    /// Whether it names an index or a manifest list.
    pub fn is_index(&self) -> bool {
        matches!(self.media_type.as_str(), media_type::OCI_INDEX | media_type::DOCKER_LIST)
    }
}

fn null_is_default<'de, D: serde::Deserializer<'de>, T: Deserialize<'de> + Default>(d: D) -> Result<T, D::Error> {
    Ok(Option::<T>::deserialize(d)?.unwrap_or_default())
}

/// A manifest or an index: the exact bytes and their descriptor. The digest has been checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawManifest {
    /// Names `bytes`; its media type is the one the bytes state, else the one the registry stated.
    pub descriptor: Descriptor,
    /// The bytes as they came.
    pub bytes: Bytes,
}

/// A parsed image manifest (OCI image-spec, manifest.md).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// Its config blob.
    pub config: Descriptor,
    /// Its layers, the base first.
    pub layers: Vec<Descriptor>,
    /// What kind of artifact it is, if it is one.
    pub artifact_type: Option<String>,
    /// Free pairs.
    pub annotations: BTreeMap<String, String>,
}

/// What some manifest bytes turned out to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ManifestKind {
    /// Several manifests, one per platform as a rule.
    Index(Vec<Descriptor>),
    /// One image.
    Image(Manifest),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wire {
    schema_version: Option<u64>,
    media_type: Option<String>,
    #[serde(default, deserialize_with = "null_is_default")]
    manifests: Option<Vec<Descriptor>>,
    config: Option<Descriptor>,
    #[serde(default, deserialize_with = "null_is_default")]
    layers: Option<Vec<Descriptor>>,
    artifact_type: Option<String>,
    #[serde(default, deserialize_with = "null_is_default")]
    annotations: BTreeMap<String, String>,
}

impl RawManifest {
    /// Checks the bytes against `wanted` and finds out their media type: the one they state themselves, else `stated`.
    ///
    /// # Errors
    /// [`Error::DigestMismatch`] when their digest is not `wanted`.
    pub fn new(
        image: &Reference,
        bytes: Bytes,
        stated: Option<&str>,
        wanted: Option<BlobDigest>,
    ) -> Result<Self, Error> {
        let found = BlobDigest(Digest::of(&bytes));
        if let Some(wanted) = wanted.filter(|wanted| *wanted != found) {
            return Err(Error::DigestMismatch { what: format!("the manifest of `{image}`"), wanted, found });
        }
        #[derive(Deserialize)]
        struct Head {
            #[serde(rename = "mediaType")]
            media_type: Option<String>,
        }
        let own = serde_json::from_slice::<Head>(&bytes).ok().and_then(|head| head.media_type);
        let media_type = own.or(stated.map(str::to_owned)).unwrap_or_default();
        Ok(Self { descriptor: Descriptor::new(media_type, found, bytes.len() as u64), bytes })
    }

    /// Parses the bytes.
    ///
    /// # Errors
    /// [`Error::BadManifest`] for anything but an OCI or Docker schema 2 manifest or index, and for one that claims to be
    /// both (its digest would mean two things).
    pub fn parse(&self, image: &Reference) -> Result<ManifestKind, Error> {
        let bad = |reason: String| Error::BadManifest { image: image.clone(), digest: self.descriptor.digest, reason };
        let wire: Wire = serde_json::from_slice(&self.bytes).map_err(|e| bad(format!("it is not valid: {e}")))?;
        match wire.schema_version {
            Some(2) | None => {}
            Some(1) => {
                return Err(bad(
                    "it has schema version 1, which is obsolete; push the image again with a newer tool".into()
                ));
            }
            Some(other) => return Err(bad(format!("it has schema version {other}; wanted 2"))),
        }
        let media_type = wire.media_type.as_deref().unwrap_or(&self.descriptor.media_type);
        match (wire.manifests, wire.config) {
            (Some(_), Some(_)) => Err(bad("it is both an index and a manifest".into())),
            (Some(_), None) if wire.layers.is_some() => Err(bad("it is both an index and a manifest".into())),
            (Some(manifests), None) => match media_type {
                media_type::OCI_MANIFEST | media_type::DOCKER_MANIFEST => {
                    Err(bad(format!("it is an index, but says `{media_type}`")))
                }
                _ => Ok(ManifestKind::Index(manifests)),
            },
            (None, Some(config)) => match media_type {
                media_type::OCI_INDEX | media_type::DOCKER_LIST => {
                    Err(bad(format!("it is a manifest, but says `{media_type}`")))
                }
                _ => Ok(ManifestKind::Image(Manifest {
                    config,
                    layers: wire.layers.unwrap_or_default(),
                    artifact_type: wire.artifact_type,
                    annotations: wire.annotations,
                })),
            },
            (None, None) => Err(bad(format!("it has neither `manifests` nor `config` (media type `{media_type}`)"))),
        }
    }
}
