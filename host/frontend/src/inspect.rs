//! `Inspection`: what a component asks for and offers, for people who ship one or wonder about one. Compiles it, runs nothing.
use rhost_llb::Digest;

use crate::about::{About, AboutError};
use crate::compile::Compiler;
use crate::engine::Engine;
use crate::error::{Identity, LoadError};
use crate::frontend::check_imports;
use crate::v0_1;

/// What a component is.
#[derive(Debug)]
pub struct Inspection {
    /// Of its bytes.
    pub digest: Digest,
    /// How many bytes.
    pub size: usize,
    /// What it imports, by name, sorted.
    pub imports: Vec<String>,
    /// What it exports, by name, sorted.
    pub exports: Vec<String>,
    /// The WIT track that it was made for, as in `rhost:frontend@0.1.0`: the package of its imports.
    pub track: Option<String>,
    /// What it says of itself, if it says anything that can be read.
    pub about: Result<Option<About>, AboutError>,
    /// Why it cannot be a frontend here; `None` for one that can.
    pub refusal: Option<LoadError>,
}

impl Engine {
    /// Looks at a component, be it a frontend or not.
    ///
    /// # Errors
    /// The bytes are no component, or it cannot be compiled.
    pub async fn inspect(&self, name: &str, bytes: &[u8], compiler: &Compiler) -> Result<Inspection, LoadError> {
        let identity = Identity { name: name.to_owned(), digest: Digest::of(bytes) };
        let component = compiler.component(self, &identity, bytes).await?;
        let kind = component.component_type();
        // A name without a colon is a type that the world takes out of an interface.
        let mut imports: Vec<String> = kind.imports(self.wasmtime()).map(|(name, _)| name.to_owned()).collect();
        imports.retain(|name| name.contains(':'));
        let mut exports: Vec<String> = kind.exports(self.wasmtime()).map(|(name, _)| name.to_owned()).collect();
        imports.sort();
        exports.sort();
        let not = |error: wasmtime::Error| LoadError::NotAFrontend {
            identity: identity.clone(),
            reason: format!("{error:#}"),
        };
        let checked = check_imports(self, &identity, &component);
        let refusal = checked.and_then(|()| v0_1::Prepared::new(self, &component).map(drop).map_err(not)).err();
        let track = imports.iter().find_map(|name| track(name));
        let about = About::read(bytes);
        Ok(Inspection { digest: identity.digest, size: bytes.len(), imports, exports, track, about, refusal })
    }
}

/// `rhost:frontend@0.1.0` of `rhost:frontend/llb@0.1.0`.
fn track(import: &str) -> Option<String> {
    let (package, rest) = import.strip_prefix("rhost:").and_then(|rest| rest.split_once('/'))?;
    let version = rest.split_once('@').map(|(_, version)| format!("@{version}")).unwrap_or_default();
    Some(format!("rhost:{package}{version}"))
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_track_is_the_package_of_an_import() {
        assert_eq!(super::track("rhost:frontend/llb@0.1.0").as_deref(), Some("rhost:frontend@0.1.0"));
        assert_eq!(super::track("wasi:cli/run@0.2.0"), None);
    }
}
