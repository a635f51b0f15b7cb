//! Cache-map digests: how a vertex is made, as a digest, and how each input enters the key (spec C.1, golden vectors in its appendix 1).
//!
//! The formulas are BuildKit's, so that remote caches can be exchanged with it. A digest covers what the op does; the inputs come in through the
//! keys of their results ([`record_key`] and links), either as they were made or by content ([`Dep::content`]).
use base64::Engine as _;
use serde_json::{Value, json};

use crate::digest::Digest;
use crate::exec_op::{ContentCache, ExecOp, MountType, ROOT_MOUNT};
use crate::file_op::{ChownOpt, FileActionKind, FileOp, UserOpt};
use crate::op::{Op, OpKind};
use crate::platform::Platform;
use crate::wire::{JsonStyle, Message};
use crate::{EMPTY_INPUT, NO_OUTPUT};

/// A vertex's cache-map digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CacheDigest {
    /// The digest.
    pub digest: Digest,
    /// Bound to this session: never matches another build's, never exported. Written `random:` instead of `sha256:`.
    pub session: bool,
}

impl std::fmt::Display for CacheDigest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.session {
            true => write!(f, "random:{}", self.digest.hex()),
            false => write!(f, "{}", self.digest),
        }
    }
}

/// How a vertex enters the cache: its own digest, and one [`Dep`] for each of the op's inputs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CacheMap {
    /// Of what the op does.
    pub digest: CacheDigest,
    /// In the order of the op's inputs.
    pub deps: Vec<Dep>,
}

/// How one input enters the cache.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dep {
    /// Goes into the link from the input's key, when the definition key is used.
    pub selector: Option<Digest>,
    /// Which content of the input's result is hashed for the content key; `None`: only how it was made counts. See [`content_digest`].
    pub content: Option<Vec<Selector>>,
}

/// A part of a file tree.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Selector {
    /// Path; empty for everything.
    pub path: String,
    /// The path is a pattern.
    pub wildcard: bool,
    /// Follow a symbolic link at the end of the path.
    pub follow_links: bool,
    /// Only what matches one of these.
    pub include_patterns: Vec<String>,
    /// Nothing that matches one of these.
    pub exclude_patterns: Vec<String>,
    /// Paths that have to be there.
    pub required_paths: Vec<String>,
}

impl Selector {
    fn has_filters(&self) -> bool {
        self.wildcard || !self.include_patterns.is_empty() || !self.exclude_patterns.is_empty()
    }
}

/// An op has no cache map.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CacheKeyError {
    /// Sources are keyed by what they turn out to be: see [`source_digest`].
    #[error("a source has no cache key before it is resolved")]
    Source,
    /// `contentCache` is forced where content does not say everything.
    #[error("mount `{dest}` cannot be cached by content: it is written to and does not show all of its input")]
    UnsafeContentCache {
        /// Where.
        dest: String,
    },
    /// The op is not valid.
    #[error("the op is not valid: an index names no input")]
    Invalid,
}

/// The key record's digest: of output `output` of a vertex; -1 for a content key.
pub fn record_key(digest: &CacheDigest, output: i64) -> Digest {
    Digest::of(format!("{digest}@{output}"))
}

/// The key record's digest of a content key.
pub fn content_key(content: Digest) -> Digest {
    record_key(&CacheDigest { digest: content, session: false }, -1)
}

/// The content digest of an input: of the content hashes of its selectors, in their order.
pub fn content_digest(of_selectors: &[Digest]) -> Digest {
    Digest::of(of_selectors.iter().map(Digest::to_string).collect::<Vec<_>>().join("\0"))
}

/// The digest that a vertex has instead of its own when the cache is ignored.
pub fn ignore_cache_digest(vertex: crate::VertexDigest) -> Digest {
    Digest::of(format!("{vertex}-ignorecache"))
}

/// The cache-map digest of a source; `key` is what the scheme makes of it (commit, manifest, …). `session:…` binds it to a session.
pub fn source_digest(key: &str) -> CacheDigest {
    CacheDigest { digest: Digest::of(format!("buildkit.source.v0:{key}")), session: key.starts_with("session:") }
}

/// The first key of an image: by manifest and platform.
pub fn image_manifest_key(manifest: Digest, platform: &Platform, layer_limit: Option<u64>) -> String {
    let mut object = serde_json::Map::new();
    object.insert("Digest".into(), Value::from(manifest.to_string()));
    object.insert("OS".into(), Value::from(platform.os.as_str()));
    object.insert("Arch".into(), Value::from(platform.architecture.as_str()));
    insert_platform_rest(&mut object, platform);
    if let Some(limit) = layer_limit {
        object.insert("Limit".into(), Value::from(limit));
    }
    Digest::of(go_json(&Value::Object(object))).to_string()
}

