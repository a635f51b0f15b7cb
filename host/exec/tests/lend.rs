//! What is lent to a step: secrets, sockets, locks; and what an insecure step gets.
use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::process::{Command, Stdio};

use rhost_exec::{Access, Mount, MountSource, Network, ResolvConf, Security, Service, Step, Tree, Ulimit};
use rustix::fs::{FlockOperation, flock};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::kit::{Room, able, run, try_run};

fn secret(to: &str, bytes: &[u8], mode: u32) -> Mount {
    let source = MountSource::Secret { bytes: bytes.to_vec().into(), uid: 0, gid: 0, mode };
    Mount { destination: to.into(), source, access: Access::ReadOnly }
}

#[test]
fn a_secret_is_shown_by_no_debug_text_and_no_error() {
    let room = Room::new();
    let mut step = room.step("true");
    step.mounts = vec![secret("/s", b"hush-hush", 0o400)];
    step.secret_env = vec![("TOKEN".into(), b"hush\0hush".to_vec().into())];
    assert!(!format!("{step:?}").contains("hush"), "{step:?}");
    let Err(error) = try_run(step) else { panic!("a NUL byte cannot be in a variable") };
    assert!(error.to_string().contains("TOKEN") && !error.to_string().contains("hush"), "{error}");
}

#[test]
fn secret_variables_win_and_may_hold_any_bytes() {
    if !able() {
        return;
    }
    let room = Room::new();
    let mut step = room.step("echo $A; echo \"$B\" | busybox od -An -tx1; busybox env | busybox grep -c ^A=");
    step.env.push("A=plain".into());
    step.secret_env = vec![("A".into(), b"secret".to_vec().into()), ("B".into(), b"\xff\n=".to_vec().into())];
    assert_eq!(run(step).out, "secret\n ff 0a 3d 0a\n1\n");
}

#[test]
fn a_secret_is_on_memory_read_only_and_executable_only_by_its_mode() {
    if !able() {
        return;
    }
    let room = Room::new();
    let mut step = room.step("busybox grep -E ' /(s|x) ' /proc/self/mountinfo; /x; ulimit -c");
    step.mounts = vec![secret("/s", b"1", 0o400), secret("/x", b"#!/bin/sh\necho ran\n", 0o500)];
    let out = run(step).out;
    let lines: Vec<&str> = out.lines().collect();
    let [s, x, ran, core] = lines[..] else { panic!("{out}") };
    assert!(s.contains("ro,nosuid,nodev,noexec") && s.contains(" tmpfs "), "{out}");
    assert!(x.contains("ro,nosuid,nodev") && !x.contains("noexec"), "{out}");
    assert_eq!((ran, core), ("ran", "0"));
    assert_eq!(room.changes(), ["etc"]);
    // A limit that was asked for is the asker's business.
    let mut step = room.step("ulimit -c");
    step.mounts = vec![secret("/s", b"1", 0o400)];
    step.ulimits = vec![Ulimit { name: "core".into(), soft: 1024, hard: 1024 }];
    assert_ne!(run(step).out, "0\n");
}

/// A service that says `hello NAME` to each line it is told.
fn greeter() -> Service {
    Service::new(|mut stream| async move {
        let mut said = [0; 64];
        while let Ok(count @ 1..) = stream.read(&mut said).await {
            let text = [b"hello ", &said[..count]].concat();
            if stream.write_all(&text).await.is_err() {
                return;
            }
        }
    })
}

fn socket(to: &str, uid: u32, mode: u32) -> Mount {
    let source = MountSource::Socket { service: greeter(), uid, gid: 0, mode };
    Mount { destination: to.into(), source, access: Access::ReadOnly }
}

/// A step that runs one ignored test of this binary, with the libraries of this machine.
fn client(room: &Room, test: &str) -> Step {
    for (link, target) in [("lib", "usr/lib"), ("lib64", "usr/lib64")] {
        std::os::unix::fs::symlink(target, room.path("base").join(link)).unwrap();
    }
    let args = ["/client", "--ignored", "--exact", test, "--nocapture", "--test-threads=1"];
    let mut step = Step::new(room.overlay(), args);
    let mut bind = |source: MountSource, to: &str| {
        step.mounts.push(Mount { destination: to.into(), source, access: Access::ReadOnly });
    };
    for dir in ["/usr/lib", "/usr/lib64"].into_iter().filter(|dir| std::path::Path::new(dir).is_dir()) {
        bind(MountSource::Tree { tree: Tree::Dir(dir.into()), subpath: String::new() }, dir);
    }
    bind(MountSource::HostFile(std::env::current_exe().unwrap()), "/client");
    step
}

#[test]
fn a_socket_is_answered_also_without_a_network_and_by_its_owner_only() {
    if !able() {
        return;
    }
    let room = Room::new();
    let mut step = client(&room, "lend::inner_client");
    step.network = Network::None;
    step.mounts.push(socket("/run/a.sock", 0, 0o600));
    let ran = run(step);
    assert!(ran.out.contains("100 answers") && ran.out.contains("mode 600 of 0"), "{}{}", ran.out, ran.err);
    assert!(!room.changes().iter().any(|change| change.starts_with("run")), "no socket stays: {:?}", room.changes());
    let room = Room::new();
    let mut step = client(&room, "lend::inner_client");
    step.user = "app".into();
    step.mounts.push(socket("/run/a.sock", 7, 0o600));
    let ran = try_run(step).unwrap();
    assert!(!ran.exit.success && ran.err.contains("Permission denied"), "{}{}", ran.out, ran.err);
}

