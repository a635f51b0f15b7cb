//! A tiny build language, one line a step: an example of a frontend, and the second guest of rhost's tests.
//!
//! ```text
//! # syntax=registry.example/lines:1
//! from docker.io/library/busybox
//! env GREETING=hello
//! copy src /srv/
//! run echo "$GREETING" > /srv/greeting
//! cmd cat /srv/greeting
//! ```
pub mod parse;

use rhost_sdk::{Base, BuildFile, Copy, Error, Invocation, Outcome, Platform, files, local};
use serde_json::json;

use parse::{Line, Verb, parse};

rhost_sdk::frontend!(build);

fn build(invocation: Invocation) -> Result<Outcome, Error> {
    if let Some(request) = invocation.raw_option("requestid") {
        return Err(Error::Unsupported(format!("the language `lines` does not support the request {request}")));
    }
    let file = BuildFile::read(&invocation)?;
    let lines = parse(&file.text).map_err(|faults| {
        // Nobody reads more, and a file of another language is nothing but faults.
        let errors: Vec<Error> =
            faults.iter().take(50).map(|fault| file.error(fault.line, &fault.message, fault.help.as_deref())).collect();
        errors.into_iter().next().unwrap_or_else(|| rhost_sdk::fail("the build file has errors"))
    })?;
    let outcome = Outcome::new();
    for platform in invocation.platforms() {
        build_one(&invocation, &file, &lines, &platform, &outcome)?;
    }
    Ok(outcome)
}

fn build_one(
    invocation: &Invocation,
    file: &BuildFile,
    lines: &[Line],
    platform: &Platform,
    outcome: &Outcome,
) -> Result<(), Error> {
    let mut base = Base::scratch(platform);
    let sources: Vec<String> = lines
        .iter()
        .filter_map(|line| match &line.verb {
            Verb::Copy(source, _) => Some(source.clone()),
            _ => None,
        })
        .collect();
    let steps = lines.iter().filter(|line| matches!(line.verb, Verb::Run(_) | Verb::Copy(..))).count();
    let mut step = 0;
    for line in lines {
        match &line.verb {
            Verb::From(image) if image == "scratch" => {}
            Verb::From(image) => base = Base::resolve(image, platform).wait()?,
            Verb::Run(command) => {
                step += 1;
                let metadata = file.at(line.number, &format!("[{step}/{steps}] run {command}"));
                base.state = base.shell(command).with(&metadata)?;
            }
            Verb::Copy(source, destination) => {
                step += 1;
                let context = local("context", &sources)?;
                let metadata = file.at(line.number, &format!("[{step}/{steps}] copy {source} {destination}"));
                base.state = files(&base.state).copy(&context, source, destination, Copy::LikeCopy).with(&metadata)?;
            }
            Verb::Env(name, value) => base.config.set_env(name, value),
            Verb::Label(name, value) => base.config.set_label(name, value),
            Verb::Workdir(path) => base.config.set("WorkingDir", json!(path)),
            Verb::User(user) => base.config.set("User", json!(user)),
            Verb::Cmd(words) => {
                base.config.set("Cmd", json!(words));
                base.config.set("Entrypoint", json!(null));
            }
        }
    }
    for (name, value) in invocation.labels() {
        base.config.set_label(&name, &value);
    }
    outcome.add(platform, &base.state, &base.config.to_json());
    Ok(())
}
