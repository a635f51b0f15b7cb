//! One run of git: its environment, its time, its words.
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use rhost_exec::{ExitStatus, Held, HostCommand, HostExit, OutputStream, find_program};
use rhost_llb::VertexDigest;
use rhost_store::GitRepository;

use super::auth::Lent;
use super::error::GitError;
use super::{Git, GitSource};
use crate::event::Event;
use crate::op_error::OpFailure;
use crate::shared::Shared;

/// Most that git may answer, in bytes: more is no list of refs.
const LONGEST_ANSWER: usize = 16 << 20;
/// Most of its complaints that are kept.
const LONGEST_COMPLAINT: usize = 16 << 10;

/// By what git may reach anything, in submodules too. Local files are not among them (CVE-2022-39253).
const PROTOCOLS: &str = "http:https:ssh:git";

/// Git for one source of a build.
pub struct Runner<'a> {
    pub shared: &'a Shared,
    pub source: &'a GitSource,
    pub lent: &'a Lent,
    /// What it says goes to this vertex's log.
    pub log: Option<VertexDigest>,
    /// Held by whatever git runs.
    pub repository: Option<&'a GitRepository>,
}

/// One run.
#[derive(Default)]
pub struct Run<'a> {
    /// For messages: `ls-remote`, `fetch`.
    pub doing: &'static str,
    /// `GIT_DIR`.
    pub dir: Option<&'a Path>,
    /// `GIT_WORK_TREE`, and where it runs.
    pub tree: Option<&'a Path>,
    /// Further variables.
    pub environment: Vec<(&'static str, OsString)>,
    /// Whether it talks to a server: then it has credentials, and a time.
    pub remote: bool,
    /// Whether its words go to the log.
    pub told: bool,
    /// Whether it is asked where an answer redirects to.
    pub traced: bool,
    /// Remotes that it may talk to beside the source's.
    pub others: &'a [String],
    /// Where it runs, in a repository of its own that it finds there.
    pub inside: Option<&'a Path>,
}

/// What git said.
pub struct Said {
    pub status: ExitStatus,
    pub answer: Vec<u8>,
    pub complaint: String,
    /// Where an answer redirects to, of a traced run.
    pub location: Option<String>,
}

impl Said {
    /// The first line of the answer.
    pub fn line(&self) -> String {
        String::from_utf8_lossy(&self.answer).lines().next().unwrap_or_default().trim().to_owned()
    }
}

/// The lines that git says to people, cut at line ends; progress (lines that end in a carriage return) is told once a second.
#[derive(Default)]
struct Lines {
    rest: Vec<u8>,
    told: Option<Timestamp>,
    last: String,
}

impl Lines {
    fn hear(&mut self, chunk: &[u8], mut tell: impl FnMut(&str, bool)) {
        self.rest.extend_from_slice(chunk);
        while let Some(at) = self.rest.iter().position(|b| matches!(b, b'\n' | b'\r')) {
            let mut end = self.rest[at];
            let mut length = 1;
            if end == b'\r' {
                // ssh ends its lines with both; what follows may not be here yet.
                match self.rest.get(at + 1) {
                    None => break,
                    Some(b'\n') => (end, length) = (b'\n', 2),
                    Some(_) => {}
                }
            }
            let line = String::from_utf8_lossy(&self.rest[..at]).trim_end().to_owned();
            self.rest.drain(..at + length);
            if line.is_empty() {
                continue;
            }
            let now = Timestamp::now();
            let recent = self.told.is_some_and(|told| now.as_millisecond() - told.as_millisecond() < 1000);
            let passing = end == b'\r';
            if !(passing && recent) {
                tell(&line, passing);
                self.told = Some(now);
            }
            self.last = line;
        }
        // A line without an end is no line.
        if self.rest.len() > LONGEST_COMPLAINT {
            self.rest.clear();
        }
    }
}

impl Git {
    fn program(&self) -> Result<PathBuf, GitError> {
        find_program("git", &self.options.programs).ok_or(GitError::NoProgram)
    }

