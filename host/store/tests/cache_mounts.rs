//! Cache mounts: who shares, who waits, who begins anew; across handles, as across processes (an flock does not tell them apart).
use std::fs;
use std::path::Path;

use rhost_llb::Digest;
use rhost_store::{CacheMount, CacheMountClaim, CacheMountKey, CacheMountSharing as Sharing, Error, Store};

use crate::support::open;

fn key(id: &str) -> CacheMountKey {
    CacheMountKey { id: id.into(), base: None }
}

fn claim(store: &Store, key: &CacheMountKey, sharing: Sharing) -> Option<CacheMount> {
    match store.claim_cache_mount::<Error>(key, sharing, |_| Ok(())).expect("claimed") {
        CacheMountClaim::Held(mount) => Some(mount),
        CacheMountClaim::Busy { holder } => {
            assert_eq!(holder, Some(std::process::id()));
            None
        }
    }
}

fn held(store: &Store, id: &str, sharing: Sharing) -> CacheMount {
    claim(store, &key(id), sharing).expect("free")
}

#[test]
fn content_is_found_again_by_its_id() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = open(dir.path());
    fs::write(held(&store, "apt", Sharing::Shared).dir().join("f"), "1").expect("written");
    let store = open(dir.path());
    for sharing in [Sharing::Locked, Sharing::Private, Sharing::Shared] {
        assert_eq!(fs::read(held(&store, "apt", sharing).dir().join("f")).expect("there"), b"1");
    }
    assert!(!held(&store, "other", Sharing::Shared).dir().join("f").exists());
    let based = CacheMountKey { id: "apt".into(), base: Some(Digest::of("base")) };
    let filled = store.claim_cache_mount::<Error>(&based, Sharing::Shared, |dir| {
        fs::write(dir.join("seed"), "s").expect("written");
        Ok(())
    });
    let Ok(CacheMountClaim::Held(mount)) = filled else { panic!("free") };
    assert!(mount.dir().join("seed").exists() && !mount.dir().join("f").exists());
    let info = store.cache_mounts().expect("listed");
    assert_eq!(info.len(), 3);
    let apt = info.iter().find(|info| info.id.as_deref() == Some("apt") && !info.has_base).expect("known");
    assert_eq!((apt.uses, apt.in_use), (4, false));
    assert!(info.iter().any(|info| info.has_base && info.in_use));
}

#[test]
fn hostile_ids_are_no_paths() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = open(&dir.path().join("store"));
    for id in ["../../../../etc", "/", "", "..", "a\0b", "x/../y", &"long".repeat(2000)] {
        let mount = held(&store, id, Sharing::Shared);
        let bucket = dir.path().canonicalize().expect("there").join("store/cache-mounts-user-v1");
        assert_eq!(mount.dir().parent().and_then(Path::parent), Some(bucket.as_path()), "{id}");
        assert!(mount.dir().is_dir());
    }
}

#[test]
fn sharing() {
    let dir = tempfile::tempdir().expect("a directory");
    let (a, b) = (open(dir.path()), open(dir.path()));
    // Shared: everyone at once, and where the others are.
    let first = held(&a, "s", Sharing::Shared);
    let second = held(&b, "s", Sharing::Shared);
    assert_eq!(first.dir(), second.dir());
    // Private: its own while others have one.
    let own = held(&b, "s", Sharing::Private);
    assert_ne!(own.dir(), first.dir());
    // Locked waits for what is in use; here both instances are.
    assert!(claim(&a, &key("s"), Sharing::Locked).is_none());
    // Whoever shares goes where others share, also when another instance is free.
    drop(own);
    assert_eq!(held(&a, "s", Sharing::Shared).dir(), first.dir());
    drop((first, second));
    let locked = held(&a, "s", Sharing::Locked);
    let other = held(&b, "s", Sharing::Locked);
    assert_ne!(locked.dir(), other.dir(), "the instance that `private` made is free");
    assert!(claim(&b, &key("s"), Sharing::Locked).is_none());
    // A claim outlives its owner where its lock is still held: a killed build's step.
    let (lock, place) = (locked.lock().expect("a descriptor"), locked.dir());
    drop(locked);
    assert!(claim(&b, &key("s"), Sharing::Locked).is_none());
    drop(lock);
    assert_eq!(held(&b, "s", Sharing::Locked).dir(), place);
}

#[test]
fn forgotten_ones_begin_anew_and_go_with_their_last_user() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = open(dir.path());
    let bucket = dir.path().join("cache-mounts-user-v1");
    let count = || fs::read_dir(&bucket).expect("there").count();
    drop(held(&store, "f", Sharing::Shared));
    store.forget_cache_mounts("f").expect("forgotten");
    assert_eq!((count(), store.cache_mounts().expect("listed").len()), (0, 0));
    let user = held(&store, "f", Sharing::Shared);
    fs::write(user.dir().join("old"), "").expect("written");
    store.forget_cache_mounts("f").expect("forgotten");
    store.forget_cache_mounts("f").expect("nothing to forget");
    let anew = held(&store, "f", Sharing::Locked);
    assert!(!anew.dir().join("old").exists());
    assert_eq!(count(), 2);
    drop(user);
    assert_eq!(count(), 1);
    assert!(
        !store
            .remove_cache_mount(anew.dir().parent().and_then(Path::file_name).and_then(|n| n.to_str()).expect("a name"))
            .expect("asked")
    );
    drop(anew);
    let name = store.cache_mounts().expect("listed").remove(0).name;
    assert!(!store.remove_cache_mount("../x").expect("asked"));
    assert!(store.remove_cache_mount(&name).expect("removed") && count() == 0);
}

#[test]
fn half_made_ones_are_no_instances_and_are_swept() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = open(dir.path());
    let failed = store.claim_cache_mount::<Error>(&key("h"), Sharing::Shared, |_| Err(Error::Stopped));
    assert!(matches!(failed, Err(Error::Stopped)));
    let bucket = dir.path().join("cache-mounts-user-v1");
    assert_eq!(fs::read_dir(&bucket).expect("there").count(), 0);
    // What a process leaves that is killed while it fills one.
    let name = format!(
        "new-{}",
        held(&store, "h", Sharing::Shared)
            .dir()
            .parent()
            .and_then(Path::file_name)
            .and_then(|n| n.to_str())
            .expect("a name")
    );
    fs::create_dir_all(bucket.join(&name).join("fs")).expect("made");
    assert_eq!(store.cache_mounts().expect("listed").len(), 1);
    assert_eq!(store.sweep().expect("swept"), 1);
    assert!(!bucket.join(name).exists());
}

#[test]
fn lost_records_lose_no_cache_mount() {
    let dir = tempfile::tempdir().expect("a directory");
    fs::write(held(&open(dir.path()), "r", Sharing::Shared).dir().join("kept"), "").expect("written");
    for entry in fs::read_dir(dir.path()).expect("there").flatten() {
        if entry.file_name().to_string_lossy().starts_with("records-") {
            fs::remove_file(entry.path()).expect("removed");
        }
    }
    let store = open(dir.path());
    assert_eq!(store.cache_mounts().expect("listed")[0].id, None);
    assert!(held(&store, "r", Sharing::Shared).dir().join("kept").exists());
}
