//! `FileOp`: copy, make and remove files without running anything (spec A.1).
use bytes::Bytes;
use serde_json::{Map, Value, json};

use crate::wire::{Budget, DecodeError, Field, JsonStyle, Message, Place, Raw, message, put_bytes};

message! {
    /// Actions, one after the other. Inputs below the number of the op's inputs are those; above, they are results of earlier actions.
    pub struct FileOp {
        /// At least one.
        actions: Vec<FileAction> = 2 "actions",
    }
}

/// One action. The oneof is written last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileAction {
    /// What is changed: an input, an earlier action's result, or [`crate::EMPTY_INPUT`].
    pub input: i64,
    /// What is copied from; [`crate::EMPTY_INPUT`] for all but copy.
    pub secondary_input: i64,
    /// Number of the op's output, or [`crate::NO_OUTPUT`].
    pub output: i64,
    /// What is done.
    pub kind: FileActionKind,
}

/// What a file action does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FileActionKind {
    /// Copies files.
    Copy(FileActionCopy),
    /// Writes a file.
    MkFile(FileActionMkFile),
    /// Makes a directory.
    MkDir(FileActionMkDir),
    /// Removes a path.
    Rm(FileActionRm),
    /// Makes a symbolic link.
    Symlink(FileActionSymlink),
    /// Nothing was said. Only ever met while decoding; refused by validation.
    Missing,
}

impl FileActionKind {
    /// The owner to give, where the action has one.
    pub fn owner(&self) -> Option<&ChownOpt> {
        match self {
            Self::Copy(copy) => copy.owner.as_ref(),
            Self::MkFile(file) => file.owner.as_ref(),
            Self::MkDir(dir) => dir.owner.as_ref(),
            Self::Symlink(link) => link.owner.as_ref(),
            Self::Rm(_) | Self::Missing => None,
        }
    }

    /// The JSON that enters the cache key (spec C.1).
    pub(crate) fn key_json(&self) -> Value {
        match self {
            Self::Copy(copy) => copy.json(JsonStyle::Key),
            Self::MkFile(file) => file.json(JsonStyle::Key),
            Self::MkDir(dir) => dir.json(JsonStyle::Key),
            Self::Rm(rm) => rm.json(JsonStyle::Key),
            Self::Symlink(link) => link.json(JsonStyle::Key),
            Self::Missing => Value::Null,
        }
    }
}

impl Message for FileAction {
    const NAME: &'static str = "FileAction";

    fn absent() -> Self {
        Self { input: 0, secondary_input: 0, output: 0, kind: FileActionKind::Missing }
    }

    fn put_fields(&self, out: &mut Vec<u8>) {
        self.input.put(1, out);
        self.secondary_input.put(2, out);
        self.output.put(3, out);
        match &self.kind {
            FileActionKind::Copy(copy) => put_bytes(4, &copy.to_wire(), out),
            FileActionKind::MkFile(file) => put_bytes(5, &file.to_wire(), out),
            FileActionKind::MkDir(dir) => put_bytes(6, &dir.to_wire(), out),
            FileActionKind::Rm(rm) => put_bytes(7, &rm.to_wire(), out),
            FileActionKind::Symlink(link) => put_bytes(8, &link.to_wire(), out),
            FileActionKind::Missing => {}
        }
    }

    fn take_field(&mut self, number: u64, raw: Raw<'_>, budget: &Budget) -> Result<(), DecodeError> {
        let place = Place { message: Self::NAME, number, budget };
        match number {
            1 => return self.input.take(raw, place),
            2 => return self.secondary_input.take(raw, place),
            3 => return self.output.take(raw, place),
            _ => {}
        }
        macro_rules! payload {
            ($kind:ident) => {{
                let mut payload = None;
                Field::take(&mut payload, raw, place)?;
                payload.map_or(FileActionKind::Missing, FileActionKind::$kind)
            }};
        }
        self.kind = match number {
            4 => payload!(Copy),
            5 => payload!(MkFile),
            6 => payload!(MkDir),
            7 => payload!(Rm),
            8 => payload!(Symlink),
            number => return Err(DecodeError::UnknownField { message: Self::NAME, number }),
        };
        Ok(())
    }

    fn json(&self, style: JsonStyle) -> Value {
        let mut object = Map::new();
        for (name, value) in [("input", self.input), ("secondaryInput", self.secondary_input), ("output", self.output)]
        {
            if let Some(value) = value.json(style) {
                object.insert(name.to_owned(), value);
            }
        }
        let (name, payload) = match &self.kind {
            FileActionKind::Copy(copy) => ("copy", copy.json(style)),
            FileActionKind::MkFile(file) => ("mkfile", file.json(style)),
            FileActionKind::MkDir(dir) => ("mkdir", dir.json(style)),
            FileActionKind::Rm(rm) => ("rm", rm.json(style)),
            FileActionKind::Symlink(link) => ("symlink", link.json(style)),
            FileActionKind::Missing => return Value::Object(object),
        };
        object.insert(name.to_owned(), payload);
        Value::Object(object)
    }
}

