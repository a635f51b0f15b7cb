//! Room on the disk: `du`, `prune`.
use clap::Args;

/// `rhost du`.
#[derive(Debug, Args)]
pub struct DuArguments {
    /// One JSON object a line.
    #[arg(long)]
    pub json: bool,
    /// Only records that fit, as in `type==regular` or `inuse==false,description~=RUN`; of several, any.
    ///
    /// Fields: id, type (regular, blob, image, frontend, exec.cachemount, source.git.checkout, history, context.digests), description, parent, inuse, shared, private.
    /// `~=` means "contains".
    #[arg(long, value_name = "FILTER")]
    pub filter: Vec<String>,
}

/// `rhost prune`.
#[derive(Debug, Args)]
pub struct PruneArguments {
    /// Compiled frontends and layers that images share with the cache too.
    #[arg(short, long)]
    pub all: bool,
    /// Only records that fit; as for `rhost du`.
    #[arg(long, value_name = "FILTER")]
    pub filter: Vec<String>,
    /// Only what was not used for so long, as in `48h` or `7d`.
    #[arg(long, value_name = "DURATION", value_parser = rhost_engine::parse_duration)]
    pub keep_duration: Option<std::time::Duration>,
    /// Only until the store takes no more than this, as in `10GB` or `20%` of the disk.
    #[arg(long, value_name = "SIZE")]
    pub max_used_space: Option<rhost_engine::Space>,
    /// Only until so much of the disk is free.
    #[arg(long, value_name = "SIZE")]
    pub min_free_space: Option<rhost_engine::Space>,
    /// Let the store keep so much, however little of the disk is free.
    #[arg(long, value_name = "SIZE")]
    pub reserved_space: Option<rhost_engine::Space>,
    /// Remove nothing; say what would go, and why.
    #[arg(long)]
    pub dry_run: bool,
    /// One JSON object a line for each record removed.
    #[arg(long)]
    pub json: bool,
}
