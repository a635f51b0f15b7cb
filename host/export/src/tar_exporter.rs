//! `-o type=tar`: the files of a result as one tar, several platforms in a folder each.
use std::collections::HashMap;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rhost_rootfs::{Kind, Owner, Root, Stat};

use crate::assemble::epoch_time;
use crate::error::ExportError;
use crate::tar_writer::{Content, append, finish};
use crate::tree::{PlatformTree, check_split, walk, xattrs};

/// Writes `trees` to `out` as one tar; answers with the paths of sockets, which a tar cannot hold.
pub fn export_tar(
    trees: &[PlatformTree],
    split: Option<bool>,
    out: &mut dyn Write,
) -> Result<Vec<PathBuf>, ExportError> {
    // As BuildKit: one result alone has no folder in a tar, whatever is asked.
    let split = check_split(trees, split)? && trees.len() > 1;
    for seconds in trees.iter().filter_map(|tree| tree.epoch) {
        epoch_time(seconds)?;
    }
    let mut skipped = Vec::new();
    for tree in trees {
        let epoch = tree.epoch;
        let folder = split.then(|| tree.folder());
        if let Some(folder) = &folder {
            append(out, folder.as_bytes(), &folder_stat(), epoch.unwrap_or(0), &[], Content::Nothing)
                .map_err(ExportError::Output)?;
        }
        // Inode to its first path: further names become hard links. Kept only where there are further names.
        let mut links: HashMap<(u64, u64), PathBuf> = HashMap::new();
        walk(&tree.root, |path, stat| {
            let name = folder.as_ref().map_or_else(|| path.to_owned(), |folder| Path::new(folder).join(path));
            if stat.kind == Kind::Socket {
                skipped.push(name);
                return Ok(());
            }
            let first = (stat.links > 1 && stat.kind != Kind::Dir)
                .then(|| links.insert((stat.dev, stat.ino), name.clone()))
                .flatten();
            if let Some(first) = first {
                links.insert((stat.dev, stat.ino), first.clone());
                return write(&tree.root, path, &name, stat, epoch, Some(&first), out);
            }
            write(&tree.root, path, &name, stat, epoch, None, out)
        })?;
    }
    finish(out).map_err(ExportError::Output)?;
    Ok(skipped)
}

fn write(
    root: &Root,
    path: &Path,
    name: &Path,
    stat: &Stat,
    epoch: Option<i64>,
    first: Option<&Path>,
    out: &mut dyn Write,
) -> Result<(), ExportError> {
    let mtime = epoch.unwrap_or_else(|| stat.mtime.div_euclid(1_000_000_000));
    let name_bytes = name.as_os_str().as_bytes();
    let done = match (first, stat.kind) {
        (Some(first), _) => append(out, name_bytes, stat, mtime, &[], Content::Hardlink(first.as_os_str().as_bytes())),
        (None, Kind::Symlink) => {
            let target = root.read_link(path)?;
            append(out, name_bytes, stat, mtime, &[], Content::Symlink(target.as_os_str().as_bytes()))
        }
        (None, Kind::File) => {
            let attributes = xattrs(root, path, stat)?;
            let mut file = root.open_file(path)?;
            append(out, name_bytes, stat, mtime, &attributes, Content::File(&mut file))
        }
        (None, _) => append(out, name_bytes, stat, mtime, &xattrs(root, path, stat)?, Content::Nothing),
    };
    done.map_err(ExportError::path("writing the tar entry of", name))
}

/// The folder of a platform: root's, of no time but SOURCE_DATE_EPOCH, so that it is the same in every build.
fn folder_stat() -> Stat {
    Stat {
        kind: Kind::Dir,
        mode: 0o755,
        owner: Owner::default(),
        size: 0,
        atime: 0,
        mtime: 0,
        ctime: 0,
        dev: 0,
        ino: 0,
        links: 2,
        rdev: (0, 0),
        blocks: 0,
    }
}
