//! hello-lang: a build language. FROM, RUN, COPY and CMD are what you think; HELLO is new.
use rhost_sdk::{Base, BuildFile, Copy, Error, Invocation, Outcome, Platform, files, json, local};

rhost_sdk::frontend!(build);

fn build(invocation: Invocation) -> Result<Outcome, Error> {
    let file = BuildFile::read(&invocation)?;
    let outcome = Outcome::new();
    for platform in invocation.platforms() {
        let mut base = build_for(&file, &platform)?;
        for (name, value) in invocation.labels() {
            base.config.set_label(&name, &value);
        }
        outcome.add(&platform, &base.state, &base.config.to_json());
    }
    Ok(outcome)
}

/// Goes through the lines for one platform.
fn build_for(file: &BuildFile, platform: &Platform) -> Result<Base, Error> {
    let mut base = Base::scratch(platform);
    for (number, line) in file.lines() {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        // What progress shows, and where errors point.
        let here = file.at(number, line);
        match word {
            "FROM" => base = Base::resolve(rest, platform).wait()?,
            "HELLO" => {
                let text = format!("hello, {rest}\n");
                base.state = files(&base.state).mkfile("/hello.txt", 0o644, text.as_bytes()).with(&here)?;
            }
            "RUN" => base.state = base.shell(rest).with(&here)?,
            "COPY" => {
                let Some((from, to)) = rest.split_once(' ') else {
                    return Err(file.error(number, "COPY wants two paths", Some("COPY FROM TO")));
                };
                let context = local("context", &[])?;
                base.state = files(&base.state).copy(&context, from, to, Copy::LikeCopy).with(&here)?;
            }
            "CMD" => base.config.set("Cmd", json!(["/bin/sh", "-c", rest])),
            _ => {
                let message = format!("there is no instruction `{word}`");
                return Err(file.error(number, &message, Some("these are: FROM, HELLO, RUN, COPY, CMD")));
            }
        }
    }
    Ok(base)
}
