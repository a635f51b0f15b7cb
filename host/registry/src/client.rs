//! `Client`: a registry as a source of images, with its mirrors, credentials and retries.
//!
//! One client serves a whole engine: it keeps connections and tokens per host, and is shared behind an `Arc`.
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use reqwest::Method;
use rhost_llb::BlobDigest;

use crate::descriptor::{ManifestKind, media_type};
use crate::source::{BlobSink, ImageSource, referrers_by_tag};
use crate::transport::{Access, Ask, Transport};
use crate::{CredentialSource, Descriptor, Error, RawManifest, Reference, RegistryConfig};

/// Largest manifest or index that is read, in bytes (distribution refuses more than this too).
pub(crate) const LARGEST_MANIFEST: u64 = 4 << 20;

/// How often, and how soon again, a request is sent.
#[derive(Clone, Copy, Debug)]
pub struct Retry {
    /// Attempts in a row without progress before giving up; at least 1.
    pub attempts: u32,
    /// Pause before the second attempt; doubles each time, with jitter.
    pub first_delay: Duration,
    /// The longest pause of our own choice.
    pub longest_delay: Duration,
    /// The longest `Retry-After` that is waited for; after a longer one nothing is asked again.
    pub longest_wait: Duration,
}

/// Proxies to go through, as values (the cli reads them from its environment).
#[derive(Clone, Default)]
pub struct Proxies {
    /// For http URLs.
    pub http: Option<String>,
    /// For https URLs.
    pub https: Option<String>,
    /// Hosts to reach directly, in the usual comma-separated form.
    pub except: Option<String>,
}

impl fmt::Debug for Proxies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |url: &Option<String>| url.as_deref().map(crate::redact);
        let Self { http, https, except } = self;
        f.debug_struct("Proxies")
            .field("http", &shown(http))
            .field("https", &shown(https))
            .field("except", except)
            .finish()
    }
}

/// Everything about a client that is not configuration of a registry.
#[derive(Clone, Debug)]
pub struct ClientOptions {
    /// Sent as `User-Agent`.
    pub user_agent: String,
    /// Patience.
    pub retry: Retry,
    /// For a connection to be made.
    pub connect_timeout: Duration,
    /// For the next byte to come.
    pub idle_timeout: Duration,
    /// Proxies.
    pub proxies: Proxies,
    /// No connection is made: whatever wants one is [`Error::Offline`].
    pub offline: bool,
}

impl ClientOptions {
    /// What rhost uses: 5 attempts from 200 ms to 10 s, a `Retry-After` up to 30 s, 15 s to connect, 60 s of silence, no proxies.
    pub fn standard() -> Self {
        Self {
            user_agent: concat!("rhost/", env!("CARGO_PKG_VERSION")).into(),
            retry: Retry {
                attempts: 5,
                first_delay: Duration::from_millis(200),
                longest_delay: Duration::from_secs(10),
                longest_wait: Duration::from_secs(30),
            },
            connect_timeout: Duration::from_secs(15),
            idle_timeout: Duration::from_secs(60),
            proxies: Proxies::default(),
            offline: false,
        }
    }
}

/// Registries, reached over HTTP. Cheap to clone.
#[derive(Clone)]
pub struct Client {
    pub(crate) transport: Arc<Transport>,
}

impl Client {
    /// A client. Opens no connection and reads no file yet.
    ///
    /// # Errors
    /// When a host or mirror in `config` is none, or a proxy is no URL.
    pub fn new(
        config: RegistryConfig,
        credentials: Arc<dyn CredentialSource>,
        options: ClientOptions,
    ) -> Result<Self, Error> {
        Ok(Self { transport: Arc::new(Transport::new(config, credentials, options)?) })
    }

    /// A client like this one with other settings for its hosts. It shares nothing with this one: what was learnt of a host may not hold.
    ///
    /// # Errors
    /// As [`Client::new`].
    pub fn with_config(&self, config: RegistryConfig) -> Result<Self, Error> {
        let Transport { credentials, options, .. } = &*self.transport;
        Self::new(config, credentials.clone(), options.clone())
    }

