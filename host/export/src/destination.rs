//! `Destination`: a file or standard output; files appear whole or not at all.
//!
//! Bytes go to a hidden file beside the wanted one, which is synced and renamed over it. A failed export leaves what was
//! there before. Pipes and devices (`dest=/dev/stdout`, a fifo) cannot be renamed over and are written straight.
use std::fs;
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::ExportError;

/// Where an exporter's one stream goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    /// `dest=FILE`.
    File(PathBuf),
    /// `dest=-`. Whether that is a terminal, which must be refused, only the cli can tell.
    Stdout,
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
    let (mut partial, file) = Partial::create(path)?;
    let mut out = BufWriter::with_capacity(1 << 16, file);
    let value = write(&mut out).map_err(|error| match error {
        ExportError::Output(source) => ExportError::Path { action: "writing", path: path.clone(), source },
        other => other,
    })?;
    let file = out.into_inner().map_err(|e| ExportError::path("writing", path)(e.into_error()))?;
    file.sync_all().map_err(ExportError::path("writing", path))?;
    partial.publish(path)?;
    Ok(value)
}

/// A file that is removed unless it was published.
pub(crate) struct Partial(Option<PathBuf>);

impl Partial {
    /// A new file beside `path`, with the mode that the umask gives.
    pub(crate) fn create(path: &Path) -> Result<(Self, fs::File), ExportError> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let folder = match path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        loop {
            let number = NEXT.fetch_add(1, Ordering::Relaxed);
            let partial = folder.join(format!(".rhost-partial-{}-{number}", std::process::id()));
            match fs::OpenOptions::new().write(true).create_new(true).mode(0o666).open(&partial) {
                Ok(file) => return Ok((Self(Some(partial)), file)),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(ExportError::path("creating a file for", path)(error)),
            }
        }
    }

    /// Renames it to `path`.
    pub(crate) fn publish(&mut self, path: &Path) -> Result<(), ExportError> {
        if let Some(partial) = &self.0 {
            fs::rename(partial, path).map_err(ExportError::path("writing", path))?;
        }
        self.0 = None;
        Ok(())
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        if let Some(path) = &self.0 {
            // The error that brought us here is the one to tell.
            let _ = fs::remove_file(path);
        }
    }
}
