//! WebAssembly components as registries hold them: the CNCF Wasm OCI artifact layout, read and written.
//!
//! A manifest with config `application/vnd.wasm.config.v0+json` and one layer `application/wasm`, perhaps under an index. Only the layer
//! decides: what `oras push` writes with an empty config is as good. Registries that refuse configs they do not know get the plain form, a
//! container image's config of architecture `wasm` over the same layer. Whether the bytes are a component is for the frontend host to say;
//! precompiled code never comes this way.
use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
use rhost_llb::{BlobDigest, Digest};
use serde_json::json;

use crate::descriptor::{ManifestKind, media_type};
use crate::{Client, Descriptor, Error, ImageSource, Manifest, RawManifest, Reference, fetch_small};

/// A guest that was pulled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WasmArtifact {
    /// What the name stood for; pin with its digest.
    pub manifest: Descriptor,
    /// Digest of the module or component.
    pub layer: BlobDigest,
    /// What was said about it where it was pushed.
    pub annotations: BTreeMap<String, String>,
    /// The module or component.
    pub bytes: Bytes,
}

/// Pulls the module or component of `image`, of at most `limit` bytes.
///
/// # Errors
/// [`Error::NotWasm`] when it is anything else, [`Error::TooLarge`], and those of the source.
pub async fn pull_wasm(source: &dyn ImageSource, image: &Reference, limit: u64) -> Result<WasmArtifact, Error> {
    let not = |reason: String| Error::NotWasm { image: image.clone(), reason };
    let root = source.manifest(image).await?;
    let manifest = match root.parse(image)? {
        ManifestKind::Image(manifest) => manifest,
        ManifestKind::Index(entries) => {
            let wasm = |entry: &&Descriptor| entry.platform.as_ref().is_some_and(|p| p.architecture == "wasm");
            let (mut marked, several) = (entries.iter().filter(wasm), entries.len());
            let entry = match (marked.next(), marked.next(), &entries[..]) {
                (Some(only), None, _) | (None, None, [only]) => only,
                _ => return Err(not(index_reason(&entries, several))),
            };
            let inner: RawManifest = source.manifest(&image.with_digest(entry.digest)).await?;
            match inner.parse(image)? {
                ManifestKind::Image(manifest) => manifest,
                ManifestKind::Index(_) => return Err(not("it is an index of an index".into())),
            }
        }
    };
    let layer = the_layer(&manifest).map_err(not)?;
    let bytes = fetch_small(source, image, layer, limit).await?;
    Ok(WasmArtifact { manifest: root.descriptor, layer: layer.digest, annotations: manifest.annotations, bytes })
}

fn index_reason(entries: &[Descriptor], count: usize) -> String {
    let platforms: Vec<String> = entries
        .iter()
        .filter_map(|e| e.platform.as_ref())
        .filter(|p| p.os != "unknown")
        .map(ToString::to_string)
        .collect();
    match &platforms[..] {
        [] => format!("it is an index of {count} manifests; wanted one"),
        some => format!("it is a container image for {}", some.join(", ")),
    }
}

/// The one layer that is WebAssembly.
fn the_layer(manifest: &Manifest) -> Result<&Descriptor, String> {
    let config = &manifest.config.media_type;
    match &manifest.layers[..] {
        [layer] if layer.media_type == media_type::WASM => Ok(layer),
        _ if matches!(config.as_str(), media_type::OCI_CONFIG | media_type::DOCKER_CONFIG) => {
            Err(format!("it is a container image (its config is `{config}`)"))
        }
        [layer] => Err(format!("its layer is `{}`, wanted `{}`", layer.media_type, media_type::WASM)),
        layers => Err(format!("it has {} layers, wanted one `{}`", layers.len(), media_type::WASM)),
    }
}

/// What is told about a component that is pushed.
#[derive(Clone, Debug, Default)]
pub struct WasmDescription {
    /// RFC 3339; the CNCF config has it, and `wkg` refuses a config without.
    pub created: String,
    /// What it imports.
    pub imports: Vec<String>,
    /// What it exports.
    pub exports: Vec<String>,
    /// The world it is made for.
    pub target: Option<String>,
    /// Of the manifest.
    pub annotations: BTreeMap<String, String>,
}

/// How a component lies in a registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WasmLayout {
    /// CNCF's: config `application/vnd.wasm.config.v0+json`.
    Cncf,
    /// A container image's config, for registries that take no other.
    Plain,
}

