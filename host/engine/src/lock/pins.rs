//! `Pins`: what the names of one build stand for before anybody is asked, and what was found out.
//!
//! The lock file goes before everything, then (where the network is not to be touched) what a name stood for when it was last asked for, a fact
//! of the store. What is found out is remembered there, too; a fact may be lost, and is worth nothing to a build that may ask.
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rhost_llb::{Digest, Graph, OpKind, SourceOp, SourceScheme, attr};
use rhost_registry::{Reference, UrlRequest};
use rhost_store::Store;

use super::file::{Entries, LockFile, LockKey, LockKind, Pin, git_name, print};
use super::vendor::Vendor;
use crate::error::{BuildError, Kind};
use crate::event::{Event, Events};
use crate::git::{GitSource, is_object};
use crate::op_error::OpFailure;
use crate::uploads;

/// What a lock file is to a build.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Locking {
    /// What is in it holds, what is not is asked for, and said.
    #[default]
    Used,
    /// What is not in it fails the build.
    Strict,
    /// What is not in it is to be added.
    Written,
}

/// Where what a build names may come from.
#[derive(Debug, Clone, Default)]
pub struct SourceRules {
    /// The lock file of the project.
    pub lock: Option<Arc<LockFile>>,
    /// What it is to the build.
    pub locking: Locking,
    /// No connection is made but by steps.
    pub offline: bool,
    /// A directory that goes before the network.
    pub vendor: Option<PathBuf>,
}

/// Something that a build needs and may not ask for, or does not have.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum NotHere {
    /// It is not in the lock file.
    NotLocked(LockKey),
    /// Offline: nobody knows what it stands for.
    Unknown(LockKey),
    /// Offline: what it stands for is not here; which part of it.
    Absent(String, String),
}

impl NotHere {
    /// For people; `lock` is the path of the lock file.
    pub fn told(&self, lock: &str) -> String {
        match self {
            Self::NotLocked(key) => format!("{key} is not in {lock}"),
            Self::Unknown(key) => format!("offline, and nobody knows what {key} stands for"),
            Self::Absent(name, part) => format!("offline, and not here: {name}: {part}"),
        }
    }
}

#[derive(Default)]
struct State {
    /// Entries of the lock file that were asked for.
    used: BTreeSet<LockKey>,
    /// What was found out.
    found: Entries,
    /// What answers twice, and differently.
    unsteady: BTreeSet<LockKey>,
    missing: BTreeSet<NotHere>,
    /// Images of this machine alone.
    own: BTreeSet<String>,
    told: bool,
}

/// One build's.
pub struct Pins {
    rules: SourceRules,
    vendor: Option<Arc<Vendor>>,
    store: Store,
    state: Mutex<State>,
}

/// The entry that `source` would have; `None` for what says itself what it is, or is of this machine.
pub fn key_of(source: &SourceOp) -> Option<LockKey> {
    let has = |name: &str| source.attr(name).is_some_and(|value| !value.is_empty());
    match source.split()? {
        (SourceScheme::Image, name) => {
            let image: Reference = name.parse().ok()?;
            image.digest().is_none().then(|| LockKey::new(LockKind::Image, image.tagged().to_string()))
        }
        (SourceScheme::Git, rest) => git_key(&GitSource::parse(source, rest).ok()?),
        (SourceScheme::Http | SourceScheme::Https, _) => {
            let request = UrlRequest::new(&source.identifier).ok()?;
            let pinned = has(attr::HTTP_CHECKSUM) || request.host() == uploads::HOST;
            (!pinned).then(|| LockKey::new(LockKind::Http, request.plain()))
        }
        _ => None,
    }
}

/// The entry of `source`; `None` where it names a commit.
pub fn git_key(source: &GitSource) -> Option<LockKey> {
    let by_commit = is_object(&source.reference) || (source.by_commit && source.checksum.is_some());
    (!by_commit).then(|| LockKey::new(LockKind::Git, git_name(&source.remote.url, &source.reference)))
}

