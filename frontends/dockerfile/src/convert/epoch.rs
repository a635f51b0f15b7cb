//! SOURCE_DATE_EPOCH: what an image is dated with (spec B.3). A number of seconds; nothing; or the name of something that has a date of
//! its own: `context`, a named context, or a stage that is nothing but one remote ADD. A repository is as old as its commit, a
//! download as its server says; a directory of the client and an image have no date, and then the build is not dated.

use std::collections::BTreeMap;

use crate::convert::context::{self, MainContext, NamedContext};
use crate::convert::converter::{Converter, Shared};
use crate::convert::copy::{check_digest, url_file};
use crate::convert::error::ConvertError;
use crate::convert::git::GitRef;
use crate::convert::graph::{Graph, Meta, Op, Output, Source};
use crate::convert::stage::{SCRATCH, ranges};
use crate::instruction::{Add, Kind, Stage};

const KEY: &str = "SOURCE_DATE_EPOCH";

/// Something that has a date.
struct Dated {
    graph: Graph,
    root: Output,
    /// The one file that counts; the newest at the top of a repository, whose files all have the date of the commit.
    file: Option<String>,
}

impl Dated {
    fn git(git: &GitRef, title: &str) -> Self {
        let mut graph = Graph::default();
        let root = graph.add(git.dated().op(false), Meta::named(title));
        Self { graph, root, file: None }
    }

    fn http(url: &str, file: String, checksum: &str, title: &str) -> Self {
        let mut graph = Graph::default();
        let mut attrs = BTreeMap::from([("http.filename".to_owned(), file.clone())]);
        if !checksum.is_empty() {
            attrs.insert("http.checksum".to_owned(), checksum.to_owned());
        }
        let op = Op::Source(Source { identifier: url.to_owned(), attrs, platform: None });
        let root = graph.add(op, Meta::named(title));
        Self { graph, root, file: Some(file) }
    }
}

impl Converter<'_> {
    pub(crate) fn set_epoch(&mut self, shared: &Shared<'_>) -> Result<(), ConvertError> {
        let argument = self.build_args.get(KEY).cloned();
        let global = self.global.get(KEY).filter(|value| !value.is_empty()).map(str::to_owned);
        let Some(value) = argument.or(global) else { return Ok(()) };
        self.epoch = match value.parse::<i64>() {
            _ if value.is_empty() => None,
            Ok(seconds) => Some(seconds),
            Err(_) => self.named_epoch(shared, &value)?,
        };
        // Steps see the number, not the name it came from.
        match self.epoch.map(|seconds| seconds.to_string()) {
            Some(text) => {
                if let Some(given) = self.build_args.get_mut(KEY) {
                    given.clone_from(&text);
                }
                if self.global.get(KEY).is_some() {
                    self.global.set(KEY, &text);
                }
            }
            None => {
                self.build_args.remove(KEY);
                self.global.remove(KEY);
            }
        }
        Ok(())
    }

    fn named_epoch(&self, shared: &Shared<'_>, value: &str) -> Result<Option<i64>, ConvertError> {
        let dated = if value == "context" {
            const TITLE: &str = "[internal] resolve main build context metadata";
            match shared.context {
                MainContext::Local { .. } | MainContext::Input => None,
                MainContext::Http { url, .. } => Some(Dated::http(url, context::HTTP_FILE.into(), "", TITLE)),
                MainContext::Git { git, .. } => Some(Dated::git(git, TITLE)),
            }
        } else if let Some(named) = NamedContext::find(self.options, value, &self.target_platform)? {
            let title = format!("[internal] resolve {KEY} named context {value}");
            match GitRef::parse(named.input())? {
                Some(git) => Some(Dated::git(&git, &title)),
                None if named.input().starts_with("http://") || named.input().starts_with("https://") => {
                    Some(Dated::http(named.input(), context::HTTP_FILE.into(), "", &title))
                }
                None => None,
            }
        } else if let Some(stage) =
            shared.file.stages.iter().find(|s| s.name.as_deref().is_some_and(|name| name.eq_ignore_ascii_case(value)))
        {
            Some(self.epoch_stage(stage).map_err(|e| e.at(&ranges(stage.span)))?)
        } else {
            return Err(ConvertError::instruction(format!(
                "invalid {KEY}: {value} is neither a number of seconds, nor `context`, a named context or a stage"
            )));
        };
        let Some(Dated { graph, root, file }) = dated else { return Ok(None) };
        let found = self.host.modified(&graph, root, file.as_deref());
        let found = found.map_err(|e| ConvertError::host(format!("cannot date the build by `{value}`"), e))?;
        // A server that says nothing gives its file the time 0.
        Ok(found.filter(|seconds| *seconds != 0))
    }

    /// The source of a stage that consists of one remote ADD, and ARGs for it.
    fn epoch_stage(&self, stage: &Stage) -> Result<Dated, ConvertError> {
        let wrong = |what: String| ConvertError::instruction(format!("{KEY} stage {what}"));
        let mut env = self.global.clone();
        env.remove(KEY);
        let expand = |word: &str, env: &crate::convert::state::EnvList| {
            self.lexer.expand(word, env).map(|e| e.text).map_err(|e| ConvertError::instruction(e.to_string()))
        };
        if expand(&stage.base, &env)? != SCRATCH {
            return Err(wrong("must use FROM scratch".into()));
        }
        let mut source = None;
        for instruction in &stage.instructions {
            match &instruction.kind {
                Kind::Arg(args) => {
                    for arg in args {
                        let value = match (self.build_args.get(&arg.key), &arg.value) {
                            (Some(value), _) => value.clone(),
                            (None, Some(default)) => expand(default, &env)?,
                            (None, None) => continue,
                        };
                        env.set(&arg.key, &value);
                    }
                }
                Kind::Add(_) if source.is_some() => {
                    return Err(wrong("must contain exactly one remote ADD".into()));
                }
                Kind::Add(add) => source = Some(self.epoch_add(stage, add, &|word| expand(word, &env))?),
                other => {
                    return Err(wrong(format!(
                        "does not meet source-only requirements: unsupported {} instruction",
                        other.name()
                    )));
                }
            }
        }
        source.ok_or_else(|| wrong("must contain exactly one remote ADD".into()))
    }

    fn epoch_add(
        &self,
        stage: &Stage,
        add: &Add,
        expand: &dyn Fn(&str) -> Result<String, ConvertError>,
    ) -> Result<Dated, ConvertError> {
        let ([path], true) = (add.sources.paths.as_slice(), add.sources.inline.is_empty()) else {
            return Err(ConvertError::instruction(format!("{KEY} stage must contain exactly one remote ADD source")));
        };
        let title = format!("[internal] resolve {KEY} source stage {}", stage.name.as_deref().unwrap_or_default());
        let source = expand(path)?;
        let checksum = expand(add.checksum.as_deref().unwrap_or_default())?;
        if source.starts_with("http://") || source.starts_with("https://") {
            if GitRef::parse(&source)?.is_none() {
                if !checksum.is_empty() {
                    check_digest(&checksum)?;
                }
                return Ok(Dated::http(&source, url_file(&source), &checksum, &title));
            }
        }
        match GitRef::parse(&source)? {
            Some(mut git) => {
                if !checksum.is_empty() {
                    git.checksum = checksum;
                }
                Ok(Dated::git(&git, &title))
            }
            None => Err(ConvertError::instruction(format!("{KEY} stage source must be a single HTTP(S) or Git ADD"))),
        }
    }
}
