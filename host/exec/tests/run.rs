//! Steps that run: output, exit codes, mounts, users.
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, Instant};

use rhost_exec::{
    Access, ExecError, ExitStatus, Mount, MountSource, Network, OutputStream, ResolvConf, Step, Tree, run_until,
};

use crate::kit::{Room, able, run, script, try_run};

fn tree(room: &Room, dir: &str, subpath: &str, to: &str, access: Access) -> Mount {
    let source = MountSource::Tree { tree: Tree::Dir(room.path(dir)), subpath: subpath.into() };
    Mount { destination: to.into(), source, access }
}

#[test]
fn output_and_codes() {
    if !able() {
        return;
    }
    let room = Room::new();
    let ran = try_run(room.step("echo out; echo err >&2; exit 3")).unwrap();
    assert_eq!((ran.out.as_str(), ran.err.as_str()), ("out\n", "err\n"));
    assert_eq!((ran.exit.status, ran.exit.success), (ExitStatus::Code(3), false));
    let mut step = Room::new().step("exit 3");
    step.valid_exit_codes = vec![0, 3];
    let room = Room::new();
    step.root = room.overlay();
    assert!(try_run(step).unwrap().exit.success);
}

#[test]
fn large_output_is_whole() {
    if !able() {
        return;
    }
    let out = script("i=0; while [ $i -lt 20000 ]; do echo line $i; i=$((i+1)); done");
    assert_eq!(out.lines().count(), 20000);
    assert!(out.ends_with("line 19999\n"));
}

#[test]
fn nothing_but_the_changes_in_upper() {
    if !able() {
        return;
    }
    let room = Room::new();
    let before = fs::metadata(room.path("base/etc")).unwrap();
    run(room.step("echo hi > /made"));
    assert_eq!(room.changes(), ["etc", "made"], "only the directory that held stubs was copied up");
    let after = fs::metadata(room.path("upper/etc")).unwrap();
    assert_eq!((before.mtime(), before.mtime_nsec()), (after.mtime(), after.mtime_nsec()));
    let top = (fs::metadata(room.path("base")).unwrap(), fs::metadata(room.path("upper")).unwrap());
    assert!(top.1.mtime() >= top.0.mtime());
}

#[test]
fn root_time_is_restored_in_a_bound_directory() {
    if !able() {
        return;
    }
    let room = Room::new();
    let old = std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(5000);
    fs::File::open(room.path("base")).unwrap().set_modified(old).unwrap();
    run(Step::new(Tree::Dir(room.path("base")), ["true"]));
    assert_eq!(fs::metadata(room.path("base")).unwrap().modified().unwrap(), old);
    assert!(!room.path("base/etc/hosts").exists());
}

#[test]
fn program_is_searched_and_refused_with_shell_codes() {
    if !able() {
        return;
    }
    let start = |args: &[&str]| {
        let room = Room::new();
        fs::create_dir(room.path("base/dir")).unwrap();
        fs::write(room.path("base/bin/plain"), "x").unwrap();
        match try_run(Step::new(room.overlay(), args.iter().copied())) {
            Err(ExecError::Start { code, .. }) => code,
            other => panic!("{:?}", other.map(|ran| ran.exit)),
        }
    };
    assert_eq!(start(&["no-such-program"]), 127);
    assert_eq!(start(&["/bin/none"]), 127);
    assert_eq!(start(&["/dir"]), 126);
    assert_eq!(start(&["/bin/plain"]), 126);
    assert_eq!(start(&["/proc/self/exe"]), 126);
}

