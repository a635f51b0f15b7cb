//! What an operation does, as parts that can be compared and named: all that enters its cache key, one part for each thing that a person would name.
//!
//! Texts are kept for what a person may see again: what stands in the build file. Values that came otherwise, of `--build-arg` before all, are compared by
//! digest and never shown; the bytes of secrets are in no operation.
use rhost_llb::{
    ExecOp, FileActionKind, FileOp, Mount, MountType, NetMode, Op, OpKind, Platform, ROOT_MOUNT, SecurityMode,
};
use rhost_registry::redact;
use serde::{Deserialize, Serialize};

use super::digest;

/// Characters of a text that is shown.
const SHOWN: usize = 160;

/// One thing that an operation is made of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// What it is.
    #[serde(rename = "k")]
    pub kind: PartKind,
    /// Which one, where an operation has several.
    #[serde(rename = "n", default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Its value; of two values that differ this does too.
    #[serde(rename = "d")]
    pub digest: u64,
    /// Its value for people, if they may see it.
    #[serde(rename = "t", default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
}

/// Kinds of parts. Their names are those of `--explain=json`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PartKind {
    /// Program and arguments.
    Command,
    /// An environment variable.
    Environment,
    /// Their order.
    EnvironmentOrder,
    /// The working directory.
    Directory,
    /// The user.
    User,
    /// The host name.
    Hostname,
    /// A resource limit.
    Ulimit,
    /// The parent control group.
    Cgroup,
    /// A line of /etc/hosts.
    Host,
    /// The network.
    Network,
    /// The privileges.
    Security,
    /// A secret as a variable.
    Secret,
    /// A mount, by where it is.
    Mount,
    /// Which inputs mounts have and which outputs they become.
    MountOrder,
    /// Where in its input a mount begins. Counts only as far as the content there differs.
    MountSource,
    /// A device.
    Device,
    /// Exit codes that mean success.
    ExitCodes,
    /// The platform.
    Platform,
    /// Name of what is copied.
    Source,
    /// Its directory. Counts only as far as the content there differs.
    SourceDirectory,
    /// Where it is copied to, or what is made or removed.
    Destination,
    /// The owner that files get.
    Owner,
    /// The mode that files get.
    Mode,
    /// Text of a file that is written.
    Text,
    /// The time that files get.
    Time,
    /// What is left out or taken in.
    Filter,
    /// All else.
    Options,
    /// What an operation from outside is named.
    Origin,
    /// What that name stood for: a commit, the digest of a file.
    Version,
}

impl PartKind {
    /// It is no cause where what is read through it is the same.
    pub fn is_soft(self) -> bool {
        matches!(self, Self::MountSource | Self::SourceDirectory)
    }

    /// Where this is, it says no more than the others that differ.
    pub fn is_implied(self, others: &[PartKind]) -> bool {
        match self {
            Self::EnvironmentOrder => others.contains(&Self::Environment),
            Self::MountOrder => others.contains(&Self::Mount),
            _ => false,
        }
    }
}

/// What texts may be shown.
#[derive(Debug, Default)]
pub struct Showing {
    /// The build file.
    pub file: String,
    /// Values of build arguments.
    pub hidden: Vec<String>,
}

impl Showing {
    /// `value`, if it stands in the build file.
    fn value(&self, value: &str) -> Option<String> {
        let own = value.is_empty() || (self.file.contains(value) && !self.hidden.iter().any(|hidden| hidden == value));
        own.then(|| cut(value))
    }

    /// `text`, which is mostly of the build file, without the values of build arguments; its beginning.
    pub fn text(&self, text: &str) -> String {
        cut(&self.whole(text))
    }

    /// The same, all of it.
    pub fn whole(&self, text: &str) -> String {
        let mut shown = text.to_owned();
        for hidden in self.hidden.iter().filter(|hidden| hidden.len() > 3 && !self.file.contains(hidden.as_str())) {
            shown = shown.replace(hidden.as_str(), "***");
        }
        // A line of the build file may hold a URL with a password.
        redact(&shown)
    }
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(SHOWN) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}

