//! `llb.exec`: collects a command, and puts it into the graph.
use rhost_llb::{
    CacheSharing as Sharing, CdiDevice, ContentCache, ExecMount, ExecMountKind, ExecSecret, ExecSpec, ExecSsh, HostIp,
    Meta, NetMode, ProxyEnv, SecretEnv, SecretOpt, SecurityMode as Security, SshOpt, Ulimit,
};
use wasmtime::Result as Call;
use wasmtime::component::Resource;

use super::bindings::rhost::frontend::llb::{
    BindMode, CacheSharing, FileAccess, HostExec, NetworkMode, ProxySettings, SecurityMode,
};
use super::bindings::rhost::frontend::types::{Error, Platform};
use super::guest::{Guest, bound};
use super::handles::{Exec, Metadata, State};

const SPENT: &str = "this exec has run: make another";

impl Guest {
    /// Changes what is collected; after `run` that is pointless, and does nothing. `bytes`: what is handed over.
    fn change(&mut self, exec: &Resource<Exec>, bytes: usize, change: impl FnOnce(&mut ExecSpec)) -> Call<()> {
        // Every entry of a list costs something even when its strings are empty.
        self.hand_over(bytes + 16)?;
        let most = self.limits.graph.per_op;
        if let Some(spec) = &mut self.table.get_mut(exec)?.spec {
            change(spec);
            let longest = [
                spec.meta.args.len(),
                spec.meta.env.len(),
                spec.meta.extra_hosts.len(),
                spec.meta.ulimits.len(),
                spec.meta.valid_exit_codes.len(),
                spec.secret_env.len(),
                spec.cdi_devices.len(),
                spec.mounts.len() + spec.secrets.len() + spec.ssh.len(),
            ];
            bound(longest.into_iter().max().unwrap_or(0), most, "one command has too many entries of one kind")?;
        }
        Ok(())
    }

    fn add_mount(&mut self, exec: &Resource<Exec>, mount: ExecMount, bytes: usize) -> Call<()> {
        let target = mount.dest.clone();
        self.change(exec, bytes + target.len() * 2, |spec| spec.mounts.push(mount))?;
        let exec = self.table.get_mut(exec)?;
        if exec.spec.is_some() {
            exec.targets.push(target);
        }
        Ok(())
    }
}

/// Absolute; otherwise as it is, since it enters the digest.
fn absolute(path: String) -> String {
    if path.starts_with('/') { path } else { format!("/{path}") }
}

impl HostExec for Guest {
    async fn new(&mut self, root: Resource<State>, args: Vec<String>) -> Call<Resource<Exec>> {
        self.hand_over(args.iter().map(|arg| arg.len() + 16).sum())?;
        let root = self.edge(&root)?;
        let meta = Meta { args, cwd: "/".into(), ..Meta::default() };
        let spec = Some(ExecSpec { meta, root, ..ExecSpec::default() });
        Ok(self.table.push(Exec { spec, platform: None, targets: Vec::new(), outputs: None })?)
    }

    async fn env(&mut self, exec: Resource<Exec>, name: String, value: String) -> Call<()> {
        self.change(&exec, name.len() + value.len(), |spec| {
            spec.meta.env.retain(|known| known.split_once('=').map_or(known.as_str(), |(known, _)| known) != name);
            spec.meta.env.push(format!("{name}={value}"));
        })
    }

    async fn cwd(&mut self, exec: Resource<Exec>, path: String) -> Call<()> {
        self.change(&exec, path.len(), |spec| spec.meta.cwd = absolute(path))
    }

    async fn user(&mut self, exec: Resource<Exec>, user: String) -> Call<()> {
        self.change(&exec, user.len(), |spec| spec.meta.user = user)
    }

    async fn platform(&mut self, exec: Resource<Exec>, platform: Platform) -> Call<()> {
        self.hand_over(platform.os_features.iter().map(|feature| feature.len() + 16).sum::<usize>() + 64)?;
        self.table.get_mut(&exec)?.platform = Some(platform.into());
        Ok(())
    }

    async fn network(&mut self, exec: Resource<Exec>, mode: NetworkMode) -> Call<()> {
        self.change(&exec, 0, |spec| {
            spec.network = match mode {
                NetworkMode::Sandbox => NetMode::Sandbox,
                NetworkMode::Host => NetMode::Host,
                NetworkMode::None => NetMode::None,
            }
        })
    }

    async fn security(&mut self, exec: Resource<Exec>, mode: SecurityMode) -> Call<()> {
        self.change(&exec, 0, |spec| {
            spec.security = match mode {
                SecurityMode::Sandbox => Security::Sandbox,
                SecurityMode::Insecure => Security::Insecure,
            }
        })
    }

    async fn hostname(&mut self, exec: Resource<Exec>, name: String) -> Call<()> {
        self.change(&exec, name.len(), |spec| spec.meta.hostname = name)
    }

    async fn extra_host(&mut self, exec: Resource<Exec>, host: String, ip: String) -> Call<()> {
        self.change(&exec, host.len() + ip.len(), |spec| spec.meta.extra_hosts.push(HostIp { host, ip }))
    }

    async fn ulimit(&mut self, exec: Resource<Exec>, name: String, soft: i64, hard: i64) -> Call<()> {
        self.change(&exec, name.len(), |spec| spec.meta.ulimits.push(Ulimit { name, soft, hard }))
    }

    async fn cgroup_parent(&mut self, exec: Resource<Exec>, path: String) -> Call<()> {
        self.change(&exec, path.len(), |spec| spec.meta.cgroup_parent = path)
    }

