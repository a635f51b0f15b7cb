//! Runs a client to its end and says how long it took; on demand, how much memory it and its children held at most.
use std::fs;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// A client that ended well.
pub struct Ended {
    /// From its start to its end.
    pub seconds: f64,
    /// What it printed on both streams.
    pub log: String,
}

/// Runs `command`, which must succeed.
pub fn run(command: &mut Command) -> Result<Ended> {
    // Into a file: a pipe would wake this process for every line.
    let log = tempfile::tempfile_in("/dev/shm")?;
    command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log.try_clone()?);
    let begin = Instant::now();
    let mut child = command.spawn().with_context(|| format!("starting {:?}", command.get_program()))?;
    let status = child.wait()?;
    let seconds = begin.elapsed().as_secs_f64();
    let log = {
        use std::io::{Read as _, Seek as _};
        let (mut log, mut text) = (log, Vec::new());
        log.rewind()?;
        log.read_to_end(&mut text)?;
        String::from_utf8_lossy(&text).into_owned()
    };
    if !status.success() {
        bail!("{command:?}: {status}\n{log}");
    }
    Ok(Ended { seconds, log })
}

/// As [`run`], and the most bytes that the process, the `others` that run already, and all below them were seen to hold at once. Looks
/// every 2 ms, which costs time: not for timed builds.
pub fn run_watched(command: &mut Command, others: &[u32]) -> Result<(Ended, u64)> {
    let log = tempfile::NamedTempFile::new_in("/dev/shm")?;
    command.stdin(Stdio::null()).stdout(log.reopen()?).stderr(log.reopen()?);
    let begin = Instant::now();
    let mut child = command.spawn().with_context(|| format!("starting {:?}", command.get_program()))?;
    let (pid, over) = (child.id(), AtomicBool::new(false));
    let (status, most) = std::thread::scope(|scope| {
        let watcher = scope.spawn(|| {
            let mut most = 0;
            while !over.load(Ordering::Relaxed) {
                most = most.max([&[pid], others].concat().into_iter().map(held_below).sum());
                std::thread::sleep(Duration::from_millis(2));
            }
            most
        });
        let status = child.wait();
        over.store(true, Ordering::Relaxed);
        (status, watcher.join().unwrap_or(0))
    });
    let (status, seconds) = (status?, begin.elapsed().as_secs_f64());
    let log = fs::read_to_string(log.path())?;
    if !status.success() {
        bail!("{command:?}: {status}\n{log}");
    }
    Ok((Ended { seconds, log }, most))
}

/// Bytes of memory that `pid` and its descendants hold, a page that several have divided among them (proc(5), `Pss` of smaps_rollup): it counts
/// once, whoever maps it.
fn held_below(pid: u32) -> u64 {
    let Ok(own) = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")) else { return 0 };
    let children: Vec<u32> = fs::read_dir(format!("/proc/{pid}/task"))
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|task| fs::read_to_string(task.path().join("children")).ok())
        .flat_map(|text| text.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<u32>>())
        .collect();
    let below: u64 = children.into_iter().filter(|child| !borrows(*child, &own)).map(held_below).sum();
    below + kib(&own, "Pss:").unwrap_or(0)
}

/// Whether a child runs in its parent's memory still (vfork(2), until it executes something): the same addresses, and pages that it has alone, as no
/// copy of its parent would.
fn borrows(child: u32, parent: &str) -> bool {
    let Ok(child) = fs::read_to_string(format!("/proc/{child}/smaps_rollup")) else { return true };
    let of = |text: &str, name| kib(text, name).unwrap_or(0);
    child.lines().next() == parent.lines().next() && of(&child, "Private_Dirty:") * 2 > of(parent, "Private_Dirty:")
}

/// Whether the process runs still: one that has ended and is not waited for has no memory.
pub fn has_memory(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/status")).is_ok_and(|text| kib(&text, "VmRSS:").is_some())
}

/// A field of a file of `/proc` in bytes.
fn kib(text: &str, field: &str) -> Option<u64> {
    let value = text.lines().find_map(|line| line.strip_prefix(field))?;
    Some(value.trim().trim_end_matches(" kB").parse::<u64>().ok()? << 10)
}
