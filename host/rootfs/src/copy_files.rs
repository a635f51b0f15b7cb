//! The regular files of a copy: queued while the directories are walked, copied by several threads, for most of a file's cost is a dozen system calls.
//!
//! What one file becomes depends on no other: names in a directory are told apart by the walk, and files of several names stay with it. Directories get their
//! times after the files that were queued before they were left.
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::copy::{Copy, CopyMode};
use crate::copy_again::{CopyAgain, CopyKey};
use crate::copy_entry::{Finish, copy_file, finish_open, is_taken, xattrs_of, xattrs_of_open};
use crate::file_ops::remove_all;
use crate::path::owned;
use crate::root::try_stat_at;
use crate::{Error, Result, Stat, Timestamp, Tree};

/// Files that wait at most.
const MOST_FILES: usize = 512;
/// Directories that wait at most: each holds two descriptors.
const MOST_DIRECTORIES: usize = 32;
/// Files, or bytes in several files, from which on a second thread is worth its start.
const WORTH_FILES: usize = 48;
const WORTH_BYTES: u64 = 4 << 20;
/// Files that a thread takes at once.
const BATCH: usize = 8;
/// More threads than this only wait for each other's locks in the file system.
const MOST_THREADS: usize = 8;

/// Name and value.
type Attribute = (Vec<u8>, Vec<u8>);

/// One file that waits.
pub(crate) struct Leaf {
    pub(crate) src: Arc<OwnedFd>,
    pub(crate) dst: Arc<OwnedFd>,
    /// In both directories.
    pub(crate) name: Vec<u8>,
    /// Path in the destination, for messages.
    pub(crate) target: Vec<u8>,
    pub(crate) stat: Stat,
    /// What an earlier copy made of it is looked for under this name, and in this directory.
    pub(crate) again: Option<(CopyKey, Option<Arc<OwnedFd>>)>,
}

/// Files that wait, and directories that wait for them.
pub(crate) struct Queue<'a, D> {
    files: Files<'a>,
    leaves: Vec<Leaf>,
    left: Vec<D>,
}

impl<'a, D> Queue<'a, D> {
    pub(crate) fn new(files: Files<'a>) -> Self {
        Self { files, leaves: Vec::new(), left: Vec::new() }
    }

    pub(crate) fn push(&mut self, leaf: Leaf) {
        self.leaves.push(leaf);
    }

    /// All that goes into `directory` is there or queued.
    pub(crate) fn leave(&mut self, directory: D) {
        self.left.push(directory);
    }

    pub(crate) fn is_full(&self) -> bool {
        self.leaves.len() >= MOST_FILES || self.left.len() >= MOST_DIRECTORIES
    }

    /// Copies all files that wait; answers the directories that waited for them, in the order in which they were left.
    pub(crate) fn copy(&mut self) -> Result<Vec<D>> {
        let leaves = std::mem::take(&mut self.leaves);
        let bytes: u64 = leaves.iter().map(|leaf| leaf.stat.size).sum();
        let worth = leaves.len() >= WORTH_FILES || (leaves.len() > 1 && bytes >= WORTH_BYTES);
        let threads = if worth { threads() } else { 1 };
        if threads < 2 {
            leaves.iter().try_for_each(|leaf| self.files.leaf(leaf))?;
            return Ok(std::mem::take(&mut self.left));
        }
        // Few large files are shared out one by one.
        let batch = BATCH.min(leaves.len() / threads).max(1);
        let next = AtomicUsize::new(0);
        // Of several failures that of the first file is told.
        let failed: Mutex<Option<(usize, Error)>> = Mutex::default();
        let work = || {
            loop {
                let first = next.fetch_add(batch, Ordering::Relaxed);
                if first >= leaves.len() {
                    return;
                }
                for (at, leaf) in leaves.iter().enumerate().skip(first).take(batch) {
                    if let Err(error) = self.files.leaf(leaf) {
                        next.store(leaves.len(), Ordering::Relaxed);
                        let mut failed = failed.lock().unwrap_or_else(PoisonError::into_inner);
                        if failed.as_ref().is_none_or(|(before, _)| at < *before) {
                            *failed = Some((at, error));
                        }
                        return;
                    }
                }
            }
        };
        std::thread::scope(|scope| {
            (1..threads).for_each(|_| drop(scope.spawn(work)));
            work();
        });
        match failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
            Some((_, error)) => Err(error),
            None => Ok(std::mem::take(&mut self.left)),
        }
    }
}

