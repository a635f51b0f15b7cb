//! Extended attributes by descriptor. Files that cannot be opened for reading (symlinks, devices, pipes) are reached through
//! `/proc/self/fd`, the kernel's name for an `O_PATH` descriptor; nothing is looked up by a path inside the root. A file that is open anyway is asked
//! itself, which costs half as much.
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use rustix::fs::XattrFlags;
use rustix::io::Errno;

/// Attributes whose name begins so are bookkeeping of overlayfs and never part of a file.
pub(crate) fn is_overlay(name: &[u8]) -> bool {
    name.starts_with(b"trusted.overlay.") || name.starts_with(b"user.overlay.")
}

fn proc_path(fd: impl AsFd) -> String {
    format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd())
}

/// How a file is reached.
enum Reached<'a> {
    /// By the name of its descriptor. An `O_PATH` descriptor of a symlink: the proc link leads to the symlink itself, which is not followed further.
    Named(String),
    Open(BorrowedFd<'a>),
}

/// All attributes of what `fd` (may be `O_PATH`) is open on, sorted by name. File systems without attributes answer none.
pub(crate) fn list(fd: impl AsFd) -> Result<Vec<(Vec<u8>, Vec<u8>)>, Errno> {
    // The descriptor must stay open while it is called by its name.
    list_of(&Reached::Named(proc_path(&fd)))
}

/// As [`list`] for a descriptor that is open for reading or writing.
pub(crate) fn list_open(fd: impl AsFd) -> Result<Vec<(Vec<u8>, Vec<u8>)>, Errno> {
    list_of(&Reached::Open(fd.as_fd()))
}

fn list_of(file: &Reached<'_>) -> Result<Vec<(Vec<u8>, Vec<u8>)>, Errno> {
    // Most files have none, or a label.
    let (mut few, mut many) = ([0u8; 256], Vec::new());
    let mut names: &mut [u8] = &mut few;
    let length = loop {
        let answer = match file {
            Reached::Named(path) => rustix::fs::listxattr(path.as_str(), &mut *names),
            Reached::Open(fd) => rustix::fs::flistxattr(fd, &mut *names),
        };
        match answer {
            Ok(length) => break length,
            Err(Errno::RANGE) if names.len() < 1 << 20 => {
                let size = names.len() * 4;
                many.resize(size, 0);
                names = &mut many;
            }
            Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::PERM) => return Ok(Vec::new()),
            Err(error) => return Err(error),
        }
    };
    let mut found = Vec::new();
    for name in names[..length].split(|b| *b == 0).filter(|n| !n.is_empty()) {
        if let Some(value) = get(file, name)? {
            found.push((name.to_vec(), value));
        }
    }
    found.sort_unstable();
    Ok(found)
}

fn get(file: &Reached<'_>, name: &[u8]) -> Result<Option<Vec<u8>>, Errno> {
    let mut value = vec![0u8; 256];
    loop {
        let answer = match file {
            Reached::Named(path) => rustix::fs::getxattr(path.as_str(), name, &mut value[..]),
            Reached::Open(fd) => rustix::fs::fgetxattr(fd, name, &mut value[..]),
        };
        match answer {
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
