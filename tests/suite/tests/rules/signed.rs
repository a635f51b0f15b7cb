//! Signatures that cosign made (2.4.3, and 3's bundle), of an image that lies beside them, checked against a real registry.
use std::collections::BTreeSet;
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

/// The names of the blobs of a vendor directory.
fn blobs(dir: &str) -> BTreeSet<PathBuf> {
    let entries = std::fs::read_dir(Path::new(dir).join("blobs/sha256")).expect("blobs");
    entries.flatten().map(|entry| entry.path()).collect()
}

impl Stage {
    fn vendor(&self, more: &[&str]) -> (String, Ran) {
        let dir = self.host.dir().join("vendor").display().to_string();
        let arguments = ["vendor", "--progress", "plain", "-o", &dir, "ctx"];
        let ran = self.host.run(arguments.iter().chain(more)).expect("ran");
        (dir, ran)
    }

    /// A build as on a machine that has nothing but the directory.
    fn elsewhere(&self, dir: &str) -> Ran {
        let _ = std::fs::remove_dir_all(self.host.root());
        self.proxy.take();
        let ran = self.host.run(["build", "--vendor", dir, "--offline", "-o", "out", "ctx"]).expect("ran");
        assert_eq!(self.proxy.take(), Vec::<String>::new(), "nobody is asked");
        ran
    }
}

#[test]
fn signatures_go_where_the_image_goes_and_are_checked_there() {
    for (form, tag, parts) in [("signature", ".sig", 2), ("bundles", "", 3)] {
        let Some(stage) = stage() else { return };
        let rules = std::fs::read_to_string(stage.host.work().join("ctx/rhost.toml")).expect("written");
        stage.host.write("ctx/rhost.toml", "").expect("written");
        let (dir, ran) = stage.vendor(&[]);
        ran.success();
        let without = blobs(&dir);
        stage.host.write("ctx/rhost.toml", &rules).expect("written");
        let refused = |ran: Ran| has(&ran.failure(7), &["policy.signed at ", "rhost.toml:1", "Dockerfile:1"]);
        has(&stage.elsewhere(&dir).failure(7), &["in the vendor directory `", "it has no signature", "rhost.toml:1"]);
        refused(stage.vendor(&[]).1);
        stage.push(form, &format!("team/signed:sha256-{DIGEST}{tag}"));
        let ran = stage.vendor(&[]).1;
        has(&ran.stderr, &["1 image or frontend, 0 files, 0 git trees, 1 signature\n"]);
        ran.success();
        stage.elsewhere(&dir).success();
        // Another tool takes it for what it is in a registry.
        let name = format!("{}:sha256-{DIGEST}{tag}", stage.proxy.name("team/signed"));
        let copied = stage.host.dir().join("copied").display().to_string();
        let mut skopeo = std::process::Command::new("skopeo");
        skopeo.args(["--insecure-policy", "copy", "--all", "--quiet", &format!("oci:{dir}:{name}")]);
        Ran::of(skopeo.arg(format!("dir:{copied}"))).expect("skopeo").success();
        // Without one of its parts, or with another byte in one, it is no signature.
        let mut needed = 0;
        for path in blobs(&dir).difference(&without) {
            let whole = std::fs::read(path).expect("read");
            let mut bent = whole.clone();
            bent[whole.len() / 2] ^= 1;
            std::fs::write(path, &bent).expect("written");
            let altered = stage.elsewhere(&dir);
            std::fs::remove_file(path).expect("removed");
            let removed = stage.elsewhere(&dir);
            std::fs::write(path, &whole).expect("written");
            // Nobody reads the config of a signature.
            if altered.code != 0 || removed.code != 0 {
                needed += 1;
                refused(altered);
                refused(removed);
            }
        }
        assert_eq!(needed, parts, "{form}");
        let index = Path::new(&dir).join("index.json");
        let text = std::fs::read_to_string(&index).expect("read");
        std::fs::write(&index, text.replace(&format!("sha256-{DIGEST}"), "sha256-0")).expect("written");
        refused(stage.elsewhere(&dir));
        std::fs::write(&index, text).expect("written");
        stage.elsewhere(&dir).success();
        // The rule of the machine that builds counts, and what it wants is not in the directory.
        let pem = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\n-----END PUBLIC KEY-----\n";
        let other = stage.host.write("other.pub", pem).expect("written");
        stage.rules(&other.display().to_string());
        has(&stage.elsewhere(&dir).failure(7), &["its one signature is by another key", "in the vendor directory"]);
    }
}

