//! What is made straight in a layer is what would be made in a mounted view.
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::Path;

use rhost_llb::{ChownOpt, FileActionSymlink, FileStep, UserOpt, VertexOptions};
use rhost_rootfs::{OwnerPolicy, Tree};

use super::tests::{files, mkdir, mkfile, rm, room};
use crate::value::Value;

/// Everything below `at`. Times that a step gave are long ago, all others are the clock's.
fn describe(at: &Path, below: &str, found: &mut Vec<String>) {
    let mut entries: Vec<_> = fs::read_dir(at).unwrap().map(Result::unwrap).collect();
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let (stat, name) = (entry.metadata().unwrap(), format!("{below}/{}", entry.file_name().display()));
        let kind = stat.file_type();
        let what = match () {
            () if kind.is_symlink() => format!("-> {}", fs::read_link(entry.path()).unwrap().display()),
            () if kind.is_file() => format!("{:?}", fs::read_to_string(entry.path()).unwrap()),
            () if kind.is_char_device() => "removed".into(),
            () => String::new(),
        };
        let time = if stat.mtime() < 1_000_000_000 { stat.mtime() } else { -1 };
        found.push(format!("{name} {:o} {}:{} {time} {what}", stat.permissions().mode(), stat.uid(), stat.gid()));
        if kind.is_dir() {
            describe(&entry.path(), &name, found);
        }
    }
}

/// Layers with all that can be in the way.
fn base() -> Vec<Vec<FileStep>> {
    let link = |old: &str, new: &str| {
        FileStep::Symlink(FileActionSymlink {
            old_path: old.into(),
            new_path: new.into(),
            owner: None,
            timestamp: 5_000_000_000,
        })
    };
    let owned = |path: &str| {
        let FileStep::MkDir(mut dir) = mkdir(path) else { unreachable!() };
        dir.mode = 0o750;
        dir.owner = Some(ChownOpt { user: Some(UserOpt::ById(7)), group: Some(UserOpt::ById(8)) });
        FileStep::MkDir(dir)
    };
    vec![
        vec![
            owned("/d"),
            mkfile("/d/a", "a"),
            mkdir("/d/e"),
            mkfile("/f", "f"),
            mkdir("/gone/below"),
            mkdir("/again/old"),
        ],
        vec![link("/d", "/l"), rm("/gone"), rm("/again"), rm("/d/a"), mkdir("/only"), mkfile("/only/here", "x")],
        vec![mkdir("/again"), mkdir("/d/e/g"), link("nowhere", "/dangling")],
    ]
}

#[test]
fn what_is_made_without_a_mount_is_what_is_made_with_one() {
    let Some(room) = room() else { return };
    let layers = base();
    let paths = [
        "/n",
        "/n/m",
        "/d/n",
        "/d/a",
        "/d/a/n",
        "/d/e/n",
        "/d/e/g/n/m",
        "/l/n",
        "/gone",
        "/gone/n",
        "/gone/below/n",
        "/again/old",
        "/again/n",
        "/f/n",
        "/f",
        "/dangling/n",
        "/dangling",
        "/d/../n",
        "/l/../n",
        "/only/n",
        "/",
        "/d",
    ];
    let Value::Snapshot(top) = room.build(|b| layers.iter().fold(None, |at, layer| Some(files(b, at, layer.clone()))))
    else {
        panic!("no snapshot")
    };
    let lowers = room.shared.store.mount(top).unwrap().unwrap().lowers;
    let scratch = tempfile::tempdir().unwrap();
    let needs_no_mount = |path: &&str| {
        let upper = scratch.path().join(path.replace('/', "-"));
        fs::create_dir(&upper).unwrap();
        let root = rhost_rootfs::Root::open(&upper).unwrap();
        let free = rhost_rootfs::way_without_mount(&root, &lowers, path, OwnerPolicy::Exact).unwrap();
        assert!(free || fs::read_dir(&upper).unwrap().next().is_none(), "{path}: something is left");
        free
    };
    let free: Vec<&str> = paths.into_iter().filter(needs_no_mount).collect();
    assert_eq!(free, ["/n", "/n/m", "/d/n", "/d/e/n", "/d/e/g/n/m", "/only/n"]);
    for path in paths {
        let symlink = FileStep::Symlink(FileActionSymlink {
            old_path: "anywhere".into(),
            new_path: path.into(),
            owner: None,
            timestamp: 5_000_000_000,
        });
        let FileStep::MkDir(mut alone) = mkdir(path) else { unreachable!() };
        alone.make_parents = false;
        for step in [mkdir(path), FileStep::MkDir(alone), mkfile(path, "new"), symlink] {
            // The second step does nothing, and takes the way of those that need a view.
            let made = [vec![step.clone()], vec![step, rm("/there/is/no/such/file")]].map(|steps| {
                let solved = room.try_build(|b| {
                    let mut at = None;
                    for layer in &layers {
                        at = Some(files(b, at, layer.clone()));
                    }
                    Some(b.file(rhost_llb::FileChain { base: at, steps }, &VertexOptions::default()).unwrap())
                });
                match solved {
                    Ok(Value::Snapshot(id)) => {
                        let chain = room.shared.store.chain(id).unwrap().unwrap();
                        let mut found = Vec::new();
                        describe(&chain[0].dir, "", &mut found);
                        let opaque =
                            |dir: &Path| rustix::fs::getxattr(dir, "trusted.overlay.opaque", &mut [0u8; 8][..]).is_ok();
                        found.push(format!("again is opaque: {}", opaque(&chain[0].dir.join("again"))));
                        let view = Tree::of_root(room.shared.view(id).unwrap()).entries().unwrap();
                        let told = view
                            .into_iter()
                            .map(|entry| (entry.path, entry.stat.kind, entry.stat.mode, entry.stat.owner));
                        Ok((found, told.collect::<Vec<_>>()))
                    }
                    Ok(_) => panic!("no snapshot"),
                    Err(error) => Err(error),
                }
            });
            assert_eq!(made[0], made[1], "{path}");
        }
    }
}
