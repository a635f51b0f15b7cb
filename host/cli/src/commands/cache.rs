//! `rhost cache`: cache mounts are listed, and go to and come from other machines.
use std::io::{IsTerminal as _, Write};

use rhost_engine::{BuildError, CachePlace, Engine, ImportMode, Kind, MountChoice, human};

use super::disk::time;
use crate::arguments::{CacheCommand, CacheExportArguments, CacheImportArguments, ImportModeArgument};
use crate::progress;

/// Runs one of the commands.
///
/// # Errors
/// Those of the command.
pub async fn run(engine: &Engine, command: &CacheCommand) -> Result<(), BuildError> {
    match command {
        CacheCommand::Ls { json } => list(engine, *json),
        CacheCommand::Export(arguments) => export(engine, arguments).await,
        CacheCommand::Import(arguments) => import(engine, arguments).await,
    }
}

fn failed(error: impl std::fmt::Display) -> BuildError {
    BuildError::new(Kind::Store, format!("stdout: {error}"))
}

fn place(flag: &str, text: &str) -> Result<CachePlace, BuildError> {
    CachePlace::parse(text).map_err(|error| BuildError::new(Kind::Request, format!("{flag}: {error}")))
}

/// The first digits of what a mount began with.
fn from(base: Option<&str>) -> &str {
    base.map_or("-", |base| base.get(..12).unwrap_or(base))
}

fn list(engine: &Engine, json: bool) -> Result<(), BuildError> {
    let mounts = engine.cache_mounts()?;
    let mut out = std::io::stdout().lock();
    let unknown = "(unknown)";
    let width = mounts.iter().map(|mount| mount.id.as_deref().unwrap_or(unknown).chars().count()).max();
    let width = width.unwrap_or(0).max(unknown.len());
    if !json {
        writeln!(out, "{:width$}  {:12}  {:>9}  {:20}  {:>4}", "ID", "FROM", "SIZE", "LAST USED", "USES")
            .map_err(failed)?;
    }
    for mount in &mounts {
        let info = &mount.info;
        let line = if json {
            serde_json::json!({
                "id": mount.id, "key": info.id, "from": info.base, "name": info.name, "size": mount.size,
                "inUse": info.in_use, "createdAt": time(info.created), "lastUsedAt": time(info.last_used),
                "usageCount": info.uses,
            })
            .to_string()
        } else {
            let (id, from) = (mount.id.as_deref().unwrap_or(unknown), from(info.base.as_deref()));
            let (size, used, busy) =
                (human(mount.size), time(info.last_used), if info.in_use { "  in use" } else { "" });
            format!("{id:width$}  {from:12}  {size:>9}  {used:20}  {:>4}{busy}", info.uses)
        };
        writeln!(out, "{line}").map_err(failed)?;
    }
    Ok(())
}

async fn export(engine: &Engine, arguments: &CacheExportArguments) -> Result<(), BuildError> {
    let place = place("-o", &arguments.output)?;
    let to_stdout = place.is_stream();
    if to_stdout && std::io::stdout().is_terminal() {
        return Err(BuildError::new(Kind::Request, "stdout is a terminal").hint("name a file: -o type=tar,dest=FILE"));
    }
    let choice = if arguments.all { MountChoice::All } else { MountChoice::These(arguments.mount.clone()) };
    let (events, finish) = progress::start(arguments.progress);
    let exported = engine.export_cache(&choice, &place, &events).await;
    drop(finish);
    let (name, _) = exported?;
    if !to_stdout {
        writeln!(std::io::stdout().lock(), "{name}").map_err(failed)?;
    }
    Ok(())
}

async fn import(engine: &Engine, arguments: &CacheImportArguments) -> Result<(), BuildError> {
    let place = place("SOURCE", &arguments.source)?;
    if place.is_stream() && std::io::stdin().is_terminal() {
        return Err(BuildError::new(Kind::Request, "stdin is a terminal").hint("name a file: type=tar,dest=FILE"));
    }
    let choice =
        if arguments.mount.is_empty() { MountChoice::All } else { MountChoice::These(arguments.mount.clone()) };
    let mode = match arguments.mode {
        ImportModeArgument::Replace => ImportMode::Replace,
        ImportModeArgument::Merge => ImportMode::Merge,
    };
    let (events, finish) = progress::start(arguments.progress);
    let imported = engine.import_cache(&place, &choice, mode, &events).await;
    drop(finish);
    let mut out = std::io::stdout().lock();
    for mount in imported? {
        writeln!(out, "{}", mount.id).map_err(failed)?;
    }
    Ok(())
}
