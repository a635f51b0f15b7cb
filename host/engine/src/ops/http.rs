//! `http://` and `https://`: one file (spec A.2). The server is asked when the key is wanted, since the key is what it has (spec C.1); with a checksum
//! the key is known, and the server is asked when the file is.
//!
//! Authorisation comes from lent secrets only: the one that `http.authheadersecret` names, else `HTTP_AUTH_HEADER_HOST` (a whole header) and
//! `HTTP_AUTH_TOKEN_HOST` (a bearer token), as in BuildKit. A file at the host `buildkit-session` is one that the client sent along.
use std::io::Read as _;
use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;
use rhost_llb::cache_key::{HttpKey, http_key, source_digest};
use rhost_llb::{Digest, SourceOp, Vertex, VertexDigest, attr};
use rhost_registry::{UrlError, UrlRequest, redact};
use rhost_rootfs::{Filter, Modes, Owner, Root, Tree};
use rhost_solver::{CacheMap, Op, OpError};
use zeroize::Zeroizing;

use crate::downloads::{Downloaded, Fixed, Shelf, Wanted};
use crate::event::Event;
use crate::lock::{HttpPin, LockKey, LockKind, Pin};
use crate::op_error::{OpFailure, blocking};
use crate::shared::Shared;
use crate::uploads;
use crate::value::Value;
use crate::{file_name, http_date};

/// Permission bits of a file where nobody says others: BuildKit's.
const MODE: u32 = 0o600;
/// Headers that a client may set; BuildKit drops others silently, here it is said.
const HEADERS: [(&str, &str); 2] = [(attr::HTTP_HEADER_ACCEPT, "Accept"), (attr::HTTP_HEADER_USER_AGENT, "User-Agent")];

/// What the bytes must be.
#[derive(Clone)]
struct Checksum {
    /// As written.
    text: String,
    algorithm: Algorithm,
}

#[derive(Clone, Copy)]
enum Algorithm {
    Sha256(Digest),
    Other(&'static ring::digest::Algorithm),
}

/// One file at a URL.
pub struct HttpStep {
    shared: Arc<Shared>,
    vertex: VertexDigest,
    request: UrlRequest,
    wanted: Wanted,
    /// As written, for the key.
    numbers: [i64; 3],
    headers: Vec<(String, String)>,
    auth_secret: Option<String>,
    checksum: Option<Checksum>,
    /// The client sent it along.
    upload: Option<uploads::Upload>,
}

impl HttpStep {
    /// Checks URL and attributes.
    pub fn new(shared: Arc<Shared>, vertex: Arc<Vertex>, source: &SourceOp) -> Result<Self, OpFailure> {
        let wrong = |reason: String| OpFailure::Source { identifier: redact(&source.identifier), reason };
        for (name, value) in &source.attrs {
            if matches!(name.as_str(), attr::HTTP_SIGNATURE | attr::HTTP_SIGNATURE_PUBKEY) && !value.is_empty() {
                return Err(OpFailure::NotYet(format!("checking the signature of a file (`{name}`)")));
            }
        }
        let text = |name: &str| source.attr(name).filter(|value| !value.is_empty()).map(str::to_owned);
        let number = |name: &str| match text(name) {
            None => Ok(0),
            Some(text) => integer(&text).ok_or_else(|| wrong(format!("`{name}` is `{text}`, which is no number"))),
        };
        let numbers = [number(attr::HTTP_PERM)?, number(attr::HTTP_UID)?, number(attr::HTTP_GID)?];
        let id = |number: i64| u32::try_from(number).map_err(|_| wrong(format!("{number} is no user or group id")));
        let owner = Owner { uid: id(numbers[1])?, gid: id(numbers[2])? };
        let checksum = text(attr::HTTP_CHECKSUM).map(|text| checksum(&text).map_err(wrong)).transpose()?;
        let mut request = UrlRequest::new(&source.identifier)?;
        let mut headers = Vec::new();
        for (name, header) in HEADERS {
            let Some(value) = source.attr(name) else { continue };
            request = match header {
                "Accept" => request.accept(value)?,
                _ => request.user_agent(value)?,
            };
            headers.push((header.to_owned(), value.to_owned()));
        }
        let unsent = source
            .attrs
            .keys()
            .find(|name| name.starts_with("http.header.") && !HEADERS.iter().any(|(known, _)| known == name));
        if let Some(name) = unsent {
            let message = format!("{}: `{name}` is not sent: only accept and user-agent can be set", request.shown());
            shared.events.send(Event::Warning { vertex: Some(vertex.digest), message: message.into() });
        }
        let upload = match request.host() {
            uploads::HOST => {
                Some(upload(&shared, source).ok_or_else(|| wrong("the client has sent no such file".into()))?)
            }
            _ => None,
        };
        let auth_secret = text(attr::HTTP_AUTH_HEADER_SECRET);
        let filename = text(attr::HTTP_FILENAME);
        if upload.is_none() {
            shared.rules.check_http(request.plain(), None)?;
            let rules = shared.rules.clone();
            request = request.only_through(move |url| rules.check_http(url, None).is_ok());
        }
        // What the answer may depend on.
        let question = format!("{:?}", (&source.identifier, &filename, &numbers, &auth_secret, &headers));
        let wanted = Wanted {
            id: Digest::of(question),
            url: source.identifier.clone(),
            filename,
            mode: if numbers[0] == 0 { MODE } else { (numbers[0] & 0o777) as u32 },
            owner,
        };
        Ok(Self { shared, vertex: vertex.digest, request, wanted, numbers, headers, auth_secret, checksum, upload })
    }

