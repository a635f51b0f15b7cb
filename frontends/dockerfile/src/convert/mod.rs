//! From a parsed build file to graphs, vertex by vertex as BuildKit's own frontend does it (spec A.4, B).
//!
//! [`build`] is the whole frontend: read the file, convert it once per platform, hand back graphs and image configs. It never
//! solves anything; what to do with the graphs is the adapter's business.

mod base;
pub mod context;
mod converter;
pub(crate) mod copy;
mod dispatch;
mod epoch;
pub mod error;
pub mod expose;
pub mod git;
pub mod golang;
pub mod graph;
pub mod image;
pub(crate) mod lint;
pub mod options;
mod outline;
pub mod paths;
mod platform;
pub mod reference;
mod run;
mod signal;
mod stage;
pub mod state;

pub use error::{ConvertError, ErrorKind};
pub use outline::Answer;
pub use platform::PlatformError;

use std::cell::RefCell;

use context::{Local, MainContext};
use converter::{Converter, Shared};
use graph::{Graph, Meta, Output, Platform};
use lint::{Ignored, Linter};
use options::Options;

use crate::host::{Host, HostError, ImageConfigRequest, ResolvedImage, Ticket, Warning};
use crate::instruction::Dockerfile;

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

/// Answers a build request.
///
/// # Errors
/// When the file cannot be had or converted; the error says where.
pub fn build(host: &dyn Host) -> Result<Built, ConvertError> {
    let options = Options::parse(host.options(), &host.build_platform())?;
    let (context, source, ignore) = read(host, &options)?;
    let convert = || {
        let lint = Linter::new(host, &options, &source.data)?;
        let file = parse_checked(&lint, &source)?;
        let (exclude, ignored) = ignore_patterns(host, &options, &context, &source, ignore)?;
        let muted = lint.muted();
        let one = |platform: Option<&Platform>, lint: &Linter<'_>| {
            let shared = Shared {
                host,
                options: &options,
                file: &file,
                context: &context,
                exclude: &exclude,
                ignored: &ignored,
                lint,
                all_stages: false,
            };
            Converter::new(&shared, platform)?.run(&shared, platform)
        };
        if options.platforms.is_empty() {
            return Ok(vec![one(None, &lint)?]);
        }
        // The findings of one platform are those of all.
        options.platforms.iter().enumerate().map(|(i, p)| one(Some(p), if i == 0 { &lint } else { &muted })).collect()
    };
    let targets = convert().map_err(|e: ConvertError| e.in_file(&source.name))?;
    Ok(Built { targets, multi_platform: options.multi_platform, source })
}

/// Answers a request for information instead of a build, if the client's options make one (`requestid`, spec B.4).
///
/// # Errors
/// As [`build`]; a request that is not known. A linter's answer holds the fault of the file instead.
pub fn answer(host: &dyn Host) -> Result<Option<Answer>, ConvertError> {
    const KEY: &str = "requestid";
    let options = Options::parse(host.options(), &host.build_platform())?;
    let Some(request) = options.raw(KEY).filter(|r| !r.is_empty()) else { return Ok(None) };
    if request == "frontend.subrequests.describe" {
        return Ok(Some(outline::requests()));
    }
    let (context, source, ignore) = read(host, &options)?;
    let at_place = |e: ConvertError| e.in_file(&source.name);
    match request {
        "frontend.targets" => {
            let file = parse(&source).map_err(at_place)?;
            Ok(Some(outline::targets(&file, &source.data)))
        }
        "frontend.outline" => {
            let convert = || {
                let lint = Linter::new(host, &options, &source.data)?.muted();
                describe(host, &options, &context, &source, ignore, &lint)
            };
            convert().map(Some).map_err(at_place)
        }
        "frontend.lint" => {
            let found = Collector { host, warnings: RefCell::default() };
            let lint_all = || {
                let lint = Linter::new(&found, &options, &source.data)?;
                let file = parse_checked(&lint, &source)?;
                let (exclude, ignored) = ignore_patterns(host, &options, &context, &source, ignore)?;
                let shared = Shared {
                    host,
                    options: &options,
                    file: &file,
                    context: &context,
                    exclude: &exclude,
                    ignored: &ignored,
                    lint: &lint,
                    all_stages: options.target.is_empty(),
                };
                Converter::new(&shared, None)?.convert(&shared).map(drop)
            };
            let fault = lint_all().err();
            let warnings = found.warnings.into_inner();
            Ok(Some(lint::answer(&warnings, fault.as_ref(), &source)))
        }
        other => {
            let known = "there are frontend.outline, frontend.targets, frontend.lint and frontend.subrequests.describe";
            Err(ConvertError::option(KEY, format!("unsupported request {other}: {known}")))
        }
    }
}

