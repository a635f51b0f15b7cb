//! Writes OCI layouts: the smallest code that makes an image of some root file systems, independent of what is tested.
use std::fs;
use std::io::Read as _;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

/// One platform of an image to write.
pub struct Platform<'a> {
    /// `amd64`, `arm64`, …
    pub architecture: &'a str,
    /// `v7`, …; empty where the architecture has none.
    pub variant: &'a str,
    /// Its root file system, an uncompressed tar.
    pub tar: &'a Path,
    /// `config` of the image config: Env, Cmd, ….
    pub config: Value,
}

/// Writes an OCI layout to the empty directory `to`: under tag `tag` an index of all `platforms`, each one gzip layer.
///
/// # Errors
/// Those of the disk and of `gzip`.
pub fn write_layout(to: &Path, tag: &str, platforms: &[Platform<'_>]) -> Result<()> {
    fs::create_dir_all(to.join("blobs/sha256"))?;
    fs::write(to.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#)?;
    let mut manifests = Vec::new();
    for platform in platforms {
        let diff_id = hash_file(platform.tar)?.0;
        let packed = to.join("layer.tar.gz");
        let status = std::process::Command::new("gzip")
            .args(["-n", "-6", "-c"])
            .stdin(fs::File::open(platform.tar)?)
            .stdout(fs::File::create(&packed)?)
            .status()
            .context("running gzip")?;
        ensure!(status.success(), "gzip: {status}");
        let (hex, size) = hash_file(&packed)?;
        fs::rename(&packed, to.join("blobs/sha256").join(&hex))?;
        let layer = json!({"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "digest": format!("sha256:{hex}"), "size": size});
        let mut config = json!({
            "created": "2025-01-01T00:00:00Z",
            "architecture": platform.architecture,
            "os": "linux",
            "config": platform.config,
            "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{diff_id}")]},
            "history": [{"created": "2025-01-01T00:00:00Z", "created_by": "rhost test kit"}],
        });
        if !platform.variant.is_empty() {
            config["variant"] = json!(platform.variant);
        }
        let config = write_blob(to, "application/vnd.oci.image.config.v1+json", &config)?;
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": config,
            "layers": [layer],
        });
        let mut manifest = write_blob(to, "application/vnd.oci.image.manifest.v1+json", &manifest)?;
        manifest["platform"] = json!({"architecture": platform.architecture, "os": "linux"});
        if !platform.variant.is_empty() {
            manifest["platform"]["variant"] = json!(platform.variant);
        }
        manifests.push(manifest);
    }
    let index =
        json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": manifests});
    let mut index = write_blob(to, "application/vnd.oci.image.index.v1+json", &index)?;
    index["annotations"] = json!({"org.opencontainers.image.ref.name": tag});
    fs::write(to.join("index.json"), json!({"schemaVersion": 2, "manifests": [index]}).to_string())?;
    Ok(())
}

fn write_blob(to: &Path, media_type: &str, value: &Value) -> Result<Value> {
    let bytes = value.to_string();
    let hex = hex::encode(Sha256::digest(&bytes));
    fs::write(to.join("blobs/sha256").join(&hex), &bytes)?;
    Ok(json!({"mediaType": media_type, "digest": format!("sha256:{hex}"), "size": bytes.len()}))
}

/// Hex SHA-256 and length of a file.
fn hash_file(path: &Path) -> Result<(String, u64)> {
    let mut file = fs::File::open(path).with_context(|| format!("opening `{}`", path.display()))?;
    let (mut hasher, mut size, mut buffer) = (Sha256::new(), 0, vec![0; 1 << 20]);
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok((hex::encode(hasher.finalize()), size)),
            n => {
                hasher.update(&buffer[..n]);
                size += n as u64;
            }
        }
    }
}