#[test]
fn files_of_the_container() {
    if !able() {
        return;
    }
    let room = Room::new();
    let mut step = room.step("cat /etc/hosts /etc/resolv.conf; hostname; echo $HOME $A; pwd; ls /dev; echo x > /dev/null; echo 2 > /dev/stdout");
    step.extra_hosts = vec![("db".into(), "10.0.0.7".into()), ("six".into(), "fd00::1".into())];
    step.resolv_conf = ResolvConf::Text("nameserver 10.9.8.7\n".into());
    step.hostname = "builder".into();
    step.env.push("A=b".into());
    step.cwd = "/work/deep".into();
    let out = run(step).out;
    let expect = "127.0.0.1\tlocalhost builder\n::1\tlocalhost ip6-localhost ip6-loopback\n10.0.0.7\tdb\nfd00::1\tsix\nnameserver 10.9.8.7\nbuilder\n/root b\n/work/deep\nfd\nfull\nmqueue\nnull\nptmx\npts\nrandom\nshm\nstderr\nstdin\nstdout\ntty\nurandom\nzero\n2\n";
    assert_eq!(out, expect);
    assert!(room.path("upper/work/deep").is_dir(), "the working directory stays");
}

#[test]
fn users() {
    if !able() {
        return;
    }
    let check = |user: &str, expect: &str| {
        let room = Room::new();
        let mut step = room.step("id -u; id -g; id -G; echo ok > /dev/stdout");
        step.user = user.into();
        assert_eq!(run(step).out, expect, "{user}");
    };
    check("", "0\n0\n0\nok\n");
    check("app", "1000\n1001\n1001 10\nok\n");
    check("1000:7", "1000\n7\n7\nok\n");
    check("4321", "4321\n0\n0\nok\n");
}

#[test]
fn mounts() {
    if !able() {
        return;
    }
    let room = Room::new();
    fs::create_dir_all(room.path("cache/sub")).unwrap();
    fs::write(room.path("cache/sub/file"), "content").unwrap();
    let secret = MountSource::Secret { bytes: b"hush".to_vec().into(), uid: 0, gid: 1001, mode: 0o440 };
    let mut step = room.step(
        "cat /c/file /one; echo n > /c/new; echo x > /ro/y || echo refused; cat /run/secrets/s; stat -c '%a %u:%g' /run/secrets/s; echo z > /run/secrets/s || echo kept; echo t > /t/x && cat /t/x",
    );
    step.mounts = vec![
        tree(&room, "cache", "/sub", "/c", Access::ReadWrite),
        tree(&room, "cache", "sub/file", "/one", Access::ReadOnly),
        tree(&room, "cache", "", "/ro", Access::ReadOnly),
        Mount { destination: "/run/secrets/s".into(), source: secret, access: Access::ReadOnly },
        Mount {
            destination: "/t".into(),
            source: MountSource::Tmpfs { size: Some(1 << 20) },
            access: Access::ReadWrite,
        },
    ];
    let ran = run(step);
    assert_eq!(ran.out, "contentcontentrefused\nhush440 0:1001\nkept\nt\n");
    assert_eq!(fs::read_to_string(room.path("cache/sub/new")).unwrap(), "n\n");
    assert_eq!(room.changes(), ["etc"], "all mount points are gone");
}

#[test]
fn overlay_as_a_mount_with_a_subpath() {
    if !able() {
        return;
    }
    let room = Room::new();
    for (dir, text) in [("l1/d", "upper"), ("l2/d", "lower")] {
        fs::create_dir_all(room.path(dir)).unwrap();
        fs::write(room.path(dir).join("f"), text).unwrap();
    }
    let tree = Tree::Overlay { lowers: vec![room.path("l1"), room.path("l2")], upper: None };
    let mut step = room.step("cat /m/f; touch /m/g || echo ro");
    step.mounts = vec![Mount {
        destination: "/m".into(),
        source: MountSource::Tree { tree, subpath: "d".into() },
        access: Access::ReadOnly,
    }];
    assert_eq!(run(step).out, "upperro\n");
}

