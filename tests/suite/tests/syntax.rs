//! `# syntax=REF`: frontends that other tools pushed to a real registry, run by the binary. And guests that are hostile, or no guests.
#[path = "../../../host/frontend/tests/all/guests.rs"]
pub mod guests;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use guests::{component, guest, with_build};
use rhost_kit::{Answer, Proxy, Ran, Registry, TestHost};

/// A host, a registry with busybox that is docker.io's mirror, and a proxy before it that frontends are pulled through.
struct Stage {
    host: TestHost,
    registry: Registry,
    proxy: Proxy,
}

fn stage() -> Option<Stage> {
    let (host, registry) = rhost_kit::host_with_busybox()?;
    let proxy = Proxy::start(registry.address()).expect("a proxy");
    Some(Stage { host, registry, proxy })
}

/// The component `lines`; `None`, said aloud, where it is not built.
pub fn lines() -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/guests/lines.wasm");
    if !path.exists() {
        rhost_kit::skip("target/guests/lines.wasm is not built; run `cargo xtask guests`");
        return None;
    }
    Some(path)
}

fn tool(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{command:?}\n{}{}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout)
}

impl Stage {
    /// A context with one build file in the language `lines`.
    fn write(&self, text: &str) -> String {
        self.host.write("ctx/build.lines", text).expect("written");
        self.host.work().join("ctx").display().to_string()
    }

    fn build(&self, context: &str, more: &[&str]) -> Ran {
        let file = format!("{context}/build.lines");
        let arguments = ["build", "--progress", "plain", "-f", &file, context];
        self.host.run(arguments.iter().chain(more)).expect("ran")
    }

    /// Pushes `bytes` with `rhost frontend push`'s rules left out: as an artifact whatever they are.
    fn push_anything(&self, bytes: &[u8], tag: &str) -> String {
        let file = self.host.write("any.wasm", bytes).expect("written");
        let config = self.host.write("config.json", "{}").expect("written");
        let to = self.proxy.name(tag);
        oras_push(&to, &format!("{}:application/wasm", file.display()), Some(&config));
        to
    }

    /// How many compiled guests the store holds.
    fn compiled(&self) -> usize {
        let code = |entry: &fs::DirEntry| entry.path().extension().is_some_and(|kind| kind == "code");
        let entries = fs::read_dir(self.host.root().join("guests-v1"));
        entries.map_or(0, |entries| entries.flatten().filter(code).count())
    }
}

fn oras_push(to: &str, file: &str, config: Option<&Path>) {
    let mut command = Command::new("oras-py");
    command.args(["push", to, file]);
    command.args(config.map(|path| format!("{}:application/vnd.wasm.config.v0+json", path.display())));
    tool(&mut command);
}

/// Only `HEAD`s of `manifests/…`, one for each name that has a tag.
fn only_heads(asked: &[String], wanted: usize) -> bool {
    asked.len() == wanted && asked.iter().all(|line| line.starts_with("HEAD /v2/") && line.contains("/manifests/"))
}

fn a_pushed_frontend_builds(stage: &Stage, reference: &str) {
    let digest =
        tool(Command::new("skopeo").args(["inspect", "--raw", "--tls-verify=false", &format!("docker://{reference}")]));
    let digest = rhost_llb::Digest::of(digest).to_string();
    stage.proxy.take();
    let context = stage.write(&format!("# syntax={reference}\nfrom busybox\nrun echo one > /made\ncmd cat /made\n"));
    let ran = stage.build(&context, &["-t", "lines"]);
    assert!(ran.stderr.contains(&format!("[internal] load frontend {reference}")), "{}", ran.stderr);
    ran.success();
    let asked = stage.proxy.take();
    assert!(asked.iter().any(|line| line.contains("/blobs/")), "it was pulled: {asked:?}");
    assert_eq!(stage.compiled(), 1);

    // Another build file of the same language: one question, and nothing comes over the wire.
    let context = stage.write(&format!("# syntax={reference}\nfrom busybox\nrun echo two > /made\n"));
    let tree = stage.host.dir().join("tree");
    stage.build(&context, &["-o", &tree.display().to_string()]).success();
    assert_eq!(fs::read_to_string(tree.join("made")).expect("made"), "two\n");
    let asked = stage.proxy.take();
    assert!(only_heads(&asked, 1), "{asked:?}");
    assert_eq!(stage.compiled(), 1, "compiled once");

    // Pinned by digest nobody is asked, not even where the registry is gone.
    stage.proxy.answer(|_| Answer::Reply { status: 500, headers: Vec::new(), body: Vec::new() });
    let pinned = format!("{reference}@{digest}");
    let context = stage.write(&format!("# syntax={pinned}\nfrom busybox\nrun echo three > /made\n"));
    stage.build(&context, &[]).success();
    stage.build(&context, &["--frontend", &pinned]).success();
    let asked = stage.proxy.take();
    assert!(asked.is_empty(), "{asked:?}");
    stage.proxy.answer(|_| Answer::Forward);
}

