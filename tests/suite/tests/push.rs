//! Images go to registries and come back: `-o type=registry`, `--push`, `rhost push`, `pull`, `tag`. Read by crane and skopeo.
use std::fs;
use std::process::Command;

use rhost_kit::{Answer, Asked, LOGIN, Proxy, Registry, TestHost, busybox, noise};

/// A host, a registry with busybox, and a proxy before it that everything of the test goes through.
struct Stage {
    host: TestHost,
    registry: Registry,
    proxy: Proxy,
}

fn stage() -> Option<Stage> {
    if !rhost_kit::have(&["docker-registry", "skopeo", "crane"]) {
        return None;
    }
    let registry = Registry::start().expect("a registry");
    registry.push(&busybox().expect("busybox"), "library/busybox:latest").expect("pushed");
    let proxy = Proxy::start(registry.address()).expect("a proxy");
    Some(Stage { host: host_of(&proxy), registry, proxy })
}

fn host_of(proxy: &Proxy) -> TestHost {
    let host = TestHost::new().expect("a host");
    host.mirror_docker_io(proxy.address()).expect("config");
    host
}

fn tool(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap_or_else(|error| panic!("{program}: {error}"));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{program} {arguments:?}\n{}{}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout).trim().to_owned()
}

impl Stage {
    fn context(&self, dockerfile: &str) -> String {
        self.host.write("ctx/Dockerfile", dockerfile).expect("written");
        self.host.write("ctx/a", "content\n").expect("written");
        self.host.work().join("ctx").display().to_string()
    }

    /// What the registry holds under `reference`, checked blob by blob by crane; its digest.
    fn valid(&self, reference: &str) -> String {
        tool("crane", &["validate", "--remote", reference]);
        tool("crane", &["digest", reference])
    }
}

fn uploads(asked: &[String]) -> Vec<&String> {
    asked.iter().filter(|line| line.starts_with("PATCH") || line.contains("/blobs/uploads/")).collect()
}

#[test]
fn a_build_is_pushed_under_all_its_names_and_only_once() {
    let Some(stage) = stage() else { return };
    let context = stage.context("FROM busybox\nCOPY a /a\nRUN cat /a > /b\n");
    let (one, two, other) = (stage.proxy.name("team/app:1"), stage.proxy.name("team/app:2"), stage.proxy.name("b/c:1"));
    let metadata = stage.host.dir().join("metadata.json").display().to_string();
    let arguments = ["build", "-t", &one, "-t", &two, "-t", &other, "--metadata-file", &metadata, &context, "--push"];
    let ran = stage.host.run(arguments.iter().chain(&["--progress", "plain"])).expect("ran");
    let log = ran.stderr.clone();
    ran.success();
    let told: serde_json::Value = serde_json::from_slice(&fs::read(&metadata).expect("read")).expect("JSON");
    let digest = told["containerimage.digest"].as_str().expect("a digest").to_owned();
    for name in [&one, &two, &other] {
        assert_eq!(stage.valid(name), digest);
        assert!(log.contains(&format!("pushed {name}@{digest}")), "{log}");
    }
    // Byte for byte what the store has.
    let manifest: serde_json::Value = serde_json::from_str(&tool("crane", &["manifest", &one])).expect("JSON");
    for layer in manifest["layers"].as_array().expect("layers") {
        let digest = layer["digest"].as_str().expect("digest");
        let ours = stage.host.root().join("blobs-v1/blobs/sha256").join(digest.trim_start_matches("sha256:"));
        assert!(fs::read(ours).expect("ours") == fs::read(stage.registry.blob_path(digest)).expect("theirs"));
    }
    // The second repository got its blobs from the first, and a second push sends nothing.
    let asked = stage.proxy.take();
    assert!(
        asked.iter().any(|line| line.contains("/v2/team/app/blobs/uploads/?mount=")
            || line.contains("/v2/b/c/blobs/uploads/?mount=")),
        "{asked:?}"
    );
    let into = |repository: &str| {
        asked
            .iter()
            .filter(|line| {
                (line.starts_with("PUT") || line.starts_with("PATCH"))
                    && line.contains(&format!("/v2/{repository}/blobs/"))
            })
            .count()
    };
    assert_eq!(into("team/app").min(into("b/c")), 0, "{asked:?}");
    stage.host.run(arguments).expect("ran").success();
    let asked = stage.proxy.take();
    assert_eq!(uploads(&asked), Vec::<&String>::new());
    assert!(stage.host.run(["images"]).expect("ran").success().contains(&one), "--push keeps the image, too");
}

