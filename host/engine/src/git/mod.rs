//! Git repositories as sources.
//!
//! git itself does the transport, as in every other builder: its protocols are many, and servers are written for it. It runs hardened: with an
//! environment of its own (no configuration of system or user, no hooks, no prompts, only http, https, ssh and git as transports, in
//! submodules too), below a guard that ends it with the build ([`rhost_exec::HostCommand`]), and for a limited time of silence. Credentials go to
//! it in its environment and to the one host they are for; what it says is told without them.
//!
//! `remote` reads what names a repository, `auth` takes what is lent for it, `command` runs git, `resolve` asks a remote what a name stands
//! for, `fetch` brings the commit into a repository of the store, `checkout` makes a layer of it, with what `submodules` brings.
mod auth;
mod checkout;
mod command;
mod error;
mod fetch;
mod redirect;
mod remote;
mod resolve;
mod source;
mod submodules;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rhost_registry::Proxies;
use serde::Deserialize;
use tokio::sync::OnceCell;

pub use auth::lend;
pub use command::Runner;
pub use error::GitError;
pub use fetch::claim;
pub use resolve::{Resolved, refresh, resolve};
pub use source::{GitSource, check_ref, is_object};

use redirect::Redirect;
use resolve::Refs;

/// How long git may say nothing while it talks to a server.
const PATIENCE: Duration = Duration::from_secs(60);

/// `[git]` of the configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GitSettings {
    /// How long a server may keep git waiting without a sign of life; a minute when absent.
    #[serde(default, deserialize_with = "patience")]
    pub timeout: Option<Duration>,
}

fn patience<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    let text = String::deserialize(deserializer)?;
    let time = crate::gc::parse_duration(&text).map_err(serde::de::Error::custom)?;
    if time.is_zero() { Err(serde::de::Error::custom("a timeout of nothing")) } else { Ok(Some(time)) }
}

/// What the machine has for git sources; the cli finds it out.
#[derive(Debug, Clone, Default)]
pub struct GitOptions {
    /// Directories that have programs: `PATH`.
    pub programs: Vec<PathBuf>,
    /// The user's file of ssh host keys, if there is one.
    pub known_hosts: Option<PathBuf>,
}

/// Git for one build.
pub struct Git {
    options: GitOptions,
    proxies: Proxies,
    patience: Duration,
    /// What remotes have answered in this build, so that one name is one commit in all of it.
    asked: Mutex<HashMap<String, Arc<OnceCell<Refs>>>>,
    /// Where remotes have moved to, one step after the other.
    redirects: Mutex<HashMap<String, Vec<Redirect>>>,
}

impl Git {
    /// For one build.
    pub fn new(options: GitOptions, proxies: Proxies, settings: &GitSettings) -> Self {
        Self {
            options,
            proxies,
            patience: settings.timeout.unwrap_or(PATIENCE),
            asked: Mutex::default(),
            redirects: Mutex::default(),
        }
    }

    /// How long git may say nothing while it talks to a server.
    pub fn patience(&self) -> Duration {
        self.patience
    }

    fn redirects(&self, url: &str) -> Vec<Redirect> {
        self.redirects.lock().unwrap_or_else(PoisonError::into_inner).get(url).cloned().unwrap_or_default()
    }

    /// What moved, and where it is at last.
    fn moves(&self) -> Vec<(String, String)> {
        let known = self.redirects.lock().unwrap_or_else(PoisonError::into_inner);
        known.iter().filter_map(|(first, steps)| Some((first.clone(), steps.last()?.url.clone()))).collect()
    }

    fn add_redirect(&self, url: &str, redirect: Redirect) {
        self.redirects.lock().unwrap_or_else(PoisonError::into_inner).entry(url.to_owned()).or_default().push(redirect);
    }

    fn asked(&self, question: String) -> Arc<OnceCell<Refs>> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).entry(question).or_default().clone()
    }
}
