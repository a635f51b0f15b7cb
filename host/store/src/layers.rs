//! Layers apart from the snapshots that have them: stacked anew without copying, and recorded before they are there.
//!
//! A snapshot is a record (directory name, parent). Two records may name one directory: that is how a merge puts a layer on another base,
//! and how a diff takes it off its own. A record may also name a directory that is not there yet: the layers of an image are
//! recorded when its config is known, and laid down when somebody mounts them. Whoever lays one down does so under a name of
//! its own and renames it into place, so a directory under a recorded name is whole. A directory that was lost is the same case: it can be
//! laid down again from the blob of its diff id.
use std::path::PathBuf;

use rhost_llb::{ChainId, DiffId};
use rusqlite::{OptionalExtension, Transaction, params};

use crate::db::{Db, now};
use crate::in_use::Use;
use crate::snapshot::remove_tree;
use crate::store::snapshots_dir;
use crate::{Error, Lease, Result, SnapshotId, SnapshotInfo, Store};

impl Store {
    /// The records of `id` and its parents, topmost first, whether or not their directories are there ([`SnapshotInfo::is_present`]); `None`
    /// when one of them is gone.
    pub fn records(&self, id: SnapshotId) -> Result<Option<Vec<SnapshotInfo>>> {
        self.uses.add(Use::Snapshot(id))?;
        self.inner.db.chain(id, snapshots_dir(self.options().overlay))
    }

    /// The record of `id` alone, whether or not its directory is there.
    pub fn record(&self, id: SnapshotId) -> Result<Option<SnapshotInfo>> {
        self.uses.add(Use::Snapshot(id))?;
        self.inner.db.snapshot(id, snapshots_dir(self.options().overlay))
    }

    /// What is recorded of `id`, if this build has made it.
    pub fn made(&self, id: SnapshotId) -> Option<SnapshotInfo> {
        self.uses.made_snapshot(id)
    }

    /// A snapshot that has the layers of `layers` (bottom first, each taken without what is below it) on top of `parent`. Nothing is copied;
    /// the same question has the same answer.
    ///
    /// # Errors
    /// [`Error::NoSnapshot`] when a record of `layers` is gone.
    pub fn stack(&self, parent: Option<SnapshotId>, layers: &[SnapshotId]) -> Result<Option<SnapshotId>> {
        let bucket = snapshots_dir(self.options().overlay);
        self.kept(|| match self.inner.db.stack(bucket, parent, layers)? {
            Ok(top) => Ok(top),
            Err(gone) => Err(Error::NoSnapshot { id: gone.0 }),
        })
    }

    /// Records the layers of an image, bottom first, without laying them down; answers the topmost. Those that are recorded already stay
    /// as they are.
    pub fn declare_image(&self, layers: &[DiffId]) -> Result<Option<SnapshotId>> {
        self.kept(|| self.inner.db.declare_image(snapshots_dir(self.options().overlay), layers))
    }

    /// Makes records and writes the topmost down as used; once more when a collector came between.
    fn kept(&self, make: impl Fn() -> Result<Option<SnapshotId>>) -> Result<Option<SnapshotId>> {
        loop {
            let Some(id) = make()? else { return Ok(None) };
            self.uses.add(Use::Snapshot(id))?;
            if self.inner.db.snapshot(id, snapshots_dir(self.options().overlay))?.is_some() {
                return Ok(Some(id));
            }
        }
    }

    /// The snapshot as which the layer of `id` first came to be: that of an image, else the oldest. What a layer says about files below it (a hard
    /// link, a removed file, a directory it does not describe) is about the layers there.
    pub fn origin(&self, id: SnapshotId) -> Result<SnapshotId> {
        Ok(self.inner.db.origin(id)?.unwrap_or(id))
    }

    /// Begins to lay down the layer of `id`.
    ///
    /// # Errors
    /// [`Error::NoSnapshot`] when its record is gone.
    pub fn lay_down(&self, id: SnapshotId) -> Result<LayerWriter> {
        let info = self.inner.db.snapshot(id, snapshots_dir(self.options().overlay))?;
        let info = info.ok_or(Error::NoSnapshot { id: id.0 })?;
        self.uses.begin()?;
        let name = crate::lock::unique_name();
        let lease = self.own_lease(&format!("snapshot {name}"))?;
        let dir = self.bucket().join(&name);
        let fs = dir.join("fs");
        std::fs::create_dir_all(&fs).map_err(|e| Error::io("create directory", &fs, e))?;
        let place = info.dir.parent().unwrap_or(&info.dir).to_path_buf();
        Ok(LayerWriter { store: self.clone(), dir, place, _lease: lease })
    }

