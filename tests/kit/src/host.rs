//! `TestHost`: a machine of one test's own for the `rhost` binary: private home, store, configuration; cleared environment.
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result};
use tempfile::TempDir;

/// Directories and environment of one test.
#[derive(Debug)]
pub struct TestHost {
    dir: TempDir,
    binary: PathBuf,
}

/// What a finished command left.
#[derive(Clone, Debug)]
pub struct Ran {
    /// Its exit code; 128 + signal if a signal ended it.
    pub code: i32,
    /// What it printed.
    pub stdout: String,
    /// What it complained or told.
    pub stderr: String,
}

/// The `rhost` binary: `RHOST_TEST_BINARY`, else the one of the build directory that the running test comes from.
///
/// # Errors
/// When there is none; the message says how to build it.
pub fn rhost_binary() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("RHOST_TEST_BINARY") {
        return Ok(path.into());
    }
    let test = std::env::current_exe()?;
    let candidates = test.ancestors().skip(1).take(3).map(|dir| dir.join("rhost"));
    (candidates.into_iter().find(|path| path.is_file()))
        .with_context(|| format!("no `rhost` beside `{}`: run `cargo build -p rhost` first", test.display()))
}

impl TestHost {
    /// A fresh host with the binary of [`rhost_binary`].
    ///
    /// # Errors
    /// When there is no binary, or the disk fails.
    pub fn new() -> Result<Self> {
        Self::with_binary(rhost_binary()?)
    }

    /// A fresh host with this binary.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn with_binary(binary: PathBuf) -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("rhost-test-").tempdir()?;
        for sub in ["home", "work", "run", "tmp"] {
            fs::create_dir(dir.path().join(sub))?;
        }
        fs::write(dir.path().join("config.toml"), "")?;
        Ok(Self { dir, binary })
    }

    /// The binary.
    pub fn binary(&self) -> &Path {
        &self.binary
    }

    /// All that this host has.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// `HOME`.
    pub fn home(&self) -> PathBuf {
        self.dir.path().join("home")
    }

    /// `RHOST_ROOT`: where state lives. Made by rhost, not here.
    pub fn root(&self) -> PathBuf {
        self.dir.path().join("root")
    }

    /// The working directory of commands; contexts go here.
    pub fn work(&self) -> PathBuf {
        self.dir.path().join("work")
    }

    /// Writes `contents` to `path` below [`TestHost::work`], with its directories. Returns the whole path.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn write(&self, path: &str, contents: impl AsRef<[u8]>) -> Result<PathBuf> {
        let path = self.work().join(path);
        fs::create_dir_all(path.parent().context("no directory")?)?;
        fs::write(&path, contents).with_context(|| format!("writing `{}`", path.display()))?;
        Ok(path)
    }

    /// Replaces the configuration file (`RHOST_CONFIG`).
    ///
    /// # Errors
    /// Those of the disk.
    pub fn write_config(&self, toml: &str) -> Result<()> {
        Ok(fs::write(self.dir.path().join("config.toml"), toml)?)
    }

    /// Makes `docker.io` mean `registry`, as a mirror, so that `FROM busybox` works offline.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn mirror_docker_io(&self, registry: &str) -> Result<()> {
        self.write_config(&format!("[registry.\"docker.io\"]\nmirrors = [{registry:?}]\n"))
    }

    /// Writes `~/.docker/config.json`.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn write_docker_config(&self, json: &str) -> Result<()> {
        let dir = self.home().join(".docker");
        fs::create_dir_all(&dir)?;
        Ok(fs::write(dir.join("config.json"), json)?)
    }

    /// `rhost` with `args`, ready to be changed and spawned: environment of this host only, in [`TestHost::work`], no
    /// input.
    pub fn command<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Command {
        let mut command = Command::new(&self.binary);
        command
            .args(args)
            .current_dir(self.work())
            .env_clear()
            .env("HOME", self.home())
            .env("RHOST_ROOT", self.root())
            .env("RHOST_CONFIG", self.dir.path().join("config.toml"))
            .env("XDG_RUNTIME_DIR", self.dir.path().join("run"))
            .env("TMPDIR", self.dir.path().join("tmp"))
            .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
            .env("LC_ALL", "C.UTF-8")
            .stdin(Stdio::null());
        command
    }

    /// Runs `rhost` with `args` to its end.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn run<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Result<Ran> {
        Ran::of(&mut self.command(args))
    }
}

impl Ran {
    /// Runs `command` to its end.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn of(command: &mut Command) -> Result<Self> {
        use std::os::unix::process::ExitStatusExt as _;
        let out = command.output().with_context(|| format!("starting {:?}", command.get_program()))?;
        let code = out.status.code().or(out.status.signal().map(|s| 128 + s)).unwrap_or(-1);
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Ok(Self { code, stdout: text(out.stdout), stderr: text(out.stderr) })
    }

    /// Standard output of a run that succeeded.
    ///
    /// # Panics
    /// When it did not; with all that it printed.
    #[track_caller]
    pub fn success(self) -> String {
        assert!(self.code == 0, "exit code {}\n--- stdout\n{}\n--- stderr\n{}", self.code, self.stdout, self.stderr);
        self.stdout
    }

    /// Standard error of a run that failed with `code`.
    ///
    /// # Panics
    /// When it did not; with all that it printed.
    #[track_caller]
    pub fn failure(self, code: i32) -> String {
        assert!(
            self.code == code,
            "exit code {}, wanted {code}\n--- stdout\n{}\n--- stderr\n{}",
            self.code,
            self.stdout,
            self.stderr
        );
        self.stderr
    }
}

/// A host whose docker.io is a registry with busybox; `None`, said aloud, where the machine lacks what that takes.
///
/// # Panics
/// The registry or the host cannot be made.
pub fn host_with_busybox() -> Option<(TestHost, crate::Registry)> {
    if !crate::have(&["docker-registry", "skopeo"]) {
        return None;
    }
    let registry = crate::Registry::start().expect("a registry");
    registry.push(&crate::busybox().expect("busybox"), "library/busybox:latest").expect("pushed");
    let host = TestHost::new().expect("a host");
    host.mirror_docker_io(registry.address()).expect("config");
    Some((host, registry))
}
