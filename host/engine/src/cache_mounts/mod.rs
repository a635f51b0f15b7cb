//! Cache mounts that leave the machine and come to it: `rhost cache ls`, `export`, `import`.
//!
//! The format is `rhost_export::cache`; instances, their locks and their replacement are the store's. This room reads instances ([`look`]), sends what a place lacks ([`export`],
//! [`destination`]), and lays down what an instance lacks ([`import`], [`restore`], [`source`]).
mod destination;
mod export;
mod import;
mod look;
mod notes;
mod restore;
mod source;

use std::path::PathBuf;
use std::time::Duration;

use jiff::Timestamp;
use rhost_export::ExportError;
use rhost_export::cache::CacheFormatError;
use rhost_llb::VertexDigest;
use rhost_registry::Error as RegistryError;
use rhost_store::CacheMountInfo;

pub use export::{ExportedMount, MountChoice};
pub use import::{ImportMode, ImportedMount};

use crate::blame;
use crate::engine::Engine;
use crate::error::{BuildError, Kind};
use crate::event::{Event, Events};

/// How often a mount that somebody has is asked for.
const ASK_FIRST: Duration = Duration::from_millis(5);
const ASK_LAST: Duration = Duration::from_millis(100);

/// One cache mount for people.
#[derive(Debug, Clone)]
pub struct CacheMountListing {
    /// What a build file calls it.
    pub id: Option<String>,
    /// What the store knows.
    pub info: CacheMountInfo,
    /// Bytes of the disk.
    pub size: u64,
}

