//! The stock Dockerfile frontend: a guest that reads a Dockerfile and grows a graph.
//!
//! It is a pure library: no file system, no clock, no environment. `parse` turns bytes into a [`Dockerfile`] of typed
//! instructions with exact spans; `shell` expands variables when an instruction is converted; `dockerignore` reads
//! ignore files. Accepting and refusing follow BuildKit's parser quirk by quirk (compatibility spec, section B), because
//! a build file that works there has to mean the same here.

pub mod convert;
pub mod dockerignore;
pub mod error;
#[cfg(target_arch = "wasm32")]
pub mod guest;
pub mod host;
pub mod instruction;
pub mod layer;
pub mod parse;
pub mod shell;
pub mod span;
mod text;

pub use error::{ErrorKind, ParseError};
pub use instruction::{Dockerfile, Instruction, Kind, Stage};
pub use parse::{parse, parse_trigger};
pub use span::Span;
