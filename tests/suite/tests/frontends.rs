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
