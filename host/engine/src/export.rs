//! `Exporter`: from results to where the user wants them. Layers are packed from snapshots once and found again by diff id.
use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;

use jiff::Timestamp;
use oci_spec::image::Descriptor;
use rhost_export::{
    AssembleOptions, Assembled, BlobSink, BlobSource, BlobWriter, BuiltImage, Compressor, Destination, ImageName,
    ImageOutput, LayerBlob, LayerKind, LayerMeta, LayerSource, LocalOutput, Output, OutputError, PlatformTree, PushBy,
    Stop, assemble, check_directory, check_file, default_config, export_local, export_tar, image_id, metadata_json,
    write_docker_tar, write_oci_dir, write_oci_tar, write_to,
};
use rhost_frontend::Target;
use rhost_llb::{BlobDigest, DiffId, Digest};
use rhost_registry::Reference;
use rhost_rootfs::{Below, LayerOptions, Root, write_layer};
use rhost_store::{BlobRecord, MountSpec, SnapshotInfo, Store};

use crate::blame;
use crate::epoch::{self, Epochs};
use crate::error::{BuildError, Kind};
use crate::event::Event;
use crate::op_error::{OpFailure, blocking};
use crate::push::PushOrder;
use crate::request::BuildRequest;
use crate::shared::Shared;
use crate::store_blocks::StoreBlocks;
use crate::value::Value;

/// What a build left.
#[derive(Debug, Clone)]
pub struct Exported {
    /// For `--iidfile`: the config's digest, of several platforms the index's; `None` for outputs without image.
    pub image_id: Option<Digest>,
    /// Digest of the manifest or index.
    pub digest: Option<Digest>,
    /// Names that the image now has in the store.
    pub names: Vec<String>,
    /// Files and directories that were written, as the outputs name them.
    pub written: Vec<String>,
    /// What was pushed, as `NAME@DIGEST`.
    pub pushed: Vec<String>,
    /// For `--metadata-file`.
    pub metadata: Vec<u8>,
}

/// Exports one build. Made before the build, so that a wrong output is told first.
pub struct Exporter {
    store: Store,
    outputs: Vec<Output>,
    tags: Vec<ImageName>,
    epochs: Epochs,
    jobs: NonZeroUsize,
}

/// The store as source and sink of blobs.
pub struct StoreBlobs(pub Store);

impl BlobSource for StoreBlobs {
    fn open(&self, digest: BlobDigest) -> io::Result<Box<dyn Read + Send>> {
        let file = self.0.open_blob(&digest).map_err(io::Error::other)?.ok_or(io::ErrorKind::NotFound)?;
        Ok(Box::new(file))
    }
}

impl BlobSink for StoreBlobs {
    fn create(&self) -> io::Result<Box<dyn BlobWriter>> {
        Ok(Box::new(StoreBlob(self.0.blob_writer().map_err(io::Error::other)?.hashed_by_caller())))
    }

    fn put(&self, _: BlobDigest, bytes: &[u8]) -> io::Result<()> {
        self.0.put_blob(bytes).map(drop).map_err(io::Error::other)
    }
}

struct StoreBlob(rhost_store::BlobWriter);

