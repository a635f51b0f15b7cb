//! The machine: what it is, said in general terms, and where on it state can lie so that no disk is measured.
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// `TMPFS_MAGIC` of linux/magic.h.
const TMPFS: u64 = 0x0102_1994;
/// What the cases take at most, with both builders' state.
const SPACE: u64 = 6 << 30;

/// What a reader of the figures should know.
pub struct Machine {
    /// Processors.
    pub cores: usize,
    /// Model of the processor, as the kernel names it.
    pub processor: String,
    /// Kernel release without local suffixes.
    pub kernel: String,
    /// Memory in GiB.
    pub memory: u64,
}

/// Looks.
pub fn look() -> Result<Machine> {
    let cores = std::thread::available_parallelism()?.get();
    let info = std::fs::read_to_string("/proc/cpuinfo")?;
    let model = info.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or("unknown");
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let memory = std::fs::read_to_string("/proc/meminfo")?;
    let total = memory.lines().find_map(|line| line.strip_prefix("MemTotal:")).unwrap_or("0");
    let total: u64 = total.trim().trim_end_matches(" kB").parse().unwrap_or(0);
    Ok(Machine {
        cores,
        processor: model.trim_start_matches([' ', '\t', ':']).to_owned(),
        kernel: release.trim().split('-').next().unwrap_or_default().to_owned(),
        memory: total.div_ceil(1 << 20),
    })
}

/// A fresh directory on a tmpfs, removed at the end with all that is mounted in it, even after Ctrl-C.
pub fn tmpfs() -> Result<(PathBuf, rhost_kit::Keeper)> {
    if !rhost_kit::is_root() {
        bail!("the bench runs as root: buildkitd with overlayfs and runc wants it");
    }
    let place = Path::new("/dev/shm");
    let found = rustix::fs::statfs(place).context("looking at /dev/shm")?;
    if found.f_type as u64 != TMPFS {
        bail!(
            "/dev/shm is no tmpfs here; the bench keeps state there so that no disk is measured: `mount -t tmpfs tmpfs /dev/shm`"
        );
    }
    let free = found.f_bavail * found.f_bsize as u64;
    if free < SPACE {
        bail!(
            "/dev/shm has {} MiB free, the bench wants {}: `mount -o remount,size=8G /dev/shm`",
            free >> 20,
            SPACE >> 20
        );
    }
    let made = tempfile::Builder::new().prefix("rhost-bench-").tempdir_in(place);
    let directory = made.context("making a directory in /dev/shm")?.keep();
    let keeper = rhost_kit::Keeper::directory(&directory)?;
    Ok((directory, keeper))
}
