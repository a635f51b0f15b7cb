//! Archives, as other people's tools and docker's loader see them.
use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::Path;

use rhost_export::{
    AssembleOptions, Compression, ExportError, ImageName, MediaTypes, MemoryBlobs, write_docker_tar, write_oci_dir,
    write_oci_tar,
};
use rhost_llb::Digest;
use serde_json::Value;

use crate::kit::{image, options, succeeded, tool};

fn names(names: &[&str]) -> Vec<ImageName> {
    names.iter().map(|name| name.parse().unwrap()).collect()
}

/// Name, mode, bytes of every entry, in order.
fn entries(archive: &[u8]) -> Vec<(String, u32, Vec<u8>)> {
    let mut reader = tar::Archive::new(archive);
    let entries = reader.entries().unwrap().map(|entry| {
        let mut entry = entry.unwrap();
        let name = entry.path().unwrap().to_string_lossy().into_owned();
        let mode = entry.header().mode().unwrap();
        assert_eq!((entry.header().mtime().unwrap(), entry.header().uid().unwrap()), (0, 0));
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).unwrap();
        (name, mode, bytes)
    });
    entries.collect()
}

fn check_layout(archive: &[u8]) -> BTreeMap<String, Vec<u8>> {
    let entries = entries(archive);
    let order: Vec<_> = entries.iter().map(|(name, ..)| name.clone()).collect();
    assert!(order.is_sorted(), "{order:?}");
    assert_eq!(order[..2], ["blobs/", "blobs/sha256/"]);
    for (name, mode, bytes) in &entries {
        if let Some(hex) = name.strip_prefix("blobs/sha256/").filter(|hex| !hex.is_empty()) {
            assert_eq!((Digest::of(bytes).hex().as_str(), *mode), (hex, 0o444));
        }
    }
    let files: BTreeMap<String, Vec<u8>> = entries.into_iter().map(|(name, _, bytes)| (name, bytes)).collect();
    assert_eq!(files["oci-layout"], br#"{"imageLayoutVersion":"1.0.0"}"#);
    files
}

#[test]
fn oci_tar_is_a_layout() {
    let (image, blobs) = image(&["amd64"], Compression::GZIP, &options());
    let mut archive = Vec::new();
    write_oci_tar(&image, &names(&["foo:x", "bar/b"]), &blobs, &mut archive).unwrap();
    assert_eq!(archive.len() % 512, 0);
    let files = check_layout(&archive);
    assert!(!files.contains_key("manifest.json"));
    let index: Value = serde_json::from_slice(&files["index.json"]).unwrap();
    let manifests = index["manifests"].as_array().unwrap();
    assert_eq!(manifests.len(), 2);
    assert_eq!(manifests[0]["annotations"]["io.containerd.image.name"], "docker.io/library/foo:x");
    assert_eq!(manifests[0]["annotations"]["org.opencontainers.image.ref.name"], "x");
    assert_eq!(manifests[1]["annotations"]["io.containerd.image.name"], "docker.io/bar/b:latest");
    assert_eq!(manifests[0]["digest"], manifests[1]["digest"]);
}

#[test]
fn equal_images_are_equal_archives() {
    let write = || {
        let (image, blobs) = image(&["amd64", "arm64"], Compression::ZSTD, &options());
        let mut archive = Vec::new();
        write_oci_tar(&image, &names(&["foo"]), &blobs, &mut archive).unwrap();
        archive
    };
    assert!(write() == write());
}

/// What `docker load` does before it unpacks: manifest.json names a config and as many layers as it has diff ids, each
/// there, each unpacking to its diff id.
#[test]
fn docker_archive_loads() {
    for (media_types, compression) in [
        (MediaTypes::Oci, Compression::GZIP),
        (MediaTypes::Docker, Compression::GZIP),
        (MediaTypes::Oci, Compression::None),
        (MediaTypes::Oci, Compression::ZSTD),
    ] {
        let (image, blobs) = image(&["amd64"], compression, &AssembleOptions { media_types, ..options() });
        let mut archive = Vec::new();
        write_docker_tar(&image, &names(&["foo:x", "127.0.0.1:5000/a/b"]), &blobs, &mut archive).unwrap();
        let files = check_layout(&archive);
        let manifest: Value = serde_json::from_slice(&files["manifest.json"]).unwrap();
        let [entry] = &manifest.as_array().unwrap()[..] else { panic!("one image: {manifest}") };
        assert_eq!(entry["RepoTags"], serde_json::json!(["foo:x", "127.0.0.1:5000/a/b:latest"]));
        let config: Value = serde_json::from_slice(&files[entry["Config"].as_str().unwrap()]).unwrap();
        let layers = entry["Layers"].as_array().unwrap();
        let diff_ids = config["rootfs"]["diff_ids"].as_array().unwrap();
        assert_eq!(layers.len(), diff_ids.len());
        for (layer, diff_id) in layers.iter().zip(diff_ids) {
            let bytes = &files[layer.as_str().unwrap()];
            let mut tar = Vec::new();
            match compression {
                Compression::None => tar.clone_from(bytes),
                Compression::Gzip { .. } => {
                    assert!(flate2::read::GzDecoder::new(&bytes[..]).read_to_end(&mut tar).is_ok())
                }
                Compression::Zstd { .. } => tar = zstd::decode_all(&bytes[..]).unwrap(),
            }
            assert_eq!(Digest::of(&tar).to_string(), diff_id.as_str().unwrap());
        }
    }
}

#[test]
fn a_docker_archive_without_name_has_null_tags() {
    let (image, blobs) = image(&["amd64"], Compression::GZIP, &options());
    let mut archive = Vec::new();
    write_docker_tar(&image, &[], &blobs, &mut archive).unwrap();
    let manifest: Value = serde_json::from_slice(&check_layout(&archive)["manifest.json"]).unwrap();
    assert_eq!(manifest[0]["RepoTags"], Value::Null);
}

#[test]
fn docker_refuses_several_platforms() {
    let (image, blobs) = image(&["amd64", "arm64"], Compression::GZIP, &options());
    let error = write_docker_tar(&image, &[], &blobs, &mut Vec::new()).unwrap_err();
    assert_eq!(error.to_string(), "the docker exporter writes one platform, but the build has 2; use type=oci");
}

#[test]
fn damaged_blobs_do_not_become_archives() {
    let (image, blobs) = image(&["amd64"], Compression::GZIP, &options());
    let write = |blobs: &MemoryBlobs| write_oci_tar(&image, &[], blobs, &mut Vec::new()).unwrap_err();
    assert!(matches!(write(&MemoryBlobs::new()), ExportError::ReadBlob { .. }));
    let layer = image.manifests[0].layers[0].digest;
    let replace = |bytes: Vec<u8>| {
        let damaged = Damaged { inner: &blobs, digest: layer, bytes };
        write_oci_tar(&image, &[], &damaged, &mut Vec::new()).unwrap_err()
    };
    let good = blobs.get(layer).unwrap();
    let mut flipped = good.to_vec();
    flipped[20] ^= 1;
    assert!(matches!(replace(flipped), ExportError::BlobDigest { .. }));
    assert!(matches!(replace(good[1..].to_vec()), ExportError::BlobSize { .. }));
    assert!(matches!(replace([&good[..], b"x"].concat()), ExportError::BlobSize { .. }));
}

struct Damaged<'a> {
    inner: &'a MemoryBlobs,
    digest: rhost_llb::BlobDigest,
    bytes: Vec<u8>,
}

