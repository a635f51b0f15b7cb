//! `OpFailure`: why an operation failed, typed, so that the edge can choose kind, hint and exit code.
use std::path::PathBuf;

use rhost_llb::Mount;

use crate::entitlements::Entitlement;
use crate::rules::{Refusal, SignatureError};

/// The way out of being offline.
const BRING: &str = "`rhost fetch`, with the flags of this build, brings it while there is a network";

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
    #[error("process {command:?} did not complete successfully: killed by signal {signal} ({})", signal_name(*signal))]
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
    /// A file at a URL.
    #[error(transparent)]
    Url(#[from] rhost_registry::UrlError),
    /// A file at a URL is another than was wanted. The words are BuildKit's, which people and programs look for.
    #[error("digest mismatch for {url}: {found} (expected: {wanted})")]
    WrongChecksum {
        /// The URL, without credentials.
        url: String,
        /// What came.
        found: String,
        /// What was wanted.
        wanted: String,
    },
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
    /// A path that a step wants is not in its source. It begins with BuildKit's words for it, which people and programs look for.
    #[error("failed to compute cache key: failed to calculate checksum of ref source: \"{path}\": not found: `{path}` is not in {place}", path = path.display())]
    NoSource {
        /// From the source's root.
        path: PathBuf,
        /// Where it was looked for, as people know it.
        place: String,
        /// Why it may be missing.
        hints: Vec<String>,
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
    /// The build needs something that may not be asked for, or is not here.
    #[error("{}", .0.told(.1))]
    NotHere(crate::lock::NotHere, String),
    /// What came is not what the lock file says.
    #[error("`{name}` is {found}, but {place} says {wanted}")]
    NotAsLocked {
        /// What was asked for.
        name: String,
        /// What came.
        found: String,
        /// Where the lock file says otherwise.
        place: String,
        /// What it says.
        wanted: String,
    },
    /// A build inside the build failed.
    #[error("{}", .0.message)]
    Nested(Box<crate::error::BuildError>),
    /// A build inside the build that says not what to build.
    #[error("it has no input `{input}`, which would hold the definition to build")]
    NoDefinition {
        /// The name of the input.
        input: &'static str,
    },
    /// A step wants a permission that the build was not granted.
    #[error("entitlement {0} is not allowed: the step wants it, the build does not have it")]
    NotAllowed(Entitlement),
    /// A rule forbids it.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// An image that is not signed as a rule wants it.
    #[error(transparent)]
    Signature(#[from] SignatureError),
    /// A step requires a secret that nobody lent.
    #[error("secret {id}: not found; the step requires it")]
    NoSecret {
        /// Its id.
        id: String,
    },
    /// A secret's file cannot be read.
    #[error("secret `{id}`: cannot read `{path}`: {source}", path = path.display())]
    SecretRead {
        /// Its id.
        id: String,
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A secret is too large.
    #[error("secret `{id}` is larger than {limit} bytes")]
    SecretTooLarge {
        /// Its id.
        id: String,
        /// In bytes.
        limit: u64,
    },
    /// A step requires an ssh agent that nobody lent.
    #[error("no ssh agent `{id}` is lent to this build; the step requires it")]
    NoAgent {
        /// Its id.
        id: String,
    },
    /// The agent's socket does not take connections.
    #[error("ssh agent `{id}`: `{path}` does not answer: {source}", path = path.display())]
    AgentRefuses {
        /// Its id.
        id: String,
        /// The socket.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// What a mount shows is not in its source.
    #[error("the mount at `{target}`: `{selector}` in its source: {error}")]
    MountSource {
        /// Where it is mounted.
        target: String,
        /// What of the source.
        selector: String,
        /// Why not.
        error: rhost_rootfs::Error,
    },
    /// A new cache mount cannot be made.
    #[error("a cache mount cannot be made at `{dir}`: {source}", dir = dir.display())]
    CacheMount {
        /// Its directory in the store.
        dir: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A git source.
    #[error(transparent)]
    Git(#[from] crate::git::GitError),
    /// Programs of another platform, and nothing to run them with.
    #[error(transparent)]
    NoRunner(#[from] rhost_exec::NoRunner),
    /// A defect.
    #[error("a worker thread ended: {0}")]
    Worker(String),
}

impl OpFailure {
    /// A source without what `mount` shows.
    pub fn mount_source(mount: &Mount, error: rhost_rootfs::Error) -> Self {
        Self::MountSource { target: mount.dest.clone(), selector: mount.selector.clone(), error }
    }

    /// Ways out.
    pub fn hints(&self) -> Vec<String> {
        match self {
            Self::NotAllowed(wanted) => vec![format!("allow it with `--allow {wanted}`, if you trust the build file")],
            Self::NoSecret { id } => {
                vec![format!("lend it with `--secret id={id},src=FILE` or `--secret id={id},env=VARIABLE`")]
            }
            Self::NoAgent { id } if id == "default" => {
                vec!["lend it with `--ssh default` (the agent of SSH_AUTH_SOCK) or `--ssh default=KEYFILE`".into()]
            }
            Self::NoAgent { id } => vec![format!("lend it with `--ssh {id}=SOCKET` or `--ssh {id}=KEYFILE`")],
            Self::AgentRefuses { id, .. } => {
                vec![format!("start an agent (`eval $(ssh-agent)`, `ssh-add`), or lend a key: `--ssh {id}=KEYFILE`")]
            }
            Self::NoSource { hints, .. } => hints.clone(),
            Self::Git(error) => error.hint().into_iter().collect(),
            Self::Url(error) => error.hint().into_iter().collect(),
            Self::WrongChecksum { found, .. } => {
                vec![format!("the file has changed, or is not what it should be; if you trust it, write {found}")]
            }
            Self::Exec(rhost_exec::ExecError::Start { program, code: 127, .. }) if program == "/bin/sh" => vec![
                "RUN in shell form starts `/bin/sh -c`: an image without a shell, as scratch is, takes `RUN [\"/program\", \"argument\"]`, or another base"
                    .into(),
            ],
            Self::NotHere(crate::lock::NotHere::NotLocked(_), _) => {
                vec!["`rhost lock`, with the flags of this build, adds it; nothing is known of builds inside the build before they run".into()]
            }
            Self::NotHere(..) => vec![BRING.into()],
            Self::NotAsLocked { name, .. } => vec![format!(
                "what is there has changed, or is not what it should be; if you trust it, `rhost lock --update {name}` takes it"
            )],
            _ if self.is_offline() => vec![BRING.into()],
            Self::MountSource { .. } => vec!["check `from=` and `source=` of the mount".into()],
            _ => Vec::new(),
        }
    }

    /// Whether somebody would have had to be asked, and nobody may be.
    pub fn is_offline(&self) -> bool {
        match self {
            Self::NotHere(missing, _) => !matches!(missing, crate::lock::NotHere::NotLocked(_)),
            Self::Registry(rhost_registry::Error::Offline { .. }) => true,
            Self::Url(rhost_registry::UrlError::Client(error)) => {
                matches!(**error, rhost_registry::Error::Offline { .. })
            }
            Self::Git(crate::git::GitError::Offline { .. }) => true,
            Self::Signature(crate::rules::SignatureError::Registry { error, .. }) => {
                matches!(error, rhost_registry::Error::Offline { .. })
            }
            _ => false,
        }
    }

    /// Whether the lock file, or being offline, stands in the way: [`crate::lock::Pins::refusal`] knows of it.
    pub fn is_not_here(&self) -> bool {
        matches!(self, Self::NotHere(..)) || self.is_offline()
    }

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

/// What shells call a signal.
pub fn signal_name(signal: i32) -> &'static str {
    const NAMES: [&str; 31] = [
        "SIGHUP",
        "SIGINT",
        "SIGQUIT",
        "SIGILL",
        "SIGTRAP",
        "SIGABRT",
        "SIGBUS",
        "SIGFPE",
        "SIGKILL",
        "SIGUSR1",
        "SIGSEGV",
        "SIGUSR2",
        "SIGPIPE",
        "SIGALRM",
        "SIGTERM",
        "SIGSTKFLT",
        "SIGCHLD",
        "SIGCONT",
        "SIGSTOP",
        "SIGTSTP",
        "SIGTTIN",
        "SIGTTOU",
        "SIGURG",
        "SIGXCPU",
        "SIGXFSZ",
        "SIGVTALRM",
        "SIGPROF",
        "SIGWINCH",
        "SIGIO",
        "SIGPWR",
        "SIGSYS",
    ];
    usize::try_from(signal - 1).ok().and_then(|at| NAMES.get(at).copied()).unwrap_or("a real-time signal")
}

/// What the codes say that shells keep for themselves (POSIX, 2.8.2).
fn plain_exit_hint(code: i32) -> Option<String> {
    match code {
        126 => Some("exit code 126 is what a shell answers when it may not run a file: is it executable?".into()),
        127 => Some("exit code 127 is what a shell answers when there is no such command in the image".into()),
        _ => None,
    }
}

/// What an exit code above 128 says: shells answer so for a child that a signal killed.
pub fn exit_hint(code: i32) -> Option<String> {
    let signal = code - 128;
    let why = match signal {
        9 => "; the kernel does that when memory runs out",
        11 => "; under emulation it can be a fault of the emulator",
        31 => "; a system call was refused",
        1..=64 => "",
        _ => return plain_exit_hint(code),
    };
    Some(format!("exit code {code} is what a shell answers when {} killed its child{why}", signal_name(signal)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_have_names() {
        assert_eq!((signal_name(1), signal_name(9), signal_name(31)), ("SIGHUP", "SIGKILL", "SIGSYS"));
        assert_eq!((signal_name(0), signal_name(40)), ("a real-time signal", "a real-time signal"));
        assert_eq!((exit_hint(0), exit_hint(1), exit_hint(128), exit_hint(255)), (None, None, None, None));
        assert!(exit_hint(127).is_some_and(|hint| hint.contains("no such command")));
        assert!(exit_hint(137).is_some_and(|hint| hint.contains("SIGKILL") && hint.contains("memory")));
    }
}
