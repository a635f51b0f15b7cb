//! What goes wrong between a build and its registries: each a message with place and way out, the documented exit code, and a store
//! that the next build can use.
use rhost_kit::{Answer, Asked, Proxy, Registry, TestHost, busybox};

/// A registry that can misbehave, and a build from an image of it.
struct Stage {
    host: TestHost,
    registry: Registry,
    proxy: Proxy,
}

fn stage() -> Option<Stage> {
    if !rhost_kit::have(&["docker-registry", "skopeo"]) {
        return None;
    }
    let registry = Registry::start().expect("a registry");
    registry.push(&busybox().expect("busybox"), "base:1").expect("pushed");
    let proxy = Proxy::start(registry.address()).expect("a proxy");
    Some(Stage { host: TestHost::new().expect("a host"), registry, proxy })
}

impl Stage {
    fn build(&self, image: &str, more: &[&str]) -> rhost_kit::Ran {
        self.host.write("ctx/Dockerfile", format!("# base\nFROM {image}\nRUN true\n")).expect("written");
        let context = self.host.work().join("ctx").display().to_string();
        self.host.run(["build", &context].iter().chain(more)).expect("ran")
    }

    /// Builds from `base:1`, which fails with `code` and tells of `wanted` and of line 2; then from the same base as it should be.
    fn fails(&self, rule: impl Fn(&Asked) -> Answer + Send + Sync + 'static, code: i32, wanted: &[&str]) {
        let image = self.proxy.name("base:1");
        self.proxy.answer(rule);
        let text = self.build(&image, &["--progress", "plain"]).failure(code);
        for part in wanted.iter().chain(&["Dockerfile:2", ">>> FROM"]) {
            assert!(text.contains(part), "wanted `{part}` in {text}");
        }
        self.proxy.answer(|_| Answer::Forward);
        self.build(&image, &[]).success();
    }
}

fn get(asked: &Asked, part: &str) -> bool {
    asked.method == "GET" && asked.path.contains(part)
}

/// The largest blob that is asked for is the layer: the others are a few hundred bytes.
fn is_layer(registry: &Registry, asked: &Asked) -> bool {
    let digest = asked.path.rsplit('/').next().unwrap_or_default();
    get(asked, "/blobs/sha256:")
        && std::fs::metadata(registry.blob_path(digest)).is_ok_and(|found| found.len() > 10_000)
}

