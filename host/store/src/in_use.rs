//! What a build has in use, told to every other process at the price of one short write.
//!
//! A store handle of one build ([`Store::for_build`]) appends the snapshots and blobs that it comes to rely on to a file of its own under
//! `uses-v1`, and holds an exclusive `flock` on the file; so what a dead process used is free at once. The collector and the build
//! cannot miss each other: a build first writes down the use and then looks whether the thing is there; the collector first takes the thing
//! away (its record, its name) and then reads the files, and puts back what somebody uses. Whoever looks in between has a miss.
//!
//! Only the topmost snapshot of a chain is written down: a snapshot that has others on top of it is never collected.
use std::collections::{HashMap, HashSet};
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::PathBuf;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use rhost_llb::{BlobDigest, Digest};
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use crate::blob::{STAMPS, stamp};
use crate::store::Inner;
use crate::usage::{Made, disk_size};
use crate::{Error, Result, SnapshotId, SnapshotInfo, Store};

pub(crate) const USES_DIR: &str = "uses-v1";

/// Between the name of a build's file of uses and the number of a layer that it began.
const OF_BUILD: &str = "-layer";

/// Lower directories of a snapshot that is remembered to be whole.
const MOST_REMEMBERED: usize = 128;

/// Kind, then 32 bytes: a digest, or a number filled up with zeros.
const ENTRY: usize = 33;

/// Something that a build relies on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Use {
    Snapshot(SnapshotId),
    Blob(BlobDigest),
}

impl Use {
    fn bytes(self) -> [u8; ENTRY] {
        let mut bytes = [0; ENTRY];
        match self {
            Self::Snapshot(id) => {
                bytes[0] = 1;
                bytes[1..9].copy_from_slice(&id.0.to_le_bytes());
            }
            Self::Blob(digest) => {
                bytes[0] = 2;
                bytes[1..].copy_from_slice(digest.0.as_raw());
            }
        }
        bytes
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let (kind, rest) = bytes.split_first()?;
        match kind {
            1 => Some(Self::Snapshot(SnapshotId(i64::from_le_bytes(*rest.first_chunk()?)))),
            2 => Some(Self::Blob(BlobDigest(Digest::from_raw(rest.try_into().ok()?)))),
            _ => None,
        }
    }
}

/// The uses of one build. Its end frees them, and remembers when they were last used.
pub(crate) struct Uses {
    inner: Arc<Inner>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    file: Option<(PathBuf, File)>,
    known: HashSet<Use>,
    /// How many of them are remembered: there are never fewer of them.
    remembered: usize,
    /// Layers begun so far.
    layers: u64,
    /// The directories to mount for snapshots that were made: in use, they stay.
    standing: HashMap<SnapshotId, Vec<PathBuf>>,
    /// What this build has made, as it was recorded then.
    snapshots: HashMap<SnapshotId, SnapshotInfo>,
    /// Used, but not relied on.
    touched: HashSet<Use>,
    made: Vec<Made>,
    meter: Option<Meter>,
}

/// Measures layers beside the build.
struct Meter {
    layers: Sender<(String, PathBuf)>,
    thread: JoinHandle<Vec<Made>>,
}

impl Meter {
    fn start() -> Option<Self> {
        let (layers, received) = channel::<(String, PathBuf)>();
        let work =
            move || received.into_iter().map(|(name, dir)| Made::Layer { name, size: disk_size(&dir) }).collect();
        let thread = std::thread::Builder::new().name("rhost-meter".into()).spawn(work).ok()?;
        Some(Self { layers, thread })
    }
}

impl Uses {
    pub(crate) fn new(inner: Arc<Inner>) -> Self {
        Self { inner, state: Mutex::default() }
    }

    /// Writes down `what`, before it is looked whether it is there.
    pub(crate) fn add(&self, what: Use) -> Result<()> {
        self.add_all(std::iter::once(what))
    }

