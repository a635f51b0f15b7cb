//! `rhost frontend new` and `build`, and `--frontend DIR`: projects, by way of the toolchain crate.
use std::path::{Path, PathBuf};

use rhost_engine::{BuildError, Kind, Place};
use rhost_toolchain::{Built, Language, Project, Sdk, ToolchainError};

use crate::arguments::{BuildFrontendArguments, NewFrontendArguments};
use crate::environment;

/// Writes a project.
///
/// # Errors
/// The name does not fit, or something is in the way.
pub fn new(arguments: &NewFrontendArguments) -> Result<(), BuildError> {
    let dir = arguments.dir.clone().unwrap_or_else(|| PathBuf::from(&arguments.name));
    let language = Language::parse(&arguments.lang)
        .ok_or_else(|| BuildError::new(Kind::Request, format!("--lang {}: no such language", arguments.lang)))?;
    rhost_toolchain::create(&dir, &arguments.name, language).map_err(|error| wrong(&error))?;
    println!(
        "{} is a frontend in {}. Next:\n  cd {0}\n  rhost build --frontend . -f example.build .",
        dir.display(),
        language.name()
    );
    Ok(())
}

/// Makes the component of a project.
///
/// # Errors
/// A tool is missing or fails, or what it makes is no frontend.
pub fn build(arguments: &BuildFrontendArguments) -> Result<(), BuildError> {
    let sdk = if arguments.update_sdk { Sdk::Update } else { Sdk::Keep };
    let built = make(&arguments.dir, arguments.output.as_deref(), sdk, arguments.fetch_toolchain)?;
    let done = if built.fresh { "" } else { ", up to date" };
    println!("{} ({} bytes{done})", built.path.display(), built.size);
    Ok(())
}

/// The component that `path` means: a file, or a project's directory, which is built if it has changed.
///
/// # Errors
/// As [`build`].
pub fn component(path: &Path) -> Result<PathBuf, BuildError> {
    if !path.is_dir() {
        return Ok(path.into());
    }
    // The tools run beside no other task of this process.
    tokio::task::block_in_place(|| make(path, None, Sdk::Keep, false)).map(|built| built.path)
}

fn make(dir: &Path, output: Option<&Path>, sdk: Sdk, may_fetch: bool) -> Result<Built, BuildError> {
    let output = output.map(std::path::absolute).transpose().map_err(|error| BuildError::new(Kind::Request, error))?;
    let machine = environment::machine(may_fetch, &|line| eprintln!("frontend: {line}"))?;
    let project = Project::open(dir).map_err(|error| wrong(&error))?;
    project.build(&machine, output.as_deref(), sdk).map_err(|error| wrong(&error))
}

fn wrong(error: &ToolchainError) -> BuildError {
    let kind = match error {
        ToolchainError::Failed { .. } | ToolchainError::Component { .. } | ToolchainError::ForeignImports(_) => {
            Kind::Frontend
        }
        ToolchainError::Io { .. } => Kind::Store,
        _ => Kind::Request,
    };
    let shown = match error {
        ToolchainError::Manifest { path, line: Some((line, text)), reason } => {
            let file = path.display().to_string();
            let mut placed = BuildError::new(kind, reason);
            placed.place = Some(Place { file, first_line: *line, last_line: *line, text: text.clone() });
            placed
        }
        _ => BuildError::new(kind, error),
    };
    match error.hint() {
        Some(hint) => shown.hint(hint),
        None => shown,
    }
}
