//! What is settled before a frontend is asked anything: the session of a build, its contexts, its build file, and which frontend reads it.
//!
//! A context that is elsewhere is fetched here, since the build file's first line may choose the frontend.
use std::collections::{BTreeMap, HashSet};
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use jiff::Timestamp;
use rhost_llb::{BlobDigest, Platform, VertexDigest};
use rhost_registry::{OciLayout, Reference, redact};
use rhost_rootfs::OwnerPolicy;
use rhost_solver::{Event as SolverEvent, Ports, Solver};
use rhost_store::Store;

use crate::blame;
use crate::downloads::Downloads;
use crate::engine::{Engine, cache};
use crate::error::{BuildError, Kind};
use crate::event::{Event, Events};
use crate::explain::{About, Explainer, State};
use crate::frontends::{ChosenFrontend, choose};
use crate::git::Git;
use crate::images::Images;
use crate::layers::Layers;
use crate::lock::{Pins, Vendor};
use crate::once::Once;
use crate::ops::Nests;
use crate::remote::{Checkout, Place};
use crate::request::{BuildFile, Context, GraphRequest, NamedContext};
use crate::session::Session;
use crate::shared::{FetchedLocals, Shared};

/// All that a frontend is asked with.
pub(crate) struct Prepared {
    pub session: Arc<Session>,
    pub chosen: ChosenFrontend,
    /// The build file's path in its context, and its text.
    pub file: String,
    pub text: Vec<u8>,
    /// Named contexts, as BuildKit writes them.
    pub contexts: Vec<(String, String)>,
    /// Options of the frontend that say where contexts are.
    pub options: BTreeMap<String, String>,
}

impl Engine {
    /// Makes the session of one build, fetches its context, reads its build file.
    ///
    /// # Errors
    /// The context or the build file cannot be had.
    pub(crate) async fn prepare(
        &self,
        request: &GraphRequest,
        events: &Events,
        jobs: NonZeroUsize,
        store: &Store,
    ) -> Result<Prepared, BuildError> {
        let (mut locals, mut layouts, mut contexts) = (BTreeMap::new(), BTreeMap::new(), Vec::new());
        let (mut uploads, mut held, mut options) = (BTreeMap::new(), Vec::new(), BTreeMap::new());
        let own_files = || store.build_files().map_err(|error| blame::store(&error));
        let place = match &request.context {
            Context::Directory(directory) => {
                locals.insert("context".to_owned(), directory.clone());
                None
            }
            Context::Empty => {
                let files = own_files()?;
                locals.insert("context".to_owned(), files.path().to_path_buf());
                held.push(files);
                None
            }
            Context::Remote(url) => Some(Place::Url(url)),
            Context::Archive(upload) => {
                uploads.insert(upload.name(), upload.clone());
                Some(Place::Upload(upload))
            }
        };
        if let Some(place) = &place {
            options.insert("context".to_owned(), place.text());
        }
        for (name, context) in &request.contexts {
            let value = match context {
                NamedContext::Directory(directory) => {
                    locals.insert(name.clone(), directory.clone());
                    format!("local:{name}")
                }
                NamedContext::Image(reference) => format!("docker-image://{reference}"),
                NamedContext::Remote(url) => url.named(),
                NamedContext::OciLayout { directory, reference } => {
                    // The name of a context may have characters that one of a layout may not.
                    let id = format!("layout{}", layouts.len());
                    let digest = layout_digest(name, directory, reference.as_deref()).await?;
                    layouts.insert(id.clone(), directory.clone());
                    format!("oci-layout://{id}@{digest}")
                }
            };
            contexts.push((name.clone(), value));
        }
        let mut known = match &request.file {
            BuildFile::Path(path) => {
                let text = std::fs::read(path).map_err(|error| blame::missing_build_file(path, &error))?;
                let (directory, name) = (path.parent(), path.file_name());
                let name = name.map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
                let directory = directory.filter(|d| !d.as_os_str().is_empty()).unwrap_or(Path::new("."));
                locals.insert("dockerfile".into(), directory.to_path_buf());
                Some((name, text))
            }
            BuildFile::Text(text) => Some(("Dockerfile".to_owned(), text.clone())),
            BuildFile::InContext(_) | BuildFile::Remote(_) => None,
        };
        let own = matches!(request.file, BuildFile::Text(_) | BuildFile::Remote(_)).then(own_files).transpose()?;
        if let Some(files) = &own {
            locals.insert("dockerfile".into(), files.path().to_path_buf());
        }
        let own_path = own.as_ref().map(|files| files.path().join("Dockerfile"));
        held.extend(own);
        if place.is_some() && !matches!(request.file, BuildFile::InContext(_)) {
            // The build file is not in the context.
            options.insert("dockerfilekey".to_owned(), "dockerfile".to_owned());
        }
        let once = Arc::new(Once::new(store.clone(), events.clone()));
        let owners = if self.options.single_id { OwnerPolicy::BestEffort } else { OwnerPolicy::Exact };
        let layers = Arc::new(Layers::new(store.clone(), owners, events.clone(), once.clone()));
        let explainer = Arc::new(Explainer::new(store.clone(), events.clone(), Platform::host(), request.explain));
        let rules = Arc::new(self.rules(request));
        let client = self.client_for(request.sources.offline)?;
        let vendor = match &request.sources.vendor {
            Some(path) => Some(Arc::new(Vendor::open(path).await?)),
            None => None,
        };
        let pins = Arc::new(Pins::new(request.sources.clone(), vendor, store.clone()));
        let shared = Arc::new(Shared {
            store: store.clone(),
            layers: layers.clone(),
            images: Images::new(store.clone(), client.clone(), layouts, rules.clone(), pins.clone()),
            rules: rules.clone(),
            downloads: Downloads::new(client, request.sources.offline),
            pins,
            uploads,
            events: events.clone(),
            once: once.clone(),
            host: Platform::host(),
            emulation: self.emulation.clone(),
            git: Git::new(self.options.git.clone(), self.options.proxies.clone(), &self.settings().git),
            locals,
            modes: self.modes(request),
            fetched: OnceLock::new(),
            lent: request.lent.clone(),
            owners,
            explainer: explainer.clone(),
            vertices: Mutex::default(),
        });
        let ports = Ports { turns: once, witness: explainer.clone() };
        let session = Arc::new_cyclic(|me| Session {
            solver: Solver::with(cache(store, layers), ports, jobs, teller(&shared)),
            shared: shared.clone(),
            frontend: OnceLock::new(),
            said: Default::default(),
            pull: request.pull,
            findings: Mutex::default(),
            failures: Mutex::default(),
            begun_anew: Mutex::default(),
            nests: Nests::default(),
            remote_sources: Mutex::default(),
            me: me.clone(),
            _held: held,
        });
        if let BuildFile::Remote(url) = &request.file {
            known = Some(("Dockerfile".to_owned(), session.fetch_file(url.text()).await?));
        }
        if let (Some(path), Some((_, text))) = (own_path, &known) {
            std::fs::write(path, text)
                .map_err(|error| BuildError::new(Kind::Store, format!("keeping the build file: {error}")))?;
        }
        if let Some(place) = place {
            let argument = |name: &str| request.build_args.get(name).map(String::as_str).unwrap_or_default();
            let git = Checkout {
                keep: matches!(argument("BUILDKIT_CONTEXT_KEEP_GIT_DIR"), "1" | "t" | "T" | "true" | "TRUE" | "True"),
                dated: !argument("SOURCE_DATE_EPOCH").is_empty(),
            };
            let fetched = session.fetch_context(&place, &git).await?;
            let has_build_file = known.is_none();
            if let BuildFile::InContext(wanted) = &request.file {
                known = Some(fetched.build_file(wanted.as_deref()).await?);
            }
            let _ = shared.fetched.set(FetchedLocals { root: fetched.root, has_build_file });
        }
        let Some((file, text)) = known else {
            let message = "the build file is said to be in the context, which is a directory";
            return Err(BuildError::new(Kind::Request, message).hint("name it by its path"));
        };
        explainer.begin(About::of(request, shared.modes, &file, &text));
        let path = match &request.file {
            BuildFile::Path(path) => std::fs::canonicalize(path).ok(),
            _ => None,
        };
        let chosen = choose(&request.frontend, &rules, &request.build_args, &file, path.as_deref(), &text);
        Ok(Prepared { session, chosen, file, text, contexts, options })
    }
}

