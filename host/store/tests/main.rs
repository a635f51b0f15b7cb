//! The store as its callers see it: several handles and processes on one directory, damage of every kind of file.
mod suite;
mod support;
