//! The lock file of a context: where it lies, and what flags make of it.
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rhost_engine::{BuildError, Kind, LockError, LockFile, Locking, SourceRules};

use crate::project::{LOCK, Project};

/// A lock file that cannot be used.
pub fn wrong(error: LockError) -> BuildError {
    let hint = error.hint;
    let found = BuildError::new(Kind::Request, error);
    match hint {
        Some(hint) => found.hint(hint),
        None => found,
    }
}

/// So many of a thing.
pub fn counted(count: usize, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

/// The path of the lock file of `project`; `None` for a context that is elsewhere.
pub fn path(project: &Project) -> Option<PathBuf> {
    Some(project.root.as_ref()?.join(LOCK))
}

/// What `--locked`, `--offline` and `--vendor` mean in `project`.
///
/// # Errors
/// The lock file is wrong, or is wanted and not there.
pub fn rules(project: &Project, locked: bool, offline: bool, vendor: Option<&Path>) -> Result<SourceRules, BuildError> {
    let path = path(project);
    let lock = path.as_deref().map(LockFile::read).transpose().map_err(wrong)?.flatten().map(Arc::new);
    if locked && lock.is_none() {
        return Err(match path {
            Some(path) => BuildError::new(Kind::Sources, format!("--locked: there is no {}", path.display()))
                .hint("`rhost lock`, with the flags of this build, makes it"),
            None => BuildError::new(
                Kind::Sources,
                "--locked: only a context that is a directory of this machine has a lock file",
            ),
        });
    }
    let vendor = vendor.or_else(|| project.file.as_ref()?.vendor()).map(Path::to_owned);
    Ok(SourceRules { lock, locking: if locked { Locking::Strict } else { Locking::Used }, offline, vendor })
}
