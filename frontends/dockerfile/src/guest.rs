//! The frontend as a guest: [`crate::host::Host`] over the SDK, and the walk that turns a [`Graph`] into the host's states.
//!
//! Local sources are read in place, without a solve; everything else is solved and read from the result. Findings are held back until
//! the build file is known, so that they can quote it.
use std::cell::RefCell;
use std::collections::BTreeMap;

use rhost_sdk::llb::{self, CopyAction, CopyFlags, FileAccess, Identity};
use rhost_sdk::{Error, Invocation, Metadata, Outcome, Position, SourceMap, State, context, images, report, solve};

use crate::convert::graph::{
    Access, Copy, Exec, File, FileAction, Graph, Meta, MountKind, Network, NodeId, Op, Output, Owner, Platform, Range,
    Sharing, User,
};
use crate::convert::{self, Answer, Built, ConvertError};
use crate::host::{Host, HostError, ImageConfigRequest, ResolveMode, ResolvedImage, Ticket, Warning};
#[cfg(feature = "component")]
use crate::layer::Dockerfile;
use crate::layer::{File as Part, Layer, Reader, Rewritten};

#[cfg(feature = "component")]
rhost_sdk::frontend!(build);

/// Highlighting, as linguist calls it.
const LANGUAGE: &str = "Dockerfile";

#[cfg(feature = "component")]
fn build(invocation: Invocation) -> Result<Outcome, Error> {
    answer(invocation, &Dockerfile)
}

/// Answers an invocation whose build file is in the language of `layer`.
///
/// # Errors
/// What the user is told.
pub fn answer(invocation: Invocation, layer: &dyn Layer) -> Result<Outcome, Error> {
    let host = Guest {
        invocation,
        layer,
        pending: RefCell::default(),
        warnings: RefCell::default(),
        file: RefCell::default(),
    };
    match convert::answer(&host) {
        Ok(None) => {}
        Ok(Some(answer)) => return Ok(described(&answer)),
        Err(error) => return Err(host.refuse(&error)),
    }
    let built = convert::build(&host);
    let answer = match &built {
        Ok(built) => host.outcome(built),
        Err(error) => Err(host.refuse(error)),
    };
    host.emit_warnings();
    answer
}

/// What was asked for instead of a build, under BuildKit's names.
fn described(answer: &Answer) -> Outcome {
    let outcome = Outcome::new();
    outcome.metadata("result.json", answer.json.as_bytes());
    outcome.metadata("result.txt", answer.text.as_bytes());
    outcome.metadata("version", answer.version.as_bytes());
    if let Some(status) = answer.status {
        outcome.metadata("result.statuscode", status.to_string().as_bytes());
    }
    outcome
}

struct Guest<'l> {
    invocation: Invocation,
    layer: &'l dyn Layer,
    pending: RefCell<Vec<Option<images::PendingImage>>>,
    warnings: RefCell<Vec<Warning>>,
    /// The build file, once read: the first file that is no ignore file.
    file: RefCell<Option<Rewritten>>,
}

fn host_error(error: Error) -> HostError {
    HostError::new(rhost_sdk::message(&error))
}

fn sdk_platform(platform: &Platform) -> rhost_sdk::Platform {
    rhost_sdk::Platform {
        os: platform.os.clone(),
        architecture: platform.architecture.clone(),
        variant: platform.variant.clone(),
        os_version: platform.os_version.clone(),
        os_features: platform.os_features.clone(),
    }
}

fn sdk_range(range: &Range) -> rhost_sdk::Range {
    rhost_sdk::Range {
        start: Position { line: range.start_line, character: range.start_character },
        end: Position { line: range.end_line, character: range.end_character },
    }
}

