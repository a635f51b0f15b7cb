//! Requests to registries: how often they are sent, with which authorisation, and their bad answers as typed errors.
//!
//! A request is data ([`Ask`]), so that it can be sent again: to the next endpoint, after a pause, or with a token.
use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use reqwest::header::AUTHORIZATION;
use reqwest::{Method, Response, StatusCode};
use url::Url;

use crate::answer::{Cut, collect, explain, reason};
use crate::auth::{self, Denied, Grants};
use crate::endpoints::{ClientKey, Endpoint, Kept};
use crate::{ClientOptions, ConfigError, CredentialSource, Error, RawManifest, Reference, RegistryConfig, redact};

/// What a request may do to a repository; becomes the scope of its token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    Pull,
    Push,
    /// Push, and pull from that other repository.
    Mount(String),
}

/// A request, as data, so that it can be sent again.
#[derive(Clone, Debug)]
pub(crate) struct Ask {
    pub method: Method,
    pub image: Reference,
    pub access: Access,
    pub target: Target,
    pub headers: Vec<(&'static str, String)>,
    pub body: Bytes,
    /// The thing in messages.
    pub what: String,
    /// Whether sending it twice does no harm.
    pub repeat: bool,
}

#[derive(Clone, Debug)]
pub(crate) enum Target {
    /// Below the repository: `manifests/latest`.
    Path(String),
    /// As a registry told us.
    Url(Url),
}

impl Ask {
    pub fn new(method: Method, image: &Reference, access: Access, path: String) -> Self {
        let what = image.to_string();
        let (headers, body, repeat) = (Vec::new(), Bytes::new(), true);
        Self { method, image: image.clone(), access, target: Target::Path(path), headers, body, what, repeat }
    }

    pub fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    pub fn body(mut self, body: Bytes) -> Self {
        self.body = body;
        self
    }

    pub fn what(mut self, what: String) -> Self {
        self.what = what;
        self
    }

    pub fn once(mut self) -> Self {
        self.repeat = false;
        self
    }
}

pub(crate) struct Transport {
    pub(crate) config: RegistryConfig,
    pub(crate) credentials: Arc<dyn CredentialSource>,
    pub options: ClientOptions,
    grants: Grants,
    pub(crate) clients: Mutex<HashMap<ClientKey, reqwest::Client>>,
    /// Host to the scheme that answered last.
    pub(crate) schemes: Mutex<HashMap<String, &'static str>>,
    jitter: RandomState,
}

impl Transport {
    pub fn new(
        config: RegistryConfig,
        credentials: Arc<dyn CredentialSource>,
        options: ClientOptions,
    ) -> Result<Self, Error> {
        config.check()?;
        let transport = Self {
            config,
            credentials,
            options,
            grants: Grants::default(),
            clients: Mutex::default(),
            schemes: Mutex::default(),
            jitter: RandomState::new(),
        };
        transport.proxies().map_err(|e| ConfigError::new("*", format!("proxy: {}", redact(&e.to_string()))))?;
        Ok(transport)
    }

    /// Asks mirrors and then the registry, with retries, until one answers well.
    pub async fn ask_any(&self, ask: &Ask) -> Result<Response, Error> {
        let mut kept = Kept::default();
        for endpoint in &self.endpoints(ask.image.registry(), ask.access == Access::Pull)? {
            if self.passed_over(endpoint) {
                continue;
            }
            let outcome = self.ask(endpoint, ask).await;
            if let ControlFlow::Break(outcome) = self.judge(endpoint, outcome, &mut kept) {
                return outcome;
            }
        }
        Err(kept.error())
    }

    /// A manifest. Bytes that the name's digest does not name are an error like any other, so that after a mirror the
    /// next endpoint is asked.
    pub async fn read_manifest(&self, ask: &Ask, limit: u64) -> Result<RawManifest, Error> {
        let mut kept = Kept::default();
        for endpoint in &self.endpoints(ask.image.registry(), ask.access == Access::Pull)? {
            if self.passed_over(endpoint) {
                continue;
            }
            let outcome = match self.read_small(endpoint, ask, limit).await {
                Ok((bytes, stated)) => RawManifest::new(&ask.image, bytes, stated.as_deref(), ask.image.digest()),
                Err(error) => Err(error),
            };
            if let ControlFlow::Break(outcome) = self.judge(endpoint, outcome, &mut kept) {
                return outcome;
            }
        }
        Err(kept.error())
    }

