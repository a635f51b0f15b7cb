//! sig
use std::path::Path;
use std::sync::Arc;

use rhost_llb::Digest;

use crate::{ChecksumOptions, DigestCache, Filter, Result, Root, Stat};

/// A view of a directory: which files take part, who owns them, what they hash to. Cheap to clone, shared between threads.
#[derive(Clone)]
pub struct Tree {}

impl Tree {
    /// Everything below `root`, with the owners on disk: a snapshot. Directories are listed when first asked about.
    pub fn of_root(root: Root) -> Self {
        let _ = root;
        unimplemented!()
    }
    /// What `filter` lets through of a build context, read in place, everything owned by 0:0 (spec C.2). `cache` remembers digests between builds.
    pub fn of_context(root: Root, filter: &Filter, cache: Option<Arc<dyn DigestCache>>) -> Result<Self> {
        let _ = (root, filter, cache);
        unimplemented!()
    }
    /// The empty tree, `FROM scratch`.
    pub fn empty() -> Self {
        unimplemented!()
    }
    /// The root that files are read from; `None` for the empty tree.
    pub fn root(&self) -> Option<&Root> {
        unimplemented!()
    }
    /// True when `path` (absolute, free of symlinks) takes part.
    pub fn contains(&self, path: impl AsRef<Path>) -> bool {
        let _ = path;
        unimplemented!()
    }
    /// Metadata of `path` (symlinks on the way followed inside the tree, the last one not).
    pub fn stat(&self, path: impl AsRef<Path>) -> Result<Stat> {
        let _ = path;
        unimplemented!()
    }
    /// Digest of the content at `path`, by BuildKit's formula (spec C.2).
    pub fn checksum(&self, path: &str, options: &ChecksumOptions) -> Result<Digest> {
        let _ = (path, options);
        unimplemented!()
    }
}
impl Tree {
    /// who
    pub(crate) fn owner(&self, stat: &Stat) -> crate::Owner { stat.owner }
}
