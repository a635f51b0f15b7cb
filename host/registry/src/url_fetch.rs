//! One file at a URL: what `ADD https://…` and remote contexts read. Streamed into a sink, resumed where it was cut, asked for only if it is
//! otherwise than what the caller has.
//!
//! Redirects are followed here and not by the HTTP library: what authorises goes to the origin that it was meant for and nowhere else, and once left out
//! it stays out. A URL's user information is sent as basic authorisation (as curl and BuildKit do) and appears in no message.
use std::sync::Arc;

use base64::Engine as _;
use reqwest::header::{ACCEPT, AUTHORIZATION, HeaderMap, HeaderValue, LOCATION, USER_AGENT};
use reqwest::{Response, StatusCode};
use url::Url;

use crate::answer::explain;
use crate::endpoints::{ClientKey, Redirects};
use crate::transport::{Transport, may_pass, retry_after};
use crate::url_error::{UrlError, UrlStage};
use crate::{BlobSink, Client, Error, redact};

/// Redirects in a row.
const MOST_REDIRECTS: usize = 10;
/// Resumes of one file, however much each brought.
const MOST_RESUMES: u32 = 100;

/// What is wanted. Clone it freely; it holds credentials and has no `Debug`.
#[derive(Clone)]
pub struct UrlRequest {
    url: Url,
    headers: HeaderMap,
    shown: String,
    gate: Option<Gate>,
}

/// Whether a redirect to a URL may be followed.
type Gate = Arc<dyn Fn(&str) -> bool + Send + Sync>;

/// What a server has said of a file, to ask it whether that still holds (RFC 9110, 8.8).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Validators {
    /// `ETag` as it came.
    pub etag: Option<String>,
    /// `Last-Modified` as it came, where it is old enough to tell two versions apart.
    pub modified: Option<String>,
}

impl Validators {
    fn is_empty(&self) -> bool {
        self.etag.is_none() && self.modified.is_none()
    }
}

/// What a server says of the file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UrlHead {
    /// `ETag`.
    pub etag: Option<String>,
    /// `Last-Modified`.
    pub last_modified: Option<String>,
    /// `Date`.
    pub date: Option<String>,
    /// `Content-Disposition`.
    pub disposition: Option<String>,
    /// `Content-Encoding`.
    pub encoding: Option<String>,
    /// The size that it says.
    pub length: Option<u64>,
    /// A redirect led from https to plain http: whoever is on the way could have changed the bytes.
    pub downgraded: bool,
}

/// How a request ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UrlAnswer {
    /// As it was when the validators were told. The sink has nothing.
    Unchanged(UrlHead),
    /// The sink has all of it.
    Whole(UrlHead),
}

impl UrlRequest {
    /// Asks for `url`.
    ///
    /// # Errors
    /// It is no http or https URL.
    pub fn new(url: &str) -> Result<Self, UrlError> {
        let wrong = |reason: &str| UrlError::Wrong { url: redact(url), reason: reason.into() };
        let mut parsed = Url::parse(url).map_err(|error| wrong(&error.to_string()))?;
        if !matches!(parsed.scheme(), "http" | "https") {
            return Err(wrong("neither http nor https"));
        }
        if parsed.host_str().is_none_or(str::is_empty) {
            return Err(wrong("it names no host"));
        }
        let mut headers = HeaderMap::new();
        if let Some(basic) = user_information(&mut parsed) {
            headers.insert(AUTHORIZATION, basic);
        }
        parsed.set_fragment(None);
        Ok(Self { shown: redact(url), url: parsed, headers, gate: None })
    }

    /// The URL without credentials, for people.
    pub fn shown(&self) -> &str {
        &self.shown
    }

    /// The URL as it is asked for, without credentials and fragment: its one form.
    pub fn plain(&self) -> &str {
        self.url.as_str()
    }

    /// The host's name alone, as in `example.com`.
    pub fn host(&self) -> &str {
        self.url.host_str().unwrap_or_default()
    }