#[test]
#[ignore = "run inside of a container"]
fn inner_client() {
    use std::io::{Read as _, Write as _};
    let path = "/run/a.sock";
    let found = fs::metadata(path).unwrap();
    println!("mode {:o} of {}", found.permissions().mode() & 0o777, std::os::unix::fs::MetadataExt::uid(&found));
    let threads: Vec<_> = (0..100)
        .map(|number| {
            std::thread::spawn(move || {
                let mut stream = std::os::unix::net::UnixStream::connect(path)?;
                write!(stream, "{number}")?;
                let mut answer = [0; 32];
                let count = stream.read(&mut answer)?;
                assert_eq!(answer[..count], *format!("hello {number}").as_bytes());
                std::io::Result::Ok(())
            })
        })
        .collect();
    let answers = threads.into_iter().map(|thread| thread.join().unwrap().unwrap()).count();
    println!("{answers} answers");
}

#[test]
fn a_lock_outlives_a_killed_parent_until_the_step_is_gone() {
    if !able() {
        return;
    }
    let room = Room::new();
    let (fifo, lock) = (room.path("base/fifo"), room.path("lock"));
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, 0o666.into(), 0).unwrap();
    let file = fs::File::create(&lock).unwrap();
    let mut child = Command::new("/proc/self/exe")
        .args(["--ignored", "--exact", "lend::inner_holder"])
        .env("ROOM", room.dir.path())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut reader = fs::File::open(&fifo).unwrap();
    std::io::Read::read_exact(&mut reader, &mut [0; 3]).unwrap();
    let only_child = |pid: u32| -> u32 {
        let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
        let children = tasks.map(|task| fs::read_to_string(task.unwrap().path().join("children")).unwrap());
        children.collect::<String>().split_whitespace().next().unwrap().parse().unwrap()
    };
    let supervisor = only_child(only_child(child.id())) as i32;
    let supervisor = rustix::process::Pid::from_raw(supervisor).unwrap();
    // Stopped, it cannot clean up: the moment between the parent's death and the step's is as long as we like.
    rustix::process::kill_process(supervisor, rustix::process::Signal::STOP).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(flock(&file, FlockOperation::NonBlockingLockExclusive), Err(rustix::io::Errno::WOULDBLOCK));
    rustix::process::kill_process(supervisor, rustix::process::Signal::CONT).unwrap();
    flock(&file, FlockOperation::LockExclusive).unwrap();
}

#[test]
#[ignore = "run by `a_lock_outlives_a_killed_parent_until_the_step_is_gone`, which kills it"]
fn inner_holder() {
    let room = std::path::PathBuf::from(std::env::var_os("ROOM").unwrap());
    let file = fs::File::open(room.join("lock")).unwrap();
    flock(&file, FlockOperation::LockExclusive).unwrap();
    let script = "exec 3>/fifo; echo up >&3; sleep 1000";
    let mut step = Step::new(Tree::Dir(room.join("base")), ["/bin/sh", "-c", script]);
    step.resolv_conf = ResolvConf::Image;
    step.held.push(OwnedFd::from(file));
    let _ = try_run(step);
}

#[test]
fn a_lock_is_no_descriptor_of_the_program() {
    if !able() {
        return;
    }
    let room = Room::new();
    let mut step = room.step("cd /proc/self/fd; for f in *; do echo $f; done");
    step.held.push(OwnedFd::from(fs::File::create(room.path("lock")).unwrap()));
    step.mounts = vec![socket("/s", 0, 0o600)];
    assert_eq!(run(step).out, "0\n1\n2\n3\n");
}

#[test]
fn an_insecure_step_has_every_capability_for_every_user_and_the_devices() {
    if !able() {
        return;
    }
    let own = fs::read_to_string("/proc/self/status").unwrap();
    let own = own.lines().find_map(|line| line.strip_prefix("CapPrm:\t")).unwrap().to_owned();
    for user in ["", "app"] {
        let room = Room::new();
        let mut step = room.step("busybox grep -E '^Cap(Inh|Prm|Eff|Amb)' /proc/self/status");
        step.security = Security::Insecure;
        step.user = user.into();
        let out = run(step).out;
        assert!(out.lines().count() == 4 && out.lines().all(|line| line.ends_with(&own)), "{user} {out}");
    }
    let room = Room::new();
    let mut step = room.step("for d in fuse kmsg loop-control loop0 loop7 net/tun kvm cuse; do [ -c /dev/$d -o -b /dev/$d ] || echo no $d; done; mknod /n c 1 3 && echo x > /n && echo opened; touch /proc/sys/vm/swappiness && echo writable");
    step.security = Security::Insecure;
    let may_mknod = rustix::fs::mknodat(
        rustix::fs::CWD,
        room.path("probe"),
        rustix::fs::FileType::BlockDevice,
        0o600.into(),
        rustix::fs::makedev(7, 0),
    );
    let out = run(step).out;
    if may_mknod.is_ok() {
        assert_eq!(out, "opened\nwritable\n");
        assert!(fs::metadata(room.path("probe")).unwrap().file_type().is_block_device());
    } else {
        assert!(out.ends_with("writable\n"), "{out}");
    }
    let mode = fs::metadata(room.path("upper/n")).unwrap();
    assert!(mode.file_type().is_char_device() && mode.permissions().mode() & 0o777 == 0o644);
}
