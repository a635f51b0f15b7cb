//! Exports of cache mounts as OCI layouts: in a tar, which is written whole each time, and in a directory, of which the next export writes only what is new.
use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use rhost_llb::BlobDigest;
use rustix::fs::{FlockOperation, flock};
use serde_json::{Value, json};

use super::config::{ARTIFACT_TYPE, CacheArtifact};
use crate::archive::{LAYOUT, entry, pad};
use crate::blobs::{BlobSink, DirBlobs};
use crate::destination::{check_directory, write_file};
use crate::error::ExportError;
use crate::manifest::media_type;
use crate::partial::sweep;

const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// The name of an export that was given none: what tools look for.
const NO_NAME: &str = "latest";
/// Documents of a layout that are read at most.
const MOST_DOCUMENT: u64 = 16 << 20;

/// Which other images of a layout stay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Others {
    /// None: the directory is this export's, and what only the one before needed goes.
    Replaced,
    /// Those with another name; their blobs, too.
    Kept {
        /// The name of this export.
        name: Option<String>,
    },
}

fn descriptor(artifact: &CacheArtifact, name: &str) -> Value {
    json!({
        "mediaType": media_type::OCI_MANIFEST, "digest": artifact.manifest_digest.to_string(), "size": artifact.manifest.len(),
        "annotations": {REF_NAME: name}, "artifactType": ARTIFACT_TYPE,
    })
}

fn index(entries: Vec<Value>) -> Vec<u8> {
    let index = json!({"schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": entries});
    index.to_string().into_bytes()
}

/// An OCI layout on its way into a tar: the layers, each once, then the rest.
pub struct LayoutTar<'a> {
    out: &'a mut dyn Write,
    written: HashSet<BlobDigest>,
}

impl<'a> LayoutTar<'a> {
    /// Begins it.
    ///
    /// # Errors
    /// The stream.
    pub fn new(out: &'a mut dyn Write) -> Result<Self, ExportError> {
        entry(out, "blobs/", 0o755, 0)?;
        entry(out, "blobs/sha256/", 0o755, 0)?;
        Ok(Self { out, written: HashSet::new() })
    }

    /// Adds a blob.
    ///
    /// # Errors
    /// The stream.
    pub fn blob(&mut self, digest: BlobDigest, bytes: &[u8]) -> Result<(), ExportError> {
        if !self.written.insert(digest) {
            return Ok(());
        }
        self.file(&format!("blobs/sha256/{}", digest.0.hex()), 0o444, bytes)
    }

    fn file(&mut self, name: &str, mode: u32, bytes: &[u8]) -> Result<(), ExportError> {
        entry(self.out, name, mode, bytes.len() as u64)?;
        self.out.write_all(bytes).map_err(ExportError::Output)?;
        pad(self.out, bytes.len() as u64)
    }

    /// Ends it.
    ///
    /// # Errors
    /// The stream.
    pub fn finish(mut self, artifact: &CacheArtifact) -> Result<(), ExportError> {
        self.blob(artifact.config_digest, &artifact.config)?;
        self.blob(artifact.manifest_digest, &artifact.manifest)?;
        self.file("index.json", 0o644, &index(vec![descriptor(artifact, NO_NAME)]))?;
        self.file("oci-layout", 0o444, LAYOUT)?;
        self.out.write_all(&[0; 1024]).map_err(ExportError::Output)
    }
}

/// A directory with an OCI layout that is being added to. Others who export to it wait until this is dropped.
pub struct CacheDir {
    path: PathBuf,
    blobs: DirBlobs,
    _lock: File,
}

impl CacheDir {
    /// Opens `path`, which is made when missing.
    ///
    /// # Errors
    /// It cannot be written, or holds other things than a layout.
    pub fn open(path: &Path) -> Result<Self, ExportError> {
        check_directory(path)?;
        fs::create_dir_all(path).map_err(ExportError::path("creating", path))?;
        let lock = File::open(path).map_err(ExportError::path("opening", path))?;
        match flock(&lock, FlockOperation::LockExclusive) {
            // A file system without locks: two exports at once may undo each other's work, never damage it.
            Ok(()) | Err(rustix::io::Errno::NOTSUP | rustix::io::Errno::NOSYS | rustix::io::Errno::INVAL) => {}
            Err(errno) => return Err(ExportError::path("locking", path)(errno.into())),
        }
        if !path.join("oci-layout").exists() {
            let mut entries = fs::read_dir(path).map_err(ExportError::path("reading", path))?;
            // `blobs` alone is what an interrupted export leaves.
            if entries.any(|entry| entry.is_ok_and(|entry| entry.file_name() != "blobs")) {
                let (found, wanted) = ("a directory with other files", "an OCI image layout");
                return Err(ExportError::InTheWay { path: path.to_owned(), found, wanted });
            }
        }
        let blobs = DirBlobs::open(path).map_err(ExportError::path("creating", path))?;
        sweep(&path.join("blobs/sha256"));
        Ok(Self { path: path.to_owned(), blobs, _lock: lock })
    }

    /// Whether a blob is there, by its name and size.
    pub fn has(&self, digest: BlobDigest, size: u64) -> bool {
        fs::symlink_metadata(self.blobs.path(digest)).is_ok_and(|found| found.is_file() && found.len() == size)
    }

