//! `Output`: what `-o` and `--output` ask for. Text to typed intent, without a look at the disk.
//!
//! Keys and defaults are buildx's and BuildKit's (spec E). A key that an exporter does not have is refused, although BuildKit
//! lets it pass: a typo must not become an export that lacks what was asked. What rhost does not do yet says so.
use std::path::PathBuf;

use rhost_llb::Platform;

use crate::annotations::{Annotations, Placement};
use crate::compression::{Compression, MediaTypes};
use crate::destination::Destination;
use crate::image_name::{ImageName, ImageNameError};
use crate::output_csv::{fields, record, suggestion};

/// One `-o`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// `type=image`: into rhost's image store, to registries, or both; `type=registry` to registries only.
    Image(ImageOutput),
    /// `type=oci`: OCI layout as a tar.
    OciTar(ImageOutput, Destination),
    /// `type=oci,tar=false`: OCI layout as a directory.
    OciDir(ImageOutput, PathBuf),
    /// `type=docker`: what `docker load` reads.
    Docker(ImageOutput, Destination),
    /// `type=local`: plain files in a directory.
    Local(LocalOutput, PathBuf),
    /// `type=tar`: plain files in a tar.
    Tar(LocalOutput, Destination),
    /// `type=cacheonly`: build, keep nothing but the cache.
    CacheOnly,
}

/// How to make an image, for whatever place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageOutput {
    /// From `name=`, several with commas. Tags of the command line come on top.
    pub names: Vec<ImageName>,
    /// Of new layers.
    pub compression: Compression,
    /// Whether existing layers are recompressed too.
    pub force_compression: bool,
    /// From `oci-mediatypes=`.
    pub media_types: MediaTypes,
    /// From `annotation…=`.
    pub annotations: Annotations,
    /// From `source-date-epoch=`, in seconds; goes before the build argument. `Some(None)`: said to be none.
    pub source_date_epoch: Option<Option<i64>>,
    /// From `rewrite-timestamp=`: whether no file of a new layer is later than SOURCE_DATE_EPOCH.
    pub rewrite_timestamp: bool,
    /// From `push=`: whether the image goes to the registries of its names, too.
    pub push: bool,
    /// From `push-by-digest=`.
    pub push_by: PushBy,
    /// From `registry.insecure=`: plain http and unknown certificates are good enough for the push.
    pub insecure: bool,
    /// From `store=`: whether the names stand for the image in rhost's store.
    pub store: bool,
    /// From `name-canonical=`: whether `NAME@DIGEST` does, too.
    pub name_canonical: bool,
}

/// What an image is pushed as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PushBy {
    /// Under the tags of its names.
    Tag,
    /// Under its digest alone, in the repositories of its names.
    Digest,
}

/// How to write plain files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LocalOutput {
    /// From `platform-split=`: a folder for each platform. `None`: only when there are several.
    pub platform_split: Option<bool>,
    /// From `source-date-epoch=`, in seconds; goes before the build argument. `Some(None)`: said to be none.
    pub source_date_epoch: Option<Option<i64>>,
}

