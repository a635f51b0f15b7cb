//! What names stand for, pinned: `rhost.lock`, and what a build does with it.
//!
//! All that a build has from elsewhere it has by a name, and each name becomes a digest in one of four places: a frontend's bytes, [`crate::images`],
//! [`crate::git`], [`crate::downloads`]. These four ask [`Pins`] first and tell it what they were told, and nobody else knows of lock files. That nothing
//! unknown is asked for (`--locked`, `--offline`) is checked where every graph passes, [`crate::session::Session::load_as`], so that all that is missing is
//! told at once. `make` writes lock files, `fetch` fills the store, `vendor` writes directories that stand for the network.
mod fetch;
mod file;
mod make;
mod near;
mod nested;
mod pins;
#[cfg(test)]
mod tests;
mod vendor;
mod vendor_signatures;
mod vendor_write;

pub use fetch::Fetched;
pub use file::{Entries, FILE_NAME, GitPin, HttpPin, LockError, LockFile, LockKey, LockKind, Pin, git_name, print};
pub use make::{LockChange, Locked};
pub use pins::{Locking, NotHere, Pins, SourceRules};
pub use vendor::{Upstream, Vendor, tree_name};
pub use vendor_write::Vendored;
