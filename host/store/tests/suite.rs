//! Blobs, snapshots, names, cache, damage, two processes.
use std::io::Write;
use std::path::Path;

use oci_spec::image::{Descriptor, MediaType};
use rhost_llb::{BlobDigest, ChainId, DiffId, Digest};
use rhost_solver::{CacheStore, Link};
use rhost_store::{BlobRecord, DurableCache, Error, PruneOptions, ResultCodec, SnapshotId, Store};

use crate::support::open;

fn store() -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    (dir, store)
}

#[test]
fn blobs_are_checked_and_damage_is_a_miss() {
    let (_dir, store) = store();
    let digest = store.put_blob(b"hello").unwrap();
    assert_eq!(store.read_blob(&digest, 100).unwrap().unwrap(), b"hello");
    assert!(matches!(store.read_blob(&digest, 2), Err(Error::TooLarge { .. })));
    assert_eq!(store.blob_size(&digest), Some(5));
    std::fs::write(store.blob_path(&digest), "hellO").unwrap();
    assert!(!store.verify_blob(&digest).unwrap());
    assert_eq!(store.read_blob(&digest, 100).unwrap(), None);
    assert_eq!(store.put_blob(b"hello").unwrap(), digest);
    let wrong = BlobDigest(Digest::of("other"));
    let mut writer = store.blob_writer().unwrap();
    writer.write_all(b"hello").unwrap();
    assert!(matches!(writer.commit(Some(wrong)), Err(Error::DigestMismatch { .. })));
    assert_eq!(std::fs::read_dir(store.root().join("ingest-v1")).unwrap().count(), 0);
    assert!(store.layout_dir().join("oci-layout").is_file());
}

#[test]
fn a_download_is_resumed() {
    let (_dir, store) = store();
    let digest = BlobDigest(Digest::of("first half, second half"));
    let mut writer = store.resume_blob(&digest).unwrap();
    writer.write_all(b"first half").unwrap();
    drop(writer);
    let mut writer = store.resume_blob(&digest).unwrap();
    assert_eq!(writer.size(), 10);
    writer.write_all(b", second half").unwrap();
    assert_eq!(writer.commit(Some(digest)).unwrap(), (digest, 23));
    // A part that is damaged is thrown away with the mismatch it causes.
    let mut writer = store.resume_blob(&wrong_digest()).unwrap();
    writer.write_all(b"rubbish").unwrap();
    drop(writer);
    let writer = store.resume_blob(&wrong_digest()).unwrap();
    assert!(writer.commit(Some(wrong_digest())).is_err());
    assert_eq!(store.resume_blob(&wrong_digest()).unwrap().size(), 0);
    store.forget_partial(&wrong_digest()).unwrap();
}

fn wrong_digest() -> BlobDigest {
    BlobDigest(Digest::of("never there"))
}

fn layer(store: &Store, parent: Option<SnapshotId>, name: &str) -> SnapshotId {
    let active = store.prepare(parent).unwrap();
    std::fs::write(active.upper().join(name), name).unwrap();
    active.commit().unwrap()
}

#[test]
fn snapshots_stack_topmost_first() {
    let (_dir, store) = store();
    let base = layer(&store, None, "base");
    let middle = layer(&store, Some(base), "middle");
    let active = store.prepare(Some(middle)).unwrap();
    assert!(!active.upper().with_file_name("work").exists(), "for those who mount it");
    let spec = active.mount().unwrap();
    assert_eq!(spec.lowers.len(), 2);
    assert!(spec.lowers[0].join("middle").exists() && spec.lowers[1].join("base").exists());
    assert!(spec.userxattr && spec.upper.is_some() && spec.work.as_ref().unwrap().is_dir());
    let dir = active.upper();
    drop(active);
    assert!(!dir.exists(), "dropped without commit");
    assert_eq!(store.mount(middle).unwrap().unwrap().lowers.len(), 2);
    assert_eq!(store.snapshot(middle).unwrap().unwrap().parent, Some(base));
    // The layer below is gone: everything above is a miss, not an error.
    store.remove_snapshot(base).unwrap();
    assert_eq!(store.mount(middle).unwrap(), None);
    assert!(matches!(store.prepare(Some(middle)), Err(Error::NoSnapshot { .. })));
}

