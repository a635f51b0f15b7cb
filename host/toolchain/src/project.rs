//! `Project`: a directory with a `frontend.toml`, and making its component.
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::about::About;
use crate::error::{Result, ToolchainError};
use crate::machine::Machine;
use crate::manifest::{Language, Manifest};
use crate::sdk as files;
use crate::{component, go, inputs, javascript, python, rust};

/// What is made of the same files in another way is another component.
const RECIPE: &str = concat!("rhost-toolchain ", env!("CARGO_PKG_VERSION"), " 2");

/// A frontend's project.
#[derive(Debug)]
pub struct Project {
    dir: PathBuf,
    manifest: Manifest,
}

/// What becomes of the project's `sdk` directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sdk {
    /// It is the project's: written only where there is none.
    Keep,
    /// It becomes this program's.
    Update,
}

/// What a build has made.
#[derive(Debug)]
pub struct Built {
    /// The component's file.
    pub path: PathBuf,
    /// Its size in bytes.
    pub size: u64,
    /// Whether there was anything to do.
    pub fresh: bool,
}

/// What the last build left: `.rhost/built.json`.
#[derive(Serialize, Deserialize, PartialEq, Eq)]
struct Record {
    inputs: String,
    component: String,
}

impl Project {
    /// Opens the project in `dir`.
    ///
    /// # Errors
    /// There is none, or its `frontend.toml` is wrong.
    pub fn open(dir: &Path) -> Result<Self> {
        let dir = std::path::absolute(dir).map_err(ToolchainError::io(dir))?;
        let manifest = Manifest::read(&dir)?;
        Ok(Self { dir, manifest })
    }

    /// What its `frontend.toml` says.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Makes the project's `sdk` this program's, and gives the digest of all that the component is made of.
    ///
    /// # Errors
    /// A file cannot be read or written.
    pub fn inputs(&self) -> Result<String> {
        files::write(&self.dir.join("sdk"), self.manifest.language)?;
        inputs::digest(&self.dir, self.manifest.language, RECIPE)
    }

    /// Where the component goes if nobody says otherwise.
    pub fn output(&self) -> PathBuf {
        self.dir.join(format!("{}.wasm", self.manifest.name))
    }

    /// Makes the component, at `output` or [`Project::output`], whole or not at all. What is up to date is left alone. Several at once wait for one another.
    ///
    /// # Errors
    /// A tool is missing or fails, or what it makes is no frontend.
    pub fn build(&self, machine: &Machine, output: Option<&Path>, sdk: Sdk) -> Result<Built> {
        let notes = self.dir.join(".rhost");
        std::fs::create_dir_all(&notes).map_err(ToolchainError::io(&notes))?;
        let lock = notes.join("lock");
        let file = std::fs::File::create(&lock).map_err(ToolchainError::io(&lock))?;
        // Where locks do not work, nobody waits.
        file.lock().ok();
        let place = self.dir.join("sdk");
        if sdk == Sdk::Update || !place.exists() {
            files::write(&place, self.manifest.language)?;
        }
        let output = output.map_or_else(|| self.output(), Path::to_owned);
        let record = notes.join("built.json");
        let before: Option<Record> = std::fs::read(&record).ok().and_then(|text| serde_json::from_slice(&text).ok());
        let (inputs, core) = match self.manifest.language {
            // cargo knows what depends on what, beyond the project too.
            Language::Rust => {
                let core = rust::build(machine, &self.dir, &self.manifest.name)?;
                let bytes = std::fs::read(&core).map_err(ToolchainError::io(&core))?;
                let about = self.manifest.about.as_ref().map(About::json).unwrap_or_default();
                (format!("{RECIPE} {} {about}", hex::encode(Sha256::digest(bytes))), Some(core))
            }
            _ => (inputs::digest(&self.dir, self.manifest.language, RECIPE)?, None),
        };
        let there = std::fs::read(&output).ok();
        if let (Some(before), Some(there)) = (&before, &there)
            && before.inputs == inputs
            && before.component == hex::encode(Sha256::digest(there))
        {
            return Ok(Built { path: output, size: there.len() as u64, fresh: false });
        }
        let mut component = match self.manifest.language {
            Language::Rust => component::encode(&core.unwrap_or_default())?,
            Language::Js => javascript::build(machine, &self.dir, self.entry("src/frontend.js"))?,
            Language::Python => python::build(machine, &self.dir, self.entry("frontend"))?,
            Language::Go => go::build(machine, &self.dir)?,
        };
        component::check(&output, &component)?;
        if let Some(about) = &self.manifest.about {
            about.embed(&mut component);
        }
        files::publish(&output, &component)?;
        let made = Record { inputs, component: hex::encode(Sha256::digest(&component)) };
        let text = serde_json::to_vec(&made).unwrap_or_default();
        files::publish(&record, &text)?;
        Ok(Built { path: output, size: component.len() as u64, fresh: true })
    }

    fn entry<'a>(&'a self, otherwise: &'a str) -> &'a str {
        self.manifest.entry.as_deref().unwrap_or(otherwise)
    }
}
