//! Archives: OCI image layout as tar or directory, and docker-archive, which is the same tar with a `manifest.json`.
//!
//! Entries stand in byte order of their names with fixed modes and no times, so that equal images are equal files. Every
//! blob is hashed again on its way out: a damaged store does not become a damaged archive.
use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read, Write};
use std::path::Path;

use rhost_llb::{BlobDigest, Hasher};
use serde::Serialize;

use crate::assemble::Assembled;
use crate::blobs::{BlobSink, BlobSource, DirBlobs};
use crate::destination::write_file;
use crate::error::ExportError;
use crate::image_name::ImageName;
use crate::json;
use crate::manifest::{Descriptor, ImageIndex, media_type};

/// What `oci-layout` holds (OCI image-spec, image-layout.md).
pub(crate) const LAYOUT: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;

/// Writes `image` as an OCI layout in a tar. `index.json` names it once for each of `names`.
pub fn write_oci_tar(
    image: &Assembled,
    names: &[ImageName],
    blobs: &dyn BlobSource,
    out: &mut dyn Write,
) -> Result<(), ExportError> {
    write_tar(image, &layout_index(image, names), None, blobs, out)
}

/// Writes `image` as `docker load` and `podman load` want it: an OCI layout in a tar, with `manifest.json` beside.
///
/// # Errors
/// More than one platform.
pub fn write_docker_tar(
    image: &Assembled,
    names: &[ImageName],
    blobs: &dyn BlobSource,
    out: &mut dyn Write,
) -> Result<(), ExportError> {
    #[derive(Serialize)]
    #[serde(rename_all = "PascalCase")]
    struct Entry {
        config: String,
        repo_tags: Option<Vec<String>>,
        layers: Vec<String>,
    }
    let [manifest] = &image.manifests[..] else {
        return Err(ExportError::DockerMultiPlatform { found: image.manifests.len() });
    };
    let path = |descriptor: &Descriptor| format!("blobs/sha256/{}", descriptor.digest.0.hex());
    let entry = Entry {
        config: path(&manifest.config),
        repo_tags: (!names.is_empty()).then(|| names.iter().map(ImageName::familiar).collect()),
        layers: manifest.layers.iter().map(path).collect(),
    };
    let manifest = json::compact(&[entry]).expect("strings are JSON");
    write_tar(image, &layout_index(image, names), Some(&manifest), blobs, out)
}

/// Writes `image` as an OCI layout to the directory `dest`, which is made when missing. Of a layout that is there
/// already, other images stay; entries of `index.json` with one of `names` (without names: all) are replaced.
pub fn write_oci_dir(
    image: &Assembled,
    names: &[ImageName],
    blobs: &dyn BlobSource,
    dest: &Path,
) -> Result<(), ExportError> {
    fs::create_dir_all(dest).map_err(ExportError::path("creating", dest))?;
    let layout = dest.join("oci-layout");
    if !layout.exists() {
        let mut entries = fs::read_dir(dest).map_err(ExportError::path("reading", dest))?;
        // `blobs` alone is what an interrupted export leaves.
        if entries.any(|entry| entry.is_ok_and(|entry| entry.file_name() != "blobs")) {
            let (found, wanted) = ("a directory with other files", "an OCI image layout");
            return Err(ExportError::InTheWay { path: dest.to_owned(), found, wanted });
        }
    }
    let sink = DirBlobs::open(dest).map_err(ExportError::path("creating", dest))?;
    for (&digest, &size) in &image.blobs {
        // What an earlier export wrote stays, if it is whole.
        let known = copy_blob(&sink, digest, size, &mut io::sink(), ExportError::Output);
        if known.is_ok() {
            continue;
        }
        let write_error = |source| ExportError::WriteBlob { digest, source };
        let mut blob = sink.create().map_err(write_error)?;
        copy_blob(blobs, digest, size, &mut *blob, write_error)?;
        blob.commit(digest, size).map_err(write_error)?;
    }
    // The index last: it must name nothing that is not there.
    let index = merged_index(&dest.join("index.json"), layout_index(image, names))?;
    write_file(&layout, LAYOUT)?;
    write_file(&dest.join("index.json"), &json::compact(&index).expect("a value is JSON"))
}

/// The layout's `index.json`: one descriptor for each name, annotated as containerd and skopeo look for it.
fn layout_index(image: &Assembled, names: &[ImageName]) -> ImageIndex {
    let named = names.iter().map(|name| {
        let mut descriptor = image.descriptor.clone();
        descriptor.annotations.insert("io.containerd.image.name".to_owned(), name.to_string());
        descriptor.annotations.insert("org.opencontainers.image.ref.name".to_owned(), name.tag().to_owned());
        descriptor
    });
    let mut manifests: Vec<Descriptor> = named.collect();
    if manifests.is_empty() {
        manifests.push(image.descriptor.clone());
    }
    let media_type = media_type::OCI_INDEX.to_owned();
    ImageIndex { schema_version: 2, media_type, manifests, annotations: BTreeMap::new() }
}