impl Write for StoreBlob {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

impl BlobWriter for StoreBlob {
    fn commit(self: Box<Self>, digest: BlobDigest, _: u64) -> io::Result<()> {
        self.0.commit(Some(digest)).map(drop).map_err(io::Error::other)
    }
}

/// One platform's result.
struct PlatformResult {
    target: Target,
    value: Value,
    /// History entries that came with the base image.
    base_history: usize,
    /// Layers that came with it.
    base_layers: Vec<DiffId>,
}

impl Exporter {
    /// Reads the outputs and tags of `request`.
    ///
    /// # Errors
    /// An output or a name that is not one.
    pub fn new(store: &Store, request: &BuildRequest) -> Result<Self, BuildError> {
        let wrong = |error: &dyn std::fmt::Display| BuildError::new(Kind::Request, error);
        let outputs = outputs(request).map_err(|e| wrong(&e))?;
        let tags = request.tags.iter().map(|tag| tag.parse().map_err(|error| wrong(&format!("-t {tag}: {error}"))));
        let tags = tags.collect::<Result<Vec<ImageName>, _>>()?;
        for output in &outputs {
            let fits = match (output, place(output)) {
                (Output::OciDir(..) | Output::Local(..), Some(path)) => check_directory(path),
                (_, Some(path)) => check_file(path),
                (_, None) => Ok(()),
            };
            fits.map_err(|e| wrong(&e))?;
            let Output::Image(image) = output else { continue };
            if image.push && request.graph.sources.offline {
                return Err(wrong(&"--offline: an image cannot be pushed without a network")
                    .hint("build without pushing; `rhost push` sends the image later"));
            }
            if image.push && request.tags.is_empty() && image.names.is_empty() {
                return Err(wrong(&"the image has no name to push it under").hint("add -t registry.example/team/app:1"));
            }
            if !image.push && !image.store {
                let nothing = "output type=image with store=false and without push: nothing would be left of the image";
                return Err(wrong(&nothing).hint("add push=true, or take type=cacheonly"));
            }
            if !image.push && image.push_by == PushBy::Digest {
                return Err(wrong(&"output option push-by-digest without push").hint("add push=true, or --push"));
            }
            if image.push_by == PushBy::Digest
                && let Some(tag) = request.tags.iter().find(|tag| ImageName::says_tag(tag))
            {
                return Err(wrong(&format!(
                    "-t {tag}: what is pushed by its digest (push-by-digest) has no tag; leave it out"
                )));
            }
        }
        let epochs = Epochs::of_argument(request.graph.build_args.get("SOURCE_DATE_EPOCH"));
        // Packing computes all the time: more threads than processors bring nothing.
        let processors = rhost_rootfs::processors();
        let jobs = NonZeroUsize::new(request.jobs.min(processors)).unwrap_or(NonZeroUsize::MIN);
        Ok(Self { store: store.clone(), outputs, tags, epochs, jobs })
    }

    /// Exports `results` to every output.
    ///
    /// # Errors
    /// The disk, or a destination that cannot be written.
    pub async fn export(
        mut self,
        shared: &std::sync::Arc<Shared>,
        results: Vec<(Target, Value)>,
        metadata: BTreeMap<String, Vec<u8>>,
    ) -> Result<(Exported, Vec<PushOrder>), BuildError> {
        self.epochs.read(&metadata);
        let (shared2, shared3) = (shared.clone(), shared.clone());
        let failed = |error: OpFailure| {
            let kind = match &error {
                OpFailure::Registry(registry) => {
                    return blame::registry(registry, error.to_string(), Kind::Network);
                }
                OpFailure::Export(_) | OpFailure::Files(_) | OpFailure::Store(_) | OpFailure::Overlay(_) => Kind::Store,
                _ => Kind::Build,
            };
            BuildError::new(kind, error)
        };
        let work = async move {
            let results = self.bring(&shared3, results).await?;
            blocking(move || self.export_blocking(&shared2, results, &metadata)).await
        };
        shared.internal("exporting", work).await.map_err(failed)
    }

    /// Brings what the outputs need of layers that are not here: an image needs their blobs, files need them laid down. What is no snapshot
    /// becomes one where an image is made of it.
    async fn bring(
        &self,
        shared: &std::sync::Arc<Shared>,
        mut results: Vec<(Target, Value)>,
    ) -> Result<Vec<(Target, Value)>, OpFailure> {
        let image = |output: &Output| {
            matches!(output, Output::Image(_) | Output::OciTar(..) | Output::OciDir(..) | Output::Docker(..))
        };
        let files = |output: &Output| matches!(output, Output::Local(..) | Output::Tar(..));
        for (target, value) in &mut results {
            if self.outputs.iter().any(image) {
                if matches!(value, Value::Context(_)) {
                    let (shared, context) = (shared.clone(), value.clone());
                    let id = blocking(move || shared.snapshot(&context)).await?;
                    *value = id.map_or(Value::Scratch, Value::Snapshot);
                }
                if let Value::Snapshot(id) = value {
                    shared.layers.fetch(*id).await?;
                    shared.layers.bring_below_new(*id).await?;
                    let rewrites = |output: &Output| {
                        let image = output.image().filter(|image| image.rewrite_timestamp);
                        image.is_some_and(|image| self.epochs.of(image.source_date_epoch, &target.platform).is_some())
                    };
                    if self.outputs.iter().any(rewrites) {
                        shared.layers.bring_to_pack(*id).await?;
                    }
                }
            }
            if self.outputs.iter().any(files) {
                shared.present(value).await?;
            }
        }
        Ok(results)
    }

