//! `rhost emulation`: what runs here, shown by trying it, and registrations with the host's kernel, made only when asked for.
use std::io::Write;
use std::path::PathBuf;

use rhost_engine::{BuildError, Kind, Settings};
use rhost_exec::{NoRunner, Runner, UserNamespace};
use rhost_llb::Platform;

use crate::arguments::EmulationCommand;

/// Runs one of the commands.
///
/// # Errors
/// A platform that is none or has no emulator; the kernel refused.
pub fn run(command: &EmulationCommand, settings: &Settings, namespace: UserNamespace) -> Result<(), BuildError> {
    let directories = &settings.emulation.directories;
    match command {
        EmulationCommand::Ls { json } => list(directories, *json),
        EmulationCommand::Install { platforms } => {
            privileged(namespace)?;
            install(platforms, directories)
        }
        EmulationCommand::Uninstall { platforms } => {
            privileged(namespace)?;
            uninstall(platforms)
        }
    }
}

/// The user namespace that a plain user's rhost makes for itself has a binfmt_misc of its own, which nobody else would see.
fn privileged(namespace: UserNamespace) -> Result<(), BuildError> {
    if namespace == UserNamespace::NotNeeded {
        return Ok(());
    }
    Err(BuildError::new(Kind::Request, "registering emulators for the whole host wants root")
        .hint("builds do not need it on Linux 6.7 and newer: `rhost emulation ls` shows what runs without"))
}

fn platforms(texts: &[String]) -> Result<Vec<Platform>, BuildError> {
    let known = rhost_exec::KNOWN.map(str::to_owned);
    let texts = if texts.is_empty() { &known[..] } else { texts };
    texts.iter().map(|text| text.parse().map_err(|error| BuildError::new(Kind::Request, error))).collect()
}

/// How a platform's programs run: a word, and what runs them.
fn how(wanted: &Platform, directories: &[PathBuf]) -> (&'static str, String) {
    match rhost_exec::runner(wanted, directories) {
        Ok(Runner::Native) => ("native", String::new()),
        Ok(Runner::Registered) => {
            let registrations = rhost_exec::registrations();
            let entry = registrations.iter().find(|r| r.enabled && r.architecture == wanted.architecture);
            // Out of sight where binfmt_misc is not mounted.
            ("registered", entry.map(|entry| entry.interpreter.display().to_string()).unwrap_or_default())
        }
        Ok(Runner::Emulator(emulator)) => match rhost_exec::try_emulator(&emulator) {
            Ok(()) => ("emulator", emulator.program.display().to_string()),
            Err(error) => ("no", error.to_string()),
        },
        Err(error @ (NoRunner::NoEmulator { .. } | NoRunner::Processor { .. } | NoRunner::Unknown { .. })) => {
            ("no", format!("{error}; {}", error.hint()))
        }
    }
}

fn list(directories: &[PathBuf], json: bool) -> Result<(), BuildError> {
    let mut out = std::io::stdout().lock();
    let mut say =
        |line: String| writeln!(out, "{line}").map_err(|e| BuildError::new(Kind::Store, format!("stdout: {e}")));
    if !json {
        say(format!("{:16}  {:10}  BY", "PLATFORM", "HOW"))?;
    }
    let mut wanted = platforms(&[])?;
    if Platform::host().architecture == "amd64" {
        wanted.splice(1..1, ["v2", "v3", "v4"].map(|level| Platform::new("linux", "amd64", level)));
    }
    for platform in wanted {
        let (word, by) = how(&platform, directories);
        say(if json {
            serde_json::json!({"platform": platform.to_string(), "how": word, "by": by}).to_string()
        } else {
            format!("{:16}  {word:10}  {by}", platform.to_string()).trim_end().to_owned()
        })?;
    }
    Ok(())
}

fn install(texts: &[String], directories: &[PathBuf]) -> Result<(), BuildError> {
    let mut installed = 0;
    for platform in platforms(texts)? {
        match rhost_exec::runner(&platform, directories) {
            Ok(Runner::Emulator(emulator)) => {
                rhost_exec::install_on_host(&emulator).map_err(|error| {
                    BuildError::new(Kind::Request, error)
                        .hint("it wants root on the host itself: in a container, one with --privileged")
                })?;
                if !rhost_exec::runs_here(&platform) {
                    return Err(BuildError::new(
                        Kind::Request,
                        format!(
                            "{} is registered for {platform}, but runs none of its programs",
                            emulator.program.display()
                        ),
                    ));
                }
                println!("{platform}: registered {} until the next restart", emulator.program.display());
                installed += 1;
            }
            Ok(Runner::Native) if texts.is_empty() => {}
            Ok(Runner::Native) => println!("{platform}: native, nothing to do"),
            Ok(Runner::Registered) => println!("{platform}: registered already"),
            // All that have one here.
            Err(_) if texts.is_empty() => {}
            Err(error) => return Err(BuildError::new(Kind::Request, &error).hint(error.hint())),
        }
    }
    if texts.is_empty() && installed == 0 {
        println!("nothing to register");
    }
    Ok(())
}

fn uninstall(texts: &[String]) -> Result<(), BuildError> {
    let mut removed = 0;
    for platform in platforms(texts)? {
        if rhost_exec::remove_from_host(&platform).map_err(|error| BuildError::new(Kind::Request, error))? {
            println!("{platform}: removed");
            removed += 1;
        } else if !texts.is_empty() {
            println!("{platform}: rhost has registered nothing for it");
        }
    }
    if texts.is_empty() && removed == 0 {
        println!("nothing to remove");
    }
    Ok(())
}
