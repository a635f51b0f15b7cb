//! `rhost.toml`: which frontend reads what, and what a build may use.
mod signed;
mod sources;

use rhost_kit::{Ran, Registry, TestHost};

/// A host with busybox as docker.io, and a repository in `ctx`.
struct Stage {
    host: TestHost,
    registry: Registry,
}

fn stage() -> Option<Stage> {
    let (host, registry) = rhost_kit::host_with_busybox()?;
    Some(Stage { host, registry })
}

impl Stage {
    fn write(&self, name: &str, text: &str) {
        self.host.write(&format!("ctx/{name}"), text).expect("written");
    }

    fn build(&self, more: &[&str]) -> Ran {
        self.host.run(["build", "--progress", "plain", "ctx"].iter().chain(more)).expect("ran")
    }

    /// What `--print-frontend` says, in lines.
    fn chosen(&self, more: &[&str]) -> Vec<String> {
        let mut arguments = vec!["--print-frontend"];
        arguments.extend(more);
        self.build(&arguments).success().lines().map(|line| line.trim().to_owned()).collect()
    }
}

fn has(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "wanted `{part}` in {text}");
    }
}

#[test]
fn the_order_is_flag_argument_line_pattern_stock() {
    let Some(stage) = stage() else { return };
    stage.write("rhost.toml", "[frontend.alias]\nlang = \"r.example/lang:1\"\n[frontend.files]\n\"*.x\" = \"lang\"\n\"sub/*.y\" = \"./f.wasm\"\n");
    stage.write("Dockerfile", "FROM scratch\n");
    stage.write("a.x", "# syntax=r.example/line:1\n");
    stage.write("b.x", "nothing\n");
    stage.write("sub/c.y", "nothing\n");
    assert_eq!(stage.chosen(&[])[0], "dockerfile (built in)");
    let file = |name: &str| format!("ctx/{name}");
    assert_eq!(stage.chosen(&["-f", &file("a.x")])[0], "r.example/line:1");
    let found = stage.chosen(&["-f", &file("b.x")]);
    assert_eq!(found[0], "r.example/lang:1");
    has(&found[1], &["rhost.toml:4", "\"*.x\" = \"lang\""]);
    assert!(stage.chosen(&["-f", &file("sub/c.y")])[0].ends_with("ctx/f.wasm"));
    let argument = ["--build-arg", "BUILDKIT_SYNTAX=lang x=1", "-f", "ctx/a.x"];
    has(&stage.chosen(&argument).join("\n"), &["r.example/lang:1", "BUILDKIT_SYNTAX", "rhost.toml:2"]);
    assert_eq!(
        stage.chosen(&[argument.as_slice(), &["--frontend", "docker/dockerfile:1"]].concat())[0],
        "dockerfile (built in)"
    );
    stage.write("rhost.toml", "[frontend]\nignore-syntax = true\n");
    let found = stage.chosen(&["-f", &file("a.x")]);
    assert_eq!(found[0], "dockerfile (built in)");
    has(&found.join("\n"), &["a.x:1 says `syntax=r.example/line:1`, which is passed over", "rhost.toml:2"]);
}

#[test]
fn a_build_file_by_another_usual_name_is_found() {
    let Some(stage) = stage() else { return };
    stage.write("Containerfile", "FROM busybox\nRUN true\n");
    stage.build(&[]).success();
    std::fs::remove_file(stage.host.work().join("ctx/Containerfile")).expect("removed");
    stage.write("app.image", "FROM busybox\nRUN true\n");
    stage.write("rhost.toml", "[frontend.files]\n\"*.image\" = \"dockerfile\"\n");
    stage.build(&[]).success();
    stage.write("other.image", "FROM busybox\n");
    has(&stage.build(&[]).failure(2), &["several build files: app.image, other.image", "-f "]);
}

#[test]
fn the_rules_of_the_repository_count_in_its_directories() {
    let Some(stage) = stage() else { return };
    stage.write("rhost.toml", "[policy]\nregistries = [\"r.example\"]\n");
    stage.write("app/Dockerfile", "FROM busybox\n");
    let build = || stage.host.run(["build", "--progress", "plain", "ctx/app"]).expect("ran");
    build().success();
    stage.write(".git/HEAD", "");
    has(
        &build().failure(7),
        &[
            "docker.io/library/busybox:latest",
            "policy.registries at ",
            "ctx/rhost.toml:2",
            "allows r.example",
            "Dockerfile:1",
        ],
    );
}

#[test]
fn what_a_policy_forbids_is_not_done() {
    let Some(stage) = stage() else { return };
    let policy = |text: &str| stage.write("rhost.toml", &format!("[policy]\n{text}\n"));
    stage.write("Dockerfile", "FROM busybox AS a\nFROM scratch\nCOPY --from=r.example/x:1 / /\n");
    policy("registries = [\"docker.io\"]");
    has(&stage.build(&[]).failure(7), &["r.example/x:1", "rhost.toml:2", "Dockerfile:3"]);
    policy("frontends = [\"r.example/lang\"]");
    has(
        &stage.build(&[]).failure(7),
        &["the frontend `dockerfile (built in)` is refused", "rhost.toml:2", "allows r.example/lang"],
    );
    policy("frontends = [\"dockerfile\"]");
    stage.write("Dockerfile", "# syntax=r.example/other:1\nFROM busybox\n");
    has(
        &stage.build(&[]).failure(7),
        &["the frontend `r.example/other:1` is refused", "Dockerfile:1", "allows dockerfile"],
    );
    stage.write("Dockerfile", "FROM busybox\nRUN --network=host true\n");
    policy("entitlements = [\"security.insecure\"]");
    has(
        &stage.build(&["--allow", "network.host"]).failure(7),
        &["network.host is refused", "rhost.toml:2", "Dockerfile:2"],
    );
    policy("entitlements = [\"network.host\"]");
    stage.build(&["--allow", "network.host"]).success();
    // The user's own file has the last word.
    let mirror = format!("[registry.\"docker.io\"]\nmirrors = [{:?}]\n", stage.registry.address());
    stage.host.write_config(&format!("{mirror}[policy]\nentitlements = []\n")).expect("written");
    has(&stage.build(&["--allow", "network.host"]).failure(7), &["network.host is refused", "config.toml:4"]);
}

#[test]
fn a_file_that_is_wrong_is_named_with_its_line() {
    let Some(stage) = stage() else { return };
    stage.write("Dockerfile", "FROM busybox\n");
    stage.write("rhost.toml", "[policy]\nregistry = []\n");
    has(&stage.build(&[]).failure(2), &["rhost.toml:2", ">>> registry = []", "unknown field `registry`"]);
    stage.write("rhost.toml", "[registry.\"docker.io\"]\nmirrors = [\"evil.example\"]\n");
    has(&stage.build(&[]).failure(2), &["rhost.toml:1", "user's configuration"]);
    stage.host.write_config("[policy]\nentitlements = [\"all\"]\n").expect("written");
    has(&stage.build(&[]).failure(2), &["config.toml:2", "`all` is no entitlement"]);
}
