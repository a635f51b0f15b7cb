//! `Frontend`: a checked component, ready to run any number of builds, each in an instance of its own.
use std::sync::Arc;

use rhost_llb::Digest;
use wasmtime::component::Component;

use crate::compile::{Compiler, Embedded};
use crate::engine::Engine;
use crate::error::{Identity, LoadError, RunError};
use crate::host::{FrontendHost, Invocation, Outcome};
use crate::limits::Limits;
use crate::lines::Lines;
use crate::v0_1;

/// Where `tracing` hears that a frontend begins to be loaded.
pub const LOADING: &str = "rhost_frontend::loading";
/// Target of the event (`tracing`) that a frontend has answered or was stopped; its message is the milliseconds since its instance began to be made.
pub const ANSWERED: &str = "rhost_frontend::answered";

/// A guest that may be run. Cheap to clone.
#[derive(Clone)]
pub struct Frontend {
    identity: Arc<Identity>,
    engine: Engine,
    track: v0_1::Prepared,
    lines: Option<Arc<Lines>>,
}

impl Engine {
    /// Makes a frontend of a component's bytes: compiled in a limited child process or taken from the cache, its imports and exports
    /// checked. `name` is what messages call it.
    pub async fn compile(&self, name: &str, bytes: &[u8], compiler: &Compiler) -> Result<Frontend, LoadError> {
        tracing::trace!(target: LOADING, "{name}");
        self.compiled(name, bytes, compiler).await
    }

    async fn compiled(&self, name: &str, bytes: &[u8], compiler: &Compiler) -> Result<Frontend, LoadError> {
        let identity = Identity { name: name.to_owned(), digest: Digest::of(bytes) };
        let component = compiler.component(self, &identity, bytes).await?;
        let mut frontend = self.prepare(identity, &component)?;
        frontend.lines = Lines::of(bytes, compiler);
        Ok(frontend)
    }

    /// Makes a frontend of one that is part of this program: from its embedded code, else as [`Engine::compile`] does.
    pub async fn embedded(&self, name: &str, embedded: &Embedded, compiler: &Compiler) -> Result<Frontend, LoadError> {
        tracing::trace!(target: LOADING, "{name}");
        match embedded.load(self) {
            Some(component) => self.prepare(embedded.identity(name), &component),
            None => self.compiled(name, embedded.component, compiler).await,
        }
    }

    fn prepare(&self, identity: Identity, component: &Component) -> Result<Frontend, LoadError> {
        check_imports(self, &identity, component)?;
        let track = v0_1::Prepared::new(self, component)
            .map_err(|error| LoadError::NotAFrontend { identity: identity.clone(), reason: format!("{error:#}") })?;
        Ok(Frontend { identity: Arc::new(identity), engine: self.clone(), track, lines: None })
    }
}

impl Frontend {
    /// What it is called and what it is.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Runs it once, in a fresh instance. Dropping the future stops the guest and what it waits for. Needs a tokio runtime.
    pub async fn build(
        &self,
        host: Arc<dyn FrontendHost>,
        invocation: Invocation,
        limits: &Limits,
    ) -> Result<Outcome, RunError> {
        let mut offsets = Vec::new();
        let mut answer = self.track.build(&self.engine, &self.identity, host, invocation, limits, &mut offsets).await;
        if let (Err(RunError::Stopped { backtrace, .. }), Some(lines)) = (&mut answer, &self.lines) {
            lines.add(backtrace, &offsets).await;
        }
        answer
    }
}

/// Refuses what is not ours, and what is ours in a version that is not here; each with the whole list.
pub(crate) fn check_imports(engine: &Engine, identity: &Identity, component: &Component) -> Result<(), LoadError> {
    let kind = component.component_type();
    let imports: Vec<String> = kind.imports(engine.wasmtime()).map(|(name, _)| name.to_owned()).collect();
    // A name without a colon is a type that the world takes out of an interface.
    let (ours, foreign): (Vec<String>, Vec<String>) =
        imports.into_iter().filter(|name| name.contains(':')).partition(|name| name.starts_with("rhost:"));
    if !foreign.is_empty() {
        return Err(LoadError::ForeignImports { identity: identity.clone(), wanted: foreign });
    }
    let wanted: Vec<String> = ours.into_iter().filter(|name| !v0_1::offers(name)).collect();
    if wanted.is_empty() {
        return Ok(());
    }
    let newer = wanted.iter().filter_map(|name| version(name)).any(|version| version > v0_1::VERSION);
    let side = if newer { "upgrade rhost" } else { "upgrade the frontend" };
    Err(LoadError::OtherVersion { identity: identity.clone(), wanted, side })
}

/// The version at the end of an interface's name.
fn version(name: &str) -> Option<(u64, u64, u64)> {
    let (_, version) = name.rsplit_once('@')?;
    let mut parts = version.splitn(3, '.').map(|part| part.parse().ok());
    Some((parts.next()??, parts.next()??, parts.next()??))
}

#[cfg(test)]
mod tests {
    #[test]
    fn versions_are_read() {
        assert_eq!(super::version("rhost:frontend/llb@0.12.3"), Some((0, 12, 3)));
        assert_eq!(super::version("rhost:frontend/llb"), None);
        assert_eq!(super::version("rhost:frontend/llb@1"), None);
    }
}
