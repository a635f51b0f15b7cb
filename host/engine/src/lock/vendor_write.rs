//! `rhost vendor`: everything that a build has from elsewhere, written to a directory ([`super::vendor`]). Blobs first, each whole or not at all, then the
//! layout's index, then rhost's: whoever finds that finds all that it names, and a kill leaves the directory as it was.
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read, Write};
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use rhost_export::{BlobSink as _, BlobWriter, DirBlobs, write_file};
use rhost_llb::{BlobDigest, Digest, Graph as LlbGraph, Hasher, OpKind, SourceScheme};
use rhost_registry::{BlobSink, Descriptor, ImageSource, ManifestKind, RawManifest, Reference, UrlRequest};
use rhost_rootfs::{Below, LayerOptions, write_layer};
use rhost_solver::{Edge, Graph};

use super::file::{Entries, Pin, print};
use super::make::is_elsewhere;
use super::pins::key_of;
use super::vendor::{INDEX, VERSION, VendorIndex, VendoredBlob, tree_name};
use crate::blame;
use crate::engine::Engine;
use crate::error::{BuildError, Kind};
use crate::event::{Event, Events};
use crate::frontends::FrontendSource;
use crate::git::{GitSource, resolve};
use crate::images::registries;
use crate::op_error::OpFailure;
use crate::request::GraphRequest;
use crate::session::Session;
use crate::value::Value;

/// What a layout says of itself.
const LAYOUT: &[u8] = b"{\"imageLayoutVersion\":\"1.0.0\"}";
/// By what tools find an image in a layout.
const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// What was written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Vendored {
    /// Names of images and frontends.
    pub images: usize,
    /// Files from URLs.
    pub files: usize,
    /// Trees of git sources.
    pub trees: usize,
    /// Signatures that rules want.
    pub signatures: usize,
}

/// A directory that is being written.
pub(super) struct Writing<'a> {
    path: &'a Path,
    blobs: DirBlobs,
    /// What it will hold.
    names: BTreeSet<BlobDigest>,
    /// Images and frontends by name.
    images: BTreeMap<String, Descriptor>,
    /// Names of their signatures, and how many there are under each.
    pub(super) signatures: BTreeMap<String, (Descriptor, usize)>,
    index: VendorIndex,
}

/// A blob on its way into the directory.
struct Arriving<'w> {
    blobs: &'w DirBlobs,
    writer: Option<Box<dyn BlobWriter + 'w>>,
    hasher: Hasher,
    size: u64,
}

impl<'w> Arriving<'w> {
    fn new(blobs: &'w DirBlobs) -> io::Result<Self> {
        Ok(Self { blobs, writer: Some(blobs.create()?), hasher: Hasher::new(), size: 0 })
    }

    /// Gives it its name.
    fn finish(self) -> io::Result<(BlobDigest, u64)> {
        let digest = BlobDigest(self.hasher.finish());
        if let Some(writer) = self.writer {
            writer.commit(digest, self.size)?;
        }
        Ok((digest, self.size))
    }
}

impl Write for Arriving<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if let Some(writer) = &mut self.writer {
            writer.write_all(bytes)?;
        }
        self.hasher.update(bytes);
        self.size += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.writer.as_mut().map_or(Ok(()), |writer| writer.flush())
    }
}

#[async_trait]
impl BlobSink for Arriving<'_> {
    async fn write(&mut self, bytes: Bytes) -> io::Result<()> {
        self.write_all(&bytes)
    }

    async fn restart(&mut self) -> io::Result<()> {
        *self = Self::new(self.blobs)?;
        Ok(())
    }

    async fn commit(self: Box<Self>) -> io::Result<()> {
        self.finish().map(drop)
    }
}

fn disk(path: &Path, error: &dyn std::fmt::Display) -> BuildError {
    BuildError::new(Kind::Store, format!("vendor directory `{}`: {error}", path.display()))
}

impl<'a> Writing<'a> {
    /// Begins in `path`, which is not there, empty, or a vendor directory.
    fn begin(path: &'a Path) -> Result<Self, BuildError> {
        std::fs::create_dir_all(path).map_err(|error| disk(path, &error))?;
        if !path.join(INDEX).exists() {
            let mut entries = std::fs::read_dir(path).map_err(|error| disk(path, &error))?;
            // What a run that was killed may leave.
            let ours = ["blobs", "oci-layout", "index.json"];
            let other = entries.find_map(|entry| {
                entry.ok().map(|entry| entry.file_name()).filter(|name| !ours.iter().any(|ours| name == *ours))
            });
            if let Some(other) = other {
                let message = format!("`{}` is no vendor directory: it has `{}`", path.display(), other.display());
                return Err(BuildError::new(Kind::Request, message).hint("name a new directory with -o"));
            }
        }
        let blobs = DirBlobs::open(path).map_err(|error| disk(path, &error))?;
        let lock = VendoredBlob { digest: BlobDigest(Digest::of("")), size: 0, modified: None };
        let index = VendorIndex { version: VERSION, lock, files: BTreeMap::new(), trees: BTreeMap::new() };
        Ok(Self { path, blobs, names: BTreeSet::new(), images: BTreeMap::new(), signatures: BTreeMap::new(), index })
    }

