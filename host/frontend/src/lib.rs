//! Frontends: WebAssembly components that turn a build file into a graph, in a sandbox.
//!
//! A guest has no preopens, no sockets, no clock, no randomness, no environment: its imports are the `rhost:*` interfaces and
//! nothing else. Its answer is a function of (component digest, invocation, answers of the host). It is hostile until checked: memory,
//! computing time, stack, handles and payloads are bounded, every operation is validated where it is made, and machine code comes only
//! from the private cache that this crate fills.
//!
//! One module per released WIT version (`v0_1`); [`FrontendHost`] is the port that all of them translate to.
mod about;
mod compile;
mod engine;
mod error;
mod frontend;
mod host;
mod inspect;
mod limits;
mod lines;
mod recorder;
mod recording;
mod tape;
mod v0_1;

pub use about::{About, AboutError};
pub use compile::{CompileLimits, Compiler, Embedded, compile_main, precompile};
pub use engine::{Allocation, Engine, EngineError};
pub use error::{Identity, LoadError, RunError, Stop};
pub use frontend::{ANSWERED, Frontend, LOADING};
pub use host::{
    ByteRange, Diagnostic, FileKind, FileStat, FrontendHost, HostError, ImageQuery, Invocation, Level, Mark, Outcome,
    Range, Report, ResolveMode, ResolvedImage, Severity, SolvedTree, SourceText, Target,
};
pub use inspect::Inspection;
pub use limits::Limits;
pub use recorder::{Recorder, Transcript};
pub use recording::{Recording, RecordingError};
pub use tape::{Replay, Tape};
