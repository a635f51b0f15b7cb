//! What survives a build: blobs, snapshots, image names, cache records, leases.
//!
//! Invariants: bytes are published first, records after; a record whose bytes are missing or damaged is a miss and never an error of the build; ids
//! never become paths; several processes may use one store at once and may die at any point.
//!
//! ```text
//! ROOT/blobs-v1/              an OCI image layout: oci-layout, index.json, blobs/sha256/<hex>
//! ROOT/ingest-v1/             downloads and blobs being written
//! ROOT/snapshots-v1/<id>/fs   one directory layer each; <id>/work beside it while it is written
//! ROOT/cache-mounts-v1/       directories of cache mounts, by the hash of their id
//! ROOT/git-v1/                repositories that git sources fetch into, by the hash of the remote
//! ROOT/blocks-v1             where compressed blocks of layers lie in blobs
//! ROOT/contexts-v1/           digests of context files
//! ROOT/history-v1/            what earlier builds were made of, to say why a step ran
//! ROOT/locks-v1/              flock files
//! ROOT/work-v1/               what is being done right now, and what it says; for other processes that want the same
//! ROOT/uses-v1/               what living builds rely on
//! ROOT/records-v3.sqlite      records of all of it
//! ```

mod blob;
mod blocks;
mod cache;
mod cache_mount;
mod cache_transfer;
mod collect;
mod context_digests;
mod copies;
mod db;
mod error;
mod filter;
mod flat;
mod git_repo;
mod history;
mod image;
mod in_use;
mod kept_files;
mod layers;
mod lock;
mod record;
mod sealed;
mod snapshot;
mod solved;
mod store;
mod sweep;
mod usage;
mod version;
mod watcher;
mod work;

pub use blob::{BlobWriter, MAX_READ};
pub use blocks::{KnownBlock, KnownBlocks};
pub use cache::{DOWNLOADS, DurableCache, NESTED, RESOLVED, ResultCodec, SIGNATURES, SIGNED, TRANSCRIPTS};
pub use cache_mount::{CacheMount, CacheMountClaim, CacheMountInfo, CacheMountKey, CacheMountSharing};
pub use cache_transfer::{CacheMountReading, CacheMountSuccessor};
pub use collect::{PruneOptions, Pruned, SpaceLimits, human};
pub use context_digests::{ContextDigests, Settled};
pub use copies::EarlierCopy;
pub use error::{Error, Result};
pub use filter::{Filter, FilterError};
pub use git_repo::{GitRepository, GitRepositoryInfo};
pub use history::Removal;
pub use image::{ImageName, ImageRecord};
pub use layers::LayerWriter;
pub use lock::{Lease, Lock};
pub use record::BlobRecord;
pub use sealed::{seal, unseal};
pub use snapshot::{ActiveSnapshot, MountSpec, SnapshotId, SnapshotInfo};
pub use store::{Durability, Store, StoreOptions};
pub use sweep::BuildFiles;
pub use usage::{RecordKind, UsageRecord};
pub use watcher::{Watched, Watcher};
pub use work::{Frame, OthersWork, Work};