    /// With this `Authorization` header in place of the URL's own.
    ///
    /// # Errors
    /// It cannot be a header; the value is not in the message.
    pub fn authorization(mut self, value: &[u8]) -> Result<Self, UrlError> {
        let mut value = HeaderValue::from_bytes(value).map_err(|_| UrlError::Wrong {
            url: self.shown.clone(),
            reason: "the secret with its authorisation holds what no header may hold (a line break at its end?)".into(),
        })?;
        value.set_sensitive(true);
        self.headers.insert(AUTHORIZATION, value);
        Ok(self)
    }

    /// Follows a redirect only to a URL for which `gate` answers true.
    #[must_use]
    pub fn only_through(mut self, gate: impl Fn(&str) -> bool + Send + Sync + 'static) -> Self {
        self.gate = Some(Arc::new(gate));
        self
    }

    /// With another `Accept`.
    ///
    /// # Errors
    /// It cannot be a header.
    pub fn accept(self, value: &str) -> Result<Self, UrlError> {
        self.header(ACCEPT, value)
    }

    /// With another `User-Agent`.
    ///
    /// # Errors
    /// It cannot be a header.
    pub fn user_agent(self, value: &str) -> Result<Self, UrlError> {
        self.header(USER_AGENT, value)
    }

    fn header(mut self, name: reqwest::header::HeaderName, value: &str) -> Result<Self, UrlError> {
        let value = HeaderValue::from_str(value).map_err(|_| UrlError::Wrong {
            url: self.shown.clone(),
            reason: format!("`{value}` cannot be the header {name}"),
        })?;
        self.headers.insert(name, value);
        Ok(self)
    }
}

/// `HOST[:PORT]` as a person writes it.
fn authority(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

/// Takes the user information out of `url`, as a header.
fn user_information(url: &mut Url) -> Option<HeaderValue> {
    if url.username().is_empty() && url.password().is_none() {
        return None;
    }
    let decode = |text: &str| percent_decode(text);
    let mut pair = decode(url.username());
    pair.push(b':');
    pair.extend(decode(url.password().unwrap_or_default()));
    let text = format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(pair));
    let mut value = HeaderValue::from_str(&text).ok()?;
    value.set_sensitive(true);
    let _ = url.set_username("");
    let _ = url.set_password(None);
    Some(value)
}

/// `%XX` of a URL replaced; what is malformed stays.
pub fn percent_decode(text: &str) -> Vec<u8> {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let digit = |offset: usize| bytes.get(at + offset).and_then(|b| char::from(*b).to_digit(16));
        match (bytes[at], digit(1), digit(2)) {
            (b'%', Some(high), Some(low)) => {
                out.push((high * 16 + low) as u8);
                at += 3;
            }
            (byte, ..) => {
                out.push(byte);
                at += 1;
            }
        }
    }
    out
}

/// Whether two tags name the same bytes for a comparison that need not be strong.
fn same_tag(a: &str, b: &str) -> bool {
    let plain = |tag: &str| tag.trim().trim_start_matches("W/").to_owned();
    plain(a) == plain(b)
}

fn head(response: &Response, downgraded: bool) -> UrlHead {
    let text = |name: &str| response.headers().get(name).and_then(|v| v.to_str().ok()).map(str::to_owned);
    UrlHead {
        etag: text("etag").filter(|tag| !tag.is_empty()),
        last_modified: text("last-modified"),
        date: text("date"),
        // Names are in any alphabet, and some servers do not encode them.
        disposition: response
            .headers()
            .get("content-disposition")
            .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned()),
        encoding: text("content-encoding"),
        length: response.content_length(),
        downgraded,
    }
}

/// Where an answer came from.
struct Asked {
    response: Response,
    /// Who gave it.
    host: String,
    downgraded: bool,
}

