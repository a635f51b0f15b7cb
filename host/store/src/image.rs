//! Names of images: what `-t` makes, `images` lists, `rmi` removes, `FROM` may use.
use oci_spec::image::Descriptor;

use crate::store::Store;
use crate::{Error, Result};

/// The annotation of an image's name in an index (OCI image-spec, annotations.md).
const NAME: &str = "org.opencontainers.image.ref.name";

/// The full name of an image, `docker.io/library/busybox:1.36`; the store takes it as text and does not parse it.
pub type ImageName = String;

/// What a name stands for.
#[derive(Debug, Clone, PartialEq)]
pub struct ImageRecord {
    /// The name.
    pub name: ImageName,
    /// Manifest or index, with platform and annotations where known.
    pub descriptor: Descriptor,
    /// When the name was last set, Unix seconds.
    pub updated: i64,
}

impl Store {
    /// Lets `name` stand for `descriptor`, whose blobs must be stored already. Replaces what it stood for.
    pub fn tag(&self, name: &str, descriptor: &Descriptor) -> Result<()> {
        self.inner.db.tag(name, descriptor)?;
        self.write_index()
    }

    /// What `name` stands for; `None` when it is unknown, or its manifest is no longer stored.
    pub fn image(&self, name: &str) -> Result<Option<ImageRecord>> {
        Ok(self.inner.db.image(name)?.filter(|i| self.has_target(i)))
    }

    /// All names, sorted; those whose manifest is no longer stored are left out.
    pub fn images(&self) -> Result<Vec<ImageRecord>> {
        Ok(self.inner.db.images()?.into_iter().filter(|i| self.has_target(i)).collect())
    }

    /// Removes `name`; false when it was unknown. Blobs stay until they are collected.
    pub fn untag(&self, name: &str) -> Result<bool> {
        let found = self.inner.db.untag(name)?;
        if found {
            self.write_index()?;
        }
        Ok(found)
    }

    /// Writes the names into the layout's `index.json` too: other tools read it, and damaged records are restored from it.
    fn write_index(&self) -> Result<()> {
        let _alone = self.lock("index.json")?;
        let mut index = Vec::new();
        for image in self.inner.db.images()? {
            let Ok(mut entry) = serde_json::to_value(&image.descriptor) else { continue };
            entry["annotations"][NAME] = image.name.into();
            index.push(entry);
        }
        let index = serde_json::json!({
            "schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": index,
        });
        let (path, new) =
            (self.layout_dir().join("index.json"), self.root().join("ingest-v1").join(crate::lock::unique_name()));
        std::fs::write(&new, index.to_string()).map_err(|e| Error::io("write", &new, e))?;
        std::fs::rename(&new, &path).map_err(|e| Error::io("write", path, e))
    }

    /// Gives images their names again after the records were lost.
    pub(crate) fn restore_names(&self) -> Result<()> {
        let text = std::fs::read(self.layout_dir().join("index.json")).unwrap_or_default();
        let index: serde_json::Value = serde_json::from_slice(&text).unwrap_or_default();
        let mut count = 0;
        for entry in index["manifests"].as_array().into_iter().flatten() {
            let Some(name) = entry["annotations"][NAME].as_str() else { continue };
            let Ok(descriptor) = serde_json::from_value::<Descriptor>(entry.clone()) else { continue };
            let digest = descriptor.digest().to_string().parse();
            if digest.is_ok_and(|digest| self.read_blob(&digest, crate::MAX_READ).is_ok_and(|found| found.is_some())) {
                self.inner.db.tag(name, &descriptor)?;
                count += 1;
            }
        }
        self.warn(format!(
            "the store's records were damaged and are begun anew: blobs and {count} image names are kept, steps run again; the old file is kept as `*.damaged`"
        ));
        Ok(())
    }

    fn has_target(&self, image: &ImageRecord) -> bool {
        image.descriptor.digest().to_string().parse().is_ok_and(|digest| self.blob_size(&digest).is_some())
    }
}
