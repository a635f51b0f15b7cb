//! What one conversion, for one platform, holds: the graph that grows and the stages under way; and the order of its phases.

use std::collections::{BTreeMap, BTreeSet};

use crate::convert::Target;
use crate::convert::context::{self, MainContext, PendingLocal};
use crate::convert::error::ConvertError;
use crate::convert::graph::{Graph, Meta, Output, Platform, Proxy};
use crate::convert::image;
use crate::convert::lint::{Ignored, Linter, rules};
use crate::convert::options::Options;
use crate::convert::outline::{Answer, ArgInfo, Outline};
use crate::convert::reference::Reference;
use crate::convert::stage::{Stage, StageId, ranges};
use crate::convert::state::EnvList;
use crate::host::Host;
use crate::instruction::{Dockerfile, Kind};
use crate::shell::Lexer;

/// One conversion for one platform.
pub(crate) struct Converter<'a> {
    pub host: &'a dyn Host,
    pub options: &'a Options,
    pub graph: Graph,
    pub lexer: Lexer,
    pub build_platform: Platform,
    pub target_platform: Platform,
    /// The client named no platform.
    pub implicit_target: bool,
    /// Arguments before the first FROM, and the platform's.
    pub global: EnvList,
    pub build_args: BTreeMap<String, String>,
    /// Seconds since 1970 that the build is dated with.
    pub epoch: Option<i64>,
    pub proxy: Option<Proxy>,
    pub stages: Vec<Stage>,
    pub by_name: BTreeMap<String, StageId>,
    pub path_sets: Vec<BTreeSet<String>>,
    /// Local contexts to be filled in, with the set of paths that are used of them.
    pub pending: Vec<(PendingLocal, usize)>,
    /// The main build context.
    pub context: Output,
    pub ignored: &'a Ignored,
    pub lint: &'a Linter<'a>,
    pub all_stages: bool,
    /// What every stage begins with: the arguments before the first FROM.
    pub outline: Outline,
}

/// What all platforms share.
pub(crate) struct Shared<'a> {
    pub host: &'a dyn Host,
    pub options: &'a Options,
    pub file: &'a Dockerfile,
    pub context: &'a MainContext,
    /// Ignore patterns of the main context.
    pub exclude: &'a [String],
    /// The same, to look paths up.
    pub ignored: &'a Ignored,
    /// Where findings go.
    pub lint: &'a Linter<'a>,
    /// Convert every stage, also those that the target does not need: findings are wanted about all.
    pub all_stages: bool,
}

impl<'a> Converter<'a> {
    pub(crate) fn new(shared: &Shared<'a>, platform: Option<&Platform>) -> Result<Self, ConvertError> {
        let build_platform = shared.host.build_platform();
        let mut graph = Graph::default();
        let context = shared.context.add(&mut graph, shared.options);
        let mut converter = Self {
            host: shared.host,
            options: shared.options,
            graph,
            lexer: Lexer::new(shared.file.escape),
            target_platform: platform.cloned().unwrap_or_else(|| build_platform.clone()),
            build_platform,
            implicit_target: platform.is_none(),
            global: EnvList::default(),
            build_args: shared.options.build_args.clone(),
            epoch: None,
            proxy: shared.options.proxy(),
            stages: Vec::new(),
            by_name: BTreeMap::new(),
            path_sets: Vec::new(),
            pending: Vec::new(),
            context,
            ignored: shared.ignored,
            lint: shared.lint,
            all_stages: shared.all_stages,
            outline: Outline::default(),
        };
        converter.set_globals(shared.file)?;
        converter.set_epoch(shared)?;
        Ok(converter)
    }

    /// The variables of the platforms and of the stage, before anything of the file is read.
    fn set_globals(&mut self, file: &Dockerfile) -> Result<(), ConvertError> {
        let last = file.stages.last().and_then(|s| s.name.as_deref()).unwrap_or_default();
        let stage =
            [self.options.target.as_str(), last, "default"].into_iter().find(|s| !s.is_empty()).unwrap_or_default();
        let (b, t) = (&self.build_platform, &self.target_platform);
        for (key, value) in [
            ("BUILDPLATFORM", b.format()),
            ("BUILDOS", b.os.clone()),
            ("BUILDOSVERSION", b.os_version.clone()),
            ("BUILDARCH", b.architecture.clone()),
            ("BUILDVARIANT", b.variant.clone()),
            ("TARGETPLATFORM", t.format_all()),
            ("TARGETOS", t.os.clone()),
            ("TARGETOSVERSION", t.os_version.clone()),
            ("TARGETARCH", t.architecture.clone()),
            ("TARGETVARIANT", t.variant.clone()),
            ("TARGETSTAGE", stage.to_owned()),
        ] {
            self.global.set(key, self.build_args.get(key).unwrap_or(&value));
        }
        self.check_defaults(file);
        let (global, outline) = self.global_arguments(file, &self.build_args)?;
        self.global = global;
        self.outline.args = outline;
        Ok(())
    }

