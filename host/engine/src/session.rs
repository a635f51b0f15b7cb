//! `Session`: what one build lends to its frontend, behind the frontend's port. Everything a guest names is checked here.
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};

use async_trait::async_trait;
use rhost_frontend::{
    ByteRange, Diagnostic, FileStat, FrontendHost, HostError, ImageQuery, Report, ResolveMode, ResolvedImage, Severity,
    SolvedTree,
};
use rhost_llb::{Definition, Digest, Graph as LlbGraph, Limits, VertexDigest};
use rhost_registry::redact;
use rhost_rootfs::Root;
use rhost_solver::{Edge, Graph, Op, Solver};
use rhost_store::BuildFiles;

use crate::blame;
use crate::directory::{host_error, on_thread, read_dir, read_file, stat};
use crate::error::{BuildError, Kind, Place};
use crate::event::{Event, Finding};
use crate::frontends::FrontendSource;
use crate::images::Freshness;
use crate::lock::LockKind;
use crate::op_error::{OpFailure, blocking};
use crate::ops::{self, Nest, Nests};
use crate::said::Said;
use crate::shared::{Shared, VertexInfo};
use crate::value::Value;

/// One build as its frontend sees it.
pub struct Session {
    /// Where everything is.
    pub shared: Arc<Shared>,
    /// Runs graphs.
    pub solver: Solver<Value>,
    /// Who reads the build file.
    pub frontend: OnceLock<FrontendSource>,
    /// `--pull`.
    pub pull: bool,
    /// The worst that the guest has reported, for the error at the end.
    pub findings: Mutex<Vec<Diagnostic>>,
    /// What the guest says while it works.
    pub said: Said,
    /// What registries told the guest; it hands on the text only, and the exit code needs more.
    pub failures: Mutex<Vec<BuildError>>,
    /// Ids of cache mounts that this build has emptied for steps that are not to use the cache.
    pub begun_anew: Mutex<HashSet<String>>,
    /// Builds inside this build.
    pub nests: Nests,
    /// Sources that a server is asked for, by vertex.
    pub remote_sources: Mutex<HashMap<VertexDigest, Arc<dyn Op<Value>>>>,
    /// Itself, for those builds.
    pub me: Weak<Session>,
    /// Files of this build alone, to be kept while it runs.
    pub _held: Vec<BuildFiles>,
}

impl Session {
    /// Loads `definition`, makes its vertices known to the progress, and checks that rhost can do them.
    ///
    /// # Errors
    /// A definition that is not valid, or asks for what rhost cannot do, with its place in the build file.
    pub fn load(&self, definition: &Definition) -> Result<(Arc<LlbGraph>, Graph<Value>, Edge), BuildError> {
        let nest = Nest { session: self.me.clone(), depth: 0 };
        self.load_as(definition, "the frontend's graph", Kind::Frontend, nest)
    }

    /// As [`Session::load`] for a graph in `nest`. One that is not valid is `what` to people, and of `kind`.
    ///
    /// # Errors
    /// As [`Session::load`].
    pub fn load_as(
        &self,
        definition: &Definition,
        what: &str,
        kind: Kind,
        nest: Nest,
    ) -> Result<(Arc<LlbGraph>, Graph<Value>, Edge), BuildError> {
        let wrong = |error: &dyn std::fmt::Display| BuildError::new(kind, format!("{what}: {error}"));
        let graph = LlbGraph::load(definition, &Limits::HOSTILE).map_err(|error| wrong(&error))?;
        {
            let mut known = self.shared.vertices.lock().unwrap_or_else(PoisonError::into_inner);
            known.reserve(graph.vertices().len());
            for vertex in graph.vertices() {
                let info = VertexInfo {
                    // A source's URL may hold a password.
                    name: redact(&vertex.name).into(),
                    inputs: vertex.inputs.iter().map(|input| input.vertex).collect(),
                };
                known.insert(vertex.digest, info);
            }
        }
        self.refuse_missing(&graph)?;
        let vertices = ops::graph(&self.shared, &graph, &nest).map_err(|error| self.placed(&graph, error))?;
        self.begin_anew(&graph)?;
        let solvable = Graph::new(vertices).map_err(|error| wrong(&error))?;
        let target = Edge { vertex: graph.head().vertex, output: graph.head().output as usize };
        let graph = Arc::new(graph);
        self.shared.explainer.graph(&graph);
        Ok((graph, solvable, target))
    }

    /// Refuses a graph that names what may not be asked for, with all of it.
    fn refuse_missing(&self, graph: &LlbGraph) -> Result<(), BuildError> {
        self.shared.pins.check(graph);
        self.shared.pins.refusal().map_or(Ok(()), Err)
    }

