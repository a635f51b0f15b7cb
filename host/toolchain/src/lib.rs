//! From a project in some language to a frontend's component: what `rhost frontend new`, `rhost frontend build` and `cargo xtask guests` share.
//!
//! Each language's ordinary tool does the work (cargo, componentize-js, componentize-py, go); this crate finds them, pins their versions, and makes sure that
//! what comes out imports `rhost:*` and nothing else. It knows nothing of engines, stores and registries, and reads no environment: [`Machine`] says what it needs to know.
mod about;
mod command;
mod component;
mod debian;
mod error;
mod go;
mod inputs;
mod javascript;
mod machine;
mod manifest;
mod new;
mod project;
mod python;
mod rust;
mod sdk;

pub use about::About;
pub use component::encode;
pub use error::{Result, ToolchainError};
pub use machine::Machine;
pub use manifest::{Language, MANIFEST, Manifest};
pub use new::create;
pub use project::{Built, Project, Sdk};
pub use rust::{TARGET, Toolchain, WASM_WAYS, remap_flags};
