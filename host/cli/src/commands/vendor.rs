//! `rhost vendor`.
use rhost_engine::{BuildError, Engine, Kind};

use super::{lend, locking, request};
use crate::arguments::VendorArguments;
use crate::progress;
use crate::project::Project;

/// Writes what a build needs from elsewhere to a directory.
///
/// # Errors
/// Something cannot be had; the directory is something else, or cannot be written.
pub async fn run(engine: &Engine, arguments: VendorArguments) -> Result<(), BuildError> {
    let wrong = |message: &str| BuildError::new(Kind::Request, message);
    let VendorArguments { context, output, frontend: flags, lent, progress } = arguments;
    let named = flags.vendor.is_some();
    let project = Project::of(&context)?;
    let output = output.or_else(|| project.file.as_ref()?.vendor().map(Into::into));
    let output = output.ok_or_else(|| wrong("wanted a directory: `-o DIR`, or `vendor = \"DIR\"` in rhost.toml"))?;
    let lent = lend::lent(&lent.secret, &lent.ssh, &[], &flags.network)?;
    let mut graph = request::graph_in(engine, &project, &context, flags)?;
    graph.lent = lent.into();
    if !named {
        // What rhost.toml names is what is being made.
        graph.sources.vendor = None;
    }
    let (events, finish) = progress::start(progress);
    let made = engine.vendor(&graph, &output, &events).await;
    drop(finish);
    let made = made?;
    let images = locking::counted(made.images, "image or frontend", "images and frontends");
    let files = locking::counted(made.files, "file", "files");
    let trees = locking::counted(made.trees, "git tree", "git trees");
    let signatures = match made.signatures {
        0 => String::new(),
        count => format!(", {}", locking::counted(count, "signature", "signatures")),
    };
    eprintln!("wrote {}: {images}, {files}, {trees}{signatures}", output.display());
    Ok(())
}
