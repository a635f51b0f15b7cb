//! Requests to registries: which endpoints, in which order, how often, with which authorisation; answers as typed errors.
//!
//! Endpoints of a registry are its mirrors in order and then itself, each with one or two schemes. A mirror that fails
//! in any way is passed over; the registry's own answer is final. The scheme that answered is remembered.
use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use reqwest::header::AUTHORIZATION;
use reqwest::{Method, Response, StatusCode};
use serde::Deserialize;
use url::Url;

use crate::auth::{self, Denied, Grants};
use crate::config::{is_loopback, split_mirror};
use crate::{ClientOptions, ConfigError, CredentialSource, Error, RawManifest, Reference, RegistryConfig, redact};

/// What a request may do to a repository; becomes the scope of its token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    Pull,
    Push,
    /// Push, and pull from that other repository.
    Mount(String),
}

/// One way to reach a registry or mirror.
#[derive(Debug)]
pub(crate) struct Endpoint {
    /// As configured or written: what credentials are looked up by, and what people read.
    pub host: String,
    /// `SCHEME://AUTHORITY/v2/PREFIX/`.
    pub base: Url,
    pub http: reqwest::Client,
    pub mirror: bool,
}

impl Endpoint {
    fn scheme(&self) -> &'static str {
        if self.base.scheme() == "http" { "http" } else { "https" }
    }
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
    config: RegistryConfig,
    credentials: Arc<dyn CredentialSource>,
    pub options: ClientOptions,
    grants: Grants,
    clients: Mutex<HashMap<(String, bool), reqwest::Client>>,
    /// Host to the scheme that answered last.
    schemes: Mutex<HashMap<String, &'static str>>,
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

    fn proxies(&self) -> Result<Vec<reqwest::Proxy>, reqwest::Error> {
        let proxies = &self.options.proxies;
        let except = || proxies.except.as_deref().and_then(reqwest::NoProxy::from_string);
        let mut list = Vec::new();
        if let Some(url) = &proxies.http {
            list.push(reqwest::Proxy::http(url)?.no_proxy(except()));
        }
        if let Some(url) = &proxies.https {
            list.push(reqwest::Proxy::https(url)?.no_proxy(except()));
        }
        Ok(list)
    }

    /// The ways to reach `registry`: for a pull its mirrors first, then itself.
    pub fn endpoints(&self, registry: &str, mirrors: bool) -> Result<Vec<Endpoint>, Error> {
        let mut list = Vec::new();
        if mirrors {
            for mirror in &self.config.host(registry).mirrors {
                let (host, prefix) = split_mirror(mirror).map_err(|reason| ConfigError::new(registry, reason))?;
                self.push_endpoints(&mut list, host, prefix, true)?;
            }
        }
        self.push_endpoints(&mut list, registry, "", false)?;
        Ok(list)
    }

    fn push_endpoints(&self, list: &mut Vec<Endpoint>, host: &str, prefix: &str, mirror: bool) -> Result<(), Error> {
        let settings = self.config.host(host);
        let insecure = settings.insecure == Some(true);
        let mut schemes: Vec<&'static str> = match settings.http {
            Some(true) => vec!["http"],
            None if is_loopback(host) => vec!["http", "https"],
            None | Some(false) if insecure => vec!["https", "http"],
            None | Some(false) => vec!["https"],
        };
        let known = self.scheme_of(host);
        schemes.sort_by_key(|scheme| Some(*scheme) != known);
        let http = self.http(host, insecure)?;
        let authority = if host == "docker.io" { "registry-1.docker.io" } else { host };
        let separator = if prefix.is_empty() { "" } else { "/" };
        for scheme in schemes {
            let base = Url::parse(&format!("{scheme}://{authority}/v2/{prefix}{separator}"))
                .map_err(|e| ConfigError::new(host, format!("it makes no URL: {e}")))?;
            list.push(Endpoint { host: host.to_owned(), base, http: http.clone(), mirror });
        }
        Ok(())
    }

    /// The HTTP client for `host`, made once: certificates are read here.
    fn http(&self, host: &str, insecure: bool) -> Result<reqwest::Client, Error> {
        let mut clients = self.clients.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let key = (host.to_owned(), insecure);
        if let Some(client) = clients.get(&key) {
            return Ok(client.clone());
        }
        let client = self.make_http(host, insecure)?;
        clients.insert(key, client.clone());
        Ok(client)
    }

    fn make_http(&self, host: &str, insecure: bool) -> Result<reqwest::Client, Error> {
        let wrong = |reason: String| ConfigError::new(host, reason);
        let redirects = reqwest::redirect::Policy::custom(|attempt| {
            let downgrade = attempt.url().scheme() != "https"
                && attempt.previous().last().is_some_and(|previous| previous.scheme() == "https");
            match (attempt.previous().len() > 10, downgrade) {
                (true, _) => attempt.error("more than 10 redirects"),
                (_, true) => attempt.error("a redirect from https to plain http"),
                _ => attempt.follow(),
            }
        });
        let mut builder = reqwest::Client::builder()
            .user_agent(&self.options.user_agent)
            .connect_timeout(self.options.connect_timeout)
            .read_timeout(self.options.idle_timeout)
            .redirect(redirects)
            .referer(false)
            .no_proxy();
        for proxy in self.proxies().map_err(|e| wrong(format!("proxy: {}", redact(&e.to_string()))))? {
            builder = builder.proxy(proxy);
        }
        let tls = crate::tls::load(&self.config.host(host)).map_err(wrong)?;
        for certificate in tls.authorities {
            builder = builder.add_root_certificate(certificate);
        }
        if let Some(identity) = tls.identity {
            builder = builder.identity(identity);
        }
        if insecure {
            builder = builder.danger_accept_invalid_certs(true);
        }
        Ok(builder.build().map_err(|e| wrong(explain(&e)))?)
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

    /// Whether `outcome` of one endpoint is final: a mirror's failure of any kind goes on to the next endpoint, the
    /// registry's own only when it is not reached (by this scheme).
    pub fn judge<T>(
        &self,
        endpoint: &Endpoint,
        outcome: Result<T, Error>,
        kept: &mut Kept,
    ) -> ControlFlow<Result<T, Error>> {
        match outcome {
            Ok(value) => ControlFlow::Break(Ok(value)),
            Err(error @ (Error::Local { .. } | Error::Config(_))) => ControlFlow::Break(Err(error)),
            Err(error) if endpoint.mirror => {
                tracing::debug!(mirror = %endpoint.host, %error, "mirror passed over");
                ControlFlow::Continue(())
            }
            // It does speak this scheme: the other would only hide the reason. Next time both are tried again.
            Err(error @ Error::Unreachable { .. }) if self.scheme_of(&endpoint.host) == Some(endpoint.scheme()) => {
                self.schemes().remove(&endpoint.host);
                ControlFlow::Break(Err(error))
            }
            Err(Error::Unreachable { registry, reason }) => {
                kept.0.push((endpoint.scheme(), registry, reason));
                ControlFlow::Continue(())
            }
            Err(error) => ControlFlow::Break(Err(error)),
        }
    }

    fn schemes(&self) -> std::sync::MutexGuard<'_, HashMap<String, &'static str>> {
        self.schemes.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn scheme_of(&self, host: &str) -> Option<&'static str> {
        self.schemes().get(host).copied()
    }

    /// Whether the host of `endpoint` has answered by the other scheme: then this one is not tried.
    pub fn passed_over(&self, endpoint: &Endpoint) -> bool {
        self.scheme_of(&endpoint.host).is_some_and(|known| known != endpoint.scheme())
    }

    /// Sends `ask` to one endpoint, answers challenges, retries what may pass, and turns bad answers into errors.
    pub async fn ask(&self, endpoint: &Endpoint, ask: &Ask) -> Result<Response, Error> {
        let repository = format!("{}{}", endpoint.base.path().trim_start_matches("/v2/"), ask.image.repository());
        let scopes = scopes(&repository, &ask.access);
        let slot = self.grants.slot(endpoint.base.as_str(), &scopes.join(" "));
        let url = self.url(endpoint, ask, &repository)?;
        // What a registry points us to elsewhere gets no authorisation of ours.
        let own = url.origin() == endpoint.base.origin();
        let mut failures = 0;
        let mut challenged = 0;
        loop {
            let grant = if own { auth::held(&slot).await } else { None };
            let mut request = endpoint.http.request(ask.method.clone(), url.clone());
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
            // A TLS server answers 400 to plain http: that is no proof that http is spoken.
            if own && status != StatusCode::BAD_REQUEST {
                self.schemes().insert(endpoint.host.clone(), endpoint.scheme());
            }
            if status == StatusCode::UNAUTHORIZED && own && challenged < 2 {
                challenged += 1;
                failures -= 1;
                let wanted = auth::challenge(response.headers());
                let credential = self.credentials.find(&endpoint.host, &repository).await?;
                let answer =
                    auth::answer(&endpoint.http, &endpoint.base, &slot, &scopes, wanted, credential, grant.as_ref())
                        .await;
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
                let after = response.headers().get("retry-after").and_then(|v| v.to_str().ok()?.trim().parse().ok());
                self.pause(failures, after.map(Duration::from_secs)).await;
                continue;
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
        let status = response.status();
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
        tokio::time::sleep(wanted.map_or(jittered, |wanted| wanted.min(retry.longest_delay))).await;
    }
}

/// Why the registry itself was not reached, by each scheme that was tried.
#[derive(Default)]
pub(crate) struct Kept(Vec<(&'static str, String, String)>);

impl Kept {
    pub fn error(self) -> Error {
        let registry = self.0.first().map(|(_, registry, _)| registry.clone()).unwrap_or_default();
        let reason = match &self.0[..] {
            [(_, _, reason)] => reason.clone(),
            [(_, _, a), (_, _, b)] if a == b => a.clone(),
            several => {
                several.iter().map(|(scheme, _, reason)| format!("{scheme}: {reason}")).collect::<Vec<_>>().join("; ")
            }
        };
        Error::Unreachable { registry, reason }
    }
}

fn scopes(repository: &str, access: &Access) -> Vec<String> {
    match access {
        Access::Pull => vec![format!("repository:{repository}:pull")],
        Access::Push => vec![format!("repository:{repository}:pull,push")],
        Access::Mount(from) => vec![format!("repository:{repository}:pull,push"), format!("repository:{from}:pull")],
    }
}

/// Statuses that a later attempt may not meet.
fn may_pass(status: StatusCode) -> bool {
    matches!(status.as_u16(), 408 | 425 | 429 | 500 | 502 | 503 | 504)
}

/// Why a body was not read whole.
#[derive(Debug, Clone)]
pub(crate) enum Cut {
    TooLarge,
    Broken(String),
}

impl std::fmt::Display for Cut {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::TooLarge => f.write_str("its answer is too large"),
            Self::Broken(reason) => write!(f, "its answer was cut: {reason}"),
        }
    }
}

/// The body of `response`, of at most `limit` bytes.
pub(crate) async fn collect(mut response: Response, limit: u64) -> Result<Bytes, Cut> {
    let mut body = BytesMut::new();
    loop {
        match response.chunk().await {
            Ok(Some(chunk)) if (body.len() + chunk.len()) as u64 > limit => return Err(Cut::TooLarge),
            Ok(Some(chunk)) => body.extend_from_slice(&chunk),
            Ok(None) => return Ok(body.freeze()),
            Err(e) => return Err(Cut::Broken(explain(&e))),
        }
    }
}

/// What a registry's error body says (distribution API: `{"errors":[{"code","message"}]}`), short and without control
/// characters.
pub(crate) fn reason(body: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Body {
        #[serde(default)]
        errors: Vec<Entry>,
        details: Option<String>,
    }
    #[derive(Deserialize)]
    struct Entry {
        #[serde(default)]
        code: String,
        #[serde(default)]
        message: String,
    }
    let text = match serde_json::from_slice::<Body>(body) {
        Ok(body) if !body.errors.is_empty() => {
            let one = |e: Entry| if e.message.is_empty() { e.code } else { e.message };
            body.errors.into_iter().take(3).map(one).collect::<Vec<_>>().join("; ")
        }
        Ok(body) => body.details?,
        Err(_) => String::from_utf8_lossy(body).into_owned(),
    };
    let text: String = text.trim().chars().take(300).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if text.is_empty() { None } else { Some(redact(&text)) }
}

/// The innermost cause of an HTTP error (reqwest's own text only repeats the URL), without credentials.
pub(crate) fn explain(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    let text = cause.to_string();
    redact(if text.is_empty() { "connection lost" } else { &text })
}
