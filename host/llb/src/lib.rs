//! LLB as pure values: ops, platforms, digests, graphs, BuildKit's exact wire bytes and cache-key formulas.
//!
//! No disk, no network, no clock, no process. Labels and progress text never enter a digest.
//!
//! To make a graph: [`GraphBuilder`]. To take one from outside: [`Definition::decode`], then [`Graph::load`].
mod builder;
mod builder_exec;
mod builder_file;
pub mod cache_key;
pub mod caps;
mod definition;
mod digest;
mod exec_op;
mod file_op;
mod graph;
mod op;
mod platform;
mod source_op;
mod text;
mod validate;
mod wire;

pub use builder::{BuildError, GraphBuilder, State, VertexOptions};
pub use builder_exec::{ExecMount, ExecMountKind, ExecOutputs, ExecSecret, ExecSpec, ExecSsh};
pub use builder_file::{CopyFrom, FileChain, FileStep, clean_dest, clean_path};
pub use definition::{
    CUSTOM_NAME, Definition, ExportCache, Limits, LinuxResources, Location, Locations, OpMetadata, Position,
    ProgressGroup, Range, SourceInfo, SourceMap,
};
pub use digest::{
    BlobDigest, ChainId, DiffId, Digest, DigestError, DigestHasher, DigestMap, DigestSet, Hasher, VertexDigest,
};
pub use exec_op::{
    CacheOpt, CacheSharing, CdiDevice, ContentCache, EMPTY_INPUT, ExecOp, HostIp, Meta, Mount, MountType, NO_OUTPUT,
    NetMode, ProxyEnv, ROOT_MOUNT, SecretEnv, SecretOpt, SecurityMode, SshOpt, TmpfsOpt, Ulimit,
};
pub use file_op::{
    ChownOpt, FileAction, FileActionCopy, FileActionKind, FileActionMkDir, FileActionMkFile, FileActionRm,
    FileActionSymlink, FileOp, NamedUserOpt, UserOpt,
};
pub use graph::{Edge, Graph, LoadError, Vertex};
pub use op::{BuildOp, DiffOp, Input, MergeOp, Op, OpInput, OpKind, PassthroughOp, SELF_BUILDER, WorkerConstraints};
pub use platform::{Platform, PlatformError};
pub use source_op::{SourceOp, SourceScheme, attr};
pub use validate::{ValidateError, check_op};
pub use wire::{Budget, DecodeError};
