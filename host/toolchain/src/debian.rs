//! The private toolchain: Debian's rustc and the std source of the same version, unpacked and never installed, with std for
//! wasm built into its sysroot once. About 500 MB under the user's cache directory.
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::command::{cargo, run, stdout};
use crate::error::{Result, ToolchainError};
use crate::machine::Machine;
use crate::rust::{TARGET, Toolchain, has_std, linker};

/// Pairs of a compiler and its own std source, the better first. A std of another version does not work.
const PAIRS: [(&str, &str); 2] = [("rustc-web", "rust-web-src"), ("rustc", "rust-src")];

/// The toolchain made before, if it is whole.
pub(crate) fn cached(machine: &Machine, dir: &Path) -> Result<Option<Toolchain>> {
    let Ok(entries) = std::fs::read_dir(&machine.toolchains) else { return Ok(None) };
    let mut wrappers: Vec<PathBuf> =
        entries.flatten().map(|entry| entry.path().join("rustc")).filter(|path| path.exists()).collect();
    wrappers.sort();
    match wrappers.into_iter().rev().find(|wrapper| has_std(wrapper, dir)) {
        Some(rustc) => Ok(Some(Toolchain::Private { rustc, linker: linker(dir)? })),
        None => Ok(None),
    }
}

/// Fetches, unpacks and builds. Needs no root: apt keeps its lists and archives in our directory.
pub(crate) fn make(machine: &Machine, dir: &Path) -> Result<Toolchain> {
    let linker = linker(dir)?;
    let home = &machine.toolchains;
    make_dir(home)?;
    let apt = home.join("apt");
    let (pair, version) = choose(&apt)?;
    let place = home.join(format!("{}-{}", pair.0, version.replace(':', "_")));
    let tree = place.join("tree");
    if place.exists() {
        // Left by a run that was cut off: has_std() has said no to it.
        std::fs::remove_dir_all(&place).map_err(ToolchainError::io(&place))?;
    }
    fetch(machine, &apt, pair, &tree)?;
    let rustc = write_wrapper(&place, &tree)?;
    build_std(machine, &place, &tree, &rustc, &linker)?;
    if !has_std(&rustc, dir) {
        return Err(refuse(format!("std for {TARGET} was built, but {} does not see it", rustc.display())));
    }
    std::fs::remove_dir_all(&apt).ok();
    Ok(Toolchain::Private { rustc, linker })
}

fn make_dir(path: &Path) -> Result<()> {
    std::fs::create_dir_all(path).map_err(ToolchainError::io(path))
}

fn refuse(reason: String) -> ToolchainError {
    ToolchainError::Missing {
        tool: "a toolchain of Debian's packages".into(),
        reason,
        way: format!(
            "`rustup target add {TARGET}` where rustup is; else an apt mirror that has rustc-web and rust-web-src"
        ),
    }
}

/// An apt tool that writes into `apt` only.
fn apt_tool(tool: &str, apt: &Path) -> Command {
    let mut command = Command::new(tool);
    for (option, directory) in [("Dir::State::lists", "lists"), ("Dir::Cache", "cache")] {
        command.arg("-o").arg(format!("{option}={}", apt.join(directory).display()));
    }
    // Its sandbox user could not write below a private home.
    command.args(["-o", "APT::Sandbox::User=", "-o", "Debug::NoLocking=1"]).env("LC_ALL", "C");
    command
}

/// The first pair of which apt offers both, after `apt-get update`, and its version.
fn choose(apt: &Path) -> Result<((&'static str, &'static str), String)> {
    for directory in ["lists/partial", "cache/archives/partial"] {
        make_dir(&apt.join(directory))?;
    }
    run(apt_tool("apt-get", apt).args(["-qq", "update"]))?;
    let candidate = |package: &str| -> Option<String> {
        let policy = stdout(apt_tool("apt-cache", apt).args(["policy", package])).ok()?;
        let version = policy.lines().find_map(|line| line.trim().strip_prefix("Candidate: "))?;
        (version != "(none)").then(|| version.to_owned())
    };
    PAIRS
        .into_iter()
        .find_map(|pair| {
            let version = candidate(pair.0)?;
            (candidate(pair.1)? == version).then_some((pair, version))
        })
        .ok_or_else(|| refuse("apt offers no rustc together with the std source of the same version".into()))
}

