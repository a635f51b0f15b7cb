//! Tests that need several rooms at once, in one binary.

mod build;
mod concurrent;
mod crash;
mod damage;
mod disk;
mod dockerfile;
mod docs;
mod explain;
mod frontends;
mod git;
mod graph;
mod images;
mod lock;
mod mistakes;
mod mounts;
mod nested;
mod packing;
mod platforms;
mod plus;
mod push;
mod registries;
mod remote;
mod rules;
mod running;
mod security;
mod syntax;
