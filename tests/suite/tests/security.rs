//! What a RUN step is given and denied: the same as BuildKit gives and denies it, line by line; and nothing of the host, whatever the
//! image and the build file say.
use std::fs;
use std::path::Path;
use std::process::Command;

use rhost_kit::{Buildkitd, TestHost, debian, have, is_root, skip};

fn context(host: &TestHost, files: &[(&str, &str)]) -> String {
    for (path, text) in files {
        host.write(&format!("ctx/{path}"), text).expect("written");
    }
    host.work().join("ctx").display().to_string()
}

/// Builds into a directory.
fn tree(host: &TestHost, context: &str, name: &str) -> std::path::PathBuf {
    let to = host.dir().join(name);
    host.run(["build", "--no-cache", "-o", &to.display().to_string(), context]).expect("ran").success();
    to
}

/// Runs `script` as a step of `image` under rhost and BuildKit and compares what it said, line by line.
fn compare(image: &str, script: &str, files: &[(&str, &str)]) {
    let Some((host, registry)) = rhost_kit::host_with_busybox() else { return };
    if !is_root() || !have(&["runc"]) {
        return skip("wants root and runc, for BuildKit");
    }
    let buildkitd = match Buildkitd::start(registry.address()) {
        Ok(buildkitd) => buildkitd,
        Err(error) => return skip(&format!("no BuildKit to compare with: {error:#}")),
    };
    if image == "debian" {
        registry.push(&debian().expect("debian"), "library/debian:latest").expect("pushed");
    }
    let dockerfile = format!(
        "FROM {image} AS probe\nCOPY . /probe\nRUN sh /probe/probe.sh 2>&1 | cat > /said\nFROM scratch\nCOPY --from=probe /said /\n"
    );
    let mut all = vec![("Dockerfile", dockerfile.as_str()), ("probe.sh", script)];
    all.extend(files);
    let context = context(&host, &all);
    let ours = fs::read(tree(&host, &context, "ours").join("said")).expect("said");
    let theirs = host.dir().join("theirs");
    let out = buildkitd
        .command(["build", "--frontend", "dockerfile.v0", "--progress", "plain"])
        .args(["--local", &format!("context={context}"), "--local", &format!("dockerfile={context}")])
        .args(["--output", &format!("type=local,dest={}", theirs.display())])
        .output()
        .expect("buildctl");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let theirs = fs::read(theirs.join("said")).expect("said");
    let (ours, theirs) = (String::from_utf8_lossy(&ours).into_owned(), String::from_utf8_lossy(&theirs).into_owned());
    let mut section = "";
    let mut differences = Vec::new();
    for (number, line) in theirs.lines().enumerate() {
        if line.starts_with("== ") {
            section = line;
        }
        let found = ours.lines().nth(number).unwrap_or("(nothing)");
        if found != line {
            differences.push(format!("{section}\n  BuildKit: {line}\n  rhost:    {found}"));
        }
    }
    assert!(theirs.contains("== end"), "the probe did not finish under BuildKit:\n{theirs}");
    assert!(
        differences.is_empty() && ours.lines().count() == theirs.lines().count(),
        "{}\n--- rhost\n{ours}",
        differences.join("\n")
    );
}

