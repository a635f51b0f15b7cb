//! What several modules need: clients without patience, a store in memory, small images.
use std::collections::{BTreeMap, HashMap};
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use rhost_llb::{BlobDigest, Digest};
use rhost_registry::{
    BlobSink, BlobStore, Client, ClientOptions, Credential, CredentialSource, Descriptor, NoCredentials, Reference,
    RegistryConfig, Retry, media_type,
};

pub fn options() -> ClientOptions {
    let retry = Retry {
        attempts: 3,
        first_delay: Duration::from_millis(1),
        longest_delay: Duration::from_millis(5),
        longest_wait: Duration::from_millis(5),
    };
    ClientOptions { retry, ..ClientOptions::standard() }
}

pub fn client(toml: &str, credentials: Arc<dyn CredentialSource>) -> Client {
    Client::new(RegistryConfig::from_toml(toml).unwrap(), credentials, options()).unwrap()
}

pub fn anonymous() -> Client {
    client("", Arc::new(NoCredentials))
}

pub fn login(registry: &str, username: &str, password: &str) -> Arc<dyn CredentialSource> {
    let credential = Credential::Basic { username: username.into(), password: password.into() };
    Arc::new(BTreeMap::from([(registry.to_owned(), credential)]))
}

pub fn name(text: &str) -> Reference {
    text.parse().unwrap()
}

/// Bytes that do not repeat soon.
pub fn noise(length: usize) -> Bytes {
    let mut out = Vec::with_capacity(length + 32);
    let mut block = Digest::of("noise");
    while out.len() < length {
        out.extend_from_slice(block.as_raw());
        block = Digest::of(block.as_raw());
    }
    out.truncate(length);
    out.into()
}

pub fn layer(bytes: &[u8]) -> Descriptor {
    Descriptor::of(media_type::OCI_LAYER_GZIP, bytes)
}

/// An image: its blobs and its manifest.
pub struct Sample {
    pub blobs: HashMap<BlobDigest, Bytes>,
    pub config: Descriptor,
    pub layers: Vec<Descriptor>,
    pub manifest: Bytes,
}

pub fn sample(architecture: &str, layers: &[Bytes]) -> Sample {
    let diff_ids: Vec<String> = layers.iter().map(|l| Digest::of(l).to_string()).collect();
    let config = format!(
        r#"{{"architecture":"{architecture}","os":"linux","rootfs":{{"type":"layers","diff_ids":{}}}}}"#,
        serde_json::to_string(&diff_ids).unwrap()
    );
    let config = Bytes::from(config);
    let described = Descriptor::of(media_type::OCI_CONFIG, &config);
    let list: Vec<Descriptor> = layers.iter().map(|bytes| layer(bytes)).collect();
    let manifest = serde_json::json!({
        "schemaVersion": 2, "mediaType": media_type::OCI_MANIFEST, "config": described, "layers": list,
    });
    let mut blobs: HashMap<_, _> = layers.iter().map(|bytes| (BlobDigest(Digest::of(bytes)), bytes.clone())).collect();
    blobs.insert(described.digest, config);
    Sample { blobs, config: described, layers: list, manifest: manifest.to_string().into() }
}

/// A content store in memory.
#[derive(Default, Clone)]
pub struct Shelf(pub Arc<Mutex<HashMap<BlobDigest, Bytes>>>);

struct Slot {
    shelf: Shelf,
    digest: BlobDigest,
    bytes: Vec<u8>,
}

#[async_trait]
impl BlobStore for Shelf {
    async fn has(&self, blob: &Descriptor) -> io::Result<bool> {
        Ok(self.0.lock().unwrap().contains_key(&blob.digest))
    }

    async fn start(&self, blob: &Descriptor) -> io::Result<Box<dyn BlobSink>> {
        Ok(Box::new(Slot { shelf: self.clone(), digest: blob.digest, bytes: Vec::new() }))
    }
}

#[async_trait]
impl BlobSink for Slot {
    async fn write(&mut self, bytes: Bytes) -> io::Result<()> {
        self.bytes.extend_from_slice(&bytes);
        Ok(())
    }

    async fn restart(&mut self) -> io::Result<()> {
        self.bytes.clear();
        Ok(())
    }

    async fn commit(self: Box<Self>) -> io::Result<()> {
        let Self { shelf, digest, bytes } = *self;
        shelf.0.lock().unwrap().insert(digest, bytes.into());
        Ok(())
    }
}
