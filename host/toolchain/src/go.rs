//! Go to component: an ordinary `go build` for `wasip1`, and an adapter inside the component that answers what Go wants of WASI: a clock that
//! counts readings, a fixed seed, no files. Nothing of it leaves the component.
use std::path::Path;
use std::process::Command;

use crate::command::{at_least, run};
use crate::component;
use crate::error::{Result, ToolchainError};
use crate::machine::Machine;

pub(crate) fn build(machine: &Machine, dir: &Path) -> Result<Vec<u8>> {
    at_least("go", &["version"], (1, 24), "Go comes from https://go.dev/dl, or Debian's backports: golang-go")?;
    (machine.say)("compiling with go");
    let core = dir.join(".rhost").join("core.wasm");
    let mut command = Command::new("go");
    command
        // `checklinkname=0`: the bindings allocate before Go's runtime has started, by a function that only it may use otherwise.
        .args(["build", "-trimpath", "-buildvcs=false", "-buildmode=c-shared", "-ldflags=-w -checklinkname=0", "-o"])
        .arg(&core)
        .arg(".")
        .current_dir(dir)
        .env("GOOS", "wasip1")
        .env("GOARCH", "wasm")
        .env("CGO_ENABLED", "0")
        .env("GOWORK", "off")
        .env("GOTOOLCHAIN", "local")
        .env_remove("GOFLAGS")
        .env_remove("GOWASM");
    run(&mut command)?;
    if !core.exists() {
        return Err(ToolchainError::Component {
            path: core,
            reason: "go build made nothing: is this `package main`?".into(),
        });
    }
    component::encode_go(&core)
}
