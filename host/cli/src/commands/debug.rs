//! `rhost debug`: for people who write frontends.
use std::io::{IsTerminal, Write};

use rhost_engine::{BuildError, Engine, Events, Kind};
use rhost_llb::{Graph, Limits};

use super::request;
use crate::arguments::DumpLlbArguments;

/// Writes the definition to stdout: LLB bytes, or a form for people.
///
/// # Errors
/// As a build, up to its graph; stdout is a terminal and the bytes are not for people.
pub async fn dump_llb(engine: &Engine, arguments: DumpLlbArguments) -> Result<(), BuildError> {
    if !arguments.json && !arguments.dot && std::io::stdout().is_terminal() {
        return Err(BuildError::new(Kind::Request, "LLB is binary, and stdout is a terminal")
            .hint("redirect it to a file, pipe it to `buildctl debug dump-llb`, or add --json or --dot"));
    }
    let request = request::graph(&arguments.context, arguments.frontend)?;
    let definition = engine.definition(&request, &Events::none()).await?;
    let wrong = |error: &dyn std::fmt::Display| BuildError::new(Kind::Frontend, error);
    let bytes = if arguments.json {
        let value = definition.to_json().map_err(|error| wrong(&error))?;
        let mut text = serde_json::to_vec_pretty(&value).map_err(|error| wrong(&error))?;
        text.push(b'\n');
        text
    } else if arguments.dot {
        Graph::load(&definition, &Limits::HOSTILE).map_err(|error| wrong(&error))?.to_dot().into_bytes()
    } else {
        definition.encode()
    };
    std::io::stdout().write_all(&bytes).map_err(|error| BuildError::new(Kind::Store, format!("stdout: {error}")))
}
