//! `rhost frontend test`, as people run it: real guests, and folders that are right, wrong and incomplete.
use std::fs;
use std::path::{Path, PathBuf};

use rhost_kit::TestHost;

fn checkout(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path)
}

/// A component of the checkout; `None`, said aloud, where it is not built.
pub fn built(name: &str) -> Option<String> {
    let path = checkout(&format!("target/guests/{name}.wasm"));
    if !path.exists() {
        rhost_kit::skip(&format!("target/guests/{name}.wasm is not built; run `cargo xtask guests`"));
        return None;
    }
    Some(path.display().to_string())
}

fn host() -> TestHost {
    TestHost::new().expect("a host")
}

#[test]
fn the_frontends_of_this_repository_pass_theirs() {
    let host = host();
    let cases = checkout("frontends/dockerfile/cases").display().to_string();
    let told = host.run(["frontend", "test", &cases]).expect("ran").success();
    assert!(told.ends_with("6 passed, 0 failed\n"), "{told}");
    let Some(lines) = built("lines") else { return };
    let cases = checkout("frontends/lines/cases").display().to_string();
    let told = host.run(["frontend", "test", "--frontend", &lines, &cases]).expect("ran").success();
    assert!(told.ends_with("passed   wrong-verbs\n4 passed, 0 failed\n"), "{told}");
}

/// A test of the stock frontend in `tests/NAME`.
fn case(host: &TestHost, name: &str, toml: &str, build_file: &str) {
    host.write(&format!("tests/{name}/case.toml"), toml).expect("written");
    host.write(&format!("tests/{name}/Dockerfile"), build_file).expect("written");
}

const BUSYBOX: &str = "[images.busybox]\nconfig = { config = { Env = [\"A=1\"] } }\n";

#[test]
fn goldens_are_written_compared_and_removed() {
    let host = host();
    case(&host, "one", BUSYBOX, "FROM busybox\nRUN true\n");
    let test = |more: &[&str]| host.run(["frontend", "test"].iter().chain(more)).expect("ran");
    let told = test(&[]);
    assert!(told.code == 1 && told.stdout.contains("run with --update"), "{told:?}");
    assert_eq!(test(&["--update"]).success(), "updated  one\n0 passed, 0 failed, 1 updated\n");
    assert_eq!(test(&[]).success(), "passed   one\n1 passed, 0 failed\n");
    let folder = host.work().join("tests/one");
    fs::write(folder.join("expected.report"), "warning: of old\n").expect("written");
    fs::write(folder.join("Dockerfile"), "FROM busybox\nRUN false\n").expect("written");
    let told = test(&[]);
    assert_eq!(told.code, 1, "{told:?}");
    for line in [
        "    -%1 = run %0 [\"/bin/sh\", \"-c\", \"true\"]\n",
        "    +%1 = run %0 [\"/bin/sh\", \"-c\", \"false\"]\n",
        "    --- one/expected.report\n",
        "    -warning: of old\n",
    ] {
        assert!(told.stdout.contains(line), "{line}{}", told.stdout);
    }
    let json: serde_json::Value = serde_json::from_str(&test(&["--json"]).stdout).expect("JSON");
    assert_eq!((&json["failed"], &json["cases"][0]["result"]), (&1.into(), &"failed".into()), "{json}");
    assert!(json["frontend"]["digest"].as_str().is_some_and(|digest| digest.starts_with("sha256:")), "{json}");
    test(&["--update"]).success();
    assert!(!folder.join("expected.report").exists());
    assert_eq!(test(&["--update"]).success(), "passed   one\n1 passed, 0 failed\n");
}

#[test]
fn failures_are_expected_or_told() {
    let host = host();
    case(&host, "a", "error = \"unknown instruction: RUM\"\n", "FROM scratch\nRUM x\n");
    case(&host, "b", "error = \"something else\"\n", "FROM scratch\nRUM x\n");
    case(&host, "c", "error = \"it fails\"\n", "FROM scratch\n");
    case(&host, "d", "", "FROM scratch\nRUM x\n");
    let told = host.run(["frontend", "test", "--update"]).expect("ran");
    assert_eq!(told.code, 1, "{told:?}");
    for line in [
        "updated  a\n",
        "it is to fail with `something else`, and fails with `",
        "it is to fail with `it fails`, and does not fail\n",
        "say so in case.toml with a piece of the text: error = ",
        "     2 | RUM x\n",
        "0 passed, 3 failed, 1 updated\n",
    ] {
        assert!(told.stdout.contains(line), "{line}{}", told.stdout);
    }
    assert!(!host.work().join("tests/d/expected.report").exists(), "what fails unexpectedly is not kept");
}

