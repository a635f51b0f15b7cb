//! Files and contexts that are not on this machine: `ADD https://…`, contexts at URLs, contexts on stdin.
mod contexts;
mod faults;
mod http;
mod stdin;

use std::process::Command;

use rhost_kit::{Answer, Asked, Proxy, Ran, TestHost};

/// A host without base images: all that is built here stands on scratch.
fn host() -> TestHost {
    TestHost::new().expect("a host")
}

/// A server that has `files`: path, headers, body.
fn server(files: Vec<(&'static str, Vec<(&'static str, String)>, Vec<u8>)>) -> Proxy {
    Proxy::alone(move |asked| {
        let path = asked.path.split('?').next().unwrap_or_default();
        match files.iter().find(|(name, ..)| *name == path) {
            Some((_, headers, body)) => serve(asked, headers, body),
            None => Answer::reply(404, "no such file"),
        }
    })
    .expect("a server")
}

/// As servers do that know `ETag`.
fn serve(asked: &Asked, headers: &[(&'static str, String)], body: &[u8]) -> Answer {
    let tag = headers.iter().find(|(name, _)| *name == "etag").map(|(_, value)| value.as_str());
    let unchanged = tag.is_some() && asked.header("if-none-match") == tag;
    let answer = if unchanged { Answer::reply(304, "") } else { Answer::reply(200, body) };
    headers.iter().fold(answer, |answer, (name, value)| answer.header(name, value))
}

/// Python's server in `directory`: `script` prints its port first. Answers the process, and where it listens.
fn python(script: &str, directory: std::path::PathBuf) -> (std::process::Child, String) {
    let mut command = Command::new("python3");
    command.args(["-c", script]).current_dir(directory);
    let mut server =
        command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::null()).spawn().expect("python3");
    let mut port = String::new();
    let mut said = std::io::BufReader::new(server.stdout.take().expect("piped"));
    std::io::BufRead::read_line(&mut said, &mut port).expect("a port");
    (server, format!("127.0.0.1:{}", port.trim()))
}

/// The files of `tar`'s operands in `host`'s working directory, packed as `flags` say.
fn pack(host: &TestHost, flags: &[&str], directory: &str) -> Vec<u8> {
    let mut command = Command::new("tar");
    command.current_dir(host.work().join(directory)).args(["--sort=name", "--numeric-owner", "--mtime=@1600000000"]);
    let out = command.args(flags).args(["-cf", "-", "."]).output().expect("tar");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    out.stdout
}

/// Runs `rhost build` with plain progress.
fn build(host: &TestHost, arguments: &[&str]) -> Ran {
    host.run(["build", "--progress", "plain"].iter().chain(arguments)).expect("ran")
}

/// What the tar archive `file` in `host`'s working directory has, as tar lists it: mode, owner, size, time, name.
fn members(host: &TestHost, file: &str) -> Vec<String> {
    let mut tar = Command::new("tar");
    tar.current_dir(host.work())
        .args(["--numeric-owner", "--full-time", "-tvf", file])
        .env("TZ", "UTC")
        .env("LC_ALL", "C");
    let out = tar.output().expect("tar");
    let lines = String::from_utf8_lossy(&out.stdout);
    lines.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
}
