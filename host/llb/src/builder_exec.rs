//! Steps: `GraphBuilder::exec`, with mounts put in order as BuildKit's client does (spec A.3).
use crate::builder::{BuildError, GraphBuilder, State, VertexOptions, output_of};
use crate::exec_op::{
    CacheOpt, CacheSharing, CdiDevice, ContentCache, ExecOp, Meta, Mount, MountType, NO_OUTPUT, NetMode, ROOT_MOUNT,
    SecretEnv, SecretOpt, SecurityMode, SshOpt, TmpfsOpt,
};
use crate::op::OpKind;
use crate::{EMPTY_INPUT, wire};

/// A step to be added. `meta.remove_mount_stubs_recursive` is always set.
#[derive(Clone, Debug, Default)]
pub struct ExecSpec {
    /// The process.
    pub meta: Meta,
    /// The root file system; `None` is scratch.
    pub root: Option<State>,
    /// The step cannot change its root.
    pub root_readonly: bool,
    /// Other mounts, in any order.
    pub mounts: Vec<ExecMount>,
    /// Secrets as files. They come after all mounts, in this order.
    pub secrets: Vec<ExecSecret>,
    /// Secrets as environment variables.
    pub secret_env: Vec<SecretEnv>,
    /// Agents. They come last, in this order; `SSH_AUTH_SOCK` is set to the first one unless the environment has it.
    pub ssh: Vec<ExecSsh>,
    /// Devices.
    pub cdi_devices: Vec<CdiDevice>,
    /// The network.
    pub network: NetMode,
    /// Privileges.
    pub security: SecurityMode,
}

/// A mount that is neither secret nor agent.
#[derive(Clone, Debug)]
pub struct ExecMount {
    /// Where.
    pub dest: String,
    /// What; `None` is an empty directory.
    pub source: Option<State>,
    /// Path inside the source; empty for all of it.
    pub selector: String,
    /// Not writable.
    pub readonly: bool,
    /// What it is.
    pub kind: ExecMountKind,
    /// Whether the content is the key.
    pub content_cache: ContentCache,
}

/// What a mount is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExecMountKind {
    /// The source; what is changed becomes a state, if it is writable.
    Bind,
    /// The source; what is changed is thrown away.
    BindNoOutput,
    /// A directory that lives on between builds.
    Cache {
        /// Its name.
        id: String,
        /// Who may have it at once.
        sharing: CacheSharing,
    },
    /// A directory in memory.
    Tmpfs {
        /// Bytes; 0 for no limit.
        size: i64,
    },
}

/// A secret as a file.
#[derive(Clone, Debug)]
pub struct ExecSecret {
    /// Where.
    pub dest: String,
    /// Which, and how.
    pub options: SecretOpt,
}

/// An ssh agent's socket.
#[derive(Clone, Debug)]
pub struct ExecSsh {
    /// Where; empty for `/run/buildkit/ssh_agent.N`.
    pub dest: String,
    /// Which, and how.
    pub options: SshOpt,
}

/// What a step leaves behind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExecOutputs {
    /// The vertex, as a state of its first output. For ordering only, when the step leaves nothing behind.
    pub vertex: State,
    /// The root after the step; the root before it when it is read-only.
    pub root: Option<State>,
    /// Each of [`ExecSpec::mounts`] after the step, where it is writable and kept.
    pub mounts: Vec<Option<State>>,
}

