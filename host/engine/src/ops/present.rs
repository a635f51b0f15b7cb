//! `Present`: an operation that reads or mounts its inputs, and so needs all their layers there.
use std::sync::Arc;

use async_trait::async_trait;
use rhost_llb::Digest;
use rhost_solver::{CacheMap, Op, OpError};

use crate::shared::Shared;
use crate::value::Value;

/// Brings the inputs, then runs the inner operation.
pub struct Present<O> {
    shared: Arc<Shared>,
    inner: O,
}

impl<O> Present<O> {
    /// `inner`, with its inputs there.
    pub fn new(shared: Arc<Shared>, inner: O) -> Self {
        Self { shared, inner }
    }
}

#[async_trait]
impl<O: Op<Value>> Op<Value> for Present<O> {
    fn outputs(&self) -> usize {
        self.inner.outputs()
    }

    fn takes_a_place(&self) -> bool {
        self.inner.takes_a_place()
    }

    async fn cache_map(&self) -> Result<CacheMap, OpError> {
        self.inner.cache_map().await
    }

    async fn content_key(&self, input: usize, value: &Value) -> Result<Digest, OpError> {
        self.inner.content_key(input, value).await
    }

    async fn run(&self, inputs: &[Value]) -> Result<Vec<Value>, OpError> {
        for input in inputs {
            self.shared.present(input).await.map_err(OpError::new)?;
        }
        self.inner.run(inputs).await
    }
}
