//! `rhost frontend`: write frontends, look at them, test them, and ship them.
mod conformance;
pub mod project;
mod replay;
mod test;

use std::collections::BTreeMap;
use std::path::Path;

use rhost_engine::{About, BuildError, Engine, FrontendPush, FrontendSource, Kind, WasmLayout, annotations_of};

use super::request;
use crate::arguments::{InspectFrontendArguments, PushFrontendArguments};

pub use conformance::conformance;
pub use replay::replay;
pub use test::test;

/// The frontend that `--frontend` names: `stock`, a file, a project, which is built if it has changed, or a reference.
///
/// # Errors
/// A project that cannot be built.
fn source(text: &str) -> Result<FrontendSource, BuildError> {
    Ok(match text {
        "stock" => FrontendSource::Stock,
        text if request::is_file(text) => FrontendSource::File(project::component(Path::new(text))?),
        text => FrontendSource::named(text),
    })
}

/// Shows what a component is. One that is no frontend is shown too, and is an error then.
///
/// # Errors
/// It cannot be had, is no component, or is no frontend.
pub async fn inspect(engine: &Engine, arguments: &InspectFrontendArguments) -> Result<(), BuildError> {
    let source = source(&arguments.frontend)?;
    let found = engine.frontend_bytes(&source).await?;
    let inspected = engine.inspect_frontend(&found).await?;
    let signatures = engine.frontend_signatures(&source, &found).await?;
    // Where it was pushed they may have said it otherwise.
    let (mut annotations, unreadable) = match &inspected.about {
        Ok(about) => (about.as_ref().map(annotations_of).unwrap_or_default(), None),
        Err(error) => (BTreeMap::new(), Some(error.to_string())),
    };
    annotations.extend(found.annotations.clone());
    let refusal = inspected.refusal.as_ref().map(ToString::to_string);
    let limits = engine.frontend_limits();
    if arguments.json {
        let value = serde_json::json!({
            "name": found.name,
            "manifest": found.manifest.map(|digest| digest.to_string()),
            "annotations": annotations,
            "unreadable": unreadable,
            "digest": inspected.digest.to_string(),
            "size": inspected.size,
            "track": inspected.track,
            "imports": inspected.imports,
            "exports": inspected.exports,
            "limits": { "memory": limits.memory, "compute": limits.compute.as_secs_f64(), "callPayload": limits.call_payload },
            "signatures": signatures,
            "refusal": refusal,
        });
        println!("{value:#}");
    } else {
        println!("name:     {}", found.name);
        if let Some(manifest) = &found.manifest {
            println!("manifest: {manifest}");
        }
        println!("digest:   {}", inspected.digest);
        println!("size:     {} bytes", inspected.size);
        println!("track:    {}", inspected.track.as_deref().unwrap_or("none"));
        for (key, value) in &annotations {
            println!("about:    {}={}", shown(key), shown(value));
        }
        if let Some(reason) = unreadable {
            println!("about:    cannot be read: {reason}");
        }
        println!(
            "limits:   {} MiB of memory, {:?} of computing, {} MiB a call; a repository's policy may lower them",
            limits.memory >> 20,
            limits.compute,
            limits.call_payload >> 20
        );
        for signature in &signatures {
            println!("signed:   {signature}");
        }
        for (title, names) in [("imports", &inspected.imports), ("exports", &inspected.exports)] {
            println!("{title}:");
            for name in names {
                println!("  {name}");
            }
        }
    }
    match refusal {
        Some(refusal) => Err(BuildError::new(Kind::Frontend, refusal)),
        None => Ok(()),
    }
}

/// What the flags say of the frontend.
fn about(arguments: &PushFrontendArguments) -> About {
    About {
        name: arguments.name.clone(),
        version: arguments.frontend_version.clone(),
        languages: arguments.language.clone(),
        file_patterns: arguments.file_pattern.clone(),
        subrequests: arguments.subrequest.clone(),
        docs: arguments.docs.clone(),
        ..About::default()
    }
}

/// One line of a terminal, of what a stranger wrote.
fn shown(text: &str) -> String {
    text.chars().flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] }).collect()
}

/// Pushes a component, and prints the name that pins it.
///
/// # Errors
/// It is no frontend, or the registry refuses it.
pub async fn push(engine: &Engine, arguments: &PushFrontendArguments) -> Result<(), BuildError> {
    let wrong = |message: String| BuildError::new(Kind::Request, message);
    let mut annotations = annotations_of(&about(arguments));
    for text in &arguments.annotation {
        let (key, value) =
            text.split_once('=').ok_or_else(|| wrong(format!("--annotation {text}: wanted KEY=VALUE")))?;
        annotations.insert(key.to_owned(), value.to_owned());
    }
    let created = match std::env::var("SOURCE_DATE_EPOCH").ok().filter(|text| !text.is_empty()) {
        None => jiff::Timestamp::now(),
        Some(text) => text
            .parse()
            .ok()
            .and_then(|seconds| jiff::Timestamp::from_second(seconds).ok())
            .ok_or_else(|| wrong(format!("SOURCE_DATE_EPOCH={text}: wanted seconds since 1970")))?,
    };
    let pushed = engine
        .push_frontend(&FrontendPush {
            source: FrontendSource::File(project::component(&arguments.file)?),
            reference: arguments.reference.clone(),
            annotations,
            created: format!("{created:.0}"),
            layout: match arguments.layout.as_str() {
                "cncf" => Some(WasmLayout::Cncf),
                "plain" => Some(WasmLayout::Plain),
                _ => None,
            },
        })
        .await?;
    if pushed.layout == WasmLayout::Plain && arguments.layout == "auto" {
        eprintln!("the registry refuses the CNCF Wasm config; pushed with a plain OCI image config");
    }
    println!("{}", pushed.reference);
    Ok(())
}