#[test]
fn what_wkg_pushed_builds_and_is_kept() {
    let (Some(lines), Some(stage)) = (lines(), stage()) else { return };
    if !rhost_kit::have(&["wkg"]) {
        return;
    }
    let to = stage.proxy.name("dsl:1");
    let insecure = stage.proxy.address();
    tool(Command::new("wkg").args(["oci", "push", "--insecure", insecure]).arg(&to).arg(&lines));
    a_pushed_frontend_builds(&stage, &to);
}

#[test]
fn what_oras_pushed_builds_and_is_kept() {
    let (Some(lines), Some(stage)) = (lines(), stage()) else { return };
    if !rhost_kit::have(&["oras-py"]) {
        return;
    }
    let config = stage.host.write("config.json", "{}").expect("written");
    let file = format!("{}:application/wasm", lines.display());
    let to = stage.proxy.name("dsl/with-config:1");
    oras_push(&to, &file, Some(&config));
    a_pushed_frontend_builds(&stage, &to);
    let to = stage.proxy.name("dsl/without:1");
    oras_push(&to, &file, None);
    let context = stage.write(&format!("# syntax={to}\nfrom busybox\nrun true\n"));
    stage.build(&context, &[]).success();
}

#[test]
fn a_pushed_frontend_is_what_other_tools_pull() {
    let (Some(lines), Some(stage)) = (lines(), stage()) else { return };
    let file = lines.display().to_string();
    let to = stage.proxy.name("ours:1");
    let about = [
        "--name",
        "lines",
        "--frontend-version",
        "1.2.0",
        "--file-pattern",
        "*.lines,Lines",
        "--docs",
        "https://d.example",
    ];
    let arguments = ["frontend", "push", &file, &to, "--annotation", "org.example.docs=https://x.example"];
    let pushed = stage.host.run(arguments.iter().chain(&about));
    let pinned = pushed.expect("ran").success().trim().to_owned();
    assert!(pinned.starts_with(&format!("{to}@sha256:")), "{pinned}");
    a_pushed_frontend_builds(&stage, &to);
    let shown = stage.host.run(["frontend", "inspect", &pinned]).expect("ran").success();
    for wanted in [
        "track:    rhost:frontend@0.1.0",
        "rhost:frontend/llb@0.1.0",
        "about:    org.example.docs=https://x.example",
        "about:    dev.rhost.frontend.name=lines",
        "about:    dev.rhost.frontend.file-patterns=*.lines,Lines",
        "about:    org.opencontainers.image.version=1.2.0",
        "about:    org.opencontainers.image.documentation=https://d.example",
        "limits:   64 MiB of memory, 1s of computing, 32 MiB a call",
        "  build",
    ] {
        assert!(shown.contains(wanted), "{wanted}: {shown}");
    }

    let bytes = fs::read(&lines).expect("read");
    if rhost_kit::have(&["wkg"]) {
        let out = stage.host.dir().join("from-wkg.wasm");
        let insecure = stage.proxy.address();
        tool(Command::new("wkg").args(["oci", "pull", "--insecure", insecure]).arg(&to).arg("-o").arg(&out));
        assert!(fs::read(out).expect("pulled") == bytes);
    }
    if rhost_kit::have(&["oras-py"]) {
        let out = stage.host.dir().join("oras");
        tool(Command::new("oras-py").arg("pull").arg(&to).arg(&out));
        assert!(fs::read(out.join("lines.wasm")).expect("pulled") == bytes);
    }

    // A registry that knows no such config gets an image's, and the frontend loads all the same.
    stage.proxy.answer(|asked| {
        let refused = asked.method == "PUT" && String::from_utf8_lossy(&asked.body).contains("vnd.wasm.config");
        if refused { Answer::error(400, "MANIFEST_INVALID", "no such config type") } else { Answer::Forward }
    });
    let plain = stage.proxy.name("plain:1");
    let ran = stage.host.run(["frontend", "push", &file, &plain]).expect("ran");
    assert!(ran.stderr.contains("plain OCI image config"), "{}", ran.stderr);
    ran.success();
    let refused = stage.host.run(["frontend", "push", "--layout", "cncf", &file, &plain]).expect("ran").failure(5);
    assert!(refused.contains("no such config type"), "{refused}");
    let context = stage.write(&format!("# syntax={plain}\nfrom busybox\nrun true\n"));
    stage.build(&context, &[]).success();
}

