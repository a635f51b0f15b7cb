//! `Solver`: the walk. Vertices are shared by digest between all solves of one solver, and work by equal keys.
use std::collections::{BTreeSet, HashMap};
use std::future::Future;
use std::num::NonZeroUsize;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use futures_util::future::{join_all, try_join_all};
use rhost_llb::{Digest, DigestMap, VertexDigest};
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::cache::{CacheStore, Key, Link, content_key, output_digest};
use crate::graph::{Edge, Graph, GraphError};
use crate::op::{CacheMap, Op, OpError};
use crate::turns::{Alone, Turns};
use crate::witness::{Answer, Nobody, Seen, SeenInput, Witness};
use crate::work::Work;

/// What happens to a vertex. No times: the listener has the clock.
#[derive(Clone, Debug)]
pub enum Event {
    /// It runs.
    Started(VertexDigest),
    /// It ran.
    Completed(VertexDigest),
    /// The cache, or another vertex of the same key, had the answer.
    Cached(VertexDigest),
    /// It failed.
    Failed(VertexDigest, OpError),
}

/// A solve failed. Cheap to clone.
#[derive(Clone, Debug, thiserror::Error)]
pub enum SolveError {
    /// An operation failed.
    #[error("{error}")]
    Op {
        /// Which vertex.
        vertex: VertexDigest,
        /// Why.
        error: OpError,
    },
    /// An operation panicked: a defect, which ends this solve only.
    #[error("vertex {vertex} ended in a panic")]
    Panicked {
        /// Which vertex.
        vertex: VertexDigest,
    },
    /// An operation gave another number of outputs than it said.
    #[error("vertex {vertex} gave {found} outputs in place of {wanted}")]
    Outputs {
        /// Which vertex.
        vertex: VertexDigest,
        /// What it said.
        wanted: usize,
        /// What it gave.
        found: usize,
    },
    /// The graph cannot be solved.
    #[error(transparent)]
    Graph(#[from] GraphError),
}

/// By what keys a vertex' outputs are known.
pub(crate) struct Keys {
    /// How the vertex enters them.
    map: CacheMap,
    /// What the cache had.
    answer: Answer,
    /// For each output: every way to it that is known. The first is the one that is recorded.
    pub(crate) ways: Vec<Vec<Key>>,
    /// For each output the key whose result the cache has; only if it has all.
    pub(crate) hit: Option<Vec<Digest>>,
    /// What leads to the recorded key of each output.
    links: Vec<Vec<Link>>,
    /// It is made anew although the cache may know it, so what the cache knows to stand on these keys stands on the old result.
    /// Whoever stands on it may not be answered over them, only over what it holds now.
    forced: bool,
    /// No record stands on these keys: the cache has never seen them.
    unknown: bool,
}

/// One key of an input, as a vertex that stands on it sees it.
struct Way {
    key: Key,
    selector: Option<Digest>,
    /// Not [`Keys::forced`]: the cache may answer over it.
    answers: bool,
}

pub(crate) type Found = Result<Arc<Keys>, SolveError>;
pub(crate) type Outputs<T> = Result<Arc<[T]>, SolveError>;
type Boxed<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// A vertex while anybody wants it.
pub(crate) struct Node<T> {
    pub(crate) digest: VertexDigest,
    pub(crate) op: Arc<dyn Op<T>>,
    pub(crate) inputs: Vec<(Arc<Node<T>>, usize)>,
    pub(crate) ignore_cache: bool,
    pub(crate) keys: Work<Found>,
    pub(crate) outputs: Work<Outputs<T>>,
    /// What inputs hold, as far as it was asked.
    pub(crate) contents: Mutex<HashMap<usize, Digest>>,
    /// It was said that the cache has it.
    pub(crate) told: AtomicBool,
    /// The witness has heard of it, and of all below it.
    witnessed: AtomicBool,
}

/// Weak: a vertex lives as long as a solve wants it.
type Nodes<T> = DigestMap<(VertexDigest, bool), Weak<Node<T>>>;

pub(crate) struct Shared<T> {
    pub(crate) cache: Arc<dyn CacheStore<T>>,
    turns: Arc<dyn Turns>,
    witness: Arc<dyn Witness>,
    pub(crate) events: Box<dyn Fn(Event) + Send + Sync>,
    places: Semaphore,
    nodes: Mutex<Nodes<T>>,
    /// Runs under way, by recorded key: equal keys of different vertices are one run.
    running: Mutex<HashMap<Digest, Weak<Work<Outputs<T>>>>>,
}

/// Who a solver has beside its cache.
pub struct Ports {
    /// Keeps equal work of several processes apart.
    pub turns: Arc<dyn Turns>,
    /// Hears why vertices run.
    pub witness: Arc<dyn Witness>,
}

impl Default for Ports {
    /// No other process, and nobody who wants to know.
    fn default() -> Self {
        Self { turns: Arc::new(Alone), witness: Arc::new(Nobody) }
    }
}

/// Solves graphs. Cheap to clone; clones are the same solver.
pub struct Solver<T>(Arc<Shared<T>>);

impl<T> Clone for Solver<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

pub(crate) fn lock<V>(mutex: &Mutex<V>) -> MutexGuard<'_, V> {
    // Nothing that can panic runs under these locks.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<T: Clone + Send + Sync + 'static> Solver<T> {
    /// A solver with `places` for operations that run at once. `events` must not block for long.
    pub fn new(
        cache: Arc<dyn CacheStore<T>>,
        places: NonZeroUsize,
        events: impl Fn(Event) + Send + Sync + 'static,
    ) -> Self {
        Self::with(cache, Ports::default(), places, events)
    }

