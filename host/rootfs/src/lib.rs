//! Everything that touches the files of a rootfs, a build context or a layer.
//!
//! Invariant: below a [`Root`] a path is never handed to the kernel whole and unguarded. It is resolved component by component against
//! directory descriptors, and every open goes through `openat2` with `RESOLVE_IN_ROOT`, so that a symlink planted by an image,
//! a context or a running step leads back into the root and nowhere else.
//! This crate knows no snapshots, no network, no graph: callers hand it descriptors and values.

mod archive;
mod beneath;
mod content_hash;
mod copy;
mod copy_again;
mod copy_entry;
mod copy_files;
mod decompress;
mod error;
mod file_ops;
mod glob;
mod layer_apply;
mod layer_diff;
mod layer_fit;
mod layer_flatten;
mod layer_sink;
mod listing;
mod mode;
pub mod path;
mod pattern;
mod processors;
mod read_ahead;
mod root;
mod scan;
mod selection;
mod stat;
mod tar_header;
mod tar_index;
mod tar_read;
mod tree;
mod tree_diff;
mod tree_writer;
mod users;
mod walk;
mod xattr;

pub use archive::{is_archive, unpack_archive};
pub use beneath::way_without_mount;
pub use content_hash::{ChecksumOptions, DigestCache, FileIdentity};
pub use copy::{Copy, CopyMode, Source, copy, copy_again};
pub use copy_again::{CopyAgain, CopyKey};
pub use decompress::{Compression, decompress};
pub use error::{Error, Result};
pub use file_ops::{Rm, mkdir, mkdir_all, mkfile, rm, symlink};
pub use glob::glob_match;
pub use layer_apply::{Applied, Apply, Lowers, apply_layer};
pub use layer_diff::{Below, LayerInfo, LayerOptions, write_layer};
pub use layer_fit::fit_layer;
pub use layer_flatten::flatten_layer;
pub use mode::ModeChange;
pub use pattern::{MatchInfo, PatternMatcher};
pub use processors::processors;
pub use root::{DirEntry, Last, Root};
pub use scan::{Attribute, Scanned, read_unchanged, scan, stat_now};
pub use selection::SelectedFile;
pub use stat::{Kind, OverlayXattrs, Owner, OwnerPolicy, Stat, Timestamp};
pub use tar_index::{TarMember, tar_members};
pub use tree::Tree;
pub use tree_diff::write_tree_diff;
pub use tree_writer::{TreeMeta, TreeWriter};
pub use users::{MAX_USER_FILE, lookup_group, lookup_user};
pub use walk::{Entry, Filter, Modes, walk};
