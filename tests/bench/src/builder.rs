//! What a case may ask of either builder.
use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};

/// Where the result goes.
#[derive(Clone)]
pub enum Output {
    /// Nowhere: the result stays in the cache.
    Cache,
    /// The builder's own image store, with its layers packed.
    Image,
    /// An OCI archive with layers of this compression.
    Oci(&'static str, PathBuf),
    /// The files, as a tar.
    Tar(PathBuf),
}

/// A build that succeeded.
pub struct Built {
    /// From the start of the client to its end.
    pub seconds: f64,
    /// Steps that were answered by the cache.
    pub cached: usize,
    /// Steps of the build file that the log names (`[2/5] …`), each counted once.
    pub steps: usize,
    /// Digest of the image's config; empty where no image was made. It holds the times of the steps, so that it is the same only
    /// where no step ran again.
    pub config: String,
    /// What the client printed.
    pub log: String,
}

/// rhost or BuildKit.
pub trait Builder {
    /// Forgets everything, as on a new machine (a daemon is started anew and is ready).
    fn wipe(&mut self) -> Result<()>;
    /// Builds the Dockerfile in `context`. Fails if it does not succeed, or makes no image where one is wanted.
    fn build(&mut self, context: &Path, output: &Output) -> Result<Built>;
    /// The same, with the most memory in bytes that building took: client, daemon where there is one, and all below them.
    fn build_watched(&mut self, context: &Path, output: &Output) -> Result<(Built, u64)>;
}

impl Built {
    /// Reads the plain progress, which both print alike, and the metadata file.
    pub fn read(seconds: f64, log: String, metadata: &Path, output: &Output) -> Result<Self> {
        let is_step =
            |line: &&str| line.starts_with('#') && line.contains(" [") && line.contains("/") && line.contains("] ");
        let cached = log.lines().filter(|line| line.starts_with('#') && line.ends_with(" CACHED")).count();
        let mut steps: Vec<&str> = log.lines().filter(is_step).filter_map(|line| line.split(' ').next()).collect();
        steps.sort_unstable();
        steps.dedup();
        let steps = steps.len();
        let mut config = String::new();
        if let Output::Image | Output::Oci(..) = output {
            let text = std::fs::read_to_string(metadata)?;
            let value: serde_json::Value = serde_json::from_str(&text)?;
            config = value["containerimage.config.digest"].as_str().unwrap_or_default().to_owned();
            ensure!(config.starts_with("sha256:"), "no image was made; the metadata says {text}");
        }
        if let Output::Oci(_, file) | Output::Tar(file) = output {
            ensure!(std::fs::metadata(file)?.len() > 0, "{} is empty", file.display());
        }
        Ok(Self { seconds, cached, steps, config, log })
    }
}
