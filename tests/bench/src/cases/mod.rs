//! The cases. Each makes what it builds, builds it in turns with both, checks that both did the work, and answers rows.
mod context;
mod frontend;
mod graph;
mod hostile;
mod image;
mod memory;
mod steps;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use crate::builder::{Builder, Built, Output};
use crate::buildkit::BuildKit;
use crate::report::{Row, Unit};
use crate::rhost::Rhost;

/// A case.
pub struct Case {
    /// To choose it by.
    pub name: &'static str,
    /// In a few words.
    pub about: &'static str,
    /// Measures it.
    pub run: fn(&mut Bench) -> Result<Vec<Row>>,
}

/// All of them, in the order of the table.
pub const ALL: &[Case] = &[
    Case { name: "steps", about: "40 RUN steps: cold, by the step, no-op", run: steps::chain },
    Case { name: "stages", about: "32 stages that could run at once", run: steps::stages },
    Case { name: "context", about: "a context of 20,000 files: cold, no-op, one file changed", run: context::run },
    Case { name: "graph", about: "a graph of 1,000 vertices: cold, no-op", run: graph::run },
    Case { name: "layer", about: "a 300 MB layer to an OCI archive, gzip and zstd", run: image::layer },
    Case { name: "pull", about: "pull and unpack an image of five layers, 180 MB", run: image::pull },
    Case {
        name: "frontend",
        about: "frontends in four languages: from loading to the first call, compilation, a graph of 10,000 vertices",
        run: frontend::run,
    },
    Case { name: "hostile", about: "frontends that mean harm: how soon each is stopped", run: hostile::run },
    Case { name: "memory", about: "the most memory while building", run: memory::run },
    Case { name: "large", about: "a graph of 10,000 vertices: cold, no-op, against 1,000", run: graph::large },
    Case { name: "records", about: "a no-op beside 100,000 records of other builds", run: graph::records },
];

/// What the cases share.
pub struct Bench {
    /// A directory on a tmpfs.
    pub directory: PathBuf,
    /// Timed builds of each kind.
    pub repeats: usize,
    /// The binary.
    pub binary: PathBuf,
    rhost: Rhost,
    buildkit: BuildKit,
    /// Serves the base images.
    pub registry: rhost_kit::Registry,
    nonce: usize,
}

/// Samples of the two.
#[derive(Default)]
pub struct Samples {
    rhost: Vec<f64>,
    buildkit: Vec<f64>,
}

impl Samples {
    /// One of each.
    pub fn push(&mut self, [rhost, buildkit]: [f64; 2]) {
        self.rhost.push(rhost);
        self.buildkit.push(buildkit);
    }

    /// As a row of the table.
    pub fn row(self, what: impl Into<String>, unit: Unit, target: &'static str, limits: &'static str) -> Row {
        Row { what: what.into(), unit, rhost: self.rhost, buildkit: self.buildkit, target, limits }
    }
}

impl Bench {
    /// Both builders, with no state yet, and a registry.
    pub fn new(directory: &Path, rhost: PathBuf, buildkit: PathBuf, repeats: usize) -> Result<Self> {
        ensure!(repeats > 0, "--repeats must be at least 1");
        let registry = rhost_kit::Registry::start()?;
        let mut bench = Self {
            binary: rhost.clone(),
            rhost: Rhost::new(rhost, &directory.join("rhost"))?,
            buildkit: BuildKit::new(buildkit, &directory.join("buildkit"), registry.address())?,
            directory: directory.to_path_buf(),
            repeats,
            registry,
            nonce: 0,
        };
        bench.wipe()?;
        Ok(bench)
    }

    /// Both forget everything.
    pub fn wipe(&mut self) -> Result<()> {
        self.rhost.wipe()?;
        self.buildkit.wipe()
    }

    /// A text that no build had before.
    pub fn nonce(&mut self) -> String {
        self.nonce += 1;
        format!("n{}", self.nonce)
    }

    /// A fresh context directory with this Dockerfile.
    pub fn context(&self, name: &str, dockerfile: &str) -> Result<PathBuf> {
        let directory = self.directory.join("contexts").join(name);
        fs::create_dir_all(&directory)?;
        fs::write(directory.join("Dockerfile"), dockerfile).context("writing the Dockerfile")?;
        Ok(directory)
    }

    /// Builds with both, in turns: who is first changes with `round`. `work` is given the builder and its number.
    pub fn both<T>(
        &mut self,
        round: usize,
        mut work: impl FnMut(&mut dyn Builder, usize) -> Result<T>,
    ) -> Result<[T; 2]> {
        let mut rhost =
            |work: &mut dyn FnMut(&mut dyn Builder, usize) -> Result<T>| work(&mut self.rhost, 0).context("rhost");
        let mut buildkit = |work: &mut dyn FnMut(&mut dyn Builder, usize) -> Result<T>| {
            work(&mut self.buildkit, 1).context("BuildKit")
        };
        if round.is_multiple_of(2) {
            let first = rhost(&mut work)?;
            Ok([first, buildkit(&mut work)?])
        } else {
            let second = buildkit(&mut work)?;
            Ok([rhost(&mut work)?, second])
        }
    }

    /// Builds `context` with both.
    pub fn build(&mut self, round: usize, context: &Path, output: &Output) -> Result<[Built; 2]> {
        self.both(round, |builder, _| builder.build(context, output))
    }

    /// Builds `context` with BuildKit, whose images both then read.
    pub fn build_one(&mut self, context: &Path, output: &Output) -> Result<Built> {
        self.buildkit.build(context, output)
    }

    /// A file of this run, one for each builder.
    pub fn file(&self, name: &str, builder: usize) -> PathBuf {
        self.directory.join(format!("{name}-{builder}"))
    }
}

/// How long each took.
pub fn seconds(built: &[Built; 2]) -> [f64; 2] {
    [built[0].seconds, built[1].seconds]
}

/// That `again` answered everything from the cache: the same config, which holds the times of the steps, and at least `least` CACHED.
pub fn check_cached(first: &[Built; 2], again: &[Built; 2], least: usize) -> Result<()> {
    for (first, again) in first.iter().zip(again) {
        ensure!(first.config == again.config, "a no-op made another image\n{}", again.log);
        ensure!(again.cached >= least, "{} of {least} steps were CACHED\n{}", again.cached, again.log);
    }
    Ok(())
}

/// That nothing of `built` came from the cache beyond `most` steps.
pub fn check_ran(built: &[Built; 2], steps: usize, most: usize) -> Result<()> {
    for built in built {
        ensure!(built.steps >= steps, "{} of {steps} steps are in the log\n{}", built.steps, built.log);
        ensure!(built.cached <= most, "{} steps were CACHED in a cold build\n{}", built.cached, built.log);
    }
    Ok(())
}