    /// Whether the blob is there already, whole.
    fn is_there(&self, digest: &BlobDigest, size: u64) -> bool {
        let Ok(mut file) = std::fs::File::open(self.path.join("blobs/sha256").join(digest.0.hex())) else {
            return false;
        };
        let mut hasher = Hasher::new();
        let mut buffer = vec![0; 256 << 10];
        if !file.metadata().is_ok_and(|found| found.is_file() && found.len() == size) {
            return false;
        }
        loop {
            match file.read(&mut buffer) {
                Ok(0) => return hasher.finish() == digest.0,
                Ok(count) => hasher.update(&buffer[..count]),
                Err(_) => return false,
            }
        }
    }

    /// Writes `bytes` as a blob of a layout.
    pub(super) fn document(&mut self, media_type: &str, bytes: &[u8]) -> Result<Descriptor, BuildError> {
        let blob = self.blob(|out| Ok(out.write_all(bytes).map_err(stream)?))?;
        Ok(Descriptor::new(media_type, blob.digest, blob.size))
    }

    /// Writes what `write` writes as a blob.
    fn blob(
        &mut self,
        write: impl FnOnce(&mut dyn Write) -> Result<(), OpFailure>,
    ) -> Result<VendoredBlob, BuildError> {
        let failed = |error: &dyn std::fmt::Display| disk(self.path, error);
        let mut arriving = Arriving::new(&self.blobs).map_err(|error| failed(&error))?;
        write(&mut arriving).map_err(|error| failed(&error))?;
        let (digest, size) = arriving.finish().map_err(|error| failed(&error))?;
        self.names.insert(digest);
        Ok(VendoredBlob { digest, size, modified: None })
    }

    async fn pulled(
        &mut self,
        source: &dyn ImageSource,
        image: &Reference,
        blob: &Descriptor,
    ) -> Result<(), BuildError> {
        self.names.insert(blob.digest);
        if self.is_there(&blob.digest, blob.size) {
            return Ok(());
        }
        let mut arriving = Arriving::new(&self.blobs).map_err(|error| disk(self.path, &error))?;
        let pulled = source.blob(image, blob, &mut arriving).await;
        pulled.map_err(|error| blame::registry(&error, error.to_string(), Kind::Network))?;
        arriving.finish().map(drop).map_err(|error| disk(self.path, &error))
    }

    /// A manifest and what it names; of an index, itself alone.
    async fn manifest(
        &mut self,
        source: &dyn ImageSource,
        image: &Reference,
        raw: &RawManifest,
    ) -> Result<(), BuildError> {
        self.blob(|out| Ok(out.write_all(&raw.bytes).map_err(stream)?))?;
        let parsed = raw.parse(image).map_err(|error| blame::registry(&error, error.to_string(), Kind::Network))?;
        if let ManifestKind::Image(manifest) = parsed {
            for blob in manifest.layers.iter().chain([&manifest.config]) {
                self.pulled(source, image, blob).await?;
            }
        }
        Ok(())
    }

    fn name(&mut self, name: String, raw: &RawManifest) {
        self.images.insert(name, raw.descriptor.clone());
    }