impl WasmLayout {
    /// Config and manifest for `component`.
    fn documents(self, component: &[u8], about: &WasmDescription) -> (&'static str, Bytes, Bytes) {
        let digest = Digest::of(component).to_string();
        let (kind, config) = match self {
            Self::Cncf => {
                let mut inside = json!({"exports": about.exports, "imports": about.imports});
                if let Some(target) = &about.target {
                    inside["target"] = json!(target);
                }
                let config = json!({
                    "created": about.created, "architecture": "wasm", "os": "wasip2", "layerDigests": [digest],
                    "component": inside,
                });
                (media_type::WASM_CONFIG, config)
            }
            Self::Plain => {
                let config = json!({
                    "created": about.created, "architecture": "wasm", "os": "wasip2", "config": {},
                    "rootfs": {"type": "layers", "diff_ids": [digest]},
                });
                (media_type::OCI_CONFIG, config)
            }
        };
        let config = Bytes::from(config.to_string());
        let mut layer = Descriptor::of(media_type::WASM, component);
        // `oras pull` writes a layer to the file that this names.
        layer.annotations.extend(about.annotations.get_key_value(TITLE).map(|(k, v)| (k.clone(), v.clone())));
        let mut manifest = json!({
            "schemaVersion": 2,
            "mediaType": media_type::OCI_MANIFEST,
            "config": Descriptor::of(kind, &config),
            "layers": [layer],
        });
        let annotations: BTreeMap<_, _> = about.annotations.iter().filter(|(key, _)| *key != TITLE).collect();
        if !annotations.is_empty() {
            manifest["annotations"] = json!(annotations);
        }
        (kind, config, manifest.to_string().into())
    }
}

/// The annotation that names a layer's file (OCI image-spec, annotations.md).
const TITLE: &str = "org.opencontainers.image.title";

/// Pushes `component` as `target` in `layout`; without one in CNCF's, and in the plain one where the registry refuses that. Returns the
/// manifest and the layout it has.
///
/// # Errors
/// Those of the registry.
pub async fn push_wasm(
    client: &Client,
    target: &Reference,
    component: Bytes,
    about: &WasmDescription,
    layout: Option<WasmLayout>,
) -> Result<(Descriptor, WasmLayout), Error> {
    let layer = Descriptor::of(media_type::WASM, &component);
    let mut blobs = HashMap::from([(layer.digest, component.clone())]);
    client.push_blob(target, &layer, &blobs, None).await?;
    let mut refused = None;
    for layout in layout.map_or(vec![WasmLayout::Cncf, WasmLayout::Plain], |one| vec![one]) {
        let (kind, config, manifest) = layout.documents(&component, about);
        let described = Descriptor::of(kind, &config);
        blobs.insert(described.digest, config);
        client.push_blob(target, &described, &blobs, None).await?;
        match client.push_manifest(target, media_type::OCI_MANIFEST, manifest).await {
            Ok(descriptor) => return Ok((descriptor, layout)),
            // The manifest is what such a registry objects to; the first objection is the one to tell.
            Err(error @ Error::Refused { status: 400 | 403 | 405 | 406 | 415 | 422, .. }) => {
                refused.get_or_insert(error);
            }
            Err(error) => return Err(error),
        }
    }
    Err(refused.unwrap_or_else(|| Error::NotWasm { image: target.clone(), reason: "it has no layout".into() }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_are_the_layouts() {
        let about = WasmDescription {
            created: "2025-01-01T00:00:00Z".into(),
            target: Some("rhost:frontend/frontend".into()),
            annotations: BTreeMap::from([(TITLE.to_owned(), "x.wasm".to_owned()), ("a".to_owned(), "b".to_owned())]),
            ..WasmDescription::default()
        };
        for (layout, kind) in [(WasmLayout::Cncf, media_type::WASM_CONFIG), (WasmLayout::Plain, media_type::OCI_CONFIG)]
        {
            let (found, config, manifest) = layout.documents(b"\0asm", &about);
            assert_eq!(found, kind);
            let config: serde_json::Value = serde_json::from_slice(&config).unwrap();
            assert_eq!(config["architecture"], "wasm");
            let manifest: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
            assert_eq!(manifest["config"]["mediaType"], kind);
            assert_eq!(manifest["layers"][0]["annotations"][TITLE], "x.wasm");
            assert_eq!(manifest["annotations"], json!({"a": "b"}));
        }
    }
}
