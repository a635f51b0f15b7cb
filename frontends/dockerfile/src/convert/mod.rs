//! From a parsed build file to graphs, vertex by vertex as BuildKit's own frontend does it (spec A.4, B).
//!
//! [`build`] is the whole frontend: read the file, convert it once per platform, hand back graphs and image configs. It never
//! solves anything; what to do with the graphs is the adapter's business.

mod base;
mod check;
pub mod context;
mod converter;
pub(crate) mod copy;
mod dispatch;
pub mod error;
pub mod expose;
pub mod git;
pub mod golang;
pub mod graph;
pub mod image;
pub mod options;
pub mod paths;
mod platform;
pub mod reference;
mod run;
mod signal;
mod stage;
pub mod state;

pub use error::{ConvertError, ErrorKind};
pub use platform::PlatformError;

use context::{Local, MainContext};
use converter::{Converter, Shared};
use graph::{Graph, Meta, Output, Platform};
use options::Options;

use crate::host::Host;

/// The answer of the frontend.
#[derive(Debug)]
pub struct Built {
    /// One per platform, in the order in which they were asked for; exactly one if none was.
    pub targets: Vec<Target>,
    /// The client wants an index even for one platform: results are keyed by [`Target::id`].
    pub multi_platform: bool,
    /// The build file, for source maps.
    pub source: SourceFile,
}

/// The result for one platform.
#[derive(Debug)]
pub struct Target {
    /// Platform as text, the key of its result.
    pub id: String,
    /// Platform of the image.
    pub platform: Platform,
    /// Nodes of this result; [`Graph::reachable`] says which count.
    pub graph: Graph,
    /// The file system; `None` is an empty one.
    pub root: Option<Output>,
    /// Image config, JSON (metadata `containerimage.config`).
    pub config: String,
    /// Config of the base image, JSON (metadata `containerimage.base.config`).
    pub base_config: Option<String>,
    /// Seconds since 1970 that the image is dated with (metadata `source.date.epoch`).
    pub epoch: Option<i64>,
}

/// A build file as it was read, and where from.
#[derive(Debug, Clone)]
pub struct SourceFile {
    /// Name as the client gave it.
    pub name: String,
    /// Contents.
    pub data: Vec<u8>,
    /// Language name for highlighting.
    pub language: &'static str,
    /// The source that it was read from.
    pub graph: Graph,
    /// Its node.
    pub root: Output,
}

/// The whole frontend.
///
/// # Errors
/// When the file cannot be had or converted; the error says where.
pub fn build(host: &dyn Host) -> Result<Built, ConvertError> {
    let options = Options::parse(host.options(), &host.build_platform())?;
    let context = MainContext::detect(host, &options)?;
    let (source, ignore) = read_build_file(host, &options, &context)?;
    let name = source.name.clone();
    let targets = convert(host, &options, &context, &source, ignore).map_err(|e| e.in_file(&name))?;
    Ok(Built { targets, multi_platform: options.multi_platform, source })
}

fn convert(
    host: &dyn Host,
    options: &Options,
    context: &MainContext,
    source: &SourceFile,
    ignore: Option<Vec<u8>>,
) -> Result<Vec<Target>, ConvertError> {
    let file = crate::parse(&source.data).map_err(|e| {
        let at = stage::ranges(e.span);
        ConvertError::from(ErrorKind::Syntax(e.to_string())).at(&at)
    })?;
    if file.stages.is_empty() {
        return Err(ErrorKind::Syntax(format!("`{}` has no FROM: there is nothing to build", source.name)).into());
    }
    check::run(host, options, &source.data, &file)?;
    let exclude = match (context, ignore) {
        (MainContext::Local { .. }, Some(text)) => {
            context::parse_ignore(&format!("{}.dockerignore", source.name), &text)?
        }
        (MainContext::Local { name }, None) => context::main_ignore(host, options, name)?,
        (MainContext::Http { .. } | MainContext::Git { .. } | MainContext::Input, _) => Vec::new(),
    };
    let shared = Shared { host, options, file: &file, context, exclude: &exclude };
    let one = |platform: Option<&Platform>| Converter::new(&shared, platform)?.run(&shared, platform);
    if options.platforms.is_empty() {
        return Ok(vec![one(None)?]);
    }
    options.platforms.iter().map(|p| one(Some(p))).collect()
}

/// Reads the build file and its own ignore file.
fn read_build_file(
    host: &dyn Host,
    options: &Options,
    context: &MainContext,
) -> Result<(SourceFile, Option<Vec<u8>>), ConvertError> {
    let mut name = options.filename.clone();
    let mut graph = Graph::default();
    let lent = !options.dockerfile_is_local;
    let root = match context {
        MainContext::Http { archive, .. } if lent => {
            if !archive {
                context::HTTP_FILE.clone_into(&mut name);
            }
            context.add(&mut graph, options)
        }
        MainContext::Git { .. } if lent => context.add(&mut graph, options),
        MainContext::Input if lent && !host.has_input("dockerfile") => context.add(&mut graph, options),
        _ if lent && host.has_input("dockerfile") => graph.add(graph::Op::Input("dockerfile".into()), Meta::default()),
        _ => {
            let mut follow = vec![name.clone(), format!("{name}.dockerignore")];
            follow.extend(lower_case(&name));
            let local = Local {
                name: options.dockerfile_local.clone(),
                session: context::session(host, options, &options.dockerfile_local),
                follow,
                shared_key: options.dockerfile_local.clone(),
                no_differ: true,
                ..Local::default()
            };
            graph.add(local.op(), Meta::named(format!("[internal] load build definition from {name}")))
        }
    };
    let ignore_name = format!("{name}.dockerignore");
    let other = lower_case(&name);
    let mut wanted = vec![name.as_str(), ignore_name.as_str()];
    wanted.extend(other.as_deref());
    let mut files = host
        .read_files(&graph, root, &wanted)
        .map_err(|e| ConvertError::host(format!("cannot read the build file `{name}`"), e))?
        .into_iter();
    let (file, ignore, lower) = (files.next().flatten(), files.next().flatten(), files.next().flatten());
    let data = file.or(lower).ok_or_else(|| ErrorKind::NoBuildFile(name.clone()))?;
    Ok((SourceFile { name, data, language: "Dockerfile", graph, root }, ignore))
}

/// `dockerfile` beside `Dockerfile`.
fn lower_case(name: &str) -> Option<String> {
    (paths::base(name) == "Dockerfile").then(|| paths::join(&[&paths::dir(name), "dockerfile"]))
}