    /// Empties the cache mounts of steps that are not to use the cache, once in a build, before the first of them runs: as BuildKit
    /// does for `--no-cache`. Whoever has one keeps it.
    fn begin_anew(&self, graph: &LlbGraph) -> Result<(), BuildError> {
        let mut known = self.begun_anew.lock().unwrap_or_else(PoisonError::into_inner);
        for id in graph.vertices().iter().filter(|vertex| vertex.metadata.ignore_cache).flat_map(ops::cache_mount_ids) {
            if known.insert(id.to_owned()) {
                let forgotten = self.shared.store.forget_cache_mounts(id);
                forgotten.map_err(|error| BuildError::new(Kind::Store, error))?;
            }
        }
        Ok(())
    }

    /// `error` with the place of its vertex in the build file; of one that has none, as the download of an ADD, the place of what
    /// wants it.
    pub fn placed(&self, graph: &LlbGraph, mut error: BuildError) -> BuildError {
        if error.place.is_some() {
            // In the text of a build inside this one, which is nearer.
            return error;
        }
        let mut vertex = error.vertex.and_then(|digest| graph.get(digest));
        while let Some(found) = vertex.filter(|vertex| vertex.locations.is_empty()) {
            vertex = graph.vertices().iter().find(|user| user.inputs.iter().any(|edge| edge.vertex == found.digest));
        }
        if let Some(location) = vertex.and_then(|vertex| vertex.locations.first())
            && let Some(info) = usize::try_from(location.source_index).ok().and_then(|index| graph.infos().get(index))
        {
            let lines = location.ranges.iter().flat_map(|range| {
                let line =
                    |position: &Option<rhost_llb::Position>| position.as_ref().map_or(0, |p| p.line.max(0) as u32);
                [line(&range.start), line(&range.end)]
            });
            let (first, last) =
                lines.filter(|line| *line > 0).fold((u32::MAX, 0), |(a, b), line| (a.min(line), b.max(line)));
            if last > 0 {
                error.place = Some(Place {
                    file: info.filename.clone(),
                    first_line: first,
                    last_line: last,
                    text: String::from_utf8_lossy(&info.data).into_owned(),
                });
            }
        }
        error
    }

    fn local(&self, context: &str) -> Result<Root, HostError> {
        if let Some(root) = self.shared.fetched(context) {
            return Ok(root.clone());
        }
        let directory = self.shared.locals.get(context);
        let directory =
            directory.ok_or_else(|| HostError::NotFound(format!("there is no local context `{context}`")))?;
        Root::open(directory).map_err(host_error)
    }
}

#[async_trait]
impl FrontendHost for Session {
    fn contexts(&self) -> Vec<String> {
        let fetched = ["context", "dockerfile"].into_iter().filter(|name| self.shared.fetched(name).is_some());
        let mut names: Vec<String> = self.shared.locals.keys().cloned().chain(fetched.map(str::to_owned)).collect();
        names.sort();
        names
    }

    async fn read_file(
        &self,
        context: &str,
        path: &str,
        range: Option<ByteRange>,
        limit: u64,
    ) -> Result<Vec<u8>, HostError> {
        let (root, path) = (self.local(context)?, path.to_owned());
        on_thread(move || read_file(&root, &path, range, limit)).await
    }

    async fn stat(&self, context: &str, path: &str) -> Result<FileStat, HostError> {
        let (root, path) = (self.local(context)?, path.to_owned());
        on_thread(move || stat(&root, &path)).await
    }

    async fn read_dir(&self, context: &str, path: &str, pattern: Option<&str>) -> Result<Vec<FileStat>, HostError> {
        let (root, path, pattern) = (self.local(context)?, path.to_owned(), pattern.map(str::to_owned));
        on_thread(move || read_dir(&root, &path, pattern.as_deref())).await
    }

    async fn resolve_image(&self, query: ImageQuery) -> Result<ResolvedImage, HostError> {
        let name =
            query.progress_name.clone().unwrap_or_else(|| format!("[internal] load metadata for {}", query.reference));
        let fresh =
            if self.pull || query.mode == ResolveMode::ForcePull { Freshness::Pull } else { Freshness::Default };
        let found = self.shared.internal(&name, async {
            let (reference, layout) = match query.reference.strip_prefix("oci-layout://") {
                Some(rest) => (rest, Some(query.store.clone().unwrap_or_else(|| layout_name(rest)))),
                None => (query.reference.trim_start_matches("docker-image://"), query.store.clone()),
            };
            match layout {
                Some(layout) => self.shared.images.layout(&layout, reference, &query.platform).await,
                None => self.shared.images.image(reference, &query.platform, fresh).await,
            }
        });
        let found = match found.await {
            // The frontend goes on, so that all that is missing is told; its answer is then refused.
            Err(error) if error.is_not_here() => return Ok(stand_in(&query)),
            other => other,
        };
        let found = found.inspect_err(|error| {
            let mut failure = match error {
                OpFailure::Registry(registry) => blame::registry(registry, error.to_string(), Kind::BuildFile),
                OpFailure::Refused(refusal) => blame::policy(refusal, error.to_string()),
                OpFailure::Signature(failure) => blame::signature(failure, error.to_string()),
                _ => return,
            };
            failure.hints.extend(self.shared.pins.hint(LockKind::Image, &query.reference));
            self.failures.lock().unwrap_or_else(PoisonError::into_inner).push(failure);
        });
        let found = found.map_err(|error| match &error {
            OpFailure::Registry(rhost_registry::Error::NotFound { .. } | rhost_registry::Error::NoPlatform { .. }) => {
                HostError::NotFound(error.to_string())
            }
            OpFailure::Reference(_) => HostError::Invalid(error.to_string()),
            OpFailure::Refused(_) | OpFailure::Signature(_) => HostError::Denied(error.to_string()),
            _ => HostError::Failed(error.to_string()),
        })?;
        Ok(ResolvedImage {
            reference: found.image.reference.without_digest().to_string(),
            digest: found.image.root.descriptor.digest.to_string(),
            config: found.image.config_bytes.to_vec(),
        })
    }

