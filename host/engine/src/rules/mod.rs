//! `Rules`: what a repository's `rhost.toml` and the user's configuration say of frontends, and the policy that both lay down.
mod cosign;
mod file;
mod key;
mod pattern;
mod policy;
mod signature;
#[cfg(test)]
mod tests;
mod url_pattern;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use pattern::Glob;

use crate::frontends::FrontendSource;

pub use cosign::SignatureError;
pub(crate) use cosign::{SIGNATURE, SIMPLE_SIGNING, Signatures, list, look, signature_tag};
pub use file::RuleFile;
pub(crate) use file::{FrontendTable, PolicyTable};
pub(crate) use key::VerifyingKey;
pub use policy::Refusal;
pub(crate) use policy::WantedSignature;
pub use signature::Signature;

/// The files that have a say in a build.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Rules {
    /// The repository's.
    pub(crate) project: Option<Arc<RuleFile>>,
    /// The user's.
    pub(crate) user: Option<Arc<RuleFile>>,
}

/// A line of a file that chose.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleLine {
    /// The file.
    pub file: PathBuf,
    /// From 1.
    pub line: u32,
    /// What it says, as `"*.star" = "lang"`.
    pub text: String,
}

impl std::fmt::Display for RuleLine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{} says `{}`", self.file.display(), self.line, self.text)
    }
}

impl Rules {
    /// The repository's first.
    fn files(&self) -> impl Iterator<Item = &RuleFile> {
        [&self.project, &self.user].into_iter().flatten().map(|file| &**file)
    }

    /// What `name` stands for: an alias, the stock frontend, a file, or an image. And the alias's line, if it is one.
    pub(crate) fn named(&self, name: &str) -> (FrontendSource, Option<RuleLine>) {
        for file in self.files() {
            if let Some(rule) = file.alias.get(name) {
                let text = format!("{name} = \"{}\"", rule.value);
                let line = RuleLine { file: file.path.clone(), line: rule.line, text };
                return (written(file, &rule.value), Some(line));
            }
        }
        (FrontendSource::named(name), None)
    }

    /// The rule that says to pass over `# syntax=` lines.
    pub(crate) fn ignores_syntax(&self) -> Option<RuleLine> {
        let found = self.files().find_map(|file| Some((file, file.ignore_syntax.as_ref()?)));
        let (file, rule) = found.filter(|(_, rule)| rule.value)?;
        Some(RuleLine { file: file.path.clone(), line: rule.line, text: "ignore-syntax = true".into() })
    }

    /// What reads a build file of this name, by pattern. `path`: where it lies, if it is a file of this machine; patterns with directories are
    /// relative to the file that they stand in.
    pub(crate) fn for_file(&self, name: &str, path: Option<&Path>) -> Option<(FrontendSource, RuleLine)> {
        let name = name.rsplit('/').next().unwrap_or(name);
        for file in self.files() {
            let below = path.and_then(|path| path.strip_prefix(file.path.parent()?).ok()?.to_str());
            let is = |glob: &Glob| match glob.is_path() {
                true => below.is_some_and(|below| glob.matches(below)),
                false => glob.matches(name),
            };
            if let Some((glob, rule)) = file.files.iter().find(|(glob, _)| is(glob)) {
                let text = format!("\"{glob}\" = \"{}\"", rule.value);
                let line = RuleLine { file: file.path.clone(), line: rule.line, text };
                let aliased = (rule.value != "dockerfile").then(|| self.named(&rule.value));
                let source = match aliased {
                    None => FrontendSource::Stock,
                    Some((source, Some(_))) => source,
                    Some((_, None)) => written(file, &rule.value),
                };
                return Some((source, line));
            }
        }
        None
    }
}

/// What a file means by `value`.
fn written(file: &RuleFile, value: &str) -> FrontendSource {
    match value {
        "dockerfile" => FrontendSource::Stock,
        path if path.ends_with(".wasm") || path.starts_with(['.', '/']) => {
            FrontendSource::File(file.beside(path.as_ref()))
        }
        name => FrontendSource::named(name),
    }
}
