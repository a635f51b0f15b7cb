//! `Machine`: what a build of a component needs to know of the machine it runs on. Read from the environment by whoever may do that.
use std::path::PathBuf;

/// The machine, and what may be changed on it.
pub struct Machine<'a> {
    /// cargo's home directory: its path is kept out of components.
    pub cargo_home: PathBuf,
    /// A directory for toolchains that are made here.
    pub toolchains: PathBuf,
    /// Which way to a Rust toolchain: `auto`, or one of those of [`crate::WASM_WAYS`].
    pub way: String,
    /// `rustup target add` may be run: it alters the user's toolchain.
    pub may_alter_rustup: bool,
    /// Debian's packages may be fetched (half a gigabyte) and a toolchain made of them.
    pub may_fetch: bool,
    /// Told what takes long, one line each.
    pub say: &'a dyn Fn(&str),
}
