//! From a parsed build file to a graph, vertex by vertex as BuildKit's own frontend does it (spec A.4, B).

pub mod graph;
