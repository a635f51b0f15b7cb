//! The rules of the house, checked: arrows between crates, a `//!` line in every module, file length, marks of
//! unfinished work, frozen WIT folders.
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};

/// Each room and the rooms that it may use (ARCHITECTURE.md, "Arrows").
const ARROWS: &[(&str, &[&str])] = &[
    ("rhost-llb", &[]),
    ("rhost-solver", &["rhost-llb"]),
    ("rhost-rootfs", &["rhost-llb"]),
    ("rhost-registry", &["rhost-llb"]),
    ("rhost-exec", &["rhost-llb"]),
    ("rhost-frontend", &["rhost-llb"]),
    ("rhost-store", &["rhost-llb", "rhost-solver", "rhost-rootfs"]),
    ("rhost-export", &["rhost-llb", "rhost-store", "rhost-registry", "rhost-rootfs"]),
    (
        "rhost-engine",
        &[
            "rhost-llb",
            "rhost-solver",
            "rhost-rootfs",
            "rhost-registry",
            "rhost-exec",
            "rhost-frontend",
            "rhost-store",
            "rhost-export",
        ],
    ),
    ("rhost-testing", &["rhost-engine", "rhost-llb", "rhost-frontend"]),
    ("rhost-toolchain", &[]),
    ("rhost-cli", &["rhost-engine", "rhost-testing", "rhost-llb", "rhost-exec", "rhost-frontend", "rhost-toolchain"]),
    ("rhost-sdk", &[]),
    ("rhost-dockerfile", &["rhost-sdk"]),
    ("rhost-dockerfile-plus", &["rhost-dockerfile", "rhost-sdk"]),
    ("rhost-lines", &["rhost-sdk"]),
];

/// Lines of a source file: over this, it is more than one idea.
const LONGEST_FILE: usize = 800;

/// The root of the checkout.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies in the checkout").to_path_buf()
}

/// Checks everything; the error lists each fault on a line `file: what`.
pub fn run() -> Result<()> {
    let root = root();
    let mut faults = Vec::new();
    let mut files = Vec::new();
    for room in ["host", "sdk", "frontends", "tests", "xtask"] {
        collect(&root.join(room), &mut files)?;
    }
    for file in &files {
        let name = file.strip_prefix(&root).unwrap_or(file).display().to_string();
        match file.extension().and_then(|e| e.to_str()) {
            Some("rs") => check_source(&name, &fs::read_to_string(file)?, &mut faults),
            Some("toml") if file.ends_with("Cargo.toml") => {
                check_arrows(&name, &fs::read_to_string(file)?, &mut faults)
            }
            _ => {}
        }
    }
    check_frozen_wit(&root, &mut faults)?;
    if !faults.is_empty() {
        bail!("tidy: {} faults\n{}", faults.len(), faults.join("\n"));
    }
    println!("tidy: {} files in order", files.len());
    Ok(())
}

fn collect(dir: &Path, into: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(dir).with_context(|| format!("reading {}", dir.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            if !matches!(
                path.file_name().and_then(|n| n.to_str()),
                Some("target" | "node_modules" | "corpus" | ".rhost")
            ) {
                collect(&path, into)?;
            }
        } else {
            into.push(path);
        }
    }
    into.sort();
    Ok(())
}

fn check_source(name: &str, text: &str, faults: &mut Vec<String>) {
    if name.ends_with("bindings.rs") {
        return;
    }
    let first = text.lines().find(|line| !line.is_empty() && !line.starts_with("#!"));
    if !first.is_some_and(|line| line.starts_with("//!")) {
        faults.push(format!("{name}: no `//!` line that says what the module is for"));
    }
    let lines = text.lines().count();
    if lines > LONGEST_FILE {
        faults.push(format!("{name}: {lines} lines, more than {LONGEST_FILE}"));
    }
    for (number, line) in text.lines().enumerate() {
        for mark in [concat!("todo", "!("), concat!("unimplemented", "!("), concat!("TO", "DO"), concat!("FIX", "ME")] {
            if line.contains(mark) {
                faults.push(format!("{name}:{}: `{mark}` marks unfinished work", number + 1));
            }
        }
        let may = ["host/exec/", "host/store/", "host/rootfs/", "host/frontend/src/compile.rs", "tests/", "sdk/"]
            .iter()
            .any(|room| name.starts_with(room));
        if !may && line.trim_start().starts_with("unsafe ") {
            faults.push(format!("{name}:{}: unsafe outside exec, store and rootfs", number + 1));
        }
    }
}

fn check_arrows(name: &str, text: &str, faults: &mut Vec<String>) {
    let package = text.lines().find_map(|line| line.strip_prefix("name = \"")?.strip_suffix('"')).unwrap_or_default();
    let Some((_, allowed)) = ARROWS.iter().find(|(room, _)| *room == package) else { return };
    let ordinary = text.split("[dev-dependencies]").next().unwrap_or_default();
    for line in ordinary.lines() {
        let used = line.split(['.', ' ', '=']).next().unwrap_or_default();
        if used.starts_with("rhost-") && !allowed.contains(&used) {
            faults.push(format!("{name}: {package} may not use {used} (ARCHITECTURE.md, Arrows)"));
        }
    }
}

/// A released WIT folder never changes: its digest stands in `wit/frozen.txt` as `FOLDER sha256`.
fn check_frozen_wit(root: &Path, faults: &mut Vec<String>) -> Result<()> {
    let Ok(list) = fs::read_to_string(root.join("wit/frozen.txt")) else { return Ok(()) };
    for line in list.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
        let (folder, wanted) = line.split_once(' ').context("wit/frozen.txt: wanted `FOLDER sha256`")?;
        let mut texts = BTreeMap::new();
        for entry in fs::read_dir(root.join("wit").join(folder))? {
            let path = entry?.path();
            texts.insert(path.file_name().map(|n| n.to_owned()), fs::read(&path)?);
        }
        let mut hasher = Sha256::new();
        for (name, text) in texts {
            hasher.update(name.unwrap_or_default().as_encoded_bytes());
            hasher.update([0]);
            hasher.update(&text);
        }
        let found = hex::encode(hasher.finalize());
        if found != wanted {
            faults.push(format!("wit/{folder}: is released and frozen, but its digest is {found}, not {wanted}"));
        }
    }
    Ok(())
}