struct Parts<'s> {
    showing: &'s Showing,
    found: Vec<Part>,
}

impl Parts<'_> {
    fn add(&mut self, kind: PartKind, name: &str, value: &str, text: Option<String>) {
        self.found.push(Part { kind, name: name.to_owned(), digest: digest(value.as_bytes()), text });
    }

    fn text(&mut self, kind: PartKind, name: &str, value: &str) {
        let text = self.showing.text(value);
        self.add(kind, name, value, Some(text));
    }

    /// What is as it is by default is left out.
    fn unless(&mut self, default: &str, kind: PartKind, name: &str, value: &str) {
        if value != default {
            self.text(kind, name, value);
        }
    }
}

impl Part {
    /// That a source's name stands for `version`.
    pub fn version(version: &str) -> Self {
        Self {
            kind: PartKind::Version,
            name: String::new(),
            digest: digest(version.as_bytes()),
            text: Some(version.to_owned()),
        }
    }
}

/// The parts of `op`. `host` is the platform of what names none.
pub fn parts(op: &Op, host: &Platform, showing: &Showing) -> Vec<Part> {
    let mut parts = Parts { showing, found: Vec::new() };
    match &op.kind {
        Some(OpKind::Exec(exec)) => {
            of_exec(&mut parts, exec);
            parts.text(PartKind::Platform, "", &op.platform.as_ref().unwrap_or(host).with_version());
        }
        Some(OpKind::File(file)) => of_file(&mut parts, file),
        Some(OpKind::Source(source)) => {
            // A URL may hold a password.
            parts.text(PartKind::Origin, "", &redact(&source.identifier));
            if let Some(platform) = &op.platform {
                parts.text(PartKind::Platform, "", &platform.with_version());
            }
            for (name, value) in &source.attrs {
                parts.add(PartKind::Options, name, value, None);
            }
        }
        Some(_) => {
            let mut json = op.to_json();
            if let Some(object) = json.as_object_mut() {
                // Which vertices they are is another matter.
                object.shift_remove("inputs");
                object.shift_remove("constraints");
                object.shift_remove("platform");
            }
            parts.add(PartKind::Options, "", &json.to_string(), None);
        }
        None => {}
    }
    parts.found
}

fn of_exec(parts: &mut Parts<'_>, exec: &ExecOp) {
    if let Some(meta) = &exec.meta {
        let command = match meta.args.as_slice() {
            [shell, flag, line] if shell == "/bin/sh" && flag == "-c" => line.clone(),
            args => args.join(" "),
        };
        let text = parts.showing.text(&command);
        parts.add(PartKind::Command, "", &meta.args.join("\0"), Some(text));
        let mut order = String::new();
        for pair in &meta.env {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let shown = parts.showing.value(value);
            parts.add(PartKind::Environment, name, value, shown);
            order.push_str(name);
            order.push('\0');
        }
        parts.add(PartKind::EnvironmentOrder, "", &order, None);
        parts.unless("/", PartKind::Directory, "", &meta.cwd);
        parts.unless("", PartKind::User, "", &meta.user);
        parts.unless("", PartKind::Hostname, "", &meta.hostname);
        parts.unless("", PartKind::Cgroup, "", &meta.cgroup_parent);
        for limit in &meta.ulimits {
            parts.text(PartKind::Ulimit, &limit.name, &format!("{}:{}", limit.soft, limit.hard));
        }
        for host in &meta.extra_hosts {
            parts.add(PartKind::Host, &host.host, "", None);
        }
        if !meta.valid_exit_codes.is_empty() {
            parts.text(PartKind::ExitCodes, "", &format!("{:?}", meta.valid_exit_codes));
        }
        if !meta.remove_mount_stubs_recursive {
            parts.add(PartKind::Options, "mount stubs", "", None);
        }
    }
    match exec.network {
        NetMode::Sandbox => {}
        NetMode::Host => parts.text(PartKind::Network, "", "host"),
        NetMode::None => parts.text(PartKind::Network, "", "none"),
    }
    if exec.security == SecurityMode::Insecure {
        parts.text(PartKind::Security, "", "insecure");
    }
    for secret in &exec.secret_env {
        parts.text(PartKind::Secret, &secret.name, &format!("{}{}", secret.id, optional(secret.optional)));
    }
    for device in &exec.cdi_devices {
        parts.text(PartKind::Device, &device.name, optional(device.optional));
    }
    let mut order = String::new();
    let alone = exec.mounts.len() == 1;
    for mount in &exec.mounts {
        order.push_str(&format!("{}:{}\0", mount.input, mount.output));
        if mount.dest != ROOT_MOUNT || mount.readonly || mount.mount_type != MountType::Bind {
            let (full, shown) = (of_mount(mount, true), of_mount(mount, false));
            parts.add(PartKind::Mount, &mount.dest, &full, Some(parts.showing.text(&shown)));
        }
        if !mount.selector.is_empty() {
            parts.text(PartKind::MountSource, &mount.dest, &mount.selector);
        }
    }
    if !alone {
        parts.add(PartKind::MountOrder, "", &order, None);
    }
}

