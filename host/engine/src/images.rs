//! `Images`: where images come from, in order: rhost's own names, layouts that the user named, registries. What came once by
//! digest is read from the store.
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use rhost_llb::{BlobDigest, Digest, Platform};
use rhost_registry::{
    BlobSink, Client, Descriptor, Error, ImageSource, OciLayout, RawManifest, Reference, ResolvedImage, media_type,
    resolve,
};
use rhost_store::{MAX_READ, Store};

use crate::lock::{LockKey, LockKind, NotHere, Pin, Pins, Upstream, Vendor};
use crate::op_error::OpFailure;
use crate::rules::{Rules, Signature, SignatureError, Signatures, VerifyingKey, WantedSignature, look};

/// The kind of facts that say that an image is signed: by digest, name and key.
const SIGNED: &str = rhost_store::SIGNED;
/// Signatures of one image that the store keeps, in bytes at most.
const MOST_SIGNATURES: usize = 256 << 10;

/// Which copy of an image is good enough.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Freshness {
    /// rhost's own name first, then the registry's word.
    Default,
    /// The registry's word, even where rhost has such a name (`--pull`).
    Pull,
}

/// An image that is resolved, and where its blobs come from.
#[derive(Clone)]
pub struct Found {
    /// Manifest, config, layers.
    pub image: Arc<ResolvedImage>,
    /// Where its blobs come from.
    pub source: Arc<dyn ImageSource>,
}

type Question = (String, Platform, Freshness);
type Answer = Arc<tokio::sync::OnceCell<Found>>;

/// Resolves images; each question once in a build.
pub struct Images {
    store: Store,
    client: Client,
    layouts: BTreeMap<String, PathBuf>,
    rules: Arc<Rules>,
    pins: Arc<Pins>,
    answers: Mutex<HashMap<Question, Answer>>,
}

impl Images {
    /// Images of `store`, of `layouts` by name, and of what `client` reaches; such as `rules` allow, and names in `pins` are not asked for.
    pub(crate) fn new(
        store: Store,
        client: Client,
        layouts: BTreeMap<String, PathBuf>,
        rules: Arc<Rules>,
        pins: Arc<Pins>,
    ) -> Self {
        Self { store, client, layouts, rules, pins, answers: Mutex::default() }
    }

    /// Resolves `reference` as a registry writes it.
    ///
    /// # Errors
    /// Malformed, unreachable, not there, not for this platform, not allowed.
    pub async fn image(&self, reference: &str, platform: &Platform, fresh: Freshness) -> Result<Found, OpFailure> {
        let image: Reference = reference.parse()?;
        let image = image.tagged();
        self.rules.check_image(&image)?;
        self.once((image.to_string(), platform.clone(), fresh), async {
            let lacks = |part: &str| self.pins.misses(NotHere::Absent(format!("image {image}"), part.into()));
            let found = self.resolve(&image, platform, fresh).await.inspect_err(|error| {
                if matches!(error, OpFailure::Registry(Error::Offline { .. })) {
                    lacks("its manifest or config");
                }
            })?;
            let signed = self.check_signatures(&image, found.image.root.descriptor.digest).await;
            signed.inspect_err(|error| {
                if matches!(error, SignatureError::Registry { error: Error::Offline { .. }, .. }) {
                    lacks("its signature");
                }
            })?;
            Ok(found)
        })
        .await
    }

    /// Whether the rules see `image` at `digest` signed as they want it. What was found to be signed stays so: the digest is that of its bytes.
    ///
    /// # Errors
    /// It is not, or its registry does not say.
    pub(crate) async fn check_signatures(&self, image: &Reference, digest: BlobDigest) -> Result<(), SignatureError> {
        for wanted in self.rules.signatures(image) {
            let fact = |key: &VerifyingKey| Digest::of(format!("{digest} {} {}", image.name(), key.id()));
            if wanted.keys().iter().any(|key| self.store.fact(SIGNED, fact(key).as_raw()).ok().flatten().is_some()) {
                continue;
            }
            let (signature, by) = self.signature(image, digest, &wanted).await?;
            // A store that is full is told by the build.
            let _ = self.store.set_fact(SIGNED, fact(by).as_raw(), b"1");
            self.keep_signature(image, digest, signature);
        }
        Ok(())
    }

