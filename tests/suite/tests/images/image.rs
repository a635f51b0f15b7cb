//! An image as an OCI archive has it, taken apart.
use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::Path;

use rhost_llb::Digest;
use serde_json::Value;

use super::tar::{Entry, entries};

/// The documents and blobs of an OCI archive.
pub struct Archive {
    blobs: BTreeMap<String, Vec<u8>>,
    pub index: Value,
}

/// One platform's image.
pub struct Image {
    pub manifest: Value,
    pub config: Value,
    pub layers: Vec<Layer>,
}

pub struct Layer {
    pub digest: String,
    pub media_type: String,
    pub blob: Vec<u8>,
}

impl Archive {
    pub fn read(path: &Path) -> Self {
        let bytes = std::fs::read(path).expect("an archive");
        let files = entries(&bytes).into_iter().filter(|e| e.kind == '0').map(|e| {
            (String::from_utf8(e.path).expect("text").trim_start_matches("./").to_owned(), bytes[e.range].to_vec())
        });
        let blobs: BTreeMap<String, Vec<u8>> = files.collect();
        let index = serde_json::from_slice(&blobs["index.json"]).expect("JSON");
        Self { blobs, index }
    }

    fn blob(&self, descriptor: &Value) -> &[u8] {
        let digest = descriptor["digest"].as_str().expect("a digest");
        let bytes = self.blobs.get(&format!("blobs/{}", digest.replace(':', "/"))).expect("a blob");
        assert_eq!(Digest::of(bytes).to_string(), digest);
        assert_eq!(bytes.len() as u64, descriptor["size"].as_u64().expect("a size"));
        bytes
    }

    /// The manifests, behind an index or not, with the index.
    pub fn images(&self) -> (Option<Value>, Vec<Image>) {
        let top = &self.index["manifests"][0];
        let document: Value = serde_json::from_slice(self.blob(top)).expect("JSON");
        if document.get("manifests").is_some() {
            let images = document["manifests"].as_array().expect("a list").iter().map(|m| self.image(m)).collect();
            return (Some(document), images);
        }
        (None, vec![self.image(top)])
    }

    fn image(&self, descriptor: &Value) -> Image {
        let manifest: Value = serde_json::from_slice(self.blob(descriptor)).expect("JSON");
        let config = self.blob(&manifest["config"]);
        let layers = manifest["layers"].as_array().cloned().unwrap_or_default();
        let layer = |descriptor: &Value| Layer {
            digest: descriptor["digest"].as_str().expect("a digest").to_owned(),
            media_type: descriptor["mediaType"].as_str().expect("a type").to_owned(),
            blob: self.blob(descriptor).to_vec(),
        };
        Image {
            config: serde_json::from_slice(config).expect("JSON"),
            layers: layers.iter().map(layer).collect(),
            manifest,
        }
    }
}

impl Layer {
    pub fn entries(&self) -> Vec<Entry> {
        entries(&self.tar())
    }

    pub fn tar(&self) -> Vec<u8> {
        if self.media_type.ends_with("zstd") {
            return zstd::decode_all(self.blob.as_slice()).expect("zstd");
        }
        if !self.media_type.ends_with("gzip") {
            return self.blob.clone();
        }
        let mut tar = Vec::new();
        flate2::read::MultiGzDecoder::new(self.blob.as_slice()).read_to_end(&mut tar).expect("gzip");
        tar
    }
}