    fn environment(&self) -> Vec<(OsString, OsString)> {
        let mut all: Vec<(OsString, OsString)> = Vec::new();
        let mut set = |name: &str, value: OsString| all.push((name.into(), value));
        // Git runs in directories full of the remote's files: a place relative to them is none to look for programs.
        let places = self.options.programs.iter().filter(|place| place.is_absolute());
        set("PATH", std::env::join_paths(places).unwrap_or_default());
        for (name, value) in [
            ("LC_ALL", "C"),
            ("HOME", "/dev/null"),
            ("GIT_CONFIG_NOSYSTEM", "1"),
            ("GIT_CONFIG_SYSTEM", "/dev/null"),
            ("GIT_CONFIG_GLOBAL", "/dev/null"),
            ("GIT_ATTR_NOSYSTEM", "1"),
            ("GIT_TERMINAL_PROMPT", "0"),
            ("GIT_ASKPASS", ""),
            ("SSH_ASKPASS", ""),
            ("GIT_SSH_VARIANT", "ssh"),
            ("GIT_NO_REPLACE_OBJECTS", "1"),
        ] {
            set(name, value.into());
        }
        let proxies = [
            ("http_proxy", &self.proxies.http),
            ("https_proxy", &self.proxies.https),
            ("no_proxy", &self.proxies.except),
        ];
        for (name, value) in proxies {
            if let Some(value) = value {
                set(name, value.into());
            }
        }
        all
    }

    /// For every run.
    fn config(&self) -> Vec<(String, String)> {
        let seconds = self.patience.as_secs().max(1);
        [
            ("core.hooksPath", "/dev/null"),
            ("core.fsmonitor", "false"),
            ("core.askPass", ""),
            ("credential.helper", ""),
            ("gc.auto", "0"),
            ("maintenance.auto", "false"),
            ("checkout.workers", "0"),
            ("init.defaultBranch", "master"),
            ("advice.detachedHead", "false"),
            ("http.lowSpeedLimit", "100"),
            ("http.lowSpeedTime", &seconds.to_string()),
        ]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .to_vec()
    }
}