fn threads() -> usize {
    crate::processors().min(MOST_THREADS)
}

/// How files are copied: all that is the same for each.
#[derive(Clone, Copy)]
pub(crate) struct Files<'a> {
    pub(crate) tree: Option<&'a Tree>,
    pub(crate) options: &'a Copy,
    pub(crate) again: Option<&'a CopyAgain>,
}

impl Files<'_> {
    fn leaf(&self, leaf: &Leaf) -> Result<()> {
        let (from, to) = ((leaf.src.as_fd(), leaf.name.as_slice()), (leaf.dst.as_fd(), leaf.name.as_slice()));
        let (Some(again), Some((key, earlier))) = (self.again, &leaf.again) else {
            return self.copy(from, to, &leaf.stat, &owned(&leaf.target));
        };
        let linked = earlier
            .as_ref()
            .is_some_and(|earlier| again.link(key, earlier.as_fd(), to, &leaf.stat, &self.finish(&leaf.stat, &[])));
        if !linked {
            self.copy(from, to, &leaf.stat, &owned(&leaf.target))?;
        }
        again.note(*key);
        Ok(())
    }

    /// Copies one regular file, over what may be there.
    pub(crate) fn copy(
        &self,
        from: (BorrowedFd<'_>, &[u8]),
        to: (BorrowedFd<'_>, &[u8]),
        stat: &Stat,
        shown: &Path,
    ) -> Result<()> {
        let copied = match copy_file(from, to, shown) {
            // Seldom: it costs nothing where the name is free.
            Err(error) if is_taken(&error) => {
                self.make_room(to, shown)?;
                copy_file(from, to, shown)?
            }
            other => other?,
        };
        let xattrs = if self.tree.is_some() { Vec::new() } else { xattrs_of_open(&copied.source, shown)? };
        finish_open(&copied.target, &self.finish(stat, &xattrs), shown)
    }

    /// Takes away what stands where something is copied to.
    pub(crate) fn make_room(&self, to: (BorrowedFd<'_>, &[u8]), shown: &Path) -> Result<()> {
        match try_stat_at(to.0, to.1, shown)? {
            None => Ok(()),
            Some(there) if there.is_dir() && !self.options.always_replace => {
                Err(Error::DirectoryInTheWay { path: shown.to_path_buf() })
            }
            Some(_) => remove_all(to.0, to.1, shown),
        }
    }

    /// None of a context's: what this machine notes on files (labels, where they were downloaded from) is nobody else's business, and
    /// BuildKit's images have none of it either, file capabilities included.
    pub(crate) fn attributes(&self, dir: BorrowedFd<'_>, name: &[u8], shown: &Path) -> Result<Vec<Attribute>> {
        if self.tree.is_some() { Ok(Vec::new()) } else { xattrs_of(dir, name, shown) }
    }

    pub(crate) fn times(&self, stat: &Stat) -> (Timestamp, Timestamp) {
        match self.options.timestamp {
            Some(at) => (at, at),
            None => (stat.atime, stat.mtime),
        }
    }

    pub(crate) fn finish<'x>(&self, stat: &Stat, xattrs: &'x [(Vec<u8>, Vec<u8>)]) -> Finish<'x> {
        let (atime, mtime) = self.times(stat);
        let mode = self.tree.map_or(stat.mode, |tree| tree.mode(stat));
        let mode = match &self.options.mode {
            CopyMode::Keep => mode,
            CopyMode::Bits(bits) => bits & 0o7777,
            CopyMode::Change(change) => change.apply(mode, stat.is_dir()),
        };
        let owner = match self.tree {
            Some(tree) => tree.owner(stat),
            None => stat.owner,
        };
        Finish {
            owner: Some(self.options.owner.unwrap_or(owner)),
            owners: self.options.owners,
            mode: (!stat.is_symlink()).then_some(mode),
            atime,
            mtime,
            xattrs,
        }
    }
}
