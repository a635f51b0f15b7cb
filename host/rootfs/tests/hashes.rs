//! Content hashes against BuildKit's own values (spec C.2, appendix 1).
use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use rhost_llb::Digest;
use rhost_rootfs::{ChecksumOptions, DigestCache, FileIdentity, Filter, Modes, Tree};

use crate::support::{dir, file, link, subdir};

const DATA0: &str = "sha256:cd8e75bca50f2d695f220d0cb0997d8ead387e4f926e8669a92d7f104cc9885b";
const D0: &str = "sha256:d47454417d2c554067fbefe5f5719edc49f3cfe969c36b62e34a187a4da0cc9a";
const D0_BY_FILE: &str = "sha256:6b612ad5c13159112ae26357ef7bd34df29916941ba40ec2ce38dfb70c6c60c3";
const ROOT: &str = "sha256:427c9cf9ae98c0f81fb57a3076b965c7c149b6b0a85625ad4e884236649a42c6";
/// The same tree as a context: its top has no metadata of its own.
const CONTEXT: &str = "sha256:382a3f694370db09b40194a2a800431cc4ecbbde815c944c15292db67f38ca2a";
const BAR: &str = "sha256:c2b5e234f5f38fc5864da7def04782f82501a40d46192e4207d5b3f0c3c4732b";

fn golden() -> (tempfile::TempDir, Tree) {
    let (tmp, root) = dir();
    file(tmp.path(), "foo", "data0");
    file(tmp.path(), "bar", "data1");
    subdir(tmp.path(), "d0");
    file(tmp.path(), "d0/abc", "data0");
    link(tmp.path(), "abc", "d0/def");
    link(tmp.path(), "nosuchfile", "d0/ghi");
    let tree = Tree::of_context(root, &Filter::default(), Modes::AsTheyAre, None).unwrap();
    (tmp, tree)
}

fn follow() -> ChecksumOptions {
    ChecksumOptions { follow_links: true, ..Default::default() }
}

#[test]
fn golden_vectors() {
    let (_tmp, tree) = golden();
    for (path, want) in [
        ("foo", DATA0),
        ("/d0/abc", DATA0),
        ("d0/def", DATA0),
        ("d0", D0),
        ("/", CONTEXT),
        ("bar", BAR),
        ("../d0/../foo", DATA0),
    ] {
        assert_eq!(tree.checksum(path, &follow()).unwrap().to_string(), want, "{path}");
    }
    if rustix::process::geteuid().is_root() {
        let snapshot = Tree::of_root(tree.root().unwrap().clone());
        assert_eq!(snapshot.checksum("/", &follow()).unwrap().to_string(), ROOT);
    }
    assert!(tree.checksum("d0/ghi", &follow()).unwrap_err().is_not_found());
    assert!(tree.checksum("nothing", &follow()).unwrap_err().is_not_found());
}

#[test]
fn wildcards() {
    let (_tmp, tree) = golden();
    let wild = ChecksumOptions { wildcard: true, follow_links: false, ..Default::default() };
    let sum = |path: &str| tree.checksum(path, &wild).unwrap().to_string();
    assert_eq!(sum("d0*"), D0_BY_FILE);
    assert_eq!(sum("nothing*"), Digest::of(b"").to_string());
    // One match of another name is a list of one.
    assert_ne!(sum("fo*"), DATA0);
    assert_eq!(sum("foo"), DATA0);
}

#[test]
fn a_key_does_not_depend_on_times_or_owners_of_a_context() {
    let (tmp, tree) = golden();
    let before = tree.checksum("/", &follow()).unwrap();
    std::fs::write(tmp.path().join("foo"), "data0").unwrap();
    if rustix::process::geteuid().is_root() {
        std::os::unix::fs::chown(tmp.path().join("foo"), Some(7), Some(8)).unwrap();
    }
    let again = Tree::of_context(tree.root().unwrap().clone(), &Filter::default(), Modes::AsTheyAre, None).unwrap();
    assert_eq!(again.checksum("/", &follow()).unwrap(), before);
}

#[test]
fn filters_hide_files_from_the_hash() {
    let (tmp, tree) = golden();
    let all = tree.checksum("/d0", &follow()).unwrap();
    file(tmp.path(), "d0/junk", "x");
    let root = tree.root().unwrap().clone();
    let filter = Filter { exclude: vec!["**/junk".into()], ..Default::default() };
    let filtered = Tree::of_context(root, &filter, Modes::AsTheyAre, None).unwrap();
    assert_eq!(filtered.checksum("/d0", &follow()).unwrap(), all);
    assert!(!filtered.contains("/d0/junk"));
    assert!(filtered.checksum("/d0/junk", &follow()).unwrap_err().is_not_found());
}

