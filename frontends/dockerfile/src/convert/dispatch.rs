//! Instructions of a stage, one after the other: each changes the image config, its history, and maybe the file system.

use std::collections::BTreeSet;

use crate::convert::converter::Converter;
use crate::convert::error::ConvertError;
use crate::convert::golang;
use crate::convert::graph::{File, FileAction, Meta, Op, Owner, Range, User};
use crate::convert::image::{DEFAULT_PATH, Healthcheck};
use crate::convert::lint::rules;
use crate::convert::outline::ArgInfo;
use crate::convert::stage::{Command, StageId, ranges};
use crate::convert::{expose, paths, signal};
use crate::instruction::{Arg, CommandLine, Form, Healthcheck as Health, Kind, Pair, suggest};
use crate::shell::{Lexer, ShellError};

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
            self.lint.enter(&command.instruction.comments, &at);
            self.dispatch(id, &command).map_err(|e| e.at(&at))?;
        }
        Ok(())
    }

    /// Replaces the variables of a word by those of the stage.
    pub(crate) fn expand(&self, id: StageId, word: &str) -> Result<String, ConvertError> {
        self.expand_with(id, &self.lexer, word)
    }

    /// As [`Self::expand`], by other rules of quoting.
    pub(crate) fn expand_with(&self, id: StageId, lexer: &Lexer, word: &str) -> Result<String, ConvertError> {
        let expanded = lexer.expand(word, &self.stages[id].state.env).map_err(shell_error)?;
        self.report_unset(id, &expanded.unmatched);
        Ok(expanded.text)
    }

    /// Variables that were used and are not set, save those that an ARG without a value declares.
    pub(crate) fn report_unset(&self, id: StageId, unmatched: &BTreeSet<String>) {
        let stage = &self.stages[id];
        for name in unmatched {
            if stage.build_args.iter().any(|(key, _)| key == name) || NO_VARIABLES.contains(&name.as_str()) {
                continue;
            }
            let known: Vec<&str> = stage.state.env.iter().map(|(key, _)| key).collect();
            let near = suggest::exact(name, &known).map(|near| format!(" (did you mean ${near}?)")).unwrap_or_default();
            self.lint.found(&rules::UNDEFINED_VAR, format!("Usage of undefined variable '${name}'{near}"));
        }
    }

    /// Of several only the last counts, and the finding is about the one that is lost.
    fn used_once(&self, keyword: &str, before: Option<&Vec<Range>>) {
        if let Some(before) = before {
            let message = format!(
                "Multiple {keyword} instructions should not be used in the same stage because only the last one will be used"
            );
            self.lint.found_at(&rules::MULTIPLE_INSTRUCTIONS, before, message);
        }
    }

    fn recommend_json(&self, id: StageId, keyword: &str, line: &CommandLine) {
        if line.form == Form::Shell && self.stages[id].image.config.shell.is_empty() {
            let message = format!(
                "JSON arguments recommended for {keyword} to prevent unintended behavior related to OS signals"
            );
            self.lint.found(&rules::JSON_ARGS_RECOMMENDED, message);
        }
    }

    fn report_legacy(&self, keyword: &str, pair: &Pair) {
        if pair.legacy {
            let message =
                format!("\"{keyword} key=value\" should be used instead of legacy \"{keyword} key value\" format");
            self.lint.found(&rules::LEGACY_KEY_VALUE, message);
        }
    }

    fn report_secret(&self, keyword: &str, key: &str) {
        if looks_secret(key) {
            let message = format!("Do not use ARG or ENV instructions for sensitive data ({keyword} \"{key}\")");
            self.lint.found(&rules::SECRETS_IN_ARG_OR_ENV, message);
        }
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
        let expanded = self.lexer.expand(code, &self.stages[id].state.env);
        upper_keyword(&expanded.map_or_else(|_| code.to_owned(), |e| e.text))
    }

    fn dispatch(&mut self, id: StageId, command: &Command) -> Result<(), ConvertError> {
        let (keyword, at) = (command.instruction.keyword.as_str(), || ranges(command.instruction.span));
        match &command.instruction.kind {
            Kind::Env(pairs) => {
                let mut text = String::from("ENV");
                for ((key, value), pair) in self.expand_pairs(id, pairs)?.into_iter().zip(pairs) {
                    self.report_legacy(keyword, pair);
                    self.report_secret("ENV", &key);
                    text.push_str(&format!(" {key}={value}"));
                    let stage = &mut self.stages[id];
                    stage.state.env.set(&key, &value);
                    stage.image.set_env(&key, &value);
                }
                self.commit(id, text, true);
            }
            Kind::Label(pairs) => {
                let mut text = String::from("LABEL");
                for ((key, value), pair) in self.expand_pairs(id, pairs)?.into_iter().zip(pairs) {
                    self.report_legacy(keyword, pair);
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
                let before = self.stages[id].cmd_at.replace(at());
                self.used_once(keyword, before.as_ref());
                self.recommend_json(id, keyword, line);
                let args = self.command_args(id, line);
                let stage = &mut self.stages[id];
                stage.image.config.args_escaped = true;
                stage.image.config.cmd.clone_from(&args);
                self.commit(id, format!("CMD {}", golang::quoted_list(&args)), true);
            }
            Kind::Entrypoint(line) => {
                let before = self.stages[id].entrypoint_at.replace(at());
                self.used_once(keyword, before.as_ref());
                self.recommend_json(id, keyword, line);
                let args = self.command_args(id, line);
                let stage = &mut self.stages[id];
                stage.image.config.entrypoint.clone_from(&args);
                if stage.cmd_at.is_none() {
                    stage.image.config.cmd.clear();
                }
                self.commit(id, format!("ENTRYPOINT {}", golang::quoted_list(&args)), true);
            }
            Kind::Healthcheck(health) => {
                let before = self.stages[id].healthcheck_at.replace(at());
                self.used_once(keyword, before.as_ref());
                self.healthcheck(id, health);
            }
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
            Kind::Arg(args) => self.arg(id, args, &at())?,
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

    fn arg(&mut self, id: StageId, args: &[Arg], at: &[Range]) -> Result<(), ConvertError> {
        let mut texts = Vec::with_capacity(args.len());
        for arg in args {
            self.report_secret("ARG", &arg.key);
            let inherited = arg.value.is_none() && !self.build_args.contains_key(&arg.key);
            let value = match (self.build_args.get(&arg.key), &arg.value) {
                (Some(value), _) => Some(value.clone()),
                (None, Some(default)) => Some(self.expand(id, default)?),
                // The argument of the same name before the first FROM, which is expanded already.
                (None, None) => self.global.get(&arg.key).map(str::to_owned),
            };
            let stage = &mut self.stages[id];
            // One that is taken over from before the first FROM keeps its place there.
            if !(inherited && value.is_some()) {
                let info = ArgInfo { value: value.clone().unwrap_or_default(), ..ArgInfo::new(arg, at) };
                stage.outline.args.insert(arg.key.clone(), info);
            }
            stage.outline.used.insert(arg.key.clone());
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
                let found = expose::parse(&part).map_err(|e| ConvertError::instruction(e.to_string()))?;
                if found.capital_protocol {
                    let message = format!("Defined protocol '{part}' in EXPOSE instruction should be lowercase");
                    self.lint.found(&rules::EXPOSE_PROTO_CASING, message);
                }
                if found.mapping {
                    let message = format!(
                        "EXPOSE instruction should not define an IP address or host-port mapping, found '{part}'"
                    );
                    self.lint.found(&rules::EXPOSE_INVALID_FORMAT, message);
                }
                ports.extend(found.ports);
            }
        }
        self.stages[id].image.config.exposed_ports.extend(ports.iter().cloned());
        self.commit(id, format!("EXPOSE {}", golang::list(&ports)), true);
        Ok(())
    }

    fn workdir(&mut self, id: StageId, command: &Command, word: &str) -> Result<(), ConvertError> {
        let path = self.expand(id, word)?;
        if !self.stages[id].workdir_set && !path.starts_with('/') {
            let message = format!(
                "Relative workdir {} can have unexpected results if the base image changes",
                golang::quote(&path)
            );
            self.lint.found(&rules::WORKDIR_RELATIVE_PATH, message);
        }
        let stage = &mut self.stages[id];
        stage.workdir_set = true;
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

/// Whether a name sounds like that of something secret: one of its words, between underscores, is such a word, and none takes it back.
fn looks_secret(name: &str) -> bool {
    const SECRET: &[&str] =
        &["apikey", "auth", "credential", "credentials", "key", "password", "pword", "passwd", "secret", "token"];
    const HARMLESS: &[&str] = &["public", "file", "version"];
    let has = |list: &[&str]| name.split('_').any(|word| list.contains(&word.to_ascii_lowercase().as_str()));
    has(SECRET) && !has(HARMLESS)
}

/// The first word in capitals.
pub(crate) fn upper_keyword(text: &str) -> String {
    match text.split_once(' ') {
        Some((first, rest)) => format!("{} {rest}", first.to_uppercase()),
        None => text.to_uppercase(),
    }
}
