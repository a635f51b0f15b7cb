//! The command line as typed: low flags, parsed for shape only. `commands/` turns them into intent.
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::manual;

/// Heading of the options that every command has.
const COMMON: &str = "Options of every command";
/// Headings of `rhost build`.
const WHAT: &str = "What is built";
const HOW: &str = "How steps run";
const LENT: &str = "What steps may use";
const WHERE: &str = "Where the result goes";
const SHOWN: &str = "What is shown";
const ASKED: &str = "Asking instead of building";

/// What `--jobs` takes.
fn jobs(text: &str) -> Result<std::num::NonZeroUsize, String> {
    text.parse().map_err(|_| "wanted a number, 1 or more".to_owned())
}

impl Arguments {
    /// The command line of this process. Where it is wrong this ends the process with the code 2, where it asks for help with 0.
    pub fn of_process() -> Self {
        Self::try_parse().unwrap_or_else(|error| {
            let wanted = error.get(clap::error::ContextKind::InvalidArg).map(ToString::to_string).unwrap_or_default();
            if error.kind() == clap::error::ErrorKind::MissingRequiredArgument && wanted.contains("<CONTEXT>") {
                eprintln!("{}", manual::NO_CONTEXT);
                std::process::exit(2);
            }
            error.exit()
        })
    }
}

/// Build container images: no daemon, no root, build languages as sandboxed WASM frontends.
///
/// Exit codes: 0 done; 1 the build failed; 2 the command line is wrong; 3 the build file is wrong; 4 a frontend failed
/// or was stopped; 5 a registry or the network failed; 6 the store or the disk failed; 7 a policy forbids it; 8 something is not as rhost.lock says, or (offline) not here; 130 interrupted (Ctrl-C), 143 terminated.
#[derive(Debug, Parser)]
#[command(
    name = "rhost",
    version,
    max_term_width = 110,
    after_help = "`rhost COMMAND --help` has every option of a command, with examples."
)]
pub struct Arguments {
    /// Directory that holds rhost's state: blobs, snapshots, cache records, image names.
    ///
    /// Default: `rhost` in the XDG data directory (`$XDG_DATA_HOME`, else `~/.local/share`).
    #[arg(long, global = true, env = "RHOST_ROOT", hide_env_values = true, value_name = "DIR", help_heading = COMMON, display_order = 900)]
    pub root: Option<PathBuf>,

    /// Configuration file (TOML; registry tables as in buildkitd.toml).
    ///
    /// Default: `rhost/rhost.toml` in the XDG configuration directory, if it is there.
    #[arg(long, global = true, env = "RHOST_CONFIG", hide_env_values = true, value_name = "FILE", help_heading = COMMON, display_order = 901)]
    pub config: Option<PathBuf>,

    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Build an image from a build file and a context directory.
    ///
    /// The build file is CONTEXT/Dockerfile unless `-f` names another. Its `# syntax=` line chooses the language; without one it is a
    /// Dockerfile. The image is kept in rhost's own store, under the names of `-t`, unless `-o` says otherwise.
    #[command(override_usage = "rhost build [OPTIONS] CONTEXT", after_long_help = manual::BUILD)]
    Build(Box<BuildArguments>),
    /// Write rhost.lock: what every name in a build of this repository stands for.
    ///
    /// Frontends, base images, git repositories and files at URLs get one line each, to be committed. Builds then use these and ask nobody what a
    /// name stands for. What is new is added, what is there stays; `--update` looks up again.
    #[command(after_long_help = manual::LOCK)]
    Lock(Box<LockArguments>),
    /// Bring all that a build needs from elsewhere into the store, for `rhost build --offline`.
    ///
    /// Takes the flags of the build, and builds nothing.
    #[command(after_long_help = manual::FETCH)]
    Fetch(Box<FetchArguments>),
    /// Write all that a build needs from elsewhere to a directory, for machines without a network.
    ///
    /// The directory is an OCI image layout: images and frontends stand in it under their full names, files and git trees beside them.
    /// `rhost build --vendor DIR --offline` needs nothing else.
    #[command(after_long_help = manual::VENDOR)]
    Vendor(Box<VendorArguments>),
    /// List the images in rhost's own store.
    ///
    /// Name, digest of the manifest or index, and when the name was last given.
    Images(ImagesArguments),
    /// Write an image of the store as a docker or OCI archive.
    ///
    /// The archive holds the image as it is in the store, byte for byte.
    #[command(after_long_help = manual::SAVE)]
    Save(SaveArguments),
    /// Give an image of the store one more name.
    ///
    /// A name that another image has is taken from it. Prints the full names.
    #[command(after_long_help = manual::TAG)]
    Tag(TagArguments),
    /// Remove image names from the store.
    ///
    /// What nothing needs any more goes with `rhost prune`, or by itself when the store grows too large.
    Rmi(RmiArguments),
    /// Pull an image from a registry into the store.
    ///
    /// Builds need no pull: they fetch what they use. This is for what `rhost save` and later builds without network are to find.
    Pull(PullArguments),
    /// Push an image of the store to a registry.
    ///
    /// Only what the repository lacks is sent; what another repository of the same registry is known to have is mounted from there. Prints the
    /// name with its digest.
    #[command(after_long_help = manual::PUSH)]
    Push(PushArguments),
    /// Show what the store holds and how much of the disk it takes.
    ///
    /// One line for each record: results of steps, blobs, compiled frontends, cache mounts.
    #[command(after_long_help = manual::DU)]
    Du(DuArguments),
    /// Remove what no build uses and no name keeps from the store.
    ///
    /// Without a limit or a duration everything that is not in use goes; with them, what was not used for longest first. Images that
    /// have a name stay (`rhost rmi` removes names), and so does what a running build needs.
    #[command(after_long_help = manual::PRUNE)]
    Prune(PruneArguments),
    /// Cache mounts (`RUN --mount=type=cache`): list them, take them to other machines.
    Cache {
        /// What to do.
        #[command(subcommand)]
        command: CacheCommand,
    },
    /// Look at frontends, and ship them to registries.
    Frontend {
        /// What to do.
        #[command(subcommand)]
        command: FrontendCommand,
    },
    /// How programs of other platforms run on this machine.
    Emulation {
        /// What to do.
        #[command(subcommand)]
        command: EmulationCommand,
    },
    /// Tools for people who write or debug frontends.
    Debug {
        /// Which tool.
        #[command(subcommand)]
        command: DebugCommand,
    },
}

