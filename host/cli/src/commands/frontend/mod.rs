//! `rhost frontend`: write frontends, look at them, test them, and ship them.
mod conformance;
pub mod project;
mod replay;
mod test;

use std::collections::BTreeMap;

use rhost_engine::{BuildError, Engine, FrontendPush, FrontendSource, Kind, WasmLayout};

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
        text if request::is_file(text) => FrontendSource::File(project::component(text)?),
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
    let refusal = inspected.refusal.as_ref().map(ToString::to_string);
    let limits = engine.frontend_limits();
    if arguments.json {
        let value = serde_json::json!({
            "name": found.name,
            "manifest": found.manifest.map(|digest| digest.to_string()),
            "annotations": found.annotations,
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
        for (key, value) in &found.annotations {
            println!("about:    {key}={value}");
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

/// What the flags say of the frontend, under the keys of OCI where it has one.
fn about(arguments: &PushFrontendArguments) -> BTreeMap<String, String> {
    let list = |texts: &[String]| (!texts.is_empty()).then(|| texts.join(","));
    [
        ("dev.rhost.frontend.name", arguments.name.clone()),
        ("org.opencontainers.image.version", arguments.frontend_version.clone()),
        ("dev.rhost.frontend.languages", list(&arguments.language)),
        ("dev.rhost.frontend.file-patterns", list(&arguments.file_pattern)),
        ("dev.rhost.frontend.subrequests", list(&arguments.subrequest)),
        ("org.opencontainers.image.documentation", arguments.docs.clone()),
    ]
    .into_iter()
    .filter_map(|(key, value)| Some((key.to_owned(), value?)))
    .collect()
}

/// Pushes a component, and prints the name that pins it.
///
/// # Errors
/// It is no frontend, or the registry refuses it.
pub async fn push(engine: &Engine, arguments: &PushFrontendArguments) -> Result<(), BuildError> {
    let wrong = |message: String| BuildError::new(Kind::Request, message);
    let mut annotations = about(arguments);
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
            source: FrontendSource::File(arguments.file.clone()),
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
