//! `Buildkitd`: a real BuildKit daemon with a store of its own, gone when it is dropped or its test dies.
//!
//! Worker oci, snapshotter overlayfs, network of the host. It listens on a socket in its own directory and its log tells
//! when; a [`Keeper`] holds it, so that even a killed test leaves no daemon, mount or directory behind.
use std::ffi::OsStr;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

use crate::cache::cache_home;
use crate::keeper::Keeper;

/// A running daemon.
#[derive(Debug)]
pub struct Buildkitd {
    _keeper: Keeper,
    buildctl: PathBuf,
    dir: PathBuf,
}

impl Buildkitd {
    /// A daemon without cache, for which docker.io is the registry at `mirror` (`127.0.0.1:PORT`). Needs root.
    ///
    /// # Errors
    /// When buildkitd is neither on PATH nor in the cache of `cargo xtask peers`, or does not come up (with its log).
    pub fn start(mirror: &str) -> Result<Self> {
        let buildkitd = peer("buildkitd")?;
        let buildctl = buildkitd.with_file_name("buildctl");
        let dir = tempfile::Builder::new().prefix("rhost-buildkitd-").tempdir()?.keep();
        let path = |name: &str| dir.join(name);
        let config = format!("[registry.\"docker.io\"]\nmirrors = [{mirror:?}]\n[registry.{mirror:?}]\nhttp = true\n");
        std::fs::write(path("buildkitd.toml"), config)?;
        let flags = [
            "--containerd-worker=false",
            "--oci-worker=true",
            "--oci-worker-snapshotter=overlayfs",
            "--oci-worker-net=host",
        ];
        let address = format!("unix://{}", path("socket").display());
        let arguments: Vec<std::ffi::OsString> = vec![
            "--config".into(),
            path("buildkitd.toml").into(),
            "--root".into(),
            path("root").into(),
            "--addr".into(),
            address.into(),
            "--otel-socket-path".into(),
            path("otel").into(),
            "--oci-worker-gc=false".into(),
            "--cdi-disabled".into(),
        ];
        let arguments: Vec<&OsStr> =
            flags.iter().map(OsStr::new).chain(arguments.iter().map(|word| word.as_os_str())).collect();
        let (keeper, log) = Keeper::server(buildkitd.as_os_str(), &arguments, &dir).context("starting buildkitd")?;
        let mut log = BufReader::new(log);
        let mut said = String::new();
        loop {
            let from = said.len();
            if log.read_line(&mut said)? == 0 {
                bail!("buildkitd did not come up:\n{said}");
            }
            if said[from..].contains("running server on") {
                break;
            }
        }
        // The rest of the log is read, so that the daemon never waits for us.
        std::thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
        Ok(Self { _keeper: keeper, buildctl, dir })
    }

    /// Where it listens, as `--addr` of its clients takes it.
    pub fn address(&self) -> String {
        format!("unix://{}", self.dir.join("socket").display())
    }

    /// `buildctl` with `args`, talking to this daemon.
    pub fn command<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Command {
        let mut command = Command::new(&self.buildctl);
        command.arg("--addr").arg(self.address());
        command.args(args).stdin(Stdio::null());
        command
    }
}

/// A program that rhost is compared with: from PATH, else from where `cargo xtask peers` puts them.
///
/// # Errors
/// When it is in neither.
pub fn peer(program: &str) -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut dirs: Vec<PathBuf> = std::env::split_paths(&path).collect();
    let peers = cache_home()?.join("peers");
    let found = std::fs::read_dir(&peers).into_iter().flatten().flatten();
    dirs.extend(found.map(|entry| entry.path()).filter(|path| is_peer(path)));
    let file = dirs.iter().map(|dir| dir.join(program)).find(|file| file.is_file());
    file.with_context(|| format!("{program} is not on PATH nor in `{}`: run `cargo xtask peers`", peers.display()))
}

fn is_peer(path: &Path) -> bool {
    path.file_name()
        .and_then(OsStr::to_str)
        .is_some_and(|name| name.starts_with("buildkit-") || name.starts_with("buildx-"))
}
