//! The user's story: `rhost build` with real registries and readers. Each test has its own store, registry and context.
use std::fs;
use std::path::Path;
use std::process::Command;

use rhost_kit::{Registry, TestHost, busybox};

/// A host whose docker.io is a registry with busybox; `None`, said aloud, where the machine lacks what that takes.
pub(crate) fn host() -> Option<(TestHost, Registry)> {
    if !rhost_kit::have(&["docker-registry", "skopeo"]) {
        rhost_kit::skip("docker-registry and skopeo are not installed");
        return None;
    }
    let registry = Registry::start().expect("a registry");
    registry.push(&busybox().expect("busybox"), "library/busybox:latest").expect("pushed");
    let host = TestHost::new().expect("a host");
    host.mirror_docker_io(registry.address()).expect("config");
    Some((host, registry))
}

pub(crate) fn write(host: &TestHost, files: &[(&str, &str)]) -> String {
    for (path, text) in files {
        host.write(path, text).expect("written");
    }
    host.work().join("ctx").display().to_string()
}

#[test]
fn a_build_is_kept_listed_used_by_the_next_and_removed() {
    let Some((host, _registry)) = host() else { return };
    let dockerfile =
        "FROM busybox\nWORKDIR /w\nCOPY a.txt .\nRUN cat a.txt > /out && echo built\nCMD [\"cat\", \"/out\"]\n";
    let context = write(&host, &[("ctx/Dockerfile", dockerfile), ("ctx/a.txt", "content\n")]);
    let first = host.run(["build", "-t", "app:1", "--progress", "plain", &context]).expect("ran");
    let log = first.stderr.clone();
    first.success();
    assert!(log.contains("[4/4] RUN cat a.txt > /out && echo built") && log.contains(" built\n"), "{log}");
    let again = host.run(["build", "-t", "app:1", "--progress", "plain", &context]).expect("ran");
    let log = again.stderr.clone();
    again.success();
    assert_eq!(log.matches(" CACHED\n").count(), 4, "{log}");

    assert!(host.run(["images"]).expect("ran").success().contains("docker.io/library/app:1"));
    let child = write(&host, &[("ctx/child", "FROM app:1\nRUN grep content /out\n")]);
    let file = format!("{child}/child");
    host.run(["build", "-t", "child", "-f", &file, &child]).expect("ran").success();
    host.run(["rmi", "app:1"]).expect("ran").success();
    assert!(!host.run(["images"]).expect("ran").success().contains("app:1"));
    assert!(host.run(["rmi", "app:1"]).expect("ran").failure(2).contains("no image `app:1`"));
}

#[test]
fn a_changed_file_runs_what_reads_it_and_a_touched_one_does_not() {
    let Some((host, _registry)) = host() else { return };
    let dockerfile = "FROM busybox\nCOPY a /a\nRUN cat /a\nCOPY b /b\n";
    let context = write(&host, &[("ctx/Dockerfile", dockerfile), ("ctx/a", "1"), ("ctx/b", "1")]);
    let cached = |host: &TestHost| {
        let ran = host.run(["build", "--progress", "plain", &context]).expect("ran");
        let log = ran.stderr.clone();
        ran.success();
        log.matches(" CACHED\n").count()
    };
    cached(&host);
    host.write("ctx/b", "1").expect("same bytes, another mtime");
    assert_eq!(cached(&host), 4, "mtime does not count");
    host.write("ctx/b", "22").expect("other bytes");
    assert_eq!(cached(&host), 3, "only COPY b");
    host.write("ctx/a", "22").expect("other bytes");
    assert_eq!(cached(&host), 1, "only FROM is left");
}

#[test]
fn a_failing_step_names_its_line_and_exits_with_1() {
    let Some((host, _registry)) = host() else { return };
    let context = write(&host, &[("ctx/Dockerfile", "FROM busybox\n\nRUN echo before; exit 7\n")]);
    let text = host.run(["build", &context]).expect("ran").failure(1);
    assert!(text.contains("before") && text.contains("exit code: 7"), "{text}");
    assert!(text.contains("Dockerfile:3") && text.contains(">>> RUN echo before; exit 7"), "{text}");
    write(&host, &[("ctx/Dockerfile", "FROM busybox\nRUN true\n")]);
    host.run(["build", &context]).expect("ran").success();
}

