//! Runs of frontends that fell, kept in the store for whoever wants to know why: a few, the newest.
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rhost_llb::Digest;
use rhost_store::Store;

use crate::error::{BuildError, Kind};

/// The directory in the store.
const DIRECTORY: &str = "recordings-v1";
/// How many are kept.
const MOST: usize = 4;

/// Writes a recording, for its owner's eyes: it holds what the frontend has read.
pub(crate) fn write(path: &Path, recording: &[u8]) -> std::io::Result<()> {
    let mut file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(recording)
}

/// What is told where that failed.
pub(crate) fn unwritable(path: &Path, error: &std::io::Error) -> BuildError {
    BuildError::new(Kind::Store, format!("cannot write the recording `{}`: {error}", path.display()))
}

/// Keeps a recording, and forgets the oldest. One that cannot be kept is no further misfortune.
pub(crate) fn keep(store: &Store, recording: &[u8]) -> Option<PathBuf> {
    let directory = store.root().join(DIRECTORY);
    let kept = || -> std::io::Result<PathBuf> {
        std::fs::DirBuilder::new().mode(0o700).recursive(true).create(&directory)?;
        let name = Digest::of(recording).hex();
        let path = directory.join(format!("{}.recording", name.get(..16).unwrap_or(&name)));
        write(&path, recording)?;
        let mut all = Vec::new();
        for entry in std::fs::read_dir(&directory)? {
            let entry = entry?;
            all.push((entry.metadata()?.modified()?, entry.path()));
        }
        all.sort();
        for (_, old) in all.iter().rev().filter(|(_, other)| *other != path).skip(MOST - 1) {
            std::fs::remove_file(old)?;
        }
        Ok(path)
    };
    kept().inspect_err(|error| tracing::debug!(%error, "the frontend's run is not kept")).ok()
}
