//! Long chains: overlayfs takes 500 lower directories and no more. Of a longer chain the lower part is mounted as one directory, a flat: what its
//! layers are when they are laid over each other, made of hard links. A flat is a second form of a snapshot, as what [`Store::fit`] makes: it has no
//! record of its own, is never exported, goes with its snapshot, and is made again when it is lost.
//!
//! Flats are made at every [`STEP`]th layer only, so that a chain which grows layer by layer makes one in as many steps.
use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use rusqlite::{OptionalExtension, params};

use crate::db::{Db, opened, place_in, sealed};
use crate::snapshot::remove_tree;
use crate::store::snapshots_dir;
use crate::usage::disk_size;
use crate::{Error, Result, SnapshotId, SnapshotInfo, Store};

/// Lower directories that overlayfs takes.
const MOST: usize = 500;

/// From one flat to the next.
const STEP: usize = 250;

/// In the seal of a flat's name.
const KIND: &str = "flat";

/// How many of the lowest layers of a chain of `length` are mounted as one directory.
fn depth(length: usize) -> usize {
    // One lower directory is the flat itself.
    if length <= MOST { 0 } else { (length - (MOST - 1)).next_multiple_of(STEP) }
}

impl Store {
    /// The directories to mount for `chain` (topmost first), topmost first, with a flat for its lower part where it is too long.
    ///
    /// # Errors
    /// [`Error::NotFlat`] where the flat is not there.
    pub(crate) fn lowers(&self, chain: &[SnapshotInfo]) -> Result<Vec<PathBuf>> {
        let (above, below) = chain.split_at(chain.len() - depth(chain.len()));
        let mut dirs = directories(above);
        if let Some(top) = below.first() {
            dirs.push(self.flat(top.id)?.ok_or(Error::NotFlat { id: top.id.0, layers: chain.len() })?);
        }
        Ok(dirs)
    }

    /// The snapshot for which [`Store::flatten`] is wanted before the chain `records` (topmost first) can be mounted.
    ///
    /// # Errors
    /// The store.
    pub fn wants_flat(&self, records: &[SnapshotInfo]) -> Result<Option<SnapshotId>> {
        let Some(top) = records.get(records.len() - depth(records.len())) else { return Ok(None) };
        Ok(if self.flat(top.id)?.is_none() { Some(top.id) } else { None })
    }

    /// Makes the flat of `id`: `write` is given an empty directory and the directories to lay over each other in it, the lowest first. Once for each
    /// snapshot.
    ///
    /// # Errors
    /// Those of `write`, and the disk's.
    pub fn flatten<E: From<Error>>(
        &self,
        id: SnapshotId,
        write: impl FnOnce(&Path, &[PathBuf]) -> std::result::Result<(), E>,
    ) -> std::result::Result<(), E> {
        let _alone = self.lock(&format!("flat {}", id.0))?;
        if self.flat(id)?.is_some() {
            return Ok(());
        }
        let chain = self.chain(id)?.ok_or(Error::NoSnapshot { id: id.0 })?;
        let mut layers = directories(&chain);
        // The one before it is the better part of it.
        for (at, info) in chain.iter().enumerate().skip(1) {
            if (chain.len() - at) % STEP == 0
                && let Some(flat) = self.flat(info.id)?
            {
                layers = directories(&chain[..at]);
                layers.push(flat);
                break;
            }
        }
        layers.reverse();
        self.uses.begin()?;
        let name = crate::lock::unique_name();
        let _lease = self.own_lease(&format!("snapshot {name}"))?;
        let dir = self.bucket().join(&name);
        let fs = dir.join("fs");
        std::fs::create_dir_all(&fs).map_err(|e| Error::io("create directory", &fs, e))?;
        let made = write(&fs, &layers);
        // The record last: what it names is whole.
        let recorded = if made.is_ok() { self.inner.db.set_flat(id, &name) } else { Ok(None) };
        match (&made, &recorded) {
            (Ok(()), Ok(lost)) => {
                self.uses.made_flat(&name, disk_size(&dir));
                if let Some(lost) = lost {
                    self.remove_flat(lost)?;
                }
            }
            _ => remove_tree(self, &dir)?,
        }
        recorded?;
        made
    }