    fn export_blocking(
        self,
        shared: &Shared,
        results: Vec<(Target, Value)>,
        frontend: &BTreeMap<String, Vec<u8>>,
    ) -> Result<(Exported, Vec<PushOrder>), OpFailure> {
        let several = results.len() > 1;
        let results: Vec<PlatformResult> = results
            .into_iter()
            .map(|(target, value)| {
                let suffix = if several { format!("/{}", target.platform) } else { String::new() };
                let base = frontend.get(&format!("containerimage.base.config{suffix}"));
                let base_history = base.map_or(0, |config| history_length(config));
                let base_layers = base.map_or_else(Vec::new, |config| epoch::layers_of(config));
                PlatformResult { target, value, base_history, base_layers }
            })
            .collect();
        let compressor = Compressor::new(self.jobs).with_blocks(Arc::new(StoreBlocks::new(&self.store)));
        let mut exported = Exported {
            image_id: None,
            digest: None,
            names: Vec::new(),
            written: Vec::new(),
            pushed: Vec::new(),
            metadata: Vec::new(),
        };
        let mut orders = Vec::new();
        let mut metadata = metadata_json(None, &[], &BTreeMap::new());
        for output in &self.outputs {
            let image = match output {
                Output::Image(image) => {
                    let built = self.image(shared, &results, image, &compressor)?;
                    let names = self.names(image);
                    if image.store {
                        let descriptor = stored(&built)?;
                        let texts = store_names(&names, image, built.descriptor.digest);
                        for name in &texts {
                            // Nothing is written by a build that changes nothing.
                            if self.store.image(name)?.is_none_or(|record| record.descriptor != descriptor) {
                                self.store.tag(name, &descriptor)?;
                            }
                        }
                        exported.names.extend(texts);
                    }
                    if image.push {
                        orders.push(order(&names, image, &built, shared)?);
                    }
                    Some((built, names))
                }
                Output::OciTar(image, destination) => {
                    let (built, names) = (self.image(shared, &results, image, &compressor)?, self.names(image));
                    write_to(destination, |out| write_oci_tar(&built, &names, &self.blobs(), out))?;
                    Some((built, names))
                }
                Output::OciDir(image, destination) => {
                    let (built, names) = (self.image(shared, &results, image, &compressor)?, self.names(image));
                    write_oci_dir(&built, &names, &self.blobs(), destination)?;
                    Some((built, names))
                }
                Output::Docker(image, destination) => {
                    let (built, names) = (self.image(shared, &results, image, &compressor)?, self.names(image));
                    write_to(destination, |out| write_docker_tar(&built, &names, &self.blobs(), out))?;
                    Some((built, names))
                }
                Output::Local(options, destination) => {
                    let trees = self.trees(shared, &results, options)?;
                    export_local(&trees, destination, options.platform_split)?;
                    None
                }
                Output::Tar(options, destination) => {
                    let trees = self.trees(shared, &results, options)?;
                    write_to(destination, |out| export_tar(&trees, options.platform_split, out))?;
                    None
                }
                Output::CacheOnly => None,
            };
            exported.written.extend(place(output).map(|path| path.display().to_string()));
            if let Some((built, names)) = image {
                exported.image_id = Some(image_id(&built));
                exported.digest = Some(built.descriptor.digest.0);
                metadata = metadata_json(Some(&built), &names, &BTreeMap::new());
            }
        }
        exported.metadata = metadata;
        Ok((exported, orders))
    }

