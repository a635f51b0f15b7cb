//! Copies: where things land, what they keep.
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rhost_rootfs::{Copy, CopyMode, Error, Filter, ModeChange, Modes, Owner, Source, Tree, copy};

use crate::support::{copy_options, dir, file, link, list, privileged, subdir};

/// Copies from a small tree into one that `prepare` made, and lists the result.
fn check(options: Copy, prepare: impl Fn(&Path)) -> Result<Vec<String>, Error> {
    let (src, from) = dir();
    file(src.path(), "a.txt", "A");
    file(src.path(), "b.txt", "B");
    file(src.path(), "sub/c", "C");
    file(src.path(), "sub/deep/d", "D");
    link(src.path(), "a.txt", "link");
    link(src.path(), "sub", "sublink");
    let (dst, to) = dir();
    prepare(dst.path());
    copy(&Source::Root(from), &to, &options)?;
    Ok(list(dst.path()))
}

#[test]
fn where_things_land() {
    let nothing = |_: &Path| {};
    let run = |src, dest| check(copy_options(src, dest), nothing).unwrap();
    assert_eq!(run("/a.txt", "/x"), ["f644 x = A"]);
    assert_eq!(run("/a.txt", "/x/"), ["d755 x", "f644 x/a.txt = A"]);
    assert_eq!(run("/a.txt", "/x/y/z"), ["d755 x", "d755 x/y", "f644 x/y/z = A"]);
    assert_eq!(run("/*.txt", "/x/"), ["d755 x", "f644 x/a.txt = A", "f644 x/b.txt = B"]);
    assert_eq!(run("/sub", "/x"), ["d755 x", "f644 x/c = C", "d755 x/deep", "f644 x/deep/d = D"]);
    assert_eq!(run("/link", "/x"), ["f644 x = A"]);
    assert_eq!(run("/sublink", "/x/"), ["d755 x", "f644 x/c = C", "d755 x/deep", "f644 x/deep/d = D"]);
    assert_eq!(run("/s*", "/x/").len(), 4);
    assert_eq!(run("/sub/deep/../c", "/x"), ["f644 x = C"]);
    assert_eq!(run("/", "/").len(), 8);
    let keep = Copy { follow_symlink: false, ..copy_options("/link", "/x") };
    assert_eq!(check(keep, nothing).unwrap(), ["l x -> a.txt"]);
    let whole = Copy { dir_contents: false, ..copy_options("/sub", "/x/") };
    assert_eq!(check(whole, nothing).unwrap()[..2], ["d755 x", "d755 x/sub"]);
}

#[test]
fn destinations_that_exist() {
    let run = |src, dest, prepare: fn(&Path)| check(copy_options(src, dest), prepare);
    assert_eq!(run("/a.txt", "/x", |d| file(d, "x", "old")).unwrap(), ["f644 x = A"]);
    assert_eq!(run("/a.txt", "/x", |d| subdir(d, "x")).unwrap(), ["d755 x", "f644 x/a.txt = A"]);
    assert!(matches!(run("/sub", "/x", |d| file(d, "x", "")), Err(Error::NotDirectory { .. })));
    assert!(matches!(run("/a.txt", "/x", |d| subdir(d, "x/a.txt")), Err(Error::DirectoryInTheWay { .. })));
    // A link at the destination leads on, also to what is not there yet, and never out.
    assert_eq!(
        run("/a.txt", "/x/f", |d| link(d, "/y", "x")).unwrap(),
        ["l x -> /y", "d755 y", "f644 y/f = A"].into_iter().map(String::from).collect::<Vec<_>>()
    );
    let forced = Copy { always_replace: true, ..copy_options("/a.txt", "/x") };
    assert_eq!(check(forced, |d| subdir(d, "x/a.txt/old")).unwrap(), ["d755 x", "f644 x/a.txt = A"]);
}

#[test]
fn what_is_missing() {
    let nothing = |_: &Path| {};
    assert!(matches!(check(copy_options("/none", "/x"), nothing), Err(Error::NotFound { .. })));
    assert!(matches!(check(copy_options("/none*", "/x"), nothing), Err(Error::NoMatch { .. })));
    let empty = Copy { empty_wildcard: true, ..copy_options("/none*", "/x") };
    assert!(check(empty, nothing).unwrap().is_empty());
    let strict = Copy { create_dest_path: false, ..copy_options("/a.txt", "/no/such/x") };
    assert!(check(strict, nothing).unwrap_err().is_not_found());
}

