//! A graph as text, for people who review what a frontend made of a build file.
//!
//! One block an operation, inputs before users. Operations are `%0`, `%1`, … in that order, another output than the first is `%3.1`; digests of
//! operations stand nowhere but in the last line, so that a change shows where it was made and not in all that comes after. Every
//! field that enters an operation's digest is shown unless it has the value that goes without saying, so that two graphs have the same text
//! if and only if they are the same. What is only said about operations is shown too (names, places in the build file, …), but not the
//! capabilities that a reader needs: they follow from the operations.
use std::collections::HashMap;
use std::fmt::Write as _;

use serde_json::Value;

use crate::definition::{CUSTOM_NAME, Location, OpMetadata};
use crate::digest::VertexDigest;
use crate::exec_op::{
    CacheOpt, CacheSharing, CdiDevice, ContentCache, ExecOp, HostIp, Meta, Mount, MountType, NetMode, ProxyEnv,
    ROOT_MOUNT, SecretEnv, SecretOpt, SecurityMode, SshOpt, TmpfsOpt, Ulimit,
};
use crate::file_op::{
    ChownOpt, FileAction, FileActionCopy, FileActionKind, FileActionMkDir, FileActionMkFile, FileActionRm,
    FileActionSymlink, FileOp, NamedUserOpt, UserOpt,
};
use crate::graph::{Edge, Graph, Vertex};
use crate::op::{BuildOp, DiffOp, MergeOp, Op, OpInput, OpKind, PassthroughOp};
use crate::platform::Platform;
use crate::source_op::SourceOp;
use crate::wire::{JsonStyle, Message};

impl Graph {
    /// The graph as text; the last line is the digest of the head.
    pub fn to_text(&self) -> String {
        let numbers = self.vertices().iter().enumerate().map(|(number, vertex)| (vertex.digest, number)).collect();
        let mut text = String::new();
        for (number, vertex) in self.vertices().iter().enumerate() {
            let block = Block { graph: self, numbers: &numbers, vertex, raw: raw_inputs(vertex), out: &mut text };
            block.write(number);
        }
        let head = self.head();
        let _ = writeln!(text, "result {}\ndigest {}", edge_name(&numbers, &head), head.vertex);
        text
    }
}

fn edge_name(numbers: &HashMap<VertexDigest, usize>, edge: &Edge) -> String {
    let number = numbers.get(&edge.vertex).copied().unwrap_or_default();
    if edge.output == 0 { format!("%{number}") } else { format!("%{number}.{}", edge.output) }
}

/// The indexes of inputs that an operation names, in the order of the text.
fn uses(op: &Op) -> Vec<i64> {
    let owner = |owner: Option<&ChownOpt>| -> Vec<i64> {
        let name = |user: &Option<UserOpt>| match user {
            Some(UserOpt::ByName(named)) => Some(named.input),
            _ => None,
        };
        owner.into_iter().flat_map(|owner| [name(&owner.user), name(&owner.group)]).flatten().collect()
    };
    match &op.kind {
        Some(OpKind::Exec(exec)) => exec.mounts.iter().map(|mount| mount.input).collect(),
        Some(OpKind::File(file)) => {
            let of =
                |action: &FileAction| [vec![action.input, action.secondary_input], owner(action.kind.owner())].concat();
            let inputs = i64::try_from(op.inputs.len()).unwrap_or(i64::MAX);
            file.actions.iter().flat_map(of).filter(|index| *index < inputs).collect()
        }
        Some(OpKind::Merge(merge)) => merge.inputs.iter().map(|input| input.input).collect(),
        Some(OpKind::Diff(diff)) => [&diff.lower, &diff.upper].into_iter().flatten().map(|input| input.input).collect(),
        Some(OpKind::Build(build)) => build.inputs.values().map(|input| input.input).collect(),
        Some(OpKind::Passthrough(pass)) => pass.outputs.clone(),
        Some(OpKind::Source(_)) | None => Vec::new(),
    }
}

