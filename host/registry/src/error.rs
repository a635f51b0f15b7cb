//! What can go wrong between here and an image: one typed error, each message with what was wanted, found, and what to do.
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rhost_llb::{BlobDigest, Platform};

use crate::{ConfigError, CredentialError, Reference, ReferenceError};

/// A failed resolve, pull or push. Cheap to clone; texts hold no credentials.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A text names no image.
    #[error(transparent)]
    Reference(#[from] ReferenceError),
    /// The registry tables of the configuration are wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Credentials could not be had.
    #[error(transparent)]
    Credentials(#[from] CredentialError),
    /// No answer, after all retries.
    #[error(
        "cannot reach registry `{registry}` ({reason}); check the name, the network and the registry's `http`, `insecure` and `ca` settings"
    )]
    Unreachable {
        /// The registry or mirror that was tried last.
        registry: String,
        /// What the network said.
        reason: String,
    },
    /// Nobody may be asked.
    #[error("offline: `{host}` is not asked")]
    Offline {
        /// Who would have been.
        host: String,
    },
    /// 401 or 403.
    #[error("registry `{registry}` refuses access to `{what}` {}: {reason}", if *.authenticated { "with the credentials given" } else { "without credentials; log in first (`docker login`)" })]
    Unauthorised {
        /// Who refused.
        registry: String,
        /// The image or repository.
        what: String,
        /// Whether credentials were sent.
        authenticated: bool,
        /// What the registry said.
        reason: String,
    },
    /// 404: no such repository, tag, digest or blob.
    #[error("`{what}` was not found in `{registry}`")]
    NotFound {
        /// Who was asked.
        registry: String,
        /// The image or blob.
        what: String,
    },
    /// The index has nothing for the platform.
    #[error("`{image}` has no manifest for `{wanted}`; available: {}", list(offered))]
    NoPlatform {
        /// The image.
        image: Reference,
        /// The platform asked for.
        wanted: Platform,
        /// The platforms of the index, as they stand there.
        offered: Vec<Platform>,
    },
    /// Bytes that are not the ones named.
    #[error("{what} has digest {found}, wanted {wanted}; it was changed or damaged on its way")]
    DigestMismatch {
        /// What was read.
        what: String,
        /// Its name.
        wanted: BlobDigest,
        /// What it hashed to.
        found: BlobDigest,
    },
    /// Fewer bytes than named, after all retries.
    #[error("{what} ended after {got} bytes, wanted {wanted}; the registry holds or sends only a part of it")]
    Truncated {
        /// What was read.
        what: String,
        /// Bytes wanted.
        wanted: u64,
        /// Bytes that came.
        got: u64,
    },
    /// More bytes than named, or than rhost takes.
    #[error("{what} is larger than {limit} bytes")]
    TooLarge {
        /// What was read.
        what: String,
        /// The most that would have been right.
        limit: u64,
    },
    /// A manifest, index or config that makes no sense.
    #[error("the manifest {digest} of `{image}` cannot be used: {reason}")]
    BadManifest {
        /// The image.
        image: Reference,
        /// The manifest or config.
        digest: BlobDigest,
        /// What is wrong with it.
        reason: String,
    },
    /// Not a CNCF Wasm OCI artifact.
    #[error("`{image}` is not a WebAssembly artifact: {reason}")]
    NotWasm {
        /// The image.
        image: Reference,
        /// What it is instead.
        reason: String,
    },
    /// 429, after all retries, or with a `Retry-After` that is too long to wait for.
    #[error("registry `{registry}` limits how often it is asked, and refuses {what}: {reason}{}", wait(*.retry_after))]
    RateLimited {
        /// Who refused.
        registry: String,
        /// What was asked.
        what: String,
        /// When it wants to be asked again.
        retry_after: Option<Duration>,
        /// What it said.
        reason: String,
    },
    /// Any other answer that is no success.
    #[error("registry `{registry}` answered {status} to {what}: {reason}")]
    Refused {
        /// Who answered.
        registry: String,
        /// HTTP status.
        status: u16,
        /// What was asked.
        what: String,
        /// What it said.
        reason: String,
    },
    /// An answer that breaks the protocol.
    #[error("registry `{registry}` gave an answer that makes no sense to {what}: {reason}")]
    Protocol {
        /// Who answered.
        registry: String,
        /// What was asked.
        what: String,
        /// What is wrong.
        reason: String,
    },
    /// The caller's store failed.
    #[error("cannot {action} blob {digest}: {source}")]
    Local {
        /// `write` or `read`.
        action: &'static str,
        /// The blob.
        digest: BlobDigest,
        /// Why.
        source: Arc<io::Error>,
    },
    /// A directory is no usable OCI layout.
    #[error("`{}` is not a usable OCI layout: {reason}", path.display())]
    Layout {
        /// The directory.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
}