#[test]
fn include_and_exclude() {
    let nothing = |_: &Path| {};
    let options = Copy { exclude: vec!["*.txt".into(), "*link".into()], ..copy_options("/", "/x/") };
    assert_eq!(
        check(options, nothing).unwrap(),
        ["d755 x", "d755 x/sub", "f644 x/sub/c = C", "d755 x/sub/deep", "f644 x/sub/deep/d = D"]
    );
    let options = Copy { include: vec!["sub/deep/d".into()], ..copy_options("/", "/x/") };
    assert_eq!(check(options, nothing).unwrap(), ["d755 x", "d755 x/sub", "d755 x/sub/deep", "f644 x/sub/deep/d = D"]);
    let options = Copy { exclude: vec!["**".into(), "!sub/c".into()], ..copy_options("/", "/x/") };
    assert_eq!(check(options, nothing).unwrap(), ["d755 x", "d755 x/sub", "f644 x/sub/c = C"]);
}

#[test]
fn modes_times_owners() {
    if !privileged("modes_times_owners") {
        return;
    }
    let (src, from) = dir();
    file(src.path(), "d/f", "F");
    let (dst, to) = dir();
    let options = Copy {
        owner: Some(Owner { uid: 11, gid: 12 }),
        mode: CopyMode::Change(ModeChange::parse("u=rwX,go=").unwrap()),
        timestamp: Some(1_500_000_000_000_000_000),
        ..copy_options("/d", "/made/x")
    };
    copy(&Source::Root(from), &to, &options).unwrap();
    assert_eq!(list(dst.path()), ["d755 made", "d755 made/x", "f600 made/x/f = F"]);
    for name in ["made", "made/x", "made/x/f"] {
        let meta = fs::symlink_metadata(dst.path().join(name)).unwrap();
        assert_eq!((meta.uid(), meta.gid(), meta.mtime()), (11, 12, 1_500_000_000), "{name}");
    }
}

#[test]
fn links_holes_and_attributes_survive() {
    if !privileged("links_holes_and_attributes_survive") {
        return;
    }
    let (src, from) = dir();
    file(src.path(), "one", "same");
    fs::hard_link(src.path().join("one"), src.path().join("two")).unwrap();
    let sparse = fs::File::create(src.path().join("sparse")).unwrap();
    sparse.set_len(8 << 20).unwrap();
    std::os::unix::fs::FileExt::write_at(&sparse, b"end", (8 << 20) - 3).unwrap();
    let capability = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let path = src.path().join("one");
    let flags = rustix::fs::XattrFlags::empty();
    let capable = rustix::fs::setxattr(&path, "security.capability", &capability, flags).is_ok();
    let (dst, to) = dir();
    copy(&Source::Root(from), &to, &copy_options("/", "/x")).unwrap();
    let meta = |name: &str| fs::metadata(dst.path().join("x").join(name)).unwrap();
    assert_eq!(meta("one").ino(), meta("two").ino());
    assert_eq!(meta("sparse").len(), 8 << 20);
    assert!(meta("sparse").blocks() < 1000, "holes are kept");
    assert!(fs::read(dst.path().join("x/sparse")).unwrap().ends_with(b"end"));
    if capable {
        let mut value = [0; 64];
        let got = rustix::fs::getxattr(dst.path().join("x/one"), "security.capability", &mut value[..]).unwrap();
        assert_eq!(value[..got], capability);
    }
}

#[test]
fn a_context_shows_only_what_takes_part() {
    let (src, from) = dir();
    file(src.path(), "keep", "K");
    file(src.path(), "drop", "D");
    file(src.path(), "sub/drop", "D");
    let filter = Filter { exclude: vec!["**/drop".into()], ..Default::default() };
    let tree = Tree::of_context(from, &filter, Modes::AsTheyAre, None).unwrap();
    let (dst, to) = dir();
    copy(&Source::Tree(tree.clone()), &to, &copy_options("/", "/")).unwrap();
    assert_eq!(list(dst.path()), ["f644 keep = K", "d755 sub"]);
    assert!(copy(&Source::Tree(tree.clone()), &to, &copy_options("/drop", "/x")).unwrap_err().is_not_found());
    assert!(copy(&Source::Tree(tree), &to, &copy_options("/dro*", "/x")).unwrap_err().is_not_found());
}

