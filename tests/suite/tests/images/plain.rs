//! Root's image and a plain user's of the same context are the same: owners, modes, whiteouts, attributes.
//!
//! The user exists only in a mount namespace of the test, with subordinate ids of its own.
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, lchown};
use std::path::{Path, PathBuf};
use std::process::Command;

use rhost_kit::TestHost;

use super::case::Case;
use super::compare::compare;
use super::image::Archive;
use super::peers::{bases, finish, now, rhost_command};

const UID: u32 = 54321;

/// What a user namespace cannot do: make devices, give files to ids that are not mapped, show who owns the host's devices.
const BEYOND: &[&str] = &["add-archive-shapes", "add-archives", "huge-ids", "run-devices", "special-files"];

/// Enters the namespace and becomes the user.
const SCRIPT: &str = "set -e; cd \"$1\"; mount --bind passwd /etc/passwd; mount --bind sub /etc/subuid; mount --bind sub /etc/subgid; shift; \
    exec setpriv --reuid 54321 --regid 54321 --clear-groups \"$@\"";

/// `command` as the user, who finds its identity in `identity`.
fn as_plain_user(command: &Command, binary: &Path, identity: &Path) -> Command {
    let mut plain = Command::new("unshare");
    plain.args(["-m", "sh", "-c", SCRIPT, "sh"]).arg(identity).arg(binary).args(command.get_args());
    plain.env_clear().envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    plain
}

fn give(path: &Path) {
    lchown(path, Some(UID), Some(UID)).expect("chown");
    if fs::symlink_metadata(path).expect("there").is_dir() {
        let mut names: Vec<PathBuf> = fs::read_dir(path).expect("read").map(|e| e.expect("read").path()).collect();
        names.sort();
        names.iter().for_each(|path| give(path));
    }
}

#[test]
fn a_plain_users_images_are_roots() {
    if !rhost_kit::is_root() {
        return rhost_kit::skip("only root can become another user");
    }
    if !rhost_kit::have(&["newuidmap", "setpriv", "unshare", "setfattr", "setcap", "xz", "zstd", "bzip2"]) {
        return;
    }
    let Some(registry) = bases() else { return };
    let (root, plain) = (TestHost::new().expect("a host"), TestHost::new().expect("a host"));
    let work = tempfile::Builder::new().prefix("rhost-plain-").tempdir().expect("a directory");
    fs::set_permissions(work.path(), fs::Permissions::from_mode(0o755)).expect("mode");
    for host in [&root, &plain] {
        host.mirror_docker_io(registry.address()).expect("config");
    }
    let passwd = fs::read_to_string("/etc/passwd").expect("read") + &format!("plain:x:{UID}:{UID}::/:/bin/sh\n");
    fs::write(work.path().join("passwd"), passwd).expect("written");
    fs::write(work.path().join("sub"), format!("{UID}:200000:65536\n")).expect("written");
    let binary = work.path().join("rhost");
    fs::copy(plain.binary(), &binary).expect("copied");
    give(plain.dir());
    let out = work.path().join("out");
    fs::create_dir(&out).expect("made");
    give(&out);
    let (since, mut faults) = (now(), Vec::new());
    for bundle in super::bundles() {
        let case = Case::read(&bundle, work.path());
        if BEYOND.contains(&case.name.as_str()) {
            continue;
        }
        give(&case.context);
        let (theirs, ours) = (work.path().join("root.tar"), out.join("plain.tar"));
        let of_root = finish(&mut rhost_command(&root, &case, &theirs));
        let of_plain = finish(&mut as_plain_user(&rhost_command(&plain, &case, &ours), &binary, work.path()));
        let found = match (of_root, of_plain) {
            (Ok(()), Ok(())) => compare(&Archive::read(&theirs), &Archive::read(&ours), since),
            (Err(_), Err(_)) => Vec::new(),
            (of_root, of_plain) => {
                vec![format!("root: {of_root:?}"), format!("plain: {}", of_plain.err().unwrap_or_default())]
            }
        };
        if !found.is_empty() {
            faults.push(format!("=== {}\n  {}", case.name, found.join("\n  ")));
        }
        let _ = (fs::remove_file(&theirs), fs::remove_file(&ours));
    }
    assert!(
        faults.is_empty(),
        "(BuildKit: root, rhost: the plain user) {} contexts differ\n{}",
        faults.len(),
        faults.join("\n")
    );
}
