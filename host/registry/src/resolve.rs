//! From a name to the one image that runs on a platform: index, manifest, config, each checked by digest.
use std::collections::BTreeSet;

use bytes::Bytes;
use rhost_llb::{DiffId, Platform};
use serde::Deserialize;

use crate::descriptor::{ManifestKind, media_type};
use crate::{Descriptor, Error, ImageSource, Manifest, MemorySink, RawManifest, Reference, choose};

/// Largest image config that is read, in bytes.
const LARGEST_CONFIG: u64 = 8 << 20;
/// Indexes inside indexes, at most.
const DEEPEST: usize = 4;
/// Entries of an index without a platform whose configs are looked at, at most.
const MOST_PROBES: usize = 8;

/// One image of one platform, all metadata read and checked; its layers are still to be fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResolvedImage {
    /// The name that was asked for.
    pub reference: Reference,
    /// What the name stands for: an index, or the manifest itself. Pin with its digest.
    pub root: RawManifest,
    /// The manifest of the platform.
    pub manifest: RawManifest,
    /// Names the config blob.
    pub config: Descriptor,
    /// The config blob.
    pub config_bytes: Bytes,
    /// What the config says the image runs on. A name that stands for a single manifest is taken whatever its platform
    /// is, as BuildKit does; compare with the wanted one to warn.
    pub platform: Platform,
    /// Layers, the base first.
    pub layers: Vec<Descriptor>,
    /// Digests of the uncompressed layers, one for each of `layers`.
    pub diff_ids: Vec<DiffId>,
}

#[derive(Deserialize)]
struct ConfigHead {
    #[serde(flatten)]
    platform: Platform,
    rootfs: Option<RootFs>,
}

#[derive(Deserialize)]
struct RootFs {
    #[serde(default)]
    diff_ids: Option<Vec<DiffId>>,
}

/// Resolves `image` for `wanted`.
///
/// # Errors
/// [`Error::NoPlatform`] with what the index offers; [`Error::BadManifest`] for nonsense; and those of the source.
pub async fn resolve(source: &dyn ImageSource, image: &Reference, wanted: &Platform) -> Result<ResolvedImage, Error> {
    let root = source.manifest(image).await?;
    let image_of = |raw: &RawManifest| image.with_digest(raw.descriptor.digest);
    let mut current = root.clone();
    let mut offered = BTreeSet::new();
    for _ in 0..DEEPEST {
        let entries = match current.parse(image)? {
            ManifestKind::Image(manifest) => return finish(source, image, root, current, manifest).await,
            ManifestKind::Index(entries) => entries,
        };
        offered.extend(entries.iter().filter_map(|e| e.platform.clone()).filter(|p| p.os != "unknown"));
        let none = |offered: BTreeSet<Platform>| Error::NoPlatform {
            image: image.clone(),
            wanted: wanted.clone(),
            offered: offered.into_iter().collect(),
        };
        if let Some(best) = choose(&entries, wanted).first() {
            current = source.manifest(&image.with_digest(entries[*best].digest)).await?;
            continue;
        }
        // An index inside the index, or manifests whose platform only their config tells.
        if let Some(inner) = entries.iter().find(|e| e.platform.is_none() && e.is_index()) {
            current = source.manifest(&image.with_digest(inner.digest)).await?;
            continue;
        }
        let silent = |e: &&Descriptor| {
            e.platform.is_none()
                && matches!(e.media_type.as_str(), media_type::OCI_MANIFEST | media_type::DOCKER_MANIFEST)
        };
        let mut candidates = Vec::new();
        for entry in entries.iter().filter(silent).take(MOST_PROBES) {
            let raw = source.manifest(&image.with_digest(entry.digest)).await?;
            let ManifestKind::Image(manifest) = raw.parse(image)? else { continue };
            if !is_image_config(&manifest.config.media_type) {
                continue;
            }
            let found = finish(source, &image_of(&raw), root.clone(), raw, manifest).await?;
            let entry = Descriptor { platform: Some(found.platform.clone()), ..found.manifest.descriptor.clone() };
            offered.insert(found.platform.clone());
            candidates.push((entry, found));
        }
        let entries: Vec<Descriptor> = candidates.iter().map(|(entry, _)| entry.clone()).collect();
        return match choose(&entries, wanted).first() {
            Some(best) => Ok(ResolvedImage { reference: image.clone(), ..candidates.swap_remove(*best).1 }),
            None => Err(none(offered)),
        };
    }
    Err(Error::BadManifest {
        image: image.clone(),
        digest: root.descriptor.digest,
        reason: format!("indexes are nested deeper than {DEEPEST}"),
    })
}

fn is_image_config(media_type: &str) -> bool {
    matches!(media_type, media_type::OCI_CONFIG | media_type::DOCKER_CONFIG)
}

async fn finish(
    source: &dyn ImageSource,
    image: &Reference,
    root: RawManifest,
    raw: RawManifest,
    manifest: Manifest,
) -> Result<ResolvedImage, Error> {
    let bad = |reason: String| Error::BadManifest { image: image.clone(), digest: manifest.config.digest, reason };
    if !is_image_config(&manifest.config.media_type) {
        return Err(bad(format!(
            "it is no container image, its config is `{}`; wanted `{}`",
            manifest.config.media_type,
            media_type::OCI_CONFIG
        )));
    }
    let config_bytes = fetch_small(source, image, &manifest.config, LARGEST_CONFIG).await?;
    let head: ConfigHead =
        serde_json::from_slice(&config_bytes).map_err(|e| bad(format!("its config is not valid: {e}")))?;
    let diff_ids = head.rootfs.and_then(|r| r.diff_ids).unwrap_or_default();
    if diff_ids.len() != manifest.layers.len() {
        return Err(bad(format!(
            "it has {} layers, but {} diff ids in its config",
            manifest.layers.len(),
            diff_ids.len()
        )));
    }
    Ok(ResolvedImage {
        reference: image.clone(),
        root,
        config: manifest.config,
        config_bytes,
        platform: head.platform.normalized(),
        layers: manifest.layers,
        diff_ids,
        manifest: raw,
    })
}

/// Reads a small blob of `image` into memory.
///
/// # Errors
/// [`Error::TooLarge`] above `limit` bytes, and those of the source.
pub async fn fetch_small(
    source: &dyn ImageSource,
    image: &Reference,
    blob: &Descriptor,
    limit: u64,
) -> Result<Bytes, Error> {
    if blob.size > limit {
        return Err(Error::TooLarge { what: format!("blob {} of `{}`", blob.digest, image.name()), limit });
    }
    let mut sink = MemorySink::new(blob.size);
    source.blob(image, blob, &mut sink).await?;
    Ok(sink.into_bytes())
}
