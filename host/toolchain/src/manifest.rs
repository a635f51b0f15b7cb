//! `frontend.toml`: the file that makes a directory a frontend project.
use std::ops::Range;
use std::path::Path;

use serde::Deserialize;
use toml::Spanned;

use crate::about::{About, AboutTable};
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

/// What `frontend.toml` says.
#[derive(Debug, Clone)]
pub struct Manifest {
    /// The frontend's name: the component is `NAME.wasm`.
    pub name: String,
    /// What it is written in.
    pub language: Language,
    /// JavaScript: the module that exports `build`. Python: the name of the module that defines it, below `src`.
    pub entry: Option<String>,
    /// What it says of itself, for the component to take along.
    pub about: Option<About>,
}

/// The file, as written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    name: Spanned<String>,
    language: Language,
    entry: Option<Spanned<String>>,
    about: Option<AboutTable>,
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
        Self::parse(&text).map_err(|(span, reason)| {
            let line = span.map(|span| {
                let before = text.get(..span.start).unwrap_or(&text);
                (before.bytes().filter(|byte| *byte == b'\n').count() as u32 + 1, text.clone())
            });
            ToolchainError::Manifest { path, line, reason }
        })
    }

    /// An error has the place in the text, where it has one.
    fn parse(text: &str) -> std::result::Result<Self, (Option<Range<usize>>, String)> {
        let table: Table = toml::from_str(text).map_err(|error| (error.span(), error.message().to_owned()))?;
        let named = table.name.span();
        let name = table.name.into_inner();
        check_name(&name).map_err(|error| (Some(named), error.to_string()))?;
        if let Some(entry) = &table.entry {
            let wrong = |reason: String| Err((Some(entry.span()), reason));
            let text = entry.get_ref();
            if matches!(table.language, Language::Rust | Language::Go) {
                return wrong(format!("`entry` is for js and python; {} has its own rule", table.language.name()));
            }
            if text.is_empty() || text.starts_with('/') || text.split('/').any(|part| part == "..") {
                return wrong(format!("entry = \"{text}\": wanted a name inside the project"));
            }
        }
        let about = table.about.map(|about| about.read(&name)).transpose();
        Ok(Self {
            about: about.map_err(|(span, reason)| (Some(span), reason))?,
            name,
            language: table.language,
            entry: table.entry.map(Spanned::into_inner),
        })
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
    fn a_manifest_says_what_it_cannot_use_and_where() {
        assert_eq!(Manifest::parse("name='a'\nlanguage='go'\n").unwrap().about, None);
        let dir = tempfile::tempdir().unwrap();
        let read = |text: &str| {
            std::fs::write(dir.path().join(MANIFEST), text).unwrap();
            Manifest::read(dir.path())
        };
        let long = format!("name='a'\nlanguage='js'\n[about]\nversion='{}'", "1".repeat(257));
        for (text, wanted) in [
            ("language='go'", "frontend.toml:1: missing field `name`"),
            ("name='a'\nlanguage='perl'", "frontend.toml:2: unknown variant `perl`"),
            ("\nname='A'\nlanguage='go'", "frontend.toml:2: `A` cannot be a frontend's name"),
            ("name='a'\nlanguage='go'\nentry='x'", "frontend.toml:3: `entry` is for js and python"),
            ("name='a'\nlanguage='js'\nentry='../x.js'", "frontend.toml:3: entry = \"../x.js\": wanted a name inside"),
            ("name='a'\nlanguage='js'\nlang='x'", "frontend.toml:3: unknown field `lang`, expected one of"),
            (
                "name='a'\nlanguage='js'\n[about]\n\nfiles='x'",
                "frontend.toml:5: unknown field `files`, expected one of",
            ),
            ("name='a'\nlanguage='js'\n[about]\nversion='1 2'", "frontend.toml:4: about.version: wanted a version"),
            ("name='a'\nlanguage='js'\n[about]\ndescription=''", "frontend.toml:4: about.description: wanted a text"),
            ("name='a'\nlanguage='js'\n[about]\nname=\"a\\u001b\"", "frontend.toml:4: about.name: wanted one line"),
            (
                "name='a'\nlanguage='js'\n[about]\nlanguages=[\n'a',\n'b c']",
                "frontend.toml:6: about.languages: wanted a word",
            ),
            (
                "name='a'\nlanguage='js'\n[about]\nlanguages=['a',\n'a']",
                "frontend.toml:5: about.languages: `a` is there twice",
            ),
            (
                "name='a'\nlanguage='js'\n[about]\nfile-patterns=['a,b']",
                "about.file-patterns: wanted one entry without a comma",
            ),
            (
                "name='a'\nlanguage='js'\n[about]\nfile-patterns=['a//b']",
                "about.file-patterns: wanted a name of build files",
            ),
            ("name='a'\nlanguage='js'\n[about]\nsubrequests=['.x']", "about.subrequests: wanted the name of a request"),
            ("name='a'\nlanguage='js'\n[about]\ndocs='x.example'", "about.docs: wanted a URL"),
            ("name='a'\nlanguage='js'\n[about]\nsource='https:///x'", "about.source: wanted a URL"),
            ("name='a'\nlanguage='js'\n[about]\nlicenses='MIT, GPL'", "about.licenses: wanted an SPDX"),
            (&long, "about.version: wanted at most 256 bytes, these are 257"),
        ] {
            let error = read(text).unwrap_err().to_string();
            assert!(error.contains(wanted), "{text}: {error}");
        }
    }

    #[test]
    fn what_a_frontend_says_of_itself_is_json_in_a_section() {
        let text =
            "name='a'\nlanguage='go'\n[about]\nversion='1.0'\nfile-patterns=['*.a', 'A']\ndocs='https://x.example'";
        let about = Manifest::parse(text).unwrap().about.unwrap();
        let json = r#"{"format":1,"name":"a","version":"1.0","filePatterns":["*.a","A"],"docs":"https://x.example"}"#;
        assert_eq!(about.json(), json);
        let mut component = Vec::new();
        about.embed(&mut component);
        assert_eq!(component, [&[0, json.len() as u8 + 12, 11][..], b"rhost:about", json.as_bytes()].concat());
    }
}
