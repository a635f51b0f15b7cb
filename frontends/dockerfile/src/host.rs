//! The port between the Dockerfile frontend and the world.
//!
//! The conversion is a pure function of what this trait answers: it opens no file, no socket, reads no clock. One adapter maps the
//! trait onto the WIT world (guest), another onto recorded answers (tests). Slow answers (image configs) come in two halves, so
//! that a guest without threads can have many under way at once.

use crate::convert::graph::{Graph, Output, Platform, Range};

/// What the outside offers to one run of the frontend.
pub trait Host {
    /// Frontend options as the client sent them (spec B.4): `filename`, `target`, `build-arg:K`, `context:NAME`, … in any order.
    fn options(&self) -> Vec<(String, String)>;

    /// Platform of the machine that will run the steps when the client asked for none, normalised.
    fn build_platform(&self) -> Platform;

    /// Session id that is written into `local.session` of local sources; `None` leaves the attribute out.
    fn session(&self) -> Option<String>;

    /// Contents of `paths` in the result of `root` (a local, git or http source of `graph`), in order; `None` for a missing file.
    /// All paths are asked in one call so that a local source is transferred once.
    ///
    /// # Errors
    /// When the source itself cannot be had. A missing file is no error.
    fn read_files(&self, graph: &Graph, root: Output, paths: &[&str]) -> Result<Vec<Option<Vec<u8>>>, HostError>;

    /// The first `length` bytes of a file of the result of `root`, which may be large; fewer if it is smaller, `None` if there is no such file.
    ///
    /// # Errors
    /// As [`Host::read_files`].
    fn read_head(&self, graph: &Graph, root: Output, path: &str, length: u64) -> Result<Option<Vec<u8>>, HostError>;

    /// When `file` of the result of `root` was last modified, in seconds since 1970; without a file, the newest entry at its top.
    /// `None` if there is no such file.
    ///
    /// # Errors
    /// When the source itself cannot be had.
    fn modified(&self, graph: &Graph, root: Output, file: Option<&str>) -> Result<Option<i64>, HostError>;

    /// Starts to resolve the config of an image. Must not block; the answer is taken with [`Host::wait_image_config`].
    fn start_image_config(&self, request: &ImageConfigRequest) -> Ticket;

    /// Waits for a started resolution. Each ticket is waited for at most once.
    ///
    /// # Errors
    /// When the image cannot be resolved for the wanted platform.
    fn wait_image_config(&self, ticket: Ticket) -> Result<ResolvedImage, HostError>;

    /// Whether the client lent a ready result under this name (contexts of the form `input:NAME`, and the names `context` and
    /// `dockerfile`). Such a result enters the graph as [`crate::convert::graph::Op::Input`].
    fn has_input(&self, name: &str) -> bool;

    /// Reports a finding that does not stop the build.
    fn warn(&self, warning: &Warning);

    /// A line for the log of the frontend.
    fn log(&self, message: &str);
}

/// Number of a resolution under way, chosen by the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Ticket(pub u32);

/// Asks for the config of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageConfigRequest {
    /// Normalised reference with a tag or digest, for example `docker.io/library/alpine:latest`.
    pub reference: String,
    /// Platform to choose from an index.
    pub platform: Platform,
    /// How a local copy and the registry are weighed.
    pub mode: ResolveMode,
    /// Name under which progress is shown, for example `[internal] load metadata for …`.
    pub log_name: String,
    /// For an image in an OCI layout lent by the client: the name of the store.
    pub oci_layout_store: Option<String>,
}

/// How a local copy and the registry are weighed, spec A.2 `image.resolvemode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ResolveMode {
    /// Whatever the host prefers.
    Default,
    /// Always ask the registry.
    Pull,
    /// Prefer a local copy.
    Local,
}

impl ResolveMode {
    /// The value of the source attribute.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Default => "default",
            Self::Pull => "pull",
            Self::Local => "local",
        }
    }
}

/// The answer to [`ImageConfigRequest`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResolvedImage {
    /// The reference that was used; differs from the asked one when a policy or a lock file rewrote it.
    pub reference: String,
    /// Digest of the manifest or index that the reference names (`sha256:…`), when known.
    pub digest: Option<String>,
    /// The image config, JSON as in the registry.
    pub config: Vec<u8>,
}

/// A finding that does not stop the build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// Rule that found it, for example `JSONArgsRecommended`; empty when it comes from no rule.
    pub rule: String,
    /// One line.
    pub message: String,
    /// Longer explanation, may be empty.
    pub detail: String,
    /// Page that explains the rule, may be empty.
    pub url: String,
    /// Where, in the build file; lines count from 1.
    pub ranges: Vec<Range>,
}

/// The host could not answer. The message is the host's own and is shown as it is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct HostError {
    /// One line, complete.
    pub message: String,
}

impl HostError {
    /// An error with this text.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into() }
    }
}
