//! The format in which cache mounts leave the machine: an OCI artifact of content-addressed packs. `docs/cache-mounts.md` has it for other readers.
//!
//! A file is a list of *chunks*, cut by its content ([`chunks_of`]) and named by BLAKE3. A mount's chunks, each once, in the order of its tree, are cut into *packs* by the names
//! of the chunks ([`cut_packs`]): what a pack holds depends on nothing but a neighbourhood of files, and a changed file changes the packs that it lies in. A pack is one zstd
//! frame; a *tree* blob tells a run of files as JSON lines. Packs and trees are the layers of one OCI manifest, its config says how they belong together.
//! Equal mounts give equal bytes. All of it is hostile when it is read: [`TreeReader`], [`Config::parse`] and [`unpack`] let nothing through that is not as it must be.
mod chunk;
mod config;
mod layout;
mod pack;
mod place;
mod tree;

pub use chunk::{Chunk, chunk_id, chunks_of, is_zeros};
pub use config::{ARTIFACT_TYPE, CONFIG_TYPE, CacheArtifact, Config, MountConfig, PACK_TYPE, PackConfig, TREE_TYPE};
pub use layout::{CacheDir, LayoutTar, Others};
pub use pack::{MOST_PACK_BYTES, Sequenced, cut_packs, pack, pack_key, pack_target, sequence, unpack};
pub use place::{CachePlace, PlaceError};
pub use tree::{MOST_TREE_BYTES, Node, TreeEntry, TreeReader, tree_segments, write_entries};

/// Why an export of cache mounts cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum CacheFormatError {
    /// Something else, or damaged.
    #[error("it is no export of cache mounts: {0}")]
    NotOne(String),
    /// Of a later rhost.
    #[error(
        "it has version {found} of the cache format; this rhost reads version {known}: import it with a newer rhost, or export it again with this one"
    )]
    Newer { found: u64, known: u64 },
    /// A damaged or hostile part.
    #[error("its {what} cannot be used: {reason}")]
    Broken { what: String, reason: String },
}
