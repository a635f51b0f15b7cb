//! sig
use std::io::Write;

use rhost_llb::DiffId;

use crate::{Result, Root, Timestamp};

/// How a layer is written.
#[derive(Debug, Clone, Default)]
pub struct LayerOptions {
    /// No file gets a later modification time than this (SOURCE_DATE_EPOCH, rewrite-timestamp).
    pub clamp_mtime: Option<Timestamp>,
}

/// A layer that was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerInfo {
    /// Digest of the bytes written.
    pub diff_id: DiffId,
    /// Bytes written.
    pub size: u64,
    /// Entries written; 0 means an empty layer.
    pub entries: u64,
}

/// Writes the overlay upper (or lower) directory `upper` as a layer tar: deterministic, PAX, sorted, overlay marks turned into `.wh.` entries.
pub fn write_layer(upper: &Root, out: impl Write, options: &LayerOptions) -> Result<LayerInfo> {
    let _ = (upper, out, options);
    unimplemented!()
}
