//! The jobs that put the others together: demo, test, build, bench.
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use crate::setup::{self, run};
use crate::{peers, tidy, wasm};

/// Sets up what is missing and runs every test; `filters` go to `cargo test`.
pub fn test(filters: &[String]) -> Result<()> {
    setup::install(setup::TEST_PACKAGES)?;
    let path = path_with(&peers::all()?)?;
    wasm::guests()?;
    tidy::run()?;
    run(cargo().args(["build", "--package", "rhost-cli"]).current_dir(tidy::root()))?;
    run(cargo()
        .args(["test", "--workspace", "--no-fail-fast"])
        .args(filters)
        .current_dir(tidy::root())
        .env("PATH", path)
        .env("RHOST_TEST_BINARY", tidy::root().join("target/debug/rhost")))
}

/// Builds the release binary with the stock frontend inside; returns its path.
pub fn build() -> Result<PathBuf> {
    wasm::guests()?;
    run(cargo().args(["build", "--release", "--package", "rhost-cli"]).current_dir(tidy::root()))?;
    let binary = tidy::root().join("target/release/rhost");
    println!("{}", binary.display());
    Ok(binary)
}

fn path_with(directories: &[PathBuf]) -> Result<OsString> {
    let old = std::env::var_os("PATH").unwrap_or_default();
    let all = directories.iter().cloned().chain(std::env::split_paths(&old)).chain([PathBuf::from("/usr/sbin"), PathBuf::from("/sbin")]);
    std::env::join_paths(all).context("putting the peers on PATH")
}

/// A cargo that does not inherit what cargo set for xtask itself.
fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(|n| n.starts_with("CARGO_PKG_") || n.starts_with("CARGO_MANIFEST_")) {
            command.env_remove(name);
        }
    }
    command
}
