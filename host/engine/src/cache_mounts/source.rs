//! Where an import comes from: a registry, a layout, or a tar with a layout in it, all of them an `ImageSource`.
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use rhost_export::Destination as Stream;
use rhost_export::cache::CachePlace;
use rhost_llb::{BlobDigest, Digest};
use rhost_registry::{BlobSink, Descriptor, Error, ImageSource, OciLayout, RawManifest, Reference};
use rhost_rootfs::tar_members;
use rhost_store::{BuildFiles, Store};

use super::{CacheFailure, on_thread};
use crate::engine::Engine;
use crate::error::{BuildError, Kind};

/// Documents in a tar that are read at most.
const MOST_DOCUMENT: u64 = 4 << 20;

/// See the module.
pub struct Source {
    pub images: Arc<dyn ImageSource>,
    pub image: Reference,
    /// What came through a pipe, until it is read.
    _spooled: Option<BuildFiles>,
}

impl Source {
    /// Opens `place`.
    ///
    /// # Errors
    /// It is not there, or no place for images.
    pub async fn open(engine: &Engine, store: &Store, place: &CachePlace) -> Result<Self, BuildError> {
        let failed = |error: CacheFailure| error.into_error(&format!("importing from `{place}`"));
        let (images, image, spooled): (Arc<dyn ImageSource>, _, _) = match place {
            CachePlace::Dir(path) => (layout(path).await?, named(None)?, None),
            CachePlace::Layout(path, name) => (layout(path).await?, named(name.as_deref())?, None),
            CachePlace::Tar(Stream::File(path)) => {
                let (owned, shown) = (path.clone(), path.clone());
                let file = File::open(path).map_err(|error| missing(path, &error))?;
                let tar = on_thread(move || TarLayout::read(file, owned)).await;
                (Arc::new(tar.map_err(|error| not_a_tar(error, &shown))?), named(None)?, None)
            }
            CachePlace::Tar(Stream::Stdout) => {
                let store = store.clone();
                let tar = on_thread(move || {
                    let spooled = store.build_files()?;
                    let path = spooled.path().join("cache.tar");
                    let written = File::create_new(&path)
                        .and_then(|mut file| io::copy(&mut io::stdin().lock(), &mut file).map(|_| ()));
                    written.map_err(|source| rhost_rootfs::Error::Stream { source })?;
                    let file = File::open(&path).map_err(|source| rhost_rootfs::Error::Stream { source })?;
                    Ok((TarLayout::read(file, PathBuf::from("-"))?, spooled))
                });
                let (tar, spooled) = tar.await.map_err(|error| not_a_tar(error, Path::new("-")))?;
                (Arc::new(tar), named(None)?, Some(spooled))
            }
            CachePlace::Registry { reference, insecure } => {
                let image: Reference = reference.parse().map_err(|error| BuildError::new(Kind::Request, error))?;
                let image = image.tagged();
                let client = if *insecure { engine.insecure(image.registry())? } else { engine.client.clone() };
                // By its digest from here on: the name may be given to another export meanwhile.
                let head = client.head(&image).await.map_err(|error| failed(CacheFailure::Registry(error)))?;
                (Arc::new(client), image.with_digest(head.digest), None)
            }
        };
        Ok(Self { images, image, _spooled: spooled })
    }
}

/// A layout's image by its name.
fn named(name: Option<&str>) -> Result<Reference, BuildError> {
    let text = name.map_or_else(|| "layout".to_owned(), |name| format!("layout:{name}"));
    text.parse().map_err(|error| BuildError::new(Kind::Request, format!("name={text}: {error}")))
}

fn missing(path: &Path, error: &io::Error) -> BuildError {
    let found = BuildError::new(Kind::Request, format!("cannot read `{}`: {error}", path.display()));
    if error.kind() == io::ErrorKind::NotFound {
        found.hint("name a directory or a tar that was exported to, or an image as HOST/REPOSITORY:TAG or type=registry,ref=REF")
    } else {
        found
    }
}

fn not_a_tar(error: CacheFailure, path: &Path) -> BuildError {
    let found = error.into_error(&format!("reading `{}`", path.display()));
    BuildError { kind: if found.kind == Kind::Store { Kind::Network } else { found.kind }, ..found }
}

async fn layout(path: &Path) -> Result<Arc<dyn ImageSource>, BuildError> {
    std::fs::metadata(path).map_err(|error| missing(path, &error))?;
    match OciLayout::open(path).await {
        Ok(layout) => Ok(Arc::new(layout)),
        Err(error) => Err(BuildError::new(Kind::Request, error).hint("wanted what `rhost cache export` wrote")),
    }
}