    /// With what the client lends for its host.
    fn authorised(&self) -> Result<UrlRequest, OpFailure> {
        let lent = &self.shared.lent;
        if let Some(id) = &self.auth_secret {
            let secret = lent.secret(id)?.ok_or_else(|| OpFailure::NoSecret { id: id.clone() })?;
            return Ok(self.request.clone().authorization(secret.expose().trim_ascii_end())?);
        }
        let host = self.request.host().trim_matches(['[', ']']);
        let mut request = self.request.clone();
        if let Some(header) = lent.secret(&format!("HTTP_AUTH_HEADER_{host}"))? {
            request = request.authorization(header.expose().trim_ascii_end())?;
        }
        if let Some(token) = lent.secret(&format!("HTTP_AUTH_TOKEN_{host}"))? {
            let value = Zeroizing::new([b"Bearer ".as_slice(), token.expose().trim_ascii_end()].concat());
            request = request.authorization(&value)?;
        }
        Ok(request)
    }

    /// Its entry in a lock file; `None` where the build file says itself what it is.
    fn lock_key(&self) -> Option<LockKey> {
        let says = self.checksum.is_some() || self.upload.is_some();
        (!says).then(|| LockKey::new(LockKind::Http, self.request.plain()))
    }

    /// What is known of it without asking anybody.
    fn fixed(&self) -> Result<Option<Fixed>, OpFailure> {
        if let Some(Checksum { algorithm: Algorithm::Sha256(digest), .. }) = &self.checksum {
            return Ok(Some(Fixed { digest: *digest, said: None }));
        }
        let pin = self.lock_key().map(|key| self.shared.pins.get(&key)).transpose()?.flatten();
        let Some(Pin::Http(pin)) = pin else { return Ok(None) };
        let name = self.wanted.filename.clone().or(pin.filename);
        let name = file_name::of_download(&self.wanted.url, name.as_deref(), None);
        Ok(Some(Fixed { digest: pin.digest, said: Some((name, pin.modified)) }))
    }