    /// The indexes, rhost's last; then what they do not name goes.
    fn finish(mut self, entries: &Entries) -> Result<Vendored, BuildError> {
        let text = print(entries);
        self.index.lock = self.blob(|out| Ok(out.write_all(text.as_bytes()).map_err(stream)?))?;
        let signatures = self.signatures.iter().map(|(name, (descriptor, _))| (name, descriptor));
        let manifests = self.images.iter().chain(signatures).map(|(name, descriptor)| {
            serde_json::json!({
                "mediaType": descriptor.media_type,
                "digest": descriptor.digest.to_string(),
                "size": descriptor.size,
                "annotations": {REF_NAME: name},
            })
        });
        let layout = serde_json::json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.index.v1+json",
            "manifests": manifests.collect::<Vec<_>>(),
        });
        let write = |name: &str, bytes: &[u8]| {
            write_file(&self.path.join(name), bytes).map_err(|error| disk(self.path, &error))
        };
        let pretty =
            |value: &serde_json::Value| serde_json::to_vec_pretty(value).map_err(|error| disk(self.path, &error));
        write("oci-layout", LAYOUT)?;
        write("index.json", &pretty(&layout)?)?;
        let index = serde_json::to_value(&self.index).map_err(|error| disk(self.path, &error))?;
        write(INDEX, &pretty(&index)?)?;
        for entry in std::fs::read_dir(self.path.join("blobs/sha256")).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let digest = name.to_str().and_then(|hex| format!("sha256:{hex}").parse::<BlobDigest>().ok());
            if digest.is_some_and(|digest| !self.names.contains(&digest)) {
                // One that stays costs room and nothing else.
                let _ = std::fs::remove_file(entry.path());
            }
        }
        Ok(Vendored {
            images: self.images.len(),
            files: self.index.files.len(),
            trees: self.index.trees.len(),
            signatures: self.signatures.values().map(|(_, count)| count).sum(),
        })
    }
}

fn stream(source: io::Error) -> OpFailure {
    OpFailure::Files(rhost_rootfs::Error::Stream { source })
}

impl Engine {
    /// Writes all that a build by `request` needs from elsewhere to the directory `path`.
    ///
    /// # Errors
    /// As [`Engine::fetch`]; `path` holds something else, or cannot be written.
    pub async fn vendor(&self, request: &GraphRequest, path: &Path, events: &Events) -> Result<Vendored, BuildError> {
        let mut writing = Writing::begin(path)?;
        let store = self.store.for_build();
        let jobs = NonZeroUsize::new(8).unwrap_or(NonZeroUsize::MIN);
        let (session, outcome) = self.graph(request, events, jobs, &store).await?;
        if let Some(FrontendSource::Image(name)) = session.frontend.get() {
            self.vendor_frontend(&session, name, &mut writing).await?;
        }
        let mut unknown = None;
        for target in outcome.targets.iter().filter(|target| !target.definition.is_empty()) {
            let graphs = session.graphs(&target.definition).await?;
            for (graph, solvable) in &graphs.all {
                session.vendor_graph(graph, solvable, &mut writing).await?;
            }
            unknown = unknown.or_else(|| graphs.warning("in the directory"));
        }
        if let Some(message) = unknown {
            events.send(Event::Warning { vertex: None, message: message.into() });
        }
        for (name, found) in session.shared.images.resolved() {
            let (image, source) = (&found.image.reference, &*found.source);
            writing.manifest(source, image, &found.image.root).await?;
            writing.manifest(source, image, &found.image.manifest).await?;
            let plain = image.without_digest().to_string();
            session.vendor_signatures(image, &found.image.root.descriptor, &mut writing).await?;
            let is_known =
                writing.images.get(&plain).is_some_and(|known| known.digest == found.image.root.descriptor.digest);
            if !is_known || plain == name {
                writing.name(name, &found.image.root);
            }
        }
        let (used, found, ..) = session.shared.pins.report();
        let locked = session.shared.pins.lock().map(|lock| lock.entries.clone()).unwrap_or_default();
        let mut entries: Entries = locked.into_iter().filter(|(key, _)| used.contains(key)).collect();
        entries.extend(found);
        let done = blocking_in_place(|| writing.finish(&entries))?;
        session.shared.pins.tell(events);
        Ok(done)
    }

    async fn vendor_frontend(
        &self,
        session: &Arc<Session>,
        name: &str,
        writing: &mut Writing<'_>,
    ) -> Result<(), BuildError> {
        let pins = &session.shared.pins;
        let failed =
            |error: &dyn std::fmt::Display| BuildError::new(Kind::Frontend, format!("frontend `{name}`: {error}"));
        let reference: Reference = name.parse().map_err(|error| failed(&error))?;
        let reference = reference.tagged();
        let client = self.client_for(pins.offline())?;
        let found = self.pinned_frontend_bytes(&FrontendSource::Image(name.to_owned()), pins, &client).await?;
        let Some(digest) = found.manifest else { return Ok(()) };
        let source = registries(&self.store, &client, pins.vendor().cloned());
        let pinned = reference.with_digest(digest);
        let root = source.manifest(&pinned).await.map_err(|error| failed(&error))?;
        writing.manifest(&source, &pinned, &root).await?;
        if let ManifestKind::Index(entries) = root.parse(&pinned).map_err(|error| failed(&error))? {
            let only = entries.len() == 1;
            let wasm = |entry: &&Descriptor| {
                only || entry.platform.as_ref().is_some_and(|platform| platform.architecture == "wasm")
            };
            for entry in entries.iter().filter(wasm) {
                let inner = reference.with_digest(entry.digest);
                let raw = source.manifest(&inner).await.map_err(|error| failed(&error))?;
                writing.manifest(&source, &inner, &raw).await?;
            }
        }
        writing.name(reference.to_string(), &root);
        session.vendor_signatures(&reference, &root.descriptor, writing).await
    }
}