impl Client {
    /// Writes the file to `sink`, unless it is as `known` says; the sink is not committed. `tell` hears how many bytes are there, and of how many.
    ///
    /// # Errors
    /// See [`UrlError`]. The sink then holds bytes that must be thrown away.
    pub async fn fetch_url(
        &self,
        request: &UrlRequest,
        known: &Validators,
        sink: &mut dyn BlobSink,
        mut tell: impl FnMut(u64, Option<u64>) + Send,
    ) -> Result<UrlAnswer, UrlError> {
        let transport = &*self.transport;
        let local = |error: std::io::Error| UrlError::Local { url: request.shown.clone(), source: Arc::new(error) };
        let mut asking = conditions(known);
        let (mut arrived, mut failures, mut resumes) = (0u64, 0, 0);
        let mut begun: Option<UrlHead> = None;
        loop {
            let before = arrived;
            let mut asked = ask(transport, request, &asking).await?;
            let found = head(&asked.response, asked.downgraded);
            match asked.response.status() {
                StatusCode::NOT_MODIFIED if !known.is_empty() && begun.is_none() => {
                    return Ok(UrlAnswer::Unchanged(found));
                }
                StatusCode::PARTIAL_CONTENT if begun.is_some() && resumes_at(&asked.response) == Some(arrived) => {}
                StatusCode::RANGE_NOT_SATISFIABLE | StatusCode::PARTIAL_CONTENT if begun.is_some() => {
                    // Not the rest that was asked for: from the start.
                    (begun, arrived, asking) = (None, 0, HeaderMap::new());
                    sink.restart().await.map_err(local)?;
                    resumes += 1;
                    if resumes < MOST_RESUMES {
                        continue;
                    }
                    return Err(refused(request, &asked));
                }
                StatusCode::OK | StatusCode::NON_AUTHORITATIVE_INFORMATION => {
                    let same = known.etag.as_ref().zip(found.etag.as_ref()).is_some_and(|(a, b)| same_tag(a, b));
                    if same && begun.is_none() {
                        // A server that does not know conditions.
                        return Ok(UrlAnswer::Unchanged(found));
                    }
                    if arrived > 0 {
                        sink.restart().await.map_err(local)?;
                        arrived = 0;
                    }
                    begun = Some(found);
                }
                _ => return Err(refused(request, &asked)),
            }
            let whole = begun.as_ref().and_then(|head| head.length);
            let cut = loop {
                let next = tokio::time::timeout(transport.options.idle_timeout, asked.response.chunk()).await;
                match next {
                    Ok(Ok(Some(chunk))) => {
                        arrived += chunk.len() as u64;
                        sink.write(chunk).await.map_err(local)?;
                        tell(arrived, whole);
                    }
                    Ok(Ok(None)) if whole.is_none_or(|whole| whole == arrived) => {
                        return Ok(UrlAnswer::Whole(begun.unwrap_or_default()));
                    }
                    Ok(Ok(None)) => break "its end was missing".to_owned(),
                    Ok(Err(error)) if !error.is_timeout() => break explain(&error),
                    Ok(Err(_)) | Err(_) => {
                        return Err(UrlError::Hung {
                            url: request.shown.clone(),
                            host: asked.host,
                            stage: UrlStage::Body,
                            after: transport.options.idle_timeout,
                        });
                    }
                }
            };
            failures = if arrived > before { 1 } else { failures + 1 };
            resumes += 1;
            if failures >= transport.options.retry.attempts || resumes >= MOST_RESUMES {
                return Err(UrlError::Truncated {
                    url: request.shown.clone(),
                    wanted: whole,
                    got: arrived,
                    reason: cut,
                });
            }
            transport.pause(failures, None).await;
            asking = begun.as_ref().and_then(|head| the_rest(head, arrived)).unwrap_or_default();
        }
    }
}

/// The headers that ask only for what is otherwise.
fn conditions(known: &Validators) -> HeaderMap {
    let mut headers = HeaderMap::new();
    match known {
        Validators { etag: Some(tag), .. } => headers.extend(value("if-none-match", tag)),
        Validators { modified: Some(date), .. } => headers.extend(value("if-modified-since", date)),
        _ => {}
    }
    headers
}

