//! OCI layout directories, real and broken.
use std::fs;
use std::path::Path;

use rhost_kit::{busybox, have};
use rhost_registry::{Error, ImageSource as _, MemorySink, OciLayout, pull_blobs, resolve};

use crate::support::{Shelf, layer, name};

#[tokio::test]
async fn busybox_is_read() {
    if !have(&["apt-get", "busybox"]) {
        return;
    }
    let layout = OciLayout::open(&busybox().unwrap().layout).await.unwrap();
    let digest = layout.entries()[0].digest;
    for text in ["any", "any:latest", &format!("any@{digest}")] {
        let found = resolve(&layout, &name(text), &"linux/arm64".parse().unwrap()).await.unwrap();
        assert_eq!((found.platform.architecture.as_str(), found.root.descriptor.digest), ("arm64", digest));
        let shelf = Shelf::default();
        pull_blobs(&layout, &name(text), &found.layers, &shelf, 2).await.unwrap();
        assert_eq!(shelf.0.lock().unwrap().values().map(|b| b.len() as u64).sum::<u64>(), found.layers[0].size);
    }
    assert!(matches!(layout.manifest(&name("any:other")).await, Err(Error::NotFound { .. })));
}

fn write(dir: &Path, index: &str) {
    fs::write(dir.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
    fs::write(dir.join("index.json"), index).unwrap();
    fs::create_dir_all(dir.join("blobs/sha256")).unwrap();
}

#[tokio::test]
async fn broken_layouts_are_told() {
    let dir = tempfile::tempdir().unwrap();
    let message = async || OciLayout::open(dir.path()).await.unwrap_err().to_string();
    assert!(message().await.contains("oci-layout"));
    write(dir.path(), "{");
    assert!(message().await.contains("index.json"));
    write(dir.path(), r#"{"manifests":[{"digest":"sha256:../../x","size":1}]}"#);
    assert!(message().await.contains("not a digest"));
    fs::write(dir.path().join("oci-layout"), r#"{"imageLayoutVersion":"2.0.0"}"#).unwrap();
    assert!(message().await.contains("2.0.0"));
    fs::remove_file(dir.path().join("oci-layout")).unwrap();
    fs::create_dir(dir.path().join("oci-layout")).unwrap();
    assert!(message().await.contains("not a regular file"));
}

#[tokio::test]
async fn blobs_are_checked() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), r#"{"manifests":[]}"#);
    let layout = OciLayout::open(dir.path()).await.unwrap();
    let blob = layer(b"twelve bytes");
    let file = dir.path().join("blobs/sha256").join(blob.digest.0.hex());
    let fetch = async || layout.blob(&name("a"), &blob, &mut MemorySink::new(100)).await;
    assert!(matches!(fetch().await, Err(Error::NotFound { .. })));
    fs::write(&file, "twelve bytes").unwrap();
    fetch().await.unwrap();
    fs::write(&file, "twelve bytez").unwrap();
    assert!(matches!(fetch().await, Err(Error::DigestMismatch { .. })));
    fs::write(&file, "twelve").unwrap();
    assert!(matches!(fetch().await, Err(Error::Truncated { got: 6, .. })));
    fs::write(&file, "twelve bytes and more").unwrap();
    assert!(matches!(fetch().await, Err(Error::TooLarge { .. })));
}
