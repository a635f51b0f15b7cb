//! Config and manifest of an export: which layers are whose.
//!
//! The layers are, for each mount in order, its trees and then its packs. Config and manifest have no time in them: equal mounts give equal bytes.
use std::collections::BTreeMap;

use rhost_llb::{BlobDigest, Digest};
use serde::{Deserialize, Serialize};

use super::CacheFormatError;
use crate::manifest::{Descriptor, media_type};

/// What the artifact is.
pub const ARTIFACT_TYPE: &str = "application/vnd.rhost.cache.v1";
/// Its config. Another version has another number at the end of the name.
pub const CONFIG_TYPE: &str = "application/vnd.rhost.cache.config.v1+json";
/// Lines of a mount's tree, one zstd frame.
pub const TREE_TYPE: &str = "application/vnd.rhost.cache.tree.v1+zstd";
/// Chunks, one zstd frame.
pub const PACK_TYPE: &str = "application/vnd.rhost.cache.pack.v1+zstd";
/// What is before and behind the number.
const CONFIG_FAMILY: (&str, &str) = ("application/vnd.rhost.cache.config.v", "+json");
const VERSION: u64 = 1;
/// Mounts in one export at most.
const MOST_MOUNTS: usize = 10_000;

/// What an export holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Config {
    version: u64,
    /// By id and base.
    pub mounts: Vec<MountConfig>,
}

/// One mount.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MountConfig {
    /// Its id as the graph has it.
    pub id: String,
    /// What a new one begins with (`from=`), as the store names it: 32 hex digits. `None` begins empty.
    pub base: Option<String>,
    /// Things in it.
    pub entries: u64,
    /// Bytes of its files.
    pub bytes: u64,
    /// Bytes that each of its trees unpacks to.
    pub trees: Vec<u64>,
    /// Its packs.
    pub packs: Vec<PackConfig>,
}

/// One pack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "(u64, u64)", into = "(u64, u64)")]
pub struct PackConfig {
    /// What it unpacks to.
    pub bytes: u64,
    /// How many of the chunks, in the order of the tree, it has.
    pub chunks: u64,
}

impl From<(u64, u64)> for PackConfig {
    fn from((bytes, chunks): (u64, u64)) -> Self {
        Self { bytes, chunks }
    }
}

impl From<PackConfig> for (u64, u64) {
    fn from(pack: PackConfig) -> Self {
        (pack.bytes, pack.chunks)
    }
}

/// Config and manifest as they are stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CacheArtifact {
    /// JSON.
    pub config: Vec<u8>,
    /// Names it.
    pub config_digest: BlobDigest,
    /// JSON.
    pub manifest: Vec<u8>,
    /// Names it.
    pub manifest_digest: BlobDigest,
}

impl Config {
    /// Of these mounts.
    pub fn new(mounts: Vec<MountConfig>) -> Self {
        Self { version: VERSION, mounts }
    }

    /// The documents, over `layers` (digest, bytes) in their order: for each mount its trees and then its packs.
    ///
    /// # Errors
    /// JSON cannot be written; it can.
    pub fn artifact(&self, layers: &[(BlobDigest, u64)]) -> serde_json::Result<CacheArtifact> {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Manifest {
            schema_version: u32,
            media_type: &'static str,
            artifact_type: &'static str,
            config: Descriptor,
            layers: Vec<Descriptor>,
        }
        let config = serde_json::to_vec(self)?;
        let config_digest = BlobDigest(Digest::of(&config));
        let kinds = self.mounts.iter().flat_map(|mount| {
            let trees = mount.trees.iter().map(|_| TREE_TYPE);
            trees.chain(mount.packs.iter().map(|_| PACK_TYPE))
        });
        let describe = |kind: &str, digest, size| Descriptor {
            media_type: kind.to_owned(),
            digest,
            size,
            annotations: BTreeMap::new(),
            platform: None,
        };
        let manifest = serde_json::to_vec(&Manifest {
            schema_version: 2,
            media_type: media_type::OCI_MANIFEST,
            artifact_type: ARTIFACT_TYPE,
            config: describe(CONFIG_TYPE, config_digest, config.len() as u64),
            layers: kinds.zip(layers).map(|(kind, (digest, size))| describe(kind, *digest, *size)).collect(),
        })?;
        let manifest_digest = BlobDigest(Digest::of(&manifest));
        Ok(CacheArtifact { config, config_digest, manifest, manifest_digest })
    }

