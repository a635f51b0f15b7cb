//! `Engine`: the composition root. From a request to an image: choose the frontend, run it, solve its graph, export.
use std::collections::{BTreeMap, HashMap};
use std::ffi::OsString;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rhost_frontend::{Embedded, Invocation, Outcome};
use rhost_llb::{Definition, Digest, Platform};
use rhost_registry::{Client, ClientOptions, CredentialSource, Proxies, RegistryConfig};
use rhost_rootfs::{Modes, OverlayXattrs};
use rhost_store::{Durability, DurableCache, ResultCodec, SnapshotId, Store, StoreOptions};

use crate::answers::Consultation;
use crate::blame;
use crate::config::Settings;
use crate::emulation::Emulation;
use crate::error::{BuildError, Kind};
use crate::event::{Event, Events};
use crate::export::{Exported, Exporter};
use crate::frontends::FrontendSource;
use crate::git::GitOptions;
use crate::layers::Layers;
use crate::prepare::Prepared;
use crate::request::{BuildRequest, GraphRequest, NoCache};
use crate::session::Session;
use crate::value::Value;

/// What the engine is made with; the cli finds all of it out.
pub struct EngineOptions {
    /// Where state lives.
    pub root: PathBuf,
    /// The configuration file.
    pub settings: Settings,
    /// Credentials for registries.
    pub credentials: Arc<dyn CredentialSource>,
    /// Proxies of the environment.
    pub proxies: Proxies,
    /// What git sources are fetched with.
    pub git: GitOptions,
    /// The stock Dockerfile frontend.
    pub stock_frontend: Embedded,
    /// This program, to be run again as compiler of guests, and the arguments that make it so.
    pub compiler: (PathBuf, Vec<OsString>),
    /// Whether only one user id is mapped in this user namespace.
    pub single_id: bool,
    /// Whether this process lives in a user namespace.
    pub user_namespace: bool,
}

/// Builds images. One for a process.
pub struct Engine {
    pub(crate) options: EngineOptions,
    pub(crate) store: Store,
    pub(crate) client: Client,
    pub(crate) emulation: Arc<Emulation>,
}

/// What a user without subordinate ids is told.
const SINGLE_ID: &str = "only one user can be had in images here: every file belongs to root and steps cannot become other users. Ranges in \
     /etc/subuid and /etc/subgid (`usermod --add-subuids 100000-165535 --add-subgids 100000-165535 USER`, by root) and newuidmap \
     (package uidmap) change that";

/// The kind of results in the cache.
pub(crate) const SNAPSHOTS: &str = "snapshot-v2";

/// The snapshot that a result in the cache names.
pub(crate) fn snapshot_in(bytes: &[u8]) -> Option<SnapshotId> {
    Some(SnapshotId(i64::from_le_bytes(*bytes.first_chunk()?)))
}

/// Results in the cache are snapshots, by number. Layers that are not there are as good as there when somebody offers them.
pub(crate) struct SnapshotCodec {
    store: Store,
    layers: Arc<Layers>,
    /// Snapshots that were found whole in this build, with all below them (chains share most of their length), and what they stand on: a digest of the
    /// layers' names in the store. A damaged record must not put a result on another base.
    whole: Mutex<HashMap<SnapshotId, Digest>>,
}

