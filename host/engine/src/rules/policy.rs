//! The checks: what a build may be read by, stand on, fetch and be granted. Every file that has a say must agree; a refusal names its rule.
use std::path::{Path, PathBuf};

use rhost_frontend::Limits;
use rhost_llb::Digest;
use rhost_registry::{Reference, redact};

use super::Rules;
use super::file::{FrontendGlob, Rule, RuleFile, Signed};
use super::url_pattern::UrlGlob;
use crate::entitlements::Entitlement;
use crate::frontends::FrontendSource;

/// A rule says no.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what}: {key} at {}:{line} {why}", file.display())]
pub struct Refusal {
    /// What is refused.
    pub what: String,
    /// The rule.
    pub key: &'static str,
    /// The file in which it stands.
    pub file: PathBuf,
    /// Its line there.
    pub line: u32,
    /// What the rule says.
    pub why: String,
}

/// The rule for signatures of one image.
pub(crate) struct WantedSignature<'r> {
    file: &'r RuleFile,
    rule: &'r Rule<Signed>,
}

impl<'r> WantedSignature<'r> {
    pub(crate) fn keys(&self) -> &'r [super::key::VerifyingKey] {
        &self.rule.value.keys
    }

    /// It has none.
    pub(crate) fn refusal(&self, image: &Reference, found: String) -> Refusal {
        let keys: Vec<&str> = self.keys().iter().map(|key| key.name.as_str()).collect();
        let why = format!("wants a signature by {}; {found}", keys.join(" or "));
        refusal(self.file, self.rule.line, "policy.signed", format!("`{image}` is not signed as wanted"), why)
    }
}

fn refusal(file: &RuleFile, line: u32, key: &'static str, what: String, why: String) -> Refusal {
    Refusal { what, key, file: file.path.clone(), line, why }
}

fn listed<T: std::fmt::Display>(values: &[T]) -> String {
    if values.is_empty() {
        return "allows none".into();
    }
    let values: Vec<String> = values.iter().map(ToString::to_string).collect();
    format!("allows {}", values.join(", "))
}

impl std::fmt::Display for FrontendGlob {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Stock => f.write_str("dockerfile"),
            Self::File(glob) => write!(f, "/{glob}"),
            Self::Image(glob) => write!(f, "{glob}"),
        }
    }
}

impl Rules {
    /// Whether `source` may read build files.
    ///
    /// # Errors
    /// A rule says no.
    pub(crate) fn check_frontend(&self, source: &FrontendSource) -> Result<(), Refusal> {
        for file in self.files() {
            let Some(rule) = &file.frontends else { continue };
            let allowed = rule.value.iter().any(|glob| match (glob, source) {
                (FrontendGlob::Stock, FrontendSource::Stock) => true,
                (FrontendGlob::File(glob), FrontendSource::File(path)) => is_file(glob, path),
                (FrontendGlob::Image(glob), FrontendSource::Image(text)) => covers(glob, text),
                _ => false,
            });
            if !allowed {
                let what = format!("the frontend `{source}` is refused");
                return Err(refusal(file, rule.line, "policy.frontends", what, listed(&rule.value)));
            }
        }
        if let FrontendSource::Image(text) = source
            && let Ok(image) = text.parse::<Reference>()
        {
            self.check_image(&image.tagged())?;
        }
        Ok(())
    }

    /// Whether a build may use `image`.
    ///
    /// # Errors
    /// A rule says no.
    pub(crate) fn check_image(&self, image: &Reference) -> Result<(), Refusal> {
        for file in self.files() {
            let Some(rule) = &file.registries else { continue };
            if !rule.value.iter().any(|glob| glob.covers(&image.name(), image.tag())) {
                let what = format!("the image `{image}` is refused");
                return Err(refusal(file, rule.line, "policy.registries", what, listed(&rule.value)));
            }
        }
        Ok(())
    }

    /// Whether a build may fetch from the git remote `url`, which `by` may have sent it to.
    ///
    /// # Errors
    /// A rule says no.
    pub(crate) fn check_git(&self, url: &str, by: Option<&str>) -> Result<(), Refusal> {
        self.check_url("policy.git", "git remote", |file| file.git.as_ref(), url, by)
    }

