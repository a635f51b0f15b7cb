//! What is no frontend is refused, with the reason; what is one is compiled once, and only what we compiled ourselves is loaded.
use std::os::unix::fs::PermissionsExt;

use rhost_frontend::{Embedded, LoadError};

use crate::guests::{component, with_build};
use crate::kit::{Host, Kit, kit};

async fn refused(kit: &Kit, bytes: &[u8]) -> (LoadError, String) {
    let error = kit.load(bytes).await.err().expect("it was taken");
    let text = error.to_string();
    (error, text)
}

#[tokio::test]
async fn strange_bytes() {
    let kit = kit();
    for (bytes, why) in [
        (&b""[..], "empty"),
        (b"#!/bin/sh\n", "not WebAssembly at all"),
        (b"\0asm\x01\0\0\0", "core module"),
        (b"\0asm\x0d\0\x01\0\xff\xff\xff", "no WebAssembly component"),
    ] {
        let (error, text) = refused(&kit, bytes).await;
        assert!(matches!(error, LoadError::NotAComponent { .. }) && text.contains(why), "{text}");
        assert!(text.starts_with("frontend x.wasm (sha256:"), "{text}");
    }
    assert!(matches!(refused(&kit, b"\x7fELF\x02\x01\x01").await.0, LoadError::Precompiled { .. }));
}

#[tokio::test]
async fn a_component_without_build() {
    let (error, text) = refused(&kit(), &wat::parse_str("(component)").unwrap()).await;
    assert!(matches!(error, LoadError::NotAFrontend { .. }), "{text}");
}

#[tokio::test]
async fn foreign_imports_are_listed() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(
        directory.path().join("x.wit"),
        "package x:y; interface clock { now: func() -> u64; } interface net { dial: func(); }\
         world frontend { import clock; import net; export build: func(); }",
    )
    .unwrap();
    let body =
        r#"(import "x:y/clock" "now" (func (result i64))) (import "x:y/net" "dial" (func)) (func (export "build"))"#;
    let (error, text) = refused(&kit(), &component(body, directory.path())).await;
    assert!(
        matches!(&error, LoadError::ForeignImports { wanted, .. } if wanted == &["x:y/clock", "x:y/net"]),
        "{text}"
    );
}

#[tokio::test]
async fn other_versions_say_who_is_to_upgrade() {
    let directory = tempfile::tempdir().unwrap();
    for (version, side) in [("0.9.0", "upgrade rhost"), ("0.0.1", "upgrade the frontend")] {
        std::fs::write(
            directory.path().join("x.wit"),
            format!("package rhost:frontend@{version}; interface llb {{ f: func(); }} world frontend {{ import llb; export build: func(); }}"),
        )
        .unwrap();
        let body = format!(r#"(import "rhost:frontend/llb@{version}" "f" (func)) (func (export "build"))"#);
        let (_, text) = refused(&kit(), &component(&body, directory.path())).await;
        assert!(text.contains(side) && text.contains(version) && text.contains("0.1.0"), "{text}");
    }
}

#[tokio::test]
async fn compiled_once_and_corrupt_entries_are_misses() {
    let mut kit = kit();
    let bytes = with_build("(unreachable)");
    kit.load(&bytes).await.unwrap();
    let compile = std::mem::replace(&mut kit.compiler.command, "/nonexistent".into());
    kit.load(&bytes).await.expect("from the cache");
    let entries = std::fs::read_dir(&kit.compiler.cache).unwrap().map(|entry| entry.unwrap().path());
    // The lock of whoever compiles lies there too, and is empty.
    let entry = entries.into_iter().find(|path| path.metadata().unwrap().len() > 0).unwrap();
    let mut code = std::fs::read(&entry).unwrap();
    *code.last_mut().unwrap() ^= 1;
    std::fs::write(&entry, &code).unwrap();
    assert!(matches!(refused(&kit, &bytes).await.0, LoadError::Compile { .. }));
    kit.compiler.command = compile;
    kit.load(&bytes).await.expect("compiled anew");
}

#[tokio::test]
async fn a_cache_that_others_can_write_is_refused() {
    let kit = kit();
    std::fs::create_dir(&kit.compiler.cache).unwrap();
    std::fs::set_permissions(&kit.compiler.cache, std::fs::Permissions::from_mode(0o777)).unwrap();
    let (error, text) = refused(&kit, &with_build("(unreachable)")).await;
    assert!(matches!(error, LoadError::CacheNotPrivate { .. }) && text.contains("777"), "{text}");
}

#[tokio::test]
async fn a_compiler_without_memory_is_told() {
    let mut kit = kit();
    kit.compiler.limits.memory = 16 << 20;
    let (error, text) = refused(&kit, &with_build("(unreachable)")).await;
    assert!(matches!(error, LoadError::Compile { .. }), "{text}");
}

/// Code from the build of a program, if it is whole and fits; else the component is compiled.
#[tokio::test]
async fn embedded_code_needs_no_compiler() {
    let mut kit = kit();
    let component: &'static [u8] = with_build("(unreachable)").leak();
    let code: &'static [u8] = rhost_frontend::precompile(component).unwrap().leak();
    let compile = std::mem::replace(&mut kit.compiler.command, "/nonexistent".into());
    let found = kit.engine.embedded("x", &Embedded { component, code }, &kit.compiler).await.expect("no compiler");
    assert_eq!(found.identity().digest, rhost_llb::Digest::of(component));
    assert!(!kit.compiler.cache.exists(), "nothing is cached");
    let torn = Embedded { component, code: &code[..code.len() / 2] };
    for embedded in [torn, Embedded { component, code: &[] }] {
        assert!(kit.engine.embedded("x", &embedded, &kit.compiler).await.is_err(), "it wants the compiler");
    }
    kit.compiler.command = compile;
    kit.engine.embedded("x", &torn, &kit.compiler).await.expect("compiled");
}

/// Where it begins with a page it runs in its place, else as a copy: both trap as they should.
#[tokio::test]
async fn embedded_code_runs_wherever_it_lies() {
    let kit = kit();
    let component: &'static [u8] = with_build("(unreachable)").leak();
    let code = rhost_frontend::precompile(component).unwrap();
    for shift in [0, 16] {
        let room: &'static mut [u8] = vec![0; code.len() + (2 << 16)].leak();
        let start = room.as_ptr().addr().next_multiple_of(1 << 16) - room.as_ptr().addr() + shift;
        room[start..start + code.len()].copy_from_slice(&code);
        let embedded = Embedded { component, code: &room[start..start + code.len()] };
        // Twice, as builds of one process would.
        for _ in 0..2 {
            let frontend = kit.engine.embedded("x", &embedded, &kit.compiler).await.expect("no compiler");
            let invocation = rhost_frontend::Invocation::new("build", rhost_llb::Platform::new("linux", "amd64", ""));
            let ended = frontend.build(Host::new(&[]), invocation, &rhost_frontend::Limits::HOSTILE).await;
            assert!(matches!(ended, Err(rhost_frontend::RunError::Stopped { .. })), "{ended:?}");
        }
    }
}