/// `rhost cache`.
#[derive(Debug, Subcommand)]
pub enum CacheCommand {
    /// List cache mounts, by the ids that build files give them.
    ///
    /// A mount without `id=` has its target as id. FROM tells apart mounts of one id that began with different content (`from=`). Of several
    /// instances of one mount (`sharing=private`) the one used last comes first. `rhost prune --filter id==NAME` removes one; `--json` has NAMEs.
    Ls {
        /// One JSON object a line.
        #[arg(long)]
        json: bool,
    },
    /// Write cache mounts to a registry, a directory or a tar.
    ///
    /// A registry and a directory are sent only what they lack. Equal mounts give equal bytes. Steps that have a mount for themselves (`sharing=locked` and
    /// `private`) are waited for, and wait. Prints the export's name or digest.
    #[command(after_long_help = manual::CACHE_EXPORT)]
    Export(CacheExportArguments),
    /// Bring cache mounts from a registry, a directory or a tar into the store.
    ///
    /// Only what the store's mounts of these ids lack is fetched. All mounts change when everything is there and checked, or none. Prints their ids.
    #[command(after_long_help = manual::CACHE_IMPORT)]
    Import(CacheImportArguments),
}

/// `rhost cache export`.
#[derive(Debug, Args)]
#[command(group(clap::ArgGroup::new("which").args(["mount", "all"]).required(true)))]
pub struct CacheExportArguments {
    /// Mount to export, by its id or, where it has none, its target; repeat it for several.
    #[arg(long, value_name = "ID")]
    pub mount: Vec<String>,
    /// Every cache mount.
    #[arg(long)]
    pub all: bool,
    /// Where to: `type=dir|oci|tar,dest=PATH` or `type=registry,ref=REF`; a bare PATH is `type=dir` (`type=tar` where it ends so), a bare
    /// HOST/REPOSITORY:TAG a registry, `-` a tar on stdout.
    #[arg(short, long, value_name = "SPEC")]
    pub output: String,
    /// How to show progress (on stderr).
    #[arg(long, value_enum, default_value = "auto", env = "BUILDKIT_PROGRESS", hide_env_values = true)]
    pub progress: Progress,
}

