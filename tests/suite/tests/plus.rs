//! dockerfile+: a language upon the stock frontend, by the binary.
use std::path::{Path, PathBuf};

use rhost_kit::{Ran, TestHost};

fn component() -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/guests/dockerfile-plus.wasm");
    if !path.exists() {
        rhost_kit::skip("target/guests/dockerfile-plus.wasm is not built; run `cargo xtask guests`");
        return None;
    }
    Some(path)
}

struct Stage {
    host: TestHost,
    _registry: rhost_kit::Registry,
    component: PathBuf,
}

fn stage() -> Option<Stage> {
    let component = component()?;
    let (host, registry) = rhost_kit::host_with_busybox()?;
    Some(Stage { host, _registry: registry, component })
}

impl Stage {
    fn write(&self, name: &str, text: &str) {
        self.host.write(&format!("ctx/{name}"), text).expect("written");
    }

    fn build(&self, more: &[&str]) -> Ran {
        let component = self.component.display().to_string();
        let arguments = ["build", "--progress", "plain", "--frontend", &component, "-o", "out", "ctx"];
        self.host.run(arguments.iter().chain(more)).expect("ran")
    }

    fn built(&self, name: &str) -> Option<String> {
        std::fs::read_to_string(self.host.work().join("out").join(name)).ok()
    }
}

#[test]
fn includes_conditions_and_optional_copies_build() {
    let Some(stage) = stage() else { return };
    stage.write("Dockerfile", "ARG MODE=plain\nFROM busybox AS made\nINCLUDE parts/make.part\nFROM scratch\nCOPY --from=made /made /made\nCOPY --optional here.txt gone.txt dir/ /got/\nCOPY --from=made --optional /none /\n");
    stage.write("parts/make.part", "IF $MODE == plain\nRUN echo plain > /made\nELSE\nINCLUDE other.part\nENDIF\n");
    stage.write("parts/other.part", "RUN echo other > /made\n");
    stage.write("here.txt", "here\n");
    stage.build(&[]).success();
    assert_eq!(
        (stage.built("made").as_deref(), stage.built("got/here.txt").as_deref()),
        (Some("plain\n"), Some("here\n"))
    );
    assert_eq!((stage.built("got/gone.txt"), stage.built("none")), (None, None));
    stage.write("dir/inside", "dir\n");
    stage.build(&["--build-arg", "MODE=x"]).success();
    assert_eq!(
        (stage.built("made").as_deref(), stage.built("got/inside").as_deref()),
        (Some("other\n"), Some("dir\n"))
    );
}

#[test]
fn faults_and_failing_steps_have_the_place_where_they_are_written() {
    let Some(stage) = stage() else { return };
    let has = |text: String, parts: &[&str]| {
        parts.iter().for_each(|part| assert!(text.contains(part), "wanted `{part}` in {text}"))
    };
    stage.write("Dockerfile", "FROM busybox\n\nINCLUDE a.part\n");
    stage.write("a.part", "# one\nRUN exit 3\n");
    has(stage.build(&[]).failure(1), &["a.part:2", ">>> RUN exit 3", "exit code: 3"]);
    stage.write("a.part", "# one\nRAN true\n");
    has(stage.build(&[]).failure(3), &["a.part:2", ">>> RAN true", "on line 2 of a.part", "unknown instruction"]);
    stage.write("Dockerfile", "FROM busybox\nINCLUDE b.part\n");
    has(stage.build(&[]).failure(3), &["Dockerfile:2", "there is no file `b.part`", "INCLUDE --optional"]);
    stage.write("Dockerfile", "FROM busybox\nIF $TARGETARCH == arm64\nENDIF\n");
    has(stage.build(&[]).failure(3), &["Dockerfile:2", "FROM build-$TARGETARCH"]);
}

#[test]
fn a_dockerfile_means_the_same_in_both_and_lint_knows_the_places() {
    let Some(stage) = stage() else { return };
    stage.write(
        "Dockerfile",
        "FROM busybox AS Made\nCOPY Dockerfile /\nRUN --mount=type=cache,target=/c <<EOF\nIF you read this\nEOF\n",
    );
    let component = stage.component.display().to_string();
    let dump = |more: &[&str]| {
        let arguments = ["debug", "dump-llb", "--json", "ctx"];
        stage.host.run(arguments.iter().chain(more)).expect("ran").success()
    };
    assert_eq!(dump(&["--frontend", &component]), dump(&[]));
    stage.write("Dockerfile", "INCLUDE a.part\n");
    stage.write("a.part", "\nfrom busybox AS x\nRUN true\n");
    let found = stage.build(&["--check"]);
    let text = found.failure(1);
    assert!(text.is_empty() || text.contains("ConsistentInstructionCasing"), "{text}");
}
