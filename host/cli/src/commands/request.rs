//! From flags to a request: paths made whole, pairs split, values of the environment fetched. A wrong one names its flag.
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use rhost_engine::{BuildError, Engine, FrontendChoice, GraphRequest, Kind, NoCache};
use rhost_llb::Platform;

use super::frontend::project;
use super::{contexts, locking};
use crate::arguments::FrontendArguments;
use crate::project::Project;

fn wrong(message: impl std::fmt::Display) -> BuildError {
    BuildError::new(Kind::Request, message)
}

/// What `context` and `flags` ask for. Reads stdin where they say so.
///
/// # Errors
/// A flag that is wrong, by name.
pub fn graph(engine: &Engine, context: &Path, flags: FrontendArguments) -> Result<GraphRequest, BuildError> {
    graph_in(engine, &Project::of(context)?, context, flags)
}

/// As [`graph`], for a context in `project`.
///
/// # Errors
/// As [`graph`].
pub fn graph_in(
    engine: &Engine,
    project: &Project,
    context: &Path,
    flags: FrontendArguments,
) -> Result<GraphRequest, BuildError> {
    let (context, file) = contexts::main(engine, context, flags.file, project)?;
    let sources = locking::rules(project, flags.locked, flags.offline, flags.vendor.as_deref())?;
    let frontend = match flags.frontend {
        None => FrontendChoice::BySyntaxLine,
        Some(text) if is_file(&text) => FrontendChoice::File(project::component(Path::new(&text))?),
        Some(text) => FrontendChoice::Image(text),
    };
    let mut build_args = BTreeMap::new();
    for text in &flags.build_arg {
        match text.split_once('=') {
            Some(("", _)) => return Err(wrong(format!("--build-arg {text}: wanted NAME[=VALUE]"))),
            Some((name, value)) => drop(build_args.insert(name.to_owned(), value.to_owned())),
            // As buildx does: a name alone takes the value of the environment, and without one it is not passed.
            None => drop(std::env::var(text).map(|value| build_args.insert(text.clone(), value))),
        }
    }
    let mut labels = BTreeMap::new();
    for text in &flags.label {
        let (name, value) = text.split_once('=').unwrap_or((text, ""));
        if name.is_empty() {
            return Err(wrong(format!("--label {text}: wanted NAME=VALUE")));
        }
        labels.insert(name.to_owned(), value.to_owned());
    }
    let platforms = flags.platform.iter().map(|text| text.parse::<Platform>());
    let platforms = platforms.collect::<Result<Vec<_>, _>>().map_err(|error| wrong(format!("--platform: {error}")))?;
    let mut contexts = BTreeMap::new();
    for text in &flags.build_context {
        let (name, value) =
            text.split_once('=').ok_or_else(|| wrong(format!("--build-context {text}: wanted NAME=VALUE")))?;
        contexts.insert(name.to_owned(), contexts::named(text, value)?);
    }
    let mut add_hosts = Vec::new();
    for text in &flags.add_host {
        let (host, ip) =
            text.split_once(['=', ':']).ok_or_else(|| wrong(format!("--add-host {text}: wanted HOST:IP")))?;
        let ip = ip.trim_matches(['[', ']']);
        if ip.parse::<std::net::IpAddr>().is_err() {
            return Err(wrong(format!("--add-host {text}: `{ip}` is no IP address")));
        }
        add_hosts.push((host.to_owned(), ip.to_owned()));
    }
    let mut options = BTreeMap::new();
    for text in &flags.ulimit {
        let whole = |number: &str| number.parse::<i64>().is_ok();
        let limits = text.split_once('=').map(|(_, limits)| limits.split_once(':').unwrap_or((limits, limits)));
        if !limits.is_some_and(|(soft, hard)| whole(soft) && whole(hard)) {
            return Err(wrong(format!("--ulimit {text}: wanted NAME=SOFT[:HARD], as in nofile=1024:2048")));
        }
    }
    if !flags.ulimit.is_empty() {
        options.insert("ulimit".to_owned(), flags.ulimit.join(","));
    }
    if let Some(text) = &flags.shm_size {
        options.insert("shm-size".to_owned(), size(text)?.to_string());
    }
    options.extend(flags.cgroup_parent.map(|path| ("cgroup-parent".to_owned(), path)));
    Ok(GraphRequest {
        context,
        file,
        frontend,
        project: project.file.clone(),
        target: flags.target,
        build_args,
        labels,
        platforms,
        contexts,
        no_cache: match (flags.no_cache, flags.no_cache_filter.is_empty()) {
            (true, false) => return Err(wrong("--no-cache and --no-cache-filter exclude each other")),
            (true, true) => NoCache::All,
            (false, false) => NoCache::Stages(flags.no_cache_filter),
            (false, true) => NoCache::Off,
        },
        pull: flags.pull,
        normalize_modes: flags.normalize_modes,
        explain: false,
        record: flags.record_frontend,
        network: (flags.network != "default").then_some(flags.network),
        add_hosts,
        options,
        lent: Arc::default(),
        sources,
    })
}

/// Whether `frontend` is a file or directory, and not a reference: no repository begins with a dot or a slash.
pub fn is_file(frontend: &str) -> bool {
    frontend.ends_with(".wasm") || frontend.starts_with(['.', '/'])
}

/// Bytes, from a number with an optional unit of 1024: `64m`, `1.5 GiB`, `4096`.
fn size(text: &str) -> Result<u64, BuildError> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let unit = unit.trim().to_ascii_lowercase();
    let unit = unit.strip_suffix("ib").or_else(|| unit.strip_suffix('b')).unwrap_or(&unit);
    let power = ["", "k", "m", "g", "t", "p"].iter().position(|known| *known == unit);
    match (number.parse::<f64>(), power) {
        (Ok(number), Some(power)) => Ok((number * 1024f64.powi(power as i32)) as u64),
        _ => Err(wrong(format!("--shm-size {text}: wanted a size such as 64m"))),
    }
}