/// `rhost cache import`.
#[derive(Debug, Args)]
pub struct CacheImportArguments {
    /// Where from, written as for `rhost cache export -o`; `-` is a tar on stdin.
    #[arg(value_name = "SOURCE")]
    pub source: String,
    /// Mount to import; repeat it for several [default: all].
    #[arg(long, value_name = "ID")]
    pub mount: Vec<String>,
    /// What becomes of what the store's mounts hold now.
    #[arg(long, value_enum, default_value = "replace")]
    pub mode: ImportModeArgument,
    /// How to show progress (on stderr).
    #[arg(long, value_enum, default_value = "auto", env = "BUILDKIT_PROGRESS", hide_env_values = true)]
    pub progress: Progress,
}

/// `--mode` of `rhost cache import`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ImportModeArgument {
    /// It goes: mounts are what was exported.
    Replace,
    /// It stays beside what was exported, which goes before where both have a path.
    Merge,
}

/// `rhost frontend`.
#[derive(Debug, Subcommand)]
pub enum FrontendCommand {
    /// Write a project: a small build language that works, its tests, and the SDK.
    New(NewFrontendArguments),
    /// Make the component of a project, with its language's ordinary tool, if it has changed.
    ///
    /// A project is a directory with a `frontend.toml` (`name`, `language`). Python's and JavaScript's tools are installed into it the first time.
    #[command(after_long_help = manual::FRONTEND_BUILD)]
    Build(BuildFrontendArguments),
    /// Show what a frontend imports and exports, its WIT track, size and digest, and whether this rhost takes it.
    Inspect(InspectFrontendArguments),
    /// Push a component to a registry, as an artifact that `# syntax=REF` finds.
    ///
    /// The artifact has the CNCF Wasm OCI layout, which `wkg oci pull` reads too; where a registry refuses that layout's config, a plain OCI
    /// image config stands in its place. Prints the name with its digest.
    #[command(after_long_help = manual::FRONTEND_PUSH)]
    Push(PushFrontendArguments),
    /// Run a frontend's tests: folders with a build file, options and images that are made up, and what is to come of them.
    ///
    /// Asks no network and solves nothing. A test is a folder with a `case.toml`; what the frontend made of it (graph, image configuration,
    /// warnings, errors) is compared with the files `expected.*` in it. See docs/frontends/testing.md.
    #[command(after_long_help = manual::FRONTEND_TEST)]
    Test(TestFrontendArguments),
    /// Run the checks that every frontend should pass: the same answer each time, bad input, limits, requests for information.
    #[command(after_long_help = manual::FRONTEND_CONFORMANCE)]
    Conformance(ConformanceArguments),
    /// Run a frontend again as a recording says: without network, store or context. Says where the run departs from the recording.
    ///
    /// Recordings are made by `rhost build --record-frontend FILE`, and kept in the store by themselves when a frontend falls.
    #[command(after_long_help = manual::FRONTEND_REPLAY)]
    Replay(ReplayArguments),
}

/// `rhost frontend conformance`.
#[derive(Debug, Args)]
pub struct ConformanceArguments {
    /// The folder with the frontend's tests, as `rhost frontend test` runs them: those that succeed are the samples of the language.
    #[arg(value_name = "DIR", default_value = "tests")]
    pub directory: PathBuf,
    /// The frontend: a component file (`./x.wasm`), an image reference, or `stock`, the built-in one.
    #[arg(long, value_name = "REF|FILE", default_value = "stock")]
    pub frontend: String,
    /// As a JSON object.
    #[arg(long)]
    pub json: bool,
}

/// `rhost frontend replay`.
#[derive(Debug, Args)]
pub struct ReplayArguments {
    /// The recording.
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Run this frontend in place of the recorded one: a component file (`./x.wasm`), an image reference, or `stock`.
    #[arg(long, value_name = "REF|FILE")]
    pub frontend: Option<String>,
    /// As a JSON object.
    #[arg(long)]
    pub json: bool,
}

/// `rhost frontend test`.
#[derive(Debug, Args)]
pub struct TestFrontendArguments {
    /// The folder with the tests.
    #[arg(value_name = "DIR", default_value = "tests")]
    pub directory: PathBuf,
    /// The frontend: a component file (`./x.wasm`), an image reference, or `stock`, the built-in one.
    #[arg(long, value_name = "REF|FILE", default_value = "stock")]
    pub frontend: String,
    /// Write anew what the tests compare with. Read what has changed before you keep it.
    #[arg(long)]
    pub update: bool,
    /// Only tests whose name contains NAME; of several, any.
    #[arg(long, value_name = "NAME")]
    pub filter: Vec<String>,
    /// As a JSON object.
    #[arg(long)]
    pub json: bool,
}

