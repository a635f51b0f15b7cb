//! Why a step ran although an earlier build had it.
//!
//! Of each build in which something ran it is kept by what its steps were looked up ([`record`]); the next one that runs something is compared with that
//! ([`align`], [`compare`]), and says what is not as it was ([`cause`]). A build in which nothing runs reads and writes nothing of it, and a step does not
//! wait for its explanation: a thread beside the build makes it. All of it is a fact of the store, which may be lost at any time.
mod about;
mod align;
mod cause;
mod compare;
mod files;
mod parts;
mod reads;
mod record;
mod report;
#[cfg(test)]
mod tests;
mod work;

use std::collections::HashMap;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::JoinHandle;

use rhost_llb::{Digest, Graph as LlbGraph, Platform, VertexDigest};
use rhost_rootfs::{ChecksumOptions, Tree};
use rhost_solver::{Seen, Witness};
use rhost_store::Store;

pub use about::About;
pub use cause::{Cause, Values, Why};
pub use files::{Change, How};
pub use parts::PartKind;
pub use record::State;
pub use report::{Compared, Explanation, KeyInput, KeyPart, StepExplained};

use crate::event::{Event, Events};
use crate::value::Value;
use reads::Read;
use work::{Message, Work};

/// The first bytes of a digest: enough to tell what differs.
fn short(digest: &Digest) -> u64 {
    u64::from_le_bytes(std::array::from_fn(|at| digest.as_raw()[at]))
}

/// The same of bytes.
fn digest(bytes: &[u8]) -> u64 {
    let hash = blake3::hash(bytes);
    u64::from_le_bytes(std::array::from_fn(|at| hash.as_bytes()[at]))
}

/// What a build and the thread beside it share.
pub(crate) struct Inner {
    store: Store,
    events: Events,
    host: Platform,
    about: OnceLock<About>,
    frontend: OnceLock<String>,
    graphs: Mutex<Vec<Arc<LlbGraph>>>,
    reads: Mutex<HashMap<(VertexDigest, usize), Arc<Read>>>,
    ended: Mutex<HashMap<VertexDigest, State>>,
    versions: Mutex<HashMap<VertexDigest, String>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

type Beside = (Sender<Message>, JoinHandle<Work>);

/// Says why steps run. One for each build.
pub struct Explainer {
    inner: Arc<Inner>,
    /// `--explain`: every step is told of, whether it ran or not.
    all: bool,
    beside: Mutex<Option<Beside>>,
}

impl Explainer {
    /// For a build on `store` for a machine of platform `host`.
    pub fn new(store: Store, events: Events, host: Platform, all: bool) -> Self {
        let (about, frontend, graphs, reads, ended, versions) = Default::default();
        let inner = Arc::new(Inner { store, events, host, about, frontend, graphs, reads, ended, versions });
        Self { inner, all, beside: Mutex::default() }
    }

    /// Says what the build is. The first word counts.
    pub fn begin(&self, about: About) {
        let _ = self.inner.about.set(about);
    }

    /// Says which frontend makes its graph.
    pub fn frontend(&self, name: String) {
        let _ = self.inner.frontend.set(name);
    }

    /// A graph that will be solved.
    pub fn graph(&self, graph: &Arc<LlbGraph>) {
        lock(&self.inner.graphs).push(graph.clone());
    }

    /// Input `input` of `vertex` was hashed: these `selectors` of `tree`, which is what `value` holds.
    pub fn read(
        &self,
        vertex: VertexDigest,
        input: usize,
        value: &Value,
        tree: Arc<Tree>,
        selectors: Vec<(String, ChecksumOptions)>,
    ) {
        let read = match value {
            // It stays as it is while the build runs, so it is listed when somebody asks.
            Value::Context(_) => Read::context(tree, selectors),
            // Its tree is mounted now, and should not stay so.
            Value::Snapshot(id) => Read::snapshot(*id, &tree, &selectors),
            Value::Scratch => return,
        };
        lock(&self.inner.reads).insert((vertex, input), Arc::new(read));
    }

    /// What the name of the source `vertex` stands for in this build: a commit, a digest.
    pub fn version(&self, vertex: VertexDigest, version: String) {
        lock(&self.inner.versions).insert(vertex, version);
    }

    /// A vertex is done.
    pub fn ended(&self, vertex: VertexDigest, state: State) {
        lock(&self.inner.ended).insert(vertex, state);
    }

    fn send(&self, message: Message) {
        let mut beside = lock(&self.beside);
        if beside.is_none() {
            let (sender, messages) = channel();
            let inner = self.inner.clone();
            let work = move || {
                let mut work = Work::new(inner);
                messages.into_iter().for_each(|message| work.take(message));
                work
            };
            // Where no thread is to be had nothing is explained.
            *beside = std::thread::Builder::new().name("rhost-explain".into()).spawn(work).ok().map(|t| (sender, t));
        }
        if let Some((sender, _)) = &*beside {
            let _ = sender.send(message);
        }
    }

    /// Ends the explanations: says the last of them, and keeps what the next build is to be compared with. `whole`: the build came to its end. May take a
    /// while where something ran.
    pub fn finish(&self, whole: bool) {
        let Some((sender, thread)) = lock(&self.beside).take() else { return };
        drop(sender);
        let Ok(mut work) = thread.join() else { return };
        let explanation = work.finish(whole, self.all);
        if let Some(explanation) = explanation {
            self.inner.events.send(Event::Explanation(Arc::new(explanation)));
        }
    }
}

impl Witness for Explainer {
    fn wants_walk(&self) -> bool {
        self.all
    }

    fn runs(&self, seen: Vec<Seen>) {
        self.send(Message::Runs(seen));
    }

    fn wants_rest(&self) -> bool {
        self.all || lock(&self.beside).is_some()
    }

    fn rest(&self, seen: Vec<Seen>) {
        self.send(Message::Rest(seen));
    }
}
