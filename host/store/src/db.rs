//! The records: one SQLite file in WAL mode, written in `BEGIN IMMEDIATE` transactions, shared by processes.
//!
//! The file holds nothing that cannot be made again, so damage is answered by setting the file aside and beginning anew: what it knew
//! becomes misses. Two processes that meet the damage at once are kept apart by a lock file.
//! `synchronous=NORMAL` in WAL mode: after a power cut the newest transactions may be missing, the file stays consistent.
use std::collections::HashSet;
use std::fs::OpenOptions;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use oci_spec::image::Descriptor;
use rhost_llb::{BlobDigest, ChainId, DiffId, Digest};
use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OptionalExtension, Row, Transaction, TransactionBehavior, params};
use rustix::fs::{FlockOperation, flock};

use crate::{BlobRecord, Error, ImageRecord, Result, SnapshotId, SnapshotInfo};

const FILE: &str = "records-v3.sqlite";
/// Where damaged records are set aside.
pub(crate) const DAMAGED: &str = "records-v3.sqlite.damaged";

/// How long a writer waits for another process's transaction. Transactions here take milliseconds.
const BUSY: Duration = Duration::from_secs(30);

const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS snapshots (
    id INTEGER PRIMARY KEY AUTOINCREMENT, bucket TEXT NOT NULL, name TEXT NOT NULL, parent INTEGER,
    chain TEXT, diff_id TEXT, created INTEGER NOT NULL, apart INTEGER NOT NULL DEFAULT 0, mounted TEXT);
CREATE UNIQUE INDEX IF NOT EXISTS snapshot_places ON snapshots (bucket, name, ifnull(parent, 0));
CREATE UNIQUE INDEX IF NOT EXISTS snapshot_chains ON snapshots (bucket, chain) WHERE chain IS NOT NULL;
CREATE TABLE IF NOT EXISTS layer_blobs (
    diff_id TEXT NOT NULL, digest TEXT NOT NULL, size INTEGER NOT NULL, media_type TEXT NOT NULL, PRIMARY KEY (diff_id, digest));
