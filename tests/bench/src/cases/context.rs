//! A large context: 20,000 files, read for the first time, unchanged, and with one file changed.
use std::time::Duration;

use anyhow::{Result, ensure};

use super::{Bench, Samples, check_cached, seconds};
use crate::builder::{Built, Output};
use crate::content;
use crate::report::{Row, Unit};

const FILES: usize = 20_000;
const SIZE: usize = 1500;
/// After it, change times of files tell a later change for sure.
const SETTLE: Duration = Duration::from_secs(3);

/// Measures all three on one context.
pub fn run(bench: &mut Bench) -> Result<Vec<Row>> {
    let context = bench.context("files", "FROM scratch\nCOPY . /src/\n")?;
    content::tree(&context.join("tree"), FILES, SIZE, 1)?;
    std::thread::sleep(SETTLE);
    let (mut cold, mut same, mut one) = (Samples::default(), Samples::default(), Samples::default());
    for round in 0..bench.repeats {
        bench.wipe()?;
        let first = bench.build(round, &context, &Output::Image)?;
        cold.push(seconds(&first));
        if round == 0 {
            count(bench, &context)?;
        }
        for round in 0..3 {
            let again = bench.build(round, &context, &Output::Image)?;
            check_cached(&first, &again, 1)?;
            same.push(seconds(&again));
        }
        let changed = context.join(format!("tree/d{:03}/file-{:05}.txt", round % 200, round % 200 * 100 + 7));
        content::write(&changed, SIZE, 1_000_000_007 + round as u64)?;
        let again = bench.build(round, &context, &Output::Image)?;
        ensure!(again.iter().zip(&first).all(|(a, b)| a.config != b.config), "a changed file made no other image");
        one.push(seconds(&again));
    }
    Ok(vec![
        cold.row(
            "20,000 files, cold",
            Unit::Time,
            "2x",
            "rhost: reading each file three times (digest, copy, layer) with some 25 system calls, and gzip; BuildKit: the upload from client to daemon, file by file, then the same",
        ),
        same.row(
            "20,000 files, no-op",
            Unit::Time,
            "8x",
            "rhost: a stat of every file and their remembered digests; BuildKit: its client's walk and the comparison with the daemon's copy",
        ),
        one.row(
            "20,000 files, one changed",
            Unit::Time,
            "6x",
            "rhost: linking every file into the new layer and reading it for the layer's digest; compressed blocks are taken from the layer before; BuildKit: the whole layer is made and packed anew",
        ),
    ])
}

/// That the result holds every file, by a tar of it.
fn count(bench: &mut Bench, context: &std::path::Path) -> Result<()> {
    let files = [0, 1].map(|who| bench.file("files.tar", who));
    let _: [Built; 2] = bench.both(0, |builder, who| builder.build(context, &Output::Tar(files[who].clone())))?;
    for file in files {
        let list = std::process::Command::new("tar").arg("-tf").arg(&file).output()?;
        let found = list.stdout.split(|b| *b == b'\n').filter(|line| line.ends_with(b".txt")).count();
        ensure!(list.status.success() && found == FILES, "{} holds {found} of {FILES} files", file.display());
        std::fs::remove_file(file)?;
    }
    Ok(())
}
