//! Between the track's types and the host's.
use rhost_llb::{BuildError, ChownOpt, NamedUserOpt, Platform, Position, Range, UserOpt};

use super::bindings::rhost::frontend::{llb, report, types};
use crate::host::{self, HostError};

impl From<HostError> for types::Error {
    fn from(error: HostError) -> Self {
        match error {
            HostError::NotFound(text) => Self::NotFound(text),
            HostError::Denied(text) => Self::Denied(text),
            HostError::Invalid(text) => Self::Invalid(text),
            HostError::Unsupported(text) => Self::Unsupported(text),
            HostError::TooLarge(text) => Self::TooLarge(text),
            HostError::Failed(text) => Self::Failed(text),
        }
    }
}

impl From<types::Error> for HostError {
    fn from(error: types::Error) -> Self {
        match error {
            types::Error::NotFound(text) => Self::NotFound(text),
            types::Error::Denied(text) => Self::Denied(text),
            types::Error::Invalid(text) => Self::Invalid(text),
            types::Error::Unsupported(text) => Self::Unsupported(text),
            types::Error::TooLarge(text) => Self::TooLarge(text),
            types::Error::Failed(text) | types::Error::Other(text) => Self::Failed(text),
        }
    }
}

impl From<BuildError> for types::Error {
    fn from(error: BuildError) -> Self {
        let text = error.to_string();
        match error {
            BuildError::TooManyVertices { .. } | BuildError::TooLarge { .. } => Self::TooLarge(text),
            _ => Self::Invalid(text),
        }
    }
}

impl From<types::Platform> for Platform {
    fn from(platform: types::Platform) -> Self {
        Self {
            os: platform.os,
            architecture: platform.architecture,
            variant: platform.variant,
            os_version: platform.os_version,
            os_features: platform.os_features,
        }
    }
}

impl From<&Platform> for types::Platform {
    fn from(platform: &Platform) -> Self {
        Self {
            os: platform.os.clone(),
            architecture: platform.architecture.clone(),
            variant: platform.variant.clone(),
            os_version: platform.os_version.clone(),
            os_features: platform.os_features.clone(),
        }
    }
}

pub fn range(range: &types::Range) -> Range {
    let number = |value: u32| i32::try_from(value).unwrap_or(i32::MAX);
    let position = |at: &types::Position| Some(Position { line: number(at.line), character: number(at.character) });
    Range { start: position(&range.start), end: position(&range.end) }
}

pub fn report_range(range: types::Range) -> host::Range {
    host::Range { start: (range.start.line, range.start.character), end: (range.end.line, range.end.character) }
}

pub fn byte_range(range: types::ByteRange) -> host::ByteRange {
    host::ByteRange { offset: range.offset, length: range.length }
}

pub fn file_stat(stat: host::FileStat) -> types::FileStat {
    let kind = match stat.kind {
        host::FileKind::Regular => types::FileKind::Regular,
        host::FileKind::Directory => types::FileKind::Directory,
        host::FileKind::Symlink => types::FileKind::Symlink,
        host::FileKind::Special => types::FileKind::Special,
    };
    types::FileStat {
        name: stat.name,
        kind,
        mode: stat.mode,
        uid: stat.uid,
        gid: stat.gid,
        size: stat.size,
        modified: stat.modified,
        link_target: stat.link_target,
    }
}

pub fn level(level: report::Level) -> host::Level {
    match level {
        report::Level::Trace => host::Level::Trace,
        report::Level::Debug => host::Level::Debug,
        report::Level::Info => host::Level::Info,
        report::Level::Warn => host::Level::Warn,
        report::Level::Error => host::Level::Error,
    }
}

pub fn severity(severity: report::Severity) -> host::Severity {
    match severity {
        report::Severity::Note => host::Severity::Note,
        report::Severity::Warning => host::Severity::Warning,
        report::Severity::Error => host::Severity::Error,
    }
}

/// Names are looked up in the base: the graph builder sees to their input.
pub fn owner(owner: llb::Owner) -> ChownOpt {
    let identity = |identity: llb::Identity| match identity {
        llb::Identity::Id(id) => UserOpt::ById(id),
        llb::Identity::Name(name) => UserOpt::ByName(NamedUserOpt { name, input: 0 }),
    };
    ChownOpt { user: owner.user.map(identity), group: owner.group.map(identity) }
}

/// How many bytes of names an owner holds.
pub fn owner_size(owner: &llb::Owner) -> usize {
    let size = |identity: &Option<llb::Identity>| match identity {
        Some(llb::Identity::Name(name)) => name.len(),
        _ => 0,
    };
    size(&owner.user) + size(&owner.group)
}
