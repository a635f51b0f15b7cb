//! Archives of ADD: what counts as one, and unpacking it, with the effect that BuildKit's has.
//!
//! Anything whose (uncompressed) first bytes parse as a tar header is an archive; anything else is copied as a file.
use std::fs::File;
use std::io::{Read, Seek};

use crate::decompress::decompress;
use crate::layer_apply::{Extractor, Lowers};
use crate::path::{bytes, owned};
use crate::root::Last;
use crate::tar_read::TarReader;
use crate::{Error, Owner, OwnerPolicy, Result, Root};

/// True when `file` is a tar archive, compressed or not, as BuildKit decides it for ADD. The offset of `file` is left at 0.
///
/// # Errors
/// The file cannot be read. What looks compressed but is damaged is no error: it is no archive.
pub fn is_archive(file: &mut File) -> Result<bool> {
    let stream = |source| Error::Stream { source };
    file.rewind().map_err(stream)?;
    let answer = match decompress(&*file) {
        Ok((_, reader)) => matches!(TarReader::new(reader.take(16 << 20)).next(), Ok(Some(_))),
        Err(_) => false,
    };
    file.rewind().map_err(stream)?;
    Ok(answer)
}

/// Unpacks the archive `file` into directory `dest` of `root` (it must exist). With `owner`, everything belongs to it.
///
/// # Errors
/// A broken archive, an entry that cannot be made, or a full disk.
pub fn unpack_archive(file: File, root: &Root, dest: &str, owner: Option<Owner>, owners: OwnerPolicy) -> Result<()> {
    let resolved = root.resolve(dest, Last::Follow)?;
    unpack_into(file, root, bytes(&resolved), owner, owners)
}

pub(crate) fn unpack_into(
    file: File,
    root: &Root,
    dest: &[u8],
    owner: Option<Owner>,
    owners: OwnerPolicy,
) -> Result<()> {
    // Names of the archive are resolved in the destination as in a chroot: its absolute symlinks stay below it.
    let below = root.dir(owned(dest))?;
    let (_, reader) = decompress(file)?;
    let mut reader = TarReader::new(reader);
    Extractor::new(&below, b"/", None, owners, owner, Lowers::Here(&[])).run(&mut reader)?;
    Ok(())
}
