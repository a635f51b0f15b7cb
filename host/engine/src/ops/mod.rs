//! The operations of LLB over the store, the executor and the registries: one module for each kind.
mod build;
mod diff;
mod exec;
mod file;
mod git;
#[cfg(test)]
mod git_tests;
mod http;
mod image;
mod local;
mod merge;
mod mounts;
mod present;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_again;
#[cfg(test)]
mod tests_unmounted;

use std::sync::{Arc, PoisonError};

use rhost_llb::{Graph as LlbGraph, OpKind, SourceScheme, Vertex as LlbVertex, cache_key};
use rhost_solver::{CacheMap, CacheMapInput, Edge, Op, OpError, Vertex};

use crate::error::{BuildError, Kind};
use crate::op_error::{OpFailure, blocking};
use crate::shared::Shared;
use crate::value::Value;

pub use build::{BuildStep, Nest, Nests};

/// The solver's graph for `graph`, which lies in `nest`. What rhost cannot do is refused here, before anything runs.
///
/// # Errors
/// An operation that is not supported yet, with its vertex.
pub fn graph(shared: &Arc<Shared>, graph: &LlbGraph, nest: &Nest) -> Result<Vec<Vertex<Value>>, BuildError> {
    graph.vertices().iter().map(|vertex| convert(shared, vertex, nest)).collect()
}

fn convert(shared: &Arc<Shared>, vertex: &Arc<LlbVertex>, nest: &Nest) -> Result<Vertex<Value>, BuildError> {
    let refuse = |failure: OpFailure| {
        let message = format!("{}: {failure}", rhost_registry::redact(&vertex.name));
        let mut error = match &failure {
            OpFailure::Refused(refusal) => crate::blame::policy(refusal, message),
            _ => BuildError::new(Kind::Request, message),
        };
        error.vertex = Some(vertex.digest);
        error.hints.extend(failure.hints());
        error
    };
    let (shared, inner) = (shared.clone(), vertex.clone());
    let op: Arc<dyn Op<Value>> = match vertex.kind() {
        OpKind::Exec(_) => {
            let step = exec::ExecStep::new(shared.clone(), inner).map_err(refuse)?;
            Arc::new(present::Present::new(shared, step))
        }
        OpKind::File(_) => {
            let step = file::FileStep::new(shared.clone(), inner).map_err(refuse)?;
            Arc::new(present::Present::new(shared, step))
        }
        OpKind::Merge(_) => Arc::new(merge::MergeStep::new(shared, inner)),
        OpKind::Diff(_) => Arc::new(diff::DiffStep::new(shared, inner)),
        OpKind::Passthrough(op) => Arc::new(merge::PassthroughStep::new(shared, inner.clone(), op)),
        OpKind::Source(source) => match source.split() {
            Some((SourceScheme::Image | SourceScheme::OciLayout, _)) => {
                Arc::new(image::ImageStep::new(shared, inner).map_err(refuse)?)
            }
            Some((SourceScheme::Local, name)) => {
                Arc::new(local::LocalStep::new(shared, inner.clone(), name).map_err(refuse)?)
            }
            Some((SourceScheme::Git, _)) => {
                once(nest, vertex, || Ok(Arc::new(git::GitStep::new(shared, inner).map_err(refuse)?)))?
            }
            Some((SourceScheme::Http | SourceScheme::Https, _)) => once(nest, vertex, || {
                Ok(Arc::new(http::HttpStep::new(shared, inner.clone(), source).map_err(refuse)?))
            })?,
            _ => {
                let identifier = rhost_registry::redact(&source.identifier);
                return Err(refuse(OpFailure::NotYet(format!("the source `{identifier}`"))));
            }
        },
        OpKind::Build(op) => Arc::new(build::BuildStep::new(shared, inner.clone(), op, nest.clone()).map_err(refuse)?),
    };
    let inputs = vertex.inputs.iter().map(|edge| Edge { vertex: edge.vertex, output: edge.output as usize }).collect();
    Ok(Vertex { digest: vertex.digest, op, inputs, ignore_cache: vertex.metadata.ignore_cache })
}

/// The step of `vertex`, which is one for all graphs of a build: a server that one of them has asked is not asked by another, and tells both the same.
fn once(
    nest: &Nest,
    vertex: &LlbVertex,
    make: impl FnOnce() -> Result<Arc<dyn Op<Value>>, BuildError>,
) -> Result<Arc<dyn Op<Value>>, BuildError> {
    let Some(session) = nest.session.upgrade() else { return make() };
    let mut known = session.remote_sources.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(step) = known.get(&vertex.digest) {
        return Ok(step.clone());
    }
    let step = make()?;
    known.insert(vertex.digest, step.clone());
    Ok(step)
}

/// The ids of the cache mounts of `vertex`.
pub fn cache_mount_ids(vertex: &Arc<LlbVertex>) -> impl Iterator<Item = &str> {
    let mounts = match vertex.kind() {
        OpKind::Exec(exec) => exec.mounts.as_slice(),
        _ => &[],
    };
    mounts.iter().filter_map(mounts::cache_id)
}

/// The solver's form of a cache map by BuildKit's formulas.
fn cache_map(shared: &Shared, vertex: &LlbVertex) -> Result<CacheMap, OpError> {
    let map = cache_key::cache_map(&vertex.op, &shared.host).map_err(OpError::new)?;
    let inputs = map.deps.iter().map(|dep| CacheMapInput { selector: dep.selector, by_content: dep.content.is_some() });
    Ok(CacheMap { digest: map.digest.digest, inputs: inputs.collect(), volatile: map.digest.session })
}

/// The content key of `value` as input `input` of `vertex`.
async fn content_key(
    shared: &Arc<Shared>,
    vertex: &LlbVertex,
    input: usize,
    value: &Value,
) -> Result<rhost_llb::Digest, OpError> {
    let map = cache_key::cache_map(&vertex.op, &shared.host).map_err(OpError::new)?;
    let selectors = map.deps.into_iter().nth(input).and_then(|dep| dep.content).unwrap_or_default();
    let (reached, value2, digest) = (shared.clone(), value.clone(), vertex.digest);
    reached.present(&value2).await.map_err(OpError::new)?;
    let hashed = blocking(move || {
        let (shared, value) = (reached, value2);
        let tree = shared.tree(&value)?;
        let selectors = selectors.into_iter().map(|selector| {
            let options = rhost_rootfs::ChecksumOptions {
                follow_links: selector.follow_links,
                wildcard: selector.wildcard,
                include: selector.include_patterns,
                exclude: selector.exclude_patterns,
                required: selector.required_paths,
            };
            (selector.path, options)
        });
        let selectors: Vec<_> = selectors.collect();
        let digests = selectors.iter().map(|(path, options)| tree.checksum(path, options));
        let digests = digests.collect::<Result<Vec<_>, _>>()?;
        shared.explainer.read(digest, input, &value, tree, selectors);
        Ok(cache_key::content_digest(&digests))
    });
    hashed.await.map_err(|failure| OpError::new(crate::missing::explain(shared, vertex, input, value, failure)))
}
