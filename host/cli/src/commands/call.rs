//! `rhost build --call` and `--check`: what a frontend says of a build file, printed as buildx prints it.
use std::io::Write;

use rhost_engine::{BuildError, Engine, Events, GraphRequest, Kind, Place};
use serde_json::Value;

/// `METHOD[,format=…][,ignorestatus=…]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    method: String,
    json: bool,
    ignore_status: bool,
}

impl Call {
    /// `None` is a plain build.
    ///
    /// # Errors
    /// Unknown words.
    pub fn parse(text: &str) -> Result<Option<Self>, BuildError> {
        let wrong = |message: String| {
            BuildError::new(Kind::Request, format!("--call {text}: {message}"))
                .hint("the methods are build, check, outline, targets, convertllb and subrequests.describe")
        };
        let mut call = Self { method: String::new(), json: false, ignore_status: false };
        for field in text.split(',') {
            match field.split_once('=') {
                None if call.method.is_empty() => field.clone_into(&mut call.method),
                None => return Err(wrong("more than one method".into())),
                Some(("format", "json")) => call.json = true,
                Some(("format", "text" | "")) => {}
                Some(("format", other)) => return Err(wrong(format!("`{other}` is no format"))),
                Some(("ignorestatus", value)) => {
                    call.ignore_status =
                        value.parse().map_err(|_| wrong(format!("`{value}` is neither true nor false")))?;
                }
                Some((key, _)) => return Err(wrong(format!("unknown option `{key}`"))),
            }
        }
        match call.method.as_str() {
            "" | "build" => Ok(None),
            "check" | "lint" | "outline" | "targets" | "convertllb" | "subrequests.describe" => Ok(Some(call)),
            other => Err(wrong(format!("unknown method `{other}`"))),
        }
    }
}

/// Asks, prints to stdout, and gives the exit code.
///
/// # Errors
/// What a build would say of the same request; the fault that a check has found in the file.
pub async fn run(engine: &Engine, request: &GraphRequest, call: &Call) -> Result<u8, BuildError> {
    let events = Events::none();
    let broken = |error: serde_json::Error| BuildError::new(Kind::Frontend, format!("the frontend's answer: {error}"));
    if call.method == "convertllb" {
        let graph = engine.definition(request, &events).await?.definition.to_json();
        let graph = graph.map_err(|error| BuildError::new(Kind::Frontend, error))?;
        print(&(serde_json::to_string_pretty(&graph).map_err(broken)? + "\n"))?;
        return Ok(0);
    }
    let check = matches!(call.method.as_str(), "check" | "lint");
    let method = if check { "frontend.lint".to_owned() } else { format!("frontend.{}", call.method) };
    let answer = engine.call(request, &method, &events).await?;
    let text = |key: &str| String::from_utf8_lossy(answer.get(key).map_or(&[][..], Vec::as_slice)).into_owned();
    if call.json {
        print(&(text("result.json") + "\n"))?;
    } else if !check {
        print(&text("result.txt"))?;
    }
    if check {
        let found: Value = serde_json::from_str(&text("result.json")).map_err(broken)?;
        if !call.json {
            let lines = match found["warnings"].as_array().map_or(0, Vec::len) {
                0 if found["buildError"].is_object() => String::new(),
                0 => "Check complete, no warnings found.\n".to_owned(),
                1 => "Check complete, 1 warning has been found!\n".to_owned(),
                n => format!("Check complete, {n} warnings have been found!\n"),
            };
            print(&(lines + &text("result.txt")))?;
        }
        if found["buildError"].is_object() && !call.ignore_status {
            return Err(fault(&found));
        }
    }
    let status = text("result.statuscode").parse().unwrap_or(0);
    Ok(if call.ignore_status { 0 } else { status })
}

/// The fault of the file, with its place.
fn fault(found: &Value) -> BuildError {
    use base64::Engine as _;
    let error = &found["buildError"];
    let mut out = BuildError::new(Kind::BuildFile, error["message"].as_str().unwrap_or("the build file is wrong"));
    let ranges = error["location"]["ranges"].as_array().cloned().unwrap_or_default();
    let line = |range: &Value, end: &str| range[end]["line"].as_u64().and_then(|line| u32::try_from(line).ok());
    if let (Some(first), Some(last)) = (ranges.first(), ranges.last()) {
        let info = &found["sources"][0];
        let data = info["data"].as_str().unwrap_or_default();
        let data = base64::engine::general_purpose::STANDARD.decode(data).unwrap_or_default();
        out.place = Some(Place {
            file: info["filename"].as_str().unwrap_or_default().to_owned(),
            first_line: line(first, "start").unwrap_or(0),
            last_line: line(last, "end").unwrap_or(0),
            text: String::from_utf8_lossy(&data).into_owned(),
        });
    }
    out
}

fn print(text: &str) -> Result<(), BuildError> {
    let mut out = std::io::stdout().lock();
    let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    written.map_err(|error| BuildError::new(Kind::Store, format!("stdout: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn methods() {
        assert_eq!(Call::parse("build").unwrap(), None);
        let call = Call::parse("check,format=json,ignorestatus=true").unwrap().unwrap();
        assert!(call.json && call.ignore_status && call.method == "check");
        for bad in ["dance", "check,outline", "check,format=xml", "check,ignorestatus=maybe", "check,x=1"] {
            assert!(Call::parse(bad).is_err(), "{bad}");
        }
    }
}
