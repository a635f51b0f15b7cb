//! `rhost build`, and what takes the same flags: `lock`, `fetch`, `vendor`.
use std::path::PathBuf;

use clap::Args;

use super::{ASKED, Explain, HOW, LENT, Progress, SHOWN, WHAT, WHERE, jobs};

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