/// What is left out: names and times that differ by nature (process ids, OpenTelemetry's socket and variables, inode times).
const ENVIRONMENT: &str = r#"
say() { echo "== $1"; }
say identity; id; id -G
say status; grep -E '^(Cap|NoNewPrivs|Seccomp:|Umask|Groups|Uid|Gid|SigBlk)' /proc/self/status
say environment; env | grep -vE '^(OTEL_|TRACEPARENT)' | sort
say place; pwd; readlink /proc/self/cwd
say devices; ls -ln /dev | grep -v otel | sed 's/  */ /g' | cut -d' ' -f1,3-6 | sed 's/ [A-Z].*//' | grep -v total; ls /dev | grep -v otel
say descriptors; ls /proc/self/fd; wc -c; tty; [ -t 1 ] || echo no terminal; [ -t 2 ] || echo none
say limits; cat /proc/self/limits
say names; hostname; cat /proc/sys/kernel/domainname; cat /etc/hosts; ls -ln /etc/hosts /etc/resolv.conf | cut -d' ' -f1; cat /etc/resolv.conf
say processes; cut -d' ' -f5,6 /proc/1/stat; cat /proc/self/oom_score_adj
say network; ls /sys/class/net; ip addr show lo | head -2 | tail -1
say system; ls /sys; ls /sys/firmware /sys/devices/virtual/powercap 2>&1
say masked; for f in asound kcore keys timer_list timer_stats sched_debug scsi sysrq-trigger bus fs irq sys; do head -c1 /proc/$f 2>&1 | od -c | head -1; done; ls /proc/acpi /proc/scsi 2>&1
say written; for f in /proc/sys/kernel/hostname /proc/sysrq-trigger /sys/x /proc/irq/default_smp_affinity /proc/sys/vm/drop_caches; do (echo 1 > $f) 2>&1; done
say nodes; mknod /tmp/n c 1 3 && echo x > /tmp/n && echo wrote; mknod /tmp/z c 1 5 && head -c1 /tmp/z | wc -c; mknod /tmp/m c 1 1; head -c1 /tmp/m; mknod /tmp/k c 1 11; head -c1 /tmp/k; mknod /tmp/l b 7 0; head -c1 /tmp/l; mknod /tmp/f c 10 229; (exec 3<>/tmp/f); mknod /tmp/p p && echo fifo; rm -f /tmp/?
say chroot; mkdir -p /r/bin /r/dev && cp /bin/busybox /r/bin/ && mknod -m 666 /r/dev/null c 1 3; chroot /r /bin/busybox sh -c 'echo a > /dev/null && echo in chroot'; rm -r /r
say mounts; mount -t tmpfs x /tmp; mount --bind /tmp /var; umount /dev/shm; unshare -m true; unshare -U true; unshare -n true; unshare -p true; unshare -i true; pivot_root / /
say priority; nice -n -5 true; renice -n -1 1; chrt -f 1 true; ionice -c1 true
say kernel; dmesg > /dev/null; swapon /x; swapoff /x; date -s 2020-01-01 > /dev/null; insmod x; rmmod x; reboot -f; hostname x; adjtimex -f 1 > /dev/null; ip link add type dummy; ip addr add 1.2.3.4/8 dev lo
say output; echo to-stdout > /dev/stdout; echo to-stderr > /dev/stderr; echo to-fd > /proc/self/fd/1
say executable; cp /bin/busybox /dev/shm/busybox && /dev/shm/busybox true; cp /bin/busybox /tmp/busybox && /tmp/busybox true && echo in tmp; rm /dev/shm/busybox /tmp/busybox
say sizes; df -k /dev/shm | tail -1 | sed 's/  */ /g' | cut -d' ' -f2; df -k /dev | tail -1 | sed 's/  */ /g' | cut -d' ' -f2; ls -ld /dev/shm /dev/pts /dev/mqueue | cut -d' ' -f1
say machine; uname -m; uname -s
say modes; umask; touch /made; ls -ln /made | cut -d' ' -f1; mkdir /made.d; ls -lnd /made.d | cut -d' ' -f1
say files; mv /etc/hosts /etc/h2; rm /etc/resolv.conf; (echo x >> /etc/hosts); rmdir /proc /sys /dev; ls -a /
say ids; cat /proc/self/setgroups /proc/self/uid_map /proc/self/gid_map /proc/self/timerslack_ns /proc/self/personality /proc/self/coredump_filter 2>&1
say sysctls; cat /proc/sys/net/ipv4/ip_unprivileged_port_start /proc/sys/net/ipv4/ping_group_range /proc/sys/kernel/shmmax /proc/sys/kernel/msgmax /proc/sys/fs/mqueue/msg_max
say signals; kill -0 1 && echo alive; sh -c 'kill -9 $$'; echo $?; sh -c 'kill -31 $$'; echo $?; (sleep 1000 > /dev/null 2>&1 &); echo left behind
say end
"#;

#[test]
fn a_step_finds_what_it_finds_under_buildkit() {
    compare("busybox", ENVIRONMENT, &[]);
}

