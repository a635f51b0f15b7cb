//! Endpoints: the ways to reach a registry, in order, and what is learnt from their answers.
//!
//! They are its mirrors and then itself, each with one or two schemes. A mirror that fails in any way is passed over; the
//! registry's own answer is final. A host that answered by one scheme is not asked by the other.
use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::{MutexGuard, PoisonError};

use url::Url;

use crate::answer::explain;
use crate::config::{is_loopback, split_mirror};
use crate::transport::Transport;
use crate::{ConfigError, Error, redact};

/// What happens where an answer points elsewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Redirects {
    /// The HTTP client goes there.
    Followed,
    /// The caller sees them, and says who is asked next and with what.
    Shown,
}

/// What one HTTP client differs from another in.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct ClientKey {
    /// Whose configuration counts.
    pub host: String,
    /// Its certificate is not looked at.
    pub insecure: bool,
    /// It never speaks TLS.
    pub plain: bool,
    pub redirects: Redirects,
}

/// One way to reach a registry or mirror.
#[derive(Debug)]
pub(crate) struct Endpoint {
    /// As configured or written: what credentials are looked up by, and what people read.
    pub host: String,
    /// `SCHEME://AUTHORITY/v2/PREFIX/`.
    pub base: Url,
    /// Its certificate is not looked at.
    pub insecure: bool,
    pub mirror: bool,
}

impl Endpoint {
    pub(crate) fn scheme(&self) -> &'static str {
        if self.base.scheme() == "http" { "http" } else { "https" }
    }
}

impl Transport {
    pub(crate) fn proxies(&self) -> Result<Vec<reqwest::Proxy>, reqwest::Error> {
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
        let authority = if host == "docker.io" { "registry-1.docker.io" } else { host };
        let separator = if prefix.is_empty() { "" } else { "/" };
        for scheme in schemes {
            let base = Url::parse(&format!("{scheme}://{authority}/v2/{prefix}{separator}"))
                .map_err(|e| ConfigError::new(host, format!("it makes no URL: {e}")))?;
            list.push(Endpoint { host: host.to_owned(), base, insecure, mirror });
        }
        Ok(())
    }

    /// The HTTP client for `endpoint`, made once. A `plain` one cannot speak TLS, and stops where it is redirected to it: the machine's
    /// certificates are many, and a registry on loopback needs none of them.
    pub(crate) fn http(&self, endpoint: &Endpoint, plain: bool) -> Result<reqwest::Client, Error> {
        let (host, insecure) = (endpoint.host.clone(), endpoint.insecure);
        self.http_by(ClientKey { host, insecure, plain, redirects: Redirects::Followed })
    }

    /// The HTTP client for `key`, made once.
    pub(crate) fn http_by(&self, key: ClientKey) -> Result<reqwest::Client, Error> {
        // Whatever makes a connection makes it with a client from here.
        if self.options.offline {
            return Err(Error::Offline { host: key.host });
        }
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = clients.get(&key) {
            return Ok(client.clone());
        }
        let client = self.make_http(&key)?;
        clients.insert(key, client.clone());
        Ok(client)
    }

    fn make_http(&self, key: &ClientKey) -> Result<reqwest::Client, Error> {
        let ClientKey { host, insecure, plain, redirects } = key;
        let (insecure, plain) = (*insecure, *plain);
        let wrong = |reason: String| ConfigError::new(host, reason);
        let followed = reqwest::redirect::Policy::custom(move |attempt| {
            if plain && attempt.url().scheme() == "https" {
                return attempt.stop();
            }
            let downgrade = attempt.url().scheme() != "https"
                && attempt.previous().last().is_some_and(|previous| previous.scheme() == "https");
            match (attempt.previous().len() > 10, downgrade) {
                (true, _) => attempt.error("more than 10 redirects"),
                (_, true) => attempt.error("a redirect from https to plain http"),
                _ => attempt.follow(),
            }
        });
        let redirects = match redirects {
            Redirects::Followed => followed,
            Redirects::Shown => reqwest::redirect::Policy::none(),
        };
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
        if plain {
            let client = builder.tls_built_in_root_certs(false).build();
            return Ok(client.map_err(|e| wrong(explain(&e)))?);
        }
        let tls = crate::tls::load(&self.config.host(host.as_str())).map_err(wrong)?;
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
            Err(error @ (Error::Local { .. } | Error::Config(_) | Error::Offline { .. })) => {
                ControlFlow::Break(Err(error))
            }
            Err(error) if endpoint.mirror => {
                tracing::debug!(mirror = %endpoint.host, %error, "mirror passed over");
                kept.mirrors.push((endpoint.host.clone(), error));
                ControlFlow::Continue(())
            }
            // It does speak this scheme: the other would only hide the reason. Next time both are tried again.
            Err(error @ Error::Unreachable { .. }) if self.scheme_of(&endpoint.host) == Some(endpoint.scheme()) => {
                self.schemes().remove(&endpoint.host);
                ControlFlow::Break(Err(error))
            }
            Err(Error::Unreachable { registry, reason }) => {
                kept.itself.push((endpoint.scheme(), registry, reason));
                ControlFlow::Continue(())
            }
            Err(error) => ControlFlow::Break(Err(error)),
        }
    }

    pub(crate) fn schemes(&self) -> MutexGuard<'_, HashMap<String, &'static str>> {
        self.schemes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn scheme_of(&self, host: &str) -> Option<&'static str> {
        self.schemes().get(host).copied()
    }

    /// Whether the host of `endpoint` has answered by the other scheme: then this one is not tried.
    pub fn passed_over(&self, endpoint: &Endpoint) -> bool {
        self.scheme_of(&endpoint.host).is_some_and(|known| known != endpoint.scheme())
    }
}

/// Why nothing was had: the registry itself by each scheme that was tried, and before it its mirrors.
#[derive(Default)]
pub(crate) struct Kept {
    itself: Vec<(&'static str, String, String)>,
    mirrors: Vec<(String, Error)>,
}

impl Kept {
    pub fn error(self) -> Error {
        let registry = self.itself.first().map(|(_, registry, _)| registry.clone()).unwrap_or_default();
        let mut reason = match &self.itself[..] {
            [(_, _, reason)] => reason.clone(),
            [(_, _, a), (_, _, b)] if a == b => a.clone(),
            several => {
                several.iter().map(|(scheme, _, reason)| format!("{scheme}: {reason}")).collect::<Vec<_>>().join("; ")
            }
        };
        for (mirror, error) in &self.mirrors {
            match error {
                Error::NotFound { .. } => reason += &format!("; its mirror `{mirror}` does not have it"),
                Error::Unreachable { reason: why, .. } => reason += &format!("; nor its mirror `{mirror}`: {why}"),
                other => reason += &format!("; its mirror `{mirror}`: {other}"),
            }
        }
        Error::Unreachable { registry, reason }
    }
}
