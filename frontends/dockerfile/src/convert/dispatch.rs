//! Instructions of a stage, one after the other: each changes the image config, its history, and maybe the file system.

use crate::convert::converter::Converter;
use crate::convert::error::ConvertError;
use crate::convert::golang;
use crate::convert::graph::{File, FileAction, Meta, Op, Owner, User};
use crate::convert::image::{DEFAULT_PATH, Healthcheck};
use crate::convert::stage::{Command, StageId, ranges};
use crate::convert::{expose, paths, signal};
use crate::instruction::{Arg, CommandLine, Form, Healthcheck as Health, Kind, Pair};
use crate::shell::ShellError;

/// Arguments that steer the frontend and never become variables of steps.
const NO_VARIABLES: &[&str] = &["BUILDKIT_SBOM_SCAN_CONTEXT", "BUILDKIT_SBOM_SCAN_STAGE"];

pub(crate) fn shell_error(error: ShellError) -> ConvertError {
    ConvertError::instruction(error.to_string())
}

/// Owner from `user[:group]`, names or numbers.
pub(crate) fn owner(text: &str) -> Owner {
    let one = |part: &str| match part {
        "root" => User::Id(0),
        // A negative number is a number too, and wraps as it does on the wire.
        _ => part.parse::<i32>().map_or_else(|_| User::Name(part.to_owned()), |n| User::Id(n.cast_unsigned())),
    };
    let one = |part: &str| if part.is_empty() { User::Id(0) } else { one(part) };
    match text.split_once(':') {
        Some((user, group)) => Owner { user: Some(one(user)), group: Some(one(group)) },
        None => Owner { user: Some(one(text)), group: None },
    }
}

