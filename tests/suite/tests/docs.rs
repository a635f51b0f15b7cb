//! The pages under `docs/` do what they say. A fenced block whose first line is "```LANGUAGE FILE" is written to that file; of
//! a block "```console" the lines after `$ ` are run in order, in one directory and on one host for the page, and what they print
//! is compared with the lines below them: `…` within a line stands for any text, a line that is only `…` for any lines. A command
//! `cd DIR` is for what follows it; `registry.example` is a real registry where a page pushes to it.
use std::fs;
use std::path::Path;
use std::process::Stdio;

use rhost_kit::{Ran, Registry, TestHost, busybox};

/// A piece of a page, with its first line's number.
#[derive(Debug, PartialEq)]
enum Piece {
    File { name: String, text: String },
    Command { line: usize, command: String, output: Vec<String> },
}

fn pieces(page: &str) -> Vec<Piece> {
    let mut found = Vec::new();
    let mut lines = page.lines().enumerate();
    while let Some((_, line)) = lines.next() {
        let Some(info) = line.strip_prefix("```") else { continue };
        let block: Vec<(usize, &str)> = lines.by_ref().take_while(|(_, line)| !line.starts_with("```")).collect();
        match info.split_whitespace().collect::<Vec<_>>()[..] {
            ["console"] => {
                for (index, line) in block {
                    if let Some(command) = line.strip_prefix("$ ") {
                        found.push(Piece::Command { line: index + 1, command: command.to_owned(), output: Vec::new() });
                    } else if let Some(Piece::Command { output, .. }) = found.last_mut() {
                        output.push(line.to_owned());
                    }
                }
            }
            [_, name] => {
                let text: String = block.iter().flat_map(|(_, line)| [line, "\n"]).collect();
                found.push(Piece::File { name: name.to_owned(), text });
            }
            _ => {}
        }
    }
    found
}

/// Whether `line` is `pattern` with any text in place of each `…`.
fn line_matches(pattern: &str, line: &str) -> bool {
    let mut parts = pattern.split('…');
    let Some(mut rest) = line.strip_prefix(parts.next().unwrap_or_default()) else { return false };
    let parts: Vec<&str> = parts.collect();
    let Some((last, middle)) = parts.split_last() else { return rest.is_empty() };
    for part in middle {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

/// Whether `lines` are what `wanted` says; a wanted line `…` stands for any number of lines.
fn output_matches(wanted: &[String], lines: &[&str]) -> bool {
    match wanted.split_first() {
        None => lines.is_empty(),
        Some((first, rest)) if first.trim() == "…" => {
            (0..=lines.len()).any(|skip| output_matches(rest, &lines[skip..]))
        }
        Some((first, rest)) => {
            lines.split_first().is_some_and(|(line, after)| line_matches(first, line) && output_matches(rest, after))
        }
    }
}

fn check(page: &str) {
    check_with(page, &|_, _| {}, false);
}

/// `before` each command it is told the host and the directory; `pushes`: the page needs a registry at `registry.example`.
fn check_with(page: &str, before: &dyn Fn(&TestHost, &Path), pushes: bool) {
    if !rhost_kit::have(&["docker-registry", "skopeo"]) {
        return rhost_kit::skip("docker-registry and skopeo are not installed");
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs").join(page);
    let mut text = fs::read_to_string(&path).expect("the page");
    let registry = Registry::start().expect("a registry");
    registry.push(&busybox().expect("busybox"), "library/busybox:latest").expect("pushed");
    let host = TestHost::new().expect("a host");
    host.mirror_docker_io(registry.address()).expect("config");
    if pushes {
        text = text.replace("registry.example", registry.address());
    }
    let mut directory = String::from(".");
    // Components that pages use.
    let guests = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/guests");
    for name in ["dockerfile-plus.wasm", "lines.wasm"] {
        let _ = fs::copy(guests.join(name), host.work().join(name));
    }
    let mut ran = 0;
    for piece in pieces(&text) {
        match piece {
            Piece::File { name, text } => drop(host.write(&format!("{directory}/{name}"), text).expect("written")),
            Piece::Command { command, .. } if command.starts_with("cd ") => {
                directory = format!("{directory}/{}", &command[3..])
            }
            Piece::Command { line, command, output } => {
                ran += 1;
                let directory = host.work().join(&directory);
                before(&host, &directory);
                let script = format!("set -e\nrhost() {{ \"$RHOST_BINARY\" \"$@\"; }}\nexec 2>&1\n{command}\n");
                let mut shell = host.command(["-c", &script]);
                shell.env("RHOST_BINARY", host.binary()).stdin(Stdio::null());
                let mut as_shell = std::process::Command::new("/bin/sh");
                as_shell.args(shell.get_args()).current_dir(&directory).env_clear().stdin(Stdio::null());
                as_shell.envs(shell.get_envs().filter_map(|(name, value)| Some((name, value?))));
                let ran = Ran::of(&mut as_shell).expect("ran");
                let printed: Vec<&str> = ran.stdout.lines().collect();
                assert!(ran.code == 0, "docs/{page}:{line}: `{command}` exits with {}\n{}", ran.code, ran.stdout);
                assert!(
                    output_matches(&output, &printed),
                    "docs/{page}:{line}: `{command}` printed\n{}\n--- the page says\n{}",
                    ran.stdout,
                    output.join("\n")
                );
            }
        }
    }
    assert!(ran > 0, "docs/{page} has no example");
}

#[test]
fn building() {
    check("building.md");
}

#[test]
fn cache_mounts() {
    check("cache-mounts.md");
}

#[test]
fn contexts() {
    check("contexts.md");
}

#[test]
fn choosing_frontends() {
    check("frontends/choosing.md");
}

#[test]
fn dockerfile_plus() {
    check("frontends/dockerfile-plus.md");
}

#[test]
fn explaining() {
    check("explain.md");
}

#[test]
fn frontends_debugging() {
    check("frontends/debugging.md");
}

#[test]
fn frontends_testing() {
    check("frontends/testing.md");
}

#[test]
fn frontends_tutorial() {
    if !rhost_kit::have(&["python3"]) {
        return;
    }
    let lend = |host: &TestHost, directory: &Path| {
        if directory.join("requirements.txt").exists() && !directory.join(".rhost").exists() {
            crate::languages::lend_tools(host, "python", directory);
        }
    };
    check_with("frontends/tutorial.md", &lend, true);
}

#[test]
fn locking() {
    check("locking.md");
}

#[test]
fn the_reader_of_pages_knows_a_wrong_one() {
    let page = "text\n```sh x/y.sh\nline\n```\n```console\n$ one\nout…\n…\nlast\n$ two\n```\n```toml\nignored\n```\n";
    let command = |line, command: &str, output: &[&str]| Piece::Command {
        line,
        command: command.into(),
        output: output.iter().map(ToString::to_string).collect(),
    };
    let file = Piece::File { name: "x/y.sh".into(), text: "line\n".into() };
    assert_eq!(pieces(page), [file, command(6, "one", &["out…", "…", "last"]), command(10, "two", &[])]);
    let wanted: Vec<String> = ["out…", "…", "last"].map(String::from).into();
    assert!(output_matches(&wanted, &["output", "a", "b", "last"]) && output_matches(&wanted, &["out", "last"]));
    assert!(!output_matches(&wanted, &["output", "a"]) && !output_matches(&wanted, &["other", "last"]));
    assert!(!output_matches(&[], &["more"]) && !output_matches(&wanted, &[]));
    assert!(line_matches("a…b…c", "a12b34c") && !line_matches("a…b…c", "a12c") && !line_matches("ab…b", "ab"));
}
