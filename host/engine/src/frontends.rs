//! Which frontend reads a build file, who said so, and its bytes: from inside the binary, from a file, or from a registry.
//!
//! The order is BuildKit's: `--frontend` (which it does not have), the build argument BUILDKIT_SYNTAX, the `# syntax=` line, then patterns of `rhost.toml`
//! (which it does not have either), and then the stock Dockerfile frontend. A name may be an alias of `rhost.toml`. What came from a registry is kept by digest: the next build asks only what the tag stands for now, and
//! a pinned name asks nothing.
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::io::Read;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use rhost_frontend::{Allocation, CompileLimits, Compiler, Frontend, Inspection, Limits};
use rhost_llb::{BlobDigest, Digest};
use rhost_registry::{Client, Reference, pull_wasm};

use crate::blame;
use crate::engine::Engine;
use crate::error::{BuildError, Kind};
use crate::event::Events;
use crate::images::registries;
use crate::lock::{LockKey, LockKind, NotHere, Pin, Pins, SourceRules};
use crate::request::{FrontendChoice, GraphRequest};
use crate::rules::{RuleLine, Rules, list};
use crate::syntax::syntax_of;
use crate::uploads::Upload;

/// Largest component that is pulled, in bytes.
const LARGEST_GUEST: u64 = 64 << 20;
/// The build argument that goes before the `# syntax=` line.
const SYNTAX_ARGUMENT: &str = "BUILDKIT_SYNTAX";

/// Where a frontend comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FrontendSource {
    /// Inside the binary.
    Stock,
    /// A component in a file.
    File(PathBuf),
    /// A component in a registry, as it was written.
    Image(String),
}

/// Who chose a frontend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Because {
    /// `--frontend`.
    Flag,
    /// The build argument BUILDKIT_SYNTAX.
    Argument(String),
    /// The `# syntax=` line of the build file.
    SyntaxLine {
        /// The build file.
        file: String,
        /// Its line, from 1.
        line: u32,
        /// What it names.
        syntax: String,
    },
    /// `[frontend.files]` of a `rhost.toml`.
    Pattern {
        /// The build file.
        file: String,
        /// The pattern's line.
        rule: RuleLine,
    },
    /// Nobody: the build file has no such line.
    Nothing {
        /// The build file.
        file: String,
    },
}

/// The frontend of a build, and why it is that one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChosenFrontend {
    /// Which.
    pub source: FrontendSource,
    /// Why.
    pub because: Because,
    /// The alias that the name is.
    pub alias: Option<RuleLine>,
    /// What follows the name in BUILDKIT_SYNTAX or in the `# syntax=` line, with the name, for the frontend to read.
    pub command_line: Option<String>,
    /// The `# syntax=` line that a rule passes over, and the rule.
    pub ignored: Option<String>,
}

impl ChosenFrontend {
    /// The digest that its name stands for by the lock file of `sources`, and where that stands.
    pub fn pinned(&self, sources: &SourceRules) -> Option<(String, Pin)> {
        let FrontendSource::Image(text) = &self.source else { return None };
        let reference: Reference = text.parse().ok()?;
        let key = LockKey::new(LockKind::Frontend, reference.clone().tagged().to_string());
        let lock = sources.lock.as_ref().filter(|_| reference.digest().is_none())?;
        Some((lock.place(&key), lock.entries.get(&key)?.clone()))
    }
}

impl fmt::Display for FrontendSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stock => f.write_str("dockerfile (built in)"),
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Image(reference) => f.write_str(reference),
        }
    }
}

impl fmt::Display for Because {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag => f.write_str("--frontend names it"),
            Self::Argument(value) => write!(f, "the build argument {SYNTAX_ARGUMENT}={value} names it"),
            Self::SyntaxLine { file, line, syntax } => write!(f, "{file}:{line} says `syntax={syntax}`"),
            Self::Pattern { file, rule } => write!(f, "{rule}, and the build file is {file}"),
            Self::Nothing { file } => write!(f, "{file} has no `# syntax=` line"),
        }
    }
}