/// `rhost frontend new`.
#[derive(Debug, Args)]
pub struct NewFrontendArguments {
    /// The language's name: lower-case letters, digits, dashes.
    #[arg(value_name = "NAME")]
    pub name: String,
    /// What it is to be written in.
    #[arg(long, value_name = "LANGUAGE", value_parser = ["rust", "js", "python", "go"])]
    pub lang: String,
    /// Where to; empty or not there yet [default: NAME].
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
}

/// `rhost frontend build`.
#[derive(Debug, Args)]
pub struct BuildFrontendArguments {
    /// The project.
    #[arg(value_name = "DIR", default_value = ".")]
    pub dir: PathBuf,
    /// Where the component goes [default: DIR/NAME.wasm].
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Replace the project's `sdk` by that of this rhost.
    #[arg(long)]
    pub update_sdk: bool,
    /// Where Rust has no standard library for WebAssembly, fetch Debian's compiler and make one, into the user's cache: 500 MB.
    #[arg(long)]
    pub fetch_toolchain: bool,
}

/// `rhost frontend inspect`.
#[derive(Debug, Args)]
pub struct InspectFrontendArguments {
    /// A component file (`./x.wasm`), a project's directory (`./lang`), an image reference, or `docker/dockerfile` for the built-in one.
    #[arg(value_name = "REF|FILE|DIR")]
    pub frontend: String,
    /// As a JSON object.
    #[arg(long)]
    pub json: bool,
}

/// `rhost frontend push`.
#[derive(Debug, Args)]
pub struct PushFrontendArguments {
    /// The component.
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Where to, as in `registry.example/team/lang:1`.
    #[arg(value_name = "REF")]
    pub reference: String,
    /// What the frontend is called; `inspect` shows this and what follows.
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// Its version, as in `1.2.0`.
    #[arg(long, value_name = "VERSION")]
    pub frontend_version: Option<String>,
    /// Build languages that it reads.
    #[arg(long, value_name = "LANGUAGE", value_delimiter = ',')]
    pub language: Vec<String>,
    /// Names of build files that it is for, as in `*.lines`.
    #[arg(long, value_name = "PATTERN", value_delimiter = ',')]
    pub file_pattern: Vec<String>,
    /// Requests for information that it answers, as in `frontend.lint`.
    #[arg(long, value_name = "REQUEST", value_delimiter = ',')]
    pub subrequest: Vec<String>,
    /// Where its language is documented.
    #[arg(long, value_name = "URL")]
    pub docs: Option<String>,
    /// Set an annotation of the manifest, as in `org.opencontainers.image.licenses=MIT`; goes before those of the flags above.
    #[arg(long, value_name = "KEY=VALUE")]
    pub annotation: Vec<String>,
    /// Layout of the artifact: `cncf`, `plain`, or `auto`, which is cncf and then plain where the registry refuses it.
    #[arg(long, default_value = "auto", value_parser = ["auto", "cncf", "plain"])]
    pub layout: String,
}

/// `rhost emulation`.
#[derive(Debug, Subcommand)]
pub enum EmulationCommand {
    /// List platforms, and how RUN steps for each would run here.
    ///
    /// Each is tried with a program of a few bytes: `native` by the processor, `registered` by an emulator that is registered with the
    /// host's kernel, `emulator` by QEMU, registered for one step at a time in a user namespace, `no` not at all.
    Ls {
        /// One JSON object a line.
        #[arg(long)]
        json: bool,
    },
    /// Register emulators with the host's kernel, for every process of the host, until it restarts. Wants root.
    ///
    /// Builds do not need it on Linux 6.7 and newer.
    Install {
        /// Platforms [default: all that have an emulator here].
        #[arg(value_name = "PLATFORM")]
        platforms: Vec<String>,
    },
    /// Take back what `install` registered. Wants root.
    Uninstall {
        /// Platforms [default: all].
        #[arg(value_name = "PLATFORM")]
        platforms: Vec<String>,
    },
}

/// `rhost debug`.
#[derive(Debug, Subcommand)]
pub enum DebugCommand {
    /// Write the LLB definition of a build to stdout; nothing is solved.
    ///
    /// The bytes are what `buildctl debug dump-llb` reads.
    DumpLlb(DumpLlbArguments),
}

/// How progress is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Progress {
    /// `tty` where stderr is a terminal, else `plain`.
    Auto,
    /// What runs now, redrawn in place; what is done scrolls up.
    Tty,
    /// One line for each thing that happens, with the full log of every step.
    Plain,
    /// One JSON object a line (BuildKit's SolveStatus).
    Rawjson,
    /// Nothing but the image's digest.
    Quiet,
}

