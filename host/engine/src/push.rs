//! Pushing: an image whose blobs are in the store goes to a registry, blobs before manifests, manifests before indexes, and the tag last.
//!
//! Nothing is sent that the repository has; what another repository of the same registry is known to have is mounted from there. Where
//! blobs came from or went to is remembered as facts of the store, which may be lost: then a blob is sent instead.
use std::collections::BTreeMap;
use std::io::{self, SeekFrom};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use jiff::Timestamp;
use rhost_llb::{BlobDigest, VertexDigest};
use rhost_registry::{BlobSource, Client, Descriptor, Error, HostConfig, ManifestKind, Pushed, RawManifest, Reference};
use rhost_store::{ImageRecord, MAX_READ, Store};
use tokio::io::{AsyncRead, AsyncSeekExt as _};

use crate::blame;
use crate::engine::Engine;
use crate::error::{BuildError, Kind};
use crate::event::{Event, Events};

/// Blobs on their way at once, as BuildKit and Docker push.
const PARALLEL: usize = 4;
/// Kind of the facts about where blobs are: (digest, registry) to repository.
const HOMES: &str = "blob-home-v1";

/// An image that is to be pushed.
#[derive(Debug, Clone)]
pub struct PushOrder {
    /// Its manifest or index.
    pub root: BlobDigest,
    /// Where to; those with a digest of their own get no tag.
    pub targets: Vec<Reference>,
    /// Plain http and unknown certificates are good enough.
    pub insecure: bool,
    /// Where base layers came from.
    pub homes: Vec<(BlobDigest, Reference)>,
}

/// What an image consists of.
#[derive(Default)]
struct Parts {
    /// Manifests before the indexes that name them.
    manifests: Vec<RawManifest>,
    blobs: BTreeMap<BlobDigest, Descriptor>,
}

impl Engine {
    /// Pushes an image of the store to `destination`, or under its own name. Returns `NAME@DIGEST`.
    ///
    /// # Errors
    /// Blobs are missing or damaged, or the registry refuses.
    pub async fn push(
        &self,
        image: &ImageRecord,
        destination: Option<&str>,
        events: &Events,
    ) -> Result<String, BuildError> {
        let wrong = |error: &dyn std::fmt::Display| BuildError::new(Kind::Request, error);
        let text = match destination {
            Some(text) => text,
            None if image.name.starts_with("sha256:") => {
                return Err(wrong(&format!("`{}` has no name to push it under", image.name))
                    .hint("say where to: `rhost push IMAGE registry.example/team/app:1`"));
            }
            None => &image.name,
        };
        let target: Reference = text.parse().map_err(|error| wrong(&error))?;
        let root: BlobDigest = image.descriptor.digest().to_string().parse().map_err(|error| wrong(&error))?;
        if target.digest().is_some_and(|digest| digest != root) {
            return Err(wrong(&format!("`{target}` has another digest than `{}`, which is {root}", image.name)));
        }
        let order = PushOrder { root, targets: vec![target.tagged()], insecure: false, homes: Vec::new() };
        let mut pushed = self.run_push(&order, events).await?;
        pushed.pop().ok_or_else(|| wrong(&"nothing was pushed"))
    }

    /// Pushes. Returns `NAME@DIGEST` of each target.
    ///
    /// # Errors
    /// As [`Engine::push`].
    pub(crate) async fn run_push(&self, order: &PushOrder, events: &Events) -> Result<Vec<String>, BuildError> {
        let mut repositories: BTreeMap<String, Vec<&Reference>> = BTreeMap::new();
        for target in &order.targets {
            repositories.entry(target.name()).or_default().push(target);
        }
        let parts = parts(&self.store, order.root)?;
        for (digest, home) in &order.homes {
            remember(&self.store, *digest, home);
        }
        for targets in repositories.values() {
            let client = if order.insecure { self.insecure(targets[0].registry())? } else { self.client.clone() };
            let names: Vec<String> = targets.iter().map(ToString::to_string).collect();
            let title = format!("pushing {}", names.join(", "));
            let step = events.step(&title, |vertex| {
                let push = Push { client: &client, store: &self.store, events, vertex, parts: &parts };
                async move { push.run(targets).await }
            });
            step.await?;
        }
        Ok(order.targets.iter().map(|target| target.with_digest(order.root).to_string()).collect())
    }

