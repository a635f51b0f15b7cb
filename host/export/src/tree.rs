//! `PlatformTree`: a result's files; and the walk over them that the plain-file exporters share.
//!
//! Files are reached through [`Root`] alone, so that no symlink in a result leads out of it.
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rhost_llb::Platform;
use rhost_rootfs::{Kind, Root, Stat};
use rustix::io::Errno;

use crate::error::ExportError;

/// The files of one platform's result.
#[derive(Clone, Debug)]
pub struct PlatformTree {
    /// What the result is for; names its folder when there are several.
    pub platform: Platform,
    /// The files; a merged view without overlay marks.
    pub root: Root,
    /// SOURCE_DATE_EPOCH in seconds: the time that every file gets.
    pub epoch: Option<i64>,
}

impl PlatformTree {
    /// `linux_arm64_v8`: the folder of a platform in a split output (spec E, platform-split).
    pub(crate) fn folder(&self) -> String {
        self.platform.with_version().replace('/', "_")
    }
}

/// Refuses results that would overwrite each other; answers whether each gets a folder.
pub(crate) fn check_split(trees: &[PlatformTree], split: Option<bool>) -> Result<bool, ExportError> {
    if trees.is_empty() {
        return Err(ExportError::Empty);
    }
    for (index, tree) in trees.iter().enumerate() {
        if trees[..index].iter().any(|other| other.folder() == tree.folder()) {
            return Err(ExportError::DuplicatePlatform { platform: Box::new(tree.platform.clone()) });
        }
    }
    match (split, trees) {
        (Some(false), [_, second, ..]) => {
            Err(ExportError::DuplicatePlatform { platform: Box::new(second.platform.clone()) })
        }
        _ => Ok(split.unwrap_or(trees.len() > 1)),
    }
}

/// Calls `visit` for every file below `root` with its relative path: parents first, siblings in byte order.
pub(crate) fn walk(
    root: &Root,
    mut visit: impl FnMut(&Path, &Stat) -> Result<(), ExportError>,
) -> Result<(), ExportError> {
    // A stack of paths rather than recursion or open directories: depth costs neither stack nor descriptors.
    let mut todo: Vec<(PathBuf, Option<Stat>)> = vec![(PathBuf::new(), None)];
    while let Some((path, stat)) = todo.pop() {
        if let Some(stat) = &stat {
            visit(&path, stat)?;
            if stat.kind != Kind::Dir {
                continue;
            }
        }
        let entries = root.read_dir(if path.as_os_str().is_empty() { Path::new("/") } else { &path })?;
        todo.extend(entries.into_iter().rev().map(|entry| (path.join(entry.name), Some(entry.stat))));
    }
    Ok(())
}

/// The extended attributes of a file or directory that belong into a copy: the user's and file capabilities. Kernel and overlayfs
/// marks, SELinux labels and ACLs speak of this machine.
pub(crate) fn xattrs(root: &Root, path: &Path, stat: &Stat) -> Result<Vec<(String, Vec<u8>)>, ExportError> {
    let fd: std::os::fd::OwnedFd = match stat.kind {
        Kind::File => root.open_file(path)?.into(),
        Kind::Dir => root.dir(path)?.fd().try_clone_to_owned().map_err(ExportError::path("reading", path))?,
        _ => return Ok(Vec::new()),
    };
    let failed = |errno: Errno| ExportError::path("reading attributes of", path)(errno.into());
    let list = match read_growing(|buffer| rustix::fs::flistxattr(&fd, buffer)) {
        Ok(list) => list,
        Err(Errno::OPNOTSUPP) => return Ok(Vec::new()),
        Err(errno) => return Err(failed(errno)),
    };
    let mut found = Vec::new();
    for name in list.split(|b| *b == 0) {
        let Ok(text) = std::str::from_utf8(name) else { continue };
        let wanted = text == "security.capability" || (text.starts_with("user.") && !text.starts_with("user.overlay."));
        if !wanted {
            continue;
        }
        match read_growing(|buffer| rustix::fs::fgetxattr(&fd, OsStr::from_bytes(name), buffer)) {
            Ok(value) => found.push((text.to_owned(), value)),
            Err(Errno::NODATA) => {}
            Err(errno) => return Err(failed(errno)),
        }
    }
    found.sort();
    Ok(found)
}

/// Asks with ever larger buffers until one is large enough; the kernel's own bound is 64 KiB.
fn read_growing(mut ask: impl FnMut(&mut [u8]) -> Result<usize, Errno>) -> Result<Vec<u8>, Errno> {
    let mut buffer = vec![0; 256];
    loop {
        match ask(&mut buffer) {
            Err(Errno::RANGE) if buffer.len() < 1 << 17 => buffer.resize(buffer.len() * 4, 0),
            Err(errno) => return Err(errno),
            Ok(length) => {
                buffer.truncate(length);
                return Ok(buffer);
            }
        }
    }
}
