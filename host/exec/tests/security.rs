//! Rows of the threat table that an executor can break.
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::os::unix::fs::symlink;

use rhost_exec::{Access, ExecError, Mount, MountSource, Security, Step, Tree};

use crate::kit::{Room, able, run, script, try_run};

fn bind(room: &Room, dir: &str, subpath: &str, to: &str) -> Mount {
    let source = MountSource::Tree { tree: Tree::Dir(room.path(dir)), subpath: subpath.into() };
    Mount { destination: to.into(), source, access: Access::ReadWrite }
}

#[test]
fn subpath_links_stay_in_the_source() {
    if !able() {
        return;
    }
    let room = Room::new();
    fs::create_dir_all(room.path("cache/etc")).unwrap();
    fs::write(room.path("cache/etc/mark"), "inside").unwrap();
    symlink("/etc", room.path("cache/abs")).unwrap();
    symlink("../../../../../../../../etc", room.path("cache/rel")).unwrap();
    for path in ["abs", "rel", "../../../../../etc", "abs/../etc"] {
        let mut step = room.step("cat /m/mark");
        step.mounts = vec![bind(&room, "cache", path, "/m")];
        assert_eq!(run(step).out, "inside", "{path}");
    }
}

#[test]
fn destination_links_stay_in_the_root() {
    if !able() {
        return;
    }
    let room = Room::new();
    let outside = room.path("outside");
    fs::create_dir_all(&outside).unwrap();
    fs::create_dir_all(room.path("cache")).unwrap();
    symlink(&outside, room.path("base/link")).unwrap();
    let mut step = room.step("ls -d /link/x && touch /link/x/made");
    step.mounts = vec![bind(&room, "cache", "", "/link/x")];
    run(step);
    assert!(room.path("cache/made").exists());
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
}

#[test]
fn nothing_is_mounted_on_proc_sys_or_the_root() {
    if !able() {
        return;
    }
    let room = Room::new();
    fs::create_dir_all(room.path("cache")).unwrap();
    symlink("/proc/sys", room.path("base/sneak")).unwrap();
    symlink("/", room.path("base/top")).unwrap();
    for to in ["/proc", "/proc/sys", "/proc/self/fd", "/sneak", "/sys/kernel", "/top", "/proc/self/root/x"] {
        let mut step = room.step("true");
        step.mounts = vec![bind(&room, "cache", "", to)];
        assert!(matches!(try_run(step), Err(ExecError::Mount { .. })), "{to}");
    }
    for to in ["/", "relative", "/..", ""] {
        let mut step = room.step("true");
        step.mounts = vec![bind(&room, "cache", "", to)];
        assert!(matches!(try_run(step), Err(ExecError::Invalid(_))), "{to}");
    }
}

#[test]
fn linked_proc_dev_or_sys_in_the_image_is_refused() {
    if !able() {
        return;
    }
    for name in ["proc", "dev", "sys"] {
        let room = Room::new();
        fs::remove_dir(room.path("base").join(name)).unwrap();
        symlink("tmp", room.path("base").join(name)).unwrap();
        assert!(matches!(try_run(room.step("true")), Err(ExecError::Mount { .. })), "{name}");
    }
}

#[test]
fn stubs_swapped_by_the_step_remove_nothing_else() {
    if !able() {
        return;
    }
    let room = Room::new();
    fs::create_dir_all(room.path("cache")).unwrap();
    fs::create_dir_all(room.path("base/keep/a")).unwrap();
    let mut step = room.step("busybox rm -rf /d/b; busybox mv /d /old; busybox ln -s /keep /d; ls /keep/a");
    step.mounts = vec![bind(&room, "cache", "", "/d/c/a")];
    // `/d/c` is busy, `/d` can be renamed.
    run(step);
    assert!(room.path("base/keep/a").is_dir());
    assert!(!room.changes().iter().any(|c| c.starts_with("keep")), "{:?}", room.changes());
}

