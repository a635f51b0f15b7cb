//! What a component is made of, as one digest: every file of the project that its tools may read.
use std::path::Path;

use sha2::{Digest, Sha256};

use crate::error::{Result, ToolchainError};

/// Directories that tools make, and what is about the project rather than in it.
const NOT_INPUTS: [&str; 8] = [".git", ".github", ".rhost", "target", "node_modules", "__pycache__", "tests", "dist"];

/// The digest of the files below `dir`, by name, mode of execution left out, and of `recipe`, which stands for how they are used.
pub(crate) fn digest(dir: &Path, recipe: &str) -> Result<String> {
    let mut hasher = Sha256::new();
    hasher.update(recipe);
    add(dir, "", &mut hasher)?;
    Ok(hex::encode(hasher.finalize()))
}

fn add(dir: &Path, prefix: &str, hasher: &mut Sha256) -> Result<()> {
    let entries = std::fs::read_dir(dir).map_err(ToolchainError::io(dir))?;
    let mut entries = entries.collect::<std::io::Result<Vec<_>>>().map_err(ToolchainError::io(dir))?;
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if NOT_INPUTS.contains(&&*name) || name.ends_with(".wasm") || name.ends_with(".md") {
            continue;
        }
        let (path, at) = (entry.path(), format!("{prefix}{name}"));
        // Links are followed: tools do.
        let about = std::fs::metadata(&path).map_err(ToolchainError::io(&path))?;
        if about.is_dir() {
            add(&path, &format!("{at}/"), hasher)?;
        } else if about.is_file() {
            let bytes = std::fs::read(&path).map_err(ToolchainError::io(&path))?;
            hasher.update((at.len() as u64).to_le_bytes());
            hasher.update(&at);
            hasher.update((bytes.len() as u64).to_le_bytes());
            hasher.update(bytes);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #[test]
    fn what_tools_make_does_not_count_and_what_they_read_does() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        write("src/a", "1");
        let digest = || super::digest(dir.path(), "r").unwrap();
        let first = digest();
        write("node_modules/x/y", "1");
        write("a.wasm", "1");
        assert_eq!(digest(), first);
        assert_ne!(super::digest(dir.path(), "s").unwrap(), first);
        write("src/a", "2");
        let second = digest();
        assert_ne!(second, first);
        write("src/b", "");
        assert_ne!(digest(), second);
    }
}
