//! The local and tar exporters: what arrives, and what of the user's stays.
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use rhost_export::{ExportError, PlatformTree, export_local, export_tar};
use rhost_llb::Platform;
use rhost_rootfs::Root;

use crate::kit::{succeeded, tool};

fn tree(path: &Path, architecture: &str) -> PlatformTree {
    PlatformTree { platform: Platform::new("linux", architecture, ""), root: Root::open(path).unwrap(), epoch: None }
}

fn set(path: &Path, mode: u32, seconds: u64) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(seconds);
    fs::File::open(path).unwrap().set_modified(time).unwrap();
}

/// A result with one of everything that needs no privilege.
fn result() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    fs::create_dir_all(at("d/e")).unwrap();
    fs::write(at("d/e/tool"), "#!/bin/sh\n").unwrap();
    fs::write(at("a"), "hello").unwrap();
    fs::hard_link(at("a"), at("d/link")).unwrap();
    symlink("/etc/passwd", at("absolute")).unwrap();
    symlink("../a", at("d/relative")).unwrap();
    fs::write(folder.path().join(std::ffi::OsStr::from_bytes(b"not-\xff-utf8")), "x").unwrap();
    fs::write(at(&"n".repeat(200)), "long").unwrap();
    // Not every reader of PAX takes a newline in a name; GNU tar and Go do.
    fs::write(at("new\nline=é"), "x").unwrap();
    set(&at("d/e/tool"), 0o4755, 1000);
    set(&at("a"), 0o640, 2000);
    set(&at("d/e"), 0o555, 3000);
    set(&at("d"), 0o1777, 4000);
    folder
}

fn facts(path: &Path) -> (u32, i64, Vec<u8>) {
    let found = fs::symlink_metadata(path).unwrap();
    let content = match () {
        () if found.is_symlink() => fs::read_link(path).unwrap().as_os_str().as_bytes().to_vec(),
        () if found.is_dir() => Vec::new(),
        () => fs::read(path).unwrap(),
    };
    (found.mode(), found.mtime(), content)
}

fn all(folder: &Path) -> BTreeMap<PathBuf, (u32, i64, Vec<u8>)> {
    let mut found = BTreeMap::new();
    let mut todo = vec![folder.to_owned()];
    while let Some(path) = todo.pop() {
        for entry in fs::read_dir(&path).unwrap() {
            let path = entry.unwrap().path();
            found.insert(path.strip_prefix(folder).unwrap().to_owned(), facts(&path));
            if path.is_dir() && !path.is_symlink() {
                todo.push(path);
            }
        }
    }
    found
}

#[test]
fn local_copies_everything() {
    let (source, dest) = (result(), tempfile::tempdir().unwrap());
    let dest = dest.path().join("new");
    let done = export_local(&[tree(source.path(), "amd64")], &dest, None).unwrap();
    assert_eq!(all(source.path()), all(&dest));
    assert_eq!((done.files, done.skipped.len()), (8, 0));
    let inode = |name: &str| fs::metadata(dest.join(name)).unwrap().ino();
    assert_eq!(inode("a"), inode("d/link"));
    // Again, over what is there.
    export_local(&[tree(source.path(), "amd64")], &dest, None).unwrap();
    assert_eq!(all(source.path()), all(&dest));
}

#[test]
fn local_keeps_what_is_the_users() {
    let (source, dest) = (result(), tempfile::tempdir().unwrap());
    fs::create_dir(dest.path().join("d")).unwrap();
    fs::write(dest.path().join("d/mine"), "mine").unwrap();
    fs::write(dest.path().join("a"), "old").unwrap();
    export_local(&[tree(source.path(), "amd64")], dest.path(), None).unwrap();
    assert_eq!(fs::read_to_string(dest.path().join("d/mine")).unwrap(), "mine");
    assert_eq!(fs::read_to_string(dest.path().join("a")).unwrap(), "hello");
}

