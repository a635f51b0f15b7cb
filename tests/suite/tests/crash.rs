//! Killed, interrupted and refused: nothing is left behind, the next build is right, the user's files are as they were.
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use rhost_kit::{TestHost, Torture, files, nothing_left};

use crate::running::{Gate, Running, context, host};

#[test]
fn builds_killed_at_random_points_leave_nothing_and_lose_nothing() {
    if !rhost_kit::have(&["docker-registry", "skopeo"]) {
        return rhost_kit::skip("docker-registry and skopeo are not installed");
    }
    let mut torture = Torture::new(TestHost::new().expect("a host"), 42).expect("an undisturbed build");
    for _ in 0..25 {
        torture.round().unwrap_or_else(|error| panic!("{error:#}"));
    }
    torture.finish().unwrap_or_else(|error| panic!("{error:#}"));
}

#[test]
fn a_signal_ends_with_its_code_after_everything_is_cleared_away() {
    let Some((host, _registry)) = host() else { return };
    let gate = Gate::new();
    let dockerfile = format!("FROM busybox\nRUN (trap '' TERM INT; sleep 1000) & echo up; {}\n", gate.knock());
    let ctx = context(&host, "ctx", &[("Dockerfile", &dockerfile)]);
    let archive = host.dir().join("out.tar");
    let output = format!("type=oci,dest={}", archive.display());
    for (signal, code) in [("INT", 130), ("TERM", 143), ("HUP", 129)] {
        let mut build = Running::start(host.command(["build", "--progress", "plain", "-o", &output, &ctx]));
        build.until(" up");
        let _visitor = gate.visitor();
        build.signal(signal);
        let text = build.end().failure(code);
        assert!(text.contains(&format!("interrupted by SIG{signal}")), "{text}");
        nothing_left(host.dir()).unwrap_or_else(|error| panic!("{error:#}"));
        assert!(!archive.exists());
    }
    let build = Running::start(host.command(["build", "--progress", "plain", "-o", &output, &ctx]));
    gate.visitor().let_in();
    build.end().success();
    assert!(archive.exists());
}

#[test]
fn a_second_ctrl_c_does_not_wait() {
    let Some((host, _registry)) = host() else { return };
    let gate = Gate::new();
    let ctx = context(&host, "ctx", &[("Dockerfile", &format!("FROM busybox\nRUN echo up; {}\n", gate.knock()))]);
    let mut build = Running::start(host.command(["build", "--progress", "plain", &ctx]));
    build.until(" up");
    let _visitor = gate.visitor();
    // Supervisors that cannot clear anything away: the first signal is heard, and waits for them.
    let supervisors = children(build.id());
    assert!(!supervisors.is_empty(), "a step without a supervisor");
    send("STOP", &supervisors);
    build.signal("INT");
    let begun = std::time::Instant::now();
    while catches_interrupts(build.id()) {
        assert!(begun.elapsed() < crate::running::CEILING, "the first signal is not heard");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    build.signal("INT");
    let ran = build.end();
    send("CONT", &supervisors);
    let text = ran.failure(130);
    assert!(!text.contains("still being cleared away"), "it has waited: {text}");
    nothing_left(host.dir()).unwrap_or_else(|error| panic!("{error:#}"));
}

/// Processes that `process` has started, by id.
fn children(process: u32) -> Vec<String> {
    let threads = fs::read_dir(format!("/proc/{process}/task")).expect("running").flatten();
    let children = threads.filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok());
    children.flat_map(|text| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>()).collect()
}

fn send(signal: &str, processes: &[String]) {
    let sent = Command::new("kill").args(["-s", signal]).args(processes).status().expect("kill");
    assert!(sent.success(), "no process to send {signal} to");
}

/// Whether `process` has a handler for SIGINT (proc(5), SigCgt).
fn catches_interrupts(process: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{process}/status")).expect("running");
    let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).expect("a mask");
    u64::from_str_radix(caught.trim(), 16).expect("a mask") & 2 != 0
}

#[test]
fn the_context_and_what_lies_in_a_destination_are_never_changed() {
    let Some((host, _registry)) = host() else { return };
    let dockerfile = "FROM busybox\nCOPY . /all\nRUN --mount=type=bind,target=/ctx,rw rm -rf /ctx/* /all/* ; touch /ctx/new /all/new\nFROM scratch\nCOPY --from=0 /all /\n";
    let ctx = context(&host, "ctx", &[("Dockerfile", dockerfile), ("a", "1"), ("d/b", "2"), ("out/mine", "3")]);
    let precious = host.dir().join("precious");
    fs::create_dir(&precious).expect("made");
    fs::write(precious.join("file"), "precious").expect("written");
    symlink(&precious, Path::new(&ctx).join("away")).expect("linked");
    symlink("../../precious/file", Path::new(&ctx).join("d/away")).expect("linked");
    let before = (files(Path::new(&ctx)).expect("read"), files(&precious).expect("read"));
    host.run(["build", "-t", "x", &ctx]).expect("ran").success();
    assert_eq!((files(Path::new(&ctx)).expect("read"), files(&precious).expect("read")), before);
    // A destination inside of the context: what is built is added, nothing is taken away.
    let out = Path::new(&ctx).join("out");
    host.run(["build", "-o", &out.display().to_string(), &ctx]).expect("ran").success();
    assert_eq!(fs::read_to_string(out.join("mine")).expect("kept"), "3");
    assert!(out.join("new").exists());
    assert_eq!(files(&precious).expect("read"), before.1);
}

#[test]
fn a_context_that_cannot_be_written_is_enough() {
    let Some((host, _registry)) = host() else { return };
    if !rhost_kit::is_root() {
        return rhost_kit::skip("a read-only mount takes root");
    }
    let ctx = context(&host, "ctx", &[("Dockerfile", "FROM busybox\nCOPY a /a\nRUN cat /a\n"), ("a", "1")]);
    // In a mount namespace of its own: nothing is left to unmount.
    let rhost = host.command(["build", "-t", "x", &ctx]);
    let mut command = Command::new("unshare");
    command.args([
        "--mount",
        "sh",
        "-c",
        "mount --bind \"$0\" \"$0\" && mount -o remount,bind,ro \"$0\" && exec \"$@\"",
        &ctx,
    ]);
    command.arg(rhost.get_program()).args(rhost.get_args());
    command
        .env_clear()
        .envs(rhost.get_envs().filter_map(|(name, value)| Some((name, value?))))
        .current_dir(host.work());
    let ran = command.output().expect("unshare");
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
}
