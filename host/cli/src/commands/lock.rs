//! `rhost lock`.
use std::path::{Path, PathBuf};

use rhost_engine::{BuildError, Engine, Kind, LockChange, LockFile, Locked, print_lock};

use super::{lend, locking, request};
use crate::arguments::LockArguments;
use crate::progress;
use crate::project::Project;

/// A context, as it can stand after the names of `--update`: no reference and no URL begins so.
fn is_context(text: &str) -> bool {
    text.starts_with(['.', '/'])
}

/// Makes or changes the lock file, and prints what is different.
///
/// # Errors
/// Something cannot be resolved; with `--locked`, the file would change.
pub async fn run(engine: &Engine, arguments: LockArguments) -> Result<(), BuildError> {
    let wrong = |message: &str| BuildError::new(Kind::Request, message);
    let LockArguments { context, mut update, prune, frontend: flags, lent, progress } = arguments;
    let after = update.as_mut().filter(|names| context.is_none() && names.last().is_some_and(|last| is_context(last)));
    let after = after.and_then(Vec::pop).map(PathBuf::from);
    let context = context.or(after).unwrap_or_else(|| ".".into());
    let strict = flags.locked;
    if strict && update.is_some() {
        return Err(wrong("--locked says that the lock file may not change, and --update changes it"));
    }
    if flags.offline && update.is_some() {
        return Err(wrong("--offline: nobody can be asked what names stand for now"));
    }
    let lent = lend::lent(&lent.secret, &lent.ssh, &[], &flags.network)?;
    let project = Project::of(&context)?;
    let mut graph = request::graph_in(engine, &project, &context, flags)?;
    graph.lent = lent.into();
    let Some(path) = locking::path(&project) else {
        return Err(wrong(
            "the lock file lies beside the build's files: wanted a context that is a directory of this machine",
        ));
    };
    let (events, finish) = progress::start(progress);
    let made = match &update {
        Some(names) => engine.update_lock(&graph, names, &events).await,
        None => engine.lock(&graph, prune, &events).await,
    };
    drop(finish);
    let made = made?;
    for change in &made.changes {
        println!("{}", line(change));
    }
    for name in &made.own {
        eprintln!(
            "WARNING: `{name}` is an image of this machine alone, and is not locked; push it, or lend it with --build-context"
        );
    }
    if strict && !made.changes.is_empty() {
        let names: Vec<String> = made.changes.iter().map(|change| format!("\n  {}", line(change))).collect();
        let message = format!("--locked: {} would change:{}", path.display(), names.concat());
        return Err(BuildError::new(Kind::Sources, message).hint("`rhost lock` without --locked writes it"));
    }
    write(&path, &made, strict)
}

fn write(path: &Path, made: &Locked, strict: bool) -> Result<(), BuildError> {
    let entries = |count: usize| locking::counted(count, "entry", "entries");
    let (text, count) = (print_lock(&made.entries), entries(made.entries.len()));
    let before = std::fs::read_to_string(path).ok();
    if before.as_deref() == Some(&text) || strict {
        eprintln!("{} is as it was: {count}", path.display());
    } else {
        // What is written is read: a file that no build takes must not be left behind.
        LockFile::parse(path, &text).map_err(locking::wrong)?;
        rhost_engine::write_file(path, text.as_bytes()).map_err(|error| BuildError::new(Kind::Store, error))?;
        eprintln!("wrote {}: {count}", path.display());
    }
    if !made.unused.is_empty() {
        eprintln!("not used by this build, and kept: {}; --prune drops what is not used", entries(made.unused.len()));
    }
    Ok(())
}

fn line(change: &LockChange) -> String {
    match change {
        LockChange::Added(key, pin) => format!("+ {key} {pin}"),
        LockChange::Changed { key, was, is } if was.to_string() == is.to_string() => {
            format!("~ {key} {is} (its name or date)")
        }
        LockChange::Changed { key, was, is } => format!("~ {key} {was} -> {is}"),
        LockChange::Removed(key, pin) => format!("- {key} {pin}"),
    }
}
