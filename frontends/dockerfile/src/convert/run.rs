//! RUN: a step with its mounts.

use crate::convert::converter::Converter;
use crate::convert::dispatch::upper_keyword;
use crate::convert::error::ConvertError;
use crate::convert::graph::{
    Access, Exec, File, FileAction, Meta, Mount, MountKind, Network, Op, Output, Owner, Range, SecretEnv, Sharing, User,
};
use crate::convert::outline::Lent;
use crate::convert::paths;
use crate::convert::stage::{Command, StageId, ranges};
use crate::convert::state::EnvList;
use crate::instruction::{self, CommandLine, Form, MountType, Run};
use crate::shell::{Env, Lexer, NoEnv};

/// What the mounts of a step come to.
#[derive(Default)]
struct Mounts {
    mounts: Vec<Mount>,
    secret_env: Vec<SecretEnv>,
}

/// Variables of the step, secrets masked.
struct Masked<'a> {
    env: &'a EnvList,
    secrets: &'a [SecretEnv],
}

impl Env for Masked<'_> {
    fn get(&self, name: &str) -> Option<&str> {
        if self.secrets.iter().any(|s| s.name == name) {
            return Some("****");
        }
        self.env.get(name)
    }
}

impl Converter<'_> {
    pub(crate) fn run_step(&mut self, id: StageId, command: &Command, run: &Run) -> Result<(), ConvertError> {
        if let Some(device) = run.devices.first() {
            return Err(ConvertError::unsupported(format!("RUN --device={}", device.name)));
        }
        let resolved = self.resolve_mounts(id, run)?;
        let paths = self.stages[id].paths;
        self.path_sets[paths].insert("/".into());

        let mut mounts = Mounts::default();
        let (args, shown) = self.run_args(id, command, &run.command, &mut mounts)?;
        let at = ranges(command.instruction.span);
        for (mount, &source) in resolved.iter().zip(&command.sources) {
            self.add_mount(id, mount, source, &at, &mut mounts)?;
        }
        if self.options.shm_size > 0 {
            let kind = MountKind::Tmpfs { size: self.options.shm_size };
            mounts.mounts.push(Mount { dest: "/dev/shm".into(), kind });
        }

        let state = self.stages[id].state.clone();
        let lexer = Lexer { raw_quotes: true, keep_unset: true, ..self.lexer };
        let masked = Masked { env: &state.env, secrets: &mounts.secret_env };
        let name = upper_keyword(&lexer.expand(&shown, &masked).map_or(shown, |e| e.text));
        let history = history(&args, &self.stages[id].build_args, &state.env);

        let mut meta = Meta::named(self.prefixed(id, &name, state.platform.as_ref(), true));
        meta.description.insert("com.docker.dockerfile.v1.command".into(), command.instruction.code.clone());
        meta.locations.push(ranges(command.instruction.span));
        meta.ignore_cache = self.stages[id].ignore_cache;
        meta.resources.clone_from(&self.options.resources);

        let root = MountKind::Bind { input: state.output, selector: String::new(), readonly: false, no_output: false };
        let mut all = vec![Mount { dest: "/".into(), kind: root }];
        all.append(&mut mounts.mounts);
        let exec = Exec {
            platform: state.platform.clone().unwrap_or_else(|| self.target_platform.clone()),
            args,
            env: state.env.to_vec(),
            cwd: state.dir.clone(),
            user: state.user.clone(),
            hostname: state.hostname.clone(),
            cgroup_parent: self.options.cgroup_parent.clone(),
            network: match run.network {
                instruction::Network::Default => state.network,
                instruction::Network::None => Network::None,
                instruction::Network::Host => Network::Host,
            },
            insecure: run.security == instruction::Security::Insecure,
            proxy: self.proxy.clone(),
            extra_hosts: self.options.extra_hosts.clone(),
            ulimits: self.options.ulimits.clone(),
            devices: Vec::new(),
            mounts: all,
            secret_env: mounts.secret_env,
        };
        // Outputs are numbered in the order of the mount paths; the root comes first.
        self.stages[id].state.output = Some(self.graph.add(Op::Exec(Box::new(exec)), meta));
        self.commit(id, format!("RUN {history} # buildkit"), false);
        Ok(())
    }

    /// Arguments of the process, and the text to be shown. A heredoc with an interpreter line becomes a mounted file.
    fn run_args(
        &mut self,
        id: StageId,
        command: &Command,
        line: &CommandLine,
        mounts: &mut Mounts,
    ) -> Result<(Vec<String>, String), ConvertError> {
        let mut shown = command.instruction.code.clone();
        let mut args = line.args.clone();
        if let Some(first) = line.files.first() {
            let ([word], Form::Shell) = (args.as_slice(), line.form) else {
                return Err(ConvertError::instruction("a heredoc goes with the shell form of RUN only"));
            };
            if is_heredoc(&self.lexer, word) {
                let script = first.chomped();
                let windows = self.stages[id].image.os == "windows";
                if !windows && script.starts_with("#!") {
                    let file = FileAction::Mkfile {
                        path: paths::clean(&paths::join(&["/", &first.name])),
                        mode: 0o755,
                        data: script.into_bytes(),
                        owner: None,
                        timestamp: -1,
                    };
                    let op = Op::File(File { base: None, actions: vec![file] });
                    let input = self.graph.add(op, Meta::named("[internal] preparing inline document"));
                    let kind =
                        MountKind::Bind { input: Some(input), selector: "/".into(), readonly: true, no_output: false };
                    mounts.mounts.push(Mount { dest: "/dev/pipes/".into(), kind });
                    args = vec![paths::join(&["/dev/pipes/", &first.name])];
                } else {
                    args = vec![script];
                }
                shown.push_str(&format!(" ({})", summary(&first.content)));
            } else {
                let mut script = word.clone();
                for file in &line.files {
                    script.push('\n');
                    script.push_str(&file.content);
                    script.push_str(&file.name);
                }
                args = vec![script];
            }
        }
        if line.form == Form::Shell {
            args = self.stages[id].image.with_shell(&args);
        }
        if args.is_empty() {
            return Err(ConvertError::instruction("RUN needs a command"));
        }
        Ok((args, shown))
    }

    fn resolve_mounts(&self, id: StageId, run: &Run) -> Result<Vec<instruction::Mount>, ConvertError> {
        let env = &self.stages[id].state.env;
        let mut expand = |word: &str| {
            let expanded = self.lexer.expand(word, env).map_err(crate::ErrorKind::Shell)?;
            self.report_unset(id, &expanded.unmatched);
            Ok(expanded.text)
        };
        run.mounts
            .iter()
            .map(|m| m.resolve(&mut expand).map_err(|e| ConvertError::instruction(format!("--mount={}: {e}", m.text))))
            .collect()
    }

    fn add_mount(
        &mut self,
        id: StageId,
        mount: &instruction::Mount,
        source: StageId,
        at: &[Range],
        out: &mut Mounts,
    ) -> Result<(), ConvertError> {
        let lent = || Lent { required: mount.required, ranges: at.to_vec() };
        match mount.kind {
            MountType::Secret => {
                add_secret(mount, out)?;
                self.stages[id].outline.secrets.entry(secret_id(mount)?).or_insert_with(lent);
                return Ok(());
            }
            MountType::Ssh => {
                add_agent(mount, out)?;
                let agent = if mount.id.is_empty() { "default" } else { &mount.id };
                self.stages[id].outline.ssh.entry(agent.to_owned()).or_insert_with(lent);
                return Ok(());
            }
            MountType::Bind | MountType::Cache | MountType::Tmpfs => {}
        }
        let from_context = mount.from.is_empty() && mount.kind != MountType::Cache;
        let mut input = if from_context { Some(self.context) } else { self.stages[source].state.output };
        if !from_context && !self.stages[source].dispatched {
            return Err(ConvertError::instruction(format!(
                "--mount: the stage `{}` must be defined before the stage that mounts it at `{}`",
                mount.from, mount.target
            )));
        }
        let dest = if paths::clean(&mount.target).starts_with('/') {
            mount.target.clone()
        } else {
            paths::join(&["/", &self.stages[id].state.dir, &mount.target])
        };
        if dest == "/" {
            return Err(ConvertError::instruction("--mount: the target cannot be `/`"));
        }
        let mut selector = paths::join(&["/", &mount.source]);
        let used = selector.clone();
        if selector == "/" {
            selector.clear();
            if mount.kind != MountType::Tmpfs && (mount.uid.is_some() || mount.gid.is_some() || mount.mode.is_some()) {
                input = Some(self.owned_cache(mount, input));
                selector = "/cache".into();
            }
        }
        let kind = match mount.kind {
            MountType::Tmpfs => MountKind::Tmpfs { size: mount.size },
            MountType::Cache => MountKind::Cache {
                input,
                selector,
                readonly: mount.read_only,
                id: format!(
                    "{}/{}",
                    self.options.cache_namespace,
                    if mount.id.is_empty() { paths::clean(&mount.target) } else { mount.id.clone() }
                ),
                sharing: match mount.sharing {
                    None | Some(instruction::Sharing::Shared) => Sharing::Shared,
                    Some(instruction::Sharing::Private) => Sharing::Private,
                    Some(instruction::Sharing::Locked) => Sharing::Locked,
                },
            },
            _ => MountKind::Bind { input, selector, readonly: mount.read_only, no_output: !mount.read_only },
        };
        out.mounts.push(Mount { dest, kind });
        if from_context {
            self.stages[id].context_paths.insert(used);
        } else {
            let paths = self.stages[source].paths;
            self.path_sets[paths].insert(used);
        }
        Ok(())
    }

    /// A directory with the owner and mode that a cache mount asks for.
    fn owned_cache(&mut self, mount: &instruction::Mount, base: Option<Output>) -> Output {
        let mkdir = FileAction::Mkdir {
            path: "/cache".into(),
            mode: mount.mode.unwrap_or(0o755) & 0o777,
            parents: false,
            owner: Some(Owner {
                user: Some(User::Id(mount.uid.unwrap_or(0))),
                group: Some(User::Id(mount.gid.unwrap_or(0))),
            }),
            timestamp: -1,
        };
        self.graph.add(
            Op::File(File { base, actions: vec![mkdir] }),
            Meta::named("[internal] setting cache mount permissions"),
        )
    }
}

