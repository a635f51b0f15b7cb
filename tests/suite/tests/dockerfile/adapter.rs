//! The native adapter: a frontend's graph made with `rhost-llb`.

use std::collections::HashMap;

use rhost_dockerfile::convert::graph::{self as ir, FileAction, MountKind, Op, Output, User};
use rhost_dockerfile::convert::{SourceFile, Target};
use rhost_llb as llb;

/// The definition of a target.
pub fn marshal(
    target: &Target,
    source: &SourceFile,
    default: &ir::Platform,
) -> Result<llb::Definition, llb::BuildError> {
    let mut builder = llb::GraphBuilder::new(platform(default), llb::Limits::HOSTILE);
    let text = builder.add_source_info(llb::SourceInfo {
        filename: source.name.clone(),
        data: source.data.clone().into(),
        definition: None,
        language: source.language.to_owned(),
    });
    let mut states: HashMap<Output, Option<llb::State>> = HashMap::new();
    let Some(root) = target.root else { return builder.marshal(None) };
    for id in target.graph.reachable(root) {
        let node = target.graph.node(id);
        let get = |output: Option<Output>| output.and_then(|o| states[&o]);
        let options = options(&node.meta, text);
        let state = match &node.op {
            Op::Source(source) => {
                let options = llb::VertexOptions { platform: source.platform.as_ref().map(platform), ..options };
                let op = llb::SourceOp { identifier: source.identifier.clone(), attrs: source.attrs.clone() };
                Some(builder.source(op, &options)?)
            }
            Op::Input(name) => panic!("no client lends `{name}` here"),
            Op::Exec(exec) => {
                let options = llb::VertexOptions { platform: Some(platform(&exec.platform)), ..options };
                builder.exec(spec(exec, &get), &options)?.root
            }
            Op::File(file) => {
                let steps = file.actions.iter().map(|action| step(action, &get)).collect();
                Some(builder.file(llb::FileChain { base: get(file.base), steps }, &options)?)
            }
            Op::Merge(inputs) => {
                let layers: Vec<_> = inputs.iter().map(|i| get(*i)).collect();
                builder.merge(&layers, &options)?
            }
        };
        states.insert(Output { node: id, index: 0 }, state);
    }
    builder.marshal(states[&root])
}

fn platform(platform: &ir::Platform) -> llb::Platform {
    llb::Platform {
        architecture: platform.architecture.clone(),
        os: platform.os.clone(),
        variant: platform.variant.clone(),
        os_version: platform.os_version.clone(),
        os_features: platform.os_features.clone(),
    }
}

fn options(meta: &ir::Meta, text: i32) -> llb::VertexOptions {
    let position = |line: u32, character: u32| Some(llb::Position { line: line as i32, character: character as i32 });
    llb::VertexOptions {
        description: meta.description.clone(),
        ignore_cache: meta.ignore_cache,
        progress_group: meta.progress_group.as_ref().map(|g| llb::ProgressGroup {
            id: g.id.clone(),
            name: g.name.clone(),
            weak: g.weak,
        }),
        linux_resources: meta.resources.as_ref().map(|r| llb::LinuxResources {
            memory: r.memory,
            memory_swap: r.memory_swap,
            cpu_shares: r.cpu_shares,
            cpu_period: r.cpu_period,
            cpu_quota: r.cpu_quota,
            cpuset_cpus: r.cpuset_cpus.clone(),
            cpuset_mems: r.cpuset_mems.clone(),
        }),
        locations: meta
            .locations
            .iter()
            .map(|ranges| llb::Location {
                source_index: text,
                ranges: ranges
                    .iter()
                    .map(|r| llb::Range {
                        start: position(r.start_line, r.start_character),
                        end: position(r.end_line, r.end_character),
                    })
                    .collect(),
            })
            .collect(),
        ..llb::VertexOptions::default()
    }
}