impl FrontendSource {
    /// What `name` stands for in a `# syntax=` line.
    pub fn named(name: &str) -> Self {
        if is_stock(name) { Self::Stock } else { Self::Image(name.to_owned()) }
    }
}

/// The names under which the stock frontend answers.
fn is_stock(syntax: &str) -> bool {
    let name = syntax.strip_prefix("docker.io/").unwrap_or(syntax);
    let name = name.split(['@', ':']).next().unwrap_or_default();
    matches!(name, "docker/dockerfile" | "docker/dockerfile-upstream")
}

/// Chooses the frontend for the build file `file` with `text`, which lies at `path` if it is a file of this machine.
pub(crate) fn choose(
    choice: &FrontendChoice,
    rules: &Rules,
    build_args: &BTreeMap<String, String>,
    file: &str,
    path: Option<&Path>,
    text: &[u8],
) -> ChosenFrontend {
    let named = |written: &str, because: Because| {
        let (source, alias) = rules.named(written.split_whitespace().next().unwrap_or_default());
        ChosenFrontend { source, because, alias, command_line: Some(written.trim().to_owned()), ignored: None }
    };
    let quiet = |source, because| ChosenFrontend { source, because, alias: None, command_line: None, ignored: None };
    match choice {
        FrontendChoice::File(path) => return quiet(FrontendSource::File(path.clone()), Because::Flag),
        FrontendChoice::Image(reference) => return named(reference, Because::Flag),
        FrontendChoice::BySyntaxLine => {}
    }
    if let Some(value) = build_args.get(SYNTAX_ARGUMENT).filter(|value| !value.trim().is_empty()) {
        return named(value, Because::Argument(value.clone()));
    }
    let ignored = match (syntax_of(text), rules.ignores_syntax()) {
        (None, _) => None,
        (Some((syntax, line)), None) => {
            return named(&syntax, Because::SyntaxLine { file: file.to_owned(), line, syntax: syntax.clone() });
        }
        (Some((syntax, line)), Some(rule)) => {
            Some(format!("{file}:{line} says `syntax={syntax}`, which is passed over: {rule}"))
        }
    };
    let (source, because) = match rules.for_file(file, path) {
        Some((source, rule)) => (source, Because::Pattern { file: file.to_owned(), rule }),
        None => (FrontendSource::Stock, Because::Nothing { file: file.to_owned() }),
    };
    ChosenFrontend { ignored, ..quiet(source, because) }
}

/// A component's bytes, and what messages call it.
pub struct FrontendBytes {
    /// `dockerfile (built in)`, a path, a full reference.
    pub name: String,
    /// The component.
    pub bytes: Cow<'static, [u8]>,
    /// The manifest that named it in its registry.
    pub manifest: Option<BlobDigest>,
    /// What was said about it where it was pushed.
    pub annotations: BTreeMap<String, String>,
}

impl FrontendBytes {
    /// Of the component.
    pub fn digest(&self) -> Digest {
        Digest::of(&self.bytes)
    }
}

impl Engine {
    /// Which frontend would read the build file of `request`, and why. Asks no registry; a context that is elsewhere is fetched.
    ///
    /// # Errors
    /// The build file cannot be read.
    pub async fn choose_frontend(&self, request: &GraphRequest) -> Result<ChosenFrontend, BuildError> {
        let store = self.store.for_build();
        Ok(self.prepare(request, &Events::none(), NonZeroUsize::MIN, &store).await?.chosen)
    }

    /// Takes a file that the client sends along.
    ///
    /// # Errors
    /// It cannot be read, or not be kept.
    pub fn receive(&self, reader: &mut dyn Read) -> Result<Upload, BuildError> {
        Upload::receive(&self.store, reader).map_err(|error| blame::store(&error))
    }

    /// The bytes of the frontend `source`. What a registry sends is checked by its digest, and kept.
    ///
    /// # Errors
    /// A file that cannot be read, a registry that does not answer, what is no WASM artifact.
    pub async fn frontend_bytes(&self, source: &FrontendSource) -> Result<FrontendBytes, BuildError> {
        let pins = Pins::new(SourceRules::default(), None, self.store.clone());
        self.pinned_frontend_bytes(source, &pins, &self.client).await
    }

