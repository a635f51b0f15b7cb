//! What a vertex costs when nothing is left to do.
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use rhost_llb::{Digest, VertexDigest};
use rhost_solver::{CacheMap, CacheMapInput, Edge, Graph, MemoryCache, Op, OpError, Solver, Vertex};

struct Numbered(usize, usize, Arc<AtomicUsize>);

#[async_trait]
impl Op<usize> for Numbered {
    fn outputs(&self) -> usize {
        1
    }
    async fn cache_map(&self) -> Result<CacheMap, OpError> {
        let inputs = vec![CacheMapInput::default(); self.1];
        Ok(CacheMap { digest: Digest::of(self.0.to_string()), inputs, volatile: false })
    }
    async fn content_key(&self, _: usize, output: &usize) -> Result<Digest, OpError> {
        Ok(Digest::of(output.to_string()))
    }
    async fn run(&self, _: &[usize]) -> Result<Vec<usize>, OpError> {
        self.2.fetch_add(1, Ordering::SeqCst);
        Ok(vec![self.0])
    }
}

/// A thousand vertices with two inputs each, solved again: nothing runs. The time is printed, not judged: a busy machine proves nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_vertices_with_nothing_to_do() {
    let runs = Arc::new(AtomicUsize::new(0));
    let cache = Arc::new(MemoryCache::default());
    let name = |index: usize| VertexDigest(Digest::of(format!("vertex {index}")));
    for round in 0..3 {
        let start = std::time::Instant::now();
        let vertices = (0..1000usize).map(|index| {
            let inputs: Vec<usize> = if index == 0 { vec![] } else { vec![index - 1, index / 2] };
            Vertex {
                digest: name(index),
                op: Arc::new(Numbered(index, inputs.len(), runs.clone())) as Arc<dyn Op<usize>>,
                inputs: inputs.into_iter().map(|input| Edge { vertex: name(input), output: 0 }).collect(),
                ignore_cache: false,
            }
        });
        let graph = Graph::new(vertices).expect("valid");
        let solver = Solver::new(cache.clone(), NonZeroUsize::MIN, |_| {});
        let answer = solver.solve(&graph, &[Edge { vertex: name(999), output: 0 }]).await.expect("solves");
        assert_eq!(answer, [999]);
        assert_eq!(runs.load(Ordering::SeqCst), 1000);
        eprintln!("round {round}: {:?}", start.elapsed());
    }
}
