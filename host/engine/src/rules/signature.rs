//! `Signature`: a signature by itself, apart from where it was found: what is kept in the store, and written beside an image that travels.
//!
//! Who made it and what it is about is found out whenever it is used. Nothing depends on where it lay: a place that anybody may write to will do.
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rhost_llb::BlobDigest;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::key::VerifyingKey;

/// Signatures in one envelope that are looked at, at most.
const MOST: usize = 64;
const STATEMENT: &str = "application/vnd.in-toto+json";
/// What cosign states of an image that it signs; attestations state other things.
const SIGNED: &str = "https://sigstore.dev/cosign/sign/v1";

/// One signature, in either of cosign's forms.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Signature {
    /// A "simple signing" payload, and the signature over it.
    Simple {
        /// The payload: JSON.
        #[serde(with = "base64_text")]
        payload: Vec<u8>,
        /// Its signature.
        #[serde(with = "base64_text")]
        signature: Vec<u8>,
    },
    /// A sigstore bundle.
    Bundle {
        /// With its version.
        media_type: String,
        /// The bundle: JSON.
        #[serde(with = "base64_text")]
        bytes: Vec<u8>,
    },
}

mod base64_text {
    use super::*;
    use serde::{Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(bytes))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        STANDARD.decode(String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

impl Signature {
    /// By which of `keys` it says that `digest` is signed, if by any.
    pub(crate) fn by<'k>(&self, digest: BlobDigest, keys: &'k [VerifyingKey]) -> Option<&'k VerifyingKey> {
        match self {
            Self::Simple { payload, signature } => {
                keys.iter().find(|key| key.verifies(payload, signature)).filter(|_| names(payload, digest))
            }
            Self::Bundle { bytes, .. } => states(bytes, digest, keys),
        }
    }

    /// Its bytes and its signature.
    pub(crate) fn size(&self) -> usize {
        match self {
            Self::Simple { payload, signature } => payload.len() + signature.len(),
            Self::Bundle { bytes, .. } => bytes.len(),
        }
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