/// Every call of the kernel's table with arguments that name nothing, in a child of its own, natively and by the 32-bit gate.
const CALLS: &str = r#"
#include <stdio.h>
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>
#include <sys/syscall.h>
#include <sys/wait.h>
static long gate32(long n) {
    long r;
    __asm__ volatile("int $0x80" : "=a"(r) : "a"(n), "b"(0), "c"(0), "d"(0), "S"(0), "D"(0) : "memory", "r8", "r9", "r10", "r11");
    return r;
}
static int skipped(int gate, long n) {
    /* They do not come back, or say something else each time. */
    static const int native[] = {15, 34, 56, 57, 58, 60, 231, 39, 57, 61, 96, 97, 98, 99, 100, 110, 111, 124, 186, 201, 204, 228, 229, 309, 318, 13, 14, 37, 36, 38, 23, 7, 270, 271, 128, 130, 213, 291, 12, 112, 109, 121, 0, 3, 32, 33, 162, 306, 35, 202, 140, 145, 102, 104, 107, 108, 63, 59, 322, 435, 24};
    static const int other[] = {1, 2, 29, 72, 114, 119, 173, 190, 120, 252, 20, 64, 13, 43, 57, 65, 66, 77, 78, 147, 116, 224, 265, 266, 318, 355, 27, 104, 105, 82, 142, 168, 308, 309, 175, 179, 376, 177, 421, 45, 132, 3, 6, 41, 63, 36, 344, 162, 407, 240, 422, 96, 155, 157, 24, 47, 49, 50, 199, 200, 201, 202, 122, 11, 358, 435, 158, 67, 174, 48, 126};
    const int *list = gate ? other : native;
    size_t count = gate ? sizeof other / sizeof *other : sizeof native / sizeof *native;
    for (size_t i = 0; i < count; i++) if (list[i] == n) return 1;
    return 0;
}
int main(void) {
    setvbuf(stdout, NULL, _IONBF, 0);
    for (int gate = 0; gate < 2; gate++) {
        for (long n = 0; n <= 450; n++) {
            if (skipped(gate, n)) continue;
            int fds[2], status;
            if (pipe(fds)) return 1;
            pid_t child = fork();
            if (!child) {
                alarm(5);
                long r = gate ? gate32(n) : syscall(n, 0, 0, 0, 0, 0, 0);
                int e = gate ? (r < 0 && r > -4096 ? (int)-r : 0) : (r == -1 ? errno : 0);
                /* What matters is whether the filter let it through. */
                const char *verdict = e == EPERM ? "EPERM" : e == ENOSYS ? "ENOSYS" : e == EACCES ? "EACCES" : "through";
                if (write(fds[1], verdict, strlen(verdict)) < 0) _exit(2);
                _exit(0);
            }
            close(fds[1]);
            char said[32] = "";
            ssize_t len = read(fds[0], said, sizeof said - 1);
            close(fds[0]);
            waitpid(child, &status, 0);
            printf("%s %ld %s\n", gate ? "i386" : "native", n, len > 0 ? said : "through");
        }
    }
    return 0;
}
"#;

