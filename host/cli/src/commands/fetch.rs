//! `rhost fetch`.
use rhost_engine::{BuildError, Engine, Kind};

use super::{lend, locking, request};
use crate::arguments::FetchArguments;
use crate::progress;

/// Fills the store with what a build needs from elsewhere.
///
/// # Errors
/// Something cannot be had.
pub async fn run(engine: &Engine, arguments: FetchArguments) -> Result<(), BuildError> {
    let FetchArguments { context, frontend: flags, lent, progress } = arguments;
    if flags.offline {
        return Err(BuildError::new(Kind::Request, "--offline: there is nothing to fetch without a network"));
    }
    let lent = lend::lent(&lent.secret, &lent.ssh, &[], &flags.network)?;
    let mut graph = request::graph(engine, &context, flags)?;
    graph.lent = lent.into();
    let (events, finish) = progress::start(progress);
    let fetched = engine.fetch(&graph, &events).await;
    drop(finish);
    let count = locking::counted(fetched?.sources, "source is", "sources are");
    eprintln!("{count} in the store; `rhost build --offline` asks nobody");
    Ok(())
}