    /// The flat of `id`, if there is one.
    fn flat(&self, id: SnapshotId) -> Result<Option<PathBuf>> {
        let bucket = self.bucket();
        Ok(self.inner.db.flat(id)?.map(|name| place_in(&bucket, &name)).filter(|dir| dir.is_dir()))
    }

    /// Takes away the flat of a snapshot whose record is gone.
    pub(crate) fn drop_flat(&self, id: SnapshotId) -> Result<()> {
        match self.inner.db.take_flat(id)? {
            Some(name) => self.remove_flat(&name),
            None => Ok(()),
        }
    }

    fn remove_flat(&self, name: &str) -> Result<()> {
        self.inner.db.forget_usage(&[("layer".into(), name.to_owned())])?;
        match place_in(&self.bucket(), name).parent() {
            Some(dir) => remove_tree(self, dir),
            None => Ok(()),
        }
    }

    /// The names of all flats, by snapshot.
    pub(crate) fn flats(&self) -> Result<HashMap<SnapshotId, String>> {
        self.inner.db.flats(snapshots_dir(self.options().overlay))
    }
}

/// The directories of `chain`. One that is there several times (a merge of two trees with one base) is told once, at its topmost place: what it has
/// and hides there is all that it can add further down, and overlayfs refuses it twice.
fn directories(chain: &[SnapshotInfo]) -> Vec<PathBuf> {
    let mut seen = HashSet::new();
    let dirs = chain.iter().map(|info| info.mounted.as_ref().unwrap_or(&info.dir));
    dirs.filter(|dir| seen.insert(*dir)).cloned().collect()
}

impl Db {
    /// The name in the record of `id`'s flat; one that is damaged is none.
    fn flat(&self, id: SnapshotId) -> Result<Option<String>> {
        let found: Option<Vec<u8>> = self.run(|c| {
            c.prepare_cached("SELECT name FROM flats WHERE snapshot = ?1")?.query_row([id.0], |r| r.get(0)).optional()
        })?;
        Ok(found.and_then(|sealed| unsealed(id, sealed)))
    }

    /// Records the flat of `id`; answers the name of the one that it had.
    fn set_flat(&self, id: SnapshotId, name: &str) -> Result<Option<String>> {
        let before = self.flat(id)?;
        self.write(|t| {
            t.execute(
                "INSERT OR REPLACE INTO flats (snapshot, name) SELECT id, ?2 FROM snapshots WHERE id = ?1",
                params![id.0, sealed(KIND, &id.0.to_le_bytes(), name.as_bytes())],
            )
        })?;
        Ok(before)
    }

    fn take_flat(&self, id: SnapshotId) -> Result<Option<String>> {
        let found = self.flat(id)?;
        if found.is_some() {
            self.write(|t| t.execute("DELETE FROM flats WHERE snapshot = ?1", [id.0]).map(drop))?;
        }
        Ok(found)
    }

    pub(crate) fn flats(&self, bucket: &str) -> Result<HashMap<SnapshotId, String>> {
        let rows: Vec<(i64, Vec<u8>)> = self.run(|c| {
            c.prepare_cached(
                "SELECT f.snapshot, f.name FROM flats f JOIN snapshots s ON s.id = f.snapshot WHERE s.bucket = ?1",
            )?
            .query_map([bucket], |r| Ok((r.get(0)?, r.get(1)?)))?
            .collect()
        })?;
        let read = |(id, sealed): (i64, Vec<u8>)| Some((SnapshotId(id), unsealed(SnapshotId(id), sealed)?));
        Ok(rows.into_iter().filter_map(read).collect())
    }
}

fn unsealed(id: SnapshotId, sealed: Vec<u8>) -> Option<String> {
    String::from_utf8(opened(KIND, &id.0.to_le_bytes(), sealed)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chain_is_cut_where_the_rest_and_the_flat_can_be_mounted() {
        for (length, wanted) in [(0, 0), (1, 0), (500, 0), (501, 250), (749, 250), (750, 500), (999, 500), (1000, 750)]
        {
            assert_eq!(depth(length), wanted, "{length}");
        }
        for length in 501..3000 {
            let below = depth(length);
            assert!(below <= length && length - below < MOST && below.is_multiple_of(STEP), "{length}: {below}");
        }
    }
}