#[test]
fn what_is_no_frontend_in_a_registry_is_refused_by_name() {
    let Some(stage) = stage() else { return };
    if !rhost_kit::have(&["oras-py"]) {
        return;
    }
    let refused = |to: &str, code: i32, wanted: &[&str]| {
        let context = stage.write(&format!("# syntax={to}\nfrom busybox\n"));
        let text = stage.build(&context, &[]).failure(code);
        for part in wanted.iter().chain(&["build.lines:1", ">>> # syntax="]) {
            assert!(text.contains(part), "wanted `{part}` in {text}");
        }
    };
    // A container image, of one platform and of several, such as BuildKit's own frontends are.
    let gateway = "BuildKit's gateway protocol are not supported";
    let image = stage.proxy.name("library/busybox");
    refused(&image, 4, &[&image, "it is a container image for linux/amd64, linux/arm64", gateway]);
    let one = stage.proxy.name("one:1");
    let (from, to) = (stage.registry.name("library/busybox:latest"), stage.registry.name("one:1"));
    tool(
        Command::new("skopeo")
            .args(["copy", "--quiet", "--src-tls-verify=false", "--dest-tls-verify=false"])
            .args([format!("docker://{from}"), format!("docker://{to}")]),
    );
    refused(&one, 4, &["it is a container image (its config is", gateway]);
    refused(&stage.proxy.name("absent:1"), 4, &["absent:1` was not found", "docker login"]);

    let wit = tempfile::tempdir().expect("a directory");
    let text = "package x:y; interface clock { now: func() -> u64; } interface net { dial: func(); }\
                world frontend { import clock; import net; export build: func(); }";
    fs::write(wit.path().join("x.wit"), text).expect("written");
    let foreign = component(
        r#"(import "x:y/clock" "now" (func (result i64))) (import "x:y/net" "dial" (func)) (func (export "build"))"#,
        wit.path(),
    );
    for (name, bytes, wanted) in [
        ("foreign", &foreign[..], "it imports x:y/clock, x:y/net, and a frontend may import rhost:* only"),
        ("core", b"\0asm\x01\0\0\0", "it is a core module; make a component of it"),
        ("text", b"#!/bin/sh\n", "it is not WebAssembly at all"),
        ("broken", b"\0asm\x0d\0\x01\0\xff\xff\xff", "is no WebAssembly component"),
        ("elf", b"\x7fELF\x02\x01\x01", "precompiled machine code, which is never loaded from outside"),
    ] {
        let to = stage.push_anything(bytes, &format!("{name}:1"));
        let digest = rhost_llb::Digest::of(bytes).to_string();
        refused(&to, 4, &[&to, &digest[..19], wanted]);
    }
    // What wasmtime itself compiled here: real machine code, for this very engine.
    if let Some(lines) = lines() {
        let to = stage.proxy.name("lines:1");
        stage.host.run(["frontend", "push", &lines.display().to_string(), &to]).expect("ran").success();
        stage.build(&stage.write(&format!("# syntax={to}\nfrom busybox\n")), &[]).success();
        let cache = stage.host.root().join("guests-v1");
        let hex = rhost_llb::Digest::of(fs::read(&lines).expect("read")).hex();
        let compiled = |name: &str| name.starts_with(&hex) && name.ends_with(".code");
        let entries = fs::read_dir(cache).expect("cache").map(|entry| entry.expect("entry").path());
        let entry = entries.into_iter().find(|path| compiled(&path.file_name().expect("name").to_string_lossy()));
        let code = fs::read(entry.expect("compiled")).expect("read");
        let to = stage.push_anything(&code, "compiled:1");
        refused(&to, 4, &["precompiled machine code, which is never loaded from outside"]);
    }
    let shown = stage.host.run(["frontend", "inspect", "--json", "docker/dockerfile:1"]).expect("ran").success();
    let shown: serde_json::Value = serde_json::from_str(&shown).expect("JSON");
    assert_eq!((&shown["name"], &shown["refusal"]), (&"dockerfile (built in)".into(), &serde_json::Value::Null));
    let file = stage.host.write("foreign.wasm", &foreign).expect("written").display().to_string();
    let to = stage.proxy.name("never:1");
    let text = stage.host.run(["frontend", "push", &file, &to]).expect("ran").failure(4);
    assert!(text.contains("x:y/clock") && !stage.proxy.take().iter().any(|line| line.contains("/never/")), "{text}");
    let ran = stage.host.run(["frontend", "inspect", &file]).expect("ran");
    assert!(ran.stdout.contains("imports:\n  x:y/clock\n  x:y/net\n"), "{}", ran.stdout);
    ran.failure(4);
}

