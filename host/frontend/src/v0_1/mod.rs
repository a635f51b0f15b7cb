//! The track `rhost:frontend@0.1.0`: its bindings, and how each interface is served from [`crate::FrontendHost`] and a graph builder.
mod bindings;
mod convert;
mod exec;
mod file;
mod guest;
mod handles;
mod llb;
mod report;
mod run;
mod world;

pub(crate) use guest::Guest;
pub(crate) use run::Prepared;

/// Of the track.
pub(crate) const VERSION: (u64, u64, u64) = (0, 1, 0);

/// The interfaces of the track.
const INTERFACES: [&str; 8] = ["types", "report", "llb", "context", "images", "solve", "invocation", "outcome"];

/// Whether an import of this name can be served.
pub(crate) fn offers(name: &str) -> bool {
    INTERFACES.iter().any(|interface| name == format!("rhost:frontend/{interface}@0.1.0"))
}

/// A linker with the track's interfaces and nothing else.
pub(crate) fn linker(engine: &wasmtime::Engine) -> wasmtime::Result<wasmtime::component::Linker<Guest>> {
    let mut linker = wasmtime::component::Linker::new(engine);
    bindings::Frontend::add_to_linker::<_, wasmtime::component::HasSelf<Guest>>(&mut linker, |guest| guest)?;
    Ok(linker)
}
