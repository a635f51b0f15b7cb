//! Extended attributes by descriptor. Files that cannot be opened for reading (symlinks, devices, pipes) are reached through
//! `/proc/self/fd`, the kernel's name for an `O_PATH` descriptor; nothing is looked up by a path inside the root.
use std::os::fd::{AsFd, AsRawFd};

use rustix::fs::XattrFlags;
use rustix::io::Errno;

/// Attributes whose name begins so are bookkeeping of overlayfs and never part of a file.
pub(crate) fn is_overlay(name: &[u8]) -> bool {
    name.starts_with(b"trusted.overlay.") || name.starts_with(b"user.overlay.")
}

fn proc_path(fd: impl AsFd) -> String {
    format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd())
}

/// All attributes of what `fd` (may be `O_PATH`) is open on, sorted by name. File systems without attributes answer none.
pub(crate) fn list(fd: impl AsFd) -> Result<Vec<(Vec<u8>, Vec<u8>)>, Errno> {
    let path = proc_path(&fd);
    let mut names = vec![0u8; 256];
    let length = loop {
        // An O_PATH descriptor of a symlink: the proc link leads to the symlink itself, which is not followed further.
        match rustix::fs::listxattr(path.as_str(), &mut names[..]) {
            Ok(length) => break length,
            Err(Errno::RANGE) if names.len() < 1 << 20 => names.resize(names.len() * 4, 0),
            Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::PERM) => return Ok(Vec::new()),
            Err(error) => return Err(error),
        }
    };
    let mut found = Vec::new();
    for name in names[..length].split(|b| *b == 0).filter(|n| !n.is_empty()) {
        if let Some(value) = get(&path, name)? {
            found.push((name.to_vec(), value));
        }
    }
    found.sort_unstable();
    Ok(found)
}

fn get(path: &str, name: &[u8]) -> Result<Option<Vec<u8>>, Errno> {
    let mut value = vec![0u8; 256];
    loop {
        match rustix::fs::getxattr(path, name, &mut value[..]) {
            Ok(length) => {
                value.truncate(length);
                return Ok(Some(value));
            }
            Err(Errno::RANGE) if value.len() < 1 << 20 => {
                let size = value.len() * 4;
                value.resize(size, 0);
            }
            Err(Errno::NODATA | Errno::OPNOTSUPP | Errno::PERM | Errno::ACCESS) => return Ok(None),
            Err(error) => return Err(error),
        }
    }
}

/// Removes one attribute.
pub(crate) fn remove(fd: impl AsFd, name: &[u8]) -> Result<(), Errno> {
    rustix::fs::removexattr(proc_path(&fd).as_str(), name)
}

/// Sets one attribute.
pub(crate) fn set(fd: impl AsFd, name: &[u8], value: &[u8]) -> Result<(), Errno> {
    rustix::fs::setxattr(proc_path(&fd).as_str(), name, value, XattrFlags::empty())
}
