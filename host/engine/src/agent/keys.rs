//! Private keys: OpenSSH's own form, PKCS#1, PKCS#8 and SEC 1, all in PEM and not encrypted; what they sign.
use std::fmt;

use base64::Engine as _;
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, EcdsaSigningAlgorithm,
    Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256, RSA_PKCS1_SHA512, RsaKeyPair,
};
use zeroize::Zeroizing;

use super::der;
use super::protocol::{put, put_number, take};

/// A key cannot be served.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// It wants a passphrase.
    #[error("the key is encrypted; load it into an agent (`ssh-add`) and lend that: `--ssh default`")]
    Encrypted,
    /// The file holds no private key.
    #[error("it is no private key (wanted PEM of OpenSSH, PKCS#1, PKCS#8 or SEC 1)")]
    NoKey,
    /// It says it is one, but it is broken.
    #[error("the private key is damaged")]
    Damaged,
    /// A kind that rhost does not sign with.
    #[error("keys of type {0} are not served; load it into an agent (`ssh-add`) and lend that: `--ssh default`")]
    Kind(String),
    /// Too weak, or its parts do not fit.
    #[error("the {kind} key is refused: {reason}")]
    Refused {
        /// Its type.
        kind: &'static str,
        /// Why.
        reason: String,
    },
}

enum Pair {
    Rsa(Box<RsaKeyPair>),
    Ed25519(Ed25519KeyPair),
    Ecdsa(&'static Curve, EcdsaKeyPair),
}

/// A private key that can sign. Prints as its public part.
pub struct AgentKey {
    pair: Pair,
    public: Vec<u8>,
    comment: String,
}

impl fmt::Debug for AgentKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AgentKey").field("comment", &self.comment).finish_non_exhaustive()
    }
}

struct Curve {
    name: &'static str,
    algorithm: &'static EcdsaSigningAlgorithm,
    /// The object identifier's bytes.
    oid: &'static [u8],
}

static CURVES: [Curve; 2] = [
    Curve {
        name: "nistp256",
        algorithm: &ECDSA_P256_SHA256_FIXED_SIGNING,
        oid: &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07],
    },
    Curve { name: "nistp384", algorithm: &ECDSA_P384_SHA384_FIXED_SIGNING, oid: &[0x2b, 0x81, 0x04, 0x00, 0x22] },
];

/// `SSH_AGENT_RSA_SHA2_256` and `_512`.
const SHA256: u32 = 2;
const SHA512: u32 = 4;

impl AgentKey {
    /// Reads the first private key of a PEM file. `name` is its comment where it has none of its own.
    ///
    /// # Errors
    /// It cannot be used; the error says why and what to do.
    pub fn parse(pem: &[u8], name: &str) -> Result<Self, KeyError> {
        let text = std::str::from_utf8(pem).map_err(|_| KeyError::NoKey)?;
        let (_, rest) = text.split_once("-----BEGIN ").ok_or(KeyError::NoKey)?;
        let (label, rest) = rest.split_once("-----").ok_or(KeyError::NoKey)?;
        let (body, _) = rest.split_once("-----END ").ok_or(KeyError::Damaged)?;
        if body.contains("ENCRYPTED") || label == "ENCRYPTED PRIVATE KEY" {
            return Err(KeyError::Encrypted);
        }
        if !label.ends_with("PRIVATE KEY") {
            return Err(KeyError::NoKey);
        }
        let body: Zeroizing<String> = Zeroizing::new(body.split_whitespace().collect());
        let bytes = base64::engine::general_purpose::STANDARD.decode(body.as_bytes());
        let bytes = Zeroizing::new(bytes.map_err(|_| KeyError::Damaged)?);
        let (pair, comment) = match label {
            "OPENSSH PRIVATE KEY" => openssh(&bytes)?,
            "RSA PRIVATE KEY" => (rsa(RsaKeyPair::from_der(&bytes))?, String::new()),
            "EC PRIVATE KEY" => (sec1(&bytes)?, String::new()),
            "PRIVATE KEY" => (pkcs8(&bytes)?, String::new()),
            other => return Err(KeyError::Kind(other.to_owned())),
        };
        let public = public_of(&pair).ok_or(KeyError::Damaged)?;
        Ok(Self { pair, public, comment: if comment.is_empty() { name.to_owned() } else { comment } })
    }

    /// The public key as ssh writes it.
    pub fn public(&self) -> &[u8] {
        &self.public
    }

    /// For people.
    pub fn comment(&self) -> &str {
        &self.comment
    }

