//! Challenges and tokens: `WWW-Authenticate` in, `Authorization` out, kept per host and scope until they expire.
//!
//! Distribution's token specification and RFC 7235. Several requests that are challenged at once fetch one token. A
//! registry reached over https may not send us to a token service over plain http.
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use base64::Engine as _;
use reqwest::header::{HeaderMap, HeaderValue, WWW_AUTHENTICATE};
use serde::Deserialize;
use tokio::sync::Mutex as AsyncMutex;
use url::Url;

use crate::Credential;

/// Tokens without a stated life live this long (distribution token spec).
const SHORT_LIFE: Duration = Duration::from_secs(60);
/// Tokens are renewed this much before their end.
const MARGIN: Duration = Duration::from_secs(10);

/// What a registry wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Challenge {
    Basic,
    Bearer { realm: String, service: Option<String>, scope: Option<String> },
}

/// The strongest challenge among the headers: bearer, then basic.
pub(crate) fn challenge(headers: &HeaderMap) -> Option<Challenge> {
    let mut basic = None;
    for value in headers.get_all(WWW_AUTHENTICATE) {
        for (scheme, pairs) in parse_challenges(value.to_str().unwrap_or_default()) {
            let get = |key: &str| pairs.iter().find(|(k, _)| k == key).map(|(_, v)| v.clone());
            match (scheme.as_str(), get("realm")) {
                ("bearer", Some(realm)) => {
                    return Some(Challenge::Bearer { realm, service: get("service"), scope: get("scope") });
                }
                ("basic", _) => basic = Some(Challenge::Basic),
                _ => {}
            }
        }
    }
    basic
}

/// The value of `WWW-Authenticate`, `Scheme key="value", key=value, Other …`, as lower-case schemes with their pairs; what makes no
/// sense is skipped.
pub fn parse_challenges(text: &str) -> Vec<(String, Vec<(String, String)>)> {
    let mut list: Vec<(String, Vec<(String, String)>)> = Vec::new();
    let mut rest = text;
    loop {
        rest = rest.trim_start_matches(|c: char| c.is_whitespace() || c == ',');
        let end = rest.find(|c: char| c.is_whitespace() || matches!(c, ',' | '=' | '"')).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        if word.is_empty() {
            match rest.chars().next() {
                None => return list,
                Some(c) => rest = &rest[c.len_utf8()..],
            }
            continue;
        }
        let word = word.to_ascii_lowercase();
        let Some(value) = after.trim_start().strip_prefix('=') else {
            list.push((word, Vec::new()));
            rest = after;
            continue;
        };
        let (value, after) = parse_value(value.trim_start());
        if let Some((_, pairs)) = list.last_mut() {
            pairs.push((word, value));
        }
        rest = after;
    }
}

fn parse_value(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find(|c: char| c.is_whitespace() || c == ',').unwrap_or(text.len());
        return (text[..end].to_owned(), &text[end..]);
    };
    let mut value = String::new();
    let mut chars = quoted.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return (value, &quoted[at + 1..]),
            '\\' => value.extend(chars.next().map(|(_, c)| c)),
            c => value.push(c),
        }
    }
    (value, "")
}

/// An `Authorization` value and how long it holds.
#[derive(Clone)]
pub(crate) struct Grant {
    pub header: HeaderValue,
    /// Whether it came from a credential, or is an anonymous token.
    pub authenticated: bool,
    expires: Option<Instant>,
}

impl Grant {
    fn new(text: &str, authenticated: bool, expires: Option<Instant>) -> Option<Self> {
        let mut header = HeaderValue::from_str(text).ok()?;
        header.set_sensitive(true);
        Some(Self { header, authenticated, expires })
    }

    fn holds(&self) -> bool {
        self.expires.is_none_or(|end| Instant::now() < end)
    }

    fn basic(username: &str, password: &str) -> Option<Self> {
        let pair = base64::engine::general_purpose::STANDARD.encode(format!("{username}:{password}"));
        Self::new(&format!("Basic {pair}"), true, None)
    }
}

/// What is known of one host and scope.
#[derive(Default)]
pub(crate) struct Known {
    grant: Option<Grant>,
    /// A credential (or none) that was refused, and what was said of it. It is not sent again: too many attempts lock an account.
    refused: Option<(Option<Credential>, bool, String)>,
}

