//! Images equal to BuildKit's: every context is built by a real buildkitd and by rhost, and the archives are taken apart.
//!
//! `tests/scenarios/images` has the contexts, as bundles ([`case`] has their form); [`generate`] makes more from a seed. A folder of one's own:
//! `RHOST_IMAGES_CONTEXTS=DIR RHOST_IMAGES_SEEDS=1000-1200 cargo test -p rhost-suite many_contexts -- --ignored`.

mod case;
mod compare;
mod epoch;
mod generate;
mod image;
mod peers;
mod plain;
mod round_trip;
mod tar;

use std::path::{Path, PathBuf};
use std::sync::Mutex;

use case::Case;
use peers::Peers;

/// Contexts built at once.
const AT_ONCE: usize = 3;

fn bundles() -> Vec<PathBuf> {
    listed(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios/images"))
}

fn listed(folder: &Path) -> Vec<PathBuf> {
    let only = std::env::var("RHOST_IMAGES_ONLY").unwrap_or_default();
    let entries = std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("read").path());
    let wanted = |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().contains(&only));
    let mut found: Vec<PathBuf> = entries.filter(wanted).collect();
    found.sort();
    found
}

/// Builds all cases with both builders and tells all that differs.
fn check(peers: &Peers, work: &Path, cases: Vec<Case>) {
    let count = cases.len();
    let (todo, faults) = (Mutex::new(cases), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                loop {
                    let Some(case) = todo.lock().expect("no panic").pop() else { break };
                    let found = peers.differences(&case, work);
                    if !found.is_empty() {
                        let text = format!("=== {}\n  {}", case.name, found.join("\n  "));
                        faults.lock().expect("no panic").push(text);
                    }
                }
            });
        }
    });
    let mut faults = faults.into_inner().expect("no panic");
    faults.sort();
    assert!(faults.is_empty(), "{} of {count} contexts differ\n{}", faults.len(), faults.join("\n"));
}

fn work() -> tempfile::TempDir {
    tempfile::Builder::new().prefix("rhost-images-").tempdir().expect("a directory")
}

#[test]
fn contexts_make_buildkits_images() {
    let Some(peers) = Peers::start() else { return };
    let work = work();
    let cases: Vec<Case> = bundles().iter().map(|path| Case::read(path, work.path())).collect();
    check(&peers, work.path(), cases);
}

#[test]
fn generated_contexts_make_buildkits_images() {
    let Some(peers) = Peers::start() else { return };
    let work = work();
    check(&peers, work.path(), (1..=16).map(|seed| generate::case(seed, work.path())).collect());
}

#[test]
#[ignore = "takes minutes; RHOST_IMAGES_CONTEXTS and RHOST_IMAGES_SEEDS say what to build"]
fn many_contexts_make_buildkits_images() {
    let Some(peers) = Peers::start() else { return };
    let work = work();
    let mut cases = Vec::new();
    if let Some(folder) = std::env::var_os("RHOST_IMAGES_CONTEXTS") {
        cases.extend(listed(Path::new(&folder)).iter().map(|path| Case::read(path, work.path())));
    }
    let seeds = std::env::var("RHOST_IMAGES_SEEDS").unwrap_or_else(|_| "1000-1200".into());
    let (first, last) = seeds.split_once('-').expect("RHOST_IMAGES_SEEDS=FIRST-LAST");
    let range = first.parse().expect("a number")..=last.parse::<u64>().expect("a number");
    cases.extend(range.map(|seed| generate::case(seed, work.path())));
    check(&peers, work.path(), cases);
}
