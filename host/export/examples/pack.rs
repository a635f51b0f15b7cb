//! Times packing of one layer: `pack FILE [gzip|zstd|none] [LEVEL] [THREADS]`. Prints MiB/s and the ratio.
use std::num::NonZeroUsize;
use std::time::Instant;

use rhost_export::{Compression, Compressor, Stop};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    let path = arguments.get(1).ok_or("usage: pack FILE [gzip|zstd|none] [LEVEL] [THREADS]")?;
    let level = |default| arguments.get(3).map_or(Ok(default), |text| text.parse::<u8>());
    let compression = match arguments.get(2).map(String::as_str) {
        Some("none") => Compression::None,
        Some("zstd") => Compression::Zstd { level: level(3)? },
        _ => Compression::Gzip { level: level(6)? },
    };
    let threads = arguments.get(4).map_or(Ok(2), |text| text.parse::<usize>())?;
    let compressor = Compressor::new(NonZeroUsize::new(threads).ok_or("THREADS is at least 1")?);
    let mut file = std::fs::File::open(path)?;
    let size = file.metadata()?.len();
    let start = Instant::now();
    let read = |out: &mut dyn std::io::Write| std::io::copy(&mut file, out).map(drop);
    let layer = compressor.compress(read, compression, std::io::sink(), &Stop::new())?;
    let seconds = start.elapsed().as_secs_f64();
    let rate = size as f64 / seconds / f64::from(1 << 20);
    println!(
        "{compression:?} x{threads}: {rate:.0} MiB/s, {seconds:.2} s, {:.1} %, {}",
        100.0 * layer.size as f64 / size as f64,
        layer.digest
    );
    Ok(())
}