fn value(name: &'static str, text: &str) -> Option<(reqwest::header::HeaderName, HeaderValue)> {
    Some((reqwest::header::HeaderName::from_static(name), HeaderValue::from_str(text).ok()?))
}

/// The headers that ask for the bytes from `arrived` on, of this very version. `None` where the versions cannot be told apart.
fn the_rest(head: &UrlHead, arrived: u64) -> Option<HeaderMap> {
    let strong = head.etag.as_ref().filter(|tag| !tag.starts_with("W/"));
    let validator = strong.or(head.last_modified.as_ref())?;
    let mut headers = HeaderMap::new();
    headers.extend([value("range", &format!("bytes={arrived}-"))?, value("if-range", validator)?]);
    (arrived > 0).then_some(headers)
}

fn resumes_at(response: &Response) -> Option<u64> {
    let range = response.headers().get("content-range")?.to_str().ok()?;
    range.strip_prefix("bytes ")?.split('-').next()?.parse().ok()
}

fn refused(request: &UrlRequest, asked: &Asked) -> UrlError {
    let status = asked.response.status();
    let at = redact(asked.response.url().as_str());
    UrlError::Status {
        url: request.shown.clone(),
        host: asked.host.clone(),
        status: status.as_u16(),
        reason: status.canonical_reason().unwrap_or_default().to_owned(),
        at: Some(at).filter(|_| *asked.response.url() != request.url),
        authenticated: request.headers.contains_key(AUTHORIZATION),
    }
}

/// The final answer to `request`, after redirects, and after the failures that pass.
async fn ask(transport: &Transport, request: &UrlRequest, further: &HeaderMap) -> Result<Asked, UrlError> {
    let mut failures = 0;
    loop {
        failures += 1;
        let last = failures >= transport.options.retry.attempts;
        match walk(transport, request, further).await {
            Ok(asked) if may_pass(asked.response.status()) && !last => {
                let after = retry_after(&asked.response);
                if after.is_some_and(|after| after > transport.options.retry.longest_wait) {
                    return Ok(asked);
                }
                drop(asked);
                transport.pause(failures, after).await;
            }
            Ok(asked) => return Ok(asked),
            Err(Lost::Again { error, most }) => {
                if last || failures >= most {
                    return Err(error);
                }
                transport.pause(failures, None).await;
            }
            Err(Lost::For(error)) => return Err(error),
        }
    }
}

/// A request without an answer.
enum Lost {
    /// It may be sent again, so often in all.
    Again { error: UrlError, most: u32 },
    /// It will not become better.
    For(UrlError),
}

/// Sends `request` and follows redirects.
async fn walk(transport: &Transport, request: &UrlRequest, further: &HeaderMap) -> Result<Asked, Lost> {
    let mut url = request.url.clone();
    let mut headers = request.headers.clone();
    headers.extend(further.iter().map(|(name, value)| (name.clone(), value.clone())));
    let mut seen = vec![url.clone()];
    let mut downgraded = false;
    let lost = |reason: String| Lost::For(UrlError::Redirect { url: request.shown.clone(), reason });
    loop {
        let host = authority(&url);
        let response = send(transport, request, &url, &headers, &host).await?;
        let redirects = matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308);
        if !redirects {
            return Ok(Asked { response, host, downgraded });
        }
        let location =
            response.headers().get(LOCATION).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
        let location = location
            .ok_or_else(|| lost(format!("{host} answers {} and does not say where to", response.status().as_u16())))?;
        let mut next = url
            .join(&location)
            .map_err(|error| lost(format!("{host} redirects to `{}`, which is no URL: {error}", redact(&location))))?;
        let shown = redact(next.as_str());
        if !matches!(next.scheme(), "http" | "https") {
            return Err(lost(format!("{host} redirects to `{shown}`, which is neither http nor https")));
        }
        if seen.contains(&next) {
            return Err(lost(format!("{host} redirects in a loop, back to `{shown}`")));
        }
        if seen.len() > MOST_REDIRECTS {
            return Err(lost(format!("more than {MOST_REDIRECTS} redirects, the last to `{shown}`")));
        }
        if request.gate.as_ref().is_some_and(|gate| !gate(next.as_str())) {
            return Err(Lost::For(UrlError::Forbidden { url: request.shown.clone(), at: shown }));
        }
        seen.push(next.clone());
        downgraded |= url.scheme() == "https" && next.scheme() == "http";
        let raised = url.host() == next.host()
            && (url.scheme(), url.port()) == ("http", None)
            && (next.scheme(), next.port()) == ("https", None);
        if url.origin() != next.origin() && !raised {
            headers.remove(AUTHORIZATION);
        }
        // What a server itself writes into the place that it sends us to is for that place.
        if let Some(basic) = user_information(&mut next) {
            headers.insert(AUTHORIZATION, basic);
        }
        url = next;
    }
}

