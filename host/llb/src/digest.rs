//! `Digest`: bytes named by their SHA-256, printed `sha256:<64 hex>`; and the newtypes that say what was hashed.
//!
//! Only SHA-256 is accepted (OCI image-spec, descriptor.md: registered algorithms; BuildKit's LLB uses no other).
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest as _, Sha256};

/// A SHA-256 digest. 32 bytes, `Copy`; text form `sha256:<64 lower-case hex digits>`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Digest([u8; 32]);

impl std::hash::Hash for Digest {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        state.write(&self.0);
    }
}

/// Hashes digests by their first bytes, which are as random as any hash of them. For maps whose keys were computed here: who writes down digests
/// of their own choice could have them all meet in one place.
#[derive(Clone, Copy, Default)]
pub struct DigestHasher(u64);

impl std::hash::Hasher for DigestHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        let mut first = [0; 8];
        let count = bytes.len().min(8);
        first[..count].copy_from_slice(&bytes[..count]);
        // Of keys that are more than a digest, every part counts.
        self.0 = self.0.rotate_left(7) ^ u64::from_le_bytes(first);
    }
}

/// A map by digests that were computed here.
pub type DigestMap<K, V> = std::collections::HashMap<K, V, std::hash::BuildHasherDefault<DigestHasher>>;
/// A set of digests that were computed here.
pub type DigestSet<K> = std::collections::HashSet<K, std::hash::BuildHasherDefault<DigestHasher>>;

/// A text is not a digest that rhost accepts.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a digest: wanted `sha256:` and 64 lower-case hex digits")]
pub struct DigestError {
    /// The text that was refused, at most 120 characters of it.
    pub text: String,
}

impl Digest {
    /// Digest of `bytes`.
    pub fn of(bytes: impl AsRef<[u8]>) -> Self {
        Self(Sha256::digest(bytes.as_ref()).into())
    }

    /// The digest whose 32 raw bytes are these.
    pub const fn from_raw(raw: [u8; 32]) -> Self {
        Self(raw)
    }

    /// The 32 raw bytes.
    pub const fn as_raw(&self) -> &[u8; 32] {
        &self.0
    }

    /// The 64 hex digits, without the algorithm.
    pub fn hex(&self) -> String {
        hex::encode(self.0)
    }

    /// The text form, without an allocation.
    pub fn text(&self) -> [u8; 71] {
        let mut text = *b"sha256:0000000000000000000000000000000000000000000000000000000000000000";
        hex::encode_to_slice(self.0, &mut text[7..]).expect("64 digits for 32 bytes");
        text
    }

    /// The first 12 hex digits, for people.
    pub fn short(&self) -> String {
        hex::encode(&self.0[..6])
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(std::str::from_utf8(&self.text()).expect("hex is ASCII"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What each lower-case hex digit stands for; 255 for what is none.
const VALUES: [u8; 256] = {
    let (mut values, mut at) = ([255; 256], 0);
    while at < 16 {
        values[b"0123456789abcdef"[at] as usize] = at as u8;
        at += 1;
    }
    values
};

impl FromStr for Digest {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, DigestError> {
        let refuse = || DigestError { text: text.chars().take(120).collect() };
        let digits = text.strip_prefix("sha256:").ok_or_else(refuse)?;
        let digits: &[u8; 64] = digits.as_bytes().try_into().map_err(|_| refuse())?;
        let (mut raw, mut worst) = ([0; 32], 0);
        for (byte, pair) in raw.iter_mut().zip(digits.as_chunks::<2>().0) {
            let [high, low] = pair.map(|digit| VALUES[usize::from(digit)]);
            worst |= high | low;
            *byte = high << 4 | low;
        }
        if worst > 15 { Err(refuse()) } else { Ok(Self(raw)) }
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// A running SHA-256, for bytes that come in pieces.
#[derive(Clone, Default)]
pub struct Hasher(Sha256);

impl Hasher {
    /// An empty hasher.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds `bytes`.
    pub fn update(&mut self, bytes: impl AsRef<[u8]>) {
        self.0.update(bytes.as_ref());
    }

    /// The digest of all that was added.
    pub fn finish(self) -> Digest {
        Digest(self.0.finalize().into())
    }
}

macro_rules! named_digest {
    ($($(#[$doc:meta])* $name:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub Digest);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }

        impl FromStr for $name {
            type Err = DigestError;

            fn from_str(text: &str) -> Result<Self, DigestError> {
                text.parse().map(Self)
            }
        }
    )*};
}

named_digest! {
    /// Digest of the exact bytes of an Op (spec A.3): the name of a vertex.
    VertexDigest;
    /// Digest of a blob as it is stored or travels (compressed layer, manifest, config).
    BlobDigest;
    /// Digest of an uncompressed layer tar (OCI image-spec, config.md `rootfs.diff_ids`).
    DiffId;
    /// Digest of the whole stack of layers up to one (OCI image-spec, config.md `ChainID`).
    ChainId;
}

impl ChainId {
    /// The chain id of `diff_ids` in order from the base; `None` for no layers.
    pub fn of(diff_ids: &[DiffId]) -> Option<Self> {
        let mut chain: Option<Digest> = None;
        for diff_id in diff_ids {
            chain = Some(match chain {
                None => diff_id.0,
                Some(parent) => Digest::of(format!("{parent} {diff_id}")),
            });
        }
        chain.map(Self)
    }
}
