//! `rhost frontend`.
use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::manual;

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
    /// The component, or a project's directory, which is built first if it has changed.
    #[arg(value_name = "FILE|DIR")]
    pub file: PathBuf,
    /// Where to, as in `registry.example/team/lang:1`.
    #[arg(value_name = "REF")]
    pub reference: String,
    /// What the frontend is called. This and what follows stands in `[about]` of the project's frontend.toml and so in the component; a flag goes before that.
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
    /// Set an annotation of the manifest, as in `org.opencontainers.image.licenses=MIT`; goes before those of the flags above and of `[about]`.
    #[arg(long, value_name = "KEY=VALUE")]
    pub annotation: Vec<String>,
    /// Layout of the artifact: `cncf`, `plain`, or `auto`, which is cncf and then plain where the registry refuses it.
    #[arg(long, default_value = "auto", value_parser = ["auto", "cncf", "plain"])]
    pub layout: String,
}