/// Whether inputs are to be listed and named by index, since their names alone would not tell in which order they stand. Clients of today list
/// each input once, in the order of use.
fn raw_inputs(vertex: &Vertex) -> bool {
    let mut next = 0;
    for index in uses(&vertex.op).into_iter().filter(|index| *index >= 0) {
        if index > next {
            return true;
        }
        next = next.max(index + 1);
    }
    let distinct: std::collections::BTreeSet<_> = vertex.inputs.iter().collect();
    usize::try_from(next) != Ok(vertex.inputs.len()) || distinct.len() != vertex.inputs.len()
}

fn quote(text: &str) -> String {
    Value::from(text).to_string()
}

fn list(texts: &[String]) -> String {
    format!("[{}]", texts.iter().map(|text| quote(text)).collect::<Vec<_>>().join(", "))
}

/// A name in front of `=`: quoted where it is no plain word.
fn key(name: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"._-:".contains(&b);
    if !name.is_empty() && name.bytes().all(plain) { name.to_owned() } else { quote(name) }
}

fn mode(mode: i32) -> String {
    if mode < 0 { mode.to_string() } else { format!("0{mode:03o}") }
}

/// ` word` where `is` holds.
fn flag(is: bool, word: &str) -> String {
    if is { format!(" {word}") } else { String::new() }
}

/// ` word "text"` where there is a text.
fn named(word: &str, text: &str) -> String {
    if text.is_empty() { String::new() } else { format!(" {word}={}", quote(text)) }
}

fn platform(platform: &Platform) -> String {
    let Platform { os, architecture, variant, os_version, os_features } = platform;
    let plain =
        |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
    let usual = plain(os) && plain(architecture) && (variant.is_empty() || plain(variant));
    let mut out = match (usual, variant.is_empty()) {
        (true, true) => format!("{os}/{architecture}"),
        (true, false) => format!("{os}/{architecture}/{variant}"),
        (false, _) => format!("os={} architecture={} variant={}", quote(os), quote(architecture), quote(variant)),
    };
    out += &named("os-version", os_version);
    if !os_features.is_empty() {
        out += &format!(" os-features={}", list(os_features));
    }
    out
}

/// One operation, to be written.
struct Block<'g> {
    graph: &'g Graph,
    numbers: &'g HashMap<VertexDigest, usize>,
    vertex: &'g Vertex,
    raw: bool,
    out: &'g mut String,
}

