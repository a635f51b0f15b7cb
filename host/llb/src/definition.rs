//! `Definition`: a graph as it travels: the bytes of its ops, metadata beside them, and a map to the source text (spec A.1).
//!
//! Metadata and source map never enter a digest. They are keyed by vertex digest.
use std::collections::BTreeMap;

use bytes::Bytes;
use serde_json::{Map, Value};

use crate::digest::VertexDigest;
use crate::op::Op;
use crate::wire::{Budget, DecodeError, JsonStyle, Message, message};

message! {
    /// A graph as it travels.
    pub struct Definition {
        /// Ops in topological order; the last one only names the result.
        def: Vec<Bytes> = 1 "def",
        /// What else is known of each vertex.
        metadata: BTreeMap<VertexDigest, OpMetadata> = 2 "metadata",
        /// Where in which text each vertex comes from.
        source: Option<SourceMap> = 3 "Source",
    }
}

/// How large a definition from outside may be.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of the encoded definition.
    pub encoded: usize,
    /// Bytes of memory of everything decoded.
    pub decoded: usize,
    /// Ops.
    pub ops: usize,
    /// Inputs of one op, mounts of one exec, actions of one file op.
    pub per_op: usize,
    /// Levels of messages within messages.
    pub depth: usize,
}

impl Limits {
    /// What a guest or a client of the daemon may send: 64 MiB, 512 MiB decoded, 100 000 ops.
    pub const HOSTILE: Self = Self { encoded: 64 << 20, decoded: 512 << 20, ops: 100_000, per_op: 10_000, depth: 16 };
}

impl Definition {
    /// The wire form.
    pub fn encode(&self) -> Vec<u8> {
        self.to_wire()
    }

    /// Reads the wire form. Ops stay bytes; [`crate::Graph::load`] reads and validates them.
    pub fn decode(bytes: &[u8], limits: &Limits) -> Result<Self, DecodeError> {
        if bytes.len() > limits.encoded {
            return Err(DecodeError::TooLarge { message: Self::NAME, limit: limits.encoded });
        }
        Self::from_wire(bytes, &Budget::new(limits.decoded, limits.depth))
    }

    /// Whether it is scratch: no ops at all.
    pub fn is_empty(&self) -> bool {
        self.def.is_empty()
    }

    /// Each op with its digest, in order, decoded. The last is the head.
    pub fn ops(&self, limits: &Limits) -> Result<Vec<(VertexDigest, Op)>, DecodeError> {
        let budget = Budget::new(limits.decoded, limits.depth);
        self.def.iter().map(|bytes| Ok((VertexDigest(crate::Digest::of(bytes)), Op::decode(bytes, &budget)?))).collect()
    }

    /// The JSON form, for people: `{"def": {digest: op}, "metadata": …, "source": …}`, as BuildKit's `convertllb` answers.
    pub fn to_json(&self) -> Result<Value, DecodeError> {
        let mut object = Map::new();
        let ops = self.ops(&Limits::HOSTILE)?;
        object.insert(
            "def".into(),
            Value::Object(ops.iter().map(|(digest, op)| (digest.to_string(), op.to_json())).collect()),
        );
        // BuildKit prints the ops as protojson, but what is known of them as plain structs.
        let metadata =
            self.metadata.iter().map(|(digest, metadata)| (digest.to_string(), metadata.json(JsonStyle::Key)));
        object.insert("metadata".into(), Value::Object(metadata.collect()));
        if let Some(source) = &self.source {
            object.insert("source".into(), source.json(JsonStyle::Proto));
        }
        Ok(Value::Object(object))
    }
}

message! {
    /// What is known of a vertex beside its bytes.
    pub struct OpMetadata {
        /// Run it even when the cache has it.
        ignore_cache: bool = 1 "ignore_cache",
        /// Notes; `llb.customname` is what people see.
        description: BTreeMap<String, String> = 2 "description",
        /// Whether it is exported with the cache; none leaves it to the build.
        export_cache: Option<ExportCache> = 4 "export_cache",
        /// What the reader must be able to do (spec appendix 2).
        caps: BTreeMap<String, bool> = 5 "caps",
        /// Vertices that people see as one.
        progress_group: Option<ProgressGroup> = 6 "progress_group",
        /// Limits for the step.
        linux_resources: Option<LinuxResources> = 7 "linux_resources",
    }
}

