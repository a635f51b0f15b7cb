//! `Graph`: what a solver is handed. Checked before anything runs.
use std::sync::Arc;

use rhost_llb::{DigestMap, DigestSet, VertexDigest};

use crate::op::Op;

/// One output of a vertex.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Edge {
    /// The vertex.
    pub vertex: VertexDigest,
    /// Which of its outputs.
    pub output: usize,
}

/// One operation and what it stands on.
pub struct Vertex<T> {
    /// Its name: equal digests are the same vertex, in every graph of a solver.
    pub digest: VertexDigest,
    /// What it does.
    pub op: Arc<dyn Op<T>>,
    /// What it stands on, in the operation's order.
    pub inputs: Vec<Edge>,
    /// Run it even where the cache has an answer.
    pub ignore_cache: bool,
}

/// A graph cannot be solved.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GraphError {
    /// An input is not in the graph.
    #[error("vertex {vertex} stands on {input}, which is not in the graph")]
    MissingInput {
        /// Who asks.
        vertex: VertexDigest,
        /// What is missing.
        input: VertexDigest,
    },
    /// An input has fewer outputs.
    #[error("vertex {vertex} has {outputs} outputs, but output {output} is asked for")]
    NoSuchOutput {
        /// The vertex.
        vertex: VertexDigest,
        /// How many it has.
        outputs: usize,
        /// Which one was asked for.
        output: usize,
    },
    /// Vertices stand on each other.
    #[error("vertices stand on each other: {}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join(" -> "))]
    Cycle(Vec<VertexDigest>),
}

/// Vertices by digest; inputs all there, no cycles.
pub struct Graph<T> {
    pub(crate) vertices: DigestMap<VertexDigest, Vertex<T>>,
}

impl<T> Graph<T> {
    /// Checks `vertices`. The same digest twice is one vertex.
    ///
    /// # Errors
    /// When an input or an output is missing, or vertices stand on each other (the path is told).
    pub fn new(vertices: impl IntoIterator<Item = Vertex<T>>) -> Result<Self, GraphError> {
        let vertices: DigestMap<_, _> = vertices.into_iter().map(|vertex| (vertex.digest, vertex)).collect();
        let graph = Self { vertices };
        for vertex in graph.vertices.values() {
            for input in &vertex.inputs {
                if !graph.vertices.contains_key(&input.vertex) {
                    return Err(GraphError::MissingInput { vertex: vertex.digest, input: input.vertex });
                }
                graph.check_edge(*input)?;
            }
        }
        graph.check_cycles()?;
        Ok(graph)
    }

    pub(crate) fn check_edge(&self, edge: Edge) -> Result<(), GraphError> {
        let Some(vertex) = self.vertices.get(&edge.vertex) else {
            return Err(GraphError::MissingInput { vertex: edge.vertex, input: edge.vertex });
        };
        let outputs = vertex.op.outputs();
        if edge.output >= outputs {
            return Err(GraphError::NoSuchOutput { vertex: edge.vertex, outputs, output: edge.output });
        }
        Ok(())
    }

    /// Depth first without recursion: a graph may be a chain of many thousands.
    fn check_cycles(&self) -> Result<(), GraphError> {
        let (mut done, mut on_path, mut path) = (DigestSet::default(), DigestSet::default(), Vec::new());
        for start in self.vertices.keys() {
            if done.contains(start) {
                continue;
            }
            path.push((*start, 0));
            on_path.insert(*start);
            while let Some((at, next)) = path.last_mut() {
                let Some(input) = self.vertices[at].inputs.get(*next) else {
                    on_path.remove(at);
                    done.insert(*at);
                    path.pop();
                    continue;
                };
                *next += 1;
                if on_path.contains(&input.vertex) {
                    let mut cycle: Vec<_> =
                        path.iter().map(|(digest, _)| *digest).skip_while(|digest| *digest != input.vertex).collect();
                    cycle.push(input.vertex);
                    return Err(GraphError::Cycle(cycle));
                }
                if !done.contains(&input.vertex) {
                    on_path.insert(input.vertex);
                    path.push((input.vertex, 0));
                }
            }
        }
        Ok(())
    }
}
