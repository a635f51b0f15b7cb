//! JavaScript to component: componentize-js, which npm installs into the project once, as its package.json pins it.
use std::path::Path;
use std::process::Command;

use sha2::{Digest, Sha256};

use crate::command::{at_least, run};
use crate::error::{Result, ToolchainError};
use crate::machine::Machine;
use crate::sdk;

pub(crate) fn build(machine: &Machine, dir: &Path, entry: &str) -> Result<Vec<u8>> {
    let way = "Node.js comes from https://nodejs.org, or Debian: `apt-get install nodejs npm`";
    at_least("node", &["--version"], (20, 0), way)?;
    install(machine, dir)?;
    let source = dir.join(entry);
    if !source.is_file() {
        return Err(ToolchainError::Manifest {
            path: dir.join(crate::MANIFEST),
            line: None,
            reason: format!("there is no {entry}; `entry = \"FILE\"` names the module that exports `build`"),
        });
    }
    (machine.say)("making a component of JavaScript (some 15 s)");
    let out = dir.join(".rhost/js.wasm");
    let mut node = Command::new("node");
    node.arg("sdk/componentize.mjs").arg(entry).arg(&out).current_dir(dir).env_remove("NODE_OPTIONS");
    run(&mut node)?;
    std::fs::read(&out).map_err(ToolchainError::io(out))
}

/// Runs npm unless the packages are those that package.json asks for.
fn install(machine: &Machine, dir: &Path) -> Result<()> {
    let locked = dir.join("package-lock.json").exists();
    let mut wanted = Sha256::new();
    for file in ["package.json", "package-lock.json"] {
        wanted.update(std::fs::read(dir.join(file)).unwrap_or_default());
        wanted.update([0]);
    }
    let wanted = hex::encode(wanted.finalize());
    let mark = dir.join("node_modules/.rhost");
    if std::fs::read_to_string(&mark).is_ok_and(|found| found == wanted) {
        return Ok(());
    }
    (machine.say)("installing the packages of package.json with npm (once)");
    at_least("npm", &["--version"], (8, 0), "npm comes with Node.js; Debian: `apt-get install npm`")?;
    let mut npm = Command::new("npm");
    npm.args(if locked { &["ci"][..] } else { &["install", "--no-package-lock"] });
    npm.args(["--no-audit", "--no-fund", "--loglevel=error"]).current_dir(dir);
    run(&mut npm)?;
    sdk::put(&mark, wanted.as_bytes())
}
