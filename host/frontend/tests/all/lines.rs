//! Backtraces of guests that hold line tables: as the text format's own DWARF, and as noise in its place.
use std::path::Path;

use rhost_frontend::RunError;
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};

use crate::kit::kit;

const TEXT: &str = r#"(module
  (memory (export "memory") 1)
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const 1024))
  (func $deep_inside
    (unreachable))
  (func $build (export "build") (param i32) (result i32)
    (call $deep_inside)
    (i32.const 0))
)"#;

/// The guest, with `change` made to its module.
fn guest(change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut parser = wat::Parser::new();
    parser.generate_dwarf(wat::GenerateDwarf::Lines);
    let mut module = parser.parse_str(Some(Path::new("src/guest.wat")), TEXT).unwrap();
    change(&mut module);
    let wit = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../wit/rhost-frontend@0.1.0");
    let mut resolve = wit_parser::Resolve::default();
    let (package, _) = resolve.push_path(wit).unwrap();
    let world = resolve.select_world(&[package], Some("frontend")).unwrap();
    embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8).unwrap();
    ComponentEncoder::default().validate(true).module(&module).unwrap().encode().unwrap()
}

async fn backtrace(component: &[u8]) -> Vec<String> {
    match kit().run(component).await {
        Err(RunError::Stopped { backtrace, .. }) => backtrace,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn frames_have_their_lines() {
    let found = backtrace(&guest(|_| {})).await;
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found[0].starts_with("deep_inside at ") && found[0].ends_with("src/guest.wat:5"), "{found:?}");
    assert!(found[1].starts_with("build at ") && found[1].ends_with("src/guest.wat:7"), "{found:?}");
}

#[tokio::test]
async fn line_tables_that_lie_cost_the_lines_only() {
    // The program of line numbers, and what tells where it begins.
    for section in [".debug_line", ".debug_info", ".debug_abbrev"] {
        let spoilt = guest(|module| {
            let at =
                module.windows(section.len()).position(|window| window == section.as_bytes()).unwrap() + section.len();
            let end = module.len().min(at + 24);
            module[at..end].fill(0xff);
        });
        let found = backtrace(&spoilt).await;
        let names: Vec<&str> = found.iter().map(|frame| frame.split(" at ").next().unwrap()).collect();
        assert_eq!(names, ["deep_inside", "build"], "{section}: {found:?}");
    }
}