    async fn solve(&self, definition: Definition) -> Result<Arc<dyn SolvedTree>, HostError> {
        let failed = |failure: BuildError| {
            let told = HostError::Failed(failure.message.clone());
            self.failures.lock().unwrap_or_else(PoisonError::into_inner).push(failure);
            told
        };
        let (_, graph, target) = self.load(&definition).map_err(failed)?;
        let solved = self.solver.solve(&graph, &[target]).await;
        let value = solved.map_err(|error| failed(blame::solve(error)))?.remove(0);
        Ok(Arc::new(Solved { shared: self.shared.clone(), value }))
    }

    fn supports(&self, feature: &str) -> bool {
        feature == "rhost.solve" || rhost_llb::caps::supported(feature)
    }

    fn report(&self, report: Report) {
        match report {
            Report::Log { level, message } => {
                let name = self.frontend.get().map(ToString::to_string).unwrap_or_default();
                self.said.say(&self.shared.events, &name, level, &message);
            }
            Report::Diagnostic(finding) => {
                if finding.severity < Severity::Error {
                    let ranges = finding.marks.iter().map(|mark| (mark.range.start.0, mark.range.end.0)).collect();
                    let place =
                        finding.marks.first().map(|m| (m.source.filename.clone(), m.source.data.to_vec(), ranges));
                    self.shared.events.send(Event::Finding(Arc::new(Finding {
                        rule: finding.code.clone(),
                        message: finding.message.clone(),
                        details: finding.details.clone(),
                        url: finding.url.clone(),
                        place,
                    })));
                }
                self.findings.lock().unwrap_or_else(PoisonError::into_inner).push(finding);
            }
        }
    }
}

/// An image in place of one that is not here.
fn stand_in(query: &ImageQuery) -> ResolvedImage {
    let reference = query.reference.trim_start_matches("docker-image://");
    let name = reference.parse::<rhost_registry::Reference>().map(|name| name.tagged().without_digest().to_string());
    let config = serde_json::json!({
        "architecture": query.platform.architecture, "os": query.platform.os, "config": {},
        "rootfs": {"type": "layers", "diff_ids": []},
    });
    ResolvedImage {
        reference: name.unwrap_or_else(|_| reference.to_owned()),
        digest: Digest::of("").to_string(),
        config: config.to_string().into_bytes(),
    }
}

fn layout_name(reference: &str) -> String {
    reference.split(['@', ':']).next().unwrap_or_default().to_owned()
}

/// A result that a guest may read.
struct Solved {
    shared: Arc<Shared>,
    value: Value,
}

impl Solved {
    async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Root) -> Result<T, HostError> + Send + 'static,
    ) -> Result<T, HostError> {
        let (shared, value) = (self.shared.clone(), self.value.clone());
        shared.present(&value).await.map_err(|error| HostError::Failed(error.to_string()))?;
        let root = blocking(move || match &value {
            Value::Snapshot(id) => Ok(Some(shared.view(*id)?)),
            Value::Scratch => Ok(None),
            Value::Context(tree) => Ok(tree.root().cloned()),
        });
        let root = root.await.map_err(|error| HostError::Failed(error.to_string()))?;
        let root = root.ok_or_else(|| HostError::NotFound("the result is empty".into()))?;
        on_thread(move || work(&root)).await
    }
}

#[async_trait]
impl SolvedTree for Solved {
    async fn read_file(&self, path: &str, range: Option<ByteRange>, limit: u64) -> Result<Vec<u8>, HostError> {
        let path = path.to_owned();
        self.read(move |root| read_file(root, &path, range, limit)).await
    }

    async fn stat(&self, path: &str) -> Result<FileStat, HostError> {
        let path = path.to_owned();
        self.read(move |root| stat(root, &path)).await
    }

    async fn read_dir(&self, path: &str, pattern: Option<&str>) -> Result<Vec<FileStat>, HostError> {
        let (path, pattern) = (path.to_owned(), pattern.map(str::to_owned));
        self.read(move |root| read_dir(root, &path, pattern.as_deref())).await
    }
}