/// One host and scope; held locked while a grant is fetched.
pub(crate) type Slot = Arc<AsyncMutex<Known>>;

/// All grants.
#[derive(Default)]
pub(crate) struct Grants(Mutex<HashMap<(String, String), Slot>>);

impl Grants {
    pub fn slot(&self, endpoint: &str, scope: &str) -> Slot {
        let mut map = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        map.entry((endpoint.to_owned(), scope.to_owned())).or_default().clone()
    }
}

/// The grant to send at once, if one is held.
pub(crate) async fn held(slot: &Slot) -> Option<Grant> {
    slot.lock().await.grant.clone().filter(Grant::holds)
}

/// Why no grant could be had.
pub(crate) enum Denied {
    /// The credential (or its absence) is refused.
    Refused { authenticated: bool, reason: String },
    /// The token service does not work; may be tried again.
    Failed(String),
}

/// Answers `challenge`, or takes the grant that another request just got. `stale` is what was refused.
pub(crate) async fn answer(
    http: &reqwest::Client,
    registry: &Url,
    slot: &Slot,
    scopes: &[String],
    challenge: Option<Challenge>,
    credential: Option<Credential>,
    stale: Option<&Grant>,
) -> Result<Grant, Denied> {
    let mut known = slot.lock().await;
    match &known.grant {
        Some(grant) if grant.holds() && stale.is_none_or(|stale| stale.header != grant.header) => {
            return Ok(grant.clone());
        }
        _ => known.grant = None,
    }
    if let Some((refused, authenticated, reason)) = &known.refused
        && *refused == credential
    {
        return Err(Denied::Refused { authenticated: *authenticated, reason: reason.clone() });
    }
    let made = grant(http, registry, scopes, challenge, credential.clone(), stale).await;
    match &made {
        Ok(grant) => *known = Known { grant: Some(grant.clone()), refused: None },
        Err(Denied::Refused { authenticated, reason }) => {
            known.refused = Some((credential, *authenticated, reason.clone()));
        }
        Err(Denied::Failed(_)) => {}
    }
    made
}

async fn grant(
    http: &reqwest::Client,
    registry: &Url,
    scopes: &[String],
    challenge: Option<Challenge>,
    credential: Option<Credential>,
    stale: Option<&Grant>,
) -> Result<Grant, Denied> {
    let refused = |authenticated, reason: &str| Denied::Refused { authenticated, reason: reason.to_owned() };
    let unusable = || refused(true, "the credential has characters that no header can carry");
    let grant = match (challenge, credential) {
        (_, Some(Credential::RegistryToken(token))) => {
            Grant::new(&format!("Bearer {token}"), true, None).ok_or_else(unusable)?
        }
        (Some(Challenge::Basic), Some(Credential::Basic { username, password })) => {
            Grant::basic(&username, &password).ok_or_else(unusable)?
        }
        (Some(Challenge::Basic), Some(Credential::IdentityToken(_))) => {
            return Err(refused(true, "it wants a user name and a password, and an identity token is stored"));
        }
        (Some(Challenge::Basic), None) => return Err(refused(false, "it wants a user name and a password")),
        (Some(Challenge::Bearer { realm, service, scope }), credential) => {
            let scopes = match scopes {
                [] => scope.into_iter().collect(),
                scopes => scopes.to_vec(),
            };
            fetch_token(http, registry, &realm, service.as_deref(), &scopes, credential).await?
        }
        (None, credential) => return Err(refused(credential.is_some(), "it does not say how to log in")),
    };
    if stale.is_some_and(|stale| stale.header == grant.header) {
        return Err(refused(grant.authenticated, "the credential is not accepted"));
    }
    Ok(grant)
}

#[derive(Deserialize)]
struct TokenAnswer {
    token: Option<String>,
    access_token: Option<String>,
    expires_in: Option<u64>,
}

