//! Cache mounts (`RUN --mount=type=cache`): directories that live on between builds, found again by their id.
//!
//! The directory is the truth: `<hash of the id>-<hash of the base>-<unique>/fs` is an instance, complete from the moment it has that
//! name (it is filled under another and renamed). Ids are hashed and never become paths (CVE-2024-9675). What is told of it (its id
//! for people, when it was used) is a fact of the records and may be lost without harm.
//!
//! Who has an instance holds an `flock`: shared for `shared`, exclusive for `private` and `locked`. So an instance is free again as
//! soon as its users are gone, however they went. One lock for each key orders those who look for an instance; it is held only to
//! choose, and to fill a new one.
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rhost_llb::Digest;
use rhost_rootfs::OverlayXattrs;
use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};

use crate::lock::try_upgrade;
use crate::store::Store;
use crate::{Error, Result};

const FACTS: &str = "cache-mount";
/// Being filled: not an instance yet.
pub(crate) const NEW: &str = "new-";
/// Forgotten while somebody had it: not an instance any more.
pub(crate) const OLD: &str = "old-";

/// Which cache mount. Equal keys share instances.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CacheMountKey {
    /// The id; any text.
    pub id: String,
    /// What a new instance is filled with, as a digest of its content; `None` begins empty.
    pub base: Option<Digest>,
}

impl CacheMountKey {
    fn id_hash(id: &str) -> String {
        Digest::of(format!("cache mount {id}")).hex()[..32].to_owned()
    }

    pub(crate) fn prefix(&self) -> String {
        let base = self.base.map_or_else(|| "empty".to_owned(), |base| base.hex()[..32].to_owned());
        format!("{}-{base}-", Self::id_hash(&self.id))
    }
}

/// Who may have an instance at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CacheMountSharing {
    /// All that say so, at once.
    Shared,
    /// One; whoever comes meanwhile has another instance.
    Private,
    /// One; whoever comes meanwhile waits.
    Locked,
}

/// The answer to a claim.
#[derive(Debug)]
pub enum CacheMountClaim {
    /// It is yours until dropped.
    Held(CacheMount),
    /// Somebody has it, and `locked` does not take another.
    Busy {
        /// The process that has it, if it said so.
        holder: Option<u32>,
        /// It is being replaced by what is imported; whatever the sharing, that is waited for.
        importing: bool,
    },
}

/// Who has an instance, by its own word.
#[derive(Clone, Copy)]
pub(crate) struct Holder {
    pub(crate) process: u32,
    importing: bool,
}

/// An instance that is in use. Released when dropped.
#[derive(Debug)]
pub struct CacheMount {
    store: Store,
    name: String,
    lock: File,
}

/// What is known of an instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheMountInfo {
    /// Names it in the store.
    pub name: String,
    /// Its id for people; `None` when the records were lost.
    pub id: Option<String>,
    /// What it began with, as its name tells it: 32 hex digits; `None` began empty.
    pub base: Option<String>,
    /// Its directory.
    pub dir: PathBuf,
    /// Whether somebody has it now.
    pub in_use: bool,
    /// When it was made, Unix seconds; 0 is not known.
    pub created: i64,
    /// When it was last claimed, Unix seconds; 0 is not known.
    pub last_used: i64,
    /// How often it was claimed.
    pub uses: u64,
}

impl CacheMountInfo {
    /// Bytes of the disk that it takes; what cannot be read counts nothing.
    pub fn size(&self) -> u64 {
        crate::usage::disk_size(&self.dir)
    }
}

/// What a claim comes to.
enum Choice {
    This(String, File),
    New,
    Busy(Option<Holder>),
}

#[derive(Default, Serialize, Deserialize)]
struct Facts {
    id: String,
    created: i64,
    last_used: i64,
    uses: u64,
}

impl CacheMount {
    pub(crate) fn held(store: &Store, name: String, lock: File) -> Self {
        Self { store: store.clone(), name, lock }
    }

    pub(crate) fn store(&self) -> &Store {
        &self.store
    }

    pub(crate) fn lock_file(&mut self) -> &mut File {
        &mut self.lock
    }

    /// Names it in the store.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The directory that holds it: to be mounted by descriptor, below it nothing is to be trusted.
    pub fn dir(&self) -> PathBuf {
        self.store.cache_mount_bucket().join(&self.name).join("fs")
    }

