//! `RuleFile`: the `[frontend]` and `[policy]` tables of a repository's `rhost.toml` or of the user's configuration.
//!
//! A repository's file is written by whoever may change the repository: it chooses and forbids, and can allow nothing that the user's file does not.
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use toml::Spanned;

use super::key::VerifyingKey;
use super::pattern::{Glob, ImageGlob};
use super::url_pattern::UrlGlob;
use crate::entitlements::Entitlement;
use crate::error::{BuildError, Kind, Place};

/// Largest file that is read, in bytes.
const LARGEST: u64 = 1 << 20;

/// `[frontend]`, as written.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct FrontendTable {
    #[serde(default)]
    ignore_syntax: Option<Spanned<bool>>,
    #[serde(default)]
    alias: BTreeMap<String, Spanned<String>>,
    #[serde(default)]
    files: BTreeMap<String, Spanned<String>>,
}

/// `[policy]`, as written.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct PolicyTable {
    #[serde(default)]
    frontends: Option<Spanned<Vec<String>>>,
    #[serde(default)]
    registries: Option<Spanned<Vec<String>>>,
    #[serde(default)]
    git: Option<Spanned<Vec<String>>>,
    #[serde(default)]
    http: Option<Spanned<Vec<String>>>,
    #[serde(default)]
    entitlements: Option<Spanned<Vec<String>>>,
    #[serde(default)]
    limits: Option<Spanned<LimitTable>>,
    #[serde(default)]
    signed: Vec<Spanned<SignedTable>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct LimitTable {
    #[serde(default)]
    memory: Option<String>,
    #[serde(default)]
    compute: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct SignedTable {
    names: Vec<String>,
    keys: Vec<String>,
}

/// A repository's `rhost.toml`, as written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct ProjectTable {
    #[serde(default)]
    vendor: Option<PathBuf>,
    #[serde(default)]
    frontend: FrontendTable,
    #[serde(default)]
    policy: PolicyTable,
}

/// What a rule says, and in which line (from 1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rule<T> {
    pub(crate) line: u32,
    pub(crate) value: T,
}

/// Who may be trusted by which keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Signed {
    pub(crate) names: Vec<ImageGlob>,
    pub(crate) keys: Vec<VerifyingKey>,
}

/// What may read build files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum FrontendGlob {
    /// `dockerfile`, the one that is built in.
    Stock,
    /// A file: an absolute pattern.
    File(Glob),
    /// In a registry.
    Image(ImageGlob),
}

/// Bounds of guests; `None` says nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct GuestLimits {
    /// Bytes.
    pub(crate) memory: Option<usize>,
    pub(crate) compute: Option<Duration>,
}

/// The rules of one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleFile {
    /// The file.
    pub(crate) path: PathBuf,
    /// Whether it is the user's own, which may raise limits.
    pub(crate) own: bool,
    pub(crate) ignore_syntax: Option<Rule<bool>>,
    /// What names stand for.
    pub(crate) alias: BTreeMap<String, Rule<String>>,
    /// Frontends of build files by pattern, the most exact first: names, then the longest pattern.
    pub(crate) files: Vec<(Glob, Rule<String>)>,
    pub(crate) frontends: Option<Rule<Vec<FrontendGlob>>>,
    pub(crate) registries: Option<Rule<Vec<ImageGlob>>>,
    pub(crate) git: Option<Rule<Vec<UrlGlob>>>,
    pub(crate) http: Option<Rule<Vec<UrlGlob>>>,
    pub(crate) entitlements: Option<Rule<Vec<Entitlement>>>,
    pub(crate) limits: Option<Rule<GuestLimits>>,
    pub(crate) signed: Vec<Rule<Signed>>,
    /// A repository's vendor directory.
    pub(crate) vendor: Option<PathBuf>,
}

/// Finds lines, and makes errors with their place.
struct Text<'t> {
    path: &'t Path,
    text: &'t str,
}

