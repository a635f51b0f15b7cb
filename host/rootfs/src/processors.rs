//! How many processors there are for us.
use std::sync::OnceLock;

/// How many threads can compute at once, by affinity and quotas; at least 1. Asked once: the answer is read from several files.
pub fn processors() -> usize {
    static PROCESSORS: OnceLock<usize> = OnceLock::new();
    *PROCESSORS.get_or_init(|| std::thread::available_parallelism().map_or(1, usize::from))
}
