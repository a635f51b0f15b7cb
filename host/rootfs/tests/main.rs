//! What the crate does to real directories. Root is needed for owners, devices and trusted attributes.
mod copies;
mod diffs;
mod hashes;
mod hostile;
mod layers;
mod operations;
mod support;
