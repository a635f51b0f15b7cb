//! `rhost frontend push`: a component becomes an artifact in a registry, after it was seen to be a frontend.
use std::collections::BTreeMap;

use bytes::Bytes;
use rhost_frontend::{About, LoadError};
use rhost_registry::{Reference, WasmDescription, WasmLayout, push_wasm};

use crate::blame;
use crate::engine::Engine;
use crate::error::{BuildError, Kind};
use crate::frontends::FrontendSource;

/// What is pushed, and where to.
#[derive(Debug, Clone)]
pub struct FrontendPush {
    /// The component; a file.
    pub source: FrontendSource,
    /// `registry/repository:tag`.
    pub reference: String,
    /// Of the manifest; they go before what the component says of itself.
    pub annotations: BTreeMap<String, String>,
    /// RFC 3339, for the config.
    pub created: String,
    /// `None`: CNCF's, else the plain one.
    pub layout: Option<WasmLayout>,
}

/// What became of it.
#[derive(Debug, Clone)]
pub struct PushedFrontend {
    /// `registry/repository:tag@sha256:…`, for a `# syntax=` line that is pinned.
    pub reference: String,
    /// How it lies there.
    pub layout: WasmLayout,
}

/// The annotation that says which WIT package a frontend was made for.
const TRACK: &str = "dev.rhost.frontend.track";
const TITLE: &str = "org.opencontainers.image.title";

/// What a component says of itself as annotations of its manifest: under OCI's keys where it has one (image-spec, annotations.md), lists with commas.
pub fn annotations_of(about: &About) -> BTreeMap<String, String> {
    let list = |texts: &[String]| (!texts.is_empty()).then(|| texts.join(","));
    [
        ("dev.rhost.frontend.name", about.name.clone()),
        ("org.opencontainers.image.version", about.version.clone()),
        ("org.opencontainers.image.description", about.description.clone()),
        ("dev.rhost.frontend.languages", list(&about.languages)),
        ("dev.rhost.frontend.file-patterns", list(&about.file_patterns)),
        ("dev.rhost.frontend.subrequests", list(&about.subrequests)),
        ("org.opencontainers.image.documentation", about.docs.clone()),
        ("org.opencontainers.image.source", about.source.clone()),
        ("org.opencontainers.image.licenses", about.licenses.clone()),
    ]
    .into_iter()
    .filter_map(|(key, value)| Some((key.to_owned(), value?)))
    .collect()
}

impl Engine {
    /// Pushes a frontend.
    ///
    /// # Errors
    /// It is none, or the registry refuses it.
    pub async fn push_frontend(&self, push: &FrontendPush) -> Result<PushedFrontend, BuildError> {
        let reference: Reference = push.reference.parse().map_err(|error| BuildError::new(Kind::Request, error))?;
        if reference.digest().is_some() {
            let wrong = format!(
                "`{reference}` has a digest; a frontend is pushed under a tag, and its digest is what comes of it"
            );
            return Err(BuildError::new(Kind::Request, wrong));
        }
        let reference = reference.tagged();
        let found = self.frontend_bytes(&push.source).await?;
        let inspected = self.inspect_frontend(&found).await?;
        if let Some(refusal) = inspected.refusal {
            let refusal: LoadError = refusal;
            return Err(BuildError::new(Kind::Frontend, refusal)
                .hint("`rhost frontend inspect` shows all that it imports and exports"));
        }
        let said = inspected.about.map_err(|error| {
            BuildError::new(Kind::Frontend, format!("what `{}` says of itself: {error}", found.name))
                .hint("`rhost frontend build` writes it anew, from [about] of frontend.toml")
        })?;
        let mut annotations = said.as_ref().map(annotations_of).unwrap_or_default();
        annotations.extend(push.annotations.clone());
        if let FrontendSource::File(path) = &push.source
            && let Some(name) = path.file_name()
        {
            annotations.entry(TITLE.to_owned()).or_insert_with(|| name.to_string_lossy().into_owned());
        }
        if let Some(track) = &inspected.track {
            annotations.entry(TRACK.to_owned()).or_insert_with(|| track.clone());
        }
        let about = WasmDescription {
            created: push.created.clone(),
            imports: inspected.imports,
            exports: inspected.exports,
            target: inspected.track,
            annotations,
        };
        let bytes = Bytes::from(found.bytes.into_owned());
        let pushed = push_wasm(&self.client, &reference, bytes, &about, push.layout).await;
        let (manifest, layout) = pushed
            .map_err(|error| blame::registry(&error, format!("pushing `{reference}`: {error}"), Kind::Network))?;
        Ok(PushedFrontend { reference: reference.with_digest(manifest.digest).to_string(), layout })
    }
}
