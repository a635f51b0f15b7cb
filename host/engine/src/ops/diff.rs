//! `diff`: what its upper input has changed from its lower one. Where the upper's chain begins with the lower's it is the upper's other layers
//! as they are, nothing read and nothing copied; else both trees are compared. BuildKit chooses the same way, for the sake of layers that are reused.
use std::sync::Arc;

use async_trait::async_trait;
use rhost_llb::{DiffOp, Digest, OpInput, OpKind, Vertex};
use rhost_rootfs::{Root, write_tree_diff};
use rhost_solver::{CacheMap, Op, OpError};
use rhost_store::{SnapshotId, SnapshotInfo};

use crate::op_error::{OpFailure, blocking};
use crate::shared::Shared;
use crate::value::Value;

/// The difference of two trees.
pub struct DiffStep {
    shared: Arc<Shared>,
    vertex: Arc<Vertex>,
}

impl DiffStep {
    /// A diff.
    pub fn new(shared: Arc<Shared>, vertex: Arc<Vertex>) -> Self {
        Self { shared, vertex }
    }

    async fn diff(&self, lower: Value, upper: Value) -> Result<Value, OpFailure> {
        let shared = self.shared.clone();
        let found = blocking(move || {
            let (lower, upper) = (shared.snapshot(&lower)?, shared.snapshot(&upper)?);
            if let (Some(lower), Some(upper)) = (lower, upper) {
                let chain = |id: SnapshotId| {
                    let records = shared.store.records(id)?.ok_or(rhost_store::Error::NoSnapshot { id: id.0 })?;
                    Ok::<Vec<SnapshotInfo>, OpFailure>(records.into_iter().rev().collect())
                };
                if let Some(rest) = above(&chain(lower)?, &chain(upper)?) {
                    let apart = shared.store.stack(None, &rest)?;
                    return Ok((lower, Some(upper), Some(apart.map_or(Value::Scratch, Value::Snapshot))));
                }
            }
            Ok(match (lower, upper) {
                (None, None) => (SnapshotId(0), None, Some(Value::Scratch)),
                (None, Some(upper)) => (SnapshotId(0), None, Some(Value::Snapshot(upper))),
                (Some(lower), upper) => (lower, upper, None),
            })
        });
        let (lower, upper) = match found.await? {
            (_, _, Some(value)) => return Ok(value),
            (lower, upper, None) => (lower, upper),
        };
        for id in [Some(lower), upper].into_iter().flatten() {
            self.shared.layers.lay_down(id).await?;
        }
        let shared = self.shared.clone();
        blocking(move || {
            let active = shared.store.prepare(None)?;
            let (below, above) = (shared.view(lower)?, upper.map(|id| shared.view(id)).transpose()?);
            write_tree_diff(Some(&below), above.as_ref(), &Root::open(active.upper())?, shared.owners)?;
            Ok(Value::Snapshot(active.commit_apart()?))
        })
        .await
    }
}

/// The layers of `upper` that stand on all of `lower`, if it stands on it. Both the base first; a layer is its directory.
fn above(lower: &[SnapshotInfo], upper: &[SnapshotInfo]) -> Option<Vec<SnapshotId>> {
    let stands = lower.len() <= upper.len() && lower.iter().zip(upper).all(|(a, b)| a.dir == b.dir);
    stands.then(|| upper[lower.len()..].iter().map(|info| info.id).collect())
}

#[async_trait]
impl Op<Value> for DiffStep {
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
        let OpKind::Diff(DiffOp { lower, upper }) = self.vertex.kind() else { return Ok(vec![Value::Scratch]) };
        let input = |side: &Option<OpInput>| {
            let index = side.as_ref().and_then(|side| usize::try_from(side.input).ok());
            index.and_then(|index| inputs.get(index)).cloned().unwrap_or(Value::Scratch)
        };
        Ok(vec![self.diff(input(lower), input(upper)).await.map_err(OpError::new)?])
    }
}
