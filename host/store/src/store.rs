//! The store itself: where it lies, how hard it makes sure, and what it is made of.
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rhost_rootfs::OverlayXattrs;

use crate::cache_mount::cache_mounts_dir;
use crate::db::Db;
use crate::in_use::{USES_DIR, Uses};
use crate::{Error, Result};

/// How much is done so that a power cut loses nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// Blobs are flushed to the disk before they are published. Snapshots are not (flushing a directory tree at each step costs more than the
    /// step): call [`Store::flush`] where that matters.
    Flush,
    /// Nothing is flushed; damage is found when an entry is next read, and is a miss. Safe against a crash of the process, not of the machine.
    Fast,
}

/// Choices that a caller has to make.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoreOptions {
    /// How hard to make sure.
    pub durability: Durability,
    /// How overlayfs will be mounted: decides the marks in snapshots. A store serves one kind (they are kept in different buckets).
    pub overlay: OverlayXattrs,
}

/// A store on disk. Cheap to clone; usable from many threads, and from many processes at once.
#[derive(Clone)]
pub struct Store {
    pub(crate) inner: Arc<Inner>,
    /// What is used through this handle and its clones.
    pub(crate) uses: Arc<Uses>,
}

pub(crate) struct Inner {
    pub(crate) root: PathBuf,
    pub(crate) options: StoreOptions,
    pub(crate) db: Db,
    pub(crate) warnings: Mutex<Vec<String>>,
}

impl Store {
    /// Opens the store at `root`, making what is missing.
    ///
    /// # Errors
    /// The directory cannot be made or written, or holds a record file that cannot even be set aside.
    pub fn open(root: impl AsRef<Path>, options: StoreOptions) -> Result<Self> {
        let root = root.as_ref();
        for dir in [
            "blobs-v1/blobs/sha256",
            "ingest-v1",
            snapshots_dir(options.overlay),
            cache_mounts_dir(options.overlay),
            "locks-v1",
            crate::work::WORK_DIR,
            USES_DIR,
        ] {
            let path = root.join(dir);
            std::fs::create_dir_all(&path).map_err(|e| Error::io("create directory", &path, e))?;
        }
        let root = std::fs::canonicalize(root).map_err(|e| Error::io("resolve", root, e))?;
        crate::blob::write_layout_marker(&root)?;
        crate::version::check(&root)?;
        let db = Db::open(&root)?;
        let inner = Arc::new(Inner { root, options, db, warnings: Mutex::default() });
        let store = Self { uses: Arc::new(Uses::new(inner.clone())), inner };
        if store.inner.db.take_rebuilt() {
            store.restore_names()?;
        }
        Ok(store)
    }

    /// What a person should know of the store's health, since the last call.
    pub fn take_warnings(&self) -> Vec<String> {
        std::mem::take(&mut *self.inner.warnings.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether damaged records were begun anew since this was last asked; what can be restored of them is.
    pub fn restore_lost_records(&self) -> bool {
        self.inner.db.take_rebuilt() && self.restore_names().is_ok()
    }

    pub(crate) fn warn(&self, text: String) {
        tracing::warn!("{text}");
        self.inner.warnings.lock().unwrap_or_else(PoisonError::into_inner).push(text);
    }

    /// Where it lies.
    pub fn root(&self) -> &Path {
        &self.inner.root
    }

    /// The OCI image layout that holds the blobs.
    pub fn layout_dir(&self) -> PathBuf {
        self.inner.root.join("blobs-v1")
    }

    /// Flushes the file system that holds the store.
    pub fn flush(&self) -> Result<()> {
        let root = std::fs::File::open(self.root()).map_err(|e| Error::io("open", self.root(), e))?;
        rustix::fs::syncfs(&root).map_err(|e| Error::io("flush", self.root(), e))
    }

    /// The choices it was opened with.
    pub fn options(&self) -> StoreOptions {
        self.inner.options
    }
}

pub(crate) fn snapshots_dir(overlay: OverlayXattrs) -> &'static str {
    match overlay {
        OverlayXattrs::Trusted => "snapshots-v1",
        OverlayXattrs::User => "snapshots-user-v1",
    }
}