/// The description that is shown instead of a made-up name.
pub const CUSTOM_NAME: &str = "llb.customname";

impl OpMetadata {
    /// The same without capabilities.
    pub(crate) fn without_caps(&self) -> Self {
        Self {
            ignore_cache: self.ignore_cache,
            description: self.description.clone(),
            export_cache: self.export_cache.clone(),
            caps: BTreeMap::new(),
            progress_group: self.progress_group.clone(),
            linux_resources: self.linux_resources.clone(),
        }
    }

    /// Adds `other`, which wins where both say something, as when one vertex is met twice.
    pub fn merge(&mut self, other: &Self) {
        self.ignore_cache |= other.ignore_cache;
        self.description.extend(other.description.iter().map(|(name, text)| (name.clone(), text.clone())));
        self.caps.extend(other.caps.keys().map(|cap| (cap.clone(), true)));
        if other.export_cache.is_some() {
            self.export_cache.clone_from(&other.export_cache);
        }
        if other.progress_group.is_some() {
            self.progress_group.clone_from(&other.progress_group);
        }
        if other.linux_resources.is_some() {
            self.linux_resources.clone_from(&other.linux_resources);
        }
    }
}

message! {
    /// Whether a vertex is exported with the cache.
    pub struct ExportCache {
        /// Yes or no.
        value: bool = 1 "Value",
    }
}

message! {
    /// Vertices that people see as one.
    pub struct ProgressGroup {
        /// The same for all of the group.
        id: String = 1 "id",
        /// What people see.
        name: String = 2 "name",
        /// Does not make the group appear by itself.
        weak: bool = 3 "weak",
    }
}

message! {
    /// Limits for a step.
    pub struct LinuxResources {
        /// Bytes.
        memory: i64 = 1 "memory",
        /// Bytes of memory and swap.
        memory_swap: i64 = 2 "memorySwap",
        /// Relative weight.
        cpu_shares: u64 = 3 "cpuShares",
        /// Microseconds.
        cpu_period: u64 = 4 "cpuPeriod",
        /// Microseconds.
        cpu_quota: i64 = 5 "cpuQuota",
        /// CPUs, as in `0-3`.
        cpuset_cpus: String = 6 "cpusetCpus",
        /// Memory nodes, as in `0,1`.
        cpuset_mems: String = 7 "cpusetMems",
    }
}

message! {
    /// Where vertices come from.
    pub struct SourceMap {
        /// Places of each vertex.
        locations: BTreeMap<VertexDigest, Locations> = 1 "locations",
        /// The texts.
        infos: Vec<SourceInfo> = 2 "infos",
    }
}

message! {
    /// Places of one vertex.
    pub struct Locations {
        /// The places.
        locations: Vec<Location> = 1 "locations",
    }
}

message! {
    /// A text that a build was read from.
    pub struct SourceInfo {
        /// Its name.
        filename: String = 1 "filename",
        /// The text.
        data: Bytes = 2 "data",
        /// How to get it again.
        definition: Option<Box<Definition>> = 3 "definition",
        /// Its language, as linguist names it: `Dockerfile`.
        language: String = 4 "language",
    }
}

message! {
    /// Places in one text.
    pub struct Location {
        /// Index into [`SourceMap::infos`].
        source_index: i32 = 1 "sourceIndex",
        /// The places.
        ranges: Vec<Range> = 2 "ranges",
    }
}

message! {
    /// From one position to another, both included.
    pub struct Range {
        /// First.
        start: Option<Position> = 1 "start",
        /// Last.
        end: Option<Position> = 2 "end",
    }
}

impl Range {
    /// Whole lines, counted from 1.
    pub fn lines(first: i32, last: i32) -> Self {
        let position = |line| Some(Position { line, character: 0 });
        Self { start: position(first), end: position(last) }
    }
}

message! {
    /// A place in a text.
    pub struct Position {
        /// Line, counted from 1.
        line: i32 = 1 "line",
        /// Character, counted from 0.
        character: i32 = 2 "character",
    }
}
