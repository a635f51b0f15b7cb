//! `case.toml`: what a frontend is asked in one test, and the world that it is told of.
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use rhost_frontend::Invocation;
use rhost_llb::Platform;
use serde::Deserialize;

/// The file that makes a folder a test.
const FILE: &str = "case.toml";
/// What a user would not have in a build context.
const GOLDEN_PREFIX: &str = "expected.";

/// A test that cannot be run as it is written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CaseError {
    /// A folder without tests.
    #[error("there is no test in `{0}`: a test is a folder with a `case.toml`")]
    Nothing(PathBuf),
    /// A file or folder that cannot be read.
    #[error("cannot read `{path}`: {reason}")]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// It is no `case.toml`.
    #[error("{path}: {reason}")]
    Wrong {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

/// One test.
#[derive(Debug, Clone)]
pub struct Case {
    /// Its folder's path below the folder of all tests.
    pub name: String,
    /// Its folder.
    pub directory: PathBuf,
    /// What the frontend is asked.
    pub invocation: Invocation,
    /// Local contexts.
    pub contexts: BTreeMap<String, PathBuf>,
    /// Images, by the reference as it was written.
    pub images: BTreeMap<String, FakeImage>,
    /// Results of solves.
    pub solves: Vec<FakeSolve>,
    /// Features that the host does not have.
    pub unsupported: Vec<String>,
    /// What the frontend is to fail with; `None`: it is to answer.
    pub error: Option<String>,
}

/// An image that is not there.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FakeImage {
    /// Its configuration: a table, or the name of a JSON file in the test's folder. Its platform may be left out, and is
    /// then that which is asked for; so may its layers.
    #[serde(default)]
    pub config: Option<toml::Value>,
    /// Its digest [default: made from the configuration].
    #[serde(default)]
    pub digest: Option<String>,
    /// The platforms that it has [default: any].
    #[serde(default)]
    pub platforms: Vec<String>,
    /// What asking for it fails with.
    #[serde(default)]
    pub error: Option<String>,
}

/// What a solve gives.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FakeSolve {
    /// A piece of the text of the operation that is solved, or of its name [default: any operation].
    #[serde(default)]
    pub op: Option<String>,
    /// Only this solve, counted from 1.
    #[serde(default)]
    pub order: Option<usize>,
    /// The folder in the test's folder that it gives.
    #[serde(default)]
    pub tree: Option<String>,
    /// What it fails with.
    #[serde(default)]
    pub error: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct File {
    #[serde(default)]
    build_file: Option<String>,
    #[serde(default)]
    context: Option<String>,
    #[serde(default)]
    target: Option<String>,
    #[serde(default)]
    platforms: Vec<String>,
    #[serde(default)]
    multi_platform: Option<bool>,
    #[serde(default)]
    build_platform: Option<String>,
    #[serde(default)]
    build_args: BTreeMap<String, String>,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    #[serde(default)]
    contexts: BTreeMap<String, String>,
    #[serde(default)]
    options: BTreeMap<String, String>,
    #[serde(default)]
    images: BTreeMap<String, FakeImage>,
    #[serde(default)]
    solves: Vec<FakeSolve>,
    #[serde(default)]
    unsupported: Vec<String>,
    #[serde(default)]
    error: Option<String>,
}

/// The tests below `directory`, sorted by name, those whose name contains one of `filters` (none: all).
///
/// # Errors
/// There is none, or one is wrong.
pub fn find_cases(directory: &Path, filters: &[String]) -> Result<Vec<Case>, CaseError> {
    let mut folders = Vec::new();
    collect(directory, directory, &mut folders)?;
    if folders.is_empty() {
        return Err(CaseError::Nothing(directory.to_owned()));
    }
    folders.sort();
    let wanted = |name: &String| filters.is_empty() || filters.iter().any(|filter| name.contains(filter.as_str()));
    let folders = folders.into_iter().filter(|(name, _)| wanted(name));
    folders.map(|(name, folder)| Case::read(name, folder)).collect()
}