/// What an OCI layout's tag stands for: frontends take layouts by digest only, as BuildKit's clients name them.
async fn layout_digest(name: &str, directory: &Path, reference: Option<&str>) -> Result<BlobDigest, BuildError> {
    let wrong = |error: &dyn std::fmt::Display| {
        let message = format!("context `{name}`: {error}");
        BuildError::new(Kind::Request, message)
            .hint("name an image of its index: oci-layout://DIR:TAG or oci-layout://DIR@DIGEST")
    };
    let text = match reference {
        Some(digest) if digest.starts_with("sha256:") => format!("layout@{digest}"),
        Some(tag) => format!("layout:{tag}"),
        None => "layout".to_owned(),
    };
    let reference: Reference = text.parse().map_err(|error| wrong(&error))?;
    let layout = OciLayout::open(directory).await.map_err(|error| wrong(&error))?;
    layout.find(&reference).map_err(|error| wrong(&error))
}

/// Turns the solver's events into those of the build. A vertex that is solved again (a context, for the frontend and for the build) is told once.
fn teller(shared: &Arc<Shared>) -> impl Fn(SolverEvent) + Send + Sync + use<> {
    let shared = Arc::downgrade(shared);
    let over = Mutex::new(HashSet::new());
    move |event| {
        let Some(shared) = shared.upgrade() else { return };
        let mut over = over.lock().unwrap_or_else(PoisonError::into_inner);
        let at = Timestamp::now();
        let done = |vertex: VertexDigest, cached: bool, error: Option<Arc<str>>| {
            let name = shared.vertex(vertex).name;
            shared.events.send(Event::Completed { vertex, name, at, cached, error });
        };
        match event {
            SolverEvent::Started(vertex) => {
                if !over.contains(&vertex) {
                    let info = shared.vertex(vertex);
                    shared.events.send(Event::Started { vertex, name: info.name, inputs: info.inputs, at });
                }
            }
            SolverEvent::Completed(vertex) => {
                shared.explainer.ended(vertex, State::Ran);
                if over.insert(vertex) {
                    done(vertex, false, None);
                }
            }
            SolverEvent::Cached(vertex) => {
                if over.insert(vertex) {
                    done(vertex, true, None);
                }
            }
            SolverEvent::Failed(vertex, error) => {
                shared.explainer.ended(vertex, State::Failed);
                done(vertex, false, Some(redact(&error.to_string()).into()));
            }
        }
    }
}
