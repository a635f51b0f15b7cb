//! A new project: the language's template with its name filled in, and the SDK beside it.
use std::path::Path;

use crate::error::{Result, ToolchainError};
use crate::manifest::{Language, check_name};
use crate::sdk;

/// What templates have in place of the project's name.
const NAME: &str = "hello-lang";

/// Writes a project into `dir`, which must be empty or absent.
///
/// # Errors
/// The name does not fit, something is there already, or it cannot be written.
pub fn create(dir: &Path, name: &str, language: Language) -> Result<()> {
    check_name(name)?;
    match std::fs::read_dir(dir) {
        Ok(mut entries) => {
            if entries.next().is_some() {
                return Err(ToolchainError::Occupied(dir.into()));
            }
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(ToolchainError::io(dir)(error)),
    }
    for (path, bytes) in sdk::files("template", language) {
        let text = String::from_utf8_lossy(bytes);
        // Rust writes the name of a crate in two ways.
        let text = text.replace(NAME, name).replace(&NAME.replace('-', "_"), &name.replace('-', "_"));
        // Files that mean something to tools where they lie in the checkout bear another name there.
        let path = path.strip_suffix(".in").unwrap_or(path).replace("dot-", ".");
        sdk::put(&dir.join(path), text.as_bytes())?;
    }
    sdk::write(&dir.join("sdk"), language)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Manifest;

    #[test]
    fn a_project_is_whole_and_bears_its_name() {
        for language in Language::ALL {
            let dir = tempfile::tempdir().unwrap();
            let project = dir.path().join("p");
            create(&project, "my-lang", language).unwrap();
            let manifest = Manifest::read(&project).unwrap();
            assert_eq!((manifest.name.as_str(), manifest.language), ("my-lang", language));
            for file in ["README.md", ".gitignore", ".github/workflows/frontend.yml", "sdk/wit/world.wit"] {
                let text = std::fs::read_to_string(project.join(file)).unwrap_or_else(|e| panic!("{file}: {e}"));
                assert!(!text.contains("hello-lang") && !text.contains("hello_lang"), "{language:?} {file}");
            }
            let again = create(&project, "my-lang", language).unwrap_err();
            assert!(matches!(again, ToolchainError::Occupied(_)), "{again}");
        }
    }
}
