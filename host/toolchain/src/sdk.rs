//! The SDKs and templates that are part of this program, and writing them out.
use std::path::Path;

use crate::error::{Result, ToolchainError};
use crate::manifest::Language;

include!(concat!(env!("OUT_DIR"), "/files.rs"));

/// The files of a kind: (path, bytes).
pub(crate) fn files(kind: &str, language: Language) -> impl Iterator<Item = (&'static str, &'static [u8])> {
    let kind = format!("{kind}-{}", language.name());
    FILES.iter().filter(move |(k, ..)| *k == kind).map(|(_, path, bytes)| (*path, *bytes))
}

/// Makes `dir` hold the language's SDK. What is the same is not written, so that no tool builds it again.
pub(crate) fn write(dir: &Path, language: Language) -> Result<()> {
    for (path, bytes) in files("sdk", language) {
        let path = dir.join(path);
        if std::fs::read(&path).is_ok_and(|found| found == bytes) {
            continue;
        }
        put(&path, bytes)?;
    }
    Ok(())
}

/// Writes a file and the directories above it.
pub(crate) fn put(path: &Path, bytes: &[u8]) -> Result<()> {
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).map_err(ToolchainError::io(parent))?;
    }
    std::fs::write(path, bytes).map_err(ToolchainError::io(path))
}

/// As [`put`], whole or not at all.
pub(crate) fn publish(path: &Path, bytes: &[u8]) -> Result<()> {
    let part = path.with_extension(format!("part{}", std::process::id()));
    put(&part, bytes)?;
    std::fs::rename(&part, path).map_err(ToolchainError::io(path))
}
