//! Files at URLs, kept in the store: each is asked for once in a build, and one that was had before is only asked whether it is as it was.
//!
//! A file is a snapshot of its own, as in BuildKit: it is written straight to where it stays. What the server said of it (`ETag`, `Last-Modified`) is a
//! fact under a digest of the request; a fact whose snapshot is gone is worth nothing. Neither holds credentials: a URL is in the digest only.
use std::collections::HashMap;
use std::fs::{File, FileTimes, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;
use rhost_llb::{Digest, Hasher};
use rhost_registry::{BlobSink, Client, UrlAnswer, UrlHead, UrlRequest, Validators};
use rhost_rootfs::{Owner, OwnerPolicy};
use rhost_store::{ActiveSnapshot, SnapshotId, Store};
use serde::{Deserialize, Serialize};

use crate::lock::Vendor;
use crate::op_error::{OpFailure, blocking};
use crate::{file_name, http_date};

/// How old a file must be when it is fetched for its date to tell it from the next version (RFC 9110, 8.8.2.2), in seconds.
const TELLING_AGE: i64 = 60;

/// What is wanted, apart from how the server is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// Names the request: URL, headers, secrets by id, and all of this.
    pub id: Digest,
    /// The URL as written, for the file's name.
    pub url: String,
    /// The file's name, where the client says it.
    pub filename: Option<String>,
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub owner: Owner,
}

/// What a file must be, where that is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fixed {
    /// Of its bytes.
    pub digest: Digest,
    /// Its name, and its server's `Last-Modified`, where these are known, too.
    pub said: Option<(String, Option<Timestamp>)>,
}

impl Fixed {
    fn is(&self, found: &Downloaded) -> bool {
        let said = self.said.as_ref();
        found.digest == self.digest
            && said.is_none_or(|(name, time)| *name == found.filename && *time == found.modified)
    }
}

/// A file as its server has it now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Downloaded {
    /// Of its bytes.
    pub digest: Digest,
    /// Its name in the snapshot.
    pub filename: String,
    /// The name that server and URL give it, whatever the client says.
    pub offered: String,
    /// `Last-Modified`.
    pub modified: Option<Timestamp>,
    /// Where it lies.
    pub snapshot: SnapshotId,
    /// The bytes came from plain http, though https was asked.
    pub downgraded: bool,
}

/// What is known of a URL. JSON, as a fact of the store.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Known {
    etag: Option<String>,
    modified: Option<String>,
    /// `modified` was old enough to tell versions apart.
    telling: bool,
    digest: String,
    filename: String,
    offered: Option<String>,
    snapshot: i64,
    /// The name of its directory: a damaged number must not show another file.
    layer: String,
}

type Answer = Arc<tokio::sync::Mutex<Option<Downloaded>>>;

/// Fetches files. One for a build.
pub struct Downloads {
    client: Client,
    offline: bool,
    answers: Mutex<HashMap<Digest, Answer>>,
}

/// Where files are kept, and how.
pub struct Shelf<'a> {
    /// The store.
    pub store: &'a Store,
    /// Work that other processes may want too.
    pub once: &'a crate::once::Once,
    /// What a refused chown means.
    pub owners: OwnerPolicy,
    /// A directory that goes before servers.
    pub vendor: Option<&'a Vendor>,
}

impl Downloads {
    /// Of what `client` reaches; nothing when `offline`.
    pub fn new(client: Client, offline: bool) -> Self {
        Self { client, offline, answers: Mutex::default() }
    }

