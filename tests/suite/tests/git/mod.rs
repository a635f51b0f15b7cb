//! Git sources through the binary: real repositories behind git's own http server and a real sshd.
mod access;
mod hostile;
mod kept;
mod peers;
mod sources;

use std::collections::BTreeMap;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use rhost_kit::{Asked, GitServer, Proxy, Ran, TestHost};

/// A host, and a server of repositories behind a proxy that notes what is asked. `None`, said aloud, where the machine lacks what that takes.
fn room() -> Option<(TestHost, GitServer, Proxy)> {
    if !rhost_kit::have(&["git"]) {
        return None;
    }
    let server = GitServer::start().expect("a git server");
    let proxy = Proxy::start(server.address()).expect("a proxy");
    Some((TestHost::new().expect("a host"), server, proxy))
}

/// The URL of repository `name` through the proxy.
fn url(proxy: &Proxy, name: &str) -> String {
    format!("http://{}/{name}.git", proxy.address())
}

/// A build of `FROM scratch` and these lines into a directory of the host's.
fn command(host: &TestHost, lines: &[String], arguments: &[&str]) -> Command {
    static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    let number = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let text = format!("FROM scratch\n{}\n", lines.join("\n"));
    let file = host.write(&format!("files/{number}.Dockerfile"), text).expect("written").display().to_string();
    let context = host.write("context/file", "").expect("written").parent().expect("a directory").display().to_string();
    let out = out(host).display().to_string();
    let mut all = vec!["build", "--progress", "plain", "-f", &file, "-o", &out];
    all.extend(arguments);
    all.push(&context);
    host.command(all)
}

fn build(host: &TestHost, lines: &[String], arguments: &[&str]) -> Ran {
    // What an earlier build wrote there is not this one's.
    let _ = std::fs::remove_dir_all(out(host));
    Ran::of(&mut command(host, lines, arguments)).expect("ran")
}

fn out(host: &TestHost) -> PathBuf {
    host.dir().join("out")
}

fn add(rest: &str) -> Vec<String> {
    vec![format!("ADD {rest}")]
}

/// Every file below `dir`: mode, and text, target or nothing.
fn tree(dir: &Path) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut todo = vec![dir.to_path_buf()];
    while let Some(at) = todo.pop() {
        for entry in std::fs::read_dir(&at).expect("a directory") {
            let path = entry.expect("an entry").path();
            let stat = std::fs::symlink_metadata(&path).expect("there");
            let text = if stat.is_symlink() {
                format!("-> {}", std::fs::read_link(&path).expect("a link").display())
            } else if stat.is_dir() {
                todo.push(path.clone());
                "/".to_owned()
            } else {
                String::from_utf8_lossy(&std::fs::read(&path).expect("read")).trim_end().to_owned()
            };
            let mode = if stat.is_symlink() { 0o777 } else { stat.permissions().mode() & 0o7777 };
            let owner = format!("{}:{}", stat.uid(), stat.gid());
            let owner = if owner == "0:0" || !rhost_kit::is_root() { String::new() } else { format!(" {owner}") };
            let name = path.strip_prefix(dir).expect("below").display().to_string();
            found.insert(name, format!("{mode:o}{owner} {text}"));
        }
    }
    found
}

/// The lines of a [`tree`] below `prefix`.
fn below(tree: &BTreeMap<String, String>, prefix: &str) -> Vec<String> {
    let inner = tree.iter().filter_map(|(path, text)| Some(format!("{} {text}", path.strip_prefix(prefix)?)));
    inner.collect()
}

/// How many of these requests fetched objects, rather than asked for refs.
fn fetches(asked: &[Asked]) -> usize {
    asked.iter().filter(|asked| asked.body.windows(13).any(|window| window == b"command=fetch")).count()
}

/// Processes that name `text` on their command line.
fn processes(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        if line.contains(text) {
            found.push(line);
        }
    }
    found
}