#[test]
fn wrong_requests_say_what_and_where() {
    let Some((host, _registry)) = host() else { return };
    let context = write(&host, &[("ctx/Dockerfile", "FROM busybox AS one\nRUNN true\n")]);
    let told = |arguments: &[&str], code: i32, wanted: &[&str]| {
        let text = host.run(["build"].iter().chain(arguments)).expect("ran").failure(code);
        for part in wanted {
            assert!(text.contains(part), "{arguments:?}: wanted `{part}` in {text}");
        }
    };
    told(&[&context], 3, &["Dockerfile:2", "RUNN"]);
    told(&["/nowhere/at/all"], 2, &["/nowhere/at/all"]);
    told(&["-f", "missing", &context], 2, &["missing"]);
    told(&["--platform", "a/b/c/d", &context], 2, &["--platform", "a/b/c/d"]);
    told(&["-o", "type=ocy", &context], 2, &["ocy", "oci"]);
    told(&["-o", "type=image,push=true", &context], 2, &["no name to push it under"]);
    write(&host, &[("ctx/Dockerfile", "FROM busybox\nCOPY missing /\n")]);
    told(&[&context], 1, &["missing", "Dockerfile:2"]);
    write(&host, &[("ctx/Dockerfile", "FROM busybox\nCOPY ../../etc/passwd /\n")]);
    told(&[&context], 1, &["etc/passwd"]);
    write(&host, &[("ctx/Dockerfile", "FROM busybox AS one\n")]);
    told(&["--target", "two", &context], 3, &["two"]);
    write(&host, &[("ctx/Dockerfile", "FROM nothing-of-this-name\n")]);
    told(
        &[&context],
        5,
        &["nothing-of-this-name", "cannot reach registry `docker.io`", "does not have it", "Dockerfile:1"],
    );
    write(&host, &[("ctx/Dockerfile", "FROM busybox\nADD https://files.invalid/x /\n")]);
    told(&[&context], 5, &["files.invalid", "Dockerfile:2"]);
    write(&host, &[("ctx/Dockerfile", "FROM busybox\nCOPY --from=x / /\n")]);
    told(&["--build-context", "x=https://files.invalid/x.git", &context], 5, &["files.invalid"]);
}

#[test]
fn exports_are_read_by_other_tools() {
    let Some((host, _registry)) = host() else { return };
    let dockerfile = "FROM busybox\nRUN mkdir /d && ln /bin/busybox /d/hard && chmod 4755 /bin/busybox && rm /etc/group\nLABEL a=b\n";
    let context = write(&host, &[("ctx/Dockerfile", dockerfile)]);
    let out = |name: &str| host.dir().join(name).display().to_string();
    for (kind, reader) in [("oci", "oci-archive"), ("docker", "docker-archive")] {
        let file = out(kind);
        let metadata = out("metadata.json");
        let ran = host.run([
            "build",
            "-t",
            "x:1",
            "--metadata-file",
            &metadata,
            "-o",
            &format!("type={kind},dest={file}"),
            &context,
        ]);
        ran.expect("ran").success();
        let inspect = Command::new("skopeo").args(["inspect", &format!("{reader}:{file}")]).output().expect("skopeo");
        let text = String::from_utf8_lossy(&inspect.stdout).into_owned();
        assert!(
            inspect.status.success() && text.contains("\"a\": \"b\""),
            "{text}{}",
            String::from_utf8_lossy(&inspect.stderr)
        );
        assert!(fs::read_to_string(&metadata).expect("metadata").contains("containerimage.digest"));
    }
    let tree = out("tree");
    host.run(["build", "-o", &tree, &context]).expect("ran").success();
    assert!(fs::metadata(format!("{tree}/d/hard")).expect("there").len() > 0);
    assert!(fs::symlink_metadata(format!("{tree}/etc/group")).is_err(), "removed by the step");
    let saved = out("saved");
    host.run(["build", "-t", "x:1", &context]).expect("ran").success();
    host.run(["save", "-o", &saved, "x:1"]).expect("ran").success();
    let inspect =
        Command::new("skopeo").args(["inspect", &format!("docker-archive:{saved}")]).output().expect("skopeo");
    assert!(inspect.status.success(), "{}", String::from_utf8_lossy(&inspect.stderr));
}