fn spec(exec: &ir::Exec, get: &dyn Fn(Option<Output>) -> Option<llb::State>) -> llb::ExecSpec {
    let mut out = llb::ExecSpec {
        meta: llb::Meta {
            args: exec.args.clone(),
            env: exec.env.clone(),
            cwd: exec.cwd.clone(),
            user: exec.user.clone(),
            hostname: exec.hostname.clone(),
            cgroup_parent: exec.cgroup_parent.clone(),
            proxy_env: exec.proxy.as_ref().map(|p| llb::ProxyEnv {
                http_proxy: p.http.clone(),
                https_proxy: p.https.clone(),
                ftp_proxy: p.ftp.clone(),
                no_proxy: p.no.clone(),
                all_proxy: p.all.clone(),
            }),
            extra_hosts: exec
                .extra_hosts
                .iter()
                .map(|(host, ip)| llb::HostIp { host: host.clone(), ip: ip.clone() })
                .collect(),
            ulimits: exec
                .ulimits
                .iter()
                .map(|(name, soft, hard)| llb::Ulimit { name: name.clone(), soft: *soft, hard: *hard })
                .collect(),
            ..llb::Meta::default()
        },
        network: match exec.network {
            ir::Network::Sandbox => llb::NetMode::Sandbox,
            ir::Network::Host => llb::NetMode::Host,
            ir::Network::None => llb::NetMode::None,
        },
        security: if exec.insecure { llb::SecurityMode::Insecure } else { llb::SecurityMode::Sandbox },
        secret_env: exec
            .secret_env
            .iter()
            .map(|s| llb::SecretEnv { id: s.id.clone(), name: s.name.clone(), optional: s.optional })
            .collect(),
        cdi_devices: exec
            .devices
            .iter()
            .map(|(name, optional)| llb::CdiDevice { name: name.clone(), optional: *optional })
            .collect(),
        ..llb::ExecSpec::default()
    };
    for mount in &exec.mounts {
        let bind = |source, selector: &str, readonly, kind| llb::ExecMount {
            dest: mount.dest.clone(),
            source,
            selector: selector.to_owned(),
            readonly,
            kind,
            content_cache: llb::ContentCache::default(),
        };
        match &mount.kind {
            MountKind::Bind { input, .. } if mount.dest == "/" => out.root = get(*input),
            MountKind::Bind { input, selector, readonly, no_output } => {
                let kind = if *no_output { llb::ExecMountKind::BindNoOutput } else { llb::ExecMountKind::Bind };
                out.mounts.push(bind(get(*input), selector, *readonly, kind));
            }
            MountKind::Cache { input, selector, readonly, id, sharing } => {
                let sharing = match sharing {
                    ir::Sharing::Shared => llb::CacheSharing::Shared,
                    ir::Sharing::Private => llb::CacheSharing::Private,
                    ir::Sharing::Locked => llb::CacheSharing::Locked,
                };
                let kind = llb::ExecMountKind::Cache { id: id.clone(), sharing };
                out.mounts.push(bind(get(*input), selector, *readonly, kind));
            }
            MountKind::Tmpfs { size } => {
                out.mounts.push(bind(None, "", false, llb::ExecMountKind::Tmpfs { size: *size }));
            }
            MountKind::Secret(a) => out.secrets.push(llb::ExecSecret {
                dest: mount.dest.clone(),
                options: llb::SecretOpt {
                    id: a.id.clone(),
                    uid: a.uid,
                    gid: a.gid,
                    mode: a.mode,
                    optional: a.optional,
                },
            }),
            MountKind::Ssh(a) => out.ssh.push(llb::ExecSsh {
                dest: mount.dest.clone(),
                options: llb::SshOpt { id: a.id.clone(), uid: a.uid, gid: a.gid, mode: a.mode, optional: a.optional },
            }),
        }
    }
    out
}

fn step(action: &FileAction, get: &dyn Fn(Option<Output>) -> Option<llb::State>) -> llb::FileStep {
    match action {
        FileAction::Mkdir { path, mode, parents, owner: o, timestamp } => llb::FileStep::MkDir(llb::FileActionMkDir {
            path: path.clone(),
            mode: *mode as i32,
            make_parents: *parents,
            owner: owner(o.as_ref()),
            timestamp: *timestamp,
        }),
        FileAction::Mkfile { path, mode, data, owner: o, timestamp } => llb::FileStep::MkFile(llb::FileActionMkFile {
            path: path.clone(),
            mode: *mode as i32,
            data: data.clone().into(),
            owner: owner(o.as_ref()),
            timestamp: *timestamp,
        }),
        FileAction::Copy(copy) => llb::FileStep::Copy {
            from: llb::CopyFrom::State(get(copy.from)),
            copy: llb::FileActionCopy {
                src: copy.src.clone(),
                dest: copy.dest.clone(),
                owner: owner(copy.owner.as_ref()),
                mode: copy.mode,
                follow_symlink: copy.follow_symlink,
                dir_copy_contents: copy.dir_copy_contents,
                attempt_unpack: copy.attempt_unpack,
                create_dest_path: copy.create_dest_path,
                allow_wildcard: copy.allow_wildcard,
                allow_empty_wildcard: copy.allow_empty_wildcard,
                timestamp: copy.timestamp,
                include_patterns: copy.include_patterns.clone(),
                exclude_patterns: copy.exclude_patterns.clone(),
                always_replace_existing_dest_paths: false,
                mode_str: copy.mode_str.clone(),
                required_paths: copy.required_paths.clone(),
            },
        },
    }
}

fn owner(owner: Option<&ir::Owner>) -> Option<llb::ChownOpt> {
    let user = |user: &User| match user {
        User::Id(id) => llb::UserOpt::ById(*id),
        // The builder fills in the input.
        User::Name(name) => llb::UserOpt::ByName(llb::NamedUserOpt { name: name.clone(), input: 0 }),
    };
    owner.map(|o| llb::ChownOpt { user: o.user.as_ref().map(user), group: o.group.as_ref().map(user) })
}