impl Converter<'_> {
    /// Runs the instructions of a stage.
    pub(crate) fn dispatch_stage(&mut self, id: StageId) -> Result<(), ConvertError> {
        self.inherit(id);
        let target = self.target_platform.clone();
        let options = self.options;
        let stage = &mut self.stages[id];
        stage.dispatched = true;
        let platform = stage.platform.get_or_insert(target).clone();
        let image = &mut stage.image;
        let has_path = image.config.env.iter().any(|e| e.split_once('=').map_or(e.as_str(), |(k, _)| k) == "PATH");
        if !has_path && platform.os != "windows" {
            image.config.env.push(format!("PATH={DEFAULT_PATH}"));
        }
        for entry in &image.config.env {
            let (key, value) = entry.split_once('=').unwrap_or((entry, ""));
            stage.state.env.set(key, value);
        }
        if !options.hostname.is_empty() {
            stage.state.hostname.clone_from(&options.hostname);
        }
        if !image.config.working_dir.is_empty() {
            let dir = paths::absolute(&image.config.working_dir, &image.config.working_dir, false);
            image.config.working_dir.clone_from(&dir);
            stage.state.dir = dir;
        }
        if !image.config.user.is_empty() {
            stage.state.user.clone_from(&image.config.user);
        }
        stage.state.network = options.network;
        for command in std::mem::take(&mut stage.commands) {
            let at = ranges(command.instruction.span);
            self.stages[id].on_build = command.on_build;
            self.dispatch(id, &command).map_err(|e| e.at(&at))?;
        }
        Ok(())
    }

    /// Replaces the variables of a word by those of the stage.
    pub(crate) fn expand(&self, id: StageId, word: &str) -> Result<String, ConvertError> {
        Ok(self.lexer.expand(word, &self.stages[id].state.env).map_err(shell_error)?.text)
    }

    fn expand_all(&self, id: StageId, words: &[String]) -> Result<Vec<String>, ConvertError> {
        words.iter().map(|w| self.expand(id, w)).collect()
    }

    fn expand_pairs(&self, id: StageId, pairs: &[Pair]) -> Result<Vec<(String, String)>, ConvertError> {
        pairs.iter().map(|p| Ok((self.expand(id, &p.key)?, self.expand(id, &p.value)?))).collect()
    }

    /// Adds a history entry.
    pub(crate) fn commit(&mut self, id: StageId, text: String, empty_layer: bool) {
        let created = self.created();
        self.stages[id].image.commit(text, empty_layer, created.as_deref());
    }

    /// The display name of a step: its code with variables replaced where that can be done, the keyword in capitals.
    pub(crate) fn shown(&self, id: StageId, code: &str) -> String {
        upper_keyword(&self.expand(id, code).unwrap_or_else(|_| code.to_owned()))
    }

    fn dispatch(&mut self, id: StageId, command: &Command) -> Result<(), ConvertError> {
        match &command.instruction.kind {
            Kind::Env(pairs) => {
                let mut text = String::from("ENV");
                for (key, value) in self.expand_pairs(id, pairs)? {
                    text.push_str(&format!(" {key}={value}"));
                    let stage = &mut self.stages[id];
                    stage.state.env.set(&key, &value);
                    stage.image.set_env(&key, &value);
                }
                self.commit(id, text, true);
            }
            Kind::Label(pairs) => {
                let mut text = String::from("LABEL");
                for (key, value) in self.expand_pairs(id, pairs)? {
                    text.push_str(&format!(" {key}={value}"));
                    self.stages[id].image.config.labels.insert(key, value);
                }
                self.commit(id, text, true);
            }
            Kind::Maintainer(name) => {
                self.stages[id].image.author.clone_from(name);
                self.commit(id, format!("MAINTAINER {name}"), true);
            }
            Kind::Run(run) => self.run_step(id, command, run)?,
            Kind::Copy(copy) => self.copy(id, command, copy)?,
            Kind::Add(add) => self.add(id, command, add)?,
            Kind::Workdir(path) => self.workdir(id, command, path)?,
            Kind::User(user) => {
                let user = self.expand(id, user)?;
                let stage = &mut self.stages[id];
                stage.state.user.clone_from(&user);
                stage.image.config.user.clone_from(&user);
                self.commit(id, format!("USER {user}"), true);
            }
            Kind::Cmd(line) => {
                let args = self.command_args(id, line);
                let stage = &mut self.stages[id];
                stage.cmd_set = true;
                stage.image.config.args_escaped = true;
                stage.image.config.cmd.clone_from(&args);
                self.commit(id, format!("CMD {}", golang::quoted_list(&args)), true);
            }
            Kind::Entrypoint(line) => {
                let args = self.command_args(id, line);
                let stage = &mut self.stages[id];
                stage.image.config.entrypoint.clone_from(&args);
                if !stage.cmd_set {
                    stage.image.config.cmd.clear();
                }
                self.commit(id, format!("ENTRYPOINT {}", golang::quoted_list(&args)), true);
            }
            Kind::Healthcheck(health) => self.healthcheck(id, health),
            Kind::Expose(words) => self.expose(id, words)?,
            Kind::Volume(words) => {
                let volumes = self.expand_all(id, words)?;
                if volumes.iter().any(String::is_empty) {
                    return Err(ConvertError::instruction("VOLUME cannot take an empty path"));
                }
                self.stages[id].image.config.volumes.extend(volumes.iter().cloned());
                self.commit(id, format!("VOLUME {}", golang::list(&volumes)), true);
            }
            Kind::Stopsignal(word) => {
                let name = self.expand(id, word)?;
                if !signal::is_signal(&name) {
                    return Err(ConvertError::instruction(format!("STOPSIGNAL: there is no signal `{name}`")));
                }
                self.stages[id].image.config.stop_signal.clone_from(&name);
                self.commit(id, format!("STOPSIGNAL {name}"), true);
            }
            Kind::Shell(words) => {
                self.stages[id].image.config.shell.clone_from(words);
                self.commit(id, format!("SHELL {}", golang::list(words)), true);
            }
            Kind::Arg(args) => self.arg(id, args)?,
            Kind::Onbuild(text) => self.stages[id].image.config.on_build.push(text.clone()),
        }
        Ok(())
    }

    fn command_args(&self, id: StageId, line: &CommandLine) -> Vec<String> {
        match line.form {
            Form::Shell => self.stages[id].image.with_shell(&line.args),
            Form::Exec => line.args.clone(),
        }
    }

    fn arg(&mut self, id: StageId, args: &[Arg]) -> Result<(), ConvertError> {
        let mut texts = Vec::with_capacity(args.len());
        for arg in args {
            let value = match (self.build_args.get(&arg.key), &arg.value) {
                (Some(value), _) => Some(value.clone()),
                (None, Some(default)) => Some(self.expand(id, default)?),
                // The argument of the same name before the first FROM, which is expanded already.
                (None, None) => self.global.get(&arg.key).map(str::to_owned),
            };
            let stage = &mut self.stages[id];
            if let Some(value) = value.as_ref().filter(|_| !NO_VARIABLES.contains(&arg.key.as_str())) {
                stage.state.env.set(&arg.key, value);
            }
            texts.push(match &value {
                Some(value) => format!("{}={value}", arg.key),
                None => arg.key.clone(),
            });
            stage.build_args.push((arg.key.clone(), value));
        }
        self.commit(id, format!("ARG {}", texts.join(" ")), true);
        Ok(())
    }

    fn healthcheck(&mut self, id: StageId, health: &Health) {
        let check = Healthcheck {
            test: health.test.clone(),
            interval: health.interval,
            timeout: health.timeout,
            start_period: health.start_period,
            start_interval: health.start_interval,
            retries: i64::from(health.retries),
        };
        let text = format!(
            "HEALTHCHECK {{Test:{} Interval:{} Timeout:{} StartPeriod:{} StartInterval:{} Retries:{}}}",
            golang::list(&check.test),
            golang::duration(check.interval),
            golang::duration(check.timeout),
            golang::duration(check.start_period),
            golang::duration(check.start_interval),
            check.retries
        );
        self.stages[id].image.config.healthcheck = Some(check);
        self.commit(id, text, true);
    }

    fn expose(&mut self, id: StageId, words: &[String]) -> Result<(), ConvertError> {
        let mut ports = Vec::new();
        for word in words {
            for part in self.lexer.words(word, &self.stages[id].state.env).map_err(shell_error)? {
                ports.extend(expose::parse(&part).map_err(|e| ConvertError::instruction(e.to_string()))?);
            }
        }
        self.stages[id].image.config.exposed_ports.extend(ports.iter().cloned());
        self.commit(id, format!("EXPOSE {}", golang::list(&ports)), true);
        Ok(())
    }

    fn workdir(&mut self, id: StageId, command: &Command, word: &str) -> Result<(), ConvertError> {
        let path = self.expand(id, word)?;
        let stage = &mut self.stages[id];
        let dir = paths::absolute(&stage.image.config.working_dir, &path, false);
        stage.image.config.working_dir.clone_from(&dir);
        stage.state.dir.clone_from(&dir);
        let user = stage.image.config.user.clone();
        let platform = stage.platform.clone();
        let base = stage.state.output;
        let made = dir != "/";
        if made {
            let name = self.shown(id, &command.instruction.code);
            let mut meta = Meta::named(self.prefixed(id, &name, platform.as_ref(), true));
            meta.locations.push(ranges(command.instruction.span));
            let mkdir = FileAction::Mkdir {
                path: paths::clean(&dir),
                mode: 0o755,
                parents: true,
                owner: (!user.is_empty()).then(|| owner(&user)),
                timestamp: self.timestamp(),
            };
            let output = self.graph.add(Op::File(File { base, actions: vec![mkdir] }), meta);
            self.stages[id].state.output = Some(output);
        }
        self.commit(id, format!("WORKDIR {dir}"), !made);
        Ok(())
    }
}

/// The first word in capitals.
pub(crate) fn upper_keyword(text: &str) -> String {
    match text.split_once(' ') {
        Some((first, rest)) => format!("{} {rest}", first.to_uppercase()),
        None => text.to_uppercase(),
    }
}