impl Host for Guest<'_> {
    fn options(&self) -> Vec<(String, String)> {
        self.invocation.raw_options()
    }

    fn build_platform(&self) -> Platform {
        let platform = self.invocation.build_platform();
        Platform {
            os: platform.os,
            architecture: platform.architecture,
            variant: platform.variant,
            os_version: platform.os_version,
            os_features: platform.os_features,
        }
    }

    fn session(&self) -> Option<String> {
        self.invocation.session()
    }

    fn read_files(&self, graph: &Graph, root: Output, paths: &[&str]) -> Result<Vec<Option<Vec<u8>>>, HostError> {
        let local = match &graph.node(root.node).op {
            Op::Source(source) => source.identifier.strip_prefix("local://").map(str::to_owned),
            _ => None,
        };
        let local = local.filter(|name| context::names().contains(name));
        let tree = match local {
            Some(_) => None,
            None => {
                let state = Lowering::new(&self.invocation, None).root(graph, root).map_err(host_error)?;
                Some(solve::start(&state).wait().map_err(host_error)?)
            }
        };
        let read = |path: &str| match (&local, &tree) {
            (Some(name), _) => context::read_file(name, path, None),
            (None, Some(tree)) => tree.read_file(path, None),
            (None, None) => Err(Error::Other("neither a context nor a tree".into())),
        };
        let mut files = Vec::new();
        for path in paths {
            let data = match read(path) {
                Ok(data) => Some(data),
                Err(Error::NotFound(_)) => None,
                Err(error) => return Err(host_error(error)),
            };
            if path.ends_with(".dockerignore") || data.is_none() {
                files.push(data);
                continue;
            }
            let is_read = self.file.borrow().is_some();
            files.push(match (is_read, data) {
                // The first is the build file.
                (false, Some(data)) => {
                    Some(self.rewrite(path.trim_start_matches('/'), data, &|path| match read(path) {
                        Ok(data) => Ok(Some(data)),
                        Err(Error::NotFound(_)) => Ok(None),
                        Err(error) => Err(rhost_sdk::message(&error).to_owned()),
                    })?)
                }
                (_, data) => data,
            });
        }
        Ok(files)
    }

    fn read_head(&self, graph: &Graph, root: Output, path: &str, length: u64) -> Result<Option<Vec<u8>>, HostError> {
        let state = Lowering::new(&self.invocation, None).root(graph, root).map_err(host_error)?;
        let tree = solve::start(&state).wait().map_err(host_error)?;
        match tree.read_file(path, Some(rhost_sdk::types::ByteRange { offset: 0, length })) {
            Ok(data) => Ok(Some(data)),
            Err(Error::NotFound(_)) => Ok(None),
            Err(error) => Err(host_error(error)),
        }
    }

    fn modified(&self, graph: &Graph, root: Output, file: Option<&str>) -> Result<Option<i64>, HostError> {
        let state = Lowering::new(&self.invocation, None).root(graph, root).map_err(host_error)?;
        let tree = solve::start(&state).wait().map_err(host_error)?;
        let found = match file {
            Some(file) => tree.stat(file).map(|stat| vec![stat]),
            None => tree.read_dir("/", None),
        };
        match found {
            Ok(stats) => Ok(stats.iter().map(|stat| stat.modified.div_euclid(1_000_000_000)).max()),
            Err(Error::NotFound(_)) => Ok(None),
            Err(error) => Err(host_error(error)),
        }
    }

    fn start_image_config(&self, request: &ImageConfigRequest) -> Ticket {
        let mode = match request.mode {
            ResolveMode::Default => images::ResolveMode::Default,
            ResolveMode::Pull => images::ResolveMode::ForcePull,
            ResolveMode::Local => images::ResolveMode::PreferLocal,
        };
        let scheme = if request.oci_layout_store.is_some() { "oci-layout" } else { "docker-image" };
        let reference = format!("{scheme}://{}", request.reference);
        let platform = sdk_platform(&request.platform);
        let store = request.oci_layout_store.as_deref();
        let name = (!request.log_name.is_empty()).then_some(request.log_name.as_str());
        let mut pending = self.pending.borrow_mut();
        pending.push(Some(images::resolve(&reference, Some(&platform), mode, store, name)));
        Ticket(pending.len() as u32 - 1)
    }

    fn wait_image_config(&self, ticket: Ticket) -> Result<ResolvedImage, HostError> {
        let pending = self.pending.borrow_mut().get_mut(ticket.0 as usize).and_then(Option::take);
        let pending = pending.ok_or_else(|| HostError::new("an image was waited for twice"))?;
        let image = pending.wait().map_err(host_error)?;
        let digest = (!image.digest.is_empty()).then_some(image.digest);
        Ok(ResolvedImage { reference: image.reference, digest, config: image.config })
    }

    fn has_input(&self, name: &str) -> bool {
        self.invocation.input(name).is_some()
    }

    fn warn(&self, warning: &Warning) {
        self.warnings.borrow_mut().push(warning.clone());
    }

    fn log(&self, message: &str) {
        report::log(report::Level::Info, message);
    }
}

