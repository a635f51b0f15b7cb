//! `rhost lock`: what a build names is resolved, and nothing is built. The frontend runs, for only it knows what a build file names, and what it asks to have
//! solved is solved for it.
use std::num::NonZeroUsize;
use std::sync::Arc;

use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use rhost_llb::{
    Graph as LlbGraph, GraphBuilder, Limits, OpKind, Platform, SourceOp, SourceScheme, VertexDigest, VertexOptions,
};
use rhost_registry::{ImageSource as _, Reference};
use rhost_solver::SolveError;

use super::file::{Entries, LockFile, LockKey, LockKind, Pin};
use super::near::{matching, near};
use super::pins::Locking;
use crate::blame;
use crate::engine::Engine;
use crate::error::{BuildError, Kind};
use crate::event::{Event, Events};
use crate::git::{GitSource, refresh};
use crate::ops::{self, Nest};
use crate::request::GraphRequest;
use crate::session::Session;

/// Servers asked at once.
const PARALLEL: usize = 8;

/// How a lock file becomes another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LockChange {
    /// A new entry.
    Added(LockKey, Pin),
    /// The same name stands for something else.
    Changed {
        /// The name.
        key: LockKey,
        /// What it stood for.
        was: Pin,
        /// What it stands for.
        is: Pin,
    },
    /// An entry that nothing uses.
    Removed(LockKey, Pin),
}

/// A lock file that was made.
#[derive(Debug, Clone, Default)]
pub struct Locked {
    /// What it says.
    pub entries: Entries,
    /// Compared with the one before.
    pub changes: Vec<LockChange>,
    /// Entries that stay, and that this build does not use.
    pub unused: Vec<LockKey>,
    /// Images of this machine alone, which are in no lock file.
    pub own: Vec<String>,
}

fn changes(before: &Entries, after: &Entries) -> Vec<LockChange> {
    let mut all = Vec::new();
    for (key, is) in after {
        match before.get(key) {
            None => all.push(LockChange::Added(key.clone(), is.clone())),
            Some(was) if was != is => {
                all.push(LockChange::Changed { key: key.clone(), was: was.clone(), is: is.clone() });
            }
            Some(_) => {}
        }
    }
    let gone = before.iter().filter(|(key, _)| !after.contains_key(*key));
    all.extend(gone.map(|(key, pin)| LockChange::Removed(key.clone(), pin.clone())));
    all
}

/// The sources of `graph` that are elsewhere.
pub(super) fn is_elsewhere(kind: &OpKind) -> bool {
    let OpKind::Source(source) = kind else { return false };
    matches!(
        source.split(),
        Some((
            SourceScheme::Image
                | SourceScheme::OciLayout
                | SourceScheme::Git
                | SourceScheme::Http
                | SourceScheme::Https,
            _
        ))
    )
}

impl Engine {
    /// The lock file that `request`'s needs to be whole; with `prune` it has nothing else.
    ///
    /// # Errors
    /// As a build, up to its graph; something cannot be resolved, or stands for two things at once.
    pub async fn lock(&self, request: &GraphRequest, prune: bool, events: &Events) -> Result<Locked, BuildError> {
        let mut request = request.clone();
        request.sources.locking = Locking::Written;
        let store = self.store.for_build();
        let (session, outcome) = self.graph(&request, events, NonZeroUsize::MIN, &store).await?;
        let mut unknown = None;
        for target in outcome.targets.iter().filter(|target| !target.definition.is_empty()) {
            let graphs = session.graphs(&target.definition).await?;
            for (graph, _) in &graphs.all {
                session.resolve_all(graph).await?;
            }
            unknown = unknown.or_else(|| graphs.warning("locked"));
        }
        if let Some(message) = unknown {
            events.send(Event::Warning { vertex: None, message: message.into() });
        }
        let (used, found, unsteady, own) = session.shared.pins.report();
        if !unsteady.is_empty() {
            let names: Vec<String> = unsteady.iter().map(ToString::to_string).collect();
            let message = format!("these stood for two things while they were looked up: {}", names.join(", "));
            return Err(BuildError::new(Kind::Sources, message)
                .hint("try again; a URL that is asked for in two ways wants a checksum in the build file"));
        }
        let before = request.sources.lock.as_ref().map(|lock| lock.entries.clone()).unwrap_or_default();
        let mut entries = before.clone();
        if prune {
            entries.retain(|key, _| used.contains(key));
        }
        let unused = entries.keys().filter(|key| !used.contains(key)).cloned().collect();
        entries.extend(found);
        Ok(Locked { changes: changes(&before, &entries), entries, unused, own: own.into_iter().collect() })
    }

