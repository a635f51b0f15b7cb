//! Values that the tables hold.
use rhost_llb::BlobDigest;
use serde::{Deserialize, Serialize};

/// A layer as it travels: one compressed form of a diff id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlobRecord {
    /// Digest of the stored bytes.
    pub digest: BlobDigest,
    /// Size of the stored bytes.
    pub size: u64,
    /// Media type, `application/vnd.oci.image.layer.v1.tar+gzip` for instance.
    pub media_type: String,
}
