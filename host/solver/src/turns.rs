//! The port `Turns`: equal work of several processes is done by one of them at a time.
//!
//! A solver shares work inside its process by itself. What another process does it can only learn from outside: who takes a turn at a key has
//! the right to do that work, and whoever is refused waits until the holder has put the result into the cache, has failed, or is gone.
//!
//! No deadlock between processes: a turn is taken only when all inputs are there and a place is free, so its holder waits for nothing but
//! its own operation; who is refused gives its place back before it waits, and holds no turn meanwhile for that vertex. So every holder
//! runs, every run ends or is killed, and a turn ends with its process. (Operations that take further locks take those of a lower kind: the
//! layer of an image, then a download. See the store's `work` module.)
use async_trait::async_trait;
use rhost_llb::{Digest, VertexDigest};

/// The right to do a piece of work; given back when dropped.
pub type Turn = Box<dyn Send + Sync>;

/// Keeps equal work of several processes apart. Nothing here can fail a build: where turns cannot be kept, each is given.
#[async_trait]
pub trait Turns: Send + Sync {
    /// The turn at `key`, if nobody has it. Quick, does not block.
    fn take(&self, vertex: VertexDigest, key: Digest) -> Option<Turn>;

    /// Waits until whoever has the turn at `key` has given it back, and may tell what is heard of the work meanwhile as that of `vertex`.
    async fn wait(&self, vertex: VertexDigest, key: Digest);
}

/// No other process can want the same: every turn is given.
#[derive(Clone, Copy, Debug, Default)]
pub struct Alone;

#[async_trait]
impl Turns for Alone {
    fn take(&self, _: VertexDigest, _: Digest) -> Option<Turn> {
        Some(Box::new(()))
    }

    async fn wait(&self, _: VertexDigest, _: Digest) {}
}
