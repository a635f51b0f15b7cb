//! The most memory: rhost with all its children, against buildkitd with its own (runc and the steps) and its client.
use anyhow::Result;

use super::{Bench, Samples};
use crate::builder::Output;
use crate::content;
use crate::report::{Row, Unit};

/// Over builds of different kinds, each from an empty store and a fresh daemon.
pub fn run(bench: &mut Bench) -> Result<Vec<Row>> {
    let base = bench.registry.push(&rhost_kit::busybox()?, "library/busybox:latest")?;
    let mut steps = format!("FROM {base}\n");
    (0..10).for_each(|step| steps.push_str(&format!("RUN echo {step} > /made-{step}\n")));
    let few = bench.context("few", &steps)?;
    let files = bench.context("many-files", "FROM scratch\nCOPY . /src/\n")?;
    content::tree(&files.join("tree"), 20_000, 1500, 3)?;
    let large = bench.context("large-layer", "FROM scratch\nCOPY data /data/\n")?;
    std::fs::create_dir_all(large.join("data"))?;
    (0..30).try_for_each(|file| content::write(&large.join(format!("data/file-{file}")), 10_000_000, 77 + file))?;
    let mut rows = Vec::new();
    for (what, context) in
        [("10 RUN steps", few), ("a context of 20,000 files", files), ("a 300 MB layer, gzip", large)]
    {
        let mut samples = Samples::default();
        for round in 0..bench.repeats.min(3) {
            bench.wipe()?;
            let archives = [0, 1].map(|who| bench.file("memory.tar", who));
            let most = bench.both(round, |builder, who| {
                let output = Output::Oci("gzip", archives[who].clone());
                Ok(builder.build_watched(&context, &output)?.1 as f64)
            })?;
            samples.push(most);
            archives.iter().try_for_each(std::fs::remove_file)?;
        }
        rows.push(samples.row(
            format!("peak memory: {what}"),
            Unit::Memory,
            "5x",
            "rhost: 14 MiB are pages of the program (smaps: code that builds run, the stock frontend's, constants), the rest blocks being compressed, the list of a context; BuildKit: the Go heap, and the daemon's libraries",
        ));
        std::fs::remove_dir_all(&context)?;
    }
    Ok(rows)
}