/// How `--explain` tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Explain {
    /// A few lines for each step.
    Text,
    /// One JSON object.
    Json,
}

/// What a build file is turned into a graph with; shared by `build` and `debug dump-llb`.
#[derive(Debug, Args)]
pub struct FrontendArguments {
    /// Build file, relative to the working directory (of a context that is elsewhere: relative to the context, unless absolute); a URL, or `-` for
    /// stdin [default: CONTEXT/Dockerfile].
    #[arg(short = 'f', long, value_name = "FILE", help_heading = WHAT)]
    pub file: Option<PathBuf>,
    /// Stage to build [default: the last].
    #[arg(long, value_name = "STAGE", help_heading = WHAT)]
    pub target: Option<String>,
    /// Set a build-time variable; without `=VALUE` its value comes from the environment.
    #[arg(long, value_name = "NAME[=VALUE]", help_heading = WHAT)]
    pub build_arg: Vec<String>,
    /// Set a label of the image.
    #[arg(long, value_name = "NAME=VALUE", help_heading = WHAT)]
    pub label: Vec<String>,
    /// Platform to build for, as in `linux/arm64`; several, by comma or repetition, make an index.
    #[arg(long, value_name = "PLATFORM", value_delimiter = ',', help_heading = WHAT)]
    pub platform: Vec<String>,
    /// A further context by name: a directory, `docker-image://REF`, `oci-layout://DIR[:TAG|@DIGEST]`, or the URL of a git repository or a file.
    #[arg(long, value_name = "NAME=VALUE", help_heading = WHAT)]
    pub build_context: Vec<String>,
    /// Frontend to use in place of the one that `# syntax=` names: a component file (`./x.wasm`), a project's directory
    /// (`./lang`), which is built if it has changed, or an image reference.
    #[arg(long, value_name = "REF|FILE|DIR", help_heading = WHAT)]
    pub frontend: Option<String>,
    /// Write to FILE how the frontend ran: what it was asked, what it asked and was told. `rhost frontend replay FILE` runs it again.
    #[arg(long, value_name = "FILE", help_heading = SHOWN)]
    pub record_frontend: Option<PathBuf>,
    /// Network of RUN steps. `host` also allows `network.host`.
    #[arg(long, value_name = "MODE", default_value = "default", value_parser = ["default", "none", "host"], help_heading = HOW)]
    pub network: String,
    /// Run every step anew.
    #[arg(long, help_heading = HOW)]
    pub no_cache: bool,
    /// Ask registries for the newest image even where the store has one by that name.
    #[arg(long, help_heading = HOW)]
    pub pull: bool,
    /// Fail, naming each, when the build needs something that is not in rhost.lock.
    #[arg(long, help_heading = HOW)]
    pub locked: bool,
    /// Take frontends, images, files and git sources from a directory that `rhost vendor` made, and ask servers for the rest [default: `vendor` in
    /// rhost.toml].
    #[arg(long, value_name = "DIR", help_heading = HOW)]
    pub vendor: Option<PathBuf>,
    /// Make no connection: what the store lacks fails the build, all of it named. RUN steps keep their network without `--network none`.
    #[arg(long, help_heading = HOW)]
    pub offline: bool,
    /// Take files of local contexts under the modes that git keeps, 0644 or 0755, whatever the umask of their checkout was: for the cache, and in the
    /// image. The default can be set in the configuration.
    #[arg(long, value_name = "true|false", num_args = 0..=1, require_equals = true, default_missing_value = "true", help_heading = HOW)]
    pub normalize_modes: Option<bool>,
    /// Run only the steps of these stages anew.
    #[arg(long, value_name = "STAGE", value_delimiter = ',', help_heading = HOW)]
    pub no_cache_filter: Vec<String>,
    /// Add a line to /etc/hosts of RUN steps.
    #[arg(long, value_name = "HOST:IP", help_heading = HOW)]
    pub add_host: Vec<String>,
    /// Limit of the processes of RUN steps, as in `nofile=1024:2048`.
    #[arg(long, value_name = "NAME=SOFT[:HARD]", help_heading = HOW)]
    pub ulimit: Vec<String>,
    /// Size of /dev/shm of RUN steps, as in `64m`.
    #[arg(long, value_name = "SIZE", help_heading = HOW)]
    pub shm_size: Option<String>,
    /// Parent control group of RUN steps.
    #[arg(long, value_name = "PATH", help_heading = HOW)]
    pub cgroup_parent: Option<String>,
}

