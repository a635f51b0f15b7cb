//! Cache mounts: who shares, who waits, who begins anew; across handles, as across processes (an flock does not tell them apart).
use std::fs;
use std::path::Path;

use rhost_llb::Digest;
use rhost_store::{
    CacheMount, CacheMountClaim, CacheMountKey, CacheMountReading, CacheMountSharing as Sharing, Error, Store,
};

use crate::support::open;

fn key(id: &str) -> CacheMountKey {
    CacheMountKey { id: id.into(), base: None }
}

fn claim(store: &Store, key: &CacheMountKey, sharing: Sharing) -> Option<CacheMount> {
    match store.claim_cache_mount::<Error>(key, sharing, |_| Ok(())).expect("claimed") {
        CacheMountClaim::Held(mount) => Some(mount),
        CacheMountClaim::Busy { holder, importing } => {
            assert_eq!((holder, importing), (Some(std::process::id()), false));
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
    let apt = info.iter().find(|info| info.id.as_deref() == Some("apt") && info.base.is_none()).expect("known");
    assert_eq!((apt.uses, apt.in_use), (4, false));
    assert!(info.iter().any(|info| info.base.is_some() && info.in_use));
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

#[test]
fn readers_share_and_wait_for_who_has_it_alone() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = open(dir.path());
    let user = held(&store, "e", Sharing::Shared);
    let name = user.name().to_owned();
    let read = || store.read_cache_mount(&name).expect("asked");
    let CacheMountReading::Held(reader) = read() else { panic!("shared") };
    assert!(!store.remove_cache_mount(&name).expect("asked"));
    assert!(claim(&store, &key("e"), Sharing::Locked).is_none());
    drop((user, reader));
    let alone = held(&store, "e", Sharing::Locked);
    assert!(matches!(read(), CacheMountReading::Busy { holder: Some(id) } if id == std::process::id()));
    drop(alone);
    assert!(store.remove_cache_mount(&name).expect("removed"));
    assert!(matches!(read(), CacheMountReading::Gone));
    assert!(matches!(store.read_cache_mount("../x").expect("asked"), CacheMountReading::Gone));
}

#[test]
fn a_successor_takes_the_place_or_leaves_it_as_it_was() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = open(dir.path());
    let bucket = dir.path().join("cache-mounts-user-v1");
    let names = || fs::read_dir(&bucket).expect("there").count();
    fs::write(held(&store, "i", Sharing::Shared).dir().join("old"), "1").expect("written");
    // Another instance, which is younger and stays the second choice.
    let (first, second) = (held(&store, "i", Sharing::Locked), held(&store, "i", Sharing::Private));
    let younger = second.name().to_owned();
    drop((first, second));

    let mut old = held(&store, "i", Sharing::Locked);
    old.announce_import();
    let other = held(&store, "i", Sharing::Private);
    for sharing in [Sharing::Shared, Sharing::Private, Sharing::Locked] {
        let claimed = store.claim_cache_mount::<Error>(&key("i"), sharing, |_| Ok(())).expect("asked");
        assert!(matches!(claimed, CacheMountClaim::Busy { importing: true, .. }), "{sharing:?}: {claimed:?}");
    }
    drop(other);
    let abandoned = old.successor().expect("begun");
    fs::write(abandoned.dir().join("half"), "").expect("written");
    assert_eq!((names(), store.cache_mounts().expect("listed").len()), (3, 2));
    store.sweep().expect("swept");
    assert!(abandoned.dir().join("half").exists(), "it is being made");
    drop(abandoned);
    assert_eq!(names(), 2);

    let next = old.successor().expect("begun");
    fs::write(next.dir().join("new"), "1").expect("written");
    let new = next.publish(Some(old), "i").expect("published");
    assert!(new.dir().join("new").exists() && new.notes().is_none());
    new.set_notes(b"noted").expect("written");
    assert_eq!(new.notes().as_deref(), Some(&b"noted"[..]));
    assert_eq!(names(), 2, "the old one is gone");
    drop(new);
    let found = held(&store, "i", Sharing::Shared);
    assert!(found.dir().join("new").exists() && !found.dir().join("old").exists() && found.name() != younger);
    assert_eq!(store.cache_mounts().expect("listed").iter().filter(|info| info.id.as_deref() == Some("i")).count(), 2);
}

#[test]
fn a_new_one_is_there_when_it_is_whole_and_is_the_first_choice() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = open(dir.path());
    let new = store.new_cache_mount(&key("n")).expect("begun");
    fs::write(new.dir().join("warm"), "").expect("written");
    assert!(store.cache_mounts().expect("listed").is_empty());
    // A build that did not wait.
    let cold = held(&store, "n", Sharing::Shared).name().to_owned();
    let name = new.publish(None, "n").expect("published").name().to_owned();
    let found = held(&store, "n", Sharing::Locked);
    assert!(found.name() == name && name != cold && found.dir().join("warm").exists());
}

#[test]
fn keys_are_known_by_what_names_tell_of_them() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = open(dir.path());
    let based = CacheMountKey { id: "k".into(), base: Some(Digest::of("base")) };
    drop(claim(&store, &based, Sharing::Shared));
    let info = store.cache_mounts().expect("listed").remove(0);
    let again = CacheMountKey::from_name("k", info.base.as_deref()).expect("a key");
    assert_eq!(claim(&store, &again, Sharing::Shared).expect("free").name(), info.name);
    for wrong in ["", "../../x", "0123456789abcdef0123456789abcde", "0123456789ABCDEF0123456789ABCDEF"] {
        assert!(CacheMountKey::from_name("k", Some(wrong)).is_err(), "{wrong}");
    }
}
