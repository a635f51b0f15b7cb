//! `-o type=local`: the files of a result copied into a directory of the user's.
//!
//! Nothing of the user's is deleted and no symlink in the destination is followed: a file replaces a file of the same name, in
//! one rename; a directory is merged into a directory; anything else in the way is an error that names it. Files belong to who
//! builds. setuid and setgid stay only where the file's owner is who it was: a bit meant for another user must not lend out
//! the builder's rights.
use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use rhost_rootfs::{Kind, Root, Stat};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, Timespec, Timestamps, XattrFlags};
use rustix::io::Errno;

use crate::assemble::epoch_time;
use crate::error::ExportError;
use crate::partial::Staging;
use crate::tree::{PlatformTree, check_split, walk, xattrs};

/// What a local export did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LocalExport {
    /// Regular files, symlinks and pipes written.
    pub files: u64,
    /// Bytes of regular files.
    pub bytes: u64,
    /// Devices and sockets, which are not written to a user's directory.
    pub skipped: Vec<PathBuf>,
}

/// Copies `trees` into the directory `dest`, made when missing; several platforms into a folder each.
pub fn export_local(trees: &[PlatformTree], dest: &Path, split: Option<bool>) -> Result<LocalExport, ExportError> {
    let split = check_split(trees, split)?;
    for seconds in trees.iter().filter_map(|tree| tree.epoch) {
        epoch_time(seconds)?;
    }
    std::fs::create_dir_all(dest).map_err(ExportError::path("creating", dest))?;
    let mut done = LocalExport::default();
    for tree in trees {
        let dest = if split { dest.join(tree.folder()) } else { dest.to_owned() };
        if split {
            match std::fs::create_dir(&dest) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                    return Err(ExportError::path("creating", &dest)(error));
                }
                _ => {}
            }
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        // A folder made here must not be someone's symlink; the user's own `dest` may be one.
        let flags = if split { flags | OFlags::NOFOLLOW } else { flags };
        let opened = rustix::fs::open(&dest, flags, Mode::empty());
        let fd = opened.map_err(|e| ExportError::path("opening", &dest)(e.into()))?;
        let (uid, folder) = (rustix::process::geteuid().as_raw(), dest.clone());
        let staging = Rc::new(Staging::within(&dest).map_err(ExportError::path("writing to", &dest))?);
        Copier {
            root: &tree.root,
            dest,
            fd,
            staging,
            uid,
            epoch: tree.epoch,
            parent: None,
            links: HashMap::new(),
            done: &mut done,
        }
        .run()?;
        if let (true, Some(seconds)) = (split, tree.epoch) {
            let time = Timespec { tv_sec: seconds, tv_nsec: 0 };
            let times = Timestamps { last_access: time, last_modification: time };
            rustix::fs::utimensat(rustix::fs::CWD, &folder, &times, AtFlags::SYMLINK_NOFOLLOW)
                .map_err(|e| ExportError::path("setting the time of", &folder)(e.into()))?;
        }
    }
    Ok(done)
}

/// The one file that is being written, in the staging directory.
const STAGED: &str = "file";

struct Copier<'a> {
    root: &'a Root,
    dest: PathBuf,
    fd: OwnedFd,
    /// Where a file is written before it is put in its place.
    staging: Rc<Staging>,
    uid: u32,
    epoch: Option<i64>,
    /// The last directory written to: siblings come one after another.
    parent: Option<(PathBuf, OwnedFd)>,
    links: HashMap<(u64, u64), PathBuf>,
    done: &'a mut LocalExport,
}

