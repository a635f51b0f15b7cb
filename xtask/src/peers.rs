//! Real clients and servers that tests talk to, compiled once into the user's cache, keyed by version.
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::setup::{self, run};

const BUILDKIT: &str = "v0.32.2";
const BUILDX: &str = "v0.36.1";
const CRANE: &str = "v0.22.1";
const WKG: &str = "0.16.1";
const ORAS: &str = "0.2.43";

/// oras of PyPI is a library: `oras-py push|pull REF FILE [CONFIG]` is its push and pull, over plain http.
const ORAS_PY: &str = r#"#!/bin/sh
exec env PYTHONPATH="$(dirname "$0")/lib" python3 -c '
import sys
from oras.client import OrasClient
verb, reference, path = sys.argv[1:4]
client = OrasClient(insecure=True)
if verb == "push":
    config = sys.argv[4] if len(sys.argv) > 4 else None
    client.push(target=reference, files=[path], manifest_config=config, disable_path_validation=True)
else:
    print(client.pull(target=reference, outdir=path)[0])
' "$@"
"#;

/// BuildKit's go.mod has excludes, which `go install pkg@version` refuses: a module of ours carries them.
const BUILDKIT_MODULE: &str = "module peers

go 1.26.3

require github.com/moby/buildkit v0.32.2

exclude github.com/davecgh/go-spew v1.1.2-0.20180830191138-d8f796af33cc

exclude github.com/pmezard/go-difflib v1.0.1-0.20181226105442-5d4384ee4fb2

tool (
\tgithub.com/moby/buildkit/cmd/buildctl
\tgithub.com/moby/buildkit/cmd/buildkitd
)
";

/// `$XDG_CACHE_HOME/rhost` or `~/.cache/rhost`.
pub fn cache() -> Result<PathBuf> {
    let base = match std::env::var_os("XDG_CACHE_HOME").filter(|v| !v.is_empty()) {
        Some(dir) => PathBuf::from(dir),
        None => {
            PathBuf::from(std::env::var_os("HOME").context("neither XDG_CACHE_HOME nor HOME is set")?).join(".cache")
        }
    };
    Ok(base.join("rhost"))
}

/// Builds what is missing and returns the directories to put on PATH.
pub fn all() -> Result<Vec<PathBuf>> {
    let peers = cache()?.join("peers");
    Ok(vec![
        once(&peers, &format!("buildkit-{BUILDKIT}"), buildkit)?,
        once(&peers, &format!("crane-{CRANE}"), |dir| {
            go_install(dir, &format!("github.com/google/go-containerregistry/cmd/crane@{CRANE}"))
        })?,
        once(&peers, &format!("buildx-{BUILDX}"), |dir| {
            go_install(dir, &format!("github.com/docker/buildx/cmd/buildx@{BUILDX}"))
        })?,
        once(&peers, &format!("wkg-{WKG}"), wkg)?,
        once(&peers, &format!("oras-{ORAS}"), oras)?,
    ])
}

/// Where [`all`] puts buildkitd and buildctl.
pub fn buildkit_directory() -> Result<PathBuf> {
    Ok(cache()?.join("peers").join(format!("buildkit-{BUILDKIT}")))
}

/// Runs `make` on a fresh directory and publishes it by rename, unless `name` is there already.
fn once(peers: &Path, name: &str, make: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
    let done = peers.join(name);
    if done.exists() {
        return Ok(done);
    }
    eprintln!("xtask: building {name} (once, into {})", peers.display());
    let partial = peers.join(format!(".{name}.{}", std::process::id()));
    fs::create_dir_all(&partial)?;
    make(&partial).with_context(|| format!("building {name}"))?;
    if let Err(error) = fs::rename(&partial, &done) {
        fs::remove_dir_all(&partial)?;
        if !done.exists() {
            return Err(error).with_context(|| format!("renaming to {}", done.display()));
        }
    }
    Ok(done)
}

fn buildkit(dir: &Path) -> Result<()> {
    let module = dir.join("module");
    fs::create_dir_all(&module)?;
    fs::write(module.join("go.mod"), BUILDKIT_MODULE)?;
    run(Command::new("go")
        .args(["build", "-mod=mod", "-o"])
        .arg(format!("{}/", dir.display()))
        .arg("tool")
        .current_dir(&module))?;
    fs::remove_dir_all(&module).context("removing the module")
}

fn go_install(dir: &Path, package: &str) -> Result<()> {
    run(Command::new("go").args(["install", package]).env("GOBIN", dir))
}

fn wkg(dir: &Path) -> Result<()> {
    // cargo puts binaries into `bin`, and its own notes beside it; what compiling leaves is half a gigabyte.
    let scratch = dir.join("scratch");
    let mut command = Command::new("cargo");
    command.args(["install", "--locked", "--quiet", "wkg", "--version", WKG, "--root"]).arg(dir);
    for name in ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "CARGO_BUILD_TARGET", "RUSTC_WRAPPER"] {
        command.env_remove(name);
    }
    run(command.env("CARGO_TARGET_DIR", &scratch))?;
    fs::rename(dir.join("bin/wkg"), dir.join("wkg"))?;
    fs::remove_dir_all(scratch).context("removing what compiling left")
}

fn oras(dir: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    let pip = |arguments: &[&str]| {
        let mut command = Command::new("python3");
        command.args(["-m", "pip"]).args(arguments);
        command
    };
    if !pip(&["--version"]).output().is_ok_and(|output| output.status.success()) {
        setup::install(&[("python3-pip", "/usr/bin/pip3")])?;
    }
    run(pip(&["install", "--quiet", "--disable-pip-version-check", "--root-user-action=ignore", "--target"])
        .arg(dir.join("lib"))
        .arg(format!("oras=={ORAS}")))?;
    let script = dir.join("oras-py");
    fs::write(&script, ORAS_PY)?;
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).context("making it executable")
}
