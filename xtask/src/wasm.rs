//! The WASM guests: find or make a toolchain for `wasm32-unknown-unknown`, build the crates, make components of them.
//!
//! rustup's `wasm32-unknown-unknown` is the easy case. Where it cannot be had, Debian's `rustc-web` with its matching std
//! source is fetched as a plain user, unpacked beside nothing else, and std is built with it once. The order is in
//! [`find_toolchain`]; `RHOST_WASM=installed|private|rustup|build-std|debian` forces one way.
mod component;
mod debian;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

const TARGET: &str = "wasm32-unknown-unknown";

/// The guests that are built: (package, name of the component).
const GUESTS: &[(&str, &str)] = &[("rhost-dockerfile", "dockerfile"), ("rhost-lines", "lines")];

/// Where std for the target comes from.
#[derive(Debug)]
enum Toolchain {
    /// It is installed beside the ordinary rustc.
    Installed,
    /// rust-src is installed: cargo builds std in each target directory.
    BuildStd,
    /// A private rustc whose sysroot holds the std that we built.
    Private { rustc: PathBuf, linker: PathBuf },
}

/// Builds every guest into `target/guests/*.wasm` and returns the components' paths.
pub fn guests() -> Result<Vec<PathBuf>> {
    let toolchain = find_toolchain()?;
    let out = root().join("target/guests");
    std::fs::create_dir_all(&out)?;
    let mut made = Vec::new();
    for (package, name) in GUESTS {
        build(&toolchain, package, &out)?;
        let core = out.join(TARGET).join("guest").join(format!("{}.wasm", package.replace('-', "_")));
        let component = out.join(format!("{name}.wasm"));
        component::encode(&core, &component).with_context(|| format!("making a component of {package}"))?;
        made.push(component);
    }
    Ok(made)
}

/// Says which toolchain the guests are built with, making it if need be.
pub fn describe_toolchain() -> Result<()> {
    match find_toolchain()? {
        Toolchain::Installed => println!("std for {TARGET} beside the ordinary rustc"),
        Toolchain::BuildStd => println!("std for {TARGET} built by cargo from the installed rust-src"),
        Toolchain::Private { rustc, .. } => println!("private toolchain: {}", rustc.display()),
    }
    Ok(())
}

fn build(toolchain: &Toolchain, package: &str, target_dir: &Path) -> Result<()> {
    let cargo_home = match std::env::var_os("CARGO_HOME") {
        Some(home) => PathBuf::from(home),
        None => PathBuf::from(std::env::var_os("HOME").context("neither CARGO_HOME nor HOME is set")?).join(".cargo"),
    };
    // Without the remapping a component would hold this machine's paths and differ from place to place.
    let flags = format!(
        "--remap-path-prefix={}=/cargo\x1f--remap-path-prefix={}=/rhost",
        cargo_home.join("registry/src").display(),
        root().display()
    );
    let mut command = cargo();
    command
        .args(["build", "--quiet", "--profile", "guest", "--target", TARGET, "--package", package, "--lib"])
        .current_dir(root())
        .env("CARGO_TARGET_DIR", target_dir)
        .env("CARGO_ENCODED_RUSTFLAGS", flags);
    match toolchain {
        Toolchain::Installed => {}
        Toolchain::BuildStd => {
            command.arg("-Zbuild-std=std,panic_abort").env("RUSTC_BOOTSTRAP", "1");
        }
        Toolchain::Private { rustc, linker } => {
            command.env("RUSTC", rustc).env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER", linker);
        }
    }
    run(&mut command)
}

/// The first that is there: installed std; the private toolchain; rustup, if `RHOST_WASM_ALLOW_RUSTUP` is set, since that
/// alters the user's toolchain; rust-src; Debian's packages.
fn find_toolchain() -> Result<Toolchain> {
    let want = std::env::var("RHOST_WASM").unwrap_or_else(|_| "auto".into());
    let tries = |way: &str| want == "auto" || want == way;
    if tries("installed") && has_std(Path::new("rustc")) {
        return Ok(Toolchain::Installed);
    }
    if (tries("private") || want == "debian")
        && let Some(private) = debian::cached()?
    {
        return Ok(private);
    }
    if want == "rustup" || (want == "auto" && std::env::var_os("RHOST_WASM_ALLOW_RUSTUP").is_some()) {
        // rustup retries for long when its server cannot be reached.
        let added = Command::new("timeout")
            .args(["60", "rustup", "target", "add", TARGET])
            .env("RUSTUP_MAX_RETRIES", "0")
            .stdout(Stdio::null())
            .status()
            .is_ok_and(|status| status.success());
        if added && has_std(Path::new("rustc")) {
            return Ok(Toolchain::Installed);
        }
    }
    if tries("build-std") {
        let sysroot = stdout(Command::new("rustc").args(["--print", "sysroot"]).current_dir(root()))?;
        if Path::new(&sysroot).join("lib/rustlib/src/rust/library/Cargo.lock").exists() {
            return Ok(Toolchain::BuildStd);
        }
    }
    if tries("debian") {
        return debian::make();
    }
    bail!(
        "no std for {TARGET} ({want} was tried). Any of these will do: `rustup target add {TARGET}`; `rustup component add rust-src`; \
         on Debian an apt mirror that has rustc-web and rust-web-src"
    )
}

/// Whether this rustc has std for the target.
fn has_std(rustc: &Path) -> bool {
    let mut command = Command::new(rustc);
    command.args(["--print", "target-libdir", "--target", TARGET]).current_dir(root());
    let Ok(directory) = stdout(&mut command) else { return false };
    std::fs::read_dir(directory).is_ok_and(|entries| {
        entries.flatten().any(|entry| {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            name.starts_with("libstd-") && name.ends_with(".rlib")
        })
    })
}

/// A linker for wasm: rust-lld of the ordinary toolchain, else an installed wasm-ld.
fn linker() -> Result<PathBuf> {
    let sysroot = stdout(Command::new("rustc").args(["--print", "sysroot"]).current_dir(root()))?;
    let version = stdout(Command::new("rustc").arg("-vV").current_dir(root()))?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: ")).context("rustc -vV names no host")?;
    let lld = Path::new(&sysroot).join("lib/rustlib").join(host).join("bin/rust-lld");
    if lld.exists() {
        return Ok(lld);
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .map(|directory| directory.join("wasm-ld"))
        .find(|candidate| candidate.exists())
        .context("no linker for WASM: rust-lld is not in the Rust toolchain and wasm-ld is not in PATH (Debian: `apt-get install lld`)")
}

/// A cargo into which nothing of the cargo that runs us leaks.
fn cargo() -> Command {
    let mut command = Command::new("cargo");
    for name in
        ["RUSTC", "RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "CARGO_BUILD_TARGET", "RUSTC_WRAPPER", "CARGO_TARGET_DIR"]
    {
        command.env_remove(name);
    }
    command
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies in the workspace").to_path_buf()
}

fn stdout(command: &mut Command) -> Result<String> {
    let output = command.stderr(Stdio::null()).output().with_context(|| format!("running {command:?}"))?;
    ensure!(output.status.success(), "{command:?}: {}", output.status);
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

fn run(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("running {command:?}"))?;
    ensure!(status.success(), "{command:?}: {status}");
    Ok(())
}
