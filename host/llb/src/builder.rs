//! `GraphBuilder`: grows a graph, one immutable vertex at a time, and marshals what a head reaches.
//!
//! A [`State`] is a handle on an output of a vertex. Scratch is `None`. Vertices that turn out to have the same bytes are one
//! vertex in the definition; their metadata is merged in the order of the walk, as BuildKit's client does.
//! What it makes is byte for byte what that client makes (spec A.3), including the capabilities in the metadata.
use std::collections::{BTreeMap, HashMap, HashSet};

use bytes::Bytes;

use crate::caps;
use crate::definition::{
    Definition, ExportCache, LinuxResources, Location, Locations, OpMetadata, ProgressGroup, SourceInfo, SourceMap,
};
use crate::digest::{Digest, VertexDigest};
use crate::op::{BuildOp, DiffOp, Input, MergeOp, Op, OpInput, OpKind, PassthroughOp, WorkerConstraints};
use crate::platform::Platform;
use crate::source_op::SourceOp;
use crate::validate::{ValidateError, check_op};
use crate::{EMPTY_INPUT, Limits};

/// A handle on one output of a vertex of one [`GraphBuilder`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct State {
    node: u32,
    output: u32,
}

impl State {
    /// The output's number.
    pub const fn output(self) -> u32 {
        self.output
    }
}

/// What is said about a vertex beside what it does. All optional.
#[derive(Clone, Debug, Default)]
pub struct VertexOptions {
    /// Notes; [`crate::CUSTOM_NAME`] is what people see.
    pub description: BTreeMap<String, String>,
    /// Run it even when the cache has it.
    pub ignore_cache: bool,
    /// Whether it is exported with the cache.
    pub export_cache: Option<bool>,
    /// Vertices that people see as one.
    pub progress_group: Option<ProgressGroup>,
    /// Limits for the step.
    pub linux_resources: Option<LinuxResources>,
    /// Places in the texts given to [`GraphBuilder::add_source_info`].
    pub locations: Vec<Location>,
    /// Platform, where it is not the builder's.
    pub platform: Option<Platform>,
    /// Worker filters.
    pub constraints: Vec<String>,
    /// Capabilities to ask for beyond those that the op itself makes necessary (`source.local.differ`).
    pub caps: Vec<String>,
}

impl VertexOptions {
    /// Only a name for people.
    pub fn named(name: impl Into<String>) -> Self {
        Self { description: BTreeMap::from([(crate::CUSTOM_NAME.to_owned(), name.into())]), ..Self::default() }
    }
}

