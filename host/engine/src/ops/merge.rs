//! `merge` and `passthrough`: nothing is copied. A merge is a snapshot whose chain is the layers of its inputs, one on the other; whiteouts and
//! opaque marks of a layer hide what lies below it wherever it is put, and a layer that is not there yet stays so.
use std::sync::Arc;

use async_trait::async_trait;
use rhost_llb::{Digest, MergeOp, OpKind, PassthroughOp, Vertex};
use rhost_solver::{CacheMap, Op, OpError};

use crate::op_error::{OpFailure, blocking};
use crate::shared::Shared;
use crate::value::Value;

/// Lays its inputs over each other.
pub struct MergeStep {
    shared: Arc<Shared>,
    vertex: Arc<Vertex>,
}

impl MergeStep {
    /// A merge.
    pub fn new(shared: Arc<Shared>, vertex: Arc<Vertex>) -> Self {
        Self { shared, vertex }
    }
}

/// `layers` laid over each other, the first at the bottom.
fn merge(shared: &Shared, inputs: &[Value]) -> Result<Value, OpFailure> {
    let mut top = None;
    for input in inputs {
        let Some(id) = shared.snapshot(input)? else { continue };
        top = match top {
            None => Some(id),
            Some(below) => {
                let records = shared.store.records(id)?.ok_or(rhost_store::Error::NoSnapshot { id: id.0 })?;
                let layers: Vec<_> = records.iter().rev().map(|info| info.id).collect();
                shared.store.stack(Some(below), &layers)?
            }
        };
    }
    Ok(top.map_or(Value::Scratch, Value::Snapshot))
}

#[async_trait]
impl Op<Value> for MergeStep {
    fn outputs(&self) -> usize {
        1
    }

    fn takes_a_place(&self) -> bool {
        false
    }

    async fn cache_map(&self) -> Result<CacheMap, OpError> {
        super::cache_map(&self.shared, &self.vertex)
    }

    async fn content_key(&self, input: usize, value: &Value) -> Result<Digest, OpError> {
        super::content_key(&self.shared, &self.vertex, input, value).await
    }

    async fn run(&self, inputs: &[Value]) -> Result<Vec<Value>, OpError> {
        let OpKind::Merge(MergeOp { inputs: wanted }) = self.vertex.kind() else { return Ok(vec![Value::Scratch]) };
        let layers: Vec<Value> = wanted
            .iter()
            .filter_map(|layer| usize::try_from(layer.input).ok().and_then(|index| inputs.get(index)).cloned())
            .collect();
        let shared = self.shared.clone();
        Ok(vec![blocking(move || merge(&shared, &layers)).await.map_err(OpError::new)?])
    }
}

/// Hands on some of its inputs once all of them are there.
pub struct PassthroughStep {
    shared: Arc<Shared>,
    vertex: Arc<Vertex>,
    outputs: Vec<i64>,
}

impl PassthroughStep {
    /// A passthrough.
    pub fn new(shared: Arc<Shared>, vertex: Arc<Vertex>, op: &PassthroughOp) -> Self {
        Self { shared, vertex, outputs: op.outputs.clone() }
    }
}

#[async_trait]
impl Op<Value> for PassthroughStep {
    fn outputs(&self) -> usize {
        self.outputs.len().max(1)
    }

    fn takes_a_place(&self) -> bool {
        false
    }

    async fn cache_map(&self) -> Result<CacheMap, OpError> {
        super::cache_map(&self.shared, &self.vertex)
    }

    async fn content_key(&self, input: usize, value: &Value) -> Result<Digest, OpError> {
        super::content_key(&self.shared, &self.vertex, input, value).await
    }

    async fn run(&self, inputs: &[Value]) -> Result<Vec<Value>, OpError> {
        let output = |index: &i64| usize::try_from(*index).ok().and_then(|index| inputs.get(index)).cloned();
        Ok(self.outputs.iter().map(|index| output(index).unwrap_or(Value::Scratch)).collect())
    }
}
