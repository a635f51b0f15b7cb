//! No silent skip: a test that lacks something says so loudly, and fails where `CI` is set.
use std::path::Path;

/// Says why a test is skipped; the test returns after it.
///
/// # Panics
/// When the environment has `CI`: there everything must run.
pub fn skip(reason: &str) {
    assert!(std::env::var_os("CI").is_none(), "cannot run here: {reason}");
    eprintln!("SKIP: {reason}");
}

/// Whether all these programs are installed; else skips.
pub fn have(programs: &[&str]) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let dirs: Vec<_> = std::env::split_paths(&path).chain(["/usr/sbin", "/sbin"].map(Into::into)).collect();
    let found = |program: &str| dirs.iter().any(|dir| Path::new(dir).join(program).is_file());
    match programs.iter().find(|program| !found(program)) {
        Some(missing) => {
            skip(&format!("`{missing}` is not installed (`cargo xtask setup` installs it)"));
            false
        }
        None => true,
    }
}

/// Whether files of images can belong to several users here: as root, or with a range in /etc/subuid; else skips.
pub fn have_users() -> bool {
    let found = is_root() || crate::base_image::has_subordinate_ids().unwrap_or(false);
    if !found {
        skip("this user has no range in /etc/subuid");
    }
    found
}

/// Whether this process is root (of its user namespace).
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}
