//! The table, for the terminal and for docs/benchmarks.md.
use std::fmt::Write as _;

use crate::machine::Machine;

/// In what a row is measured. Less is better in all of them.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Seconds, shown in milliseconds.
    Time,
    /// Bytes, shown in MiB.
    Memory,
    /// A quotient.
    Times,
}

/// One thing measured on both.
pub struct Row {
    /// What.
    pub what: String,
    /// In what.
    pub unit: Unit,
    /// Samples of rhost.
    pub rhost: Vec<f64>,
    /// Samples of BuildKit.
    pub buildkit: Vec<f64>,
    /// What is to be reached, in words.
    pub target: &'static str,
    /// What limits each.
    pub limits: &'static str,
}

/// Minimum and median.
fn summary(samples: &[f64]) -> (f64, f64) {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let (Some(least), Some(middle)) = (sorted.first(), sorted.get(sorted.len() / 2)) else { return (0.0, 0.0) };
    (*least, *middle)
}

fn shown(value: f64, unit: Unit) -> String {
    let digits = |value: f64| match value {
        v if v < 10.0 => format!("{v:.1}"),
        v => format!("{v:.0}"),
    };
    match unit {
        Unit::Time => format!("{} ms", digits(value * 1e3)),
        Unit::Memory => format!("{} MiB", digits(value / f64::from(1 << 20))),
        Unit::Times => format!("{value:.1}x"),
    }
}

fn cells(row: &Row) -> [String; 6] {
    let (rhost, buildkit) = (summary(&row.rhost), summary(&row.buildkit));
    let ratio = |a: f64, b: f64| if a > 0.0 && b > 0.0 { format!("{:.1}x", b / a) } else { "-".to_owned() };
    // Where there is nothing to compare with.
    let peer = |value: f64| if row.buildkit.is_empty() { "-".to_owned() } else { shown(value, row.unit) };
    [
        shown(rhost.0, row.unit),
        shown(rhost.1, row.unit),
        peer(buildkit.0),
        peer(buildkit.1),
        ratio(rhost.0, buildkit.0),
        ratio(rhost.1, buildkit.1),
    ]
}

/// One line for each row.
pub fn text(rows: &[Row]) -> String {
    let mut out = String::new();
    for row in rows {
        let [a, b, c, d, e, f] = cells(row);
        // Writing to a String cannot fail.
        let _ = writeln!(
            out,
            "{:<44} rhost {a:>9} (median {b:>9})  buildkit {c:>9} (median {d:>9})  {e:>6} (median {f:>6})  wanted: {}",
            row.what, row.target
        );
    }
    out
}

/// docs/benchmarks.md: `rows`, and those rows of `old` (the file as it was, by the same machine) that were not measured anew.
pub fn markdown(machine: &Machine, rows: &[Row], old: &str) -> String {
    let mut out = format!(
        "# Benchmarks\n\
         Written by `cargo xtask bench --write`; not to be edited. rhost (release build) and BuildKit v0.32.2 (buildkitd as root: OCI worker, overlayfs, runc\n\
         with seccomp, host network; buildctl as client), each row side by side in one run, in turns, state on a tmpfs. Times are from the start of the client to its\n\
         end; BuildKit's daemon is running already. Each is the least of n (in brackets the median); ratios are BuildKit's figure by rhost's, so above 1x\n\
         rhost is ahead.\n\n\
         Machine: {} processors ({}), {} GiB, Linux {}. It is a virtual machine that is shared with other work: compare within a row, not with other machines.\n\n\
         | what | n | rhost | BuildKit | ratio | wanted | limits |\n|---|---|---|---|---|---|---|\n",
        machine.cores, machine.processor, machine.memory, machine.kernel
    );
    let line = |row: &Row| {
        let [a, b, c, d, e, f] = cells(row);
        let (what, n, target, limits) = (&row.what, row.rhost.len(), row.target, row.limits);
        format!("| {what} | {n} | {a} ({b}) | {c} ({d}) | **{e}** ({f}) | {target} | {limits} |")
    };
    let what = |line: &str| line.split(" | ").next().unwrap_or_default().to_owned();
    let mut lines: Vec<String> = match out.lines().find(|line| line.starts_with("Machine: ")) {
        Some(same) if old.contains(same) => {
            let is_row = |line: &&str| line.starts_with("| ") && !line.starts_with("| what ");
            old.lines().filter(is_row).map(str::to_owned).collect()
        }
        _ => Vec::new(),
    };
    for new in rows.iter().map(line) {
        match lines.iter_mut().find(|known| what(known) == what(&new)) {
            Some(known) => *known = new,
            None => lines.push(new),
        }
    }
    out.push_str(&lines.join("\n"));
    out.push('\n');
    out
}
