//! `Graph`: a definition that has been read and found valid: every vertex checked, every edge leads somewhere.
//!
//! Only what the head reaches is kept, in topological order. Digests are recomputed from the bytes, so a cycle cannot be written down.
use std::sync::Arc;

use bytes::Bytes;

use crate::caps;
use crate::definition::{CUSTOM_NAME, Definition, Limits, Location, OpMetadata, SourceInfo};
use crate::digest::{Digest, DigestMap, VertexDigest};
use crate::file_op::FileActionKind;
use crate::op::{Op, OpKind};
use crate::validate::{ValidateError, check_op, output_count};
use crate::wire::{Budget, DecodeError};

/// One output of a vertex.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Edge {
    /// The vertex.
    pub vertex: VertexDigest,
    /// Its output, counted from 0.
    pub output: u32,
}

/// A valid vertex.
#[derive(Clone, Debug)]
pub struct Vertex {
    /// Its name: the digest of `bytes`.
    pub digest: VertexDigest,
    /// The op as it came.
    pub bytes: Bytes,
    /// The op.
    pub op: Op,
    /// The edges it uses, as `op.inputs` lists them.
    pub inputs: Vec<Edge>,
    /// How many outputs it has.
    pub outputs: u32,
    /// What people see.
    pub name: String,
    /// What is known beside the op, without the capabilities: they were checked.
    pub metadata: OpMetadata,
    /// Where it comes from; [`Location::source_index`] is an index into [`Graph::infos`].
    pub locations: Vec<Location>,
}

impl Vertex {
    /// What it does.
    pub fn kind(&self) -> &OpKind {
        self.op.kind.as_ref().expect("a vertex of a valid graph does something")
    }
}

/// A definition is not a valid graph.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LoadError {
    /// Nothing in it.
    #[error("the definition is empty")]
    Empty,
    /// Too many ops.
    #[error("the definition has {found} ops, at most {most} are allowed")]
    TooManyOps {
        /// How many.
        found: usize,
        /// How many may be.
        most: usize,
    },
    /// An op's bytes cannot be read.
    #[error("op {index} of the definition: {source}")]
    Decode {
        /// Which op.
        index: usize,
        /// Why.
        source: DecodeError,
    },
    /// The last op does not name one result.
    #[error("the last op of the definition must have exactly one input and nothing to do")]
    Head,
    /// An op is not valid.
    #[error("vertex {vertex}: {source}")]
    Invalid {
        /// Which.
        vertex: VertexDigest,
        /// Why.
        source: ValidateError,
    },
    /// An input is not in the definition.
    #[error("vertex {vertex} uses {missing}, which the definition does not have")]
    MissingInput {
        /// Who.
        vertex: VertexDigest,
        /// What.
        missing: VertexDigest,
    },
    /// An edge leads to an output that does not exist.
    #[error("output {found} of vertex {vertex} is used, it has {count}")]
    NoSuchOutput {
        /// Whose.
        vertex: VertexDigest,
        /// Which.
        found: i64,
        /// How many there are.
        count: u32,
    },
    /// A capability is not known.
    #[error("vertex {vertex} asks for `{cap}`, which this version cannot do; a newer one may")]
    UnknownCap {
        /// Who.
        vertex: VertexDigest,
        /// What; at most 120 characters.
        cap: String,
    },
    /// A location names a text that is not there.
    #[error("vertex {vertex} says it comes from text {index}, of which there are {count}")]
    NoSuchText {
        /// Who.
        vertex: VertexDigest,
        /// Which text.
        index: i32,
        /// How many there are.
        count: usize,
    },
}

/// A valid graph.
#[derive(Clone, Debug)]
pub struct Graph {
    vertices: Vec<Arc<Vertex>>,
    index: DigestMap<VertexDigest, usize>,
    head: Edge,
    infos: Vec<SourceInfo>,
}