#[test]
fn working_directory_through_a_descriptor_is_refused() {
    if !able() {
        return;
    }
    for fd in [0, 3, 5, 7, 9] {
        let room = Room::new();
        let mut step = room.step("pwd");
        step.cwd = format!("/proc/self/fd/{fd}");
        assert!(try_run(step).is_err(), "{fd}");
    }
    let room = Room::new();
    symlink("/proc/self/fd/7", room.path("base/cwd")).unwrap();
    let mut step = room.step("pwd");
    step.cwd = "/cwd".into();
    assert!(try_run(step).is_err());
}

#[test]
fn no_descriptor_leaks() {
    if !able() {
        return;
    }
    // `ls` itself has the directory open.
    assert_eq!(script("cd /proc/self/fd; for f in *; do echo $f; done"), "0\n1\n2\n3\n");
}

#[test]
fn capabilities_filter_and_privileges() {
    if !able() {
        return;
    }
    let out = script("busybox grep -E '^(Cap|NoNewPrivs|Seccomp:)' /proc/self/status");
    let text: Vec<&str> = out.split_whitespace().collect();
    let set = "00000000a80425fb";
    let none = "0000000000000000";
    assert_eq!(
        text,
        [
            "CapInh:",
            none,
            "CapPrm:",
            set,
            "CapEff:",
            set,
            "CapBnd:",
            set,
            "CapAmb:",
            none,
            "NoNewPrivs:",
            "0",
            "Seccomp:",
            "2"
        ]
    );
    let room = Room::new();
    let mut step = room.step("busybox grep -E '^Cap(Eff|Prm)' /proc/self/status");
    step.user = "app".into();
    assert_eq!(run(step).out, format!("CapPrm:\t{none}\nCapEff:\t{none}\n"));
}

#[test]
fn signals_are_as_at_birth() {
    if !able() {
        return;
    }
    // Whatever this process ignores or blocks; a shell that is told nothing changes none of it for its children.
    let none = "0000000000000000";
    let room = Room::new();
    let step = Step::new(room.overlay(), ["/bin/busybox", "grep", "-E", "^Sig(Blk|Ign)", "/proc/self/status"]);
    assert_eq!(run(step).out, format!("SigBlk:\t{none}\nSigIgn:\t{none}\n"));
}

#[test]
fn insecure_lifts_the_sandbox_and_nothing_else_does() {
    if !able() {
        return;
    }
    let room = Room::new();
    let mut step = room.step("mount -t tmpfs none /tmp && echo mounted; busybox grep ^Seccomp: /proc/self/status");
    step.security = Security::Insecure;
    assert_eq!(run(step).out, "mounted\nSeccomp:\t0\n");
    assert!(!script("mount -t tmpfs none /tmp; busybox unshare -m true; true").contains("mounted"));
}

#[test]
fn made_device_nodes_open_only_what_is_harmless() {
    if !able() {
        return;
    }
    let places = "/tmp /dev /dev/shm /c /t";
    let open = |nodes: &str| {
        let room = Room::new();
        fs::create_dir_all(room.path("cache")).unwrap();
        let mut step = room.step(&format!(
            "for d in {places}; do for n in {nodes}; do mknod $d/n $(echo $n | busybox tr : ' ') || echo not made; \
             (exec 3<$d/n) 2>/dev/null && echo $d $n; busybox rm -f $d/n; done; done; true"
        ));
        step.mounts = vec![
            bind(&room, "cache", "", "/c"),
            Mount { destination: "/t".into(), source: MountSource::Tmpfs { size: None }, access: Access::ReadWrite },
        ];
        run(step).out
    };
    // Memory, ports, kernel messages, consoles, disks, loop devices, fuse, kvm, the device mapper.
    assert_eq!(open("c:1:1 c:1:2 c:1:4 c:1:11 c:5:1 c:4:0 b:7:0 b:8:0 b:254:0 c:10:229 c:10:232 c:10:236"), "");
    let harmless = open("c:1:3 c:1:5 c:1:9");
    // Nothing at all where devices cannot be judged (no unified hierarchy that is writable).
    let all: String =
        places.split(' ').flat_map(|d| ["c:1:3", "c:1:5", "c:1:9"].map(|n| format!("{d} {n}\n"))).collect();
    let in_memory_only = all.lines().filter(|line| !line.starts_with("/dev/shm")).map(|l| format!("{l}\n")).collect();
    assert!([String::new(), in_memory_only].contains(&harmless), "{harmless}");
}

