//! What `wit-bindgen` makes of the WIT package `rhost:frontend@0.1.0`. A project's own copy of the SDK has its text in place of this.
#![allow(missing_docs, clippy::all)]
wit_bindgen::generate!({
    world: "frontend",
    path: "../../wit/rhost-frontend@0.1.0",
    pub_export_macro: true,
    default_bindings_module: "rhost_sdk::bindings",
    generate_all,
});
