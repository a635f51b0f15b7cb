//! What a step has mounted beside layers: cache mounts, secrets, ssh agents. Claimed and lent before the step, given back after it.
use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use rhost_exec::{MountSource, SecretBytes};
use rhost_llb::{CacheSharing, Digest, ExecOp, Mount, MountType, VertexDigest};
use rhost_rootfs::{ChecksumOptions, Copy, Last, OwnerPolicy, Root, Source, Tree, copy};
use rhost_store::{CacheMount, CacheMountClaim, CacheMountKey, CacheMountSharing};

use crate::event::Event;
use crate::lent::agent_id;
use crate::op_error::{OpFailure, blocking};
use crate::shared::{Shared, as_it_is};
use crate::value::Value;

/// The cache mounts of a step by their number in the op. Mounts of one key are one instance.
pub type Claims = BTreeMap<usize, Arc<CacheMount>>;

/// How often a busy cache mount is asked for. Users of other processes can only be asked.
const ASK_FIRST: Duration = Duration::from_millis(5);
const ASK_LAST: Duration = Duration::from_millis(100);

/// The id of a cache mount, where `mount` is one.
pub fn cache_id(mount: &Mount) -> Option<&str> {
    let options = mount.cache_opt.as_ref().filter(|_| mount.mount_type == MountType::Cache)?;
    Some(if options.id.is_empty() { &mount.dest } else { &options.id })
}

/// What a cache mount begins with: a part of an input.
struct Base {
    tree: Arc<Tree>,
    selector: String,
}

/// Claims every cache mount of `op`; waits for those that are locked, and says so.
///
/// # Errors
/// A base that is not there; the store.
pub async fn claim(
    shared: &Arc<Shared>,
    vertex: VertexDigest,
    op: &ExecOp,
    inputs: &[Value],
) -> Result<Claims, OpFailure> {
    if !op.mounts.iter().any(|mount| mount.mount_type == MountType::Cache) {
        return Ok(Claims::new());
    }
    let (owned, values, surroundings) = (op.clone(), inputs.to_vec(), shared.clone());
    // In the order of their keys, so that two steps that want the same two never wait for each other.
    let wanted = blocking(move || wanted(&surroundings, &owned, &values)).await?;
    let mut claims = Claims::new();
    for (key, wanted) in wanted {
        let claimed = Arc::new(claim_one(shared, vertex, key, &wanted).await?);
        claims.extend(wanted.numbers.into_iter().map(|number| (number, claimed.clone())));
    }
    Ok(claims)
}

struct Wanted {
    numbers: Vec<usize>,
    sharing: CacheMountSharing,
    base: Option<Arc<Base>>,
}

fn wanted(shared: &Shared, op: &ExecOp, inputs: &[Value]) -> Result<BTreeMap<CacheMountKey, Wanted>, OpFailure> {
    let mut all: BTreeMap<CacheMountKey, Wanted> = BTreeMap::new();
    for (number, mount) in op.mounts.iter().enumerate() {
        let Some(id) = cache_id(mount) else { continue };
        let (mut base, mut digest) = (None, None);
        let value = mount.input_index().and_then(|index| inputs.get(index));
        if let Some(value) = value.filter(|value| !matches!(value, Value::Scratch)) {
            let tree = shared.tree(value)?;
            digest = Some(base_digest(shared, mount, value, &tree)?);
            base = Some(Arc::new(Base { tree, selector: mount.selector.clone() }));
        }
        let sharing = match mount.cache_opt.as_ref().map(|options| options.sharing).unwrap_or_default() {
            CacheSharing::Shared => CacheMountSharing::Shared,
            CacheSharing::Private => CacheMountSharing::Private,
            CacheSharing::Locked => CacheMountSharing::Locked,
        };
        let key = CacheMountKey { id: id.to_owned(), base: digest };
        let wanted = all.entry(key).or_insert(Wanted { numbers: Vec::new(), sharing, base });
        wanted.numbers.push(number);
    }
    Ok(all)
}

/// By content, so that a base which is built again with the same content finds its cache mount again. Remembered for snapshots,
/// which do not change.
fn base_digest(shared: &Shared, mount: &Mount, value: &Value, tree: &Tree) -> Result<Digest, OpFailure> {
    const FACTS: &str = "cache-mount-base";
    let known = match value {
        Value::Snapshot(id) => Some(format!("{id} {}", mount.selector)),
        _ => None,
    };
    if let Some(known) = &known
        && let Some(found) = shared.store.fact(FACTS, known.as_bytes())?
        && let Ok(raw) = found.try_into()
    {
        return Ok(Digest::from_raw(raw));
    }
    let path = rhost_llb::clean_path("/", &mount.selector);
    let options = ChecksumOptions { follow_links: true, ..ChecksumOptions::default() };
    let content = tree.checksum(&path, &options).map_err(|error| OpFailure::mount_source(mount, error))?;
    // The selector decides where in the instance the content lies.
    let digest = Digest::of(format!("{content} {path}"));
    if let Some(known) = &known {
        shared.store.set_fact(FACTS, known.as_bytes(), digest.as_raw())?;
    }
    Ok(digest)
}