#[test]
fn local_follows_no_symlink_in_the_destination() {
    let (source, dest, elsewhere) = (result(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    symlink(elsewhere.path(), dest.path().join("d")).unwrap();
    let error = export_local(&[tree(source.path(), "amd64")], dest.path(), None).unwrap_err();
    assert!(matches!(error, ExportError::InTheWay { found: "a symbolic link", .. }), "{error}");
    assert_eq!(fs::read_dir(elsewhere.path()).unwrap().count(), 0);
    // A symlink where a file goes is replaced, its target is not touched.
    let (dest, target) = (tempfile::tempdir().unwrap(), elsewhere.path().join("target"));
    fs::write(&target, "precious").unwrap();
    symlink(&target, dest.path().join("a")).unwrap();
    export_local(&[tree(source.path(), "amd64")], dest.path(), None).unwrap();
    assert_eq!(fs::read_to_string(&target).unwrap(), "precious");
    assert_eq!(fs::read_to_string(dest.path().join("a")).unwrap(), "hello");
}

#[test]
fn local_deletes_nothing_to_make_room() {
    let source = result();
    for (make_dir, wanted) in [("a", "a file"), ("absolute", "a file")] {
        let dest = tempfile::tempdir().unwrap();
        fs::create_dir(dest.path().join(make_dir)).unwrap();
        let error = export_local(&[tree(source.path(), "amd64")], dest.path(), None).unwrap_err();
        assert!(matches!(&error, ExportError::InTheWay { wanted: w, .. } if *w == wanted), "{error}");
    }
    let dest = tempfile::tempdir().unwrap();
    fs::write(dest.path().join("d"), "mine").unwrap();
    assert!(export_local(&[tree(source.path(), "amd64")], dest.path(), None).is_err());
    assert_eq!(fs::read_to_string(dest.path().join("d")).unwrap(), "mine");
}

#[test]
fn platforms_get_folders() {
    let (source, dest) = (result(), tempfile::tempdir().unwrap());
    let trees = [tree(source.path(), "amd64"), tree(source.path(), "arm64")];
    export_local(&trees, dest.path(), None).unwrap();
    for folder in ["linux_amd64", "linux_arm64"] {
        assert_eq!(all(source.path()), all(&dest.path().join(folder)));
    }
    let one = tempfile::tempdir().unwrap();
    export_local(&trees[..1], one.path(), Some(true)).unwrap();
    assert!(one.path().join("linux_amd64/a").exists());
    for bad in [export_local(&trees, one.path(), Some(false)), export_local(&[], one.path(), None)] {
        assert!(bad.is_err());
    }
    assert!(export_tar(&trees, Some(false), &mut Vec::new()).is_err());
}

#[test]
fn the_epoch_is_every_files_time() {
    let (source, dest) = (result(), tempfile::tempdir().unwrap());
    export_local(&[PlatformTree { epoch: Some(77), ..tree(source.path(), "amd64") }], dest.path(), None).unwrap();
    assert!(all(dest.path()).values().all(|(_, mtime, _)| *mtime == 77));
}

#[test]
fn pipes_arrive_and_sockets_are_told() {
    let (source, dest) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let _socket = std::os::unix::net::UnixListener::bind(source.path().join("socket")).unwrap();
    let done = export_local(&[tree(source.path(), "amd64")], dest.path(), None).unwrap();
    assert_eq!(done.skipped, [PathBuf::from("socket")]);
    let skipped = export_tar(&[tree(source.path(), "amd64")], None, &mut Vec::new()).unwrap();
    assert_eq!(skipped, [PathBuf::from("socket")]);
}

#[test]
fn tar_unpacks_to_the_same_files() {
    let (source, dest) = (result(), tempfile::tempdir().unwrap());
    let mut archive = Vec::new();
    export_tar(&[tree(source.path(), "amd64")], None, &mut archive).unwrap();
    let file = dest.path().join("result.tar");
    fs::write(&file, archive).unwrap();
    let out = dest.path().join("out");
    fs::create_dir(&out).unwrap();
    let arguments = ["-xpf", file.to_str().unwrap(), "-C", out.to_str().unwrap()];
    let Some(output) = tool("tar", &arguments) else { return };
    succeeded(&output);
    let links = |facts: BTreeMap<PathBuf, (u32, i64, Vec<u8>)>| {
        // Times of symlinks are those of their making in one of the two trees.
        facts.into_iter().map(|(path, (mode, _, content))| (path, (mode, content))).collect::<BTreeMap<_, _>>()
    };
    assert_eq!(links(all(source.path())), links(all(&out)));
    assert_eq!(fs::metadata(out.join("a")).unwrap().mtime(), 2000);
    assert_eq!(fs::metadata(out.join("a")).unwrap().nlink(), 2);
}

#[test]
fn a_split_tar_has_a_folder_for_each_platform() {
    let source = tempfile::tempdir().unwrap();
    fs::write(source.path().join("a"), "x").unwrap();
    let mut archive = Vec::new();
    export_tar(
        &["amd64", "arm64"].map(|arch| PlatformTree { epoch: Some(5), ..tree(source.path(), arch) }),
        None,
        &mut archive,
    )
    .unwrap();
    let mut reader = tar::Archive::new(&archive[..]);
    let names: Vec<String> =
        reader.entries().unwrap().map(|e| e.unwrap().path().unwrap().to_string_lossy().into_owned()).collect();
    assert_eq!(names, ["linux_amd64/", "linux_amd64/a", "linux_arm64/", "linux_arm64/a"]);
}

#[test]
fn attributes_survive() {
    let (source, dest) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let file = source.path().join("a");
    fs::write(&file, "x").unwrap();
    if let Err(error) = rustix::fs::setxattr(&file, "user.note", b"a\nb\0c", rustix::fs::XattrFlags::empty()) {
        assert!(std::env::var_os("CI").is_none(), "user attributes are needed in CI: {error}");
        eprintln!("SKIP: no user attributes in the temporary directory: {error}");
        return;
    }
    export_local(&[tree(source.path(), "amd64")], dest.path(), None).unwrap();
    let mut value = [0; 16];
    let length = rustix::fs::getxattr(dest.path().join("a"), "user.note", &mut value[..]).unwrap();
    assert_eq!(&value[..length], b"a\nb\0c");
    let mut archive = Vec::new();
    export_tar(&[tree(source.path(), "amd64")], None, &mut archive).unwrap();
    let record = b"32 SCHILY.xattr.user.note=a\nb\0c\n";
    assert!(archive.windows(record.len()).any(|window| window == record), "{record:?}");
}

#[test]
fn what_a_killed_export_left_is_taken_away() {
    let (result, dest) = (result(), tempfile::tempdir().unwrap());
    fs::create_dir(dest.path().join(".rhost-partial-1-0")).unwrap();
    fs::write(dest.path().join(".rhost-partial-1-0/file"), "half").unwrap();
    fs::write(dest.path().join(".rhost-partial-mine"), "kept").unwrap();
    export_local(&[tree(result.path(), "amd64")], dest.path(), None).unwrap();
    let hidden: Vec<_> =
        all(dest.path()).into_keys().filter(|path| path.to_string_lossy().contains("partial")).collect();
    assert_eq!(hidden, [Path::new(".rhost-partial-mine")]);
}
