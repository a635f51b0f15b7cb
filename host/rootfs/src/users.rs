//! Names of users and groups, looked up in the files of an image as BuildKit does it. Hostile images: only a regular file is read and at
//! most 10 MiB of it (GHSA-72x6-4j93-7w86, CVE-2024-9676).
use crate::{Error, Owner, Result, Root};

/// Largest passwd or group file that is read, in bytes.
pub const MAX_USER_FILE: u64 = 10 << 20;

/// Uid and primary gid of user `name` by `/etc/passwd` of `root`; `None` when there is no such file or no such user.
///
/// # Errors
/// The file is no regular file or too large.
pub fn lookup_user(root: &Root, name: &str) -> Result<Option<Owner>> {
    find(root, "/etc/passwd", name, |fields| Some(Owner { uid: number(fields.next()?)?, gid: number(fields.next()?)? }))
}

/// Gid of group `name` by `/etc/group` of `root`; `None` when there is no such file or no such group.
///
/// # Errors
/// As [`lookup_user`].
pub fn lookup_group(root: &Root, name: &str) -> Result<Option<u32>> {
    find(root, "/etc/group", name, |fields| number(fields.next()?))
}

fn find<T>(
    root: &Root,
    file: &str,
    name: &str,
    mut read: impl FnMut(&mut dyn Iterator<Item = &str>) -> Option<T>,
) -> Result<Option<T>> {
    let bytes = match root.read(file, MAX_USER_FILE) {
        Ok(bytes) => bytes,
        Err(Error::NotFound { .. } | Error::NotDirectory { .. }) => return Ok(None),
        Err(error) => return Err(error),
    };
    for line in bytes.split(|b| *b == b'\n') {
        let Ok(line) = std::str::from_utf8(line) else { continue };
        let mut fields = line.trim().split(':');
        if fields.next() == Some(name) {
            fields.next();
            if let Some(found) = read(&mut fields) {
                return Ok(Some(found));
            }
        }
    }
    Ok(None)
}

fn number(text: &str) -> Option<u32> {
    text.parse().ok()
}
