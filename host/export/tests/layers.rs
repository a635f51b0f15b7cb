//! Compression: same bytes for any number of threads, right digests, clean failures.
use std::io::{self, Read};

use proptest::prelude::*;
use rhost_export::{BlobSource, Compression, ExportError, LayerKind, LayerSource, MemoryBlobs, Stop};
use rhost_llb::{BlobDigest, DiffId, Digest};

use crate::kit::{bytes, compressor, pack, tar_of};

const BLOCK: usize = 512 * 1024;

fn compress(input: &[u8], compression: Compression, threads: usize) -> Vec<u8> {
    let mut out = Vec::new();
    let produce = |stream: &mut dyn io::Write| stream.write_all(input);
    let layer = compressor(threads).compress(produce, compression, &mut out, &Stop::new()).unwrap();
    assert_eq!(layer.diff_id, DiffId(Digest::of(input)));
    assert_eq!(layer.digest, BlobDigest(Digest::of(&out)));
    assert_eq!((layer.size, layer.kind), (out.len() as u64, compression.kind()));
    out
}

fn decompress(bytes: &[u8], kind: LayerKind) -> Vec<u8> {
    let mut out = Vec::new();
    match kind {
        LayerKind::Tar => out.extend_from_slice(bytes),
        // One member only: what stands after it would be ignored.
        LayerKind::Gzip => {
            let mut decoder = flate2::bufread::GzDecoder::new(bytes);
            decoder.read_to_end(&mut out).unwrap();
            assert!(decoder.into_inner().is_empty());
        }
        LayerKind::Zstd => out = zstd::decode_all(bytes).unwrap(),
    }
    out
}

#[test]
fn round_trips_at_the_cuts() {
    for length in [0, 1, 511, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK, 3 * BLOCK + 17] {
        let input = bytes(length, 7);
        for compression in [Compression::None, Compression::GZIP, Compression::ZSTD] {
            let packed = compress(&input, compression, 2);
            assert!(decompress(&packed, compression.kind()) == input, "{compression:?} of {length} bytes");
        }
    }
}

#[test]
fn every_level_round_trips() {
    let input = bytes(BLOCK + 4321, 3);
    for level in 0..=9 {
        assert!(
            decompress(&compress(&input, Compression::Gzip { level }, 2), LayerKind::Gzip) == input,
            "gzip {level}"
        );
    }
    for level in [1, 9, 15] {
        assert!(
            decompress(&compress(&input, Compression::Zstd { level }, 2), LayerKind::Zstd) == input,
            "zstd {level}"
        );
    }
}

#[test]
fn incompressible_and_constant_blocks_round_trip() {
    let mut noise = Vec::new();
    for index in 0..(2 * BLOCK as u64 / 32) {
        noise.extend_from_slice(Digest::of(index.to_le_bytes()).as_raw());
    }
    let zeros = vec![0; 3 * BLOCK + 1];
    for input in [noise, zeros] {
        assert!(decompress(&compress(&input, Compression::GZIP, 2), LayerKind::Gzip) == input);
    }
}

#[test]
fn gzip_begins_as_buildkits_does() {
    assert_eq!(compress(b"x", Compression::GZIP, 1)[..10], [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff]);
}

