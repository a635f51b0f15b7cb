//! The Dockerfile frontend: reads a Dockerfile and answers with a graph. Pure: everything outside comes through [`host::Host`].
//!
//! `parse`, `shell`, `instruction`, `dockerignore` read text; `convert` turns the instructions into nodes.

pub mod convert;
pub mod host;