impl rhost_export::BlobSource for Damaged<'_> {
    fn open(&self, digest: rhost_llb::BlobDigest) -> std::io::Result<Box<dyn Read + Send>> {
        if digest == self.digest {
            return Ok(Box::new(std::io::Cursor::new(self.bytes.clone())));
        }
        self.inner.open(digest)
    }
}

fn index_names(dest: &Path) -> Vec<String> {
    let index: Value = serde_json::from_slice(&fs::read(dest.join("index.json")).unwrap()).unwrap();
    let manifests = index["manifests"].as_array().unwrap().iter();
    manifests.map(|m| m["annotations"]["io.containerd.image.name"].as_str().unwrap_or("-").to_owned()).collect()
}

#[test]
fn a_layout_directory_gathers_images() {
    let folder = tempfile::tempdir().unwrap();
    let dest = folder.path().join("new").join("layout");
    let (first, first_blobs) = image(&["amd64"], Compression::GZIP, &options());
    let (second, second_blobs) = image(&["arm64"], Compression::GZIP, &options());
    write_oci_dir(&first, &names(&["foo"]), &first_blobs, &dest).unwrap();
    write_oci_dir(&second, &names(&["bar"]), &second_blobs, &dest).unwrap();
    assert_eq!(index_names(&dest), ["docker.io/library/foo:latest", "docker.io/library/bar:latest"]);
    write_oci_dir(&second, &names(&["foo"]), &second_blobs, &dest).unwrap();
    assert_eq!(index_names(&dest), ["docker.io/library/bar:latest", "docker.io/library/foo:latest"]);
    // A blob that was damaged meanwhile is written anew.
    let layer = dest.join("blobs/sha256").join(first.manifests[0].layers[0].digest.0.hex());
    let good = fs::read(&layer).unwrap();
    fs::write(&layer, vec![0; good.len()]).unwrap();
    write_oci_dir(&first, &[], &first_blobs, &dest).unwrap();
    assert!(fs::read(&layer).unwrap() == good);
    assert_eq!(index_names(&dest), ["-"]);
    let partial = fs::read_dir(dest.join("blobs/sha256")).unwrap().any(|e| e.unwrap().file_name().len() != 64);
    assert!(!partial);
}

