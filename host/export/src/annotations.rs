//! `Annotations`: what `annotation…=` of an exporter adds, and to which document (spec E).
use std::collections::BTreeMap;

use rhost_llb::Platform;

use crate::error::ExportError;

/// Which document an annotation goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Placement {
    /// The image manifest: `annotation.` and `annotation-manifest.`.
    Manifest,
    /// The descriptor of the image manifest, in the index or in the layout's `index.json`.
    ManifestDescriptor,
    /// The image index.
    Index,
    /// The descriptor of the index in the layout's `index.json`.
    IndexDescriptor,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Annotation {
    placement: Placement,
    platform: Option<Platform>,
    key: String,
    value: String,
}

/// Annotations by document and platform. A later one replaces an earlier one; one for a platform beats one for all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Annotations(Vec<Annotation>);

impl Annotations {
    /// None.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds one; `platform` restricts those of manifests and their descriptors.
    pub fn add(&mut self, placement: Placement, platform: Option<Platform>, key: &str, value: &str) {
        self.0.push(Annotation { placement, platform, key: key.to_owned(), value: value.to_owned() });
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Those of one document.
    pub fn of(&self, placement: Placement, platform: Option<&Platform>) -> BTreeMap<String, String> {
        let mut found = BTreeMap::new();
        for specific in [false, true] {
            for annotation in self.0.iter().filter(|a| a.placement == placement && a.platform.is_some() == specific) {
                if annotation.platform.is_none() || annotation.platform.as_ref() == platform {
                    found.insert(annotation.key.clone(), annotation.value.clone());
                }
            }
        }
        found
    }

    /// Refuses annotations that would silently go nowhere.
    pub(crate) fn check(&self, built: &[Platform], has_index: bool) -> Result<(), ExportError> {
        for annotation in &self.0 {
            let key = annotation.key.clone();
            if !has_index && matches!(annotation.placement, Placement::Index | Placement::IndexDescriptor) {
                return Err(ExportError::IndexAnnotation { key });
            }
            if let Some(platform) = &annotation.platform
                && !built.contains(platform)
            {
                return Err(ExportError::AnnotationPlatform {
                    key,
                    platform: Box::new(platform.clone()),
                    built: built.to_vec(),
                });
            }
        }
        Ok(())
    }
}
