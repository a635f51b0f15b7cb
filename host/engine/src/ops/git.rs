//! `git://`: a commit of a repository, checked out into a layer. The key is the commit (spec C.1), so a branch that moved is a new source, and one that did not
//! is in the cache; to know that, the remote is asked for its refs and for nothing else.
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use rhost_llb::{Digest, OpKind, Vertex, cache_key};
use rhost_rootfs::{Apply, Lowers, Root, apply_layer};
use rhost_solver::{CacheMap, Op, OpError};
use rhost_store::{GitRepository, SnapshotId};
use tokio::sync::OnceCell;

use crate::git::{GitError, GitSource, Resolved, Runner, claim, lend, resolve};
use crate::lock::{Vendor, tree_name};
use crate::op_error::{OpFailure, blocking};
use crate::shared::Shared;
use crate::value::Value;

/// A git source.
pub struct GitStep {
    shared: Arc<Shared>,
    vertex: Arc<Vertex>,
    source: GitSource,
    resolved: OnceCell<Resolved>,
}

impl GitStep {
    /// Checks identifier and attributes.
    pub fn new(shared: Arc<Shared>, vertex: Arc<Vertex>) -> Result<Self, OpFailure> {
        let OpKind::Source(source) = vertex.kind() else {
            return Err(OpFailure::NotYet("a git source of another kind".into()));
        };
        let rest = source.split().map_or("", |(_, rest)| rest);
        let source = GitSource::parse(source, rest)?;
        shared.rules.check_git(&source.remote.url, None)?;
        Ok(Self { shared, vertex, source, resolved: OnceCell::new() })
    }

    async fn resolve(&self) -> Result<&Resolved, OpFailure> {
        self.resolved.get_or_try_init(|| resolve(&self.shared, &self.source, self.vertex.digest)).await
    }

    async fn take(&self) -> Result<SnapshotId, OpFailure> {
        let wanted = self.resolve().await?.clone();
        let (shared, vertex) = (&*self.shared, self.vertex.digest);
        let name = tree_name(&self.source.remote.url, &wanted.key);
        if let Some(vendor) = shared.pins.vendor().filter(|vendor| vendor.tree(&name).is_some()).cloned() {
            let (shared, shown) = (self.shared.clone(), self.source.shown());
            return blocking(move || unpack(&shared, &vendor, &name, &shown)).await;
        }
        let lent = lend(shared, &self.source, shared.git.patience().as_secs()).await?;
        let repository = claim(shared, vertex, &self.source.remote.url, &wanted.object).await?;
        let log = Some(vertex);
        let runner = Runner { shared, source: &self.source, lent: &lent, log, repository: Some(&repository) };
        runner.tell(&format!("{} is {}", self.source.shown(), wanted.object));
        let dir = repository.dir();
        let is_new = !dir.join("HEAD").exists();
        let first = attempt(&runner, &dir, &wanted, is_new).await;
        match first {
            Err(OpFailure::Git(error)) if !is_new && may_be_damage(&error) => {
                // Beside it, so that a server which is only away for now costs nothing of what is there.
                tracing::warn!(%error, "a git repository of the store is of no use; begun anew");
                let answer = self.anew(&runner, &repository, &wanted).await;
                drop(runner);
                blocking(move || Ok(drop(repository))).await?;
                answer
            }
            answer => {
                blocking(move || Ok(drop(repository))).await?;
                answer
            }
        }
    }

    async fn anew(
        &self,
        runner: &Runner<'_>,
        repository: &GitRepository,
        wanted: &Resolved,
    ) -> Result<SnapshotId, OpFailure> {
        let dir = repository.replacement()?;
        let snapshot = attempt(runner, &dir, wanted, true).await?;
        repository.replace()?;
        Ok(snapshot)
    }
}

/// Makes a layer of the tree `name` in `vendor`.
fn unpack(shared: &Shared, vendor: &Vendor, name: &str, shown: &str) -> Result<SnapshotId, OpFailure> {
    let Some(blob) = vendor.tree(name) else { return Err(OpFailure::NoLocal(name.to_owned())) };
    let local = |error: std::io::Error| {
        let (digest, source) = (blob.digest, Arc::new(error));
        OpFailure::Registry(rhost_registry::Error::Local { action: "read", digest, source })
    };
    let file = vendor.open_blob(blob).map_err(local)?;
    let active = shared.store.prepare(None)?;
    std::fs::create_dir_all(active.upper()).map_err(|error| GitError::io("make", active.upper(), error))?;
    let options = Apply { xattrs: shared.store.options().overlay, owners: shared.owners, lowers: Lowers::Here(&[]) };
    let applied = apply_layer(&Root::open(active.upper())?, std::io::BufReader::new(file), options)?;
    if applied.diff_id.0 != blob.digest.0 {
        return Err(OpFailure::Registry(rhost_registry::Error::DigestMismatch {
            what: format!("the vendored tree of {shown}"),
            wanted: blob.digest,
            found: rhost_llb::BlobDigest(applied.diff_id.0),
        }));
    }
    Ok(active.commit_as(&format!("git snapshot for {shown}"))?)
}

/// Fetches into the bare repository at `dir` and checks out.
async fn attempt(runner: &Runner<'_>, dir: &Path, wanted: &Resolved, is_new: bool) -> Result<SnapshotId, OpFailure> {
    if is_new {
        runner.init(dir, &wanted.object).await?;
    }
    runner.fetch(dir, wanted).await?;
    runner.checkout(dir, wanted).await
}

/// Whether a repository without damage could do better.
fn may_be_damage(error: &GitError) -> bool {
    matches!(error, GitError::Failed { .. } | GitError::Answer { .. } | GitError::Io { .. })
}

#[async_trait]
impl Op<Value> for GitStep {
    fn outputs(&self) -> usize {
        1
    }

    async fn cache_map(&self) -> Result<CacheMap, OpError> {
        let resolved = self.resolve().await.map_err(OpError::new)?;
        self.shared.explainer.version(self.vertex.digest, resolved.object.clone());
        let key = match self.shared.rules.remotes() {
            Some(rules) => format!("{} by {rules}", resolved.key),
            None => resolved.key.clone(),
        };
        let digest = cache_key::source_digest(&key).digest;
        Ok(CacheMap { digest, inputs: Vec::new(), volatile: false })
    }

    async fn content_key(&self, _: usize, _: &Value) -> Result<Digest, OpError> {
        Err(OpError::new(OpFailure::NotYet("a source with inputs".into())))
    }

    async fn run(&self, _: &[Value]) -> Result<Vec<Value>, OpError> {
        Ok(vec![Value::Snapshot(self.take().await.map_err(OpError::new)?)])
    }
}
