//! Signatures that cosign made (2.4.3, and 3's bundle), of an image that lies beside them, checked against a real registry.
use std::path::{Path, PathBuf};

use rhost_kit::{Answer, Proxy, Ran, Registry, TestHost};

use super::has;

const DIGEST: &str = "74e6f75ee5680231ee6ffab542b50973a7f66135c8c583fbf02f8c71f3bee12b";

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/cosign").join(name)
}

struct Stage {
    host: TestHost,
    registry: Registry,
    proxy: Proxy,
}

/// A registry with the image, and a repository whose rules want it signed.
fn stage() -> Option<Stage> {
    if !rhost_kit::have(&["docker-registry", "crane"]) {
        return None;
    }
    let registry = Registry::start().expect("a registry");
    let proxy = Proxy::start(registry.address()).expect("a proxy");
    let stage = Stage { host: TestHost::new().expect("a host"), registry, proxy };
    stage.push("image", "team/signed:1");
    stage.host.write("ctx/Dockerfile", format!("FROM {}\n", stage.proxy.name("team/signed:1"))).expect("written");
    stage.rules("cosign.pub");
    Some(stage)
}

impl Stage {
    /// Pushes a layout as it is.
    fn push(&self, layout: &str, name: &str) {
        let mut crane = std::process::Command::new("crane");
        crane.args(["push", "--insecure"]).arg(golden(layout)).arg(self.registry.name(name));
        Ran::of(&mut crane).expect("crane").success();
    }

    fn rules(&self, key: &str) {
        let key = if key.contains('/') { key.to_owned() } else { golden(key).display().to_string() };
        let team = self.proxy.name("team");
        self.host
            .write("ctx/rhost.toml", format!("[[policy.signed]]\nnames = [{team:?}]\nkeys = [{key:?}]\n"))
            .expect("written");
    }

    fn build(&self) -> Ran {
        self.host.run(["build", "--progress", "plain", "-o", "out", "ctx"]).expect("ran")
    }

    fn sign(&self) {
        self.push("signature", &format!("team/signed:sha256-{DIGEST}.sig"));
    }
}

#[test]
fn a_signed_image_is_used_and_asked_for_once() {
    let Some(stage) = stage() else { return };
    let text = stage.build().failure(7);
    has(
        &text,
        &[
            "is not signed as wanted",
            "policy.signed at ",
            "rhost.toml:1",
            "it has no signature",
            "Dockerfile:1",
            "cosign.pub",
        ],
    );
    stage.sign();
    stage.build().success();
    assert_eq!(std::fs::read_to_string(stage.host.work().join("out/hello")).expect("built"), "signed\n");
    stage.proxy.take();
    stage.build().success();
    let asked = stage.proxy.take();
    assert!(!asked.iter().any(|line| line.contains("sha256-") || line.contains("referrers")), "{asked:?}");
}

#[test]
fn a_bundle_is_a_signature_too() {
    let Some(stage) = stage() else { return };
    stage.push("bundles", &format!("team/signed:sha256-{DIGEST}"));
    stage.build().success();
}

#[test]
fn the_signature_of_another_key_or_of_another_image_does_not_count() {
    let Some(stage) = stage() else { return };
    stage.sign();
    let pem = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\n-----END PUBLIC KEY-----\n";
    let other = stage.host.write("other.pub", pem).expect("written");
    stage.rules(&other.display().to_string());
    has(&stage.build().failure(7), &["its one signature is by another key, or over something else"]);
    stage.rules("cosign.pub");
    // Another image, with the signature of the first.
    let busybox = rhost_kit::busybox().expect("busybox");
    let name = stage.registry.push(&busybox, "team/signed:1").expect("pushed");
    let digest =
        Ran::of(std::process::Command::new("crane").args(["digest", "--insecure", &name])).expect("crane").success();
    let digest = digest.trim();
    stage.push("signature", &format!("team/signed:{}.sig", digest.replace(':', "-")));
    has(&stage.build().failure(7), &["its one signature is by another key, or over something else"]);
}

#[test]
fn a_registry_that_does_not_say_is_not_taken_for_unsigned() {
    let Some(stage) = stage() else { return };
    stage.sign();
    let refuse = |asked: &rhost_kit::Asked| match asked.path.contains(".sig") {
        true => Answer::error(403, "DENIED", "not you"),
        false => Answer::Forward,
    };
    stage.proxy.answer(refuse);
    has(&stage.build().failure(5), &["the signatures of", "Dockerfile:1"]);
}

#[test]
fn a_frontend_must_be_signed_too_and_inspect_lists_signatures() {
    let Some(stage) = stage() else { return };
    let lines = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/guests/lines.wasm");
    if !lines.exists() {
        return rhost_kit::skip("target/guests/lines.wasm is not built; run `cargo xtask guests`");
    }
    let name = stage.registry.name("team/lines:1");
    let push = |more: &[&str]| {
        let arguments = ["frontend", "push", &lines.display().to_string(), &name].map(str::to_owned);
        stage.host.run(arguments.iter().map(String::as_str).chain(more.iter().copied())).expect("ran").success()
    };
    let pinned = push(&[]);
    let digest = pinned.trim().rsplit(':').next().expect("a digest").to_owned();
    let asked = stage.proxy.name("team/lines:1");
    stage.host.write("ctx/Dockerfile", format!("# syntax={asked}\nfrom scratch\n")).expect("written");
    has(&stage.build().failure(7), &["frontend: `", "is not signed as wanted", "it has no signature", "Dockerfile:1"]);
    // A signature of something else is listed, and does not count.
    stage.push("signature", &format!("team/lines:sha256-{digest}.sig"));
    has(&stage.build().failure(7), &["its one signature is by another key, or over something else"]);
    let told = stage.host.run(["frontend", "inspect", &asked]).expect("ran").success();
    has(&told, &["signed:   cosign signature over sha256:"]);
}