    /// The signatures of `image` at `digest` that the rules want: one that counts for each rule, each once.
    ///
    /// # Errors
    /// As [`Images::check_signatures`].
    pub(crate) async fn signatures(
        &self,
        image: &Reference,
        digest: BlobDigest,
    ) -> Result<BTreeSet<Signature>, SignatureError> {
        let mut all = BTreeSet::new();
        for wanted in self.rules.signatures(image) {
            all.insert(self.signature(image, digest, &wanted).await?.0);
        }
        Ok(all)
    }

    /// A signature of `image` at `digest` as `wanted` wants it: of the store, of the vendor directory, of its registry.
    async fn signature<'r>(
        &self,
        image: &Reference,
        digest: BlobDigest,
        wanted: &WantedSignature<'r>,
    ) -> Result<(Signature, &'r VerifyingKey), SignatureError> {
        let refused = |text: String| SignatureError::from(wanted.refusal(&image.with_digest(digest), text));
        let kept = self.kept_signatures(image, digest).into_iter();
        if let Some(found) = kept.filter_map(|kept| kept.by(digest, wanted.keys()).map(|by| (kept, by))).next() {
            return Ok(found);
        }
        if let Some(vendor) = self.pins.vendor() {
            let told = match look(vendor.layout(), image, digest, wanted.keys()).await {
                Ok(Signatures { counts: Some(found), .. }) => return Ok(found),
                Ok(found) => found.text(),
                Err(error) => format!("its signature cannot be read: {error}"),
            };
            if self.pins.offline() {
                return Err(refused(format!("in the vendor directory `{}` {told}", vendor.path().display())));
            }
        }
        let found = look(&self.registries(), image, digest, wanted.keys()).await;
        let found = found.map_err(|error| SignatureError::Registry { image: image.clone(), error })?;
        let told = found.text();
        found.counts.ok_or_else(|| refused(told))
    }

    /// The signatures of `image` at `digest` that were seen before; who made them is to be found out again.
    fn kept_signatures(&self, image: &Reference, digest: BlobDigest) -> Vec<Signature> {
        let bytes = self.store.fact(rhost_store::SIGNATURES, signatures_of(image, digest).as_raw()).ok().flatten();
        bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
    }

    /// Keeps a signature, so that it can go where the image goes.
    fn keep_signature(&self, image: &Reference, digest: BlobDigest, signature: Signature) {
        let mut all = self.kept_signatures(image, digest);
        if all.contains(&signature) {
            return;
        }
        all.insert(0, signature);
        let mut room = MOST_SIGNATURES;
        all.retain(|kept| room.checked_sub(kept.size()).inspect(|left| room = *left).is_some());
        if let Ok(bytes) = serde_json::to_vec(&all) {
            // As above; what is not kept is asked for again.
            let _ = self.store.set_fact(rhost_store::SIGNATURES, signatures_of(image, digest).as_raw(), &bytes);
        }
    }

    async fn resolve(&self, image: &Reference, platform: &Platform, fresh: Freshness) -> Result<Found, OpFailure> {
        let registries: Arc<dyn ImageSource> = Arc::new(self.registries());
        let key = LockKey::new(LockKind::Image, image.to_string());
        let pin = if image.digest().is_some() { None } else { self.pins.get(&key)? };
        if let Some(Pin::Manifest(digest)) = pin {
            // Nobody has to be asked what it stands for.
            let found = resolve(&*registries, &image.with_digest(digest), platform).await?;
            return Ok(Found { image: Arc::new(found), source: registries });
        }
        let own: Arc<dyn ImageSource> = Arc::new(OwnImages(self.store.clone()));
        let is_own = image.digest().is_none() && self.pins.knows_own(&key.name);
        // A lock file is for everybody, and an image of rhost's own is nowhere else.
        let first = is_own && (self.pins.offline() || (fresh == Freshness::Default && !self.pins.writes()));
        if !first {
            match resolve(&*registries, image, platform).await {
                Ok(found) => {
                    if image.digest().is_none() {
                        self.pins.found(key, Pin::Manifest(found.root.descriptor.digest));
                    }
                    return Ok(Found { image: Arc::new(found), source: registries });
                }
                Err(_) if is_own && self.pins.writes() => self.pins.is_own(&key.name),
                Err(error) => return Err(error.into()),
            }
        }
        let (found, source) = (resolve(&*own, image, platform).await?, own);
        Ok(Found { image: Arc::new(found), source })
    }

    /// Resolves image `reference` (`NAME[:TAG|@DIGEST]`) of the layout that the user named `layout`.
    ///
    /// # Errors
    /// No such layout, or no such image in it.
    pub async fn layout(&self, layout: &str, reference: &str, platform: &Platform) -> Result<Found, OpFailure> {
        let directory = self.layouts.get(layout).ok_or_else(|| OpFailure::NoLocal(layout.to_owned()))?;
        let image: Reference = reference.parse()?;
        self.once((format!("oci-layout://{layout}/{image}"), platform.clone(), Freshness::Default), async {
            let source: Arc<dyn ImageSource> = Arc::new(OciLayout::open(directory).await?);
            let image = resolve(&*source, &image, platform).await?;
            Ok(Found { image: Arc::new(image), source })
        })
        .await
    }

    fn registries(&self) -> impl ImageSource + use<> {
        registries(&self.store, &self.client, self.pins.vendor().cloned())
    }

    /// All images of registries that were resolved, by the names that were asked for.
    pub fn resolved(&self) -> Vec<(String, Found)> {
        let answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        let found = answers.iter().filter(|((name, ..), _)| !name.starts_with("oci-layout://"));
        let mut found: Vec<_> =
            found.filter_map(|((name, ..), answer)| Some((name.clone(), answer.get()?.clone()))).collect();
        found.sort_by(|a, b| a.0.cmp(&b.0));
        found
    }

    async fn once(
        &self,
        question: Question,
        work: impl Future<Output = Result<Found, OpFailure>>,
    ) -> Result<Found, OpFailure> {
        let answer = self.answers.lock().unwrap_or_else(PoisonError::into_inner).entry(question).or_default().clone();
        answer.get_or_try_init(|| work).await.cloned()
    }
}

