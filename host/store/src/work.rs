//! Work that several processes may want: one of them holds it, the others see what it says and wait.
//!
//! A piece of work is a file under `work-v1`, named by the hash of its name. Whoever holds the exclusive `flock` on it does the work and
//! appends what it has to say, in frames; the others read the file and learn from the lock when the holder is done or gone. The kernel gives
//! the lock back with the last descriptor, whatever ends the process, so a crash hands the work over and leaves nothing but a file that the next
//! holder empties. The result itself is not here: it is found where results are kept.
//!
//! Order of locks, so that no two processes wait for each other: a step's work (held while the step runs, never while waiting for another
//! step's), then its cache mounts in the order of their keys, then one layer of an image, then one download. Nobody who holds a later one
//! waits for an earlier one.
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::PoisonError;

use rhost_llb::Digest;
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use crate::{Error, Result, Store};

pub(crate) const WORK_DIR: &str = "work-v1";

/// What a holder says at most, in bytes: whoever waits gets the beginning of a longer log.
const MOST_SAID: u64 = 16 << 20;

/// Longest frame that a reader believes.
const LONGEST_FRAME: usize = 1 << 20;

/// Work that this process does. Given back when dropped.
#[derive(Debug)]
pub struct Work {
    path: PathBuf,
    said: Mutex<Said>,
}

#[derive(Debug)]
struct Said {
    file: File,
    bytes: u64,
    full: bool,
}

/// Work that another process does, to be listened to.
#[derive(Debug)]
pub struct OthersWork {
    path: PathBuf,
    file: File,
    rest: Vec<u8>,
}

/// Something that the holder said: a number whose meaning is the caller's, and bytes.
pub type Frame = (u8, Vec<u8>);

impl Store {
    fn work_path(&self, name: &str) -> PathBuf {
        self.inner.root.join(WORK_DIR).join(Digest::of(name).hex())
    }

    /// The work `name`, if nobody holds it. Does not block.
    pub fn try_work(&self, name: &str) -> Result<Option<Work>> {
        let path = self.work_path(name);
        loop {
            let file = OpenOptions::new()
                .create(true)
                .truncate(false)
                .write(true)
                .mode(0o600)
                .open(&path)
                .map_err(|e| Error::io("open", &path, e))?;
            if !try_flock(&file, FlockOperation::NonBlockingLockExclusive, &path)? {
                return Ok(None);
            }
            let found = file.metadata().map_err(|e| Error::io("stat", &path, e))?;
            // Its last holder removed it between our open and our lock.
            if found.nlink() == 0 {
                continue;
            }
            if found.len() > 0 {
                file.set_len(0).map_err(|e| Error::io("truncate", &path, e))?;
            }
            return Ok(Some(Work { path, said: Mutex::new(Said { file, bytes: 0, full: false }) }));
        }
    }

    /// The work `name` as others do it; `None` when nobody does.
    pub fn others_work(&self, name: &str) -> Result<Option<OthersWork>> {
        let path = self.work_path(name);
        match File::open(&path) {
            Ok(file) => Ok(Some(OthersWork { path, file, rest: Vec::new() })),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::io("open", path, error)),
        }
    }
}

fn try_flock(file: &File, how: FlockOperation, path: &Path) -> Result<bool> {
    loop {
        match flock(file, how) {
            Ok(()) => return Ok(true),
            Err(Errno::INTR) => {}
            Err(Errno::WOULDBLOCK) => return Ok(false),
            Err(error) => return Err(Error::io("lock", path, error)),
        }
    }
}

impl Work {
    /// Says something to whoever listens. Best effort: a full disk silences it, the work goes on.
    pub fn say(&self, kind: u8, bytes: &[u8]) {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        for chunk in bytes.chunks(LONGEST_FRAME) {
            if said.full {
                return;
            }
            let mut frame = Vec::with_capacity(chunk.len() + 5);
            frame.push(kind);
            frame.extend((chunk.len() as u32).to_le_bytes());
            frame.extend(chunk);
            said.bytes += frame.len() as u64;
            said.full = said.bytes > MOST_SAID || said.file.write_all(&frame).is_err();
        }
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        // While the lock is still held: whoever opened it before sees that it has no name any more.
        let _ = std::fs::remove_file(&self.path);
    }
}

impl OthersWork {
    /// The file to watch: it changes when the holder says something, and is closed when the holder is done or gone.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What was said since the last call.
    pub fn heard(&mut self) -> Result<Vec<Frame>> {
        self.file.read_to_end(&mut self.rest).map_err(|e| Error::io("read", &self.path, e))?;
        let (mut frames, mut at) = (Vec::new(), 0);
        while let Some(head) = self.rest.get(at..at + 5) {
            let length = u32::from_le_bytes([head[1], head[2], head[3], head[4]]) as usize;
            let Some(bytes) = self.rest.get(at + 5..at + 5 + length).filter(|_| length <= LONGEST_FRAME) else { break };
            frames.push((head[0], bytes.to_vec()));
            at += 5 + length;
        }
        self.rest.drain(..at);
        Ok(frames)
    }

    /// Whether the holder is done or gone.
    pub fn is_over(&self) -> Result<bool> {
        if self.file.metadata().map_err(|e| Error::io("stat", &self.path, e))?.nlink() == 0 {
            return Ok(true);
        }
        // A shared lock for a moment: many may look at once.
        let over = try_flock(&self.file, FlockOperation::NonBlockingLockShared, &self.path)?;
        if over {
            try_flock(&self.file, FlockOperation::Unlock, &self.path)?;
        }
        Ok(over)
    }
}