    fn answer(&self, id: Digest) -> Answer {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner).entry(id).or_default().clone()
    }

    /// The file as its server has it now; with `fixed`, whose digest is known, what the store has is good and nobody is asked.
    ///
    /// # Errors
    /// The server's, the network's, the disk's.
    pub async fn get(
        &self,
        shelf: &Shelf<'_>,
        request: &UrlRequest,
        wanted: &Wanted,
        fixed: Option<&Fixed>,
        tell: impl Fn(u64, Option<u64>) + Send + Sync,
    ) -> Result<Downloaded, OpFailure> {
        let answer = self.answer(wanted.id);
        let mut answer = answer.lock().await;
        if let Some(found) = &*answer {
            return Ok(found.clone());
        }
        // Somebody else may be at it: then there is something to compare with soon.
        let _lead = shelf.once.lead(&format!("url {}", wanted.id)).await;
        let known = shelf.known(wanted);
        if let Some((_, found)) = &known
            && fixed.map_or(self.offline, |fixed| fixed.is(found))
        {
            return Ok(answer.insert(found.clone()).clone());
        }
        let validators = known.as_ref().filter(|_| fixed.is_none()).map(|(known, _)| Validators {
            etag: known.etag.clone(),
            modified: known.modified.clone().filter(|_| known.telling),
        });
        let validators = validators.unwrap_or_default();
        let mut sink = FileSink { store: shelf.store.clone(), open: None };
        let vendored = shelf
            .vendor
            .and_then(|vendor| Some((vendor, vendor.file(request.plain(), fixed.map(|fixed| fixed.digest))?)));
        let fetched = match vendored {
            Some((vendor, blob)) => {
                vendor.read(&blob, &mut sink).await?;
                let modified = blob.modified.and_then(|seconds| Timestamp::from_second(seconds).ok());
                let last_modified = modified.map(http_date::format);
                UrlAnswer::Whole(UrlHead { last_modified, ..UrlHead::default() })
            }
            None => self.client.fetch_url(request, &validators, &mut sink, tell).await?,
        };
        let found = match (fetched, known) {
            (UrlAnswer::Unchanged(_), Some((_, found))) => found,
            (UrlAnswer::Unchanged(_), None) => {
                let reason = "the server says that it has not changed, which nobody asked".to_owned();
                return Err(OpFailure::Source { identifier: request.shown().to_owned(), reason });
            }
            (UrlAnswer::Whole(head), _) => {
                let (store, wanted, owners) = (shelf.store.clone(), wanted.clone(), shelf.owners);
                let (shown, fixed) = (request.shown().to_owned(), fixed.cloned());
                blocking(move || keep(&store, sink, &head, &wanted, owners, &shown, fixed.as_ref())).await?
            }
        };
        Ok(answer.insert(found).clone())
    }
}

impl Shelf<'_> {
    /// What is known of `wanted`, while its file is there.
    fn known(&self, wanted: &Wanted) -> Option<(Known, Downloaded)> {
        let bytes = self.store.fact(rhost_store::DOWNLOADS, wanted.id.as_raw()).ok()??;
        let known: Known = serde_json::from_slice(&bytes).ok()?;
        let info = self.store.record(SnapshotId(known.snapshot)).ok()??;
        let layer = info.dir.parent().and_then(Path::file_name)?;
        // What is not as it was written is not there.
        let there = info.dir.join(&known.filename).is_file() && info.parent.is_none() && layer == known.layer.as_str();
        let found = Downloaded {
            digest: known.digest.parse().ok()?,
            filename: known.filename.clone(),
            offered: known.offered.clone()?,
            modified: known.modified.as_deref().and_then(http_date::parse),
            snapshot: info.id,
            downgraded: false,
        };
        there.then_some((known, found))
    }
}

/// Makes a snapshot of what has arrived, and remembers what was said of it.
fn keep(
    store: &Store,
    sink: FileSink,
    head: &UrlHead,
    wanted: &Wanted,
    owners: OwnerPolicy,
    shown: &str,
    fixed: Option<&Fixed>,
) -> Result<Downloaded, OpFailure> {
    let Arriving { path, mut file, hasher, snapshot } = sink.into_open().map_err(|error| disk(shown, error))?;
    let mut digest = hasher.finish();
    if head.encoding.as_deref().is_some_and(|encoding| encoding.eq_ignore_ascii_case("gzip")) {
        // Not asked for, but sent: the file is what is inside (as for Go's client, which asks for it).
        (file, digest) = decode(&path).map_err(|error| disk(shown, error))?;
    }
    let offered = file_name::of_download(&wanted.url, None, head.disposition.as_deref());
    let mut filename = file_name::of_download(&wanted.url, wanted.filename.as_deref(), head.disposition.as_deref());
    let mut last_modified = head.last_modified.clone();
    if let Some((name, time)) = fixed.filter(|fixed| fixed.digest == digest).and_then(|fixed| fixed.said.as_ref()) {
        // The same bytes under another date are the same file.
        (filename, last_modified) = (name.clone(), time.map(http_date::format));
    }
    let modified = last_modified.as_deref().and_then(http_date::parse);
    finish(&file, wanted, owners, modified).map_err(|error| disk(shown, error))?;
    std::fs::rename(&path, snapshot.upper().join(&filename)).map_err(|error| disk(shown, error))?;
    drop(file);
    let id = snapshot.commit_as(&format!("http url {shown}"))?;
    let layer = store.record(id)?.and_then(|info| Some(info.dir.parent()?.file_name()?.to_str()?.to_owned()));
    let date = head.date.as_deref().and_then(http_date::parse).unwrap_or_else(Timestamp::now);
    let known = Known {
        etag: head.etag.clone(),
        telling: last_modified == head.last_modified
            && modified.is_some_and(|modified| date.as_second() - modified.as_second() >= TELLING_AGE),
        modified: last_modified,
        digest: digest.to_string(),
        filename: filename.clone(),
        offered: Some(offered.clone()),
        snapshot: id.0,
        layer: layer.unwrap_or_default(),
    };
    let bytes = serde_json::to_vec(&known).unwrap_or_default();
    if let Err(error) = store.set_fact(rhost_store::DOWNLOADS, wanted.id.as_raw(), &bytes) {
        tracing::debug!(%error, "what a server said is not remembered");
    }
    Ok(Downloaded { digest, filename, offered, modified, snapshot: id, downgraded: head.downgraded })
}