    /// As [`Engine::frontend_bytes`]; what a name stands for is what `pins` says, if they say it, and `client` is asked for the rest.
    ///
    /// # Errors
    /// Also that it may not be asked for.
    pub(crate) async fn pinned_frontend_bytes(
        &self,
        source: &FrontendSource,
        pins: &Pins,
        client: &Client,
    ) -> Result<FrontendBytes, BuildError> {
        match source {
            FrontendSource::Stock => Ok(FrontendBytes {
                name: source.to_string(),
                bytes: Cow::Borrowed(self.options.stock_frontend.component),
                manifest: None,
                annotations: BTreeMap::new(),
            }),
            FrontendSource::File(path) => {
                let bytes = std::fs::read(path).map_err(|error| {
                    BuildError::new(Kind::Frontend, format!("cannot read the frontend `{}`: {error}", path.display()))
                })?;
                Ok(FrontendBytes {
                    name: source.to_string(),
                    bytes: Cow::Owned(bytes),
                    manifest: None,
                    annotations: BTreeMap::new(),
                })
            }
            FrontendSource::Image(text) => {
                let reference: Reference =
                    text.parse().map_err(|error| BuildError::new(Kind::Request, format!("frontend: {error}")))?;
                let reference = reference.tagged();
                let key = LockKey::new(LockKind::Frontend, reference.to_string());
                let pin = match reference.digest() {
                    Some(_) => None,
                    None => pins.get(&key).map_err(|error| blame::missing(pins, error))?,
                };
                let asked = match &pin {
                    Some(Pin::Manifest(digest)) => reference.with_digest(*digest),
                    _ => reference.clone(),
                };
                let artifact =
                    pull_wasm(&registries(&self.store, client, pins.vendor().cloned()), &asked, LARGEST_GUEST).await;
                let artifact = artifact.map_err(|error| match error {
                    rhost_registry::Error::Offline { .. } => {
                        pins.misses(NotHere::Absent(format!("frontend {reference}"), "its component".into()));
                        blame::missing(pins, error.into())
                    }
                    error => {
                        let mut failure = blame::frontend_pull(&error, &reference);
                        failure.hints.extend(pins.hint(LockKind::Frontend, &key.name));
                        failure
                    }
                })?;
                if pin.is_none() && reference.digest().is_none() {
                    pins.found(key, Pin::Manifest(artifact.manifest.digest));
                }
                // A store that is full is told by the build; a frontend can be pulled again.
                let _ = self.store.put_blob(&artifact.bytes);
                Ok(FrontendBytes {
                    name: reference.to_string(),
                    bytes: Cow::Owned(artifact.bytes.to_vec()),
                    manifest: Some(artifact.manifest.digest),
                    annotations: artifact.annotations,
                })
            }
        }
    }

    /// The frontend `source`, ready to run: compiled where this machine has not done so before.
    ///
    /// # Errors
    /// It cannot be had, or is no frontend.
    pub async fn load_frontend(&self, source: &FrontendSource) -> Result<Frontend, BuildError> {
        let (engine, compiler) = self.runtime()?;
        let loaded = match source {
            FrontendSource::Stock => {
                engine.embedded(&source.to_string(), &self.options.stock_frontend, &compiler).await
            }
            _ => {
                let found = self.frontend_bytes(source).await?;
                engine.compile(&found.name, &found.bytes, &compiler).await
            }
        };
        loaded.map_err(|error| BuildError::new(Kind::Frontend, error))
    }

    /// The frontend whose bytes these are, ready to run.
    ///
    /// # Errors
    /// It is no frontend.
    pub async fn load_component(&self, name: &str, bytes: &[u8]) -> Result<Frontend, BuildError> {
        let (engine, compiler) = self.runtime()?;
        let loaded = engine.compile(name, bytes, &compiler).await;
        loaded.map_err(|error| BuildError::new(Kind::Frontend, error))
    }

