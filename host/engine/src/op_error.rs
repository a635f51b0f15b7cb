//! `OpFailure`: why an operation failed, typed, so that the edge can choose kind, hint and exit code.
/// Why an operation failed.
#[derive(Debug, thiserror::Error)]
pub enum OpFailure {
    /// The command ended with a code that is no success.
    #[error("process {command:?} did not complete successfully: exit code: {code}")]
    Exit {
        /// The command as typed.
        command: String,
        /// Its exit code.
        code: i32,
    },
    /// The command was killed.
    #[error("process {command:?} did not complete successfully: killed by signal {signal}")]
    Signal {
        /// The command as typed.
        command: String,
        /// The signal's number.
        signal: i32,
    },
    /// The container could not be started.
    #[error(transparent)]
    Exec(#[from] rhost_exec::ExecError),
    /// Files.
    #[error(transparent)]
    Files(#[from] rhost_rootfs::Error),
    /// The store.
    #[error(transparent)]
    Store(#[from] rhost_store::Error),
    /// A registry or a layout.
    #[error(transparent)]
    Registry(#[from] rhost_registry::Error),
    /// A name of an image.
    #[error(transparent)]
    Reference(#[from] rhost_registry::ReferenceError),
    /// An export.
    #[error(transparent)]
    Export(#[from] rhost_export::ExportError),
    /// The kernel refused an overlay mount.
    #[error("the kernel refused an overlay mount: {0}")]
    Overlay(std::io::Error),
    /// A layer is not what the image's config says.
    #[error("layer {digest} of `{image}` unpacks to {found}, but the image says {wanted}")]
    WrongDiffId {
        /// The image.
        image: String,
        /// The blob.
        digest: rhost_llb::BlobDigest,
        /// What the config says.
        wanted: rhost_llb::DiffId,
        /// What it is.
        found: rhost_llb::DiffId,
    },
    /// Nobody lent such a directory.
    #[error("there is no local directory `{0}` in this build")]
    NoLocal(String),
    /// A source is malformed.
    #[error("source `{identifier}`: {reason}")]
    Source {
        /// The identifier.
        identifier: String,
        /// What is wrong.
        reason: String,
    },
    /// Sensible, but rhost does not do it yet.
    #[error("{0} is not supported yet")]
    NotYet(String),
    /// Programs of another platform, and nothing to run them with.
    #[error(transparent)]
    NoRunner(#[from] rhost_exec::NoRunner),
    /// A defect.
    #[error("a worker thread ended: {0}")]
    Worker(String),
}

impl OpFailure {
    /// A refused overlay.
    pub fn overlay(error: std::io::Error) -> Self {
        Self::Overlay(error)
    }
}

/// Runs blocking `work` on a thread that may block.
///
/// # Errors
/// Those of `work`; a panic of it.
pub async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, OpFailure> + Send + 'static,
) -> Result<T, OpFailure> {
    match tokio::task::spawn_blocking(work).await {
        Ok(answer) => answer,
        Err(error) => Err(OpFailure::Worker(error.to_string())),
    }
}
