//! The stages of a build file and how they hang together: names, bases, `--from` dependencies, reachability, base images.

use std::collections::{BTreeMap, BTreeSet};

use crate::convert::context::{Loaded, Loading, NamedContext, PendingLocal};
use crate::convert::converter::Converter;
use crate::convert::error::ConvertError;
use crate::convert::graph::{Meta, Op, Platform, Range, Source};
use crate::convert::image::Image;
use crate::convert::reference::Reference;
use crate::convert::state::State;
use crate::host::{ImageConfigRequest, Ticket};
use crate::instruction::{Instruction, Kind, MountSpec};
use crate::shell::NoEnv;
use crate::span::Span;

/// Index of a stage.
pub(crate) type StageId = usize;

/// The base that is no image.
pub(crate) const SCRATCH: &str = "scratch";

/// An instruction of a stage and what it reads from.
#[derive(Debug, Clone)]
pub(crate) struct Command {
    pub instruction: Instruction,
    /// Of COPY: the stage named by `--from`, if any. Of RUN: one per mount.
    pub sources: Vec<StageId>,
    pub on_build: bool,
}

/// A stage, or an image that is only copied from.
#[derive(Debug)]
pub(crate) struct Stage {
    /// Name after AS.
    pub name: Option<String>,
    /// Name in progress and messages, may be empty.
    pub title: String,
    /// Image or stage it starts from.
    pub base_name: String,
    /// The FROM line.
    pub code: String,
    pub ranges: Vec<Range>,
    pub platform: Option<Platform>,
    pub instructions: Vec<Instruction>,
    pub commands: Vec<Command>,
    pub base: Option<StageId>,
    pub named: Option<NamedContext>,
    pub deps: BTreeSet<StageId>,
    pub state: State,
    pub image: Image,
    pub base_image: Option<Image>,
    /// Nothing is left to be done.
    pub dispatched: bool,
    resolved: bool,
    on_build_init: bool,
    /// It stands in no FROM.
    unregistered: bool,
    /// Paths of the build context that it uses.
    pub context_paths: BTreeSet<String>,
    /// Index into [`Converter::path_sets`]: paths of itself that others use.
    pub paths: usize,
    pub ignore_cache: bool,
    pub build_args: Vec<(String, Option<String>)>,
    pub command_index: usize,
    pub command_total: usize,
    /// The command under way is a trigger of the base.
    pub on_build: bool,
    /// CMD was seen in this stage.
    pub cmd_set: bool,
}

/// How the base of a stage is found.
enum Base {
    Named(Loading),
    /// The base name is that of a context.
    Context(Loading, Platform),
    Image(Ticket, Reference, Platform),
}

/// One entry per line, as source maps want it.
pub(crate) fn ranges(span: Span) -> Vec<Range> {
    span.lines().map(|l| Range { start_line: l, start_character: 0, end_line: l, end_character: 0 }).collect()
}