/// Lays down the layer of `id`, which is not there yet.
fn lay_down(store: &Store, id: SnapshotId, name: &str) {
    let writer = store.lay_down(id).unwrap();
    std::fs::write(writer.dir().join(name), name).unwrap();
    writer.publish().unwrap();
}

#[test]
fn image_layers_are_recorded_first_and_laid_down_later() {
    let (dir, store) = store();
    let (diffs, other) = ([DiffId(Digest::of("a")), DiffId(Digest::of("b"))], DiffId(Digest::of("c")));
    let chain = ChainId::of(&diffs).unwrap();
    let top = store.declare_image(&diffs).unwrap().unwrap();
    assert_eq!(store.declare_image(&diffs).unwrap(), Some(top), "the same image is the same snapshot");
    assert_eq!(store.declare_image(&[]).unwrap(), None);
    let sibling = store.declare_image(&[diffs[0], other]).unwrap().unwrap();
    let records = store.records(top).unwrap().unwrap();
    assert_eq!(records.iter().map(|r| r.diff_id).collect::<Vec<_>>(), [Some(diffs[1]), Some(diffs[0])]);
    assert_eq!(store.records(sibling).unwrap().unwrap()[1].id, records[1].id, "the base is shared");
    assert!(records.iter().all(|r| !r.is_present()));
    assert_eq!((store.mount(top).unwrap(), store.snapshot_of_chain(&chain).unwrap()), (None, None));
    assert_eq!(store.sweep().unwrap(), 0);
    // Two at once: one of them is kept, nothing is left of the other.
    let (one, two) = (store.lay_down(top).unwrap(), store.lay_down(top).unwrap());
    std::fs::write(one.dir().join("f"), "one").unwrap();
    one.publish().unwrap();
    two.publish().unwrap();
    lay_down(&store, records[1].id, "g");
    let spec = store.mount(top).unwrap().unwrap();
    assert_eq!(std::fs::read_to_string(spec.lowers[0].join("f")).unwrap(), "one");
    assert_eq!(store.snapshot_of_chain(&chain).unwrap(), Some(top));
    assert_eq!(std::fs::read_dir(dir.path().join("snapshots-user-v1")).unwrap().count(), 2);
    // The directory disappears, or half of it: it can be laid down again.
    std::fs::remove_dir_all(&records[0].dir).unwrap();
    assert_eq!(store.mount(top).unwrap(), None);
    lay_down(&store, top, "f");
    assert!(store.mount(top).unwrap().is_some());
    // A base that was removed is recorded anew, and what stood on it moves there.
    store.remove_snapshot(records[1].id).unwrap();
    assert_eq!(store.records(top).unwrap(), None);
    assert_eq!(store.declare_image(&diffs).unwrap(), Some(top));
    assert!(!store.records(top).unwrap().unwrap()[1].is_present());
}