impl Runner<'_> {
    /// Runs git. An exit code other than 0 is for the caller to judge.
    ///
    /// # Errors
    /// There is no git; it cannot be started; it heard nothing for too long.
    pub async fn try_run(&self, arguments: &[&str], run: &Run<'_>) -> Result<Said, OpFailure> {
        loop {
            let said = self.run_once(arguments, run).await?;
            let failed = run.remote && said.status != ExitStatus::Code(0);
            if !failed || !self.follow_redirect(&said.complaint, run.others).await? {
                return Ok(said);
            }
        }
    }

    /// One run, redirects not followed where there is a credential or a rule.
    pub(super) async fn run_once(&self, arguments: &[&str], run: &Run<'_>) -> Result<Said, OpFailure> {
        let git = &self.shared.git;
        if run.remote && self.shared.pins.offline() {
            return Err(GitError::Offline { remote: self.source.remote.url.clone() }.into());
        }
        let mut command = HostCommand::new(git.program()?, Vec::<String>::new(), self.shared.store.root().to_owned());
        command.arguments = arguments.iter().map(OsString::from).collect();
        command.environment = git.environment();
        let mut config = git.config();
        if run.remote {
            command.patience = Some(git.patience);
            config.extend(self.lent.config.iter().cloned());
            self.shared.rules.check_git(&self.source.remote.url, None)?;
            config.extend(self.redirect_config(run.others));
            if run.traced {
                // git masks credentials in it by itself.
                command.environment.push(("GIT_TRACE_CURL".into(), "1".into()));
                command.environment.push(("GIT_TRACE_CURL_NO_DATA".into(), "1".into()));
            }
            command.environment.push(("GIT_SSH_COMMAND".into(), self.lent.ssh.clone().into()));
            if let Some(agent) = &self.lent.agent {
                command.environment.push(("SSH_AUTH_SOCK".into(), agent.into()));
            }
        }
        let environment = &mut command.environment;
        environment.push(("GIT_CONFIG_COUNT".into(), config.len().to_string().into()));
        for (number, (key, value)) in config.into_iter().enumerate() {
            environment.push((format!("GIT_CONFIG_KEY_{number}").into(), key.into()));
            environment.push((format!("GIT_CONFIG_VALUE_{number}").into(), value.into()));
        }
        environment.push(("GIT_ALLOW_PROTOCOL".into(), PROTOCOLS.into()));
        if let Some(dir) = run.dir {
            environment.push(("GIT_DIR".into(), dir.into()));
        }
        if let Some(tree) = run.tree {
            environment.push(("GIT_WORK_TREE".into(), tree.into()));
            command.directory = tree.to_owned();
        }
        if let Some(inside) = run.inside {
            command.directory = inside.to_owned();
        }
        for (name, value) in &run.environment {
            environment.retain(|(known, _)| known != name);
            environment.push(((*name).into(), value.clone()));
        }
        if let Some(repository) = self.repository {
            let mut held = Held::default();
            held.push(repository.lock()?);
            command.held = held;
        }
        let (mut answer, mut complaint, mut lines) = (Vec::new(), String::new(), Lines::default());
        let mut location = None;
        let mut hear = |stream: OutputStream, chunk: &[u8]| {
            if stream == OutputStream::Stdout {
                let room = LONGEST_ANSWER.saturating_sub(answer.len());
                answer.extend_from_slice(&chunk[..chunk.len().min(room)]);
                return;
            }
            lines.hear(chunk, |line, passing| {
                if let Some((_, header)) = line.split_once("Recv header: ").filter(|_| run.traced) {
                    let (name, value) = header.split_once(':').unwrap_or_default();
                    if name.eq_ignore_ascii_case("location") {
                        location = Some(value.trim().to_owned());
                    }
                }
                let line = self.lent.redact(line);
                if !passing && complaint.len() < LONGEST_COMPLAINT {
                    complaint.push_str(&line);
                    complaint.push('\n');
                }
                if run.told {
                    self.tell(&line);
                }
            });
        };
        let exit = command.run(&mut hear).await?;
        lines.hear(b"\n", |line, _| complaint.push_str(&self.lent.redact(line)));
        match exit {
            HostExit::Silent => Err(GitError::Silent {
                remote: self.source.remote.url.clone(),
                doing: run.doing,
                seconds: git.patience.as_secs(),
                last: match self.lent.redact(&lines.last) {
                    last if last.is_empty() => String::new(),
                    last => format!(", the last was: {last}"),
                },
            }
            .into()),
            HostExit::Ended(status) => Ok(Said { status, answer, complaint, location }),
        }
    }

    /// Runs git, which must succeed.
    ///
    /// # Errors
    /// As [`Runner::try_run`], and git's own.
    pub async fn run(&self, arguments: &[&str], run: &Run<'_>) -> Result<Said, OpFailure> {
        let said = self.try_run(arguments, run).await?;
        if said.status == ExitStatus::Code(0) { Ok(said) } else { Err(self.failed(run.doing, &said).into()) }
    }

    /// The error of a run that failed.
    pub fn failed(&self, doing: &'static str, said: &Said) -> GitError {
        let status = match said.status {
            ExitStatus::Code(code) => format!("exit code {code}"),
            ExitStatus::Signal(signal) => format!("signal {signal}"),
        };
        let said = said.complaint.trim_end();
        let said = if said.is_empty() { "it said nothing".to_owned() } else { said.to_owned() };
        GitError::Failed { remote: self.source.remote.url.clone(), doing, status, said }
    }

    /// A line for the vertex's log.
    pub fn tell(&self, line: &str) {
        let Some(vertex) = self.log else { return };
        let bytes = format!("{line}\n").into_bytes().into();
        self.shared.once.send(Event::Log { vertex, stream: 2, bytes, at: Timestamp::now() });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_end_in_three_ways() {
        let (mut lines, mut told) = (Lines::default(), Vec::new());
        for chunk in [&b"one\ntw"[..], b"o\r", b"\n10%\r", b"20%\r30%\rdone\n", b"rest\r", b"\n"] {
            lines.hear(chunk, |line, passing| told.push((line.to_owned(), passing)));
        }
        let whole: Vec<&str> = told.iter().filter(|(_, passing)| !passing).map(|(line, _)| line.as_str()).collect();
        assert_eq!(whole, ["one", "two", "done", "rest"]);
        assert!(told.iter().filter(|(_, passing)| *passing).count() <= 1, "progress is told now and then: {told:?}");
    }
}