    async fn download(&self) -> Result<Downloaded, OpFailure> {
        let shared = &self.shared;
        let shelf = Shelf {
            store: &shared.store,
            once: &shared.once,
            owners: shared.owners,
            vendor: shared.pins.vendor().map(Arc::as_ref),
        };
        let (started, vertex) = (Timestamp::now(), self.vertex);
        let name: Arc<str> = file_name::of_download(&self.wanted.url, self.wanted.filename.as_deref(), None).into();
        let told = std::sync::Mutex::new(0u64);
        let tell = |current: u64, total: Option<u64>| {
            let mut told = told.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            let done = total == Some(current);
            // A step for each MiB is enough for people.
            if done || current >= *told + (1 << 20) {
                *told = current;
                let at = Timestamp::now();
                let total = total.unwrap_or(0);
                shared.once.send(Event::Status { vertex, id: name.clone(), current, total, started, at, done });
            }
        };
        let (fixed, key) = (self.fixed()?, self.lock_key());
        let found = shared.downloads.get(&shelf, &self.authorised()?, &self.wanted, fixed.as_ref(), tell).await;
        let found = found.map_err(|error| match &error {
            // By which rule.
            OpFailure::Url(UrlError::Forbidden { at, .. }) => {
                shared.rules.check_http(at, Some(self.request.shown())).err().map_or(error, OpFailure::Refused)
            }
            _ => error,
        })?;
        if let Some(key) = key {
            match &fixed {
                None => {
                    let plain = file_name::of_download(&self.wanted.url, None, None);
                    let filename = Some(found.offered.clone()).filter(|name| *name != plain);
                    let (digest, modified) = (found.digest, found.modified);
                    shared.pins.found(key, Pin::Http(HttpPin { digest, modified, filename }));
                }
                Some(fixed) if fixed.digest != found.digest => {
                    let place =
                        shared.pins.place(&key).unwrap_or_else(|| "what it was when it was last fetched".into());
                    let (name, found, wanted) = (key.name, found.digest.to_string(), fixed.digest.to_string());
                    return Err(OpFailure::NotAsLocked { name: redact(&name), found, place, wanted });
                }
                Some(_) => {}
            }
        }
        if found.downgraded {
            let message = format!(
                "{}: a redirect led from https to plain http, where anybody on the way can change the file; pin it with a checksum",
                self.request.shown()
            );
            shared.events.send(Event::Warning { vertex: Some(vertex), message: message.into() });
        }
        Ok(found)
    }

    fn key(&self, filename: String, checksum: String, modified: Option<Timestamp>) -> CacheMap {
        let [perm, uid, gid] = self.numbers;
        let key = http_key(&HttpKey {
            filename,
            perm,
            uid,
            gid,
            checksum,
            last_modified: modified.map(http_date::format).unwrap_or_default(),
            auth_header_secret: self.auth_secret.clone().unwrap_or_default(),
            headers: self.headers.clone(),
        });
        CacheMap { digest: source_digest(&key).digest, inputs: Vec::new(), volatile: false }
    }

    /// The name that is known before anybody is asked.
    fn plain_name(&self) -> String {
        file_name::of_download(&self.wanted.url, self.wanted.filename.as_deref(), None)
    }

    /// Whether the file is what it must be.
    async fn check(&self, found: &Downloaded) -> Result<(), OpFailure> {
        let Some(wanted) = &self.checksum else { return Ok(()) };
        let is = match wanted.algorithm {
            Algorithm::Sha256(_) => found.digest.to_string(),
            Algorithm::Other(algorithm) => {
                let (shared, found) = (self.shared.clone(), found.clone());
                let hash = blocking(move || hash_of(&shared, &found, algorithm)).await?;
                format!("{}:{hash}", wanted.text.split(':').next().unwrap_or_default())
            }
        };
        if is == wanted.text {
            return Ok(());
        }
        let url = self.request.shown().to_owned();
        Err(OpFailure::WrongChecksum { url, found: is, wanted: wanted.text.clone() })
    }
}

fn upload(shared: &Shared, source: &SourceOp) -> Option<uploads::Upload> {
    shared.uploads.get(source.identifier.rsplit('/').next()?).cloned()
}

fn hash_of(
    shared: &Shared,
    found: &Downloaded,
    algorithm: &'static ring::digest::Algorithm,
) -> Result<String, OpFailure> {
    let mut file = shared.view(found.snapshot)?.open_file(format!("/{}", found.filename))?;
    let (mut context, mut buffer) = (ring::digest::Context::new(algorithm), vec![0; 256 << 10]);
    let stream = |source| OpFailure::Files(rhost_rootfs::Error::Stream { source });
    loop {
        match file.read(&mut buffer).map_err(stream)? {
            0 => break,
            count => context.update(&buffer[..count]),
        }
    }
    Ok(context.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect())
}

fn checksum(text: &str) -> Result<Checksum, String> {
    let wrong =
        || format!("the checksum `{text}` is none: wanted sha256:HEX (64 digits), sha384:HEX (96) or sha512:HEX (128)");
    let (name, hex) = text.split_once(':').ok_or_else(wrong)?;
    let lower = |length: usize| hex.len() == length && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    let algorithm = match name {
        "sha256" if lower(64) => Algorithm::Sha256(text.parse().map_err(|_| wrong())?),
        "sha384" if lower(96) => Algorithm::Other(&ring::digest::SHA384),
        "sha512" if lower(128) => Algorithm::Other(&ring::digest::SHA512),
        _ => return Err(wrong()),
    };
    Ok(Checksum { text: text.to_owned(), algorithm })
}

/// An integer as Go reads it with base 0: `0o644`, `0644`, `0x1a4`, `420`.
fn integer(text: &str) -> Option<i64> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let lower = digits.to_ascii_lowercase();
    let (base, digits) = match lower.as_bytes() {
        [b'0', b'x', ..] => (16, &lower[2..]),
        [b'0', b'o', ..] => (8, &lower[2..]),
        [b'0', b'b', ..] => (2, &lower[2..]),
        [b'0', _, ..] => (8, &lower[1..]),
        _ => (10, lower.as_str()),
    };
    let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_alphanumeric());
    let number = i64::from_str_radix(digits, base).ok().filter(|_| plain)?;
    Some(if negative { -number } else { number })
}