#[test]
fn read_only_root() {
    if !able() {
        return;
    }
    let room = Room::new();
    let mut step = room.step("touch /x || echo ro; touch /t/x && echo rw");
    step.root_access = Access::ReadOnly;
    step.mounts =
        vec![Mount { destination: "/t".into(), source: MountSource::Tmpfs { size: None }, access: Access::ReadWrite }];
    assert_eq!(run(step).out, "ro\nrw\n");
    assert_eq!(room.changes(), ["etc"]);
}

#[test]
fn many_lowers() {
    if !able() {
        return;
    }
    let room = Room::new();
    let long = "x".repeat(200);
    let mut lowers = Vec::new();
    for i in 0..200 {
        let dir = room.path(&format!("layers/{long}/{i}"));
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join(format!("f{i}")), "").unwrap();
        lowers.push(dir);
    }
    lowers.push(room.path("base"));
    let mut step = room.step("ls / | busybox wc -l");
    if let Tree::Overlay { lowers: list, .. } = &mut step.root {
        *list = lowers;
    }
    let count: usize = run(step).out.trim().parse().unwrap();
    assert!(count >= 200, "{count}");
}

#[test]
fn no_network_has_only_lo() {
    if !able() {
        return;
    }
    let room = Room::new();
    let mut step = room.step("ls /sys/class/net; ip addr show lo");
    step.network = Network::None;
    let out = run(step).out;
    assert!(out.starts_with("lo\n") && out.contains("127.0.0.1") && out.contains("UP"), "{out}");
}

#[test]
fn cancel_kills_everything() {
    if !able() {
        return;
    }
    let room = Room::new();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (say, mut heard) = tokio::sync::mpsc::unbounded_channel();
    let mut sink = move |_: OutputStream, _: &[u8]| {
        let _ = say.send(());
    };
    let started = Instant::now();
    let cancel = async move {
        heard.recv().await;
    };
    let step = room.step("sleep 1000 & busybox nohup sleep 1001 & echo up; sleep 1002");
    let answer = runtime.block_on(run_until(step, &mut sink, cancel));
    assert_eq!(answer.unwrap_err(), ExecError::Cancelled);
    assert!(started.elapsed() < Duration::from_secs(20));
    // Unmounted: the upper directory can be used again at once, and the stubs are gone.
    assert_eq!(room.changes(), ["etc"]);
    run(room.step("true"));
}

/// Children of this process that are called as the starter of supervisors, and theirs.
fn starters() -> Vec<i32> {
    let mut found = Vec::new();
    for task in fs::read_dir("/proc/self/task").unwrap().flatten() {
        let children = fs::read_to_string(task.path().join("children")).unwrap_or_default();
        found.extend(children.split_whitespace().filter_map(|pid| pid.parse::<i32>().ok()));
    }
    let is_starter = |pid: &i32| {
        fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.starts_with(rhost_exec::INIT_NAME.as_bytes()))
    };
    found.retain(is_starter);
    found
}

#[test]
fn a_killed_starter_is_replaced() {
    if !able() {
        return;
    }
    run(Room::new().step("true"));
    let before = starters();
    assert_eq!(before.len(), 1, "one for all steps");
    rustix::process::kill_process(rustix::process::Pid::from_raw(before[0]).unwrap(), rustix::process::Signal::KILL)
        .unwrap();
    assert_eq!(run(Room::new().step("echo yes")).out, "yes\n");
    assert_ne!(starters(), before);
}

#[test]
fn steps_at_once_have_supervisors_of_their_own() {
    if !able() {
        return;
    }
    let rooms: Vec<Room> = (0..24).map(|_| Room::new()).collect();
    let outs = std::thread::scope(|scope| {
        let threads: Vec<_> = rooms
            .iter()
            .enumerate()
            .map(|(number, room)| scope.spawn(move || run(room.step(&format!("echo {number}; sleep 0.0{number}"))).out))
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
    });
    let wanted: Vec<String> = (0..24).map(|number| format!("{number}\n")).collect();
    assert_eq!(outs, wanted);
}

