//! The port: what a frontend may ask of the world. The engine implements it; a guest reaches it through a track (`v0_1`).
//!
//! Neutral of WIT versions: every track translates its own types to these. Nothing here trusts the guest, and implementations must
//! not either: names, paths and references arrive as the guest wrote them, only bounded in length.
use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use rhost_llb::{Definition, Platform};
use serde::{Deserialize, Serialize};

/// What a guest may have, on behalf of one build. Dropping a returned future cancels the work.
#[async_trait]
pub trait FrontendHost: Send + Sync + 'static {
    /// Names of the local contexts that the functions below take: `context`, `dockerfile`, and those that the user named.
    fn contexts(&self) -> Vec<String>;

    /// The bytes of a regular file of a local context, or a slice of them. `path` is relative to the context, with or without a
    /// leading `/`; links are followed inside it and must not leave it. `limit`: more bytes than this are [`HostError::TooLarge`].
    async fn read_file(
        &self,
        context: &str,
        path: &str,
        range: Option<ByteRange>,
        limit: u64,
    ) -> Result<Vec<u8>, HostError>;

    /// Facts on a path of a local context; the last component is not followed.
    async fn stat(&self, context: &str, path: &str) -> Result<FileStat, HostError>;

    /// Entries of a directory of a local context, sorted by name, those that match `pattern` (a name with `*`, `?`, `[…]`).
    async fn read_dir(&self, context: &str, path: &str, pattern: Option<&str>) -> Result<Vec<FileStat>, HostError>;

    /// Digest and configuration of an image. Equal queries in one build must get equal answers.
    async fn resolve_image(&self, query: ImageQuery) -> Result<ResolvedImage, HostError>;

    /// Runs a definition (never empty) while the guest goes on. Dropping the future cancels what nobody else wants.
    async fn solve(&self, definition: Definition) -> Result<Arc<dyn SolvedTree>, HostError>;

    /// Whether there is a feature, by an LLB capability id or one of the WIT package's names.
    fn supports(&self, feature: &str) -> bool;

    /// Something for the user to read. Must not block. Volume is capped by the caller.
    fn report(&self, report: Report);
}

/// The result of a solve, to read from. Paths as in [`FrontendHost`].
#[async_trait]
pub trait SolvedTree: Send + Sync + 'static {
    /// See [`FrontendHost::read_file`].
    async fn read_file(&self, path: &str, range: Option<ByteRange>, limit: u64) -> Result<Vec<u8>, HostError>;
    /// See [`FrontendHost::stat`].
    async fn stat(&self, path: &str) -> Result<FileStat, HostError>;
    /// See [`FrontendHost::read_dir`].
    async fn read_dir(&self, path: &str, pattern: Option<&str>) -> Result<Vec<FileStat>, HostError>;
}

/// Why the host says no. The text is shown to the guest, and by way of it to the user.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum HostError {
    /// No such file, image, context, …
    #[error("{0}")]
    NotFound(String),
    /// Not for this guest or user.
    #[error("{0}")]
    Denied(String),
    /// The question makes no sense.
    #[error("{0}")]
    Invalid(String),
    /// Sensible, but not here.
    #[error("{0}")]
    Unsupported(String),
    /// Beyond a limit, which the text names.
    #[error("{0}")]
    TooLarge(String),
    /// Tried, and it went wrong.
    #[error("{0}")]
    Failed(String),
}

/// A slice of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ByteRange {
    /// First byte.
    pub offset: u64,
    /// At most so many.
    pub length: u64,
}

/// What a directory entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum FileKind {
    /// A file with bytes.
    Regular,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// Device, socket, fifo.
    Special,
}

/// Facts on one file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileStat {
    /// Its own name; empty for the root.
    pub name: String,
    /// What it is.
    pub kind: FileKind,
    /// Permission bits, 0 to 0o7777.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Bytes of a regular file, else 0.
    pub size: u64,
    /// Nanoseconds since 1970.
    pub modified: i64,
    /// Of a symbolic link, else empty.
    pub link_target: String,
}

/// How a local copy of an image and the registry are weighed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum ResolveMode {
    /// As the user said.
    Default,
    /// A local copy will do.
    PreferLocal,
    /// Ask the registry.
    ForcePull,
}

/// Asks for an image.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ImageQuery {
    /// As the guest wrote it: `debian:12`, `docker-image://…`, `oci-layout://…`.
    pub reference: String,
    /// The platform to choose.
    pub platform: Platform,
    /// Where to look first.
    pub mode: ResolveMode,
    /// The layout of an `oci-layout` reference.
    pub store: Option<String>,
    /// Shown to the user meanwhile.
    pub progress_name: Option<String>,
}