#[test]
fn a_base_of_the_same_registry_is_mounted_not_sent() {
    let Some(stage) = stage() else { return };
    let base = stage.proxy.name("library/busybox");
    let context = stage.context(&format!("FROM {base}\nCOPY a /a\n"));
    let to = stage.proxy.name("mounted:1");
    let output = format!("type=registry,name={to}");
    stage.host.run(["build", "-o", &output, &context]).expect("ran").success();
    stage.valid(&to);
    let manifest = tool("crane", &["manifest", "--platform", "linux/amd64", &base]);
    let manifest: serde_json::Value = serde_json::from_str(&manifest).expect("JSON");
    let layer = manifest["layers"][0]["digest"].as_str().expect("digest");
    let asked = stage.proxy.take();
    let mount = format!("POST /v2/mounted/blobs/uploads/?mount={layer}&from=library/busybox");
    assert!(asked.contains(&mount), "{asked:?}");
    let sent = |line: &&String| line.starts_with("PUT /v2/mounted/blobs/uploads/");
    assert_eq!(asked.iter().filter(sent).count(), 2, "the config and one layer: {asked:?}");
    assert!(!stage.host.run(["images"]).expect("ran").success().contains("mounted"), "type=registry keeps no name");
}

#[test]
fn by_digest_there_is_no_tag() {
    let Some(stage) = stage() else { return };
    let context = stage.context("FROM busybox\nCOPY a /a\n");
    let name = stage.proxy.name("untagged");
    let output = format!("type=image,name={name},push-by-digest=true,name-canonical=true,push=true");
    let id = stage.host.dir().join("metadata").display().to_string();
    stage.host.run(["build", "--metadata-file", &id, "-o", &output, &context]).expect("ran").success();
    let told: serde_json::Value = serde_json::from_slice(&fs::read(&id).expect("read")).expect("JSON");
    let digest = told["containerimage.digest"].as_str().expect("a digest").to_owned();
    assert_eq!(stage.valid(&format!("{name}@{digest}")), digest);
    let put = |line: &&String| line.starts_with("PUT") && line.contains("/manifests/");
    let asked = stage.proxy.take();
    let manifests: Vec<_> = asked.iter().filter(put).collect();
    assert_eq!(manifests, [&format!("PUT /v2/untagged/manifests/{digest}")], "no tag");
    assert!(stage.host.run(["images"]).expect("ran").success().contains(&format!("{name}@{digest}")));
    for (arguments, wanted) in [
        (vec!["-t", &format!("{name}:1"), "-o", "type=registry,push-by-digest=true"], "has no tag"),
        (vec!["--push"], "no name to push it under"),
        (vec!["-o", "type=image,store=false"], "nothing would be left"),
    ] {
        let ran = stage.host.run(["build", &context].iter().chain(&arguments)).expect("ran");
        assert!(ran.stderr.contains(wanted), "{wanted}: {}", ran.stderr);
        ran.failure(2);
    }
}

#[test]
fn an_index_is_pushed_with_all_its_platforms_pulled_and_pushed_on() {
    let Some(stage) = stage() else { return };
    let context = stage.context("FROM busybox\nCOPY a /a\n");
    let to = stage.proxy.name("multi:1");
    stage
        .host
        .run(["build", "--platform", "linux/amd64,linux/arm64", "-o", &format!("type=registry,name={to}"), &context])
        .expect("ran")
        .success();
    let digest = stage.valid(&to);
    for platform in ["linux/amd64", "linux/arm64"] {
        let config = tool("crane", &["config", "--platform", platform, &to]);
        assert!(config.contains(&format!("\"architecture\":\"{}\"", &platform[6..])), "{config}");
    }

    let other = host_of(&stage.proxy);
    let pulled = other.run(["pull", "--all-platforms", &to]).expect("ran").success();
    assert_eq!(pulled.trim(), format!("{to}@{digest}"));
    let copy = stage.proxy.name("copy/of/multi:2");
    let pushed = other.run(["push", &to, &copy]).expect("ran").success();
    assert_eq!(pulled.trim().split_once('@').expect("digest").1, pushed.trim().split_once('@').expect("digest").1);
    assert_eq!(stage.valid(&copy), digest);

    // One platform, under another name, usable without the registry.
    let one = host_of(&stage.proxy);
    one.run(["pull", "--platform", "linux/amd64", &to]).expect("ran").success();
    assert!(one.run(["tag", &to, "mine:1", "mine:2"]).expect("ran").success().contains("docker.io/library/mine:2"));
    one.run(["rmi", &to]).expect("ran").success();
    stage.proxy.answer(|_| Answer::error(500, "UNKNOWN", "gone"));
    one.write("ctx/Dockerfile", "FROM mine:2\nRUN cat /a\n").expect("written");
    one.run(["build", &one.work().join("ctx").display().to_string()]).expect("ran").success();
    let text = one.run(["push", "nothing:1"]).expect("ran").failure(2);
    assert!(text.contains("there is no image `nothing:1`"), "{text}");
}