/// An OCI layout in a tar file: blobs are read where they lie.
struct TarLayout {
    path: PathBuf,
    file: Arc<File>,
    members: HashMap<String, (u64, u64)>,
    /// What `index.json` names.
    entries: Vec<Descriptor>,
}

impl TarLayout {
    fn read(file: File, path: PathBuf) -> Result<Self, CacheFailure> {
        let members = tar_members(BufReader::with_capacity(1 << 20, &file))?;
        let members: HashMap<String, (u64, u64)> = members
            .into_iter()
            .filter_map(|member| Some((String::from_utf8(member.name).ok()?, (member.offset, member.size))))
            .collect();
        let mut tar = Self { path, file: Arc::new(file), members, entries: Vec::new() };
        #[derive(serde::Deserialize)]
        struct Index {
            manifests: Vec<Descriptor>,
        }
        let broken = |reason: String| CacheFailure::Registry(Error::Layout { path: tar.path.clone(), reason });
        let bytes = tar.document("index.json").map_err(|error| broken(format!("`index.json`: {error}")))?;
        let index: Index = serde_json::from_slice(&bytes).map_err(|error| broken(format!("`index.json`: {error}")))?;
        tar.entries = index.manifests;
        Ok(tar)
    }

    fn document(&self, name: &str) -> io::Result<Vec<u8>> {
        let &(offset, size) = self.members.get(name).ok_or(io::ErrorKind::NotFound)?;
        if size > MOST_DOCUMENT {
            return Err(io::Error::other(format!("more than {MOST_DOCUMENT} bytes")));
        }
        let mut bytes = vec![0; usize::try_from(size).unwrap_or(usize::MAX)];
        self.file.read_exact_at(&mut bytes, offset)?;
        Ok(bytes)
    }

    fn missing(&self, what: String) -> Error {
        Error::NotFound { registry: self.path.display().to_string(), what }
    }
}

fn member(digest: &BlobDigest) -> String {
    format!("blobs/sha256/{}", digest.0.hex())
}

#[async_trait]
impl ImageSource for TarLayout {
    async fn head(&self, image: &Reference) -> Result<Descriptor, Error> {
        Ok(self.manifest(image).await?.descriptor)
    }

    async fn manifest(&self, image: &Reference) -> Result<RawManifest, Error> {
        let digest = match (image.digest(), &self.entries[..]) {
            (Some(digest), _) => digest,
            (None, [only]) => only.digest,
            (None, entries) => return Err(self.missing(format!("one image (it has {})", entries.len()))),
        };
        let bytes = self.document(&member(&digest)).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => self.missing(format!("manifest {digest}")),
            _ => Error::Local { action: "read", digest, source: Arc::new(error) },
        })?;
        RawManifest::new(image, bytes.into(), None, Some(digest))
    }

    async fn blob(&self, _: &Reference, blob: &Descriptor, sink: &mut dyn BlobSink) -> Result<(), Error> {
        let digest = blob.digest;
        let what = || format!("blob {digest} of `{}`", self.path.display());
        let &(offset, size) =
            self.members.get(&member(&digest)).ok_or_else(|| self.missing(format!("blob {digest}")))?;
        if size != blob.size {
            return Err(Error::Truncated { what: what(), wanted: blob.size, got: size });
        }
        let file = self.file.clone();
        let read = tokio::task::spawn_blocking(move || {
            let mut bytes = Vec::new();
            let mut part = Part { file: &file, at: offset };
            part.by_ref().take(size).read_to_end(&mut bytes)?;
            Ok(bytes)
        });
        let read = read.await.unwrap_or_else(|error| Err(io::Error::other(error)));
        let bytes = read.map_err(|error| Error::Local { action: "read", digest, source: Arc::new(error) })?;
        let found = BlobDigest(Digest::of(&bytes));
        if found != digest {
            return Err(Error::DigestMismatch { what: what(), wanted: digest, found });
        }
        let failed = |error| Error::Local { action: "write", digest, source: Arc::new(error) };
        sink.write(Bytes::from(bytes)).await.map_err(failed)
    }
}

/// Reads from a place in a file that others read, too.
struct Part<'a> {
    file: &'a File,
    at: u64,
}

impl Read for Part<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read_at(out, self.at)?;
        self.at += read as u64;
        Ok(read)
    }
}
