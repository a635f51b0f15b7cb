//! Images: `images`, `save`, `tag`, `pull`, `push`, `rmi`.
use std::path::PathBuf;

use clap::Args;

use super::Progress;

/// `rhost images`.
#[derive(Debug, Args)]
pub struct ImagesArguments {
    /// One JSON object a line.
    #[arg(long)]
    pub json: bool,
    /// Only digests.
    #[arg(short, long)]
    pub quiet: bool,
}

/// `rhost save`.
#[derive(Debug, Args)]
pub struct SaveArguments {
    /// Image by name or digest.
    pub image: String,
    /// File to write; `-` is stdout.
    #[arg(short, long, value_name = "FILE", default_value = "-")]
    pub output: PathBuf,
    /// Layout of the archive.
    #[arg(long, value_name = "FORMAT", default_value = "docker", value_parser = ["docker", "oci"])]
    pub format: String,
}

/// `rhost tag`.
#[derive(Debug, Args)]
pub struct TagArguments {
    /// Image by name or digest.
    pub image: String,
    /// Its new names.
    #[arg(required = true)]
    pub name: Vec<String>,
}

/// `rhost pull`.
#[derive(Debug, Args)]
pub struct PullArguments {
    /// Image to pull, as in `debian:12` or `registry.example/team/app@sha256:…`.
    #[arg(value_name = "REF")]
    pub reference: String,
    /// Platform to pull [default: this machine's].
    #[arg(long, value_name = "PLATFORM", conflicts_with = "all_platforms")]
    pub platform: Option<String>,
    /// Pull the images of all platforms; the name then stands for their index.
    #[arg(long)]
    pub all_platforms: bool,
    /// How to show progress (on stderr).
    #[arg(long, value_enum, default_value = "auto", env = "BUILDKIT_PROGRESS", hide_env_values = true)]
    pub progress: Progress,
}

/// `rhost push`.
#[derive(Debug, Args)]
pub struct PushArguments {
    /// Image by name or digest.
    pub image: String,
    /// Where to [default: its name].
    #[arg(value_name = "DESTINATION")]
    pub destination: Option<String>,
    /// How to show progress (on stderr).
    #[arg(long, value_enum, default_value = "auto", env = "BUILDKIT_PROGRESS", hide_env_values = true)]
    pub progress: Progress,
}

/// `rhost rmi`.
#[derive(Debug, Args)]
pub struct RmiArguments {
    /// Images by name or digest.
    #[arg(required = true)]
    pub image: Vec<String>,
}
