//! Layers in and out: packing a large one into an archive, pulling and unpacking an image.
use std::process::Command;

use anyhow::{Result, ensure};

use super::{Bench, Samples, seconds};
use crate::builder::Output;
use crate::content;
use crate::report::{Row, Unit};

const LAYER: usize = 300_000_000;
const FILE: usize = 10_000_000;
const LAYERS: usize = 5;
const LAYER_FILES: usize = 1_200;
const LAYER_FILE: usize = 30_000;

/// The export alone: the layer is built before.
pub fn layer(bench: &mut Bench) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    let repeats = bench.repeats.min(3);
    for (compression, target) in [("gzip", "1x"), ("zstd", "1x")] {
        let mut samples = Samples::default();
        for round in 0..repeats {
            let context = bench.context("layer", "FROM scratch\nCOPY data /data/\n")?;
            std::fs::create_dir_all(context.join("data"))?;
            let seed = bench.nonce().len() as u64 + 17 * round as u64 + 1000 * compression.len() as u64;
            for file in 0..LAYER / FILE {
                content::write(&context.join(format!("data/file-{file}")), FILE, seed * 100 + file as u64)?;
            }
            // Packed layers of earlier rounds would be found again.
            bench.wipe()?;
            bench.build(round, &context, &Output::Cache)?;
            let files = [0, 1].map(|who| bench.file("layer.tar", who));
            let built = bench
                .both(round, |builder, who| builder.build(&context, &Output::Oci(compression, files[who].clone())))?;
            samples.push(seconds(&built));
            for file in &files {
                let size = std::fs::metadata(file)?.len() as usize;
                ensure!((LAYER / 5..LAYER).contains(&size), "{} has {size} bytes", file.display());
                let list = Command::new("tar").arg("-tf").arg(file).output()?;
                let blobs =
                    list.stdout.split(|b| *b == b'\n').filter(|line| line.starts_with(b"blobs/sha256/")).count();
                ensure!(list.status.success() && blobs >= 3, "{} is no image", file.display());
                std::fs::remove_file(file)?;
            }
        }
        rows.push(samples.row(
            format!("300 MB layer to an OCI archive, {compression}"),
            Unit::Time,
            target,
            if compression == "gzip" {
                "rhost: zlib-rs at level 6 on all processors, bytes the same for any number of them; BuildKit: Go's compress/gzip on one thread, and the way of the layer from daemon to client"
            } else {
                "rhost: zstd at level 3 in frames of about 2 MiB on all processors; BuildKit: Go's zstd at its default level on two, and the way of the layer from daemon to client"
            },
        ));
    }
    Ok(rows)
}

/// A fresh store each time.
pub fn pull(bench: &mut Bench) -> Result<Vec<Row>> {
    let name = bench.registry.name("bench/large:latest");
    let mut text = "FROM scratch\n".to_owned();
    let base = bench.registry.push(&rhost_kit::busybox()?, "library/busybox:latest")?;
    // busybox gives the shell that is run on the image; its layer is small.
    text = text.replace("FROM scratch", &format!("FROM {base}"));
    let context = bench.context("large", "")?;
    for layer in 0..LAYERS - 1 {
        content::tree(
            &context.join(format!("l{layer}")),
            LAYER_FILES * LAYERS / (LAYERS - 1),
            LAYER_FILE,
            1 << (20 + layer),
        )?;
        text.push_str(&format!("COPY l{layer} /l{layer}/\n"));
    }
    bench.context("large", &text)?;
    // Made once, by one of the two, and pushed by a third.
    let file = bench.file("large.tar", 0);
    bench.build_one(&context, &Output::Oci("gzip", file.clone()))?;
    let status = Command::new("skopeo")
        .args(["--insecure-policy", "copy", "--quiet", "--dest-tls-verify=false"])
        .arg(format!("oci-archive:{}", file.display()))
        .arg(format!("docker://{name}"))
        .status()?;
    ensure!(status.success(), "skopeo: {status}");
    std::fs::remove_file(file)?;
    std::fs::remove_dir_all(&context)?;
    let mut samples = Samples::default();
    for round in 0..bench.repeats {
        bench.wipe()?;
        let check =
            format!("FROM {name}\nRUN test $(find /l0 /l1 /l2 /l3 -type f | wc -l) -eq {}\n", LAYER_FILES * LAYERS);
        let context = bench.context("pull", &check)?;
        samples.push(seconds(&bench.build(round, &context, &Output::Cache)?));
    }
    Ok(vec![samples.row(
        "pull and unpack of 5 layers, 180 MB, and one RUN",
        Unit::Time,
        "1.5x",
        "both: inflating gzip (one stream a layer), one SHA-256 of each layer packed and one unpacked, writing 6,000 files",
    )])
}