    fn blobs(&self) -> StoreBlobs {
        StoreBlobs(self.store.clone())
    }

    fn names(&self, image: &ImageOutput) -> Vec<ImageName> {
        let mut names = self.tags.clone();
        names.extend(image.names.iter().filter(|name| !self.tags.contains(name)).cloned());
        names
    }

    fn image(
        &self,
        shared: &Shared,
        results: &[PlatformResult],
        output: &ImageOutput,
        compressor: &Compressor,
    ) -> Result<Assembled, OpFailure> {
        let mut images = Vec::new();
        for result in results {
            let epoch = self.epochs.of(output.source_date_epoch, &result.target.platform);
            let rewrite = epoch.filter(|_| output.rewrite_timestamp);
            if output.rewrite_timestamp && epoch.is_none() {
                let message = "rewrite-timestamp: there is no SOURCE_DATE_EPOCH, so files keep their times";
                shared.events.send(Event::Warning { vertex: None, message: message.into() });
            }
            let (layers, layer_metas, layer_epochs) = self.layers(shared, result, output, rewrite, compressor)?;
            let mut config = result.target.config.clone();
            if config.is_empty() {
                config = default_config(&result.target.platform);
            }
            images.push(BuiltImage {
                platform: result.target.platform.clone(),
                config,
                layers,
                layer_metas,
                base_history: result.base_history,
                rewritten: layer_epochs,
                source_date_epoch: epoch,
            });
        }
        let options = AssembleOptions {
            media_types: output.media_types,
            annotations: output.annotations.clone(),
            source_date_epoch: self.epochs.of_all(output.source_date_epoch),
            now: Timestamp::now(),
            index: results.len() > 1,
        };
        Ok(assemble(&images, &options, &self.blobs())?)
    }

