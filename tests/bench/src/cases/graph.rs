//! Wide graphs of small file operations: what a vertex costs, solved and found again.
//!
//! A tree: leaves are stages of ten directories made one after the other; a stage above copies from ten below; the last has nine. That
//! is 999 vertices with two levels above the leaves, 9,999 with three.
use std::path::PathBuf;

use anyhow::{Result, ensure};

use super::{Bench, Samples, check_cached, seconds};
use crate::builder::Output;
use crate::report::{Row, Unit};

/// Stages below one; the last has one fewer.
const WIDTH: usize = 10;

/// Adds the stages below and at `level`; answers the name of the topmost.
fn stage(text: &mut String, level: usize, width: usize, nonce: &str, made: &mut usize) -> String {
    let below: Vec<String> = match level {
        0 => Vec::new(),
        _ => (0..width).map(|_| stage(text, level - 1, WIDTH, nonce, made)).collect(),
    };
    let name = format!("s{made}");
    *made += 1;
    text.push_str(&format!("FROM scratch AS {name}\n"));
    if below.is_empty() {
        text.push_str(&format!("WORKDIR /{nonce}-{name}\n"));
        (1..width).for_each(|directory| text.push_str(&format!("WORKDIR /{directory}\n")));
    }
    for from in below {
        text.push_str(&format!("COPY --from={from} / /{from}/\n"));
    }
    name
}

fn dockerfile(levels: usize, nonce: &str) -> String {
    let mut text = String::new();
    stage(&mut text, levels, WIDTH - 1, nonce, &mut 0);
    text
}

const LIMITS: &str = "rhost: a directory and a transaction for each vertex, each COPY's source mounted, hashed and walked; BuildKit: the same with containerd's records, and a goroutine and messages to the client for each vertex";

/// 1,000 vertices.
pub fn run(bench: &mut Bench) -> Result<Vec<Row>> {
    let (cold, same) = measure(bench, 2, bench.repeats)?;
    Ok(vec![
        cold.row("1,000 vertices, cold", Unit::Time, "6x", LIMITS),
        same.row(
            "1,000 vertices, no-op",
            Unit::Time,
            "40x",
            "rhost: reading the graph that the frontend gave last time, and telling of each vertex; BuildKit: cache records of each vertex, and messages to the client",
        ),
    ])
}

/// 10,000 vertices, and what that is against 1,000 measured beside it.
pub fn large(bench: &mut Bench) -> Result<Vec<Row>> {
    let repeats = bench.repeats.div_ceil(3);
    let (small, small_same) = measure(bench, 2, repeats)?;
    let (cold, same) = measure(bench, 3, repeats)?;
    let quotient = |large: &[f64], small: &[f64]| least(large) / least(small);
    let (mut times, mut times_same) = (Samples::default(), Samples::default());
    times.push([quotient(&cold.rhost, &small.rhost), quotient(&cold.buildkit, &small.buildkit)]);
    times_same.push([quotient(&same.rhost, &small_same.rhost), quotient(&same.buildkit, &small_same.buildkit)]);
    Ok(vec![
        cold.row("10,000 vertices, cold", Unit::Time, "", LIMITS),
        same.row("10,000 vertices, no-op", Unit::Time, "", "as with 1,000"),
        times.row(
            "10,000 against 1,000 vertices, cold",
            Unit::Times,
            "12x at most",
            "10x the vertices; one level more, so COPY makes 13x the directories",
        ),
        times_same.row("10,000 against 1,000 vertices, no-op", Unit::Times, "12x at most", "10x the vertices"),
    ])
}

/// Graphs of 9,999 vertices that fill each builder's store. BuildKit's daemon gets fewer: it takes minutes for as many.
const FILL: [usize; 2] = [10, 1];

/// What the records of other builds cost a no-op: the same build in an empty store and in a full one.
pub fn records(bench: &mut Bench) -> Result<Vec<Row>> {
    let nonce = bench.nonce();
    let context = bench.context("small", &dockerfile(1, &nonce))?;
    bench.wipe()?;
    let first = bench.build(0, &context, &Output::Image)?;
    let no_ops = |bench: &mut Bench| -> Result<Samples> {
        let mut samples = Samples::default();
        for round in 0..bench.repeats * 3 {
            let again = bench.build(round, &context, &Output::Image)?;
            check_cached(&first, &again, 1)?;
            samples.push(seconds(&again));
        }
        Ok(samples)
    };
    let empty = no_ops(bench)?;
    for round in 0..FILL[0] {
        let nonce = bench.nonce();
        let other = bench.context("fill", &dockerfile(3, &nonce))?;
        bench.both(
            0,
            |builder, who| {
                if round < FILL[who] { builder.build(&other, &Output::Cache).map(drop) } else { Ok(()) }
            },
        )?;
    }
    let full = no_ops(bench)?;
    let mut times = Samples::default();
    let quotient = |full: &[f64], empty: &[f64]| least(full) / least(empty);
    times.push([quotient(&full.rhost, &empty.rhost), quotient(&full.buildkit, &empty.buildkit)]);
    Ok(vec![
        full.row(
            "no-op beside 100,000 records of other builds (BuildKit: 10,000)",
            Unit::Time,
            "",
            "rhost: as any no-op; records are found by their keys",
        ),
        times.row("the same against an empty store", Unit::Times, "1x", "more levels of the records' trees"),
    ])
}

fn least(samples: &[f64]) -> f64 {
    samples.iter().copied().fold(f64::INFINITY, f64::min)
}

fn measure(bench: &mut Bench, levels: usize, repeats: usize) -> Result<(Samples, Samples)> {
    let (mut cold, mut same) = (Samples::default(), Samples::default());
    for round in 0..repeats {
        let nonce = bench.nonce();
        let context: PathBuf = bench.context("graph", &dockerfile(levels, &nonce))?;
        bench.wipe()?;
        let first = bench.build(round, &context, &Output::Image)?;
        for built in &first {
            let (steps, stages) = (built.steps, WIDTH.pow(levels as u32) * (WIDTH - 1) / WIDTH);
            ensure!(steps >= stages * WIDTH, "only {steps} steps are in the log");
        }
        cold.push(seconds(&first));
        for round in 0..3 {
            let again = bench.build(round, &context, &Output::Image)?;
            check_cached(&first, &again, 1)?;
            same.push(seconds(&again));
        }
    }
    Ok((cold, same))
}
