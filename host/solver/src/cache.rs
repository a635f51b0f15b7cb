//! Cache keys and the port `CacheStore`.
//!
//! A key names an output by how it came about. Keys form a graph, as BuildKit's do (spec C.1): a key without inputs is the hash of
//! the operation's digest; any other is reached from each of its inputs' keys over a link (input number, operation, output,
//! selector). An output may be reached by several ways: by its inputs' definitions or by their contents. Whoever finds the
//! same key over every input has found the record.
use rhost_llb::{Digest, VertexDigest};

/// Name of a way in which an output came about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// The name.
    pub id: Digest,
    /// It means nothing after this process.
    pub volatile: bool,
}

/// The step from one input's key to an output's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Link {
    /// Key of the input.
    pub from: Digest,
    /// Which input.
    pub input: u32,
    /// Which operation and output: [`output_digest`].
    pub output: Digest,
    /// Which part of the input counts.
    pub selector: Option<Digest>,
}

/// `sha256("<operation>@<output>")`: a key record's digest (spec C.1).
pub fn output_digest(operation: Digest, output: usize) -> Digest {
    Digest::of(format!("{operation}@{output}"))
}

/// The key of content: output -1 of the content's digest (spec C.1).
pub fn content_key(content: Digest) -> Key {
    Key { id: Digest::of(format!("{content}@-1")), volatile: false }
}

/// Something that a solve was told by the world.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// The key of a source.
    Source {
        /// Which vertex.
        vertex: VertexDigest,
        /// Of its first output.
        key: Digest,
    },
    /// The [`content_key`] of an input whose own key means nothing after this process.
    Content {
        /// The vertex that stands on it.
        vertex: VertexDigest,
        /// Which input.
        input: u32,
        /// The content's.
        key: Digest,
    },
}

/// What the answer to a whole target stood on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recollection {
    /// Everything that the world was asked.
    pub asked: Vec<Asked>,
    /// The keys of all vertices below, whose results a later solve would miss.
    pub used: Vec<Digest>,
    /// The key of the answer.
    pub result: Digest,
}

/// Keys and results that outlive a build. Nothing here can fail a build: what is missing or damaged is a miss.
///
/// Calls are short and may block for about a disk access.
pub trait CacheStore<T>: Send + Sync {
    /// The keys that `link` leads to.
    fn follow(&self, link: &Link) -> Vec<Digest>;
    /// Whether there is a result for `key`, without bringing it in.
    fn has(&self, key: Digest) -> bool;
    /// The result for `key`.
    fn load(&self, key: Digest) -> Option<T>;
    /// Remembers that `links`, and no others, lead to `key`, whose result is `value`. All of it or nothing.
    ///
    /// No others: a result that is made anew may stand on other contents than the one it replaces, and whoever has the old
    /// contents must not be given it.
    fn save(&self, key: Digest, links: &[Link], value: &T);
    /// What the latest solve of `target` stood on.
    fn recall(&self, target: Digest) -> Option<Recollection>;
    /// The result that `remembered`, found under `target`, ends in: [`CacheStore::load`], and only if it is still the one that was there when it was
    /// remembered. All that it stood on counts as used.
    fn recalled(&self, target: Digest, remembered: &Recollection) -> Option<T>;
    /// Remembers what a solve of `target` stood on, in place of an earlier one.
    fn remember(&self, target: Digest, found: &Recollection);
}