/// What the key of a file at a URL is made of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HttpKey {
    /// The name that it has in the result.
    pub filename: String,
    /// `http.perm`, 0 when absent.
    pub perm: i64,
    /// `http.uid`, 0 when absent.
    pub uid: i64,
    /// `http.gid`, 0 when absent.
    pub gid: i64,
    /// `ALGORITHM:HEX` of its bytes.
    pub checksum: String,
    /// In the fixed form of RFC 9110, 5.6.7; empty when the server says nothing, or nobody asked.
    pub last_modified: String,
    /// `http.authheadersecret`.
    pub auth_header_secret: String,
    /// Headers that were asked for, canonical names, sorted.
    pub headers: Vec<(String, String)>,
}

/// The key of a file at a URL; the URL is not in it.
pub fn http_key(key: &HttpKey) -> String {
    let mut object = serde_json::Map::new();
    object.insert("Filename".into(), Value::from(key.filename.as_str()));
    for (name, number) in [("Perm", key.perm), ("UID", key.uid), ("GID", key.gid)] {
        object.insert(name.into(), Value::from(number));
    }
    object.insert("Checksum".into(), Value::from(key.checksum.as_str()));
    for (name, text) in [("LastModTime", &key.last_modified), ("AuthHeaderSecret", &key.auth_header_secret)] {
        if !text.is_empty() {
            object.insert(name.into(), Value::from(text.as_str()));
        }
    }
    if !key.headers.is_empty() {
        let list = key.headers.iter().map(|(name, value)| json!({ "Name": name, "Value": value }));
        object.insert("Header".into(), Value::Array(list.collect()));
    }
    Digest::of(go_json(&Value::Object(object))).to_string()
}

/// How an op enters the cache. `host` is the platform of an exec that names none.
pub fn cache_map(op: &Op, host: &Platform) -> Result<CacheMap, CacheKeyError> {
    let inputs = op.inputs.len();
    let plain = |value: Value| CacheMap { digest: digest_of(&value), deps: vec![Dep::default(); inputs] };
    match &op.kind {
        None | Some(OpKind::Source(_)) => Err(CacheKeyError::Source),
        Some(OpKind::Exec(exec)) => exec_cache_map(exec, op.platform.as_ref().unwrap_or(host), inputs),
        Some(OpKind::File(file)) => file_cache_map(file, inputs),
        Some(OpKind::Merge(merge)) => {
            Ok(plain(json!({ "Type": "buildkit.merge.v0", "Merge": merge.json(JsonStyle::Key) })))
        }
        Some(OpKind::Diff(diff)) => Ok(plain(json!({ "Type": "buildkit.diff.v0", "Diff": diff.json(JsonStyle::Key) }))),
        Some(OpKind::Passthrough(pass)) => {
            Ok(plain(json!({ "Type": "buildkit.passthrough.v0", "Passthrough": pass.json(JsonStyle::Key) })))
        }
        Some(OpKind::Build(build)) => {
            Ok(plain(json!({ "Type": "buildkit.build.v0", "Exec": build.json(JsonStyle::Key) })))
        }
    }
}

fn digest_of(value: &Value) -> CacheDigest {
    CacheDigest { digest: Digest::of(go_json(value)), session: false }
}

fn insert_platform_rest(object: &mut serde_json::Map<String, Value>, platform: &Platform) {
    for (name, text) in [("Variant", &platform.variant), ("OSVersion", &platform.os_version)] {
        if !text.is_empty() {
            object.insert(name.into(), Value::from(text.as_str()));
        }
    }
    if !platform.os_features.is_empty() {
        object.insert("OSFeatures".into(), Value::from(platform.os_features.clone()));
    }
}

