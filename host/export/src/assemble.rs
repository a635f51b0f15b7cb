//! From layers and configs to the documents that make them an image: config, manifest, index.
use std::collections::BTreeMap;

use jiff::Timestamp;
use rhost_llb::{BlobDigest, Platform};

use crate::annotations::{Annotations, Placement};
use crate::blobs::BlobSink;
use crate::compression::MediaTypes;
use crate::error::ExportError;
use crate::image_config::{LayerMeta, finish_config};
use crate::json;
use crate::layer::LayerBlob;
use crate::manifest::{Descriptor, ImageIndex, ImageManifest};

/// A result of a build, for one platform.
#[derive(Clone, Debug)]
pub struct BuiltImage {
    /// What it is for; goes into descriptors.
    pub platform: Platform,
    /// The frontend's image config as JSON (spec B.6).
    pub config: Vec<u8>,
    /// From the base up.
    pub layers: Vec<LayerBlob>,
    /// One for each of `layers`, where known; may be shorter.
    pub layer_metas: Vec<LayerMeta>,
    /// One for each of `layers`: the epoch in seconds for which it was rewritten, which BuildKit notes beside it. May be shorter.
    pub rewritten: Vec<Option<i64>>,
    /// How many of the config's history entries came with the base image.
    pub base_history: usize,
    /// SOURCE_DATE_EPOCH of this platform in seconds, where it differs from that of all.
    pub source_date_epoch: Option<i64>,
}

/// How to put an image together.
#[derive(Clone, Debug)]
pub struct AssembleOptions {
    /// Whose media types.
    pub media_types: MediaTypes,
    /// What to add to which document.
    pub annotations: Annotations,
    /// SOURCE_DATE_EPOCH in seconds: no new time is later.
    pub source_date_epoch: Option<i64>,
    /// The time of the export, used where no epoch is set.
    pub now: Timestamp,
    /// Whether the image has an index; always so for several platforms.
    pub index: bool,
}

/// An image whose documents are in the sink.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assembled {
    /// What an archive's `index.json` or a tag points at: the manifest, or the index.
    pub descriptor: Descriptor,
    /// The config of a single image; `None` for an index.
    pub config: Option<Descriptor>,
    /// The manifests, one for each platform.
    pub manifests: Vec<ImageManifest>,
    /// Every blob of the image with its size, each once: documents and layers.
    pub blobs: BTreeMap<BlobDigest, u64>,
}

/// BuildKit's annotation of a layer whose files have no later time than the epoch in it.
const REWRITTEN: &str = "buildkit/rewritten-timestamp";

/// Completes the configs of `images`, writes manifests and, for several platforms, the index to `sink`.
pub fn assemble(
    images: &[BuiltImage],
    options: &AssembleOptions,
    sink: &dyn BlobSink,
) -> Result<Assembled, ExportError> {
    if images.is_empty() {
        return Err(ExportError::Empty);
    }
    let platforms: Vec<Platform> = images.iter().map(|image| image.platform.clone()).collect();
    if let Some(twice) = platforms.iter().enumerate().find_map(|(i, p)| platforms[..i].contains(p).then_some(p)) {
        return Err(ExportError::DuplicatePlatform { platform: Box::new(twice.clone()) });
    }
    let has_index = options.index || images.len() > 1;
    options.annotations.check(&platforms, has_index)?;
    let epoch = options.source_date_epoch.map(epoch_time).transpose()?;
    let types = options.media_types;

    let mut blobs = BTreeMap::new();
    let mut manifests = Vec::new();
    let mut descriptors = Vec::new();
    for image in images {
        let diff_ids: Vec<_> = image.layers.iter().map(|layer| layer.diff_id).collect();
        let (platform, history) = (&image.platform, image.base_history);
        let of_image = image.source_date_epoch.map(epoch_time).transpose()?.or(epoch);
        let config = finish_config(platform, &image.config, &diff_ids, &image.layer_metas, history, of_image)?;
        let config = put(types.config(), &config, sink, &mut blobs)?;
        let layers = image.layers.iter().enumerate().map(|(index, layer)| {
            blobs.insert(layer.digest, layer.size);
            let note = |epoch: &i64| (REWRITTEN.to_owned(), epoch.to_string());
            let epoch = image.rewritten.get(index).and_then(Option::as_ref).filter(|_| types == MediaTypes::Oci);
            Descriptor {
                media_type: layer.kind.media_type(types).to_owned(),
                digest: layer.digest,
                size: layer.size,
                annotations: epoch.map(note).into_iter().collect(),
                platform: None,
            }
        });
        let manifest = ImageManifest {
            schema_version: 2,
            media_type: types.manifest().to_owned(),
            config,
            layers: layers.collect(),
            annotations: options.annotations.of(Placement::Manifest, Some(platform)),
        };
        let mut descriptor = put(types.manifest(), &pretty(&manifest, platform)?, sink, &mut blobs)?;
        descriptor.platform = Some(platform.clone());
        descriptor.annotations = options.annotations.of(Placement::ManifestDescriptor, Some(platform));
        descriptors.push(descriptor);
        manifests.push(manifest);
    }

    let (mut descriptor, config) = if has_index {
        let index = ImageIndex {
            schema_version: 2,
            media_type: types.index().to_owned(),
            manifests: descriptors,
            annotations: options.annotations.of(Placement::Index, None),
        };
        let mut descriptor = put(types.index(), &pretty(&index, &platforms[0])?, sink, &mut blobs)?;
        descriptor.annotations = options.annotations.of(Placement::IndexDescriptor, None);
        (descriptor, None)
    } else {
        (descriptors.remove(0), Some(manifests[0].config.clone()))
    };
    let created = format!("{:.0}", truncated(epoch.unwrap_or(options.now)));
    descriptor.annotations.entry("org.opencontainers.image.created".to_owned()).or_insert(created);
    Ok(Assembled { descriptor, config, manifests, blobs })
}

/// SOURCE_DATE_EPOCH as a time.
pub(crate) fn epoch_time(seconds: i64) -> Result<Timestamp, ExportError> {
    // RFC 3339 has years of four digits; before year 1 Go's JSON has none either.
    const YEAR_1: i64 = -62_135_596_800;
    let time = Timestamp::from_second(seconds).ok().filter(|_| seconds >= YEAR_1);
    time.ok_or(ExportError::BadEpoch { seconds })
}

fn truncated(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}

fn pretty(document: &impl serde::Serialize, platform: &Platform) -> Result<Vec<u8>, ExportError> {
    json::pretty(document)
        .map_err(|e| ExportError::BadConfig { platform: Box::new(platform.clone()), reason: e.to_string() })
}

fn put(
    media_type: &str,
    bytes: &[u8],
    sink: &dyn BlobSink,
    blobs: &mut BTreeMap<BlobDigest, u64>,
) -> Result<Descriptor, ExportError> {
    let descriptor = Descriptor::of(media_type, bytes);
    let (digest, size) = (descriptor.digest, descriptor.size);
    sink.put(digest, bytes).map_err(|source| ExportError::WriteBlob { digest, source })?;
    blobs.insert(digest, size);
    Ok(descriptor)
}
