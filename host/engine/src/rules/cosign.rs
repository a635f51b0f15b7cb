//! Signatures as cosign makes them with a key pair: both of its forms, checked here, with no transparency log.
//!
//! - Before cosign 3: a manifest at the tag `sha256-HEX.sig`; each layer is a "simple signing" payload, its signature stands in an annotation.
//! - Since: a sigstore bundle that refers to the image (OCI referrers): a DSSE envelope (the signature is over its pre-authentication encoding) around an
//!   in-toto statement.
//!
//! A signature counts if it is by a wanted key, over a payload that names the very digest which the build will use.
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rhost_llb::BlobDigest;
use rhost_registry::{Descriptor, Error, ImageSource, ManifestKind, Reference, fetch_small};
use serde_json::Value;

use super::key::VerifyingKey;
use super::policy::Refusal;

/// Largest payload or bundle that is read, in bytes.
const LARGEST: u64 = 1 << 20;
/// Signatures of one image that are looked at, at most.
const MOST: usize = 64;
const SIMPLE_SIGNING: &str = "application/vnd.dev.cosign.simplesigning.v1+json";
const SIGNATURE: &str = "dev.cosignproject.cosign/signature";
const BUNDLE: &str = "application/vnd.dev.sigstore.bundle";
const STATEMENT: &str = "application/vnd.in-toto+json";
/// What cosign states of an image that it signs; attestations state other things.
const SIGNED: &str = "https://sigstore.dev/cosign/sign/v1";

/// Why an image does not count as signed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum SignatureError {
    /// There is no such signature.
    #[error(transparent)]
    Missing(#[from] Refusal),
    /// The registry does not say.
    #[error("the signatures of `{image}`: {error}")]
    Registry {
        /// The image.
        image: Reference,
        /// What it answers.
        error: Error,
    },
}

/// What was found of an image's signatures.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Signatures {
    /// Whether one counts.
    pub(crate) signed: bool,
    /// How many there are, of other keys or over other bytes.
    pub(crate) others: usize,
}

impl Signatures {
    pub(crate) fn text(&self) -> String {
        match self.others {
            0 => "it has no signature".into(),
            1 => "its one signature is by another key, or over something else".into(),
            others => format!("its {others} signatures are by other keys, or over something else"),
        }
    }
}

/// Looks for a signature of `image` at `digest` by one of `keys`.
///
/// # Errors
/// Those of the source; an image without signatures is none.
pub(crate) async fn look(
    source: &dyn ImageSource,
    image: &Reference,
    digest: BlobDigest,
    keys: &[VerifyingKey],
) -> Result<Signatures, Error> {
    let mut found = Signatures::default();
    let mut note = |verified: bool| {
        found.signed |= verified;
        found.others += usize::from(!verified);
        verified
    };
    let tag = format!("{}.sig", digest.to_string().replace(':', "-"));
    for layer in
        layers(source, &image.with_tag(&tag)?).await?.iter().filter(|l| l.media_type == SIMPLE_SIGNING).take(MOST)
    {
        let payload = fetch_small(source, image, layer, LARGEST).await?;
        let signature =
            layer.annotations.get(SIGNATURE).and_then(|text| STANDARD.decode(text).ok()).unwrap_or_default();
        if note(names(&payload, digest) && keys.iter().any(|key| key.verifies(&payload, &signature))) {
            return Ok(found);
        }
    }
    let bundles = source.referrers(image, digest).await?;
    let is_bundle = |entry: &&Descriptor| entry.artifact_type.as_deref().is_some_and(|kind| kind.starts_with(BUNDLE));
    for entry in bundles.iter().filter(is_bundle).take(MOST) {
        for layer in layers(source, &image.with_digest(entry.digest)).await? {
            if !layer.media_type.starts_with(BUNDLE) {
                continue;
            }
            let bundle = fetch_small(source, image, &layer, LARGEST).await?;
            if note(states(&bundle, digest, keys).unwrap_or(false)) {
                return Ok(found);
            }
        }
    }
    Ok(found)
}