impl GraphBuilder {
    /// Adds a step.
    pub fn exec(&mut self, spec: ExecSpec, options: &VertexOptions) -> Result<ExecOutputs, BuildError> {
        let ExecSpec {
            mut meta,
            root,
            root_readonly,
            mounts,
            secrets,
            secret_env,
            ssh,
            cdi_devices,
            network,
            security,
        } = spec;
        meta.remove_mount_stubs_recursive = true;
        let ssh: Vec<ExecSsh> = ssh
            .into_iter()
            .enumerate()
            .map(|(number, mut agent)| {
                if agent.dest.is_empty() {
                    agent.dest = format!("/run/buildkit/ssh_agent.{number}");
                }
                agent
            })
            .collect();
        if let Some(first) = ssh.first()
            && !meta.env.iter().any(|variable| variable.starts_with("SSH_AUTH_SOCK="))
        {
            meta.env.push(format!("SSH_AUTH_SOCK={}", first.dest));
        }

        let root_mount = ExecMount {
            dest: ROOT_MOUNT.into(),
            source: root,
            selector: String::new(),
            readonly: root_readonly,
            kind: ExecMountKind::Bind,
            content_cache: ContentCache::Default,
        };
        // The root is number 0; the others follow. Sorted by destination, the order given decides among equals.
        let mut sorted: Vec<(usize, &ExecMount)> = std::iter::once(&root_mount).chain(&mounts).enumerate().collect();
        sorted.sort_by(|(_, a), (_, b)| a.dest.cmp(&b.dest));

        let mut inputs = Vec::new();
        let mut children = Vec::new();
        let mut wire_mounts = Vec::new();
        let mut numbers = vec![None; mounts.len() + 1];
        let mut next_output = 0u32;
        for (number, mount) in sorted {
            let input = match mount.source {
                None => EMPTY_INPUT,
                Some(_) if matches!(mount.kind, ExecMountKind::Tmpfs { .. }) => {
                    return Err(BuildError::Mount { dest: mount.dest.clone(), reason: "a tmpfs starts from nothing" });
                }
                Some(state) => {
                    let input = self.input(state)?;
                    children.push(state);
                    inputs.iter().position(|known| *known == input).unwrap_or_else(|| {
                        inputs.push(input);
                        inputs.len() - 1
                    }) as i64
                }
            };
            let output = if mount.kind == ExecMountKind::Bind && !mount.readonly {
                numbers[number] = Some(next_output);
                next_output += 1;
                i64::from(next_output - 1)
            } else {
                NO_OUTPUT
            };
            wire_mounts.push(wire_mount(mount, input, output));
        }
        for secret in secrets {
            wire_mounts.push(Mount {
                input: EMPTY_INPUT,
                dest: secret.dest,
                mount_type: MountType::Secret,
                secret_opt: Some(secret.options),
                ..<Mount as wire::Message>::absent()
            });
        }
        for agent in ssh {
            wire_mounts.push(Mount {
                input: EMPTY_INPUT,
                dest: agent.dest,
                mount_type: MountType::Ssh,
                ssh_opt: Some(agent.options),
                ..<Mount as wire::Message>::absent()
            });
        }
        let exec = ExecOp { meta: Some(meta), mounts: wire_mounts, network, security, secret_env, cdi_devices };
        let op = self.op_of(options, inputs, OpKind::Exec(exec), true);
        let vertex = self.push(op, children, options)?;
        let mut states = numbers.into_iter().map(|number| number.map(|output| output_of(vertex, output)));
        let changed_root = states.next().flatten();
        Ok(ExecOutputs { vertex, root: if root_readonly { root } else { changed_root }, mounts: states.collect() })
    }
}

fn wire_mount(mount: &ExecMount, input: i64, output: i64) -> Mount {
    let mut wire = Mount {
        input,
        selector: mount.selector.clone(),
        dest: mount.dest.clone(),
        output,
        readonly: mount.readonly,
        content_cache: mount.content_cache,
        ..Mount::default()
    };
    match &mount.kind {
        ExecMountKind::Bind | ExecMountKind::BindNoOutput => {}
        ExecMountKind::Cache { id, sharing } => {
            wire.mount_type = MountType::Cache;
            wire.cache_opt = Some(CacheOpt { id: id.clone(), sharing: *sharing });
        }
        ExecMountKind::Tmpfs { size } => {
            wire.mount_type = MountType::Tmpfs;
            wire.tmpfs_opt = Some(TmpfsOpt { size: *size });
        }
    }
    wire
}
