//! Builds inside a build (LLB's `build`): a guest hands over a ready definition, in which one vertex builds what another has made.
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;

use rhost_kit::{Ran, Registry, TestHost};
use rhost_llb::{
    ExecSpec, FileActionMkFile, FileChain, FileStep, GraphBuilder, Limits, Meta, NetMode, Platform, SourceOp,
    SourceScheme, State, VertexOptions,
};

use super::syntax::guests::guest;

/// A frontend whose graph is `definition`, whatever it is asked.
fn frontend(definition: &[u8]) -> Vec<u8> {
    let escaped = definition.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "\\{byte:02x}");
        text
    });
    let architecture = Platform::host().architecture;
    let pages = 2 + definition.len() / 65536;
    guest(&format!(
        r#"(import "rhost:frontend/llb@0.1.0" "from-definition" (func $load (param i32 i32 i32)))
        (import "rhost:frontend/outcome@0.1.0" "[constructor]outcome" (func $outcome (result i32)))
        (import "rhost:frontend/outcome@0.1.0" "[method]outcome.add"
          (func $add (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32)))
        (memory (export "memory") {pages})
        (data (i32.const 64) "linux{architecture}")
        (data (i32.const 4096) "{escaped}")
        (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const 1024))
        (func (export "build") (param i32) (result i32) (local $made i32)
          (call $load (i32.const 4096) (i32.const {length}) (i32.const 0))
          (if (i32.load8_u (i32.const 0)) (then
            ;; The error as it came.
            (i32.store (i32.const 20) (i32.load (i32.const 4)))
            (i32.store (i32.const 24) (i32.load (i32.const 8)))
            (i32.store (i32.const 28) (i32.load (i32.const 12)))
            (i32.store8 (i32.const 16) (i32.const 1))
            (return (i32.const 16))))
          (local.set $made (call $outcome))
          (call $add (local.get $made) (i32.const 64) (i32.const 5) (i32.const 69) (i32.const {letters})
            (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0)
            (i32.load (i32.const 4)) (i32.const 0) (i32.const 0))
          (i32.store8 (i32.const 16) (i32.const 0))
          (i32.store (i32.const 20) (local.get $made))
          (i32.const 16))"#,
        letters = architecture.len(),
        length = definition.len(),
    ))
}

struct Stage {
    host: TestHost,
    registry: Registry,
}

/// A host with busybox; `None`, said aloud, where the machine lacks what that takes.
fn stage() -> Option<Stage> {
    let (host, registry) = rhost_kit::host_with_busybox()?;
    host.write("ctx/Dockerfile", "FROM scratch\n").expect("written");
    Some(Stage { host, registry })
}

impl Stage {
    fn build(&self, definition: &[u8], more: &[&str]) -> Ran {
        self.run("build", definition, more)
    }

    fn run(&self, command: &str, definition: &[u8], more: &[&str]) -> Ran {
        let file = self.host.write("any.wasm", frontend(definition)).expect("written").display().to_string();
        let context = self.host.work().join("ctx").display().to_string();
        let arguments = [command, "--progress", "plain", "--frontend", &file, &context];
        self.host.run(arguments.iter().chain(more)).expect("ran")
    }
}

fn definition(make: impl FnOnce(&mut GraphBuilder) -> State) -> Vec<u8> {
    let mut builder = GraphBuilder::new(Platform::host(), Limits::HOSTILE);
    let head = make(&mut builder);
    builder.marshal(Some(head)).expect("a definition").encode()
}

fn file(b: &mut GraphBuilder, name: &str, data: Vec<u8>) -> State {
    let file = FileActionMkFile { path: name.into(), mode: 0o644, data: data.into(), owner: None, timestamp: -1 };
    b.file(FileChain { base: None, steps: vec![FileStep::MkFile(file)] }, &VertexOptions::default()).expect("a file")
}

/// The build of `inner`, which lies in file `name`.
fn around(inner: Vec<u8>, name: &str) -> Vec<u8> {
    let default = "/buildkit.llb.definition";
    let attrs = if name == default { None } else { Some(("llbbuild.filename".to_owned(), name.to_owned())) };
    definition(|b| {
        let input = file(b, name, inner);
        b.build(input, attrs.into_iter().collect(), &VertexOptions::default()).expect("a build")
    })
}

/// `sh -c SCRIPT` in busybox.
fn run(script: &str, network: NetMode) -> Vec<u8> {
    run_in("docker.io/library/busybox:latest", script, network)
}

fn run_in(image: &str, script: &str, network: NetMode) -> Vec<u8> {
    definition(|b| step(b, image, script, network))
}