#[test]
fn what_a_test_does_not_have_is_named_with_the_lines_to_add() {
    let host = host();
    case(&host, "image", "", "FROM busybox:9\n");
    case(&host, "solve", "[options]\ncontext = \"https://git.example/x.git\"\n", "");
    case(
        &host,
        "platform",
        &format!("platforms = [\"linux/arm64\"]\n{BUSYBOX}platforms = [\"linux/amd64\"]\n"),
        "FROM busybox\n",
    );
    let told = host.run(["frontend", "test"]).expect("ran");
    for line in [
        "add to case.toml, as it should be:\n        [images.\"docker.io/library/busybox:9\"]\n",
        "the test does not have the result of solve 1, `",
        "        [[solves]]\n        op = \"",
        "is not there for linux/arm64 (it has linux/amd64)",
        "0 passed, 3 failed\n",
    ] {
        assert!(told.stdout.contains(line), "{line}{}", told.stdout);
    }
}

#[test]
fn what_cannot_be_run_is_refused() {
    let host = host();
    let refused = |arguments: &[&str], code, text: &str| {
        let told = host.run(["frontend", "test"].iter().chain(arguments)).expect("ran").failure(code);
        assert!(told.contains(text), "{told}");
    };
    refused(&["nowhere"], 2, "cannot read `nowhere`");
    fs::create_dir(host.work().join("empty")).expect("made");
    refused(&["empty"], 2, "there is no test in `empty`");
    case(&host, "a", "", "FROM scratch\n");
    refused(&["--filter", "b"], 2, "no test has `b` in its name");
    refused(&["--frontend", "./gone.wasm"], 4, "cannot read the frontend `./gone.wasm`");
    for (toml, text) in [
        ("imags = 1", "unknown field `imags`"),
        ("platforms = [\"a/b/c/d/e\"]", "a/b/c/d/e"),
        ("context = \"gone\"", "`gone` is no folder of the test"),
        ("[contexts]\nx = \"gone\"", "`gone` is no folder of the test"),
        ("[images.x]\ndigest = \"sha256:0\"", "wanted either `config` or `error`"),
        ("[images.x]\nconfig = 1", "`config` is a table, or the name of a JSON file"),
        ("[[solves]]\nop = \"x\"", "wanted either `tree` or `error`"),
    ] {
        case(&host, "a", toml, "FROM scratch\n");
        refused(&[], 2, text);
        refused(&[], 2, "tests/a/case.toml");
    }
}

#[test]
fn a_graph_is_dumped_as_text() {
    let host = host();
    host.write("ctx/Dockerfile", "FROM scratch\nCOPY a /b\n").expect("written");
    let told = host.run(["debug", "dump-llb", "--format", "text", "ctx"]).expect("ran").success();
    assert!(told.contains("%1 = file\n  @0 on scratch: copy \"/a\" of %0 to \"/b\""), "{told}");
    assert!(told.contains("\nresult %1\ndigest sha256:"), "{told}");
    host.run(["debug", "dump-llb", "--format", "text", "--json", "ctx"]).expect("ran").failure(2);
}

/// A guest whose `build` starts to resolve an image, waits for it, marks an operation with a place, and then does `end`.
fn falls(end: &str) -> Vec<u8> {
    crate::syntax::guests::guest(&format!(
        r#"(import "rhost:frontend/llb@0.1.0" "[constructor]metadata" (func $metadata (result i32)))
        (import "rhost:frontend/llb@0.1.0" "[method]metadata.location" (func $location (param i32 i32 i32 i32)))
        (import "rhost:frontend/llb@0.1.0" "[constructor]source-map" (func $source_map (param i32 i32 i32 i32 i32 i32 i32 i32) (result i32)))
        (import "rhost:frontend/report@0.1.0" "log" (func $log (param i32 i32 i32)))
        (import "rhost:frontend/context@0.1.0" "read-file" (func $read_file (param i32 i32 i32 i32 i32 i64 i64 i32)))
        (memory (export "memory") 2)
        (data (i32.const 256) "dockerfile") (data (i32.const 272) "Dockerfile") (data (i32.const 288) "../../../../../../etc/passwd")
        (data (i32.const 320) "it is too warm") (data (i32.const 352) "link") (data (i32.const 368) "gone")
        (data (i32.const 512) "\02\00\00\00\00\00\00\00\02\00\00\00\00\00\00\00")
        (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const 4096))
        (func $read (param $path i32) (param $length i32) (result i32)
          (call $read_file (i32.const 256) (i32.const 10) (local.get $path) (local.get $length) (i32.const 0) (i64.const 0) (i64.const 0) (i32.const 32))
          (i32.const 32))
        (func $speak
          (call $location (call $metadata)
            (call $source_map (i32.const 272) (i32.const 10) (i32.const 0) (i32.const 0) (i32.load (i32.const 36)) (i32.load (i32.const 40)) (i32.const 0) (i32.const 0))
            (i32.const 512) (i32.const 1)))
        (func $deep_inside (unreachable))
        (func $build (export "build") (param i32) (result i32)
          (drop (call $read (i32.const 272) (i32.const 10))) {end} (unreachable))"#
    ))
}

