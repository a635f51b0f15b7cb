//! RUN steps: one after the other, and in stages that do not wait for each other.
use anyhow::Result;

use super::{Bench, Samples, check_cached, check_ran, seconds};
use crate::builder::Output;
use crate::report::{Row, Unit};

const STEPS: usize = 40;
const STAGES: usize = 32;

fn chain_file(base: &str, nonce: &str, steps: usize) -> String {
    let mut text = format!("FROM {base}\nENV NONCE={nonce}\n");
    for step in 0..steps {
        text.push_str(&format!("RUN echo {step} > /made-{step}\n"));
    }
    text
}

/// `(40 steps - 0 steps) / 40`, and the same build again.
pub fn chain(bench: &mut Bench) -> Result<Vec<Row>> {
    let base = bench.registry.push(&rhost_kit::busybox()?, "library/busybox:latest")?;
    let (mut cold, mut step, mut same) = (Samples::default(), Samples::default(), Samples::default());
    // The base image is there, and both have run once.
    let context = bench.context("warm", &chain_file(&base, "warm", 1))?;
    bench.build(0, &context, &Output::Image)?;
    for round in 0..bench.repeats {
        let nonce = bench.nonce();
        let none = bench.context("none", &chain_file(&base, &nonce, 0))?;
        let all = bench.context("all", &chain_file(&base, &nonce, STEPS))?;
        let without = bench.build(round, &none, &Output::Image)?;
        let with = bench.build(round, &all, &Output::Image)?;
        check_ran(&with, STEPS, 1)?;
        cold.push(seconds(&with));
        step.push([0, 1].map(|who| (with[who].seconds - without[who].seconds) / STEPS as f64));
        for round in 0..3 {
            let again = bench.build(round, &all, &Output::Image)?;
            check_cached(&with, &again, STEPS)?;
            same.push(seconds(&again));
        }
    }
    Ok(vec![
        cold.row(
            "40 RUN steps, cold",
            Unit::Time,
            "",
            "rhost: starting a container (clone, mounts, seccomp, exec) and its shell; BuildKit: runc, twice a process start, and its snapshot and content records",
        ),
        step.row("one RUN step: (40 steps - none) / 40", Unit::Time, "10 ms", "as above, with packing of the layer"),
        same.row(
            "40 RUN steps, no-op",
            Unit::Time,
            "8x",
            "rhost: of its processor time (perf) an eighth is linking (57,000 relocations), an eighth SQLite, a quarter page faults; then the registry's answer on what the tag stands for; BuildKit: its client's session and the round trips of a solve",
        ),
    ])
}

/// Stages that wait as much as they compute, as real ones do.
pub fn stages(bench: &mut Bench) -> Result<Vec<Row>> {
    let base = bench.registry.push(&rhost_kit::busybox()?, "library/busybox:latest")?;
    let context = bench.context("warm", &chain_file(&base, "warm", 1))?;
    bench.build(0, &context, &Output::Image)?;
    let mut cold = Samples::default();
    for round in 0..bench.repeats {
        let nonce = bench.nonce();
        let mut text = String::new();
        for stage in 0..STAGES {
            text.push_str(&format!(
                "FROM {base} AS s{stage}\nRUN echo {nonce} {stage} > /out && sha256sum /bin/busybox >> /out && sleep 0.2\n"
            ));
        }
        text.push_str("FROM scratch\n");
        for stage in 0..STAGES {
            text.push_str(&format!("COPY --from=s{stage} /out /out-{stage}\n"));
        }
        let context = bench.context("stages", &text)?;
        let built = bench.build(round, &context, &Output::Image)?;
        check_ran(&built, 2 * STAGES, 1)?;
        cold.push(seconds(&built));
    }
    Ok(vec![cold.row(
        "32 stages at once, each 0.2 s of waiting",
        Unit::Time,
        "1x",
        "both: the processors, shared by 32 shells; rhost: 32 packed layers of the last stage; BuildKit: runc",
    )])
}