#[test]
fn layers_are_stacked_without_copying() {
    let (dir, store) = store();
    let base = layer(&store, None, "base");
    let low = layer(&store, None, "low");
    let high = layer(&store, Some(low), "high");
    let merged = store.stack(Some(base), &[low, high]).unwrap().unwrap();
    let spec = store.mount(merged).unwrap().unwrap();
    let names = |lowers: &[std::path::PathBuf]| -> Vec<String> {
        let first = |dir: &std::path::PathBuf| std::fs::read_dir(dir).unwrap().next().unwrap().unwrap();
        lowers.iter().map(|dir| first(dir).file_name().into_string().unwrap()).collect()
    };
    assert_eq!(names(&spec.lowers), ["high", "low", "base"]);
    assert_eq!(store.stack(Some(base), &[low, high]).unwrap(), Some(merged), "asked again, the same");
    assert_eq!(store.stack(Some(base), &[]).unwrap(), Some(base));
    assert_eq!(store.stack(None, &[low]).unwrap(), Some(low), "it stands there already");
    let apart = store.stack(None, &[high]).unwrap().unwrap();
    assert_eq!(names(&store.mount(apart).unwrap().unwrap().lowers), ["high"]);
    assert_eq!(std::fs::read_dir(dir.path().join("snapshots-user-v1")).unwrap().count(), 3);
    // What is known of a layer is known wherever it is.
    let diff = DiffId(Digest::of("high"));
    store.set_diff_id(high, diff).unwrap();
    assert_eq!(store.snapshot(merged).unwrap().unwrap().diff_id, Some(diff));
    // The directory goes with the last that has it.
    store.remove_snapshot(high).unwrap();
    assert!(store.mount(merged).unwrap().is_some());
    store.remove_snapshot(apart).unwrap();
    store.remove_snapshot(merged).unwrap();
    assert_eq!(std::fs::read_dir(dir.path().join("snapshots-user-v1")).unwrap().count(), 2);
    assert!(matches!(store.stack(None, &[high]), Err(Error::NoSnapshot { .. })));
}

#[test]
fn a_stacked_image_layer_knows_its_image() {
    let (_dir, store) = store();
    let base = layer(&store, None, "base");
    let diffs = [DiffId(Digest::of("a")), DiffId(Digest::of("b"))];
    let image = store.declare_image(&diffs).unwrap().unwrap();
    let merged = store.stack(Some(base), &[image]).unwrap().unwrap();
    assert_eq!(store.origin(merged).unwrap(), image);
    assert_eq!(store.origin(base).unwrap(), base);
    lay_down(&store, merged, "f");
    assert!(store.records(image).unwrap().unwrap()[0].is_present(), "one directory");
    // The image is recorded anew right where its layer was stacked.
    let low = store.records(image).unwrap().unwrap()[1].id;
    store.remove_snapshot(low).unwrap();
    let low = store.declare_image(&diffs[..1]).unwrap().unwrap();
    let other = store.stack(Some(low), &[image]).unwrap().unwrap();
    assert_ne!(other, image);
    assert_eq!(store.declare_image(&diffs).unwrap(), Some(other));
    assert_eq!(store.origin(merged).unwrap(), other);
}

#[test]
fn layers_know_their_blobs() {
    let (_dir, store) = store();
    let diff = DiffId(Digest::of("layer"));
    let digest = store.put_blob(b"compressed").unwrap();
    let record = BlobRecord { digest, size: 10, media_type: "application/vnd.oci.image.layer.v1.tar+gzip".into() };
    store.link_blob(&diff, &record).unwrap();
    assert_eq!(store.blobs_of(&diff).unwrap(), [record]);
    assert_eq!(store.diff_id_of(&digest).unwrap(), Some(diff));
    store.remove_blob(&digest).unwrap();
    assert!(store.blobs_of(&diff).unwrap().is_empty());
    let id = layer(&store, None, "x");
    store.set_diff_id(id, diff).unwrap();
    assert_eq!(store.snapshot(id).unwrap().unwrap().diff_id, Some(diff));
}

#[test]
fn names_of_images() {
    let (_dir, store) = store();
    let digest = store.put_blob(b"{}").unwrap();
    let descriptor = |d: &BlobDigest| {
        Descriptor::new(MediaType::ImageManifest, 2, d.to_string().parse::<oci_spec::image::Digest>().unwrap())
    };
    store.tag("b/app:1", &descriptor(&digest)).unwrap();
    store.tag("a/app:1", &descriptor(&digest)).unwrap();
    store.tag("c/gone:1", &descriptor(&wrong_digest())).unwrap();
    let names: Vec<_> = store.images().unwrap().into_iter().map(|i| i.name).collect();
    assert_eq!(names, ["a/app:1", "b/app:1"]);
    assert_eq!(store.image("a/app:1").unwrap().unwrap().descriptor, descriptor(&digest));
    assert_eq!(store.image("c/gone:1").unwrap(), None);
    assert!(store.untag("a/app:1").unwrap());
    assert!(!store.untag("a/app:1").unwrap());
}