/// `rhost build`.
#[derive(Debug, Args)]
pub struct BuildArguments {
    /// What COPY and ADD read from: a directory, a git repository (`https://HOST/REPO.git#REF:DIR`), an archive or a build file at a URL, or `-`, an
    /// archive or a build file on stdin.
    #[arg(value_name = "CONTEXT")]
    pub context: PathBuf,
    /// Name of the image, as in `app:1` or `registry.example/team/app:1`.
    #[arg(short = 't', long, value_name = "NAME", help_heading = WHERE)]
    pub tag: Vec<String>,
    #[command(flatten)]
    pub frontend: FrontendArguments,
    /// Lend a secret to steps that mount it: `id=ID[,src=FILE|,env=VARIABLE][,type=file|env]`.
    #[arg(long, value_name = "SPEC", help_heading = LENT)]
    pub secret: Vec<String>,
    /// Lend an ssh agent, or keys that rhost serves itself, to steps that mount it: `default` (the agent of SSH_AUTH_SOCK) or
    /// `ID=SOCKET` or `ID=KEY[,KEY]`.
    #[arg(long, value_name = "SPEC", help_heading = LENT)]
    pub ssh: Vec<String>,
    /// Allow what steps may not do by themselves: `network.host` (`RUN --network=host`), `security.insecure` (`RUN
    /// --security=insecure`).
    #[arg(long, value_name = "ENTITLEMENT", help_heading = LENT)]
    pub allow: Vec<String>,
    /// Where the result goes: `type=image|registry|oci|docker|local|tar[,dest=PATH][,name=NAME]…`; a bare PATH is `type=local`,
    /// `-` is `type=tar` on stdout [default: type=image, rhost's own store].
    #[arg(short = 'o', long, value_name = "SPEC", help_heading = WHERE)]
    pub output: Vec<String>,
    /// Set an annotation of the image's manifest, or of other documents: `[manifest|index|manifest-descriptor|index-descriptor][[PLATFORM]][,…]:KEY=VALUE`.
    #[arg(long, value_name = "[WHERE:]KEY=VALUE", help_heading = WHERE)]
    pub annotation: Vec<String>,
    /// Attestations are not made yet: only those switched off are taken, as in `type=provenance,disabled=true`.
    #[arg(long, value_name = "SPEC", help_heading = WHERE)]
    pub attest: Vec<String>,
    /// `--provenance=false` is taken; other values want attestations.
    #[arg(long, value_name = "false", num_args = 0..=1, require_equals = true, default_missing_value = "true", help_heading = WHERE)]
    pub provenance: Option<String>,
    /// `--sbom=false` is taken; other values want attestations.
    #[arg(long, value_name = "false", num_args = 0..=1, require_equals = true, default_missing_value = "true", help_heading = WHERE)]
    pub sbom: Option<String>,
    /// Not there yet.
    #[arg(long, value_name = "SPEC", hide = true)]
    pub cache_from: Vec<String>,
    /// Not there yet.
    #[arg(long, value_name = "SPEC", hide = true)]
    pub cache_to: Vec<String>,
    /// Push the image to the registries of its names: `push=true` for an image output, or one more output `type=image,push=true`.
    #[arg(long, help_heading = WHERE)]
    pub push: bool,
    /// Keep the image in rhost's own store beside other outputs: one more output `type=image`. There is no daemon to load it into; for
    /// docker's, write `-o type=docker,dest=- … | docker load`.
    #[arg(long, help_heading = WHERE)]
    pub load: bool,
    /// How to show progress (on stderr).
    #[arg(long, value_enum, default_value = "auto", env = "BUILDKIT_PROGRESS", hide_env_values = true, help_heading = SHOWN)]
    pub progress: Progress,
    /// Print only the image's digest; the same as `--progress quiet`.
    #[arg(short, long, help_heading = SHOWN)]
    pub quiet: bool,
    /// Tell of every step, after the build and on stdout, why it ran or by what the cache knew it: for people, or as JSON.
    #[arg(long, value_name = "FORMAT", value_enum, num_args = 0..=1, require_equals = true, default_missing_value = "text", help_heading = SHOWN)]
    pub explain: Option<Explain>,
    /// Write the image's digest to FILE.
    #[arg(long, value_name = "FILE", help_heading = WHERE)]
    pub iidfile: Option<PathBuf>,
    /// Write the build's result metadata (JSON) to FILE.
    #[arg(long, value_name = "FILE", help_heading = WHERE)]
    pub metadata_file: Option<PathBuf>,
    /// Say which frontend would read the build file, and why; build nothing.
    #[arg(long, help_heading = ASKED)]
    pub print_frontend: bool,
    /// Ask about the build file instead of building: `check` (its findings), `outline` (the arguments and secrets of a target),
    /// `targets`, `convertllb` (the graph); with `,format=json` for programs, `,ignorestatus=true` to exit with 0 all the same.
    #[arg(long, value_name = "METHOD[,OPTION]", default_value = "build", help_heading = ASKED)]
    pub call: String,
    /// The same as `--call check`.
    #[arg(long, help_heading = ASKED)]
    pub check: bool,
    /// Steps that run at once [default: four for each processor, at least 32].
    #[arg(long, value_name = "N", value_parser = jobs, help_heading = HOW)]
    pub jobs: Option<std::num::NonZeroUsize>,
}

