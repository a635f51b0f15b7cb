//! dockerfile+: the Dockerfile language and four words more. Not a fork: a [`Layer`](rhost_dockerfile::layer::Layer) over the stock frontend, which
//! makes a Dockerfile of the build file before that is read. Whatever the stock frontend learns, this one knows.
//!
//! - `INCLUDE [--optional] FILE…`: the lines of other files, relative to the one that names them, or to the context with a leading `/`.
//! - `IF CONDITION`, `ELIF CONDITION`, `ELSE`, `ENDIF`: lines that count or not, by build arguments.
//! - `COPY --optional SOURCE… DESTINATION`: sources that are not there are left out.
mod condition;
mod expand;
#[cfg(target_arch = "wasm32")]
mod guest;

pub use expand::Plus;
