//! `RUN`: a step of the executor over an active snapshot; what it wrote becomes the new layer.
use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;
use rhost_exec::{
    Access, ExitStatus, MountSource, Network, OutputStream, OverlayUpper, Security, Step, Tree as ExecTree, Ulimit,
};
use rhost_llb::{Digest, ExecOp, Meta, Mount, MountType, NetMode, OpKind, ROOT_MOUNT, SecurityMode, Vertex};
use rhost_rootfs::{Root, Source, copy};
use rhost_solver::{CacheMap, Op, OpError};
use rhost_store::{ActiveSnapshot, MountSpec};

use crate::event::Event;
use crate::op_error::{OpFailure, blocking};
use crate::shared::{Shared, as_it_is};
use crate::value::Value;

use super::mounts::{self, Claims, LentMounts};

/// A command to run.
pub struct ExecStep {
    shared: Arc<Shared>,
    vertex: Arc<Vertex>,
    op: ExecOp,
    meta: Meta,
}

impl ExecStep {
    /// Refuses what the executor cannot do yet.
    pub fn new(shared: Arc<Shared>, vertex: Arc<Vertex>) -> Result<Self, OpFailure> {
        let OpKind::Exec(op) = vertex.kind() else { return Err(OpFailure::NotYet("an exec of another kind".into())) };
        let op = op.clone();
        shared.lent.entitlements.check(&op, &shared.rules)?;
        let not_yet = |what: &str| Err(OpFailure::NotYet(what.to_owned()));
        if !op.cdi_devices.is_empty() {
            return not_yet("RUN --device");
        }
        let Some(meta) = op.meta.clone() else { return not_yet("an exec without a command") };
        Ok(Self { shared, vertex, op, meta })
    }

    fn command(&self) -> String {
        self.meta.args.join(" ")
    }
}

/// The executor's form of a mount.
fn exec_tree(spec: &MountSpec) -> ExecTree {
    match (&spec.upper, &spec.work, spec.lowers.as_slice()) {
        (Some(upper), _, []) => ExecTree::Dir(upper.clone()),
        (None, _, [only]) => ExecTree::Dir(only.clone()),
        (upper, work, lowers) => ExecTree::Overlay {
            lowers: lowers.to_vec(),
            upper: upper.clone().zip(work.clone()).map(|(upper, work)| OverlayUpper { upper, work }),
        },
    }
}

/// A step that is ready to run, and the layers it writes: (output, layer), output -1 for those thrown away.
struct Prepared {
    step: Step,
    layers: Vec<(i64, ActiveSnapshot)>,
    /// For read-only mounts with an output: what goes out unchanged.
    passed: Vec<(i64, Value)>,
}

impl ExecStep {
    fn prepare(&self, inputs: &[Value], claims: &Claims, mut lent: LentMounts) -> Result<Prepared, OpFailure> {
        let store = &self.shared.store;
        let input =
            |mount: &Mount| mount.input_index().and_then(|index| inputs.get(index)).cloned().unwrap_or(Value::Scratch);
        let (mut layers, mut passed) = (Vec::new(), Vec::new());
        let mut step = Step::new(ExecTree::Dir("/".into()), self.meta.args.iter().cloned());
        for (number, mount) in self.op.mounts.iter().enumerate() {
            let is_root = mount.dest == ROOT_MOUNT;
            let access = if mount.readonly { Access::ReadOnly } else { Access::ReadWrite };
            let source = match mount.mount_type {
                MountType::Bind => None,
                MountType::Tmpfs => {
                    let size = mount.tmpfs_opt.as_ref().and_then(|tmpfs| u64::try_from(tmpfs.size).ok());
                    Some((MountSource::Tmpfs { size: size.filter(|size| *size > 0) }, Access::ReadWrite))
                }
                MountType::Cache => {
                    let Some(claim) = claims.get(&number) else { continue };
                    step.held.push(claim.lock()?);
                    let tree = ExecTree::Dir(claim.dir());
                    Some((MountSource::Tree { tree, subpath: mount.selector.clone() }, access))
                }
                // An optional one that was not lent is not mounted.
                MountType::Secret | MountType::Ssh => match lent.sources.remove(&number) {
                    Some(source) => Some((source, Access::ReadOnly)),
                    None => continue,
                },
            };
            if let Some((source, access)) = source {
                step.mounts.push(rhost_exec::Mount { destination: mount.dest.clone(), source, access });
                continue;
            }
            let value = input(mount);
            let (tree, access) = match (&value, mount.readonly) {
                (Value::Snapshot(id), true) => {
                    let spec = store.mount(*id)?.ok_or(rhost_store::Error::NoSnapshot { id: id.0 })?;
                    if mount.output >= 0 {
                        passed.push((mount.output, value.clone()));
                    }
                    (exec_tree(&spec), Access::ReadOnly)
                }
                (Value::Context(tree), readonly) => {
                    // A copy: the filter applies, and what is written never reaches the user's directory.
                    let active = store.prepare(None)?;
                    copy(&Source::Tree((**tree).clone()), &Root::open(active.upper())?, &as_it_is(self.shared.owners))?;
                    let found = exec_tree(active.mount()?);
                    layers.push((if readonly { -1 } else { mount.output }, active));
                    (found, if readonly { Access::ReadOnly } else { Access::ReadWrite })
                }
                (value, readonly) => {
                    let parent = if let Value::Snapshot(id) = value { Some(*id) } else { None };
                    let active = store.prepare(parent)?;
                    let found = exec_tree(active.mount()?);
                    layers.push((mount.output, active));
                    (found, if readonly { Access::ReadOnly } else { Access::ReadWrite })
                }
            };
            if is_root {
                (step.root, step.root_access) = (tree, access);
            } else {
                step.mounts.push(rhost_exec::Mount {
                    destination: mount.dest.clone(),
                    source: MountSource::Tree { tree, subpath: mount.selector.clone() },
                    access,
                });
            }
        }
        let meta = &self.meta;
        step.env = meta.env.clone();
        step.secret_env = lent.env;
        if let Some(proxy) = &meta.proxy_env {
            let pairs = [
                ("HTTP_PROXY", &proxy.http_proxy),
                ("HTTPS_PROXY", &proxy.https_proxy),
                ("FTP_PROXY", &proxy.ftp_proxy),
                ("NO_PROXY", &proxy.no_proxy),
                ("ALL_PROXY", &proxy.all_proxy),
            ];
            for (name, value) in pairs.into_iter().filter(|(_, value)| !value.is_empty()) {
                step.env.push(format!("{name}={value}"));
                step.env.push(format!("{}={value}", name.to_ascii_lowercase()));
            }
        }
        step.cwd.clone_from(&meta.cwd);
        step.user.clone_from(&meta.user);
        step.hostname.clone_from(&meta.hostname);
        step.network = if self.op.network == NetMode::None { Network::None } else { Network::Host };
        // Granted, or it would not have been made.
        step.security = match self.op.security {
            SecurityMode::Sandbox => Security::Sandbox,
            SecurityMode::Insecure => Security::Insecure,
        };
        step.extra_hosts = meta.extra_hosts.iter().map(|host| (host.host.clone(), host.ip.clone())).collect();
        // Only now: a step whose result is cached needs no emulator.
        let wanted = self.vertex.op.platform.as_ref().unwrap_or(&self.shared.host);
        step.emulator = self.shared.emulation.emulator(wanted)?;
        step.cgroup_parent.clone_from(&meta.cgroup_parent);
        step.ulimits =
            meta.ulimits.iter().map(|u| Ulimit { name: u.name.clone(), soft: u.soft, hard: u.hard }).collect();
        step.valid_exit_codes.clone_from(&meta.valid_exit_codes);
        if let Some(limits) = &self.vertex.metadata.linux_resources {
            step.resources = rhost_exec::Resources {
                memory: limits.memory,
                memory_swap: limits.memory_swap,
                cpu_shares: i64::try_from(limits.cpu_shares).unwrap_or(i64::MAX),
                cpu_period: i64::try_from(limits.cpu_period).unwrap_or(i64::MAX),
                cpu_quota: limits.cpu_quota,
                cpuset_cpus: limits.cpuset_cpus.clone(),
                cpuset_mems: limits.cpuset_mems.clone(),
            };
        }
        Ok(Prepared { step, layers, passed })
    }

