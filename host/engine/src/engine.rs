//! `Engine`: the composition root. From a request to an image: choose the frontend, run it, solve its graph, export.
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use rhost_frontend::{Allocation, CompileLimits, Compiler, Frontend, Invocation, Limits, LoadError, Outcome, RunError};
use rhost_llb::{Definition, Platform, VertexDigest};
use rhost_registry::{Client, ClientOptions, CredentialSource, Proxies, Reference, RegistryConfig, pull_wasm};
use rhost_rootfs::{OverlayXattrs, OwnerPolicy};
use rhost_solver::{Event as SolverEvent, SolveError, Solver};
use rhost_store::{Durability, DurableCache, ResultCodec, SnapshotId, Store, StoreOptions};

use crate::config::Settings;
use crate::error::{BuildError, Kind, Place};
use crate::event::{Event, Events};
use crate::export::{Exported, Exporter};
use crate::images::Images;
use crate::layers::Layers;
use crate::op_error::OpFailure;
use crate::request::{BuildFile, BuildRequest, FrontendChoice, GraphRequest, NamedContext, NoCache};
use crate::session::Session;
use crate::shared::Shared;
use crate::value::Value;

/// Largest component that is pulled, in bytes.
const LARGEST_GUEST: u64 = 64 << 20;

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
    /// The stock Dockerfile frontend.
    pub stock_frontend: &'static [u8],
    /// This program, to be run again as compiler of guests, and the arguments that make it so.
    pub compiler: (PathBuf, Vec<OsString>),
    /// Whether only one user id is mapped in this user namespace.
    pub single_id: bool,
    /// Whether this process lives in a user namespace.
    pub user_namespace: bool,
}

/// Builds images. One for a process.
pub struct Engine {
    options: EngineOptions,
    store: Store,
    client: Client,
}

/// Results in the cache are snapshots, by number. Layers that are not there are as good as there when somebody offers them.
struct SnapshotCodec {
    store: Store,
    layers: Arc<Layers>,
}

impl ResultCodec<Value> for SnapshotCodec {
    fn kind(&self) -> &str {
        "snapshot-v1"
    }

    fn encode(&self, value: &Value) -> Option<Vec<u8>> {
        match value {
            Value::Snapshot(id) => Some(id.0.to_le_bytes().to_vec()),
            Value::Scratch | Value::Context(_) => None,
        }
    }

    fn decode(&self, bytes: &[u8]) -> Option<Value> {
        let id = SnapshotId(i64::from_le_bytes(bytes.try_into().ok()?));
        let records = self.store.records(id).ok()??;
        records.iter().all(|info| self.layers.is_obtainable(info)).then_some(Value::Snapshot(id))
    }
}

/// The names under which the stock frontend answers to `# syntax=`.
fn is_stock(syntax: &str) -> bool {
    let name = syntax.strip_prefix("docker.io/").unwrap_or(syntax);
    let name = name.split(['@', ':']).next().unwrap_or_default();
    matches!(name, "docker/dockerfile" | "docker/dockerfile-upstream")
}

impl Engine {
    /// Opens the store and reads nothing else.
    ///
    /// # Errors
    /// The store cannot be opened; the settings name what is no registry.
    pub fn open(options: EngineOptions) -> Result<Self, BuildError> {
        let overlay = if options.user_namespace { OverlayXattrs::User } else { OverlayXattrs::Trusted };
        let store = Store::open(&options.root, StoreOptions { durability: Durability::Fast, overlay })
            .map_err(|error| BuildError::new(Kind::Store, error))?;
        let standard = ClientOptions::standard();
        let client_options = ClientOptions { proxies: options.proxies.clone(), ..standard };
        let registries: RegistryConfig = options.settings.registry.clone();
        let client = Client::new(registries, options.credentials.clone(), client_options)
            .map_err(|error| BuildError::new(Kind::Request, format!("configuration: {error}")))?;
        Ok(Self { options, store, client })
    }