/// Calls with arguments that the filter looks at.
const ARGUMENTS: &str = r#"
#define _GNU_SOURCE
#include <stdio.h>
#include <errno.h>
#include <sched.h>
#include <unistd.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/personality.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#define SAY(what, call) do { errno = 0; long r = (call); printf("%s: %s\n", what, r < 0 ? strerror(errno) : "fine"); fflush(stdout); } while (0)
static long child(unsigned long flags) {
    long pid = syscall(SYS_clone, flags | 17, 0, 0, 0, 0);
    if (!pid) _exit(0);
    if (pid > 0) waitpid(pid, 0, 0);
    return pid;
}
int main(void) {
    for (int family = 0; family < 46; family++) { char name[32]; sprintf(name, "socket %d", family); SAY(name, socket(family, SOCK_STREAM, 0)); }
    SAY("raw socket", socket(AF_INET, SOCK_RAW, 1));
    SAY("packet socket", socket(AF_PACKET, SOCK_RAW, 0));
    SAY("netlink audit", socket(AF_NETLINK, SOCK_RAW, 9));
    SAY("clone", child(0));
    SAY("clone user", child(CLONE_NEWUSER)); SAY("clone mount", child(CLONE_NEWNS)); SAY("clone net", child(CLONE_NEWNET));
    SAY("clone pid", child(CLONE_NEWPID)); SAY("clone ipc", child(CLONE_NEWIPC)); SAY("clone uts", child(CLONE_NEWUTS)); SAY("clone cgroup", child(0x02000000));
    SAY("clone3", syscall(435, 0, 0));
    SAY("unshare files", unshare(CLONE_FILES)); SAY("unshare user", unshare(CLONE_NEWUSER));
    SAY("personality get", personality(0xffffffff)); SAY("personality randomize", personality(0x0040000)); SAY("personality 32", personality(8));
    SAY("personality back", personality(0));
    SAY("ptrace", ptrace(PTRACE_TRACEME, 0, 0, 0));
    SAY("keyctl", syscall(SYS_keyctl, 0, -3, 0)); SAY("add_key", syscall(SYS_add_key, "user", "a", "b", 1, -3));
    SAY("bpf", syscall(SYS_bpf, 0, 0, 0)); SAY("perf", syscall(SYS_perf_event_open, 0, 0, 0, 0, 0)); SAY("userfaultfd", syscall(SYS_userfaultfd, 0));
    SAY("io_uring", syscall(425, 1, 0)); SAY("open_by_handle", syscall(SYS_open_by_handle_at, -1, 0, 0)); SAY("mount", syscall(SYS_mount, 0, 0, 0, 0, 0));
    SAY("open_tree", syscall(428, -100, "/", 1)); SAY("fsopen", syscall(430, "tmpfs", 0)); SAY("setns", syscall(SYS_setns, 0, 0));
    SAY("process_vm_readv", syscall(SYS_process_vm_readv, getpid(), 0, 0, 0, 0, 0)); SAY("kcmp", syscall(SYS_kcmp, 1, 1, 0, 0, 0));
    SAY("quotactl", syscall(SYS_quotactl, 0, 0, 0, 0)); SAY("syslog", syscall(SYS_syslog, 10, 0, 0)); SAY("acct", syscall(SYS_acct, 0));
    SAY("name_to_handle", syscall(SYS_name_to_handle_at, -100, "/", 0, 0, 0)); SAY("landlock", syscall(444, 0, 0, 1)); SAY("seccomp", syscall(SYS_seccomp, 2, 0, 0));
    return 0;
}
"#;

#[test]
fn system_calls_are_refused_as_under_buildkit() {
    if !cfg!(target_arch = "x86_64") {
        return skip("the 32-bit gate of this test is amd64's");
    }
    let script = "gcc -O1 -o /calls /probe/calls.c && gcc -o /arguments /probe/arguments.c && /arguments && /calls && echo == end\n";
    compare("debian", script, &[("calls.c", CALLS), ("arguments.c", ARGUMENTS)]);
}

/// What real build files do as root of a Debian image.
const DEBIAN: &str = r#"
say() { echo "== $1"; }
say user; groupadd -g 1500 crew && useradd -m -u 1500 -g crew -G audio,video app; id app; getent passwd app; su app -c 'id; echo $HOME; umask; grep Cap /proc/self/status; touch /root/x'; su - app -c 'pwd; echo $SHELL $PATH'
say output; su app -s /bin/sh -c 'echo from app > /dev/stdout; echo err > /dev/stderr'
say setuid; cp /usr/bin/id /usr/local/bin/suid-id && chmod 4755 /usr/local/bin/suid-id && su app -c suid-id
say package; mkdir -p /p/DEBIAN /p/usr/share/x && printf 'Package: x\nVersion: 1\nArchitecture: all\nMaintainer: m <m@x>\nDescription: d\n' > /p/DEBIAN/control && printf '#!/bin/sh\nset -e\necho configured $1; ulimit -n\n' > /p/DEBIAN/postinst && chmod 755 /p/DEBIAN/postinst && echo f > /p/usr/share/x/f && dpkg-deb -b /p /x.deb && dpkg -i /x.deb && dpkg -s x | grep Status && dpkg -P x
say service; invoke-rc.d none start 2>&1 | head -1; ls /usr/sbin/policy-rc.d 2>&1
say compiler; printf '#include <stdio.h>\nint main(){puts("compiled");return 0;}' > /m.c && gcc -o /m /m.c && /m; printf 'all:\n\t@echo $$(id -u) made\n' > /Makefile && make -s -C /
say locale; locale 2>/dev/null; echo "$LANG $LC_ALL $TERM $SHELL $HOME $USER $HOSTNAME"
say bash; bash -c 'exec 3<>/dev/null; echo <(true) >/dev/null && echo substitution; ulimit -a; trap "echo ended" EXIT; kill -TERM $$'; echo $?
say files; chown app:crew /m && stat -c '%U:%G %a' /m; chmod 2755 /m; stat -c %a /m; ln -s /m /l && readlink -f /l; cp -a /m /m2 && stat -c '%U %a' /m2; truncate -s 1G /sparse && stat -c %s /sparse && rm /sparse; mkfifo /ff; mknod /dev/loop9 b 7 9; chattr +i /m 2>&1; touch -d 1999-01-01 /old && stat -c %y /old
say find; find / -xdev -newer /old -name 'm2' 2>&1; find /proc/self/fd -lname '/probe*' 2>&1 | head
say locks; flock /m echo locked; (flock -n 9 && echo nine) 9>/lockfile
say memory; mkdir -p /dev/shm/d && echo ok > /dev/shm/d/f && cat /dev/shm/d/f
say apt; apt-config dump | grep -i sandbox; apt-get -s check; apt-cache policy | head -1
say jobs; nproc > /dev/null && echo counted; (sleep 100 > /dev/null 2>&1 & echo started); timeout 1 true; echo $?
say end
"#;