fn step(b: &mut GraphBuilder, image: &str, script: &str, network: NetMode) -> State {
    {
        let image = SourceOp::new(SourceScheme::Image, image);
        let root = b.source(image, &VertexOptions::default()).expect("an image");
        let args = ["/bin/sh", "-c", script].map(str::to_owned).to_vec();
        let meta = Meta { args, cwd: "/".into(), env: vec!["PATH=/bin".into()], ..Meta::default() };
        let spec = ExecSpec { meta, root: Some(root), network, ..ExecSpec::default() };
        b.exec(spec, &VertexOptions::named("the inner step")).expect("a step").root.expect("its root")
    }
}

#[test]
fn what_a_vertex_has_made_is_built() {
    let Some(stage) = stage() else { return };
    let tree = stage.host.dir().join("tree");
    let output = tree.display().to_string();
    for name in ["/buildkit.llb.definition", "/sub.llb"] {
        let outer = around(run("echo inner > /made", NetMode::Sandbox), name);
        let log = stage.build(&outer, &["-o", &output]);
        assert!(log.stderr.contains("the inner step"), "{}", log.stderr);
        log.success();
        assert_eq!(fs::read_to_string(tree.join("made")).expect("made"), "inner\n");
        // Again, from the cache: nothing is read and nothing inside is looked at.
        let log = stage.build(&outer, &["-o", &output]);
        let number = log.stderr.lines().find_map(|line| line.strip_suffix(" build")).expect("the build").to_owned();
        assert!(
            log.stderr.contains(&format!("{number} CACHED")) && !log.stderr.contains("inner step"),
            "{}",
            log.stderr
        );
        log.success();
    }
    // Of what is empty there is nothing, and as an image it has all layers of what was built.
    let empty = around(Vec::new(), "/sub.llb");
    stage.build(&empty, &["-o", "type=cacheonly"]).success();
    let inner = run("echo inner > /made", NetMode::Sandbox);
    stage.build(&around(inner, "/sub.llb"), &["-t", "nested:1"]).success();
    stage.host.write("ctx/use", "FROM nested:1\nRUN cat /made > /again\n").expect("written");
    let used = stage.host.work().join("ctx");
    let (used, file) = (used.display().to_string(), used.join("use").display().to_string());
    stage.host.run(["build", "-f", &file, "-o", &output, &used]).expect("ran").success();
    assert_eq!(fs::read_to_string(tree.join("again")).expect("made"), "inner\n");
}

#[test]
fn what_fails_inside_is_told_and_gates_hold_there_too() {
    let Some(stage) = stage() else { return };
    let output = ["-o", "type=cacheonly"];
    let text = stage.build(&around(run("echo so; exit 7", NetMode::Sandbox), "/sub.llb"), &output).failure(1);
    assert!(text.contains("exit code: 7") && text.contains("so\n"), "{text}");
    let host = around(run("true", NetMode::Host), "/sub.llb");
    let text = stage.build(&host, &output).failure(2);
    assert!(text.contains("network.host") && text.contains("--allow"), "{text}");
    stage.build(&host, &["-o", "type=cacheonly", "--allow", "network.host"]).success();
}

#[test]
fn hostile_definitions_are_refused_with_their_file() {
    let Some(stage) = stage() else { return };
    let refused = |definition: &[u8], wanted: &str| {
        let text = stage.build(definition, &["-o", "type=cacheonly"]).failure(1);
        assert!(text.contains("`/sub.llb`") && text.contains(wanted), "wanted `{wanted}` in {text}");
    };
    refused(&around(b"no definition at all".to_vec(), "/sub.llb"), "it cannot be read");
    refused(&around(vec![0x0a, 0x02, 0x1a, 0x00], "/sub.llb"), "");
    let attrs = || BTreeMap::from([("llbbuild.filename".to_owned(), "/sub.llb".to_owned())]);
    let missing = definition(|b| {
        let input = file(b, "/other", b"x".to_vec());
        b.build(input, attrs(), &VertexOptions::default()).expect("a build")
    });
    refused(&missing, "not found");
    // It builds itself: over the context, which holds its very definition.
    let itself = definition(|b| {
        let context = b.source(SourceOp::new(SourceScheme::Local, "context"), &VertexOptions::default()).expect("made");
        b.build(context, attrs(), &VertexOptions::default()).expect("a build")
    });
    stage.host.write("ctx/sub.llb", &itself).expect("written");
    refused(&itself, "it builds itself");
    // And deeper than anybody needs, with nothing at its bottom that would fail.
    let nested = |levels: usize| (0..levels).fold(around(Vec::new(), "/sub.llb"), |inner, _| around(inner, "/sub.llb"));
    refused(&nested(16), "deeper than 16 levels");
    stage.build(&nested(15), &["-o", "type=cacheonly"]).success();
}