impl Graph {
    /// Reads and validates `definition`. Use [`Definition::is_empty`] first: scratch is no graph.
    pub fn load(definition: &Definition, limits: &Limits) -> Result<Self, LoadError> {
        if definition.def.len() > limits.ops.saturating_add(1) {
            return Err(LoadError::TooManyOps { found: definition.def.len() - 1, most: limits.ops });
        }
        let budget = Budget::new(limits.decoded, limits.depth);
        let mut ops = DigestMap::default();
        let mut last = None;
        for (index, bytes) in definition.def.iter().enumerate() {
            let op = Op::decode(bytes, &budget).map_err(|source| LoadError::Decode { index, source })?;
            let digest = VertexDigest(Digest::of(bytes));
            ops.insert(digest, (bytes, op));
            last = Some(digest);
        }
        let head_digest = last.ok_or(LoadError::Empty)?;
        let (_, head_op) = ops.remove(&head_digest).ok_or(LoadError::Empty)?;
        let (None, [head_input]) = (&head_op.kind, &head_op.inputs[..]) else { return Err(LoadError::Head) };
        for (digest, metadata) in &definition.metadata {
            let unknown = metadata.caps.iter().find(|(cap, wanted)| **wanted && !caps::KNOWN.contains(&cap.as_str()));
            if let Some((cap, _)) = unknown {
                return Err(LoadError::UnknownCap { vertex: *digest, cap: cap.chars().take(120).collect() });
            }
        }
        let mut graph = Self {
            vertices: Vec::new(),
            index: DigestMap::default(),
            head: Edge { vertex: head_input.digest, output: 0 },
            infos: definition.source.as_ref().map(|source| source.infos.clone()).unwrap_or_default(),
        };
        if !ops.contains_key(&head_input.digest) {
            return Err(LoadError::MissingInput { vertex: head_digest, missing: head_input.digest });
        }
        // Depth first without recursion; a vertex is finished after all its inputs. Inputs are named by hash, so there is no cycle.
        let mut stack = vec![(head_input.digest, 0usize)];
        while let Some((digest, next)) = stack.pop() {
            // Finished ones are taken out.
            let Some((_, op)) = ops.get(&digest) else { continue };
            if next == 0 {
                check_op(op, limits).map_err(|source| LoadError::Invalid { vertex: digest, source })?;
            }
            if let Some(input) = op.inputs.get(next) {
                stack.push((digest, next + 1));
                if ops.contains_key(&input.digest) {
                    stack.push((input.digest, 0));
                } else if !graph.index.contains_key(&input.digest) {
                    return Err(LoadError::MissingInput { vertex: digest, missing: input.digest });
                }
                continue;
            }
            let Some((bytes, op)) = ops.remove(&digest) else { continue };
            let vertex = graph.vertex_of(digest, bytes, op, definition)?;
            graph.index.insert(digest, graph.vertices.len());
            graph.vertices.push(Arc::new(vertex));
        }
        graph.head = graph.edge(head_input.digest, head_input.index)?;
        Ok(graph)
    }

    fn edge(&self, vertex: VertexDigest, output: i64) -> Result<Edge, LoadError> {
        let count = self.get(vertex).map_or(0, |vertex| vertex.outputs);
        match u32::try_from(output) {
            Ok(output) if output < count => Ok(Edge { vertex, output }),
            _ => Err(LoadError::NoSuchOutput { vertex, found: output, count }),
        }
    }

    fn vertex_of(
        &self,
        digest: VertexDigest,
        bytes: &Bytes,
        op: Op,
        definition: &Definition,
    ) -> Result<Vertex, LoadError> {
        let inputs =
            op.inputs.iter().map(|input| self.edge(input.digest, input.index)).collect::<Result<Vec<_>, _>>()?;
        let metadata = definition.metadata.get(&digest).map(OpMetadata::without_caps).unwrap_or_default();
        let locations = definition
            .source
            .as_ref()
            .and_then(|source| source.locations.get(&digest))
            .map(|locations| locations.locations.clone())
            .unwrap_or_default();
        for location in &locations {
            if !usize::try_from(location.source_index).is_ok_and(|index| index < self.infos.len()) {
                return Err(LoadError::NoSuchText {
                    vertex: digest,
                    index: location.source_index,
                    count: self.infos.len(),
                });
            }
        }
        let name = match metadata.description.get(CUSTOM_NAME) {
            Some(name) => name.clone(),
            None => self.made_up_name(&op, &inputs),
        };
        Ok(Vertex { digest, bytes: bytes.clone(), outputs: output_count(&op), op, inputs, name, metadata, locations })
    }

