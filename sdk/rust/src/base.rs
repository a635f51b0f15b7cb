//! Base images: resolved as promises, pinned by digest.
use crate::bindings::rhost::frontend::{images, llb};
use crate::{Error, ImageConfig, Platform, Run, State, fail, named, run};

/// An image to build on.
pub struct Base {
    /// Its files.
    pub state: State,
    /// What it says about running it; to be changed and handed to `Outcome::add`.
    pub config: ImageConfig,
    /// `docker.io/library/debian:12@sha256:…`
    pub reference: String,
    /// What its programs run on.
    pub platform: Platform,
}

/// A base on its way. Start all of them before waiting for the first.
pub struct PendingBase {
    pending: images::PendingImage,
    platform: Platform,
}

impl Base {
    /// Starts to resolve an image.
    pub fn resolve(reference: &str, platform: &Platform) -> PendingBase {
        let name = format!("[internal] load metadata for {reference}");
        let pending = images::resolve(reference, Some(platform), images::ResolveMode::Default, None, Some(&name));
        PendingBase { pending, platform: platform.clone() }
    }

    /// The empty base.
    pub fn scratch(platform: &Platform) -> Self {
        let config = ImageConfig::new(platform);
        Self { state: llb::scratch(), config, reference: "scratch".into(), platform: platform.clone() }
    }

    /// A command on its files, run as the image's configuration says: variables, working directory, user.
    pub fn run(&self, args: &[&str]) -> Run {
        let step = run(&self.state, &self.platform, args).env(&self.config.env()).cwd(self.config.workdir());
        match self.config.get("User").and_then(serde_json::Value::as_str) {
            Some(user) if !user.is_empty() => step.user(user),
            _ => step,
        }
    }

    /// As [`Base::run`], of a line for the shell.
    pub fn shell(&self, line: &str) -> Run {
        self.run(&["/bin/sh", "-c", line])
    }
}

impl PendingBase {
    /// Whether [`PendingBase::wait`] would return at once.
    pub fn ready(&self) -> bool {
        self.pending.ready()
    }

    /// Waits, and puts the image, pinned by its digest, into the graph.
    ///
    /// # Errors
    /// When the image cannot be had for the platform.
    pub fn wait(self) -> Result<Base, Error> {
        let image = self.pending.wait()?;
        let (name, _) = image.reference.split_once('@').unwrap_or((&image.reference, ""));
        let reference = format!("{name}@{}", image.digest);
        let config = ImageConfig::parse(&image.config)
            .ok_or_else(|| fail(format!("the configuration of {reference} is no JSON object")))?;
        let attributes = [("image.resolvemode".to_owned(), "default".to_owned())];
        let identifier = format!("docker-image://{reference}");
        let state = llb::source(&identifier, &attributes, Some(&self.platform), &named(&format!("FROM {reference}")))?;
        Ok(Base { state, config, reference, platform: self.platform })
    }
}
