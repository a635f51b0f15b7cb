//! COPY of a context that has hardly changed: what is the same is one file with two names, and nobody can tell.
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rhost_llb::{CopyFrom, FileActionCopy, FileStep, SourceOp, SourceScheme, VertexOptions};

use super::tests::{Room, files, mkdir, mkfile, room};
use crate::value::Value;

const FILES: usize = 100;

/// The topmost layer of `COPY . dest` on a base that has `/app`.
fn copied(room: &Room, dest: &str) -> PathBuf {
    let plain = VertexOptions::default();
    let built = room.build(|b| {
        let base = files(b, None, vec![mkdir("/app"), mkfile("/app/sub-0", "in the way of nothing")]);
        let context = b.source(SourceOp::new(SourceScheme::Local, "ctx"), &plain).unwrap();
        let copy = FileActionCopy {
            src: "/".into(),
            dest: dest.into(),
            mode: -1,
            dir_copy_contents: true,
            create_dest_path: true,
            timestamp: -1,
            ..FileActionCopy::default()
        };
        let steps = vec![FileStep::Copy { from: CopyFrom::State(Some(context)), copy }];
        Some(b.file(rhost_llb::FileChain { base: Some(base), steps }, &plain).unwrap())
    });
    let Value::Snapshot(id) = built else { panic!("no snapshot") };
    room.shared.store.chain(id).unwrap().unwrap()[0].dir.clone()
}

fn inode(path: &Path) -> u64 {
    fs::symlink_metadata(path).unwrap().ino()
}

fn taken(room: &Room) -> (u64, u64) {
    let told = room.shared.store.disk_usage().unwrap().iter().map(|record| record.size).sum();
    let bucket = room.shared.store.root().join("snapshots-v1");
    let found = std::process::Command::new("du").args(["-s", "-B1"]).arg(&bucket).output().unwrap();
    let found = String::from_utf8(found.stdout).unwrap().split_whitespace().next().unwrap().parse::<u64>().unwrap();
    // `du` counts the bucket itself; the parts of a file are rounded down.
    (told, found - fs::metadata(&bucket).unwrap().blocks() * 512)
}

#[test]
fn files_that_are_the_same_are_linked_and_all_others_copied() {
    for dest in ["/new/place", "/app"] {
        let Some(room) = room() else { return };
        let context = room.shared.locals["ctx"].clone();
        for file in 0..FILES {
            let directory = context.join(format!("dir-{}/below", file % 5));
            fs::create_dir_all(&directory).unwrap();
            fs::write(directory.join(format!("file-{file}")), format!("content {file} {}", "x".repeat(5000))).unwrap();
        }
        let path = |file: usize| format!("{}/dir-{}/below/file-{file}", &dest[1..], file % 5);
        let source = |file: usize| context.join(format!("dir-{}/below/file-{file}", file % 5));
        let first = copied(&room, dest);
        let old = inode(&first.join(path(0)));
        // Other bytes of the same length, another mode, another time, a file that takes another's place, one that is new, one that is gone.
        let time = fs::metadata(source(1)).unwrap().modified().unwrap();
        fs::write(source(1), format!("CONTENT 1 {}", "x".repeat(5000))).unwrap();
        fs::File::options().write(true).open(source(1)).unwrap().set_modified(time).unwrap();
        fs::set_permissions(source(2), PermissionsExt::from_mode(0o755)).unwrap();
        let later = SystemTime::UNIX_EPOCH + Duration::new(1_000_000, 5);
        fs::File::options().write(true).open(source(3)).unwrap().set_modified(later).unwrap();
        fs::rename(source(9), source(4)).unwrap();
        fs::copy(source(5), context.join("dir-0/below/one-more")).unwrap();
        let second = copied(&room, dest);
        assert_ne!(first, second);
        let changed = [1, 2, 3, 4, 9];
        for file in (0..FILES).filter(|file| *file != 9) {
            let (before, after) = (first.join(path(file)), second.join(path(file)));
            let linked = inode(&before) == inode(&after);
            assert_eq!(linked, !changed.contains(&file), "{dest}: file {file}");
            assert_eq!(fs::read(&after).unwrap(), fs::read(source(file)).unwrap(), "file {file}");
            let (made, wanted) = (fs::metadata(&after).unwrap(), fs::metadata(source(file)).unwrap());
            let told = |stat: &fs::Metadata| (stat.mode(), stat.mtime(), stat.mtime_nsec(), stat.len());
            assert_eq!(told(&made), told(&wanted), "file {file}");
        }
        assert!(!second.join(path(9)).exists() && second.join(format!("{}/dir-0/below/one-more", &dest[1..])).exists());
        assert!(fs::read_to_string(first.join(path(1))).unwrap().starts_with("content"), "the earlier layer stays");
        // A third time: from the second. What the disk really has is told, before and after one of them goes.
        fs::write(source(0), "short").unwrap();
        let third = copied(&room, dest);
        assert_eq!(inode(&second.join(path(2))), inode(&third.join(path(2))));
        assert_eq!((inode(&second.join(path(0))) == old, inode(&third.join(path(0))) == old), (true, false));
        let close = |(told, found): (u64, u64)| assert!(told.abs_diff(found) < 10_000, "{told} told, {found} found");
        close(taken(&room));
        for layer in [&first, &second] {
            let id = room.shared.store.disk_usage().unwrap();
            let gone = id.iter().find(|record| {
                let id = rhost_store::SnapshotId(record.id.parse().unwrap_or(-1));
                room.shared.store.snapshot(id).ok().flatten().is_some_and(|info| info.dir == *layer)
            });
            room.shared.store.remove_snapshot(rhost_store::SnapshotId(gone.unwrap().id.parse().unwrap())).unwrap();
            assert!(!layer.exists());
            close(taken(&room));
        }
        assert_eq!(fs::read(third.join(path(7))).unwrap(), fs::read(source(7)).unwrap(), "what is left is whole");
        // What was remembered names a result that is gone.
        fs::write(source(0), "again").unwrap();
        assert!(room.shared.store.remove_snapshot(rhost_store::SnapshotId(-5)).is_ok());
        let fourth = copied(&room, dest);
        assert_eq!(inode(&fourth.join(path(7))), inode(&third.join(path(7))));
    }
}
