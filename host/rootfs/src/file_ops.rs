//! sig
use crate::{Owner, OwnerPolicy, Result, Root, Timestamp};

/// Flags of a removal (spec A.1 Rm).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rm {
    /// Nothing there is no error.
    pub allow_not_found: bool,
    /// The path is a pattern.
    pub wildcard: bool,
}

/// Makes directory `path`; one that exists is left as it is.
pub fn mkdir(
    root: &Root,
    path: &str,
    mode: u32,
    owner: Option<Owner>,
    timestamp: Option<Timestamp>,
    owners: OwnerPolicy,
) -> Result<()> {
    let _ = (root, path, mode, owner, timestamp, owners);
    unimplemented!()
}
/// As [`mkdir`], with missing parents, each with this mode, owner and time.
pub fn mkdir_all(
    root: &Root,
    path: &str,
    mode: u32,
    owner: Option<Owner>,
    timestamp: Option<Timestamp>,
    owners: OwnerPolicy,
) -> Result<()> {
    let _ = (root, path, mode, owner, timestamp, owners);
    unimplemented!()
}
/// Writes file `path`, replacing the content of one that exists.
pub fn mkfile(
    root: &Root,
    path: &str,
    data: &[u8],
    mode: u32,
    owner: Option<Owner>,
    timestamp: Option<Timestamp>,
    owners: OwnerPolicy,
) -> Result<()> {
    let _ = (root, path, data, mode, owner, timestamp, owners);
    unimplemented!()
}
/// Makes symlink `link` that points at `target`.
pub fn symlink(
    root: &Root,
    target: &str,
    link: &str,
    owner: Option<Owner>,
    timestamp: Option<Timestamp>,
    owners: OwnerPolicy,
) -> Result<()> {
    let _ = (root, target, link, owner, timestamp, owners);
    unimplemented!()
}
/// Removes `path` with everything below it.
pub fn rm(root: &Root, path: &str, options: Rm) -> Result<()> {
    let _ = (root, path, options);
    unimplemented!()
}