#[test]
fn excludes_of_a_selector_ignore_what_they_exclude() {
    let (tmp, tree) = golden();
    let options = ChecksumOptions { exclude: vec!["d0/abc".into()], follow_links: true, ..Default::default() };
    let (before, all) = (tree.checksum("/", &options).unwrap(), tree.checksum("/", &follow()).unwrap());
    file(tmp.path(), "d0/abc", "another");
    let again = Tree::of_context(tree.root().unwrap().clone(), &Filter::default(), Modes::AsTheyAre, None).unwrap();
    assert_eq!(again.checksum("/", &options).unwrap(), before);
    assert_ne!(again.checksum("/", &follow()).unwrap(), all);
    let required = ChecksumOptions { wildcard: true, required: vec!["/zzz".into()], ..Default::default() };
    assert!(tree.checksum("/d0/*", &required).unwrap_err().is_not_found());
}

#[test]
fn a_snapshot_keeps_owners_and_follows_links_inside() {
    if !crate::support::privileged("a_snapshot_keeps_owners_and_follows_links_inside") {
        return;
    }
    let (tmp, root) = dir();
    file(tmp.path(), "real/data", "data0");
    link(tmp.path(), "/real", "alias");
    link(tmp.path(), "loop", "loop");
    let tree = Tree::of_root(root);
    assert_eq!(tree.checksum("/alias/data", &follow()).unwrap().to_string(), DATA0);
    assert!(tree.checksum("/loop", &follow()).is_err());
    std::os::unix::fs::chown(tmp.path().join("real/data"), Some(7), Some(7)).unwrap();
    let other = Tree::of_root(tree.root().unwrap().clone());
    assert_ne!(other.checksum("/real/data", &follow()).unwrap().to_string(), DATA0);
    assert_eq!(other.stat("/alias/data").unwrap().owner.uid, 7);
    assert_eq!(Tree::empty().checksum("/", &follow()).unwrap(), Digest::of(b""));
}

#[derive(Default)]
struct Remember(Mutex<HashMap<FileIdentity, Digest>>, Mutex<usize>);

impl DigestCache for Remember {
    fn get(&self, file: &FileIdentity) -> Option<Digest> {
        let found = self.0.lock().unwrap().get(file).copied();
        *self.1.lock().unwrap() += usize::from(found.is_some());
        found
    }
    fn put(&self, file: &FileIdentity, digest: Digest) {
        self.0.lock().unwrap().insert(*file, digest);
    }
}

#[test]
fn remembered_digests_are_used_until_the_file_changes() {
    let (tmp, tree) = golden();
    let cache = Arc::new(Remember::default());
    let sum = || {
        let root = tree.root().unwrap().clone();
        Tree::of_context(root, &Filter::default(), Modes::AsTheyAre, Some(cache.clone()))
            .unwrap()
            .checksum("/", &follow())
            .unwrap()
    };
    assert_eq!(sum().to_string(), CONTEXT);
    assert_eq!(sum().to_string(), CONTEXT);
    assert_eq!(*cache.1.lock().unwrap(), 3);
    file(tmp.path(), "foo", "data2 is longer");
    assert_ne!(sum().to_string(), CONTEXT);
}

#[test]
fn many_files_hash_to_what_each_of_them_does() {
    let (tmp, root) = dir();
    for at in 0..300 {
        file(tmp.path(), &format!("d{}/e{}/f{at}", at % 20, at % 3), &"x".repeat(at));
    }
    link(tmp.path(), "d1", "alias");
    let open = || Tree::of_context(root.clone(), &Filter::default(), Modes::AsTheyAre, None).unwrap();
    let at_once = open().checksum("/", &follow()).unwrap();
    let (one_by_one, wild) = (open(), ChecksumOptions { wildcard: true, ..ChecksumOptions::default() });
    for entry in one_by_one.entries().unwrap() {
        one_by_one.checksum(entry.path.to_str().unwrap(), &ChecksumOptions::default()).unwrap();
    }
    assert_eq!(one_by_one.entries().unwrap().len(), 20 + 60 + 300 + 1);
    assert_eq!(one_by_one.checksum("/", &follow()).unwrap(), at_once);
    assert_eq!(one_by_one.checksum("/", &wild).unwrap(), open().checksum("/", &wild).unwrap());
    let few = Filter { exclude: vec!["d*".into(), "!d3/e0".into()], ..Filter::default() };
    let few = Tree::of_context(root, &few, Modes::AsTheyAre, None).unwrap().entries().unwrap();
    assert_eq!(few.len(), 1 + 1 + 5 + 1, "alias, d3, e0 and what is in it: {few:?}");
}
