//! The command line as typed: low flags, parsed for shape only. `commands/` turns them into intent.
mod build;
mod disk;
mod frontend;
mod image;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::manual;

pub use build::*;
pub use disk::*;
pub use frontend::*;
pub use image::*;

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
