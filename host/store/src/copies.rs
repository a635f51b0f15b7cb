//! What COPY made of a context, kept so that its next run can link to the files that are still the same ([`rhost_rootfs::CopyAgain`]); and the account of
//! layers that share files so: each has its part of a file's size, measured anew when one of them goes.
//!
//! One file for each step, read whole. Nothing in it is needed: one that is missing, damaged or of another layout is as if there were none.
use std::path::PathBuf;

use rhost_llb::Digest;
use rhost_rootfs::CopyKey;
use rusqlite::{OptionalExtension, params};

use crate::db::Db;
use crate::usage::disk_size;
use crate::{Result, SnapshotId, Store, sealed};

/// Where the files are.
pub(crate) const COPIES_DIR: &str = "copies-v1";
/// Begins each; another layout takes another word.
const MAGIC: &[u8; 8] = b"rhostcp1";
const KEY: usize = std::mem::size_of::<CopyKey>();
/// Fewer files are copied in the time that it takes to remember them.
const WORTH: usize = 64;

/// What an earlier run of a step made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EarlierCopy {
    /// Its result.
    pub snapshot: SnapshotId,
    /// The files in its layer.
    pub keys: Vec<CopyKey>,
}

impl Store {
    fn copies_path(&self, step: &Digest) -> PathBuf {
        self.inner.root.join(COPIES_DIR).join(step.hex())
    }

    /// What the last run of `step` made, if its result is still there; it is in use then.
    pub fn earlier_copy(&self, step: &Digest) -> Option<(EarlierCopy, PathBuf)> {
        let earlier = read(&std::fs::read(self.copies_path(step)).ok()?)?;
        let lowers = self.layers(earlier.snapshot).ok()??;
        Some((earlier, lowers.into_iter().next()?))
    }

    /// Remembers what a run of `step` made. `linked` is the earlier result to which files of it are links.
    pub fn remember_copy(&self, step: &Digest, made: &EarlierCopy, linked: Option<SnapshotId>) {
        if let Some(earlier) = linked
            && let Err(error) = self.inner.db.share(earlier, made.snapshot)
        {
            tracing::warn!(%error, "that layers share files is not remembered: what they take is told too high");
        }
        if made.keys.len() < WORTH {
            return;
        }
        let place = self.copies_path(step);
        if let Err(error) = sealed::write(&place, MAGIC, &body(made)) {
            tracing::warn!(%error, place = %place.display(), "what was copied is not remembered");
        }
    }

    /// Takes away what is about results that are gone, and what killed processes left.
    pub(crate) fn sweep_copies(&self) -> Result<usize> {
        let known = self.snapshot_ids()?;
        self.each(COPIES_DIR, |_, path| {
            let made = std::fs::read(path).ok().and_then(|bytes| read(&bytes));
            let is_alive = made.is_some_and(|made| known.contains(&made.snapshot));
            Ok(!is_alive && std::fs::remove_file(path).is_ok())
        })
    }

    /// Measures anew the layers that shared files with `name`, which is gone; answers by how much their parts have grown.
    pub(crate) fn measure_sharers(&self, name: &str) -> Result<u64> {
        let mut grown = 0;
        let mut sizes = Vec::new();
        for (sharer, old) in self.inner.db.sharers(name)? {
            let size = disk_size(&self.bucket().join(&sharer));
            grown += size.saturating_sub(u64::try_from(old).unwrap_or(0));
            sizes.push((sharer, size));
        }
        if !sizes.is_empty() {
            self.inner.db.set_sizes("layer", &sizes)?;
        }
        self.inner.db.forget_share(name)?;
        Ok(grown)
    }
}

fn body(made: &EarlierCopy) -> Vec<u8> {
    let mut body = Vec::with_capacity(8 + made.keys.len() * KEY);
    body.extend(made.snapshot.0.to_le_bytes());
    body.extend(made.keys.iter().flatten());
    body
}

fn read(bytes: &[u8]) -> Option<EarlierCopy> {
    let (id, keys) = sealed::unseal(MAGIC, bytes)?.split_first_chunk()?;
    let keys = keys.chunks_exact(KEY).map(|key| std::array::from_fn(|index| key[index])).collect();
    Some(EarlierCopy { snapshot: SnapshotId(i64::from_le_bytes(*id)), keys })
}

impl Db {
    /// Remembers that files of `later` are links to those of `earlier`.
    fn share(&self, earlier: SnapshotId, later: SnapshotId) -> Result<()> {
        self.write(|t| {
            let name = |id: SnapshotId| -> rusqlite::Result<Option<String>> {
                t.prepare_cached("SELECT name FROM snapshots WHERE id = ?1")?.query_row([id.0], |r| r.get(0)).optional()
            };
            let (Some(earlier), Some(later)) = (name(earlier)?, name(later)?) else { return Ok(()) };
            let family: Option<String> = t
                .prepare_cached("SELECT family FROM shares WHERE name = ?1")?
                .query_row([&earlier], |r| r.get(0))
                .optional()?;
            let family = family.unwrap_or_else(|| earlier.clone());
            let mut add = t.prepare_cached("INSERT OR REPLACE INTO shares (name, family) VALUES (?1, ?2)")?;
            for name in [earlier, later] {
                add.execute(params![name, family])?;
            }
            Ok(())
        })
    }

    /// Names of layers that have files in common with others.
    pub(crate) fn sharing(&self) -> Result<std::collections::HashSet<String>> {
        self.run(|c| c.prepare_cached("SELECT name FROM shares")?.query_map([], |r| r.get(0))?.collect())
    }

    /// The layers that may have files in common with `name`, and what they were measured to take.
    fn sharers(&self, name: &str) -> Result<Vec<(String, i64)>> {
        self.run(|c| {
            c.prepare_cached(
                "SELECT other.name, ifnull(usage.size, 0) FROM shares AS own
                 JOIN shares AS other ON other.family = own.family AND other.name != own.name
                 LEFT JOIN usage ON usage.kind = 'layer' AND usage.key = other.name WHERE own.name = ?1",
            )?
            .query_map([name], |r| Ok((r.get(0)?, r.get(1)?)))?
            .collect()
        })
    }

    fn forget_share(&self, name: &str) -> Result<()> {
        self.write(|t| t.prepare_cached("DELETE FROM shares WHERE name = ?1")?.execute([name]).map(drop))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_and_damage_is_nothing() {
        let made = EarlierCopy { snapshot: SnapshotId(7), keys: vec![[1; KEY], [2; KEY]] };
        let written = sealed::seal(MAGIC, &body(&made));
        assert_eq!(read(&written), Some(made));
        for at in 0..written.len() {
            let mut damaged = written.clone();
            damaged[at] ^= 1;
            assert_eq!(read(&damaged), None, "byte {at}");
            assert_eq!(read(&written[..at]), None, "cut at {at}");
        }
    }
}