impl Guest<'_> {
    /// The Dockerfile that the build file is, or stands for.
    fn rewrite(&self, name: &str, data: Vec<u8>, read: &Reader<'_>) -> Result<Vec<u8>, HostError> {
        let rewritten = self.layer.rewrite(name, data, &self.invocation.build_args(), read).map_err(|fault| {
            let map = SourceMap::new(&fault.file.name, LANGUAGE, &fault.file.data, None);
            let finding = report::Diagnostic::new(report::Severity::Error, &fault.message);
            let place = |line| Position { line, character: 0 };
            let range = rhost_sdk::Range { start: place(fault.span.first_line), end: place(fault.span.last_line) };
            finding.mark(&map, range, "");
            if let Some(help) = &fault.help {
                finding.help(help);
            }
            finding.emit();
            HostError::new(fault.to_string())
        })?;
        let text = rewritten.text.clone();
        *self.file.borrow_mut() = Some(rewritten);
        Ok(text)
    }

    /// The build file to quote.
    fn map(&self) -> Option<Maps> {
        self.file.borrow().as_ref().map(|file| Maps::new(file.clone(), None))
    }

    fn emit_warnings(&self) {
        let map = self.map();
        for warning in self.warnings.borrow().iter() {
            let finding = report::Diagnostic::new(report::Severity::Warning, &warning.message);
            finding.code(&warning.rule);
            if !warning.detail.is_empty() {
                finding.detail(&warning.detail);
            }
            if !warning.url.is_empty() {
                finding.url(&warning.url);
            }
            if let Some(map) = &map {
                for range in &warning.ranges {
                    let (map, range) = map.place(range);
                    finding.mark(map, range, "");
                }
            }
            finding.emit();
        }
    }

    fn refuse(&self, error: &ConvertError) -> Error {
        if let (Some(map), false) = (self.map(), error.ranges.is_empty()) {
            let first = error.ranges.first().map_or(1, |range| range.start_line);
            let message = map.file.told(&error.kind.to_string(), first);
            let finding = report::Diagnostic::new(report::Severity::Error, &message);
            for range in &error.ranges {
                let (map, range) = map.place(range);
                finding.mark(map, range, "");
            }
            finding.emit();
            if !map.file.origins.is_empty() {
                return Error::Failed(message);
            }
        }
        Error::Failed(error.to_string())
    }

    fn outcome(&self, built: &Built) -> Result<Outcome, Error> {
        let source = &built.source;
        let origin = Lowering::new(&self.invocation, None).root(&source.graph, source.root)?;
        let known = self.file.borrow().clone();
        let file = known.unwrap_or_else(|| Rewritten::plain(&source.name, source.data.clone()));
        let map = Maps::new(file, Some(&origin));
        let outcome = Outcome::new();
        for target in &built.targets {
            let state = match target.root {
                Some(root) => Lowering::new(&self.invocation, Some(&map)).root(&target.graph, root)?,
                None => rhost_sdk::scratch(),
            };
            outcome.add(&sdk_platform(&target.platform), &state, target.config.as_bytes());
            let key = |name: &str| if built.multi_platform { format!("{name}/{}", target.id) } else { name.to_owned() };
            if let Some(config) = &target.base_config {
                outcome.metadata(&key("containerimage.base.config"), config.as_bytes());
            }
            if let Some(epoch) = target.epoch {
                outcome.metadata(&key("source.date.epoch"), epoch.to_string().as_bytes());
            }
        }
        Ok(outcome)
    }
}

/// The files that a build file is made of, for the host to quote.
struct Maps {
    file: Rewritten,
    maps: Vec<SourceMap>,
}

impl Maps {
    fn new(file: Rewritten, origin: Option<&State>) -> Self {
        let map =
            |index: usize, part: &Part| SourceMap::new(&part.name, LANGUAGE, &part.data, origin.filter(|_| index == 0));
        let maps = file.files.iter().enumerate().map(|(index, part)| map(index, part)).collect();
        Self { file, maps }
    }

    /// A range of the Dockerfile, where it was written.
    fn place(&self, range: &Range) -> (&SourceMap, rhost_sdk::Range) {
        let mut found = sdk_range(range);
        if self.file.origins.is_empty() {
            return (&self.maps[0], found);
        }
        let (first, last) = self.file.lines(range.start_line, range.end_line);
        (found.start.line, found.end.line) = (first.line, last);
        (&self.maps[first.file], found)
    }
}

/// One host resource per node, in the order of the nodes: inputs come first.
struct Lowering<'a> {
    invocation: &'a Invocation,
    map: Option<&'a Maps>,
    states: BTreeMap<NodeId, State>,
    scratch: State,
}

impl<'a> Lowering<'a> {
    fn new(invocation: &'a Invocation, map: Option<&'a Maps>) -> Self {
        Self { invocation, map, states: BTreeMap::new(), scratch: rhost_sdk::scratch() }
    }

