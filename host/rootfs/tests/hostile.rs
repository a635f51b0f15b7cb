//! Nothing gets out of a root: planted links, hostile archives, deep trees.
use std::fs;

use rhost_rootfs::{
    Apply, Error, Last, Lowers, OverlayXattrs, OwnerPolicy, Rm, Source, apply_layer, copy, mkdir_all, mkfile, rm,
    unpack_archive,
};

use crate::support::{Archive, copy_options, dir, file, link, list, privileged};

const EXACT: OwnerPolicy = OwnerPolicy::Exact;

#[test]
fn links_lead_back_inside() {
    let (outer, _) = dir();
    file(outer.path(), "secret", "outside");
    let (tmp, root) = dir();
    link(tmp.path(), outer.path().to_str().unwrap(), "out");
    link(tmp.path(), "../../../../../../etc", "up");
    assert!(root.read("/out/secret", 100).unwrap_err().is_not_found());
    assert_eq!(root.resolve("/up/passwd", Last::Follow).unwrap().to_str(), Some("/etc/passwd"));
    mkfile(&root, "/out/new", b"x", 0o644, None, None, EXACT).unwrap_err();
    mkdir_all(&root, "/out/made", 0o755, None, None, EXACT).unwrap();
    let everything = Rm { allow_not_found: false, wildcard: true };
    rm(&root, "/out/*", everything).unwrap();
    rm(&root, "/out", Rm { allow_not_found: false, wildcard: false }).unwrap();
    assert_eq!(list(outer.path()), ["f644 secret = outside"]);
}

#[test]
fn a_copy_never_reads_or_writes_outside() {
    let (outer, _) = dir();
    file(outer.path(), "secret", "outside");
    let (src, from) = dir();
    link(src.path(), outer.path().join("secret").to_str().unwrap(), "steal");
    file(src.path(), "plain", "P");
    let (dst, to) = dir();
    link(dst.path(), outer.path().to_str().unwrap(), "out");
    let from = Source::Root(from);
    assert!(copy(&from, &to, &copy_options("/steal", "/x")).unwrap_err().is_not_found());
    copy(&from, &to, &copy_options("/plain", "/out/")).unwrap();
    assert_eq!(list(outer.path()), ["f644 secret = outside"]);
}

fn layer(tar: &[u8]) -> (Result<rhost_rootfs::Applied, Error>, tempfile::TempDir) {
    let (tmp, root) = dir();
    let options = Apply { xattrs: OverlayXattrs::Trusted, owners: EXACT, lowers: Lowers::Here(&[]) };
    (apply_layer(&root, tar, options), tmp)
}

#[test]
fn archives_stay_inside() {
    if !privileged("archives_stay_inside") {
        return;
    }
    let (outer, _) = dir();
    file(outer.path(), "victim", "safe");
    let out = outer.path().to_str().unwrap();
    let victim = format!("{out}/victim");
    let tars = [
        Archive::default().file(&format!("../../../../../../../..{victim}"), "owned").end(),
        Archive::default().file(&victim, "owned").end(),
        Archive::default().symlink("d", out).file("d/victim", "owned").end(),
        Archive::default().symlink("victim", &victim).file("victim", "owned").end(),
        Archive::default().hard_link("h", &victim).file("h", "owned").end(),
        Archive::default().symlink("a", "/b").symlink("b", "/a").file("a/x", "owned").end(),
        Archive::default().symlink("d", out).file("d/.wh.victim", "").end(),
        Archive::default().symlink("d", out).file("d/.wh..wh..opq", "").end(),
        Archive::default().dir("d").symlink("d", out).file("d/victim", "owned").end(),
        Archive::default().file("d/.wh...", "").end(),
        Archive::default().file("..", "owned").end(),
    ];
    for (at, tar) in tars.iter().enumerate() {
        let (result, tmp) = layer(tar);
        let (below, root) = dir();
        let path = below.path().join("archive.tar");
        fs::write(&path, tar).unwrap();
        mkdir_all(&root, "/to", 0o755, None, None, EXACT).unwrap();
        let unpacked = unpack_archive(fs::File::open(&path).unwrap(), &root, "/to", None, EXACT);
        assert_eq!(list(outer.path()), ["f644 victim = safe"], "archive {at}: {result:?} {unpacked:?}");
        drop(tmp);
    }
}

#[test]
fn broken_archives_are_errors() {
    if !privileged("broken_archives_are_errors") {
        return;
    }
    let good = Archive::default().dir("d").file("d/f", &"x".repeat(3000)).symlink("s", "d").end();
    for cut in (1..good.len() - 1024).step_by(100).filter(|c| c % 512 != 0 || (1024..4600).contains(c)) {
        let (result, _tmp) = layer(&good[..cut]);
        assert!(matches!(result, Err(Error::BadArchive { .. })), "cut at {cut}: {result:?}");
    }
    let mut flipped = good.clone();
    flipped[100] ^= 0xff;
    assert!(matches!(layer(&flipped).0, Err(Error::BadArchive { .. })));
    assert!(matches!(layer(&Archive::default().hard_link("a", "nothing").end()).0, Err(Error::BadEntry { .. })));
    assert_eq!(layer(&[]).0.unwrap().entries, 0);
}

#[test]
fn random_bytes_never_panic() {
    if !privileged("random_bytes_never_panic") {
        return;
    }
    let good = Archive::default().dir("d").file("d/f", "hello").hard_link("h", "d/f").symlink("s", "d").end();
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed as usize
    };
    for _ in 0..300 {
        let mut bytes = good.clone();
        for _ in 0..1 + next() % 4 {
            let at = next() % bytes.len();
            bytes[at] = next() as u8;
        }
        // Checksums made right again, so that the values behind them are reached.
        for block in [0, 512, 1536, 2048] {
            let sum: u64 =
                (0..512).map(|i| if (148..156).contains(&i) { 32 } else { u64::from(bytes[block + i]) }).sum();
            bytes[block + 148..block + 156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        }
        let _ = layer(&bytes);
    }
}

#[test]
fn deep_trees_are_removed_and_copied_without_a_stack() {
    let (tmp, root) = dir();
    let mut at = root.clone();
    for _ in 0..400 {
        mkdir_all(&at, "/d", 0o755, None, None, EXACT).unwrap();
        at = at.dir("/d").unwrap();
    }
    drop(at);
    let (_dst, to) = dir();
    let thread = std::thread::Builder::new().stack_size(512 << 10).spawn(move || {
        copy(&Source::Root(root.clone()), &to, &copy_options("/", "/x")).unwrap();
        rm(&root, "/d", Rm { allow_not_found: false, wildcard: false }).unwrap();
        rm(&to, "/x", Rm { allow_not_found: false, wildcard: false }).unwrap();
    });
    thread.unwrap().join().unwrap();
    assert!(list(tmp.path()).is_empty());
}
