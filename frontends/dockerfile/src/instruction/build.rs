//! From nodes to typed instructions: arity, flags and values that can be judged without expanding variables.

use super::flags::{self, Flags, Takes};
use super::*;
use crate::error::{ErrorKind, ParseError};
use crate::parse::{Body, Node, heredoc_word};
use crate::span::Word;
use crate::text;

/// Keywords of the language in lower case.
const KEYWORDS: [&str; 18] = [
    "add",
    "arg",
    "cmd",
    "copy",
    "entrypoint",
    "env",
    "expose",
    "from",
    "healthcheck",
    "label",
    "maintainer",
    "onbuild",
    "run",
    "shell",
    "stopsignal",
    "user",
    "volume",
    "workdir",
];

/// What a node stands for.
pub(crate) enum Built {
    Stage(Stage),
    Instruction(Instruction),
}

/// Understands one node.
pub(crate) fn build(node: Node) -> Result<Built, ParseError> {
    if text::lower(&node.keyword.value) == "from" {
        return stage(node).map(Built::Stage);
    }
    let kind = Request { node: &node }.kind()?;
    let argument_spans = match &node.body {
        Body::Words(words) => words.iter().map(|w| w.span).collect(),
        Body::Pairs(pairs) => pairs.iter().map(|p| p.span).collect(),
        Body::Node(inner) => vec![inner.span],
    };
    Ok(Built::Instruction(Instruction {
        kind,
        code: text::trim_space(&node.original).into(),
        keyword: node.keyword.value,
        span: node.span,
        keyword_span: node.keyword.span,
        flags: node.flags.iter().map(|f| Spanned { value: flags::split(&f.value), span: f.span }).collect(),
        argument_spans,
        comments: node.comments,
    }))
}

fn doc(comments: &[String], name: &str) -> Option<String> {
    if name.is_empty() {
        return None;
    }
    comments.iter().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ').map(Into::into))
}

fn stage(node: Node) -> Result<Stage, ParseError> {
    let words = match &node.body {
        Body::Words(words) => words.as_slice(),
        _ => &[],
    };
    let (base, name) = match words {
        [base] => (base, None),
        [base, r#as, name] if text::equal_fold(&r#as.value, "as") => {
            let lower = text::lower(&name.value);
            let tail = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_' | '.');
            if !lower.starts_with(|c: char| c.is_ascii_lowercase()) || !lower.chars().all(tail) {
                return Err(ParseError::new(ErrorKind::StageName(name.value.clone()), name.span));
            }
            (base, Some(lower))
        }
        _ => return Err(ParseError::new(ErrorKind::FromArguments, node.span)),
    };
    let flags = Flags::read(&node.flags, &[("platform", Takes::Text)])?;
    Ok(Stage {
        base: base.value.clone(),
        base_span: base.span,
        platform: flags.text("platform"),
        code: text::trim_space(&node.original).into(),
        keyword: node.keyword.value.clone(),
        span: node.span,
        doc: name.as_deref().and_then(|name| doc(&node.comments, name)),
        name,
        comments: node.comments,
        instructions: Vec::new(),
    })
}

struct Request<'n> {
    node: &'n Node,
}