fn exec_cache_map(exec: &ExecOp, platform: &Platform, inputs: usize) -> Result<CacheMap, CacheKeyError> {
    let mut op = exec.clone();
    if let Some(meta) = &mut op.meta {
        meta.extra_hosts.iter_mut().for_each(|host| host.ip.clear());
        meta.proxy_env = None;
    }
    for mount in &mut op.mounts {
        mount.selector.clear();
        if let Some(cache) = &mut mount.cache_opt {
            // The id that a Dockerfile gives by default is part of the key, any other is not.
            let default_id =
                cache.id == mount.dest || cache.id.split_once('/').is_some_and(|(_, rest)| rest == mount.dest);
            if !default_id || cache.sharing != crate::CacheSharing::Shared {
                cache.id.clear();
                cache.sharing = crate::CacheSharing::Shared;
            }
        }
    }
    if let [root] = &op.mounts[..]
        && root.dest == ROOT_MOUNT
        && !root.readonly
        && root.mount_type == MountType::Bind
        && root.cache_opt.is_none()
        && root.ssh_opt.is_none()
        && root.secret_opt.is_none()
        && root.result_id.is_empty()
    {
        op.mounts.clear();
    }
    let mut object = serde_json::Map::new();
    object.insert("Type".into(), Value::from("buildkit.exec.v0"));
    object.insert("Exec".into(), op.json(JsonStyle::Key));
    object.insert("OS".into(), Value::from(platform.os.as_str()));
    object.insert("Arch".into(), Value::from(platform.architecture.as_str()));
    insert_platform_rest(&mut object, platform);
    Ok(CacheMap { digest: digest_of(&Value::Object(object)), deps: exec_deps(exec, inputs)? })
}

fn exec_deps(exec: &ExecOp, inputs: usize) -> Result<Vec<Dep>, CacheKeyError> {
    let mut paths: Vec<(Vec<String>, bool)> = vec![(Vec::new(), false); inputs];
    for mount in &exec.mounts {
        if matches!(mount.mount_type, MountType::Secret | MountType::Ssh | MountType::Tmpfs)
            || mount.input == EMPTY_INPUT
        {
            continue;
        }
        let path = crate::clean_path("/", &mount.selector);
        // Content may stand for a mount only if nothing the step leaves behind can hold more than that content.
        let safe = mount.output == NO_OUTPUT || mount.readonly || path == ROOT_MOUNT;
        let by_content = match mount.content_cache {
            ContentCache::Off => false,
            ContentCache::On if !safe => return Err(CacheKeyError::UnsafeContentCache { dest: mount.dest.clone() }),
            ContentCache::On => true,
            // The root would be safe, but hashing all of it costs more than it gives.
            ContentCache::Default => safe && mount.dest != ROOT_MOUNT,
        };
        let slot = mount.input_index().and_then(|index| paths.get_mut(index)).ok_or(CacheKeyError::Invalid)?;
        slot.0.push(path);
        // As the last mount of the input decides.
        slot.1 = by_content;
    }
    Ok(paths
        .into_iter()
        .map(|(paths, by_content)| {
            let selector = (!paths.is_empty()).then(|| Digest::of(paths.join("\0")));
            let content = by_content.then(|| {
                let paths = without_children(paths);
                if paths.iter().any(|path| path == ROOT_MOUNT) {
                    return vec![Selector::default()];
                }
                paths.into_iter().map(|path| Selector { path, follow_links: true, ..Selector::default() }).collect()
            });
            Dep { selector, content }
        })
        .collect())
}

/// Paths that are not below another of them, sorted, once each.
fn without_children(mut paths: Vec<String>) -> Vec<String> {
    paths.sort();
    paths.dedup();
    let below = |path: &str, parent: &str| {
        let prefix = parent.strip_suffix('/').unwrap_or(parent);
        path != parent && path.strip_prefix(prefix).is_some_and(|rest| rest.starts_with('/'))
    };
    let kept = paths.iter().filter(|path| !paths.iter().any(|parent| below(path, parent)));
    kept.cloned().collect()
}