    /// The state of `root`, after all that it needs.
    fn root(mut self, graph: &Graph, root: Output) -> Result<State, Error> {
        for id in graph.reachable(root) {
            let node = graph.node(id);
            let metadata = self.metadata(&node.meta);
            let state = match &node.op {
                Op::Source(source) => {
                    let attributes: Vec<(String, String)> = source.attrs.clone().into_iter().collect();
                    let platform = source.platform.as_ref().map(sdk_platform);
                    llb::source(&source.identifier, &attributes, platform.as_ref(), &metadata)?
                }
                Op::Input(name) => self
                    .invocation
                    .input(name)
                    .ok_or_else(|| Error::NotFound(format!("the client lent no result named `{name}`")))?,
                Op::Exec(exec) => self.exec(exec)?.run(&metadata)?,
                Op::File(file) => self.file(file)?.apply(&metadata)?,
                Op::Merge(inputs) => {
                    let states = inputs.iter().map(|input| self.state(*input)).collect::<Result<Vec<_>, _>>()?;
                    llb::merge(&states, &metadata)?
                }
            };
            self.states.insert(id, state);
        }
        self.state(Some(root))?;
        self.states.remove(&root.node).ok_or_else(|| Error::Other("the root is not in its graph".into()))
    }

    fn state(&self, output: Option<Output>) -> Result<&State, Error> {
        match output {
            None => Ok(&self.scratch),
            Some(Output { node, index: 0 }) => {
                self.states.get(&node).ok_or_else(|| Error::Other(format!("node {} comes after its use", node.0)))
            }
            Some(Output { node, index }) => {
                Err(Error::Unsupported(format!("output {index} of node {}: a build file cannot name one", node.0)))
            }
        }
    }

    fn metadata(&self, meta: &Meta) -> Metadata {
        let metadata = Metadata::new();
        for (key, value) in &meta.description {
            metadata.description(key, value);
        }
        if meta.ignore_cache {
            metadata.ignore_cache();
        }
        if let Some(group) = &meta.progress_group {
            metadata.progress_group(&group.id, &group.name, group.weak);
        }
        if let Some(limits) = &meta.resources {
            metadata.resources(&llb::Resources {
                memory: limits.memory,
                memory_swap: limits.memory_swap,
                cpu_shares: limits.cpu_shares,
                cpu_period: limits.cpu_period,
                cpu_quota: limits.cpu_quota,
                cpuset_cpus: limits.cpuset_cpus.clone(),
                cpuset_mems: limits.cpuset_mems.clone(),
            });
        }
        if let Some(map) = self.map {
            for ranges in &meta.locations {
                let placed: Vec<_> = ranges.iter().map(|range| map.place(range)).collect();
                if placed.is_empty() {
                    metadata.location(&map.maps[0], &[]);
                }
                // One location for the lines of one file, as BuildKit has it.
                for group in placed.chunk_by(|(one, _), (other, _)| std::ptr::eq(*one, *other)) {
                    let ranges: Vec<_> = group.iter().map(|(_, range)| *range).collect();
                    metadata.location(group[0].0, &ranges);
                }
            }
        }
        metadata
    }

    fn exec(&self, exec: &Exec) -> Result<llb::Exec, Error> {
        let root = exec.mounts.iter().find(|mount| mount.dest == "/");
        let built = llb::Exec::new(self.state(root.and_then(|mount| mount.input()))?, &exec.args);
        if let Some(MountKind::Bind { readonly: true, .. }) = root.map(|mount| &mount.kind) {
            built.read_only_root();
        }
        for variable in &exec.env {
            let (name, value) = variable.split_once('=').unwrap_or((variable, ""));
            built.env(name, value);
        }
        built.cwd(&exec.cwd);
        built.platform(&sdk_platform(&exec.platform));
        built.network(match exec.network {
            Network::Sandbox => llb::NetworkMode::Sandbox,
            Network::Host => llb::NetworkMode::Host,
            Network::None => llb::NetworkMode::None,
        });
        if exec.insecure {
            built.security(llb::SecurityMode::Insecure);
        }
        for (text, set) in [
            (&exec.user, llb::Exec::user as fn(&llb::Exec, &str)),
            (&exec.hostname, llb::Exec::hostname),
            (&exec.cgroup_parent, llb::Exec::cgroup_parent),
        ] {
            if !text.is_empty() {
                set(&built, text);
            }
        }
        if let Some(proxy) = &exec.proxy {
            built.proxy(&llb::ProxySettings {
                http: proxy.http.clone(),
                https: proxy.https.clone(),
                ftp: proxy.ftp.clone(),
                no: proxy.no.clone(),
                all: proxy.all.clone(),
            });
        }
        exec.extra_hosts.iter().for_each(|(host, ip)| built.extra_host(host, ip));
        exec.ulimits.iter().for_each(|(name, soft, hard)| built.ulimit(name, *soft, *hard));
        exec.devices.iter().for_each(|(name, optional)| built.device(name, *optional));
        exec.secret_env.iter().for_each(|secret| built.secret_env(&secret.name, &secret.id, secret.optional));
        for mount in exec.mounts.iter().filter(|mount| mount.dest != "/") {
            self.mount(&built, &mount.dest, &mount.kind)?;
        }
        Ok(built)
    }