    /// Layers from the base up: those that are blobs already as they are, the others packed. With `rewrite`, a time in seconds, no file of those that the base
    /// image has not is later.
    fn layers(
        &self,
        shared: &Shared,
        result: &PlatformResult,
        output: &ImageOutput,
        rewrite: Option<i64>,
        compressor: &Compressor,
    ) -> Result<(Vec<LayerBlob>, Vec<LayerMeta>, Vec<Option<i64>>), OpFailure> {
        let id = match &result.value {
            Value::Scratch => return Ok((Vec::new(), Vec::new(), Vec::new())),
            Value::Snapshot(id) => *id,
            Value::Context(_) => return Err(OpFailure::Worker("a directory was not made a snapshot".into())),
        };
        let mut chain = self.store.records(id)?.ok_or(rhost_store::Error::NoSnapshot { id: id.0 })?;
        chain.reverse();
        let (mut sources, mut told) = (Vec::new(), Vec::new());
        let base = epoch::kept(chain.iter().map(|layer| layer.diff_id), &result.base_layers);
        let rewrite_of = |index: usize| rewrite.filter(|_| index >= base);
        for (index, layer) in chain.iter().enumerate() {
            let diff_id = match rewrite_of(index) {
                Some(epoch) => epoch::rewritten(&self.store, layer.id, epoch)?,
                None => layer.diff_id,
            };
            let known = match &diff_id {
                Some(diff_id) => {
                    let kinds = shared.layers.blobs(diff_id)?.into_iter().filter_map(|blob| {
                        let kind = kind_of(&blob.media_type)?;
                        Some(LayerBlob { diff_id: *diff_id, digest: blob.digest, size: blob.size, kind })
                    });
                    let mut kinds: Vec<LayerBlob> = kinds.collect();
                    kinds.sort_by_key(|blob| blob.kind != output.compression.kind());
                    kinds.into_iter().next()
                }
                None => None,
            };
            // What an image says of its own blob is not remembered before it was unpacked.
            told.push(known.map(|blob| blob.digest));
            sources.push(match known {
                Some(blob) => LayerSource::Blob(blob),
                None => {
                    let directory = layer.dir.clone();
                    let below = below(shared, layer)?;
                    let clamp_mtime = rewrite_of(index).map(|epoch| epoch.saturating_mul(1_000_000_000));
                    LayerSource::Tar(Box::new(move |out: &mut dyn Write| {
                        let root = Root::open(&directory).map_err(io::Error::other)?;
                        // Mounted only now: a chain may be hundreds of layers long, and each mount has all below it.
                        let below = below.as_ref().map(crate::overlay::open).transpose()?;
                        let below = below.as_ref().map_or(Below::Nothing, Below::Tree);
                        let options = LayerOptions { clamp_mtime };
                        write_layer(&root, below, out, &options).map(drop).map_err(io::Error::other)
                    }))
                }
            });
        }
        let blobs = self.blobs();
        let stop = Stop::new();
        let packed = compressor.pack(sources, output.compression, output.force_compression, &blobs, &blobs, &stop)?;
        for (index, ((layer, blob), told)) in chain.iter().zip(&packed).zip(told).enumerate() {
            if told == Some(blob.digest) {
                continue;
            }
            if let Some(epoch) = rewrite_of(index) {
                epoch::remember(&self.store, layer.id, epoch, blob.diff_id)?;
            } else if layer.diff_id.is_none() {
                self.store.set_diff_id(layer.id, blob.diff_id)?;
            }
            let media_type = blob.kind.media_type(rhost_export::MediaTypes::Oci).to_owned();
            self.store.link_blob(&blob.diff_id, &BlobRecord { digest: blob.digest, size: blob.size, media_type })?;
        }
        // Only where the config does not tell itself: the graph is read for them.
        let descriptions = match history_layers(&result.target.config) >= chain.len() {
            true => vec![String::new(); chain.len()],
            false => crate::descriptions::of_layers(&result.target.definition, chain.len()),
        };
        let meta = |(layer, description): (&SnapshotInfo, String)| LayerMeta {
            created: Timestamp::from_second(layer.created).ok(),
            description,
        };
        let epochs = (0..chain.len()).map(rewrite_of).collect();
        Ok((packed, chain.iter().zip(descriptions).map(meta).collect(), epochs))
    }
}

/// The file or directory that `output` writes.
fn place(output: &Output) -> Option<&Path> {
    match output {
        Output::OciTar(_, Destination::File(path))
        | Output::Docker(_, Destination::File(path))
        | Output::Tar(_, Destination::File(path))
        | Output::OciDir(_, path)
        | Output::Local(_, path) => Some(path),
        _ => None,
    }
}

/// Whether one of `outputs` (as `-o` takes them) is written to standard output. What is no output is not looked at: building says so.
pub fn to_stdout(outputs: &[String]) -> bool {
    outputs.iter().filter_map(|text| Output::parse(text).ok()).any(|output| {
        matches!(
            output,
            Output::OciTar(_, Destination::Stdout)
                | Output::Docker(_, Destination::Stdout)
                | Output::Tar(_, Destination::Stdout)
        )
    })
}

/// The outputs of `request`, with those that `--push` and `--load` stand for (buildx's rules, with rhost's store for its docker daemon).
fn outputs(request: &BuildRequest) -> Result<Vec<Output>, OutputError> {
    let mut outputs = request.outputs.iter().map(|text| Output::parse(text)).collect::<Result<Vec<_>, _>>()?;
    if request.push {
        let mut used = false;
        for output in &mut outputs {
            if let Output::Image(image) = output {
                image.push = true;
                used = true;
            }
        }
        if !used {
            outputs.push(Output::parse("type=image,push=true")?);
        }
    }
    let keeps = |output: &Output| matches!(output, Output::Image(image) if image.store);
    if outputs.is_empty() || (request.load && !outputs.iter().any(keeps)) {
        outputs.push(Output::parse("type=image")?);
    }
    Ok(outputs)
}

/// What an image is called in the store. Without a name it stays under its digest: nothing that was built vanishes.
fn store_names(names: &[ImageName], image: &ImageOutput, digest: BlobDigest) -> Vec<String> {
    let mut texts = Vec::new();
    for name in names {
        // What is pushed by its digest was given no tag.
        if image.push_by == PushBy::Digest {
            texts.push(format!("{}@{digest}", name.repository()));
            continue;
        }
        texts.push(name.to_string());
        if image.name_canonical {
            texts.push(format!("{name}@{digest}"));
        }
    }
    if texts.is_empty() {
        texts.push(digest.to_string());
    }
    texts
}

fn order(names: &[ImageName], image: &ImageOutput, built: &Assembled, shared: &Shared) -> Result<PushOrder, OpFailure> {
    let root = built.descriptor.digest;
    let target = |name: &ImageName| -> Result<Reference, OpFailure> {
        Ok(match image.push_by {
            PushBy::Tag => name.to_string().parse()?,
            PushBy::Digest => name.repository().parse::<Reference>()?.with_digest(root),
        })
    };
    let targets = names.iter().map(target).collect::<Result<_, _>>()?;
    Ok(PushOrder { root, targets, insecure: image.insecure, homes: shared.layers.homes() })
}

/// What the layer was written on: not what a merge has put it on, so that its bytes are the same wherever it is.
fn below(shared: &Shared, layer: &SnapshotInfo) -> Result<Option<MountSpec>, OpFailure> {
    let Some(parent) = shared.layers.written_on(layer.id)? else { return Ok(None) };
    let spec = shared.store.mount(parent)?;
    Ok(Some(spec.ok_or(rhost_store::Error::NoSnapshot { id: parent.0 })?))
}

/// How many history entries the image config `config` has; none for what is no config.
fn history_length(config: &[u8]) -> usize {
    let config: Option<serde_json::Value> = serde_json::from_slice(config).ok();
    config.and_then(|config| config.get("history")?.as_array().map(Vec::len)).unwrap_or(0)
}

/// How many layers the history of the image config `config` tells of.
fn history_layers(config: &[u8]) -> usize {
    let config: Option<serde_json::Value> = serde_json::from_slice(config).ok();
    let is_layer = |entry: &&serde_json::Value| !entry["empty_layer"].as_bool().unwrap_or(false);
    config.and_then(|config| Some(config.get("history")?.as_array()?.iter().filter(is_layer).count())).unwrap_or(0)
}

fn kind_of(media_type: &str) -> Option<LayerKind> {
    match media_type {
        text if text.ends_with("gzip") => Some(LayerKind::Gzip),
        text if text.ends_with("zstd") => Some(LayerKind::Zstd),
        text if text.ends_with("tar") => Some(LayerKind::Tar),
        _ => None,
    }
}

fn stored(image: &Assembled) -> Result<Descriptor, OpFailure> {
    let of = &image.descriptor;
    let value = serde_json::json!({"mediaType": of.media_type, "digest": of.digest.to_string(), "size": of.size});
    serde_json::from_value(value).map_err(|error| OpFailure::Worker(error.to_string()))
}

impl Exporter {
    fn trees(
        &self,
        shared: &Shared,
        results: &[PlatformResult],
        output: &LocalOutput,
    ) -> Result<Vec<PlatformTree>, OpFailure> {
        results
            .iter()
            .map(|result| {
                let root = match &result.value {
                    Value::Snapshot(id) => shared.view(*id)?,
                    Value::Context(tree) => {
                        let id = shared.snapshot(&Value::Context(tree.clone()))?;
                        shared.view(id.ok_or_else(|| OpFailure::Worker("a directory became nothing".into()))?)?
                    }
                    Value::Scratch => {
                        let active = shared.store.prepare(None)?;
                        shared.view(active.commit()?)?
                    }
                };
                let platform = result.target.platform.clone();
                Ok(PlatformTree { epoch: self.epochs.of(output.source_date_epoch, &platform), platform, root })
            })
            .collect()
    }
}
