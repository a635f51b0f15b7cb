//! WebAssembly components as registries hold them: the CNCF Wasm OCI artifact layout.
//!
//! A manifest with config `application/vnd.wasm.config.v0+json` and one layer `application/wasm`, perhaps under an
//! index. Whether the bytes are a component is for the frontend host to say; precompiled code never comes this way.
use bytes::Bytes;
use rhost_llb::BlobDigest;

use crate::descriptor::{ManifestKind, media_type};
use crate::{Descriptor, Error, ImageSource, RawManifest, Reference, fetch_small};

/// A guest that was pulled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WasmArtifact {
    /// What the name stood for; pin with its digest.
    pub manifest: Descriptor,
    /// Digest of the module or component.
    pub layer: BlobDigest,
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
        ManifestKind::Index(entries) => match &entries[..] {
            [only] => {
                let inner: RawManifest = source.manifest(&image.with_digest(only.digest)).await?;
                match inner.parse(image)? {
                    ManifestKind::Image(manifest) => manifest,
                    ManifestKind::Index(_) => return Err(not("it is an index of an index".into())),
                }
            }
            several => return Err(not(format!("it is an index of {} manifests; wanted one", several.len()))),
        },
    };
    if manifest.config.media_type != media_type::WASM_CONFIG {
        return Err(not(format!(
            "its config is `{}`, wanted `{}`; push it with `wkg oci push`",
            manifest.config.media_type,
            media_type::WASM_CONFIG
        )));
    }
    let layer = match &manifest.layers[..] {
        [layer] if layer.media_type == media_type::WASM => layer,
        [layer] => return Err(not(format!("its layer is `{}`, wanted `{}`", layer.media_type, media_type::WASM))),
        layers => return Err(not(format!("it has {} layers, wanted one `{}`", layers.len(), media_type::WASM))),
    };
    let bytes = fetch_small(source, image, layer, limit).await?;
    Ok(WasmArtifact { manifest: root.descriptor, layer: layer.digest, bytes })
}
