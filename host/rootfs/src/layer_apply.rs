//! sig
use std::io::Read;

use rhost_llb::DiffId;

use crate::{OverlayXattrs, OwnerPolicy, Result, Root};

/// How a layer is laid down.
#[derive(Debug, Clone, Copy)]
pub struct Apply<'a> {
    /// How whiteouts of the tar become overlayfs marks in the directory.
    pub xattrs: OverlayXattrs,
    /// What a refused change of owner means.
    pub owners: OwnerPolicy,
    /// Layers below, topmost first: where a hard link may find its target when the layer itself has it not.
    pub lowers: &'a [Root],
}

/// What was read while a layer was applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    /// Digest of the uncompressed tar, to the end of the stream.
    pub diff_id: DiffId,
    /// Size of the uncompressed tar in bytes.
    pub size: u64,
    /// Entries of the tar.
    pub entries: u64,
}

/// Applies an uncompressed layer tar to the empty directory `root` (an overlay lower directory).
pub fn apply_layer(root: &Root, tar: impl Read, options: Apply<'_>) -> Result<Applied> {
    let _ = (root, tar, options);
    unimplemented!()
}