    /// The lock itself once more: it is held until this descriptor is closed, too.
    ///
    /// # Errors
    /// The process has too many descriptors.
    pub fn lock(&self) -> Result<OwnedFd> {
        let copy = self.lock.try_clone().map_err(|e| Error::io("keep the lock of", self.dir(), e))?;
        Ok(copy.into())
    }
}

impl Drop for CacheMount {
    fn drop(&mut self) {
        // Forgotten meanwhile: the last user takes it away. What fails here is swept later.
        let old = self.store.cache_mount_bucket().join(format!("{OLD}{}", self.name));
        if old.exists() && try_upgrade(&self.lock) {
            let _ = self.store.remove_in_cache_mounts(&format!("{OLD}{}", self.name));
        }
    }
}

pub(crate) fn lock_name(instance: &str) -> String {
    format!("cache-mount {instance}")
}

impl Store {
    pub(crate) fn cache_mount_bucket(&self) -> PathBuf {
        self.inner.root.join(cache_mounts_dir(self.options().overlay))
    }

    /// Claims an instance of `key`. A new one is made when none is to be had (`locked` waits for one that is busy): `fill` gets its
    /// empty directory, owned by root with mode 0755. Does not wait for users, only for others who choose or fill.
    ///
    /// # Errors
    /// Those of `fill`; the disk.
    pub fn claim_cache_mount<E: From<Error>>(
        &self,
        key: &CacheMountKey,
        sharing: CacheMountSharing,
        fill: impl FnOnce(&Path) -> Result<(), E>,
    ) -> Result<CacheMountClaim, E> {
        let prefix = key.prefix();
        let _choosing = self.lock(&format!("cache-mounts {prefix}"))?;
        let (name, lock) = match self.choose_cache_mount(&prefix, sharing)? {
            Choice::This(name, lock) => (name, lock),
            Choice::Busy(holder) => {
                let importing = holder.is_some_and(|holder| holder.importing);
                return Ok(CacheMountClaim::Busy { holder: holder.map(|holder| holder.process), importing });
            }
            Choice::New => {
                let made = self.make_cache_mount(&prefix, fill)?;
                match sharing {
                    CacheMountSharing::Shared => self.share(made)?,
                    CacheMountSharing::Private | CacheMountSharing::Locked => made,
                }
            }
        };
        let mut mount = CacheMount { store: self.clone(), name, lock };
        write_holder(&mut mount.lock, "");
        self.note_cache_mount(&mount.name, &key.id);
        Ok(CacheMountClaim::Held(mount))
    }

    /// Chooses among the instances there are. The caller has the key's lock: only users who go, and who removes, change anything.
    fn choose_cache_mount(&self, prefix: &str, sharing: CacheMountSharing) -> Result<Choice> {
        let mut free = None;
        let (mut busy, mut holder) = (false, None);
        for name in self.cache_mount_names(prefix)? {
            let there = || self.cache_mount_bucket().join(&name).is_dir();
            if let Some(lock) = self.flock(&lock_name(&name), FlockOperation::NonBlockingLockExclusive)? {
                if free.is_none() && there() {
                    free = Some((name, lock));
                }
                continue;
            }
            if sharing == CacheMountSharing::Shared
                && let Some(lock) = self.flock(&lock_name(&name), FlockOperation::NonBlockingLockShared)?
                && there()
            {
                // Where others share already, rather than a free one of its own.
                return Ok(Choice::This(name, lock));
            }
            busy = true;
            holder = holder.or_else(|| self.cache_mount_holder(&name));
        }
        match (free, sharing) {
            (Some(found), CacheMountSharing::Shared) => {
                let (name, lock) = self.share(found)?;
                // Removed in the moment without a lock: as if it had never been there.
                let there = self.cache_mount_bucket().join(&name).is_dir();
                Ok(if there { Choice::This(name, lock) } else { Choice::New })
            }
            (Some((name, lock)), _) => Ok(Choice::This(name, lock)),
            (None, CacheMountSharing::Locked) if busy => Ok(Choice::Busy(holder)),
            // Rather than begin cold beside what is about to be warm.
            (None, _) if holder.is_some_and(|holder| holder.importing) => Ok(Choice::Busy(holder)),
            (None, _) => Ok(Choice::New),
        }
    }