/// The kind of an [`Error`], for exit codes and hints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// A name or a configuration is wrong: the user's to mend.
    Usage,
    /// The network or the registry's health.
    Unreachable,
    /// Nobody may be asked.
    Offline,
    /// Credentials.
    Unauthorised,
    /// No such thing.
    NotFound,
    /// No manifest for the platform.
    NoPlatform,
    /// Bytes that are not what was named: mismatch, truncation, nonsense.
    Corrupt,
    /// Asked too often.
    RateLimited,
    /// The registry refused for another reason.
    Refused,
    /// This machine's disk.
    Local,
}

impl Error {
    /// Which kind it is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Reference(_) | Self::Config(_) => ErrorKind::Usage,
            Self::Unreachable { .. } => ErrorKind::Unreachable,
            Self::Offline { .. } => ErrorKind::Offline,
            Self::Credentials(_) | Self::Unauthorised { .. } => ErrorKind::Unauthorised,
            Self::NotFound { .. } => ErrorKind::NotFound,
            Self::NoPlatform { .. } => ErrorKind::NoPlatform,
            Self::DigestMismatch { .. }
            | Self::Truncated { .. }
            | Self::TooLarge { .. }
            | Self::BadManifest { .. }
            | Self::NotWasm { .. }
            | Self::Protocol { .. }
            | Self::Layout { .. } => ErrorKind::Corrupt,
            Self::RateLimited { .. } => ErrorKind::RateLimited,
            Self::Refused { .. } => ErrorKind::Refused,
            Self::Local { .. } => ErrorKind::Local,
        }
    }
}

impl Error {
    /// The way out, where there is one that the message does not say.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Unreachable { registry, reason } if reason.contains("UnknownIssuer") => format!(
                "its certificate is signed by an authority that is not known here; name that authority's file in the configuration: \
                 [registry.\"{registry}\"] ca = [\"/path/to/ca.pem\"]"
            ),
            Self::Unreachable { registry, reason } if reason.contains("invalid peer certificate") => {
                format!("its certificate is not valid for `{registry}`: use the name that it was made for, or renew it")
            }
            Self::NotFound { registry, .. } => format!(
                "check name and tag; some registries do not show private images before `docker login {registry}`"
            ),
            Self::NoPlatform { .. } => "choose one of these with --platform, or in `FROM --platform=`".into(),
            Self::RateLimited { registry, .. } => {
                format!("wait; or `docker login {registry}` for a higher limit; or configure a mirror of it")
            }
            Self::DigestMismatch { .. } | Self::Truncated { .. } => {
                "try again; if it stays like this, the registry's copy is damaged, and must be pushed again".into()
            }
            Self::NotWasm { .. } => {
                "a frontend is a WASM component in an OCI artifact (`rhost frontend push` or `wkg oci push` make one); \
                 container images that speak BuildKit's gateway protocol are not supported"
                    .into()
            }
            _ => return None,
        })
    }
}

fn wait(after: Option<Duration>) -> String {
    after.map(|after| format!("; it wants to be asked again in {} s", after.as_secs())).unwrap_or_default()
}

fn list(platforms: &[Platform]) -> String {
    match platforms {
        [] => "none".into(),
        some => some.iter().map(Platform::to_string).collect::<Vec<_>>().join(", "),
    }
}
