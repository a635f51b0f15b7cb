//! Bytes that are nearly components: cut, flipped, nested, endless. Each is refused by name; the compiler's child may die, we may not.
use rhost_frontend::LoadError;

use crate::guests::{component, with_build};
use crate::kit::{Kit, kit};

async fn told(kit: &Kit, bytes: &[u8]) -> Option<String> {
    let text = kit.load(bytes).await.err()?.to_string();
    assert!(text.starts_with("frontend x.wasm (sha256:"), "{text}");
    Some(text)
}

#[tokio::test]
async fn a_component_that_is_cut_is_refused_wherever_it_is_cut() {
    let (kit, whole) = (kit(), with_build("(unreachable)"));
    for length in (0..whole.len()).step_by(whole.len() / 24) {
        assert!(told(&kit, &whole[..length]).await.is_some(), "{length} of {} bytes were taken", whole.len());
    }
}

#[tokio::test]
async fn a_component_with_flipped_bits_is_refused_or_harmless() {
    let (kit, whole) = (kit(), with_build("(unreachable)"));
    let mut refused = 0;
    for at in (8..whole.len()).step_by(whole.len() / 24) {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x55;
        match told(&kit, &bytes).await {
            Some(_) => refused += 1,
            None => drop(kit.run(&bytes).await),
        }
    }
    assert!(refused > 0);
}

#[tokio::test]
async fn what_is_nested_or_repeated_too_much_is_refused() {
    let kit = kit();
    let mut nested = wat::parse_str("(component)").unwrap();
    for _ in 0..400 {
        // A section of the kind 4 is a component.
        let mut outer = nested[..8].to_vec();
        outer.push(4);
        let mut length = nested.len();
        while length >= 0x80 {
            outer.push(length as u8 | 0x80);
            length >>= 7;
        }
        outer.push(length as u8);
        outer.extend(&nested);
        nested = outer;
    }
    // Deeper than any tool goes; legal, but no frontend.
    assert!(told(&kit, &nested).await.is_some());
    // A section of the kind 7 holds types: 1,100,000 times `string`.
    let types = [b"\0asm\x0d\0\x01\0\x07\xe3\x91\x43\xe0\x91\x43".as_slice(), &vec![0x73; 1_100_000]].concat();
    assert!(told(&kit, &types).await.is_some_and(|text| text.contains("is no WebAssembly component")));
    let blocks = format!("(component (core module (func {}{})))", "(block ".repeat(20_000), ")".repeat(20_000));
    let locals = format!("(component (core module (func {})))", "(local i64)".repeat(60_000));
    for (what, text) in [("locals", locals)] {
        let bytes = wat::parse_str(&text).unwrap_or_else(|error| panic!("{what}: {error}"));
        let text = told(&kit, &bytes).await;
        assert!(text.is_some_and(|text| text.contains("is no WebAssembly component")), "{what}");
    }
    // Legal, but no frontend: whatever becomes of it, it is told.
    if let Ok(bytes) = wat::parse_str(&blocks) {
        assert!(told(&kit, &bytes).await.is_some());
    }
}

#[tokio::test]
async fn code_that_takes_long_to_compile_is_given_up() {
    let mut kit = kit();
    kit.compiler.limits.seconds = 1;
    let body =
        "(i32.store (i32.const 16) (i32.mul (i32.load (i32.const 16)) (i32.load (i32.const 20))))".repeat(300_000);
    let text = told(&kit, &with_build(&format!("{body} (unreachable)"))).await.expect("it is given up");
    assert!(text.contains("could not be compiled: stopped after 1 s of processor time"), "{text}");
}

#[tokio::test]
async fn a_component_of_100_mib_is_not_even_looked_at() {
    let mut kit = kit();
    kit.compiler.command = "/nonexistent".into();
    let mut bytes = b"\0asm\x0d\0\x01\0".to_vec();
    bytes.resize(100 << 20, 0);
    assert!(told(&kit, &bytes).await.is_some_and(|text| text.contains("100 MiB (limit: 64 MiB)")));
}

#[tokio::test]
async fn a_frontend_with_other_types_is_told_what_does_not_fit() {
    let kit = kit();
    let directory = tempfile::tempdir().unwrap();
    for (wit, body) in [
        (
            "world frontend { export build: func(x: u32) -> u32; }",
            r#"(func (export "build") (param i32) (result i32) (i32.const 0))"#,
        ),
        (
            "interface llb { scratch: func() -> u64; } world frontend { import llb; export build: func(); }",
            r#"(import "rhost:frontend/llb@0.1.0" "scratch" (func (result i64))) (func (export "build"))"#,
        ),
        (
            "interface llb { fly: func(); } world frontend { import llb; export build: func(); }",
            r#"(import "rhost:frontend/llb@0.1.0" "fly" (func)) (func (export "build"))"#,
        ),
    ] {
        std::fs::write(directory.path().join("x.wit"), format!("package rhost:frontend@0.1.0; {wit}")).unwrap();
        let error = kit.load(&component(body, directory.path())).await.err().expect(wit);
        assert!(matches!(error, LoadError::NotAFrontend { .. }), "{error}");
    }
}
