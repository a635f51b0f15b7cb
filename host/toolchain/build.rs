//! Gathers the SDKs, the project templates and the WIT package, makes the bindings that languages cannot make by themselves, and writes a table of it
//! all for `include!`. Its output depends on the checkout's files alone.
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use wit_bindgen_core::{Files, WorldGenerator};
use wit_parser::{Resolve, WorldId};

type Tree = BTreeMap<String, Vec<u8>>;

const WORLD: &str = "frontend";
/// The import path of the Go SDK; its bindings are below `internal/wit`.
const GO_MODULE: &str = "github.com/rhost/rhost/sdk/go";

fn main() {
    // Asked now: a build directory may outlive the checkout that this program was compiled in.
    let here = std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo says where the package is");
    let checkout = Path::new(&here).join("../..");
    let out = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo sets it"));
    let wit = checkout.join("wit/rhost-frontend@0.1.0");
    for path in ["wit", "sdk"] {
        println!("cargo::rerun-if-changed={}", checkout.join(path).display());
    }
    println!("cargo::rerun-if-changed=src/go_adapter.wat");
    let (resolve, world) = world(&wit);

    let mut shared = Tree::new();
    gather(&wit, "wit", &mut shared);
    let mut table = String::from("pub(crate) static FILES: &[(&str, &str, &[u8])] = &[\n");
    for language in ["rust", "js", "python", "go"] {
        let mut sdk = shared.clone();
        gather(&checkout.join("sdk").join(language), "", &mut sdk);
        sdk.retain(|path, _| !path.starts_with("template/") && path != "Cargo.toml");
        match language {
            "rust" => {
                sdk.insert("src/bindings.rs".into(), rust_bindings(&resolve, world));
                sdk.insert("Cargo.toml".into(), RUST_MANIFEST.into());
            }
            "go" => sdk.extend(go_bindings(&resolve, world)),
            _ => {}
        }
        write_table(&out, &format!("sdk-{language}"), &sdk, &mut table);
        let mut template = Tree::new();
        gather(&checkout.join("sdk/template"), "", &mut template);
        gather(&checkout.join("sdk").join(language).join("template"), "", &mut template);
        write_table(&out, &format!("template-{language}"), &template, &mut table);
    }
    table.push_str("];\n");
    write(&out.join("files.rs"), table.as_bytes());

    let metadata = wit_component::metadata::encode(&resolve, world, wit_component::StringEncoding::UTF8, None);
    write(&out.join("world.bin"), &metadata.expect("the world has an encoding"));
    write(&out.join("go_adapter.wasm"), &go_adapter(&wit));
}

fn write(path: &Path, bytes: &[u8]) {
    std::fs::write(path, bytes).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
}

fn world(wit: &Path) -> (Resolve, WorldId) {
    let mut resolve = Resolve::default();
    let (package, _) = resolve.push_path(wit).unwrap_or_else(|error| panic!("{}: {error:#}", wit.display()));
    let world = resolve.select_world(&[package], Some(WORLD)).expect("the package has the world");
    (resolve, world)
}

/// The files below `dir`, under `prefix`. What tools leave behind is not taken.
fn gather(dir: &Path, prefix: &str, into: &mut Tree) {
    let entries = std::fs::read_dir(dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
    for entry in entries.flatten() {
        let name = entry.file_name().into_string().expect("our file names are UTF-8");
        if matches!(name.as_str(), "target" | "node_modules" | "__pycache__" | ".rhost") {
            continue;
        }
        let path = if prefix.is_empty() { name } else { format!("{prefix}/{name}") };
        if entry.path().is_dir() {
            gather(&entry.path(), &path, into);
        } else {
            into.insert(path, std::fs::read(entry.path()).expect("a file of the checkout"));
        }
    }
}

/// One blob for each tree, and a row of (kind, path, bytes) for each file.
fn write_table(out: &Path, kind: &str, tree: &Tree, table: &mut String) {
    for (number, (path, bytes)) in tree.iter().enumerate() {
        let file = out.join(format!("{kind}-{number}"));
        write(&file, bytes);
        writeln!(table, "({kind:?}, {path:?}, include_bytes!({file:?})),").expect("a string takes it");
    }
}

fn generate(mut generator: Box<dyn WorldGenerator>, resolve: &Resolve, world: WorldId) -> Files {
    let mut files = Files::default();
    generator.generate(&mut resolve.clone(), world, &mut files).expect("bindings of our own world");
    files
}

fn rust_bindings(resolve: &Resolve, world: WorldId) -> Vec<u8> {
    let options = wit_bindgen_rust::Opts {
        pub_export_macro: true,
        generate_all: true,
        default_bindings_module: Some("rhost_sdk::bindings".into()),
        ..Default::default()
    };
    let files = generate(Box::new(options.build()), resolve, world);
    let mut text =
        b"//! Made of `wit/` by wit-bindgen; not to be edited.\n#![allow(missing_docs, clippy::all)]\n".to_vec();
    text.extend(files.iter().next().expect("one file").1);
    text
}

/// Of the Go bindings those that are ours to ship: their helpers are packages of the SDK, and nothing asynchronous is used.
fn go_bindings(resolve: &Resolve, world: WorldId) -> Tree {
    let options = wit_bindgen_go::Opts {
        format: wit_bindgen_go::Format::False,
        pkg_name: Some(format!("{GO_MODULE}/internal/wit")),
        ..Default::default()
    };
    let files = generate(options.build(), resolve, world);
    let mut tree = Tree::new();
    for (name, bytes) in files.iter() {
        if name.ends_with(".go") {
            let text = std::str::from_utf8(bytes).expect("Go is UTF-8");
            let text = text.replace("go.bytecodealliance.org/pkg/wit/", &format!("{GO_MODULE}/internal/"));
            tree.insert(format!("internal/wit/{name}"), text.into_bytes());
        }
    }
    tree
}

/// What Go programs want of WASI, answered inside the component.
fn go_adapter(wit: &Path) -> Vec<u8> {
    let (mut resolve, _) = world(wit);
    let text = "package rhost:go-adapter; world adapter { import rhost:frontend/report@0.1.0; }";
    let package = resolve.push_str("adapter.wit", text).expect("a world of one import");
    let world = resolve.select_world(&[package], Some("adapter")).expect("it has the world");
    let mut module = wat::parse_str(include_str!("src/go_adapter.wat")).expect("the adapter is a module");
    wit_component::embed_component_metadata(&mut module, &resolve, world, wit_component::StringEncoding::UTF8)
        .expect("a module takes a section");
    module
}

/// The crate of a project's own: what it takes from our workspace, written out.
const RUST_MANIFEST: &str = r#"[package]
name = "rhost-sdk"
version = "0.1.0"
edition = "2024"
license = "Apache-2.0"
publish = false

[dependencies]
wit-bindgen = { version = "=0.61.1", default-features = false, features = ["realloc", "std"] }
serde_json = { version = "1", features = ["preserve_order"] }
"#;
