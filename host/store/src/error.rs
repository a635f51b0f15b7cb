//! The one error of this crate. A missing or damaged entry is not among them where it can be a miss instead.
use std::io;
use std::path::PathBuf;

use rhost_llb::{BlobDigest, DigestError};

/// Shorthand for results of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can go wrong in a store.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A system call failed inside the store.
    #[error("store: cannot {action} `{path}`: {source}", path = path.display())]
    Io {
        /// What was tried, as a verb.
        action: &'static str,
        /// Host path.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The bytes are not those that were announced.
    #[error(
        "digest mismatch: wanted {wanted}, the {size} bytes received are {found}; fetch it again, or check the registry or proxy between"
    )]
    DigestMismatch {
        /// What was asked for.
        wanted: BlobDigest,
        /// What came.
        found: BlobDigest,
        /// How much came, in bytes.
        size: u64,
    },
    /// A blob larger than its reader accepts.
    #[error("blob {digest} is {size} bytes, more than the {limit} that are read into memory for its kind")]
    TooLarge {
        /// Which.
        digest: BlobDigest,
        /// Size in bytes.
        size: u64,
        /// Limit in bytes.
        limit: u64,
    },
    /// A snapshot named as parent or to be mounted is not (or no longer) there.
    #[error("snapshot {id} is not in the store; build again to make it anew")]
    NoSnapshot {
        /// Which.
        id: i64,
    },
    /// A chain with more layers than overlayfs takes was to be mounted, and its lower part is not one directory yet.
    #[error("snapshot {id}, the lower part of {layers} layers, is not in one directory; build again to make it so")]
    NotFlat {
        /// The lower part.
        id: i64,
        /// Layers of the whole.
        layers: usize,
    },
    /// The record database failed.
    #[error("store: records at `{path}`: {source}", path = path.display())]
    Records {
        /// The SQLite file.
        path: PathBuf,
        /// What SQLite said.
        source: rusqlite::Error,
    },
    /// The store was written by a newer rhost.
    #[error(
        "the store `{root}` was written by a newer rhost (format {found}, this one knows {known}): use that rhost, or another directory (--root)",
        root = root.display()
    )]
    Newer {
        /// The store.
        root: PathBuf,
        /// Its format.
        found: u32,
        /// The newest format that is known here.
        known: u32,
    },
    /// Text in a place that wants a digest.
    #[error(transparent)]
    Digest(#[from] DigestError),
    /// A part of a cache mount's name that is none.
    #[error("`{name}` is no base of a cache mount: wanted 32 hex digits")]
    BadName {
        /// As it was given.
        name: String,
    },
    /// A file operation below a root failed.
    #[error(transparent)]
    Rootfs(#[from] rhost_rootfs::Error),
    /// A thread of the store ended early.
    #[error("store: a background task was stopped before it had finished")]
    Stopped,
}

impl Error {
    pub(crate) fn io(action: &'static str, path: impl Into<PathBuf>, source: impl Into<io::Error>) -> Self {
        Self::Io { action, path: path.into(), source: source.into() }
    }

    /// True when the store may not be written: its directory, its file system.
    pub fn is_not_writable(&self) -> bool {
        match self {
            Self::Io { source, .. } => {
                matches!(
                    source.raw_os_error(),
                    Some(libc::EROFS | libc::EACCES | libc::EPERM | libc::ENOTDIR | libc::ENOENT)
                )
            }
            Self::Records { source, .. } => matches!(
                source.sqlite_error_code(),
                Some(
                    rusqlite::ErrorCode::ReadOnly
                        | rusqlite::ErrorCode::CannotOpen
                        | rusqlite::ErrorCode::PermissionDenied
                )
            ),
            _ => false,
        }
    }

    /// True when the disk is full or a quota is used up.
    pub fn is_no_space(&self) -> bool {
        match self {
            Self::Io { source, .. } => matches!(source.raw_os_error(), Some(libc::ENOSPC | libc::EDQUOT)),
            Self::Rootfs(error) => error.is_no_space(),
            Self::Records { source, .. } => source.sqlite_error_code() == Some(rusqlite::ErrorCode::DiskFull),
            _ => false,
        }
    }
}
