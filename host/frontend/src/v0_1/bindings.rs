//! What wasmtime's `bindgen!` makes of `wit/rhost-frontend@0.1.0`. Imports are async (a guest that waits for the host costs
//! no thread), trappable (a guest that breaks the rules is stopped, not answered) and traced: whoever subscribes to `tracing` sees each call with its
//! arguments and its answer.
#![allow(missing_docs)]

wasmtime::component::bindgen!({
    world: "frontend",
    path: "../../wit/rhost-frontend@0.1.0",
    imports: { default: async | trappable | tracing | verbose_tracing },
    exports: { default: async },
    with: {
        "rhost:frontend/llb.source-map": super::handles::SourceMap,
        "rhost:frontend/report.diagnostic": super::handles::Diagnostic,
        "rhost:frontend/llb.state": super::handles::State,
        "rhost:frontend/llb.metadata": super::handles::Metadata,
        "rhost:frontend/llb.exec": super::handles::Exec,
        "rhost:frontend/llb.copy-action": super::handles::CopyAction,
        "rhost:frontend/llb.file": super::handles::File,
        "rhost:frontend/images.pending-image": super::handles::PendingImage,
        "rhost:frontend/solve.pending-tree": super::handles::PendingTree,
        "rhost:frontend/solve.tree": super::handles::Tree,
        "rhost:frontend/invocation.invocation": super::handles::Invocation,
        "rhost:frontend/outcome.outcome": super::handles::Outcome,
    },
});