    /// The signature over `data` as ssh writes it; `None` for what is not offered (RSA with SHA-1) or fails.
    pub fn sign(&self, data: &[u8], flags: u32) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        match &self.pair {
            Pair::Rsa(pair) => {
                let (name, padding): (_, &'static dyn ring::signature::RsaEncoding) = if flags & SHA512 != 0 {
                    ("rsa-sha2-512", &RSA_PKCS1_SHA512)
                } else if flags & SHA256 != 0 {
                    ("rsa-sha2-256", &RSA_PKCS1_SHA256)
                } else {
                    return None;
                };
                let mut signature = vec![0; pair.public().modulus_len()];
                pair.sign(padding, &SystemRandom::new(), data, &mut signature).ok()?;
                put(&mut out, name.as_bytes());
                put(&mut out, &signature);
            }
            Pair::Ed25519(pair) => {
                put(&mut out, b"ssh-ed25519");
                put(&mut out, pair.sign(data).as_ref());
            }
            Pair::Ecdsa(curve, pair) => {
                let signature = pair.sign(&SystemRandom::new(), data).ok()?;
                let (r, s) = signature.as_ref().split_at(signature.as_ref().len() / 2);
                let mut numbers = Vec::new();
                put_number(&mut numbers, r);
                put_number(&mut numbers, s);
                put(&mut out, format!("ecdsa-sha2-{}", curve.name).as_bytes());
                put(&mut out, &numbers);
            }
        }
        Some(out)
    }
}

fn refused(kind: &'static str) -> impl Fn(ring::error::KeyRejected) -> KeyError {
    move |error| KeyError::Refused { kind, reason: error.to_string() }
}

fn rsa(pair: Result<RsaKeyPair, ring::error::KeyRejected>) -> Result<Pair, KeyError> {
    pair.map(|pair| Pair::Rsa(Box::new(pair))).map_err(refused("RSA"))
}

fn ecdsa(curve: &'static Curve, private: &[u8], public: &[u8]) -> Result<Pair, KeyError> {
    // Numbers may come with a zero in front, or without one that belongs there.
    let (private, length) = (der::strip(private), (public.len().saturating_sub(1)) / 2);
    let mut whole = Zeroizing::new(vec![0; length.saturating_sub(private.len())]);
    whole.extend(private);
    EcdsaKeyPair::from_private_key_and_public_key(curve.algorithm, &whole, public, &SystemRandom::new())
        .map(|pair| Pair::Ecdsa(curve, pair))
        .map_err(refused("ECDSA"))
}

fn public_of(pair: &Pair) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    match pair {
        Pair::Rsa(pair) => {
            let mut bytes = pair.public_key().as_ref();
            let mut numbers = der::take(&mut bytes, der::SEQUENCE)?;
            let (modulus, exponent) = (der::take(&mut numbers, der::INTEGER)?, der::take(&mut numbers, der::INTEGER)?);
            put(&mut out, b"ssh-rsa");
            put_number(&mut out, exponent);
            put_number(&mut out, modulus);
        }
        Pair::Ed25519(pair) => {
            put(&mut out, b"ssh-ed25519");
            put(&mut out, pair.public_key().as_ref());
        }
        Pair::Ecdsa(curve, pair) => {
            put(&mut out, format!("ecdsa-sha2-{}", curve.name).as_bytes());
            put(&mut out, curve.name.as_bytes());
            put(&mut out, pair.public_key().as_ref());
        }
    }
    Some(out)
}

