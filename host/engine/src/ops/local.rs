//! `local://`: a directory of the user's, or a remote context in its place, read in place. Nothing is copied; COPY reads from it straight into the layer.
use std::sync::Arc;

use async_trait::async_trait;
use rhost_llb::{Digest, OpKind, Vertex, attr, cache_key};
use rhost_rootfs::{Filter, Root, Tree};
use rhost_solver::{CacheMap, Op, OpError};

use crate::op_error::{OpFailure, blocking};
use crate::shared::Shared;
use crate::value::Value;

/// A `local://` source.
pub struct LocalStep {
    shared: Arc<Shared>,
    vertex: Arc<Vertex>,
    name: String,
}

impl LocalStep {
    /// Checks the attributes.
    pub fn new(shared: Arc<Shared>, vertex: Arc<Vertex>, name: &str) -> Result<Self, OpFailure> {
        if !shared.locals.contains_key(name) && shared.fetched(name).is_none() {
            return Err(OpFailure::NoLocal(name.to_owned()));
        }
        let step = Self { shared, vertex, name: name.to_owned() };
        step.filter()?;
        Ok(step)
    }

    fn filter(&self) -> Result<Filter, OpFailure> {
        let OpKind::Source(source) = self.vertex.kind() else {
            return Err(OpFailure::NotYet("a local source of another kind".into()));
        };
        let list = |name: &str| {
            source.attr_list(name).ok_or_else(|| OpFailure::Source {
                identifier: source.identifier.clone(),
                reason: format!("`{name}` is no JSON array of strings"),
            })
        };
        let follow = list(attr::LOCAL_FOLLOW_PATHS)?;
        Ok(Filter {
            include: list(attr::LOCAL_INCLUDE_PATTERNS)?,
            exclude: list(attr::LOCAL_EXCLUDE_PATTERNS)?,
            follow_paths: (!follow.is_empty()).then_some(follow),
        })
    }
}

#[async_trait]
impl Op<Value> for LocalStep {
    fn outputs(&self) -> usize {
        1
    }

    async fn cache_map(&self) -> Result<CacheMap, OpError> {
        let digest = cache_key::source_digest(&format!("session:{}:{}", self.name, self.vertex.digest)).digest;
        Ok(CacheMap { digest, inputs: Vec::new(), volatile: true })
    }

    async fn content_key(&self, _: usize, _: &Value) -> Result<Digest, OpError> {
        Err(OpError::new(OpFailure::NotYet("a source with inputs".into())))
    }

    async fn run(&self, _: &[Value]) -> Result<Vec<Value>, OpError> {
        let filter = self.filter().map_err(OpError::new)?;
        let (shared, name) = (self.shared.clone(), self.name.clone());
        let tree = blocking(move || {
            let modes = shared.modes;
            let Some(directory) = shared.locals.get(&name) else {
                let root = shared.fetched(&name).ok_or(OpFailure::NoLocal(name.clone()))?;
                return Ok(Tree::of_context(root.clone(), &filter, modes, None)?);
            };
            // A digest covers the mode, so each way of taking modes remembers its own.
            let digests = shared.store.context_digests(&directory.display().to_string(), modes);
            Ok(Tree::of_context(Root::open(directory)?, &filter, modes, Some(Arc::new(digests)))?)
        });
        Ok(vec![Value::Context(Arc::new(tree.await.map_err(OpError::new)?))])
    }
}
