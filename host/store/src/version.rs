//! The store's format, in the file `version`: a store that a newer rhost has written is refused, not guessed at.
//!
//! The line carries its own digest: damage must not look like a newer format. A file that is missing or damaged is written anew, because what it
//! guards is versioned by name too.
use std::path::Path;

use rhost_llb::Digest;

use crate::{Error, Result};

/// The format that this rhost writes.
const FORMAT: u32 = 1;

fn text(format: u32) -> String {
    let line = format!("rhost store {format}\n");
    format!("{line}{}\n", Digest::of(&line))
}

fn read(found: &str) -> Option<u32> {
    let format = found.strip_prefix("rhost store ")?.split_once('\n')?.0.parse().ok()?;
    (text(format) == found).then_some(format)
}

/// Checks the version of the store at `root`, and marks a new one.
pub(crate) fn check(root: &Path) -> Result<()> {
    let path = root.join("version");
    let found = std::fs::read(&path).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    match found.as_deref().and_then(read) {
        Some(format) if format > FORMAT => Err(Error::Newer { root: root.to_path_buf(), found: format, known: FORMAT }),
        Some(_) => Ok(()),
        None => {
            let new = root.join(format!("ingest-v1/{}", crate::lock::unique_name()));
            std::fs::write(&new, text(FORMAT)).map_err(|e| Error::io("write", &new, e))?;
            std::fs::rename(&new, &path).map_err(|e| Error::io("write", path, e))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_newer_format_is_refused_and_damage_is_written_anew() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("ingest-v1")).unwrap();
        let path = dir.path().join("version");
        for damaged in ["", "rhost store 7\n", "rhost store 7\nsha256:00\n", "\u{0}\u{0}"] {
            std::fs::write(&path, damaged).unwrap();
            check(dir.path()).unwrap();
            assert_eq!(std::fs::read_to_string(&path).unwrap(), text(FORMAT));
        }
        std::fs::write(&path, text(FORMAT + 1)).unwrap();
        let error = check(dir.path()).unwrap_err().to_string();
        assert!(error.contains("newer rhost") && error.contains("--root"), "{error}");
    }
}