    async fn launch(&self, step: Step) -> Result<(), OpFailure> {
        let (once, vertex) = (self.shared.once.clone(), self.vertex.digest);
        let mut sink = move |stream: OutputStream, chunk: &[u8]| {
            let stream = if stream == OutputStream::Stdout { 1 } else { 2 };
            once.send(Event::Log { vertex, stream, bytes: chunk.into(), at: Timestamp::now() });
        };
        let exit = rhost_exec::run(step, &mut sink).await?;
        for warning in &exit.warnings {
            self.shared.events.send(Event::Warning { vertex: Some(vertex), message: warning.as_str().into() });
        }
        match exit.status {
            _ if exit.success => Ok(()),
            ExitStatus::Code(code) => Err(OpFailure::Exit { command: self.command(), code }),
            ExitStatus::Signal(signal) => Err(OpFailure::Signal { command: self.command(), signal }),
        }
    }

    async fn execute(&self, inputs: &[Value]) -> Result<Vec<Value>, OpFailure> {
        let claims = mounts::claim(&self.shared, self.vertex.digest, &self.op, inputs).await?;
        let lent = mounts::lend(&self.shared, &self.op).await?;
        let (copy, owned, claimed) = (self.again(), inputs.to_vec(), claims.clone());
        let prepared = blocking(move || copy.prepare(&owned, &claimed, lent));
        let Prepared { step, layers, passed } = prepared.await?;
        self.launch(step).await?;
        drop(claims);
        let (outputs, name) = (self.outputs(), rhost_registry::redact(&self.vertex.name));
        blocking(move || {
            let mut values = vec![Value::Scratch; outputs];
            let mut put = |output: i64, value: Value| {
                if let Some(slot) = usize::try_from(output).ok().and_then(|index| values.get_mut(index)) {
                    *slot = value;
                }
            };
            for (output, layer) in layers {
                if output >= 0 {
                    put(output, Value::Snapshot(layer.commit_as(&name)?));
                }
            }
            for (output, value) in passed {
                put(output, value);
            }
            Ok(values)
        })
        .await
    }

    fn again(&self) -> Self {
        let Self { shared, vertex, op, meta } = self;
        Self { shared: shared.clone(), vertex: vertex.clone(), op: op.clone(), meta: meta.clone() }
    }
}

#[async_trait]
impl Op<Value> for ExecStep {
    fn outputs(&self) -> usize {
        self.vertex.outputs.max(1) as usize
    }

    async fn cache_map(&self) -> Result<CacheMap, OpError> {
        super::cache_map(&self.shared, &self.vertex)
    }

    async fn content_key(&self, input: usize, value: &Value) -> Result<Digest, OpError> {
        super::content_key(&self.shared, &self.vertex, input, value).await
    }

    async fn run(&self, inputs: &[Value]) -> Result<Vec<Value>, OpError> {
        self.execute(inputs).await.map_err(OpError::new)
    }
}
