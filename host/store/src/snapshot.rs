//! Snapshots: directory layers with a chain of parents, described to who mounts them as values.
//!
//! This module mounts nothing. A new layer is a directory pair `fs` and `work` under a name of its own; committing it renames nothing: the
//! record in the database, written last, is what makes it a snapshot. A directory without a record is rubbish that a sweep removes, a
//! record without a directory is a miss.
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use rhost_llb::{BlobDigest, ChainId, DiffId};
use rhost_rootfs::OverlayXattrs;

use crate::in_use::Use;
use crate::store::{Store, snapshots_dir};
use crate::{BlobRecord, Error, Result};

/// Names a committed snapshot in one store. Never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SnapshotId(pub i64);

impl std::fmt::Display for SnapshotId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// How a snapshot is mounted, as values for overlayfs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountSpec {
    /// Lower directories, topmost first (the order of `lowerdir=` and of repeated `lowerdir+`).
    pub lowers: Vec<PathBuf>,
    /// Directory that takes what is written; `None` for a read-only mount.
    pub upper: Option<PathBuf>,
    /// overlayfs's work directory, beside `upper`.
    pub work: Option<PathBuf>,
    /// `userxattr` must be given (mounted in a user namespace).
    pub userxattr: bool,
}

/// What is recorded of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotInfo {
    /// Its id.
    pub id: SnapshotId,
    /// The layer below.
    pub parent: Option<SnapshotId>,
    /// The directory that holds this layer alone.
    pub dir: PathBuf,
    /// The directory to mount in place of `dir`, where what the layer marks as removed was never there.
    pub mounted: Option<PathBuf>,
    /// The layer was written on other layers than those below it here.
    pub apart: bool,
    /// Digest of this layer as a tar, once known.
    pub diff_id: Option<DiffId>,
    /// Unix seconds.
    pub created: i64,
}

impl SnapshotInfo {
    /// Whether its directory is there. A layer of an image may be recorded before it is laid down.
    pub fn is_present(&self) -> bool {
        self.dir.is_dir()
    }

    /// Whether [`Store::fit`] is wanted before it is mounted: it stands apart from what it was written on, and nobody has looked at its marks.
    pub fn is_unfit(&self) -> bool {
        self.apart && !self.mounted.as_ref().is_some_and(|dir| dir.is_dir())
    }
}

/// A layer being written. Dropped without commit its directory is removed.
#[derive(Debug)]
pub struct ActiveSnapshot {
    store: Store,
    dir: PathBuf,
    parent: Option<SnapshotId>,
    mount: MountSpec,
    /// overlayfs's work directory was made.
    mounted: AtomicBool,
    finished: bool,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Store").field(&self.inner.root).finish()
    }
}

impl ActiveSnapshot {
    /// How it is mounted. With no lowers, `upper` can be written to directly, no mount needed. What overlayfs works in is made now.
    ///
    /// # Errors
    /// The disk.
    pub fn mount(&self) -> Result<&MountSpec> {
        if let Some(work) = self.mount.work.as_ref().filter(|_| !self.mounted.swap(true, Ordering::Relaxed)) {
            std::fs::create_dir(work).map_err(|e| Error::io("create directory", work, e))?;
        }
        Ok(&self.mount)
    }

    /// Whether it is, or may be, mounted.
    pub fn is_mounted(&self) -> bool {
        self.mounted.load(Ordering::Relaxed) && !self.mount.lowers.is_empty()
    }

    /// The directories below, topmost first.
    pub fn lowers(&self) -> &[PathBuf] {
        &self.mount.lowers
    }

    /// The directory that takes what is written.
    pub fn upper(&self) -> PathBuf {
        self.dir.join("fs")
    }

    /// The snapshot below.
    pub fn parent(&self) -> Option<SnapshotId> {
        self.parent
    }

    /// Makes it a snapshot. Nothing may be written to it afterwards; unmount first.
    pub fn commit(self) -> Result<SnapshotId> {
        self.commit_with(false, "")
    }

    /// As [`ActiveSnapshot::commit`] for a layer that says something about layers which are not below it: a difference that was computed.
    pub fn commit_apart(self) -> Result<SnapshotId> {
        self.commit_with(true, "")
    }

