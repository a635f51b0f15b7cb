//! Tests of `tar_writer`: what ustar has no room for comes back through PAX.
use rhost_rootfs::{Kind, Owner, Stat};

use super::{Content, append, finish};

fn stat(kind: Kind, size: u64) -> Stat {
    let owner = Owner { uid: 1, gid: 2 };
    Stat {
        kind,
        mode: 0o6751,
        owner,
        size,
        atime: 0,
        mtime: 0,
        ctime: 0,
        dev: 1,
        ino: 1,
        links: 1,
        rdev: (0, 0),
        blocks: 0,
    }
}

type Records = Vec<(String, Vec<u8>)>;

/// Header, PAX records, path and link target of the only entry in `archive`.
fn read(archive: &[u8]) -> (tar::Header, Records, Vec<u8>, Vec<u8>) {
    let mut reader = tar::Archive::new(archive);
    let mut entry = reader.entries().unwrap().next().unwrap().unwrap();
    let records = match entry.pax_extensions().unwrap() {
        None => Vec::new(),
        Some(records) => {
            records.map(|r| r.map(|r| (r.key().unwrap().to_owned(), r.value_bytes().to_vec())).unwrap()).collect()
        }
    };
    let link = entry.link_name_bytes().map(|l| l.to_vec()).unwrap_or_default();
    (entry.header().clone(), records, entry.path_bytes().to_vec(), link)
}

fn one(name: &[u8], stat: &Stat, mtime: i64, content: Content<'_>) -> Vec<u8> {
    let mut archive = Vec::new();
    append(&mut archive, name, stat, mtime, &[], content).unwrap();
    finish(&mut archive).unwrap();
    assert_eq!(archive.len() % 512, 0);
    archive
}

#[test]
fn what_fits_needs_no_pax() {
    let archive = one(b"a/b", &stat(Kind::File, 3), 1000, Content::File(&mut &b"abc"[..]));
    let (header, records, path, _) = read(&archive);
    assert!(records.is_empty());
    assert_eq!((path.as_slice(), header.mode().unwrap(), header.size().unwrap()), (&b"a/b"[..], 0o6751, 3));
    assert_eq!((header.uid().unwrap(), header.gid().unwrap(), header.mtime().unwrap()), (1, 2, 1000));
}

#[test]
fn long_and_odd_names_come_back() {
    for name in [vec![b'n'; 100], vec![b'n'; 101], vec![b'd'; 5000], b"not-\xff-utf8".to_vec(), "é =".into()] {
        let (_, _, path, link) = read(&one(&name, &stat(Kind::Symlink, 0), 0, Content::Symlink(&name)));
        assert_eq!((&path, &link), (&name, &name));
    }
}

#[test]
fn large_ids_and_old_times_come_back() {
    let mut large = stat(Kind::Dir, 0);
    large.owner = Owner { uid: u32::MAX - 1, gid: 0o10_000_000 };
    let (header, records, path, _) = read(&one(b"d", &large, -5, Content::Nothing));
    assert_eq!(path, b"d/");
    assert_eq!(header.entry_type(), tar::EntryType::Directory);
    let record = |key: &str, value: &str| (key.to_owned(), value.as_bytes().to_vec());
    assert_eq!(records, [record("uid", "4294967294"), record("gid", "2097152"), record("mtime", "-5")]);
}

#[test]
fn devices_keep_their_numbers() {
    let mut device = stat(Kind::CharDevice, 0);
    device.rdev = (1, 300);
    let (header, ..) = read(&one(b"null", &device, 0, Content::Nothing));
    assert_eq!((header.device_major().unwrap(), header.device_minor().unwrap()), (Some(1), Some(300)));
}

#[test]
fn a_file_that_shrinks_is_an_error_and_one_that_grows_is_cut() {
    let error = append(&mut Vec::new(), b"a", &stat(Kind::File, 4), 0, &[], Content::File(&mut &b"abc"[..]));
    assert!(error.unwrap_err().to_string().contains("shrank from 4 to 3"));
    let archive = one(b"a", &stat(Kind::File, 2), 0, Content::File(&mut &b"abc"[..]));
    assert_eq!(&archive[512..515], b"ab\0");
}

#[test]
fn files_beyond_8_gib_say_their_size_in_pax() {
    /// Keeps the first bytes, fails after them: nobody wants to write 9 GiB.
    struct Head(Vec<u8>);
    impl std::io::Write for Head {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            if self.0.len() > 2048 {
                return Err(std::io::ErrorKind::StorageFull.into());
            }
            self.0.extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let mut head = Head(Vec::new());
    let size = 9 << 30;
    append(&mut head, b"big", &stat(Kind::File, size), 0, &[], Content::File(&mut std::io::repeat(0))).unwrap_err();
    let record = format!("19 size={size}\n");
    assert_eq!(&head.0[512..512 + record.len()], record.as_bytes());
}