fn access(mount: &instruction::Mount, id: String, mode: u32) -> Access {
    Access {
        id,
        uid: mount.uid.unwrap_or(0),
        gid: mount.gid.unwrap_or(0),
        mode: mount.mode.unwrap_or(mode),
        optional: !mount.required,
    }
}

fn secret_id(mount: &instruction::Mount) -> Result<String, ConvertError> {
    Ok(match (mount.source.as_str(), mount.id.as_str(), mount.target.as_str()) {
        ("", "", "") => return Err(ConvertError::instruction("--mount=type=secret needs an id, a source or a target")),
        ("", "", target) => paths::base(target).to_owned(),
        ("", id, _) => id.to_owned(),
        (source, _, _) => source.to_owned(),
    })
}

fn add_secret(mount: &instruction::Mount, out: &mut Mounts) -> Result<(), ConvertError> {
    let id = secret_id(mount)?;
    if let Some(name) = &mount.env {
        out.secret_env.push(SecretEnv { id: id.clone(), name: name.clone(), optional: !mount.required });
    }
    let dest = match (&mount.env, mount.target.as_str()) {
        (Some(_), "") => return Ok(()),
        (None, "") => format!("/run/secrets/{}", paths::base(&id)),
        (_, target) => target.to_owned(),
    };
    out.mounts.push(Mount { dest, kind: MountKind::Secret(access(mount, id, 0o400)) });
    Ok(())
}