/// Why an `-o` was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OutputError {
    /// Not a CSV record of key=value.
    #[error("output `{text}`: {reason}")]
    Syntax { text: String, reason: String },
    /// No `type=`.
    #[error("output `{text}` has no type; add one of type={}", KINDS.join(", "))]
    NoType { text: String },
    /// An exporter that nobody has.
    #[error("output type `{kind}` is unknown{}; known are {}", meant(suggestion), KINDS.join(", "))]
    UnknownType { kind: String, suggestion: Option<&'static str> },
    /// A key that this exporter does not have.
    #[error("output type `{kind}` has no option `{key}`{}; it has {}", meant(suggestion), known.join(", "))]
    UnknownKey { kind: String, key: String, suggestion: Option<&'static str>, known: Vec<&'static str> },
    /// A value that the key cannot have.
    #[error("output option `{key}={value}`: wanted {wanted}")]
    Value { key: String, value: String, wanted: String },
    /// One key twice.
    #[error("output option `{key}` is given twice")]
    Twice { key: String },
    /// No `dest=` where there must be one.
    #[error("output type `{kind}` needs dest={wanted}")]
    NoDest { kind: String, wanted: &'static str },
    /// `push-by-digest` with a tag.
    #[error(
        "output option `push-by-digest` and the tag of `{name}`: what is pushed by its digest has no tag; leave it out"
    )]
    TagByDigest { name: String },
    /// Something BuildKit has and rhost does not, so far.
    #[error("output option `{option}` is not supported yet{}", hint.map(|h| format!("; {h}")).unwrap_or_default())]
    NotSupported { option: String, hint: Option<&'static str> },
    /// A name is not one.
    #[error("output option `name`: {0}")]
    Name(#[from] ImageNameError),
}

const KINDS: [&str; 7] = ["image", "registry", "oci", "docker", "local", "tar", "cacheonly"];
/// Of `type=image` and `type=registry`, beyond [`IMAGE_KEYS`].
const PUSH_KEYS: [&str; 5] = ["push", "push-by-digest", "registry.insecure", "store", "name-canonical"];
const IMAGE_KEYS: [&str; 8] = [
    "name",
    "compression",
    "compression-level",
    "force-compression",
    "oci-mediatypes",
    "source-date-epoch",
    "rewrite-timestamp",
    "annotation.KEY",
];
const LOCAL_KEYS: [&str; 2] = ["platform-split", "source-date-epoch"];
/// Of BuildKit's exporters, with the value that asks for what rhost does anyway.
const LATER: [(&str, &str, Option<&str>); 12] = [
    ("push", "false", Some("type=image and type=registry push")),
    ("push-by-digest", "false", Some("type=image and type=registry push")),
    ("registry.insecure", "false", Some("type=image and type=registry push")),
    ("unpack", "false", None),
    ("store", "true", Some("type=image keeps images in the store")),
    ("name-canonical", "false", Some("type=image keeps images in the store")),
    ("dangling-name-prefix", "", None),
    ("danging-name-empty-only", "false", None),
    ("oci-artifact", "", None),
    ("attestation-inline", "", None),
    ("prefer-nondist-layers", "false", None),
    ("attestation-prefix", "", None),
];

fn meant(suggestion: &Option<&'static str>) -> String {
    suggestion.map(|word| format!(" (did you mean `{word}`?)")).unwrap_or_default()
}

impl Output {
    /// How it makes an image, if it makes one.
    pub fn image(&self) -> Option<&ImageOutput> {
        match self {
            Self::Image(image) | Self::OciTar(image, _) | Self::OciDir(image, _) | Self::Docker(image, _) => {
                Some(image)
            }
            Self::Local(..) | Self::Tar(..) | Self::CacheOnly => None,
        }
    }

    /// Reads one `-o`. `DIR` alone is `type=local,dest=DIR`, `-` alone `type=tar,dest=-`.
    pub fn parse(text: &str) -> Result<Self, OutputError> {
        let syntax = |reason| OutputError::Syntax { text: text.to_owned(), reason };
        if let [alone] = &record(text).map_err(syntax)?[..]
            && !alone.contains('=')
        {
            return match alone.as_str() {
                "" => Err(syntax("nothing is named".to_owned())),
                "-" => Ok(Self::Tar(LocalOutput::default(), Destination::Stdout)),
                folder => Ok(Self::Local(LocalOutput::default(), folder.into())),
            };
        }
        let mut kind = None;
        let mut dest = None;
        let mut tar = None;
        let mut rest: Vec<(String, String)> = Vec::new();
        for (key, value) in fields(text).map_err(syntax)? {
            let once = |slot: &mut Option<String>| match slot.replace(value.clone()) {
                None => Ok(()),
                Some(_) => Err(OutputError::Twice { key: key.clone() }),
            };
            match key.as_str() {
                "type" => once(&mut kind)?,
                "dest" => once(&mut dest)?,
                "tar" => once(&mut tar)?,
                _ if rest.iter().any(|(known, _)| *known == key) => return Err(OutputError::Twice { key }),
                _ => rest.push((key, value)),
            }
        }
        let kind = kind.ok_or_else(|| OutputError::NoType { text: text.to_owned() })?;
        let unknown = |key: &str, known: &[&'static str]| OutputError::UnknownKey {
            kind: kind.clone(),
            key: key.to_owned(),
            suggestion: suggestion(key, known),
            known: known.to_vec(),
        };
        let no_dest = |wanted| OutputError::NoDest { kind: kind.clone(), wanted };
        let stream = |dest: Option<String>| match dest.as_deref() {
            None | Some("-") => Ok(Destination::Stdout),
            Some("") => Err(no_dest("FILE, or - for standard output")),
            Some(path) => Ok(Destination::File(path.into())),
        };
        let folder = |dest: Option<String>| match dest.as_deref() {
            None | Some("" | "-") => Err(no_dest("DIRECTORY")),
            Some(path) => Ok(PathBuf::from(path)),
        };
        let image_keys = |more: &[&'static str]| [more, &IMAGE_KEYS].concat();
        let local_keys = |more: &[&'static str]| [more, &LOCAL_KEYS].concat();
        let tar_given = tar.is_some();
        let as_tar = tar.map_or(Ok(true), |value| boolean("tar", &value))?;
        let refuse_tar = |known: &[&'static str]| if tar_given { Err(unknown("tar", known)) } else { Ok(()) };
        match kind.as_str() {
            "image" | "registry" => {
                let known = image_keys(&PUSH_KEYS);
                refuse_tar(&known)?;
                if dest.is_some() {
                    return Err(unknown("dest", &known));
                }
                let (push, rest) = rest.into_iter().partition(|(key, _)| PUSH_KEYS.contains(&key.as_str()));
                let image = read_image(rest, &|key| unknown(key, &known))?;
                Ok(Self::Image(pushed(image, push, kind == "registry", text)?))
            }
            "oci" => {
                let known = image_keys(&["dest", "tar"]);
                let image = read_image(rest, &|key| unknown(key, &known))?;
                if as_tar { Ok(Self::OciTar(image, stream(dest)?)) } else { Ok(Self::OciDir(image, folder(dest)?)) }
            }
            "docker" => {
                let known = image_keys(&["dest"]);
                if !as_tar {
                    let hint = Some("type=oci,tar=false writes the same layout");
                    return Err(OutputError::NotSupported { option: "type=docker,tar=false".to_owned(), hint });
                }
                if dest.is_none() {
                    // Without dest, buildx hands the image to a docker daemon.
                    return Err(no_dest("FILE, or - for standard output, as in `… | docker load`"));
                }
                Ok(Self::Docker(read_image(rest, &|key| unknown(key, &known))?, stream(dest)?))
            }
            "local" => {
                let known = local_keys(&["dest"]);
                refuse_tar(&known)?;
                Ok(Self::Local(local(rest, &|key| unknown(key, &known))?, folder(dest)?))
            }
            "tar" => {
                let known = local_keys(&["dest"]);
                refuse_tar(&known)?;
                Ok(Self::Tar(local(rest, &|key| unknown(key, &known))?, stream(dest)?))
            }
            "cacheonly" => match (rest.first(), tar_given, dest.is_some()) {
                (Some((key, _)), ..) => Err(unknown(key, &[])),
                (None, true, _) => Err(unknown("tar", &[])),
                (None, _, true) => Err(unknown("dest", &[])),
                _ => Ok(Self::CacheOnly),
            },
            "moby" => {
                let hint = Some("type=docker writes what `docker load` reads");
                Err(OutputError::NotSupported { option: format!("type={kind}"), hint })
            }
            _ => Err(OutputError::UnknownType { suggestion: suggestion(&kind, &KINDS), kind }),
        }
    }
}

fn read_image(rest: Vec<(String, String)>, unknown: &dyn Fn(&str) -> OutputError) -> Result<ImageOutput, OutputError> {
    let mut image = ImageOutput {
        names: Vec::new(),
        compression: Compression::GZIP,
        force_compression: false,
        media_types: MediaTypes::Oci,
        annotations: Annotations::new(),
        source_date_epoch: None,
        rewrite_timestamp: false,
        push: false,
        push_by: PushBy::Tag,
        insecure: false,
        store: true,
        name_canonical: false,
    };
    let mut level = None;
    for (key, value) in rest {
        match key.as_str() {
            "name" => {
                let names = value.split(',').map(str::trim).filter(|name| !name.is_empty());
                image.names = names.map(str::parse).collect::<Result<_, _>>()?;
            }
            "compression" => {
                image.compression = match value.as_str() {
                    "uncompressed" => Compression::None,
                    "gzip" => Compression::GZIP,
                    "zstd" => Compression::ZSTD,
                    "estargz" => {
                        let hint = Some("use gzip or zstd");
                        return Err(OutputError::NotSupported { option: "compression=estargz".to_owned(), hint });
                    }
                    _ => return Err(bad(&key, &value, "uncompressed, gzip or zstd")),
                }
            }
            "compression-level" => {
                level = Some(
                    value
                        .parse::<u8>()
                        .map_err(|_| bad(&key, &value, "a number, 0 to 9 for gzip, 1 to 22 for zstd"))?,
                );
            }
            "force-compression" => image.force_compression = boolean(&key, &value)?,
            "oci-mediatypes" => {
                image.media_types = if boolean(&key, &value)? { MediaTypes::Oci } else { MediaTypes::Docker };
            }
            "source-date-epoch" => image.source_date_epoch = Some(epoch(&key, &value)?),
            "rewrite-timestamp" => image.rewrite_timestamp = boolean(&key, &value)?,
            _ if key.starts_with("annotation") => annotation(&mut image.annotations, &key, &value, unknown)?,
            _ => later(&key, &value, unknown)?,
        }
    }
    if let Some(level) = level {
        let wanted = |wanted| bad("compression-level", &level.to_string(), wanted);
        image.compression = match image.compression {
            Compression::Gzip { .. } if level <= 9 => Compression::Gzip { level },
            Compression::Zstd { .. } if (1..=22).contains(&level) => Compression::Zstd { level },
            Compression::Gzip { .. } => return Err(wanted("0 to 9 for gzip")),
            Compression::Zstd { .. } => return Err(wanted("1 to 22 for zstd")),
            Compression::None => return Err(wanted("no level with compression=uncompressed")),
        };
    }
    Ok(image)
}

/// The keys of `type=image` and `type=registry` that say where the image goes. The latter pushes, and keeps no name, unless it is told.
fn pushed(
    mut image: ImageOutput,
    keys: Vec<(String, String)>,
    registry: bool,
    text: &str,
) -> Result<ImageOutput, OutputError> {
    (image.push, image.store) = (registry, !registry);
    for (key, value) in keys {
        let asked = boolean(&key, &value)?;
        match key.as_str() {
            "push" => image.push = asked,
            "push-by-digest" => image.push_by = if asked { PushBy::Digest } else { PushBy::Tag },
            "registry.insecure" => image.insecure = asked,
            "store" => image.store = asked,
            _ => image.name_canonical = asked,
        }
    }
    if image.push_by == PushBy::Digest {
        let names = fields(text).unwrap_or_default().into_iter().find(|(key, _)| key == "name");
        let names = names.map(|(_, value)| value).unwrap_or_default();
        if let Some(tagged) = names.split(',').map(str::trim).find(|name| ImageName::says_tag(name)) {
            return Err(OutputError::TagByDigest { name: tagged.to_owned() });
        }
    }
    Ok(image)
}

fn local(rest: Vec<(String, String)>, unknown: &dyn Fn(&str) -> OutputError) -> Result<LocalOutput, OutputError> {
    let mut local = LocalOutput::default();
    for (key, value) in rest {
        match (key.as_str(), value.as_str()) {
            ("platform-split", _) => local.platform_split = Some(boolean(&key, &value)?),
            ("source-date-epoch", _) => local.source_date_epoch = Some(epoch(&key, &value)?),
            ("mode", "copy") => {}
            ("mode", "delete") => {
                let hint = Some("rhost deletes no files in dest; empty it before the build");
                return Err(OutputError::NotSupported { option: "mode=delete".to_owned(), hint });
            }
            ("mode", _) => return Err(bad(&key, &value, "copy")),
            ("attestation-prefix", _) => later(&key, &value, unknown)?,
            _ => return Err(unknown(&key)),
        }
    }
    Ok(local)
}

/// `annotation[-index|-index-descriptor|-manifest|-manifest-descriptor][[PLATFORM]].KEY`.
fn annotation(
    annotations: &mut Annotations,
    key: &str,
    value: &str,
    unknown: &dyn Fn(&str) -> OutputError,
) -> Result<(), OutputError> {
    let wanted = "annotation[-index|-index-descriptor|-manifest|-manifest-descriptor][[PLATFORM]].KEY";
    let end = key.find(['.', '[']).unwrap_or(key.len());
    let (place, rest) = key.split_at(end);
    let placement = match place {
        "annotation" | "annotation-manifest" => Placement::Manifest,
        "annotation-manifest-descriptor" => Placement::ManifestDescriptor,
        "annotation-index" => Placement::Index,
        "annotation-index-descriptor" => Placement::IndexDescriptor,
        _ => return Err(unknown(key)),
    };
    let (platform, rest) = match rest.strip_prefix('[') {
        None => (None, rest),
        Some(inside) => {
            let (platform, rest) = inside.split_once(']').ok_or_else(|| bad(key, value, wanted))?;
            let platform = platform.parse::<Platform>().map_err(|e| bad(key, value, &e.to_string()))?;
            (Some(platform), rest)
        }
    };
    if platform.is_some() && matches!(placement, Placement::Index | Placement::IndexDescriptor) {
        return Err(bad(key, value, "no platform: an index has none"));
    }
    match rest.strip_prefix('.') {
        Some(name) if !name.is_empty() => annotations.add(placement, platform, name, value),
        _ => return Err(bad(key, value, wanted)),
    }
    Ok(())
}

/// Keys of BuildKit that rhost knows but does nothing for; their values that change nothing pass.
fn later(key: &str, value: &str, unknown: &dyn Fn(&str) -> OutputError) -> Result<(), OutputError> {
    let Some((_, harmless, hint)) = LATER.iter().find(|(known, ..)| *known == key) else { return Err(unknown(key)) };
    let asks_nothing = match boolean(key, value) {
        Ok(value) => value.to_string() == *harmless,
        Err(_) => false,
    };
    if asks_nothing {
        return Ok(());
    }
    Err(OutputError::NotSupported { option: format!("{key}={value}"), hint: *hint })
}

fn bad(key: &str, value: &str, wanted: &str) -> OutputError {
    OutputError::Value { key: key.to_owned(), value: value.to_owned(), wanted: wanted.to_owned() }
}

/// The spellings that Go's `strconv.ParseBool` takes, because buildx uses it; `key=` alone is true there.
fn boolean(key: &str, value: &str) -> Result<bool, OutputError> {
    match value {
        "" | "1" | "t" | "T" | "TRUE" | "true" | "True" => Ok(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Ok(false),
        _ => Err(bad(key, value, "true or false")),
    }
}

fn epoch(key: &str, value: &str) -> Result<Option<i64>, OutputError> {
    if value.is_empty() {
        return Ok(None);
    }
    value.parse().map(Some).map_err(|_| bad(key, value, "seconds since 1970"))
}
