//! Layers: written, applied, and the two in turn.
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use rhost_llb::{DiffId, Digest};
use rhost_rootfs::{
    Applied, Apply, Below, LayerOptions, Lowers, OverlayXattrs, OwnerPolicy, Root, apply_layer, flatten_layer,
    write_layer,
};
use rustix::fs::{FileType, Mode, XattrFlags};

use crate::support::{Archive, copy_options, dir, file, link, list, privileged, subdir};

fn apply(tar: &[u8], root: &Root, lowers: &[Root]) -> Applied {
    apply_layer(
        root,
        tar,
        Apply { xattrs: OverlayXattrs::Trusted, owners: OwnerPolicy::Exact, lowers: Lowers::Here(lowers) },
    )
    .unwrap()
}

fn write(root: &Root) -> Vec<u8> {
    let mut tar = Vec::new();
    let info = write_layer(root, Below::Unknown, &mut tar, &LayerOptions::default()).unwrap();
    assert_eq!(info.size, tar.len() as u64);
    tar
}

fn node(path: &Path, kind: FileType, dev: u64) {
    rustix::fs::mknodat(rustix::fs::CWD, path, kind, Mode::from_raw_mode(0o640), dev).unwrap();
}

#[test]
fn a_round_trip_is_exact() {
    if !privileged("a_round_trip_is_exact") {
        return;
    }
    let (tmp, root) = dir();
    let top = tmp.path();
    file(top, "plain", "text");
    fs::hard_link(top.join("plain"), top.join("z-hard")).unwrap();
    file(top, &format!("long/{}/{}", "d".repeat(200), "f".repeat(250)), "long");
    link(top, &"t/".repeat(120), "long-link");
    file(top, "setuid", "s");
    std::os::unix::fs::chown(top.join("setuid"), Some(3_000_000), Some(70_000)).unwrap();
    fs::set_permissions(top.join("setuid"), fs::Permissions::from_mode(0o4755)).unwrap();
    fs::write(top.join(std::ffi::OsStr::from_bytes(b"not\xff\xfeutf8")), "n").unwrap();
    fs::write(top.join("newline\nname"), "n").unwrap();
    node(&top.join("fifo"), FileType::Fifo, 0);
    node(&top.join("device"), FileType::CharacterDevice, rustix::fs::makedev(1, 3));
    // A capability whose bytes hold a newline.
    let capability = [1, 0, 0, 2, 10, 10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    rustix::fs::setxattr(top.join("plain"), "user.note", b"a=b\nc\0d", XattrFlags::empty()).ok();
    rustix::fs::setxattr(top.join("plain"), "security.capability", &capability, XattrFlags::empty()).unwrap();
    let tar = write(&root);
    assert_eq!(tar, write(&root), "the same bytes twice");

    let (out, copy) = dir();
    let applied = apply(&tar, &copy, &[]);
    assert_eq!(applied.diff_id, DiffId(Digest::of(&tar)));
    assert_eq!(list(top), list(out.path()));
    assert_eq!(write(&copy), tar);
    let meta = fs::metadata(out.path().join("setuid")).unwrap();
    assert_eq!((meta.uid(), meta.gid(), meta.mode() & 0o7777), (3_000_000, 70_000, 0o4755));
    assert_eq!(fs::metadata(out.path().join("plain")).unwrap().nlink(), 2);
    let mut value = [0; 64];
    let got = rustix::fs::getxattr(out.path().join("plain"), "security.capability", &mut value[..]).unwrap();
    assert_eq!(value[..got], capability);
}

#[test]
fn whiteouts_become_marks_and_back() {
    if !privileged("whiteouts_become_marks_and_back") {
        return;
    }
    let tar = Archive::default()
        .dir("d")
        .file("d/.wh..wh..opq", "")
        .file("d/new", "n")
        .file(".wh.gone", "")
        .file("e/.wh.x", "")
        .end();
    let (tmp, root) = dir();
    apply(&tar, &root, &[]);
    let gone = fs::symlink_metadata(tmp.path().join("gone")).unwrap();
    assert!(gone.file_type().is_char_device_zero(&gone));
    let mut value = [0; 8];
    let got = rustix::fs::getxattr(tmp.path().join("d"), "trusted.overlay.opaque", &mut value[..]).unwrap();
    assert_eq!(&value[..got], b"y");
    let names = entries(&write(&root));
    assert_eq!(names, ["d/", "d/.wh..wh..opq", "d/new", "e/", "e/.wh.x", ".wh.gone"]);
    // With layers below that have no such directory, there is nothing to hide.
    let (_below, lower) = dir();
    let mut plain = Vec::new();
    write_layer(&root, Below::Tree(&lower), &mut plain, &LayerOptions::default()).unwrap();
    assert!(!entries(&plain).contains(&"d/.wh..wh..opq".to_string()));
    // A file and its own whiteout in one layer: the file stays.
    let (tmp, root) = dir();
    apply(&Archive::default().file("f", "stays").file(".wh.f", "").end(), &root, &[]);
    assert_eq!(list(tmp.path()), ["f644 f = stays"]);
    let (tmp, root) = dir();
    apply(&Archive::default().file(".wh.f", "").file("f", "stays").end(), &root, &[]);
    assert_eq!(list(tmp.path()), ["f644 f = stays"]);
}

trait CharZero {
    fn is_char_device_zero(&self, meta: &fs::Metadata) -> bool;
}

impl CharZero for fs::FileType {
    fn is_char_device_zero(&self, meta: &fs::Metadata) -> bool {
        std::os::unix::fs::FileTypeExt::is_char_device(self) && meta.rdev() == 0
    }
}

/// Names in an archive, by the `tar` crate: another reader than the one under test.
fn entries(tar: &[u8]) -> Vec<String> {
    let mut archive = tar::Archive::new(tar);
    archive.entries().unwrap().map(|e| String::from_utf8_lossy(&e.unwrap().path_bytes()).into_owned()).collect()
}

#[test]
fn overlay_marks_never_leave() {
    if !privileged("overlay_marks_never_leave") {
        return;
    }
    let (tmp, root) = dir();
    subdir(tmp.path(), "d");
    for key in ["trusted.overlay.origin", "trusted.overlay.redirect", "user.overlay.impure"] {
        rustix::fs::setxattr(tmp.path().join("d"), key, b"x", XattrFlags::empty()).ok();
    }
    let tar = write(&root);
    assert!(!tar.windows(7).any(|w| w == b"overlay"));
    let mut entry = tar_core::builder::EntryBuilder::new_ustar();
    entry.path("d").entry_type(tar_core::EntryType::Directory);
    entry.mode(0o755).unwrap();
    entry.add_pax("SCHILY.xattr.trusted.overlay.redirect", "/etc");
    let mut evil = entry.finish_bytes();
    evil.extend([0; 1024]);
    let (tmp, root) = dir();
    apply(&evil, &root, &[]);
    let mut value = [0; 8];
    assert!(rustix::fs::getxattr(tmp.path().join("d"), "trusted.overlay.redirect", &mut value[..]).is_err());
}

#[test]
fn lower_layers_help_with_links_and_parents() {
    if !privileged("lower_layers_help_with_links_and_parents") {
        return;
    }
    let (below, lower) = dir();
    file(below.path(), "bin/tool", "tool");
    fs::set_permissions(below.path().join("bin"), fs::Permissions::from_mode(0o711)).unwrap();
    let (tmp, root) = dir();
    apply(&Archive::default().hard_link("bin/alias", "bin/tool").end(), &root, &[lower]);
    assert_eq!(list(tmp.path()), ["d711 bin", "f644 bin/alias = tool"]);
}

#[test]
fn sizes_above_eight_gib_have_their_header() {
    if !privileged("sizes_above_eight_gib_have_their_header") {
        return;
    }
    let (tmp, root) = dir();
    let huge = fs::File::create(tmp.path().join("huge")).unwrap();
    if huge.set_len((8 << 30) + 1).is_err() {
        eprintln!("SKIP: the file system takes no file of 8 GiB");
        return;
    }
    /// Keeps the first bytes and stops.
    struct Head(Vec<u8>);
    impl std::io::Write for Head {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            if self.0.len() > 4096 {
                return Err(std::io::Error::other("enough"));
            }
            self.0.extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let mut head = Head(Vec::new());
    let error = write_layer(&root, Below::Unknown, &mut head, &LayerOptions::default()).unwrap_err();
    assert!(matches!(error, rhost_rootfs::Error::Sink { .. }));
    let mut archive = tar::Archive::new(&head.0[..]);
    assert_eq!(archive.entries().unwrap().next().unwrap().unwrap().size(), (8 << 30) + 1);
}

#[test]
fn times_are_whole_seconds_and_clamped() {
    let (tmp, root) = dir();
    file(tmp.path(), "old", "o");
    file(tmp.path(), "ancient", "o");
    let set = |name: &str, seconds: i64| {
        let at = rustix::fs::Timespec { tv_sec: seconds, tv_nsec: 999 };
        let times = rustix::fs::Timestamps { last_access: at, last_modification: at };
        rustix::fs::utimensat(rustix::fs::CWD, tmp.path().join(name), &times, rustix::fs::AtFlags::empty()).unwrap();
    };
    set("old", 1_000);
    set("ancient", -1_000);
    let mut tar = Vec::new();
    let options = LayerOptions { clamp_mtime: Some(500_000_000_000) };
    write_layer(&root, Below::Unknown, &mut tar, &options).unwrap();
    if privileged("applying times") {
        let (out, copy) = dir();
        apply(&tar, &copy, &[]);
        assert_eq!(fs::metadata(out.path().join("old")).unwrap().mtime(), 500);
        assert_eq!(fs::metadata(out.path().join("ancient")).unwrap().mtime(), -1_000);
    }
}

#[test]
fn gnu_tar_agrees() {
    let Ok(version) = std::process::Command::new("tar").arg("--version").output() else { return };
    if !String::from_utf8_lossy(&version.stdout).contains("GNU") || !privileged("gnu_tar_agrees") {
        return;
    }
    let (tmp, root) = dir();
    file(tmp.path(), &format!("{}/{}", "a".repeat(150), "b".repeat(150)), "deep");
    file(tmp.path(), "f", "F");
    fs::hard_link(tmp.path().join("f"), tmp.path().join("g")).unwrap();
    let sparse = fs::File::create(tmp.path().join("sparse")).unwrap();
    sparse.set_len(1 << 20).unwrap();
    std::os::unix::fs::FileExt::write_at(&sparse, b"mid", 500_000).unwrap();
    let run = |args: &[&str], at: &Path| {
        let done = std::process::Command::new("tar").args(args).current_dir(at).output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        done.stdout
    };
    // Theirs, with each sparse format, read by us.
    for format in
        [&["--format=gnu"][..], &["--format=pax", "--sparse-version=1.0"], &["--format=pax", "--sparse-version=0.1"]]
    {
        let tar = run(&[&["-cS"], format, &["-f", "-", "."]].concat(), tmp.path());
        let (out, copy) = dir();
        apply(&tar, &copy, &[]);
        assert_eq!(list(out.path()), list(tmp.path()), "{format:?}");
        assert!(fs::metadata(out.path().join("sparse")).unwrap().blocks() < 1000, "{format:?}");
    }
    // Ours, read by them.
    let (out, _) = dir();
    fs::write(out.path().join("ours.tar"), write(&root)).unwrap();
    subdir(out.path(), "x");
    run(&["-xf", "ours.tar", "-C", "x"], out.path());
    assert_eq!(list(&out.path().join("x")), list(tmp.path()));
}

#[test]
fn add_unpacks_compressed_archives_and_copies_the_rest() {
    if !privileged("add_unpacks_compressed_archives_and_copies_the_rest") {
        return;
    }
    use std::io::Write;
    let tar = Archive::default().file("in/side", "S").end();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&tar).unwrap();
    let gzip = gzip.finish().unwrap();
    let mut xz = xz2::write::XzEncoder::new(Vec::new(), 1);
    xz.write_all(&tar).unwrap();
    let mut bzip2 = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
    bzip2.write_all(&tar).unwrap();
    let packed = [
        tar.clone(),
        gzip.clone(),
        xz.finish().unwrap(),
        bzip2.finish().unwrap(),
        zstd::encode_all(&tar[..], 1).unwrap(),
    ];
    for (at, bytes) in packed.iter().enumerate() {
        let (src, from) = dir();
        fs::write(src.path().join("archive"), bytes).unwrap();
        let (dst, to) = dir();
        let options = rhost_rootfs::Copy { unpack: true, ..copy_options("/archive", "/x/") };
        rhost_rootfs::copy(&rhost_rootfs::Source::Root(from), &to, &options).unwrap();
        assert_eq!(list(dst.path()), ["d755 x", "d755 x/in", "f644 x/in/side = S"], "{at}");
    }
    for bytes in [&b"no archive"[..], &gzip[..20], b""] {
        let (src, from) = dir();
        fs::write(src.path().join("archive"), bytes).unwrap();
        let (dst, to) = dir();
        let options = rhost_rootfs::Copy { unpack: true, ..copy_options("/archive", "/x/") };
        rhost_rootfs::copy(&rhost_rootfs::Source::Root(from), &to, &options).unwrap();
        assert!(dst.path().join("x/archive").is_file());
    }
}

#[test]
fn layers_laid_over_each_other_are_one_directory_without_marks() {
    if !privileged("layers_laid_over_each_other_are_one_directory_without_marks") {
        return;
    }
    let layers: Vec<(tempfile::TempDir, Root)> = (0..3).map(|_| dir()).collect();
    let [low, middle, high] = [0, 1, 2].map(|index| layers[index].0.path());
    let note = |path: &Path, key: &str| rustix::fs::setxattr(path, key, b"y", XattrFlags::empty()).unwrap();
    let whiteout = |path: &Path| node(path, FileType::CharacterDevice, 0);
    file(low, "gone", "1");
    file(low, "tree/gone/deep", "1");
    file(low, "tree/kept", "1");
    fs::hard_link(low.join("tree/kept"), low.join("kept-too")).unwrap();
    file(low, "anew/old", "1");
    file(low, "was-dir/f", "1");
    file(low, "was-file", "1");
    file(low, "back", "1");
    note(&low.join("tree"), "trusted.of-the-lower");
    whiteout(&middle.join("gone"));
    whiteout(&middle.join("back"));
    subdir(middle, "tree");
    whiteout(&middle.join("tree/gone"));
    note(&middle.join("tree"), "trusted.of-the-upper");
    fs::set_permissions(middle.join("tree"), fs::Permissions::from_mode(0o3711)).unwrap();
    std::os::unix::fs::chown(middle.join("tree"), Some(7), Some(8)).unwrap();
    file(middle, "anew/new", "2");
    note(&middle.join("anew"), "trusted.overlay.opaque");
    link(middle, "tree", "was-dir");
    file(middle, "was-file/f", "2");
    file(high, "back", "3");
    node(&high.join("fifo"), FileType::Fifo, 0);
    let old = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::new(1_000_000_000, 5);
    fs::File::open(middle.join("tree")).unwrap().set_modified(old).unwrap();

    let (out, root) = dir();
    for (_, layer) in &layers {
        flatten_layer(layer, &root, OverlayXattrs::Trusted, OwnerPolicy::Exact).unwrap();
    }
    let found = list(out.path());
    let wanted = [
        "d755 anew",
        "f644 anew/new = 2",
        "f644 back = 3",
        "n640 fifo 0",
        "f644 kept-too = 1",
        "d3711 tree",
        "f644 tree/kept = 1",
        "l was-dir -> tree",
        "d755 was-file",
        "f644 was-file/f = 2",
    ];
    assert_eq!(found, wanted);
    let tree = fs::metadata(out.path().join("tree")).unwrap();
    assert_eq!((tree.uid(), tree.gid(), tree.modified().unwrap()), (7, 8, old));
    let mut names = [0; 256];
    let length = rustix::fs::listxattr(out.path().join("tree"), &mut names[..]).unwrap();
    assert_eq!(&names[..length], b"trusted.of-the-upper\0", "as the topmost layer has it");
    let kept = fs::metadata(out.path().join("tree/kept")).unwrap();
    assert_eq!(kept.ino(), fs::metadata(low.join("kept-too")).unwrap().ino());
    assert_eq!(kept.nlink(), 4);
}

/// More than the walk hands over at once.
#[test]
fn many_files_make_a_round_trip() {
    if !privileged("many_files_make_a_round_trip") {
        return;
    }
    let (tmp, root) = dir();
    for number in 0..900 {
        file(tmp.path(), &format!("d{}/e{}/f{number}", number % 7, number % 3), &"x".repeat(number * 7 % 3000));
    }
    file(tmp.path(), "large", &"0123456789".repeat(200_000));
    std::fs::hard_link(tmp.path().join("d0/e0/f0"), tmp.path().join("zero")).unwrap();
    let tar = write(&root);
    assert_eq!(write(&root), tar);
    let (out, target) = dir();
    apply(&tar, &target, &[]);
    assert_eq!(list(out.path()), list(tmp.path()));
    // Names in order, whoever opened the files.
    let names: Vec<_> = tar::Archive::new(&tar[..])
        .entries()
        .unwrap()
        .map(|entry| entry.unwrap().path_bytes().into_owned())
        .filter(|name| !name.ends_with(b"/"))
        .collect();
    assert_eq!(names.len(), 902);
    let depth_first = |name: &Vec<u8>| name.split(|b| *b == b'/').map(<[u8]>::to_vec).collect::<Vec<_>>();
    assert!(names.windows(2).all(|pair| depth_first(&pair[0]) < depth_first(&pair[1])));
    // A stream that fails ends the walk, too.
    struct Broken(usize);
    impl std::io::Write for Broken {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0 = self.0.checked_sub(bytes.len()).ok_or(std::io::ErrorKind::StorageFull)?;
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let error = write_layer(&root, Below::Unknown, Broken(300_000), &LayerOptions::default()).unwrap_err();
    assert!(error.to_string().contains("no storage space"), "{error}");
}
