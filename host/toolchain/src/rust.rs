//! Rust to component: find or make a toolchain for `wasm32-unknown-unknown`, run cargo, encode what it made.
//!
//! rustup's target is the easy case. Where it cannot be had, Debian's `rustc-web` with its matching std source is fetched as a plain user, unpacked
//! beside nothing else, and std is built with it once; that takes a permission, since it is half a gigabyte.
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::command::{cargo, machine_stdout, stdout};
use crate::debian;
use crate::error::{Result, ToolchainError};
use crate::machine::Machine;

/// What guests are compiled for: no operating system at all.
pub const TARGET: &str = "wasm32-unknown-unknown";

/// Ways to a toolchain that [`Machine::way`] may name beside `auto`.
pub const WASM_WAYS: [&str; 5] = ["installed", "private", "rustup", "build-std", "debian"];

/// Where std for the target comes from.
#[derive(Debug)]
pub enum Toolchain {
    /// It is installed beside the ordinary rustc.
    Installed,
    /// rust-src is installed: cargo builds std in each target directory.
    BuildStd,
    /// A private rustc whose sysroot holds the std that was built for it.
    Private {
        /// The compiler.
        rustc: PathBuf,
        /// The linker.
        linker: PathBuf,
    },
}

impl std::fmt::Display for Toolchain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Installed => write!(f, "std for {TARGET} beside the ordinary rustc"),
            Self::BuildStd => write!(f, "std for {TARGET} built by cargo from the installed rust-src"),
            Self::Private { rustc, .. } => write!(f, "private toolchain: {}", rustc.display()),
        }
    }
}

impl Toolchain {
    /// The first that is there: installed std; the private toolchain; rustup, if it may be altered; rust-src; Debian's packages, if they may be fetched.
    /// `dir` is where the ordinary toolchain is asked, since rustup chooses one by directory.
    ///
    /// # Errors
    /// None of them is there, with the ways to get one.
    pub fn find(machine: &Machine, dir: &Path) -> Result<Self> {
        let want = machine.way.as_str();
        let tries = |way: &str| want == "auto" || want == way;
        if tries("installed") && has_std(Path::new("rustc"), dir) {
            return Ok(Self::Installed);
        }
        if (tries("private") || want == "debian")
            && let Some(private) = debian::cached(machine, dir)?
        {
            return Ok(private);
        }
        if want == "rustup" || (want == "auto" && machine.may_alter_rustup) {
            // rustup retries for long when its server cannot be reached.
            let mut add = Command::new("timeout");
            add.args(["60", "rustup", "target", "add", TARGET]).env("RUSTUP_MAX_RETRIES", "0").current_dir(dir);
            if stdout(&mut add).is_ok() && has_std(Path::new("rustc"), dir) {
                return Ok(Self::Installed);
            }
        }
        if tries("build-std") {
            let sysroot = stdout(Command::new("rustc").args(["--print", "sysroot"]).current_dir(dir))?;
            if Path::new(&sysroot).join("lib/rustlib/src/rust/library/Cargo.lock").exists() {
                return Ok(Self::BuildStd);
            }
        }
        if want == "debian" || (want == "auto" && machine.may_fetch) {
            return debian::make(machine, dir);
        }
        Err(ToolchainError::Missing {
            tool: format!("Rust's standard library for {TARGET}"),
            reason: format!("looked for it beside rustc, in {} and in rust-src", machine.toolchains.display()),
            way: format!(
                "`rustup target add {TARGET}`, or `rustup component add rust-src`; on Debian `--fetch-toolchain` makes a private one of Debian's packages (500 MB, two minutes)"
            ),
        })
    }

    /// Makes a cargo command build for the target with this toolchain.
    pub fn prepare<'c>(&self, command: &'c mut Command) -> &'c mut Command {
        match self {
            Self::Installed => command,
            Self::BuildStd => command.arg("-Zbuild-std=std,panic_abort").env("RUSTC_BOOTSTRAP", "1"),
            Self::Private { rustc, linker } => {
                command.env("RUSTC", rustc).env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER", linker)
            }
        }
    }
}

/// Flags without which a component would hold this machine's paths and differ from place to place, as `CARGO_ENCODED_RUSTFLAGS` wants them.
pub fn remap_flags(machine: &Machine, project: &Path, name: &str) -> String {
    format!(
        "--remap-path-prefix={}=/cargo\x1f--remap-path-prefix={}=/{name}",
        machine.cargo_home.join("registry/src").display(),
        project.display()
    )
}

/// Runs cargo in the project's directory, and gives the core module.
pub(crate) fn build(machine: &Machine, dir: &Path, name: &str) -> Result<PathBuf> {
    let way = "Rust comes with rustup: https://rustup.rs";
    crate::command::at_least("cargo", &["--version"], (1, 85), way)?;
    let toolchain = Toolchain::find(machine, dir)?;
    let mut command = cargo();
    command
        .args(["build", "--release", "--lib", "--target", TARGET, "--message-format=json-render-diagnostics"])
        .current_dir(dir)
        .env("CARGO_ENCODED_RUSTFLAGS", remap_flags(machine, dir, name));
    let messages = machine_stdout(toolchain.prepare(&mut command))?;
    // The last library that cargo names is the package's own.
    let module = messages.lines().filter_map(module_of).next_back();
    module.ok_or_else(|| ToolchainError::Component {
        path: dir.join("Cargo.toml"),
        reason: "cargo made no .wasm: the package needs `crate-type = [\"cdylib\"]` under [lib]".into(),
    })
}

/// The module that a message of cargo's tells of.
fn module_of(message: &str) -> Option<PathBuf> {
    let message: serde_json::Value = serde_json::from_str(message).ok()?;
    if message["reason"] != "compiler-artifact" {
        return None;
    }
    let files = message["filenames"].as_array()?;
    files.iter().filter_map(|file| file.as_str()).find(|file| file.ends_with(".wasm")).map(PathBuf::from)
}

/// Whether this rustc has std for the target.
pub(crate) fn has_std(rustc: &Path, dir: &Path) -> bool {
    let mut command = Command::new(rustc);
    command.args(["--print", "target-libdir", "--target", TARGET]).current_dir(dir);
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
pub(crate) fn linker(dir: &Path) -> Result<PathBuf> {
    let sysroot = stdout(Command::new("rustc").args(["--print", "sysroot"]).current_dir(dir))?;
    let version = stdout(Command::new("rustc").arg("-vV").current_dir(dir))?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: ")).unwrap_or_default();
    let lld = Path::new(&sysroot).join("lib/rustlib").join(host).join("bin/rust-lld");
    if lld.exists() {
        return Ok(lld);
    }
    match stdout(Command::new("which").arg("wasm-ld")) {
        Ok(path) if !path.is_empty() => Ok(path.into()),
        _ => Err(ToolchainError::Missing {
            tool: "a linker for WebAssembly".into(),
            reason: "rust-lld is not in the Rust toolchain and wasm-ld is not in PATH".into(),
            way: "Debian: `apt-get install lld`".into(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_module_is_found_in_cargos_messages() {
        let message = r#"{"reason":"compiler-artifact","filenames":["/t/liba.rlib","/t/a.wasm"]}"#;
        assert_eq!(module_of(message), Some("/t/a.wasm".into()));
        assert_eq!(module_of(r#"{"reason":"compiler-artifact","filenames":["/t/a.rlib"]}"#), None);
        assert_eq!(module_of("warning: no JSON"), None);
    }
}