#[test]
fn zstd_is_the_same_for_any_number_of_threads() {
    let input = bytes(20 * BLOCK, 11);
    let one = compress(&input, Compression::ZSTD, 1);
    for threads in 2..=4 {
        assert!(compress(&input, Compression::ZSTD, threads) == one, "{threads} threads");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    #[test]
    fn gzip_is_the_same_for_any_number_of_threads(length in 0..5 * BLOCK, seed: u64, level in 1u8..=9) {
        let input = bytes(length, seed);
        let compression = Compression::Gzip { level };
        let one = compress(&input, compression, 1);
        prop_assert!(decompress(&one, LayerKind::Gzip) == input);
        for threads in 2..=8 {
            prop_assert!(compress(&input, compression, threads) == one, "{} threads", threads);
        }
    }

    #[test]
    fn the_size_of_writes_does_not_matter(cut in 1..2 * BLOCK) {
        let input = bytes(2 * BLOCK + 99, 5);
        let whole = compress(&input, Compression::GZIP, 2);
        let mut out = Vec::new();
        let produce = |stream: &mut dyn io::Write| input.chunks(cut).try_for_each(|chunk| stream.write_all(chunk));
        compressor(2).compress(produce, Compression::GZIP, &mut out, &Stop::new()).unwrap();
        prop_assert!(out == whole);
    }
}

#[test]
fn packs_many_layers_in_order() {
    let blobs = MemoryBlobs::new();
    let inputs: Vec<Vec<u8>> = (0..12).map(|n| bytes(n * 70_001, n as u64 + 1)).collect();
    let layers = pack(inputs.iter().cloned().map(tar_of).collect(), Compression::GZIP, &blobs);
    assert_eq!(layers.len(), inputs.len());
    for (layer, input) in layers.iter().zip(&inputs) {
        let blob = blobs.get(layer.digest).unwrap();
        assert_eq!(blob.len() as u64, layer.size);
        assert!(decompress(&blob, LayerKind::Gzip) == *input);
    }
}

#[test]
fn existing_layers_pass_unless_forced() {
    let blobs = MemoryBlobs::new();
    let input = bytes(100_000, 1);
    let old = pack(vec![tar_of(input.clone())], Compression::GZIP, &blobs)[0];
    let kept = pack(vec![LayerSource::Blob(old)], Compression::ZSTD, &blobs);
    assert_eq!(kept, [old]);
    for compression in [Compression::ZSTD, Compression::None, Compression::GZIP] {
        let sources = vec![LayerSource::Blob(old)];
        let new = compressor(2).pack(sources, compression, true, &blobs, &blobs, &Stop::new()).unwrap()[0];
        assert_eq!((new.kind, new.diff_id), (compression.kind(), old.diff_id));
        assert!(decompress(&blobs.get(new.digest).unwrap(), new.kind) == input);
    }
}

#[test]
fn a_recompressed_layer_is_checked() {
    let blobs = MemoryBlobs::new();
    let mut old = pack(vec![tar_of(b"one".to_vec())], Compression::GZIP, &blobs)[0];
    old.diff_id = DiffId(Digest::of("two"));
    let force =
        |old| compressor(1).pack(vec![LayerSource::Blob(old)], Compression::ZSTD, true, &blobs, &blobs, &Stop::new());
    assert!(matches!(force(old), Err(ExportError::WrongDiffId { .. })));
    old.digest = blobs.insert(b"this is no gzip");
    assert!(matches!(force(old), Err(ExportError::ReadBlob { .. })));
    old.digest = BlobDigest(Digest::of("nowhere"));
    assert!(matches!(force(old), Err(ExportError::ReadBlob { .. })));
}

#[test]
fn a_failing_layer_fails_the_pack_with_its_own_reason() {
    let blobs = MemoryBlobs::new();
    let failing = LayerSource::Tar(Box::new(|out| {
        out.write_all(&[1; 10])?;
        Err(io::Error::other("the upper directory went away"))
    }));
    let sources = vec![tar_of(bytes(3 * BLOCK, 1)), failing, tar_of(bytes(3 * BLOCK, 2))];
    let error = compressor(2).pack(sources, Compression::GZIP, false, &blobs, &blobs, &Stop::new()).unwrap_err();
    assert_eq!(error.to_string(), "reading the tar of layer 1: the upper directory went away");
}

#[test]
fn a_full_disk_is_told_as_such() {
    struct Full;
    impl io::Write for Full {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::StorageFull.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    for compression in [Compression::None, Compression::GZIP, Compression::ZSTD] {
        let produce = |out: &mut dyn io::Write| out.write_all(&bytes(40 * BLOCK, 9));
        let error = compressor(2).compress(produce, compression, Full, &Stop::new()).unwrap_err();
        assert!(
            matches!(&error, ExportError::WriteLayer { source, .. } if source.kind() == io::ErrorKind::StorageFull),
            "{error:?}"
        );
    }
}

#[test]
fn stops_when_told() {
    let stop = Stop::new();
    let telling = stop.clone();
    let produce = move |out: &mut dyn io::Write| {
        out.write_all(&[0; BLOCK])?;
        telling.stop();
        out.write_all(&[0; BLOCK])
    };
    let error = compressor(2).compress(produce, Compression::GZIP, io::sink(), &stop).unwrap_err();
    assert!(matches!(error, ExportError::Cancelled));
    let blobs = MemoryBlobs::new();
    let packed = compressor(2).pack(vec![tar_of(vec![1])], Compression::GZIP, false, &blobs, &blobs, &stop);
    assert!(matches!(packed, Err(ExportError::Cancelled)));
    assert!(BlobSource::open(&blobs, BlobDigest(Digest::of("x"))).is_err());
}
