//! The jobs that put the others together: demo, test, build.
use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::setup::{self, run};
use crate::{order, peers, tidy, wasm};

/// Builds `tests/scenarios/demo` with rhost twice and runs the image.
pub fn demo() -> Result<()> {
    setup::install(setup::DEMO_PACKAGES)?;
    let binary = build()?;
    let path = path_with(&[])?;
    eprintln!("xtask: base images from Debian packages, served by a registry on loopback");
    let registry = rhost_kit::Registry::start()?;
    registry.push(&rhost_kit::busybox()?, "library/busybox:latest")?;
    registry.push(&rhost_kit::debian()?, "library/debian:bookworm")?;
    let host = rhost_kit::TestHost::with_binary(binary)?;
    host.mirror_docker_io(registry.address())?;
    let context = tests_dir().join("scenarios/demo");
    for round in ["first", "second"] {
        eprintln!("\n$ rhost build -t wordfreq {}    # the {round} time", context.display());
        run(host.command(["build", "-t", "wordfreq", "--progress", "plain"]).arg(&context))?;
    }
    eprintln!("\n$ rhost images");
    run(&mut host.command(["images"]))?;
    let archive = host.dir().join("wordfreq.tar");
    run(host.command(["save", "--format", "oci", "-o"]).arg(&archive).arg("wordfreq"))?;
    run_image(&archive, host.dir(), &path)
}

/// Runs the image of an OCI archive: skopeo and umoci lay it out, runc runs it, in a user namespace where we are no root.
fn run_image(archive: &Path, work: &Path, path: &OsStr) -> Result<()> {
    let (layout, bundle) = (work.join("layout"), work.join("bundle"));
    let tool = |name: &str| {
        let mut command = Command::new(name);
        command.env("PATH", path);
        command
    };
    let from = format!("oci-archive:{}", archive.display());
    run(tool("skopeo").args(["copy", "--quiet", &from, &format!("oci:{}:demo", layout.display())]))?;
    let rootless = !rhost_kit::is_root();
    let mut unpack = tool("umoci");
    unpack.args(["unpack", "--image", &format!("{}:demo", layout.display())]);
    if rootless {
        unpack.arg("--rootless");
    }
    run(unpack.arg(&bundle))?;
    let file = bundle.join("config.json");
    let mut config: serde_json::Value = serde_json::from_slice(&fs::read(&file)?)?;
    config["process"]["terminal"] = false.into();
    fs::write(&file, serde_json::to_vec(&config)?)?;
    eprintln!("\n$ runc run demo    # the image, outside rhost");
    run(tool("runc")
        .arg("--root")
        .arg(work.join("runc"))
        .args(["run", "--bundle"])
        .arg(&bundle)
        .arg(format!("demo-{}", std::process::id())))
}

fn tests_dir() -> PathBuf {
    tidy::root().join("tests")
}

/// Sets up what is missing and runs every test; `filters` go to `cargo test`.
pub fn test(filters: &[String]) -> Result<()> {
    setup::install(setup::TEST_PACKAGES)?;
    let path = path_with(&peers::all()?)?;
    wasm::guests()?;
    wasm::projects()?;
    tidy::run()?;
    let binary = build_cli("dev")?;
    run(cargo()
        .args(["test", "--workspace", "--no-fail-fast"])
        .args(filters)
        .current_dir(tidy::root())
        .env("PATH", path)
        .env("RHOST_TEST_BINARY", binary))
}

/// Builds the release binary with the stock frontend inside; returns its path.
pub fn build() -> Result<PathBuf> {
    wasm::guests()?;
    let binary = build_cli("release")?;
    println!("{}", binary.display());
    Ok(binary)
}

/// Builds the cli with the stock frontend's component and the machine code of it inside. Code is made by the binary itself, so a first build has
/// none of it and a second one, of the cli alone, takes it in. That one also has its functions in order, where it is a release.
fn build_cli(profile: &str) -> Result<PathBuf> {
    let component = tidy::root().join("target/guests/dockerfile.wasm");
    let code = component.with_extension("code");
    let (directory, release) = (if profile == "dev" { "debug" } else { profile }, profile == "release");
    let binary = target().join(directory).join("rhost");
    let functions = target().join(directory).join("function-order.txt");
    let build = || {
        let mut command = cargo();
        command.args(["build", "--profile", profile, "--package", "rhost-cli"]).current_dir(tidy::root());
        if release {
            command.args(["--config", order::MANGLING]);
        }
        if release && functions.exists() {
            command.env(order::VARIABLE, &functions);
        }
        run(&mut command)
    };
    build()?;
    // Says 0 if the code that is inside fits.
    let fits = run(Command::new(&binary).arg("__embedded-code")).is_ok();
    if !fits {
        run(Command::new(&binary).arg("__embedded-code").arg(&component).arg(&code))?;
        // What cargo watches.
        fs::File::options().append(true).open(&component)?.set_modified(std::time::SystemTime::now())?;
    }
    if (release && order::write(&binary, &functions)?) || !fits {
        build()?;
    }
    Ok(binary)
}

/// Times rhost against BuildKit; `arguments` are names of cases, `--repeats N`, and `--write` for docs/benchmarks.md.
pub fn bench(arguments: &[String]) -> Result<()> {
    setup::install(setup::DEMO_PACKAGES)?;
    let path = path_with(&peers::all()?)?;
    let binary = build()?;
    let mut command = cargo();
    command.args(["run", "--quiet", "--package", "rhost-bench", "--", "--rhost"]).arg(binary);
    command.arg("--buildkit").arg(peers::buildkit_directory()?);
    for argument in arguments {
        command.arg(argument);
        if argument == "--write" {
            command.arg(tidy::root().join("docs/benchmarks.md"));
        }
    }
    run(command.current_dir(tidy::root()).env("PATH", path))
}

/// Where cargo builds: `CARGO_TARGET_DIR`, else `target` in the checkout.
fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| tidy::root().join("target"), |dir| tidy::root().join(dir))
}

/// Kills builds at random points; the arguments are how many, and a seed.
pub fn torture(arguments: &[String]) -> Result<()> {
    setup::install(setup::DEMO_PACKAGES)?;
    let number = |index: usize, otherwise: u64| {
        arguments
            .get(index)
            .map_or(Ok(otherwise), |text| text.parse().with_context(|| format!("`{text}` is no number")))
    };
    let binary = build()?;
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?;
    let (rounds, seed) = (number(0, 1000)?, number(1, now.as_secs())?);
    let begun = std::time::Instant::now();
    let mut torture = rhost_kit::Torture::new(rhost_kit::TestHost::with_binary(binary)?, seed)?;
    eprintln!("xtask: {rounds} rounds, seed {seed}");
    for round in 1..=rounds {
        torture.round()?;
        if round % 100 == 0 {
            eprintln!("xtask: {round} rounds, {:.0} s", begun.elapsed().as_secs_f64());
        }
    }
    torture.finish()?;
    eprintln!("xtask: nothing lost in {rounds} rounds, {:.0} s", begun.elapsed().as_secs_f64());
    Ok(())
}

fn path_with(directories: &[PathBuf]) -> Result<OsString> {
    let old = std::env::var_os("PATH").unwrap_or_default();
    let all = directories
        .iter()
        .cloned()
        .chain(std::env::split_paths(&old))
        .chain([PathBuf::from("/usr/sbin"), PathBuf::from("/sbin")]);
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