/// Runs work that blocks where it is; the runtime has other threads.
fn blocking_in_place<T>(work: impl FnOnce() -> T) -> T {
    tokio::task::block_in_place(work)
}

impl Session {
    /// Brings the sources of `graph`, and writes those that are no images.
    async fn vendor_graph(
        &self,
        graph: &Arc<LlbGraph>,
        solvable: &Graph<Value>,
        writing: &mut Writing<'_>,
    ) -> Result<(), BuildError> {
        let path = writing.path;
        for (_, brought) in self.bring_all(graph, solvable).await {
            brought.map_err(|error| self.placed(graph, error))?;
        }
        for vertex in graph.vertices().iter().filter(|vertex| is_elsewhere(vertex.kind())) {
            let OpKind::Source(source) = vertex.kind() else { continue };
            let edge = Edge { vertex: vertex.digest, output: 0 };
            let solved = self.solver.solve(solvable, &[edge]).await.map_err(blame::solve);
            let value = solved.map_err(|error| self.placed(graph, error))?.remove(0);
            match source.split() {
                Some((SourceScheme::Git, rest)) => {
                    let source = GitSource::parse(source, rest).map_err(|error| disk(path, &error))?;
                    let resolved = resolve(&self.shared, &source, vertex.digest).await;
                    let resolved = resolved.map_err(|error| disk(path, &error))?;
                    let tree = self.vendor_tree(&value, writing)?;
                    writing.index.trees.insert(tree_name(&source.remote.url, &resolved.key), tree);
                }
                Some((SourceScheme::Http | SourceScheme::Https, _)) => {
                    let request = UrlRequest::new(&source.identifier).map_err(|error| disk(path, &error))?;
                    let known = key_of(source).and_then(|key| self.shared.pins.known(&key));
                    let file = self.vendor_file(&value, writing)?;
                    let modified = match known {
                        Some(Pin::Http(pin)) => pin.modified.map(|time| time.as_second()),
                        _ => file.modified,
                    };
                    let before = writing
                        .index
                        .files
                        .insert(request.plain().to_owned(), VendoredBlob { modified, ..file.clone() });
                    if before.is_some_and(|before| before.digest != file.digest) {
                        let message = format!(
                            "`{}` is two files in this build, and a vendor directory has one for each URL",
                            request.plain()
                        );
                        return Err(BuildError::new(Kind::Sources, rhost_registry::redact(&message)));
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// The tree of a git source, as a layer.
    fn vendor_tree(&self, value: &Value, writing: &mut Writing<'_>) -> Result<VendoredBlob, BuildError> {
        let path = writing.path;
        let Value::Snapshot(id) = value else { return Err(disk(path, &"a git source without files")) };
        let root = self.shared.view(*id).map_err(|error| disk(path, &error))?;
        blocking_in_place(|| {
            writing.blob(|out| Ok(write_layer(&root, Below::Nothing, out, &LayerOptions::default()).map(drop)?))
        })
    }

    /// The file of a URL.
    fn vendor_file(&self, value: &Value, writing: &mut Writing<'_>) -> Result<VendoredBlob, BuildError> {
        let path = writing.path;
        let Value::Snapshot(id) = value else { return Err(disk(path, &"a URL without a file")) };
        let root = self.shared.view(*id).map_err(|error| disk(path, &error))?;
        let mut entries = root.read_dir("/").map_err(|error| disk(path, &error))?;
        let Some(entry) = entries.pop() else { return Err(disk(path, &"a URL without a file")) };
        let mut file = root.open_file(&entry.name).map_err(|error| disk(path, &error))?;
        let time = file.metadata().and_then(|found| found.modified()).ok();
        let modified = time
            .and_then(|time| jiff::Timestamp::try_from(time).ok())
            .map(|time| time.as_second())
            .filter(|seconds| *seconds != 0);
        let blob = blocking_in_place(|| writing.blob(|out| Ok(io::copy(&mut file, out).map(drop).map_err(stream)?)))?;
        Ok(VendoredBlob { modified, ..blob })
    }
}
