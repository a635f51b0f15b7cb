//! Views of snapshots: a directory where there is one layer, else an overlay that is mounted nowhere.
//!
//! The overlay exists only as a descriptor (fsopen, fsmount): no mount point, nothing to unmount, gone with the process
//! however that ends. `lowerdir+` takes each layer by itself, since mount(2) stops at 4 KiB of options.
use std::os::fd::OwnedFd;
use std::path::Path;

use rhost_rootfs::Root;
use rhost_store::MountSpec;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen,
};

/// Opens what `spec` describes; writable if it has an upper directory.
///
/// # Errors
/// The kernel refuses the overlay, in its own words.
pub fn open(spec: &MountSpec) -> std::io::Result<Root> {
    let root = |path: &Path| Root::open(path).map_err(std::io::Error::other);
    match (&spec.upper, spec.lowers.as_slice()) {
        (Some(upper), []) => root(upper),
        (None, [only]) => root(only),
        (None, []) => Err(std::io::Error::other("a snapshot without layers")),
        _ => Ok(Root::from_fd(mount(spec)?)),
    }
}

fn mount(spec: &MountSpec) -> std::io::Result<OwnedFd> {
    let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
    let set = |name: &str, value: &str| fsconfig_set_string(&context, name, value);
    for lower in &spec.lowers {
        fsconfig_set_string(&context, "lowerdir+", lower)?;
    }
    if let (Some(upper), Some(work)) = (&spec.upper, &spec.work) {
        fsconfig_set_string(&context, "upperdir", upper)?;
        fsconfig_set_string(&context, "workdir", work)?;
    }
    // Neither made nor followed; beside `userxattr` the kernel refuses `off`.
    set("redirect_dir", "nofollow")?;
    set("metacopy", "off")?;
    set("index", "off")?;
    if spec.userxattr {
        fsconfig_set_flag(&context, "userxattr")?;
    }
    fsconfig_create(&context)?;
    Ok(fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())?)
}
