//! `ExportError`: why an image or a tree of files could not be written.
use std::io;
use std::path::PathBuf;

use rhost_llb::{BlobDigest, DiffId, Platform};

use crate::image_name::ImageNameError;

/// Why an export failed.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The stream of a layer's tar could not be read.
    #[error("reading the tar of layer {layer}: {source}")]
    ReadLayer { layer: usize, source: io::Error },
    /// A compressed layer could not be written.
    #[error("writing layer {layer}: {source}")]
    WriteLayer { layer: usize, source: io::Error },
    /// A compressor refused its input; this is a defect of rhost, not of the build.
    #[error("compressing layer {layer} as {kind}: {reason}")]
    Compress { layer: usize, kind: &'static str, reason: String },
    /// A layer that had to be recompressed does not hold what its diff id says.
    #[error("layer {digest} unpacks to {found}, but its image says {wanted}; pull or build that image again")]
    WrongDiffId { digest: BlobDigest, wanted: DiffId, found: DiffId },
    /// A blob could not be read.
    #[error("reading blob {digest}: {source}")]
    ReadBlob { digest: BlobDigest, source: io::Error },
    /// A blob is shorter or longer than its descriptor says.
    #[error("blob {digest} holds {found} bytes, but {wanted} were recorded; the store's copy is damaged")]
    BlobSize { digest: BlobDigest, wanted: u64, found: u64 },
    /// A blob's bytes do not hash to its name.
    #[error("blob {digest} holds bytes with digest {found}; the store's copy is damaged")]
    BlobDigest { digest: BlobDigest, found: BlobDigest },
    /// A blob could not be written.
    #[error("writing blob {digest}: {source}")]
    WriteBlob { digest: BlobDigest, source: io::Error },
    /// The export was cancelled.
    #[error("cancelled")]
    Cancelled,
    /// The image config of the frontend is no JSON object of the wanted shape.
    #[error("image config for {platform}: {reason}")]
    BadConfig { platform: Box<Platform>, reason: String },
    /// A time is no RFC 3339 time.
    #[error("image config for {platform}: `{field}` is `{text}`, wanted a time like 2024-01-31T12:00:00Z")]
    BadTime { platform: Box<Platform>, field: &'static str, text: String },
    /// SOURCE_DATE_EPOCH is outside the years that image formats can say.
    #[error("SOURCE_DATE_EPOCH {seconds} is not a time between the years 1 and 9999")]
    BadEpoch { seconds: i64 },
    /// Nothing to export.
    #[error("nothing to export: the build gave no result")]
    Empty,
    /// The docker archive has one image only.
    #[error("the docker exporter writes one platform, but the build has {found}; use type=oci")]
    DockerMultiPlatform { found: usize },
    /// An index annotation was asked of an image without index.
    #[error("annotation `{key}` is for the index, but an image of one platform has no index")]
    IndexAnnotation { key: String },
    /// An annotation names a platform that is not built.
    #[error("annotation `{key}` is for platform {platform}, but the build has {}", list(built))]
    AnnotationPlatform { key: String, platform: Box<Platform>, built: Vec<Platform> },
    /// A path could not be read or written.
    #[error("{action} {}: {source}", path.display())]
    Path { action: &'static str, path: PathBuf, source: io::Error },
    /// Something of the user's is in the way. rhost deletes none of the user's files.
    #[error("{}: is {found}, and the build has {wanted} there; move it away or choose another dest", path.display())]
    InTheWay { path: PathBuf, found: &'static str, wanted: &'static str },
    /// A file is to be made in a directory that is not there.
    #[error("cannot write `{}`: there is no directory `{}`; make it, or choose another dest", path.display(), folder.display())]
    NoFolder { path: PathBuf, folder: PathBuf },
    /// A directory of the user's takes no new files.
    #[error("cannot write `{}`: no permission to write in `{}`; choose another dest", path.display(), folder.display())]
    NotWritable { path: PathBuf, folder: PathBuf },
    /// A directory is to be made where a file is.
    #[error("cannot write `{}`: `{}` is a file, and a directory is wanted there; choose another dest", path.display(), file.display())]
    FileInTheWay { path: PathBuf, file: PathBuf },
    /// Two results would be written to one place.
    #[error(
        "the result for {platform} would overwrite another; leave out platform-split=false, name each platform once"
    )]
    DuplicatePlatform { platform: Box<Platform> },
    /// The output stream refused bytes.
    #[error("writing the output: {0}")]
    Output(#[source] io::Error),
    /// The tree of a result could not be read.
    #[error("reading the result: {0}")]
    Tree(#[from] rhost_rootfs::Error),
    /// An image name is not one.
    #[error(transparent)]
    Name(#[from] ImageNameError),
}

fn list(platforms: &[Platform]) -> String {
    let names: Vec<String> = platforms.iter().map(ToString::to_string).collect();
    names.join(", ")
}

impl ExportError {
    pub(crate) fn path(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Path { action, path, source }
    }
}