    /// The store, for `images`, `save` and `rmi`.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Runs the frontend and solves nothing.
    ///
    /// # Errors
    /// As [`Engine::build`].
    pub async fn definition(&self, request: &GraphRequest, events: &Events) -> Result<Definition, BuildError> {
        let (_, outcome) = self.graph(request, events, NonZeroUsize::MIN).await?;
        match <[_; 1]>::try_from(outcome.targets) {
            Ok([target]) => Ok(target.definition),
            Err(targets) => Err(BuildError::new(
                Kind::Request,
                format!("the build has {} results, one for each platform", targets.len()),
            )
            .hint("name one with --platform")),
        }
    }

    /// Builds and exports.
    ///
    /// # Errors
    /// Whatever went wrong, with its kind, its place in the build file, and ways out.
    pub async fn build(&self, request: &BuildRequest, events: &Events) -> Result<Exported, BuildError> {
        // A wrong output is told before anything is built for it.
        let exporter = Exporter::new(&self.store, request)?;
        let jobs = NonZeroUsize::new(request.jobs).unwrap_or(NonZeroUsize::MIN);
        let (session, outcome) = self.graph(&request.graph, events, jobs).await?;
        let mut results = Vec::new();
        for target in &outcome.targets {
            let value = if target.definition.is_empty() {
                Value::Scratch
            } else {
                let (graph, solvable, edge) = session.load(&target.definition)?;
                let solved = session.solver.solve(&solvable, &[edge]).await;
                solved.map_err(|error| session.placed(&graph, solve_error(error)))?.remove(0)
            };
            results.push((target.clone(), value));
        }
        exporter.export(&session.shared, results, outcome.metadata).await
    }

    async fn graph(
        &self,
        request: &GraphRequest,
        events: &Events,
        jobs: NonZeroUsize,
    ) -> Result<(Arc<Session>, Outcome), BuildError> {
        let (mut locals, mut layouts, mut contexts) = (BTreeMap::new(), BTreeMap::new(), Vec::new());
        locals.insert("context".to_owned(), request.context.clone());
        for (name, context) in &request.contexts {
            let value = match context {
                NamedContext::Directory(directory) => {
                    locals.insert(name.clone(), directory.clone());
                    format!("local:{name}")
                }
                NamedContext::Image(reference) => format!("docker-image://{reference}"),
                NamedContext::OciLayout { directory, reference } => {
                    layouts.insert(name.clone(), directory.clone());
                    let reference = reference.as_deref().unwrap_or("latest");
                    let separator = if reference.starts_with("sha256:") { '@' } else { ':' };
                    format!("oci-layout://{name}{separator}{reference}")
                }
            };
            contexts.push((name.clone(), value));
        }
        let (file, text, _held) = self.build_file(&request.file, &mut locals)?;
        let owners = if self.options.single_id { OwnerPolicy::BestEffort } else { OwnerPolicy::Exact };
        let layers = Arc::new(Layers::new(self.store.clone(), owners, events.clone()));
        let shared = Arc::new(Shared {
            store: self.store.clone(),
            layers: layers.clone(),
            images: Images::new(self.store.clone(), self.client.clone(), layouts),
            events: events.clone(),
            host: Platform::host(),
            locals,
            owners,
            vertices: Mutex::default(),
        });
        let session = Arc::new(Session {
            solver: Solver::new(self.cache(layers), jobs, teller(&shared)),
            shared: shared.clone(),
            pull: request.pull,
            findings: Mutex::default(),
        });
        let frontend =
            shared.internal("[internal] load frontend", self.frontend(&request.frontend, &file, &text)).await?;
        let invocation = invocation(request, file.clone(), contexts);
        let outcome = frontend.build(session.clone(), invocation, &Limits::HOSTILE).await;
        let outcome = outcome.map_err(|error| frontend_error(&session, &file, error))?;
        if outcome.targets.is_empty() {
            return Err(BuildError::new(Kind::Frontend, format!("{} gave no result", frontend.identity())));
        }
        Ok((session, outcome))
    }

    fn cache(&self, layers: Arc<Layers>) -> Arc<DurableCache<SnapshotCodec>> {
        Arc::new(DurableCache::new(self.store.clone(), SnapshotCodec { store: self.store.clone(), layers }))
    }