/// OpenSSH's PROTOCOL.key.
fn openssh(bytes: &[u8]) -> Result<(Pair, String), KeyError> {
    let mut rest = bytes.strip_prefix(b"openssh-key-v1\0").ok_or(KeyError::Damaged)?;
    let mut next = || take(&mut rest).ok_or(KeyError::Damaged);
    let (cipher, derivation, _) = (next()?, next()?, next()?);
    if cipher != b"none" || derivation != b"none" {
        return Err(KeyError::Encrypted);
    }
    let (count, mut rest) = rest.split_at_checked(4).ok_or(KeyError::Damaged)?;
    if count != [0, 0, 0, 1] {
        return Err(KeyError::Damaged);
    }
    take(&mut rest).ok_or(KeyError::Damaged)?;
    let private = take(&mut rest).ok_or(KeyError::Damaged)?;
    let (checks, mut rest) = private.split_at_checked(8).ok_or(KeyError::Damaged)?;
    if checks[..4] != checks[4..] {
        return Err(KeyError::Damaged);
    }
    let mut next = || take(&mut rest).ok_or(KeyError::Damaged);
    let kind = next()?;
    let pair = match kind {
        b"ssh-ed25519" => {
            let (public, private) = (next()?, next()?);
            let seed = private.get(..32).ok_or(KeyError::Damaged)?;
            let pair = Ed25519KeyPair::from_seed_and_public_key(seed, public).map_err(refused("Ed25519"))?;
            Pair::Ed25519(pair)
        }
        b"ssh-rsa" => {
            let (n, e, d) = (next()?, next()?, next()?);
            let (q_inverse, p, q) = (next()?, next()?, next()?);
            let (d_p, d_q) = (der::remainder_below(d, p), der::remainder_below(d, q));
            rsa(RsaKeyPair::from_components(&ring::rsa::KeyPairComponents {
                public_key: ring::rsa::PublicKeyComponents { n: der::strip(n), e: der::strip(e) },
                d: der::strip(d),
                p: der::strip(p),
                q: der::strip(q),
                dP: der::strip(&d_p),
                dQ: der::strip(&d_q),
                qInv: der::strip(q_inverse),
            }))?
        }
        other => {
            let text = String::from_utf8_lossy(other).into_owned();
            let curve =
                text.strip_prefix("ecdsa-sha2-").and_then(|name| CURVES.iter().find(|curve| curve.name == name));
            let curve = curve.ok_or(KeyError::Kind(text))?;
            let (_, public, private) = (next()?, next()?, next()?);
            ecdsa(curve, private, public)?
        }
    };
    let comment = String::from_utf8_lossy(next()?).into_owned();
    Ok((pair, comment))
}

/// RFC 5915, with the curve and the public key in it, as OpenSSL and ssh-keygen write it.
fn sec1(mut bytes: &[u8]) -> Result<Pair, KeyError> {
    let parts = |bytes: &mut &[u8]| -> Option<(Zeroizing<Vec<u8>>, Vec<u8>, Vec<u8>)> {
        let mut inner = der::take(bytes, der::SEQUENCE)?;
        der::take(&mut inner, der::INTEGER)?;
        let private = der::take(&mut inner, der::OCTETS)?;
        let curve = der::take(&mut inner, 0xa0)?;
        let mut bits = der::take(&mut inner, 0xa1)?;
        let public = der::take(&mut bits, der::BITS)?.strip_prefix(&[0])?;
        let (_, curve, _) = der::element(curve)?;
        Some((Zeroizing::new(private.to_vec()), curve.to_vec(), public.to_vec()))
    };
    let (private, oid, public) = parts(&mut bytes).ok_or(KeyError::Damaged)?;
    let curve = CURVES.iter().find(|curve| curve.oid == oid);
    ecdsa(curve.ok_or(KeyError::Kind("ECDSA on another curve than P-256 and P-384".into()))?, &private, &public)
}

fn pkcs8(bytes: &[u8]) -> Result<Pair, KeyError> {
    const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
    const ED25519: &[u8] = &[0x2b, 0x65, 0x70];
    const EC: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
    let algorithm = |mut bytes: &[u8]| -> Option<(Vec<u8>, Vec<u8>)> {
        let mut inner = der::take(&mut bytes, der::SEQUENCE)?;
        der::take(&mut inner, der::INTEGER)?;
        let algorithm = der::take(&mut inner, der::SEQUENCE)?;
        let (_, kind, rest) = der::element(algorithm)?;
        Some((kind.to_vec(), der::element(rest).map(|(_, curve, _)| curve.to_vec()).unwrap_or_default()))
    };
    match algorithm(bytes).ok_or(KeyError::Damaged)? {
        (kind, _) if kind == RSA => rsa(RsaKeyPair::from_pkcs8(bytes)),
        (kind, _) if kind == ED25519 => {
            Ed25519KeyPair::from_pkcs8_maybe_unchecked(bytes).map(Pair::Ed25519).map_err(refused("Ed25519"))
        }
        (kind, oid) if kind == EC => match CURVES.iter().find(|curve| curve.oid == oid) {
            Some(curve) => EcdsaKeyPair::from_pkcs8(curve.algorithm, bytes, &SystemRandom::new())
                .map(|pair| Pair::Ecdsa(curve, pair))
                .map_err(refused("ECDSA")),
            None => Err(KeyError::Kind("ECDSA on another curve than P-256 and P-384".into())),
        },
        _ => Err(KeyError::Kind("another PKCS#8 algorithm than RSA, ECDSA and Ed25519".into())),
    }
}
