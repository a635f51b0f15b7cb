//! The solver walks a graph of operations: each vertex once, however many builds want it, and not at all where the cache answers.
//!
//! It knows neither disk nor network nor clock nor process: operations and the cache are ports ([`Op`], [`CacheStore`]).
//!
//! For every vertex it goes from cheap to dear, and stops where the cache answers (spec C.3):
//! 1. by definition: the operation's digest and its inputs' keys;
//! 2. by content: those inputs that count by what they hold are brought in, and what they hold is hashed;
//! 3. it runs, once all inputs are there, and what comes out is recorded under all the keys by which it can be reached.
mod cache;
mod graph;
mod memory_cache;
mod op;
mod recall;
mod solver;
mod turns;
mod witness;
mod work;

pub use cache::{Asked, CacheStore, Key, Link, Recollection, content_key, output_digest};
pub use graph::{Edge, Graph, GraphError, Vertex};
pub use memory_cache::MemoryCache;
pub use op::{CacheMap, CacheMapInput, Op, OpError};
pub use solver::{Event, Ports, SolveError, Solver};
pub use turns::{Alone, Turn, Turns};
pub use witness::{Answer, Nobody, Seen, SeenInput, Witness};
