//! `Descriptor`, `ImageManifest`, `ImageIndex`: the JSON of OCI image-spec (descriptor.md, manifest.md, image-index.md).
//!
//! Fields stand in the order in which BuildKit writes them. They are written only: what is read from registries has
//! types of its own, which must bear foreign documents.
use std::collections::BTreeMap;

use rhost_llb::{BlobDigest, Platform};
use serde::Serialize;

use crate::compression::MediaTypes;

/// Media types of the documents of an image.
pub mod media_type {
    /// OCI image manifest.
    pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
    /// OCI image index.
    pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
    /// OCI image config.
    pub const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
    /// Docker image manifest, schema 2.
    pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
    /// Docker manifest list.
    pub const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
    /// Docker image config.
    pub const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
}

impl MediaTypes {
    /// Of an image manifest.
    pub const fn manifest(self) -> &'static str {
        match self {
            Self::Oci => media_type::OCI_MANIFEST,
            Self::Docker => media_type::DOCKER_MANIFEST,
        }
    }

    /// Of an index or manifest list.
    pub const fn index(self) -> &'static str {
        match self {
            Self::Oci => media_type::OCI_INDEX,
            Self::Docker => media_type::DOCKER_LIST,
        }
    }

    /// Of an image config.
    pub const fn config(self) -> &'static str {
        match self {
            Self::Oci => media_type::OCI_CONFIG,
            Self::Docker => media_type::DOCKER_CONFIG,
        }
    }
}

/// What names a blob from another document.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// What the blob is.
    pub media_type: String,
    /// Its name.
    pub digest: BlobDigest,
    /// Its bytes.
    pub size: u64,
    /// Left out when empty.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// Of an image manifest in an index.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "platform_in_go_order")]
    pub platform: Option<Platform>,
}

impl Descriptor {
    /// Of `bytes`, without annotations or platform.
    pub fn of(media_type: &str, bytes: &[u8]) -> Self {
        let digest = BlobDigest(rhost_llb::Digest::of(bytes));
        Self {
            media_type: media_type.to_owned(),
            digest,
            size: bytes.len() as u64,
            annotations: BTreeMap::new(),
            platform: None,
        }
    }
}

/// The manifest of one image for one platform.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ImageManifest {
    /// Always 2.
    pub schema_version: u8,
    /// Of this document.
    pub media_type: String,
    /// The image config.
    pub config: Descriptor,
    /// From the base up. As BuildKit: of none `null`.
    #[serde(serialize_with = "null_when_empty")]
    pub layers: Vec<Descriptor>,
    /// Left out when empty.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// The manifests of one image for several platforms, or the root of an image layout.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ImageIndex {
    /// Always 2.
    pub schema_version: u8,
    /// Of this document.
    pub media_type: String,
    /// One for each platform, or for each name.
    pub manifests: Vec<Descriptor>,
    /// Left out when empty.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// `Platform` serialises its variant first; OCI's Go types have it last.
fn platform_in_go_order<S: serde::Serializer>(platform: &Option<Platform>, serializer: S) -> Result<S::Ok, S::Error> {
    #[derive(Serialize)]
    struct GoOrder<'a> {
        architecture: &'a str,
        os: &'a str,
        #[serde(rename = "os.version", skip_serializing_if = "str::is_empty")]
        os_version: &'a str,
        #[serde(rename = "os.features", skip_serializing_if = "<[String]>::is_empty")]
        os_features: &'a [String],
        #[serde(skip_serializing_if = "str::is_empty")]
        variant: &'a str,
    }
    platform
        .as_ref()
        .map(|p| GoOrder {
            architecture: &p.architecture,
            os: &p.os,
            os_version: &p.os_version,
            os_features: &p.os_features,
            variant: &p.variant,
        })
        .serialize(serializer)
}

/// A list as Go writes one that nothing was ever added to.
fn null_when_empty<T: Serialize, S: serde::Serializer>(list: &[T], to: S) -> Result<S::Ok, S::Error> {
    if list.is_empty() { to.serialize_none() } else { list.serialize(to) }
}
