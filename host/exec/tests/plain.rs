//! The same executor as a plain user: this test binary runs itself again with another uid, in a mount namespace where that user
//! exists and has, or has no, subordinate ids.
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use rhost_exec::{Network, UserNamespace, enter_user_namespace, in_user_namespace};

use crate::kit::{Room, able, run, try_run};

const UID: &str = "54321";

/// Runs one ignored test of this binary as the user.
fn as_plain_user(test: &str, subordinate: &str) {
    if !able() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let passwd = fs::read_to_string("/etc/passwd").unwrap() + &format!("plain:x:{UID}:{UID}::/:/bin/sh\n");
    fs::write(dir.path().join("passwd"), passwd).unwrap();
    fs::write(dir.path().join("sub"), subordinate).unwrap();
    // The build directory may be closed to others.
    let binary = dir.path().join("test");
    fs::copy("/proc/self/exe", &binary).unwrap();
    fs::set_permissions(&binary, fs::Permissions::from_mode(0o755)).unwrap();
    let script = "set -e; cd \"$1\"; mount --bind passwd /etc/passwd; mount --bind sub /etc/subuid; mount --bind sub /etc/subgid; \
        exec setpriv --reuid \"$2\" --regid \"$2\" --clear-groups \"$1/test\" --ignored --exact \"$3\" --nocapture --test-threads 1";
    let output = Command::new("unshare")
        .args(["-m", "sh", "-c", script, "sh"])
        .arg(dir.path())
        .args([UID, test])
        .env("TMPDIR", "/tmp")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}

#[test]
fn one_id() {
    as_plain_user("plain::inner_one_id", "");
}

#[test]
fn ranges() {
    as_plain_user("plain::inner_ranges", &format!("{UID}:200000:65536\n"));
}

#[test]
#[ignore = "run by `one_id` as another user"]
fn inner_one_id() {
    let room = Room::new();
    let ran = run(room.step(
        "id -u; echo made > /made; touch /etc/x; cat /proc/self/uid_map; busybox grep ^Seccomp: /proc/self/status",
    ));
    assert!(ran.out.starts_with("0\n") && ran.out.contains(UID) && ran.out.ends_with("Seccomp:\t2\n"), "{}", ran.out);
    assert_eq!(room.changes(), ["etc", "etc/x", "made"]);
    let mut step = room.step("true");
    step.user = "app".into();
    let Err(error) = try_run(step) else { panic!("nobody else is mapped") };
    assert!(error.to_string().contains("/etc/subuid"), "{error}");
}

#[test]
#[ignore = "run by `ranges` as another user"]
fn inner_ranges() {
    let room = Room::new();
    let mut step = room.step("id -u; id -G; touch /tmp/mine; busybox rm -r /root");
    step.user = "app".into();
    let ran = try_run(step).unwrap();
    assert!(ran.out.starts_with("1000\n1001 10\n"), "{}{}", ran.out, ran.err);
    let mut step = room.step("busybox chown 1000:1001 /made /tmp 2>/dev/null; touch /a; busybox chown 5:6 /a; busybox rm -r /root; busybox mkdir /root; ls /sys/class/net");
    step.network = Network::None;
    assert_eq!(run(step).out, "lo\n");
    let meta = fs::metadata(room.path("upper/a")).unwrap();
    assert_eq!(
        (std::os::unix::fs::MetadataExt::uid(&meta), std::os::unix::fs::MetadataExt::gid(&meta)),
        (200_004, 200_005)
    );
    // The harness has threads: refused, with a reason.
    assert!(enter_user_namespace().is_err_and(|e| e.to_string().contains("threads")));
    // Files of others in upper and work: let a step remove them, as the store would from within the namespace.
    let mut step = room.step("busybox chown -R 0:0 /clean; busybox rm -rf /clean/*");
    step.mounts = vec![rhost_exec::Mount {
        destination: "/clean".into(),
        source: rhost_exec::MountSource::Tree {
            tree: rhost_exec::Tree::Dir(room.dir.path().to_owned()),
            subpath: "upper".into(),
        },
        access: rhost_exec::Access::ReadWrite,
    }];
    step.root = rhost_exec::Tree::Dir(room.path("base"));
    run(step);
}

/// What a binary's `main` does first; the harness's own comes too late, when there are threads.
extern "C" fn enter_first() {
    let line = fs::read("/proc/self/cmdline").unwrap_or_default();
    if line.split(|b| *b == 0).any(|arg| arg == b"plain::inner_entered") {
        assert_eq!(enter_user_namespace(), Ok(UserNamespace::Ranges));
    }
}

// SAFETY: a function pointer that libc calls once before `main`.
#[used]
#[unsafe(link_section = ".init_array")]
static ENTER_FIRST: extern "C" fn() = enter_first;

#[test]
fn whole_process() {
    as_plain_user("plain::inner_entered", &format!("{UID}:200000:65536\n"));
}

#[test]
#[ignore = "run by `whole_process` as another user"]
fn inner_entered() {
    assert!(in_user_namespace());
    assert_eq!(enter_user_namespace(), Ok(UserNamespace::NotNeeded));
    let room = Room::new();
    let file = room.path("base/owned");
    fs::write(&file, "x").unwrap();
    std::os::unix::fs::chown(&file, Some(1000), Some(1001)).unwrap();
    let mut step = room.step("stat -c %u:%g /owned; id -u; busybox rm /owned");
    step.user = "app".into();
    let ran = try_run(step).unwrap();
    assert_eq!(ran.out, "1000:1001\n1000\n", "{}", ran.err);
    let mut step = room.step("busybox rm /owned; busybox rm -r /root; busybox mkdir /root");
    step.network = Network::Host;
    run(step);
    // userxattr: the opaque mark of a replaced directory is one that a plain user can read.
    let mut value = [0; 8];
    assert_eq!(rustix::fs::getxattr(room.path("upper/root"), "user.overlay.opaque", &mut value).unwrap(), 1);
}