#[test]
fn a_fall_is_told_recorded_and_replayed() {
    let host = host();
    let words = "(call $log (i32.const 4) (i32.const 320) (i32.const 14))";
    let guest = falls(&format!("(call $speak) {words} (call $deep_inside)"));
    let file = host.write("warm.wasm", &guest).expect("written").display().to_string();
    host.write("ctx/Dockerfile", "first line\nsecond line\nthird line\n").expect("written");
    let told = host.run(["build", "--progress", "plain", "--frontend", &file, "ctx"]).expect("ran").failure(4);
    let digest = rhost_llb::Digest::of(&guest).to_string();
    for text in [
        "panicked: it is too warm",
        "in the frontend: deep_inside <- build",
        "Dockerfile:2\n",
        "   2 | >>> second line\n",
        "the frontend spoke of Dockerfile:2 last",
        &digest,
        "to run it again as it ran: `rhost frontend replay ",
    ] {
        assert!(told.contains(text), "{text}\n---\n{told}");
    }
    let (_, rest) = told.split_once("`rhost frontend replay ").expect("told");
    let kept = rest.split('`').next().expect("a path").to_owned();
    // Neither the context nor the component is needed any more.
    fs::remove_dir_all(host.work().join("ctx")).expect("removed");
    fs::remove_file(&file).expect("removed");
    let again = host.run(["frontend", "replay", &kept]).expect("ran").success();
    assert!(again.contains("now:      the frontend panicked: it is too warm\n   0: deep_inside\n"), "{again}");
    assert!(again.ends_with("the same\n"), "{again}");
    // Another version of it reads another file, which the recording does not have.
    let other = host.write("cold.wasm", falls("(return (call $read (i32.const 368) (i32.const 4)))")).expect("written");
    let other = host.run(["frontend", "replay", "--frontend", &other.display().to_string(), &kept]).expect("ran");
    assert_eq!(other.code, 1, "{other:?}");
    for text in [
        "departs:  question 2 is new: it asked for the file `gone` of the context `dockerfile`\n",
        "departs:  it ended with `the frontend panicked: it is too warm`, and now with `the recording has no answer",
    ] {
        assert!(other.stdout.contains(text), "{text}\n---\n{}", other.stdout);
    }
    // A few are kept, and they are nobody else's to read.
    host.write("ctx/Dockerfile", "x\n").expect("written");
    for number in 0..6 {
        let file = host.write("warm.wasm", falls(&format!("(drop (i32.const {number}))"))).expect("written");
        host.run(["build", "--frontend", &file.display().to_string(), "ctx"]).expect("ran").failure(4);
    }
    let entries: Vec<_> = fs::read_dir(host.root().join("recordings-v1")).expect("kept").flatten().collect();
    assert_eq!(entries.len(), 4);
    use std::os::unix::fs::PermissionsExt as _;
    assert!(entries.iter().all(|entry| entry.metadata().expect("facts").permissions().mode() & 0o077 == 0));
}

