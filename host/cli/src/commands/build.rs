//! `rhost build`.
use std::io::{IsTerminal, Write};
use std::sync::{Arc, Mutex, PoisonError};

use rhost_engine::{BuildError, BuildRequest, Engine, Event, Events, Explanation, Kind};

use super::call::{self, Call};
use super::{lend, outputs, request};
use crate::arguments::{BuildArguments, Explain, Progress};
use crate::{explain, progress};

/// Builds, exports, and writes the files that were asked for. Gives the exit code.
///
/// # Errors
/// What went wrong.
pub async fn run(engine: &Engine, arguments: BuildArguments) -> Result<u8, BuildError> {
    let method = if arguments.check { "check" } else { arguments.call.as_str() };
    let call = Call::parse(method)?;
    let network = &arguments.frontend.network;
    let lent = lend::lent(&arguments.secret, &arguments.ssh, &arguments.allow, network)?;
    if let Some(call) = call {
        let mut graph = request::graph(engine, &arguments.context, arguments.frontend)?;
        graph.lent = lent.into();
        return call::run(engine, &graph, &call).await;
    }
    let quiet = arguments.quiet || arguments.progress == Progress::Quiet;
    let to_stdout = rhost_engine::to_stdout(&arguments.output);
    if to_stdout && std::io::stdout().is_terminal() {
        return Err(BuildError::new(Kind::Request, "the output goes to stdout, which is a terminal")
            .hint("redirect it to a file, or name one with dest="));
    }
    if arguments.explain.is_some() && (to_stdout || quiet) {
        let other = if to_stdout { "the output" } else { "the image's digest" };
        return Err(BuildError::new(Kind::Request, format!("--explain goes to stdout, and so does {other}")).hint(
            if to_stdout {
                "name a file for the output with dest="
            } else {
                "write the digest to a file with --iidfile"
            },
        ));
    }
    outputs::refuse_caches(&arguments.cache_from, &arguments.cache_to)?;
    outputs::refuse_attestations(&arguments.attest, arguments.provenance.as_deref(), arguments.sbom.as_deref())?;
    let processors = rhost_engine::processors();
    let mut graph = request::graph(engine, &arguments.context, arguments.frontend)?;
    graph.lent = lent.into();
    graph.explain = arguments.explain.is_some();
    let request = BuildRequest {
        graph,
        tags: arguments.tag,
        outputs: outputs::annotated(arguments.output, &arguments.annotation)?,
        push: arguments.push,
        load: arguments.load,
        // Steps wait for networks and disks more than they compute; BuildKit bounds them not at all.
        jobs: arguments.jobs.map_or((4 * processors).max(32), usize::from),
    };
    if arguments.print_frontend {
        let chosen = engine.choose_frontend(&request.graph).await?;
        println!("{}\n  because {}", chosen.source, chosen.because);
        if let Some((place, pin)) = chosen.pinned(&request.graph.sources) {
            println!("  {place} says {pin}");
        }
        for line in chosen.alias.iter().map(ToString::to_string).chain(chosen.ignored) {
            println!("  {line}");
        }
        return Ok(0);
    }
    for path in arguments.iidfile.iter().chain(&arguments.metadata_file) {
        rhost_engine::check_file(path).map_err(|error| BuildError::new(Kind::Request, error))?;
    }
    let (events, finish) = progress::start(if quiet { Progress::Quiet } else { arguments.progress });
    let explanation = Arc::new(Mutex::new(None));
    let events = heard(events, &explanation);
    let built = engine.build(&request, &events).await;
    drop(finish);
    let explanation = explanation.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some((explanation, format)) = explanation.zip(arguments.explain) {
        show(&explanation, format)?;
    }
    let built = built?;
    let write = |path: &std::path::Path, bytes: &[u8]| {
        rhost_engine::write_file(path, bytes).map_err(|error| BuildError::new(Kind::Store, error))
    };
    if let (Some(path), Some(id)) = (&arguments.iidfile, built.image_id) {
        write(path, id.to_string().as_bytes())?;
    }
    if let Some(path) = &arguments.metadata_file {
        write(path, &built.metadata)?;
    }
    if !quiet {
        for name in &built.names {
            eprintln!("image {name}");
        }
        for path in &built.written {
            eprintln!("wrote {path}");
        }
        for name in &built.pushed {
            eprintln!("pushed {name}");
        }
    } else if let (Some(id), false) = (built.image_id, to_stdout) {
        println!("{id}");
    }
    Ok(0)
}

type Heard = Arc<Mutex<Option<Arc<Explanation>>>>;

/// `events`, of which the explanation is kept.
fn heard(events: Events, explanation: &Heard) -> Events {
    let explanation = explanation.clone();
    Events::new(move |event| {
        if let Event::Explanation(found) = &event {
            *explanation.lock().unwrap_or_else(PoisonError::into_inner) = Some(found.clone());
        }
        events.send(event);
    })
}

fn show(explanation: &Explanation, format: Explain) -> Result<(), BuildError> {
    let failed = |error: &dyn std::fmt::Display| BuildError::new(Kind::Store, format!("stdout: {error}"));
    let text = match format {
        Explain::Text => explain::text(explanation),
        Explain::Json => explain::json(explanation).map_err(|error| failed(&error))? + "\n",
    };
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(|error| failed(&error))
}