#[test]
fn a_damaged_frontend_is_refused_and_the_next_build_works() {
    let (Some(lines), Some(stage)) = (lines(), stage()) else { return };
    let to = stage.proxy.name("dsl:1");
    stage.host.run(["frontend", "push", &lines.display().to_string(), &to]).expect("ran").success();
    let context = stage.write(&format!("# syntax={to}\nfrom busybox\nrun true\n"));
    let layer = format!("/blobs/{}", rhost_llb::Digest::of(fs::read(&lines).expect("read")));
    let spoil = layer.clone();
    let get = |asked: &rhost_kit::Asked, wanted: &str| asked.method == "GET" && asked.path.contains(wanted);
    stage.proxy.answer(move |asked| if get(asked, "/manifests/") { Answer::Spoil } else { Answer::Forward });
    let text = stage.build(&context, &[]).failure(5);
    assert!(text.contains("the manifest of") && text.contains("it was changed or damaged on its way"), "{text}");
    stage.proxy.answer(move |asked| if get(asked, &spoil) { Answer::Spoil } else { Answer::Forward });
    let text = stage.build(&context, &[]).failure(5);
    assert!(text.contains("it was changed or damaged on its way") && text.contains("build.lines:1"), "{text}");
    let short = layer.clone();
    stage.proxy.answer(move |asked| if get(asked, &short) { Answer::Short(1000) } else { Answer::Forward });
    let text = stage.build(&context, &[]).failure(5);
    assert!(text.contains("the registry holds or sends only a part of it"), "{text}");
    stage.proxy.answer(|_| Answer::Forward);
    stage.build(&context, &[]).success();
    // Damage in the store is a miss: it is pulled again.
    let blob = stage.host.root().join("blobs-v1/blobs/sha256").join(layer.trim_start_matches("/blobs/sha256:"));
    fs::write(&blob, b"rubbish").expect("damaged");
    stage.build(&context, &[]).success();
}

