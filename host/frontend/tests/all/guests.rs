//! Guests from a few lines of WAT. Used by the tests of this crate and, through the binary, by those of tests/suite.
use std::path::Path;

use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};

/// A component for the frontend's world, from the body of a core module.
pub fn guest(body: &str) -> Vec<u8> {
    component(body, &Path::new(env!("CARGO_MANIFEST_DIR")).join("../../wit/rhost-frontend@0.1.0"))
}

/// A component for the world `frontend` of another package.
pub fn component(body: &str, wit: &Path) -> Vec<u8> {
    let mut module = wat::parse_str(format!("(module {body})")).unwrap();
    let mut resolve = wit_parser::Resolve::default();
    let (package, _) = resolve.push_path(wit).unwrap();
    let world = resolve.select_world(&[package], Some("frontend")).unwrap();
    embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8).unwrap();
    ComponentEncoder::default().validate(true).module(&module).unwrap().encode().unwrap()
}

/// What every guest must have around its `build`.
pub fn with_build(build: &str) -> Vec<u8> {
    guest(&format!(
        r#"(memory (export "memory") 1)
        (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const 1024))
        (func $build (export "build") (param i32) (result i32) {build})"#
    ))
}