#[test]
fn a_build_is_recorded_when_asked_and_holds_no_secret() {
    let host = host();
    host.write("ctx/Dockerfile", "FROM scratch\nARG API_TOKEN\nARG PLAIN\nCOPY a /a\n").expect("written");
    host.write("ctx/a", "a").expect("written");
    let record = |more: &[&str]| {
        let arguments = ["build", "--record-frontend", "run", "-o", "type=oci,dest=out.tar", "ctx"];
        host.run(arguments.iter().chain(more)).expect("ran").success();
        fs::read(host.work().join("run")).expect("recorded")
    };
    record(&[]);
    // Also where the answer is known: the frontend runs then.
    let recording = record(&["--build-arg", "API_TOKEN=hunter2", "--build-arg", "PLAIN=seen"]);
    let text = String::from_utf8_lossy(&recording);
    assert!(text.starts_with("rhost-frontend-recording 1\n") && text.contains("seen") && !text.contains("hunter2"));
    let told = host.run(["frontend", "replay", "run"]).expect("ran").success();
    assert!(told.contains("left out: build-arg:API_TOKEN\n") && told.ends_with("the same\n"), "{told}");
    let told = host.run(["frontend", "replay", "--json", "run"]).expect("ran").success();
    let told: serde_json::Value = serde_json::from_str(&told).expect("JSON");
    assert_eq!(told["departures"], serde_json::json!([]), "{told}");
    for (bytes, why) in [(&b"#!/bin/sh"[..], "it is no recording of a frontend"), (&recording[..60], "is damaged")] {
        host.write("broken", bytes).expect("written");
        let told = host.run(["frontend", "replay", "broken"]).expect("ran").failure(2);
        assert!(told.contains(why), "{told}");
    }
}

#[test]
fn what_a_frontend_says_is_in_the_progress() {
    let host = host();
    host.write("ctx/Dockerfile", "x\n").expect("written");
    let say = |level: u32| format!("(call $log (i32.const {level}) (i32.const 320) (i32.const 14))");
    let not_found =
        "(i32.store8 (i32.const 16) (i32.const 1)) (i32.store8 (i32.const 20) (i32.const 0)) (return (i32.const 16))";
    let build = |end: &str| {
        let file = host.write("says.wasm", falls(end)).expect("written").display().to_string();
        host.run(["build", "--progress", "plain", "--frontend", &file, "ctx"]).expect("ran").stderr
    };
    let lines = |told: &str, end: &str| told.lines().filter(|line| line.ends_with(end)).count();
    // Trace and debug are not shown.
    let told = build(&format!("{} {} {not_found}", say(0), say(1)));
    assert!(!told.contains("it is too warm") && !told.contains("run frontend"), "{told}");
    let told = build(&format!("{} {} {not_found}", say(2), say(2)));
    assert_eq!((lines(&told, "] run frontend says.wasm"), lines(&told, "WARNING: it is too warm")), (0, 0), "{told}");
    assert_eq!(told.matches("[internal] run frontend ").count(), 2, "its head, and the log of what failed: {told}");
    assert_eq!(lines(&told, " it is too warm"), 2, "{told}");
    let told = build(&format!("{} {not_found}", say(3)));
    assert!(told.contains("WARNING: it is too warm\n") && !told.contains("run frontend"), "{told}");
    // Without end: it is stopped, and what is not shown is counted.
    let told = build(&format!("(loop $again {} (br $again))", say(2)));
    let (_, rest) = told
        .split_once(" more lines of the frontend are not shown (limit: 10000 lines, 4 MiB)")
        .expect(&told[told.len() - 2000..]);
    assert!(rest.contains("limit: compute time") && lines(&told, " it is too warm") < 10_020, "{rest}");
}

#[test]
fn the_limits_of_the_users_policy_hold_for_tests_too() {
    let host = host();
    case(&host, "sample", "", "any\n");
    let file =
        host.write("eats.wasm", falls("(drop (memory.grow (i32.const 512)))")).expect("written").display().to_string();
    host.write_config("[policy]\nlimits = { memory = \"16MiB\" }\n").expect("written");
    for command in ["test", "conformance"] {
        let told = host.run(["frontend", command, "--frontend", &file]).expect("ran");
        assert_eq!(told.code, 1, "{told:?}");
        assert!(told.stdout.contains("of memory (limit: 16 MiB)"), "{}", told.stdout);
    }
}