#[test]
fn names_inside_are_locked_and_refused_like_others() {
    let Some(stage) = stage() else { return };
    let (outer, inner) = ("docker.io/library/busybox:latest", "docker.io/library/busybox:inner");
    stage.registry.push(&rhost_kit::busybox().expect("busybox"), "library/busybox:inner").expect("pushed");
    let output = ["-o", "type=cacheonly"];
    let lock = || fs::read_to_string(stage.host.work().join("ctx/rhost.lock")).unwrap_or_default();
    let forget = || fs::remove_file(stage.host.work().join("ctx/rhost.lock")).expect("a lock file");
    let locked = |definition: &[u8]| stage.build(definition, &["-o", "type=cacheonly", "--locked"]);
    let refused = |definition: &[u8]| {
        let text = locked(definition).failure(8);
        assert!(text.contains(&format!("rhost.lock:\n  image {inner}\n")) && text.contains("`rhost lock`"), "{text}");
    };
    let inside = run_in(inner, "echo inner > /made", NetMode::Sandbox);

    // No step has to run to know what is built: two levels of it are locked, fetched, and built without a network.
    let plain = around(around(inside.clone(), "/sub.llb"), "/sub.llb");
    let said = stage.run("lock", &plain, &[]).success();
    assert!(said.contains(&format!("+ image {inner} sha256:")), "{said}");
    let log = stage.run("fetch", &plain, &[]);
    assert!(log.stderr.contains("1 source is in the store"), "{}", log.stderr);
    log.success();
    stage.build(&plain, &["-o", "type=cacheonly", "--locked", "--offline"]).success();
    forget();

    // A step makes what is built: nobody knows it before.
    let escaped: String = inside.iter().map(|byte| format!("\\{byte:03o}")).collect();
    let script = format!("printf '{escaped}' > /sub.llb");
    let attrs = || BTreeMap::from([("llbbuild.filename".to_owned(), "/sub.llb".to_owned())]);
    let made = definition(|b| {
        let step = step(b, outer, &script, NetMode::Sandbox);
        b.build(step, attrs(), &VertexOptions::named("the build of what a step makes")).expect("a build")
    });
    let ran = stage.run("lock", &made, &[]);
    assert!(
        ran.stderr.contains("a step makes what these build") && ran.stderr.contains("`the build of what a step makes`"),
        "{}",
        ran.stderr
    );
    ran.success();
    assert!(lock().contains(outer) && !lock().contains(inner), "{}", lock());
    // So it is refused where it is met; and who has met it knows it.
    refused(&made);
    let said = stage.run("lock", &made, &[]).success();
    assert!(said.starts_with(&format!("+ image {inner} sha256:")), "{said}");
    let ran = locked(&made);
    assert!(ran.stderr.contains("the inner step"), "{}", ran.stderr);
    ran.success();
    assert_eq!(stage.run("lock", &made, &["--locked"]).success(), "");
    // A result in the cache is no way around the lock file, whatever was built before without one.
    let whole = lock();
    let without: Vec<&str> = whole.lines().filter(|line| !line.contains(inner)).collect();
    stage.host.write("ctx/rhost.lock", without.join("\n") + "\n").expect("written");
    stage.build(&made, &output).success();
    refused(&made);
    // And what the lock file says is what is taken.
    let other =
        stage.host.write("other/Dockerfile", format!("FROM {inner}\nRUN echo other > /other\n")).expect("written");
    let layout = stage.host.dir().join("other-image");
    let to = format!("type=oci,tar=false,dest={}", layout.display());
    let other = other.parent().expect("a directory").display().to_string();
    stage.host.run(["build", "-t", "other:1", "-o", &to, &other]).expect("ran").success();
    let index: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(layout.join("index.json")).expect("read")).expect("JSON");
    let name = index["manifests"][0]["annotations"]["org.opencontainers.image.ref.name"].as_str().expect("a name");
    stage.registry.push_layout(&layout, name, "library/busybox:inner").expect("pushed");
    let tree = stage.host.dir().join("tree");
    let to = tree.display().to_string();
    stage.host.write("ctx/rhost.lock", &whole).expect("written");
    stage.build(&made, &["-o", &to]).success();
    assert!(tree.join("made").is_file() && !tree.join("other").exists(), "as it is locked");
    let context = stage.host.work().join("ctx").display().to_string();
    stage.host.run(["lock", "--update", inner, &context]).expect("ran").success();
    stage.build(&made, &["-o", &to, "--locked"]).success();
    assert!(tree.join("other").is_file(), "as it is locked now");
}