    /// As [`Solver::new`] where somebody else is to be asked or told.
    pub fn with(
        cache: Arc<dyn CacheStore<T>>,
        ports: Ports,
        places: NonZeroUsize,
        events: impl Fn(Event) + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(Shared {
            cache,
            turns: ports.turns,
            witness: ports.witness,
            events: Box::new(events),
            places: Semaphore::new(places.get()),
            nodes: Mutex::default(),
            running: Mutex::default(),
        }))
    }

    /// The results of `targets`, in order. Dropping the future stops what nobody else wants.
    ///
    /// # Errors
    /// The first failure of an operation, with its vertex; the others are stopped.
    pub async fn solve(&self, graph: &Graph<T>, targets: &[Edge]) -> Result<Vec<T>, SolveError> {
        for target in targets {
            graph.check_edge(*target)?;
        }
        let (nodes, walk) = (self.nodes(graph, targets), self.0.witness.wants_walk());
        let outputs = nodes.iter().cloned().zip(targets).map(|(node, target)| {
            let shared = self.0.clone();
            async move {
                if !walk && let Some(value) = shared.recall(&node, target.output).await {
                    return Ok(value);
                }
                let outputs = shared.clone().outputs(node.clone()).await?;
                shared.remember(&node, target.output);
                Ok(outputs[target.output].clone())
            }
        });
        let solved = try_join_all(outputs).await;
        if self.0.witness.wants_rest() {
            let seen: Vec<Seen> = nodes.iter().flat_map(|node| self.0.unwitnessed(node)).collect();
            self.0.witness.rest(seen);
        }
        solved
    }

    /// Nodes for what `targets` reach, inputs first; without recursion, since chains may be long.
    fn nodes(&self, graph: &Graph<T>, targets: &[Edge]) -> Vec<Arc<Node<T>>> {
        let mut known = lock(&self.0.nodes);
        known.retain(|_, node| node.strong_count() > 0);
        let mut made: DigestMap<VertexDigest, Arc<Node<T>>> = DigestMap::default();
        let mut stack: Vec<VertexDigest> = targets.iter().map(|target| target.vertex).collect();
        while let Some(digest) = stack.last().copied() {
            let vertex = &graph.vertices[&digest];
            let missing: Vec<_> =
                vertex.inputs.iter().map(|input| input.vertex).filter(|input| !made.contains_key(input)).collect();
            if !made.contains_key(&digest) && !missing.is_empty() {
                stack.extend(missing);
                continue;
            }
            stack.pop();
            if made.contains_key(&digest) {
                continue;
            }
            let slot = known.entry((digest, vertex.ignore_cache)).or_default();
            let node = slot.upgrade().unwrap_or_else(|| {
                let node = Arc::new(Node {
                    digest,
                    op: vertex.op.clone(),
                    inputs: vertex.inputs.iter().map(|input| (made[&input.vertex].clone(), input.output)).collect(),
                    ignore_cache: vertex.ignore_cache,
                    keys: Work::default(),
                    outputs: Work::default(),
                    contents: Mutex::default(),
                    told: AtomicBool::new(false),
                    witnessed: AtomicBool::new(false),
                });
                *slot = Arc::downgrade(&node);
                node
            });
            made.insert(digest, node);
        }
        targets.iter().map(|target| made[&target.vertex].clone()).collect()
    }
}