fn optional(is: bool) -> &'static str {
    if is { "" } else { ",required" }
}

/// A mount as the cache key has it (spec C.1): an id that is not the default one is no part of it, and one that is says nothing to people.
fn of_mount(mount: &Mount, full: bool) -> String {
    let mut text = match mount.mount_type {
        MountType::Bind => "type=bind".to_owned(),
        MountType::Secret => "type=secret".to_owned(),
        MountType::Ssh => "type=ssh".to_owned(),
        MountType::Cache => "type=cache".to_owned(),
        MountType::Tmpfs => "type=tmpfs".to_owned(),
    };
    if mount.readonly {
        text.push_str(",ro");
    }
    if let Some(tmpfs) = &mount.tmpfs_opt {
        text.push_str(&format!(",size={}", tmpfs.size));
    }
    if let Some(cache) = &mount.cache_opt {
        let usual = cache.id == mount.dest || cache.id.split_once('/').is_some_and(|(_, rest)| rest == mount.dest);
        if full && usual && cache.sharing == rhost_llb::CacheSharing::Shared {
            text.push_str(&format!(",id={}", cache.id));
        }
    }
    if let Some(secret) = &mount.secret_opt {
        let rhost_llb::SecretOpt { id, uid, gid, mode, optional: not_required } = secret;
        text.push_str(&format!(",id={id},uid={uid},gid={gid},mode={mode:04o}{}", optional(*not_required)));
    }
    if let Some(ssh) = &mount.ssh_opt {
        let rhost_llb::SshOpt { id, uid, gid, mode, optional: not_required } = ssh;
        text.push_str(&format!(",id={id},uid={uid},gid={gid},mode={mode:04o}{}", optional(*not_required)));
    }
    if !mount.result_id.is_empty() {
        text.push_str(&format!(",result={}", mount.result_id));
    }
    if mount.content_cache != rhost_llb::ContentCache::Default {
        text.push_str(&format!(",contentCache={:?}", mount.content_cache));
    }
    text
}