impl Converter<'_> {
    fn new_stage(&mut self, base_name: String, ranges: Vec<Range>) -> Stage {
        self.path_sets.push(BTreeSet::new());
        Stage {
            name: None,
            title: String::new(),
            base_name,
            code: String::new(),
            ranges,
            platform: None,
            instructions: Vec::new(),
            commands: Vec::new(),
            base: None,
            named: None,
            deps: BTreeSet::new(),
            state: State::new(None, None),
            image: Image::default(),
            base_image: None,
            dispatched: false,
            resolved: false,
            on_build_init: false,
            unregistered: false,
            context_paths: BTreeSet::new(),
            paths: self.path_sets.len() - 1,
            ignore_cache: false,
            build_args: Vec::new(),
            command_index: 0,
            command_total: 0,
            on_build: false,
            cmd_set: false,
        }
    }

    fn add_stage(&mut self, mut stage: Stage) -> StageId {
        stage.base = self.by_name.get(&stage.base_name).copied();
        let id = self.stages.len();
        if let Some(name) = &stage.name {
            self.by_name.insert(name.to_lowercase(), id);
        }
        self.stages.push(stage);
        id
    }

    fn find(&self, name: &str) -> Option<StageId> {
        self.by_name.get(&name.to_lowercase()).copied()
    }

    /// Adds the stages of the file.
    pub(crate) fn add_stages(&mut self, parsed: &[crate::instruction::Stage]) -> Result<(), ConvertError> {
        for (index, source) in parsed.iter().enumerate() {
            let at = ranges(source.span);
            self.add_parsed(index, source).map_err(|e| e.at(&at))?;
        }
        Ok(())
    }

    fn add_parsed(&mut self, index: usize, source: &crate::instruction::Stage) -> Result<(), ConvertError> {
        let expand =
            |word: &str| self.lexer.expand(word, &self.global).map_err(|e| ConvertError::instruction(e.to_string()));
        let base = expand(&source.base)?.text;
        if base.is_empty() {
            return Err(ConvertError::instruction(format!(
                "the base `{}` expands to nothing: give its ARG a default",
                source.base
            )));
        }
        let platform = match &source.platform {
            None => None,
            Some(word) => {
                let text = expand(word)?.text;
                if text.is_empty() {
                    return Err(ConvertError::instruction(format!("the platform `{word}` expands to nothing")));
                }
                Some(
                    Platform::parse(&text, &self.build_platform)
                        .map_err(|e| ConvertError::instruction(e.to_string()))?,
                )
            }
        };
        let mut stage = self.new_stage(base, ranges(source.span));
        stage.code.clone_from(&source.code);
        stage.name.clone_from(&source.name);
        stage.title = source.name.clone().unwrap_or_default();
        stage.platform = platform;
        stage.instructions.clone_from(&source.instructions);
        if let Some(name) = &source.name {
            let wanted = stage.platform.clone().unwrap_or_else(|| self.target_platform.clone());
            if let Some(named) = NamedContext::find(self.options, name, &wanted)? {
                stage.named = Some(named);
                let id = self.add_stage(stage);
                self.stages[id].base = None;
                return Ok(());
            }
        } else {
            stage.title = format!("stage-{index}");
        }
        stage.ignore_cache = self.options.ignores_cache(source.name.as_deref().unwrap_or_default());
        let steps = source
            .instructions
            .iter()
            .filter(|i| matches!(i.kind, Kind::Add(_) | Kind::Copy(_) | Kind::Run(_) | Kind::Workdir(_)))
            .count();
        let id = self.add_stage(stage);
        let stage = &mut self.stages[id];
        stage.command_total = steps + usize::from(stage.base_name != SCRATCH && stage.base.is_none());
        Ok(())
    }

    /// The stage to be built.
    pub(crate) fn target_stage(&self) -> Result<StageId, ConvertError> {
        if self.options.target.is_empty() {
            return Ok(self.stages.len() - 1);
        }
        self.find(&self.options.target).ok_or_else(|| {
            let names: Vec<&str> = self.stages.iter().filter_map(|s| s.name.as_deref()).collect();
            let known = if names.is_empty() {
                "no stage has a name".to_owned()
            } else {
                format!("there are {}", names.join(", "))
            };
            ConvertError::option("target", format!("there is no stage `{}`: {known}", self.options.target))
        })
    }

    /// Finds out which stages each instruction reads from.
    pub(crate) fn link(&mut self) -> Result<(), ConvertError> {
        for id in 0..self.stages.len() {
            let instructions = std::mem::take(&mut self.stages[id].instructions);
            let mut commands = Vec::with_capacity(instructions.len());
            for instruction in instructions {
                let at = ranges(instruction.span);
                commands.push(self.command(id, instruction, false).map_err(|e| e.at(&at))?);
            }
            self.stages[id].commands = commands;
        }
        self.refuse_circles()?;
        if let [only] = self.stages.as_mut_slice() {
            only.title.clear();
        }
        Ok(())
    }

    fn command(&mut self, stage: StageId, instruction: Instruction, on_build: bool) -> Result<Command, ConvertError> {
        let at = ranges(instruction.span);
        let sources = match &instruction.kind {
            Kind::Copy(copy) => match copy.from.as_deref().filter(|f| !f.is_empty()) {
                None => Vec::new(),
                Some(from) => {
                    let expanded =
                        self.lexer.expand(from, &NoEnv).map_err(|e| ConvertError::instruction(e.to_string()))?;
                    if expanded.text != from {
                        return Err(ConvertError::instruction(format!(
                            "--from={from} does not expand variables: give the image a stage of its own and name that"
                        )));
                    }
                    vec![self.source(from, at, true)?]
                }
            },
            Kind::Run(run) => {
                let names: Vec<String> = run.mounts.iter().map(mount_from).collect();
                names.iter().map(|name| self.source(name, Vec::new(), false)).collect::<Result<_, _>>()?
            }
            _ => Vec::new(),
        };
        for &source in &sources {
            self.stages[stage].deps.insert(source);
        }
        Ok(Command { instruction, sources, on_build })
    }

    /// The stage that `--from` names; an image if there is no such stage.
    fn source(&mut self, from: &str, at: Vec<Range>, by_index: bool) -> Result<StageId, ConvertError> {
        if by_index && let Ok(index) = from.parse::<i64>() {
            return usize::try_from(index).ok().filter(|i| *i < self.stages.len()).ok_or_else(|| {
                ConvertError::instruction(format!("--from={from}: there is no stage with this number"))
            });
        }
        if let Some(id) = self.find(from) {
            return Ok(id);
        }
        let mut stage = self.new_stage(from.to_owned(), at);
        stage.unregistered = true;
        Ok(self.add_stage(stage))
    }

    fn refuse_circles(&self) -> Result<(), ConvertError> {
        fn visit(
            stages: &[Stage],
            id: StageId,
            done: &mut BTreeSet<StageId>,
            path: &mut Vec<StageId>,
        ) -> Option<StageId> {
            if path.contains(&id) {
                return Some(id);
            }
            if !done.insert(id) {
                return None;
            }
            path.push(id);
            let found = stages[id].deps.iter().find_map(|&dep| visit(stages, dep, done, path));
            path.pop();
            found
        }
        let mut done = BTreeSet::new();
        for id in 0..self.stages.len() {
            if let Some(culprit) = visit(&self.stages, id, &mut done, &mut Vec::new()) {
                let stage = &self.stages[culprit];
                return Err(
                    ConvertError::instruction(format!("stage `{}` depends on itself", stage.title)).at(&stage.ranges)
                );
            }
        }
        Ok(())
    }

    /// The stages that `target` needs, itself included.
    pub(crate) fn reachable(&self, target: StageId) -> BTreeSet<StageId> {
        let mut seen = BTreeSet::new();
        let mut todo = vec![target];
        while let Some(id) = todo.pop() {
            if seen.insert(id) {
                let stage = &self.stages[id];
                todo.extend(stage.base.iter().chain(&stage.deps));
            }
        }
        seen
    }

    /// Resolves base images and adds the triggers of bases, until nothing new comes up.
    pub(crate) fn resolve(&mut self, target: StageId) -> Result<BTreeSet<StageId>, ConvertError> {
        loop {
            let reachable = self.reachable(target);
            self.resolve_bases(&reachable)?;
            let mut news = false;
            for &id in &reachable {
                self.inherit(id);
                let mut triggers = std::mem::take(&mut self.stages[id].image.config.on_build);
                if let Some(base) = self.stages[id].base
                    && !self.stages[id].on_build_init
                {
                    triggers.extend(self.stages[base].commands.iter().filter_map(|c| match &c.instruction.kind {
                        Kind::Onbuild(text) => Some(text.clone()),
                        _ => None,
                    }));
                    self.stages[id].on_build_init = true;
                }
                if !triggers.is_empty() {
                    let at = self.stages[id].ranges.clone();
                    news |= self.add_triggers(id, &triggers).map_err(|e| e.at(&at))?;
                }
            }
            if !news {
                return Ok(reachable);
            }
        }
    }

    /// Takes over what the base stage has come to.
    pub(crate) fn inherit(&mut self, id: StageId) {
        let Some(base) = self.stages[id].base else { return };
        let base = &self.stages[base];
        let (state, platform, mut image, base_image, paths, build_args) = (
            base.state.clone(),
            base.platform.clone(),
            base.image.clone(),
            base.base_image.clone(),
            base.paths,
            base.build_args.clone(),
        );
        image.config.on_build.clear();
        let stage = &mut self.stages[id];
        stage.state = state;
        stage.platform = platform;
        stage.image = image;
        stage.base_image = base_image;
        stage.paths = paths;
        stage.build_args.extend(build_args);
    }

    fn add_triggers(&mut self, id: StageId, triggers: &[String]) -> Result<bool, ConvertError> {
        let span_of = self.stages[id].ranges.clone();
        let mut commands = Vec::with_capacity(triggers.len());
        let mut news = false;
        for trigger in triggers {
            let mut instruction = crate::parse_trigger(trigger)
                .map_err(|e| ConvertError::instruction(format!("ONBUILD {trigger}: {e}")))?;
            let (first, last) = (span_of.first(), span_of.last());
            instruction.span = Span {
                first_line: first.map_or(0, |r| r.start_line),
                last_line: last.map_or(0, |r| r.end_line),
                ..Span::default()
            };
            let command = self.command(id, instruction, true)?;
            news |= !command.sources.is_empty();
            commands.push(command);
        }
        let stage = &mut self.stages[id];
        stage.command_total += commands.len();
        commands.append(&mut stage.commands);
        stage.commands = commands;
        Ok(news)
    }

    /// Starts all resolutions, then waits for each.
    fn resolve_bases(&mut self, reachable: &BTreeSet<StageId>) -> Result<(), ConvertError> {
        let mut started: BTreeMap<StageId, Base> = BTreeMap::new();
        for id in 0..self.stages.len() {
            let stage = &self.stages[id];
            if stage.base.is_some() || stage.dispatched || stage.resolved {
                continue;
            }
            let wanted = reachable.contains(&id);
            let at = stage.ranges.clone();
            if stage.base_name == SCRATCH && stage.named.is_none() {
                let stage = &mut self.stages[id];
                stage.resolved = wanted;
                stage.state = State::new(None, None);
                stage.image = Image::empty(&self.target_platform);
                stage.platform = Some(self.target_platform.clone());
                stage.dispatched |= stage.unregistered;
                continue;
            }
            if let Some(base) = self.start_base(id, wanted).map_err(|e| e.at(&at))? {
                started.insert(id, base);
            }
        }
        for (id, base) in started {
            let at = self.stages[id].ranges.clone();
            self.finish_base(id, base).map_err(|e| e.at(&at))?;
            self.stages[id].resolved = true;
            let stage = &mut self.stages[id];
            stage.dispatched |= stage.unregistered;
        }
        Ok(())
    }

    fn start_base(&mut self, id: StageId, wanted: bool) -> Result<Option<Base>, ConvertError> {
        let name = self.stages[id].base_name.clone();
        let reference = Reference::parse(&name).map_err(|e| ConvertError::instruction(e.to_string()))?.tagged();
        if !wanted {
            // A stage that is needed only through a trigger is looked at twice; BuildKit counts its FROM each time.
            let stage = &mut self.stages[id];
            stage.command_index += usize::from(stage.command_total > 0);
            return Ok(None);
        }
        let platform = self.stages[id].platform.clone().unwrap_or_else(|| self.target_platform.clone());
        if let Some(named) = self.stages[id].named.clone() {
            return Ok(Some(Base::Named(named.start(self.host, self.options, &mut self.graph)?)));
        }
        let text = reference.to_string();
        self.stages[id].base_name.clone_from(&text);
        if let Some(named) = NamedContext::find(self.options, &text, &platform)? {
            return Ok(Some(Base::Context(named.start(self.host, self.options, &mut self.graph)?, platform)));
        }
        let prefix = if self.options.multi_platform { format!("{} ", platform.format_all()) } else { String::new() };
        let ticket = self.host.start_image_config(&ImageConfigRequest {
            reference: text.clone(),
            platform: platform.clone(),
            mode: self.options.resolve_mode,
            log_name: format!("[{prefix}internal] load metadata for {text}"),
            oci_layout_store: None,
        });
        Ok(Some(Base::Image(ticket, reference, platform)))
    }

    fn finish_base(&mut self, id: StageId, base: Base) -> Result<(), ConvertError> {
        match base {
            Base::Named(loading) => {
                let Loaded { state, image, pending } = loading.finish(self.host, &mut self.graph)?;
                self.pend(id, pending);
                let stage = &mut self.stages[id];
                stage.dispatched = true;
                stage.state = state;
                if let Some(mut image) = image {
                    image.created = None;
                    if !image.architecture.is_empty() && !image.os.is_empty() {
                        stage.platform = Some(image.platform());
                    }
                    stage.image = image;
                }
                Ok(())
            }
            Base::Context(loading, platform) => {
                let Loaded { mut state, image, pending } = loading.finish(self.host, &mut self.graph)?;
                self.pend(id, pending);
                let mut image = image.unwrap_or_else(|| Image::empty(&platform));
                let stage = &mut self.stages[id];
                stage.base_image = Some(image.clone());
                image.created = None;
                stage.image = image;
                state.platform = Some(platform.normalize());
                stage.state = state;
                stage.platform = Some(platform);
                Ok(())
            }
            Base::Image(ticket, reference, platform) => self.finish_image(id, ticket, reference, platform),
        }
    }

    fn finish_image(
        &mut self,
        id: StageId,
        ticket: Ticket,
        reference: Reference,
        mut platform: Platform,
    ) -> Result<(), ConvertError> {
        let resolved = self
            .host
            .wait_image_config(ticket)
            .map_err(|e| ConvertError::host(format!("cannot resolve the image `{}`", reference.familiar()), e))?;
        let mut reference =
            Reference::parse(&resolved.reference).map_err(|e| ConvertError::instruction(e.to_string()))?;
        let mut image = Image::parse(&resolved.config)
            .map_err(|e| ConvertError::instruction(format!("the config of `{reference}` cannot be read: {e}")))?;
        if let Some(digest) = resolved.digest.as_deref().filter(|d| !d.is_empty()) {
            reference = reference.with_digest(digest).map_err(|e| ConvertError::instruction(e.to_string()))?;
        }
        let base_image = image.clone();
        image.created = None;
        let same = |p: &Platform| p.os == image.os && p.architecture == image.architecture;
        if self.stages[id].platform.is_none() && self.implicit_target && !same(&platform) && same(&self.build_platform)
        {
            platform = self.build_platform.clone();
        }
        let scratch = image.is_scratch();
        let text = reference.tagged().to_string();
        let stage = &mut self.stages[id];
        stage.base_name.clone_from(&text);
        stage.base_image = Some(base_image);
        stage.image = image;
        stage.platform = Some(platform.clone());
        if scratch {
            stage.state = State::new(None, None);
            return Ok(());
        }
        let mut attrs = BTreeMap::new();
        if self.options.resolve_mode != crate::host::ResolveMode::Default {
            attrs.insert("image.resolvemode".to_owned(), self.options.resolve_mode.as_str().to_owned());
        }
        let mut meta = Meta::default();
        meta.description.insert("com.docker.dockerfile.v1.command".into(), stage.code.clone());
        meta.locations.push(stage.ranges.clone());
        meta.set_name(self.prefixed(id, &format!("FROM {text}"), Some(&platform), false));
        let op = Op::Source(Source {
            identifier: format!("docker-image://{text}"),
            attrs,
            platform: Some(platform.clone()),
        });
        let output = self.graph.add(op, meta);
        self.stages[id].state = State::new(Some(output), Some(platform));
        Ok(())
    }

    fn pend(&mut self, id: StageId, pending: Option<PendingLocal>) {
        let paths = self.stages[id].paths;
        self.pending.extend(pending.map(|p| (p, paths)));
    }
}

/// The stage that a mount names, before anything is expanded (`from` never is); an empty file system if it names none.
fn mount_from(spec: &MountSpec) -> String {
    let fields = crate::convert::options::csv(&spec.text).unwrap_or_default();
    let from = fields.iter().rev().find_map(|f| f.split_once('=').filter(|(k, _)| k.eq_ignore_ascii_case("from")));
    from.map(|(_, v)| v).filter(|v| !v.is_empty()).unwrap_or(SCRATCH).to_owned()
}
