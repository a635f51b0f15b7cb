//! Fetches one blob: streamed, counted and hashed on the way, resumed where it was cut.
use std::ops::ControlFlow;
use std::sync::Arc;

use reqwest::{Method, Response, StatusCode};
use rhost_llb::{BlobDigest, Hasher};

use crate::answer::explain;
use crate::endpoints::{Endpoint, Kept};
use crate::source::BlobSink;
use crate::transport::{Access, Ask};
use crate::{Client, Descriptor, Error, Reference};

/// Resumes of one blob from one endpoint, at most, however much each brought.
const MOST_RESUMES: u32 = 100;

/// What has arrived so far; survives a change of connection and of endpoint.
struct Arrived {
    hasher: Hasher,
    bytes: u64,
}

/// One blob on its way.
struct Fetch<'a> {
    client: &'a Client,
    image: &'a Reference,
    blob: &'a Descriptor,
    sink: &'a mut dyn BlobSink,
    arrived: Arrived,
}

impl Client {
    pub(crate) async fn fetch_blob(
        &self,
        image: &Reference,
        blob: &Descriptor,
        sink: &mut dyn BlobSink,
    ) -> Result<(), Error> {
        let endpoints = self.transport.endpoints(image.registry(), true)?;
        let arrived = Arrived { hasher: Hasher::new(), bytes: 0 };
        let mut fetch = Fetch { client: self, image, blob, sink, arrived };
        let mut kept = Kept::default();
        for endpoint in &endpoints {
            if self.transport.passed_over(endpoint) {
                continue;
            }
            let outcome = fetch.from(endpoint).await;
            if let ControlFlow::Break(outcome) = self.transport.judge(endpoint, outcome, &mut kept) {
                return outcome;
            }
        }
        Err(kept.error())
    }
}

impl Fetch<'_> {
    fn what(&self) -> String {
        format!("blob {} of `{}`", self.blob.digest, self.image.name())
    }

    fn local(&self, e: std::io::Error) -> Error {
        Error::Local { action: "write", digest: self.blob.digest, source: Arc::new(e) }
    }

    /// Fetches the rest from `endpoint`. Wrong bytes are thrown away, so that the next endpoint begins anew.
    async fn from(&mut self, endpoint: &Endpoint) -> Result<(), Error> {
        let outcome = match self.rest(endpoint).await {
            Ok(()) => match BlobDigest(self.arrived.hasher.clone().finish()) {
                found if found == self.blob.digest => return Ok(()),
                found => Err(Error::DigestMismatch { what: self.what(), wanted: self.blob.digest, found }),
            },
            Err(error) => Err(error),
        };
        if matches!(outcome, Err(Error::DigestMismatch { .. } | Error::TooLarge { .. })) {
            self.sink.restart().await.map_err(|e| self.local(e))?;
            self.arrived = Arrived { hasher: Hasher::new(), bytes: 0 };
        }
        outcome
    }

    async fn rest(&mut self, endpoint: &Endpoint) -> Result<(), Error> {
        let transport = &self.client.transport;
        let (mut failures, mut resumes) = (0, 0);
        loop {
            let before = self.arrived.bytes;
            let mut ask = Ask::new(Method::GET, self.image, Access::Pull, format!("blobs/{}", self.blob.digest))
                .what(self.what());
            if before > 0 {
                ask = ask.header("range", format!("bytes={before}-"));
            }
            let response = transport.ask(endpoint, &ask).await?;
            let lost = self.take(endpoint, response).await?;
            if self.arrived.bytes == self.blob.size {
                return Ok(());
            }
            failures = if self.arrived.bytes > before { 1 } else { failures + 1 };
            resumes += 1;
            if failures >= transport.options.retry.attempts || resumes >= MOST_RESUMES {
                return Err(match lost {
                    Some(reason) if self.arrived.bytes == 0 => {
                        Error::Unreachable { registry: endpoint.host.clone(), reason }
                    }
                    _ => Error::Truncated { what: self.what(), wanted: self.blob.size, got: self.arrived.bytes },
                });
            }
            transport.pause(failures, None).await;
        }
    }

    /// Takes the bytes of one answer. `Some` is why it was cut; `None` is its clean end.
    async fn take(&mut self, endpoint: &Endpoint, mut response: Response) -> Result<Option<String>, Error> {
        let mut skip = match response.status() {
            // Nothing there beyond what we have: the registry's copy is short.
            StatusCode::RANGE_NOT_SATISFIABLE => {
                return Err(Error::Truncated { what: self.what(), wanted: self.blob.size, got: self.arrived.bytes });
            }
            StatusCode::PARTIAL_CONTENT => {
                let range = response.headers().get("content-range").and_then(|v| v.to_str().ok()).unwrap_or_default();
                let start = range.strip_prefix("bytes ").and_then(|r| r.split('-').next()?.parse::<u64>().ok());
                if start != Some(self.arrived.bytes) {
                    return Err(Error::Protocol {
                        registry: endpoint.host.clone(),
                        what: self.what(),
                        reason: format!(
                            "asked for bytes from {} on, it sent `{}`",
                            self.arrived.bytes,
                            crate::redact(range)
                        ),
                    });
                }
                0
            }
            // Ranges are optional (RFC 9110, 14.2): the whole again.
            _ => self.arrived.bytes,
        };
        loop {
            let mut chunk = match response.chunk().await {
                Ok(Some(chunk)) => chunk,
                Ok(None) => return Ok(None),
                Err(e) => return Ok(Some(explain(&e))),
            };
            if skip > 0 {
                let cut = usize::try_from(skip).unwrap_or(usize::MAX).min(chunk.len());
                skip -= cut as u64;
                chunk = chunk.slice(cut..);
            }
            if chunk.is_empty() {
                continue;
            }
            if self.arrived.bytes + chunk.len() as u64 > self.blob.size {
                return Err(Error::TooLarge { what: self.what(), limit: self.blob.size });
            }
            self.arrived.hasher.update(&chunk);
            self.arrived.bytes += chunk.len() as u64;
            self.sink.write(chunk).await.map_err(|e| self.local(e))?;
        }
    }
}
