//! `frontend.toml`: the file that makes a directory a frontend project.
use std::path::Path;

use serde::Deserialize;

use crate::error::{Result, ToolchainError};

/// Its name.
pub const MANIFEST: &str = "frontend.toml";

/// A language with an SDK.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Language {
    /// By cargo.
    Rust,
    /// By componentize-js.
    Js,
    /// By componentize-py.
    Python,
    /// By go.
    Go,
}

impl Language {
    /// All of them, in the order that help and messages use.
    pub const ALL: [Self; 4] = [Self::Rust, Self::Js, Self::Python, Self::Go];

    /// As `frontend.toml` and `--lang` write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Rust => "rust",
            Self::Js => "js",
            Self::Python => "python",
            Self::Go => "go",
        }
    }

    /// Reads [`Language::name`].
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|language| language.name() == text)
    }
}

/// What `frontend.toml` says of building. What it says of shipping (`[about]`) is for others.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Manifest {
    /// The frontend's name: the component is `NAME.wasm`.
    pub name: String,
    /// What it is written in.
    pub language: Language,
    /// JavaScript: the module that exports `build`. Python: the name of the module that defines it, below `src`.
    pub entry: Option<String>,
    /// Everything else, of which only what others read is allowed.
    #[serde(flatten)]
    rest: toml::Table,
}

impl Manifest {
    /// Reads the directory's.
    ///
    /// # Errors
    /// There is none, or it cannot be used.
    pub fn read(dir: &Path) -> Result<Self> {
        let path = dir.join(MANIFEST);
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(ToolchainError::NoProject(dir.into()));
            }
            Err(error) => return Err(ToolchainError::io(path)(error)),
        };
        Self::parse(&text).map_err(|reason| ToolchainError::Manifest { path, reason })
    }

    fn parse(text: &str) -> std::result::Result<Self, String> {
        let manifest: Self = toml::from_str(text).map_err(|error| error.to_string())?;
        if let Some(key) = manifest.rest.keys().find(|key| *key != "about") {
            return Err(format!("there is no key `{key}`: wanted name, language, entry, [about]"));
        }
        check_name(&manifest.name).map_err(|error| error.to_string())?;
        match (&manifest.entry, manifest.language) {
            (Some(_), Language::Rust | Language::Go) => {
                return Err(format!("`entry` is for js and python; {} has its own rule", manifest.language.name()));
            }
            (Some(entry), _) if entry.is_empty() || entry.starts_with('/') || entry.split('/').any(|p| p == "..") => {
                return Err(format!("entry = \"{entry}\": wanted a name inside the project"));
            }
            _ => {}
        }
        Ok(manifest)
    }
}

/// Names are those of a crate, an npm package, a Go module and an image repository at once.
pub(crate) fn check_name(name: &str) -> Result<()> {
    let good = name.len() <= 63
        && name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && !name.contains("--")
        && !name.ends_with('-');
    if good { Ok(()) } else { Err(ToolchainError::Name(name.to_owned())) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_every_language() {
        for name in ["a", "my-lang", "x2", "a-1"] {
            assert!(check_name(name).is_ok(), "{name}");
        }
        for name in ["", "A", "-a", "a-", "a--b", "1a", "a_b", "a/b", "..", "ä", &"a".repeat(64)] {
            assert!(check_name(name).is_err(), "{name}");
        }
    }

    #[test]
    fn a_manifest_says_what_it_cannot_use() {
        let read = |text: &str| Manifest::parse(text).map(|m| m.name);
        assert_eq!(read("name='a'\nlanguage='go'\n[about]\nversion='1'").unwrap(), "a");
        for (text, wanted) in [
            ("language='go'", "missing field `name`"),
            ("name='a'\nlanguage='perl'", "unknown variant `perl`"),
            ("name='A'\nlanguage='go'", "cannot be a frontend's name"),
            ("name='a'\nlanguage='go'\nentry='x'", "is for js and python"),
            ("name='a'\nlanguage='js'\nentry='../x.js'", "inside the project"),
            ("name='a'\nlanguage='js'\nlang='x'", "there is no key `lang`"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(wanted), "{text}: {error}");
        }
    }
}