fn fact(key: &LockKey) -> Digest {
    Digest::of(key.to_string())
}

impl Pins {
    /// For one build by these rules; `store` remembers.
    pub fn new(rules: SourceRules, vendor: Option<Arc<Vendor>>, store: Store) -> Self {
        Self { rules, vendor, store, state: Mutex::default() }
    }

    /// The vendor directory.
    pub fn vendor(&self) -> Option<&Arc<Vendor>> {
        self.vendor.as_ref()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether nobody may be asked.
    pub fn offline(&self) -> bool {
        self.rules.offline
    }

    /// Whether a lock file is being made.
    pub fn writes(&self) -> bool {
        self.rules.locking == Locking::Written
    }

    /// The lock file, if there is one.
    pub fn lock(&self) -> Option<&LockFile> {
        self.rules.lock.as_deref()
    }

    /// What tells what the lock file says from what another does; `None` where there is none, or it is being made.
    pub fn entries_digest(&self) -> Option<Digest> {
        let lock = self.lock().filter(|_| !self.writes())?;
        let strict = self.rules.locking == Locking::Strict;
        Some(Digest::of(format!("{strict} {}", print(&lock.entries))))
    }

    /// Where the lock file says what `key` is; for messages.
    pub fn place(&self, key: &LockKey) -> Option<String> {
        self.lock().filter(|lock| lock.entries.contains_key(key)).map(|lock| lock.place(key))
    }

    /// The way out where what the lock file says of image or frontend `name` cannot be had.
    pub fn hint(&self, kind: LockKind, name: &str) -> Option<String> {
        let image: Reference = name.trim_start_matches("docker-image://").parse().ok()?;
        let key = LockKey::new(kind, image.tagged().to_string());
        let place = self.place(&key)?;
        Some(format!("{place} has its digest; `rhost lock --update {}` takes what the name stands for now", key.name))
    }

    /// What `key` stands for, if nobody has to be asked.
    ///
    /// # Errors
    /// It may not be asked for.
    pub fn get(&self, key: &LockKey) -> Result<Option<Pin>, OpFailure> {
        self.look(key).map_err(|missing| {
            self.state().missing.insert(missing.clone());
            OpFailure::NotHere(missing, self.lock_path())
        })
    }

    fn look(&self, key: &LockKey) -> Result<Option<Pin>, NotHere> {
        if let Some(pin) = self.lock().and_then(|lock| lock.entries.get(key)) {
            self.state().used.insert(key.clone());
            return Ok(Some(pin.clone()));
        }
        if self.rules.locking == Locking::Strict {
            return Err(NotHere::NotLocked(key.clone()));
        }
        let vendored = self.vendor.as_ref().filter(|_| !self.writes()).and_then(|vendor| vendor.entries.get(key));
        if let Some(pin) = vendored {
            self.state().found.insert(key.clone(), pin.clone());
            return Ok(Some(pin.clone()));
        }
        // An image of rhost's own is here, and goes before what a registry once said.
        if !self.rules.offline || (key.kind == LockKind::Image && self.knows_own(&key.name)) {
            return Ok(None);
        }
        // What is written down for others is what somebody was told now.
        let remembered = self.remembered(key).filter(|_| !self.writes());
        let pin = remembered.ok_or_else(|| NotHere::Unknown(key.clone()))?;
        self.state().found.insert(key.clone(), pin.clone());
        Ok(Some(pin))
    }

    /// What `key` stands for in this build, once it was asked for.
    pub fn known(&self, key: &LockKey) -> Option<Pin> {
        let locked = self.lock().and_then(|lock| lock.entries.get(key)).cloned();
        locked.or_else(|| self.state().found.get(key).cloned())
    }

    /// Whether rhost has an image by that name itself.
    pub fn knows_own(&self, name: &str) -> bool {
        self.store.image(name).is_ok_and(|record| record.is_some())
    }

    /// What `key` stood for when it was last asked for.
    fn remembered(&self, key: &LockKey) -> Option<Pin> {
        let bytes = self.store.fact(rhost_store::RESOLVED, fact(key).as_raw()).ok()??;
        let text = String::from_utf8(bytes).ok()?;
        LockFile::parse(Path::new("fact"), &text).ok()?.entries.remove(key)
    }

    /// `key` was asked for, and stands for `pin`.
    pub fn found(&self, key: LockKey, pin: Pin) {
        if self.remembered(&key).as_ref() != Some(&pin) {
            let text = print(&BTreeMap::from([(key.clone(), pin.clone())]));
            if let Err(error) = self.store.set_fact(rhost_store::RESOLVED, fact(&key).as_raw(), text.as_bytes()) {
                tracing::debug!(%error, "what a name stands for is not remembered");
            }
        }
        let mut state = self.state();
        if state.found.get(&key).is_some_and(|before| *before != pin) {
            state.unsteady.insert(key.clone());
        }
        state.found.insert(key, pin);
    }

    /// `name` is an image of this machine alone.
    pub fn is_own(&self, name: &str) {
        self.state().own.insert(name.to_owned());
    }

    /// Something is not here.
    pub fn misses(&self, what: NotHere) {
        self.state().missing.insert(what);
    }

    /// What was asked for: entries of the lock file, what was found out, names that stood for two things, images of this machine.
    pub fn report(&self) -> (BTreeSet<LockKey>, Entries, BTreeSet<LockKey>, BTreeSet<String>) {
        let state = self.state();
        (state.used.clone(), state.found.clone(), state.unsteady.clone(), state.own.clone())
    }

    /// Looks at what the sources of `graph` name: whether each may be asked for, or is known.
    pub fn check(&self, graph: &Graph) {
        if self.rules.locking != Locking::Strict && !self.rules.offline {
            return;
        }
        let sources = graph.vertices().iter().filter_map(|vertex| match vertex.kind() {
            OpKind::Source(source) => Some(source),
            _ => None,
        });
        for key in sources.filter_map(key_of) {
            if let Err(missing) = self.look(&key) {
                self.state().missing.insert(missing);
            }
        }
    }

    fn lock_path(&self) -> String {
        self.lock().map_or_else(|| super::FILE_NAME.to_owned(), |lock| lock.path.display().to_string())
    }

    /// All that is not here, as one error.
    pub fn refusal(&self) -> Option<BuildError> {
        let state = self.state();
        let only = |wanted: fn(&NotHere) -> bool| -> Vec<&NotHere> {
            state.missing.iter().filter(|found| wanted(found)).collect()
        };
        let unlocked = only(|found| matches!(found, NotHere::NotLocked(_)));
        let absent = only(|found| !matches!(found, NotHere::NotLocked(_)));
        let (title, list, hint) = match (&unlocked[..], &absent[..]) {
            ([], []) => return None,
            ([], absent) => (
                "offline, and not here:".to_owned(),
                absent,
                "`rhost fetch`, with the flags of this build, brings them while there is a network",
            ),
            (unlocked, _) => (
                format!("not in {}:", self.lock_path()),
                unlocked,
                "`rhost lock`, with the flags of this build, adds them",
            ),
        };
        let mut message = title;
        for missing in list {
            let _ = match missing {
                NotHere::NotLocked(key) | NotHere::Unknown(key) => write!(message, "\n  {key}"),
                NotHere::Absent(name, part) => write!(message, "\n  {name}: {part}"),
            };
        }
        Some(BuildError::new(Kind::Sources, message).hint(hint))
    }

    /// Says once what the lock file lacks.
    pub fn tell(&self, events: &Events) {
        if self.lock().is_none() || self.rules.locking != Locking::Used || self.offline() {
            return;
        }
        let mut state = self.state();
        if state.found.is_empty() || std::mem::replace(&mut state.told, true) {
            return;
        }
        let names: Vec<String> = state.found.keys().map(ToString::to_string).collect();
        let message = format!("not in {}: {}; `rhost lock` adds what is missing", self.lock_path(), names.join(", "));
        drop(state);
        events.send(Event::Warning { vertex: None, message: message.into() });
    }
}
