//! The port `Witness`: who wants to know by what each vertex was looked up, and for which of them the cache had no answer.
//!
//! Nothing of it is made where the cache has everything: a build in which nothing runs pays two questions for it.
use rhost_llb::{Digest, VertexDigest};

use crate::op::CacheMap;

/// By what a vertex was looked up, and what came of it.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Which vertex.
    pub vertex: VertexDigest,
    /// How it enters cache keys.
    pub map: CacheMap,
    /// What it stands on, in order.
    pub inputs: Vec<SeenInput>,
    /// For each output all keys by which it is known.
    pub keys: Vec<Vec<Digest>>,
    /// What the cache had.
    pub answer: Answer,
    /// The cache was not to be asked for it.
    pub ignored: bool,
    /// It stands on something that was made anew although the cache may have it.
    pub forced: bool,
    /// Its keys mean nothing after this process.
    pub volatile: bool,
}

/// One input of a vertex that was looked up.
#[derive(Clone, Copy, Debug)]
pub struct SeenInput {
    /// Which vertex.
    pub vertex: VertexDigest,
    /// Which of its outputs.
    pub output: usize,
    /// The digest of what it holds, where that was asked.
    pub content: Option<Digest>,
}

/// How the cache answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// By how the vertex is made.
    Definition,
    /// By what its inputs hold.
    Content,
    /// Not at all.
    Nothing,
}

/// Hears of vertices. Nothing here may block.
pub trait Witness: Send + Sync {
    /// Every vertex is to be looked up, also where one record has the answer to a whole target. Asked when a solve begins.
    fn wants_walk(&self) -> bool;

    /// The last of `seen` is about to run. Before it, each after what it stands on: what is below it and was not told yet.
    fn runs(&self, seen: Vec<Seen>);

    /// Whether it wants the rest of the graph too. Asked when a solve ends.
    fn wants_rest(&self) -> bool;

    /// All that was looked up and was not told yet, each after what it stands on.
    fn rest(&self, seen: Vec<Seen>);
}

/// Nobody wants to know.
#[derive(Clone, Copy, Debug, Default)]
pub struct Nobody;

impl Witness for Nobody {
    fn wants_walk(&self) -> bool {
        false
    }

    fn runs(&self, _: Vec<Seen>) {}

    fn wants_rest(&self) -> bool {
        false
    }

    fn rest(&self, _: Vec<Seen>) {}
}
