//! `Lent`: what a client lends to one build: secrets, ssh agents, permissions. It goes nowhere but into the steps that ask for it.
use std::collections::BTreeMap;
use std::io::Read;
use std::path::PathBuf;

use rhost_exec::SecretBytes;
use zeroize::Zeroizing;

use crate::agent::SshAgent;
use crate::entitlements::Entitlements;
use crate::op_error::OpFailure;

/// Largest secret, in bytes: BuildKit's.
pub const LARGEST_SECRET: u64 = 500 << 10;

/// Where a secret comes from.
#[derive(Debug, Clone)]
pub enum SecretSource {
    /// A file, read when a step wants it.
    File(PathBuf),
    /// These bytes.
    Value(SecretBytes),
}

/// What one build may use of its user's. Nothing by default.
#[derive(Debug, Clone, Default)]
pub struct Lent {
    /// `--secret`, by id.
    pub secrets: BTreeMap<String, SecretSource>,
    /// `--ssh`, by id.
    pub agents: BTreeMap<String, SshAgent>,
    /// `--allow`.
    pub entitlements: Entitlements,
}

impl Lent {
    /// The secret `id`; `None` when there is none of that name. Reads a small file.
    ///
    /// # Errors
    /// The file cannot be read, or is too large.
    pub fn secret(&self, id: &str) -> Result<Option<SecretBytes>, OpFailure> {
        let path = match self.secrets.get(id) {
            None => return Ok(None),
            Some(SecretSource::Value(bytes)) => return Ok(Some(bytes.clone())),
            Some(SecretSource::File(path)) => path,
        };
        let failed = |source| OpFailure::SecretRead { id: id.to_owned(), path: path.clone(), source };
        let file = std::fs::File::open(path).map_err(failed)?;
        // Room for all of it at once: growing would leave copies behind that nobody wipes.
        let mut bytes = Zeroizing::new(Vec::with_capacity(LARGEST_SECRET as usize + 1));
        file.take(LARGEST_SECRET + 1).read_to_end(&mut bytes).map_err(failed)?;
        if bytes.len() as u64 > LARGEST_SECRET {
            return Err(OpFailure::SecretTooLarge { id: id.to_owned(), limit: LARGEST_SECRET });
        }
        Ok(Some(SecretBytes::from(bytes.to_vec())))
    }

    /// The agent `id`; the empty id is `default`.
    pub fn agent(&self, id: &str) -> Option<&SshAgent> {
        self.agents.get(agent_id(id))
    }
}

/// The name of an agent as a user knows it.
pub fn agent_id(id: &str) -> &str {
    if id.is_empty() { "default" } else { id }
}