    fn mount(&self, exec: &llb::Exec, target: &str, kind: &MountKind) -> Result<(), Error> {
        let access = |access: &Access| FileAccess { uid: access.uid, gid: access.gid, mode: access.mode };
        match kind {
            MountKind::Bind { input, selector, readonly, no_output } => {
                let mode = match (readonly, no_output) {
                    (true, _) => llb::BindMode::ReadOnly,
                    (false, true) => llb::BindMode::Discard,
                    (false, false) => llb::BindMode::Keep,
                };
                exec.mount(target, self.state(*input)?, selector, mode);
            }
            MountKind::Cache { input, selector, readonly, id, sharing } => {
                let sharing = match sharing {
                    Sharing::Shared => llb::CacheSharing::Shared,
                    Sharing::Private => llb::CacheSharing::Private,
                    Sharing::Locked => llb::CacheSharing::Locked,
                };
                exec.mount_cache(target, id, sharing, self.state(*input)?, selector, *readonly);
            }
            MountKind::Tmpfs { size } => exec.mount_tmpfs(target, u64::try_from(*size).unwrap_or(0)),
            MountKind::Secret(secret) => exec.mount_secret(target, &secret.id, secret.optional, access(secret)),
            MountKind::Ssh(agent) => exec.mount_ssh(target, &agent.id, agent.optional, access(agent)),
        }
        Ok(())
    }

    fn file(&self, file: &File) -> Result<llb::File, Error> {
        let built = llb::File::new(self.state(file.base)?);
        for action in &file.actions {
            match action {
                FileAction::Mkdir { path, mode, parents, owner, timestamp } => {
                    built.mkdir(path, *mode, *parents, owner.as_ref().map(sdk_owner).as_ref(), Some(*timestamp));
                }
                FileAction::Mkfile { path, mode, data, owner, timestamp } => {
                    built.mkfile(path, *mode, data, owner.as_ref().map(sdk_owner).as_ref(), Some(*timestamp));
                }
                FileAction::Copy(copy) => built.copy(&self.copy(copy)?),
            }
        }
        Ok(built)
    }

    fn copy(&self, copy: &Copy) -> Result<CopyAction, Error> {
        let action = CopyAction::new(self.state(copy.from)?, &copy.src, &copy.dest);
        let mut flags = CopyFlags::empty();
        // Generated flags have no `|=`.
        for (set, flag) in [
            (copy.follow_symlink, CopyFlags::FOLLOW_SYMLINKS),
            (copy.dir_copy_contents, CopyFlags::CONTENTS_ONLY),
            (copy.attempt_unpack, CopyFlags::UNPACK),
            (copy.create_dest_path, CopyFlags::CREATE_DESTINATION),
            (copy.allow_wildcard, CopyFlags::WILDCARD),
            (copy.allow_empty_wildcard, CopyFlags::ALLOW_EMPTY_WILDCARD),
        ] {
            if set {
                flags = flags | flag;
            }
        }
        action.options(flags);
        if let Some(owner) = &copy.owner {
            action.owner(&sdk_owner(owner));
        }
        if let Ok(bits) = u32::try_from(copy.mode) {
            action.mode(bits);
        }
        if !copy.mode_str.is_empty() {
            action.mode_symbols(&copy.mode_str);
        }
        action.timestamp(copy.timestamp);
        for (list, set) in [
            (&copy.include_patterns, CopyAction::include as fn(&CopyAction, &[String])),
            (&copy.exclude_patterns, CopyAction::exclude),
            (&copy.required_paths, CopyAction::required_paths),
        ] {
            if !list.is_empty() {
                set(&action, list);
            }
        }
        Ok(action)
    }
}

fn sdk_owner(owner: &Owner) -> llb::Owner {
    let identity = |user: &User| match user {
        User::Id(id) => Identity::Id(*id),
        User::Name(name) => Identity::Name(name.clone()),
    };
    llb::Owner { user: owner.user.as_ref().map(identity), group: owner.group.as_ref().map(identity) }
}