impl Copier<'_> {
    fn run(mut self) -> Result<(), ExportError> {
        let mut directories = Vec::new();
        walk(self.root, |path, stat| {
            self.copy(path, stat)?;
            if stat.kind == Kind::Dir {
                directories.push((path.to_owned(), stat.clone()));
            }
            Ok(())
        })?;
        self.parent = None;
        // Children first: a mode may forbid what is still to be written, and writing changes times.
        for (path, stat) in directories.iter().rev() {
            let fd = self.open_dir(path)?;
            self.finish(&fd, path, stat)?;
        }
        Ok(())
    }

    fn copy(&mut self, path: &Path, stat: &Stat) -> Result<(), ExportError> {
        if matches!(stat.kind, Kind::Socket | Kind::CharDevice | Kind::BlockDevice) {
            self.done.skipped.push(path.to_owned());
            return Ok(());
        }
        let folder = path.parent().unwrap_or(Path::new(""));
        let name = path.file_name().unwrap_or_default();
        let parent = match self.parent.take() {
            Some((open, fd)) if open == folder => fd,
            _ => self.open_dir(folder)?,
        };
        let result = self.copy_into(&parent, Path::new(name), path, stat);
        self.parent = Some((folder.to_owned(), parent));
        result
    }

    fn copy_into(&mut self, parent: &OwnedFd, name: &Path, path: &Path, stat: &Stat) -> Result<(), ExportError> {
        let here = rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW);
        let here = match here {
            Ok(found) => Some(FileType::from_raw_mode(found.st_mode)),
            Err(Errno::NOENT) => None,
            Err(errno) => return Err(self.failed("looking at", path)(errno.into())),
        };
        let in_the_way = |found, wanted| ExportError::InTheWay { path: self.dest.join(path), found, wanted };
        match (stat.kind, here) {
            (Kind::Dir, Some(FileType::Directory)) => return Ok(()),
            (Kind::Dir, Some(FileType::Symlink)) => return Err(in_the_way("a symbolic link", "a directory")),
            (Kind::Dir, Some(_)) => return Err(in_the_way("a file", "a directory")),
            (Kind::Dir, None) => {
                let made = rustix::fs::mkdirat(parent, name, Mode::from_raw_mode(0o700));
                return made.map_err(|e| self.failed("creating", path)(e.into()));
            }
            (_, Some(FileType::Directory)) => return Err(in_the_way("a directory", "a file")),
            _ => {}
        }
        let staging = self.staging.clone();
        let put = match self.put(&*staging, STAGED, parent, name, path, stat) {
            // The user has mounted something here.
            Err(ExportError::Path { source, .. }) if source.raw_os_error() == Some(Errno::XDEV.raw_os_error()) => {
                let beside = format!(".rhost-partial-{}-{STAGED}", std::process::id());
                // What a killed export with our id left behind.
                let _ = rustix::fs::unlinkat(parent, beside.as_str(), AtFlags::empty());
                self.put(parent, &beside, parent, name, path, stat)
            }
            other => other,
        };
        put?;
        self.done.files += 1;
        if stat.links > 1 {
            self.links.entry((stat.dev, stat.ino)).or_insert_with(|| path.to_owned());
        }
        Ok(())
    }

    /// Writes `path` as `partial` in `staging`, and renames it to `name` in `parent`.
    fn put(
        &mut self,
        staging: &impl AsFd,
        partial: &str,
        parent: &OwnedFd,
        name: &Path,
        path: &Path,
        stat: &Stat,
    ) -> Result<(), ExportError> {
        let put = self.write(staging, partial, path, stat).and_then(|()| {
            let renamed = rustix::fs::renameat(staging, partial, parent, name);
            renamed.map_err(|e| self.failed("writing", path)(e.into()))
        });
        if put.is_err() {
            // The error is the one to tell.
            let _ = rustix::fs::unlinkat(staging, partial, AtFlags::empty());
        }
        put
    }

    fn write(&mut self, parent: &impl AsFd, partial: &str, path: &Path, stat: &Stat) -> Result<(), ExportError> {
        if stat.links > 1
            && let Some(first) = self.links.get(&(stat.dev, stat.ino))
        {
            let folder = self.open_dir(first.parent().unwrap_or(Path::new("")))?;
            let first = first.file_name().unwrap_or_default();
            // Where links are not possible, a copy is what is left.
            if rustix::fs::linkat(&folder, first, parent, partial, AtFlags::empty()).is_ok() {
                return Ok(());
            }
        }
        match stat.kind {
            Kind::Symlink => {
                let target = self.root.read_link(path)?;
                rustix::fs::symlinkat(&target, parent, partial).map_err(|e| self.failed("writing", path)(e.into()))?;
                let times = self.times(stat);
                // Some file systems have no times for links.
                let _ = rustix::fs::utimensat(parent, partial, &times, AtFlags::SYMLINK_NOFOLLOW);
                Ok(())
            }
            Kind::Fifo => {
                let mode = Mode::from_raw_mode(stat.mode & 0o777);
                let made = rustix::fs::mknodat(parent, partial, FileType::Fifo, mode, 0);
                made.map_err(|e| self.failed("writing", path)(e.into()))
            }
            _ => {
                let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let opened = rustix::fs::openat(parent, partial, flags, Mode::from_raw_mode(0o600));
                let mut file = File::from(opened.map_err(|e| self.failed("writing", path)(e.into()))?);
                let mut source = self.root.open_file(path)?;
                self.done.bytes += io::copy(&mut source, &mut file).map_err(self.failed("copying", path))?;
                self.finish(&file, path, stat)
            }
        }
    }

    /// Attributes, mode and times, in this order: each would undo the ones before.
    fn finish(&self, fd: &impl AsFd, path: &Path, stat: &Stat) -> Result<(), ExportError> {
        for (name, value) in xattrs(self.root, path, stat)? {
            match rustix::fs::fsetxattr(fd, name.as_str(), &value, XattrFlags::empty()) {
                // A plain user may not set capabilities, and not every file system has attributes.
                Ok(()) | Err(Errno::OPNOTSUPP | Errno::PERM) => {}
                Err(errno) => return Err(self.failed("setting attributes of", path)(errno.into())),
            }
        }
        let lent = stat.kind != Kind::Dir && stat.owner.uid != self.uid;
        let mode = if lent { stat.mode & 0o1777 } else { stat.mode };
        rustix::fs::fchmod(fd, Mode::from_raw_mode(mode))
            .map_err(|e| self.failed("setting the mode of", path)(e.into()))?;
        let set = rustix::fs::futimens(fd, &self.times(stat));
        set.map_err(|e| self.failed("setting the time of", path)(e.into()))
    }

    fn times(&self, stat: &Stat) -> Timestamps {
        let nanos = self.epoch.map_or(stat.mtime, |seconds| seconds.saturating_mul(1_000_000_000));
        let time = Timespec { tv_sec: nanos.div_euclid(1_000_000_000), tv_nsec: nanos.rem_euclid(1_000_000_000) };
        Timestamps { last_access: time, last_modification: time }
    }

    /// A directory of the destination, reached without following any symlink.
    fn open_dir(&self, path: &Path) -> Result<OwnedFd, ExportError> {
        let path_or_dot = if path.as_os_str().as_bytes().is_empty() { Path::new(".") } else { path };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        let opened = rustix::fs::openat2(&self.fd, path_or_dot, flags, Mode::empty(), resolve);
        opened.map_err(|e| self.failed("opening", path)(e.into()))
    }

    fn failed(&self, action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> ExportError + use<> {
        ExportError::path(action, self.dest.join(path))
    }
}
