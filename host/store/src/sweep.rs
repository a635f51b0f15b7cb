//! `sweep`: takes away what crashes left. Everything that is being written is locked by its writer, so what nobody holds is rubbish.
use std::fs::File;
use std::path::Path;
use std::time::{Duration, SystemTime};

use rustix::fs::{FlockOperation, flock};

use crate::collect::ASIDE;
use crate::in_use::USES_DIR;
use crate::snapshot::remove_tree;
use crate::store::snapshots_dir;
use crate::work::WORK_DIR;
use crate::{Error, Result, Store};

/// A download that was interrupted may be resumed for so long.
const RESUMED: Duration = Duration::from_secs(24 * 3600);

/// Build files from stdin: directories named after their lease.
const BUILD_FILES: &str = "build-files-v1";

impl Store {
    /// Removes directories of layers that no record names and no living process writes, downloads that nobody resumes, and the rest of what
    /// killed processes left. Returns how many things.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn sweep(&self) -> Result<usize> {
        let mut removed = self.sweep_layers()? + self.sweep_cache_mounts()? + self.sweep_git()?;
        removed += self.sweep_ingest()? + self.sweep_all_kept()? + self.sweep_copies()?;
        for dir in [WORK_DIR, "locks-v1"] {
            // The lock on the records stays: whoever opens them does not look whether it has a name.
            removed += self.each(dir, |name, path| Ok(name != "records" && remove_if_free(path)))?;
        }
        removed += self.each(BUILD_FILES, |name, path| {
            let Some(_lock) = self.try_lock(&format!("{BUILD_FILES} {name}"))? else { return Ok(false) };
            Ok(std::fs::remove_dir_all(path).is_ok())
        })?;
        // Last: as long as one is there, the next build sweeps again.
        removed += self.each(USES_DIR, |_, path| Ok(remove_if_free(path)))?;
        Ok(removed)
    }

    pub(crate) fn each(&self, dir: &str, mut work: impl FnMut(&str, &Path) -> Result<bool>) -> Result<usize> {
        let dir = self.root().join(dir);
        let entries = match std::fs::read_dir(&dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(0),
            Err(error) => return Err(Error::io("list", dir, error)),
        };
        let mut removed = 0;
        for entry in entries {
            let entry = entry.map_err(|e| Error::io("list", &dir, e))?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            removed += usize::from(work(&name, &entry.path())?);
        }
        Ok(removed)
    }

    pub(crate) fn sweep_layers(&self) -> Result<usize> {
        let bucket = snapshots_dir(self.options().overlay);
        let known = self.inner.db.snapshot_names(bucket)?;
        self.each(bucket, |name, path| {
            if known.contains(name) {
                return Ok(false);
            }
            // A writer holds a lease, or its build lives; one that finished since has a record now.
            if self.is_begun(name) {
                return Ok(false);
            }
            let Some(_lock) = self.try_lock(&format!("snapshot {name}"))? else { return Ok(false) };
            if self.inner.db.snapshot_names(bucket)?.contains(name) {
                return Ok(false);
            }
            remove_tree(self, path)?;
            Ok(true)
        })
    }

    fn sweep_ingest(&self) -> Result<usize> {
        self.each("ingest-v1", |name, path| {
            if let Some(hex) = name.strip_prefix(ASIDE) {
                // The collector was killed before it knew whether somebody needs it.
                let Ok(digest) = format!("sha256:{hex}").parse() else { return Ok(std::fs::remove_file(path).is_ok()) };
                let place = self.blob_path(&digest);
                if place.exists() {
                    return Ok(std::fs::remove_file(path).is_ok());
                }
                std::fs::rename(path, &place).map_err(|e| Error::io("put back", place, e))?;
                return Ok(false);
            }
            let Some(hex) = name.strip_prefix("partial-") else { return Ok(remove_if_free(path)) };
            let Some(_lock) = self.try_lock(&format!("ingest sha256:{hex}"))? else { return Ok(false) };
            let written = std::fs::metadata(path).and_then(|found| found.modified());
            let idle = written.ok().and_then(|written| SystemTime::now().duration_since(written).ok());
            Ok(idle.is_some_and(|idle| idle > RESUMED) && std::fs::remove_file(path).is_ok())
        })
    }

    /// A directory for the files of one build, under a name of its own that is locked until the answer is dropped.
    ///
    /// # Errors
    /// The disk.
    pub fn build_files(&self) -> Result<BuildFiles> {
        self.uses.begin()?;
        let name = crate::lock::unique_name();
        let lease = self.own_lease(&format!("{BUILD_FILES} {name}"))?;
        let path = self.root().join(BUILD_FILES).join(name);
        std::fs::create_dir_all(&path).map_err(|e| Error::io("create directory", &path, e))?;
        Ok(BuildFiles { path, _lease: lease })
    }
}

/// A directory of one build alone, removed at its end.
#[derive(Debug)]
pub struct BuildFiles {
    path: std::path::PathBuf,
    _lease: crate::Lease,
}

impl BuildFiles {
    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for BuildFiles {
    fn drop(&mut self) {
        // What stays is swept.
        let _ = std::fs::remove_dir_all(&self.path);
    }
}

/// Removes a file that nobody has locked. Whoever locks looks afterwards whether the file still has a name.
fn remove_if_free(path: &Path) -> bool {
    // Not followed, not created: a file of ours.
    let Ok(file) = File::open(path) else { return false };
    flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok() && std::fs::remove_file(path).is_ok()
}
