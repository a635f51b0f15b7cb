//! `rhost images`, `save`, `tag`, `rmi`, `pull`, `push`: rhost's own image store, and what goes between it and registries.
use std::io::{IsTerminal, Write};

use rhost_engine::{BuildError, Engine, ImageRecord, Kind, PullPlatforms};
use rhost_llb::Platform;

use crate::arguments::{ImagesArguments, PullArguments, PushArguments, RmiArguments, SaveArguments, TagArguments};
use crate::progress;

fn store_error(error: impl std::fmt::Display) -> BuildError {
    BuildError::new(Kind::Store, error)
}

/// Lists the images, by name.
///
/// # Errors
/// The store cannot be read.
pub fn list(engine: &Engine, arguments: &ImagesArguments) -> Result<(), BuildError> {
    let images = engine.store().images().map_err(store_error)?;
    let mut out = std::io::stdout().lock();
    let width = images.iter().map(|image| image.name.len()).max().unwrap_or(0).max("NAME".len());
    let mut lines = Vec::new();
    if !arguments.json && !arguments.quiet {
        lines.push(format!("{:width$}  {:71}  CREATED", "NAME", "DIGEST"));
    }
    for image in &images {
        let digest = image.descriptor.digest();
        let created = jiff::Timestamp::from_second(image.updated).map(|time| time.to_string()).unwrap_or_default();
        lines.push(if arguments.json {
            let media_type = image.descriptor.media_type().to_string();
            serde_json::json!({"name": image.name, "digest": digest.to_string(), "mediaType": media_type, "created": created}).to_string()
        } else if arguments.quiet {
            digest.to_string()
        } else {
            format!("{:width$}  {digest}  {created}", image.name)
        });
    }
    for line in lines {
        writeln!(out, "{line}").map_err(|error| store_error(format!("stdout: {error}")))?;
    }
    Ok(())
}

/// The image that `text` names: by full or short name, or by digest.
fn find(engine: &Engine, text: &str) -> Result<ImageRecord, BuildError> {
    let images = engine.store().images().map_err(store_error)?;
    let full = rhost_engine::full_name(text);
    let found = images.into_iter().find(|image| {
        image.name == text || Some(&image.name) == full.as_ref() || image.descriptor.digest().to_string() == text
    });
    found.ok_or_else(|| {
        BuildError::new(Kind::Request, format!("there is no image `{text}` in the store"))
            .hint("`rhost images` lists them")
    })
}

/// Writes an image as an archive.
///
/// # Errors
/// No such image; its blobs are damaged; the destination cannot be written.
pub fn save(engine: &Engine, arguments: &SaveArguments) -> Result<(), BuildError> {
    let to_stdout = arguments.output.as_os_str() == "-";
    if to_stdout && std::io::stdout().is_terminal() {
        return Err(BuildError::new(Kind::Request, "stdout is a terminal").hint("name a file with -o"));
    }
    let image = find(engine, &arguments.image)?;
    engine.save(&image, &arguments.format, (!to_stdout).then_some(arguments.output.as_path()))
}

/// Gives an image more names.
///
/// # Errors
/// No such image; a name that is none.
pub fn tag(engine: &Engine, arguments: &TagArguments) -> Result<(), BuildError> {
    let image = find(engine, &arguments.image)?;
    for name in &arguments.name {
        println!("{}", engine.tag(&image, name)?);
    }
    Ok(())
}

/// Pulls an image into the store.
///
/// # Errors
/// No such image, or not for the platform; the registry or the disk fails.
pub async fn pull(engine: &Engine, arguments: &PullArguments) -> Result<(), BuildError> {
    let platforms = match (&arguments.platform, arguments.all_platforms) {
        (_, true) => PullPlatforms::All,
        (None, false) => PullPlatforms::One(Platform::host()),
        (Some(text), false) => PullPlatforms::One(
            text.parse().map_err(|error| BuildError::new(Kind::Request, format!("--platform: {error}")))?,
        ),
    };
    let (events, finish) = progress::start(arguments.progress);
    let pulled = engine.pull(&arguments.reference, &platforms, &events).await;
    drop(finish);
    println!("{}", pulled?);
    Ok(())
}

/// Pushes an image of the store.
///
/// # Errors
/// No such image; its blobs are missing; the registry refuses.
pub async fn push(engine: &Engine, arguments: &PushArguments) -> Result<(), BuildError> {
    let image = find(engine, &arguments.image)?;
    let (events, finish) = progress::start(arguments.progress);
    let pushed = engine.push(&image, arguments.destination.as_deref(), &events).await;
    drop(finish);
    println!("{}", pushed?);
    Ok(())
}

/// Removes names.
///
/// # Errors
/// A name that is not there; those before it are removed.
pub fn remove(engine: &Engine, arguments: &RmiArguments) -> Result<(), BuildError> {
    for text in &arguments.image {
        let image = find(engine, text)?;
        engine.store().untag(&image.name).map_err(store_error)?;
        println!("removed {}", image.name);
    }
    Ok(())
}
