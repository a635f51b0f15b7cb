//! `Destination`: where an export goes, with one interface for directories, tars and registries. What is there already is not sent again.
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use rhost_export::cache::{CacheArtifact, CacheDir, CacheFormatError, CachePlace, Config, LayoutTar, Others};
use rhost_export::{Destination as Stream, ExportError, check_file, write_to};
use rhost_llb::BlobDigest;
use rhost_registry::{
    Client, Descriptor, Error as RegistryError, ImageSource, ManifestKind, Pushed, Reference, media_type,
};
use tokio::sync::mpsc::{Sender, channel};
use tokio::task::JoinHandle;

use super::{CacheFailure, on_thread};
use crate::engine::Engine;
use crate::error::{BuildError, Kind};

/// Largest manifest that registries take (distribution, and what rhost reads).
const LARGEST_MANIFEST: usize = 4 << 20;

/// See the module.
pub enum Destination {
    Directory(Arc<CacheDir>, Others),
    Tar(Tar),
    Registry(Registry),
}

/// A tar that is written by a thread of its own.
pub struct Tar {
    parts: Sender<Part>,
    thread: Mutex<Option<JoinHandle<Result<(), ExportError>>>>,
}

enum Part {
    Blob(BlobDigest, Bytes),
    End(Box<CacheArtifact>),
}

/// A name in a registry.
pub struct Registry {
    client: Client,
    target: Reference,
    /// What the export that has the name now consists of: a registry has the parts of its manifests.
    present: Mutex<HashSet<BlobDigest>>,
}

impl Destination {
    /// Opens `place`; what can be known to be wrong with it is told now.
    ///
    /// # Errors
    /// It cannot be written.
    pub async fn open(engine: &Engine, place: &CachePlace) -> Result<Self, BuildError> {
        let failed = |error: CacheFailure| error.into_error("exporting");
        let directory = |path: std::path::PathBuf| on_thread(move || Ok(Arc::new(CacheDir::open(&path)?)));
        Ok(match place {
            CachePlace::Dir(path) => Self::Directory(directory(path.clone()).await.map_err(failed)?, Others::Replaced),
            CachePlace::Layout(path, name) => {
                Self::Directory(directory(path.clone()).await.map_err(failed)?, Others::Kept { name: name.clone() })
            }
            CachePlace::Tar(stream) => {
                if let Stream::File(path) = stream {
                    check_file(path).map_err(|error| failed(error.into()))?;
                }
                Self::Tar(Tar::begin(stream.clone()))
            }
            CachePlace::Registry { reference, insecure } => {
                let wrong = |error: &dyn std::fmt::Display| BuildError::new(Kind::Request, error);
                let target: Reference = reference.parse().map_err(|error| wrong(&error))?;
                if target.digest().is_some() {
                    return Err(wrong(&format!("`{target}` has a digest; what is exported gets its own"))
                        .hint("name a tag, as in registry.example/team/cache:main"));
                }
                let target = target.tagged();
                let client = if *insecure { engine.insecure(target.registry())? } else { engine.client.clone() };
                let present = present(&client, &target)
                    .await
                    .map_err(|error| error.into_error(&format!("exporting to `{target}`")))?;
                Self::Registry(Registry { client, target, present: Mutex::new(present) })
            }
        })
    }

    /// How many blobs may be on their way at once.
    pub fn at_once(&self) -> usize {
        match self {
            // In order, so that equal exports are equal files.
            Self::Tar(_) => 1,
            Self::Directory(..) => 4,
            Self::Registry(_) => 8,
        }
    }

    /// Whether it has a blob, as far as can be told without asking for each.
    pub async fn has(&self, digest: BlobDigest, size: u64) -> Result<bool, CacheFailure> {
        match self {
            Self::Directory(dir, _) => Ok(dir.has(digest, size)),
            Self::Tar(_) => Ok(false),
            Self::Registry(registry) => registry.has(digest).await.map_err(CacheFailure::Registry),
        }
    }

    /// Adds a blob; false where it was there.
    pub async fn put(&self, digest: BlobDigest, bytes: Bytes) -> Result<bool, CacheFailure> {
        match self {
            Self::Directory(dir, _) => {
                let dir = dir.clone();
                on_thread(move || {
                    let new = !dir.has(digest, bytes.len() as u64);
                    dir.put(digest, &bytes)?;
                    Ok(new)
                })
                .await
            }
            Self::Tar(tar) => tar.send(Part::Blob(digest, bytes)).await.map(|()| true),
            Self::Registry(registry) => registry.put(digest, bytes).await.map_err(CacheFailure::Registry),
        }
    }