#[test]
fn dump_llb_is_what_buildctl_reads() {
    let Some((host, _registry)) = host() else { return };
    let context = write(&host, &[("ctx/Dockerfile", "FROM busybox\nCOPY a /a\n"), ("ctx/a", "1")]);
    let json = host.run(["debug", "dump-llb", "--json", &context]).expect("ran").success();
    assert!(json.contains("docker-image://docker.io/library/busybox:latest@sha256:"), "{json}");
    assert!(host.run(["debug", "dump-llb", "--dot", &context]).expect("ran").success().starts_with("digraph"));
    if !rhost_kit::have(&["buildctl"]) {
        return rhost_kit::skip("buildctl is not on PATH; `cargo xtask peers` builds it");
    }
    let llb = host.command(["debug", "dump-llb", &context]).output().expect("ran").stdout;
    let file = host.write("llb", llb).expect("written");
    let read =
        Command::new("buildctl").args(["debug", "dump-llb"]).stdin(fs::File::open(file).expect("there")).output();
    let read = read.expect("buildctl");
    let text = String::from_utf8_lossy(&read.stdout).into_owned();
    assert!(
        read.status.success() && text.contains("local://context"),
        "{text}{}",
        String::from_utf8_lossy(&read.stderr)
    );
}

/// `rhost` from `binary` as a user that is nobody else's and has no subordinate ids.
pub(crate) fn as_plain_user(host: &TestHost, binary: &Path, arguments: &[&str]) -> Command {
    let inner = host.command(arguments);
    let mut command = Command::new("setpriv");
    command.args(["--reuid=54321", "--regid=54321", "--clear-groups"]).arg(binary).args(inner.get_args());
    command.env_clear().envs(inner.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command.current_dir(host.work());
    command
}

/// Lets every user read and write `path`.
pub(crate) fn open_to_all(path: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(path, fs::Permissions::from_mode(0o777)).expect("mode");
}

#[test]
fn a_plain_user_builds_without_daemon_and_root() {
    let Some((host, _registry)) = host() else { return };
    let dockerfile = "FROM busybox\nWORKDIR /w\nCOPY a .\nRUN rm /etc/group && ln -s a b && id -u > /uid\nRUN rm -r /w && mkdir /w\n";
    let context = write(&host, &[("ctx/Dockerfile", dockerfile), ("ctx/a", "1")]);
    if !rhost_kit::is_root() {
        host.run(["build", "-t", "plain", &context]).expect("ran").success();
        return;
    }
    // The binary must be where the user can reach it, and the store where it can write.
    let (binary, store) = (host.dir().join("rhost"), host.dir().join("plain-store"));
    fs::copy(host.binary(), &binary).expect("copied");
    fs::create_dir(&store).expect("made");
    for path in [host.dir(), &binary, &store, &host.work(), &host.home()] {
        open_to_all(path);
    }
    let store = store.display().to_string();
    let arguments = ["--root", &store, "build", "-t", "plain", &context];
    let ran = as_plain_user(&host, &binary, &arguments).output().expect("setpriv");
    let text = String::from_utf8_lossy(&ran.stderr).into_owned();
    assert!(ran.status.success() && text.contains("image docker.io/library/plain:latest"), "{text}");
    assert!(text.contains("only one user can be had in images here"), "{text}");
}

#[test]
fn a_frontend_from_a_file_builds_its_own_language() {
    let Some((host, _registry)) = host() else { return };
    let guest = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/guests/lines.wasm");
    if !guest.exists() {
        return rhost_kit::skip("target/guests/lines.wasm is not built; run `cargo xtask guests`");
    }
    let context = write(&host, &[("ctx/build.lines", "from busybox\nrun echo lines > /made\n")]);
    let file = format!("{context}/build.lines");
    let tree = host.dir().join("tree").display().to_string();
    let guest = guest.display().to_string();
    host.run(["build", "--frontend", &guest, "-f", &file, "-o", &tree, &context]).expect("ran").success();
    assert_eq!(fs::read_to_string(format!("{tree}/made")).expect("made"), "lines\n");
    let junk = host.write("junk.wasm", "no component").expect("written").display().to_string();
    let text = host.run(["build", "--frontend", &junk, &context]).expect("ran").failure(2);
    assert!(text.contains("build file"), "{text}");
    let text = host.run(["build", "--frontend", &junk, "-f", &file, &context]).expect("ran").failure(4);
    assert!(text.contains("junk.wasm"), "{text}");
}
