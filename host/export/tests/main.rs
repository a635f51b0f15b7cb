//! Tests of the export room, one binary.
mod archives;
mod blocks;
mod documents;
mod kit;
mod layers;
mod options;
mod plain_files;
mod whole_files;