message! {
    /// Copies `src` of the secondary input to `dest`.
    pub struct FileActionCopy {
        /// Path in the source, absolute.
        src: String = 1 "src",
        /// Path in the target, absolute; a trailing `/` or `/.` counts.
        dest: String = 2 "dest",
        /// Owner to give; none keeps the source's.
        owner: Option<ChownOpt> = 3 "owner",
        /// Permission bits to give; -1 keeps the source's.
        mode: i32 = 4 "mode",
        /// Follow a symbolic link at the end of `src`.
        follow_symlink: bool = 5 "followSymlink",
        /// Copy what is in a directory rather than the directory.
        dir_copy_contents: bool = 6 "dirCopyContents",
        /// Unpack an archive, as ADD does.
        attempt_unpack: bool = 7 "attemptUnpackDockerCompatibility",
        /// Make missing parents of `dest`.
        create_dest_path: bool = 8 "createDestPath",
        /// `src` is a pattern.
        allow_wildcard: bool = 9 "allowWildcard",
        /// A pattern that matches nothing is no error.
        allow_empty_wildcard: bool = 10 "allowEmptyWildcard",
        /// Modification time in nanoseconds since 1970; -1 keeps the source's.
        timestamp: i64 = 11 "timestamp",
        /// Only what matches one of these.
        include_patterns: Vec<String> = 12 "include_patterns",
        /// Nothing that matches one of these.
        exclude_patterns: Vec<String> = 13 "exclude_patterns",
        /// Replace what is at the destination even when it is of another kind.
        always_replace_existing_dest_paths: bool = 14 "alwaysReplaceExistingDestPaths",
        /// Permission bits as text, as in `u+x`; wins over `mode`.
        mode_str: String = 15 "modeStr",
        /// Paths that have to be there.
        required_paths: Vec<String> = 16 "required_paths",
    }
}

message! {
    /// Writes a file.
    pub struct FileActionMkFile {
        /// Where, absolute.
        path: String = 1 "path",
        /// Permission bits.
        mode: i32 = 2 "mode",
        /// Its content.
        data: Bytes = 3 "data",
        /// Owner; none is root.
        owner: Option<ChownOpt> = 4 "owner",
        /// Modification time in nanoseconds since 1970; -1 for now.
        timestamp: i64 = 5 "timestamp",
    }
}

message! {
    /// Makes a directory.
    pub struct FileActionMkDir {
        /// Where, absolute.
        path: String = 1 "path",
        /// Permission bits.
        mode: i32 = 2 "mode",
        /// Also make missing parents; an existing directory is no error.
        make_parents: bool = 3 "makeParents",
        /// Owner; none is root.
        owner: Option<ChownOpt> = 4 "owner",
        /// Modification time in nanoseconds since 1970; -1 for now.
        timestamp: i64 = 5 "timestamp",
    }
}

message! {
    /// Makes a symbolic link.
    pub struct FileActionSymlink {
        /// What it points to.
        old_path: String = 1 "oldpath",
        /// Where it is, absolute.
        new_path: String = 2 "newpath",
        /// Owner; none is root.
        owner: Option<ChownOpt> = 3 "owner",
        /// Modification time in nanoseconds since 1970; -1 for now.
        timestamp: i64 = 4 "timestamp",
    }
}

message! {
    /// Removes a path.
    pub struct FileActionRm {
        /// What, absolute.
        path: String = 1 "path",
        /// A missing one is no error.
        allow_not_found: bool = 2 "allowNotFound",
        /// `path` is a pattern.
        allow_wildcard: bool = 3 "allowWildcard",
    }
}

message! {
    /// Owner to give.
    pub struct ChownOpt {
        /// The user.
        user: Option<UserOpt> = 1 "user",
        /// The group.
        group: Option<UserOpt> = 2 "group",
    }
}

/// A user or group: by number, or by a name that is looked up in an input's /etc/passwd or /etc/group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UserOpt {
    /// By name.
    ByName(NamedUserOpt),
    /// By number.
    ById(u32),
    /// Nothing was said. Only ever met while decoding; means root.
    Missing,
}

message! {
    /// A name, and the input in which it is looked up.
    pub struct NamedUserOpt {
        /// The name.
        name: String = 1 "name",
        /// Index into the op's inputs, or [`crate::EMPTY_INPUT`].
        input: i64 = 2 "input",
    }
}

impl Message for UserOpt {
    const NAME: &'static str = "UserOpt";

    fn absent() -> Self {
        Self::Missing
    }

    fn put_fields(&self, out: &mut Vec<u8>) {
        match self {
            Self::ByName(named) => put_bytes(1, &named.to_wire(), out),
            // A member of a oneof is written even when it is zero.
            Self::ById(id) => out.extend([0x10].into_iter().chain({
                let mut number = Vec::new();
                crate::wire::put_varint(u64::from(*id), &mut number);
                number
            })),
            Self::Missing => {}
        }
    }

    fn take_field(&mut self, number: u64, raw: Raw<'_>, budget: &Budget) -> Result<(), DecodeError> {
        let place = Place { message: Self::NAME, number, budget };
        *self = match number {
            1 => {
                let mut named = None;
                Field::take(&mut named, raw, place)?;
                named.map_or(Self::Missing, Self::ByName)
            }
            2 => {
                let mut id = 0u32;
                id.take(raw, place)?;
                Self::ById(id)
            }
            number => return Err(DecodeError::UnknownField { message: Self::NAME, number }),
        };
        Ok(())
    }

    fn json(&self, style: JsonStyle) -> Value {
        match (style, self) {
            // BuildKit's own JSON form wraps the oneof and leaves a zero out (spec C.1).
            (JsonStyle::Key, Self::ByName(named)) => json!({ "User": { "byName": named.json(style) } }),
            (JsonStyle::Key, Self::ById(0) | Self::Missing) => json!({ "User": {} }),
            (JsonStyle::Key, Self::ById(id)) => json!({ "User": { "byId": id } }),
            (JsonStyle::Proto, Self::ByName(named)) => json!({ "byName": named.json(style) }),
            (JsonStyle::Proto, Self::ById(id)) => json!({ "byID": id }),
            (JsonStyle::Proto, Self::Missing) => json!({}),
        }
    }
}
