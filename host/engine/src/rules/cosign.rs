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
use rhost_registry::{Descriptor, Error, ImageSource, ManifestKind, Reference, ReferenceError, fetch_small};

use super::key::VerifyingKey;
use super::policy::Refusal;
use super::signature::Signature;

/// Largest payload or bundle that is read, in bytes.
const LARGEST: u64 = 1 << 20;
/// Signatures of one image that are looked at, at most.
const MOST: usize = 64;
/// The media type of payloads at the signature tag.
pub(crate) const SIMPLE_SIGNING: &str = "application/vnd.dev.cosign.simplesigning.v1+json";
/// The annotation that has the signature over one.
pub(crate) const SIGNATURE: &str = "dev.cosignproject.cosign/signature";
const BUNDLE: &str = "application/vnd.dev.sigstore.bundle";

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
    /// The one that counts, and by whom it is.
    pub(crate) counts: Option<(Signature, &'k VerifyingKey)>,
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
        let payload = fetch_small(source, image, &layer, LARGEST).await?.to_vec();
        let signature =
            layer.annotations.get(SIGNATURE).and_then(|text| STANDARD.decode(text).ok()).unwrap_or_default();
        let signature = Signature::Simple { payload, signature };
        match signature.by(digest, keys) {
            Some(by) => return Ok(Signatures { counts: Some((signature, by)), others }),
            None => others += 1,
        }
    }
    for entry in bundles(source, image, digest).await? {
        for layer in layers(source, &image.with_digest(entry.digest)).await? {
            if !layer.media_type.starts_with(BUNDLE) {
                continue;
            }
            let bytes = fetch_small(source, image, &layer, LARGEST).await?.to_vec();
            let signature = Signature::Bundle { media_type: layer.media_type, bytes };
            match signature.by(digest, keys) {
                Some(by) => return Ok(Signatures { counts: Some((signature, by)), others }),
                None => others += 1,
            }
        }
    }
    Ok(Signatures { counts: None, others })
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

/// The name under which signatures of `image` at `digest` lie in the first form.
///
/// # Errors
/// It would be no name.
pub(crate) fn signature_tag(image: &Reference, digest: BlobDigest) -> Result<Reference, ReferenceError> {
    image.with_tag(&format!("{}.sig", digest.to_string().replace(':', "-")))
}

/// Layers of the signature tag, each a payload with its signature.
async fn simple(source: &dyn ImageSource, image: &Reference, digest: BlobDigest) -> Result<Vec<Descriptor>, Error> {
    let layers = layers(source, &signature_tag(image, digest)?).await?;
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