impl Text<'_> {
    fn line(&self, span: &Range<usize>) -> u32 {
        let before = self.text.get(..span.start).unwrap_or(self.text);
        before.bytes().filter(|byte| *byte == b'\n').count() as u32 + 1
    }

    fn wrong(&self, span: Option<Range<usize>>, message: impl std::fmt::Display) -> BuildError {
        let mut error = BuildError::new(Kind::Request, message);
        let line = span.map_or(1, |span| self.line(&span));
        let (file, text) = (self.path.display().to_string(), self.text.to_owned());
        error.place = Some(Place { file, first_line: line, last_line: line, text });
        error
    }

    /// `list`, each read by `read`.
    fn list<T>(
        &self,
        key: &str,
        list: Option<Spanned<Vec<String>>>,
        read: impl Fn(&str) -> Result<T, String>,
    ) -> Result<Option<Rule<Vec<T>>>, BuildError> {
        let Some(list) = list else { return Ok(None) };
        let line = self.line(&list.span());
        let read = |text: &String| read(text).map_err(|error| self.wrong(Some(list.span()), format!("{key}: {error}")));
        Ok(Some(Rule { line, value: list.get_ref().iter().map(read).collect::<Result<_, _>>()? }))
    }

    fn rules<T: Clone>(&self, value: &Spanned<T>) -> Rule<T> {
        Rule { line: self.line(&value.span()), value: value.get_ref().clone() }
    }
}

impl RuleFile {
    /// Reads a repository's file. `None`: there is none.
    ///
    /// # Errors
    /// It cannot be read or is wrong, with file and line.
    pub fn of_project(path: &Path) -> Result<Option<Arc<Self>>, BuildError> {
        let Some(text) = read(path)? else { return Ok(None) };
        let place = Text { path, text: &text };
        let table: ProjectTable = toml::from_str(&text).map_err(|error| {
            let own = ["registry", "emulation", "build", "http", "gc", "git"];
            let found = place.wrong(error.span(), error.message());
            if own.iter().any(|key| error.message().starts_with(&format!("unknown field `{key}`"))) {
                found.hint(
                    "that belongs into the user's configuration: a repository does not say where registries are and how the machine is used",
                )
            } else {
                found
            }
        })?;
        let mut rules = Self::new(&place, false, table.frontend, table.policy)?;
        rules.vendor = table.vendor.map(|path| rules.beside(&path));
        Ok(Some(Arc::new(rules)))
    }

    /// The tables of the user's configuration `text` at `path`.
    ///
    /// # Errors
    /// They are wrong, with file and line.
    pub(crate) fn of_user(
        path: &Path,
        text: &str,
        frontend: FrontendTable,
        policy: PolicyTable,
    ) -> Result<Arc<Self>, BuildError> {
        Self::new(&Text { path, text }, true, frontend, policy).map(Arc::new)
    }

    /// Where the repository keeps what its builds need, if it says so.
    pub fn vendor(&self) -> Option<&Path> {
        self.vendor.as_deref()
    }

    /// Names of build files that patterns without directories are for, in the order of their lines.
    pub fn patterns(&self) -> Vec<String> {
        let mut all: Vec<_> = self.files.iter().filter(|(glob, _)| !glob.is_path()).collect();
        all.sort_by_key(|(_, rule)| rule.line);
        all.into_iter().map(|(glob, _)| glob.to_string()).collect()
    }

    /// Whether one of them is for a build file of this name.
    pub fn reads(&self, name: &str) -> bool {
        self.files.iter().any(|(glob, _)| !glob.is_path() && glob.matches(name))
    }

    /// A path in the file is relative to its directory.
    pub(crate) fn beside(&self, path: &Path) -> PathBuf {
        self.path.parent().unwrap_or(Path::new(".")).join(path.strip_prefix(".").unwrap_or(path))
    }

