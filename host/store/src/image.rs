//! Names of images: what `-t` makes, `images` lists, `rmi` removes, `FROM` may use.
use oci_spec::image::Descriptor;

use crate::Result;
use crate::store::Store;

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
        self.inner.db.tag(name, descriptor)
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
        self.inner.db.untag(name)
    }

    fn has_target(&self, image: &ImageRecord) -> bool {
        image.descriptor.digest().to_string().parse().is_ok_and(|digest| self.blob_size(&digest).is_some())
    }
}