fn describe(
    host: &dyn Host,
    options: &Options,
    context: &MainContext,
    source: &SourceFile,
    ignore: Option<Vec<u8>>,
    lint: &Linter<'_>,
) -> Result<Answer, ConvertError> {
    let file = parse(source)?;
    let (exclude, ignored) = ignore_patterns(host, options, context, source, ignore)?;
    let shared =
        Shared { host, options, file: &file, context, exclude: &exclude, ignored: &ignored, lint, all_stages: false };
    Converter::new(&shared, None)?.describe(&shared, &source.data)
}

/// Keeps findings instead of telling the host.
struct Collector<'a> {
    host: &'a dyn Host,
    warnings: RefCell<Vec<Warning>>,
}

impl Host for Collector<'_> {
    fn options(&self) -> Vec<(String, String)> {
        self.host.options()
    }

    fn build_platform(&self) -> Platform {
        self.host.build_platform()
    }

    fn session(&self) -> Option<String> {
        self.host.session()
    }

    fn read_files(&self, graph: &Graph, root: Output, paths: &[&str]) -> Result<Vec<Option<Vec<u8>>>, HostError> {
        self.host.read_files(graph, root, paths)
    }

    fn read_head(&self, graph: &Graph, root: Output, path: &str, length: u64) -> Result<Option<Vec<u8>>, HostError> {
        self.host.read_head(graph, root, path, length)
    }

    fn modified(&self, graph: &Graph, root: Output, file: Option<&str>) -> Result<Option<i64>, HostError> {
        self.host.modified(graph, root, file)
    }

    fn start_image_config(&self, request: &ImageConfigRequest) -> Ticket {
        self.host.start_image_config(request)
    }

    fn wait_image_config(&self, ticket: Ticket) -> Result<ResolvedImage, HostError> {
        self.host.wait_image_config(ticket)
    }

    fn has_input(&self, name: &str) -> bool {
        self.host.has_input(name)
    }

    fn warn(&self, warning: &Warning) {
        self.warnings.borrow_mut().push(warning.clone());
    }

    fn log(&self, message: &str) {
        self.host.log(message);
    }
}

/// The context, the build file, and the build file's own ignore file.
fn read(host: &dyn Host, options: &Options) -> Result<(MainContext, SourceFile, Option<Vec<u8>>), ConvertError> {
    let context = MainContext::detect(host, options)?;
    let (source, ignore) = read_build_file(host, options, &context)?;
    Ok((context, source, ignore))
}

fn syntax_error(error: crate::ParseError) -> ConvertError {
    ConvertError::from(ErrorKind::Syntax(error.message())).at(&stage::ranges(error.span))
}

/// The build file, linted; of one with a wrong instruction those before it are.
fn parse_checked(lint: &Linter<'_>, source: &SourceFile) -> Result<Dockerfile, ConvertError> {
    let (file, fault) = crate::parse::parse_part(&source.data).map_err(syntax_error)?;
    if let Some(fault) = fault {
        lint::check_part(lint, &file);
        return Err(syntax_error(fault));
    }
    lint::check_file(lint, &file);
    with_stages(file, source)
}

fn parse(source: &SourceFile) -> Result<Dockerfile, ConvertError> {
    with_stages(crate::parse(&source.data).map_err(syntax_error)?, source)
}

fn with_stages(file: Dockerfile, source: &SourceFile) -> Result<Dockerfile, ConvertError> {
    if file.stages.is_empty() {
        return Err(ErrorKind::Syntax(format!(
            "dockerfile contains no stages to build: `{}` has no FROM",
            source.name
        ))
        .into());
    }
    Ok(file)
}

/// What of the main context is left out, as patterns and to look paths up.
fn ignore_patterns(
    host: &dyn Host,
    options: &Options,
    context: &MainContext,
    source: &SourceFile,
    ignore: Option<Vec<u8>>,
) -> Result<(Vec<String>, Ignored), ConvertError> {
    let patterns = match (context, ignore) {
        (MainContext::Local { .. }, Some(text)) => {
            context::parse_ignore(&format!("{}.dockerignore", source.name), &text)?
        }
        (MainContext::Local { name }, None) => context::main_ignore(host, options, name)?,
        (MainContext::Http { .. } | MainContext::Git { .. } | MainContext::Input, _) => Vec::new(),
    };
    let ignored = Ignored::new(&patterns)
        .map_err(|e| ConvertError::instruction(format!("the ignore file of the context: {e}")))?;
    Ok((patterns, ignored))
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
