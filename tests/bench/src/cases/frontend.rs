//! Frontends: what a build waits for before its build file is read. BuildKit has nothing to compare with: its frontends are containers or part of it.
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::{Bench, Samples};
use crate::process;
use crate::report::{Row, Unit};

/// Components that `cargo xtask guests` and `cargo xtask languages` leave, and what is wanted of them.
const GUESTS: [(&str, &str, &str); 4] = [
    ("samples-rust", "Rust", "5 ms"),
    ("samples-go", "Go", "-"),
    ("samples-js", "JavaScript", "60 ms"),
    ("samples-python", "Python", "60 ms"),
];

const STARTS: &str =
    "rhost: reading and hashing the machine code in the store, mapping it, instantiating, the language's own start";

fn guests() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/guests")
}

/// What a build with the component prints, with its trace: of calls (`1`) or without (`times`).
fn build(bench: &Bench, component: &Path, context: &Path, root: &Path, traced: &str) -> Result<String> {
    let mut command = Command::new(&bench.binary);
    command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("HOME", &bench.directory);
    command.env("RHOST_CONFIG", bench.directory.join("config.toml"));
    command.env("RHOST_FRONTEND_TRACE", traced);
    command
        .arg("--root")
        .arg(root)
        .args(["debug", "dump-llb", "--format", "llb", "--frontend"])
        .arg(component)
        .arg("-f");
    command.arg(context.join("build")).arg(context);
    Ok(process::run(&mut command)?.log)
}

/// Seconds that a line of the trace tells in milliseconds.
fn after(trace: &str, what: &str) -> Result<f64> {
    let line = trace.lines().find_map(|line| line.strip_prefix(what));
    let text = line.and_then(|line| line.split(' ').next()).with_context(|| format!("the trace has no `{what}`"))?;
    Ok(text.parse::<f64>()? / 1e3)
}

/// Of each language: compiled for the first time, and started when it is compiled. And a large graph.
pub fn run(bench: &mut Bench) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    bench.registry.push(&rhost_kit::busybox()?, "library/busybox:latest")?;
    let mirror = format!("[registry.\"docker.io\"]\nmirrors = [{:?}]\n", bench.registry.address());
    std::fs::write(bench.directory.join("config.toml"), mirror)?;
    let context = bench.directory.join("contexts/frontend");
    std::fs::create_dir_all(&context)?;
    for (name, language, wanted) in GUESTS {
        let component = guests().join(format!("{name}.wasm"));
        if !component.exists() {
            eprintln!("bench: {} is not there (`cargo xtask languages`): left out", component.display());
            continue;
        }
        let (mut cold, mut warm) = (Samples::default(), Samples::default());
        let root = bench.directory.join(format!("frontend-{name}"));
        for round in 0..=bench.repeats.max(5) {
            // Another file each time: one that is told the same as before is not run at all.
            std::fs::write(context.join("build"), format!("hello r{round}\n"))?;
            let sample = after(&build(bench, &component, &context, &root, "1")?, "frontend: its first call, ")?;
            if round == 0 { cold.rhost.push(sample) } else { warm.rhost.push(sample) }
        }
        std::fs::remove_dir_all(&root)?;
        let megabytes = std::fs::metadata(&component)?.len() as f64 / 1e6;
        rows.push(warm.row(
            format!("frontend in {language}: from loading to its first call"),
            Unit::Time,
            wanted,
            STARTS,
        ));
        rows.push(cold.row(
            format!("frontend in {language}, {megabytes:.1} MB: the same, compiled first (once)"),
            Unit::Time,
            if megabytes > 5.0 { "5 s" } else { "-" },
            "rhost: Cranelift in a child process, on all processors; from 6 MiB without optimisation",
        ));
    }
    rows.push(large(bench, &context)?);
    Ok(rows)
}

/// `lines` with 10,000 lines.
fn large(bench: &mut Bench, context: &Path) -> Result<Row> {
    let component = guests().join("lines.wasm");
    let mut samples = Samples::default();
    let root = bench.directory.join("frontend-lines");
    for round in 0..=bench.repeats.max(5) {
        let runs: String = (0..10_000).map(|line| format!("run echo {round} {line}\n")).collect();
        std::fs::write(context.join("build"), format!("from scratch\n{runs}"))?;
        let said = build(bench, &component, context, &root, "times")?;
        ensure!(said.contains(&format!("echo {round} 9999")), "the guest has not made 10,000 steps");
        // The first one is compiled.
        if round > 0 {
            samples.rhost.push(after(&said, "frontend: it ended, ")?);
        }
    }
    std::fs::remove_dir_all(&root)?;
    Ok(samples.row(
        "frontend in Rust: a graph of 10,000 steps, from making the instance to its answer",
        Unit::Time,
        "100 ms",
        "rhost: six host calls for each step, with its digest",
    ))
}