    /// As [`ActiveSnapshot::commit`]; `description` is for people who ask what takes their disk.
    pub fn commit_as(self, description: &str) -> Result<SnapshotId> {
        self.commit_with(false, description)
    }

    fn commit_with(mut self, apart: bool, description: &str) -> Result<SnapshotId> {
        if *self.mounted.get_mut() {
            let work = self.dir.join("work");
            // Nearly always one empty directory is left in it.
            let _ = std::fs::remove_dir(work.join("work"));
            if std::fs::remove_dir(&work).is_err() {
                let _ = remove_tree(&self.store, &work);
            }
        }
        let name = self.dir.file_name().and_then(|n| n.to_str()).unwrap_or_default().to_owned();
        let bucket = snapshots_dir(self.store.options().overlay);
        let id = self.store.inner.db.add_snapshot(bucket, &name, self.parent, apart, description)?;
        self.finished = true;
        // Until this build ends, its file of uses keeps the collector away.
        self.store.uses.add(Use::Snapshot(id))?;
        self.store.uses.made_layer(&name, self.dir.clone());
        let info = SnapshotInfo {
            id,
            parent: self.parent,
            dir: self.upper(),
            mounted: None,
            apart,
            diff_id: None,
            created: crate::db::now(),
        };
        self.store.uses.made(info, &self.mount.lowers);
        Ok(id)
    }
}

impl Drop for ActiveSnapshot {
    fn drop(&mut self) {
        if !self.finished {
            // What stays behind has no record, and is swept later.
            let _ = remove_tree(&self.store, &self.dir);
        }
    }
}

pub(crate) fn remove_tree(store: &Store, dir: &Path) -> Result<()> {
    let bucket = store.inner.root.join(snapshots_dir(store.options().overlay));
    let relative = dir.strip_prefix(&bucket).unwrap_or(dir);
    let root = rhost_rootfs::Root::open(&bucket)?;
    let name = relative.to_str().unwrap_or_default();
    Ok(rhost_rootfs::rm(&root, name, rhost_rootfs::Rm { allow_not_found: true, wildcard: false })?)
}

impl Store {
    pub(crate) fn bucket(&self) -> PathBuf {
        self.inner.root.join(snapshots_dir(self.options().overlay))
    }

    /// Begins a layer on top of `parent`.
    ///
    /// # Errors
    /// [`Error::NoSnapshot`] when `parent` is gone.
    pub fn prepare(&self, parent: Option<SnapshotId>) -> Result<ActiveSnapshot> {
        let lowers = match parent {
            Some(id) => self.layers(id)?.ok_or(Error::NoSnapshot { id: id.0 })?,
            None => Vec::new(),
        };
        // As long as the file of uses is held, nobody takes its layers for rubbish.
        let dir = self.bucket().join(self.uses.layer_name()?);
        for path in [&dir, &dir.join("fs")] {
            std::fs::create_dir(path).map_err(|e| Error::io("create directory", path, e))?;
        }
        let mount = MountSpec {
            lowers,
            upper: Some(dir.join("fs")),
            work: Some(dir.join("work")),
            userxattr: self.options().overlay == OverlayXattrs::User,
        };
        Ok(ActiveSnapshot { store: self.clone(), dir, parent, mount, mounted: AtomicBool::new(false), finished: false })
    }

    /// How snapshot `id` is mounted read-only; `None` when it or a layer below it is gone. One lower only: bind it instead of mounting overlayfs.
    pub fn mount(&self, id: SnapshotId) -> Result<Option<MountSpec>> {
        let userxattr = self.options().overlay == OverlayXattrs::User;
        Ok(self.layers(id)?.map(|lowers| MountSpec { lowers, upper: None, work: None, userxattr }))
    }

    /// The directories to mount for `id`, topmost first, each once; `None` when one is gone. In a chain that is too long for overlayfs the lower part is
    /// one directory ([`Store::wants_flat`]).
    ///
    /// # Errors
    /// [`Error::NotFlat`] where that one is not there.
    pub fn layers(&self, id: SnapshotId) -> Result<Option<Vec<PathBuf>>> {
        if let Some(known) = self.uses.standing(id) {
            return Ok(Some(known));
        }
        self.chain(id)?.map(|chain| self.lowers(&chain)).transpose()
    }

