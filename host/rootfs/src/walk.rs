//! sig
use std::path::PathBuf;

use crate::{Result, Root, Stat};

/// Which files of a directory take part: the `local.*` attributes of spec A.2, with the same meaning as in BuildKit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// At least one must match (or a parent directory); empty: everything.
    pub include: Vec<String>,
    /// None may match, after negations (`!pattern`).
    pub exclude: Vec<String>,
    /// Paths with wildcards whose symlinks are followed: the links and what they lead to are included. `None`: not used.
    pub follow_paths: Option<Vec<String>>,
}

/// One file that passed a filter.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Path relative to the root, without leading `/`.
    pub path: PathBuf,
    /// Metadata, owner as on disk.
    pub stat: Stat,
}

/// Lists what passes `filter`, parents before children, siblings sorted by bytes.
pub fn walk(root: &Root, filter: &Filter) -> Result<Vec<Entry>> {
    let _ = (root, filter);
    unimplemented!()
}
