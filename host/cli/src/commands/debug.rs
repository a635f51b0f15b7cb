//! `rhost debug`: for people who write frontends.
use std::collections::BTreeMap;
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
    let format = match &arguments.format {
        Some(format) => format.as_str(),
        None if arguments.json => "json",
        None if arguments.dot => "dot",
        None => "llb",
    };
    if format == "llb" && arguments.format.is_none() && std::io::stdout().is_terminal() {
        return Err(BuildError::new(Kind::Request, "LLB is binary, and stdout is a terminal")
            .hint("redirect it to a file, pipe it to `buildctl debug dump-llb`, or add --format text"));
    }
    let request = request::graph(engine, &arguments.context, arguments.frontend)?;
    let dumped = engine.definition(&request, &Events::none()).await?;
    let definition = dumped.definition;
    let wrong = |error: &dyn std::fmt::Display| BuildError::new(Kind::Frontend, error);
    let bytes = match format {
        "json" => {
            let value = definition.to_json().map_err(|error| wrong(&error))?;
            let mut text = serde_json::to_vec_pretty(&value).map_err(|error| wrong(&error))?;
            text.push(b'\n');
            text
        }
        "text" | "dot" if definition.is_empty() => Vec::new(),
        "text" => Graph::load(&definition, &Limits::HOSTILE).map_err(|error| wrong(&error))?.to_text().into_bytes(),
        "dot" => Graph::load(&definition, &Limits::HOSTILE).map_err(|error| wrong(&error))?.to_dot().into_bytes(),
        _ => definition.encode(),
    };
    if let Some(path) = &arguments.metadata_file {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let metadata: BTreeMap<_, _> = dumped.metadata.iter().map(|(key, value)| (key, text(value))).collect();
        let json = serde_json::to_vec_pretty(&metadata).map_err(|error| wrong(&error))?;
        std::fs::write(path, json)
            .map_err(|error| BuildError::new(Kind::Store, format!("cannot write `{}`: {error}", path.display())))?;
    }
    std::io::stdout().write_all(&bytes).map_err(|error| BuildError::new(Kind::Store, format!("stdout: {error}")))
}
