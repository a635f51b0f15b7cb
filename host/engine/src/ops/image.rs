//! `docker-image://` and `oci-layout://`: resolved to manifest and config, and recorded as snapshots by chain id. No layer is fetched here: whoever needs
//! one brings it ([`crate::layers`]).
use std::sync::Arc;

use async_trait::async_trait;
use rhost_llb::{ChainId, DiffId, Digest, OpKind, Platform, SourceScheme, Vertex, VertexDigest, attr, cache_key};
use rhost_solver::{CacheMap, Op, OpError};

use crate::images::{Found, Freshness};
use crate::op_error::{OpFailure, blocking};
use crate::shared::Shared;
use crate::value::Value;

/// An image source.
pub struct ImageStep {
    shared: Arc<Shared>,
    vertex: VertexDigest,
    identifier: String,
    reference: String,
    layout: Option<String>,
    platform: Platform,
    fresh: Freshness,
    /// Only so many layers, from the base.
    limit: Option<usize>,
    /// What the name must stand for.
    checksum: Option<Digest>,
}

impl ImageStep {
    /// Checks the identifier and the attributes.
    pub fn new(shared: Arc<Shared>, vertex: Arc<Vertex>) -> Result<Self, OpFailure> {
        let OpKind::Source(source) = vertex.kind() else {
            return Err(OpFailure::NotYet("an image source of another kind".into()));
        };
        let wrong = |reason: &str| OpFailure::Source { identifier: source.identifier.clone(), reason: reason.into() };
        let (scheme, reference) = source.split().ok_or_else(|| wrong("unknown scheme"))?;
        let limit = match source.attr(attr::IMAGE_LAYER_LIMIT).or(source.attr(attr::OCI_LAYER_LIMIT)) {
            None | Some("") => None,
            Some(text) => Some(
                text.parse()
                    .ok()
                    .filter(|limit| *limit > 0)
                    .ok_or_else(|| wrong(&format!("the layer limit `{text}` is no number above 0")))?,
            ),
        };
        let checksum = match source.attr(attr::IMAGE_CHECKSUM) {
            None | Some("") => None,
            Some(text) => Some(text.parse().map_err(|_| wrong(&format!("the checksum `{text}` is no sha256 digest")))?),
        };
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
        let (identifier, reference) = (source.identifier.clone(), reference.to_owned());
        let vertex = vertex.digest;
        Ok(Self { shared, vertex, identifier, reference, layout, platform, fresh, limit, checksum })
    }

    async fn find(&self) -> Result<Found, OpFailure> {
        let found = match &self.layout {
            Some(layout) => self.shared.images.layout(layout, &self.reference, &self.platform).await,
            None => self.shared.images.image(&self.reference, &self.platform, self.fresh).await,
        }?;
        let is = found.image.root.descriptor.digest.0;
        if let Some(wanted) = self.checksum.filter(|wanted| *wanted != is) {
            let reason = format!("it is {is}, but its checksum must be {wanted}");
            return Err(OpFailure::Source { identifier: self.identifier.clone(), reason });
        }
        self.shared.layers.offer(self.vertex, &self.shared.vertex(self.vertex).name, &found);
        Ok(found)
    }

    /// The diff ids that count: all, or the first few.
    fn diff_ids<'f>(&self, found: &'f Found) -> &'f [DiffId] {
        let all = &found.image.diff_ids;
        &all[..self.limit.map_or(all.len(), |limit| limit.min(all.len()))]
    }
}

#[async_trait]
impl Op<Value> for ImageStep {
    fn outputs(&self) -> usize {
        1
    }

    /// By the layers rather than by the manifest: another manifest of the same layers is the same file tree.
    async fn cache_map(&self) -> Result<CacheMap, OpError> {
        let found = self.find().await.map_err(OpError::new)?;
        let key = match ChainId::of(self.diff_ids(&found)) {
            Some(chain) => chain.to_string(),
            None => cache_key::image_manifest_key(found.image.manifest.descriptor.digest.0, &self.platform, None),
        };
        Ok(CacheMap { digest: cache_key::source_digest(&key).digest, inputs: Vec::new(), volatile: false })
    }

    async fn content_key(&self, _: usize, _: &Value) -> Result<Digest, OpError> {
        Err(OpError::new(OpFailure::NotYet("a source with inputs".into())))
    }

    async fn run(&self, _: &[Value]) -> Result<Vec<Value>, OpError> {
        let found = self.find().await.map_err(OpError::new)?;
        let (shared, diff_ids) = (self.shared.clone(), self.diff_ids(&found).to_vec());
        let top = blocking(move || Ok(shared.store.declare_image(&diff_ids)?)).await.map_err(OpError::new)?;
        Ok(vec![top.map_or(Value::Scratch, Value::Snapshot)])
    }
}