CREATE INDEX IF NOT EXISTS layer_blob_digests ON layer_blobs (digest);
CREATE TABLE IF NOT EXISTS images (name TEXT PRIMARY KEY, descriptor TEXT NOT NULL, updated INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS cache_links (
    origin BLOB NOT NULL, input INTEGER NOT NULL, output BLOB NOT NULL, selector BLOB NOT NULL, key BLOB NOT NULL,
    PRIMARY KEY (origin, input, output, selector, key)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS cache_link_keys ON cache_links (key);
CREATE TABLE IF NOT EXISTS cache_results (key BLOB PRIMARY KEY, kind TEXT NOT NULL, value BLOB NOT NULL, created INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS facts (
    kind TEXT NOT NULL, key BLOB NOT NULL, value BLOB NOT NULL, created INTEGER NOT NULL, PRIMARY KEY (kind, key)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS flats (snapshot INTEGER PRIMARY KEY, name BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS shares (name TEXT PRIMARY KEY, family TEXT NOT NULL) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS share_families ON shares (family);
CREATE TABLE IF NOT EXISTS usage (
    kind TEXT NOT NULL, key TEXT NOT NULL, size INTEGER NOT NULL, last_used INTEGER NOT NULL, uses INTEGER NOT NULL,
    description TEXT NOT NULL, PRIMARY KEY (kind, key)) WITHOUT ROWID;
";

pub(crate) struct Db {
    root: PathBuf,
    connection: Mutex<Open>,
    /// The file was damaged and begun anew.
    rebuilt: AtomicBool,
}

/// One row of the cache's link table, in the shape of the key columns; an absent selector is the empty blob.
pub(crate) struct LinkRow {
    pub(crate) from: Digest,
    pub(crate) input: u32,
    pub(crate) output: Digest,
    pub(crate) selector: Option<Digest>,
}

impl LinkRow {
    fn selector(&self) -> &[u8] {
        self.selector.as_ref().map_or(&[], |s| s.as_raw())
    }
}

/// The open file, and which file it is: another process may have put a new one in its place.
struct Open {
    connection: Connection,
    inode: u64,
    /// Snapshots that are not written yet: with the next thing that is, in one transaction. Nobody else can have heard of them before.
    begun: Vec<NewSnapshot>,
    /// Numbers that no other connection gives to a snapshot.
    reserved: Range<i64>,
}

impl Open {
    fn new(connection: Connection, root: &Path) -> Self {
        Self { connection, inode: inode(root), begun: Vec::new(), reserved: 0..0 }
    }
}

/// Numbers that are reserved at once.
const RESERVED: i64 = 64;

struct NewSnapshot {
    id: i64,
    bucket: &'static str,
    name: String,
    parent: Option<SnapshotId>,
    apart: bool,
    description: String,
    created: i64,
}

impl NewSnapshot {
    fn write(&self, t: &Transaction<'_>) -> rusqlite::Result<()> {
        t.prepare_cached(
            "INSERT INTO snapshots (id, bucket, name, parent, created, apart) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        )?
        .execute(params![
            self.id,
            self.bucket,
            self.name,
            self.parent.map(|p| p.0),
            self.created,
            self.apart
        ])?;
        crate::usage::describe_layer(t, &self.name, &self.description)
    }
}

impl Db {
    pub(crate) fn open(root: &Path) -> Result<Self> {
        let (connection, rebuilt) = open_or_rebuild(root, None)?;
        Ok(Self {
            root: root.to_path_buf(),
            connection: Mutex::new(Open::new(connection, root)),
            rebuilt: AtomicBool::new(rebuilt),
        })
    }

    /// Whether the file was begun anew since the last call.
    pub(crate) fn take_rebuilt(&self) -> bool {
        self.rebuilt.swap(false, Ordering::Relaxed)
    }

    fn connection(&self) -> MutexGuard<'_, Open> {
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs `work`; when the file turns out to be damaged it is rebuilt, and `work` runs once more on the empty one.
    pub(crate) fn run<T>(&self, work: impl Fn(&mut Connection) -> rusqlite::Result<T>) -> Result<T> {
        let mut open = self.connection();
        if !open.begun.is_empty() {
            self.write_in(&mut open, |_| Ok(()))?;
        }
        self.run_in(&mut open, |open| work(&mut open.connection))
    }

    /// As [`Db::run`] for what says nothing of snapshots: those that are not written yet stay so.
    fn look<T>(&self, work: impl Fn(&mut Connection) -> rusqlite::Result<T>) -> Result<T> {
        self.run_in(&mut self.connection(), |open| work(&mut open.connection))
    }

    pub(crate) fn write<T>(&self, work: impl Fn(&Transaction<'_>) -> rusqlite::Result<T>) -> Result<T> {
        self.write_in(&mut self.connection(), work)
    }

    fn write_in<T>(&self, open: &mut Open, work: impl Fn(&Transaction<'_>) -> rusqlite::Result<T>) -> Result<T> {
        let answer = self.run_in(open, |open| {
            let transaction = open.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            open.begun.iter().try_for_each(|snapshot| snapshot.write(&transaction))?;
            let answer = work(&transaction)?;
            transaction.commit()?;
            Ok(answer)
        })?;
        open.begun.clear();
        Ok(answer)
    }

    fn run_in<T>(&self, open: &mut Open, work: impl Fn(&mut Open) -> rusqlite::Result<T>) -> Result<T> {
        match work(open) {
            Err(error) if is_damage(&error) => {
                tracing::warn!(%error, "the store's records are damaged; set aside and begun anew");
                // Closed first: SQLite must not write its journal back over the new file.
                open.connection = Connection::open_in_memory().map_err(|e| self.failed(e))?;
                let begun = std::mem::take(&mut open.begun);
                let (connection, _) = open_or_rebuild(&self.root, Some(open.inode))?;
                *open = Open { begun, ..Open::new(connection, &self.root) };
                self.rebuilt.store(true, Ordering::Relaxed);
                work(open).map_err(|e| self.failed(e))
            }
            other => other.map_err(|e| self.failed(e)),
        }
    }

    fn failed(&self, source: rusqlite::Error) -> Error {
        Error::Records { path: self.root.join(FILE), source }
    }

    // Snapshots.

    /// Gives a snapshot its id. Its record is written with whatever is written next, the cache's record of the step for one.
    pub(crate) fn add_snapshot(
        &self,
        bucket: &'static str,
        name: &str,
        parent: Option<SnapshotId>,
        apart: bool,
        description: &str,
    ) -> Result<SnapshotId> {
        let mut open = self.connection();
        if open.reserved.is_empty() {
            // AUTOINCREMENT goes on from here (sqlite.org/autoinc.html).
            let last: i64 = self.write_in(&mut open, |t| {
                t.execute(
                    "INSERT INTO sqlite_sequence (name, seq) SELECT 'snapshots', 0
                     WHERE NOT EXISTS (SELECT 1 FROM sqlite_sequence WHERE name = 'snapshots')",
                    [],
                )?;
                t.prepare_cached("UPDATE sqlite_sequence SET seq = seq + ?1 WHERE name = 'snapshots' RETURNING seq")?
                    .query_row([RESERVED], |row| row.get(0))
            })?;
            open.reserved = last - RESERVED + 1..last + 1;
        }
        let id = open.reserved.start;
        open.reserved.start += 1;
        let (name, description) = (name.to_owned(), description.to_owned());
        open.begun.push(NewSnapshot { id, bucket, name, parent, apart, description, created: now() });
        Ok(SnapshotId(id))
    }

    pub(crate) fn snapshot(&self, id: SnapshotId, bucket: &str) -> Result<Option<SnapshotInfo>> {
        let dir = self.root.join(bucket);
        self.run(|c| {
            c.prepare_cached("SELECT id, name, parent, diff_id, created, apart, mounted FROM snapshots WHERE id = ?1 AND bucket = ?2")?
                .query_row(params![id.0, bucket], |row| snapshot_row(row, &dir))
                .optional()
        })
    }

    /// The records from `id` down to its base, topmost first; `None` when one is missing.
    pub(crate) fn chain(&self, id: SnapshotId, bucket: &str) -> Result<Option<Vec<SnapshotInfo>>> {
        let dir = self.root.join(bucket);
        let rows = self.run(|c| {
            let transaction = c.transaction()?;
            let mut find = transaction.prepare_cached(
                "SELECT id, name, parent, diff_id, created, apart, mounted FROM snapshots WHERE id = ?1 AND bucket = ?2",
            )?;
            let (mut rows, mut seen, mut next) = (Vec::<SnapshotInfo>::new(), HashSet::new(), Some(id));
            while let Some(id) = next {
                // A loop, which damage may have made, ends too.
                let row = find.query_row(params![id.0, bucket], |row| snapshot_row(row, &dir)).optional()?;
                let Some(info) = row.filter(|_| seen.insert(id.0)) else { return Ok(None) };
                next = info.parent;
                rows.push(info);
            }
            Ok(Some(rows))
        })?;
        Ok(rows)
    }

    pub(crate) fn snapshot_of_chain(&self, bucket: &str, chain: &ChainId) -> Result<Option<SnapshotId>> {
        self.run(|c| {
            c.prepare_cached("SELECT id FROM snapshots WHERE bucket = ?1 AND chain = ?2")?
                .query_row(params![bucket, chain.to_string()], |r| Ok(SnapshotId(r.get(0)?)))
                .optional()
        })
    }

    pub(crate) fn snapshot_names(&self, bucket: &str) -> Result<HashSet<String>> {
        let mut names: HashSet<String> = self.flats(bucket)?.into_values().collect();
        names.extend(self.run(|c| {
            c.prepare_cached(
                "SELECT name FROM snapshots WHERE bucket = ?1
                 UNION SELECT mounted FROM snapshots WHERE bucket = ?1 AND mounted IS NOT NULL",
            )?
            .query_map([bucket], |r| r.get(0))?
            .collect::<rusqlite::Result<Vec<String>>>()
        })?);
        Ok(names)
    }

    // Blobs that hold layers.

    pub(crate) fn link_blob(&self, diff_id: &DiffId, blob: &BlobRecord) -> Result<()> {
        self.write(|t| {
            t.prepare_cached(
                "INSERT OR REPLACE INTO layer_blobs (diff_id, digest, size, media_type) VALUES (?1, ?2, ?3, ?4)",
            )?
            .execute(params![diff_id.to_string(), blob.digest.to_string(), blob.size as i64, blob.media_type])
            .map(|_| ())
        })
    }

    /// The blobs that are remembered to hold each of `diff_ids`, the first remembered first.
    pub(crate) fn blobs_of_all(&self, diff_ids: &[DiffId]) -> Result<Vec<Vec<BlobRecord>>> {
        type Rows = Vec<(String, i64, String)>;
        let rows: Vec<Rows> = self.look(|c| {
            let transaction = c.transaction()?;
            let mut find = transaction.prepare_cached(BLOBS_OF)?;
            let mut of = |diff_id: &DiffId| {
                find.query_map([diff_id.to_string()], |r| Ok((r.get(0)?, r.get(1)?, r.get(2)?)))?.collect()
            };
            diff_ids.iter().map(&mut of).collect()
        })?;
        Ok(rows.into_iter().map(|rows| rows.into_iter().filter_map(blob_record).collect()).collect())
    }

    pub(crate) fn diff_id_of(&self, digest: &BlobDigest) -> Result<Option<DiffId>> {
        let text: Option<String> = self.look(|c| {
            c.prepare_cached("SELECT diff_id FROM layer_blobs WHERE digest = ?1")?
                .query_row([digest.to_string()], |r| r.get(0))
                .optional()
        })?;
        Ok(text.and_then(|t| t.parse().ok()))
    }

    // Images.

    pub(crate) fn tag(&self, name: &str, descriptor: &Descriptor) -> Result<()> {
        let text = serde_json::to_string(descriptor)
            .map_err(|e| self.failed(rusqlite::Error::ToSqlConversionFailure(Box::new(e))))?;
        self.write(|t| {
            t.execute(
                "INSERT OR REPLACE INTO images (name, descriptor, updated) VALUES (?1, ?2, ?3)",
                params![name, text, now()],
            )
            .map(|_| ())
        })
    }

    pub(crate) fn image(&self, name: &str) -> Result<Option<ImageRecord>> {
        let row = self.run(|c| {
            c.prepare_cached("SELECT name, descriptor, updated FROM images WHERE name = ?1")?
                .query_row([name], image_row)
                .optional()
        })?;
        Ok(row.flatten())
    }

    pub(crate) fn images(&self) -> Result<Vec<ImageRecord>> {
        let rows: Vec<Option<ImageRecord>> = self.run(|c| {
            c.prepare_cached("SELECT name, descriptor, updated FROM images ORDER BY name")?
                .query_map([], image_row)?
                .collect()
        })?;
        Ok(rows.into_iter().flatten().collect())
    }

    pub(crate) fn untag(&self, name: &str) -> Result<bool> {
        self.write(|t| t.execute("DELETE FROM images WHERE name = ?1", [name]).map(|count| count > 0))
    }

    // Cache.

    pub(crate) fn follow(&self, link: &LinkRow) -> Result<Vec<Digest>> {
        self.look(|c| {
            c.prepare_cached(
                "SELECT key FROM cache_links WHERE origin = ?1 AND input = ?2 AND output = ?3 AND selector = ?4",
            )?
            .query_map(params![link.from.as_raw(), link.input, link.output.as_raw(), link.selector()], |r| {
                Ok(Digest::from_raw(r.get(0)?))
            })?
            .collect()
        })
    }

    pub(crate) fn cache_result(&self, kind: &str, key: Digest) -> Result<Option<Vec<u8>>> {
        self.look(|c| {
            c.prepare_cached("SELECT value FROM cache_results WHERE key = ?1 AND kind = ?2")?
                .query_row(params![key.as_raw(), kind], |r| r.get(0))
                .optional()
        })
        .map(|found: Option<Vec<u8>>| found.and_then(|value| opened(kind, key.as_raw(), value)))
    }

    /// The results for those of `keys` that have one.
    pub(crate) fn cache_values(&self, kind: &str, keys: &[Digest]) -> Result<Vec<Vec<u8>>> {
        Ok(self.cache_values_by_key(kind, keys)?.into_iter().map(|(_, value)| value).collect())
    }

    /// As [`Db::cache_values`], with the keys.
    pub(crate) fn cache_values_by_key(&self, kind: &str, keys: &[Digest]) -> Result<Vec<(Digest, Vec<u8>)>> {
        let rows: Vec<Option<(Digest, Vec<u8>)>> = self.look(|c| {
            let transaction = c.transaction()?;
            let mut find =
                transaction.prepare_cached("SELECT value FROM cache_results WHERE key = ?1 AND kind = ?2")?;
            let mut get = |key: &Digest| find.query_row(params![key.as_raw(), kind], |r| r.get(0)).optional();
            keys.iter().map(|key| Ok(get(key)?.map(|value| (*key, value)))).collect()
        })?;
        Ok(rows
            .into_iter()
            .flatten()
            .filter_map(|(key, value)| Some((key, opened(kind, key.as_raw(), value)?)))
            .collect())
    }

    pub(crate) fn save_cache(&self, kind: &str, key: Digest, links: &[LinkRow], value: &[u8]) -> Result<()> {
        self.write(|t| {
            // Links of an earlier result would lead its content to this one.
            t.prepare_cached("DELETE FROM cache_links WHERE key = ?1")?.execute([key.as_raw()])?;
            let mut insert = t.prepare_cached(
                "INSERT OR IGNORE INTO cache_links (origin, input, output, selector, key) VALUES (?1, ?2, ?3, ?4, ?5)",
            )?;
            for link in links {
                insert.execute(params![
                    link.from.as_raw(),
                    link.input,
                    link.output.as_raw(),
                    link.selector(),
                    key.as_raw()
                ])?;
            }
            t.prepare_cached(
                "INSERT OR REPLACE INTO cache_results (key, kind, value, created) VALUES (?1, ?2, ?3, ?4)",
            )?
            .execute(params![key.as_raw(), kind, sealed(kind, key.as_raw(), value), now()])
            .map(|_| ())
        })
    }

    pub(crate) fn forget_cache(&self, key: Digest) -> Result<()> {
        self.write(|t| t.execute("DELETE FROM cache_results WHERE key = ?1", [key.as_raw()]).map(|_| ()))
    }

    // Facts.

    pub(crate) fn fact(&self, kind: &str, key: &[u8]) -> Result<Option<Vec<u8>>> {
        self.look(|c| {
            c.prepare_cached("SELECT value FROM facts WHERE kind = ?1 AND key = ?2")?
                .query_row(params![kind, key], |r| r.get(0))
                .optional()
        })
        .map(|found: Option<Vec<u8>>| found.and_then(|value| opened(kind, key, value)))
    }

    /// As [`Db::fact`] for several, in order.
    pub(crate) fn facts(&self, kind: &str, keys: &[&[u8]]) -> Result<Vec<Option<Vec<u8>>>> {
        let found: Vec<Option<Vec<u8>>> = self.look(|c| {
            let transaction = c.transaction()?;
            let mut find = transaction.prepare_cached("SELECT value FROM facts WHERE kind = ?1 AND key = ?2")?;
            keys.iter().map(|key| find.query_row(params![kind, key], |r| r.get(0)).optional()).collect()
        })?;
        Ok(found.into_iter().zip(keys).map(|(value, key)| opened(kind, key, value?)).collect())
    }

    pub(crate) fn forget_fact(&self, kind: &str, key: &[u8]) -> Result<()> {
        self.write(|t| t.execute("DELETE FROM facts WHERE kind = ?1 AND key = ?2", params![kind, key]).map(|_| ()))
    }

    pub(crate) fn set_facts(&self, kind: &str, facts: &[(Vec<u8>, Vec<u8>)]) -> Result<()> {
        self.write(|t| {
            let mut insert =
                t.prepare_cached("INSERT OR REPLACE INTO facts (kind, key, value, created) VALUES (?1, ?2, ?3, ?4)")?;
            for (key, value) in facts {
                insert.execute(params![kind, key, sealed(kind, key, value), now()])?;
            }
            Ok(())
        })
    }
}

const BLOBS_OF: &str = "SELECT digest, size, media_type FROM layer_blobs WHERE diff_id = ?1 ORDER BY rowid";

fn blob_record((digest, size, media_type): (String, i64, String)) -> Option<BlobRecord> {
    Some(BlobRecord { digest: digest.parse().ok()?, size: u64::try_from(size).ok()?, media_type })
}

fn snapshot_row(row: &Row<'_>, dir: &Path) -> rusqlite::Result<SnapshotInfo> {
    let name: String = row.get(1)?;
    let diff_id: Option<String> = row.get(3)?;
    let place = |name: &str| place_in(dir, name);
    let mounted: Option<String> = row.get(6)?;
    Ok(SnapshotInfo {
        id: SnapshotId(row.get(0)?),
        parent: row.get::<_, Option<i64>>(2)?.map(SnapshotId),
        dir: place(&name),
        mounted: mounted.map(|mounted| place(&mounted)),
        apart: row.get(5)?,
        diff_id: diff_id.and_then(|d| d.parse().ok()),
        created: row.get(4)?,
    })
}

/// The directory of the layer `name` in the bucket `dir`. A name is only ever made by `unique_name`; a damaged one must not lead out of the bucket.
pub(crate) fn place_in(dir: &Path, name: &str) -> PathBuf {
    let safe = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    dir.join(if safe { name } else { "damaged" }).join("fs")
}

fn image_row(row: &Row<'_>) -> rusqlite::Result<Option<ImageRecord>> {
    let text: String = row.get(1)?;
    let Ok(descriptor) = serde_json::from_str(&text) else { return Ok(None) };
    Ok(Some(ImageRecord { name: row.get(0)?, descriptor, updated: row.get(2)? }))
}

pub(crate) fn now() -> i64 {
    rustix::time::clock_gettime(rustix::time::ClockId::Realtime).tv_sec as i64
}

/// Bytes of the check at the end of a value: SQLite has none for its pages, and a flipped bit must not become another result.
const SEAL: usize = 8;

fn seal(kind: &str, key: &[u8], value: &[u8]) -> [u8; SEAL] {
    let mut hasher = blake3::Hasher::new();
    for part in [kind.as_bytes(), key, value] {
        hasher.update(&(part.len() as u64).to_le_bytes()).update(part);
    }
    let hash = hasher.finalize();
    std::array::from_fn(|index| hash.as_bytes()[index])
}

/// `value` with its check.
pub(crate) fn sealed(kind: &str, key: &[u8], value: &[u8]) -> Vec<u8> {
    [value, &seal(kind, key, value)].concat()
}

/// The value in `stored`, if it is the one that was written.
pub(crate) fn opened(kind: &str, key: &[u8], mut stored: Vec<u8>) -> Option<Vec<u8>> {
    let check = stored.split_off(stored.len().checked_sub(SEAL)?);
    (seal(kind, key, &stored) == check.as_slice()).then_some(stored)
}

/// Answers that mean: these bytes are no healthy database (also one whose schema is not ours).
fn is_damage(error: &rusqlite::Error) -> bool {
    match error {
        rusqlite::Error::SqliteFailure(failure, message) => {
            matches!(failure.code, ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase)
                // A file cut short.
                || failure.extended_code == 522
                || message.as_deref().is_some_and(|m| m.starts_with("no such table") || m.starts_with("no such column"))
        }
        rusqlite::Error::InvalidColumnType(..) | rusqlite::Error::FromSqlConversionFailure(..) => true,
        _ => false,
    }
}

fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let mut connection = Connection::open(path)?;
    connection.busy_timeout(BUSY)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    connection.set_prepared_statement_cache_capacity(64);
    // Plans do not depend on the values bound: else SQLite prepares a statement anew each time it is run.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    let made: i32 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    if made != SCHEMA_MARK {
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        transaction.execute_batch(SCHEMA)?;
        transaction.pragma_update(None, "user_version", SCHEMA_MARK)?;
        transaction.commit()?;
    }
    Ok(connection)
}

/// Stands in a file that has all of [`SCHEMA`], so that it is not read and checked at each start: FNV-1a of its text, kept positive and not 0.
const SCHEMA_MARK: i32 = {
    let (text, mut hash, mut at) = (SCHEMA.as_bytes(), 0x811c_9dc5_u32, 0);
    while at < text.len() {
        hash = (hash ^ text[at] as u32).wrapping_mul(0x0100_0193);
        at += 1;
    }
    (hash & 0x7fff_fffe) as i32 + 1
};

/// Which file the records are in; 0 when there is none.
fn inode(root: &Path) -> u64 {
    std::fs::metadata(root.join(FILE)).map_or(0, |found| std::os::unix::fs::MetadataExt::ino(&found))
}

/// `damaged` is a file in which damage was met: it is set aside, if it is still the one in place.
fn open_or_rebuild(root: &Path, damaged: Option<u64>) -> Result<(Connection, bool)> {
    let path = root.join(FILE);
    // One process at a time looks at the file this way, so that none sets aside what another has just made anew.
    let lock = root.join("locks-v1/records");
    let guard = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&lock)
        .map_err(|e| Error::io("open lock", &lock, e))?;
    while let Err(error) = flock(&guard, FlockOperation::LockExclusive) {
        if error != rustix::io::Errno::INTR {
            return Err(Error::io("lock", &lock, error));
        }
    }
    let failed = |source| Error::Records { path: path.clone(), source };
    let known_bad = damaged.is_some_and(|damaged| damaged == inode(root));
    let opened = if known_bad { Err(rusqlite::Error::InvalidQuery) } else { connect(&path).and_then(check) };
    match opened {
        Ok(connection) => Ok((connection, false)),
        Err(error) if known_bad || is_damage(&error) => {
            tracing::warn!(%error, path = %path.display(), "the store's records are damaged; set aside and begun anew");
            for suffix in ["", "-wal", "-shm"] {
                let from = root.join(format!("{FILE}{suffix}"));
                let to = root.join(format!("{FILE}.damaged{suffix}"));
                match std::fs::rename(&from, &to) {
                    Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                        return Err(Error::io("set aside", from, error));
                    }
                    _ => {}
                }
            }
            connect(&path).map(|connection| (connection, true)).map_err(failed)
        }
        Err(error) => Err(failed(error)),
    }
}

/// A cheap look at every table's root page; deeper damage shows when it is met, and [`Db::run`] handles it there.
fn check(connection: Connection) -> rusqlite::Result<Connection> {
    // In one statement, so that the file is locked once.
    const LOOK: &str = "SELECT (SELECT 1 FROM snapshots LIMIT 1), (SELECT 1 FROM layer_blobs LIMIT 1), (SELECT 1 FROM images LIMIT 1), \
         (SELECT 1 FROM cache_links LIMIT 1), (SELECT 1 FROM cache_results LIMIT 1), (SELECT 1 FROM facts LIMIT 1), \
         (SELECT 1 FROM flats LIMIT 1), (SELECT 1 FROM usage LIMIT 1), (SELECT 1 FROM shares LIMIT 1)";
    connection.query_row(LOOK, [], |_| Ok(()))?;
    Ok(connection)
}