    /// A client that takes `registry` as it is.
    pub(crate) fn insecure(&self, registry: &str) -> Result<Client, BuildError> {
        let mut config = self.options.settings.registry.clone();
        let host: &mut HostConfig = config.hosts.entry(registry.to_owned()).or_default();
        host.insecure = Some(true);
        self.client.with_config(config).map_err(|error| BuildError::new(Kind::Request, error))
    }
}

/// Reads the manifests of `root` from the store.
fn parts(store: &Store, root: BlobDigest) -> Result<Parts, BuildError> {
    let mut parts = Parts::default();
    // Deeper nesting than a registry would take ends here, and cycles cannot be: a digest is named by what holds it.
    let mut waiting = vec![(root, 0)];
    while let Some((digest, depth)) = waiting.pop() {
        let gone = || {
            BuildError::new(Kind::Store, format!("the manifest {digest} is not in the store"))
                .hint("build the image again, or pull it with all its platforms (`rhost pull --all-platforms`)")
        };
        let bytes = store.read_blob(&digest, MAX_READ).map_err(|error| BuildError::new(Kind::Store, error))?;
        let bytes = Bytes::from(bytes.ok_or_else(gone)?);
        let nameless: Reference = "rhost/store".parse().map_err(|error| BuildError::new(Kind::Store, error))?;
        let wrong = |error: Error| BuildError::new(Kind::Store, error);
        let raw = RawManifest::new(&nameless, bytes, None, Some(digest)).map_err(wrong)?;
        match raw.parse(&nameless).map_err(wrong)? {
            ManifestKind::Index(entries) if depth < 4 => {
                waiting.extend(entries.iter().map(|entry| (entry.digest, depth + 1)));
            }
            ManifestKind::Index(_) => return Err(BuildError::new(Kind::Store, "indexes are nested too deeply")),
            ManifestKind::Image(manifest) => {
                let blobs = manifest.layers.into_iter().chain([manifest.config]);
                parts.blobs.extend(blobs.map(|blob| (blob.digest, blob)));
            }
        }
        parts.manifests.push(raw);
    }
    parts.manifests.reverse();
    Ok(parts)
}

/// A push to one repository.
struct Push<'a> {
    client: &'a Client,
    store: &'a Store,
    events: &'a Events,
    vertex: VertexDigest,
    parts: &'a Parts,
}