fn of_file(parts: &mut Parts<'_>, file: &FileOp) {
    let several = file.actions.len() > 1;
    let mut order = String::new();
    for (number, action) in file.actions.iter().enumerate() {
        let name = if several { (number + 1).to_string() } else { String::new() };
        order.push_str(&format!("{}:{}:{}\0", action.input, action.secondary_input, action.output));
        if let Some(owner) = action.kind.owner() {
            parts.text(PartKind::Owner, &name, &of_owner(owner));
        }
        match &action.kind {
            FileActionKind::Copy(copy) => {
                let (directory, source) = copy.src.rsplit_once('/').unwrap_or(("", &copy.src));
                parts.text(PartKind::Source, &name, source);
                parts.unless("", PartKind::SourceDirectory, &name, directory);
                parts.text(PartKind::Destination, &name, &copy.dest);
                if !copy.mode_str.is_empty() || copy.mode >= 0 {
                    let mode =
                        if copy.mode_str.is_empty() { format!("{:04o}", copy.mode) } else { copy.mode_str.clone() };
                    parts.text(PartKind::Mode, &name, &mode);
                }
                if copy.timestamp >= 0 {
                    parts.text(PartKind::Time, &name, &copy.timestamp.to_string());
                }
                for (what, patterns) in [
                    ("include", &copy.include_patterns),
                    ("exclude", &copy.exclude_patterns),
                    ("required", &copy.required_paths),
                ] {
                    if !patterns.is_empty() {
                        let text = patterns.join(" ");
                        parts.text(PartKind::Filter, &format!("{name}{what}"), &text);
                    }
                }
                let flags = [
                    (copy.follow_symlink, "follow links"),
                    (copy.dir_copy_contents, "contents of directories"),
                    (copy.attempt_unpack, "unpack"),
                    (copy.create_dest_path, "make directories"),
                    (copy.allow_wildcard, "wildcards"),
                    (copy.allow_empty_wildcard, "none is enough"),
                    (copy.always_replace_existing_dest_paths, "replace"),
                ];
                let flags: Vec<&str> = flags.iter().filter(|(is, _)| *is).map(|(_, text)| *text).collect();
                parts.text(PartKind::Options, &name, &flags.join(", "));
            }
            FileActionKind::MkFile(file) => {
                parts.text(PartKind::Destination, &name, &file.path);
                parts.found.push(Part {
                    kind: PartKind::Text,
                    name: name.clone(),
                    digest: digest(&file.data),
                    text: None,
                });
                parts.text(PartKind::Mode, &name, &format!("{:04o}", file.mode));
                if file.timestamp >= 0 {
                    parts.text(PartKind::Time, &name, &file.timestamp.to_string());
                }
            }
            FileActionKind::MkDir(directory) => {
                parts.text(PartKind::Destination, &name, &directory.path);
                parts.text(PartKind::Mode, &name, &format!("{:04o}", directory.mode));
                parts.add(PartKind::Options, &name, &directory.make_parents.to_string(), None);
                if directory.timestamp >= 0 {
                    parts.text(PartKind::Time, &name, &directory.timestamp.to_string());
                }
            }
            FileActionKind::Rm(rm) => {
                parts.text(PartKind::Destination, &name, &rm.path);
                parts.add(PartKind::Options, &name, &format!("{}{}", rm.allow_not_found, rm.allow_wildcard), None);
            }
            FileActionKind::Symlink(link) => {
                parts.text(PartKind::Source, &name, &link.old_path);
                parts.text(PartKind::Destination, &name, &link.new_path);
                if link.timestamp >= 0 {
                    parts.text(PartKind::Time, &name, &link.timestamp.to_string());
                }
            }
            FileActionKind::Missing => {}
        }
        // A copy is no removal of the same path.
        let kind = std::mem::discriminant(&action.kind);
        order.push_str(&format!("{kind:?}\0"));
    }
    parts.add(PartKind::Options, "order", &order, None);
}

fn of_owner(owner: &rhost_llb::ChownOpt) -> String {
    let side = |side: &Option<rhost_llb::UserOpt>| match side {
        None | Some(rhost_llb::UserOpt::Missing) => String::new(),
        Some(rhost_llb::UserOpt::ById(id)) => id.to_string(),
        Some(rhost_llb::UserOpt::ByName(named)) => named.name.clone(),
    };
    format!("{}:{}", side(&owner.user), side(&owner.group))
}
