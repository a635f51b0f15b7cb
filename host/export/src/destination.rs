//! `Destination`: a file or standard output; files appear whole or not at all.
//!
//! Bytes go to a file without a name, which is synced and then put in the place of the wanted one ([`crate::partial`]). A failed export
//! leaves what was there before. Pipes and devices (`dest=/dev/stdout`, a fifo) cannot be replaced and are written straight.
use std::fs;
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use crate::error::ExportError;
use crate::partial::Partial;

/// Where an exporter's one stream goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    /// `dest=FILE`.
    File(PathBuf),
    /// `dest=-`. Whether that is a terminal, which must be refused, only the cli can tell.
    Stdout,
}

/// Whether `path` can be written as a file: what is known before there is anything to write.
///
/// # Errors
/// Its directory is not there or takes no files, or it is a directory itself.
pub fn check_file(path: &Path) -> Result<(), ExportError> {
    let path = &fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    match fs::metadata(path) {
        Ok(found) if found.is_dir() => {
            return Err(ExportError::InTheWay { path: path.clone(), found: "a directory", wanted: "a file" });
        }
        Ok(found) if !found.is_file() => return Ok(()),
        _ => {}
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    match fs::metadata(folder) {
        Ok(found) if !found.is_dir() => Err(ExportError::FileInTheWay { path: path.clone(), file: folder.to_owned() }),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            Err(ExportError::NoFolder { path: path.clone(), folder: folder.to_owned() })
        }
        // What else is wrong is told when it is written.
        _ => check_writable(path, folder),
    }
}

/// Whether `path` is a directory that can be written to, or can be made one.
///
/// # Errors
/// It takes no files, or a file is in the way.
pub fn check_directory(path: &Path) -> Result<(), ExportError> {
    for folder in path.ancestors() {
        let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
        match fs::metadata(folder) {
            Ok(found) if found.is_dir() => return check_writable(path, folder),
            Ok(_) => return Err(ExportError::FileInTheWay { path: path.to_owned(), file: folder.to_owned() }),
            Err(_) => {}
        }
    }
    Ok(())
}

fn check_writable(path: &Path, folder: &Path) -> Result<(), ExportError> {
    use rustix::fs::{Access, AtFlags, CWD, accessat};
    match accessat(CWD, folder, Access::WRITE_OK | Access::EXEC_OK, AtFlags::EACCESS) {
        Err(rustix::io::Errno::ACCESS | rustix::io::Errno::ROFS) => {
            Err(ExportError::NotWritable { path: path.to_owned(), folder: folder.to_owned() })
        }
        _ => Ok(()),
    }
}

/// Runs `write` on the stream of `destination`.
pub fn write_to<T>(
    destination: &Destination,
    write: impl FnOnce(&mut dyn Write) -> Result<T, ExportError>,
) -> Result<T, ExportError> {
    match destination {
        Destination::Stdout => {
            let mut out = BufWriter::with_capacity(1 << 16, io::stdout().lock());
            let value = write(&mut out)?;
            out.flush().map_err(ExportError::Output)?;
            Ok(value)
        }
        Destination::File(path) => write_whole(path, write),
    }
}

/// Writes `bytes` to `path`, whole or not at all: metadata files, iid files.
pub fn write_file(path: &Path, bytes: &[u8]) -> Result<(), ExportError> {
    write_whole(path, |out| out.write_all(bytes).map_err(ExportError::Output))
}

fn write_whole<T>(path: &Path, write: impl FnOnce(&mut dyn Write) -> Result<T, ExportError>) -> Result<T, ExportError> {
    // A link is written through: its target's folder is where the new file must appear.
    let path = &fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    match fs::metadata(path) {
        Ok(found) if found.is_dir() => {
            return Err(ExportError::InTheWay { path: path.clone(), found: "a directory", wanted: "a file" });
        }
        Ok(found) if found.file_type().is_fifo() || found.file_type().is_char_device() => {
            let file = fs::OpenOptions::new().write(true).open(path).map_err(ExportError::path("writing", path))?;
            let mut out = BufWriter::with_capacity(1 << 16, file);
            let value = write(&mut out)?;
            out.flush().map_err(ExportError::path("writing", path))?;
            return Ok(value);
        }
        _ => {}
    }
    let mut partial = Partial::beside(path).map_err(ExportError::path("creating", path))?;
    let mut out = BufWriter::with_capacity(1 << 16, partial.file());
    let value = write(&mut out).map_err(|error| match error {
        ExportError::Output(source) => ExportError::Path { action: "writing", path: path.clone(), source },
        other => other,
    })?;
    let file = out.into_inner().map_err(|e| ExportError::path("writing", path)(e.into_error()))?;
    file.sync_all().map_err(ExportError::path("writing", path))?;
    partial.publish(path).map_err(ExportError::path("writing", path))?;
    Ok(value)
}
