//! Write a frontend for rhost in Rust: a function from what the user asked to what is to be built.
//!
//! ```no_run
//! use rhost_sdk::{Error, Invocation, Outcome, Base, run};
//!
//! rhost_sdk::frontend!(build);
//!
//! fn build(invocation: Invocation) -> Result<Outcome, Error> {
//!     let file = rhost_sdk::BuildFile::read(&invocation)?;
//!     let outcome = Outcome::new();
//!     for platform in invocation.platforms() {
//!         let base = Base::resolve("docker.io/library/busybox", &platform).wait()?;
//!         let said = run(&base.state, &platform, &["/bin/sh", "-c", file.text.trim()]).done("[1/1] run the file")?;
//!         outcome.add(&platform, &said, &base.config.to_json());
//!     }
//!     Ok(outcome)
//! }
//! ```
//!
//! Build it with `crate-type = ["cdylib"]` for `wasm32-unknown-unknown` and make a component of it. [`bindings`] is the WIT package
//! word for word, for all that the short forms here leave out. A panic reaches the user with its message and place.
mod base;
pub mod bindings;
mod build_file;
mod config;
mod options;
mod source;
mod step;

pub use base::{Base, PendingBase};
pub use bindings::rhost::frontend::invocation::Invocation;
pub use bindings::rhost::frontend::llb::{BindMode, CacheSharing, NetworkMode, SecurityMode};
pub use bindings::rhost::frontend::llb::{Metadata, SourceMap, State, scratch};
pub use bindings::rhost::frontend::outcome::Outcome;
pub use bindings::rhost::frontend::types::{Error, Platform, Position, Range};
pub use bindings::rhost::frontend::{context, images, invocation, llb, outcome, report, solve, types};
pub use build_file::BuildFile;
pub use config::ImageConfig;
pub use options::{Access, CacheOptions, CopyOptions, FileOptions, Mode, owner};
pub use serde_json::json;
pub use source::{PendingTree, Tree, diff, git, http, local, merge, solve};
pub use step::{Copy, Files, Ran, Run, files, named, run};

/// Exports a function `fn(Invocation) -> Result<Outcome, Error>` as the frontend of this component.
#[macro_export]
macro_rules! frontend {
    ($build:path) => {
        struct RhostFrontend;

        impl $crate::bindings::Guest for RhostFrontend {
            fn build(invocation: $crate::Invocation) -> Result<$crate::Outcome, $crate::Error> {
                $crate::report_panics();
                $build(invocation)
            }
        }

        $crate::bindings::export!(RhostFrontend with_types_in $crate::bindings);
    };
}

/// Makes panics tell the host their message and place: WASM has no standard error. [`frontend!`] calls it.
pub fn report_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let text = panic.payload_as_str().unwrap_or("(no message)");
        let place = panic.location().map_or_else(String::new, |place| format!(" at {}:{}", place.file(), place.line()));
        report::log(report::Level::Error, &format!("{text}{place}"));
    }));
}

/// An error for people: what was wanted, what was found, what to do.
pub fn fail(message: impl Into<String>) -> Error {
    Error::Failed(message.into())
}

/// The text of an error.
pub fn message(error: &Error) -> &str {
    match error {
        Error::NotFound(text)
        | Error::Denied(text)
        | Error::Invalid(text)
        | Error::Unsupported(text)
        | Error::TooLarge(text)
        | Error::Failed(text)
        | Error::Other(text) => text,
    }
}

/// The text of a file of the context `context`; `None` if it is not there.
///
/// # Errors
/// When it cannot be read, or is not UTF-8.
pub fn read_context(path: &str) -> Result<Option<String>, Error> {
    match context::read_file("context", path, None) {
        Ok(bytes) => String::from_utf8(bytes).map(Some).map_err(|_| fail(format!("{path} is not UTF-8"))),
        Err(Error::NotFound(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The README's example is compiled with the documentation's.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