impl Push<'_> {
    async fn run(&self, targets: &[&Reference]) -> Result<(), BuildError> {
        let blobs: Vec<_> = self.parts.blobs.values().map(|blob| self.blob(targets[0], blob)).collect();
        stream::iter(blobs).buffer_unordered(PARALLEL).try_for_each(|()| async { Ok(()) }).await?;
        let Some((root, inner)) = self.parts.manifests.split_last() else { return Ok(()) };
        for manifest in inner {
            self.manifest(&targets[0].with_digest(manifest.descriptor.digest), manifest).await?;
        }
        for target in targets {
            self.manifest(target, root).await?;
        }
        Ok(())
    }

    async fn manifest(&self, target: &Reference, manifest: &RawManifest) -> Result<(), BuildError> {
        let media_type = &manifest.descriptor.media_type;
        let pushed = self.client.push_manifest(target, media_type, manifest.bytes.clone()).await;
        pushed.map(drop).map_err(|error| failed(&error, target))
    }

    async fn blob(&self, target: &Reference, blob: &Descriptor) -> Result<(), BuildError> {
        let started = Timestamp::now();
        let home = home(self.store, blob.digest, target);
        let source = StoredBlob { push: self, started };
        let pushed = match self.client.push_blob(target, blob, &source, home.as_ref()).await {
            Ok(pushed) => pushed,
            Err(error) => {
                // What a registry refuses may be damage of ours: then it is removed, and the next build makes it anew.
                let (store, digest) = (self.store.clone(), blob.digest);
                let whole = tokio::task::spawn_blocking(move || store.verify_blob(&digest)).await;
                return Err(match whole {
                    Ok(Ok(false)) => {
                        BuildError::new(Kind::Store, format!("blob {} of the image is missing or damaged", blob.digest))
                            .hint("build or pull the image again")
                    }
                    _ => failed(&error, target),
                });
            }
        };
        let id = match pushed {
            Pushed::Uploaded => format!("pushing {}", blob.digest),
            Pushed::Present => format!("already there: {}", blob.digest),
            Pushed::Mounted => {
                let from = home.as_ref().map(Reference::repository).unwrap_or_default();
                format!("mounted from {from}: {}", blob.digest)
            }
        };
        self.tell(&id, blob.size, blob.size, started, true);
        remember(self.store, blob.digest, target);
        Ok(())
    }

    fn tell(&self, id: &str, current: u64, total: u64, started: Timestamp, done: bool) {
        let (vertex, id) = (self.vertex, id.into());
        self.events.send(Event::Status { vertex, id, current, total, started, at: Timestamp::now(), done });
    }
}

fn failed(error: &Error, target: &Reference) -> BuildError {
    blame::registry(error, format!("pushing `{target}`: {error}"), Kind::Network)
}

/// The store as source of a push; each part that is read is progress.
struct StoredBlob<'a> {
    push: &'a Push<'a>,
    started: Timestamp,
}

#[async_trait]
impl BlobSource for StoredBlob<'_> {
    async fn open(&self, blob: &Descriptor, offset: u64) -> io::Result<Box<dyn AsyncRead + Send + Unpin>> {
        let file = self.push.store.open_blob(&blob.digest).map_err(io::Error::other)?.ok_or(io::ErrorKind::NotFound)?;
        let mut file = tokio::fs::File::from_std(file);
        if offset > 0 {
            file.seek(SeekFrom::Start(offset)).await?;
        }
        self.push.tell(&format!("pushing {}", blob.digest), offset, blob.size, self.started, false);
        Ok(Box::new(file))
    }
}

fn home_key(digest: BlobDigest, registry: &str) -> Vec<u8> {
    format!("{digest} {registry}").into_bytes()
}

/// Another repository of `target`'s registry that had the blob when it was last seen.
fn home(store: &Store, digest: BlobDigest, target: &Reference) -> Option<Reference> {
    let repository = store.fact(HOMES, &home_key(digest, target.registry())).ok()??;
    let text = format!("{}/{}", target.registry(), String::from_utf8(repository).ok()?);
    text.parse().ok().filter(|home: &Reference| home.repository() != target.repository())
}

/// Facts may be lost: a failure to remember one is none of the push.
fn remember(store: &Store, digest: BlobDigest, home: &Reference) {
    let key = home_key(digest, home.registry());
    if store.fact(HOMES, &key).ok().flatten().as_deref() != Some(home.repository().as_bytes()) {
        let _ = store.set_fact(HOMES, &key, home.repository().as_bytes());
    }
}

impl Events {
    /// Runs `work` as a step of its own in the progress.
    pub(crate) async fn step<T, F: Future<Output = Result<T, BuildError>>>(
        &self,
        name: &str,
        work: impl FnOnce(VertexDigest) -> F,
    ) -> Result<T, BuildError> {
        let vertex = VertexDigest(rhost_llb::Digest::of(format!("internal {name}")));
        let name: Arc<str> = name.into();
        self.send(Event::Started { vertex, name: name.clone(), inputs: Vec::new(), at: Timestamp::now() });
        let answer = work(vertex).await;
        let error = answer.as_ref().err().map(|error| error.to_string().into());
        self.send(Event::Completed { vertex, name, at: Timestamp::now(), cached: false, error });
        answer
    }
}
