//! Python to component: componentize-py, which pip installs into an environment of the project's own once, as its requirements.txt pins it.
use std::path::Path;
use std::process::Command;

use sha2::{Digest, Sha256};

use crate::command::{at_least, run};
use crate::error::{Result, ToolchainError};
use crate::machine::Machine;
use crate::sdk;

pub(crate) fn build(machine: &Machine, dir: &Path, entry: &str) -> Result<Vec<u8>> {
    at_least("python3", &["--version"], (3, 10), "Debian: `apt-get install python3 python3-venv`")?;
    let tools = dir.join(".rhost/python");
    install(machine, dir, &tools)?;
    let source = dir.join("src");
    let module = source.join(entry.replace('.', "/"));
    if !module.with_extension("py").is_file() && !module.join("__init__.py").is_file() {
        return Err(ToolchainError::Manifest {
            path: dir.join(crate::MANIFEST),
            line: None,
            reason: format!(
                "there is no src/{entry}.py; `entry = \"NAME\"` names the module that defines the frontend"
            ),
        });
    }
    (machine.say)("making a component of Python (some 10 s)");
    let out = dir.join(".rhost/python.wasm");
    let mut command = Command::new(tools.join("bin/componentize-py"));
    command
        .args(["-d", "sdk/wit", "-w", "frontend", "componentize", "--stub-wasi", "-p", "src", "-p", "sdk", "-o"])
        .arg(&out)
        .arg(entry)
        .current_dir(dir)
        // Where it looks for packages that requirements.txt named.
        .env("VIRTUAL_ENV", &tools)
        .env_remove("PYTHONPATH")
        .env_remove("PYTHONHOME");
    run(&mut command)?;
    std::fs::read(&out).map_err(ToolchainError::io(out))
}

/// Makes the environment anew unless it holds what requirements.txt asks for.
fn install(machine: &Machine, dir: &Path, tools: &Path) -> Result<()> {
    let requirements = dir.join("requirements.txt");
    let text = std::fs::read(&requirements).map_err(ToolchainError::io(&requirements))?;
    let wanted = hex::encode(Sha256::digest(&text));
    let mark = tools.join("installed");
    if std::fs::read_to_string(&mark).is_ok_and(|found| found == wanted) {
        return Ok(());
    }
    (machine.say)("installing the packages of requirements.txt with pip (once)");
    if tools.exists() {
        std::fs::remove_dir_all(tools).map_err(ToolchainError::io(tools))?;
    }
    run(Command::new("python3").args(["-m", "venv"]).arg(tools).env_remove("PYTHONHOME"))?;
    let mut pip = Command::new(tools.join("bin/python"));
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input", "-r"])
        .arg(&requirements)
        .current_dir(dir);
    run(&mut pip)?;
    sdk::put(&mark, wanted.as_bytes())
}
