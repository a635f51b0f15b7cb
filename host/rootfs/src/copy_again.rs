//! Copying a context once more: a file that is as it was when the same step last ran is a hard link to what that run made of it, not a copy. A layer is
//! never written to again, and who writes to a file of a lower layer gets a copy from overlayfs, so nobody can tell.
//!
//! A file is the same if its digest (owner, mode, size, bytes) and its place are, and the link is taken only where size, owner, mode and time of what lies
//! there are what a copy would have given it.
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rhost_llb::Digest;
use rustix::fs::AtFlags;

use crate::copy_entry::Finish;
use crate::path::os;
use crate::root::{self, stat_at};
use crate::{Root, Stat};

/// Names a file that was copied: where to, and its digest.
pub type CopyKey = [u8; 16];

/// What the last run of the same copy left, and what this one makes.
#[derive(Debug, Default)]
pub struct CopyAgain {
    earlier: Option<Earlier>,
    /// The directory of the layer that is written to, where the destination is a mounted view of it.
    upper: Option<Root>,
    made: Mutex<Vec<CopyKey>>,
    linked: AtomicUsize,
}

#[derive(Debug)]
struct Earlier {
    layer: Root,
    /// Sorted.
    keys: Vec<CopyKey>,
}

impl CopyAgain {
    /// `upper` is the directory of the layer where the destination is an overlay over others.
    #[must_use]
    pub fn new(upper: Option<Root>) -> Self {
        Self { upper, ..Self::default() }
    }

    /// `layer` is the directory of the layer that an earlier copy made, on the same file system; `keys` those of its files.
    #[must_use]
    pub fn after(mut self, layer: Root, mut keys: Vec<CopyKey>) -> Self {
        keys.sort_unstable();
        self.earlier = Some(Earlier { layer, keys });
        self
    }

    /// The keys of what was made, and how many of the files are links to the earlier layer's.
    pub fn made(self) -> (Vec<CopyKey>, usize) {
        (self.made.into_inner().unwrap_or_else(PoisonError::into_inner), self.linked.into_inner())
    }

    pub(crate) fn upper(&self) -> Option<&Root> {
        self.upper.as_ref()
    }

    /// The directory that became `target`, below what became the directory above it.
    pub(crate) fn directory(&self, above: Option<&Arc<OwnedFd>>, name: &[u8], target: &[u8]) -> Option<Arc<OwnedFd>> {
        let earlier = self.earlier.as_ref()?;
        let fd = match above {
            Some(above) => root::open_subdir(above, name, std::path::Path::new(os(target))),
            None => earlier.layer.open_dir(target),
        };
        fd.ok().map(Arc::new)
    }

    pub(crate) fn key(target: &[u8], digest: &Digest) -> CopyKey {
        let mut hasher = blake3::Hasher::new();
        let hash = hasher.update(digest.as_raw()).update(target).finalize();
        std::array::from_fn(|index| hash.as_bytes()[index])
    }

    /// Makes `to` a link to the file of that name in `earlier`, if that is what a copy would be.
    pub(crate) fn link(
        &self,
        key: &CopyKey,
        earlier: BorrowedFd<'_>,
        (dir, name): (BorrowedFd<'_>, &[u8]),
        stat: &Stat,
        wanted: &Finish<'_>,
    ) -> bool {
        if !self.earlier.as_ref().is_some_and(|earlier| earlier.keys.binary_search(key).is_ok()) {
            return false;
        }
        if rustix::fs::linkat(earlier, os(name), dir, os(name), AtFlags::empty()).is_err() {
            return false;
        }
        let is_same = stat_at(dir, name, std::path::Path::new(os(name))).is_ok_and(|found| {
            found.is_file()
                && (found.size, found.mtime) == (stat.size, wanted.mtime)
                && wanted.owner.is_none_or(|owner| owner == found.owner)
                && wanted.mode.is_none_or(|mode| mode & 0o7777 == found.mode & 0o7777)
        });
        if is_same {
            self.linked.fetch_add(1, Ordering::Relaxed);
            return true;
        }
        // A name that cannot be taken back is met by the copy.
        let _ = rustix::fs::unlinkat(dir.as_fd(), os(name), AtFlags::empty());
        false
    }

    pub(crate) fn note(&self, key: CopyKey) {
        self.made.lock().unwrap_or_else(PoisonError::into_inner).push(key);
    }
}