/// Results are snapshots, by number.
struct Snapshots(Store);

impl ResultCodec<SnapshotId> for Snapshots {
    fn kind(&self) -> &str {
        "snapshot-1"
    }
    fn encode(&self, value: &SnapshotId) -> Option<Vec<u8>> {
        Some(value.0.to_le_bytes().to_vec())
    }
    fn decode(&self, bytes: &[u8]) -> Option<SnapshotId> {
        let id = SnapshotId(i64::from_le_bytes(bytes.try_into().ok()?));
        self.0.chain(id).ok()??;
        Some(id)
    }
    fn snapshot(&self, bytes: &[u8]) -> Option<SnapshotId> {
        Some(SnapshotId(i64::from_le_bytes(bytes.try_into().ok()?)))
    }
}

fn link(input: u32, selector: Option<&str>) -> Link {
    Link { from: Digest::of("from"), input, output: Digest::of("output"), selector: selector.map(Digest::of) }
}

#[test]
fn cache_records_outlive_the_store_and_die_with_their_snapshot() {
    let (dir, store) = store();
    let id = layer(&store, None, "x");
    let key = Digest::of("key");
    DurableCache::new(store.clone(), Snapshots(store.clone())).save(key, &[link(0, None), link(1, Some("s"))], &id);
    drop(store);
    let store = open(dir.path());
    let cache = DurableCache::new(store.clone(), Snapshots(store.clone()));
    assert_eq!(cache.follow(&link(0, None)), [key]);
    assert_eq!(cache.follow(&link(1, Some("s"))), [key]);
    assert!(cache.follow(&link(1, None)).is_empty());
    assert!(cache.has(key));
    assert_eq!(cache.load(key), Some(id));
    cache.save(Digest::of("key2"), &[link(0, None)], &id);
    assert_eq!(cache.follow(&link(0, None)).len(), 2);
    store.remove_snapshot(id).unwrap();
    assert!(!cache.has(key));
    assert_eq!(cache.load(key), None);
}

#[test]
fn damaged_records_are_set_aside() {
    for damage in [&b"this is no database, it only looks like one file"[..], b"", b"SQLite format 3\0 and then rubbish"]
    {
        let (dir, store) = store();
        let digest = store.put_blob(b"kept").unwrap();
        layer(&store, None, "x");
        drop(store);
        for suffix in ["-wal", "-shm"] {
            let _ = std::fs::remove_file(dir.path().join(format!("records-v3.sqlite{suffix}")));
        }
        std::fs::write(dir.path().join("records-v3.sqlite"), damage).unwrap();
        let store = open(dir.path());
        assert_eq!(store.read_blob(&digest, 10).unwrap().unwrap(), b"kept");
        assert!(store.images().unwrap().is_empty());
        layer(&store, None, "y");
        assert_eq!(store.sweep().unwrap(), 1, "the snapshot that nobody remembers");
    }
}

#[test]
fn records_damaged_in_the_middle_become_misses() {
    let (dir, store) = store();
    let value = vec![7; 900];
    for at in 0..200u32 {
        store.set_fact("kind", &at.to_le_bytes(), &value).unwrap();
    }
    drop(store);
    let path = dir.path().join("records-v3.sqlite");
    let mut bytes = std::fs::read(&path).unwrap();
    for page in bytes.chunks_mut(4096).skip(1) {
        page[..64].fill(0xa5);
    }
    std::fs::write(&path, &bytes).unwrap();
    let store = open(dir.path());
    for at in 0..200u32 {
        store.fact("kind", &at.to_le_bytes()).unwrap();
    }
    store.set_fact("kind", b"new", b"works").unwrap();
    assert_eq!(store.fact("kind", b"new").unwrap().unwrap(), b"works");
}