    /// The variables with the arguments before the first FROM added.
    fn global_arguments(
        &self,
        file: &Dockerfile,
        given: &BTreeMap<String, String>,
    ) -> Result<(EnvList, BTreeMap<String, ArgInfo>), ConvertError> {
        let mut global = self.global.clone();
        let mut infos: BTreeMap<String, ArgInfo> = BTreeMap::new();
        for instruction in &file.global_args {
            let Kind::Arg(args) = &instruction.kind else { continue };
            let at = ranges(instruction.span);
            for arg in args {
                let mut info = ArgInfo::new(arg, &at);
                let value = match (given.get(&arg.key), &arg.value) {
                    (Some(value), _) => Some(value.clone()),
                    (None, Some(default)) => {
                        let expanded = self.lexer.expand(default, &global);
                        let expanded = expanded.map_err(|e| ConvertError::instruction(e.to_string()).at(&at))?;
                        info.deps = expanded.matched;
                        // `ARG X=${X}y` stands on what X stood on before.
                        if info.deps.remove(&arg.key) {
                            info.deps.extend(infos.get(&arg.key).map(|old| old.deps.clone()).unwrap_or_default());
                        }
                        Some(expanded.text)
                    }
                    (None, None) => None,
                };
                if let Some(value) = value {
                    global.set(&arg.key, &value);
                    info.value = value;
                }
                infos.insert(arg.key.clone(), info);
            }
        }
        Ok((global, infos))
    }

    /// Base names should make sense when no argument is given.
    fn check_defaults(&self, file: &Dockerfile) {
        self.lint.leave();
        let Ok((defaults, _)) = self.global_arguments(file, &BTreeMap::new()) else { return };
        for stage in &file.stages {
            let Ok(base) = self.lexer.expand(&stage.base, &defaults) else { return };
            if Reference::parse(&base.text).is_err() {
                let message =
                    format!("Default value for ARG {} results in empty or invalid base image name", stage.base);
                self.lint.found_at(&rules::INVALID_DEFAULT_ARG_IN_FROM, &ranges(stage.span), message);
            }
        }
    }

    /// The date of history entries.
    pub(crate) fn created(&self) -> Option<String> {
        self.epoch.map(image::rfc3339)
    }

    /// Time stamp of directories that are made: nanoseconds, -1 for now.
    pub(crate) fn timestamp(&self) -> i64 {
        self.epoch.map_or(-1, |s| s.saturating_mul(1_000_000_000))
    }

    /// Runs all phases.
    pub(crate) fn run(mut self, shared: &Shared<'_>, wanted: Option<&Platform>) -> Result<Target, ConvertError> {
        let (target, used) = self.convert(shared)?;
        self.fill_contexts(shared, &used);
        Ok(self.finish(target, wanted))
    }

    /// Runs the phases that find things out, and says what the target takes.
    pub(crate) fn describe(mut self, shared: &Shared<'_>, source: &[u8]) -> Result<Answer, ConvertError> {
        let (target, _) = self.convert(shared)?;
        let doc = shared.file.stages.iter().rfind(|s| s.name == self.stages[target].name);
        Ok(self.outline(target, doc.and_then(|s| s.doc.as_deref()), source))
    }

    /// Grows the graph. Gives the stage to be built, and the paths of the context that are used.
    pub(crate) fn convert(&mut self, shared: &Shared<'_>) -> Result<(StageId, BTreeSet<String>), ConvertError> {
        self.add_stages(&shared.file.stages)?;
        let target = self.target_stage()?;
        self.link()?;
        let reachable = self.resolve(target)?;
        let mut used = BTreeSet::new();
        for id in 0..self.stages.len() {
            let wanted = reachable.contains(&id) && !self.stages[id].dispatched;
            if wanted || (self.all_stages && !self.stages[id].unregistered) {
                self.dispatch_stage(id)?;
                used.extend(self.stages[id].context_paths.iter().cloned());
            }
        }
        let paths = self.stages[target].paths;
        self.path_sets[paths].insert("/".into());
        self.lint.verdict()?;
        Ok((target, used))
    }

