//! A real registry: push, resolve, pull, mirrors, login.
use std::sync::Arc;

use rhost_kit::{LOGIN, Registry, busybox, have};
use rhost_llb::Platform;
use rhost_registry::{
    Client, Descriptor, DockerConfig, Error, HelperEnvironment, ImageSource as _, MemorySink, NoCredentials, Pushed,
    media_type, pull_blobs, resolve,
};

use crate::support::{Shelf, anonymous, client, layer, login, name, noise, sample};

fn ready() -> bool {
    have(&["docker-registry", "skopeo", "apt-get", "busybox"])
}

fn platform(text: &str) -> Platform {
    text.parse().unwrap()
}

async fn push(client: &Client, to: &str, architecture: &str, layers: &[bytes::Bytes]) -> Result<Descriptor, Error> {
    let image = sample(architecture, layers);
    let to = name(to);
    for blob in image.layers.iter().chain([&image.config]) {
        client.push_blob(&to, blob, &image.blobs, None).await?;
    }
    client.push_manifest(&to, media_type::OCI_MANIFEST, image.manifest).await
}

#[tokio::test]
async fn busybox_is_pulled() {
    if !ready() {
        return;
    }
    let registry = Registry::start().unwrap();
    let image = name(&registry.push(&busybox().unwrap(), "library/busybox:latest").unwrap());
    let client = anonymous();
    for wanted in ["linux/amd64", "linux/arm64", "linux/arm64/v8", "linux/amd64/v3"] {
        let found = resolve(&client, &image, &platform(wanted)).await.unwrap();
        assert_eq!(found.platform.architecture, platform(wanted).architecture);
        assert_eq!(found.root.descriptor, client.head(&image).await.unwrap());
        assert!(found.root.descriptor.is_index());
        let shelf = Shelf::default();
        let pulled = pull_blobs(&client, &image, &found.layers, &shelf, 4).await.unwrap();
        assert_eq!((pulled.fetched, pulled.present), (1, 0));
        assert_eq!(pulled.bytes, found.layers[0].size);
        let again = pull_blobs(&client, &image, &found.layers, &shelf, 4).await.unwrap();
        assert_eq!((again.fetched, again.present), (0, 1));
        let pinned = image.with_digest(found.root.descriptor.digest);
        assert_eq!(resolve(&client, &pinned, &platform(wanted)).await.unwrap().manifest, found.manifest);
    }
    match resolve(&client, &image, &platform("linux/riscv64")).await.unwrap_err() {
        error @ Error::NoPlatform { .. } => {
            assert!(error.to_string().ends_with("available: linux/amd64, linux/arm64"), "{error}");
        }
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn many_layers_in_parallel() {
    if !ready() {
        return;
    }
    let registry = Registry::start().unwrap();
    let layers: Vec<_> = (0..20).map(|i| noise(1000 * i + 1)).collect();
    let client = anonymous();
    let to = registry.name("many:1");
    push(&client, &to, "amd64", &layers).await.unwrap();
    let found = resolve(&client, &name(&to), &platform("linux/amd64")).await.unwrap();
    let shelf = Shelf::default();
    // Named twice, fetched once.
    let twice: Vec<_> = found.layers.iter().chain(&found.layers).cloned().collect();
    assert_eq!(pull_blobs(&client, &name(&to), &twice, &shelf, 5).await.unwrap().fetched, 20);
    assert!(layers.iter().all(|bytes| shelf.0.lock().unwrap().values().any(|have| have == bytes)));
}

#[tokio::test]
async fn large_blobs_go_in_chunks_and_are_mounted() {
    if !ready() {
        return;
    }
    let registry = Registry::start().unwrap();
    let client = anonymous();
    let (a, b) = (name(&registry.name("a/big:1")), name(&registry.name("b/big:1")));
    for length in [0, 1, (4 << 20) - (64 << 10), (4 << 20) - (64 << 10) + 1, 10_000_000] {
        let image = sample("amd64", &[noise(length)]);
        let blob = &image.layers[0];
        assert!(!client.has_blob(&a, &blob.digest).await.unwrap());
        assert_eq!(client.push_blob(&a, blob, &image.blobs, None).await.unwrap(), Pushed::Uploaded, "{length}");
        assert_eq!(client.push_blob(&a, blob, &image.blobs, None).await.unwrap(), Pushed::Present);
        assert_eq!(client.push_blob(&b, blob, &image.blobs, Some(&a)).await.unwrap(), Pushed::Mounted);
        let mut sink = MemorySink::new(1 << 24);
        client.blob(&b, blob, &mut sink).await.unwrap();
        assert_eq!(sink.into_bytes().len(), length);
    }
}

#[tokio::test]
async fn a_blob_that_is_not_what_it_says_is_refused() {
    if !ready() {
        return;
    }
    let registry = Registry::start().unwrap();
    let blob = layer(b"true");
    let source = std::collections::HashMap::from([(blob.digest, bytes::Bytes::from_static(b"fals"))]);
    let error = anonymous().push_blob(&name(&registry.name("a:1")), &blob, &source, None).await.unwrap_err();
    assert!(matches!(error, Error::Refused { status: 400, .. }), "{error}");
    let short = std::collections::HashMap::from([(blob.digest, bytes::Bytes::from_static(b"tr"))]);
    let error = anonymous().push_blob(&name(&registry.name("a:1")), &blob, &short, None).await.unwrap_err();
    assert!(matches!(error, Error::Local { action: "read", .. }), "{error}");
}

#[tokio::test]
async fn skopeo_reads_what_was_pushed() {
    if !ready() {
        return;
    }
    let registry = Registry::start().unwrap();
    let to = registry.name("ours:1");
    let pushed = push(&anonymous(), &to, "arm64", &[noise(5)]).await.unwrap();
    let out = std::process::Command::new("skopeo")
        .args(["inspect", "--tls-verify=false", &format!("docker://{to}")])
        .output()
        .unwrap();
    let text = String::from_utf8(out.stdout).unwrap();
    assert!(text.contains(&pushed.digest.to_string()) && text.contains("\"arm64\""), "{text}");
    // A single manifest is taken whatever its platform is.
    let found = resolve(&anonymous(), &name(&to), &platform("linux/amd64")).await.unwrap();
    assert_eq!(found.platform, platform("linux/arm64"));
    assert_eq!(found.root, found.manifest);
}

#[tokio::test]
async fn absent_things_are_not_found() {
    if !ready() {
        return;
    }
    let registry = Registry::start().unwrap();
    let client = anonymous();
    for text in ["nothing", "nothing:1"] {
        let image = name(&registry.name(text));
        let error = client.manifest(&image).await.unwrap_err();
        assert!(matches!(error, Error::NotFound { .. }) && error.to_string().contains("nothing"), "{error}");
        assert!(matches!(client.head(&image).await, Err(Error::NotFound { .. })));
        let mut sink = MemorySink::new(1);
        assert!(matches!(client.blob(&image, &layer(b"x"), &mut sink).await, Err(Error::NotFound { .. })));
    }
}

#[tokio::test]
async fn a_login_is_wanted() {
    if !ready() {
        return;
    }
    let registry = Registry::start_with_login().unwrap();
    let to = registry.name("private/app:1");
    let wrong = client("", login(registry.address(), LOGIN.0, "wrong"));
    for (client, sent) in [(anonymous(), false), (wrong, true)] {
        match client.manifest(&name(&to)).await.unwrap_err() {
            Error::Unauthorised { authenticated, .. } => assert_eq!(authenticated, sent),
            other => panic!("{other}"),
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("config.json");
    std::fs::write(&file, registry.docker_config()).unwrap();
    let client = client("", Arc::new(DockerConfig::new(vec![file], HelperEnvironment::default())));
    push(&client, &to, "amd64", &[noise(10), noise(5_000_000)]).await.unwrap();
    let found = resolve(&client, &name(&to), &platform("linux/amd64")).await.unwrap();
    pull_blobs(&client, &name(&to), &found.layers, &Shelf::default(), 2).await.unwrap();
}

#[tokio::test]
async fn docker_io_through_a_mirror() {
    if !ready() {
        return;
    }
    let registry = Registry::start().unwrap();
    registry.push(&busybox().unwrap(), "library/busybox:latest").unwrap();
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let toml = format!("[registry.\"docker.io\"]\nmirrors = [\"{free}\", \"{}\"]", registry.address());
    let client = client(&toml, Arc::new(NoCredentials));
    let found = resolve(&client, &name("busybox"), &platform("linux/amd64")).await.unwrap();
    pull_blobs(&client, &name("busybox"), &found.layers, &Shelf::default(), 2).await.unwrap();
}

#[tokio::test]
async fn a_damaged_registry_is_noticed() {
    if !ready() {
        return;
    }
    let registry = Registry::start().unwrap();
    let (to, bytes) = (registry.name("a:1"), noise(10_000));
    push(&anonymous(), &to, "amd64", std::slice::from_ref(&bytes)).await.unwrap();
    let file = registry.blob_path(&layer(&bytes).digest.to_string());
    let fetch = async || anonymous().blob(&name(&to), &layer(&bytes), &mut MemorySink::new(1 << 20)).await;
    std::fs::write(&file, vec![1; 10_000]).unwrap();
    assert!(matches!(fetch().await, Err(Error::DigestMismatch { .. })));
    std::fs::write(&file, &bytes[..9000]).unwrap();
    let error = fetch().await.unwrap_err();
    assert!(matches!(error, Error::Truncated { got: 9000, .. }), "{error}");
}

#[tokio::test]
async fn plain_http_only_where_allowed() {
    if !ready() {
        return;
    }
    let registry = Registry::start().unwrap();
    let toml = format!("[registry.\"{}\"]\nhttp = false", registry.address());
    let error = client(&toml, Arc::new(NoCredentials)).manifest(&name(&registry.name("a"))).await.unwrap_err();
    assert!(matches!(error, Error::Unreachable { .. }), "{error}");
}

#[tokio::test]
async fn a_wrong_certificate_file_is_told() {
    let client = client("[registry.\"r.example\"]\nca = [\"/nonexistent.pem\"]", Arc::new(NoCredentials));
    let error = client.manifest(&name("r.example/a")).await.unwrap_err();
    assert!(matches!(error, Error::Config(_)) && error.to_string().contains("/nonexistent.pem"), "{error}");
}

#[tokio::test]
async fn https_is_checked() {
    if !have(&["docker-registry", "openssl"]) {
        return;
    }
    let registry = Registry::start_with_tls().unwrap();
    let table = |line: &str| format!("[registry.\"{}\"]\n{line}", registry.address());
    let trusted = client(&table(&format!("ca = [{:?}]", registry.certificate())), Arc::new(NoCredentials));
    let to = registry.name("a:1");
    push(&trusted, &to, "amd64", &[noise(10), noise(9_000_000)]).await.unwrap();
    let insecure = client(&table("insecure = true"), Arc::new(NoCredentials));
    for client in [&trusted, &insecure] {
        let found = resolve(client, &name(&to), &platform("linux/amd64")).await.unwrap();
        pull_blobs(client, &name(&to), &found.layers, &Shelf::default(), 2).await.unwrap();
    }
    for untrusting in [String::new(), table("http = false")] {
        let error = client(&untrusting, Arc::new(NoCredentials)).manifest(&name(&to)).await.unwrap_err();
        assert!(matches!(error, Error::Unreachable { .. }), "{error}");
        assert!(error.to_string().contains("certificate"), "{error}");
    }
}