/// What an image is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResolvedImage {
    /// Normalised, without scheme.
    pub reference: String,
    /// Of the index if there is one, else of the manifest: `sha256:…`.
    pub digest: String,
    /// OCI image config of the platform, JSON, verified.
    pub config: Vec<u8>,
}

/// What the user asked of a frontend. `options` holds BuildKit's names (`build-arg:K`, `label:K`, `context:N`, …) and is what the
/// typed getters of a track are made from, where there is no field for them here.
#[derive(Debug, Clone)]
pub struct Invocation {
    /// The build file's path in the context `dockerfile`.
    pub build_file: String,
    /// `--target`.
    pub target: Option<String>,
    /// What to build for; at least one.
    pub platforms: Vec<Platform>,
    /// Whether an index is wanted even for one platform.
    pub multi_platform: bool,
    /// What runs without emulation.
    pub build_platform: Platform,
    /// `--build-arg`, in order.
    pub build_args: Vec<(String, String)>,
    /// `--label`, in order.
    pub labels: Vec<(String, String)>,
    /// `--build-context`, values as BuildKit writes them.
    pub named_contexts: Vec<(String, String)>,
    /// BuildKit's raw options (spec B.4) beyond those above. Where both say something, the fields above count.
    pub options: BTreeMap<String, String>,
    /// Ready trees that the client lent.
    pub inputs: BTreeMap<String, Definition>,
    /// The client's session, if local sources are to name it.
    pub session: Option<String>,
}

impl Invocation {
    /// An invocation for one build file and platform, with nothing else asked.
    pub fn new(build_file: impl Into<String>, platform: Platform) -> Self {
        Self {
            build_file: build_file.into(),
            target: None,
            platforms: vec![platform],
            multi_platform: false,
            build_platform: Platform::host(),
            build_args: Vec::new(),
            labels: Vec::new(),
            named_contexts: Vec::new(),
            options: BTreeMap::new(),
            inputs: BTreeMap::new(),
            session: None,
        }
    }

    /// All options under BuildKit's names, sorted. Platforms are listed only if `options` has them: what the user did not say must
    /// not look as if he had.
    pub fn raw_options(&self) -> BTreeMap<String, String> {
        let mut all = self.options.clone();
        all.insert("filename".into(), self.build_file.clone());
        if let Some(target) = &self.target {
            all.insert("target".into(), target.clone());
        }
        for (prefix, pairs) in
            [("build-arg", &self.build_args), ("label", &self.labels), ("context", &self.named_contexts)]
        {
            all.extend(pairs.iter().map(|(name, value)| (format!("{prefix}:{name}"), value.clone())));
        }
        all
    }
}

/// The answer of a frontend.
#[derive(Debug, Clone, Default)]
pub struct Outcome {
    /// One per platform, in the order added.
    pub targets: Vec<Target>,
    /// Result metadata under BuildKit's names.
    pub metadata: BTreeMap<String, Vec<u8>>,
}

/// One platform's result.
#[derive(Debug, Clone)]
pub struct Target {
    /// For whom.
    pub platform: Platform,
    /// How it is made; empty for scratch.
    pub definition: Definition,
    /// OCI image config without `rootfs`; empty for "files only".
    pub config: Vec<u8>,
}

/// Something for the user to read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Report {
    /// A line for the log.
    Log {
        /// How much it matters.
        level: Level,
        /// The text.
        message: String,
    },
    /// A finding.
    Diagnostic(Diagnostic),
}

/// How much a log line matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the usual five")]
pub enum Level {
    Trace,
    Debug,
    Info,
    Warn,
    Error,
}

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the usual three")]
pub enum Severity {
    Note,
    Warning,
    Error,
}

/// A finding, with places.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Diagnostic {
    /// How bad.
    pub severity: Severity,
    /// Stable name, or empty.
    pub code: String,
    /// One line.
    pub message: String,
    /// More lines.
    pub details: Vec<String>,
    /// What to do about it.
    pub help: Option<String>,
    /// Where to read more.
    pub url: Option<String>,
    /// Places; the first is the main one.
    pub marks: Vec<Mark>,
}

/// A place in a text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// The text.
    pub source: Arc<SourceText>,
    /// Where in it.
    pub range: Range,
    /// What is to be said there; may be empty.
    pub text: String,
}

/// A build file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceText {
    /// As the user knows it.
    pub filename: String,
    /// For highlighting; may be empty.
    pub language: String,
    /// The exact bytes.
    pub data: Vec<u8>,
}

/// Lines count from 1, characters (bytes of the line) from 0; the end is inclusive by line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Range {
    /// Line and character.
    pub start: (u32, u32),
    /// Line and character.
    pub end: (u32, u32),
}
