//! User namespaces for plain users: one for the whole process, so that the store can write files of several owners.
use crate::error::{ExecError, Result};

/// What `enter_user_namespace` found or made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UserNamespace {
    /// Already privileged (root, or inside a user namespace with capabilities); nothing was done.
    NotNeeded,
    /// Entered; the ranges of /etc/subuid and /etc/subgid are mapped.
    Ranges,
    /// Entered with only this user mapped, as root: files cannot have other owners and steps cannot change user.
    SingleId,
}

/// Enters a user and a mount namespace with the whole process, in which it is root. Must be called while the process has one
/// thread (before any async runtime).
///
/// # Errors
/// `NoPrivilege` when user namespaces are forbidden.
pub fn enter_user_namespace() -> Result<UserNamespace> {
    Err(ExecError::Unsupported("the executor is being written".into()))
}

/// Whether this process is in a user namespace other than the machine's first. There overlayfs needs `userxattr`, so opaque
/// directories are marked with `user.overlay.opaque` instead of `trusted.overlay.opaque`.
pub fn in_user_namespace() -> bool {
    std::fs::read_to_string("/proc/self/uid_map").is_ok_and(|map| !is_identity(&map))
}

fn is_identity(map: &str) -> bool {
    map.split_whitespace().eq(["0", "0", "4294967295"])
}
