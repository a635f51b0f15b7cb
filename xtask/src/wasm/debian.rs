//! The private toolchain: Debian's rustc and the std source of the same version, unpacked and never installed, with std for
//! wasm built into its sysroot once. About 500 MB under the user's cache directory.
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use super::{TARGET, Toolchain, cargo, has_std, linker, run, stdout};

/// Pairs of a compiler and its own std source, the better first. A std of another version does not work.
const PAIRS: [(&str, &str); 2] = [("rustc-web", "rust-web-src"), ("rustc", "rust-src")];

/// The toolchain made before, if it is whole.
pub fn cached() -> Result<Option<Toolchain>> {
    let Ok(entries) = std::fs::read_dir(home()?) else { return Ok(None) };
    let mut wrappers: Vec<PathBuf> =
        entries.flatten().map(|entry| entry.path().join("rustc")).filter(|path| path.exists()).collect();
    wrappers.sort();
    match wrappers.into_iter().rev().find(|wrapper| has_std(wrapper)) {
        Some(rustc) => Ok(Some(Toolchain::Private { rustc, linker: linker()? })),
        None => Ok(None),
    }
}

/// Fetches, unpacks and builds. Needs no root: apt keeps its lists and archives in our directory.
pub fn make() -> Result<Toolchain> {
    let linker = linker()?;
    let home = home()?;
    std::fs::create_dir_all(&home)?;
    let apt = home.join("apt");
    let (pair, version) = choose(&apt)?;
    let place = home.join(format!("{}-{}", pair.0, version.replace(':', "_")));
    let tree = place.join("tree");
    if place.exists() {
        // Left by a run that was cut off: has_std() has said no to it.
        std::fs::remove_dir_all(&place)?;
    }
    fetch(&apt, pair, &tree)?;
    let rustc = write_wrapper(&place, &tree)?;
    build_std(&place, &tree, &rustc, &linker)?;
    ensure!(has_std(&rustc), "std for {TARGET} was built, but {} does not see it", rustc.display());
    std::fs::remove_dir_all(&apt).ok();
    Ok(Toolchain::Private { rustc, linker })
}

fn home() -> Result<PathBuf> {
    let cache = match std::env::var_os("XDG_CACHE_HOME").filter(|value| !value.is_empty()) {
        Some(cache) => PathBuf::from(cache),
        None => {
            PathBuf::from(std::env::var_os("HOME").context("neither XDG_CACHE_HOME nor HOME is set")?).join(".cache")
        }
    };
    Ok(cache.join("rhost/wasm-toolchain"))
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
        std::fs::create_dir_all(apt.join(directory))?;
    }
    run(apt_tool("apt-get", apt).args(["-qq", "update"]).stdout(Stdio::null()).stderr(Stdio::null()))
        .context("apt-get update: is a Debian mirror within reach?")?;
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
        .context(
            "apt offers no rustc together with the std source of the same version (wanted: rustc-web and rust-web-src)",
        )
}

/// Downloads the pair and what it needs beyond what is installed, and unpacks all into `tree`.
fn fetch(apt: &Path, pair: (&str, &str), tree: &Path) -> Result<()> {
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
    std::fs::create_dir_all(&debs)?;
    eprintln!("xtask: fetching {}", packages.join(" "));
    run(apt_tool("apt-get", apt).args(["-qq", "download"]).args(&packages).current_dir(&debs).stdout(Stdio::null()))?;
    std::fs::create_dir_all(tree)?;
    for entry in std::fs::read_dir(&debs)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "deb") {
            run(Command::new("dpkg-deb").arg("-x").arg(&path).arg(tree))?;
        }
    }
    std::fs::remove_dir_all(&debs)?;
    Ok(())
}

/// Debian's rustc has no RPATH: a script tells it where its libraries are.
fn write_wrapper(place: &Path, tree: &Path) -> Result<PathBuf> {
    use std::os::unix::fs::PermissionsExt;
    let libraries = std::fs::read_dir(tree.join("usr/lib"))?
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.to_string_lossy().ends_with("-linux-gnu"))
        .context("the packages hold no usr/lib/*-linux-gnu")?;
    let wrapper = place.join("rustc");
    let script = format!(
        "#!/bin/sh\nLD_LIBRARY_PATH='{}'${{LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}} exec '{}' \"$@\"\n",
        libraries.display(),
        tree.join("usr/bin/rustc").display()
    );
    std::fs::write(&wrapper, script)?;
    std::fs::set_permissions(&wrapper, std::fs::Permissions::from_mode(0o755))?;
    Ok(wrapper)
}

fn build_std(place: &Path, tree: &Path, rustc: &Path, linker: &Path) -> Result<()> {
    let source = tree.join("usr/lib/rustlib/src/rust");
    let work = place.join("std-build");
    std::fs::create_dir_all(work.join("src"))?;
    std::fs::write(work.join("src/lib.rs"), "")?;
    std::fs::write(
        work.join("Cargo.toml"),
        "[package]\nname = 'stdbuild'\nversion = '0.0.0'\nedition = '2021'\n\n\
         [profile.release]\nopt-level = 's'\ndebug = 0\npanic = 'abort'\n\n[workspace]\n",
    )?;
    eprintln!("xtask: building std for {TARGET} (once, about a minute)");
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
    std::fs::create_dir_all(&part)?;
    for entry in std::fs::read_dir(work.join("target").join(TARGET).join("release/deps"))? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.ends_with(".rlib") && !name.contains("stdbuild") {
            std::fs::copy(entry.path(), part.join(&name))?;
        }
    }
    // has_std() looks here: whole or not at all.
    std::fs::rename(&part, &libraries)?;
    std::fs::remove_dir_all(&work)?;
    // 430 MB of sources that nobody needs any more.
    std::fs::remove_dir_all(tree.join("usr/src")).ok();
    Ok(())
}