/// Downloads the pair and what it needs beyond what is installed, and unpacks all into `tree`.
fn fetch(machine: &Machine, apt: &Path, pair: (&str, &str), tree: &Path) -> Result<()> {
    let plan =
        stdout(apt_tool("apt-get", apt).args(["-s", "-y", "--no-install-recommends", "install", pair.0, pair.1]))?;
    let mut packages: Vec<&str> =
        plan.lines().filter_map(|line| line.strip_prefix("Inst ")?.split_whitespace().next()).collect();
    for package in [pair.0, pair.1] {
        // Already installed: download it all the same.
        if !packages.contains(&package) {
            packages.push(package);
        }
    }
    let debs = apt.join("debs");
    std::fs::remove_dir_all(&debs).ok();
    make_dir(&debs)?;
    (machine.say)(&format!("fetching {}", packages.join(" ")));
    run(apt_tool("apt-get", apt).args(["-qq", "download"]).args(&packages).current_dir(&debs))?;
    make_dir(tree)?;
    for entry in std::fs::read_dir(&debs).map_err(ToolchainError::io(&debs))?.flatten() {
        let path = entry.path();
        if path.extension().is_some_and(|extension| extension == "deb") {
            run(Command::new("dpkg-deb").arg("-x").arg(&path).arg(tree))?;
        }
    }
    std::fs::remove_dir_all(&debs).ok();
    Ok(())
}

/// Debian's rustc has no RPATH: a script tells it where its libraries are.
fn write_wrapper(place: &Path, tree: &Path) -> Result<PathBuf> {
    use std::os::unix::fs::PermissionsExt;
    let libraries = std::fs::read_dir(tree.join("usr/lib"))
        .map_err(ToolchainError::io(tree.join("usr/lib")))?
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.to_string_lossy().ends_with("-linux-gnu"))
        .ok_or_else(|| refuse("the packages hold no usr/lib/*-linux-gnu".into()))?;
    let wrapper = place.join("rustc");
    let script = format!(
        "#!/bin/sh\nLD_LIBRARY_PATH='{}'${{LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}} exec '{}' \"$@\"\n",
        libraries.display(),
        tree.join("usr/bin/rustc").display()
    );
    std::fs::write(&wrapper, script).map_err(ToolchainError::io(&wrapper))?;
    std::fs::set_permissions(&wrapper, std::fs::Permissions::from_mode(0o755)).map_err(ToolchainError::io(&wrapper))?;
    Ok(wrapper)
}

fn build_std(machine: &Machine, place: &Path, tree: &Path, rustc: &Path, linker: &Path) -> Result<()> {
    let source = tree.join("usr/lib/rustlib/src/rust");
    let work = place.join("std-build");
    make_dir(&work.join("src"))?;
    std::fs::write(work.join("src/lib.rs"), "").map_err(ToolchainError::io(&work))?;
    std::fs::write(
        work.join("Cargo.toml"),
        "[package]\nname = 'stdbuild'\nversion = '0.0.0'\nedition = '2021'\n\n\
         [profile.release]\nopt-level = 's'\ndebug = 0\npanic = 'abort'\n\n[workspace]\n",
    )
    .map_err(ToolchainError::io(&work))?;
    (machine.say)(&format!("building std for {TARGET} (once, about a minute)"));
    let flags = format!("-Cembed-bitcode=yes\x1f--remap-path-prefix={}=/rustc/std", source.display());
    run(cargo()
        .args(["build", "--release", "--quiet", "-Zbuild-std=std,panic_abort", "--target", TARGET])
        .current_dir(&work)
        .env("RUSTC_BOOTSTRAP", "1")
        .env("RUSTC", rustc)
        .env("CARGO_TARGET_DIR", work.join("target"))
        .env("CARGO_ENCODED_RUSTFLAGS", flags)
        .env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER", linker))?;
    let libraries = tree.join("usr/lib/rustlib").join(TARGET).join("lib");
    let part = libraries.with_extension("part");
    make_dir(&part)?;
    let made = work.join("target").join(TARGET).join("release/deps");
    for entry in std::fs::read_dir(&made).map_err(ToolchainError::io(&made))?.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.ends_with(".rlib") && !name.contains("stdbuild") {
            std::fs::copy(entry.path(), part.join(&name)).map_err(ToolchainError::io(entry.path()))?;
        }
    }
    // has_std() looks here: whole or not at all.
    std::fs::rename(&part, &libraries).map_err(ToolchainError::io(&libraries))?;
    std::fs::remove_dir_all(&work).ok();
    // 430 MB of sources that nobody needs any more.
    std::fs::remove_dir_all(tree.join("usr/src")).ok();
    Ok(())
}
