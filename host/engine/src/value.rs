//! `Value`: what an operation gives. A handle, cheap to clone.
use std::sync::Arc;

use rhost_rootfs::Tree;
use rhost_store::SnapshotId;

/// A file tree that is there.
#[derive(Clone)]
pub enum Value {
    /// The empty tree.
    Scratch,
    /// A snapshot of the store.
    Snapshot(SnapshotId),
    /// A directory of the user's, read in place; never written.
    Context(Arc<Tree>),
}
