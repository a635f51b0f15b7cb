//! `VerifyingKey`: a public key as cosign writes it, `-----BEGIN PUBLIC KEY-----` (SubjectPublicKeyInfo, RFC 5280 4.1.2.7).
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P384_SHA384_ASN1, ED25519, RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey,
    VerificationAlgorithm,
};

use crate::agent::der;

/// Object identifiers, as DER writes them.
const EC: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
const P256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
const P384: &[u8] = &[0x2b, 0x81, 0x04, 0x00, 0x22];
const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
const ED: &[u8] = &[0x2b, 0x65, 0x70];
const OBJECT: u8 = 0x06;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scheme {
    P256,
    P384,
    Rsa,
    Ed25519,
}

/// A key that signatures are checked with.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct VerifyingKey {
    /// As the rule names it.
    pub(crate) name: String,
    scheme: Scheme,
    bytes: Vec<u8>,
}

impl fmt::Debug for VerifyingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({:?})", self.name, self.scheme)
    }
}

impl VerifyingKey {
    /// Reads a PEM file.
    ///
    /// # Errors
    /// What it is instead.
    pub(crate) fn parse(name: &str, pem: &str) -> Result<Self, String> {
        let body = pem.split_once("-----BEGIN PUBLIC KEY-----").and_then(|(_, rest)| rest.split_once("-----END"));
        let Some((body, _)) = body else {
            return Err(if pem.contains("PRIVATE KEY") {
                "is a private key; signatures are checked with the public one (`cosign public-key --key …`)".into()
            } else {
                "is no public key in PEM form, as `cosign generate-key-pair` writes it to cosign.pub".into()
            });
        };
        let body: String = body.split_whitespace().collect();
        let der = STANDARD.decode(body).map_err(|error| format!("is damaged: {error}"))?;
        let (scheme, bytes) = subject_key(&der).ok_or("is damaged, or no ECDSA (P-256, P-384), Ed25519 or RSA key")?;
        Ok(Self { name: name.to_owned(), scheme, bytes: bytes.to_vec() })
    }

    /// Whether `signature` is this key's over `message`.
    pub(crate) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        let algorithm: &'static dyn VerificationAlgorithm = match self.scheme {
            Scheme::P256 => &ECDSA_P256_SHA256_ASN1,
            Scheme::P384 => &ECDSA_P384_SHA384_ASN1,
            Scheme::Rsa => &RSA_PKCS1_2048_8192_SHA256,
            Scheme::Ed25519 => &ED25519,
        };
        UnparsedPublicKey::new(algorithm, &self.bytes).verify(message, signature).is_ok()
    }

    /// What tells it from others, whatever it is called.
    pub(crate) fn id(&self) -> String {
        rhost_llb::Digest::of([&[self.scheme as u8], self.bytes.as_slice()].concat()).to_string()
    }
}

/// The key in a SubjectPublicKeyInfo.
fn subject_key(mut der: &[u8]) -> Option<(Scheme, &[u8])> {
    let mut info = der::take(&mut der, der::SEQUENCE)?;
    let mut algorithm = der::take(&mut info, der::SEQUENCE)?;
    let kind = der::take(&mut algorithm, OBJECT)?;
    let scheme = if kind == EC {
        match der::take(&mut algorithm, OBJECT)? {
            curve if curve == P256 => Scheme::P256,
            curve if curve == P384 => Scheme::P384,
            _ => return None,
        }
    } else if kind == RSA {
        Scheme::Rsa
    } else if kind == ED {
        Scheme::Ed25519
    } else {
        return None;
    };
    // A bit string begins with the number of its unused bits.
    let (unused, bytes) = der::take(&mut info, der::BITS)?.split_first()?;
    (*unused == 0 && !bytes.is_empty()).then_some((scheme, bytes))
}