fn add_agent(mount: &instruction::Mount, out: &mut Mounts) -> Result<(), ConvertError> {
    if !mount.source.is_empty() {
        return Err(ConvertError::instruction("--mount=type=ssh does not take a source"));
    }
    let access = access(mount, mount.id.clone(), 0o600);
    out.mounts.push(Mount { dest: mount.target.clone(), kind: MountKind::Ssh(access) });
    Ok(())
}

/// Whether the command line is one heredoc and nothing else.
fn is_heredoc(lexer: &Lexer, word: &str) -> bool {
    let rest = word.trim_start_matches(|c: char| c.is_ascii_digit());
    let Some(rest) = rest.strip_prefix("<<") else { return false };
    let rest = rest.strip_prefix('-').unwrap_or(rest);
    !rest.contains('<') && Lexer { escape: '\\', ..*lexer }.words(rest, &NoEnv).is_ok_and(|words| words.len() == 1)
}

/// First line of a script, with dots if there are more.
fn summary(text: &str) -> String {
    let text = text.trim();
    match text.split_once('\n') {
        Some((first, _)) => format!("{}...", first.strip_suffix('\r').unwrap_or(first)),
        None => text.to_owned(),
    }
}

/// `|2 A=1 B=2 /bin/sh -c …`: the arguments that the stage declared, then the command.
fn history(args: &[String], declared: &[(String, Option<String>)], env: &EnvList) -> String {
    let mut list: Vec<(&str, &str)> = Vec::new();
    for (key, value) in declared {
        let value = env.get(key).unwrap_or(value.as_deref().unwrap_or_default());
        match list.iter_mut().find(|(k, _)| k == key) {
            Some(entry) => entry.1 = value,
            None => list.push((key, value)),
        }
    }
    let mut words = Vec::new();
    if !list.is_empty() {
        words.push(format!("|{}", list.len()));
        words.extend(list.iter().map(|(k, v)| format!("{k}={v}")));
    }
    words.extend(args.iter().cloned());
    words.join(" ")
}
