//! Pulls several blobs at once into a store.
use std::sync::Arc;

use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};

use crate::{BlobStore, Descriptor, Error, ImageSource, Reference};

/// What became of a pull.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pulled {
    /// Blobs that came over the wire.
    pub fetched: usize,
    /// Their bytes.
    pub bytes: u64,
    /// Blobs that were there already.
    pub present: usize,
}

/// Brings `blobs` of `image` into `store`, at most `parallel` (at least 1) at a time; each once, however often it is
/// named. Blobs that arrived stay when another fails.
///
/// # Errors
/// The first error of the source or the store.
pub async fn pull_blobs(
    source: &dyn ImageSource,
    image: &Reference,
    blobs: &[Descriptor],
    store: &dyn BlobStore,
    parallel: usize,
) -> Result<Pulled, Error> {
    let mut seen = std::collections::HashSet::new();
    let unique: Vec<&Descriptor> = blobs.iter().filter(|blob| seen.insert(blob.digest)).collect();
    let pulls: Vec<_> = unique.into_iter().map(|blob| pull_one(source, image, blob, store)).collect();
    stream::iter(pulls)
        .buffer_unordered(parallel.max(1))
        .try_fold(Pulled::default(), |sum, one| async move {
            Ok(Pulled {
                fetched: sum.fetched + one.fetched,
                bytes: sum.bytes + one.bytes,
                present: sum.present + one.present,
            })
        })
        .await
}

async fn pull_one(
    source: &dyn ImageSource,
    image: &Reference,
    blob: &Descriptor,
    store: &dyn BlobStore,
) -> Result<Pulled, Error> {
    let local = |e: std::io::Error| Error::Local { action: "write", digest: blob.digest, source: Arc::new(e) };
    if store.has(blob).await.map_err(local)? {
        return Ok(Pulled { present: 1, ..Pulled::default() });
    }
    let mut sink = store.start(blob).await.map_err(local)?;
    source.blob(image, blob, &mut *sink).await?;
    sink.commit().await.map_err(local)?;
    Ok(Pulled { fetched: 1, bytes: blob.size, present: 0 })
}