    /// As [`Uses::add`] for several, in one write.
    pub(crate) fn add_all(&self, what: impl Iterator<Item = Use>) -> Result<()> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let new: Vec<Use> = what.filter(|what| !state.known.contains(what)).collect();
        if new.is_empty() {
            return Ok(());
        }
        if state.file.is_none() {
            state.file = Some(self.create()?);
        }
        if let Some((path, file)) = &mut state.file {
            let bytes: Vec<u8> = new.iter().flat_map(|what| what.bytes()).collect();
            file.write_all(&bytes).map_err(|e| Error::io("write", path.as_path(), e))?;
        }
        state.known.extend(new);
        Ok(())
    }

    /// Remembers at the end that `ids` were of use, though the build does not rely on their being there.
    pub(crate) fn touch(&self, ids: &[SnapshotId]) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.touched.extend(ids.iter().map(|id| Use::Snapshot(*id)));
    }

    /// From now on a crash of this build is noticed by the next.
    pub(crate) fn begin(&self) -> Result<()> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.file.is_none() {
            state.file = Some(self.create()?);
        }
        Ok(())
    }

    /// A name for a layer that is begun: it tells whose it is ([`Store::is_begun`]).
    pub(crate) fn layer_name(&self) -> Result<String> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.layers += 1;
        let count = state.layers;
        let (path, _) = match &mut state.file {
            Some(file) => file,
            none => none.insert(self.create()?),
        };
        let own = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        Ok(format!("{own}{OF_BUILD}{count}"))
    }

    /// Remembers a snapshot that was made, and the directories below its own.
    pub(crate) fn made(&self, info: SnapshotInfo, lowers: &[PathBuf]) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        // Long ones are mounted in another form from time to time.
        if !info.apart && lowers.len() < MOST_REMEMBERED {
            state.standing.insert(info.id, [std::slice::from_ref(&info.dir), lowers].concat());
        }
        state.snapshots.insert(info.id, info);
    }

    pub(crate) fn made_snapshot(&self, id: SnapshotId) -> Option<SnapshotInfo> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).snapshots.get(&id).cloned()
    }

    /// Snapshots are being removed.
    pub(crate) fn forget_standing(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.standing.clear();
        state.snapshots.clear();
    }

    pub(crate) fn standing(&self, id: SnapshotId) -> Option<Vec<PathBuf>> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.standing.get(&id).cloned()
    }

    pub(crate) fn is_standing(&self, id: SnapshotId) -> bool {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).standing.contains_key(&id)
    }

    fn create(&self) -> Result<(PathBuf, File)> {
        loop {
            let path = self.inner.root.join(USES_DIR).join(crate::lock::unique_name());
            let file = OpenOptions::new().append(true).create_new(true).mode(0o600).open(&path);
            let file = file.map_err(|e| Error::io("create", &path, e))?;
            // A collector that came between may have taken it for a dead one's.
            let held = flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok();
            if held && file.metadata().is_ok_and(|found| found.nlink() > 0) {
                return Ok((path, file));
            }
        }
    }
}

impl Uses {
    /// A layer that was made: it is measured.
    pub(crate) fn made_layer(&self, name: &str, dir: PathBuf) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.meter.is_none() {
            state.meter = Meter::start();
        }
        // Where no thread is to be had, whoever asks measures.
        if let Some(meter) = &state.meter {
            let _ = meter.layers.send((name.to_owned(), dir));
        }
    }

    /// A flat that was made, with its size.
    pub(crate) fn made_flat(&self, name: &str, size: u64) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.made.push(Made::Layer { name: name.to_owned(), size });
    }

    /// A blob that was written.
    pub(crate) fn made_blob(&self, digest: BlobDigest, size: u64) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.made.push(Made::Blob { digest, size: size.next_multiple_of(4096) });
    }

    /// Remembers what was used and made; whether something was made.
    pub(crate) fn remember(&self) -> bool {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let mut made = std::mem::take(&mut state.made);
        if let Some(Meter { layers, thread }) = state.meter.take() {
            drop(layers);
            made.extend(thread.join().unwrap_or_default());
        }
        let mut used = std::mem::take(&mut state.touched);
        if state.remembered < state.known.len() {
            used.extend(&state.known);
            state.remembered = state.known.len();
        }
        if !used.is_empty() || !made.is_empty() {
            // When things were used decides only what is collected first; what was not measured is measured later.
            if let Err(error) = self.inner.db.remember(&used, &made) {
                tracing::debug!(%error, "what was used is not remembered");
            }
            let stamps = made.iter().filter_map(|made| match made {
                Made::Blob { digest, .. } => {
                    let path = self.inner.root.join("blobs-v1/blobs/sha256").join(digest.0.hex());
                    Some((digest.0.as_raw().to_vec(), stamp(&path)?))
                }
                Made::Layer { .. } => None,
            });
            let stamps: Vec<_> = stamps.collect();
            if !stamps.is_empty() {
                // Without a stamp the blob is hashed when it is next used.
                let _ = self.inner.db.set_facts(STAMPS, &stamps);
            }
        }
        !made.is_empty()
    }
}