#[test]
fn a_debian_image_behaves_as_under_buildkit() {
    compare("debian", DEBIAN, &[]);
}

#[test]
fn links_in_the_image_reach_nothing_of_the_host() {
    let Some((host, _registry)) = rhost_kit::host_with_busybox() else { return };
    let victim = host.dir().join("victim");
    fs::create_dir(&victim).expect("made");
    fs::write(victim.join("hosts"), "host's\n").expect("written");
    let outside = victim.display();
    // Each is a link of the image to where the host has files: in the container it leads to nothing, or to the container's own.
    let dockerfile = format!(
        "FROM busybox\nRUN mkdir -p /run && ln -s {outside} /out && ln -s {outside}/hosts /link && ln -s / /top && rm -rf /var/tmp && ln -s {outside} /var/tmp\n\
         WORKDIR /out/made\nRUN echo in > file && pwd > /pwd\nWORKDIR /\nCOPY Dockerfile /var/tmp/copied\n\
         RUN --mount=type=tmpfs,target=/out/tmpfs echo x > /out/tmpfs/x\nRUN echo leak > /link; ls /top/.. > /names; ls /.. >> /names\n"
    );
    let context = context(&host, &[("Dockerfile", &dockerfile)]);
    let built = tree(&host, &context, "built");
    assert_eq!(fs::read_to_string(victim.join("hosts")).expect("there"), "host's\n");
    assert_eq!(fs::read_dir(&victim).expect("there").count(), 1, "nothing was made on the host");
    let inside = built.join(victim.strip_prefix("/").expect("absolute"));
    assert_eq!(fs::read_to_string(inside.join("made/file")).expect("there"), "in\n");
    assert!(inside.join("copied").exists() && !inside.join("tmpfs").exists());
    let names = fs::read_to_string(built.join("names")).expect("there");
    let lines: Vec<&str> = names.lines().collect();
    assert_eq!(lines[..lines.len() / 2], lines[lines.len() / 2..], "`..` of the root is the root");
    assert!(!names.contains(&"boot".to_owned()) || !Path::new("/boot").exists(), "{names}");
}

#[test]
fn hosts_and_resolv_conf_leave_nothing_in_the_layer() {
    let Some((host, _registry)) = rhost_kit::host_with_busybox() else { return };
    let context = context(
        &host,
        &[(
            "Dockerfile",
            "FROM busybox\nRUN cat /etc/hosts /etc/resolv.conf > /dev/null && touch /a\nRUN --network=none ls /sys/class/net > /net\n",
        )],
    );
    let built = tree(&host, &context, "built");
    for name in ["etc/hosts", "etc/resolv.conf", "etc/hostname", ".dockerenv", "run/secrets"] {
        assert!(fs::symlink_metadata(built.join(name)).is_err(), "{name} is in the image");
    }
    assert_eq!(fs::read_to_string(built.join("net")).expect("there"), "lo\n");
}