#[test]
fn a_large_layer_survives_a_registry_that_stumbles() {
    let Some(stage) = stage() else { return };
    let context = stage.context("FROM scratch\nCOPY big /\n");
    stage.host.write("ctx/big", noise(1, 10 << 20)).expect("written");
    let stumbled = std::sync::atomic::AtomicUsize::new(0);
    stage.proxy.answer(move |asked: &Asked| {
        let part = asked.method == "PATCH";
        match part.then(|| stumbled.fetch_add(1, std::sync::atomic::Ordering::SeqCst)) {
            Some(1) => Answer::error(503, "UNAVAILABLE", "one moment"),
            // Taken, but nobody hears of it.
            Some(2) => Answer::Cut(0),
            _ => Answer::Forward,
        }
    });
    let to = stage.proxy.name("large:1");
    let ran = stage.host.run(["build", "--progress", "plain", "-t", &to, "--push", &context]).expect("ran");
    let log = ran.stderr.clone();
    ran.success();
    assert!(log.contains("pushing sha256:"), "{log}");
    stage.proxy.answer(|_| Answer::Forward);
    stage.valid(&to);
    assert!(stage.proxy.take().iter().filter(|line| line.starts_with("PATCH")).count() >= 3);
}

#[test]
fn credentials_and_certificates_are_needed_and_used() {
    if !rhost_kit::have(&["docker-registry", "skopeo", "crane", "openssl"]) {
        return;
    }
    let host = TestHost::new().expect("a host");
    host.write("ctx/Dockerfile", "FROM scratch\nCOPY Dockerfile /\n").expect("written");
    let context = host.work().join("ctx").display().to_string();
    let push = |to: &str, more: &str| {
        host.run(["build", "-o", &format!("type=registry,name={to}{more}"), &context]).expect("ran")
    };
    let registry = Registry::start_with_login().expect("a registry");
    let to = registry.name("app:1");
    let text = push(&to, "").failure(5);
    assert!(text.contains("without credentials; log in first (`docker login`)"), "{text}");
    let wrong = registry.docker_config().replace("YnVpbGRlcjpsZXRtZWlu", "YnVpbGRlcjp3cm9uZw==");
    host.write_docker_config(&wrong).expect("written");
    let text = push(&to, "").failure(5);
    assert!(text.contains("with the credentials given") && !text.contains("wrong"), "{text}");
    host.write_docker_config(&registry.docker_config()).expect("written");
    push(&to, "").success();
    let credentials = format!("--creds={}:{}", LOGIN.0, LOGIN.1);
    tool("skopeo", &["inspect", "--tls-verify=false", &credentials, &format!("docker://{to}")]);

    let registry = Registry::start_with_tls().expect("a registry");
    let to = registry.name("app:1");
    let text = push(&to, "").failure(5);
    let certificate = format!("[registry.\"{}\"] ca = [", registry.address());
    assert!(text.contains("signed by an authority that is not known here") && text.contains(&certificate), "{text}");
    push(&to, ",registry.insecure=true").success();
    let ca = registry.certificate().display().to_string();
    host.write_config(&format!("[registry.\"{}\"]\nca = [{ca:?}]\n", registry.address())).expect("config");
    push(&to, "").success();
}

#[test]
fn load_keeps_the_image_beside_other_outputs() {
    let Some(stage) = stage() else { return };
    let context = stage.context("FROM busybox\nCOPY a /a\n");
    let tree = stage.host.dir().join("tree").display().to_string();
    stage.host.run(["build", "-t", "loaded:1", "--load", "-o", &tree, &context]).expect("ran").success();
    assert!(fs::read_to_string(format!("{tree}/a")).is_ok());
    assert!(stage.host.run(["images"]).expect("ran").success().contains("loaded:1"));
}