    fn fill_contexts(&mut self, shared: &Shared<'_>, used: &BTreeSet<String>) {
        for (pending, paths) in std::mem::take(&mut self.pending) {
            let mut local = pending.local;
            local.follow = context::follow_paths(&self.path_sets[paths]);
            let node = self.graph.node_mut(pending.node);
            node.op = local.op();
            node.meta = Meta::named(pending.title);
        }
        if let MainContext::Local { name } = shared.context {
            let local = context::Local {
                name: name.clone(),
                session: context::session(self.host, self.options, name),
                follow: context::follow_paths(used),
                exclude: shared.exclude.to_vec(),
                shared_key: name.clone(),
                no_differ: false,
            };
            let node = self.graph.node_mut(self.context.node);
            node.op = local.op();
            node.meta = Meta::named("[internal] load build context");
        }
    }

    fn finish(mut self, target: StageId, wanted: Option<&Platform>) -> Target {
        let created = self.epoch;
        let stage = &mut self.stages[target];
        let image = &mut stage.image;
        image.config.labels.extend(self.options.labels.iter().map(|(k, v)| (k.clone(), v.clone())));
        if !self.implicit_target {
            let p = &self.target_platform;
            let same = p.os == image.os && p.architecture == image.architecture;
            image.os.clone_from(&p.os);
            image.architecture.clone_from(&p.architecture);
            if !p.variant.is_empty() || !same {
                image.variant.clone_from(&p.variant);
            }
            if !p.os_version.is_empty() || !same {
                image.os_version.clone_from(&p.os_version);
            }
            if !p.os_features.is_empty() {
                image.os_features.clone_from(&p.os_features);
            }
        }
        if image.os.is_empty() {
            image.os.clone_from(&self.build_platform.os);
        }
        let normal = image.platform().normalize();
        image.set_platform(&normal);
        let mut platform = wanted.unwrap_or(&self.build_platform).normalize();
        let id = platform.format_all();
        if platform.os == "windows" && normal.os == "windows" {
            if platform.os_version.is_empty() {
                platform.os_version.clone_from(&normal.os_version);
            }
            if platform.os_features.is_empty() {
                platform.os_features.clone_from(&normal.os_features);
            }
        }
        Target {
            id,
            platform,
            config: image.to_json(),
            base_config: stage.base_image.as_ref().map(image::Image::to_json),
            epoch: created,
            root: stage.state.output,
            graph: self.graph,
        }
    }

    /// A display name with its place in the stage, `[stage 2/5] …`. Counts.
    pub(crate) fn prefixed(&mut self, id: StageId, text: &str, platform: Option<&Platform>, with_env: bool) -> String {
        let multi = self.options.multi_platform;
        let stage = &mut self.stages[id];
        if stage.command_total == 0 {
            return text.to_owned();
        }
        let mut out = String::from("[");
        if multi && let Some(platform) = platform {
            out.push_str(&platform.format_all());
            if with_env {
                out.push_str(&cross(platform, &stage.state.env, &self.build_platform));
            }
            out.push(' ');
        }
        if !stage.title.is_empty() {
            out.push_str(&stage.title);
            out.push(' ');
        }
        stage.command_index += 1;
        let width = stage.command_total.ilog10() as usize + 1;
        out.push_str(&format!("{:width$}/{}] ", stage.command_index, stage.command_total));
        if stage.on_build {
            out.push_str("ONBUILD ");
        }
        out + text
    }
}

/// `->arm64` where the variables of a stage say that it builds for another platform than its own.
fn cross(base: &Platform, env: &EnvList, host: &Platform) -> String {
    let mut target = Platform::default();
    let mut set = false;
    for (key, value) in env.iter() {
        let place = match key {
            "TARGETPLATFORM" => match Platform::parse(value, host) {
                Ok(platform) => {
                    target = platform;
                    set = true;
                    break;
                }
                Err(_) => continue,
            },
            "TARGETOS" => &mut target.os,
            "TARGETARCH" => &mut target.architecture,
            "TARGETVARIANT" => &mut target.variant,
            _ => continue,
        };
        value.clone_into(place);
        set = true;
    }
    if !set {
        return String::new();
    }
    if target.os.is_empty() {
        target.os.clone_from(&base.os);
    }
    if target.architecture.is_empty() {
        target.architecture.clone_from(&base.architecture);
    }
    let target = target.normalize();
    if target.os != base.os {
        return format!("->{}", target.format_all());
    }
    if target.architecture == base.architecture {
        return String::new();
    }
    let slash = if target.variant.is_empty() { "" } else { "/" };
    format!("->{}{slash}{}", target.architecture, target.variant)
}