    /// Spec A.3, "vertex display name". Cut, since a merge of merges of merges would grow without end.
    fn made_up_name(&self, op: &Op, inputs: &[Edge]) -> String {
        let name_of = |edge: &Edge| self.get(edge.vertex).map_or("", |vertex| vertex.name.as_str());
        let side = |input: Option<i64>| match input.and_then(|index| inputs.get(usize::try_from(index).ok()?)) {
            Some(edge) => format!("({})", name_of(edge)),
            None => "scratch".to_owned(),
        };
        let name = match &op.kind {
            None => String::new(),
            Some(OpKind::Exec(exec)) => exec.meta.as_ref().map(|meta| meta.args.join(" ")).unwrap_or_default(),
            Some(OpKind::Source(source)) => source.identifier.clone(),
            Some(OpKind::File(file)) => {
                let actions = file.actions.iter().map(|action| match &action.kind {
                    FileActionKind::Copy(copy) => format!("copy {} {}", copy.src, copy.dest),
                    FileActionKind::MkFile(file) => format!("mkfile {}", file.path),
                    FileActionKind::MkDir(dir) => format!("mkdir {}", dir.path),
                    FileActionKind::Rm(rm) => format!("rm {}", rm.path),
                    FileActionKind::Symlink(link) => format!("symlink {} -> {}", link.new_path, link.old_path),
                    FileActionKind::Missing => String::new(),
                });
                actions.collect::<Vec<_>>().join(", ")
            }
            Some(OpKind::Build(_)) => "build".to_owned(),
            Some(OpKind::Merge(_)) => format!("merge ({})", inputs.iter().map(name_of).collect::<Vec<_>>().join(", ")),
            Some(OpKind::Diff(diff)) => {
                let index = |input: &Option<crate::op::OpInput>| input.as_ref().map(|input| input.input);
                format!("diff {} -> {}", side(index(&diff.lower)), side(index(&diff.upper)))
            }
            Some(OpKind::Passthrough(pass)) => format!("passthrough {}", pass.id),
        };
        match name.char_indices().nth(1000) {
            Some((cut, _)) => format!("{}…", &name[..cut]),
            None => name,
        }
    }

    /// The result.
    pub fn head(&self) -> Edge {
        self.head
    }

    /// All vertices that the head needs, inputs before users.
    pub fn vertices(&self) -> &[Arc<Vertex>] {
        &self.vertices
    }

    /// A vertex by its digest.
    pub fn get(&self, digest: VertexDigest) -> Option<&Arc<Vertex>> {
        self.index.get(&digest).map(|index| &self.vertices[*index])
    }

    /// The texts that [`Vertex::locations`] speak of.
    pub fn infos(&self) -> &[SourceInfo] {
        &self.infos
    }

    /// The graph in the language of Graphviz, for people: boxes for vertices, arrows from inputs to users.
    pub fn to_dot(&self) -> String {
        use std::fmt::Write as _;
        let quote = |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"").replace(['\n', '\r'], " ");
        let mut dot = String::from("digraph {\n");
        for vertex in &self.vertices {
            let shape = match vertex.kind() {
                OpKind::Source(_) => "ellipse",
                OpKind::Exec(_) => "box",
                OpKind::File(_) => "note",
                OpKind::Build(_) => "box3d",
                OpKind::Merge(_) => "invtriangle",
                OpKind::Diff(_) => "doublecircle",
                OpKind::Passthrough(_) => "cds",
            };
            let _ = writeln!(dot, "  \"{}\" [label=\"{}\" shape=\"{shape}\"];", vertex.digest, quote(&vertex.name));
            for edge in &vertex.inputs {
                let label = if edge.output == 0 { String::new() } else { format!(" [label=\"{}\"]", edge.output) };
                let _ = writeln!(dot, "  \"{}\" -> \"{}\"{label};", edge.vertex, vertex.digest);
            }
        }
        let _ = writeln!(dot, "  \"result\" [shape=\"plaintext\"];\n  \"{}\" -> \"result\";", self.head.vertex);
        dot.push_str("}\n");
        dot
    }
}