/// Under what the signatures of an image are kept.
fn signatures_of(image: &Reference, digest: BlobDigest) -> Digest {
    Digest::of(format!("{digest} {}", image.name()))
}

/// What `client` reaches and what `vendor` has, with what came by digest kept in `store`.
pub fn registries(store: &Store, client: &Client, vendor: Option<Arc<Vendor>>) -> impl ImageSource + use<> {
    Kept { inner: Upstream { client: client.clone(), vendor }, store: store.clone() }
}

/// Reads `blob` from `store` into `sink`; `false` when it is not there.
async fn feed(store: &Store, blob: &Descriptor, sink: &mut dyn BlobSink) -> Result<bool, Error> {
    let local = |error: io::Error| Error::Local { action: "read", digest: blob.digest, source: Arc::new(error) };
    let found = store.read_blob(&blob.digest, MAX_READ.max(blob.size)).map_err(|e| local(io::Error::other(e)))?;
    let Some(bytes) = found else { return Ok(false) };
    sink.write(Bytes::from(bytes)).await.map_err(local)?;
    Ok(true)
}

/// A registry whose manifests and small blobs are kept by digest.
struct Kept {
    inner: Upstream,
    store: Store,
}

impl Kept {
    fn known(&self, digest: BlobDigest, image: &Reference) -> Option<RawManifest> {
        let bytes = self.store.read_blob(&digest, MAX_READ).ok()??;
        RawManifest::new(image, Bytes::from(bytes), None, Some(digest)).ok()
    }
}