    /// Makes layer `id` fit for where it stands: `write` is given an empty directory and answers whether it has put something else there to be mounted in
    /// place of the layer. Once for each snapshot.
    ///
    /// # Errors
    /// Those of `write`, and the disk's.
    pub fn fit<E: From<Error>>(
        &self,
        id: SnapshotId,
        write: impl FnOnce(&std::path::Path) -> std::result::Result<bool, E>,
    ) -> std::result::Result<(), E> {
        // One at a time: a directory that somebody mounts must not be replaced by another's.
        let _alone = self.lock(&format!("fit {}", id.0))?;
        let record = self.inner.db.snapshot(id, snapshots_dir(self.options().overlay))?;
        if !record.ok_or(Error::NoSnapshot { id: id.0 })?.is_unfit() {
            return Ok(());
        }
        let name = crate::lock::unique_name();
        let _lease = self.lease(&format!("snapshot {name}"))?;
        let dir = self.bucket().join(&name);
        let fs = dir.join("fs");
        std::fs::create_dir_all(&fs).map_err(|e| Error::io("create directory", &fs, e))?;
        let made = write(&fs);
        let used = *made.as_ref().unwrap_or(&false);
        let recorded = if made.is_ok() { self.inner.db.set_mounted(id, used.then_some(name.as_str())) } else { Ok(()) };
        if !used || recorded.is_err() {
            remove_tree(self, &dir)?;
        }
        recorded?;
        made.map(drop)
    }
}

/// A layer being laid down. Dropped without [`LayerWriter::publish`] its directory is removed.
pub struct LayerWriter {
    store: Store,
    dir: PathBuf,
    place: PathBuf,
    _lease: Lease,
}

impl LayerWriter {
    /// The empty directory to write to.
    pub fn dir(&self) -> PathBuf {
        self.dir.join("fs")
    }

    /// Puts it in its place. When another has done so meanwhile, that one stays.
    pub fn publish(self) -> Result<()> {
        // Two attempts: what is in the way may be the rest of a layer that was damaged.
        for _ in 0..2 {
            match std::fs::rename(&self.dir, &self.place) {
                Ok(()) => {
                    let name = self.place.file_name().and_then(|name| name.to_str()).unwrap_or_default();
                    self.store.uses.made_layer(name, self.place.clone());
                    return Ok(());
                }
                Err(_) if self.place.join("fs").is_dir() => return Ok(()),
                Err(error) if self.place.exists() => {
                    tracing::debug!(%error, place = %self.place.display(), "the rest of a layer is in the way; removed");
                    remove_tree(&self.store, &self.place)?;
                }
                Err(error) => return Err(Error::io("publish layer", &self.place, error)),
            }
        }
        Err(Error::io("publish layer", &self.place, std::io::ErrorKind::AlreadyExists))
    }
}

impl Drop for LayerWriter {
    fn drop(&mut self) {
        if self.dir.exists() {
            // What stays behind has no record, and is swept later.
            let _ = remove_tree(&self.store, &self.dir);
        }
    }
}