#[test]
fn a_registry_that_is_not_there() {
    let Some(stage) = stage() else { return };
    let text = stage.build("127.0.0.1:1/app:1", &[]).failure(5);
    for part in ["cannot reach registry `127.0.0.1:1`", "refused", "Dockerfile:2", ">>> FROM 127.0.0.1:1/app:1"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    stage.build(&stage.proxy.name("base:1"), &[]).success();
}

#[test]
fn an_image_that_is_not_there_or_not_for_the_platform() {
    let Some(stage) = stage() else { return };
    for absent in ["base:2", "absent:1"] {
        let image = stage.proxy.name(absent);
        let text = stage.build(&image, &[]).failure(3);
        for part in [&format!("`{image}` was not found"), "check name and tag", "docker login", "Dockerfile:2"] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }
    let text = stage.build(&stage.proxy.name("base:1"), &["--platform", "linux/s390x"]).failure(3);
    for part in ["has no manifest for `linux/s390x`; available: linux/amd64, linux/arm64", "--platform", "Dockerfile:2"]
    {
        assert!(text.contains(part), "{part}: {text}");
    }
    stage.build(&stage.proxy.name("base:1"), &[]).success();
}

#[test]
fn a_registry_that_wants_to_know_who_asks() {
    let Some(stage) = stage() else { return };
    stage.fails(
        |_| {
            Answer::error(401, "UNAUTHORIZED", "authentication required")
                .header("www-authenticate", "Basic realm=\"x\"")
        },
        5,
        &["refuses access to", "without credentials; log in first (`docker login`)"],
    );
    let Some(stage) = self::stage() else { return };
    stage.fails(
        |_| Answer::error(403, "DENIED", "this is not for you"),
        5,
        &["refuses access to", "this is not for you"],
    );
    let locked = Registry::start_with_login().expect("a registry");
    locked.push(&busybox().expect("busybox"), "base:1").expect("pushed");
    let image = locked.name("base:1");
    assert!(stage.build(&image, &[]).failure(5).contains("docker login"));
    stage.host.write_docker_config(&locked.docker_config()).expect("written");
    stage.build(&image, &[]).success();
}

#[test]
fn bytes_that_are_not_the_ones_that_were_named() {
    let Some(stage) = stage() else { return };
    stage.fails(
        |asked| if get(asked, "/manifests/") { Answer::Spoil } else { Answer::Forward },
        5,
        &["was changed or damaged on its way"],
    );
    for (bent, wanted) in [
        (Answer::Spoil, "was changed or damaged on its way"),
        (Answer::Short(1000), "the registry holds or sends only a part of it"),
        (Answer::Cut(0), "cannot reach registry"),
    ] {
        let Some(stage) = self::stage() else { return };
        let Stage { host, registry, proxy } = stage;
        let registry = std::sync::Arc::new(registry);
        let held = registry.clone();
        let image = proxy.name("base:1");
        proxy.answer(move |asked| if is_layer(&held, asked) { bent.clone() } else { Answer::Forward });
        host.write("ctx/Dockerfile", format!("# base\nFROM {image}\nRUN true\n")).expect("written");
        let context = host.work().join("ctx").display().to_string();
        let text = host.run(["build", &context]).expect("ran").failure(5);
        assert!(text.contains(wanted), "wanted `{wanted}` in {text}");
        proxy.answer(|_| Answer::Forward);
        host.run(["build", &context]).expect("ran").success();
        drop((proxy, registry));
    }
}

/// Rate limits count manifests, and air gaps count everything: what came by digest is not asked for again.
#[test]
fn a_build_that_was_made_asks_only_what_the_tag_stands_for() {
    let Some(stage) = stage() else { return };
    let image = stage.proxy.name("base:1");
    stage.build(&image, &[]).success();
    stage.proxy.take();
    for more in [&[][..], &["--build-arg", "OTHER=1"], &["--no-cache"]] {
        stage.build(&image, more).success();
        assert_eq!(stage.proxy.take(), ["HEAD /v2/base/manifests/1"], "{more:?}");
    }
}

#[test]
fn a_registry_that_was_asked_too_often() {
    let Some(stage) = stage() else { return };
    let start = std::time::Instant::now();
    let busy = |wait: &'static str| {
        move |_: &Asked| Answer::error(429, "TOOMANYREQUESTS", "pull rate limit").header("retry-after", wait)
    };
    stage.fails(
        busy("3600"),
        5,
        &["limits how often it is asked", "it wants to be asked again in 3600 s", "docker login", "mirror"],
    );
    // A wait that can be borne is borne, and nothing fails.
    let first = std::sync::atomic::AtomicBool::new(true);
    stage.proxy.answer(move |asked| match first.swap(false, std::sync::atomic::Ordering::SeqCst) {
        true => busy("1")(asked),
        false => Answer::Forward,
    });
    let before = std::time::Instant::now();
    stage.build(&stage.proxy.name("base:1"), &["--pull"]).success();
    assert!(before.elapsed().as_secs() >= 1, "it came back too early");
    assert!(start.elapsed().as_secs() < 300, "3600 s are not waited for");
}

#[test]
fn a_certificate_of_an_unknown_authority() {
    let Some(stage) = stage() else { return };
    if !rhost_kit::have(&["openssl"]) {
        return;
    }
    let registry = Registry::start_with_tls().expect("a registry");
    let text = stage.build(&registry.name("base:1"), &[]).failure(5);
    let way_out = format!("[registry.\"{}\"] ca = [", registry.address());
    for part in ["UnknownIssuer", "signed by an authority that is not known here", &way_out, "Dockerfile:2"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let ca = registry.certificate().display().to_string();
    stage.host.write_config(&format!("[registry.\"{}\"]\nca = [{ca:?}]\n", registry.address())).expect("config");
    let text = stage.build(&registry.name("base:1"), &[]).failure(3);
    assert!(text.contains("was not found"), "it is reached now: {text}");
    stage.build(&stage.proxy.name("base:1"), &[]).success();
}
