//! What a build is asked to do, as values: the cli resolves flags, environment and files into this; the engine does the rest.
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use rhost_llb::Platform;

use crate::lent::Lent;
use crate::lock::SourceRules;
use crate::remote::RemoteUrl;
use crate::rules::RuleFile;
use crate::uploads::Upload;

/// Which frontend reads the build file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FrontendChoice {
    /// The `# syntax=` line of the build file decides; without one, the stock Dockerfile frontend.
    BySyntaxLine,
    /// A component in a file.
    File(PathBuf),
    /// A component in a registry.
    Image(String),
}

/// A context by name: what COPY, `FROM name` and `--from=name` read.
#[derive(Debug, Clone)]
pub enum NamedContext {
    /// A directory of this machine.
    Directory(PathBuf),
    /// `docker-image://REF`.
    Image(String),
    /// A git repository, or a file at a URL.
    Remote(RemoteUrl),
    /// `oci-layout://DIR[:TAG|@DIGEST]`.
    OciLayout {
        /// The layout's directory.
        directory: PathBuf,
        /// Tag or digest of the image in it; `None` takes the only one.
        reference: Option<String>,
    },
}

/// Which steps may not be answered from the cache.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum NoCache {
    /// The cache answers wherever it can.
    #[default]
    Off,
    /// Every step runs.
    All,
    /// The steps of these stages run.
    Stages(Vec<String>),
}

/// What COPY and ADD read from.
#[derive(Debug, Clone)]
pub enum Context {
    /// A directory of this machine.
    Directory(PathBuf),
    /// Nothing.
    Empty,
    /// A git repository, an archive or a build file at a URL.
    Remote(RemoteUrl),
    /// An archive that the client sends along.
    Archive(Upload),
}

/// Where the build file comes from.
#[derive(Debug, Clone)]
pub enum BuildFile {
    /// A file; its directory is what the frontend sees as the build file's context.
    Path(PathBuf),
    /// A file of a remote context, by its path there; `None` is `Dockerfile`, or the whole of a context that is a build file.
    InContext(Option<String>),
    /// A file at a URL.
    Remote(RemoteUrl),
    /// Text that was read from stdin.
    Text(Vec<u8>),
}

/// What makes the graph.
#[derive(Debug, Clone)]
pub struct GraphRequest {
    /// The context.
    pub context: Context,
    /// The build file.
    pub file: BuildFile,
    /// The frontend.
    pub frontend: FrontendChoice,
    /// The rules of the repository that the context lies in.
    pub project: Option<Arc<RuleFile>>,
    /// Stage to build; `None` is the last.
    pub target: Option<String>,
    /// `--build-arg`.
    pub build_args: BTreeMap<String, String>,
    /// `--label`.
    pub labels: BTreeMap<String, String>,
    /// `--platform`; empty is the host's.
    pub platforms: Vec<Platform>,
    /// `--build-context`.
    pub contexts: BTreeMap<String, NamedContext>,
    /// `--no-cache`.
    pub no_cache: NoCache,
    /// `--pull`: names are resolved anew.
    pub pull: bool,
    /// `--normalize-modes`: files of local contexts have the modes that git keeps; `None` is what the configuration says.
    pub normalize_modes: Option<bool>,
    /// `--explain`: all steps are told of.
    pub explain: bool,
    /// `--record-frontend`: where the frontend's run is written to; the frontend is run even if its answer is known.
    pub record: Option<PathBuf>,
    /// `--network`, `default` left out: `none` or `host`.
    pub network: Option<String>,
    /// `--add-host`, `HOST:IP` or `HOST=IP`.
    pub add_hosts: Vec<(String, String)>,
    /// Further options of the frontend by BuildKit's names (spec B.4), as in `ulimit` or `shm-size`.
    pub options: BTreeMap<String, String>,
    /// `--secret`, `--ssh`, `--allow`.
    pub lent: Arc<Lent>,
    /// The lock file, `--locked`, `--offline`.
    pub sources: SourceRules,
}

/// A whole build.
#[derive(Debug, Clone)]
pub struct BuildRequest {
    /// What makes the graph.
    pub graph: GraphRequest,
    /// Names for the image.
    pub tags: Vec<String>,
    /// `-o`, as typed; empty is rhost's own image store.
    pub outputs: Vec<String>,
    /// `--push`: image outputs push; without one there is one more, which does.
    pub push: bool,
    /// `--load`: without an image output that keeps its names in the store there is one more.
    pub load: bool,
    /// Steps that run at once.
    pub jobs: usize,
}
