//! rhost: one process for each build, its state in a directory.
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::builder::{Builder, Built, Output};
use crate::process;

/// rhost with a state of its own.
pub struct Rhost {
    binary: PathBuf,
    directory: PathBuf,
    /// States so far: each wipe begins a new one, so that removing the old one costs no timed build.
    states: usize,
}

impl Rhost {
    /// State goes below `directory`.
    pub fn new(binary: PathBuf, directory: &Path) -> Result<Self> {
        std::fs::create_dir_all(directory)?;
        Ok(Self { binary, directory: directory.to_path_buf(), states: 0 })
    }

    fn root(&self) -> PathBuf {
        self.directory.join(format!("root-{}", self.states))
    }

    fn metadata(&self) -> PathBuf {
        self.directory.join("metadata.json")
    }

    fn command(&self, context: &Path, output: &Output) -> Command {
        let mut command = Command::new(&self.binary);
        command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("HOME", &self.directory);
        command.arg("--root").arg(self.root()).args(["build", "--progress", "plain", "--metadata-file"]);
        command.arg(self.metadata()).arg(context).arg("-o").arg(match output {
            Output::Cache => "type=cacheonly".to_owned(),
            Output::Image => "type=image,name=bench".to_owned(),
            Output::Oci(compression, file) => format!("type=oci,compression={compression},dest={}", file.display()),
            Output::Tar(file) => format!("type=tar,dest={}", file.display()),
        });
        command
    }
}

impl Builder for Rhost {
    fn wipe(&mut self) -> Result<()> {
        match std::fs::remove_dir_all(self.root()) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error).context("removing rhost's state"),
            _ => {
                self.states += 1;
                Ok(())
            }
        }
    }

    fn build(&mut self, context: &Path, output: &Output) -> Result<Built> {
        let ended = process::run(&mut self.command(context, output))?;
        Built::read(ended.seconds, ended.log, &self.metadata(), output)
    }

    fn build_watched(&mut self, context: &Path, output: &Output) -> Result<(Built, u64)> {
        let (ended, most) = process::run_watched(&mut self.command(context, output), &[])?;
        Ok((Built::read(ended.seconds, ended.log, &self.metadata(), output)?, most))
    }
}
