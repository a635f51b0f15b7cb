//! The signatures that rules want, beside the images that they are of: in cosign's forms, and under its names, so that they are in a vendor directory what
//! they are in a registry.
//!
//! The manifests around them are made here, of what counts and nothing else: a tag that was signed every night for years would bring all of it along.
use std::collections::BTreeSet;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rhost_registry::{Descriptor, Error, Reference, media_type};
use serde_json::json;

use super::pins::NotHere;
use super::vendor_write::Writing;
use crate::blame;
use crate::error::BuildError;
use crate::op_error::OpFailure;
use crate::rules::{SIGNATURE, SIMPLE_SIGNING, Signature, SignatureError, signature_tag};
use crate::session::Session;

/// The config of an artifact that has none (OCI image-spec, "Guidance for an Empty Descriptor").
const EMPTY: &str = "application/vnd.oci.empty.v1+json";

impl Session {
    /// Writes the signatures of `image`, which is `root`, that the rules want.
    pub(super) async fn vendor_signatures(
        &self,
        image: &Reference,
        root: &Descriptor,
        writing: &mut Writing<'_>,
    ) -> Result<(), BuildError> {
        let pins = &self.shared.pins;
        let found = self.shared.images.signatures(image, root.digest).await.map_err(|error| match &error {
            SignatureError::Registry { error: Error::Offline { .. }, .. } => {
                pins.misses(NotHere::Absent(format!("image {}", image.without_digest()), "its signature".into()));
                blame::missing(pins, OpFailure::Signature(error))
            }
            _ => blame::signature(&error, error.to_string()),
        })?;
        tokio::task::block_in_place(|| writing.signatures(image, root, &found))
    }
}

impl Writing<'_> {
    fn signatures(
        &mut self,
        image: &Reference,
        root: &Descriptor,
        found: &BTreeSet<Signature>,
    ) -> Result<(), BuildError> {
        let (mut payloads, mut bundles) = (Vec::new(), Vec::new());
        for signature in found {
            match signature {
                Signature::Simple { payload, signature } => {
                    let mut layer = self.document(SIMPLE_SIGNING, payload)?;
                    layer.annotations.insert(SIGNATURE.to_owned(), STANDARD.encode(signature));
                    payloads.push(layer);
                }
                Signature::Bundle { media_type, bytes } => {
                    let layer = self.document(media_type, bytes)?;
                    let config = self.document(EMPTY, b"{}")?;
                    let manifest = json!({
                        "schemaVersion": 2,
                        "mediaType": media_type::OCI_MANIFEST,
                        "artifactType": media_type,
                        "config": config,
                        "layers": [layer],
                        "subject": {"mediaType": root.media_type, "digest": root.digest, "size": root.size},
                    });
                    let mut entry = self.document(media_type::OCI_MANIFEST, manifest.to_string().as_bytes())?;
                    entry.artifact_type = Some(media_type.clone());
                    bundles.push(entry);
                }
            }
        }
        if !payloads.is_empty() {
            let config = json!({
                "architecture": "", "os": "", "config": {},
                "rootfs": {"type": "layers", "diff_ids": payloads.iter().map(|layer| layer.digest).collect::<Vec<_>>()},
            });
            let config = self.document(media_type::OCI_CONFIG, config.to_string().as_bytes())?;
            let manifest = json!({
                "schemaVersion": 2, "mediaType": media_type::OCI_MANIFEST, "config": config, "layers": payloads,
            });
            let manifest = self.document(media_type::OCI_MANIFEST, manifest.to_string().as_bytes())?;
            let name = signature_tag(image, root.digest).map_err(|error| blame_name(&error))?;
            self.signatures.insert(name.to_string(), (manifest, payloads.len()));
        }
        if !bundles.is_empty() {
            let index = json!({"schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": bundles});
            let index = self.document(media_type::OCI_INDEX, index.to_string().as_bytes())?;
            let name =
                image.with_tag(&root.digest.to_string().replace(':', "-")).map_err(|error| blame_name(&error))?;
            self.signatures.insert(name.to_string(), (index, bundles.len()));
        }
        Ok(())
    }
}

fn blame_name(error: &rhost_registry::ReferenceError) -> BuildError {
    BuildError::new(crate::error::Kind::Request, error)
}