fn file_cache_map(file: &FileOp, inputs: usize) -> Result<CacheMap, CacheKeyError> {
    let mut selectors: Vec<Vec<Selector>> = vec![Vec::new(); inputs];
    let mut changed = vec![false; inputs];
    let mut actions = Vec::new();
    for action in &file.actions {
        if let Some(changed) = usize::try_from(action.input).ok().and_then(|index| changed.get_mut(index)) {
            *changed = true;
        }
        // An owner's lookup stands before the copy's own selector. A name on scratch has nowhere to be looked up, and no selector.
        for (path, index) in action.kind.owner().map(owner_files).unwrap_or_default() {
            let Ok(index) = usize::try_from(index) else { break };
            let slot = selectors.get_mut(index).ok_or(CacheKeyError::Invalid)?;
            slot.push(Selector { path: path.into(), follow_links: true, ..Selector::default() });
        }
        let mut kind = action.kind.clone();
        if let FileActionKind::Copy(copy) = &mut kind
            && let Some(slot) = usize::try_from(action.secondary_input).ok().and_then(|index| selectors.get_mut(index))
        {
            slot.push(Selector {
                path: copy.src.clone(),
                wildcard: copy.allow_wildcard && is_pattern(&copy.src),
                follow_links: copy.follow_symlink,
                include_patterns: copy.include_patterns.clone(),
                exclude_patterns: copy.exclude_patterns.clone(),
                required_paths: copy.required_paths.clone(),
            });
            copy.src = base_name(&copy.src).to_owned();
        }
        actions.push(Value::from(base64::engine::general_purpose::STANDARD.encode(go_json(&kind.key_json()))));
    }
    let mut object = serde_json::Map::new();
    object.insert("Type".into(), Value::from("buildkit.file.v0"));
    object.insert("Actions".into(), Value::Array(actions));
    let indexes: Vec<[i64; 3]> =
        file.actions.iter().map(|action| [action.input, action.secondary_input, action.output]).collect();
    if !is_default_chain(&indexes) {
        object.insert("indexes".into(), json!(indexes));
    }
    let deps = selectors.into_iter().zip(changed).map(|(selectors, changed)| {
        if changed || selectors.is_empty() {
            return Dep::default();
        }
        let mut paths: Vec<&str> = selectors.iter().map(|selector| selector.path.as_str()).collect();
        paths.sort_unstable();
        paths.reverse();
        Dep { selector: Some(Digest::of(paths.join("\0"))), content: Some(file_selectors(selectors)) }
    });
    Ok(CacheMap { digest: digest_of(&Value::Object(object)), deps: deps.collect() })
}

fn owner_files(owner: &ChownOpt) -> Vec<(&'static str, i64)> {
    let named = |user: &Option<UserOpt>| match user {
        Some(UserOpt::ByName(named)) => Some(named.input),
        _ => None,
    };
    let user = named(&owner.user).map(|input| ("/etc/passwd", input));
    let group = named(&owner.group).map(|input| ("/etc/group", input));
    user.into_iter().chain(group).collect()
}

/// Selectors as they are hashed: plain paths without those below others, then patterns, sorted by path.
fn file_selectors(selectors: Vec<Selector>) -> Vec<Selector> {
    let (filtered, plain): (Vec<_>, Vec<_>) = selectors.into_iter().partition(Selector::has_filters);
    let (follow, stay): (Vec<_>, Vec<_>) = plain.into_iter().partition(|selector| selector.follow_links);
    let paths =
        |selectors: Vec<Selector>| without_children(selectors.into_iter().map(|selector| selector.path).collect());
    let plain = |path, follow_links| Selector { path, follow_links, ..Selector::default() };
    let mut all: Vec<Selector> = paths(stay).into_iter().map(|path| plain(path, false)).collect();
    all.extend(paths(follow).into_iter().map(|path| plain(path, true)));
    all.extend(filtered);
    all.sort_by(|a, b| a.path.cmp(&b.path));
    all
}

fn is_pattern(path: &str) -> bool {
    let mut bytes = path.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'\\' => drop(bytes.next()),
            b'*' | b'?' | b'[' => return true,
            _ => {}
        }
    }
    false
}

/// The last part of a path; `/` for the root, `.` for nothing.
fn base_name(path: &str) -> &str {
    let trimmed = path.trim_end_matches('/');
    match (path.is_empty(), trimmed.rsplit('/').next()) {
        (true, _) => ".",
        (false, Some("") | None) => "/",
        (false, Some(name)) => name,
    }
}

/// The chain every Dockerfile makes: first action on input 0, each other on the one before, the last is the output.
fn is_default_chain(indexes: &[[i64; 3]]) -> bool {
    let count = indexes.len() as i64;
    !indexes.is_empty()
        && indexes.iter().zip(0i64..).all(|([input, secondary, output], number)| {
            *input == if number == 0 { 0 } else { count + number - 1 }
                && matches!(secondary, -1 | 1)
                && *output == if number == count - 1 { 0 } else { NO_OUTPUT }
        })
}

/// JSON as Go's encoder writes it: `<`, `>`, `&` and the two line separators escaped.
fn go_json(value: &Value) -> String {
    let plain = value.to_string();
    let mut out = String::with_capacity(plain.len());
    for c in plain.chars() {
        match c {
            '<' => out.push_str("\\u003c"),
            '>' => out.push_str("\\u003e"),
            '&' => out.push_str("\\u0026"),
            '\u{2028}' => out.push_str("\\u2028"),
            '\u{2029}' => out.push_str("\\u2029"),
            c => out.push(c),
        }
    }
    out
}
