//! Files appear whole or not at all.
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use rhost_export::{Destination, ExportError, write_file, write_to};

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[test]
fn a_failed_write_leaves_the_old_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out.tar");
    fs::write(&path, "old").unwrap();
    let result: Result<(), _> = write_to(&Destination::File(path.clone()), |out| {
        out.write_all(&[0; 1 << 20]).unwrap();
        Err(ExportError::Cancelled)
    });
    assert!(matches!(result, Err(ExportError::Cancelled)));
    assert_eq!(fs::read_to_string(&path).unwrap(), "old");
    assert_eq!(names(folder.path()), ["out.tar"]);
    write_file(&path, b"new").unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), "new");
    assert_eq!(names(folder.path()), ["out.tar"]);
}

#[test]
fn a_symlink_is_written_through() {
    let folder = tempfile::tempdir().unwrap();
    let (target, link) = (folder.path().join("target"), folder.path().join("link"));
    fs::write(&target, "old").unwrap();
    symlink("target", &link).unwrap();
    write_file(&link, b"new").unwrap();
    assert_eq!(fs::read_to_string(&target).unwrap(), "new");
    assert!(link.is_symlink());
}

#[test]
fn bad_places_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let error = write_file(folder.path(), b"x").unwrap_err();
    assert!(matches!(error, ExportError::InTheWay { .. }));
    let error = write_file(&folder.path().join("no/where"), b"x").unwrap_err();
    assert!(error.to_string().contains("no/where"), "{error}");
}

#[test]
fn devices_are_written_straight() {
    write_file(Path::new("/dev/null"), b"x").unwrap();
    let error = write_file(Path::new("/dev/full"), b"x").unwrap_err();
    assert!(error.to_string().contains("No space left"), "{error}");
}
