//! The one error of this crate: each variant says what was wanted, where, and what was found. Paths in messages are paths inside the
//! root, so that a message never shows where the store keeps its state.
use std::io;
use std::path::{Path, PathBuf};

/// Shorthand for results of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can go wrong below a [`crate::Root`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A system call failed on a path inside the root.
    #[error("cannot {action} `{path}`: {source}", path = path.display())]
    Io {
        /// What was tried, as a verb: "open", "create directory".
        action: &'static str,
        /// Path inside the root.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// A path that had to exist does not.
    #[error("{path:?}: not found", path = path.display().to_string())]
    NotFound {
        /// Path inside the root.
        path: PathBuf,
    },
    /// A wildcard matched nothing.
    #[error("`{pattern}` matches no file: check the spelling, and that an ignore file does not exclude it")]
    NoMatch {
        /// The pattern as written.
        pattern: String,
    },
    /// A file stands where a directory is wanted.
    #[error("`{path}` is not a directory", path = path.display())]
    NotDirectory {
        /// Path inside the root.
        path: PathBuf,
    },
    /// A directory stands where a file is to be written.
    #[error("cannot replace directory `{path}` with a file", path = path.display())]
    DirectoryInTheWay {
        /// Path inside the root.
        path: PathBuf,
    },
    /// Something other than a regular file where only a regular file is read.
    #[error("`{path}` is not a regular file", path = path.display())]
    NotRegular {
        /// Path inside the root.
        path: PathBuf,
    },
    /// A file is larger than its reader accepts.
    #[error("`{path}` is larger than {limit} bytes, the most that is read from it", path = path.display())]
    TooLarge {
        /// Path inside the root.
        path: PathBuf,
        /// Limit in bytes.
        limit: u64,
    },
    /// More than 255 symlinks on the way.
    #[error("`{path}`: too many symbolic links", path = path.display())]
    TooManyLinks {
        /// Path inside the root.
        path: PathBuf,
    },
    /// A pattern with broken syntax.
    #[error("`{pattern}` is not a valid pattern: {reason}")]
    BadPattern {
        /// The pattern as written.
        pattern: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A mode that is neither octal nor symbolic.
    #[error("`{text}` is not a file mode: wanted octal (`755`) or symbolic (`u=rwx,go+r`) as chmod takes it")]
    BadMode {
        /// The mode as written.
        text: String,
    },
    /// An operation on the root itself that would empty or replace it.
    #[error("`{path}` is the root of the file system: it cannot be {action}", path = path.display())]
    IsRoot {
        /// Path as written.
        path: PathBuf,
        /// "removed", "replaced".
        action: &'static str,
    },
    /// A file was written to while it was copied or hashed.
    #[error("`{path}` changed while it was read: build again when nothing writes to it", path = path.display())]
    Changed {
        /// Path inside the root.
        path: PathBuf,
    },
    /// An owner that the user namespace has no id for.
    #[error(
        "`{path}` belongs to {uid}:{gid}, which cannot be made here: no such id is mapped for this user. Give the user more subordinate ids in \
         /etc/subuid and /etc/subgid, or choose a smaller id",
        path = path.display()
    )]
    Unmapped {
        /// Path inside the root.
        path: PathBuf,
        /// Wanted user.
        uid: u32,
        /// Wanted group.
        gid: u32,
    },
    /// A directory tree deeper than is followed.
    #[error("`{path}` is nested more than {limit} directories deep", path = path.display())]
    TooDeep {
        /// Path inside the root.
        path: PathBuf,
        /// Limit in directories.
        limit: usize,
    },
    /// A layer or archive that is not a valid tar stream.
    #[error("broken archive at byte {offset}: {reason}")]
    BadArchive {
        /// Offset in the uncompressed stream.
        offset: u64,
        /// What is wrong.
        reason: String,
    },
    /// An entry of an archive that cannot be made.
    #[error("archive entry `{path}`: {reason}", path = path.display())]
    BadEntry {
        /// Name of the entry.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Reading a stream failed (network, decompressor).
    #[error("cannot read the stream: {source}")]
    Stream {
        /// What the reader said.
        source: io::Error,
    },
    /// Writing a stream failed.
    #[error("cannot write the stream: {source}")]
    Sink {
        /// What the writer said.
        source: io::Error,
    },
}

impl Error {
    pub(crate) fn io(action: &'static str, path: impl AsRef<Path>, source: impl Into<io::Error>) -> Self {
        let source = source.into();
        let path = path.as_ref().to_path_buf();
        match source.raw_os_error() {
            Some(libc::ENOENT) => Self::NotFound { path },
            Some(libc::ENOTDIR) => Self::NotDirectory { path },
            _ => Self::Io { action, path, source },
        }
    }

    /// True when the cause is that a path does not exist (or that a component of it is no directory).
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::NotFound { .. } | Self::NoMatch { .. } | Self::NotDirectory { .. })
    }

    /// True when the disk is full or a quota is used up.
    pub fn is_no_space(&self) -> bool {
        match self {
            Self::Io { source, .. } | Self::Stream { source } | Self::Sink { source } => {
                matches!(source.raw_os_error(), Some(libc::ENOSPC | libc::EDQUOT))
            }
            _ => false,
        }
    }
}
