//! Directories, small trees and archives to test on.
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use rhost_rootfs::{Copy, CopyMode, OwnerPolicy, Root};

/// True when run by root; else says so loudly, and fails in CI.
pub fn privileged(test: &str) -> bool {
    if rustix::process::geteuid().is_root() {
        return true;
    }
    assert!(std::env::var_os("CI").is_none(), "{test} needs root");
    eprintln!("SKIP: {test} needs root");
    false
}

/// A temporary directory and its root.
pub fn dir() -> (tempfile::TempDir, Root) {
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let root = Root::open(dir.path()).unwrap();
    (dir, root)
}

/// Makes `name` with `text`, mode 0644, with its parents.
pub fn file(dir: &Path, name: &str, text: &str) {
    let path = dir.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
}

/// Makes directory `name`, mode 0755.
pub fn subdir(dir: &Path, name: &str) {
    fs::create_dir_all(dir.join(name)).unwrap();
    fs::set_permissions(dir.join(name), fs::Permissions::from_mode(0o755)).unwrap();
}

/// Makes a symlink.
pub fn link(dir: &Path, target: &str, name: &str) {
    symlink(target, dir.join(name)).unwrap();
}

/// One line per file: kind and mode, path, and text or target; sorted.
pub fn list(dir: &Path) -> Vec<String> {
    fn go(at: &Path, top: &Path, out: &mut Vec<String>) {
        let mut names: Vec<_> = fs::read_dir(at).unwrap().map(|e| e.unwrap().path()).collect();
        names.sort();
        for path in names {
            let meta = fs::symlink_metadata(&path).unwrap();
            let name = path.strip_prefix(top).unwrap().display().to_string();
            let mode = meta.mode() & 0o7777;
            if meta.is_dir() {
                out.push(format!("d{mode:o} {name}"));
                go(&path, top, out);
            } else if meta.is_symlink() {
                out.push(format!("l {name} -> {}", fs::read_link(&path).unwrap().display()));
            } else if meta.is_file() {
                out.push(format!("f{mode:o} {name} = {}", String::from_utf8_lossy(&fs::read(&path).unwrap())));
            } else {
                out.push(format!("n{mode:o} {name} {}", meta.rdev()));
            }
        }
    }
    let mut out = Vec::new();
    go(dir, dir, &mut out);
    out
}

/// A copy as COPY makes it.
pub fn copy_options(src: &str, dest: &str) -> Copy {
    Copy {
        src: src.into(),
        dest: dest.into(),
        owner: None,
        mode: CopyMode::Keep,
        follow_symlink: true,
        dir_contents: true,
        unpack: false,
        create_dest_path: true,
        wildcard: true,
        empty_wildcard: false,
        timestamp: None,
        include: Vec::new(),
        exclude: Vec::new(),
        always_replace: false,
        owners: OwnerPolicy::Exact,
    }
}

/// An archive of entries made by `tar_core`.
#[derive(Default)]
pub struct Archive(pub Vec<u8>);

impl Archive {
    /// Adds an entry.
    pub fn add(mut self, kind: tar_core::EntryType, path: &[u8], link: &[u8], content: &[u8]) -> Self {
        let mut entry = tar_core::builder::EntryBuilder::new_ustar();
        entry.path(path).entry_type(kind);
        entry.mode(if kind == tar_core::EntryType::Directory { 0o755 } else { 0o644 }).unwrap();
        entry.uid(0).unwrap();
        entry.gid(0).unwrap();
        entry.size(content.len() as u64).unwrap();
        entry.mtime(1_700_000_000).unwrap();
        if !link.is_empty() {
            entry.link_name(link);
        }
        self.0.extend(entry.finish_bytes());
        self.0.extend_from_slice(content);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    /// A file.
    pub fn file(self, path: &str, content: &str) -> Self {
        self.add(tar_core::EntryType::Regular, path.as_bytes(), b"", content.as_bytes())
    }

    /// A directory.
    pub fn dir(self, path: &str) -> Self {
        self.add(tar_core::EntryType::Directory, path.as_bytes(), b"", b"")
    }

    /// A symlink.
    pub fn symlink(self, path: &str, target: &str) -> Self {
        self.add(tar_core::EntryType::Symlink, path.as_bytes(), target.as_bytes(), b"")
    }

    /// A hard link.
    pub fn hard_link(self, path: &str, target: &str) -> Self {
        self.add(tar_core::EntryType::Link, path.as_bytes(), target.as_bytes(), b"")
    }

    /// The bytes, ended.
    pub fn end(mut self) -> Vec<u8> {
        self.0.extend([0; 1024]);
        self.0
    }
}