    /// Whether any rule is about git remotes.
    pub(crate) fn names_remotes(&self) -> bool {
        self.files().any(|file| file.git.is_some())
    }

    /// What tells the rules about git remotes from others; `None` where there are none. A tree that was fetched under other rules may have in it what these
    /// forbid: where its submodules came from is not seen any more.
    pub(crate) fn remotes(&self) -> Option<Digest> {
        let mut lists = self.files().filter_map(|file| file.git.as_ref()).peekable();
        lists.peek()?;
        let texts = lists.map(|rule| rule.value.iter().map(ToString::to_string).collect::<Vec<_>>());
        Some(Digest::of(format!("{:?}", texts.collect::<Vec<_>>())))
    }

    /// Whether a build may fetch the file at `url`, which `by` may have sent it to.
    ///
    /// # Errors
    /// A rule says no.
    pub(crate) fn check_http(&self, url: &str, by: Option<&str>) -> Result<(), Refusal> {
        self.check_url("policy.http", "file", |file| file.http.as_ref(), url, by)
    }

    fn check_url(
        &self,
        key: &'static str,
        kind: &str,
        of: impl Fn(&RuleFile) -> Option<&Rule<Vec<UrlGlob>>>,
        url: &str,
        by: Option<&str>,
    ) -> Result<(), Refusal> {
        for file in self.files() {
            let Some(rule) = of(file) else { continue };
            if !rule.value.iter().any(|glob| glob.covers(url)) {
                let by = by.map(|by| format!(", which `{}` leads to,", redact(by))).unwrap_or_default();
                let what = format!("the {kind} `{}`{by} is refused", redact(url));
                return Err(refusal(file, rule.line, key, what, listed(&rule.value)));
            }
        }
        Ok(())
    }

    /// Whether a build may be granted `wanted`.
    ///
    /// # Errors
    /// A rule says no.
    pub(crate) fn check_entitlement(&self, wanted: Entitlement) -> Result<(), Refusal> {
        for file in self.files() {
            let Some(rule) = &file.entitlements else { continue };
            if !rule.value.contains(&wanted) {
                let what = format!("the entitlement {wanted} is refused");
                return Err(refusal(file, rule.line, "policy.entitlements", what, listed(&rule.value)));
            }
        }
        Ok(())
    }

    /// The signatures that `image` must have: one for each rule that names it.
    pub(crate) fn signatures(&self, image: &Reference) -> Vec<WantedSignature<'_>> {
        let rules = self.files().flat_map(|file| file.signed.iter().map(move |rule| (file, rule)));
        let named =
            rules.filter(|(_, rule)| rule.value.names.iter().any(|glob| glob.covers(&image.name(), image.tag())));
        named.map(|(file, rule)| WantedSignature { file, rule }).collect()
    }

    /// What guests may use. The user's file sets limits, a repository's can only lower them.
    pub(crate) fn guest_limits(&self) -> Limits {
        let mut limits = Limits::HOSTILE;
        let mut said: Vec<_> = self.files().filter_map(|file| Some((file.own, file.limits.as_ref()?.value))).collect();
        said.sort_by_key(|(own, _)| !own);
        for (own, wanted) in said {
            if let Some(memory) = wanted.memory {
                limits.memory = if own { memory } else { memory.min(limits.memory) };
            }
            if let Some(compute) = wanted.compute {
                limits.compute = if own { compute } else { compute.min(limits.compute) };
            }
        }
        limits
    }
}

fn covers(glob: &super::pattern::ImageGlob, text: &str) -> bool {
    text.parse::<Reference>().is_ok_and(|image| {
        let image = image.tagged();
        glob.covers(&image.name(), image.tag())
    })
}

fn is_file(glob: &super::pattern::Glob, path: &Path) -> bool {
    let path = std::fs::canonicalize(path).or_else(|_| std::path::absolute(path));
    path.is_ok_and(|path| path.to_str().is_some_and(|text| glob.covers(text.trim_start_matches('/'))))
}