    /// Whether a config of `media_type` is one of an export that this rhost reads.
    ///
    /// # Errors
    /// It is none, or that of a newer version.
    pub fn check_type(media_type: &str) -> Result<(), CacheFormatError> {
        let number = media_type.strip_prefix(CONFIG_FAMILY.0).and_then(|rest| rest.strip_suffix(CONFIG_FAMILY.1));
        match number.and_then(|number| number.parse::<u64>().ok()) {
            Some(VERSION) => Ok(()),
            Some(found) if found > VERSION => Err(CacheFormatError::Newer { found, known: VERSION }),
            _ => {
                let image = media_type.contains(".image.");
                let what = if image { "it is a container image" } else { "its config" };
                Err(CacheFormatError::NotOne(format!("{what} (`{media_type}`; wanted `{CONFIG_TYPE}`)")))
            }
        }
    }

    /// Reads a config, of a manifest with `layers` layers.
    ///
    /// # Errors
    /// It is none, of a newer version, or does not go with the manifest.
    pub fn parse(bytes: &[u8], layers: usize) -> Result<Self, CacheFormatError> {
        #[derive(Deserialize)]
        struct Head {
            version: u64,
        }
        let broken = |reason: String| CacheFormatError::Broken { what: "config".to_owned(), reason };
        let not_json = |e: serde_json::Error| broken(format!("it is not valid: {e}"));
        let head: Head = serde_json::from_slice(bytes).map_err(not_json)?;
        if head.version != VERSION {
            return Err(CacheFormatError::Newer { found: head.version, known: VERSION });
        }
        let config: Self = serde_json::from_slice(bytes).map_err(not_json)?;
        let counted: usize = config.mounts.iter().map(|mount| mount.trees.len() + mount.packs.len()).sum();
        if counted != layers {
            return Err(broken(format!("it tells of {counted} layers, and the manifest has {layers}")));
        }
        if config.mounts.len() > MOST_MOUNTS {
            return Err(broken(format!("it has more than {MOST_MOUNTS} mounts")));
        }
        let mut seen = std::collections::HashSet::new();
        for mount in &config.mounts {
            let hex = |base: &String| {
                base.len() == 32 && base.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
            };
            if mount.base.as_ref().is_some_and(|base| !hex(base)) {
                return Err(broken(format!("mount {:?} has a base that is none", mount.id)));
            }
            if !seen.insert((&mount.id, &mount.base)) {
                return Err(broken(format!("mount {:?} is there twice", mount.id)));
            }
        }
        Ok(config)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> Config {
        let packs = vec![PackConfig { bytes: 9, chunks: 2 }];
        let mount = MountConfig { id: "/npm".into(), base: None, entries: 3, bytes: 9, trees: vec![80], packs };
        let other = MountConfig { base: Some("0123456789abcdef".repeat(2)), ..mount.clone() };
        Config::new(vec![mount, other])
    }

    #[test]
    fn documents_are_oci_and_are_read_again() {
        let layers: Vec<_> = (0..4u64).map(|n| (BlobDigest(Digest::of(n.to_string())), n)).collect();
        let artifact = config().artifact(&layers).expect("JSON");
        let manifest: serde_json::Value = serde_json::from_slice(&artifact.manifest).expect("JSON");
        assert_eq!(manifest["mediaType"], media_type::OCI_MANIFEST);
        assert_eq!(manifest["artifactType"], ARTIFACT_TYPE);
        let kinds: Vec<_> =
            manifest["layers"].as_array().expect("layers").iter().map(|l| l["mediaType"].as_str()).collect();
        assert_eq!(kinds, [Some(TREE_TYPE), Some(PACK_TYPE), Some(TREE_TYPE), Some(PACK_TYPE)]);
        assert_eq!(Config::parse(&artifact.config, 4).expect("read"), config());
        assert!(String::from_utf8_lossy(&artifact.config).contains("\"packs\":[[9,2]]"));
    }

    #[test]
    fn what_is_another_version_or_something_else_says_so() {
        let error = |kind: &str| Config::check_type(kind).expect_err("refused").to_string();
        Config::check_type(CONFIG_TYPE).expect("ours");
        assert!(error("application/vnd.rhost.cache.config.v7+json").contains("version 7"));
        assert!(error(media_type::OCI_CONFIG).contains("container image"));
        assert!(error("application/vnd.wasm.config.v0+json").contains("wanted"));
        let parse = |text: &str, layers| Config::parse(text.as_bytes(), layers).expect_err("refused").to_string();
        assert!(parse("{\"version\":2,\"mounts\":{}}", 0).contains("newer rhost"));
        assert!(parse("{\"version\":1,\"mounts\":{}}", 0).contains("not valid"));
        assert!(parse("{}", 0).contains("version"));
        let text = serde_json::to_string(&config()).expect("JSON");
        assert!(parse(&text, 3).contains("4 layers"));
        assert!(parse(&text.replace("0123456789abcdef0123456789abcdef", "../../x"), 4).contains("base"));
        assert!(parse(&text.replace("\"0123456789abcdef0123456789abcdef\"", "null"), 4).contains("twice"));
    }
}