/// The signatures that there are of `image` at `digest`, for people; whose they are is not looked at.
///
/// # Errors
/// Those of the source.
pub(crate) async fn list(
    source: &dyn ImageSource,
    image: &Reference,
    digest: BlobDigest,
) -> Result<Vec<String>, Error> {
    let tag = format!("{}.sig", digest.to_string().replace(':', "-"));
    let simple = layers(source, &image.with_tag(&tag)?).await?;
    let simple = simple.into_iter().filter(|layer| layer.media_type == SIMPLE_SIGNING);
    let simple = simple.map(|layer| format!("cosign signature over {}", layer.digest));
    let bundles = source.referrers(image, digest).await?;
    let is_bundle = |entry: &Descriptor| entry.artifact_type.as_deref().is_some_and(|kind| kind.starts_with(BUNDLE));
    let bundles = bundles.into_iter().filter(is_bundle).map(|entry| format!("sigstore bundle {}", entry.digest));
    Ok(simple.chain(bundles).take(MOST).collect())
}

async fn layers(source: &dyn ImageSource, image: &Reference) -> Result<Vec<Descriptor>, Error> {
    match source.manifest(image).await {
        Ok(raw) => match raw.parse(image)? {
            ManifestKind::Image(manifest) => Ok(manifest.layers),
            ManifestKind::Index(_) => Ok(Vec::new()),
        },
        Err(Error::NotFound { .. }) => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// Whether a "simple signing" payload is cosign's of `digest`.
fn names(payload: &[u8], digest: BlobDigest) -> bool {
    let Ok(payload) = serde_json::from_slice::<Value>(payload) else { return false };
    let critical = &payload["critical"];
    critical["type"] == "cosign container image signature"
        && critical["image"]["docker-manifest-digest"] == digest.to_string().as_str()
}

/// Whether a bundle states that `digest` is signed, by one of `keys`. `None`: it is malformed.
fn states(bundle: &[u8], digest: BlobDigest, keys: &[VerifyingKey]) -> Option<bool> {
    let bundle: Value = serde_json::from_slice(bundle).ok()?;
    let envelope = &bundle["dsseEnvelope"];
    let payload = STANDARD.decode(envelope["payload"].as_str()?).ok()?;
    if envelope["payloadType"] != STATEMENT {
        return Some(false);
    }
    let encoded = pre_authentication(STATEMENT, &payload);
    let signatures = envelope["signatures"].as_array()?.iter().take(MOST);
    let mut signatures = signatures.filter_map(|signature| STANDARD.decode(signature["sig"].as_str()?).ok());
    if !signatures.any(|signature| keys.iter().any(|key| key.verifies(&encoded, &signature))) {
        return Some(false);
    }
    let statement: Value = serde_json::from_slice(&payload).ok()?;
    let hex = digest.to_string();
    let hex = hex.strip_prefix("sha256:")?;
    let subject = statement["subject"].as_array()?.iter().any(|subject| subject["digest"]["sha256"] == hex);
    Some(subject && statement["predicateType"] == SIGNED)
}

/// What a DSSE signature is over (DSSE v1, "PAE").
fn pre_authentication(kind: &str, payload: &[u8]) -> Vec<u8> {
    let mut text = format!("DSSEv1 {} {kind} {} ", kind.len(), payload.len()).into_bytes();
    text.extend_from_slice(payload);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pre_authentication_encoding_is_dsse_s() {
        // The example of the DSSE specification.
        let encoded = pre_authentication("http://example.com/HelloWorld", b"hello world");
        assert_eq!(encoded, b"DSSEv1 29 http://example.com/HelloWorld 11 hello world");
    }

    #[test]
    fn only_cosign_s_payload_of_the_digest_names_it() {
        let digest: BlobDigest = format!("sha256:{}", "a".repeat(64)).parse().expect("a digest");
        let payload = |kind: &str, digest: &str| {
            serde_json::json!({"critical": {"type": kind, "image": {"docker-manifest-digest": digest}}}).to_string()
        };
        let signature = "cosign container image signature";
        assert!(names(payload(signature, &digest.to_string()).as_bytes(), digest));
        assert!(!names(payload("another", &digest.to_string()).as_bytes(), digest));
        assert!(
            !names(payload(signature, "sha256:00").as_bytes(), digest) && !names(b"[", digest) && !names(b"1", digest)
        );
    }
}
