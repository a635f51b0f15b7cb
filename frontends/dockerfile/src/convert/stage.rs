//! The stages of a build file and how they hang together: names, bases, `--from` dependencies, reachability, base images.

use std::collections::BTreeSet;

use crate::convert::context::NamedContext;
use crate::convert::converter::Converter;
use crate::convert::error::ConvertError;
use crate::convert::graph::{Platform, Range};
use crate::convert::image::Image;
use crate::convert::lint::rules;
use crate::convert::outline::Outline;
use crate::convert::state::State;
use crate::instruction::{Instruction, Kind, MountSpec, suggest};
use crate::shell::{Expansion, NoEnv};
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
    /// The same as it was written, variables replaced.
    pub original_base: String,
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
    pub resolved: bool,
    pub on_build_init: bool,
    /// It stands in no FROM.
    pub unregistered: bool,
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
    /// Where CMD, ENTRYPOINT and HEALTHCHECK were last seen in this stage.
    pub cmd_at: Option<Vec<Range>>,
    pub entrypoint_at: Option<Vec<Range>>,
    pub healthcheck_at: Option<Vec<Range>>,
    /// WORKDIR was seen in this stage or in one that it starts from.
    pub workdir_set: bool,
    /// What the stage takes.
    pub outline: Outline,
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
            original_base: String::new(),
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
            cmd_at: None,
            entrypoint_at: None,
            healthcheck_at: None,
            workdir_set: false,
            outline: Outline::default(),
        }
    }

    fn add_stage(&mut self, mut stage: Stage) -> StageId {
        stage.base = self.by_name.get(&stage.base_name).copied();
        stage.outline = stage.base.map_or(&self.outline, |base| &self.stages[base].outline).clone();
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
            self.lint.enter(&source.comments, &at);
            self.add_parsed(index, source).map_err(|e| e.at(&at))?;
        }
        Ok(())
    }

    fn add_parsed(&mut self, index: usize, source: &crate::instruction::Stage) -> Result<(), ConvertError> {
        let expand =
            |word: &str| self.lexer.expand(word, &self.global).map_err(|e| ConvertError::instruction(e.to_string()));
        let base = expand(&source.base)?;
        self.report_undeclared(&base.unmatched);
        let mut used = base.matched;
        let base = base.text;
        if base.is_empty() {
            return Err(ConvertError::instruction(format!(
                "base name ({}) should not be blank: give its ARG a default",
                source.base
            )));
        }
        let platform = match source.platform.as_deref().filter(|word| !word.is_empty()) {
            None => None,
            Some(word) => {
                let found = expand(word)?;
                self.report_undeclared(&found.unmatched);
                self.report_platform(source, word, &found);
                used.extend(found.matched.iter().cloned());
                let text = &found.text;
                if text.is_empty() {
                    let near = self.near_global(&found.unmatched);
                    let message = format!("empty platform value from expression {word}{near}");
                    return Err(ConvertError::instruction(message));
                }
                Some(Platform::parse(text, &self.build_platform).map_err(|e| {
                    let near = self.near_global(&found.unmatched);
                    ConvertError::instruction(format!("failed to parse platform {word}: {e}{near}"))
                })?)
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
        stage.outline.used.extend(used);
        stage.command_total = steps + usize::from(stage.base_name != SCRATCH && stage.base.is_none());
        Ok(())
    }

    /// The variable that one without a value was probably meant to be, as the end of a message.
    fn near_global(&self, unmatched: &BTreeSet<String>) -> String {
        let known: Vec<&str> = self.global.iter().map(|(key, _)| key).collect();
        let near = unmatched.iter().find_map(|name| suggest::exact(name, &known));
        near.map(|near| format!(" (did you mean {near}?)")).unwrap_or_default()
    }

    /// Variables of FROM that no ARG before it declares.
    fn report_undeclared(&self, unmatched: &BTreeSet<String>) {
        let known: BTreeSet<&str> =
            self.global.iter().map(|(key, _)| key).chain(self.outline.args.keys().map(String::as_str)).collect();
        let known: Vec<&str> = known.into_iter().collect();
        for name in unmatched.iter().filter(|name| !known.contains(&name.as_str())) {
            let near = suggest::exact(name, &known).map(|near| format!(" (did you mean {near}?)")).unwrap_or_default();
            self.lint.found(&rules::UNDEFINED_ARG_IN_FROM, format!("FROM argument '{name}' is not declared{near}"));
        }
    }

    /// A platform that is the default anyway, or that leaves no choice.
    fn report_platform(&self, source: &crate::instruction::Stage, word: &str, found: &Expansion) {
        const TARGET: &str = "TARGETPLATFORM";
        if found.matched.len() == 1 && found.unmatched.is_empty() && found.matched.contains(TARGET) {
            if self.global.get(TARGET) == Some(&found.text) {
                let message = format!(
                    "Setting platform to predefined {word} in FROM is redundant as this is the default behavior"
                );
                self.lint.found(&rules::REDUNDANT_TARGET_PLATFORM, message);
            }
        } else if found.matched.is_empty()
            && found.unmatched.is_empty()
            && let Ok(platform) = Platform::parse(&found.text, &self.build_platform)
        {
            let name = source.name.as_deref().unwrap_or_default();
            if !name.contains(&platform.os) && !name.contains(&platform.architecture) {
                let message = format!("FROM --platform flag should not use constant value \"{}\"", found.text);
                self.lint.found(&rules::CONST_PLATFORM, message);
            }
        }
    }

    /// The stage to be built.
    pub(crate) fn target_stage(&self) -> Result<StageId, ConvertError> {
        if self.options.target.is_empty() {
            return Ok(self.stages.len() - 1);
        }
        self.find(&self.options.target).ok_or_else(|| {
            let names: Vec<&str> = self.stages.iter().filter_map(|s| s.name.as_deref()).collect();
            let near = suggest::any_case(&self.options.target, &names);
            let near = near.map(|near| format!(" (did you mean {near}?)")).unwrap_or_default();
            let known = match names.as_slice() {
                [] => "no stage has a name".to_owned(),
                names => format!("there are {}", names.join(", ")),
            };
            ConvertError::instruction(format!(
                "target stage {:?} could not be found{near}: {known}",
                self.options.target
            ))
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

    pub(crate) fn command(
        &mut self,
        stage: StageId,
        instruction: Instruction,
        on_build: bool,
    ) -> Result<Command, ConvertError> {
        let at = ranges(instruction.span);
        let sources = match &instruction.kind {
            Kind::Copy(copy) => match copy.from.as_deref().filter(|f| !f.is_empty()) {
                None => Vec::new(),
                Some(from) => {
                    let expanded =
                        self.lexer.expand(from, &NoEnv).map_err(|e| ConvertError::instruction(e.to_string()))?;
                    if expanded.text != from {
                        return Err(ConvertError::instruction(format!(
                            "variable expansion is not supported for --from, define a new stage with FROM using ARG from global \
                             scope as a workaround: --from={from}"
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
                ConvertError::instruction(format!("invalid stage index {from}: --from={from} names no stage"))
            });
        }
        if let Some(id) = self.find(from) {
            return Ok(id);
        }
        let mut stage = self.new_stage(from.to_owned(), at);
        stage.unregistered = true;
        Ok(self.add_stage(stage))
    }

    /// Depth first with a stack of its own: a build file may chain any number of stages.
    fn refuse_circles(&self) -> Result<(), ConvertError> {
        let mut done = vec![false; self.stages.len()];
        let mut on_path = vec![false; self.stages.len()];
        for start in 0..self.stages.len() {
            let mut path = vec![(start, self.stages[start].deps.iter())];
            on_path[start] = !done[start];
            while let Some((id, deps)) = path.last_mut() {
                let Some(&next) = deps.next().filter(|_| !done[*id]) else {
                    done[*id] = true;
                    on_path[*id] = false;
                    path.pop();
                    continue;
                };
                if on_path[next] {
                    let stage = &self.stages[next];
                    let error =
                        ConvertError::instruction(format!("circular dependency detected on stage: {}", stage.title));
                    return Err(error.at(&stage.ranges));
                }
                if !done[next] {
                    on_path[next] = true;
                    path.push((next, self.stages[next].deps.iter()));
                }
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
}

/// The stage that a mount names, before anything is expanded (`from` never is); an empty file system if it names none.
fn mount_from(spec: &MountSpec) -> String {
    let fields = crate::convert::options::csv(&spec.text).unwrap_or_default();
    let from = fields.iter().rev().find_map(|f| f.split_once('=').filter(|(k, _)| k.eq_ignore_ascii_case("from")));
    from.map(|(_, v)| v).filter(|v| !v.is_empty()).unwrap_or(SCRATCH).to_owned()
}