async fn fetch_token(
    http: &reqwest::Client,
    registry: &Url,
    realm: &str,
    service: Option<&str>,
    scopes: &[String],
    credential: Option<Credential>,
) -> Result<Grant, Denied> {
    let failed = |reason: String| Denied::Failed(crate::redact(&reason));
    let mut url = Url::parse(realm).map_err(|e| failed(format!("its token service `{realm}` is no URL: {e}")))?;
    if !matches!(url.scheme(), "http" | "https") || (registry.scheme() == "https" && url.scheme() == "http") {
        return Err(failed(format!("its token service `{realm}` is not reached over https")));
    }
    let authenticated = credential.is_some();
    let request = match credential {
        Some(Credential::IdentityToken(token)) => {
            let mut form = url::form_urlencoded::Serializer::new(String::new());
            form.extend_pairs([("grant_type", "refresh_token"), ("client_id", "rhost"), ("refresh_token", &token)]);
            form.extend_pairs(service.map(|s| ("service", s)));
            form.append_pair("scope", &scopes.join(" "));
            http.post(url).header("content-type", "application/x-www-form-urlencoded").body(form.finish())
        }
        credential => {
            {
                let mut query = url.query_pairs_mut();
                query.extend_pairs(service.map(|s| ("service", s)));
                query.extend_pairs(scopes.iter().map(|s| ("scope", s)));
            }
            match credential {
                Some(Credential::Basic { username, password }) => http.get(url).basic_auth(username, Some(password)),
                _ => http.get(url),
            }
        }
    };
    let asked = Instant::now();
    let response = request.send().await.map_err(|e| failed(crate::answer::explain(&e)))?;
    let status = response.status();
    let body = crate::answer::collect(response, 1 << 20).await.map_err(|e| failed(e.to_string()))?;
    if matches!(status.as_u16(), 400 | 401 | 403) {
        let reason = crate::answer::reason(&body).unwrap_or_else(|| format!("its token service answered {status}"));
        return Err(Denied::Refused { authenticated, reason });
    }
    if !status.is_success() {
        return Err(failed(format!("its token service answered {status}")));
    }
    // serde's message may quote the token: not shown.
    let answer: TokenAnswer =
        serde_json::from_slice(&body).map_err(|_| failed("its token service sent no token".into()))?;
    let token = (answer.token.or(answer.access_token).filter(|t| !t.is_empty()))
        .ok_or_else(|| failed("its token service sent no token".into()))?;
    let life = answer.expires_in.map_or(SHORT_LIFE, |s| Duration::from_secs(s.clamp(1, 24 * 3600)));
    let expires = asked + life.saturating_sub(MARGIN).max(life / 2);
    Grant::new(&format!("Bearer {token}"), authenticated, Some(expires))
        .ok_or_else(|| failed("its token service sent a token that no header can carry".into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(headers: &[&str], expect: Option<Challenge>) {
        let mut map = HeaderMap::new();
        for header in headers {
            map.append(WWW_AUTHENTICATE, HeaderValue::from_str(header).unwrap());
        }
        assert_eq!(challenge(&map), expect, "{headers:?}");
    }

    fn bearer(realm: &str, service: Option<&str>, scope: Option<&str>) -> Option<Challenge> {
        Some(Challenge::Bearer { realm: realm.into(), service: service.map(Into::into), scope: scope.map(Into::into) })
    }

    #[test]
    fn challenges_are_read() {
        check(&["Basic realm=\"x\""], Some(Challenge::Basic));
        check(&["basic"], Some(Challenge::Basic));
        check(
            &["Bearer realm=\"https://a/t\",service=\"r\",scope=\"repository:a/b:pull,push\""],
            bearer("https://a/t", Some("r"), Some("repository:a/b:pull,push")),
        );
        check(&["Basic realm=\"x\"", "Bearer realm=https://a/t"], bearer("https://a/t", None, None));
        check(&["Basic realm=\"x, y\", BEARER Realm=\"q\\\"z\" , service = s"], bearer("q\"z", Some("s"), None));
    }

    #[test]
    fn nonsense_is_skipped() {
        for text in [
            "",
            ",,,",
            "=",
            "\"",
            "Bearer",
            "Bearer realm",
            "Digest realm=\"x\"",
            "realm=\"x\"",
            "Bearer =x",
            "===\"\\",
        ] {
            check(&[text], None);
        }
    }
}
