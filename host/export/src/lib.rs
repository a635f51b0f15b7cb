//! Images out of layers, and files out of images: compression, manifest and index assembly, exporters.
//!
//! Synchronous and free of network, clock and environment: bytes come through [`BlobSource`], go through [`BlobSink`],
//! and "now" is a parameter, so that equal inputs give equal bytes. What leaves this crate as a file is written whole or
//! not at all. Facts of the formats are in `spec/buildkit-compat.md` section E; BuildKit v0.32.2's bytes are the model.
//!
//! A build's end, in order: [`Compressor::pack`] turns tar streams and existing blobs into [`LayerBlob`]s,
//! [`assemble`] adds configs, manifests and the index, then [`write_oci_tar`], [`write_oci_dir`], [`write_docker_tar`]
//! write archives; [`export_local`] and [`export_tar`] write plain files. [`Output::parse`] reads `-o`, [`metadata_json`] and
//! [`image_id`] answer for `--metadata-file` and `--iidfile`. [`cache`] is how cache mounts travel.
mod annotations;
mod archive;
mod assemble;
mod blobs;
mod blocks;
pub mod cache;
mod compression;
mod cut;
mod destination;
mod encoder;
mod error;
mod gzip;
mod image_config;
mod image_name;
mod json;
mod layer;
mod local_exporter;
mod manifest;
mod metadata;
mod output;
mod output_csv;
mod partial;
mod pool;
mod spare;
mod tar_exporter;
mod tar_writer;
mod tree;

pub use annotations::{Annotations, Placement};
pub use archive::{write_docker_tar, write_oci_dir, write_oci_tar};
pub use assemble::{AssembleOptions, Assembled, BuiltImage, assemble};
pub use blobs::{BlobSink, BlobSource, BlobWriter, DirBlobs, MemoryBlobs};
pub use blocks::{BlockCache, BlockKey, BlockPlace, block_check};
pub use compression::{Compression, LayerKind, MediaTypes};
pub use destination::{Destination, check_directory, check_file, write_file, write_to};
pub use error::ExportError;
pub use image_config::{LayerMeta, default_config, finish_config};
pub use image_name::{ImageName, ImageNameError};
pub use layer::{Compressor, LayerBlob, LayerSource, Stop, TarProducer};
pub use local_exporter::{LocalExport, export_local};
pub use manifest::{Descriptor, ImageIndex, ImageManifest, media_type};
pub use metadata::{image_id, metadata_json};
pub use output::{ImageOutput, LocalOutput, Output, OutputError, PushBy};
pub use tar_exporter::export_tar;
pub use tree::PlatformTree;