async fn claim_one(
    shared: &Arc<Shared>,
    vertex: VertexDigest,
    key: CacheMountKey,
    wanted: &Wanted,
) -> Result<CacheMount, OpFailure> {
    let (mut pause, mut waiting) = (ASK_FIRST, None);
    loop {
        let (store, asked, sharing) = (shared.store.clone(), key.clone(), wanted.sharing);
        let (base, owners) = (wanted.base.clone(), shared.owners);
        let answer = blocking(move || {
            store.claim_cache_mount(&asked, sharing, |dir| match &base {
                Some(base) => fill(base, dir, owners),
                None => Ok(()),
            })
        });
        match answer.await? {
            CacheMountClaim::Held(mount) => {
                if let Some(what) = waiting {
                    shared.events.send(Event::Waiting { vertex, what, at: Timestamp::now(), over: true });
                }
                return Ok(mount);
            }
            CacheMountClaim::Busy { holder, importing } => {
                if waiting.is_none() {
                    let who = match holder {
                        Some(process) if process == std::process::id() => "another step of this build".to_owned(),
                        Some(process) => format!("process {process}"),
                        None => "another build".to_owned(),
                    };
                    let what: Arc<str> = if importing {
                        format!("waiting for cache mount `{}`, which {who} imports", key.id).into()
                    } else {
                        format!("waiting for cache mount `{}` (sharing=locked), which {who} has", key.id).into()
                    };
                    let at = Timestamp::now();
                    shared.events.send(Event::Waiting { vertex, what: what.clone(), at, over: false });
                    waiting = Some(what);
                }
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(ASK_LAST);
            }
        }
    }
}

/// Puts the base's part where the mount's selector looks for it.
fn fill(base: &Base, dir: &Path, owners: OwnerPolicy) -> Result<(), OpFailure> {
    let path = rhost_llb::clean_path("/", &base.selector);
    let whole = path == "/";
    let parent = path.rsplit_once('/').map_or("", |(parent, _)| parent);
    let options = Copy {
        src: path.clone(),
        dest: if whole { "/".into() } else { format!("{parent}/") },
        follow_symlink: true,
        dir_contents: whole,
        ..as_it_is(owners)
    };
    copy(&Source::Tree((*base.tree).clone()), &Root::open(dir)?, &options)?;
    if whole && let Some(source) = base.tree.root() {
        // The copy takes what is in the root; its own owner and mode are the mount's.
        let stat = source.stat("/", Last::Keep)?;
        let failed = |source| OpFailure::CacheMount { dir: dir.to_owned(), source };
        match std::os::unix::fs::chown(dir, Some(stat.owner.uid), Some(stat.owner.gid)) {
            Err(_) if owners == OwnerPolicy::BestEffort => {}
            other => other.map_err(failed)?,
        }
        std::fs::set_permissions(dir, std::fs::Permissions::from_mode(stat.mode & 0o7777)).map_err(failed)?;
    }
    Ok(())
}

/// What is lent to a step, by the number of the mount in the op; an optional one that nobody lends is not mounted.
#[derive(Default)]
pub struct LentMounts {
    /// Secrets' files and agents' sockets.
    pub sources: BTreeMap<usize, MountSource>,
    /// Secrets in variables.
    pub env: Vec<(String, SecretBytes)>,
}

/// Takes what `op` asks for.
///
/// # Errors
/// A required secret or agent that was not lent, cannot be read, or does not answer.
pub async fn lend(shared: &Shared, op: &ExecOp) -> Result<LentMounts, OpFailure> {
    let mut found = LentMounts::default();
    let lent = &shared.lent;
    for (number, mount) in op.mounts.iter().enumerate() {
        if let (MountType::Secret, Some(options)) = (mount.mount_type, &mount.secret_opt) {
            match lent.secret(&options.id)? {
                Some(bytes) => {
                    let source = MountSource::Secret { bytes, uid: options.uid, gid: options.gid, mode: options.mode };
                    found.sources.insert(number, source);
                }
                None if options.optional => {}
                None => return Err(OpFailure::NoSecret { id: options.id.clone() }),
            }
        }
        if let (MountType::Ssh, Some(options)) = (mount.mount_type, &mount.ssh_opt) {
            match lent.agent(&options.id) {
                Some(agent) => {
                    agent.check().await.map_err(|(path, source)| OpFailure::AgentRefuses {
                        id: agent_id(&options.id).to_owned(),
                        path,
                        source,
                    })?;
                    let service = agent.service();
                    let (uid, gid, mode) = (options.uid, options.gid, options.mode);
                    found.sources.insert(number, MountSource::Socket { service, uid, gid, mode });
                }
                None if options.optional => {}
                None => return Err(OpFailure::NoAgent { id: agent_id(&options.id).to_owned() }),
            }
        }
    }
    for variable in &op.secret_env {
        match lent.secret(&variable.id)? {
            Some(bytes) => found.env.push((variable.name.clone(), bytes)),
            // Set, and empty: as BuildKit does.
            None if variable.optional => found.env.push((variable.name.clone(), SecretBytes::default())),
            None => return Err(OpFailure::NoSecret { id: variable.id.clone() }),
        }
    }
    Ok(found)
}
