//! Repositories of git sources: one user at a time, seen, removed, replaced.
use std::fs;

use rhost_store::{PruneOptions, RecordKind};

use crate::support::open;

#[test]
fn one_user_at_a_time_and_none_who_removes() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let remote = "https://h/../../etc/x.git";
    let mine = store.try_git_repository(remote, remote).unwrap().unwrap();
    assert!(mine.dir().starts_with(store.root().join("git-v1")), "{:?}", mine.dir());
    assert!(store.try_git_repository(remote, remote).unwrap().is_none(), "busy");
    let other = store.try_git_repository("https://h/other", "other").unwrap().unwrap();
    assert_ne!(mine.dir(), other.dir());
    drop(other);
    fs::create_dir_all(mine.dir()).unwrap();
    fs::write(mine.dir().join("pack"), vec![1; 100_000]).unwrap();
    let prune = |store: &rhost_store::Store| {
        let mut gone = Vec::new();
        store.prune(&PruneOptions::default(), &mut |pruned| gone.push(pruned.record.description)).unwrap();
        gone
    };
    assert_eq!(prune(&store), ["git repository of other"], "the other is in use");
    // A copy of the lock holds it, too: that of a git which outlives its build for a moment.
    let lock = mine.lock().unwrap();
    drop(mine);
    assert!(store.try_git_repository(remote, remote).unwrap().is_none());
    drop(lock);
    let records = store.disk_usage().unwrap();
    let found: Vec<_> = records.iter().filter(|record| record.kind == RecordKind::GitRepository).collect();
    assert!(found.len() == 1 && found[0].size >= 100_000 && !found[0].in_use && found[0].uses == 1, "{found:?}");
    assert_eq!(prune(&store), [format!("git repository of {remote}")]);
    assert_eq!(fs::read_dir(store.root().join("git-v1")).unwrap().count(), 0);
}

#[test]
fn a_replacement_takes_the_place_and_rubbish_is_swept() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let mine = store.try_git_repository("r", "r").unwrap().unwrap();
    for (dir, text) in [(mine.dir(), "old"), (mine.replacement().unwrap(), "half")] {
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join("HEAD"), text).unwrap();
    }
    // What was left of an earlier one is gone.
    let fresh = mine.replacement().unwrap();
    assert!(!fresh.exists());
    fs::create_dir_all(&fresh).unwrap();
    fs::write(fresh.join("HEAD"), "new").unwrap();
    mine.replace().unwrap();
    assert_eq!(fs::read_to_string(mine.dir().join("HEAD")).unwrap(), "new");
    assert!(!fresh.exists());
    let left = store.root().join("git-v1/old-x");
    fs::create_dir_all(&left).unwrap();
    store.sweep().unwrap();
    assert!(!left.exists() && mine.dir().exists());
}
