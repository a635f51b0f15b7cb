//! Pushes blobs and manifests (OCI distribution-spec, "Push"): only what the registry lacks, in chunks that survive a cut.
use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::Bytes;
use reqwest::{Method, Response, StatusCode};
use rhost_llb::BlobDigest;
use tokio::io::AsyncReadExt as _;
use url::Url;

use crate::endpoints::{Endpoint, Kept};
use crate::source::BlobSource;
use crate::transport::{Access, Ask, Target};
use crate::{Client, Descriptor, Error, RawManifest, Reference};

/// Bytes per chunk: some registries take no more than 4 MiB at once.
const CHUNK: u64 = (4 << 20) - (64 << 10);
/// The largest chunk a registry may ask for (`OCI-Chunk-Min-Length`).
const LARGEST_CHUNK: u64 = 64 << 20;

/// How a blob came to be in the repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pushed {
    /// It was there.
    Present,
    /// The registry took it from another of its repositories.
    Mounted,
    /// It was sent.
    Uploaded,
}

impl Client {
    /// Brings `blob` into the repository of `target`, from `source` if the registry does not have it. `mount_from` is
    /// another repository of the same registry that is likely to have it.
    ///
    /// # Errors
    /// Those of the registry; [`Error::Local`] when `source` fails; [`Error::DigestMismatch`] or [`Error::Refused`] when
    /// what `source` has is not the blob.
    pub async fn push_blob(
        &self,
        target: &Reference,
        blob: &Descriptor,
        source: &dyn BlobSource,
        mount_from: Option<&Reference>,
    ) -> Result<Pushed, Error> {
        if self.push_has_blob(target, &blob.digest).await? {
            return Ok(Pushed::Present);
        }
        let from =
            mount_from.filter(|from| from.registry() == target.registry() && from.repository() != target.repository());
        let (access, path) = match from {
            Some(from) => (
                Access::Mount(from.repository().to_owned()),
                format!("blobs/uploads/?mount={}&from={}", blob.digest, from.repository()),
            ),
            None => (Access::Push, "blobs/uploads/".to_owned()),
        };
        let ask = Ask::new(Method::POST, target, access, path).what(what(target, blob));
        let mut kept = Kept::default();
        for endpoint in &self.transport.endpoints(target.registry(), false)? {
            if self.transport.passed_over(endpoint) {
                continue;
            }
            let outcome = self.upload(endpoint, &ask, blob, source).await;
            if let ControlFlow::Break(outcome) = self.transport.judge(endpoint, outcome, &mut kept) {
                return outcome;
            }
        }
        Err(kept.error())
    }

    /// Opens an upload with `ask` (which may ask for a mount) and brings it to its end.
    async fn upload(
        &self,
        endpoint: &Endpoint,
        ask: &Ask,
        blob: &Descriptor,
        source: &dyn BlobSource,
    ) -> Result<Pushed, Error> {
        let opened = match self.transport.ask(endpoint, ask).await {
            // Not allowed to read the other repository: upload plainly.
            Err(Error::Unauthorised { .. } | Error::NotFound { .. }) if matches!(ask.access, Access::Mount(_)) => {
                let plain =
                    Ask::new(Method::POST, &ask.image, Access::Push, "blobs/uploads/".into()).what(ask.what.clone());
                self.transport.ask(endpoint, &plain).await?
            }
            other => other?,
        };
        if opened.status() == StatusCode::CREATED {
            return Ok(Pushed::Mounted);
        }
        Upload::new(self, endpoint, &ask.image, blob, source, &opened)?.run().await?;
        Ok(Pushed::Uploaded)
    }

    /// Stores manifest or index `bytes` of type `media_type` under the digest or tag of `target`. All that it names
    /// must be there already.
    ///
    /// # Errors
    /// Those of the registry; [`Error::DigestMismatch`] when `target` has a digest and it is not that of `bytes`, or the
    /// registry stored something else.
    pub async fn push_manifest(&self, target: &Reference, media_type: &str, bytes: Bytes) -> Result<Descriptor, Error> {
        let raw = RawManifest::new(target, bytes, Some(media_type), target.digest())?;
        let wanted = raw.descriptor.digest;
        let ask = Ask::new(Method::PUT, target, Access::Push, format!("manifests/{}", target.manifest_key()))
            .header("content-type", media_type)
            .body(raw.bytes)
            .what(target.to_string());
        let answer = self.transport.ask_any(&ask).await?;
        let found =
            answer.headers().get("docker-content-digest").and_then(|v| v.to_str().ok()?.parse::<BlobDigest>().ok());
        if let Some(found) = found.filter(|found| *found != wanted) {
            return Err(Error::DigestMismatch { what: format!("the stored manifest of `{target}`"), wanted, found });
        }
        Ok(Descriptor { media_type: media_type.to_owned(), ..raw.descriptor })
    }