/// What is lent to who fetches.
#[derive(Debug, Args)]
pub struct LentArguments {
    /// Lend a secret, as for `rhost build`: credentials of git repositories and files at URLs.
    #[arg(long, value_name = "SPEC", help_heading = LENT)]
    pub secret: Vec<String>,
    /// Lend an ssh agent or keys, as for `rhost build`.
    #[arg(long, value_name = "SPEC", help_heading = LENT)]
    pub ssh: Vec<String>,
}

/// `rhost lock`.
#[derive(Debug, Args)]
pub struct LockArguments {
    /// Directory of the build, as for `rhost build` [default: .].
    #[arg(value_name = "CONTEXT")]
    pub context: Option<PathBuf>,
    /// Look up again what the entries NAME stand for, all of them without a NAME, and nothing else: `debian:12`, `debian`, a URL. A CONTEXT after it
    /// begins with a dot or a slash.
    #[arg(long, value_name = "NAME", num_args = 0.., conflicts_with = "prune")]
    pub update: Option<Vec<String>>,
    /// Drop the entries that this build does not use.
    #[arg(long)]
    pub prune: bool,
    #[command(flatten)]
    pub frontend: FrontendArguments,
    #[command(flatten)]
    pub lent: LentArguments,
    /// How to show progress (on stderr).
    #[arg(long, value_enum, default_value = "auto", env = "BUILDKIT_PROGRESS", hide_env_values = true, help_heading = SHOWN)]
    pub progress: Progress,
}

/// `rhost fetch`.
#[derive(Debug, Args)]
pub struct FetchArguments {
    /// What COPY and ADD read from, as for `rhost build`.
    #[arg(value_name = "CONTEXT", default_value = ".")]
    pub context: PathBuf,
    #[command(flatten)]
    pub frontend: FrontendArguments,
    #[command(flatten)]
    pub lent: LentArguments,
    /// How to show progress (on stderr).
    #[arg(long, value_enum, default_value = "auto", env = "BUILDKIT_PROGRESS", hide_env_values = true, help_heading = SHOWN)]
    pub progress: Progress,
}

/// `rhost vendor`.
#[derive(Debug, Args)]
pub struct VendorArguments {
    /// What COPY and ADD read from, as for `rhost build`.
    #[arg(value_name = "CONTEXT", default_value = ".")]
    pub context: PathBuf,
    /// Directory to write: a new one, or one that was written before [default: `vendor` in rhost.toml].
    #[arg(short, long, value_name = "DIR")]
    pub output: Option<PathBuf>,
    #[command(flatten)]
    pub frontend: FrontendArguments,
    #[command(flatten)]
    pub lent: LentArguments,
    /// How to show progress (on stderr).
    #[arg(long, value_enum, default_value = "auto", env = "BUILDKIT_PROGRESS", hide_env_values = true, help_heading = SHOWN)]
    pub progress: Progress,
}

/// `rhost images`.
#[derive(Debug, Args)]
pub struct ImagesArguments {
    /// One JSON object a line.
    #[arg(long)]
    pub json: bool,
    /// Only digests.
    #[arg(short, long)]
    pub quiet: bool,
}

/// `rhost save`.
#[derive(Debug, Args)]
pub struct SaveArguments {
    /// Image by name or digest.
    pub image: String,
    /// File to write; `-` is stdout.
    #[arg(short, long, value_name = "FILE", default_value = "-")]
    pub output: PathBuf,
    /// Layout of the archive.
    #[arg(long, value_name = "FORMAT", default_value = "docker", value_parser = ["docker", "oci"])]
    pub format: String,
}