/// Sends one request.
async fn send(
    transport: &Transport,
    request: &UrlRequest,
    url: &Url,
    headers: &HeaderMap,
    host: &str,
) -> Result<Response, Lost> {
    let insecure = transport.config.host(host).insecure == Some(true);
    let plain = url.scheme() == "http";
    let key = ClientKey { host: host.to_owned(), insecure, plain, redirects: Redirects::Shown };
    let client = transport.http_by(key).map_err(|error: Error| Lost::For(UrlError::Client(Box::new(error))))?;
    let options = &transport.options;
    let hung =
        |stage: UrlStage, after| UrlError::Hung { url: request.shown.clone(), host: host.to_owned(), stage, after };
    // The library's own time-outs, of the connection and of each read, end first.
    let all = options.connect_timeout + options.idle_timeout;
    let sent = tokio::time::timeout(all, client.get(url.clone()).headers(headers.clone()).send()).await;
    let error = match sent {
        Ok(Ok(response)) => return Ok(response),
        Ok(Err(error)) => error,
        Err(_) => return Err(Lost::For(hung(UrlStage::Answer, all))),
    };
    if error.is_timeout() {
        return Err(Lost::For(match error.is_connect() {
            true => hung(UrlStage::Connect, options.connect_timeout),
            false => hung(UrlStage::Answer, options.idle_timeout),
        }));
    }
    let reason = explain(&error);
    let trusted = !reason.contains("ertificate");
    let failed = UrlError::Unreachable { url: request.shown.clone(), host: host.to_owned(), reason };
    match trusted && !error.is_builder() {
        true => Err(Lost::Again { error: failed, most: if error.is_connect() { 2 } else { u32::MAX } }),
        false => Err(Lost::For(failed)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_leave_the_url() {
        let request = UrlRequest::new("https://me:p%40ss@h.example:8443/a?x=1#part").unwrap();
        assert_eq!(request.url.as_str(), "https://h.example:8443/a?x=1");
        assert_eq!((request.host(), authority(&request.url).as_str()), ("h.example", "h.example:8443"));
        assert_eq!(request.headers[AUTHORIZATION], "Basic bWU6cEBzcw==");
        assert!(!request.shown().contains("ss@"), "{}", request.shown());
        assert!(!format!("{:?}", request.headers).contains("Basic"));
    }

    #[test]
    fn other_urls_are_refused_without_their_credentials() {
        for url in ["ftp://u:p@h/x", "http://", "h/x", "http://u:p@"] {
            let error = UrlRequest::new(url).err().expect(url);
            assert!(!error.to_string().contains("u:p"), "{error}");
        }
    }

    #[test]
    fn weak_tags_compare_as_strong_ones_and_resume_nothing() {
        assert!(same_tag("W/\"a\"", "\"a\"") && !same_tag("\"a\"", "\"b\""));
        let head = |etag: &str| UrlHead { etag: Some(etag.into()), ..UrlHead::default() };
        assert!(the_rest(&head("W/\"a\""), 5).is_none());
        assert_eq!(the_rest(&head("\"a\""), 5).unwrap()["range"], "bytes=5-");
    }
}
