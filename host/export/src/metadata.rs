//! What a build tells afterwards: `--metadata-file` as buildx writes it, and the id for `--iidfile` (spec E, response keys).
use std::collections::BTreeMap;

use rhost_llb::Digest;
use serde_json::Value;

use crate::assemble::Assembled;
use crate::image_name::ImageName;
use crate::json;

/// The JSON of `--metadata-file`, indented, keys sorted. `image` is `None` for outputs without image (local, tar); `more`
/// holds further keys, such as `buildx.build.ref` or the frontend's own.
pub fn metadata_json(image: Option<&Assembled>, names: &[ImageName], more: &BTreeMap<String, Value>) -> Vec<u8> {
    let mut fields = more.clone();
    if let Some(image) = image {
        fields.insert("containerimage.digest".to_owned(), image.descriptor.digest.to_string().into());
        let descriptor = serde_json::to_value(&image.descriptor).expect("strings and numbers are JSON");
        fields.insert("containerimage.descriptor".to_owned(), descriptor);
        if let Some(config) = &image.config {
            fields.insert("containerimage.config.digest".to_owned(), config.digest.to_string().into());
        }
        if !names.is_empty() {
            let names: Vec<String> = names.iter().map(ToString::to_string).collect();
            fields.insert("image.name".to_owned(), names.join(",").into());
        }
    }
    json::pretty(&fields).expect("a map with string keys is JSON")
}

/// The text of `--iidfile`: the config's digest, for several platforms the index's. Without a newline.
pub fn image_id(image: &Assembled) -> Digest {
    image.config.as_ref().unwrap_or(&image.descriptor).digest.0
}