#[test]
fn hostile_guests_are_stopped_and_the_store_lives_on() {
    let Some(stage) = stage() else { return };
    let context = stage.write("from busybox\nrun true\n");
    let grow = "(loop (br_if 0 (i32.ne (memory.grow (i32.const 16)) (i32.const -1)))) (unreachable)";
    let flood = |import: &str, call: &str| {
        guest(&format!(
            r#"{import} (memory (export "memory") 1)
            (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const 1024))
            (func (export "build") (param i32) (result i32) (loop {call} (br 0)) (unreachable))"#
        ))
    };
    let log = r#"(import "rhost:frontend/report@0.1.0" "log" (func $log (param i32 i32 i32)))"#;
    let map = r#"(import "rhost:frontend/llb@0.1.0" "[constructor]metadata" (func $make (result i32)))"#;
    let cases: [(&str, Vec<u8>, &str); 9] = [
        ("loop", with_build("(loop (br 0)) (unreachable)"), "it computed for longer than 1s (limit: compute time)"),
        ("memory", with_build(grow), "it asked for 65 MiB of memory (limit: 64 MiB)"),
        ("trap", with_build("(unreachable)"), "crashed: it aborted without a word"),
        ("bounds", with_build("(i32.load (i32.const -8))"), "crashed: memory access out of bounds"),
        ("recursion", with_build("(call $build (local.get 0))"), "its calls are nested too deeply (limit: stack)"),
        (
            "handle",
            with_build(
                "(i32.store8 (i32.const 16) (i32.const 0)) (i32.store (i32.const 20) (i32.const 7)) (i32.const 16)",
            ),
            "crashed: ",
        ),
        ("flood", flood(log, "(call $log (i32.const 3) (i32.const 0) (i32.const 65536))"), "(limit: "),
        ("huge", flood(log, "(call $log (i32.const 3) (i32.const 0) (i32.const -1))"), "crashed: "),
        (
            "handles",
            flood(map, "(drop (call $make))"),
            "it holds too many handles, or used one that is gone (limit: 200000)",
        ),
    ];
    for (name, bytes, wanted) in cases {
        let file = stage.host.write(&format!("{name}.wasm"), &bytes).expect("written").display().to_string();
        let start = std::time::Instant::now();
        let text = stage.build(&context, &["--frontend", &file]).failure(4);
        let digest = rhost_llb::Digest::of(&bytes).to_string();
        for part in [wanted, &format!("frontend {file} ({}", &digest[..19])] {
            assert!(text.contains(part), "{name}: wanted `{part}` in {text}");
        }
        // A generous ceiling: the machine may be busy. What holds is the limit of one second of computing.
        assert!(start.elapsed().as_secs() < 60, "{name}: {:?}", start.elapsed());
    }
    stage.host.write("ctx/Dockerfile", "FROM busybox\nRUN true\n").expect("written");
    stage.host.run(["build", &context]).expect("ran").success();
}

#[test]
fn print_frontend_says_which_and_why() {
    let Some(stage) = stage() else { return };
    let context = stage.write("# syntax=r.example/dsl:1 mode=x\nfrom busybox\n");
    let check = |more: &[&str], wanted: &str| {
        let more: Vec<&str> = ["--print-frontend"].iter().chain(more).copied().collect();
        assert_eq!(stage.build(&context, &more).success(), wanted);
    };
    check(&[], "r.example/dsl:1\n  because build.lines:1 says `syntax=r.example/dsl:1 mode=x`\n");
    let argument = ["--build-arg", "BUILDKIT_SYNTAX=docker/dockerfile:1.9"];
    check(
        &argument,
        "dockerfile (built in)\n  because the build argument BUILDKIT_SYNTAX=docker/dockerfile:1.9 names it\n",
    );
    check(&[argument[0], argument[1], "--frontend", "./x.wasm"], "./x.wasm\n  because --frontend names it\n");
    stage.host.write("ctx/Dockerfile", "FROM busybox\n").expect("written");
    let shown = stage.host.run(["build", "--print-frontend", &context]).expect("ran").success();
    assert_eq!(shown, "dockerfile (built in)\n  because Dockerfile has no `# syntax=` line\n");
    assert_eq!(stage.proxy.take(), Vec::<String>::new());
}

#[test]
fn the_build_argument_goes_before_the_line() {
    let (Some(lines), Some(stage)) = (lines(), stage()) else { return };
    let to = stage.proxy.name("dsl:1");
    stage.host.run(["frontend", "push", &lines.display().to_string(), &to]).expect("ran").success();
    let context = stage.write("# syntax=docker/dockerfile:1\nfrom busybox\nrun true\n");
    let argument = format!("BUILDKIT_SYNTAX={to}");
    stage.build(&context, &["--build-arg", &argument]).success();
    stage.host.write("ctx/build.lines", "# syntax=127.0.0.1:1/none\nFROM busybox\nRUN true\n").expect("written");
    stage.build(&context, &["--build-arg", "BUILDKIT_SYNTAX=docker/dockerfile:1"]).success();
}