    /// The build file's name and text, and a directory to keep while the build runs where the text came from stdin.
    fn build_file(
        &self,
        file: &BuildFile,
        locals: &mut BTreeMap<String, PathBuf>,
    ) -> Result<(String, Vec<u8>, Option<TemporaryDirectory>), BuildError> {
        match file {
            BuildFile::Path(path) => {
                let text = std::fs::read(path).map_err(|error| missing_build_file(path, &error))?;
                let (directory, name) = (path.parent(), path.file_name());
                let name = name.map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
                let directory = directory.filter(|d| !d.as_os_str().is_empty()).unwrap_or(Path::new("."));
                locals.insert("dockerfile".into(), directory.to_path_buf());
                Ok((name, text, None))
            }
            BuildFile::Text(text) => {
                let failed = |error: std::io::Error| {
                    BuildError::new(Kind::Store, format!("keeping the build file of stdin: {error}"))
                };
                let held = TemporaryDirectory::new(self.store.root()).map_err(failed)?;
                std::fs::write(held.0.join("Dockerfile"), text).map_err(failed)?;
                locals.insert("dockerfile".into(), held.0.clone());
                Ok(("Dockerfile".into(), text.clone(), Some(held)))
            }
        }
    }

    async fn frontend(&self, choice: &FrontendChoice, file: &str, text: &[u8]) -> Result<Frontend, BuildError> {
        let (name, bytes) = match choice {
            FrontendChoice::File(path) => {
                let bytes = std::fs::read(path).map_err(|error| {
                    BuildError::new(Kind::Frontend, format!("cannot read the frontend `{}`: {error}", path.display()))
                })?;
                (path.display().to_string(), bytes)
            }
            FrontendChoice::Image(reference) => self.pull_frontend(reference).await?,
            FrontendChoice::BySyntaxLine => match crate::syntax::syntax_of(text) {
                None => ("dockerfile".to_owned(), self.options.stock_frontend.to_vec()),
                Some((syntax, _)) if is_stock(&syntax) => {
                    ("dockerfile".to_owned(), self.options.stock_frontend.to_vec())
                }
                Some((syntax, line)) => self.pull_frontend(&syntax).await.map_err(|mut error| {
                    error.place = Some(Place {
                        file: file.to_owned(),
                        first_line: line,
                        last_line: line,
                        text: String::from_utf8_lossy(text).into_owned(),
                    });
                    error
                })?,
            },
        };
        let engine = rhost_frontend::Engine::new(Allocation::OnDemand)
            .map_err(|error| BuildError::new(Kind::Frontend, error))?;
        let compiler = Compiler {
            cache: self.store.root().join("guests-v1"),
            command: self.options.compiler.0.clone(),
            arguments: self.options.compiler.1.clone(),
            limits: CompileLimits::default(),
        };
        engine
            .compile(&name, &bytes, &compiler)
            .await
            .map_err(|error: LoadError| BuildError::new(Kind::Frontend, error))
    }