impl Block<'_> {
    fn write(mut self, number: usize) {
        let vertex = self.vertex;
        let Op { inputs: _, platform: on, constraints, kind } = &vertex.op;
        let _ = write!(self.out, "%{number} = ");
        match kind {
            Some(OpKind::Source(op)) => self.source(op),
            Some(OpKind::Exec(op)) => self.exec(op),
            Some(OpKind::File(op)) => self.file(op),
            Some(OpKind::Merge(op)) => self.merge(op),
            Some(OpKind::Diff(op)) => self.diff(op),
            Some(OpKind::Build(op)) => self.build(op),
            Some(OpKind::Passthrough(op)) => self.passthrough(op),
            None => self.out.push_str("nothing\n"),
        }
        if let Some(on) = on {
            self.line(&format!("platform {}", platform(on)));
        }
        // Clients write it even when it is empty.
        match constraints {
            Some(constraints) if constraints.filter.is_empty() => {}
            Some(constraints) => self.line(&format!("constraints {}", list(&constraints.filter))),
            None => self.line("no constraints"),
        }
        if self.raw {
            let names: Vec<String> = vertex.inputs.iter().map(|edge| edge_name(self.numbers, edge)).collect();
            self.line(&format!("inputs {}", names.join(" ")));
        }
        self.about(&vertex.metadata);
        for location in &vertex.locations {
            self.location(location);
        }
        self.out.push('\n');
    }

    fn line(&mut self, text: &str) {
        let _ = writeln!(self.out, "  {text}");
    }

    /// What an index into the operation's inputs stands for.
    fn input(&self, index: i64) -> String {
        match usize::try_from(index) {
            Ok(_) if self.raw => format!("#{index}"),
            Ok(at) => {
                self.vertex.inputs.get(at).map_or_else(|| format!("#{index}"), |edge| edge_name(self.numbers, edge))
            }
            Err(_) if index == crate::EMPTY_INPUT => "scratch".to_owned(),
            Err(_) => format!("#{index}"),
        }
    }

    fn source(&mut self, op: &SourceOp) {
        let SourceOp { identifier, attrs } = op;
        let _ = writeln!(self.out, "source {}", quote(identifier));
        for (name, value) in attrs {
            self.line(&format!("attr {}={}", key(name), quote(value)));
        }
    }

    fn exec(&mut self, op: &ExecOp) {
        let ExecOp { meta, mounts, network, security, secret_env, cdi_devices } = op;
        let usual = |mount: &Mount| {
            let plain = Mount { input: mount.input, dest: ROOT_MOUNT.into(), ..Mount::default() };
            *mount == plain && mount.output == 0
        };
        let (root, mounts) = match mounts.split_first() {
            Some((first, rest)) if usual(first) => (self.input(first.input), rest),
            _ => ("-".to_owned(), mounts.as_slice()),
        };
        let args = meta.as_ref().map_or("-".to_owned(), |meta| list(&meta.args));
        let _ = writeln!(self.out, "run {root} {args}");
        if let Some(meta) = meta {
            self.meta(meta);
        }
        match network {
            NetMode::Sandbox => {}
            NetMode::Host => self.line("network host"),
            NetMode::None => self.line("network none"),
        }
        match security {
            SecurityMode::Sandbox => {}
            SecurityMode::Insecure => self.line("security insecure"),
        }
        for mount in mounts {
            self.mount(mount);
        }
        for SecretEnv { id, name, optional } in secret_env {
            self.line(&format!("secret-env {} id={}{}", quote(name), quote(id), flag(*optional, "optional")));
        }
        for CdiDevice { name, optional } in cdi_devices {
            self.line(&format!("device {}{}", quote(name), flag(*optional, "optional")));
        }
    }

    fn meta(&mut self, meta: &Meta) {
        let Meta {
            args: _,
            env,
            cwd,
            user,
            proxy_env,
            extra_hosts,
            hostname,
            ulimits,
            cgroup_parent,
            remove_mount_stubs_recursive,
            valid_exit_codes,
        } = meta;
        for variable in env {
            self.line(&format!("env {}", quote(variable)));
        }
        self.line(&format!("cwd {}", quote(cwd)));
        for (word, text) in [("user", user), ("hostname", hostname), ("cgroup-parent", cgroup_parent)] {
            if !text.is_empty() {
                self.line(&format!("{word} {}", quote(text)));
            }
        }
        if let Some(ProxyEnv { http_proxy, https_proxy, ftp_proxy, no_proxy, all_proxy }) = proxy_env {
            let all = [
                ("http", http_proxy),
                ("https", https_proxy),
                ("ftp", ftp_proxy),
                ("no", no_proxy),
                ("all", all_proxy),
            ];
            let all: String = all.iter().map(|(word, text)| named(word, text)).collect();
            self.line(&format!("proxy{all}"));
        }
        for HostIp { host, ip } in extra_hosts {
            self.line(&format!("host {} {}", quote(host), quote(ip)));
        }
        for Ulimit { name, soft, hard } in ulimits {
            self.line(&format!("ulimit {} {soft} {hard}", quote(name)));
        }
        if !remove_mount_stubs_recursive {
            self.line("keep mount stubs");
        }
        if !valid_exit_codes.is_empty() {
            self.line(&format!("valid-exit-codes {valid_exit_codes:?}"));
        }
    }

    fn mount(&mut self, mount: &Mount) {
        let Mount {
            input,
            selector,
            dest,
            output,
            readonly,
            mount_type,
            tmpfs_opt,
            cache_opt,
            secret_opt,
            ssh_opt,
            result_id,
            content_cache,
        } = mount;
        let kind = match mount_type {
            MountType::Bind => "bind",
            MountType::Secret => "secret",
            MountType::Ssh => "ssh",
            MountType::Cache => "cache",
            MountType::Tmpfs => "tmpfs",
        };
        let mut line = format!("mount {} {kind}", quote(dest));
        let files = matches!(mount_type, MountType::Bind | MountType::Cache);
        if files || *input != crate::EMPTY_INPUT {
            line += &format!(" from {}", self.input(*input));
        }
        line += &named("selector", selector);
        // Clients leave it at 0 where there cannot be one.
        let none = if matches!(mount_type, MountType::Secret | MountType::Ssh) { 0 } else { crate::NO_OUTPUT };
        if *output != none {
            line += &format!(" output={output}");
        }
        line += &flag(*readonly, "read-only");
        if let Some(TmpfsOpt { size }) = tmpfs_opt {
            line += &format!(" tmpfs(size={size})");
        }
        if let Some(CacheOpt { id, sharing }) = cache_opt {
            let sharing = match sharing {
                CacheSharing::Shared => "shared",
                CacheSharing::Private => "private",
                CacheSharing::Locked => "locked",
            };
            line += &format!(" cache(id={} sharing={sharing})", quote(id));
        }
        if let Some(SecretOpt { id, uid, gid, mode, optional }) = secret_opt {
            let optional = flag(*optional, "optional");
            line += &format!(" secret(id={} uid={uid} gid={gid} mode=0{mode:03o}{optional})", quote(id));
        }
        if let Some(SshOpt { id, uid, gid, mode, optional }) = ssh_opt {
            let optional = flag(*optional, "optional");
            line += &format!(" ssh(id={} uid={uid} gid={gid} mode=0{mode:03o}{optional})", quote(id));
        }
        line += &named("result-id", result_id);
        match content_cache {
            ContentCache::Default => {}
            ContentCache::On => line += " content-cache=on",
            ContentCache::Off => line += " content-cache=off",
        }
        self.line(&line);
    }

    fn file(&mut self, op: &FileOp) {
        let FileOp { actions } = op;
        self.out.push_str("file\n");
        for (number, action) in actions.iter().enumerate() {
            self.action(number, action);
        }
    }

    /// What an index of a file action stands for: an input, or `@2`, the result of an action.
    fn action_input(&self, index: i64) -> String {
        let inputs = i64::try_from(self.vertex.inputs.len()).unwrap_or(i64::MAX);
        if index >= inputs { format!("@{}", index - inputs) } else { self.input(index) }
    }

    fn owner(&self, owner: &Option<ChownOpt>) -> String {
        let Some(ChownOpt { user, group }) = owner else { return String::new() };
        let one = |user: &Option<UserOpt>| match user {
            None => "-".to_owned(),
            Some(UserOpt::Missing) => "?".to_owned(),
            Some(UserOpt::ById(id)) => id.to_string(),
            Some(UserOpt::ByName(NamedUserOpt { name, input })) => {
                format!("{} of {}", quote(name), self.action_input(*input))
            }
        };
        format!(" owner({} {})", one(user), one(group))
    }

    fn action(&mut self, number: usize, action: &FileAction) {
        let FileAction { input, secondary_input, output, kind } = action;
        let time = |time: i64| if time == -1 { String::new() } else { format!(" time={time}") };
        let mut data = None;
        let mut from = *secondary_input != crate::EMPTY_INPUT;
        let what = match kind {
            FileActionKind::Missing => "nothing".to_owned(),
            FileActionKind::Copy(copy) => {
                from = false;
                format!("copy {}", self.copy(copy, &self.action_input(*secondary_input)))
            }
            FileActionKind::MkFile(file) => {
                let FileActionMkFile { path, mode: bits, data: bytes, owner, timestamp } = file;
                data = Some(bytes);
                let owner = self.owner(owner);
                format!("mkfile {} mode={}{owner}{}", quote(path), mode(*bits), time(*timestamp))
            }
            FileActionKind::MkDir(dir) => {
                let FileActionMkDir { path, mode: bits, make_parents, owner, timestamp } = dir;
                let (parents, owner) = (flag(*make_parents, "parents"), self.owner(owner));
                format!("mkdir {} mode={}{parents}{owner}{}", quote(path), mode(*bits), time(*timestamp))
            }
            FileActionKind::Symlink(link) => {
                let FileActionSymlink { old_path, new_path, owner, timestamp } = link;
                format!("symlink {} to {}{}{}", quote(new_path), quote(old_path), self.owner(owner), time(*timestamp))
            }
            FileActionKind::Rm(rm) => {
                let FileActionRm { path, allow_not_found, allow_wildcard } = rm;
                let (missing, wildcard) = (flag(*allow_not_found, "missing-ok"), flag(*allow_wildcard, "wildcard"));
                format!("rm {}{missing}{wildcard}", quote(path))
            }
        };
        let mut line = format!("@{number} on {}: {what}", self.action_input(*input));
        if from {
            line += &format!(" from {}", self.action_input(*secondary_input));
        }
        if *output != crate::NO_OUTPUT {
            line += &format!(" -> output {output}");
        }
        match data.filter(|bytes| !bytes.is_empty()).map(|bytes| Content::of(bytes)) {
            None => self.line(&line),
            Some(Content::Short(text)) => self.line(&format!("{line} data={text}")),
            Some(Content::Lines(text)) => {
                self.line(&line);
                for part in text.split_inclusive('\n') {
                    match part.strip_suffix('\n') {
                        Some(whole) => self.line(&format!("  | {whole}")),
                        None => self.line(&format!("  | {part}\n    \\ no newline at the end")),
                    }
                }
            }
        }
    }

    fn copy(&self, copy: &FileActionCopy, from: &str) -> String {
        let FileActionCopy {
            src,
            dest,
            owner,
            mode: bits,
            follow_symlink,
            dir_copy_contents,
            attempt_unpack,
            create_dest_path,
            allow_wildcard,
            allow_empty_wildcard,
            timestamp,
            include_patterns,
            exclude_patterns,
            always_replace_existing_dest_paths,
            mode_str,
            required_paths,
        } = copy;
        let mut line = format!("{} of {from} to {}{}", quote(src), quote(dest), self.owner(owner));
        if *bits != -1 {
            line += &format!(" mode={}", mode(*bits));
        }
        line += &named("mode-text", mode_str);
        for (is, word) in [
            (follow_symlink, "follow-symlinks"),
            (dir_copy_contents, "contents-only"),
            (attempt_unpack, "unpack"),
            (create_dest_path, "create-destination"),
            (allow_wildcard, "wildcard"),
            (allow_empty_wildcard, "allow-empty-wildcard"),
            (always_replace_existing_dest_paths, "replace"),
        ] {
            line += &flag(*is, word);
        }
        if *timestamp != -1 {
            line += &format!(" time={timestamp}");
        }
        for (word, texts) in
            [("include", include_patterns), ("exclude", exclude_patterns), ("required", required_paths)]
        {
            if !texts.is_empty() {
                line += &format!(" {word}={}", list(texts));
            }
        }
        line
    }

    fn merge(&mut self, op: &MergeOp) {
        let MergeOp { inputs } = op;
        let names: Vec<String> = inputs.iter().map(|OpInput { input }| self.input(*input)).collect();
        let _ = writeln!(self.out, "merge {}", names.join(" "));
    }

    fn diff(&mut self, op: &DiffOp) {
        let DiffOp { lower, upper } = op;
        let name =
            |input: &Option<OpInput>| input.as_ref().map_or("-".to_owned(), |OpInput { input }| self.input(*input));
        let line = format!("diff {} {}\n", name(lower), name(upper));
        self.out.push_str(&line);
    }

    fn build(&mut self, op: &BuildOp) {
        let BuildOp { builder, inputs, def, attrs } = op;
        let own = if *builder == crate::SELF_BUILDER { String::new() } else { format!(" by #{builder}") };
        let _ = writeln!(self.out, "build{own}");
        for (name, OpInput { input }) in inputs {
            self.line(&format!("input {} {}", quote(name), self.input(*input)));
        }
        for (name, value) in attrs {
            self.line(&format!("attr {}={}", key(name), quote(value)));
        }
        if let Some(definition) = def {
            // A definition in an operation is rare: as it is, and its digest since JSON does not tell every byte.
            let digest = crate::Digest::of(definition.encode());
            let json = definition.to_json().unwrap_or(Value::Null);
            self.line(&format!("definition {digest} {json}"));
        }
    }

    fn passthrough(&mut self, op: &PassthroughOp) {
        let PassthroughOp { id, outputs } = op;
        let names: Vec<String> = outputs.iter().map(|index| self.input(*index)).collect();
        let _ = writeln!(self.out, "passthrough {} {}", quote(id), names.join(" "));
    }

    /// What is said of the operation.
    fn about(&mut self, metadata: &OpMetadata) {
        let OpMetadata { ignore_cache, description, export_cache, caps: _, progress_group, linux_resources } = metadata;
        if let Some(name) = description.get(CUSTOM_NAME) {
            self.line(&format!("name {}", quote(name)));
        }
        for (name, value) in description.iter().filter(|(name, _)| *name != CUSTOM_NAME) {
            self.line(&format!("note {}={}", key(name), quote(value)));
        }
        if *ignore_cache {
            self.line("no-cache");
        }
        if let Some(export) = export_cache {
            self.line(&format!("export-cache {}", export.value));
        }
        if let Some(group) = progress_group {
            self.line(&format!("group {} {}{}", quote(&group.id), quote(&group.name), flag(group.weak, "weak")));
        }
        if let Some(resources) = linux_resources {
            self.line(&format!("resources {}", resources.json(JsonStyle::Key)));
        }
    }

    fn location(&mut self, location: &Location) {
        let info = usize::try_from(location.source_index).ok().and_then(|index| self.graph.infos().get(index));
        let file = info.map_or("", |info| info.filename.as_str()).to_owned();
        let place = |position: &Option<crate::Position>| match position {
            None => "?".to_owned(),
            Some(at) if at.character == 0 => at.line.to_string(),
            Some(at) => format!("{}:{}", at.line, at.character),
        };
        for range in &location.ranges {
            let (start, end) = (place(&range.start), place(&range.end));
            let range = if start == end { start } else { format!("{start}-{end}") };
            self.line(&format!("at {file}:{range}"));
        }
    }
}

/// How a file's bytes are shown.
enum Content<'b> {
    Short(String),
    Lines(&'b str),
}

impl<'b> Content<'b> {
    fn of(bytes: &'b [u8]) -> Self {
        use base64::Engine as _;
        match std::str::from_utf8(bytes) {
            Err(_) => Self::Short(format!("base64:{}", base64::engine::general_purpose::STANDARD.encode(bytes))),
            // What cannot be seen is written out.
            Ok(text) if text.contains(|c: char| c.is_control() && c != '\n' && c != '\t') => Self::Short(quote(text)),
            Ok(text) if text.trim_end_matches('\n').contains('\n') => Self::Lines(text),
            Ok(text) => Self::Short(quote(text)),
        }
    }
}