fn disk(url: &str, source: io::Error) -> OpFailure {
    OpFailure::Url(rhost_registry::UrlError::Local { url: url.to_owned(), source: Arc::new(source) })
}

/// Mode, owner and times. Without a date of the server's the file is from 1970, as BuildKit has it.
fn finish(file: &File, wanted: &Wanted, owners: OwnerPolicy, modified: Option<Timestamp>) -> io::Result<()> {
    let Owner { uid, gid } = wanted.owner;
    if (uid, gid) != (0, 0) {
        match std::os::unix::fs::fchown(file, Some(uid), Some(gid)) {
            Err(_) if owners == OwnerPolicy::BestEffort => {}
            other => other?,
        }
    }
    file.set_permissions(Permissions::from_mode(wanted.mode))?;
    let seconds = modified.map_or(0, |modified| modified.as_second());
    let distance = Duration::from_secs(seconds.unsigned_abs());
    let epoch = SystemTime::UNIX_EPOCH;
    let time = if seconds < 0 { epoch.checked_sub(distance) } else { epoch.checked_add(distance) }.unwrap_or(epoch);
    file.set_times(FileTimes::new().set_accessed(time).set_modified(time))
}

/// Replaces the file at `path` by what is inside of it.
fn decode(path: &Path) -> io::Result<(File, Digest)> {
    let (_, mut reader) = rhost_rootfs::decompress(File::open(path)?).map_err(io::Error::other)?;
    let beside = path.with_extension("decoded");
    let mut writer = HashingFile { file: File::create(&beside)?, hasher: Hasher::new() };
    io::copy(&mut reader, &mut writer)?;
    std::fs::rename(&beside, path)?;
    Ok((writer.file, writer.hasher.finish()))
}

struct HashingFile {
    file: File,
    hasher: Hasher,
}

impl io::Write for HashingFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.file.write(bytes)?;
        self.hasher.update(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// A file on its way, beside the layer that it will be moved into.
struct Arriving {
    path: PathBuf,
    file: File,
    hasher: Hasher,
    snapshot: ActiveSnapshot,
}

/// Takes a file; makes nothing before its first byte.
struct FileSink {
    store: Store,
    open: Option<Arriving>,
}

impl FileSink {
    fn begin(&self) -> io::Result<Arriving> {
        let snapshot = self.store.prepare(None).map_err(io::Error::other)?;
        let spec = snapshot.mount().map_err(io::Error::other)?;
        let beside = spec.work.clone().unwrap_or_else(|| snapshot.upper());
        let path = beside.join("arriving");
        let file = File::create(&path)?;
        Ok(Arriving { path, file, hasher: Hasher::new(), snapshot })
    }

    fn into_open(self) -> io::Result<Arriving> {
        match self.open {
            Some(open) => Ok(open),
            None => self.begin(),
        }
    }
}

#[async_trait]
impl BlobSink for FileSink {
    async fn write(&mut self, bytes: Bytes) -> io::Result<()> {
        if self.open.is_none() {
            self.open = Some(self.begin()?);
        }
        if let Some(open) = &mut self.open {
            open.file.write_all(&bytes)?;
            open.hasher.update(&bytes);
        }
        Ok(())
    }

    async fn restart(&mut self) -> io::Result<()> {
        self.open = None;
        Ok(())
    }

    async fn commit(self: Box<Self>) -> io::Result<()> {
        Ok(())
    }
}
