//! `docker-image://` and `oci-layout://`: layers are fetched several at once and laid down as snapshots, found again by chain id.
use std::sync::Arc;

use async_trait::async_trait;
use rhost_llb::{ChainId, Digest, OpKind, Platform, SourceScheme, Vertex, attr, cache_key};
use rhost_registry::pull_blobs;
use rhost_rootfs::{Apply, Root, apply_layer, decompress};
use rhost_solver::{CacheMap, Op, OpError};
use rhost_store::{BlobRecord, SnapshotId};

use crate::images::{Found, Freshness, PullInto};
use crate::op_error::{OpFailure, blocking};
use crate::shared::Shared;
use crate::value::Value;

/// Layers fetched at once, as BuildKit and Docker do.
const PARALLEL: usize = 4;

/// An image source.
pub struct ImageStep {
    shared: Arc<Shared>,
    reference: String,
    layout: Option<String>,
    platform: Platform,
    fresh: Freshness,
}

impl ImageStep {
    /// Checks the identifier and the attributes.
    pub fn new(shared: Arc<Shared>, vertex: Arc<Vertex>) -> Result<Self, OpFailure> {
        let OpKind::Source(source) = vertex.kind() else {
            return Err(OpFailure::NotYet("an image source of another kind".into()));
        };
        let wrong = |reason: &str| OpFailure::Source { identifier: source.identifier.clone(), reason: reason.into() };
        let (scheme, reference) = source.split().ok_or_else(|| wrong("unknown scheme"))?;
        for limit in [attr::IMAGE_LAYER_LIMIT, attr::OCI_LAYER_LIMIT] {
            if source.attr(limit).is_some() {
                return Err(OpFailure::NotYet(format!("`{limit}`")));
            }
        }
        let fresh = match source.attr(attr::IMAGE_RESOLVE_MODE) {
            None | Some("" | "default" | "local") => Freshness::Default,
            Some("pull") => Freshness::Pull,
            Some(_) => return Err(wrong("`image.resolvemode` is none of default, pull, local")),
        };
        let layout = (scheme == SourceScheme::OciLayout).then(|| {
            let store = source.attr(attr::OCI_STORE).unwrap_or_default();
            if store.is_empty() {
                reference.split(['@', ':']).next().unwrap_or_default().to_owned()
            } else {
                store.to_owned()
            }
        });
        let platform = vertex.op.platform.clone().unwrap_or_else(|| shared.host.clone());
        Ok(Self { shared, reference: reference.to_owned(), layout, platform, fresh })
    }

    async fn find(&self) -> Result<Found, OpFailure> {
        match &self.layout {
            Some(layout) => self.shared.images.layout(layout, &self.reference, &self.platform).await,
            None => self.shared.images.image(&self.reference, &self.platform, self.fresh).await,
        }
    }

    async fn bring(&self) -> Result<Value, OpFailure> {
        let found = self.find().await?;
        let Some(chain) = ChainId::of(&found.image.diff_ids) else { return Ok(Value::Scratch) };
        if let Some(id) = self.shared.store.snapshot_of_chain(&chain)? {
            return Ok(Value::Snapshot(id));
        }
        let missing = self.first_missing(&found)?;
        let into = PullInto(self.shared.store.clone());
        let layers = &found.image.layers[missing..];
        pull_blobs(&*found.source, &found.image.reference, layers, &into, PARALLEL).await?;
        let shared = self.shared.clone();
        let id = blocking(move || unpack(&shared, &found)).await?;
        Ok(Value::Snapshot(id))
    }

    /// How many layers, from the base, are snapshots already.
    fn first_missing(&self, found: &Found) -> Result<usize, OpFailure> {
        let ids = &found.image.diff_ids;
        for count in (1..ids.len()).rev() {
            if let Some(chain) = ChainId::of(&ids[..count])
                && self.shared.store.snapshot_of_chain(&chain)?.is_some()
            {
                return Ok(count);
            }
        }
        Ok(0)
    }
}

fn unpack(shared: &Shared, found: &Found) -> Result<SnapshotId, OpFailure> {
    let (store, image) = (&shared.store, &found.image);
    let mut parent: Option<SnapshotId> = None;
    for (index, (layer, diff_id)) in image.layers.iter().zip(&image.diff_ids).enumerate() {
        let Some(chain) = ChainId::of(&image.diff_ids[..=index]) else { continue };
        if let Some(id) = store.snapshot_of_chain(&chain)? {
            parent = Some(id);
            continue;
        }
        let active = store.prepare(parent)?;
        let blob = store.open_blob(&layer.digest)?.ok_or_else(|| rhost_registry::Error::NotFound {
            registry: "the store".into(),
            what: format!("layer {} of `{}`", layer.digest, image.reference),
        })?;
        let (_, tar) = decompress(std::io::BufReader::with_capacity(1 << 18, blob))?;
        let lowers = active.mount().lowers.iter().map(Root::open).collect::<Result<Vec<_>, _>>()?;
        let options = Apply { xattrs: store.options().overlay, owners: shared.owners, lowers: &lowers };
        let applied = apply_layer(&Root::open(active.upper())?, tar, options)?;
        if applied.diff_id != *diff_id {
            store.remove_blob(&layer.digest)?;
            return Err(OpFailure::WrongDiffId {
                image: image.reference.to_string(),
                digest: layer.digest,
                wanted: *diff_id,
                found: applied.diff_id,
            });
        }
        let record = BlobRecord { digest: layer.digest, size: layer.size, media_type: layer.media_type.clone() };
        store.link_blob(diff_id, &record)?;
        parent = Some(active.commit_layer(&chain, *diff_id)?);
    }
    parent.ok_or_else(|| OpFailure::Source { identifier: image.reference.to_string(), reason: "no layers".into() })
}

#[async_trait]
impl Op<Value> for ImageStep {
    fn outputs(&self) -> usize {
        1
    }

    /// By the layers rather than by the manifest: another manifest of the same layers is the same file tree.
    async fn cache_map(&self) -> Result<CacheMap, OpError> {
        let found = self.find().await.map_err(OpError::new)?;
        let key = match ChainId::of(&found.image.diff_ids) {
            Some(chain) => chain.to_string(),
            None => cache_key::image_manifest_key(found.image.manifest.descriptor.digest.0, &self.platform, None),
        };
        Ok(CacheMap { digest: cache_key::source_digest(&key).digest, inputs: Vec::new(), volatile: false })
    }

    async fn content_key(&self, _: usize, _: &Value) -> Result<Digest, OpError> {
        Err(OpError::new(OpFailure::NotYet("a source with inputs".into())))
    }

    async fn run(&self, _: &[Value]) -> Result<Vec<Value>, OpError> {
        Ok(vec![self.bring().await.map_err(OpError::new)?])
    }
}