#[test]
fn dropping_the_future_kills_the_step() {
    if !able() {
        return;
    }
    let room = Room::new();
    let fifo = room.path("base/fifo");
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, 0o666.into(), 0).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (say, mut heard) = tokio::sync::mpsc::unbounded_channel();
        let mut sink = move |_: OutputStream, _: &[u8]| {
            let _ = say.send(());
        };
        // The step holds the fifo open for writing: our reader sees its end when every process is gone.
        let mut step = Step::new(
            Tree::Dir(room.path("base")),
            ["/bin/sh", "-c", "exec 3<>/fifo; sleep 1000 & echo up; sleep 1000"],
        );
        step.resolv_conf = ResolvConf::Image;
        let reader = tokio::net::unix::pipe::OpenOptions::new().open_receiver(&fifo).unwrap();
        tokio::select! {
            _ = rhost_exec::run(step, &mut sink) => panic!("it must not end by itself"),
            _ = heard.recv() => {}
        }
        let mut buffer = [0; 1];
        loop {
            reader.readable().await.unwrap();
            match reader.try_read(&mut buffer) {
                Ok(0) => break,
                Ok(_) => {}
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(error) => panic!("{error}"),
            }
        }
    });
}

#[test]
fn background_processes_end_with_the_program() {
    if !able() {
        return;
    }
    let started = Instant::now();
    assert_eq!(script("sleep 1000 & echo done"), "done\n");
    assert!(started.elapsed() < Duration::from_secs(20));
}

#[test]
fn a_crash_of_the_parent_ends_the_step() {
    if !able() {
        return;
    }
    let room = Room::new();
    let fifo = room.path("base/fifo");
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, 0o666.into(), 0).unwrap();
    let mut child = std::process::Command::new("/proc/self/exe")
        .args(["--ignored", "--exact", "run::inner_long_step"])
        .env("ROOM", room.dir.path())
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let mut reader = fs::File::open(&fifo).unwrap();
    let mut said = [0; 3];
    std::io::Read::read_exact(&mut reader, &mut said).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    // The end of the fifo: every process of the step is gone.
    std::io::Read::read_to_end(&mut reader, &mut Vec::new()).unwrap();
}

#[test]
#[ignore = "run by `a_crash_of_the_parent_ends_the_step`, which kills it"]
fn inner_long_step() {
    let base = std::path::PathBuf::from(std::env::var_os("ROOM").unwrap()).join("base");
    let mut step = Step::new(
        Tree::Dir(base),
        ["/bin/sh", "-c", "exec 3>/fifo; busybox setsid sleep 1000 & echo up >&3; sleep 1000"],
    );
    step.resolv_conf = ResolvConf::Image;
    let _ = try_run(step);
}

#[test]
fn what_a_bare_root_lacks_is_made_as_buildkit_makes_it() {
    if !able() {
        return;
    }
    let room = Room::new();
    for name in ["dev", "proc", "sys", "etc/passwd", "etc/group", "etc"] {
        let path = room.path(&format!("base/{name}"));
        let gone = if path.is_dir() { std::fs::remove_dir(&path) } else { std::fs::remove_file(&path) };
        gone.unwrap();
    }
    let mut step = room.step("true");
    step.cwd = "/work/dir".into();
    step.user = "12:34".into();
    run(step);
    // The mount points of the system stay; those of files do not. The working directory is the user's.
    assert_eq!(room.changes(), ["dev", "proc", "sys", "work", "work/dir"]);
    let owner = |name: &str| {
        let meta = std::fs::metadata(room.path(&format!("upper/{name}"))).unwrap();
        (std::os::unix::fs::MetadataExt::uid(&meta), std::os::unix::fs::MetadataExt::gid(&meta))
    };
    assert_eq!((owner("work"), owner("work/dir"), owner("proc")), ((12, 34), (12, 34), (0, 0)));
}