    /// An exclusive lock becomes a shared one. There is a moment without any, in which the lock's file may be swept: taken anew.
    fn share(&self, (name, lock): (String, File)) -> Result<(String, File)> {
        drop(lock);
        let lock = self.flock(&lock_name(&name), FlockOperation::LockShared)?.ok_or(Error::Stopped)?;
        Ok((name, lock))
    }

    pub(crate) fn cache_mount_holder(&self, name: &str) -> Option<Holder> {
        let mut text = String::new();
        self.lock_text(&lock_name(name))?.take(32).read_to_string(&mut text).ok()?;
        let (process, rest) = text.split_once(' ').unwrap_or((&text, ""));
        Some(Holder { process: process.trim().parse().ok()?, importing: rest == "import" })
    }

    fn make_cache_mount<E: From<Error>>(
        &self,
        prefix: &str,
        fill: impl FnOnce(&Path) -> Result<(), E>,
    ) -> Result<(String, File), E> {
        let name = format!("{prefix}{}", crate::lock::unique_name().trim_start_matches("tmp-"));
        let lock = self.flock(&lock_name(&name), FlockOperation::NonBlockingLockExclusive)?.ok_or(Error::Stopped)?;
        let filling = self.cache_mount_bucket().join(format!("{NEW}{name}"));
        let dir = filling.join("fs");
        let made = std::fs::create_dir_all(&dir)
            .and_then(|()| std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(0o755)));
        made.map_err(|e| Error::io("create directory", &dir, e))?;
        if let Err(error) = fill(&dir) {
            let _ = self.remove_in_cache_mounts(&format!("{NEW}{name}"));
            return Err(error);
        }
        let whole = self.cache_mount_bucket().join(&name);
        std::fs::rename(&filling, &whole).map_err(|e| Error::io("name", &whole, e))?;
        Ok((name, lock))
    }

    /// Names of the instances that begin with `prefix`, oldest first.
    pub(crate) fn cache_mount_names(&self, prefix: &str) -> Result<Vec<String>> {
        let bucket = self.cache_mount_bucket();
        let mut names = Vec::new();
        for entry in std::fs::read_dir(&bucket).map_err(|e| Error::io("list", &bucket, e))? {
            let entry = entry.map_err(|e| Error::io("list", &bucket, e))?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            if name.starts_with(prefix) && !name.starts_with(NEW) && !name.starts_with(OLD) {
                names.push((entry.metadata().and_then(|m| m.modified()).ok(), name));
            }
        }
        names.sort();
        Ok(names.into_iter().map(|(_, name)| name).collect())
    }

    /// Every cache mount.
    ///
    /// # Errors
    /// The disk.
    pub fn cache_mounts(&self) -> Result<Vec<CacheMountInfo>> {
        let mut found = Vec::new();
        for name in self.cache_mount_names("")? {
            let facts = self.cache_mount_facts(&name);
            let free = self.flock(&lock_name(&name), FlockOperation::NonBlockingLockExclusive)?.is_some();
            found.push(CacheMountInfo {
                base: name.split('-').nth(1).filter(|base| *base != "empty").map(str::to_owned),
                dir: self.cache_mount_bucket().join(&name).join("fs"),
                in_use: !free,
                id: facts.as_ref().map(|facts| facts.id.clone()),
                created: facts.as_ref().map_or(0, |facts| facts.created),
                last_used: facts.as_ref().map_or(0, |facts| facts.last_used),
                uses: facts.map_or(0, |facts| facts.uses),
                name,
            });
        }
        Ok(found)
    }

    /// Lets the next claim of `id`, with whatever base, begin anew. Those who have an instance keep it; it goes with them.
    ///
    /// # Errors
    /// The disk.
    pub fn forget_cache_mounts(&self, id: &str) -> Result<()> {
        for name in self.cache_mount_names(&format!("{}-", CacheMountKey::id_hash(id)))? {
            self.set_aside_cache_mount(&name)?;
            self.sweep_cache_mount(&format!("{OLD}{name}"))?;
        }
        Ok(())
    }

    /// Removes one cache mount by the name that [`Store::cache_mounts`] gives; false when somebody has it, or it is not there.
    ///
    /// # Errors
    /// The disk.
    pub fn remove_cache_mount(&self, name: &str) -> Result<bool> {
        if !self.cache_mount_names("")?.iter().any(|known| known == name) {
            return Ok(false);
        }
        let Some(_lock) = self.flock(&lock_name(name), FlockOperation::NonBlockingLockExclusive)? else {
            return Ok(false);
        };
        self.set_aside_cache_mount(name)?;
        self.remove_in_cache_mounts(&format!("{OLD}{name}"))?;
        Ok(true)
    }

    pub(crate) fn set_aside_cache_mount(&self, name: &str) -> Result<()> {
        let (from, to) = (self.cache_mount_bucket().join(name), self.cache_mount_bucket().join(format!("{OLD}{name}")));
        match std::fs::rename(&from, &to) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            other => other.map_err(|e| Error::io("set aside", &from, e)),
        }
    }

    /// Removes what is not, or no longer, an instance, and that no living process has. Returns how many.
    pub(crate) fn sweep_cache_mounts(&self) -> Result<usize> {
        let bucket = self.cache_mount_bucket();
        let mut removed = 0;
        for entry in std::fs::read_dir(&bucket).map_err(|e| Error::io("list", &bucket, e))? {
            let entry = entry.map_err(|e| Error::io("list", &bucket, e))?;
            if let Ok(name) = entry.file_name().into_string()
                && (name.starts_with(NEW) || name.starts_with(OLD))
            {
                self.sweep_cache_mount(&name)?;
                removed += usize::from(!entry.path().exists());
            }
        }
        Ok(removed)
    }

    fn sweep_cache_mount(&self, entry: &str) -> Result<()> {
        match self.flock(&lock_name(&entry[NEW.len()..]), FlockOperation::NonBlockingLockExclusive)? {
            Some(_lock) => self.remove_in_cache_mounts(entry),
            None => Ok(()),
        }
    }

    /// The caller has the instance's lock.
    pub(crate) fn remove_in_cache_mounts(&self, entry: &str) -> Result<()> {
        let root = rhost_rootfs::Root::open(self.cache_mount_bucket())?;
        rhost_rootfs::rm(&root, entry, rhost_rootfs::Rm { allow_not_found: true, wildcard: false })?;
        let name = entry.strip_prefix(NEW).or_else(|| entry.strip_prefix(OLD)).unwrap_or(entry);
        if let Err(error) = self.inner.db.forget_fact(FACTS, name.as_bytes()) {
            tracing::warn!(%error, "a removed cache mount stays in the records");
        }
        // Instances never take a name again, so nobody will ask for this lock.
        self.forget_lock(&lock_name(name));
        Ok(())
    }

    fn cache_mount_facts(&self, name: &str) -> Option<Facts> {
        serde_json::from_slice(&self.fact(FACTS, name.as_bytes()).ok()??).ok()
    }

    /// Best effort: the records only tell about it.
    pub(crate) fn note_cache_mount(&self, name: &str, id: &str) {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Realtime).tv_sec as i64;
        let mut facts = self.cache_mount_facts(name).unwrap_or_default();
        if facts.created == 0 {
            facts.created = now;
        }
        facts.id = id.to_owned();
        facts.last_used = now;
        facts.uses += 1;
        let bytes = serde_json::to_vec(&facts).unwrap_or_default();
        if let Err(error) = self.set_fact(FACTS, name.as_bytes(), &bytes) {
            tracing::warn!(%error, "the use of a cache mount is not recorded");
        }
    }
}

/// The text of a held lock is its holder's process id, and what else is to be known of it, for those who wait.
pub(crate) fn write_holder(lock: &mut File, what: &str) {
    // Only ever told to people; of several who share the last one stands there.
    let _ = lock.set_len(0).and_then(|()| lock.seek(SeekFrom::Start(0)));
    let _ = write!(lock, "{}{what}", std::process::id());
}

pub(crate) fn cache_mounts_dir(overlay: OverlayXattrs) -> &'static str {
    match overlay {
        OverlayXattrs::Trusted => "cache-mounts-v1",
        OverlayXattrs::User => "cache-mounts-user-v1",
    }
}
