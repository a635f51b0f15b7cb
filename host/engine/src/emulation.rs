//! `Emulation`: how each platform's programs run, found out once in the life of an engine.
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use rhost_exec::{Emulator, NoRunner, Runner};
use rhost_llb::Platform;

/// What is known of other platforms.
#[derive(Debug)]
pub struct Emulation {
    directories: Vec<PathBuf>,
    known: Mutex<HashMap<Platform, Result<Runner, NoRunner>>>,
}

impl Emulation {
    /// Emulators are looked for in `directories`.
    pub fn new(directories: Vec<PathBuf>) -> Self {
        Self { directories, known: Mutex::default() }
    }

    /// What a step of `wanted` has to be given; `None` where its programs run by themselves. Blocks for some milliseconds when it is
    /// asked for a platform the first time.
    ///
    /// # Errors
    /// They do not run here.
    pub fn emulator(&self, wanted: &Platform) -> Result<Option<Emulator>, NoRunner> {
        // Held while it is found out: the second step of a platform waits instead of trying it again.
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let runner = known.entry(wanted.clone()).or_insert_with(|| rhost_exec::runner(wanted, &self.directories));
        match runner {
            Ok(Runner::Native | Runner::Registered) => Ok(None),
            Ok(Runner::Emulator(emulator)) => Ok(Some(emulator.clone())),
            Err(error) => Err(error.clone()),
        }
    }
}
