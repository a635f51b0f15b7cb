//! Tests that need several rooms at once, in one binary.

mod build;
mod dockerfile;
mod images;
mod syntax;