#[async_trait]
impl Op<Value> for HttpStep {
    fn outputs(&self) -> usize {
        1
    }

    async fn cache_map(&self) -> Result<CacheMap, OpError> {
        if let Some(upload) = &self.upload {
            return Ok(self.key(self.plain_name(), upload.digest().to_string(), None));
        }
        if let Some(checksum) = &self.checksum {
            return Ok(self.key(self.plain_name(), checksum.text.clone(), None));
        }
        if let Some(Fixed { digest, said: Some((name, modified)) }) = self.fixed().map_err(OpError::new)? {
            self.shared.explainer.version(self.vertex, digest.to_string());
            return Ok(self.key(name, digest.to_string(), modified));
        }
        let found = self.download().await.map_err(OpError::new)?;
        self.shared.explainer.version(self.vertex, found.digest.to_string());
        Ok(self.key(found.filename, found.digest.to_string(), found.modified))
    }

    async fn content_key(&self, _: usize, _: &Value) -> Result<Digest, OpError> {
        Err(OpError::new(OpFailure::NotYet("a source with inputs".into())))
    }

    async fn run(&self, _: &[Value]) -> Result<Vec<Value>, OpError> {
        if let Some(upload) = self.upload.clone() {
            let (name, shown) = (self.plain_name(), self.request.shown().to_owned());
            let tree = blocking(move || {
                let directory = upload
                    .directory(&name)
                    .map_err(|source| OpFailure::Source { identifier: shown, reason: source.to_string() })?;
                Ok(Tree::of_context(Root::open(&directory)?, &Filter::default(), Modes::AsTheyAre, None)?)
            });
            return Ok(vec![Value::Context(Arc::new(tree.await.map_err(OpError::new)?))]);
        }
        let found = self.download().await.map_err(OpError::new)?;
        self.check(&found).await.map_err(OpError::new)?;
        Ok(vec![Value::Snapshot(found.snapshot)])
    }
}

#[cfg(test)]
mod tests {
    use super::{checksum, integer};

    #[test]
    fn numbers_are_read_as_go_reads_them() {
        for (text, number) in
            [("420", 420), ("0644", 0o644), ("0o644", 0o644), ("0x1A4", 420), ("0b11", 3), ("0", 0), ("-1", -1)]
        {
            assert_eq!(integer(text), Some(number), "{text}");
        }
        for text in ["", "0x", "9a", "08", "--1", "0x-1", "1 "] {
            assert_eq!(integer(text), None, "{text}");
        }
    }

    #[test]
    fn checksums_are_whole() {
        assert!(checksum(&format!("sha256:{}", "a".repeat(64))).is_ok());
        assert!(checksum(&format!("sha512:{}", "0".repeat(128))).is_ok());
        for wrong in ["", "sha256:", "md5:00", &format!("sha256:{}", "A".repeat(64)), &"a".repeat(64)] {
            assert!(checksum(wrong).is_err(), "{wrong}");
        }
    }
}
