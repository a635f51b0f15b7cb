//! Stores to test on.
use rhost_rootfs::OverlayXattrs;
use rhost_store::{Durability, Store, StoreOptions};

/// Opens the store at `path`.
pub fn open(path: &std::path::Path) -> Store {
    Store::open(path, StoreOptions { durability: Durability::Fast, overlay: OverlayXattrs::User }).unwrap()
}