#[test]
fn the_host_s_device_nodes_cannot_be_changed() {
    if !able() {
        return;
    }
    let names = ["null", "zero", "full", "random", "urandom", "tty"];
    let look = || {
        use std::os::unix::fs::MetadataExt;
        names.map(|name| {
            let found = fs::metadata(format!("/dev/{name}")).unwrap();
            (name, found.mode(), found.uid(), found.gid())
        })
    };
    let before = look();
    // Masked files are covered with a node too.
    let script = "for f in /dev/null /dev/zero /dev/full /dev/random /dev/urandom /dev/tty /proc/keys /proc/timer_list /proc/kcore; do \
        busybox chmod 640 $f; busybox chown 7:7 $f; busybox touch -d 1999-01-01 $f; busybox rm -f $f; done; exit 0";
    for (security, user) in [(Security::Sandbox, ""), (Security::Insecure, "")] {
        let room = Room::new();
        let mut step = room.step(script);
        (step.security, step.user) = (security, user.into());
        if security == Security::Insecure {
            // Unmasked there: the files of /proc are the host's by right.
            step.args[2] = step.args[2].replace("/proc/keys /proc/timer_list /proc/kcore", "");
        }
        run(step);
        assert_eq!(look(), before, "{security:?}");
    }
    // And they still work.
    assert_eq!(
        crate::kit::script("echo x > /dev/null && busybox head -c2 /dev/zero | busybox wc -c; cat /dev/null"),
        "2\n"
    );
}

#[test]
fn no_cgroup_is_left_behind() {
    if !able() {
        return;
    }
    let left = || {
        let mut found = Vec::new();
        let mut todo = vec![std::path::PathBuf::from("/sys/fs/cgroup")];
        while let Some(dir) = todo.pop() {
            for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
                if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    found.extend(
                        entry
                            .file_name()
                            .to_str()
                            .filter(|n| n.starts_with("rhost-gate-") || n.starts_with("rhost-step-"))
                            .map(str::to_owned),
                    );
                    todo.push(entry.path());
                }
            }
        }
        found
    };
    // Steps of other tests run meanwhile: what counts is that each name goes away.
    run(Room::new().step("sleep 1000 & true"));
    let seen = left();
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while seen.iter().any(|name| left().contains(name)) {
        assert!(std::time::Instant::now() < deadline, "{:?}", left());
        run(Room::new().step("true"));
    }
}

#[test]
fn masked_and_read_only_paths() {
    if !able() {
        return;
    }
    let out = script(
        "for f in kcore keys timer_list interrupts; do [ -e /proc/$f ] && cat /proc/$f | busybox head -c1; done; ls /proc/acpi /proc/scsi /sys/firmware 2>/dev/null | busybox grep -v : | busybox grep .; echo 1 > /proc/sys/vm/drop_caches || echo ro; echo h > /proc/sysrq-trigger || echo ro; touch /sys/x || echo ro; true",
    );
    assert_eq!(out.matches("ro\n").count(), 3, "{out}");
    assert!(
        out.lines().all(|line| line == "ro"
            || line.starts_with("sh:")
            || line.starts_with("/bin/sh:")
            || line.contains("Read-only")
            || line.contains("denied")
            || line.starts_with("touch")),
        "{out}"
    );
}