    async fn pull_frontend(&self, text: &str) -> Result<(String, Vec<u8>), BuildError> {
        let reference: Reference =
            text.parse().map_err(|error| BuildError::new(Kind::Request, format!("frontend: {error}")))?;
        let reference = reference.tagged();
        let images = Images::new(self.store.clone(), self.client.clone(), BTreeMap::new());
        let artifact = pull_wasm(&images.registries(), &reference, LARGEST_GUEST).await;
        let artifact = artifact.map_err(|error| {
            registry_error(&error, format!("frontend `{reference}`: {error}"))
                .hint("a frontend is a WASM component in an OCI artifact; images with BuildKit's gateway protocol are not supported")
        })?;
        // Kept by digest: the next build asks the registry only what the tag stands for now.
        let _ = self.store.put_blob(&artifact.bytes);
        Ok((reference.to_string(), artifact.bytes.to_vec()))
    }
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
    if !request.platforms.is_empty() {
        let list: Vec<String> = request.platforms.iter().map(ToString::to_string).collect();
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

fn missing_build_file(path: &Path, error: &std::io::Error) -> BuildError {
    let message = format!("cannot read the build file `{}`: {error}", path.display());
    let found = BuildError::new(Kind::Request, message);
    if error.kind() == std::io::ErrorKind::NotFound {
        found.hint("name another with -f, or write one: `FROM` an image, then `RUN` and `COPY`")
    } else {
        found
    }
}

/// Turns the solver's events into those of the build.
fn teller(shared: &Arc<Shared>) -> impl Fn(SolverEvent) + Send + Sync + use<> {
    let shared = Arc::downgrade(shared);
    move |event| {
        let Some(shared) = shared.upgrade() else { return };
        let at = Timestamp::now();
        let done = |vertex: VertexDigest, cached: bool, error: Option<Arc<str>>| {
            let name = shared.vertex(vertex).name;
            shared.events.send(Event::Completed { vertex, name, at, cached, error });
        };
        match event {
            SolverEvent::Started(vertex) => {
                let info = shared.vertex(vertex);
                shared.events.send(Event::Started { vertex, name: info.name, inputs: info.inputs, at });
            }
            SolverEvent::Completed(vertex) => done(vertex, false, None),
            SolverEvent::Cached(vertex) => done(vertex, true, None),
            SolverEvent::Failed(vertex, error) => done(vertex, false, Some(error.to_string().into())),
        }
    }
}

fn registry_error(error: &rhost_registry::Error, message: String) -> BuildError {
    let kind = match error.kind() {
        rhost_registry::ErrorKind::Local => Kind::Store,
        _ => Kind::Network,
    };
    BuildError::new(kind, message)
}

fn solve_error(error: SolveError) -> BuildError {
    let SolveError::Op { vertex, error } = error else { return BuildError::new(Kind::Build, error) };
    let message = error.to_string();
    let mut found = match error.0.downcast_ref::<OpFailure>() {
        Some(OpFailure::Registry(registry)) => registry_error(registry, message),
        Some(OpFailure::Store(_) | OpFailure::Overlay(_)) => BuildError::new(Kind::Store, message),
        Some(OpFailure::Files(files)) if files.is_no_space() => BuildError::new(Kind::Store, message)
            .hint("free some space on the file system that holds the store (--root)"),
        _ => BuildError::new(Kind::Build, message),
    };
    found.vertex = Some(vertex);
    found
}

fn frontend_error(session: &Session, file: &str, error: RunError) -> BuildError {
    let findings = session.findings.lock().unwrap_or_else(PoisonError::into_inner);
    let worst = findings.iter().filter(|finding| finding.severity == rhost_frontend::Severity::Error).next_back();
    match (error, worst) {
        (RunError::Refused { .. }, Some(finding)) => {
            let mut error = BuildError::new(Kind::BuildFile, &finding.message);
            error.hints.extend(finding.help.clone());
            error.place = finding.marks.first().map(|mark| Place {
                file: if mark.source.filename.is_empty() { file.to_owned() } else { mark.source.filename.clone() },
                first_line: mark.range.start.0,
                last_line: mark.range.end.0,
                text: String::from_utf8_lossy(&mark.source.data).into_owned(),
            });
            error
        }
        (RunError::Refused { error, .. }, None) => BuildError::new(Kind::BuildFile, error),
        (RunError::Stopped { identity, stop, backtrace }, _) => {
            let mut error = BuildError::new(Kind::Frontend, format!("{identity} {stop}"));
            if !backtrace.is_empty() {
                error.hints.push(format!("in the frontend: {}", backtrace.join(" <- ")));
            }
            error
        }
        (error, _) => BuildError::new(Kind::Frontend, error),
    }
}

/// A directory of this build alone, removed at its end.
struct TemporaryDirectory(PathBuf);

impl TemporaryDirectory {
    fn new(root: &Path) -> std::io::Result<Self> {
        static NEXT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
        let number = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let path = root.join("build-files-v1").join(format!("{}-{number}", std::process::id()));
        std::fs::create_dir_all(&path)?;
        Ok(Self(path))
    }
}

impl Drop for TemporaryDirectory {
    fn drop(&mut self) {
        // Best effort: a leftover is a few bytes, and a later build of the same number writes over it.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