impl Drop for Uses {
    fn drop(&mut self) {
        self.remember();
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some((path, _file)) = state.file.take() {
            // While it is still locked. What cannot be removed is removed by the next collector.
            let _ = std::fs::remove_file(path);
        }
    }
}

impl Store {
    /// The same store for one build: what is used through it, and through its clones, is in use until the last of them is dropped.
    #[must_use]
    pub fn for_build(&self) -> Self {
        Self { inner: self.inner.clone(), uses: Arc::new(Uses::new(self.inner.clone())) }
    }

    /// Writes down what was used and made through this handle so far; whether something was made. Its end does so too.
    pub fn remember_uses(&self) -> bool {
        self.uses.remember()
    }

    /// Clears away what a crash has left, if there was one; cheap where there was none. Whether there was.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn recover(&self) -> Result<bool> {
        let dir = self.inner.root.join(USES_DIR);
        let entries = std::fs::read_dir(&dir).map_err(|e| Error::io("list", &dir, e))?;
        let is_dead = |path: PathBuf| {
            File::open(path).is_ok_and(|file| flock(&file, FlockOperation::NonBlockingLockShared).is_ok())
        };
        if !entries.flatten().any(|entry| is_dead(entry.path())) {
            return Ok(false);
        }
        // Somebody else is at it already.
        let Some(_alone) = self.try_lock("collector")? else { return Ok(false) };
        self.sweep()?;
        Ok(true)
    }

    /// Whether the layer called `name` was begun by a build that lives.
    pub(crate) fn is_begun(&self, name: &str) -> bool {
        let Some((own, _)) = name.rsplit_once(OF_BUILD) else { return false };
        File::open(self.inner.root.join(USES_DIR).join(own))
            .is_ok_and(|file| flock(&file, FlockOperation::NonBlockingLockShared) == Err(Errno::WOULDBLOCK))
    }

    /// What living builds use.
    pub(crate) fn in_use(&self) -> Result<HashSet<Use>> {
        let dir = self.inner.root.join(USES_DIR);
        let mut found = HashSet::new();
        for entry in std::fs::read_dir(&dir).map_err(|e| Error::io("list", &dir, e))? {
            let path = entry.map_err(|e| Error::io("list", &dir, e))?.path();
            let mut file = match File::open(&path) {
                Ok(file) => file,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                Err(error) => return Err(Error::io("open", path, error)),
            };
            match flock(&file, FlockOperation::NonBlockingLockShared) {
                // A dead build's: it goes with what that left.
                Ok(()) => continue,
                Err(Errno::WOULDBLOCK) => {}
                Err(error) => return Err(Error::io("lock", path, error)),
            }
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes).map_err(|e| Error::io("read", &path, e))?;
            found.extend(bytes.chunks_exact(ENTRY).filter_map(Use::read));
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_read_as_written() {
        for what in [Use::Snapshot(SnapshotId(i64::MAX)), Use::Blob(BlobDigest(Digest::of("x")))] {
            assert_eq!(Use::read(&what.bytes()), Some(what));
        }
        assert_eq!(Use::read(&[9; ENTRY]), None, "from a newer rhost");
        assert_eq!(Use::read(&[1; 5]), None, "cut short");
    }
}
