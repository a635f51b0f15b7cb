//! Thousands of random graphs, with failures and cancels, several builds at once on one solver: every answer is that of a naive
//! evaluator, no vertex runs twice at once, and after a cancel nothing runs on.
use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use proptest::prelude::*;
use rhost_llb::{Digest, VertexDigest};
use rhost_solver::{CacheMap, CacheMapInput, Edge, Graph, MemoryCache, Op, OpError, SolveError, Solver, Vertex};

#[derive(Clone, Debug)]
struct Plan {
    /// For each vertex: inputs (earlier vertices), whether by content, whether it fails, how often it yields, class of content.
    vertices: Vec<(Vec<usize>, bool, bool, u8, u8)>,
    targets: Vec<usize>,
    cancel_after: Option<u8>,
    places: usize,
}

fn plans() -> impl Strategy<Value = Plan> {
    let vertex = |i: usize| {
        let inputs = prop::collection::vec(0..i.max(1), 0..if i == 0 { 1 } else { 4 });
        (inputs, any::<bool>(), prop::bool::weighted(0.03), 0u8..4, 0u8..4)
    };
    (1usize..24)
        .prop_flat_map(move |n| {
            let vertices: Vec<_> = (0..n).map(vertex).collect();
            (vertices, prop::collection::vec(0..n, 1..4), prop::option::weighted(0.3, 0u8..30), 1usize..4)
        })
        .prop_map(|(vertices, targets, cancel_after, places)| Plan { vertices, targets, cancel_after, places })
}

#[derive(Default)]
struct Watch {
    now: Mutex<HashMap<usize, usize>>,
    most_at_once: AtomicUsize,
    alive: AtomicUsize,
}

struct ModelOp {
    index: usize,
    inputs: usize,
    by_content: bool,
    fails: bool,
    yields: u8,
    class: u8,
    watch: Arc<Watch>,
}

struct Alive<'a>(&'a Watch, usize);

impl Drop for Alive<'_> {
    fn drop(&mut self) {
        self.0.alive.fetch_sub(1, Ordering::SeqCst);
        *self.0.now.lock().expect("no panic").get_mut(&self.1).expect("counted") -= 1;
    }
}

#[derive(Debug, thiserror::Error)]
#[error("on purpose")]
struct OnPurpose;

/// Content forgets how it was made: only the class and what the inputs hold.
fn content(class: u8, inputs: &[u64]) -> u64 {
    inputs.iter().fold(u64::from(class) + 1, |sum, input| sum.wrapping_mul(31).wrapping_add(*input))
}

#[async_trait]
impl Op<u64> for ModelOp {
    fn outputs(&self) -> usize {
        1
    }
    async fn cache_map(&self) -> Result<CacheMap, OpError> {
        // Equal operations of different vertices: the class is all that counts, and failing ones stand apart.
        let name =
            if self.fails { format!("fails{}", self.index) } else { format!("class{} of {}", self.class, self.inputs) };
        let input = CacheMapInput { selector: None, by_content: self.by_content };
        Ok(CacheMap { digest: Digest::of(name), inputs: vec![input; self.inputs], volatile: false })
    }
    async fn content_key(&self, _: usize, output: &u64) -> Result<Digest, OpError> {
        Ok(Digest::of(output.to_string()))
    }
    async fn run(&self, inputs: &[u64]) -> Result<Vec<u64>, OpError> {
        let running = {
            let mut now = self.watch.now.lock().expect("no panic");
            let count = now.entry(self.index).or_default();
            *count += 1;
            *count
        };
        self.watch.most_at_once.fetch_max(running, Ordering::SeqCst);
        self.watch.alive.fetch_add(1, Ordering::SeqCst);
        let _alive = Alive(&self.watch, self.index);
        for _ in 0..self.yields {
            tokio::task::yield_now().await;
        }
        if self.fails { Err(OpError::new(OnPurpose)) } else { Ok(vec![content(self.class, inputs)]) }
    }
}

/// `None` where something it stands on fails.
fn naive(plan: &Plan, index: usize) -> Option<u64> {
    let (inputs, _, fails, _, class) = &plan.vertices[index];
    let inputs: Option<Vec<u64>> = inputs.iter().map(|input| naive(plan, *input)).collect();
    (!fails).then_some(())?;
    Some(content(*class, &inputs?))
}

fn graph(plan: &Plan, watch: &Arc<Watch>) -> (Graph<u64>, Vec<Edge>) {
    let digest = |index: usize| VertexDigest(Digest::of(format!("vertex {index}")));
    let vertices = plan.vertices.iter().enumerate().map(|(index, (inputs, by_content, fails, yields, class))| Vertex {
        digest: digest(index),
        op: Arc::new(ModelOp {
            index,
            inputs: inputs.len(),
            by_content: *by_content,
            fails: *fails,
            yields: *yields,
            class: *class,
            watch: watch.clone(),
        }) as Arc<dyn Op<u64>>,
        inputs: inputs.iter().map(|input| Edge { vertex: digest(*input), output: 0 }).collect(),
        ignore_cache: false,
    });
    let graph = Graph::new(vertices).expect("inputs lie before");
    (graph, plan.targets.iter().map(|target| Edge { vertex: digest(*target), output: 0 }).collect())
}

async fn play(plan: Plan) {
    let cache = Arc::new(MemoryCache::default());
    let watch = Arc::new(Watch::default());
    let solver = Solver::new(cache.clone(), NonZeroUsize::new(plan.places).expect("1.."), |_| {});
    let builds: Vec<_> = plan
        .targets
        .iter()
        .enumerate()
        .map(|(number, _)| {
            let (solver, watch, plan) = (solver.clone(), watch.clone(), plan.clone());
            tokio::spawn(async move {
                let (graph, targets) = graph(&plan, &watch);
                (number, solver.solve(&graph, &targets[number..=number]).await)
            })
        })
        .collect();
    if let Some(steps) = plan.cancel_after {
        for _ in 0..steps {
            tokio::task::yield_now().await;
        }
        builds[0].abort();
    }
    for build in builds {
        let Ok((number, answer)) = build.await else { continue };
        let wanted = naive(&plan, plan.targets[number]);
        match answer {
            Ok(found) => assert_eq!(Some(found[0]), wanted),
            Err(SolveError::Op { .. }) => assert_eq!(wanted, None),
            Err(other) => panic!("{other}"),
        }
    }
    // A failure drops its siblings' waiters; their tasks end at the next poll.
    while watch.alive.load(Ordering::SeqCst) > 0 {
        tokio::task::yield_now().await;
    }
    assert!(watch.most_at_once.load(Ordering::SeqCst) <= 1, "a vertex ran twice at once");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn any_graph_gives_the_naive_answer(plan in plans()) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        runtime.block_on(play(plan));
    }
}