#[test]
fn host_calls_are_traced() {
    let host = host();
    host.write("ctx/Dockerfile", "FROM scratch\nCOPY a /a\n").expect("written");
    let traced = |place: &str| {
        let mut command = host.command(["debug", "dump-llb", "--format", "text", "ctx"]);
        rhost_kit::Ran::of(command.env("RHOST_FRONTEND_TRACE", place)).expect("ran")
    };
    let told = traced("1").stderr;
    for text in [
        "frontend: context.read-file(name=\"dockerfile\"",
        "FROM scratch",
        "frontend: llb.source(identifier=\"local://context\"",
    ] {
        assert!(told.contains(text), "{text}\n---\n{told}");
    }
    let lines = told.lines().filter(|line| line.starts_with("frontend: "));
    let (starts, calls): (Vec<_>, Vec<_>) = lines.partition(|line| {
        [" is loaded", " ms after it began to be loaded", " ms after its instance began to be made"]
            .iter()
            .any(|end| line.ends_with(end))
    });
    assert_eq!(starts.len(), 3, "{told}");
    assert!(calls.len() > 10 && calls.iter().all(|line| line.ends_with(']') && line.contains(" -> ")), "{told}");
    // The answer is known by now, and the guest does not run; another build file is another question.
    host.write("ctx/Dockerfile", "FROM scratch\nCOPY a /b\n").expect("written");
    assert!(!traced("trace.txt").stderr.contains("frontend: "));
    assert!(
        fs::read_to_string(host.work().join("trace.txt")).expect("written").contains("frontend: llb.[method]file.")
    );
    host.write("ctx/Dockerfile", "FROM scratch\nCOPY a /c\n").expect("written");
    let told = traced("times").stderr;
    let lines: Vec<&str> = told.lines().filter(|line| line.starts_with("frontend: ")).collect();
    let [loaded, ended] = lines[..] else { panic!("{told}") };
    assert!(loaded.ends_with(" is loaded") && ended.starts_with("frontend: it ended, "), "{told}");
}

#[test]
fn a_frontend_cannot_leave_its_context() {
    let host = host();
    host.write("ctx/Dockerfile", "x\n").expect("written");
    std::os::unix::fs::symlink("/etc/passwd", host.work().join("ctx/link")).expect("linked");
    for (end, told) in [
        // What it read becomes its error, if it read anything: the list is no text of an error then.
        ("(return (call $read (i32.const 288) (i32.const 28)))", "etc/passwd"),
        ("(return (call $read (i32.const 352) (i32.const 4)))", "not found"),
    ] {
        let file = host.write("out.wasm", falls(end)).expect("written").display().to_string();
        let ran = host.run(["build", "--frontend", &file, "ctx"]).expect("ran");
        assert!(ran.code != 0 && ran.stderr.contains(told) && !ran.stderr.contains("root:"), "{ran:?}");
    }
}

#[test]
fn the_frontends_of_this_repository_conform() {
    let host = host();
    let check = |arguments: &[&str]| host.run(["frontend", "conformance"].iter().chain(arguments)).expect("ran");
    let cases = checkout("frontends/dockerfile/cases").display().to_string();
    let told = check(&[&cases]);
    assert_eq!(told.code, 0, "{}", told.stdout);
    assert!(told.stdout.contains("pass     the same answer each time\n"), "{}", told.stdout);
    let without = check(&["nowhere"]);
    assert_eq!(without.code, 0, "{}", without.stdout);
    let without = without.stdout;
    assert!(without.contains("n/a      the same answer each time: there is no sample"), "{without}");
    let Some(lines) = built("lines") else { return };
    let cases = checkout("frontends/lines/cases").display().to_string();
    let told = check(&["--frontend", &lines, &cases, "--json"]).success();
    let told: serde_json::Value = serde_json::from_str(&told).expect("JSON");
    assert_eq!(told["fail"], 0, "{told:#}");
}

#[test]
fn a_bad_frontend_fails_the_checks() {
    let host = host();
    case(&host, "sample", "", "any\n");
    // It falls whatever it is asked.
    let file = host.write("bad.wasm", falls("")).expect("written").display().to_string();
    let told = host.run(["frontend", "conformance", "--frontend", &file]).expect("ran");
    assert_eq!(told.code, 1, "{told:?}");
    for check in [
        "samples build",
        "one result for each platform",
        "a build file that is binary",
        "a build file of 1 MiB",
        "a build file that is not there",
        "errors name file and line",
        "options that it does not know",
        "a target that is not there",
        "a context that is denied",
        "a host without any feature",
        "the request frontend.lint",
    ] {
        assert!(told.stdout.contains(&format!("FAIL     {check}")), "{check}\n---\n{}", told.stdout);
    }
    // It answers each time with the same error, which names nothing.
    let file = host.write("mute.wasm", falls("(i32.store8 (i32.const 16) (i32.const 1)) (i32.store8 (i32.const 20) (i32.const 5)) (return (i32.const 16))"));
    let file = file.expect("written").display().to_string();
    let told = host.run(["frontend", "conformance", "--frontend", &file]).expect("ran").stdout;
    for text in [
        "its error does not name the file",
        "its error has no place",
        "it neither answers nor says that it does not support this",
    ] {
        assert!(told.contains(text), "{text}\n---\n{told}");
    }
}