#[test]
fn a_layout_is_not_written_among_other_files() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("thesis.tex"), "x").unwrap();
    let (image, blobs) = image(&["amd64"], Compression::GZIP, &options());
    let error = write_oci_dir(&image, &[], &blobs, folder.path()).unwrap_err();
    assert!(matches!(error, ExportError::InTheWay { .. }));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn skopeo_reads_what_we_write() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let (one, blobs) = image(&["amd64"], Compression::GZIP, &options());
    for (file, scheme) in [("oci.tar", "oci-archive"), ("docker.tar", "docker-archive")] {
        let mut archive = Vec::new();
        match scheme {
            "oci-archive" => write_oci_tar(&one, &names(&["foo:x"]), &blobs, &mut archive).unwrap(),
            _ => write_docker_tar(&one, &names(&["foo:x"]), &blobs, &mut archive).unwrap(),
        }
        fs::write(path(file), archive).unwrap();
        let Some(output) = tool("skopeo", &["inspect", &format!("{scheme}:{}", path(file))]) else { return };
        let answer: Value = serde_json::from_str(&succeeded(&output)).unwrap();
        assert_eq!(answer["Architecture"], "amd64", "{scheme}");
        assert_eq!(answer["Layers"].as_array().unwrap().len(), 1);
    }
    let (many, blobs) = image(&["amd64", "arm64"], Compression::ZSTD, &options());
    write_oci_dir(&many, &names(&["foo:y"]), &blobs, &folder.path().join("layout")).unwrap();
    let source = format!("oci:{}:y", path("layout"));
    for architecture in ["amd64", "arm64"] {
        let arguments = ["--override-arch", architecture, "--override-os", "linux", "inspect", &source];
        let Some(output) = tool("skopeo", &arguments) else { return };
        let answer: Value = serde_json::from_str(&succeeded(&output)).unwrap();
        assert_eq!(answer["Architecture"], architecture);
    }
    let copy = ["copy", "--insecure-policy", "--all", &source, &format!("oci:{}:y", path("copy"))];
    let Some(output) = tool("skopeo", &copy) else { return };
    succeeded(&output);
}

#[test]
fn umoci_unpacks_what_we_write() {
    let folder = tempfile::tempdir().unwrap();
    let (image, blobs) = image(&["amd64"], Compression::GZIP, &options());
    let layout = folder.path().join("layout");
    write_oci_dir(&image, &names(&["foo:x"]), &blobs, &layout).unwrap();
    let bundle = folder.path().join("bundle").display().to_string();
    let source = format!("{}:x", layout.display());
    let Some(output) = tool("umoci", &["unpack", "--rootless", "--image", &source, &bundle]) else { return };
    succeeded(&output);
    assert_eq!(fs::read(Path::new(&bundle).join("rootfs/a")).unwrap(), b"hello");
}