    /// A small answer of one endpoint as bytes, and its media type. A cut answer is asked for again.
    async fn read_small(&self, endpoint: &Endpoint, ask: &Ask, limit: u64) -> Result<(Bytes, Option<String>), Error> {
        let mut failures = 0;
        loop {
            let response = self.ask(endpoint, ask).await?;
            let media_type = response.headers().get("content-type").and_then(|v| v.to_str().ok());
            let media_type = media_type.map(|v| v.split(';').next().unwrap_or_default().trim().to_owned());
            match collect(response, limit).await {
                Ok(bytes) => return Ok((bytes, media_type)),
                Err(Cut::TooLarge) => return Err(Error::TooLarge { what: format!("`{}`", ask.what), limit }),
                Err(Cut::Broken(reason)) => {
                    failures += 1;
                    if failures >= self.options.retry.attempts {
                        return Err(Error::Unreachable { registry: endpoint.host.clone(), reason });
                    }
                    self.pause(failures, None).await;
                }
            }
        }
    }

    /// Sends `ask` to one endpoint, answers challenges, retries what may pass, and turns bad answers into errors.
    pub async fn ask(&self, endpoint: &Endpoint, ask: &Ask) -> Result<Response, Error> {
        let repository = format!("{}{}", endpoint.base.path().trim_start_matches("/v2/"), ask.image.repository());
        let scopes = scopes(&repository, &ask.access);
        let slot = self.grants.slot(endpoint.base.as_str(), &scopes.join(" "));
        let url = self.url(endpoint, ask, &repository)?;
        // What a registry points us to elsewhere gets no authorisation of ours.
        let own = url.origin() == endpoint.base.origin();
        let (mut failures, mut challenged) = (0, 0);
        let mut plain = url.scheme() == "http";
        loop {
            let grant = if own { auth::held(&slot).await } else { None };
            let mut request = self.http(endpoint, plain)?.request(ask.method.clone(), url.clone());
            for (name, value) in &ask.headers {
                request = request.header(*name, value);
            }
            if let Some(grant) = &grant {
                request = request.header(AUTHORIZATION, grant.header.clone());
            }
            if !matches!(ask.method, Method::GET | Method::HEAD) {
                request = request.header("content-length", ask.body.len()).body(ask.body.clone());
            }
            let unreachable = |reason: String| Error::Unreachable { registry: endpoint.host.clone(), reason };
            failures += 1;
            let response = match request.send().await {
                Ok(response) => response,
                Err(e) => {
                    let most = if e.is_connect() { 2 } else { self.options.retry.attempts };
                    if !ask.repeat
                        || failures >= most.min(self.options.retry.attempts)
                        || e.is_redirect()
                        || e.is_builder()
                    {
                        return Err(unreachable(explain(&e)));
                    }
                    self.pause(failures, None).await;
                    continue;
                }
            };
            let status = response.status();
            if plain && status.is_redirection() {
                // To a place behind TLS.
                (plain, failures) = (false, failures - 1);
                continue;
            }
            // A TLS server answers 400 to plain http: that is no proof that http is spoken.
            if own && status != StatusCode::BAD_REQUEST {
                self.schemes().insert(endpoint.host.clone(), endpoint.scheme());
            }
            if status == StatusCode::UNAUTHORIZED && own && challenged < 2 {
                challenged += 1;
                failures -= 1;
                let wanted = auth::challenge(response.headers());
                let credential = self.credentials.find(&endpoint.host, &repository).await?;
                let http = self.http(endpoint, false)?;
                let answer =
                    auth::answer(&http, &endpoint.base, &slot, &scopes, wanted, credential, grant.as_ref()).await;
                match answer {
                    Ok(_) => continue,
                    Err(Denied::Refused { authenticated, reason }) => {
                        return Err(self.unauthorised(endpoint, ask, authenticated, reason));
                    }
                    Err(Denied::Failed(reason)) => {
                        failures += 1;
                        challenged -= 1;
                        if failures >= self.options.retry.attempts {
                            return Err(unreachable(reason));
                        }
                        self.pause(failures, None).await;
                        continue;
                    }
                }
            }
            if may_pass(status) && ask.repeat && failures < self.options.retry.attempts {
                let after = retry_after(&response);
                if after.is_none_or(|after| after <= self.options.retry.longest_wait) {
                    self.pause(failures, after).await;
                    continue;
                }
            }
            if status.is_success() || status == StatusCode::RANGE_NOT_SATISFIABLE {
                return Ok(response);
            }
            return Err(self.refusal(endpoint, ask, grant.is_some_and(|g| g.authenticated), response).await);
        }
    }

