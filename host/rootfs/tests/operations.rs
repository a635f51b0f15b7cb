//! mkdir, mkfile, symlink, rm, users.
use rhost_rootfs::{Error, OwnerPolicy, Rm, lookup_group, lookup_user, mkdir, mkdir_all, mkfile, rm, symlink};

use crate::support::{dir, file, link, list, subdir};

const EXACT: OwnerPolicy = OwnerPolicy::Exact;

#[test]
fn making() {
    let (tmp, root) = dir();
    link(tmp.path(), "/real", "alias");
    mkdir_all(&root, "/alias/a/b", 0o750, None, Some(0), EXACT).unwrap();
    mkdir(&root, "/real/a", 0o700, None, None, EXACT).unwrap();
    mkfile(&root, "alias/f", b"one", 0o600, None, None, EXACT).unwrap();
    mkfile(&root, "real/f", b"two", 0o644, None, None, EXACT).unwrap();
    symlink(&root, "../anything", "/real/s", None, None, EXACT).unwrap();
    assert_eq!(
        list(tmp.path()),
        [
            "l alias -> /real",
            "d750 real",
            "d750 real/a",
            "d750 real/a/b",
            "f600 real/f = two",
            "l real/s -> ../anything"
        ]
    );
    assert!(mkdir(&root, "/no/parent", 0o755, None, None, EXACT).unwrap_err().is_not_found());
    assert!(mkfile(&root, "/real/a", b"", 0o644, None, None, EXACT).is_err());
    assert!(symlink(&root, "x", "/real/f", None, None, EXACT).is_err());
}

#[test]
fn removing() {
    let (tmp, root) = dir();
    let strict = Rm { allow_not_found: false, wildcard: false };
    let lax = Rm { allow_not_found: true, wildcard: false };
    let wild = Rm { allow_not_found: false, wildcard: true };
    file(tmp.path(), "d/e/f", "x");
    file(tmp.path(), "d/g.txt", "x");
    file(tmp.path(), "d/h.txt", "x");
    link(tmp.path(), "/d", "alias");
    rm(&root, "/d/*.txt", wild).unwrap();
    assert_eq!(list(tmp.path()), ["l alias -> /d", "d755 d", "d755 d/e", "f644 d/e/f = x"]);
    rm(&root, "/alias/e", strict).unwrap();
    rm(&root, "/alias", strict).unwrap();
    assert_eq!(list(tmp.path()), ["d755 d"]);
    assert!(matches!(rm(&root, "/none", strict), Err(Error::NotFound { .. })));
    rm(&root, "/none/at/all", lax).unwrap();
    for above in ["/", "..", "/d/..", "../..", "."] {
        assert!(matches!(rm(&root, above, lax), Err(Error::IsRoot { .. })), "{above}");
    }
    subdir(tmp.path(), "keep");
    rm(&root, "../d", strict).unwrap();
    assert_eq!(list(tmp.path()), ["d755 keep"]);
}

#[test]
fn users_and_groups() {
    let (tmp, root) = dir();
    assert_eq!(lookup_user(&root, "app").unwrap(), None);
    file(tmp.path(), "etc/passwd", "root:x:0:0::/:/bin/sh\nbroken:x\napp:x:1000:1001::/:\n");
    file(tmp.path(), "etc/group", "root:x:0:\nstaff:x:50:app\n");
    let app = lookup_user(&root, "app").unwrap().unwrap();
    assert_eq!((app.uid, app.gid), (1000, 1001));
    assert_eq!(lookup_user(&root, "broken").unwrap(), None);
    assert_eq!(lookup_group(&root, "staff").unwrap(), Some(50));
    // A huge file and one that is no file are refused, without reading or blocking.
    let big = std::fs::File::create(tmp.path().join("etc/passwd")).unwrap();
    big.set_len(11 << 20).unwrap();
    assert!(matches!(lookup_user(&root, "app"), Err(Error::TooLarge { .. })));
    std::fs::remove_file(tmp.path().join("etc/passwd")).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        tmp.path().join("etc/passwd"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o644),
        0,
    )
    .unwrap();
    assert!(matches!(lookup_user(&root, "app"), Err(Error::NotRegular { .. })));
}
