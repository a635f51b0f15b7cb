//! The store as its callers see it: several handles and processes on one directory, damage of every kind of file.
mod cache_mounts;
mod git_repositories;
mod suite;
mod support;