/// Why a cache mount could not be exported or imported.
#[derive(Debug, thiserror::Error)]
pub enum CacheFailure {
    /// The store.
    #[error(transparent)]
    Store(#[from] rhost_store::Error),
    /// A file of a mount.
    #[error(transparent)]
    Rootfs(#[from] rhost_rootfs::Error),
    /// The place it goes to.
    #[error(transparent)]
    Export(#[from] ExportError),
    /// A registry or layout.
    #[error("{0}")]
    Registry(RegistryError),
    /// What is read is no export, or damaged.
    #[error(transparent)]
    Format(#[from] CacheFormatError),
    /// A document of it could not be written.
    #[error("writing the export's documents: {0}")]
    Json(#[from] serde_json::Error),
    /// A file is written to all the time.
    #[error("`{}` changes whenever it is read", path.display())]
    Changing { path: PathBuf },
    /// A file of the mount is not what its notes say.
    #[error("`{}` is not what was noted of it; the notes are removed", path.display())]
    WrongNotes { path: PathBuf },
    /// The manifest is larger than registries take.
    #[error("the export has {layers} parts, more than a manifest can name")]
    TooMany { layers: usize },
    /// The name has an image.
    #[error("`{name}` is no export of cache mounts, and would be replaced by one")]
    Taken { name: String },
    /// Not enough room for what is imported.
    #[error("it takes {}, and the file system of the store has {} free", rhost_store::human(*wanted), rhost_store::human(*free))]
    NoRoom { wanted: u64, free: u64 },
    /// There is no instance; a claim that must not make one ends so.
    #[error("there is no such cache mount")]
    NoInstance,
    /// A thread ended early.
    #[error("a background task was stopped before it had finished{0}")]
    Stopped(String),
}

impl CacheFailure {
    /// What a person is told, about `what`.
    fn into_error(self, what: &str) -> BuildError {
        let message = format!("{what}: {self}");
        match &self {
            Self::Registry(error) => blame::registry(error, message, Kind::Network),
            Self::Format(CacheFormatError::Broken { .. }) => {
                BuildError::new(Kind::Network, message).hint("nothing of it was imported; export it again")
            }
            Self::Format(_) => BuildError::new(Kind::Request, message),
            Self::Export(
                ExportError::InTheWay { .. }
                | ExportError::NoFolder { .. }
                | ExportError::NotWritable { .. }
                | ExportError::FileInTheWay { .. },
            ) => BuildError::new(Kind::Request, message),
            Self::Changing { .. } => {
                BuildError::new(Kind::Store, message).hint("export it again when no build uses the mount")
            }
            Self::WrongNotes { .. } => BuildError::new(Kind::Store, message).hint("run the command again"),
            Self::Taken { .. } => BuildError::new(Kind::Request, message).hint("name another tag or repository"),
            Self::TooMany { .. } => BuildError::new(Kind::Request, message).hint("export fewer mounts at once"),
            Self::NoRoom { .. } => BuildError::new(Kind::Store, message).hint(blame::MAKE_ROOM),
            _ if blame::is_no_space(&self) => BuildError::new(Kind::Store, message).hint(blame::MAKE_ROOM),
            _ => BuildError::new(Kind::Store, message),
        }
    }
}

/// Runs what blocks, on a thread for such things.
async fn on_thread<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, CacheFailure> + Send + 'static,
) -> Result<T, CacheFailure> {
    match tokio::task::spawn_blocking(work).await {
        Ok(answer) => answer,
        Err(error) => Err(CacheFailure::Stopped(format!(": {error}"))),
    }
}

/// The id as a build file writes it: Dockerfiles' ids come as `/ID` where there is no namespace (spec A.4).
pub fn shown_id(id: &str) -> &str {
    id.strip_prefix('/').filter(|rest| !rest.is_empty()).unwrap_or(id)
}

/// Whether somebody who writes `wanted` means the mount `id`.
fn means(wanted: &str, id: &str) -> bool {
    id == wanted || id.strip_prefix('/') == Some(wanted)
}

/// A list of ids for a message.
fn listed<'a>(ids: impl Iterator<Item = &'a str>) -> String {
    let mut ids: Vec<&str> = ids.map(shown_id).collect();
    ids.sort_unstable();
    ids.dedup();
    let (count, shown) = (ids.len(), ids.iter().take(20).map(|id| format!("`{id}`")).collect::<Vec<_>>().join(", "));
    if count > 20 { format!("{shown} and {} more", count - 20) } else { shown }
}

/// How a mount is named in messages: by its id, and by what it began with where it did.
fn title(id: &str, base: Option<&str>) -> String {
    match base {
        None => format!("cache mount `{}`", shown_id(id)),
        Some(base) => format!("cache mount `{}` (from {})", shown_id(id), &base[..base.len().min(12)]),
    }
}

/// Asks until the answer is there; says once for what it waits.
async fn wait<T, E>(
    events: &Events,
    vertex: VertexDigest,
    mut ask: impl AsyncFnMut() -> Result<Result<T, Option<u32>>, E>,
    what: impl Fn(&str) -> String,
) -> Result<T, E> {
    let (mut pause, mut waiting) = (ASK_FIRST, None);
    let tell = |what: std::sync::Arc<str>, over| {
        events.send(Event::Waiting { vertex, what, at: Timestamp::now(), over });
    };
    loop {
        match ask().await? {
            Ok(found) => {
                if let Some(what) = waiting {
                    tell(what, true);
                }
                return Ok(found);
            }
            Err(holder) => {
                if waiting.is_none() {
                    let who = holder.map_or_else(|| "a build".to_owned(), |process| format!("process {process}"));
                    let text: std::sync::Arc<str> = what(&who).into();
                    tell(text.clone(), false);
                    waiting = Some(text);
                }
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(ASK_LAST);
            }
        }
    }
}

/// One line in the log of a step.
fn say(events: &Events, vertex: VertexDigest, line: &str) {
    let bytes = format!("{line}\n").into_bytes().into();
    events.send(Event::Log { vertex, stream: 1, bytes, at: Timestamp::now() });
}

impl Engine {
    /// Every cache mount, by id; several instances of one id by their last use, the latest first.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn cache_mounts(&self) -> Result<Vec<CacheMountListing>, BuildError> {
        let mounts = self.store.cache_mounts().map_err(|error| blame::store(&error))?;
        let list = |info: CacheMountInfo| {
            let id = info.id.as_deref().map(|id| shown_id(id).to_owned());
            CacheMountListing { id, size: info.size(), info }
        };
        let mut found: Vec<_> = mounts.into_iter().map(list).collect();
        found.sort_by(|a, b| {
            let key = |mount: &CacheMountListing| (mount.id.clone(), mount.info.base.clone());
            key(a).cmp(&key(b)).then(b.info.last_used.cmp(&a.info.last_used))
        });
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_what_build_files_say() {
        assert_eq!(
            (shown_id("/npm"), shown_id("//c"), shown_id("ns/npm"), shown_id("/")),
            ("npm", "/c", "ns/npm", "/")
        );
        assert!(means("npm", "/npm") && means("/npm", "/npm") && means("/c", "//c") && means("ns/npm", "ns/npm"));
        assert!(!means("npm", "ns/npm") && !means("c", "//c"));
        assert_eq!(listed(["/b", "//a", "/b"].into_iter()), "`/a`, `b`");
        assert_eq!(title("/npm", Some("0123456789abcdef")), "cache mount `npm` (from 0123456789ab)");
    }
}