#[test]
fn locks_exclude_and_leases_share() {
    let (_dir, store) = store();
    let other = open(store.root());
    let lock = store.lock("../../odd name").unwrap();
    assert!(other.try_lock("../../odd name").unwrap().is_none());
    drop(lock);
    let (_a, _b) = (store.lease("x").unwrap(), other.lease("x").unwrap());
    assert!(other.try_lock("x").unwrap().is_none());
}

#[test]
fn a_sweep_spares_what_is_being_written() {
    let (_dir, store) = store();
    let active = store.prepare(None).unwrap();
    let bucket = active.upper().parent().unwrap().parent().unwrap().to_path_buf();
    std::fs::create_dir_all(bucket.join("tmp-left-by-a-crash/fs")).unwrap();
    assert_eq!(open(store.root()).sweep().unwrap(), 1);
    assert!(active.upper().is_dir());
    let id = active.commit().unwrap();
    assert_eq!(store.sweep().unwrap(), 0);
    assert!(store.mount(id).unwrap().is_some());
}

const CHILD: &str = "RHOST_STORE_TEST_CHILD";

/// The second process of `two_processes_at_once`: does nothing unless it is told where.
#[test]
fn child_process() {
    if let Some(root) = std::env::var_os(CHILD) {
        work(Path::new(&root));
    }
}

fn work(root: &Path) {
    let store = open(root);
    for at in 0..60u32 {
        let text = format!("blob {at}");
        let digest = store.put_blob(text.as_bytes()).unwrap();
        assert_eq!(store.read_blob(&digest, 100).unwrap().unwrap(), text.as_bytes());
        let diff = DiffId(digest.0);
        let id = store.declare_image(&[diff]).unwrap().unwrap();
        if store.mount(id).unwrap().is_none() {
            store.lay_down(id).unwrap().publish().unwrap();
        }
        assert!(store.mount(id).unwrap().is_some());
        DurableCache::new(store.clone(), Snapshots(store.clone())).save(digest.0, &[link(at, None)], &id);
    }
}

#[test]
fn two_processes_at_once() {
    let (dir, store) = store();
    let children: Vec<_> = (0..3)
        .map(|_| {
            std::process::Command::new(std::env::current_exe().unwrap())
                .args(["--exact", "suite::child_process", "--nocapture"])
                .env(CHILD, dir.path())
                .spawn()
                .unwrap()
        })
        .collect();
    work(dir.path());
    for mut child in children {
        assert!(child.wait().unwrap().success());
    }
    let cache = DurableCache::new(store.clone(), Snapshots(store.clone()));
    for at in 0..60 {
        let keys = cache.follow(&link(at, None));
        assert_eq!(keys.len(), 1);
        assert!(cache.has(keys[0]));
    }
    store.sweep().unwrap();
    let bucket = dir.path().join("snapshots-user-v1");
    assert_eq!(std::fs::read_dir(bucket).unwrap().count(), 60, "each layer once");
}

#[test]
fn work_is_held_by_one_heard_by_others_and_given_back() {
    let (dir, store) = store();
    let other = open(dir.path());
    let work = store.try_work("step 1").unwrap().expect("free");
    assert!(other.try_work("step 1").unwrap().is_none(), "held");
    assert!(other.try_work("step 2").unwrap().is_some(), "another");
    work.say(1, b"out");
    work.say(2, b"err");
    let mut heard = other.others_work("step 1").unwrap().expect("somebody does it");
    assert_eq!(heard.heard().unwrap(), [(1, b"out".to_vec()), (2, b"err".to_vec())]);
    assert!(!heard.is_over().unwrap() && heard.heard().unwrap().is_empty());
    work.say(1, &vec![7; 3 << 20]);
    assert_eq!(heard.heard().unwrap().iter().map(|(_, bytes)| bytes.len()).sum::<usize>(), 3 << 20);
    drop(work);
    assert!(heard.is_over().unwrap());
    assert!(other.others_work("step 1").unwrap().is_none(), "nobody does it");
    // What a killed holder left is emptied by the next.
    let path = {
        other.try_work("step 1").unwrap().expect("free");
        store.root().join("work-v1")
    };
    assert_eq!(std::fs::read_dir(&path).unwrap().count(), 0);
    std::fs::write(path.join(Digest::of("step 1").hex()), "\u{1}rest of a killed build").unwrap();
    assert!(store.others_work("step 1").unwrap().expect("its file").is_over().unwrap());
    let _held = store.try_work("step 1").unwrap().expect("handed over");
    assert!(other.others_work("step 1").unwrap().expect("held").heard().unwrap().is_empty());
}

