//! What steps of this build read: the files under each content digest.
use std::path::Path;
use std::sync::{Arc, OnceLock};

use rhost_llb::Digest;
use rhost_rootfs::{ChecksumOptions, Owner, Tree};
use rhost_store::{SnapshotId, Store};

use super::files::{Collector, File, decode, encode};
use super::short;

/// What one input was hashed for.
pub struct Read {
    source: Source,
    /// The list, once it was made.
    list: OnceLock<Vec<u8>>,
}

enum Source {
    Context(Arc<Tree>, Vec<(String, ChecksumOptions)>),
    Snapshot(SnapshotId),
}

fn list(tree: &Tree, selectors: &[(String, ChecksumOptions)]) -> Vec<u8> {
    let mut files = Collector::default();
    for (path, options) in selectors {
        // It was hashed just now, so it is there; what is not is told by whoever copies it.
        let _ = tree.selected(path, options, &mut |file| files.add(file));
    }
    encode(&files.finish())
}

impl Read {
    /// These `selectors` of a context.
    pub fn context(tree: Arc<Tree>, selectors: Vec<(String, ChecksumOptions)>) -> Self {
        Self { source: Source::Context(tree, selectors), list: OnceLock::new() }
    }

    /// These `selectors` of snapshot `id`, whose tree is `tree`.
    pub fn snapshot(id: SnapshotId, tree: &Tree, selectors: &[(String, ChecksumOptions)]) -> Self {
        Self { source: Source::Snapshot(id), list: OnceLock::from(list(tree, selectors)) }
    }

    /// The list of its files, as it is kept.
    pub fn bytes(&self) -> &[u8] {
        self.list.get_or_init(|| match &self.source {
            Source::Context(tree, selectors) => list(tree, selectors),
            Source::Snapshot(_) => Vec::new(),
        })
    }

    /// Its files.
    pub fn files(&self) -> Option<Vec<File>> {
        decode(self.bytes())
    }

    /// The digest that the file at `path` would have under `mode` and `owner`.
    pub fn as_before(&self, store: &Store, path: &[u8], mode: u32, owner: Owner) -> Option<u64> {
        use std::os::unix::ffi::OsStrExt as _;
        let path = Path::new(std::ffi::OsStr::from_bytes(path));
        let found: Option<Digest> = match &self.source {
            Source::Context(tree, _) => tree.digest_as(path, mode, owner).ok(),
            Source::Snapshot(id) => {
                let spec = store.mount(*id).ok()??;
                Tree::of_root(crate::overlay::open(&spec).ok()?).digest_as(path, mode, owner).ok()
            }
        };
        found.as_ref().map(short)
    }
}
