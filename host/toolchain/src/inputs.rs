//! What a component is made of, as one digest: every file of the project that its tools may read.
use std::path::Path;

use sha2::{Digest, Sha256};

use crate::error::{Result, ToolchainError};
use crate::manifest::{Language, MANIFEST};

/// What tools make at the top of a project, and what is about the project rather than in it. Below, the same names are the author's.
const NOT_INPUTS: [&str; 6] = [".git", ".github", ".rhost", "target", "node_modules", "tests"];

/// All that is read at the top of a project in Python, whose tool is told where to look. Modules of JavaScript and packages of Go may lie anywhere.
const PYTHON_INPUTS: [&str; 4] = [MANIFEST, "requirements.txt", "src", "sdk"];

/// The digest of the files below `dir`, by name, mode of execution left out, and of `recipe`, which stands for how they are used.
pub(crate) fn digest(dir: &Path, language: Language, recipe: &str) -> Result<String> {
    let mut hasher = Sha256::new();
    hasher.update(recipe);
    let counts = |name: &str| match language {
        Language::Python => PYTHON_INPUTS.contains(&name),
        _ => !NOT_INPUTS.contains(&name) && !name.ends_with(".wasm"),
    };
    add(dir, "", &counts, &mut hasher)?;
    Ok(hex::encode(hasher.finalize()))
}

/// `counts`: which names at the top do.
fn add(dir: &Path, prefix: &str, counts: &dyn Fn(&str) -> bool, hasher: &mut Sha256) -> Result<()> {
    let entries = std::fs::read_dir(dir).map_err(ToolchainError::io(dir))?;
    let mut entries = entries.collect::<std::io::Result<Vec<_>>>().map_err(ToolchainError::io(dir))?;
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let other = prefix.is_empty() && !counts(&name);
        // The SDK's pages change more often than its code.
        let page = prefix == "sdk/" && name == "README.md";
        if other || page || name == "__pycache__" {
            continue;
        }
        let (path, at) = (entry.path(), format!("{prefix}{name}"));
        // Links are followed: tools do.
        let about = std::fs::metadata(&path).map_err(ToolchainError::io(&path))?;
        if about.is_dir() {
            add(&path, &format!("{at}/"), counts, hasher)?;
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
    use crate::Language;

    #[test]
    fn what_tools_make_does_not_count_and_what_they_read_does() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        write("src/a", "1");
        let digest = || super::digest(dir.path(), Language::Js, "r").unwrap();
        let first = digest();
        write("node_modules/x/y", "1");
        write("a.wasm", "1");
        assert_eq!(digest(), first);
        assert_ne!(super::digest(dir.path(), Language::Js, "s").unwrap(), first);
        write("src/target/x", "1");
        let with_target = digest();
        assert_ne!(with_target, first);
        write("src/a", "2");
        let second = digest();
        assert_ne!(second, with_target);
        write("src/b", "");
        assert_ne!(digest(), second);
        let python = || super::digest(dir.path(), Language::Python, "r").unwrap();
        let (all, first) = (digest(), python());
        write("out/hello.txt", "an image's");
        assert_eq!(python(), first);
        assert_ne!(digest(), all, "it may be a module");
        write("src/b", "1");
        assert_ne!(python(), first);
    }
}
