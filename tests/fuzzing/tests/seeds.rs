//! The seeds of every fuzzer go through the function that the fuzzer calls, and nothing is missing on either side.
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use rhost_fuzzing::TARGETS;

fn fuzz() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz")
}

fn names(folder: &str) -> BTreeSet<String> {
    let entries = fs::read_dir(fuzz().join(folder)).expect("the folder is there");
    entries.map(|e| e.expect("readable").file_name().to_string_lossy().trim_end_matches(".rs").to_owned()).collect()
}

#[test]
fn every_seed_passes_through_its_entry() {
    for (name, entry) in TARGETS {
        let folder = fuzz().join("seeds").join(name);
        let mut seeds = 0;
        for seed in fs::read_dir(&folder).expect("seeds") {
            let data = fs::read(seed.expect("readable").path()).expect("readable");
            entry(&data);
            // And what is left when a connection breaks.
            for end in [0, data.len() / 3, data.len().saturating_sub(1)] {
                entry(&data[..end]);
            }
            seeds += 1;
        }
        assert!(seeds > 1, "{name} has {seeds} seeds");
    }
}

#[test]
fn targets_files_and_seeds_go_together() {
    let known: BTreeSet<String> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(names("fuzz_targets"), known);
    assert_eq!(names("seeds"), known);
    let manifest = fs::read_to_string(fuzz().join("Cargo.toml")).expect("readable");
    for name in known {
        assert!(manifest.contains(&format!("path = \"fuzz_targets/{name}.rs\"")), "{name} is no binary of fuzz/");
    }
}