#[test]
fn nothing_of_the_host_is_mounted_over_or_under_the_root() {
    if !able() {
        return;
    }
    // `..` of the root follows what is mounted on top of it: the host's tree, were it still there.
    let list = "busybox awk '$5 == \"/\" || $5 !~ /^\\/(proc|sys|dev|etc\\/(hosts|resolv.conf))(\\/|$)/ {print $5}' /proc/self/mountinfo";
    let script = format!("ls -id / /..; cd /..; pwd; ls; ls /../../; {list}");
    for (what, change) in [
        ("sandbox", (|_| ()) as fn(&mut Step)),
        ("no network", |step| step.network = rhost_exec::Network::None),
        ("insecure", |step| step.security = Security::Insecure),
        ("read-only", |step| step.root_access = Access::ReadOnly),
        ("plain directory", |step| {
            if let Tree::Overlay { lowers, .. } = &step.root {
                step.root = Tree::Dir(lowers[0].clone());
            }
        }),
    ] {
        let room = Room::new();
        let mut step = room.step(&script);
        change(&mut step);
        let out = run(step).out;
        let lines: Vec<&str> = out.lines().collect();
        let inode = |line: &str| line.split_whitespace().next().map(str::to_owned);
        assert_eq!(inode(lines[0]), inode(lines[1]), "{what}: {out}");
        let names = ["bin", "dev", "etc", "proc", "root", "sys", "tmp"];
        assert_eq!(lines[2], "/", "{what}: {out}");
        assert_eq!(lines[3..10], names, "{what}: {out}");
        assert_eq!(lines[10..17], names, "{what}: {out}");
        assert_eq!(lines[17..], ["/"], "{what}: {out}");
    }
}

#[test]
fn the_executor_is_not_in_sight() {
    if !able() {
        return;
    }
    let out = script("for p in /proc/[0-9]*; do readlink $p/exe; done; readlink /proc/1/exe");
    assert!(out.lines().all(|line| line == "/bin/busybox"), "{out}");
    // A script whose interpreter is the link itself must not reach a writable executor.
    let room = Room::new();
    fs::write(room.path("base/bin/evil"), "#!/proc/self/exe\n").unwrap();
    fs::set_permissions(room.path("base/bin/evil"), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let before = fs::metadata("/proc/self/exe").unwrap().len();
    let _ = try_run(Step::new(room.overlay(), ["/bin/evil"]));
    assert_eq!(fs::metadata("/proc/self/exe").unwrap().len(), before);
}

#[test]
fn hostile_passwd() {
    if !able() {
        return;
    }
    let check = |prepare: fn(&std::path::Path)| {
        let room = Room::new();
        let path = room.path("base/etc/passwd");
        fs::remove_file(&path).unwrap();
        prepare(&path);
        let mut step = room.step("id -u");
        step.user = "app".into();
        assert!(matches!(try_run(step), Err(ExecError::User { .. })));
    };
    check(|path| fs::File::create(path).unwrap().set_len(11 << 20).unwrap());
    check(|path| rustix::fs::mknodat(rustix::fs::CWD, path, rustix::fs::FileType::Fifo, 0o666.into(), 0).unwrap());
    check(|path| symlink("/dev/zero", path).unwrap());
    check(|path| symlink("/proc/self/environ", path).unwrap());
    check(|path| fs::create_dir(path).unwrap());
}

#[test]
fn hostile_values_are_refused() {
    if !able() {
        return;
    }
    let refuse = |change: fn(&mut Step)| {
        let room = Room::new();
        let mut step = room.step("true");
        change(&mut step);
        assert!(try_run(step).is_err());
    };
    refuse(|s| s.args.clear());
    refuse(|s| s.args.push("a\0b".into()));
    refuse(|s| s.env.push("A=\0".into()));
    refuse(|s| s.cwd = "work".into());
    refuse(|s| s.hostname = "a\nb".into());
    refuse(|s| s.hostname = "x".repeat(100));
    refuse(|s| s.extra_hosts = vec![("a b".into(), "1.2.3.4".into())]);
    refuse(|s| s.extra_hosts = vec![("a".into(), "1.2.3.4\n9.9.9.9 bank".into())]);
    refuse(|s| s.cgroup_parent = "../../x".into());
    refuse(|s| s.root = Tree::Dir("base".into()));
}

#[test]
fn the_hosts_device_nodes_are_not_changed() {
    if !able() {
        return;
    }
    let before = fs::metadata("/dev/full").unwrap();
    // Whether the step may change its own or is refused: the host's stay, and work.
    let ran =
        run(Room::new()
            .step("busybox chmod 600 /dev/full; busybox chown 5:5 /dev/full; echo x > /dev/null && echo done"));
    assert!(ran.out.ends_with("done\n"), "{}{}", ran.out, ran.err);
    let after = fs::metadata("/dev/full").unwrap();
    let of = |meta: &fs::Metadata| (meta.mode(), meta.uid(), meta.gid());
    assert_eq!(of(&before), of(&after));
}
