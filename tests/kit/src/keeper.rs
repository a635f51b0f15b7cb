//! `Keeper`: servers and directories that go when their owner goes, however that ends: dropped, panicked, killed, Ctrl-C in a terminal.
//!
//! A shell holds them by a pipe from this process. Signals that a terminal sends to everybody do not end it before its work is done.
use std::ffi::OsStr;
use std::path::Path;
use std::process::{Child, ChildStderr, Command, Stdio};

use anyhow::{Context as _, Result};

/// What both kinds do when standard input ends: unmount everything below the directory `$dir`, and remove it. Processes that are still
/// ending there get half a minute.
const CLEAR: &str = r#"
clear_away() {
    for turn in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30; do
        while read -r _ _ _ _ place _; do
            case $place in "$dir"/*) umount -l "$place" 2>/dev/null ;; esac
        done </proc/self/mountinfo
        rm -rf --one-file-system "$dir" 2>/dev/null && return
        sleep 1
    done
}
trap : INT TERM HUP
dir=$1
shift
"#;

const SERVER: &str = r#"
"$@" </dev/null & pid=$!
echo "$pid"
exec >/dev/null 2>&1
read -r _
kill "$pid"
wait "$pid"
clear_away
"#;

const DIRECTORY: &str = "
read -r _
clear_away
";

/// Something that is kept. Dropping it ends it and waits until all of it is gone.
#[derive(Debug)]
pub struct Keeper {
    shell: Child,
    pid: u32,
}

impl Keeper {
    /// Starts `program` with `arguments`, a server whose files are all below `directory`; both go with this value. Its standard error is the
    /// second value.
    ///
    /// # Errors
    /// There is no `sh`.
    pub fn server(program: &OsStr, arguments: &[&OsStr], directory: &Path) -> Result<(Self, ChildStderr)> {
        use std::io::BufRead as _;
        let mut command = shell(SERVER, directory);
        command.arg(program).args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.env("OTEL_TRACES_EXPORTER", "none");
        let mut shell = command.spawn().with_context(|| format!("starting {}", program.display()))?;
        let log = shell.stderr.take().context("no log")?;
        let mut line = String::new();
        std::io::BufReader::new(shell.stdout.take().context("no output")?).read_line(&mut line)?;
        let pid = line.trim().parse().context("the keeper does not tell a process id")?;
        Ok((Self { shell, pid }, log))
    }

    /// Only removes `directory`, with what is mounted below it.
    ///
    /// # Errors
    /// There is no `sh`.
    pub fn directory(directory: &Path) -> Result<Self> {
        let shell = shell(DIRECTORY, directory).stdout(Stdio::null()).spawn().context("starting a keeper")?;
        Ok(Self { pid: shell.id(), shell })
    }

    /// The server's process.
    pub fn id(&self) -> u32 {
        self.pid
    }
}

fn shell(script: &str, directory: &Path) -> Command {
    let mut command = Command::new("sh");
    command.arg("-c").arg(format!("{CLEAR}{script}")).arg("keeper").arg(directory).stdin(Stdio::piped());
    command
}

impl Drop for Keeper {
    fn drop(&mut self) {
        drop(self.shell.stdin.take());
        let _ = self.shell.wait();
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, BufReader};

    use super::*;

    #[test]
    fn a_server_and_its_files_go_even_when_the_keeper_is_interrupted() {
        let dir = tempfile::tempdir().expect("a directory").keep();
        std::fs::write(dir.join("file"), "x").expect("written");
        let script = "echo up >&2; exec sleep 1000";
        let arguments = ["-c", script].map(OsStr::new);
        let (keeper, log) = Keeper::server(OsStr::new("sh"), &arguments, &dir).expect("started");
        let mut line = String::new();
        BufReader::new(log).read_line(&mut line).expect("read");
        assert_eq!(line, "up\n");
        let server = std::path::PathBuf::from(format!("/proc/{}", keeper.id()));
        assert!(server.exists());
        let sent = Command::new("kill").args(["-s", "INT", &keeper.shell.id().to_string()]).status().expect("kill");
        assert!(sent.success());
        drop(keeper);
        assert!(!dir.exists() && !server.exists());
    }
}