#[test]
fn what_was_fetched_is_signed_without_a_network() {
    let Some(stage) = stage() else { return };
    stage.sign();
    stage.host.run(["fetch", "ctx"]).expect("ran").success();
    stage.proxy.take();
    let build = ["build", "--offline", "-o", "out", "ctx"];
    stage.host.run(build).expect("ran").success();
    // What the store keeps is a signature, and no word that there was one: it can go on from here.
    let (dir, ran) = stage.vendor(&["--offline"]);
    has(&ran.stderr, &["1 signature\n"]);
    ran.success();
    assert_eq!(stage.proxy.take(), Vec::<String>::new(), "nobody is asked");
    stage.elsewhere(&dir).success();
    // And from a directory to a directory.
    let again = stage.host.dir().join("again").display().to_string();
    let _ = std::fs::remove_dir_all(stage.host.root());
    stage.host.run(["vendor", "--vendor", &dir, "--offline", "-o", &again, "ctx"]).expect("ran").success();
    assert_eq!(stage.proxy.take(), Vec::<String>::new(), "nobody is asked");
    stage.elsewhere(&again).success();
}

#[test]
fn a_frontend_s_signature_travels_with_it() {
    let Some(stage) = stage() else { return };
    if !rhost_kit::have(&["openssl"]) {
        return;
    }
    let lines = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/guests/lines.wasm");
    if !lines.exists() {
        return rhost_kit::skip("target/guests/lines.wasm is not built; run `cargo xtask guests`");
    }
    stage.sign();
    let name = stage.registry.name("team/lines:1");
    let push = ["frontend", "push", &lines.display().to_string(), &name];
    let pinned = stage.host.run(push).expect("ran").success();
    let digest = pinned.trim().rsplit(':').next().expect("a digest").to_owned();
    // As `cosign sign --key` makes it: the form is in the golden files, the key is not.
    let openssl = |arguments: &[&str]| {
        let mut openssl = std::process::Command::new("openssl");
        openssl.args(arguments).current_dir(stage.host.dir()).output().expect("openssl").stdout
    };
    openssl(&["ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", "key"]);
    openssl(&["ec", "-in", "key", "-pubout", "-out", "key.pub"]);
    let payload = serde_json::json!({
        "critical": {
            "identity": {"docker-reference": ""}, "image": {"docker-manifest-digest": format!("sha256:{digest}")},
            "type": "cosign container image signature",
        },
        "optional": null,
    });
    let payload = payload.to_string();
    std::fs::write(stage.host.dir().join("payload"), &payload).expect("written");
    openssl(&["dgst", "-sha256", "-sign", "key", "-out", "payload.sig", "payload"]);
    let signature = String::from_utf8(openssl(&["base64", "-A", "-in", "payload.sig"])).expect("text");
    let layout = stage.host.dir().join("layout");
    std::fs::create_dir_all(layout.join("blobs/sha256")).expect("made");
    let blob = |kind: &str, text: &str| {
        let digest = rhost_llb::Digest::of(text);
        std::fs::write(layout.join("blobs/sha256").join(digest.hex()), text).expect("written");
        serde_json::json!({"mediaType": kind, "size": text.len(), "digest": digest.to_string()})
    };
    let mut layer = blob("application/vnd.dev.cosign.simplesigning.v1+json", &payload);
    layer["annotations"] = serde_json::json!({"dev.cosignproject.cosign/signature": signature.trim()});
    let config =
        serde_json::json!({"architecture": "", "os": "", "rootfs": {"type": "layers", "diff_ids": [layer["digest"]]}});
    let config = blob("application/vnd.oci.image.config.v1+json", &config.to_string());
    let manifest = "application/vnd.oci.image.manifest.v1+json";
    let document = serde_json::json!({"schemaVersion": 2, "mediaType": manifest, "config": config, "layers": [layer]});
    let index = serde_json::json!({"schemaVersion": 2, "manifests": [blob(manifest, &document.to_string())]});
    std::fs::write(layout.join("index.json"), index.to_string()).expect("written");
    std::fs::write(layout.join("oci-layout"), "{\"imageLayoutVersion\":\"1.0.0\"}").expect("written");
    stage.push(&layout.display().to_string(), &format!("team/lines:sha256-{digest}.sig"));
    let asked = stage.proxy.name("team/lines:1");
    let image = stage.proxy.name("team/signed:1");
    stage.host.write("ctx/Dockerfile", format!("# syntax={asked}\nfrom {image}\n")).expect("written");
    let key = |name: &str| if name == "key.pub" { stage.host.dir().join(name) } else { golden(name) };
    let rule = |of: &str, name: &str| {
        let (of, key) = (stage.proxy.name(of), key(name).display().to_string());
        format!("[[policy.signed]]\nnames = [{of:?}]\nkeys = [{key:?}]\n")
    };
    let rules = rule("team/lines", "key.pub") + &rule("team/signed", "cosign.pub");
    stage.host.write("ctx/rhost.toml", rules).expect("written");
    let (dir, ran) = stage.vendor(&[]);
    has(&ran.stderr, &["2 images and frontends, 0 files, 0 git trees, 2 signatures\n"]);
    ran.success();
    stage.elsewhere(&dir).success();
    let index = Path::new(&dir).join("index.json");
    let text = std::fs::read_to_string(&index).expect("read");
    std::fs::write(&index, text.replace(&format!("sha256-{digest}"), "sha256-0")).expect("written");
    has(&stage.elsewhere(&dir).failure(7), &["frontend: `", "it has no signature", "rhost.toml:1", "Dockerfile:1"]);
}
