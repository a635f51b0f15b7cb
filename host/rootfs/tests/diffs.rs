//! Diffs of trees: laid over the lower tree they give the upper one.
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use rhost_rootfs::{OwnerPolicy, Root, write_tree_diff};

use crate::support::{dir, file, link, list, privileged, subdir};

fn diff(lower: &Root, upper: &Root) -> (u64, Vec<String>) {
    let (at, layer) = dir();
    let changes = write_tree_diff(Some(lower), Some(upper), &layer, OwnerPolicy::Exact).unwrap();
    (changes, list(at.path()))
}

/// Gives every file below `at` the same time, in nanoseconds.
fn settle(at: &Path, nanos: i64) {
    for entry in walk(at) {
        let time = rustix::fs::Timespec { tv_sec: nanos / 1_000_000_000, tv_nsec: (nanos % 1_000_000_000) as _ };
        let times = rustix::fs::Timestamps { last_access: time, last_modification: time };
        rustix::fs::utimensat(rustix::fs::CWD, &entry, &times, rustix::fs::AtFlags::SYMLINK_NOFOLLOW).unwrap();
    }
}

fn walk(at: &Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(at).unwrap() {
        let path = entry.unwrap().path();
        if path.symlink_metadata().unwrap().is_dir() {
            found.extend(walk(&path));
        }
        found.push(path);
    }
    found
}

#[test]
fn what_changed_is_written_with_the_directories_that_lead_to_it() {
    if !privileged("diffs") {
        return;
    }
    let ((low, lower), (up, upper)) = (dir(), dir());
    for at in [low.path(), up.path()] {
        file(at, "same", "same");
        file(at, "kept/deep/same", "same");
        file(at, "mode", "x");
        subdir(at, "becomes-file");
        file(at, "becomes-dir", "f");
        link(at, "same", "link");
    }
    file(low.path(), "gone", "x");
    file(low.path(), "kept/gone/all/of/it", "x");
    fs::remove_dir(up.path().join("becomes-file")).unwrap();
    file(up.path(), "becomes-file", "now a file");
    fs::remove_file(up.path().join("becomes-dir")).unwrap();
    file(up.path(), "becomes-dir/inside", "now a directory");
    fs::set_permissions(up.path().join("mode"), fs::Permissions::from_mode(0o600)).unwrap();
    file(up.path(), "kept/deep/new", "new");
    fs::hard_link(up.path().join("kept/deep/new"), up.path().join("kept/second")).unwrap();
    file(up.path(), "other", "aaaa");
    file(low.path(), "other", "bbbb");
    for (at, nanos) in [(low.path(), 5_000_000_000), (up.path(), 5_000_000_000)] {
        settle(at, nanos);
    }
    let (changes, found) = diff(&lower, &upper);
    assert_eq!(
        found,
        [
            "d755 becomes-dir",
            "f644 becomes-dir/inside = now a directory",
            "f644 becomes-file = now a file",
            "n600 gone 0",
            "d755 kept",
            "d755 kept/deep",
            "f644 kept/deep/new = new",
            "n600 kept/gone 0",
            "f644 kept/second = new",
            "f600 mode = x",
            "f644 other = aaaa",
        ]
    );
    assert_eq!(changes, 9);
    let (at, layer) = dir();
    write_tree_diff(Some(&lower), Some(&upper), &layer, OwnerPolicy::Exact).unwrap();
    use std::os::unix::fs::MetadataExt as _;
    let ino = |name: &str| fs::metadata(at.path().join(name)).unwrap().ino();
    assert_eq!(ino("kept/second"), ino("kept/deep/new"), "hard links stay links");
    assert_eq!(fs::metadata(at.path().join("kept")).unwrap().mtime(), 5, "directories keep their time");
}

#[test]
fn equal_trees_differ_in_nothing_and_times_count() {
    let ((low, lower), (up, upper)) = (dir(), dir());
    for at in [low.path(), up.path()] {
        file(at, "a/b", "text");
        link(at, "x", "l");
        settle(at, 5_000_000_001);
    }
    assert_eq!(diff(&lower, &upper), (0, vec![]));
    settle(up.path(), 5_000_000_002);
    assert_eq!(diff(&lower, &upper).1, ["d755 a", "f644 a/b = text", "l l -> x"]);
}

#[test]
fn from_nothing_and_to_nothing() {
    if !privileged("whiteouts") {
        return;
    }
    let (at, tree) = dir();
    file(at.path(), "a/b", "text");
    file(at.path(), "c", "text");
    let (out, layer) = dir();
    assert_eq!(write_tree_diff(None, Some(&tree), &layer, OwnerPolicy::Exact).unwrap(), 3);
    assert_eq!(list(out.path()), list(at.path()));
    let (out, layer) = dir();
    assert_eq!(write_tree_diff(Some(&tree), None, &layer, OwnerPolicy::Exact).unwrap(), 2);
    assert_eq!(list(out.path()), ["n600 a 0", "n600 c 0"]);
    let (_out, layer) = dir();
    assert_eq!(write_tree_diff(None, None, &layer, OwnerPolicy::Exact).unwrap(), 0);
}
