//! `rhost frontend replay`: a recorded run, once more, from the file alone.
use std::sync::Arc;

use rhost_engine::{BuildError, Engine, Kind};
use rhost_frontend::{Recording, RunError};

use crate::arguments::ReplayArguments;

/// Runs it again, prints both ends and what lies between, and gives the exit code.
///
/// # Errors
/// The file is no recording; the frontend cannot be loaded.
pub async fn replay(engine: &Engine, arguments: &ReplayArguments) -> Result<u8, BuildError> {
    let path = arguments.file.display();
    let wrong = |error: &dyn std::fmt::Display| BuildError::new(Kind::Request, format!("`{path}`: {error}"));
    let bytes = std::fs::read(&arguments.file).map_err(|error| wrong(&error))?;
    let recording = Arc::new(Recording::decode(&bytes).map_err(|error| wrong(&error))?);
    let frontend = match &arguments.frontend {
        Some(name) => engine.load_frontend(&super::source(name)?).await?,
        None if recording.component().is_empty() => {
            let frontend = engine.load_frontend(&super::source("stock")?).await?;
            if frontend.identity().digest.to_string() != recording.digest() {
                let other = format!("was made by the built-in frontend of another rhost ({})", recording.digest());
                return Err(
                    wrong(&other).hint("run this one's with `--frontend stock`, or the recording with that rhost")
                );
            }
            frontend
        }
        None => engine.load_component(recording.name(), recording.component()).await?,
    };
    let invocation = recording.invocation().map_err(|error| wrong(&error))?;
    let host = recording.clone().replay();
    let ended = frontend.build(Arc::new(host.clone()), invocation, &engine.frontend_limits()).await;
    let mut departures = host.departures();
    departures.extend(recording.differences(ended.as_ref(), &host.reports()));
    let now = match &ended {
        Ok(_) if departures.is_empty() => recording.ended(),
        Ok(_) => "an answer".to_owned(),
        Err(error) => error.what(),
    };
    let backtrace = match &ended {
        Err(RunError::Stopped { backtrace, .. }) => backtrace.clone(),
        _ => Vec::new(),
    };
    let identity = frontend.identity();
    if arguments.json {
        let value = serde_json::json!({
            "recorded": { "name": recording.name(), "digest": recording.digest(), "ended": recording.ended(), "whole": recording.is_whole() },
            "replayed": { "name": identity.name, "digest": identity.digest.to_string(), "ended": now, "backtrace": backtrace },
            "leftOut": recording.left_out(),
            "departures": departures,
        });
        println!("{value:#}");
        return Ok(u8::from(!departures.is_empty()));
    }
    println!("recorded: {} {}", recording.name(), recording.digest());
    if identity.digest.to_string() != recording.digest() {
        println!("replayed: {} {}", identity.name, identity.digest);
    }
    if !recording.left_out().is_empty() {
        println!("left out: {}", recording.left_out().join(", "));
    }
    println!("then:     {}", recording.ended());
    println!("now:      {now}");
    for (number, frame) in backtrace.iter().enumerate() {
        println!("  {number:2}: {frame}");
    }
    print!("{}", rhost_testing::report_text(&host.reports()));
    if departures.is_empty() {
        println!("the same");
        return Ok(0);
    }
    for departure in &departures {
        println!("departs:  {departure}");
    }
    Ok(1)
}
