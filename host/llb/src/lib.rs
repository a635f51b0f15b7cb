//! LLB as pure values: ops, platforms, digests, graphs, BuildKit's exact wire bytes and cache-key formulas.
//!
//! No disk, no network, no clock, no process. Labels and progress text never enter a digest.
mod digest;
mod platform;

pub use digest::{BlobDigest, ChainId, DiffId, Digest, DigestError, Hasher, VertexDigest};
pub use platform::{Platform, PlatformError};
