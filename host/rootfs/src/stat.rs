//! What a file is, as plain values: what `statx` answers, without the parts that no digest, copy or tar needs.
use rustix::fs::FileType;

/// Nanoseconds since 1970-01-01 UTC.
pub type Timestamp = i64;

/// Numeric owner of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Owner {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
}

/// What to do when the kernel refuses a change of owner (a user namespace with one id mapped).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OwnerPolicy {
    /// A refusal is an error.
    Exact,
    /// A refusal is ignored: the file belongs to who builds. For user namespaces where only one id is mapped.
    BestEffort,
}

/// Which extended attributes overlayfs keeps its marks in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OverlayXattrs {
    /// `trusted.overlay.*`: mounted by real root.
    Trusted,
    /// `user.overlay.*`: mounted with `userxattr` in a user namespace.
    User,
}

impl OverlayXattrs {
    /// Name of the attribute that marks an opaque directory; its value is `y`.
    pub fn opaque(self) -> &'static str {
        match self {
            Self::Trusted => "trusted.overlay.opaque",
            Self::User => "user.overlay.opaque",
        }
    }
}

/// Kind of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Regular file.
    File,
    /// Directory.
    Dir,
    /// Symbolic link.
    Symlink,
    /// Character device.
    CharDevice,
    /// Block device.
    BlockDevice,
    /// Named pipe.
    Fifo,
    /// Unix socket.
    Socket,
}

/// Metadata of one file, never of what a symlink points at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stat {
    /// Kind.
    pub kind: Kind,
    /// Permission bits with setuid, setgid and sticky: at most 0o7777.
    pub mode: u32,
    /// Owner.
    pub owner: Owner,
    /// Size in bytes.
    pub size: u64,
    /// Access time.
    pub atime: Timestamp,
    /// Modification time.
    pub mtime: Timestamp,
    /// Change time.
    pub ctime: Timestamp,
    /// Device the file lives on.
    pub dev: u64,
    /// Inode.
    pub ino: u64,
    /// Hard links.
    pub links: u64,
    /// (major, minor) of a device node, else (0, 0).
    pub rdev: (u32, u32),
    /// Bytes in use on disk, in units of 512: fewer than `size` means holes.
    pub blocks: u64,
}

impl Stat {
    pub(crate) fn from_raw(raw: &rustix::fs::Stat) -> Self {
        let kind = match FileType::from_raw_mode(raw.st_mode) {
            FileType::Directory => Kind::Dir,
            FileType::Symlink => Kind::Symlink,
            FileType::CharacterDevice => Kind::CharDevice,
            FileType::BlockDevice => Kind::BlockDevice,
            FileType::Fifo => Kind::Fifo,
            FileType::Socket => Kind::Socket,
            _ => Kind::File,
        };
        let nanos = |seconds: i64, nanos: i64| seconds.saturating_mul(1_000_000_000).saturating_add(nanos);
        Self {
            kind,
            mode: raw.st_mode & 0o7777,
            owner: Owner { uid: raw.st_uid, gid: raw.st_gid },
            size: raw.st_size as u64,
            atime: nanos(raw.st_atime as i64, raw.st_atime_nsec as i64),
            mtime: nanos(raw.st_mtime as i64, raw.st_mtime_nsec as i64),
            ctime: nanos(raw.st_ctime as i64, raw.st_ctime_nsec as i64),
            dev: raw.st_dev as u64,
            ino: raw.st_ino as u64,
            links: raw.st_nlink as u64,
            rdev: match kind {
                Kind::CharDevice | Kind::BlockDevice => {
                    (rustix::fs::major(raw.st_rdev as _), rustix::fs::minor(raw.st_rdev as _))
                }
                _ => (0, 0),
            },
            blocks: raw.st_blocks as u64,
        }
    }

    /// A directory.
    pub fn is_dir(&self) -> bool {
        self.kind == Kind::Dir
    }

    /// A regular file.
    pub fn is_file(&self) -> bool {
        self.kind == Kind::File
    }

    /// A symbolic link.
    pub fn is_symlink(&self) -> bool {
        self.kind == Kind::Symlink
    }

    /// An overlayfs whiteout: character device 0/0.
    pub fn is_whiteout(&self) -> bool {
        self.kind == Kind::CharDevice && self.rdev == (0, 0)
    }
}

pub(crate) fn timespec(at: Timestamp) -> rustix::fs::Timespec {
    rustix::fs::Timespec { tv_sec: at.div_euclid(1_000_000_000) as _, tv_nsec: at.rem_euclid(1_000_000_000) as _ }
}

pub(crate) fn timestamps(atime: Timestamp, mtime: Timestamp) -> rustix::fs::Timestamps {
    rustix::fs::Timestamps { last_access: timespec(atime), last_modification: timespec(mtime) }
}
