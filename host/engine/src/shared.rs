//! `Shared`: what every operation of a build can reach. Made by the engine, handed down as a value.
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use jiff::Timestamp;
use rhost_llb::{Digest, DigestMap, Platform, VertexDigest};
use rhost_registry::redact;
use rhost_rootfs::{Copy, CopyMode, Modes, OwnerPolicy, Root, Source, Tree, copy};
use rhost_store::{SnapshotId, Store};

use crate::downloads::Downloads;
use crate::emulation::Emulation;
use crate::event::{Event, Events};
use crate::explain::Explainer;
use crate::git::Git;
use crate::images::Images;
use crate::layers::Layers;
use crate::lent::Lent;
use crate::lock::Pins;
use crate::once::Once;
use crate::op_error::OpFailure;
use crate::rules::Rules;
use crate::uploads::Upload;
use crate::value::Value;

/// What is known of each vertex beside what it does.
#[derive(Clone)]
pub struct VertexInfo {
    /// For people.
    pub name: Arc<str>,
    /// What it stands on.
    pub inputs: Vec<VertexDigest>,
}

/// What a remote context is as local directories.
pub struct FetchedLocals {
    /// What it holds.
    pub root: Root,
    /// The build file is in it, too.
    pub has_build_file: bool,
}

/// One build's surroundings.
pub struct Shared {
    /// Blobs, snapshots, names.
    pub store: Store,
    /// Registries and layouts.
    pub images: Images,
    /// Layers of images, brought when they are needed.
    pub layers: Arc<Layers>,
    /// Files at URLs.
    pub downloads: Downloads,
    /// What names stand for.
    pub pins: Arc<Pins>,
    /// Files that the client sends along, by name.
    pub uploads: BTreeMap<String, Upload>,
    /// Progress.
    pub events: Events,
    /// Work that other processes may want too.
    pub once: Arc<Once>,
    /// The platform of this machine.
    pub host: Platform,
    /// How other platforms' programs run.
    pub emulation: Arc<Emulation>,
    /// Git repositories as sources.
    pub git: Git,
    /// What the build may use.
    pub rules: Arc<Rules>,
    /// Local directories by name.
    pub locals: BTreeMap<String, PathBuf>,
    /// Which modes their files have.
    pub modes: Modes,
    /// The remote context, once it is fetched, for who knows of directories only.
    pub fetched: OnceLock<FetchedLocals>,
    /// Secrets, agents and permissions.
    pub lent: Arc<Lent>,
    /// What a refused chown means.
    pub owners: OwnerPolicy,
    /// Why steps run.
    pub explainer: Arc<Explainer>,
    /// Names for progress.
    pub vertices: Mutex<DigestMap<VertexDigest, VertexInfo>>,
}

impl Shared {
    /// The remote context that stands for the local directory `name`.
    pub fn fetched(&self, name: &str) -> Option<&Root> {
        let fetched = self.fetched.get()?;
        (name == "context" || (name == "dockerfile" && fetched.has_build_file)).then_some(&fetched.root)
    }

    /// The name of `vertex`, as progress shows it.
    pub fn vertex(&self, vertex: VertexDigest) -> VertexInfo {
        let known = self.vertices.lock().unwrap_or_else(PoisonError::into_inner);
        known
            .get(&vertex)
            .cloned()
            .unwrap_or_else(|| VertexInfo { name: vertex.to_string().into(), inputs: Vec::new() })
    }

    /// Runs `work` as a step of its own in the progress, outside the graph.
    pub async fn internal<T, E: std::fmt::Display>(
        &self,
        name: &str,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        let vertex = VertexDigest(Digest::of(format!("internal {name}")));
        let name: Arc<str> = redact(name).into();
        self.events.send(Event::Started { vertex, name: name.clone(), inputs: Vec::new(), at: Timestamp::now() });
        let answer = work.await;
        let error = answer.as_ref().err().map(|error| redact(&error.to_string()).into());
        self.events.send(Event::Completed { vertex, name, at: Timestamp::now(), cached: false, error });
        answer
    }

    /// Brings what of `value` is not there yet.
    pub async fn present(&self, value: &Value) -> Result<(), OpFailure> {
        match value {
            Value::Snapshot(id) => self.layers.lay_down(*id).await,
            Value::Scratch | Value::Context(_) => Ok(()),
        }
    }

    /// `value` as a snapshot; `None` for the empty tree. A directory of the user's is copied.
    pub fn snapshot(&self, value: &Value) -> Result<Option<SnapshotId>, OpFailure> {
        match value {
            Value::Scratch => Ok(None),
            Value::Snapshot(id) => Ok(Some(*id)),
            Value::Context(tree) => {
                let active = self.store.prepare(None)?;
                copy(&Source::Tree((**tree).clone()), &Root::open(active.upper())?, &as_it_is(self.owners))?;
                Ok(Some(active.commit()?))
            }
        }
    }

    /// A read-only view of snapshot `id`; all of it must be there ([`Shared::present`]).
    pub fn view(&self, id: SnapshotId) -> Result<Root, OpFailure> {
        let spec = self.store.mount(id)?.ok_or(rhost_store::Error::NoSnapshot { id: id.0 })?;
        crate::overlay::open(&spec).map_err(OpFailure::overlay)
    }

    /// What `value` holds, to hash or to copy from.
    pub fn tree(&self, value: &Value) -> Result<Arc<Tree>, OpFailure> {
        Ok(match value {
            Value::Scratch => Arc::new(Tree::empty()),
            Value::Snapshot(id) => Arc::new(Tree::of_root(self.view(*id)?)),
            Value::Context(tree) => tree.clone(),
        })
    }
}

/// Copies all of a tree as it is.
pub fn as_it_is(owners: OwnerPolicy) -> Copy {
    Copy {
        src: "/".into(),
        dest: "/".into(),
        owner: None,
        mode: CopyMode::Keep,
        follow_symlink: false,
        dir_contents: true,
        unpack: false,
        create_dest_path: true,
        wildcard: false,
        empty_wildcard: false,
        timestamp: None,
        include: Vec::new(),
        exclude: Vec::new(),
        always_replace: false,
        owners,
    }
}
