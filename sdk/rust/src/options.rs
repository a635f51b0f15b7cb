//! What steps may say beyond their short forms: owners, permissions, what may be missing. Their methods end in `_with`.
use crate::State;
use crate::bindings::rhost::frontend::llb::{CacheSharing, CopyAction, CopyFlags, FileAccess, Identity, Owner};

/// How a secret or an agent is lent to a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access {
    /// It may be missing: then the command runs without.
    pub optional: bool,
    /// Who owns the file.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// Its permission bits.
    pub mode: u32,
}

impl Access {
    /// A secret that root alone can read, and that must be there.
    pub const SECRET: Self = Self { optional: false, uid: 0, gid: 0, mode: 0o400 };
    /// An agent that root alone can ask, and that must be there.
    pub const SSH: Self = Self { optional: false, uid: 0, gid: 0, mode: 0o600 };

    /// It may be missing.
    #[must_use]
    pub fn optional(self) -> Self {
        Self { optional: true, ..self }
    }

    /// Sets who owns the file.
    #[must_use]
    pub fn owner(self, uid: u32, gid: u32) -> Self {
        Self { uid, gid, ..self }
    }

    /// Sets its permission bits.
    #[must_use]
    pub fn mode(self, bits: u32) -> Self {
        Self { mode: bits, ..self }
    }

    pub(crate) fn file(self) -> FileAccess {
        FileAccess { uid: self.uid, gid: self.gid, mode: self.mode }
    }
}

/// How a cache is mounted.
#[derive(Clone, Copy)]
pub struct CacheOptions<'a> {
    /// How concurrent commands share it.
    pub sharing: CacheSharing,
    /// What it holds at first; `None`: nothing.
    pub from: Option<&'a State>,
    /// The directory of that tree; empty: all of it.
    pub path: &'a str,
    /// Writes fail.
    pub read_only: bool,
}

impl Default for CacheOptions<'_> {
    fn default() -> Self {
        Self { sharing: CacheSharing::Shared, from: None, path: "", read_only: false }
    }
}

/// Who owns files: `user`, `user:group`, by names or numbers.
pub fn owner(text: &str) -> Owner {
    let (user, group) = text.split_once(':').unwrap_or((text, ""));
    let identity = |who: &str| match who.parse() {
        _ if who.is_empty() => None,
        Ok(number) if who.bytes().all(|b| b.is_ascii_digit()) => Some(Identity::Id(number)),
        _ => Some(Identity::Name(who.to_owned())),
    };
    Owner { user: identity(user), group: identity(group) }
}

/// What a new file, directory or link is like.
#[derive(Clone, Debug, Default)]
pub struct FileOptions {
    /// Who owns it; `None`: root.
    pub owner: Option<Owner>,
    /// When it was changed, in nanoseconds since 1970; `None`: when the step runs.
    pub timestamp: Option<i64>,
    /// Of a directory: the one above it has to be there.
    pub alone: bool,
}

/// Permissions of what is copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode<'a> {
    /// Bits.
    Bits(u32),
    /// Symbols, as in `u=rwX,go=rX`.
    Symbols(&'a str),
}

/// How files are copied; by default as a build file's COPY does it.
#[derive(Clone, Debug, Default)]
pub struct CopyOptions<'a> {
    /// Exactly the one path.
    pub exact: bool,
    /// Archives are unpacked.
    pub unpack: bool,
    /// Who owns the copies; `None`: who owns the files.
    pub owner: Option<Owner>,
    /// Their permissions; `None`: those of the files.
    pub mode: Option<Mode<'a>>,
    /// Only what matches one of these patterns; empty: all.
    pub include: &'a [&'a str],
    /// Not what matches one of these.
    pub exclude: &'a [&'a str],
    /// Paths that must be there.
    pub required_paths: &'a [&'a str],
    /// As of [`FileOptions`].
    pub timestamp: Option<i64>,
}

impl CopyOptions<'_> {
    pub(crate) fn action(&self, from: &State, source: &str, destination: &str) -> CopyAction {
        let action = CopyAction::new(from, source, destination);
        let mut flags = if self.exact { CopyFlags::empty() } else { like_copy() };
        if self.unpack {
            flags = flags | CopyFlags::UNPACK;
        }
        if !self.exact || self.unpack {
            action.options(flags);
        }
        if let Some(owner) = &self.owner {
            action.owner(owner);
        }
        match self.mode {
            Some(Mode::Bits(bits)) => action.mode(bits),
            Some(Mode::Symbols(text)) => action.mode_symbols(text),
            None => {}
        }
        for (list, set) in [
            (self.include, CopyAction::include as fn(&CopyAction, &[String])),
            (self.exclude, CopyAction::exclude),
            (self.required_paths, CopyAction::required_paths),
        ] {
            if !list.is_empty() {
                set(&action, &list.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>());
            }
        }
        if let Some(nanoseconds) = self.timestamp {
            action.timestamp(nanoseconds);
        }
        action
    }
}

/// As a build file's COPY.
pub(crate) fn like_copy() -> CopyFlags {
    CopyFlags::FOLLOW_SYMLINKS
        | CopyFlags::CONTENTS_ONLY
        | CopyFlags::CREATE_DESTINATION
        | CopyFlags::WILDCARD
        | CopyFlags::ALLOW_EMPTY_WILDCARD
}