impl Request<'_> {
    fn fail<T>(&self, kind: ErrorKind) -> Result<T, ParseError> {
        Err(ParseError::new(kind, self.node.span))
    }

    fn words(&self) -> &[Word] {
        match &self.node.body {
            Body::Words(words) => words,
            _ => &[],
        }
    }

    fn texts(&self) -> Vec<String> {
        self.words().iter().map(|w| w.value.clone()).collect()
    }

    fn flags(&self, known: &[(&'static str, Takes)]) -> Result<Flags, ParseError> {
        Flags::read(&self.node.flags, known)
    }

    fn kind(&self) -> Result<Kind, ParseError> {
        Ok(match text::lower(&self.node.keyword.value).as_str() {
            "add" => Kind::Add(self.add()?),
            "arg" => Kind::Arg(self.arg()?),
            "cmd" => Kind::Cmd(self.plain_command()?),
            "copy" => Kind::Copy(self.copy()?),
            "entrypoint" => Kind::Entrypoint(self.plain_command()?),
            "env" => Kind::Env(self.pairs("ENV")?),
            "expose" => Kind::Expose(self.expose()?),
            "healthcheck" => Kind::Healthcheck(self.healthcheck()?),
            "label" => Kind::Label(self.pairs("LABEL")?),
            "maintainer" => Kind::Maintainer(self.one("MAINTAINER")?),
            "onbuild" => Kind::Onbuild(self.onbuild()?),
            "run" => Kind::Run(self.run()?),
            "shell" => Kind::Shell(self.shell()?),
            // Flags of STOPSIGNAL (and ARG, and HEALTHCHECK NONE) are not looked at: BuildKit does not either.
            "stopsignal" => Kind::Stopsignal(self.single("STOPSIGNAL")?),
            "user" => Kind::User(self.one("USER")?),
            "volume" => Kind::Volume(self.volume()?),
            "workdir" => Kind::Workdir(self.one("WORKDIR")?),
            _ => {
                let name = self.node.keyword.value.clone();
                let suggestion = suggest::any_case(&name, &KEYWORDS);
                return Err(ParseError::new(
                    ErrorKind::UnknownInstruction { name, suggestion },
                    self.node.keyword.span,
                ));
            }
        })
    }

    fn single(&self, name: &'static str) -> Result<String, ParseError> {
        match self.words() {
            [word] => Ok(word.value.clone()),
            _ => self.fail(ErrorKind::ExactlyOne(name)),
        }
    }

    fn one(&self, name: &'static str) -> Result<String, ParseError> {
        let word = self.single(name)?;
        self.flags(&[])?;
        Ok(word)
    }

    fn pairs(&self, name: &'static str) -> Result<Vec<Pair>, ParseError> {
        self.flags(&[])?;
        let pairs = match &self.node.body {
            Body::Pairs(pairs) if !pairs.is_empty() => pairs,
            _ => return self.fail(ErrorKind::AtLeastOne(name)),
        };
        let mut out = Vec::new();
        for pair in pairs {
            if pair.key.is_empty() {
                return Err(ParseError::new(ErrorKind::BlankName(name), pair.span));
            }
            out.push(Pair { key: pair.key.clone(), value: pair.value.clone(), legacy: pair.legacy });
        }
        Ok(out)
    }

    fn arg(&self) -> Result<Vec<Arg>, ParseError> {
        if self.words().is_empty() {
            return self.fail(ErrorKind::AtLeastOne("ARG"));
        }
        let arg = |word: &Word| {
            let (key, value) = match word.value.split_once('=') {
                Some(("", _)) => return Err(ParseError::new(ErrorKind::BlankName("ARG"), word.span)),
                Some((key, value)) => (key, Some(value.to_owned())),
                None => (word.value.as_str(), None),
            };
            Ok(Arg { key: key.into(), value, doc: doc(&self.node.comments, key) })
        };
        self.words().iter().map(arg).collect()
    }

    fn command(&self) -> CommandLine {
        CommandLine {
            args: self.texts(),
            form: if self.node.json { Form::Exec } else { Form::Shell },
            files: self.node.heredocs.clone(),
        }
    }

    fn plain_command(&self) -> Result<CommandLine, ParseError> {
        self.flags(&[])?;
        Ok(self.command())
    }

    fn run(&self) -> Result<Run, ParseError> {
        let flags = self.flags(&[
            ("mount", Takes::Texts),
            ("network", Takes::Text),
            ("security", Takes::Text),
            ("device", Takes::Texts),
        ])?;
        let at = |flag: &str| flags.texts(flag).next().map_or(self.node.span, |f| f.span);
        let mounts = flags
            .texts("mount")
            .map(|f| MountSpec::read(f.value).map_err(|kind| ParseError::new(kind, f.span)))
            .collect::<Result<_, _>>()?;
        let devices = flags
            .texts("device")
            .map(|f| Device::read(f.value).map_err(|kind| ParseError::new(kind, f.span)))
            .collect::<Result<_, _>>()?;
        let network = match flags.text("network").as_deref() {
            None | Some("default") => Network::Default,
            Some("none") => Network::None,
            Some("host") => Network::Host,
            Some(other) => return Err(ParseError::new(ErrorKind::Network(other.into()), at("network"))),
        };
        let security = match flags.text("security").as_deref() {
            None | Some("sandbox") => Security::Sandbox,
            Some("insecure") => Security::Insecure,
            Some(other) => return Err(ParseError::new(ErrorKind::Security(other.into()), at("security"))),
        };
        Ok(Run { command: self.command(), mounts, network, security, devices })
    }

    fn sources(&self, name: &'static str) -> Result<Sources, ParseError> {
        let Some((dest, sources)) = self.words().split_last() else {
            return self.fail(ErrorKind::NoDestination(name));
        };
        // A word that only looks like a heredoc but cannot be lexed is a path.
        let heredoc = |word: &Word| heredoc_word(&word.value).ok().flatten();
        if heredoc(dest).is_some() {
            return Err(ParseError::new(ErrorKind::HeredocDestination(name), dest.span));
        }
        let mut out = Sources { dest: dest.value.clone(), ..Sources::default() };
        for word in sources {
            let Some(mut found) = heredoc(word) else {
                out.paths.push(word.value.clone());
                continue;
            };
            // By name: of two with the same name the last body counts; in JSON form there is no body.
            if let Some(body) = self.node.heredocs.iter().rev().find(|h| h.name == found.name) {
                found.content.clone_from(&body.content);
            }
            out.inline.push(InlineFile { content: found.chomped(), name: found.name, expand: found.expand });
        }
        Ok(out)
    }

    fn two_words(&self, name: &'static str) -> Result<(), ParseError> {
        if self.words().len() < 2 {
            return self.fail(ErrorKind::NoDestination(name));
        }
        Ok(())
    }

    fn add(&self) -> Result<Add, ParseError> {
        self.two_words("ADD")?;
        let flags = self.flags(&[
            ("chown", Takes::Text),
            ("chmod", Takes::Text),
            ("link", Takes::Bool),
            ("keep-git-dir", Takes::Bool),
            ("checksum", Takes::Text),
            ("unpack", Takes::Bool),
            ("exclude", Takes::Texts),
        ])?;
        Ok(Add {
            sources: self.sources("ADD")?,
            chown: flags.text("chown"),
            chmod: flags.text("chmod"),
            link: flags.bool("link").unwrap_or(false),
            keep_git_dir: flags.bool("keep-git-dir"),
            checksum: flags.text("checksum"),
            unpack: flags.bool("unpack"),
            exclude: flags.texts("exclude").map(|f| f.value.into()).collect(),
        })
    }

    fn copy(&self) -> Result<Copy, ParseError> {
        self.two_words("COPY")?;
        let flags = self.flags(&[
            ("chown", Takes::Text),
            ("from", Takes::Text),
            ("chmod", Takes::Text),
            ("link", Takes::Bool),
            ("exclude", Takes::Texts),
            ("parents", Takes::Bool),
        ])?;
        Ok(Copy {
            sources: self.sources("COPY")?,
            from: flags.text("from"),
            chown: flags.text("chown"),
            chmod: flags.text("chmod"),
            link: flags.bool("link").unwrap_or(false),
            parents: flags.bool("parents").unwrap_or(false),
            exclude: flags.texts("exclude").map(|f| f.value.into()).collect(),
        })
    }

    fn expose(&self) -> Result<Vec<String>, ParseError> {
        let mut ports = self.texts();
        if ports.is_empty() {
            return self.fail(ErrorKind::AtLeastOne("EXPOSE"));
        }
        self.flags(&[])?;
        ports.sort();
        Ok(ports)
    }

    fn volume(&self) -> Result<Vec<String>, ParseError> {
        if self.words().is_empty() {
            return self.fail(ErrorKind::AtLeastOne("VOLUME"));
        }
        self.flags(&[])?;
        let volume = |word: &Word| match text::trim_space(&word.value) {
            "" => Err(ParseError::new(ErrorKind::EmptyVolume, word.span)),
            path => Ok(path.to_owned()),
        };
        self.words().iter().map(volume).collect()
    }

    fn shell(&self) -> Result<Vec<String>, ParseError> {
        self.flags(&[])?;
        match (self.texts(), self.node.json) {
            (words, _) if words.is_empty() => self.fail(ErrorKind::AtLeastOne("SHELL")),
            (words, true) => Ok(words),
            (_, false) => self.fail(ErrorKind::ShellNotJson),
        }
    }

    fn onbuild(&self) -> Result<String, ParseError> {
        let Body::Node(inner) = &self.node.body else {
            return self.fail(ErrorKind::AtLeastOne("ONBUILD"));
        };
        self.flags(&[])?;
        match text::upper(text::trim_space(&inner.keyword.value)).as_str() {
            "ONBUILD" => return self.fail(ErrorKind::ChainedOnbuild),
            name @ ("MAINTAINER" | "FROM") => return self.fail(ErrorKind::ForbiddenTrigger(name.into())),
            _ => {}
        }
        let blank = text::is_regex_space;
        let line = self.node.original.as_str();
        let start = line.trim_start_matches(blank);
        let mut trigger = match start.get(..7) {
            Some(word) if word.eq_ignore_ascii_case("onbuild") => start[7..].trim_start_matches(blank).to_owned(),
            _ => line.to_owned(),
        };
        for heredoc in &self.node.heredocs {
            trigger.push('\n');
            trigger.push_str(&heredoc.content);
            trigger.push_str(&heredoc.name);
        }
        Ok(trigger)
    }

    fn healthcheck(&self) -> Result<Healthcheck, ParseError> {
        let Some((kind, command)) = self.words().split_first() else {
            return self.fail(ErrorKind::AtLeastOne("HEALTHCHECK"));
        };
        let name = text::upper(&kind.value);
        if name == "NONE" {
            if let Some(extra) = command.first() {
                return Err(ParseError::new(ErrorKind::HealthNoneArguments, extra.span));
            }
            return Ok(Healthcheck { test: vec![name], ..Healthcheck::default() });
        }
        let flags = self.flags(&[
            ("interval", Takes::Text),
            ("timeout", Takes::Text),
            ("start-period", Takes::Text),
            ("start-interval", Takes::Text),
            ("retries", Takes::Text),
        ])?;
        if name != "CMD" {
            return Err(ParseError::new(ErrorKind::HealthType(kind.value.clone()), kind.span));
        }
        if command.is_empty() {
            return self.fail(ErrorKind::HealthNoCommand);
        }
        let mut test = vec![if self.node.json { "CMD" } else { "CMD-SHELL" }.to_owned()];
        test.extend(command.iter().map(|w| w.value.clone()));
        Ok(Healthcheck {
            test,
            interval: interval(&flags, "interval")?,
            timeout: interval(&flags, "timeout")?,
            start_period: interval(&flags, "start-period")?,
            start_interval: interval(&flags, "start-interval")?,
            retries: retries(&flags)?,
        })
    }
}

/// A duration: none or an empty one is 0; others from one millisecond.
fn interval(flags: &Flags, flag: &'static str) -> Result<i64, ParseError> {
    let Some(found) = flags.texts(flag).next().filter(|f| !f.value.is_empty()) else { return Ok(0) };
    let value = found.value.to_owned();
    match duration::nanoseconds(found.value) {
        None => Err(ParseError::new(ErrorKind::Duration { flag, value }, found.span)),
        Some(n) if n != 0 && n < 1_000_000 => {
            Err(ParseError::new(ErrorKind::DurationTooShort { flag, value }, found.span))
        }
        Some(n) => Ok(n),
    }
}

fn retries(flags: &Flags) -> Result<i32, ParseError> {
    let Some(found) = flags.texts("retries").next().filter(|f| !f.value.is_empty()) else { return Ok(0) };
    match found.value.parse::<i32>() {
        Ok(n) if n >= 0 => Ok(n),
        _ => Err(ParseError::new(ErrorKind::Retries(found.value.into()), found.span)),
    }
}