#[async_trait]
impl ImageSource for Kept {
    async fn head(&self, image: &Reference) -> Result<Descriptor, Error> {
        if let Some(known) = image.digest().and_then(|digest| self.known(digest, image)) {
            return Ok(known.descriptor);
        }
        self.inner.head(image).await
    }

    async fn manifest(&self, image: &Reference) -> Result<RawManifest, Error> {
        if let Some(known) = image.digest().and_then(|digest| self.known(digest, image)) {
            return Ok(known);
        }
        let mut pinned = image.clone();
        if image.digest().is_none() {
            let head = self.inner.head(image).await?;
            if let Some(known) = self.known(head.digest, image) {
                return Ok(known);
            }
            // By its digest, so that the bytes are checked, and the tag may move meanwhile.
            pinned = image.with_digest(head.digest);
        }
        let raw = self.inner.manifest(&pinned).await?;
        // A store that is full is told when layers are written; a manifest can be fetched again.
        let _ = self.store.put_blob(&raw.bytes);
        Ok(raw)
    }

    async fn referrers(&self, image: &Reference, subject: BlobDigest) -> Result<Vec<Descriptor>, Error> {
        self.inner.referrers(image, subject).await
    }

    async fn blob(&self, image: &Reference, blob: &Descriptor, sink: &mut dyn BlobSink) -> Result<(), Error> {
        if blob.size <= MAX_READ && feed(&self.store, blob, sink).await? {
            return Ok(());
        }
        if ![media_type::OCI_CONFIG, media_type::DOCKER_CONFIG].contains(&blob.media_type.as_str()) {
            return self.inner.blob(image, blob, sink).await;
        }
        let mut seen = Seen { sink, bytes: Vec::new() };
        self.inner.blob(image, blob, &mut seen).await?;
        // As with manifests.
        let _ = self.store.put_blob(&seen.bytes);
        Ok(())
    }
}

/// Hands on what it has seen.
struct Seen<'s> {
    sink: &'s mut dyn BlobSink,
    bytes: Vec<u8>,
}

#[async_trait]
impl BlobSink for Seen<'_> {
    async fn write(&mut self, bytes: Bytes) -> io::Result<()> {
        self.bytes.extend_from_slice(&bytes);
        self.sink.write(bytes).await
    }

    async fn restart(&mut self) -> io::Result<()> {
        self.bytes.clear();
        self.sink.restart().await
    }

    /// What is behind it is committed by who owns that.
    async fn commit(self: Box<Self>) -> io::Result<()> {
        Ok(())
    }
}

/// rhost's own image names.
struct OwnImages(Store);

impl OwnImages {
    fn missing(image: &Reference) -> Error {
        Error::NotFound { registry: "rhost's image store".into(), what: format!("`{image}`") }
    }
}

#[async_trait]
impl ImageSource for OwnImages {
    async fn head(&self, image: &Reference) -> Result<Descriptor, Error> {
        Ok(self.manifest(image).await?.descriptor)
    }

    async fn manifest(&self, image: &Reference) -> Result<RawManifest, Error> {
        let digest = match image.digest() {
            Some(digest) => digest,
            None => {
                let record = self.0.image(&image.to_string()).ok().flatten().ok_or_else(|| Self::missing(image))?;
                record.descriptor.digest().to_string().parse().map_err(|_| Self::missing(image))?
            }
        };
        let bytes = self.0.read_blob(&digest, MAX_READ).ok().flatten().ok_or_else(|| Self::missing(image))?;
        RawManifest::new(image, Bytes::from(bytes), None, Some(digest))
    }

    async fn blob(&self, image: &Reference, blob: &Descriptor, sink: &mut dyn BlobSink) -> Result<(), Error> {
        if feed(&self.0, blob, sink).await? { Ok(()) } else { Err(Self::missing(image)) }
    }
}
