//! sig
use crate::{Owner, OwnerPolicy, Result, Root, Timestamp, Tree};

/// Mode given to what is copied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CopyMode {
    /// As in the source (LLB mode -1).
    Keep,
    /// These bits, up to 0o7777 (LLB mode).
    Bits(u32),
    /// A chmod expression applied to each file's mode (LLB modeStr).
    Change(crate::ModeChange),
}

/// Where files are copied from.
#[derive(Clone)]
pub enum Source {
    /// A whole file system.
    Root(Root),
    /// The part of a directory that takes part, owned as the tree says (contexts: 0:0).
    Tree(Tree),
}

/// `FileActionCopy` (spec A.1), as values.
#[derive(Debug, Clone)]
pub struct Copy {
    /// Source path or pattern, as in LLB.
    pub src: String,
    /// Destination path; a trailing `/` means: into this directory.
    pub dest: String,
    /// New owner; `None` keeps the source's.
    pub owner: Option<Owner>,
    /// New mode.
    pub mode: CopyMode,
    /// Follow a symlink that is the source.
    pub follow_symlink: bool,
    /// Copy what is in a source directory rather than the directory.
    pub dir_contents: bool,
    /// Unpack a source that is a tar archive, compressed or not (ADD).
    pub unpack: bool,
    /// Make missing parents of `dest`; without it they must exist.
    pub create_dest_path: bool,
    /// `src` may hold wildcards.
    pub wildcard: bool,
    /// A wildcard that matches nothing is no error.
    pub empty_wildcard: bool,
    /// Access and modification time of everything made; `None` keeps the source's.
    pub timestamp: Option<Timestamp>,
    /// Only what matches one of these, relative to the source.
    pub include: Vec<String>,
    /// Not what matches these.
    pub exclude: Vec<String>,
    /// Replace whatever stands at a destination, also of another kind.
    pub always_replace: bool,
    /// What a refused change of owner means.
    pub owners: OwnerPolicy,
}

/// Copies from `source` into `dest`.
pub fn copy(source: &Source, dest: &Root, options: &Copy) -> Result<()> {
    let _ = (source, dest, options);
    unimplemented!()
}