/// Folders with a `case.toml`; what lies in one belongs to it.
fn collect(top: &Path, folder: &Path, found: &mut Vec<(String, PathBuf)>) -> Result<(), CaseError> {
    if folder.join(FILE).is_file() {
        let name = folder.strip_prefix(top).unwrap_or(folder).to_string_lossy().into_owned();
        let own = || folder.canonicalize().ok()?.file_name().map(|name| name.to_string_lossy().into_owned());
        let name = if name.is_empty() { own().unwrap_or_default() } else { name };
        found.push((name, folder.to_owned()));
        return Ok(());
    }
    let broken = |error: std::io::Error| CaseError::Read { path: folder.to_owned(), reason: error.to_string() };
    for entry in std::fs::read_dir(folder).map_err(broken)? {
        let entry = entry.map_err(broken)?;
        // A link may lead back here.
        if entry.file_type().map_err(broken)?.is_dir() {
            collect(top, &entry.path(), found)?;
        }
    }
    Ok(())
}

impl Case {
    /// Reads the test in `directory`.
    ///
    /// # Errors
    /// Its `case.toml` is wrong, or names what is not there.
    pub fn read(name: String, directory: PathBuf) -> Result<Self, CaseError> {
        let path = directory.join(FILE);
        let wrong = |reason: String| CaseError::Wrong { path: path.clone(), reason };
        let text = std::fs::read_to_string(&path)
            .map_err(|error| CaseError::Read { path: path.clone(), reason: error.to_string() })?;
        let file: File = toml::from_str(&text).map_err(|error| wrong(error.to_string()))?;
        let platform = |text: &str| text.parse::<Platform>().map_err(|error| wrong(error.to_string()));
        let folder = |text: &str| {
            let path = directory.join(text);
            if path.is_dir() { Ok(path) } else { Err(wrong(format!("`{text}` is no folder of the test"))) }
        };
        let platforms = file.platforms.iter().map(|text| platform(text)).collect::<Result<Vec<_>, _>>()?;
        let first = platforms.first().cloned().unwrap_or_else(|| Platform::new("linux", "amd64", ""));
        let build_file = file.build_file.unwrap_or_else(|| "Dockerfile".to_owned());
        let mut invocation = Invocation::new(build_file, first);
        // Not this machine's: a test means the same everywhere.
        invocation.build_platform = match &file.build_platform {
            Some(text) => platform(text)?,
            None => Platform::new("linux", "amd64", ""),
        };
        if !platforms.is_empty() {
            let list: Vec<String> = platforms.iter().map(Platform::with_version).collect();
            invocation.options.insert("platform".into(), list.join(","));
            invocation.platforms = platforms;
        }
        invocation.multi_platform = file.multi_platform.unwrap_or(invocation.platforms.len() > 1);
        invocation.target = file.target;
        invocation.build_args = file.build_args.into_iter().collect();
        invocation.labels = file.labels.into_iter().collect();
        invocation.options.extend(file.options);
        let context = folder(file.context.as_deref().unwrap_or("."))?;
        let mut contexts: BTreeMap<_, _> =
            ["context", "dockerfile"].map(|name| (name.to_owned(), context.clone())).into();
        for (name, value) in file.contexts {
            let value = if value.contains("://") || value.starts_with("local:") || value.starts_with("input:") {
                value
            } else {
                contexts.insert(name.clone(), folder(&value)?);
                format!("local:{name}")
            };
            invocation.named_contexts.push((name, value));
        }
        for (reference, image) in &file.images {
            let wrong = |reason: &str| wrong(format!("images.\"{reference}\": {reason}"));
            if image.config.is_some() == image.error.is_some() {
                return Err(wrong("wanted either `config` or `error`"));
            }
            if !matches!(&image.config, None | Some(toml::Value::Table(_) | toml::Value::String(_))) {
                return Err(wrong("`config` is a table, or the name of a JSON file"));
            }
            for text in &image.platforms {
                text.parse::<Platform>().map_err(|error| wrong(&error.to_string()))?;
            }
        }
        for solve in &file.solves {
            match (&solve.tree, &solve.error) {
                (Some(tree), None) => drop(folder(tree)?),
                (None, Some(_)) => {}
                _ => return Err(wrong("solves: wanted either `tree` or `error` of each".into())),
            }
        }
        Ok(Self {
            name,
            directory,
            invocation,
            contexts,
            images: file.images,
            solves: file.solves,
            unsupported: file.unsupported,
            error: file.error,
        })
    }

    /// Whether a name at the top of a context is of the test rather than of the context.
    pub(crate) fn hides(&self, context: &Path, name: &str) -> bool {
        let own = context == self.directory || context == self.directory.join(".");
        own && (name == FILE || name.starts_with(GOLDEN_PREFIX))
    }
}
