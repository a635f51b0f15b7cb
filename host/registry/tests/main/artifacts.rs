//! CNCF Wasm OCI artifacts, and what is none.
use bytes::Bytes;
use rhost_kit::{Registry, have};
use rhost_registry::{Client, Descriptor, Error, media_type, pull_wasm};

use crate::support::{anonymous, name};

async fn push(client: &Client, to: &str, config_type: &str, layers: &[(&str, &[u8])]) {
    let to = name(to);
    let config = Bytes::from_static(br#"{"architecture":"wasm","os":"wasip2","layerDigests":[]}"#);
    let mut blobs = std::collections::HashMap::new();
    let described = Descriptor::of(config_type, &config);
    blobs.insert(described.digest, config);
    let mut list = Vec::new();
    for (kind, bytes) in layers {
        let layer = Descriptor::of(*kind, bytes);
        blobs.insert(layer.digest, Bytes::copy_from_slice(bytes));
        list.push(layer);
    }
    for blob in list.iter().chain([&described]) {
        client.push_blob(&to, blob, &blobs, None).await.unwrap();
    }
    let manifest = serde_json::json!({"schemaVersion": 2, "mediaType": media_type::OCI_MANIFEST, "config": described, "layers": list});
    client.push_manifest(&to, media_type::OCI_MANIFEST, manifest.to_string().into()).await.unwrap();
}

#[tokio::test]
async fn a_guest_is_pulled() {
    if !have(&["docker-registry"]) {
        return;
    }
    let registry = Registry::start().unwrap();
    let (client, to) = (anonymous(), registry.name("dsl:1"));
    push(&client, &to, media_type::WASM_CONFIG, &[(media_type::WASM, b"\0asm")]).await;
    let artifact = pull_wasm(&client, &name(&to), 100).await.unwrap();
    assert_eq!(&artifact.bytes[..], b"\0asm");
    assert_eq!(artifact.layer, Descriptor::of("", b"\0asm").digest);
    let pinned = name(&to).with_digest(artifact.manifest.digest);
    assert_eq!(pull_wasm(&client, &pinned, 100).await.unwrap().bytes, artifact.bytes);
    assert!(matches!(pull_wasm(&client, &name(&to), 3).await, Err(Error::TooLarge { limit: 3, .. })));
}

#[tokio::test]
async fn other_things_are_no_guests() {
    if !have(&["docker-registry"]) {
        return;
    }
    let registry = Registry::start().unwrap();
    let (client, to) = (anonymous(), registry.name("other:1"));
    let wasm = (media_type::WASM, &b"\0asm"[..]);
    for (config, layers, want) in [
        (media_type::OCI_CONFIG, vec![(media_type::OCI_LAYER, &b"x"[..])], "it is a container image (its config is `"),
        (media_type::WASM_CONFIG, vec![], "0 layers"),
        (media_type::WASM_CONFIG, vec![wasm, wasm], "2 layers"),
        (media_type::WASM_CONFIG, vec![(media_type::OCI_LAYER, &b"x"[..])], "its layer is"),
    ] {
        push(&client, &to, config, &layers).await;
        let error = pull_wasm(&client, &name(&to), 100).await.unwrap_err();
        assert!(matches!(error, Error::NotWasm { .. }) && error.to_string().contains(want), "{error}");
    }
}