    fn new(place: &Text<'_>, own: bool, frontend: FrontendTable, policy: PolicyTable) -> Result<Self, BuildError> {
        let mut files = Vec::new();
        for (pattern, name) in &frontend.files {
            let glob = Glob::parse(pattern)
                .map_err(|error| place.wrong(Some(name.span()), format!("frontend.files: {error}")))?;
            files.push((glob, place.rules(name)));
        }
        files.sort_by_key(|(glob, _)| {
            let text = glob.to_string();
            (text.contains(['*', '?', '[']), std::cmp::Reverse(text.len()))
        });
        for (key, name) in frontend.alias.iter().chain(&frontend.files) {
            if key.trim().is_empty() || name.get_ref().trim().is_empty() {
                return Err(place.wrong(Some(name.span()), "an empty name chooses no frontend"));
            }
        }
        let directory = std::path::absolute(place.path)
            .ok()
            .and_then(|path| path.parent().map(Path::to_path_buf))
            .unwrap_or_else(|| PathBuf::from("/"));
        let frontend_glob = |text: &str| -> Result<FrontendGlob, String> {
            if text == "dockerfile" {
                return Ok(FrontendGlob::Stock);
            }
            if !text.starts_with(['.', '/']) {
                return ImageGlob::parse(text).map(FrontendGlob::Image);
            }
            let path = directory.join(text.strip_prefix("./").unwrap_or(text));
            let path = path.to_str().ok_or("the path is not UTF-8")?;
            Glob::parse(path.trim_start_matches('/')).map(FrontendGlob::File)
        };
        let limits = match &policy.limits {
            None => None,
            Some(limits) => {
                let wrong = |error| place.wrong(Some(limits.span()), format!("policy.limits: {error}"));
                Some(Rule { line: place.line(&limits.span()), value: guest_limits(limits.get_ref()).map_err(wrong)? })
            }
        };
        let mut signed = Vec::new();
        for rule in &policy.signed {
            let wrong = |error| place.wrong(Some(rule.span()), format!("policy.signed: {error}"));
            let names = rule.get_ref().names.iter().map(|text| ImageGlob::parse(text));
            let names = names.collect::<Result<Vec<_>, _>>().map_err(wrong)?;
            let key = |text: &String| {
                let path = directory.join(text);
                let bytes = read(&path)?.ok_or_else(|| wrong(format!("there is no key `{}`", path.display())))?;
                VerifyingKey::parse(text, &bytes).map_err(|error| wrong(format!("key `{text}`: {error}")))
            };
            let keys = rule.get_ref().keys.iter().map(key).collect::<Result<Vec<_>, _>>()?;
            if keys.is_empty() || names.is_empty() {
                return Err(wrong(
                    "wanted names and keys: `names = [\"registry.example/team\"]`, `keys = [\"cosign.pub\"]`".into(),
                ));
            }
            signed.push(Rule { line: place.line(&rule.span()), value: Signed { names, keys } });
        }
        let parse = |text: &str| text.parse::<Entitlement>().map_err(|error| error.to_string());
        Ok(Self {
            path: place.path.to_path_buf(),
            own,
            ignore_syntax: frontend.ignore_syntax.as_ref().map(|value| place.rules(value)),
            alias: frontend.alias.iter().map(|(name, value)| (name.clone(), place.rules(value))).collect(),
            files,
            frontends: place.list("policy.frontends", policy.frontends, frontend_glob)?,
            registries: place.list("policy.registries", policy.registries, ImageGlob::parse)?,
            git: place.list("policy.git", policy.git, UrlGlob::parse)?,
            http: place.list("policy.http", policy.http, UrlGlob::parse)?,
            entitlements: place.list("policy.entitlements", policy.entitlements, parse)?,
            limits,
            signed,
            vendor: None,
        })
    }
}

/// The text of a file that a repository names; `None` if it is not there.
fn read(path: &Path) -> Result<Option<String>, BuildError> {
    use std::io::Read;
    let wrong =
        |error: &dyn std::fmt::Display| BuildError::new(Kind::Request, format!("`{}`: {error}", path.display()));
    let file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(wrong(&error)),
    };
    let mut text = String::new();
    file.take(LARGEST + 1).read_to_string(&mut text).map_err(|error| wrong(&error))?;
    if text.len() as u64 > LARGEST {
        return Err(wrong(&format!("is larger than {LARGEST} bytes")));
    }
    Ok(Some(text))
}

fn guest_limits(table: &LimitTable) -> Result<GuestLimits, String> {
    const SMALLEST: u64 = 1 << 20;
    const LARGEST: u64 = 4 << 30;
    let memory = table.memory.as_deref().map(|text| {
        let bytes = match text.parse() {
            Ok(crate::gc::Space::Bytes(bytes)) => bytes,
            Ok(_) => return Err(format!("memory = \"{text}\": wanted an amount, as in 128MiB")),
            Err(error) => return Err(error),
        };
        let fits = (SMALLEST..=LARGEST).contains(&bytes);
        if fits { Ok(bytes as usize) } else { Err(format!("memory = \"{text}\": wanted 1MiB to 4GiB")) }
    });
    let compute = table.compute.as_deref().map(|text| {
        let time = crate::gc::parse_duration(text)?;
        let fits = (Duration::from_millis(10)..=Duration::from_secs(600)).contains(&time);
        if fits { Ok(time) } else { Err(format!("compute = \"{text}\": wanted a time up to 10m")) }
    });
    Ok(GuestLimits { memory: memory.transpose()?, compute: compute.transpose()? })
}