impl Db {
    /// `Err` names a record that is gone.
    fn stack(
        &self,
        bucket: &str,
        parent: Option<SnapshotId>,
        layers: &[SnapshotId],
    ) -> Result<std::result::Result<Option<SnapshotId>, SnapshotId>> {
        self.write(|t| {
            let mut top = parent.map(|id| id.0);
            for layer in layers {
                let apart = is_apart(t, layer.0, top)?;
                let row: Option<(String, Option<String>, i64)> = t
                    .prepare_cached("SELECT name, diff_id, created FROM snapshots WHERE id = ?1 AND bucket = ?2")?
                    .query_row(params![layer.0, bucket], |r| Ok((r.get(0)?, r.get(1)?, r.get(2)?)))
                    .optional()?;
                let Some((name, diff_id, created)) = row else { return Ok(Err(*layer)) };
                if let Some(found) = place(t, bucket, &name, top)? {
                    top = Some(found);
                    continue;
                }
                t.prepare_cached(
                    "INSERT INTO snapshots (bucket, name, parent, diff_id, created, apart) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                )?
                .execute(params![bucket, name, top, diff_id, created, apart])?;
                top = Some(t.last_insert_rowid());
            }
            Ok(Ok(top.map(SnapshotId)))
        })
    }

    fn declare_image(&self, bucket: &str, layers: &[DiffId]) -> Result<Option<SnapshotId>> {
        self.write(|t| {
            let mut top: Option<i64> = None;
            for (index, diff_id) in layers.iter().enumerate() {
                let Some(chain) = ChainId::of(&layers[..=index]) else { continue };
                let chain = chain.to_string();
                let found: Option<(i64, Option<i64>)> = t
                    .prepare_cached("SELECT id, parent FROM snapshots WHERE bucket = ?1 AND chain = ?2")?
                    .query_row(params![bucket, chain], |r| Ok((r.get(0)?, r.get(1)?)))
                    .optional()?;
                top = match found {
                    Some((id, parent)) if parent == top => Some(id),
                    // Its parent was removed and recorded anew: it moves there.
                    Some((id, _)) => Some(move_to(t, bucket, id, &chain, top)?),
                    None => {
                        t.prepare_cached(
                            "INSERT INTO snapshots (bucket, name, parent, chain, diff_id, created) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                        )?
                        .execute(params![
                            bucket,
                            crate::lock::unique_name(),
                            top,
                            chain,
                            diff_id.to_string(),
                            now()
                        ])?;
                        Some(t.last_insert_rowid())
                    }
                };
            }
            Ok(top.map(SnapshotId))
        })
    }

    fn origin(&self, id: SnapshotId) -> Result<Option<SnapshotId>> {
        self.run(|c| {
            c.prepare_cached(
                "SELECT o.id FROM snapshots s JOIN snapshots o ON o.bucket = s.bucket AND o.name = s.name
                 WHERE s.id = ?1 ORDER BY o.chain IS NULL, o.id LIMIT 1",
            )?
            .query_row([id.0], |r| Ok(SnapshotId(r.get(0)?)))
            .optional()
        })
    }

    pub(crate) fn set_diff_id(&self, id: SnapshotId, diff_id: DiffId) -> Result<()> {
        self.write(|t| {
            t.execute(
                "UPDATE snapshots SET diff_id = ?2 WHERE (bucket, name) IN (SELECT bucket, name FROM snapshots WHERE id = ?1)",
                params![id.0, diff_id.to_string()],
            )
            .map(|_| ())
        })
    }

    /// Removes a record; whether no other names its directory, and whether none names the one that is mounted in its place.
    pub(crate) fn remove_snapshot(&self, id: SnapshotId) -> Result<(bool, bool)> {
        self.write(|t| {
            let last = |column: &str| {
                let query = format!(
                    "SELECT count(*) FROM snapshots s JOIN snapshots o ON o.bucket = s.bucket
                     WHERE s.id = ?1 AND o.id != ?1 AND (o.name = s.{column} OR o.mounted = s.{column})"
                );
                t.query_row(&query, [id.0], |r| r.get::<_, i64>(0)).map(|others| others == 0)
            };
            let answer = (last("name")?, last("mounted")?);
            t.execute("DELETE FROM snapshots WHERE id = ?1", [id.0])?;
            Ok(answer)
        })
    }

    fn set_mounted(&self, id: SnapshotId, name: Option<&str>) -> Result<()> {
        self.write(|t| {
            t.execute("UPDATE snapshots SET mounted = ifnull(?2, name) WHERE id = ?1", params![id.0, name]).map(|_| ())
        })
    }
}

/// Whether the layer of record `id` was first written on another layer than that of record `parent`. A layer that was written on nothing
/// has nothing to say about what is below it.
fn is_apart(t: &Transaction<'_>, id: i64, parent: Option<i64>) -> rusqlite::Result<bool> {
    let name_of = |id: Option<i64>| -> rusqlite::Result<Option<String>> {
        match id {
            Some(id) => t.query_row("SELECT name FROM snapshots WHERE id = ?1", [id], |r| r.get(0)).optional(),
            None => Ok(None),
        }
    };
    let origin: Option<(Option<i64>, bool)> = t
        .prepare_cached(
            "SELECT o.parent, o.apart FROM snapshots s JOIN snapshots o ON o.bucket = s.bucket AND o.name = s.name
             WHERE s.id = ?1 ORDER BY o.chain IS NULL, o.id LIMIT 1",
        )?
        .query_row([id], |r| Ok((r.get(0)?, r.get(1)?)))
        .optional()?;
    match origin {
        Some((_, true)) => Ok(true),
        None | Some((None, false)) => Ok(false),
        Some((origin, false)) => Ok(name_of(origin)? != name_of(parent)?),
    }
}

/// Puts the record `id` of an image's layer on top of `parent`, unless its layer has a record there: then that one stands for the image.
fn move_to(t: &Transaction<'_>, bucket: &str, id: i64, chain: &str, parent: Option<i64>) -> rusqlite::Result<i64> {
    let name: String = t.query_row("SELECT name FROM snapshots WHERE id = ?1", [id], |r| r.get(0))?;
    match place(t, bucket, &name, parent)? {
        None => {
            t.execute("UPDATE snapshots SET parent = ?2 WHERE id = ?1", params![id, parent])?;
            Ok(id)
        }
        Some(other) => {
            t.execute("UPDATE snapshots SET chain = NULL WHERE id = ?1", [id])?;
            t.execute("UPDATE snapshots SET chain = ?2 WHERE id = ?1", params![other, chain])?;
            Ok(other)
        }
    }
}

/// The record of layer `name` right on top of `parent`.
fn place(t: &Transaction<'_>, bucket: &str, name: &str, parent: Option<i64>) -> rusqlite::Result<Option<i64>> {
    t.prepare_cached("SELECT id FROM snapshots WHERE bucket = ?1 AND name = ?2 AND ifnull(parent, 0) = ifnull(?3, 0)")?
        .query_row(params![bucket, name, parent], |r| r.get(0))
        .optional()
}