    /// What a component asks for and offers, and whether it can be a frontend.
    ///
    /// # Errors
    /// It is no component at all, or cannot be compiled.
    pub async fn inspect_frontend(&self, found: &FrontendBytes) -> Result<Inspection, BuildError> {
        let (engine, compiler) = self.runtime()?;
        let inspected = engine.inspect(&found.name, &found.bytes, &compiler).await;
        inspected.map_err(|error| BuildError::new(Kind::Frontend, error))
    }

    /// The signatures that its registry has of a frontend; whose they are is not looked at. None of what is no image.
    ///
    /// # Errors
    /// The registry does not say.
    pub async fn frontend_signatures(
        &self,
        source: &FrontendSource,
        found: &FrontendBytes,
    ) -> Result<Vec<String>, BuildError> {
        let (FrontendSource::Image(text), Some(manifest)) = (source, found.manifest) else { return Ok(Vec::new()) };
        let image: Reference = text.parse().map_err(|error| BuildError::new(Kind::Request, error))?;
        let signatures = list(&registries(&self.store, &self.client, None), &image.tagged(), manifest).await;
        signatures
            .map_err(|error| blame::registry(&error, format!("the signatures of `{text}`: {error}"), Kind::Network))
    }

    /// What a frontend may use, by the user's configuration; a repository's `rhost.toml` can lower it.
    pub fn frontend_limits(&self) -> Limits {
        Rules { project: None, user: self.options.settings.rules.clone() }.guest_limits()
    }

    /// The rules for `request`.
    pub(crate) fn rules(&self, request: &GraphRequest) -> Rules {
        Rules { project: request.project.clone(), user: self.options.settings.rules.clone() }
    }

    /// What runs frontends, and what compiles them.
    pub(crate) fn runtime(&self) -> Result<(rhost_frontend::Engine, Compiler), BuildError> {
        let engine = rhost_frontend::Engine::new(Allocation::OnDemand)
            .map_err(|error| BuildError::new(Kind::Frontend, error))?;
        let compiler = Compiler {
            cache: self.store.root().join("guests-v1"),
            command: self.options.compiler.0.clone(),
            arguments: self.options.compiler.1.clone(),
            limits: CompileLimits::default(),
        };
        Ok((engine, compiler))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(choice: FrontendChoice, argument: Option<&str>, text: &str, source: &str, because: &str) {
        let args = argument.map(|value| (SYNTAX_ARGUMENT.to_owned(), value.to_owned()));
        let chosen = choose(&choice, &Rules::default(), &args.into_iter().collect(), "F", None, text.as_bytes());
        assert_eq!((chosen.source.to_string().as_str(), chosen.because.to_string().as_str()), (source, because));
    }

    #[test]
    fn flag_then_argument_then_line_then_stock() {
        let line = "# syntax=r.example/a:1 x=y\nFROM x\n";
        let by = FrontendChoice::BySyntaxLine;
        check(FrontendChoice::File("./x.wasm".into()), Some("b"), line, "./x.wasm", "--frontend names it");
        check(FrontendChoice::Image("c:1".into()), Some("b"), line, "c:1", "--frontend names it");
        check(by.clone(), Some("b k=v"), line, "b", "the build argument BUILDKIT_SYNTAX=b k=v names it");
        check(by.clone(), Some(" "), line, "r.example/a:1", "F:1 says `syntax=r.example/a:1 x=y`");
        check(by.clone(), None, "FROM x", "dockerfile (built in)", "F has no `# syntax=` line");
        let stock = "#syntax=docker/dockerfile:1.7\n";
        check(by.clone(), None, stock, "dockerfile (built in)", "F:1 says `syntax=docker/dockerfile:1.7`");
        check(
            by,
            Some("docker.io/docker/dockerfile-upstream@sha256:0"),
            line,
            "dockerfile (built in)",
            "the build argument BUILDKIT_SYNTAX=docker.io/docker/dockerfile-upstream@sha256:0 names it",
        );
    }

    #[test]
    fn what_follows_the_name_is_for_the_frontend() {
        let text = b"# syntax=r.example/a:1 x=y\n";
        let chosen = choose(&FrontendChoice::BySyntaxLine, &Rules::default(), &BTreeMap::new(), "F", None, text);
        assert_eq!(chosen.command_line.as_deref(), Some("r.example/a:1 x=y"));
    }
}
