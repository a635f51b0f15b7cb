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
pub(crate) struct Signatures<'k> {
    /// By whom one counts.
    pub(crate) by: Option<&'k VerifyingKey>,
    /// How many there are, of other keys or over other bytes.
    others: usize,
}

impl Signatures<'_> {
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
pub(crate) async fn look<'k>(
    source: &dyn ImageSource,
    image: &Reference,
    digest: BlobDigest,
    keys: &'k [VerifyingKey],
) -> Result<Signatures<'k>, Error> {
    let mut others = 0;
    for layer in simple(source, image, digest).await? {
        let payload = fetch_small(source, image, &layer, LARGEST).await?;
        let signature =
            layer.annotations.get(SIGNATURE).and_then(|text| STANDARD.decode(text).ok()).unwrap_or_default();
        let by = keys.iter().find(|key| key.verifies(&payload, &signature)).filter(|_| names(&payload, digest));
        if by.is_some() {
            return Ok(Signatures { by, others });
        }
        others += 1;
    }
    for entry in bundles(source, image, digest).await? {
        for layer in layers(source, &image.with_digest(entry.digest)).await? {
            if !layer.media_type.starts_with(BUNDLE) {
                continue;
            }
            let bundle = fetch_small(source, image, &layer, LARGEST).await?;
            let by = states(&bundle, digest, keys);
            if by.is_some() {
                return Ok(Signatures { by, others });
            }
            others += 1;
        }
    }
    Ok(Signatures { by: None, others })
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
    let simple = simple(source, image, digest).await?.into_iter();
    let simple = simple.map(|layer| format!("cosign signature over {}", layer.digest));
    let bundles = bundles(source, image, digest).await?.into_iter();
    Ok(simple.chain(bundles.map(|entry| format!("sigstore bundle {}", entry.digest))).collect())
}

/// Layers of the signature tag, each a payload with its signature.
async fn simple(source: &dyn ImageSource, image: &Reference, digest: BlobDigest) -> Result<Vec<Descriptor>, Error> {
    let tag = format!("{}.sig", digest.to_string().replace(':', "-"));
    let layers = layers(source, &image.with_tag(&tag)?).await?;
    Ok(layers.into_iter().filter(|layer| layer.media_type == SIMPLE_SIGNING).take(MOST).collect())
}

/// Manifests of bundles that refer to the image.
async fn bundles(source: &dyn ImageSource, image: &Reference, digest: BlobDigest) -> Result<Vec<Descriptor>, Error> {
    let is_bundle = |entry: &Descriptor| entry.artifact_type.as_deref().is_some_and(|kind| kind.starts_with(BUNDLE));
    Ok(source.referrers(image, digest).await?.into_iter().filter(is_bundle).take(MOST).collect())
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

/// By which of `keys` a bundle states that `digest` is signed, if by any.
fn states<'k>(bundle: &[u8], digest: BlobDigest, keys: &'k [VerifyingKey]) -> Option<&'k VerifyingKey> {
    let bundle: Value = serde_json::from_slice(bundle).ok()?;
    let envelope = &bundle["dsseEnvelope"];
    let payload = STANDARD.decode(envelope["payload"].as_str()?).ok()?;
    if envelope["payloadType"] != STATEMENT {
        return None;
    }
    let encoded = pre_authentication(STATEMENT, &payload);
    let signatures = envelope["signatures"].as_array()?.iter().take(MOST);
    let mut signatures = signatures.filter_map(|signature| STANDARD.decode(signature["sig"].as_str()?).ok());
    let by = signatures.find_map(|signature| keys.iter().find(|key| key.verifies(&encoded, &signature)))?;
    let statement: Value = serde_json::from_slice(&payload).ok()?;
    let hex = digest.0.hex();
    let subject = statement["subject"].as_array()?.iter().any(|subject| subject["digest"]["sha256"] == hex);
    (subject && statement["predicateType"] == SIGNED).then_some(by)
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