impl SnapshotCodec {
    /// What `id` is stacked of, if it and all below it are there or could be.
    fn whole(&self, id: SnapshotId) -> Option<Digest> {
        let mut stack = Digest::of("nothing");
        if let Some(known) = self.lock().get(&id) {
            return Some(*known);
        }
        // Most stand on one that is known; else the whole chain is read at once.
        let top = self.store.made(id).or_else(|| self.store.record(id).ok()?)?;
        let below = top.parent.map(|parent| (parent, self.lock().get(&parent).copied()));
        let chain = match below {
            None => vec![top],
            Some((_, Some(known))) => {
                stack = known;
                vec![top]
            }
            Some((_, None)) => self.store.records(id).ok()??,
        };
        let mut seen = Vec::new();
        for info in &chain {
            if let Some(known) = self.lock().get(&info.id) {
                stack = *known;
                break;
            }
            if !self.layers.is_obtainable(info) {
                return None;
            }
            let name = info.dir.parent().and_then(Path::file_name).unwrap_or_default().to_owned();
            seen.push((info.id, name));
        }
        for (id, name) in seen.into_iter().rev() {
            stack = Digest::of(format!("{stack} {}", name.display()));
            self.lock().insert(id, stack);
        }
        Some(stack)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<SnapshotId, Digest>> {
        self.whole.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a frontend made, before anything is solved.
#[derive(Debug, Clone)]
pub struct Dumped {
    /// The graph; empty for scratch.
    pub definition: Definition,
    /// Result metadata by BuildKit's names, as in `containerimage.config`.
    pub metadata: BTreeMap<String, Vec<u8>>,
}

impl ResultCodec<Value> for SnapshotCodec {
    fn kind(&self) -> &str {
        SNAPSHOTS
    }

    fn encode(&self, value: &Value) -> Option<Vec<u8>> {
        match value {
            Value::Snapshot(id) => {
                let stack = self.whole(*id)?;
                Some([id.0.to_le_bytes().as_slice(), stack.as_raw()].concat())
            }
            Value::Scratch | Value::Context(_) => None,
        }
    }

    fn decode(&self, bytes: &[u8]) -> Option<Value> {
        let id = snapshot_in(bytes)?;
        let stack = self.whole(id)?;
        (bytes.get(8..) == Some(stack.as_raw().as_slice())).then_some(Value::Snapshot(id))
    }

    fn snapshot(&self, bytes: &[u8]) -> Option<SnapshotId> {
        snapshot_in(bytes)
    }
}

impl Engine {
    /// Opens the store and reads nothing else.
    ///
    /// # Errors
    /// The store cannot be opened; the settings name what is no registry.
    pub fn open(options: EngineOptions) -> Result<Self, BuildError> {
        let overlay = if options.user_namespace { OverlayXattrs::User } else { OverlayXattrs::Trusted };
        let store = Store::open(&options.root, StoreOptions { durability: Durability::Fast, overlay })
            .map_err(|error| blame::store(&error))?;
        let standard = ClientOptions::standard();
        let client_options = ClientOptions {
            proxies: options.proxies.clone(),
            connect_timeout: options.settings.http.connect_timeout.unwrap_or(standard.connect_timeout),
            idle_timeout: options.settings.http.idle_timeout.unwrap_or(standard.idle_timeout),
            ..standard
        };
        let registries: RegistryConfig = options.settings.registry.clone();
        let client = Client::new(registries, options.credentials.clone(), client_options)
            .map_err(|error| BuildError::new(Kind::Request, format!("configuration: {error}")))?;
        let emulation = Arc::new(Emulation::new(options.settings.emulation.directories.clone()));
        Ok(Self { options, store, client, emulation })
    }

    /// The store, for `images`, `save` and `rmi`.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The configuration.
    pub(crate) fn settings(&self) -> &Settings {
        &self.options.settings
    }

    /// Runs the frontend and solves nothing.
    ///
    /// # Errors
    /// As [`Engine::build`].
    pub async fn definition(&self, request: &GraphRequest, events: &Events) -> Result<Dumped, BuildError> {
        let (_, outcome) = self.graph(request, events, NonZeroUsize::MIN, &self.store.for_build()).await?;
        match <[_; 1]>::try_from(outcome.targets) {
            Ok([target]) => {
                let mut metadata = outcome.metadata;
                if !target.config.is_empty() {
                    metadata.insert("containerimage.config".into(), target.config);
                }
                Ok(Dumped { definition: target.definition, metadata })
            }
            Err(targets) => Err(BuildError::new(
                Kind::Request,
                format!("the build has {} results, one for each platform", targets.len()),
            )
            .hint("name one with --platform")),
        }
    }

    /// Asks the frontend for information instead of a graph, as in `frontend.lint` (spec B.4). Gives its metadata: `result.json`,
    /// `result.txt`, …
    ///
    /// # Errors
    /// As [`Engine::build`]; a frontend that does not know the request.
    pub async fn call(
        &self,
        request: &GraphRequest,
        method: &str,
        events: &Events,
    ) -> Result<BTreeMap<String, Vec<u8>>, BuildError> {
        let mut request = request.clone();
        request.options.insert("requestid".into(), method.to_owned());
        request.options.insert("frontend.caps".into(), "moby.buildkit.frontend.subrequests".into());
        let (_, outcome) = self.run_frontend(&request, events, NonZeroUsize::MIN, &self.store.for_build()).await?;
        if outcome.metadata.is_empty() {
            let message = format!("the frontend does not answer `{method}`");
            return Err(BuildError::new(Kind::Frontend, message).hint("build without --call"));
        }
        Ok(outcome.metadata)
    }

    /// Builds and exports.
    ///
    /// # Errors
    /// Whatever went wrong, with its kind, its place in the build file, and ways out.
    pub async fn build(&self, request: &BuildRequest, events: &Events) -> Result<Exported, BuildError> {
        let store = self.store.for_build();
        if self.options.single_id {
            events.send(Event::Warning { vertex: None, message: SINGLE_ID.into() });
        }
        let mut built = self.build_in(&store, request, events).await;
        if built.is_err() && store.restore_lost_records() {
            // What it had found in the damaged records is gone: from the start, without them.
            built = self.build_in(&store, request, events).await;
        }
        for message in store.take_warnings() {
            events.send(Event::Warning { vertex: None, message: message.into() });
        }
        let wrote = store.remember_uses();
        // What this build used is free from here on.
        drop(store);
        if let Err(error) = self.store.recover() {
            tracing::warn!(%error, "what a crash left is not cleared away");
        }
        if wrote {
            self.collect(events);
        }
        built.map_err(|error| self.with_full_disk(error, &request.outputs))
    }

    async fn build_in(&self, store: &Store, request: &BuildRequest, events: &Events) -> Result<Exported, BuildError> {
        // A wrong output is told before anything is built for it.
        let exporter = Exporter::new(store, request)?;
        let jobs = NonZeroUsize::new(request.jobs).unwrap_or(NonZeroUsize::MIN);
        let (session, outcome) = self.graph(&request.graph, events, jobs, store).await?;
        // All at once: platforms share what they have in common, and do not wait for each other.
        let solves = outcome.targets.iter().map(async |target| {
            let value = if target.definition.is_empty() {
                Value::Scratch
            } else {
                let (graph, solvable, edge) = session.load(&target.definition)?;
                let solved = session.solver.solve(&solvable, &[edge]).await;
                solved.map_err(|error| session.placed(&graph, blame::solve(error)))?.remove(0)
            };
            Ok::<_, BuildError>(value)
        });
        let results = match futures_util::future::try_join_all(solves).await {
            Ok(values) => Ok(outcome.targets.into_iter().zip(values).collect::<Vec<_>>()),
            Err(error) => Err(session.with_all_missing(error, &outcome.targets).await),
        };
        session.shared.pins.tell(events);
        // Beside the export.
        let (explainer, whole) = (session.shared.explainer.clone(), results.is_ok());
        let explained = tokio::task::spawn_blocking(move || explainer.finish(whole));
        let exported = match results {
            Ok(results) => exporter.export(&session.shared, results, outcome.metadata).await,
            Err(error) => Err(error),
        };
        // What it panics of is no fault of the build.
        drop(explained.await);
        let (mut exported, orders) = exported?;
        for order in &orders {
            exported.pushed.extend(self.run_push(order, events).await?);
        }
        Ok(exported)
    }

    /// The frontend's outcome, which holds something to build.
    pub(crate) async fn graph(
        &self,
        request: &GraphRequest,
        events: &Events,
        jobs: NonZeroUsize,
        store: &Store,
    ) -> Result<(Arc<Session>, Outcome), BuildError> {
        let (session, outcome) = self.run_frontend(request, events, jobs, store).await?;
        if outcome.targets.is_empty() {
            return Err(BuildError::new(Kind::Frontend, "the frontend gave no result"));
        }
        Ok((session, outcome))
    }

    async fn run_frontend(
        &self,
        request: &GraphRequest,
        events: &Events,
        jobs: NonZeroUsize,
        store: &Store,
    ) -> Result<(Arc<Session>, Outcome), BuildError> {
        let Prepared { session, chosen, file, text, contexts, options } =
            self.prepare(request, events, jobs, store).await?;
        let mut invocation = invocation(request, file.clone(), contexts);
        invocation.options.extend(options);
        if let (FrontendSource::Image(source), Some(line)) = (&chosen.source, &chosen.command_line) {
            // As BuildKit's gateway tells its frontends: who they are, and what was said to them beside it.
            invocation.options.insert("source".into(), source.clone());
            invocation.options.insert("cmdline".into(), line.clone());
        }
        let _ = session.frontend.set(chosen.source.clone());
        let asked = Consultation {
            engine: self,
            session: &session,
            chosen: &chosen,
            file: &file,
            text: &text,
            invocation,
            record: request.record.as_deref(),
        };
        let outcome = asked.outcome().await?;
        Ok((session, outcome))
    }

    /// What reaches registries and servers of files, if anybody may be asked.
    pub(crate) fn client_for(&self, offline: bool) -> Result<Client, BuildError> {
        match offline {
            true => self.client.offline().map_err(|error| BuildError::new(Kind::Request, error)),
            false => Ok(self.client.clone()),
        }
    }

    pub(crate) fn modes(&self, request: &GraphRequest) -> Modes {
        match request.normalize_modes.unwrap_or(self.settings().build.normalize_modes) {
            true => Modes::Normalized,
            false => Modes::AsTheyAre,
        }
    }
}

pub(crate) fn cache(store: &Store, layers: Arc<Layers>) -> Arc<DurableCache<SnapshotCodec>> {
    Arc::new(DurableCache::new(store.clone(), SnapshotCodec { store: store.clone(), layers, whole: Mutex::default() }))
}

fn invocation(request: &GraphRequest, file: String, contexts: Vec<(String, String)>) -> Invocation {
    let platforms = if request.platforms.is_empty() { vec![Platform::host()] } else { request.platforms.clone() };
    let mut invocation = Invocation::new(file, platforms[0].clone());
    let pairs = |map: &BTreeMap<String, String>| map.iter().map(|(k, v)| (k.clone(), v.clone())).collect();
    invocation.target.clone_from(&request.target);
    invocation.multi_platform = platforms.len() > 1;
    invocation.platforms = platforms;
    invocation.build_args = pairs(&request.build_args);
    invocation.labels = pairs(&request.labels);
    invocation.named_contexts = contexts;
    let options = &mut invocation.options;
    options.extend(request.options.clone());
    if !request.platforms.is_empty() {
        let list: Vec<String> = request.platforms.iter().map(Platform::with_version).collect();
        options.insert("platform".into(), list.join(","));
    }
    match &request.no_cache {
        NoCache::Off => {}
        NoCache::All => drop(options.insert("no-cache".into(), String::new())),
        NoCache::Stages(stages) => drop(options.insert("no-cache".into(), stages.join(","))),
    }
    if request.pull {
        options.insert("image-resolve-mode".into(), "pull".into());
    }
    if let Some(network) = &request.network {
        options.insert("force-network-mode".into(), network.clone());
    }
    if !request.add_hosts.is_empty() {
        let list: Vec<String> = request.add_hosts.iter().map(|(host, ip)| format!("{host}={ip}")).collect();
        options.insert("add-hosts".into(), list.join(","));
    }
    invocation
}
