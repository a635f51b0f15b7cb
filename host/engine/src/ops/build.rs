//! `build`: a definition that another vertex has made, solved inside the build. It is read from a file of an input, loaded under the limits of any
//! definition from outside, its steps pass the same gates, and its vertices are those of the build: what both want runs once.
//!
//! A build inside a build waits for vertices that nobody knew when the graph was checked, so it might wait for itself. It takes neither a place nor
//! a turn, nobody joins its run by its key, and before it waits it is looked whether one of those it will wait for waits for it ([`Nests`]).
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use async_trait::async_trait;
use rhost_llb::{BuildOp, Definition, Digest, Graph, Limits, OpKind, Vertex, VertexDigest};
use rhost_solver::{CacheMap, Op, OpError};

use crate::blame;
use crate::error::{BuildError, Kind};
use crate::op_error::{OpFailure, blocking};
use crate::session::Session;
use crate::shared::Shared;
use crate::value::Value;

/// Builds within builds within builds: deeper is refused. A step can write the definition of the next without end.
const DEEPEST: usize = 16;

/// Largest definition that is remembered, in bytes.
const LARGEST_KEPT: usize = 256 << 10;

/// The input that holds the definition, and the name of its file there (spec A.1).
const DEFINITION: &str = "buildkit.llb.definition";

/// The attribute that names another file.
const FILENAME: &str = "llbbuild.filename";

/// Where a graph's vertices find what solves the graphs inside it.
#[derive(Clone, Default)]
pub struct Nest {
    /// The build.
    pub session: Weak<Session>,
    /// Graphs around this one.
    pub depth: usize,
}

/// Which builds inside this build wait for which others.
#[derive(Default)]
pub struct Nests(Mutex<HashMap<VertexDigest, HashSet<VertexDigest>>>);

impl Nests {
    /// `vertex` will wait for the builds `others`. False, and nothing is noted, when one of them waits for it.
    fn wait(&self, vertex: VertexDigest, others: HashSet<VertexDigest>) -> bool {
        let mut waits = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut seen, mut stack) = (HashSet::new(), others.iter().copied().collect::<Vec<_>>());
        while let Some(at) = stack.pop() {
            if at == vertex {
                return false;
            }
            if seen.insert(at) {
                stack.extend(waits.get(&at).into_iter().flatten());
            }
        }
        waits.entry(vertex).or_default().extend(others);
        true
    }
}

/// A build inside the build.
pub struct BuildStep {
    shared: Arc<Shared>,
    vertex: Arc<Vertex>,
    nest: Nest,
    /// Which input has the definition.
    input: usize,
    /// Its file there.
    file: String,
}

impl BuildStep {
    /// Refuses an op that names no definition.
    pub fn new(shared: Arc<Shared>, vertex: Arc<Vertex>, op: &BuildOp, nest: Nest) -> Result<Self, OpFailure> {
        let Some(input) = op.inputs.get(DEFINITION).and_then(|input| usize::try_from(input.input).ok()) else {
            return Err(OpFailure::NoDefinition { input: DEFINITION });
        };
        let file = op.attrs.get(FILENAME).map_or(DEFINITION, String::as_str).to_owned();
        Ok(Self { shared, vertex, nest, input, file })
    }

    /// The definition that the build in `vertex` of a graph at `depth` is made of, where `value` is the input that holds it.
    ///
    /// # Errors
    /// It is none, or nested too deep.
    pub async fn definition(
        shared: &Arc<Shared>,
        vertex: &Arc<Vertex>,
        value: &Value,
        depth: usize,
    ) -> Result<Definition, OpFailure> {
        let OpKind::Build(op) = vertex.kind() else { return Err(OpFailure::NoDefinition { input: DEFINITION }) };
        let step = Self::new(shared.clone(), vertex.clone(), op, Nest { session: Weak::new(), depth })?;
        step.check_depth()?;
        step.read(value).await
    }

    /// Which input of `vertex` holds the definition.
    pub fn input_of(vertex: &Vertex) -> Option<usize> {
        let OpKind::Build(op) = vertex.kind() else { return None };
        op.inputs.get(DEFINITION).and_then(|input| usize::try_from(input.input).ok())
    }

    fn check_depth(&self) -> Result<(), OpFailure> {
        match self.nest.depth >= DEEPEST {
            true => Err(self.wrong(format!("builds are nested deeper than {DEEPEST} levels"))),
            false => Ok(()),
        }
    }