/// A long chain of nodes is dropped link by link, not by recursion.
impl<T> Drop for Node<T> {
    fn drop(&mut self) {
        let mut inputs = std::mem::take(&mut self.inputs);
        while let Some((input, _)) = inputs.pop() {
            if let Some(mut node) = Arc::into_inner(input) {
                inputs.append(&mut node.inputs);
            }
        }
    }
}

impl<T: Clone + Send + Sync + 'static> Shared<T> {
    fn keys(self: Arc<Self>, node: Arc<Node<T>>) -> Boxed<Found> {
        Box::pin(async move {
            if let Some(found) = node.keys.peek() {
                return found;
            }
            let (shared, this) = (self.clone(), node.clone());
            let found = node.keys.get(|| async move { shared.find_keys(&this).await.map(Arc::new) }).await;
            found.unwrap_or(Err(SolveError::Panicked { vertex: node.digest }))
        })
    }

    fn outputs(self: Arc<Self>, node: Arc<Node<T>>) -> Boxed<Outputs<T>> {
        Box::pin(async move {
            if let Some(outputs) = node.outputs.peek() {
                return outputs;
            }
            let (shared, this) = (self.clone(), node.clone());
            let outputs = node.outputs.get(|| async move { shared.make_outputs(&this).await }).await;
            outputs.unwrap_or(Err(SolveError::Panicked { vertex: node.digest }))
        })
    }

    async fn inputs(self: &Arc<Self>, node: &Node<T>) -> Result<Vec<T>, SolveError> {
        try_join_all(node.inputs.iter().map(|(input, output)| {
            let made = self.clone().outputs(input.clone());
            async move { made.await.map(|outputs| outputs[*output].clone()) }
        }))
        .await
    }

    /// `error`, told if it is `node`'s own: what failed below has told of itself.
    fn tell(&self, node: &Node<T>, error: SolveError) -> SolveError {
        match error {
            SolveError::Op { vertex, error } if vertex == node.digest => self.fail(vertex, error),
            other => other,
        }
    }

    fn fail(&self, vertex: VertexDigest, error: OpError) -> SolveError {
        (self.events)(Event::Failed(vertex, error.clone()));
        SolveError::Op { vertex, error }
    }

    /// By definition, then by content. A miss is no failure.
    async fn find_keys(self: Arc<Self>, node: &Node<T>) -> Result<Keys, SolveError> {
        let map = node.op.cache_map().await.map_err(|error| self.fail(node.digest, error))?;
        let inputs = try_join_all(node.inputs.iter().enumerate().map(|(index, (input, output))| {
            let (keys, made) = (self.clone().keys(input.clone()), self.clone().outputs(input.clone()));
            let by_content = map.inputs.get(index).is_some_and(|input| input.by_content);
            async move {
                let keys = keys.await?;
                // Nothing can be found over such keys, so what the input holds will be asked for: it is made while the other inputs are still
                // at theirs. Else stages that are copied from one after the other would run one after the other.
                if by_content && keys.hit.is_none() && (keys.unknown || keys.forced) {
                    made.await?;
                }
                Ok::<_, SolveError>((keys.ways[*output].clone(), keys.forced))
            }
        }))
        .await?;
        let mut inputs: Vec<Vec<Way>> = inputs
            .into_iter()
            .enumerate()
            .map(|(index, (keys, forced))| {
                let selector = map.inputs.get(index).and_then(|input| input.selector);
                keys.into_iter().map(|key| Way { key, selector, answers: !forced }).collect()
            })
            .collect();
        let mut found = self.look_up(node, &map, &inputs);
        let by_content: Vec<usize> =
            (0..inputs.len()).filter(|i| map.inputs.get(*i).is_some_and(|input| input.by_content)).collect();
        if found.hit.is_some() || by_content.is_empty() {
            found.map = map;
            return Ok(self.told(node, found, Answer::Definition));
        }
        let contents = join_all(by_content.iter().map(|index| self.content(node, *index))).await;
        for (index, content) in by_content.into_iter().zip(contents) {
            // The content comes first: it is what the recorded key is made of. What was selected is in the content already (spec C.1).
            inputs[index].insert(
                0,
                Way {
                    key: content_key(content.map_err(|error| self.tell(node, error))?),
                    selector: None,
                    answers: true,
                },
            );
        }
        let mut found = self.look_up(node, &map, &inputs);
        found.map = map;
        Ok(self.told(node, found, Answer::Content))
    }

    /// The digest of what input `index` of `node` holds. The input is made for it. A failure of `node` itself is not told: a recall that fails is
    /// followed by the walk.
    pub(crate) async fn content(self: &Arc<Self>, node: &Node<T>, index: usize) -> Result<Digest, SolveError> {
        if let Some(known) = lock(&node.contents).get(&index) {
            return Ok(*known);
        }
        let (input, output) = &node.inputs[index];
        let outputs = self.clone().outputs(input.clone()).await?;
        let digest = node.op.content_key(index, &outputs[*output]).await;
        let digest = digest.map_err(|error| SolveError::Op { vertex: node.digest, error })?;
        lock(&node.contents).insert(index, digest);
        Ok(digest)
    }

    fn told(&self, node: &Node<T>, found: Keys, answer: Answer) -> Keys {
        let answer = if found.hit.is_some() { answer } else { Answer::Nothing };
        let found = Keys { answer, ..found };
        if found.hit.is_some() && !node.told.swap(true, Ordering::Relaxed) {
            (self.events)(Event::Cached(node.digest));
        }
        found
    }

    /// Follows the links of every input's keys and keeps what all inputs agree on.
    fn look_up(&self, node: &Node<T>, map: &CacheMap, inputs: &[Vec<Way>]) -> Keys {
        let mut found = Keys {
            map: CacheMap { digest: map.digest, inputs: Vec::new(), volatile: map.volatile },
            answer: Answer::Nothing,
            ways: Vec::new(),
            hit: None,
            links: Vec::new(),
            forced: false,
            unknown: false,
        };
        let (mut hits, mut answers) = (Vec::new(), Vec::new());
        let volatile = map.volatile || inputs.iter().any(|ways| ways.iter().all(|way| way.key.volatile));
        for output in 0..node.op.outputs() {
            let named = output_digest(map.digest, output);
            let links: Vec<Vec<(Link, bool)>> = inputs
                .iter()
                .enumerate()
                .map(|(index, ways)| {
                    let durable = ways.iter().filter(|way| !way.key.volatile && !map.volatile);
                    let link = |way: &Way| Link {
                        from: way.key.id,
                        input: index as u32,
                        output: named,
                        selector: way.selector,
                    };
                    durable.map(|way| (link(way), way.answers)).collect()
                })
                .collect();
            let (known, answering) = self.agreed(named, &links);
            if !node.ignore_cache && !map.volatile {
                hits.extend(answering.iter().copied().find(|key| self.cache.has(*key)));
            }
            answers.push(answering);
            let mut ways: Vec<Key> = known.into_iter().map(|id| Key { id, volatile }).collect();
            if ways.is_empty() {
                ways.push(Key { id: new_key(named, inputs), volatile });
                found.unknown = true;
            }
            found.ways.push(ways);
            found.links.push(links.into_iter().flatten().map(|(link, _)| link).collect());
        }
        if hits.len() == node.op.outputs() {
            // Only over these keys is it the cache's answer.
            found.ways =
                answers.into_iter().map(|ids| ids.into_iter().map(|id| Key { id, volatile }).collect()).collect();
            found.hit = Some(hits);
        } else {
            found.forced = node.ignore_cache || inputs.iter().flatten().any(|way| !way.answers);
        }
        found
    }

    /// The keys that the links of every input lead to: all, and those over links that may answer. Sorted.
    fn agreed(&self, named: Digest, links: &[Vec<(Link, bool)>]) -> (Vec<Digest>, Vec<Digest>) {
        let Some((first, rest)) = links.split_first() else { return (vec![named], vec![named]) };
        let follow = |links: &[(Link, bool)]| {
            let (mut known, mut answering) = (BTreeSet::new(), BTreeSet::new());
            for (link, answers) in links {
                for key in self.cache.follow(link) {
                    known.insert(key);
                    if *answers {
                        answering.insert(key);
                    }
                }
            }
            (known, answering)
        };
        let (mut known, mut answering) = follow(first);
        for links in rest {
            if known.is_empty() {
                break;
            }
            let (others, other_answers) = follow(links);
            known.retain(|key| others.contains(key));
            answering.retain(|key| other_answers.contains(key));
        }
        (known.into_iter().collect(), answering.into_iter().collect())
    }

    /// From the cache, from a run of the same key, or by running.
    async fn make_outputs(self: Arc<Self>, node: &Arc<Node<T>>) -> Outputs<T> {
        let keys = self.clone().keys(node.clone()).await?;
        if let Some(hit) = &keys.hit
            && let Some(outputs) = hit.iter().map(|key| self.cache.load(*key)).collect::<Option<Vec<T>>>()
        {
            return Ok(outputs.into());
        }
        let inputs = self.inputs(node).await?;
        if node.op.waits_for_vertices() {
            return self.run(node, &keys, inputs).await;
        }
        let recorded = keys.ways[0][0];
        let name = if recorded.volatile { node.digest.0 } else { recorded.id };
        let name = if node.ignore_cache { Digest::of(format!("{name}-ignorecache")) } else { name };
        let work = {
            let mut running = lock(&self.running);
            running.retain(|_, work| work.strong_count() > 0);
            let slot = running.entry(name).or_default();
            slot.upgrade().unwrap_or_else(|| {
                let work = Arc::new(Work::default());
                *slot = Arc::downgrade(&work);
                work
            })
        };
        let leads = Arc::new(AtomicBool::new(false));
        let (shared, this, led) = (self.clone(), node.clone(), leads.clone());
        let outputs = work
            .get(|| async move {
                led.store(true, Ordering::Relaxed);
                shared.run(&this, &keys, inputs).await
            })
            .await
            .unwrap_or(Err(SolveError::Panicked { vertex: node.digest }));
        if !leads.load(Ordering::Relaxed) && outputs.is_ok() {
            (self.events)(Event::Cached(node.digest));
        }
        outputs
    }

    async fn place(&self, node: &Node<T>) -> Option<SemaphorePermit<'_>> {
        // The semaphore is never closed.
        if node.op.takes_a_place() { self.places.acquire().await.ok() } else { None }
    }

    /// What another process has recorded since `keys` were looked up. The links are followed anew: a key's name alone does not say what it holds.
    fn recorded_since(&self, node: &Node<T>, keys: &Keys) -> Option<Vec<T>> {
        let found = keys.links.iter().zip(&keys.ways).map(|(links, ways)| {
            let of = |input: usize| links.iter().filter(move |link| link.input as usize == input);
            let links: Vec<_> = (0..node.inputs.len()).map(|i| of(i).map(|link| (*link, true)).collect()).collect();
            let (known, _) = self.agreed(ways[0].id, &links);
            known.into_iter().find_map(|key| self.cache.load(key))
        });
        found.collect()
    }

    fn seen(node: &Node<T>, keys: &Keys) -> Seen {
        let contents = lock(&node.contents);
        let input = |(index, (input, output)): (usize, &(Arc<Node<T>>, usize))| SeenInput {
            vertex: input.digest,
            output: *output,
            content: contents.get(&index).copied(),
        };
        Seen {
            vertex: node.digest,
            map: keys.map.clone(),
            inputs: node.inputs.iter().enumerate().map(input).collect(),
            keys: keys.ways.iter().map(|ways| ways.iter().map(|way| way.id).collect()).collect(),
            answer: keys.answer,
            ignored: node.ignore_cache,
            forced: keys.forced && !node.ignore_cache,
            volatile: keys.ways.iter().any(|ways| ways.first().is_some_and(|way| way.volatile)),
        }
    }

    /// What the witness has not heard of `node` and all below it, as far as it was looked up; inputs first, without recursion.
    fn unwitnessed(&self, node: &Arc<Node<T>>) -> Vec<Seen> {
        let (mut seen, mut stack) = (Vec::new(), vec![(node.clone(), false)]);
        while let Some((node, opened)) = stack.pop() {
            let Some(Ok(keys)) = node.keys.peek() else { continue };
            if opened {
                seen.push(Self::seen(&node, &keys));
            } else if !node.witnessed.swap(true, Ordering::Relaxed) {
                let inputs: Vec<_> = node.inputs.iter().rev().map(|(input, _)| (input.clone(), false)).collect();
                stack.push((node, true));
                stack.extend(inputs);
            }
        }
        seen
    }

    /// As [`Shared::unwitnessed`] of all below `node`, and then itself, whether it was told or not.
    fn unwitnessed_then(&self, node: &Node<T>, keys: &Keys) -> Vec<Seen> {
        node.witnessed.store(true, Ordering::Relaxed);
        let mut seen: Vec<Seen> = node.inputs.iter().flat_map(|(input, _)| self.unwitnessed(input)).collect();
        seen.push(Self::seen(node, keys));
        seen
    }

    async fn run(&self, node: &Node<T>, keys: &Keys, inputs: Vec<T>) -> Outputs<T> {
        let key = keys.ways[0][0];
        // What is made anew on purpose, or means nothing to others, is nobody else's business.
        let shared = !key.volatile && !node.ignore_cache && !keys.forced && !node.op.waits_for_vertices();
        let (mut place, mut turn, mut told) = (self.place(node).await, None, false);
        if shared {
            loop {
                turn = self.turns.take(node.digest, key.id);
                if turn.is_none() {
                    // Neither a place nor a turn is held while waiting.
                    drop(place);
                    if !told {
                        (self.events)(Event::Started(node.digest));
                        told = true;
                    }
                    self.turns.wait(node.digest, key.id).await;
                }
                if let Some(outputs) = self.recorded_since(node, keys) {
                    (self.events)(if told { Event::Completed(node.digest) } else { Event::Cached(node.digest) });
                    return Ok(outputs.into());
                }
                if turn.is_some() {
                    break;
                }
                place = self.place(node).await;
            }
        }
        if !told {
            (self.events)(Event::Started(node.digest));
        }
        // A source that means nothing to later builds is brought in by each of them.
        if !(keys.map.volatile && node.inputs.is_empty()) {
            self.witness.runs(self.unwitnessed_then(node, keys));
        }
        let outputs = node.op.run(&inputs).await.map_err(|error| self.fail(node.digest, error))?;
        let wanted = node.op.outputs();
        if outputs.len() != wanted {
            return Err(SolveError::Outputs { vertex: node.digest, wanted, found: outputs.len() });
        }
        for ((ways, links), output) in keys.ways.iter().zip(&keys.links).zip(&outputs) {
            if !ways[0].volatile {
                self.cache.save(ways[0].id, links, output);
            }
        }
        // Only now: whoever waited finds the result.
        drop(turn);
        (self.events)(Event::Completed(node.digest));
        Ok(outputs.into())
    }
}

/// The name of a way that no record has yet: made of the first (best) durable key of each input.
fn new_key(named: Digest, inputs: &[Vec<Way>]) -> Digest {
    let mut text = named.to_string();
    for ways in inputs {
        let way = ways.iter().find(|way| !way.key.volatile).or_else(|| ways.first());
        let name = |digest: Option<Digest>| digest.map(|digest| digest.to_string()).unwrap_or_default();
        text.push_str(&format!("\n{} {}", name(way.map(|way| way.key.id)), name(way.and_then(|way| way.selector))));
    }
    Digest::of(text)
}
