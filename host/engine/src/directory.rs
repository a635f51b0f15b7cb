//! `LentDirectory`: a directory as frontends see it: paths are looked up inside it and cannot leave it.
use async_trait::async_trait;
use rhost_frontend::{ByteRange, FileKind, FileStat, HostError, SolvedTree};
use rhost_rootfs::{Kind as FileType, Last, Root, Stat, glob_match};

/// A directory of this machine, answered from as a context or a solved tree is.
#[derive(Clone)]
pub struct LentDirectory(Root);

impl LentDirectory {
    /// Opens it.
    ///
    /// # Errors
    /// It is not there, or no directory.
    pub fn open(directory: &std::path::Path) -> Result<Self, HostError> {
        Root::open(directory).map(Self).map_err(host_error)
    }
}

#[async_trait]
impl SolvedTree for LentDirectory {
    async fn read_file(&self, path: &str, range: Option<ByteRange>, limit: u64) -> Result<Vec<u8>, HostError> {
        let (root, path) = (self.0.clone(), path.to_owned());
        on_thread(move || read_file(&root, &path, range, limit)).await
    }

    async fn stat(&self, path: &str) -> Result<FileStat, HostError> {
        let (root, path) = (self.0.clone(), path.to_owned());
        on_thread(move || stat(&root, &path)).await
    }

    async fn read_dir(&self, path: &str, pattern: Option<&str>) -> Result<Vec<FileStat>, HostError> {
        let (root, path, pattern) = (self.0.clone(), path.to_owned(), pattern.map(str::to_owned));
        on_thread(move || read_dir(&root, &path, pattern.as_deref())).await
    }
}

pub(crate) fn host_error(error: rhost_rootfs::Error) -> HostError {
    match &error {
        rhost_rootfs::Error::NotFound { .. } => HostError::NotFound(error.to_string()),
        _ => HostError::Failed(error.to_string()),
    }
}

fn file_stat(root: &Root, path: &str, stat: &Stat) -> FileStat {
    let name = path.trim_end_matches('/').rsplit('/').next().unwrap_or_default().to_owned();
    let link_target = if stat.is_symlink() {
        root.read_link(path).map(|target| target.to_string_lossy().into_owned()).unwrap_or_default()
    } else {
        String::new()
    };
    FileStat {
        name,
        kind: match stat.kind {
            FileType::File => FileKind::Regular,
            FileType::Dir => FileKind::Directory,
            FileType::Symlink => FileKind::Symlink,
            _ => FileKind::Special,
        },
        mode: stat.mode,
        uid: stat.owner.uid,
        gid: stat.owner.gid,
        size: if stat.is_file() { stat.size } else { 0 },
        modified: stat.mtime,
        link_target,
    }
}

pub(crate) fn read_file(root: &Root, path: &str, range: Option<ByteRange>, limit: u64) -> Result<Vec<u8>, HostError> {
    use std::io::{Read as _, Seek as _, SeekFrom};
    let failed = |error: std::io::Error| HostError::Failed(format!("cannot read `{path}`: {error}"));
    let mut file = root.open_file(path).map_err(host_error)?;
    let size = file.metadata().map_err(failed)?.len();
    let wanted = match range {
        Some(range) => {
            file.seek(SeekFrom::Start(range.offset)).map_err(failed)?;
            range.length.min(size.saturating_sub(range.offset))
        }
        None => size,
    };
    let too_large = || HostError::TooLarge(format!("`{path}` is larger than the {limit} bytes that are read at once"));
    if wanted > limit {
        return Err(too_large());
    }
    // A file that grows meanwhile must not pass the limit either.
    let mut bytes = Vec::new();
    let most = if range.is_some() { wanted } else { limit.saturating_add(1) };
    file.take(most).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > limit { Err(too_large()) } else { Ok(bytes) }
}

pub(crate) fn stat(root: &Root, path: &str) -> Result<FileStat, HostError> {
    let stat = root.stat(path, Last::Keep).map_err(host_error)?;
    Ok(file_stat(root, path, &stat))
}

pub(crate) fn read_dir(root: &Root, path: &str, pattern: Option<&str>) -> Result<Vec<FileStat>, HostError> {
    let mut entries = Vec::new();
    for entry in root.read_dir(path).map_err(host_error)? {
        let name = entry.name.to_string_lossy().into_owned();
        if pattern.is_none_or(|pattern| glob_match(pattern, &name).unwrap_or(false)) {
            entries.push(stat(root, &format!("{}/{name}", path.trim_end_matches('/')))?);
        }
    }
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(entries)
}

pub(crate) async fn on_thread<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, HostError> + Send + 'static,
) -> Result<T, HostError> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(HostError::Failed(error.to_string())))
}