    async fn proxy(&mut self, exec: Resource<Exec>, settings: ProxySettings) -> Call<()> {
        let ProxySettings { http, https, ftp, no, all } = settings;
        let bytes = http.len() + https.len() + ftp.len() + no.len() + all.len();
        let proxy = ProxyEnv { http_proxy: http, https_proxy: https, ftp_proxy: ftp, no_proxy: no, all_proxy: all };
        self.change(&exec, bytes, |spec| spec.meta.proxy_env = Some(proxy))
    }

    async fn valid_exit_codes(&mut self, exec: Resource<Exec>, codes: Vec<i32>) -> Call<()> {
        self.change(&exec, codes.len() * 4, |spec| spec.meta.valid_exit_codes = codes)
    }

    async fn read_only_root(&mut self, exec: Resource<Exec>) -> Call<()> {
        self.change(&exec, 0, |spec| spec.root_readonly = true)
    }

    async fn mount(
        &mut self,
        exec: Resource<Exec>,
        target: String,
        source: Resource<State>,
        selector: String,
        mode: BindMode,
    ) -> Call<()> {
        let bytes = selector.len();
        let mount = ExecMount {
            dest: absolute(target),
            source: self.edge(&source)?,
            selector,
            readonly: mode == BindMode::ReadOnly,
            kind: if mode == BindMode::Discard { ExecMountKind::BindNoOutput } else { ExecMountKind::Bind },
            content_cache: ContentCache::Default,
        };
        self.add_mount(&exec, mount, bytes)
    }

    async fn mount_cache(
        &mut self,
        exec: Resource<Exec>,
        target: String,
        id: String,
        sharing: CacheSharing,
        base: Resource<State>,
        selector: String,
        read_only: bool,
    ) -> Call<()> {
        let bytes = id.len() + selector.len();
        let sharing = match sharing {
            CacheSharing::Shared => Sharing::Shared,
            CacheSharing::Private => Sharing::Private,
            CacheSharing::Locked => Sharing::Locked,
        };
        let mount = ExecMount {
            dest: absolute(target),
            source: self.edge(&base)?,
            selector,
            readonly: read_only,
            kind: ExecMountKind::Cache { id, sharing },
            content_cache: ContentCache::Default,
        };
        self.add_mount(&exec, mount, bytes)
    }

    async fn mount_tmpfs(&mut self, exec: Resource<Exec>, target: String, size: u64) -> Call<()> {
        let mount = ExecMount {
            dest: absolute(target),
            source: None,
            selector: String::new(),
            readonly: false,
            kind: ExecMountKind::Tmpfs { size: i64::try_from(size).unwrap_or(i64::MAX) },
            content_cache: ContentCache::Default,
        };
        self.add_mount(&exec, mount, 0)
    }

    async fn mount_secret(
        &mut self,
        exec: Resource<Exec>,
        target: String,
        id: String,
        optional: bool,
        access: FileAccess,
    ) -> Call<()> {
        let FileAccess { uid, gid, mode } = access;
        self.change(&exec, target.len() + id.len(), |spec| {
            let options = SecretOpt { id, uid, gid, mode, optional };
            spec.secrets.push(ExecSecret { dest: absolute(target), options });
        })
    }

    async fn mount_ssh(
        &mut self,
        exec: Resource<Exec>,
        target: String,
        id: String,
        optional: bool,
        access: FileAccess,
    ) -> Call<()> {
        let FileAccess { uid, gid, mode } = access;
        self.change(&exec, target.len() + id.len(), |spec| {
            let dest = if target.is_empty() { target } else { absolute(target) };
            spec.ssh.push(ExecSsh { dest, options: SshOpt { id, uid, gid, mode, optional } });
        })
    }

    async fn secret_env(&mut self, exec: Resource<Exec>, name: String, id: String, optional: bool) -> Call<()> {
        self.change(&exec, name.len() + id.len(), |spec| spec.secret_env.push(SecretEnv { id, name, optional }))
    }

    async fn device(&mut self, exec: Resource<Exec>, name: String, optional: bool) -> Call<()> {
        self.change(&exec, name.len(), |spec| spec.cdi_devices.push(CdiDevice { name, optional }))
    }

    async fn run(
        &mut self,
        exec: Resource<Exec>,
        metadata: Resource<Metadata>,
    ) -> Call<Result<Resource<State>, Error>> {
        let mut options = self.table.get(&metadata)?.0.clone();
        let builder = self.table.get_mut(&exec)?;
        let Some(spec) = builder.spec.take() else { return Ok(Err(Error::Invalid(SPENT.into()))) };
        if builder.platform.is_some() {
            options.platform.clone_from(&builder.platform);
        }
        match self.on_its_time(|guest| guest.graph.exec(spec, &options))? {
            Err(error) => Ok(Err(error.into())),
            Ok(outputs) => {
                let root = outputs.root;
                self.table.get_mut(&exec)?.outputs = Some(outputs);
                Ok(Ok(self.table.push(State(root))?))
            }
        }
    }

    async fn output(&mut self, exec: Resource<Exec>, target: String) -> Call<Result<Resource<State>, Error>> {
        let builder = self.table.get(&exec)?;
        let Some(outputs) = &builder.outputs else {
            return Ok(Err(Error::Invalid("this exec has not run yet: call `run` first".into())));
        };
        let target = absolute(target);
        // Of two mounts at one place the last is the one on top.
        let edge = builder.targets.iter().rposition(|known| *known == target).and_then(|index| outputs.mounts[index]);
        match edge {
            Some(edge) => Ok(Ok(self.table.push(State(Some(edge)))?)),
            None => Ok(Err(Error::NotFound(format!("nothing is mounted at {target} with mode `keep`")))),
        }
    }

    async fn drop(&mut self, exec: Resource<Exec>) -> Call<()> {
        self.table.delete(exec)?;
        Ok(())
    }
}