/// `new`, after the entries of the index at `path` that are not replaced by it.
fn merged_index(path: &Path, new: ImageIndex) -> Result<serde_json::Value, ExportError> {
    let mut value = serde_json::to_value(&new).expect("an index is JSON");
    let old = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(value),
        Err(error) => return Err(ExportError::path("reading", path)(error)),
    };
    let old: serde_json::Value =
        serde_json::from_slice(&old).map_err(|e| ExportError::path("reading", path)(e.into()))?;
    let name_of = |entry: &serde_json::Value| {
        let name = &entry["annotations"]["io.containerd.image.name"];
        name.as_str().map(ToOwned::to_owned)
    };
    let (Some(kept), Some(added)) = (old["manifests"].as_array(), value["manifests"].as_array_mut()) else {
        return Ok(value);
    };
    let new_names: Vec<_> = added.iter().map(name_of).collect();
    if new_names.iter().all(Option::is_some) {
        let kept: Vec<_> = kept.iter().filter(|entry| !new_names.contains(&name_of(entry))).cloned().collect();
        added.splice(0..0, kept);
    }
    Ok(value)
}

fn write_tar(
    image: &Assembled,
    index: &ImageIndex,
    manifest: Option<&[u8]>,
    blobs: &dyn BlobSource,
    out: &mut dyn Write,
) -> Result<(), ExportError> {
    let index = json::compact(index).expect("an index is JSON");
    entry(out, "blobs/", 0o755, 0)?;
    entry(out, "blobs/sha256/", 0o755, 0)?;
    for (&digest, &size) in &image.blobs {
        entry(out, &format!("blobs/sha256/{}", digest.0.hex()), 0o444, size)?;
        copy_blob(blobs, digest, size, out, ExportError::Output)?;
        pad(out, size)?;
    }
    let mut small = |name, mode, bytes: &[u8]| {
        entry(out, name, mode, bytes.len() as u64)?;
        out.write_all(bytes).map_err(ExportError::Output)?;
        pad(out, bytes.len() as u64)
    };
    small("index.json", 0o644, &index)?;
    if let Some(manifest) = manifest {
        small("manifest.json", 0o644, manifest)?;
    }
    small("oci-layout", 0o444, LAYOUT)?;
    out.write_all(&[0; 1024]).map_err(ExportError::Output)
}

pub(crate) fn entry(out: &mut dyn Write, name: &str, mode: u32, size: u64) -> Result<(), ExportError> {
    let mut header = tar::Header::new_ustar();
    header.set_path(name).map_err(ExportError::Output)?;
    header.set_entry_type(if name.ends_with('/') { tar::EntryType::Directory } else { tar::EntryType::Regular });
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    // Sizes of 8 GiB and more become binary, which every reader of docker archives knows.
    header.set_size(size);
    header.set_cksum();
    out.write_all(header.as_bytes()).map_err(ExportError::Output)
}

pub(crate) fn pad(out: &mut dyn Write, size: u64) -> Result<(), ExportError> {
    let rest = (512 - size % 512) % 512;
    out.write_all(&[0; 512][..rest as usize]).map_err(ExportError::Output)
}

/// Copies a blob and checks it on the way.
fn copy_blob(
    blobs: &dyn BlobSource,
    digest: BlobDigest,
    wanted: u64,
    out: &mut (impl Write + ?Sized),
    write_error: impl Fn(io::Error) -> ExportError,
) -> Result<(), ExportError> {
    let read_error = |source| ExportError::ReadBlob { digest, source };
    // One byte too many shows a blob that is too long.
    let mut reader = blobs.open(digest).map_err(read_error)?.take(wanted.saturating_add(1));
    let mut hasher = Hasher::new();
    let mut block = vec![0; 1 << 18];
    let mut found = 0;
    loop {
        let read = match reader.read(&mut block) {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(read_error(error)),
        };
        found += read as u64;
        if found > wanted {
            return Err(ExportError::BlobSize { digest, wanted, found });
        }
        hasher.update(&block[..read]);
        out.write_all(&block[..read]).map_err(&write_error)?;
    }
    if found != wanted {
        return Err(ExportError::BlobSize { digest, wanted, found });
    }
    let found = BlobDigest(hasher.finish());
    if found == digest { Ok(()) } else { Err(ExportError::BlobDigest { digest, found }) }
}
