//! What copies trees from machine to machine: `scan`, `read_unchanged`, `TreeWriter`, `tar_members`.
use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, symlink};

use rhost_rootfs::{
    FileIdentity, Kind, Owner, OwnerPolicy, Root, TreeMeta, TreeWriter, read_unchanged, scan, stat_now, tar_members,
};

fn paths(root: &Root) -> Vec<String> {
    let found = scan(root, &|_| None).expect("scanned");
    found.iter().map(|entry| String::from_utf8_lossy(&entry.path).into_owned()).collect()
}

#[test]
fn a_scan_tells_parents_first_and_siblings_by_their_names() {
    let dir = tempfile::tempdir().expect("a directory");
    for path in ["a/x/1", "a/y", "a.b", "b/z"] {
        fs::create_dir_all(dir.path().join(path)).expect("made");
    }
    fs::write(dir.path().join("a/f"), "f").expect("written");
    symlink("/etc", dir.path().join("a/l")).expect("linked");
    let root = Root::open(dir.path()).expect("opened");
    // `a.b` sorts before `a/x` as text; a directory's content follows it all the same.
    assert_eq!(paths(&root), ["", "a", "a/f", "a/l", "a/x", "a/x/1", "a/y", "a.b", "b", "b/z"]);
    let found = scan(&root, &|_| Some(vec![(b"user.known".to_vec(), b"1".to_vec())])).expect("scanned");
    let link = found.iter().find(|entry| entry.path == b"a/l").expect("there");
    assert_eq!((link.target.as_slice(), link.stat.kind), (&b"/etc"[..], Kind::Symlink));
    assert!(found[1..].iter().all(|entry| entry.xattrs[0].0 == b"user.known"), "what is known is not asked for");
}

#[test]
fn what_changes_while_it_is_read_is_found_out() {
    let dir = tempfile::tempdir().expect("a directory");
    let place = dir.path().join("f");
    fs::write(&place, "one").expect("written");
    let root = Root::open(dir.path()).expect("opened");
    let look = || stat_now(&root, b"f").expect("asked");
    let stat = look().expect("there");
    let read = |file: &mut fs::File| {
        let mut text = String::new();
        file.read_to_string(&mut text)?;
        Ok(text)
    };
    assert_eq!(read_unchanged(&root, b"f", &stat, read).expect("read").as_deref(), Some("one"));
    let changed = read_unchanged(&root, b"f", &stat, |file| {
        let text = read(file);
        fs::OpenOptions::new().append(true).open(&place)?.write_all(b" more")?;
        text
    });
    assert_eq!(changed.expect("read"), None, "it was written to");
    let stat = look().expect("there");
    let cut = read_unchanged(&root, b"f", &stat, |file| {
        let mut more = [0; 100];
        file.read_exact(&mut more).map(|()| ())
    });
    assert_eq!(cut.expect("read"), None, "it was cut");
    fs::remove_file(&place).expect("removed");
    assert_eq!(read_unchanged(&root, b"f", &stat, read).expect("asked"), None);
    symlink("/etc/passwd", &place).expect("linked");
    assert_eq!(read_unchanged(&root, b"f", &stat, read).expect("asked"), None, "links are not followed");
    assert!(look().is_some_and(|found| found.is_symlink()));
}

#[test]
fn a_tree_is_written_with_its_metadata_and_files_are_taken_over_only_as_they_were() {
    let (old, new) = (tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("a directory"));
    fs::create_dir(old.path().join("d")).expect("made");
    fs::write(old.path().join("d/kept"), "kept").expect("written");
    let (from, root) = (Root::open(old.path()).expect("opened"), Root::open(new.path()).expect("opened"));
    let found = fs::metadata(old.path()).expect("there");
    let owner = Owner { uid: found.uid(), gid: found.gid() };
    let meta = |mode, mtime| TreeMeta { mode, owner, mtime, xattrs: Vec::new() };
    let mut writer = TreeWriter::new(root.clone(), OwnerPolicy::Exact);
    writer.dir(b"", &meta(0o751, 5_000_000_001)).expect("made");
    writer.dir(b"d", &meta(0o500, -1_000_000_000)).expect("made");
    let mut file = writer.file(b"d/f").expect("made");
    file.write_all(b"text").expect("written");
    writer.finish_file(b"d/f", &file, &meta(0o4755, 7)).expect("finished");
    writer.hard_link(b"d/h", b"d/f").expect("linked");
    let stat = stat_now(&from, b"d/kept").expect("asked").expect("there");
    assert!(writer.link_from(b"d/kept", &from, b"d/kept", &stat).expect("asked"));
    assert!(!writer.link_from(b"d/other", &from, b"d/kept", &stat).expect("asked"), "the link moved its change time");
    assert!(!writer.link_from(b"d/none", &from, b"d/none", &stat).expect("asked"));
    writer.symlink(b"l", b"nowhere", &meta(0o777, 9)).expect("made");
    writer.fifo(b"p", &meta(0o640, 11)).expect("made");
    assert!(writer.file(b"l/x").is_err() && writer.file(b"d/f").is_err());
    writer.finish().expect("finished");
    assert_eq!(paths(&root), ["", "d", "d/f", "d/h", "d/kept", "l", "p"]);
    let stat = |path: &str| root.stat(path, rhost_rootfs::Last::Keep).expect("there");
    assert_eq!((stat("/").mode, stat("/").mtime), (0o751, 5_000_000_001));
    assert_eq!((stat("/d").mode, stat("/d").mtime), (0o500, -1_000_000_000));
    assert_eq!((stat("/d/f").mode, stat("/d/f").mtime, stat("/d/h").links), (0o4755, 7, 2));
    assert_eq!((stat("/l").mtime, stat("/p").kind, stat("/p").mode), (9, Kind::Fifo, 0o640));
    let inode = |stat: &rhost_rootfs::Stat| FileIdentity::new(stat).ino;
    assert_eq!(inode(&stat("/d/kept")), inode(&from.stat("/d/kept", rhost_rootfs::Last::Keep).expect("there")));
}

#[test]
fn members_of_a_tar_are_where_it_says() {
    let mut tar = tar::Builder::new(Vec::new());
    let mut add = |name: &str, bytes: &[u8]| {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, name, bytes).expect("added");
    };
    add("./index.json", b"{}");
    add(&format!("blobs/{}", "n".repeat(180)), &[7; 1000]);
    let bytes = tar.into_inner().expect("finished");
    let found = tar_members(&bytes[..]).expect("read");
    assert_eq!(found.len(), 2);
    assert_eq!((found[0].name.as_slice(), found[0].size), (&b"index.json"[..], 2));
    for (member, wanted) in found.iter().zip([b"{}".to_vec(), vec![7; 1000]]) {
        let from = usize::try_from(member.offset).expect("small");
        assert_eq!(bytes[from..from + wanted.len()], wanted);
    }
    assert!(tar_members(&bytes[..700]).is_err(), "cut short");
}