/// A graph refused to grow.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BuildError {
    /// The handle is of another builder.
    #[error("a state of another graph was used")]
    ForeignState,
    /// The op is not valid.
    #[error(transparent)]
    Invalid(#[from] ValidateError),
    /// Too many vertices.
    #[error("the graph has more than {limit} vertices")]
    TooManyVertices {
        /// The limit.
        limit: usize,
    },
    /// Too much memory.
    #[error("the graph takes more than {limit} bytes")]
    TooLarge {
        /// The limit.
        limit: usize,
    },
    /// A location names a text that was not added.
    #[error("a source location names text {index}, of which there are {count}")]
    NoSuchText {
        /// What it names.
        index: i32,
        /// How many there are.
        count: usize,
    },
    /// What a mount cannot be.
    #[error("mount `{dest}`: {reason}")]
    Mount {
        /// Where.
        dest: String,
        /// Why not.
        reason: &'static str,
    },
    /// A definition that is taken in is not valid.
    #[error(transparent)]
    Import(#[from] crate::graph::LoadError),
}

struct Node {
    digest: VertexDigest,
    bytes: Bytes,
    op: Op,
    metadata: OpMetadata,
    locations: Vec<Location>,
    /// In the order in which they were given, which is the order of the walk.
    children: Vec<u32>,
}

/// A growing graph.
pub struct GraphBuilder {
    platform: Platform,
    limits: Limits,
    nodes: Vec<Node>,
    size: usize,
    infos: Vec<SourceInfo>,
}

impl GraphBuilder {
    /// An empty graph whose vertices are for `platform` unless they say otherwise.
    pub fn new(platform: Platform, limits: Limits) -> Self {
        Self { platform: platform.normalized(), limits, nodes: Vec::new(), size: 0, infos: Vec::new() }
    }

    /// The platform of vertices that do not say otherwise.
    pub fn platform(&self) -> &Platform {
        &self.platform
    }

    /// Adds a text; the number is for [`Location::source_index`]. The same text again has the same number.
    pub fn add_source_info(&mut self, info: SourceInfo) -> i32 {
        let index = self.infos.iter().position(|known| *known == info).unwrap_or_else(|| {
            self.infos.push(info);
            self.infos.len() - 1
        });
        i32::try_from(index).unwrap_or(i32::MAX)
    }

    /// The op behind a state.
    pub fn op(&self, state: State) -> Option<&Op> {
        self.node(state).ok().map(|node| &node.op)
    }

    /// The vertex behind a state.
    pub fn digest(&self, state: State) -> Option<VertexDigest> {
        self.node(state).ok().map(|node| node.digest)
    }

    /// Vertices so far.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Something from outside. The platform is added where the scheme has one.
    pub fn source(&mut self, source: SourceOp, options: &VertexOptions) -> Result<State, BuildError> {
        let has_platform = source.split().is_some_and(|(scheme, _)| scheme.has_platform());
        let op = self.op_of(options, Vec::new(), OpKind::Source(source), has_platform);
        self.push(op, Vec::new(), options)
    }

    /// Lays `layers` over each other. Scratch has no effect; fewer than two others are no vertex.
    pub fn merge(&mut self, layers: &[Option<State>], options: &VertexOptions) -> Result<Option<State>, BuildError> {
        let layers: Vec<State> = layers.iter().copied().flatten().collect();
        if layers.len() < 2 {
            return Ok(layers.first().copied());
        }
        let inputs = layers.iter().map(|state| self.input(*state)).collect::<Result<Vec<_>, _>>()?;
        let merge = MergeOp { inputs: (0..inputs.len()).map(|index| OpInput { input: index as i64 }).collect() };
        let op = self.op_of(options, inputs, OpKind::Merge(merge), false);
        self.push(op, layers, options).map(Some)
    }

    /// What `upper` has changed from `lower`. Against scratch that is `upper` itself.
    pub fn diff(
        &mut self,
        lower: Option<State>,
        upper: Option<State>,
        options: &VertexOptions,
    ) -> Result<Option<State>, BuildError> {
        let Some(lower) = lower else { return Ok(upper) };
        let mut inputs = vec![self.input(lower)?];
        let mut children = vec![lower];
        let upper_index = match upper {
            None => EMPTY_INPUT,
            Some(upper) => {
                inputs.push(self.input(upper)?);
                children.push(upper);
                1
            }
        };
        let diff = DiffOp { lower: Some(OpInput { input: 0 }), upper: Some(OpInput { input: upper_index }) };
        let op = self.op_of(options, inputs, OpKind::Diff(diff), false);
        self.push(op, children, options).map(Some)
    }

    /// Hands inputs on, once all of them are there: output i is `inputs[outputs[i]]`.
    pub fn passthrough(
        &mut self,
        id: &str,
        inputs: &[State],
        outputs: &[u32],
        options: &VertexOptions,
    ) -> Result<Vec<State>, BuildError> {
        let wire = inputs.iter().map(|state| self.input(*state)).collect::<Result<Vec<_>, _>>()?;
        let kind =
            PassthroughOp { id: id.to_owned(), outputs: outputs.iter().map(|index| i64::from(*index)).collect() };
        let op = self.op_of(options, wire, OpKind::Passthrough(kind), false);
        let state = self.push(op, inputs.to_vec(), options)?;
        Ok((0..outputs.len() as u32).map(|output| State { output, ..state }).collect())
    }

    /// Builds the definition that lies in `input` (in the file that `attrs` names, else `buildkit.llb.definition`).
    pub fn build(
        &mut self,
        input: State,
        attrs: BTreeMap<String, String>,
        options: &VertexOptions,
    ) -> Result<State, BuildError> {
        let kind = BuildOp {
            builder: crate::op::SELF_BUILDER,
            inputs: BTreeMap::from([("buildkit.llb.definition".to_owned(), OpInput { input: 0 })]),
            def: None,
            attrs,
        };
        let op = self.op_of(options, vec![self.input(input)?], OpKind::Build(kind), false);
        self.push(op, vec![input], options)
    }

    /// Takes in a ready definition; every vertex is validated. `None` for scratch.
    pub fn import(&mut self, definition: &Definition) -> Result<Option<State>, BuildError> {
        if definition.is_empty() {
            return Ok(None);
        }
        let graph = crate::graph::Graph::load(definition, &self.limits)?;
        let texts: Vec<i32> = graph.infos().iter().map(|info| self.add_source_info(info.clone())).collect();
        let mut nodes = HashMap::new();
        for vertex in graph.vertices() {
            let children =
                vertex.inputs.iter().map(|edge| State { node: nodes[&edge.vertex], output: edge.output }).collect();
            let mut locations = vertex.locations.clone();
            for location in &mut locations {
                location.source_index = texts[location.source_index as usize];
            }
            // With its capabilities, which a vertex has no more.
            let metadata = definition.metadata.get(&vertex.digest).cloned().unwrap_or_default();
            let state = self.push_raw(vertex.op.clone(), vertex.bytes.clone(), metadata, locations, children)?;
            nodes.insert(vertex.digest, state.node);
        }
        let head = graph.head();
        Ok(Some(State { node: nodes[&head.vertex], output: head.output }))
    }

    /// The definition of what `head` needs: topological order, each vertex once, the head op last. Scratch has no ops.
    pub fn marshal(&self, head: Option<State>) -> Result<Definition, BuildError> {
        let Some(head) = head else { return Ok(Definition::default()) };
        let head_input = self.input(head)?;
        let mut definition = Definition::default();
        let mut source = SourceMap::default();
        let mut texts: HashMap<i32, i32> = HashMap::new();
        let (mut seen, mut written) = (HashSet::new(), HashSet::new());
        // Depth first without recursion: a hostile graph may be a chain of a hundred thousand vertices.
        let mut stack = vec![(head.node, 0usize)];
        seen.insert(head.node);
        while let Some((id, next)) = stack.pop() {
            let node = &self.nodes[id as usize];
            if let Some(child) = node.children.get(next) {
                stack.push((id, next + 1));
                if seen.insert(*child) {
                    stack.push((*child, 0));
                }
                continue;
            }
            definition.metadata.entry(node.digest).or_default().merge(&node.metadata);
            let locations: &mut Locations = source.locations.entry(node.digest).or_default();
            for location in &node.locations {
                let index = *texts.entry(location.source_index).or_insert_with(|| {
                    source.infos.push(self.infos[location.source_index as usize].clone());
                    source.infos.len() as i32 - 1
                });
                locations.locations.push(Location { source_index: index, ranges: location.ranges.clone() });
            }
            if written.insert(node.digest) {
                definition.def.push(node.bytes.clone());
            }
        }
        let head_bytes = Op { inputs: vec![head_input], ..Op::default() }.encode();
        let head_caps = caps::of_head(definition.metadata.values());
        definition.metadata.insert(
            VertexDigest(Digest::of(&head_bytes)),
            OpMetadata {
                caps: head_caps.into_iter().map(|cap| (cap.to_owned(), true)).collect(),
                ..OpMetadata::default()
            },
        );
        definition.def.push(head_bytes.into());
        definition.source = Some(source);
        Ok(definition)
    }

    fn node(&self, state: State) -> Result<&Node, BuildError> {
        self.nodes.get(state.node as usize).ok_or(BuildError::ForeignState)
    }

    pub(crate) fn input(&self, state: State) -> Result<Input, BuildError> {
        Ok(Input { digest: self.node(state)?.digest, index: i64::from(state.output) })
    }

    pub(crate) fn op_of(&self, options: &VertexOptions, inputs: Vec<Input>, kind: OpKind, has_platform: bool) -> Op {
        let platform = has_platform.then(|| options.platform.clone().unwrap_or_else(|| self.platform.clone()));
        Op {
            inputs,
            platform,
            constraints: Some(WorkerConstraints { filter: options.constraints.clone() }),
            kind: Some(kind),
        }
    }

    pub(crate) fn push(&mut self, op: Op, children: Vec<State>, options: &VertexOptions) -> Result<State, BuildError> {
        check_op(&op, &self.limits)?;
        for location in &options.locations {
            if !usize::try_from(location.source_index).is_ok_and(|index| index < self.infos.len()) {
                return Err(BuildError::NoSuchText { index: location.source_index, count: self.infos.len() });
            }
        }
        let mut metadata = OpMetadata {
            ignore_cache: options.ignore_cache,
            description: options.description.clone(),
            export_cache: options.export_cache.map(|value| ExportCache { value }),
            caps: caps::of_op(&op).into_iter().map(|cap| (cap.to_owned(), true)).collect(),
            progress_group: options.progress_group.clone(),
            linux_resources: options.linux_resources.clone(),
        };
        metadata.caps.extend(options.caps.iter().map(|cap| (cap.clone(), true)));
        if metadata.linux_resources.is_some() && matches!(op.kind, Some(OpKind::Exec(_))) {
            metadata.caps.insert(caps::EXEC_META_LINUX_RESOURCES.to_owned(), true);
        }
        let bytes = Bytes::from(op.encode());
        self.push_raw(op, bytes, metadata, options.locations.clone(), children)
    }

    fn push_raw(
        &mut self,
        op: Op,
        bytes: Bytes,
        metadata: OpMetadata,
        locations: Vec<Location>,
        children: Vec<State>,
    ) -> Result<State, BuildError> {
        if self.nodes.len() >= self.limits.ops {
            return Err(BuildError::TooManyVertices { limit: self.limits.ops });
        }
        let notes: usize = metadata.description.iter().map(|(name, text)| name.len() + text.len()).sum();
        self.size = self.size.saturating_add(bytes.len() + notes);
        if self.size > self.limits.encoded {
            return Err(BuildError::TooLarge { limit: self.limits.encoded });
        }
        let node = self.nodes.len() as u32;
        let mut seen = HashSet::new();
        let children = children.into_iter().map(|state| state.node).filter(|child| seen.insert(*child)).collect();
        self.nodes.push(Node { digest: VertexDigest(Digest::of(&bytes)), bytes, op, metadata, locations, children });
        Ok(State { node, output: 0 })
    }
}

/// States that a step gives back.
pub(crate) fn output_of(state: State, output: u32) -> State {
    State { output, ..state }
}