    pub(crate) async fn push_has_blob(&self, image: &Reference, blob: &BlobDigest) -> Result<bool, Error> {
        let ask = Ask::new(Method::HEAD, image, Access::Push, format!("blobs/{blob}"))
            .what(format!("blob {blob} of `{}`", image.name()));
        match self.transport.ask_any(&ask).await {
            Ok(_) => Ok(true),
            Err(Error::NotFound { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

fn what(target: &Reference, blob: &Descriptor) -> String {
    format!("blob {} of `{}`", blob.digest, target.name())
}

/// One open upload session.
struct Upload<'a> {
    client: &'a Client,
    endpoint: &'a Endpoint,
    target: &'a Reference,
    blob: &'a Descriptor,
    source: &'a dyn BlobSource,
    location: Url,
    chunk: u64,
}

impl<'a> Upload<'a> {
    fn new(
        client: &'a Client,
        endpoint: &'a Endpoint,
        target: &'a Reference,
        blob: &'a Descriptor,
        source: &'a dyn BlobSource,
        opened: &Response,
    ) -> Result<Self, Error> {
        let least = opened.headers().get("oci-chunk-min-length").and_then(|v| v.to_str().ok()?.parse::<u64>().ok());
        let chunk = CHUNK.max(least.unwrap_or(0)).min(LARGEST_CHUNK);
        let mut upload = Self { client, endpoint, target, blob, source, location: endpoint.base.clone(), chunk };
        upload.follow(opened, true)?;
        Ok(upload)
    }

    fn protocol(&self, reason: impl Into<String>) -> Error {
        Error::Protocol {
            registry: self.endpoint.host.clone(),
            what: what(self.target, self.blob),
            reason: reason.into(),
        }
    }

    fn reading(&self, e: std::io::Error) -> Error {
        Error::Local { action: "read", digest: self.blob.digest, source: Arc::new(e) }
    }

    /// Takes the address of the next request from `Location`; relative ones are relative to the last.
    fn follow(&mut self, response: &Response, required: bool) -> Result<(), Error> {
        match response.headers().get("location").and_then(|v| v.to_str().ok()) {
            Some(text) => {
                self.location = response
                    .url()
                    .join(text)
                    .map_err(|e| self.protocol(format!("its upload address is no URL: {e}")))?;
                Ok(())
            }
            None if required => Err(self.protocol("it opened an upload without a `Location`")),
            None => Ok(()),
        }
    }

    fn ask(&self, method: Method, location: Url) -> Ask {
        let mut ask = Ask::new(method, self.target, Access::Push, String::new()).what(what(self.target, self.blob));
        ask.target = Target::Url(location);
        ask
    }

    async fn run(mut self) -> Result<(), Error> {
        if self.blob.size <= self.chunk {
            let bytes = self.read(0, self.blob.size).await?;
            // A second PUT after a lost answer meets a closed session; `finish` then asks for the blob itself.
            return self.finish(bytes).await;
        }
        let retry = self.client.transport.options.retry;
        let (mut offset, mut failures) = (0, 0);
        while offset < self.blob.size {
            let bytes = self.read(offset, self.chunk.min(self.blob.size - offset)).await?;
            let end = offset + bytes.len() as u64;
            let ask = self
                .ask(Method::PATCH, self.location.clone())
                .header("content-type", "application/octet-stream")
                .header("content-range", format!("{offset}-{}", end - 1))
                .body(bytes)
                .once();
            match self.client.transport.ask(self.endpoint, &ask).await {
                Ok(response) if response.status().is_success() => {
                    self.follow(&response, false)?;
                    let next = stored(&response).unwrap_or(end).min(end);
                    failures = if next > offset { 0 } else { failures + 1 };
                    offset = next;
                }
                // A part may have arrived, or the registry is at another place: it knows.
                Err(error @ Error::RateLimited { retry_after: Some(after), .. }) if after > retry.longest_wait => {
                    return Err(error);
                }
                outcome @ (Ok(_)
                | Err(
                    Error::Unreachable { .. }
                    | Error::RateLimited { .. }
                    | Error::Refused { status: 416 | 500..=599, .. },
                )) => {
                    failures += 1;
                    let after = match outcome {
                        Err(Error::RateLimited { retry_after, .. }) => retry_after,
                        _ => None,
                    };
                    self.client.transport.pause(failures, after).await;
                    let ask = self.ask(Method::GET, self.location.clone());
                    let status = self.client.transport.ask(self.endpoint, &ask).await?;
                    self.follow(&status, false)?;
                    offset = stored(&status).unwrap_or(0).min(self.blob.size);
                }
                Err(error) => return Err(error),
            }
            if failures >= retry.attempts {
                return Err(self.protocol(format!("the upload does not get beyond byte {offset}")));
            }
        }
        self.finish(Bytes::new()).await
    }

    /// Closes the upload with its last bytes; the registry checks the digest.
    async fn finish(&self, bytes: Bytes) -> Result<(), Error> {
        let mut location = self.location.clone();
        location.query_pairs_mut().append_pair("digest", &self.blob.digest.to_string());
        let ask = self.ask(Method::PUT, location).header("content-type", "application/octet-stream").body(bytes);
        match self.client.transport.ask(self.endpoint, &ask).await {
            Ok(response) if response.status().is_success() => Ok(()),
            Ok(response) => Err(self.protocol(format!("it answered {} to the end of an upload", response.status()))),
            Err(error) => match self.client.push_has_blob(self.target, &self.blob.digest).await {
                Ok(true) => Ok(()),
                _ => Err(error),
            },
        }
    }

    async fn read(&self, offset: u64, length: u64) -> Result<Bytes, Error> {
        let reader = self.source.open(self.blob, offset).await.map_err(|e| self.reading(e))?;
        let mut bytes = Vec::with_capacity(usize::try_from(length).unwrap_or_default());
        reader.take(length).read_to_end(&mut bytes).await.map_err(|e| self.reading(e))?;
        match bytes.len() as u64 == length {
            true => Ok(bytes.into()),
            false => Err(self.reading(std::io::Error::new(
                std::io::ErrorKind::UnexpectedEof,
                format!("it ends after {} bytes, wanted {}", offset + bytes.len() as u64, self.blob.size),
            ))),
        }
    }
}

/// How many bytes the registry says it has: `Range: 0-<last>`.
fn stored(response: &Response) -> Option<u64> {
    let range = response.headers().get("range")?.to_str().ok()?;
    let last: u64 = range.trim_start_matches("bytes=").strip_prefix("0-")?.parse().ok()?;
    // An empty upload is told as `0-0`, and so is one of a single byte; our chunks are never that short.
    Some(if last == 0 { 0 } else { last + 1 })
}
