//! The port `Op`: what the solver may ask of any operation.
use std::sync::Arc;

use async_trait::async_trait;
use rhost_llb::Digest;

/// How an operation enters cache keys (spec C.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CacheMap {
    /// Digest of what the operation does, its inputs left out.
    pub digest: Digest,
    /// One for each input, in order.
    pub inputs: Vec<CacheMapInput>,
    /// The digest means nothing after this process (a local directory as it is now): nothing is recorded under it.
    pub volatile: bool,
}

/// How one input enters the key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CacheMapInput {
    /// Which part of the input counts.
    pub selector: Option<Digest>,
    /// The content of the input may stand for the way it was made: [`Op::content_key`] is asked.
    pub by_content: bool,
}

/// An operation failed. Cheap to clone: every waiter has it.
#[derive(Clone)]
pub struct OpError(pub Arc<dyn std::error::Error + Send + Sync>);

impl OpError {
    /// Wraps any error.
    pub fn new(error: impl std::error::Error + Send + Sync + 'static) -> Self {
        Self(Arc::new(error))
    }
}

impl std::fmt::Debug for OpError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Debug::fmt(&self.0, f)
    }
}

impl std::fmt::Display for OpError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(&self.0, f)
    }
}

/// One operation. `T` is a handle on a result: cheap to clone, the solver never looks inside.
#[async_trait]
pub trait Op<T>: Send + Sync {
    /// How many outputs [`Op::run`] gives. At least 1.
    fn outputs(&self) -> usize;

    /// Whether running it takes one of the bounded places. Merges and the like do not (spec C.3).
    fn takes_a_place(&self) -> bool {
        true
    }

    /// Whether [`Op::run`] waits for other vertices of the same solver, as a build inside a build does. Such a run has no turn, and nobody who has
    /// the same key joins it: a holder must wait for nothing but its own operation, and a vertex that it waits for could have its key.
    fn waits_for_vertices(&self) -> bool {
        false
    }

    /// How it enters cache keys. May do I/O (an image's name is resolved here).
    async fn cache_map(&self) -> Result<CacheMap, OpError>;

    /// The key of what `output` of input `input` holds, for inputs that are `by_content`.
    async fn content_key(&self, input: usize, output: &T) -> Result<Digest, OpError>;

    /// Does it. `inputs` are in order. The answer has [`Op::outputs`] values.
    async fn run(&self, inputs: &[T]) -> Result<Vec<T>, OpError>;
}
