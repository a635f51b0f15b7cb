//! BuildKit: buildkitd as root (OCI worker, overlayfs, runc with seccomp, host network) and buildctl as its client.
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rhost_kit::Keeper;

use crate::builder::{Builder, Built, Output};
use crate::process;

/// How long buildkitd may take to start.
const START: Duration = Duration::from_secs(60);

/// A daemon with a state of its own; it ends when this is dropped.
pub struct BuildKit {
    programs: PathBuf,
    directory: PathBuf,
    registry: String,
    states: usize,
    daemon: Option<Keeper>,
}

impl BuildKit {
    /// State goes below `directory`. `registry` is reached by plain http.
    pub fn new(programs: PathBuf, directory: &Path, registry: &str) -> Result<Self> {
        for program in ["buildkitd", "buildctl"] {
            ensure!(programs.join(program).is_file(), "no {program} in {}", programs.display());
        }
        fs::create_dir_all(directory)?;
        let directory = directory.to_path_buf();
        Ok(Self { programs, directory, registry: registry.to_owned(), states: 0, daemon: None })
    }

    fn state(&self) -> PathBuf {
        self.directory.join(format!("state-{}", self.states))
    }

    fn address(&self) -> String {
        format!("unix://{}/socket", self.state().display())
    }

    fn start(&mut self) -> Result<()> {
        let state = self.state();
        fs::create_dir_all(&state)?;
        let config = format!(
            "root = {:?}\n[grpc]\naddress = [{:?}]\n[worker.containerd]\nenabled = false\n[worker.oci]\nenabled = true\n\
             snapshotter = \"overlayfs\"\nnetworkMode = \"host\"\nbinary = \"runc\"\ngc = false\n[registry.{:?}]\nhttp = true\n",
            state.join("root"),
            self.address(),
            self.registry
        );
        fs::write(state.join("buildkitd.toml"), config)?;
        let mut log = fs::File::create(state.join("log"))?;
        let config = state.join("buildkitd.toml");
        let path = OsStr::new("PATH=/usr/sbin:/usr/bin:/sbin:/bin");
        let program = self.programs.join("buildkitd");
        // `env` becomes buildkitd: the process is the one that is measured.
        let arguments = [path, program.as_os_str(), OsStr::new("--config"), config.as_os_str()];
        let (daemon, mut said) = Keeper::server(OsStr::new("env"), &arguments, &state).context("starting buildkitd")?;
        std::thread::spawn(move || std::io::copy(&mut said, &mut log));
        let pid = daemon.id();
        self.daemon = Some(daemon);
        let begin = Instant::now();
        while !self.client(&["debug", "workers"]).output()?.status.success() {
            let ended = !process::has_memory(pid);
            if ended || begin.elapsed() > START {
                bail!("buildkitd does not come up:\n{}", fs::read_to_string(state.join("log"))?);
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    fn stop(&mut self) -> Result<()> {
        let Some(daemon) = self.daemon.take() else { return Ok(()) };
        drop(daemon);
        ensure!(!self.state().exists(), "buildkitd's state `{}` cannot be removed", self.state().display());
        Ok(())
    }

    fn client(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(self.programs.join("buildctl"));
        command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("HOME", &self.directory);
        command.arg("--addr").arg(self.address()).args(arguments);
        command
    }

    fn metadata(&self) -> PathBuf {
        self.directory.join("metadata.json")
    }

    fn command(&self, context: &Path, output: &Output) -> Command {
        let mut command = self.client(&["build", "--progress", "plain", "--frontend", "dockerfile.v0"]);
        for name in ["context", "dockerfile"] {
            command.arg("--local").arg(format!("{name}={}", context.display()));
        }
        command.arg("--metadata-file").arg(self.metadata());
        let output = match output {
            Output::Cache => return command,
            Output::Image => "type=image,name=bench".to_owned(),
            Output::Oci(compression, file) => format!("type=oci,compression={compression},dest={}", file.display()),
            Output::Tar(file) => format!("type=tar,dest={}", file.display()),
        };
        command.arg("--output").arg(output);
        command
    }
}

impl Builder for BuildKit {
    fn wipe(&mut self) -> Result<()> {
        self.stop()?;
        self.states += 1;
        self.start()
    }

    fn build(&mut self, context: &Path, output: &Output) -> Result<Built> {
        let ended = process::run(&mut self.command(context, output))?;
        Built::read(ended.seconds, ended.log, &self.metadata(), output)
    }

    fn build_watched(&mut self, context: &Path, output: &Output) -> Result<(Built, u64)> {
        let pid = self.daemon.as_ref().context("no daemon")?.id();
        let (ended, most) = process::run_watched(&mut self.command(context, output), &[pid])?;
        Ok((Built::read(ended.seconds, ended.log, &self.metadata(), output)?, most))
    }
}

impl Drop for BuildKit {
    fn drop(&mut self) {
        if let Err(error) = self.stop() {
            eprintln!("bench: {error:#}");
        }
    }
}
