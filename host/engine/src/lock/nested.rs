//! Builds inside a build, for those who want to know what is named before anything runs.
//!
//! What such a build names stands in a definition that another vertex makes. Where that takes no step (the file lies in a context, an image, the graph itself), it is made and read. Where a
//! step makes it, what it was when it was last built here is a fact of the store; without that, nobody can say, and it is said.
use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use rhost_llb::{Definition, Graph as LlbGraph, Limits, OpKind, Vertex, VertexDigest};
use rhost_solver::{Edge, Graph, OpError, SolveError};

use crate::blame;
use crate::error::{BuildError, Kind};
use crate::ops::{BuildStep, Nest};
use crate::session::Session;
use crate::value::Value;

/// A graph, and how the solver has it.
pub(super) type Loaded = (Arc<LlbGraph>, Graph<Value>);

/// The graphs of one definition, and of the builds inside it.
pub(super) struct Graphs {
    /// The outermost first.
    pub all: Vec<Loaded>,
    /// Builds whose graphs nobody knows before they run, by name.
    pub unknown: BTreeSet<String>,
}

impl Graphs {
    /// What to say of the builds that nobody knows.
    pub(super) fn warning(&self, done: &str) -> Option<String> {
        let names: Vec<&str> = self.unknown.iter().map(String::as_str).collect();
        (!names.is_empty()).then(|| {
            format!(
                "a step makes what these build, and it has not run here yet: {}. What they name is not {done}; build once, then again",
                names.join(", ")
            )
        })
    }
}

/// Whether a step runs for what `from` is.
fn takes_a_step(graph: &LlbGraph, from: VertexDigest) -> bool {
    let (mut seen, mut stack) = (HashSet::new(), vec![from]);
    while let Some(digest) = stack.pop() {
        if !seen.insert(digest) {
            continue;
        }
        let Some(vertex) = graph.get(digest) else { return true };
        if matches!(vertex.kind(), OpKind::Exec(_) | OpKind::Build(_)) {
            return true;
        }
        stack.extend(vertex.inputs.iter().map(|edge| edge.vertex));
    }
    false
}

impl Session {
    /// The graph of `definition`, and those of all builds inside it that can be known without running a step.
    ///
    /// # Errors
    /// One is not valid, or the file that it is in cannot be made.
    pub(super) async fn graphs(&self, definition: &Definition) -> Result<Graphs, BuildError> {
        let (graph, solvable, _) = self.load(definition)?;
        let mut found = Graphs { all: Vec::new(), unknown: BTreeSet::new() };
        let (mut todo, mut seen) = (vec![(graph, solvable, 0)], HashSet::new());
        while let Some((graph, solvable, depth)) = todo.pop() {
            for vertex in graph.vertices().iter().filter(|vertex| matches!(vertex.kind(), OpKind::Build(_))) {
                if !seen.insert(vertex.digest) {
                    continue;
                }
                let inner = self.definition_inside(&graph, &solvable, vertex, depth).await;
                match inner.map_err(|error| self.placed(&graph, error))? {
                    None => drop(found.unknown.insert(format!("`{}`", rhost_registry::redact(&vertex.name)))),
                    Some(inner) if inner.is_empty() => {}
                    Some(inner) => {
                        let nest = Nest { session: self.me.clone(), depth: depth + 1 };
                        let what = format!("the definition that `{}` builds", rhost_registry::redact(&vertex.name));
                        let (graph, solvable, _) = self.load_as(&inner, &what, Kind::Build, nest)?;
                        todo.push((graph, solvable, depth + 1));
                    }
                }
            }
            found.all.push((graph, solvable));
        }
        Ok(found)
    }

    /// What `vertex` builds; `None` if nobody knows.
    async fn definition_inside(
        &self,
        graph: &LlbGraph,
        solvable: &Graph<Value>,
        vertex: &Arc<Vertex>,
        depth: usize,
    ) -> Result<Option<Definition>, BuildError> {
        let Some(input) = BuildStep::input_of(vertex).and_then(|input| vertex.inputs.get(input)) else {
            return Ok(None);
        };
        if takes_a_step(graph, input.vertex) {
            let kept = self.shared.store.fact(rhost_store::NESTED, vertex.digest.0.as_raw()).ok().flatten();
            return Ok(kept.and_then(|bytes| Definition::decode(&bytes, &Limits::HOSTILE).ok()));
        }
        let edge = Edge { vertex: input.vertex, output: input.output as usize };
        let value = self.solver.solve(solvable, &[edge]).await.map_err(blame::solve)?.remove(0);
        let read = BuildStep::definition(&self.shared, vertex, &value, depth).await;
        let vertex = vertex.digest;
        read.map(Some).map_err(|error| blame::solve(SolveError::Op { vertex, error: OpError::new(error) }))
    }
}
