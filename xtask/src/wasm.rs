//! The WASM guests of this repository, built into `target/guests/`. How is `rhost-toolchain`'s to know; here stands which, and what the environment allows.
//!
//! `RHOST_WASM=installed|private|rustup|build-std|debian` forces one way to a toolchain; `RHOST_WASM_ALLOW_RUSTUP` allows to alter rustup's.
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use rhost_toolchain::{Machine, Project, Sdk, TARGET, Toolchain, ToolchainError};

use crate::{peers, setup};

/// The guests that are crates of the workspace: (package, name of the component).
const GUESTS: &[(&str, &str)] =
    &[("rhost-dockerfile", "dockerfile"), ("rhost-dockerfile-plus", "dockerfile-plus"), ("rhost-lines", "lines")];

/// Builds every guest into `target/guests/*.wasm` and returns the components' paths.
pub fn guests() -> Result<Vec<PathBuf>> {
    let machine = machine()?;
    let toolchain = Toolchain::find(&machine, &root()).map_err(with_hint)?;
    let out = root().join("target/guests");
    std::fs::create_dir_all(&out)?;
    let mut made = Vec::new();
    for (package, name) in GUESTS {
        build(&machine, &toolchain, package, &out)?;
        let core = out.join(TARGET).join("guest").join(format!("{}.wasm", package.replace('-', "_")));
        let component = rhost_toolchain::encode(&core).with_context(|| format!("making a component of {package}"))?;
        let path = out.join(format!("{name}.wasm"));
        let part = path.with_extension("part");
        std::fs::write(&part, &component)?;
        std::fs::rename(&part, &path)?;
        eprintln!("xtask: {} ({} bytes)", path.display(), component.len());
        made.push(path);
    }
    Ok(made)
}

/// The guests that are projects with a `frontend.toml`: (directory, name of the component).
const PROJECTS: &[(&str, &str)] = &[
    ("tests/guests/samples/rust", "samples-rust"),
    ("tests/guests/samples/js", "samples-js"),
    ("tests/guests/samples/python", "samples-python"),
    ("tests/guests/samples/go", "samples-go"),
    ("frontends/script-js", "script-js"),
    ("frontends/script-python", "script-python"),
    ("frontends/go-hello", "go-hello"),
];

/// Builds the guests in other languages, and the samples, into `target/guests/*.wasm`. Components of the same inputs come from the user's cache.
pub fn projects() -> Result<()> {
    let machine = machine()?;
    let out = root().join("target/guests");
    let cache = peers::cache()?.join("guests");
    std::fs::create_dir_all(&out)?;
    std::fs::create_dir_all(&cache)?;
    for (dir, name) in PROJECTS {
        let project = Project::open(&root().join(dir))?;
        let kept = cache.join(format!("{}-{name}.wasm", project.inputs()?));
        if !kept.exists() {
            eprintln!("xtask: building {dir} (once, into {})", cache.display());
            let built = match project.build(&machine, None, Sdk::Update) {
                // The tests that want it say so, and fail where nothing may be missing.
                Err(error @ ToolchainError::Missing { .. }) => {
                    eprintln!("xtask: SKIP {dir}: {}", with_hint(error));
                    continue;
                }
                built => built.map_err(with_hint)?,
            };
            copy(&built.path, &kept)?;
        }
        copy(&kept, &out.join(format!("{name}.wasm")))?;
    }
    Ok(())
}

/// Copies a file, whole or not at all.
fn copy(from: &Path, to: &Path) -> Result<()> {
    let part = to.with_extension(format!("part{}", std::process::id()));
    std::fs::copy(from, &part).with_context(|| format!("copying {}", from.display()))?;
    std::fs::rename(&part, to).with_context(|| format!("writing {}", to.display()))
}

/// Says which toolchain the guests are built with, making it if need be.
pub fn describe_toolchain() -> Result<()> {
    println!("{}", Toolchain::find(&machine()?, &root()).map_err(with_hint)?);
    Ok(())
}

/// This machine, on which what is missing may be fetched.
fn machine() -> Result<Machine<'static>> {
    let cargo_home = match std::env::var_os("CARGO_HOME") {
        Some(home) => PathBuf::from(home),
        None => PathBuf::from(std::env::var_os("HOME").context("neither CARGO_HOME nor HOME is set")?).join(".cargo"),
    };
    Ok(Machine {
        cargo_home,
        toolchains: peers::cache()?.join("wasm-toolchain"),
        way: std::env::var("RHOST_WASM").unwrap_or_else(|_| "auto".into()),
        may_alter_rustup: std::env::var_os("RHOST_WASM_ALLOW_RUSTUP").is_some(),
        may_fetch: true,
        say: &|line| eprintln!("xtask: {line}"),
    })
}

fn with_hint(error: ToolchainError) -> anyhow::Error {
    let hint = error.hint().map(|hint| format!("; {hint}")).unwrap_or_default();
    anyhow::anyhow!("{error}{hint}")
}

fn build(machine: &Machine, toolchain: &Toolchain, package: &str, target_dir: &Path) -> Result<()> {
    let mut command = Command::new("cargo");
    for name in
        ["RUSTC", "RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "CARGO_BUILD_TARGET", "RUSTC_WRAPPER", "CARGO_TARGET_DIR"]
    {
        command.env_remove(name);
    }
    command
        .args(["build", "--quiet", "--profile", "guest", "--target", TARGET, "--package", package, "--lib"])
        .current_dir(root())
        .env("CARGO_TARGET_DIR", target_dir)
        .env("CARGO_ENCODED_RUSTFLAGS", rhost_toolchain::remap_flags(machine, &root(), "rhost"));
    setup::run(toolchain.prepare(&mut command))
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies in the workspace").to_path_buf()
}