#[test]
fn normalized_modes_are_those_of_the_digest_and_of_the_copy() {
    let made = |modes: &[(&str, u32)]| {
        let (dir, root) = dir();
        file(dir.path(), "d/plain", "text");
        file(dir.path(), "d/tool", "text");
        file(dir.path(), "empty", "");
        link(dir.path(), "d/plain", "link");
        for (path, mode) in modes {
            rustix::fs::chmod(dir.path().join(path), (*mode).into()).unwrap();
        }
        (dir, root)
    };
    let open = [("d", 0o755), ("d/plain", 0o644), ("d/tool", 0o755), ("empty", 0o644)];
    let private = [("d", 0o2700), ("d/plain", 0o600), ("d/tool", 0o4710), ("empty", 0o666)];
    let mut seen = Vec::new();
    for modes in [open, private] {
        let (_dir, root) = made(&modes);
        for kind in [Modes::AsTheyAre, Modes::Normalized] {
            let tree = Tree::of_context(root.clone(), &Filter::default(), kind, None).unwrap();
            let digest = tree.checksum("/", &Default::default()).unwrap();
            let one = tree.checksum("/d/tool", &Default::default()).unwrap();
            let (dst, to) = crate::support::dir();
            copy(&Source::Tree(tree), &to, &copy_options("/", "/")).unwrap();
            // What was copied is hashed as what it was copied from.
            let copied = Tree::of_context(to, &Filter::default(), Modes::AsTheyAre, None).unwrap();
            assert_eq!(copied.checksum("/", &Default::default()).unwrap(), digest, "{kind:?}");
            seen.push((digest, one, list(dst.path())));
        }
    }
    let [open, open_normal, private, private_normal] = &seen[..] else { panic!("four") };
    assert_eq!((open, open_normal), (open_normal, private_normal));
    assert!(private.0 != open.0 && private.1 != open.1);
    assert_eq!(open.2, ["d755 d", "f644 d/plain = text", "f755 d/tool = text", "f644 empty = ", "l link -> d/plain"]);
}

#[test]
fn following_paths_brings_links_and_targets() {
    let (src, from) = dir();
    file(src.path(), "real/data", "x");
    file(src.path(), "other", "x");
    link(src.path(), "real", "alias");
    let filter = Filter { follow_paths: Some(vec!["alias/data".into()]), ..Default::default() };
    let found: Vec<_> =
        rhost_rootfs::walk(&from, &filter).unwrap().into_iter().map(|e| e.path.display().to_string()).collect();
    assert_eq!(found, ["alias", "real", "real/data"]);
    let filter = Filter { follow_paths: Some(vec!["al*".into(), "loop".into()]), ..Default::default() };
    link(src.path(), "loop", "loop");
    let found: Vec<_> =
        rhost_rootfs::walk(&from, &filter).unwrap().into_iter().map(|e| e.path.display().to_string()).collect();
    assert_eq!(found, ["alias", "loop", "real", "real/data"]);
    let filter = Filter { follow_paths: Some(vec![".".into()]), ..Default::default() };
    assert_eq!(rhost_rootfs::walk(&from, &filter).unwrap().len(), 5);
}

/// More than one thread copies them, and more than one queue full.
#[test]
fn many_files_are_copied_as_few_are() {
    let (from, source) = dir();
    for number in 0..1500 {
        file(from.path(), &format!("d{}/f{number}", number % 40), &format!("{number}").repeat(number % 90 * 40));
    }
    link(from.path(), "f7", "d7/link");
    std::fs::hard_link(from.path().join("d3/f3"), from.path().join("d5/same")).unwrap();
    let at = |seconds| std::time::UNIX_EPOCH + std::time::Duration::from_secs(seconds);
    for number in 0..40 {
        let directory = std::fs::File::open(from.path().join(format!("d{number}"))).unwrap();
        directory.set_modified(at(1_000_000 + number)).unwrap();
    }
    let (to, root) = dir();
    // What is in the way goes.
    file(to.path(), "out/d9/f9", "old");
    subdir(to.path(), "out/d1");
    link(to.path(), "nowhere", "out/d1/f1");
    copy(&Source::Root(source.clone()), &root, &copy_options("/", "/out")).unwrap();
    assert_eq!(list(&to.path().join("out")), list(from.path()));
    let meta = |path: &str| std::fs::symlink_metadata(to.path().join("out").join(path)).unwrap();
    for number in 0..40 {
        assert_eq!(meta(&format!("d{number}")).modified().unwrap(), at(1_000_000 + number), "d{number}");
    }
    assert_eq!(meta("d3/f3").ino(), meta("d5/same").ino());
    // One that cannot be: it is named.
    let (to, root) = dir();
    subdir(to.path(), "out/d2/f802");
    let error = copy(&Source::Root(source), &root, &copy_options("/", "/out")).unwrap_err();
    assert!(matches!(&error, Error::DirectoryInTheWay { path } if path.ends_with("out/d2/f802")), "{error}");
}