/// `rhost tag`.
#[derive(Debug, Args)]
pub struct TagArguments {
    /// Image by name or digest.
    pub image: String,
    /// Its new names.
    #[arg(required = true)]
    pub name: Vec<String>,
}

/// `rhost pull`.
#[derive(Debug, Args)]
pub struct PullArguments {
    /// Image to pull, as in `debian:12` or `registry.example/team/app@sha256:…`.
    #[arg(value_name = "REF")]
    pub reference: String,
    /// Platform to pull [default: this machine's].
    #[arg(long, value_name = "PLATFORM", conflicts_with = "all_platforms")]
    pub platform: Option<String>,
    /// Pull the images of all platforms; the name then stands for their index.
    #[arg(long)]
    pub all_platforms: bool,
    /// How to show progress (on stderr).
    #[arg(long, value_enum, default_value = "auto", env = "BUILDKIT_PROGRESS", hide_env_values = true)]
    pub progress: Progress,
}

/// `rhost push`.
#[derive(Debug, Args)]
pub struct PushArguments {
    /// Image by name or digest.
    pub image: String,
    /// Where to [default: its name].
    #[arg(value_name = "DESTINATION")]
    pub destination: Option<String>,
    /// How to show progress (on stderr).
    #[arg(long, value_enum, default_value = "auto", env = "BUILDKIT_PROGRESS", hide_env_values = true)]
    pub progress: Progress,
}

/// `rhost rmi`.
#[derive(Debug, Args)]
pub struct RmiArguments {
    /// Images by name or digest.
    #[arg(required = true)]
    pub image: Vec<String>,
}

/// `rhost debug dump-llb`.
#[derive(Debug, Args)]
pub struct DumpLlbArguments {
    /// What COPY and ADD read from: a directory, a git repository (`https://HOST/REPO.git#REF:DIR`), an archive or a build file at a URL, or `-`, an
    /// archive or a build file on stdin.
    #[arg(value_name = "CONTEXT", default_value = ".")]
    pub context: PathBuf,
    #[command(flatten)]
    pub frontend: FrontendArguments,
    /// What to write: `llb`, the bytes; `text`, an operation a block, as `rhost frontend test` keeps it; `json`; `dot`, for Graphviz.
    #[arg(long, value_name = "FORMAT", value_parser = ["llb", "text", "json", "dot"], conflicts_with_all = ["json", "dot"])]
    pub format: Option<String>,
    /// `--format json`.
    #[arg(long, conflicts_with = "dot")]
    pub json: bool,
    /// `--format dot`.
    #[arg(long)]
    pub dot: bool,
    /// Write the frontend's result metadata (JSON) to FILE: `containerimage.config` and what else it says of the image.
    #[arg(long, value_name = "FILE")]
    pub metadata_file: Option<PathBuf>,
}

/// `rhost du`.
#[derive(Debug, Args)]
pub struct DuArguments {
    /// One JSON object a line.
    #[arg(long)]
    pub json: bool,
    /// Only records that fit, as in `type==regular` or `inuse==false,description~=RUN`; of several, any.
    ///
    /// Fields: id, type (regular, blob, image, frontend, exec.cachemount), description, parent, inuse, shared, private.
    /// `~=` means "contains".
    #[arg(long, value_name = "FILTER")]
    pub filter: Vec<String>,
}

/// `rhost prune`.
#[derive(Debug, Args)]
pub struct PruneArguments {
    /// Compiled frontends and layers that images share with the cache too.
    #[arg(short, long)]
    pub all: bool,
    /// Only records that fit; as for `rhost du`.
    #[arg(long, value_name = "FILTER")]
    pub filter: Vec<String>,
    /// Only what was not used for so long, as in `48h` or `7d`.
    #[arg(long, value_name = "DURATION", value_parser = rhost_engine::parse_duration)]
    pub keep_duration: Option<std::time::Duration>,
    /// Only until the store takes no more than this, as in `10GB` or `20%` of the disk.
    #[arg(long, value_name = "SIZE")]
    pub max_used_space: Option<rhost_engine::Space>,
    /// Only until so much of the disk is free.
    #[arg(long, value_name = "SIZE")]
    pub min_free_space: Option<rhost_engine::Space>,
    /// Let the store keep so much, however little of the disk is free.
    #[arg(long, value_name = "SIZE")]
    pub reserved_space: Option<rhost_engine::Space>,
    /// Remove nothing; say what would go, and why.
    #[arg(long)]
    pub dry_run: bool,
    /// One JSON object a line for each record removed.
    #[arg(long)]
    pub json: bool,
}
