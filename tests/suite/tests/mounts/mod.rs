//! Mounts of RUN through the binary: caches, secrets, ssh agents, binds, permissions.
mod cache;
mod lent;
mod permissions;
mod travel;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rhost_kit::{Ran, TestHost};

/// Runs a build of `dockerfile` with plain progress and more arguments.
fn build(host: &TestHost, dockerfile: &str, arguments: &[&str]) -> Ran {
    Ran::of(&mut command(host, dockerfile, arguments)).expect("ran")
}

/// The same, ready to be started.
fn command(host: &TestHost, dockerfile: &str, arguments: &[&str]) -> Command {
    let context = crate::build::write(host, &[("ctx/kept", "1")]);
    static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    let name = format!("files/{}.Dockerfile", NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed));
    let file = host.write(&name, dockerfile).expect("written").display().to_string();
    let mut all = vec!["build", "-f", &file];
    all.extend(arguments);
    all.push(&context);
    let mut command = host.command(all);
    command.env("BUILDKIT_PROGRESS", "plain");
    command
}

/// What the steps of a successful build said: the log without numbers and times.
fn said(ran: Ran) -> String {
    let log = ran.stderr.clone();
    ran.success();
    let line = |line: &str| {
        let rest = line.strip_prefix('#')?.split_once(' ')?.1;
        let (time, text) = rest.split_once(' ')?;
        time.parse::<f64>().ok()?;
        Some(format!("{text}\n"))
    };
    log.lines().filter_map(line).collect()
}

/// Waits until `condition` gives something; the ceiling is far above any sensible time.
fn until<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = condition() {
            return found;
        }
        assert!(start.elapsed() < Duration::from_secs(120), "waited too long for {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A build in the background, whose progress goes to a file; killed when dropped.
struct Background {
    child: Child,
    log: PathBuf,
}

impl Background {
    fn start(host: &TestHost, mut command: Command, name: &str) -> Self {
        let log = host.dir().join(format!("{name}.log"));
        let child = command.stdout(Stdio::null()).stderr(std::fs::File::create(&log).expect("made")).spawn();
        Self { child: child.expect("started"), log }
    }

    fn text(&self) -> String {
        std::fs::read_to_string(&self.log).expect("there")
    }

    /// Waits for `text` in its progress.
    fn says(&self, text: &str) {
        until(text, || self.text().contains(text).then_some(()));
    }

    /// Waits for its end.
    fn ended(mut self) -> Ran {
        let status = self.child.wait().expect("waited");
        Ran { code: status.code().unwrap_or(-1), stdout: String::new(), stderr: self.text() }
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        // It may have ended long ago.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Every file below `dir` that holds `needle`.
fn files_with(dir: &Path, needle: &[u8]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut todo = vec![dir.to_path_buf()];
    while let Some(dir) = todo.pop() {
        for entry in std::fs::read_dir(&dir).into_iter().flatten().flatten() {
            let Ok(kind) = entry.file_type() else { continue };
            if kind.is_dir() {
                todo.push(entry.path());
            } else if kind.is_file() {
                let bytes = std::fs::read(entry.path()).unwrap_or_default();
                if bytes.windows(needle.len()).any(|window| window == needle) {
                    found.push(entry.path());
                }
            }
        }
    }
    found
}