    /// Whether this build has made `id`, so that it and all that it stands on can be mounted.
    pub fn is_standing(&self, id: SnapshotId) -> bool {
        self.uses.is_standing(id)
    }

    /// The records of `id` and its parents, topmost first; `None` when one of them, or its directory, is gone.
    pub fn chain(&self, id: SnapshotId) -> Result<Option<Vec<SnapshotInfo>>> {
        Ok(self.records(id)?.filter(|chain| chain.iter().all(SnapshotInfo::is_present)))
    }

    /// What is recorded of `id`.
    pub fn snapshot(&self, id: SnapshotId) -> Result<Option<SnapshotInfo>> {
        Ok(self.inner.db.snapshot(id, snapshots_dir(self.options().overlay))?.filter(SnapshotInfo::is_present))
    }

    /// The snapshot of an image's layers up to `chain`, if all of them are laid down.
    pub fn snapshot_of_chain(&self, chain: &ChainId) -> Result<Option<SnapshotId>> {
        let bucket = snapshots_dir(self.options().overlay);
        match self.inner.db.snapshot_of_chain(bucket, chain)? {
            Some(id) if self.chain(id)?.is_some() => Ok(Some(id)),
            _ => Ok(None),
        }
    }

    /// The numbers of all snapshots. Does not count as use.
    pub fn snapshot_ids(&self) -> Result<HashSet<SnapshotId>> {
        let rows = self.inner.db.snapshot_rows(snapshots_dir(self.options().overlay))?;
        Ok(rows.into_iter().map(|row| row.id).collect())
    }

    /// Records the diff id of a snapshot, once its layer has been written as a tar. It holds for every snapshot that has this layer.
    pub fn set_diff_id(&self, id: SnapshotId, diff_id: DiffId) -> Result<()> {
        self.inner.db.set_diff_id(id, diff_id)
    }

    /// Records that `blob` holds layer `diff_id`.
    pub fn link_blob(&self, diff_id: &DiffId, blob: &BlobRecord) -> Result<()> {
        self.inner.db.link_blob(diff_id, blob)
    }

    /// The stored blobs that hold layer `diff_id`; those whose bytes are gone are left out.
    pub fn blobs_of(&self, diff_id: &DiffId) -> Result<Vec<BlobRecord>> {
        Ok(self.blobs_of_all(std::slice::from_ref(diff_id))?.pop().unwrap_or_default())
    }

    /// As [`Store::blobs_of`] for several, in order.
    pub fn blobs_of_all(&self, diff_ids: &[DiffId]) -> Result<Vec<Vec<BlobRecord>>> {
        let mut records = self.inner.db.blobs_of_all(diff_ids)?;
        let digests: Vec<BlobDigest> = records.iter().flatten().map(|record| record.digest).collect();
        let mut sizes = self.keep_blobs(&digests)?.into_iter();
        for records in &mut records {
            records.retain(|record| sizes.next().flatten() == Some(record.size));
        }
        Ok(records)
    }

    /// The diff id that blob `digest` is known to hold.
    pub fn diff_id_of(&self, digest: &BlobDigest) -> Result<Option<DiffId>> {
        self.inner.db.diff_id_of(digest)
    }

    /// Removes a snapshot's record, and its directory when no other snapshot has the same layer. Snapshots above it become misses.
    pub fn remove_snapshot(&self, id: SnapshotId) -> Result<()> {
        self.uses.forget_standing();
        if let Some(info) = self.inner.db.snapshot(id, snapshots_dir(self.options().overlay))? {
            let (last, last_mounted) = self.inner.db.remove_snapshot(id)?;
            let gone = [Some(&info.dir).filter(|_| last), info.mounted.as_ref().filter(|_| last_mounted)];
            for dir in gone.into_iter().flatten().filter_map(|dir| dir.parent()) {
                remove_tree(self, dir)?;
                if let Some(name) = dir.file_name().and_then(|name| name.to_str()) {
                    self.measure_sharers(name)?;
                }
            }
            self.drop_flat(id)?;
        }
        Ok(())
    }
}
