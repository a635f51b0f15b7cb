//! sig
use std::fs::File;

use crate::{Owner, OwnerPolicy, Result, Root};

/// True when `file` is a tar archive, compressed or not, as BuildKit decides it for ADD. The offset of `file` is left at 0.
pub fn is_archive(file: &mut File) -> Result<bool> {
    let _ = file;
    unimplemented!()
}

/// Unpacks the archive `file` into directory `dest` of `root` (it must exist).
pub fn unpack_archive(file: File, root: &Root, dest: &str, owner: Option<Owner>, owners: OwnerPolicy) -> Result<()> {
    let _ = (file, root, dest, owner, owners);
    unimplemented!()
}
pub(crate) fn unpack_into(file: File, root: &Root, dest: &[u8], owner: Option<Owner>, owners: OwnerPolicy) -> Result<()> {
    let _ = (file, root, dest, owner, owners);
    unimplemented!()
}
