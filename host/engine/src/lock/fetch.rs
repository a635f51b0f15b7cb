//! `rhost fetch`: everything that a build has from elsewhere comes into the store, and nothing is built. The same walk tells, offline, all that is missing.
use std::num::NonZeroUsize;
use std::sync::Arc;

use futures_util::stream::{self, StreamExt as _};
use rhost_frontend::Target;
use rhost_llb::Graph as LlbGraph;
use rhost_solver::{Edge, Graph};

use super::make::is_elsewhere;
use super::pins::NotHere;
use crate::blame;
use crate::engine::Engine;
use crate::error::{BuildError, Kind};
use crate::event::{Event, Events};
use crate::request::GraphRequest;
use crate::session::Session;
use crate::value::Value;

/// Sources on their way at once.
const PARALLEL: usize = 8;

/// What was fetched.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fetched {
    /// Sources that the build has, of all its platforms.
    pub sources: usize,
}

impl Engine {
    /// Brings all that a build by `request` needs from elsewhere into the store.
    ///
    /// # Errors
    /// As a build, up to its graph; something cannot be had.
    pub async fn fetch(&self, request: &GraphRequest, events: &Events) -> Result<Fetched, BuildError> {
        let store = self.store.for_build();
        let jobs = NonZeroUsize::new(PARALLEL).unwrap_or(NonZeroUsize::MIN);
        let (session, outcome) = self.graph(request, events, jobs, &store).await?;
        let (mut sources, mut unknown) = (std::collections::BTreeSet::new(), None);
        for target in outcome.targets.iter().filter(|target| !target.definition.is_empty()) {
            let graphs = session.graphs(&target.definition).await?;
            for (graph, solvable) in &graphs.all {
                for (name, brought) in session.bring_all(graph, solvable).await {
                    brought.map_err(|error| session.placed(graph, error))?;
                    sources.insert(name);
                }
            }
            unknown = unknown.or_else(|| graphs.warning("fetched"));
        }
        if let Some(message) = unknown {
            events.send(Event::Warning { vertex: None, message: message.into() });
        }
        session.shared.pins.tell(events);
        store.remember_uses();
        Ok(Fetched { sources: sources.len() })
    }
}

impl Session {
    /// Brings all sources of `graph` that are elsewhere; each with its name and what became of it.
    pub(super) async fn bring_all(
        &self,
        graph: &Arc<LlbGraph>,
        solvable: &Graph<Value>,
    ) -> Vec<(String, Result<(), BuildError>)> {
        let elsewhere = graph.vertices().iter().filter(|vertex| is_elsewhere(vertex.kind()));
        let brought = stream::iter(elsewhere.map(async |vertex| {
            let edge = Edge { vertex: vertex.digest, output: 0 };
            let name = match vertex.kind() {
                rhost_llb::OpKind::Source(source) => rhost_registry::redact(&source.identifier),
                _ => vertex.name.clone(),
            };
            let solved = self.solver.solve(solvable, &[edge]).await.map_err(blame::solve);
            let brought = match solved.map(|mut values| values.remove(0)) {
                Ok(Value::Snapshot(id)) => self.shared.layers.fetch(id).await.map_err(|error| {
                    let vertex = vertex.digest;
                    blame::solve(rhost_solver::SolveError::Op { vertex, error: rhost_solver::OpError::new(error) })
                }),
                Ok(Value::Scratch | Value::Context(_)) => Ok(()),
                Err(error) => Err(error),
            };
            (name, brought)
        }));
        brought.buffer_unordered(PARALLEL).collect().await
    }

    /// `error`, and where it came of being offline, all that is missing in its place.
    pub(crate) async fn with_all_missing(&self, error: BuildError, targets: &[Target]) -> BuildError {
        let pins = &self.shared.pins;
        if !pins.offline() || error.kind != Kind::Sources {
            return error;
        }
        for target in targets.iter().filter(|target| !target.definition.is_empty()) {
            let Ok((graph, solvable, _)) = self.load(&target.definition) else { continue };
            let all = match self.graphs(&target.definition).await {
                Ok(graphs) => graphs.all,
                // What is inside cannot be seen; what is outside can.
                Err(_) => vec![(graph, solvable)],
            };
            for (graph, solvable) in &all {
                for (name, brought) in self.bring_all(graph, solvable).await {
                    if let Err(failure) = brought
                        && failure.kind == Kind::Sources
                    {
                        pins.misses(NotHere::Absent(name, "what it holds".into()));
                    }
                }
            }
        }
        match pins.refusal() {
            Some(mut refusal) => {
                refusal.vertex = error.vertex;
                refusal
            }
            None => error,
        }
    }
}