    /// Adds a blob, whole or not at all.
    ///
    /// # Errors
    /// The disk.
    pub fn put(&self, digest: BlobDigest, bytes: &[u8]) -> Result<(), ExportError> {
        if self.has(digest, bytes.len() as u64) {
            return Ok(());
        }
        self.blobs.put(digest, bytes).map_err(|source| ExportError::WriteBlob { digest, source })
    }

    /// Lets the layout's index name `artifact`, whose layers are all there.
    ///
    /// # Errors
    /// The disk; an index that is none.
    pub fn finish(&self, artifact: &CacheArtifact, others: &Others) -> Result<(), ExportError> {
        self.put(artifact.config_digest, &artifact.config)?;
        self.put(artifact.manifest_digest, &artifact.manifest)?;
        let place = self.path.join("index.json");
        let before = match self.read(&place) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|e| ExportError::path("reading", &place)(e.into()))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Value::Null,
            Err(error) => return Err(ExportError::path("reading", &place)(error)),
        };
        let before = before["manifests"].as_array().cloned().unwrap_or_default();
        let mut entries = Vec::new();
        let mut name = NO_NAME;
        if let Others::Kept { name: given } = others {
            name = given.as_deref().unwrap_or(NO_NAME);
            entries.extend(before.iter().filter(|entry| entry["annotations"][REF_NAME] != name).cloned());
        }
        entries.push(descriptor(artifact, name));
        write_file(&self.path.join("oci-layout"), LAYOUT)?;
        write_file(&place, &index(entries))?;
        if *others == Others::Replaced {
            self.remove_unneeded(&before, artifact);
        }
        Ok(())
    }

    fn read(&self, place: &Path) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        File::open(place)?.take(MOST_DOCUMENT).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// Removes what only manifests of `before` name: nothing that rhost has not written there. What stays does no harm.
    fn remove_unneeded(&self, before: &[Value], artifact: &CacheArtifact) {
        let named = |manifest: &Value| {
            let layers = manifest["layers"].as_array().into_iter().flatten();
            let all = layers.chain([&manifest["config"]]).filter_map(|blob| blob["digest"].as_str()?.parse().ok());
            all.collect::<HashSet<BlobDigest>>()
        };
        let parse = |bytes: &[u8]| serde_json::from_slice::<Value>(bytes).unwrap_or_default();
        let mut needed = named(&parse(&artifact.manifest));
        needed.insert(artifact.manifest_digest);
        for old in before {
            let Some(digest) = old["digest"].as_str().and_then(|text| text.parse::<BlobDigest>().ok()) else {
                continue;
            };
            let manifest = self.read(&self.blobs.path(digest)).map(|bytes| parse(&bytes)).unwrap_or_default();
            // Another tool's image is not ours to take away.
            if manifest["artifactType"] != ARTIFACT_TYPE {
                continue;
            }
            for gone in named(&manifest).into_iter().chain([digest]).filter(|digest| !needed.contains(digest)) {
                let _ = fs::remove_file(self.blobs.path(gone));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use rhost_llb::Digest;

    use super::*;
    use crate::cache::{Config, MountConfig, PackConfig};

    fn artifact(pack: &[u8]) -> (CacheArtifact, BlobDigest) {
        let (tree, digest) = (BlobDigest(Digest::of("tree")), BlobDigest(Digest::of(pack)));
        let packs = vec![PackConfig { bytes: 1, chunks: 1 }];
        let mount = MountConfig { id: "/x".into(), base: None, entries: 1, bytes: 1, trees: vec![1], packs };
        let artifact = Config::new(vec![mount]).artifact(&[(tree, 4), (digest, pack.len() as u64)]).expect("JSON");
        (artifact, digest)
    }

    #[test]
    fn a_directory_of_its_own_holds_the_last_export_only() {
        let folder = tempfile::tempdir().expect("a folder");
        let at = folder.path().join("a/b");
        let export = |pack: &[u8], others: &Others| {
            let dir = CacheDir::open(&at).expect("opened");
            let (artifact, digest) = artifact(pack);
            dir.put(BlobDigest(Digest::of("tree")), b"tree").expect("written");
            dir.put(digest, pack).expect("written");
            dir.finish(&artifact, others).expect("finished");
            (dir, digest)
        };
        let (dir, first) = export(b"one", &Others::Replaced);
        fs::write(at.join("blobs/sha256/of-the-user"), "kept").expect("written");
        drop(dir);
        let (dir, second) = export(b"two", &Others::Replaced);
        assert!(!dir.has(first, 3) && dir.has(second, 3) && dir.has(BlobDigest(Digest::of("tree")), 4));
        assert!(!dir.has(second, 4) && at.join("blobs/sha256/of-the-user").exists());
        drop(dir);
        let (dir, third) = export(b"three", &Others::Kept { name: Some("other".into()) });
        assert!(dir.has(second, 3) && dir.has(third, 5));
        let index: Value = serde_json::from_slice(&fs::read(at.join("index.json")).expect("there")).expect("JSON");
        assert_eq!(index["manifests"].as_array().map(Vec::len), Some(2));
    }

    #[test]
    fn a_directory_with_other_things_is_left_alone() {
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(folder.path().join("mine"), "").expect("written");
        assert!(matches!(CacheDir::open(folder.path()), Err(ExportError::InTheWay { .. })));
        assert!(matches!(CacheDir::open(&folder.path().join("mine")), Err(ExportError::FileInTheWay { .. })));
        assert!(!folder.path().join("blobs").exists());
    }
}