    /// Remembers what was built here, so that `rhost lock` knows what it names without running what makes it.
    fn remember(&self, definition: &Definition) {
        let bytes = definition.encode();
        if bytes.len() <= LARGEST_KEPT
            && let Err(error) = self.shared.store.set_fact(rhost_store::NESTED, self.vertex.digest.0.as_raw(), &bytes)
        {
            tracing::debug!(%error, "what a build inside a build is made of is not remembered");
        }
    }

    fn wrong(&self, reason: impl std::fmt::Display) -> OpFailure {
        let message = format!("the definition in `{}`: {reason}", self.file);
        OpFailure::Nested(Box::new(BuildError::new(Kind::Build, message)))
    }

    /// The definition in `value`.
    async fn read(&self, value: &Value) -> Result<Definition, OpFailure> {
        self.shared.present(value).await?;
        let (shared, value, file) = (self.shared.clone(), value.clone(), self.file.clone());
        let limits = Limits::HOSTILE;
        let bytes = blocking(move || {
            let tree = shared.tree(&value)?;
            let missing = || rhost_rootfs::Error::NotFound { path: file.as_str().into() };
            let root = tree.root().filter(|_| tree.contains(&file)).ok_or_else(missing)?;
            Ok(root.read(&file, limits.encoded as u64)?)
        });
        let bytes = bytes.await.map_err(|error| match error {
            OpFailure::Files(error) => self.wrong(error),
            other => other,
        })?;
        Definition::decode(&bytes, &limits).map_err(|error| self.wrong(format!("it cannot be read: {error}")))
    }

    async fn build(&self, inputs: &[Value]) -> Result<Value, OpFailure> {
        self.check_depth()?;
        let gone = || OpFailure::Worker("the build is over".into());
        let session = self.nest.session.upgrade().ok_or_else(gone)?;
        let definition = self.read(inputs.get(self.input).ok_or_else(gone)?).await?;
        if definition.is_empty() {
            return Ok(Value::Scratch);
        }
        self.remember(&definition);
        let nest = Nest { session: self.nest.session.clone(), depth: self.nest.depth + 1 };
        let what = format!("the definition in `{}`", self.file);
        let nested = |error| OpFailure::Nested(Box::new(error));
        let (graph, solvable, target) = session.load_as(&definition, &what, Kind::Build, nest).map_err(nested)?;
        if !session.nests.wait(self.vertex.digest, builds_in(&graph)) {
            return Err(self.wrong("it builds itself: one of its vertices is the build that reads it"));
        }
        let solved = session.solver.solve(&solvable, &[target]).await;
        Ok(solved.map_err(|error| nested(session.placed(&graph, blame::solve(error))))?.remove(0))
    }
}

fn builds_in(graph: &Graph) -> HashSet<VertexDigest> {
    let builds = graph.vertices().iter().filter(|vertex| matches!(vertex.kind(), OpKind::Build(_)));
    builds.map(|vertex| vertex.digest).collect()
}

#[async_trait]
impl Op<Value> for BuildStep {
    fn outputs(&self) -> usize {
        1
    }

    fn takes_a_place(&self) -> bool {
        false
    }

    fn waits_for_vertices(&self) -> bool {
        true
    }

    async fn cache_map(&self) -> Result<CacheMap, OpError> {
        let map = super::cache_map(&self.shared, &self.vertex)?;
        // What names inside stand for is the lock file's word. Nobody sees them here, so by another lock file it is another build.
        Ok(match self.shared.pins.entries_digest() {
            Some(lock) => CacheMap { digest: Digest::of(format!("{} by {lock}", map.digest)), ..map },
            None => map,
        })
    }

    async fn content_key(&self, input: usize, value: &Value) -> Result<Digest, OpError> {
        super::content_key(&self.shared, &self.vertex, input, value).await
    }

    async fn run(&self, inputs: &[Value]) -> Result<Vec<Value>, OpError> {
        Ok(vec![self.build(inputs).await.map_err(OpError::new)?])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_would_wait_for_itself_is_told_so() {
        let of = |name: &str| VertexDigest(Digest::of(name));
        let nests = Nests::default();
        let wait = |vertex: &str, others: &[&str]| nests.wait(of(vertex), others.iter().map(|name| of(name)).collect());
        assert!(!wait("a", &["a"]), "itself");
        assert!(wait("a", &["b", "c"]) && wait("b", &["c"]) && wait("a", &[]) && wait("d", &["a"]));
        assert!(!wait("c", &["d"]), "over two others");
        assert!(wait("c", &["e"]), "what was refused is not noted");
    }
}