#[test]
fn a_working_directory_by_descriptor_is_refused() {
    let Some((host, _registry)) = rhost_kit::host_with_busybox() else { return };
    for number in [3, 7, 8, 9, 11] {
        let dockerfile =
            format!("FROM busybox\nWORKDIR /proc/self/fd/{number}\nRUN ls ../../.. > /seen; cat ../../../etc/shadow\n");
        let context = context(&host, &[("Dockerfile", &dockerfile)]);
        let ran = host.run(["build", "--no-cache", &context]).expect("ran");
        assert!(ran.code != 0 && !ran.stderr.contains("root:"), "{number}: {}", ran.stderr);
    }
}

#[test]
fn users_of_a_hostile_image_stop_nothing() {
    let Some((host, _registry)) = rhost_kit::host_with_busybox() else { return };
    for prepare in
        ["mkfifo /etc/passwd", "truncate -s 11M /etc/passwd", "ln -s /dev/zero /etc/passwd", "mkdir /etc/passwd"]
    {
        for use_it in ["USER app\nRUN true\n", "COPY --chown=app Dockerfile /d\n"] {
            let dockerfile = format!("FROM busybox\nRUN rm /etc/passwd && {prepare}\n{use_it}");
            let context = context(&host, &[("Dockerfile", &dockerfile)]);
            let ran = host.run(["build", &context]).expect("ran");
            // Owners that are not there are BuildKit's to warn of and root's to be; a step cannot run as nobody.
            if use_it.starts_with("USER") {
                let text = ran.failure(1);
                assert!(text.contains("passwd") || text.contains("`app`"), "{prepare}: {text}");
            } else {
                assert!([0, 1].contains(&ran.code), "{prepare}: {}", ran.stderr);
            }
        }
    }
}

#[test]
fn a_flood_of_output_does_not_fill_the_memory() {
    let Some((host, _registry)) = rhost_kit::host_with_busybox() else { return };
    let script =
        "head -c 60000000 /dev/zero | tr '\\\\0' x; head -c 20000000 /dev/urandom; echo; echo flooded; sleep 1000";
    let context = context(&host, &[("Dockerfile", &format!("FROM busybox\nRUN {script}\n"))]);
    for progress in ["plain", "rawjson"] {
        let mut command = host.command(["build", "--no-cache", "--progress", progress, &context]);
        let mut child = command.stderr(std::process::Stdio::piped()).spawn().expect("started");
        let status = format!("/proc/{}/status", child.id());
        let mut stderr = child.stderr.take().expect("piped");
        // `flooded` and its line's end, plain or in base64.
        let (mut kept, mut buffer, mut whole) = (Vec::new(), vec![0; 1 << 16], 0_u64);
        loop {
            let count = std::io::Read::read(&mut stderr, &mut buffer).expect("read");
            assert!(count > 0, "{progress}: it ended: {}", String::from_utf8_lossy(&kept));
            whole += count as u64;
            kept.extend_from_slice(&buffer[..count]);
            if whole > 80_000_000 && kept.windows(8).any(|w| w == b"flooded\n") || whole > 106_000_000 {
                break;
            }
            let surplus = kept.len().saturating_sub(1 << 10);
            kept.drain(..surplus);
        }
        let text = fs::read_to_string(status).expect("running");
        let peak = text.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a peak");
        let peak: u64 = peak.trim().trim_end_matches(" kB").trim().parse().expect("a number");
        child.kill().expect("killed");
        child.wait().expect("waited");
        // The compiler of the frontend has its own process; this one has a component, a store and a graph.
        assert!(peak < 400 << 10, "{progress}: {peak} kB");
    }
}

#[test]
fn signals_are_named_and_nothing_is_left_running() {
    let Some((host, _registry)) = rhost_kit::host_with_busybox() else { return };
    let context = context(&host, &[("Dockerfile", "FROM busybox\nRUN sleep 98765 & sh -c 'kill -9 $$'; exit $?\n")]);
    let text = host.run(["build", "--progress", "plain", &context]).expect("ran").failure(1);
    assert!(text.contains("exit code: 137") && text.contains("SIGKILL"), "{text}");
    let left = Command::new("pgrep").args(["-f", "sleep 98765"]).output();
    assert!(left.is_ok_and(|out| out.stdout.is_empty()), "a process of the step is left");
}