    /// Resolves the entries of `request`'s lock file that `names` mean again, all where there are none. Nothing else changes, and no frontend runs.
    ///
    /// # Errors
    /// A name that means none; something cannot be resolved.
    pub async fn update_lock(
        &self,
        request: &GraphRequest,
        names: &[String],
        events: &Events,
    ) -> Result<Locked, BuildError> {
        let Some(lock) = request.sources.lock.clone() else {
            return Err(
                BuildError::new(Kind::Request, "there is no lock file to update").hint("`rhost lock` makes one")
            );
        };
        let mut keys: Vec<LockKey> = if names.is_empty() { lock.entries.keys().cloned().collect() } else { Vec::new() };
        for name in names {
            let found = matching(&lock.entries, name);
            if found.is_empty() {
                let message = format!("{} has no entry `{}`", lock.path.display(), rhost_registry::redact(name));
                let error = BuildError::new(Kind::Request, message);
                return Err(match &near(&lock.entries, name)[..] {
                    [] => error.hint("entries are named as they stand in the file, or as build files write them; a context after --update begins with a dot or a slash"),
                    near => error.hint(format!("did you mean {}?", near.join(" or "))),
                });
            }
            keys.extend(found.into_iter().filter(|key| !keys.contains(key)).collect::<Vec<_>>());
        }
        let mut request = request.clone();
        request.sources.locking = Locking::Used;
        let mut others = LockFile::clone(&lock);
        others.entries.retain(|key, _| !keys.contains(key));
        request.sources.lock = Some(Arc::new(others));
        let store = self.store.for_build();
        let session = self.prepare(&request, events, NonZeroUsize::MIN, &store).await?.session;
        let asked = stream::iter(keys.iter().map(|key| self.resolve_again(&session, key)));
        let found: Vec<(LockKey, Pin)> = asked.buffered(PARALLEL).try_collect().await?;
        let mut entries = lock.entries.clone();
        entries.extend(found);
        Ok(Locked { changes: changes(&lock.entries, &entries), entries, ..Locked::default() })
    }

    async fn resolve_again(&self, session: &Arc<Session>, key: &LockKey) -> Result<(LockKey, Pin), BuildError> {
        let shared = &session.shared;
        let title = format!("looking up {key}");
        let pin = shared.internal(&title, async {
            let failed = |error: crate::op_error::OpFailure| {
                blame::solve(SolveError::Op {
                    vertex: VertexDigest(rhost_llb::Digest::of(&title)),
                    error: rhost_solver::OpError::new(error),
                })
            };
            match key.kind {
                LockKind::Image | LockKind::Frontend => {
                    let image: Reference = key
                        .name
                        .parse()
                        .map_err(|error: rhost_registry::ReferenceError| BuildError::new(Kind::Request, error))?;
                    let head = crate::images::registries(&shared.store, &self.client, None).head(&image).await;
                    let wrong_name = if key.kind == LockKind::Image { Kind::BuildFile } else { Kind::Frontend };
                    let head = head.map_err(|error| blame::registry(&error, error.to_string(), wrong_name))?;
                    Ok(Pin::Manifest(head.digest))
                }
                LockKind::Git => {
                    let source = GitSource::named(&key.name).map_err(|error| failed(error.into()))?;
                    let log = VertexDigest(rhost_llb::Digest::of(format!("internal {title}")));
                    refresh(shared, &source, log).await.map(Pin::Git).map_err(failed)
                }
                LockKind::Http => {
                    let source = SourceOp { identifier: key.name.clone(), attrs: Default::default() };
                    let mut builder = GraphBuilder::new(Platform::host(), Limits::HOSTILE);
                    let named = VertexOptions::named(&title);
                    let made = builder.source(source, &named).and_then(|head| builder.marshal(Some(head)));
                    let made = made.map_err(|error| BuildError::new(Kind::Request, error))?;
                    let (graph, ..) = session.load(&made)?;
                    session.resolve_all(&graph).await?;
                    let (_, found, ..) = shared.pins.report();
                    found
                        .get(key)
                        .cloned()
                        .ok_or_else(|| BuildError::new(Kind::Sources, format!("{key} is not looked up")))
                }
            }
        });
        Ok((key.clone(), pin.await?))
    }
}

impl Session {
    /// Finds out what all sources of `graph` stand for; of those that are files at URLs, by fetching them.
    ///
    /// # Errors
    /// One cannot be had; with its place in the build file.
    pub(super) async fn resolve_all(&self, graph: &Arc<LlbGraph>) -> Result<(), BuildError> {
        let nest = Nest { session: self.me.clone(), depth: 0 };
        let vertices = ops::graph(&self.shared, graph, &nest).map_err(|error| self.placed(graph, error))?;
        let elsewhere = |vertex: &rhost_solver::Vertex<crate::value::Value>| {
            graph.get(vertex.digest).is_some_and(|vertex| is_elsewhere(vertex.kind()))
        };
        let asked = stream::iter(vertices.into_iter().filter(elsewhere).map(async |vertex| {
            let (digest, name) = (vertex.digest, self.shared.vertex(vertex.digest).name);
            let at = jiff::Timestamp::now;
            self.shared.events.send(Event::Started {
                vertex: digest,
                name: name.clone(),
                inputs: Vec::new(),
                at: at(),
            });
            let answer = vertex.op.cache_map().await;
            let error = answer.as_ref().err().map(|error| rhost_registry::redact(&error.to_string()).into());
            self.shared.events.send(Event::Completed { vertex: digest, name, at: at(), cached: false, error });
            answer.map(drop).map_err(|error| blame::solve(SolveError::Op { vertex: digest, error }))
        }));
        let all: Result<Vec<()>, BuildError> = asked.buffer_unordered(PARALLEL).try_collect().await;
        all.map(drop).map_err(|error| self.placed(graph, error))
    }
}