    /// A client like this one that makes no connection.
    ///
    /// # Errors
    /// As [`Client::new`].
    pub fn offline(&self) -> Result<Self, Error> {
        let Transport { config, credentials, options, .. } = &*self.transport;
        let options = ClientOptions { offline: true, ..options.clone() };
        Self::new(config.clone(), credentials.clone(), options)
    }

    /// Whether the registry itself (not a mirror) has `blob` in the repository of `image`.
    ///
    /// # Errors
    /// Any but [`Error::NotFound`].
    pub async fn has_blob(&self, image: &Reference, blob: &BlobDigest) -> Result<bool, Error> {
        self.push_has_blob(image, blob).await
    }
}

const ACCEPT: &str = concat!(
    "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, ",
    "application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.docker.distribution.manifest.v2+json, */*"
);

#[async_trait]
impl ImageSource for Client {
    async fn head(&self, image: &Reference) -> Result<Descriptor, Error> {
        let ask = Ask::new(Method::HEAD, image, Access::Pull, format!("manifests/{}", image.manifest_key()))
            .header("accept", ACCEPT)
            .what(format!("{image}"));
        let answer = match self.transport.ask_any(&ask).await {
            // An answer to HEAD has no body: only GET tells the reason. And some registries refuse nothing but HEAD.
            Err(Error::Unauthorised { .. } | Error::Refused { status: 400..=499, .. }) => {
                return Ok(self.manifest(image).await?.descriptor);
            }
            other => other?,
        };
        let text = |name: &str| answer.headers().get(name).and_then(|v| v.to_str().ok());
        let digest = text("docker-content-digest").and_then(|v| v.parse::<BlobDigest>().ok());
        let size = text("content-length").and_then(|v| v.parse::<u64>().ok());
        let media_type = text("content-type").map(|v| v.split(';').next().unwrap_or_default().trim().to_owned());
        match (image.digest().or(digest), size, media_type) {
            (Some(wanted), ..) if digest.is_some_and(|found| found != wanted) => Err(Error::DigestMismatch {
                what: format!("the manifest of `{image}`"),
                wanted,
                found: digest.unwrap_or(wanted),
            }),
            (Some(digest), Some(size), Some(media_type)) if known(&media_type) => Ok(Descriptor {
                media_type,
                digest,
                size,
                platform: None,
                annotations: BTreeMap::new(),
                artifact_type: None,
            }),
            // The registry does not say enough in headers: the bytes do.
            _ => Ok(self.manifest(image).await?.descriptor),
        }
    }

    async fn manifest(&self, image: &Reference) -> Result<RawManifest, Error> {
        let ask = Ask::new(Method::GET, image, Access::Pull, format!("manifests/{}", image.manifest_key()))
            .header("accept", ACCEPT)
            .what(format!("{image}"));
        self.transport.read_manifest(&ask, LARGEST_MANIFEST).await
    }

    async fn blob(&self, image: &Reference, blob: &Descriptor, sink: &mut dyn BlobSink) -> Result<(), Error> {
        self.fetch_blob(image, blob, sink).await
    }

    /// By the referrers API (OCI distribution-spec 1.1) where the registry has it, else by the tag.
    async fn referrers(&self, image: &Reference, subject: BlobDigest) -> Result<Vec<Descriptor>, Error> {
        let bare = image.without_digest();
        let ask = Ask::new(Method::GET, &bare, Access::Pull, format!("referrers/{subject}"))
            .header("accept", media_type::OCI_INDEX)
            .what(format!("what belongs to `{}@{subject}`", bare.name()));
        match self.transport.read_manifest(&ask, LARGEST_MANIFEST).await {
            Ok(raw) => match raw.parse(&bare) {
                Ok(ManifestKind::Index(entries)) => Ok(entries),
                _ => referrers_by_tag(self, image, subject).await,
            },
            // Registries without it answer with any of these.
            Err(Error::NotFound { .. } | Error::Refused { status: 400..=499, .. } | Error::BadManifest { .. }) => {
                referrers_by_tag(self, image, subject).await
            }
            Err(error) => Err(error),
        }
    }
}

fn known(media_type: &str) -> bool {
    [media_type::OCI_INDEX, media_type::OCI_MANIFEST, media_type::DOCKER_LIST, media_type::DOCKER_MANIFEST]
        .contains(&media_type)
}
