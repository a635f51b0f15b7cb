//! `Compression`: how new layers are compressed; `LayerKind`: how a layer is; `MediaTypes`: whose names are used.
use std::fmt;

/// How to compress a layer. Levels are those of the format's own tools.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Compression {
    /// Plain tar.
    None,
    /// gzip, level 0 to 9.
    Gzip { level: u8 },
    /// zstd, level 1 to 22.
    Zstd { level: u8 },
}

impl Compression {
    /// gzip at level 6, what BuildKit and `docker build` use when nothing is said.
    pub const GZIP: Self = Self::Gzip { level: 6 };
    /// zstd at level 3, its tool's default.
    pub const ZSTD: Self = Self::Zstd { level: 3 };

    /// The kind of layer this makes.
    pub const fn kind(self) -> LayerKind {
        match self {
            Self::None => LayerKind::Tar,
            Self::Gzip { .. } => LayerKind::Gzip,
            Self::Zstd { .. } => LayerKind::Zstd,
        }
    }
}

/// How the bytes of a layer blob are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LayerKind {
    /// Not at all.
    Tar,
    /// RFC 1952.
    Gzip,
    /// RFC 8878.
    Zstd,
}

impl LayerKind {
    /// The word of `compression=`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tar => "uncompressed",
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
        }
    }

    /// The media type of a layer of this kind.
    pub const fn media_type(self, types: MediaTypes) -> &'static str {
        match (types, self) {
            (MediaTypes::Oci, Self::Tar) => "application/vnd.oci.image.layer.v1.tar",
            (MediaTypes::Oci, Self::Gzip) => "application/vnd.oci.image.layer.v1.tar+gzip",
            (MediaTypes::Oci, Self::Zstd) => "application/vnd.oci.image.layer.v1.tar+zstd",
            (MediaTypes::Docker, Self::Tar) => "application/vnd.docker.image.rootfs.diff.tar",
            (MediaTypes::Docker, Self::Gzip) => "application/vnd.docker.image.rootfs.diff.tar.gzip",
            (MediaTypes::Docker, Self::Zstd) => "application/vnd.docker.image.rootfs.diff.tar.zstd",
        }
    }

    /// The kind that a layer's media type names, OCI's or docker's, distributable or not; `None` for others.
    pub fn of_media_type(media_type: &str) -> Option<Self> {
        match media_type {
            "application/vnd.oci.image.layer.v1.tar"
            | "application/vnd.oci.image.layer.nondistributable.v1.tar"
            | "application/vnd.docker.image.rootfs.diff.tar"
            | "application/vnd.docker.image.rootfs.foreign.diff.tar" => Some(Self::Tar),
            "application/vnd.oci.image.layer.v1.tar+gzip"
            | "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"
            | "application/vnd.docker.image.rootfs.diff.tar.gzip"
            | "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip" => Some(Self::Gzip),
            "application/vnd.oci.image.layer.v1.tar+zstd"
            | "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd"
            | "application/vnd.docker.image.rootfs.diff.tar.zstd" => Some(Self::Zstd),
            _ => None,
        }
    }
}

impl fmt::Display for LayerKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Whose media types an image uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MediaTypes {
    /// `application/vnd.oci.…`, the default of every exporter, as in BuildKit since compatibility version 30.
    Oci,
    /// `application/vnd.docker.…`, with `oci-mediatypes=false`.
    Docker,
}