    fn unauthorised(&self, endpoint: &Endpoint, ask: &Ask, authenticated: bool, reason: String) -> Error {
        Error::Unauthorised { registry: endpoint.host.clone(), what: ask.what.clone(), authenticated, reason }
    }

    async fn refusal(&self, endpoint: &Endpoint, ask: &Ask, authenticated: bool, response: Response) -> Error {
        let (status, retry_after) = (response.status(), retry_after(&response));
        let (registry, what) = (endpoint.host.clone(), ask.what.clone());
        let body = collect(response, 64 << 10).await.unwrap_or_default();
        let reason = reason(&body).unwrap_or_else(|| status.canonical_reason().unwrap_or("no reason given").to_owned());
        match status.as_u16() {
            404 => Error::NotFound { registry, what },
            401 | 403 => self.unauthorised(endpoint, ask, authenticated, reason),
            // Plain http spoken to a TLS port (an answer to HEAD has no body to tell by): the other scheme is next.
            400 if endpoint.scheme() == "http" && (ask.method == Method::HEAD || reason.contains("HTTPS")) => {
                Error::Unreachable { registry, reason: "it refuses plain http".into() }
            }
            429 => Error::RateLimited { registry, what, retry_after, reason },
            status => Error::Refused { registry, status, what, reason },
        }
    }

    fn url(&self, endpoint: &Endpoint, ask: &Ask, repository: &str) -> Result<Url, Error> {
        let wrong =
            |reason: String| Error::Protocol { registry: endpoint.host.clone(), what: ask.what.clone(), reason };
        match &ask.target {
            Target::Path(path) => {
                let mut url =
                    endpoint.base.join(&format!("/v2/{repository}/{path}")).map_err(|e| wrong(e.to_string()))?;
                if endpoint.mirror {
                    url.query_pairs_mut().append_pair("ns", ask.image.registry());
                }
                Ok(url)
            }
            Target::Url(url) if endpoint.base.scheme() == "https" && url.scheme() != "https" => {
                let mut url = url.clone();
                // A registry behind a TLS proxy may not know its own scheme.
                match url.host() == endpoint.base.host() && url.set_scheme("https").is_ok() {
                    true => Ok(url),
                    false => Err(wrong("it sends us from https to plain http".into())),
                }
            }
            Target::Url(url) => Ok(url.clone()),
        }
    }

    /// Waits before attempt `failures + 1`: doubling, with jitter of a half, or as long as the registry wants.
    pub async fn pause(&self, failures: u32, wanted: Option<Duration>) {
        let retry = &self.options.retry;
        let doubled =
            retry.first_delay.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(retry.longest_delay);
        let share = self.jitter.hash_one((failures, std::time::Instant::now())) % 1000;
        let jittered = doubled.mul_f64(0.5 + share as f64 / 2000.0);
        tokio::time::sleep(wanted.map_or(jittered, |wanted| wanted.min(retry.longest_wait))).await;
    }
}

/// When the registry wants to be asked again (RFC 9110, 10.2.3): seconds, or a date.
pub(crate) fn retry_after(response: &Response) -> Option<Duration> {
    let text = response.headers().get("retry-after")?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = jiff::fmt::rfc2822::parse(text).ok()?.timestamp();
    // A date that has passed means now.
    Some(Duration::try_from(date.duration_since(jiff::Timestamp::now())).unwrap_or_default())
}

fn scopes(repository: &str, access: &Access) -> Vec<String> {
    match access {
        Access::Pull => vec![format!("repository:{repository}:pull")],
        Access::Push => vec![format!("repository:{repository}:pull,push")],
        Access::Mount(from) => vec![format!("repository:{repository}:pull,push"), format!("repository:{from}:pull")],
    }
}

/// Statuses that a later attempt may not meet.
pub(crate) fn may_pass(status: StatusCode) -> bool {
    matches!(status.as_u16(), 408 | 425 | 429 | 500 | 502 | 503 | 504)
}