    /// Forgets what was taken for granted; false where nothing was.
    pub fn doubt(&self) -> bool {
        match self {
            Self::Registry(registry) => {
                let mut present = registry.present.lock().unwrap_or_else(PoisonError::into_inner);
                !std::mem::take(&mut *present).is_empty()
            }
            _ => false,
        }
    }

    /// Names the export; all its layers are there. Returns what it is called from now on.
    pub async fn finish(&self, artifact: &CacheArtifact, layers: usize) -> Result<String, CacheFailure> {
        if artifact.manifest.len() > LARGEST_MANIFEST {
            return Err(CacheFailure::TooMany { layers });
        }
        match self {
            Self::Directory(dir, others) => {
                let (dir, others, artifact) = (dir.clone(), others.clone(), artifact.clone());
                on_thread(move || Ok(dir.finish(&artifact, &others)?)).await?;
            }
            Self::Tar(tar) => {
                tar.send(Part::End(Box::new(artifact.clone()))).await?;
                tar.end().await?;
            }
            Self::Registry(registry) => {
                let named = registry.finish(artifact).await.map_err(CacheFailure::Registry)?;
                return Ok(named);
            }
        }
        Ok(artifact.manifest_digest.to_string())
    }
}

impl Tar {
    fn begin(stream: Stream) -> Self {
        let (parts, mut received) = channel(2);
        let write = move |out: &mut dyn std::io::Write| {
            let mut tar = LayoutTar::new(out)?;
            loop {
                match received.blocking_recv() {
                    Some(Part::Blob(digest, bytes)) => tar.blob(digest, &bytes)?,
                    Some(Part::End(artifact)) => return tar.finish(&artifact),
                    // The export failed: nothing appears under the name.
                    None => return Err(ExportError::Cancelled),
                }
            }
        };
        let thread = tokio::task::spawn_blocking(move || write_to(&stream, write));
        Self { parts, thread: Mutex::new(Some(thread)) }
    }

    async fn send(&self, part: Part) -> Result<(), CacheFailure> {
        match self.parts.send(part).await {
            Ok(()) => Ok(()),
            // It went before its time: its own error is the one to tell.
            Err(_) => self.end().await,
        }
    }

    async fn end(&self) -> Result<(), CacheFailure> {
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(thread) = thread else { return Err(CacheFailure::Stopped(String::new())) };
        Ok(thread.await.map_err(|error| CacheFailure::Stopped(format!(": {error}")))??)
    }
}

/// The parts of the export that has the name `target` now.
async fn present(client: &Client, target: &Reference) -> Result<HashSet<BlobDigest>, CacheFailure> {
    let raw = match client.manifest(target).await {
        Ok(raw) => raw,
        // Nothing yet, or may be pushed to but not read: then each part is asked for.
        Err(RegistryError::NotFound { .. } | RegistryError::Unauthorised { .. }) => return Ok(HashSet::new()),
        Err(error) => return Err(CacheFailure::Registry(error)),
    };
    // What it is shows in its config; some copy without the artifact's type.
    match raw.parse(target) {
        Ok(ManifestKind::Image(manifest)) if is_export(&manifest.config.media_type) => {
            Ok(manifest.layers.into_iter().chain([manifest.config]).map(|blob| blob.digest).collect())
        }
        _ => Err(CacheFailure::Taken { name: target.to_string() }),
    }
}

/// Of this version or a later one.
fn is_export(media_type: &str) -> bool {
    !matches!(Config::check_type(media_type), Err(CacheFormatError::NotOne(_)))
}

impl Registry {
    async fn has(&self, digest: BlobDigest) -> Result<bool, RegistryError> {
        if self.present.lock().unwrap_or_else(PoisonError::into_inner).contains(&digest) {
            return Ok(true);
        }
        self.client.has_blob(&self.target, &digest).await
    }

    async fn put(&self, digest: BlobDigest, bytes: Bytes) -> Result<bool, RegistryError> {
        if self.present.lock().unwrap_or_else(PoisonError::into_inner).contains(&digest) {
            return Ok(false);
        }
        let blob = Descriptor::new("", digest, bytes.len() as u64);
        let blobs = HashMap::from([(digest, bytes)]);
        let pushed = self.client.push_blob(&self.target, &blob, &blobs, None).await?;
        Ok(pushed == Pushed::Uploaded)
    }

    async fn finish(&self, artifact: &CacheArtifact) -> Result<String, RegistryError> {
        self.put(artifact.config_digest, artifact.config.clone().into()).await?;
        let bytes = artifact.manifest.clone().into();
        self.client.push_manifest(&self.target, media_type::OCI_MANIFEST, bytes).await?;
        Ok(self.target.with_digest(artifact.manifest_digest).to_string())
    }
}