#[test]
fn a_prune_takes_leaves_by_age_and_nothing_that_is_in_use() {
    let (dir, store) = store();
    let (build, other) = (store.for_build(), open(dir.path()));
    let base = layer(&build, None, "base");
    let top = layer(&build, Some(base), "top");
    let digest = build.put_blob(b"a blob").unwrap();
    let all = PruneOptions { all: true, ..PruneOptions::default() };
    let prune = |options: &PruneOptions| {
        let mut gone = Vec::new();
        other.prune(options, &mut |pruned| gone.push(pruned.record.id)).unwrap();
        gone
    };
    assert_eq!(prune(&all), Vec::<String>::new(), "a build has it all in use");
    assert!(build.remember_uses());
    drop(build);
    let usage = other.disk_usage().unwrap();
    assert_eq!(usage.len(), 3);
    assert!(usage.iter().all(|record| record.size >= 4096 && record.uses == 1 && !record.in_use), "{usage:?}");
    // Somebody uses only the base: the top goes, the base stays.
    let another = store.for_build();
    assert!(another.records(base).unwrap().is_some());
    let dry = PruneOptions { dry_run: true, ..all.clone() };
    assert_eq!(prune(&dry).len(), 2);
    assert_eq!(prune(&all).len(), 2);
    assert!(store.snapshot_ids().unwrap() == [base].into() && store.blob_size(&digest).is_none());
    assert!(store.snapshot(top).unwrap().is_none());
    // It died: what it used is free, and what it left is cleared away once.
    std::mem::forget(another.clone());
    let abandoned = std::fs::read_dir(dir.path().join("uses-v1")).unwrap().next().unwrap().unwrap().path();
    assert_eq!(prune(&all), Vec::<String>::new());
    drop(another);
    std::fs::copy(&abandoned, abandoned.with_extension("dead")).unwrap();
    assert!(store.recover().unwrap() && !store.recover().unwrap());
}

#[test]
fn crashes_are_swept_and_what_is_written_now_is_not() {
    let (dir, store) = store();
    let mut writer = store.blob_writer().unwrap();
    writer.write_all(b"being written").unwrap();
    let active = store.prepare(None).unwrap();
    let files = store.build_files().unwrap();
    for rubbish in ["ingest-v1/tmp-1-2-3", "work-v1/0123", "locks-v1/4567", "uses-v1/tmp-1-2-4"] {
        std::fs::write(dir.path().join(rubbish), "rest").unwrap();
    }
    std::fs::create_dir_all(dir.path().join("snapshots-user-v1/tmp-1-2-5/fs/deep")).unwrap();
    std::fs::create_dir_all(dir.path().join("build-files-v1/tmp-1-2-6")).unwrap();
    let aside = store.put_blob(b"was being collected").unwrap();
    let name = format!("aside-{}", aside.0.hex());
    std::fs::rename(store.blob_path(&aside), dir.path().join("ingest-v1").join(name)).unwrap();
    assert!(store.sweep().unwrap() >= 6);
    assert_eq!(store.blob_size(&aside), Some(19), "put back");
    assert_eq!(store.sweep().unwrap(), 0);
    writer.commit(None).unwrap();
    assert!(active.upper().is_dir() && files.path().is_dir());
    active.commit().unwrap();
}
