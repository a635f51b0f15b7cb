//! Running other people's tools: quietly, with what they wrote kept for the case that they fail.
use std::io::ErrorKind;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use crate::error::{Result, ToolchainError};

/// Bytes of a failed tool's output that are shown: the end, where the reason stands.
const SHOWN: usize = 8 << 10;

/// Runs `command` to its end and gives what it wrote to stdout. An error has all that it wrote.
pub(crate) fn stdout(command: &mut Command) -> Result<String> {
    let output = output(command)?;
    if !output.status.success() {
        let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.push_str(&String::from_utf8_lossy(&output.stderr));
        return Err(failed(command, &output, &text));
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// As [`stdout`], but only stderr is for people.
pub(crate) fn machine_stdout(command: &mut Command) -> Result<String> {
    let output = output(command)?;
    if !output.status.success() {
        return Err(failed(command, &output, &String::from_utf8_lossy(&output.stderr)));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Runs `command` to its end.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    stdout(command).map(drop)
}

fn output(command: &mut Command) -> Result<Output> {
    command.stdin(Stdio::null()).output().map_err(|error| {
        let tool = command.get_program().to_string_lossy().into_owned();
        let reason = match error.kind() {
            ErrorKind::NotFound => "no such program in PATH".to_owned(),
            _ => error.to_string(),
        };
        let way = format!("install `{tool}`, or put it into PATH");
        ToolchainError::Missing { tool, reason, way }
    })
}

fn failed(command: &Command, output: &Output, text: &str) -> ToolchainError {
    let text = text.trim();
    let mut start = text.len().saturating_sub(SHOWN);
    while !text.is_char_boundary(start) {
        start += 1;
    }
    ToolchainError::Failed {
        command: line(command),
        status: output.status.to_string(),
        output: text[start..].to_owned(),
    }
}

/// The command as a person would type it, without the directories of its program.
fn line(command: &Command) -> String {
    let program = Path::new(command.get_program()).file_name().unwrap_or(command.get_program());
    let mut line = program.to_string_lossy().into_owned();
    for argument in command.get_args() {
        line.push(' ');
        line.push_str(&argument.to_string_lossy());
    }
    line
}

/// A cargo into which nothing leaks of a cargo that runs us, but for where it builds.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new("cargo");
    for name in ["RUSTC", "RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "CARGO_BUILD_TARGET", "RUSTC_WRAPPER"] {
        command.env_remove(name);
    }
    command
}

/// The first two numbers in a text such as `go version go1.26.3 linux/amd64` or `v20.1.0`.
pub(crate) fn version(text: &str) -> Option<(u32, u32)> {
    let start = text.char_indices().find(|(at, c)| {
        let before = text[..*at].chars().next_back();
        c.is_ascii_digit() && !before.is_some_and(|b| b.is_ascii_digit() || b == '.')
    })?;
    let mut parts = text[start.0..].split(|c: char| !c.is_ascii_digit());
    Some((parts.next()?.parse().ok()?, parts.next().unwrap_or("0").parse().unwrap_or(0)))
}

/// Checks that a tool is there and not older than `wanted`. `question` makes it say its version.
pub(crate) fn at_least(program: &str, question: &[&str], wanted: (u32, u32), way: &str) -> Result<()> {
    let tool = format!("{program} {}.{} or later", wanted.0, wanted.1);
    let missing = |reason: String| ToolchainError::Missing { tool: tool.clone(), reason, way: way.to_owned() };
    let said = match stdout(Command::new(program).args(question)) {
        Ok(said) => said,
        Err(ToolchainError::Missing { reason, .. }) => return Err(missing(reason)),
        Err(error) => return Err(missing(error.to_string())),
    };
    match version(&said) {
        Some(found) if found >= wanted => Ok(()),
        _ => Err(missing(format!("found `{}`", said.lines().next().unwrap_or_default()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_found_in_what_tools_say() {
        for (text, wanted) in [
            ("go version go1.26.3 linux/amd64", Some((1, 26))),
            ("v20.11.1", Some((20, 11))),
            ("Python 3.11.9", Some((3, 11))),
            ("cargo 1.95.0 (abc 2026-01-01)", Some((1, 95))),
            ("go1", Some((1, 0))),
            ("none", None),
        ] {
            assert_eq!(version(text), wanted, "{text}");
        }
    }

    #[test]
    fn what_a_failing_tool_wrote_is_shown_and_a_missing_one_is_named() {
        let error = run(Command::new("/bin/sh").args(["-c", "echo out; echo err >&2; exit 3"])).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("out\nerr") && text.contains("exit status: 3"), "{text}");
        let error = at_least("rhost-no-such-tool", &["--version"], (1, 2), "get it").unwrap_err();
        assert_eq!(error.to_string(), "rhost-no-such-tool 1.2 or later is not there: no such program in PATH");
        assert_eq!(error.hint().as_deref(), Some("get it"));
    }
}
