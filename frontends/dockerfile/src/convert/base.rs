//! What stages start from: base images and named contexts, all under way at once, and the triggers that they carry.

use std::collections::{BTreeMap, BTreeSet};

use crate::convert::context::{Loaded, Loading, NamedContext, PendingLocal};
use crate::convert::converter::Converter;
use crate::convert::error::ConvertError;
use crate::convert::graph::{Meta, Op, Platform, Source};
use crate::convert::image::Image;
use crate::convert::lint::rules;
use crate::convert::reference::Reference;
use crate::convert::stage::{SCRATCH, StageId};
use crate::convert::state::State;
use crate::host::{ImageConfigRequest, Ticket};
use crate::instruction::{Kind, suggest};
use crate::span::Span;

/// How the base of a stage is found.
enum Base {
    Named(Loading),
    /// The base name is that of a context.
    Context(Loading, Platform),
    Image(Ticket, Reference, Platform),
}

impl Converter<'_> {
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
                // An image that is only copied from runs no triggers; reading them could go on for ever.
                if !triggers.is_empty() && !self.stages[id].dispatched {
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
        let workdir_set = base.workdir_set;
        image.config.on_build.clear();
        let stage = &mut self.stages[id];
        stage.state = state;
        stage.platform = platform;
        stage.image = image;
        stage.base_image = base_image;
        stage.paths = paths;
        stage.workdir_set = workdir_set;
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
            let wanted = self.all_stages || reachable.contains(&id);
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
        self.stages[id].original_base.clone_from(&name);
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

    /// What to say of an image that nobody has. One without a registry may be the name of a stage, misspelt.
    fn unresolved(&self, reference: &Reference) -> String {
        let familiar = reference.familiar();
        let written = familiar.strip_suffix(":latest").unwrap_or(&familiar);
        let names: Vec<&str> = self.stages.iter().filter_map(|stage| stage.name.as_deref()).collect();
        let near = suggest::exact(written, &names).filter(|near| near != written);
        let near = near.map(|near| format!(" (did you mean the stage `{near}`?)")).unwrap_or_default();
        format!("cannot resolve the image `{familiar}`{near}")
    }

    fn finish_image(
        &mut self,
        id: StageId,
        ticket: Ticket,
        reference: Reference,
        mut platform: Platform,
    ) -> Result<(), ConvertError> {
        let resolved =
            self.host.wait_image_config(ticket).map_err(|e| ConvertError::host(self.unresolved(&reference), e))?;
        let mut reference =
            Reference::parse(&resolved.reference).map_err(|e| ConvertError::instruction(e.to_string()))?;
        let mut image = Image::parse(&resolved.config)
            .map_err(|e| ConvertError::instruction(format!("the config of `{reference}` cannot be read: {e}")))?;
        if let Some(digest) = resolved.digest.as_deref().filter(|d| !d.is_empty()) {
            reference = reference.with_digest(digest).map_err(|e| ConvertError::instruction(e.to_string()))?;
        }
        let base_image = image.clone();
        let original = self.stages[id].original_base.clone();
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
        let actual = stage.image.platform();
        if (&platform.os, &platform.architecture) != (&actual.os, &actual.architecture) {
            let (wanted, actual) = (platform.normalize().format_all(), actual.normalize().format_all());
            let message = format!(
                "Base image {original} was pulled with platform \"{actual}\", expected \"{wanted}\" for current build"
            );
            let at = stage.ranges.clone();
            self.lint.leave();
            self.lint.found_at(&rules::INVALID_BASE_IMAGE_PLATFORM, &at, message);
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
