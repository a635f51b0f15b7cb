//! Builds for other platforms than the machine's: RUN under QEMU, cross builds, copies between platforms, one index for all.
//!
//! These machines have no registration of their own for the platforms used here, or one that works; both are the same to a user.
use std::fs;
use std::path::Path;
use std::process::Command;

use rhost_kit::{Registry, TestHost, busybox_everywhere, have, is_root, skip};

/// A host whose docker.io has a busybox for seven platforms; `None`, said aloud, where the machine lacks what that takes.
fn host() -> Option<(TestHost, Registry)> {
    if !have(&["docker-registry", "skopeo", "busybox"]) {
        return None;
    }
    if !["qemu-aarch64-static", "qemu-aarch64"].iter().any(|name| Path::new("/usr/bin").join(name).exists()) {
        skip("no QEMU for arm64 in /usr/bin (`cargo xtask setup` installs it)");
        return None;
    }
    let registry = Registry::start().expect("a registry");
    registry.push(&busybox_everywhere().expect("busybox"), "library/busybox:latest").expect("pushed");
    let host = TestHost::new().expect("a host");
    host.mirror_docker_io(registry.address()).expect("config");
    Some((host, registry))
}

fn context(host: &TestHost, dockerfile: &str) -> String {
    host.write("ctx/Dockerfile", dockerfile).expect("written");
    host.work().join("ctx").display().to_string()
}

/// Builds into a directory; what `path` says there.
fn built(host: &TestHost, arguments: &[&str], context: &str, path: &str) -> String {
    let tree = tempfile_in(host);
    let mut all = vec!["build", "-o", &tree];
    all.extend(arguments);
    all.push(context);
    host.run(all).expect("ran").success();
    fs::read_to_string(Path::new(&tree).join(path)).expect("a file of the result")
}

fn tempfile_in(host: &TestHost) -> String {
    let mut number = 0;
    loop {
        let path = host.dir().join(format!("out{number}"));
        if !path.exists() {
            return path.display().to_string();
        }
        number += 1;
    }
}

const CHILDREN: &str = "FROM busybox
RUN uname -m > /machine && cat /machine | sed s/^/is-/ | (read it; it=$it sh -c 'echo $0 $it' child) > /pipe
RUN printf '#!/bin/sh\\nuname -m\\necho \"$0\" \"$@\"\\n' > /script && chmod +x /script && /script a 'b c' > /told
RUN find /bin -name true -exec sh -c 'test -e \"$1\" && echo found' sh {} \\; | xargs -n1 echo > /found
RUN (sleep 0 & wait) && awk 'BEGIN { \"uname -m\" | getline it; print it }' > /awk && readlink /proc/self/exe > /exe
RUN [\"/bin/busybox\", \"sh\", \"-c\", \"echo $0 $*\", \"zero\", \"one\"]
";

#[test]
fn children_of_an_emulated_step_are_emulated_too() {
    let Some((host, _registry)) = host() else { return };
    let context = context(&host, CHILDREN);
    for (platform, machine) in [("linux/arm64", "aarch64"), ("linux/amd64", "x86_64")] {
        let read = |path| built(&host, &["--platform", platform], &context, path);
        assert_eq!(read("machine"), format!("{machine}\n"));
        assert_eq!(read("pipe"), format!("child is-{machine}\n"), "{platform}");
        assert_eq!(read("told"), format!("{machine}\n/script a b c\n"), "argv[0] is kept");
        assert_eq!(read("found"), "found\n");
        assert_eq!(read("awk"), format!("{machine}\n"));
        assert_eq!(read("exe"), "/bin/busybox\n");
    }
}

#[test]
fn several_platforms_make_one_index() {
    let Some((host, _registry)) = host() else { return };
    let context =
        context(&host, "FROM busybox\nARG TARGETARCH TARGETVARIANT\nRUN test \"$TARGETARCH\" && uname -m > /m\n");
    let file = host.dir().join("image.oci").display().to_string();
    let output = format!("type=oci,dest={file}");
    host.run(["build", "--platform", "linux/amd64,linux/arm64,linux/arm/v7", "-o", &output, &context])
        .expect("ran")
        .success();
    let inspect = |arguments: &[&str]| {
        let out = Command::new("skopeo")
            .args(arguments)
            .args(["inspect", "--config"])
            .arg(format!("oci-archive:{file}"))
            .output()
            .expect("skopeo");
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        serde_json::from_slice::<serde_json::Value>(&out.stdout).expect("json")
    };
    let mut layers = Vec::new();
    for (arch, variant) in [("amd64", ""), ("arm64", ""), ("arm", "v7")] {
        let mut arguments = vec![format!("--override-arch={arch}"), "--override-os=linux".into()];
        if !variant.is_empty() {
            arguments.push(format!("--override-variant={variant}"));
        }
        let config = inspect(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
        assert_eq!((config["architecture"].as_str(), config["os"].as_str()), (Some(arch), Some("linux")));
        assert_eq!(config["variant"].as_str().unwrap_or_default(), variant, "{config}");
        layers.push(config["rootfs"]["diff_ids"][1].to_string());
    }
    layers.dedup();
    assert_eq!(layers.len(), 3, "each platform ran its own step: {layers:?}");
}

#[test]
fn every_platform_that_debian_has_runs() {
    let Some((host, _registry)) = host() else { return };
    let context = context(&host, "FROM busybox\nRUN uname -m | tr a-z A-Z | sh -c 'cat' > /machine\n");
    for (platform, qemu, machines) in [
        ("linux/amd64", "", &["X86_64"][..]),
        ("linux/386", "", &["X86_64", "I686"]),
        ("linux/arm64", "aarch64", &["AARCH64"]),
        ("linux/arm/v7", "arm", &["ARMV7L", "ARMV8L"]),
        ("linux/riscv64", "riscv64", &["RISCV64"]),
        ("linux/ppc64le", "ppc64le", &["PPC64LE"]),
        ("linux/s390x", "s390x", &["S390X"]),
    ] {
        let names = [format!("/usr/bin/qemu-{qemu}-static"), format!("/usr/bin/qemu-{qemu}")];
        if !qemu.is_empty() && !names.iter().any(|name| Path::new(name).exists()) {
            skip(&format!("no QEMU for {platform}"));
            continue;
        }
        let found = built(&host, &["--platform", platform], &context, "machine");
        assert!(machines.contains(&found.trim()), "{platform}: {found}");
    }
}

#[test]
fn a_cross_build_runs_on_the_build_platform_only() {
    let Some((host, _registry)) = host() else { return };
    // Nothing emulates: the build stage is the machine's, the last stage runs nothing.
    let config = fs::read_to_string(host.dir().join("config.toml")).expect("config");
    host.write_config(&format!("{config}[emulation]\ndirectories = []\n")).expect("config");
    let context = context(
        &host,
        "FROM --platform=$BUILDPLATFORM busybox AS build\nARG TARGETPLATFORM BUILDPLATFORM TARGETARCH\n\
         RUN echo \"$BUILDPLATFORM -> $TARGETPLATFORM on $(uname -m)\" > /log\nFROM busybox\nCOPY --from=build /log /log\n",
    );
    let found = built(&host, &["--platform", "linux/s390x"], &context, "log");
    assert!(found.contains("-> linux/s390x on "), "{found}");
    let machine = Command::new("uname").arg("-m").output().expect("uname").stdout;
    assert!(found.ends_with(&format!(" on {}", String::from_utf8_lossy(&machine))), "{found}");
}

#[test]
fn files_go_from_one_platform_to_another() {
    let Some((host, _registry)) = host() else { return };
    let context = context(
        &host,
        "FROM --platform=linux/arm64 busybox AS arm\nRUN uname -m > /m && mkdir /b && cp /bin/busybox /b/\n\
         FROM --platform=linux/amd64 busybox AS amd\nRUN uname -m > /m\n\
         FROM --platform=linux/arm64 busybox\nCOPY --from=amd /m /amd\nCOPY --from=arm /m /arm\n\
         COPY --from=arm /b /b\nRUN --mount=type=bind,from=amd,source=/m,target=/seen cat /seen /amd /arm > /all && /b/busybox true\n",
    );
    assert_eq!(built(&host, &["--platform", "linux/arm64"], &context, "all"), "x86_64\nx86_64\naarch64\n");
}

#[test]
fn users_and_their_homes_are_right_under_emulation() {
    let Some((host, _registry)) = host() else { return };
    let context = context(
        &host,
        "FROM busybox\nRUN echo app:x:1000:1001::/home/app:/bin/sh >> /etc/passwd && echo extra:x:50:app >> /etc/group && mkdir /home/app \
         && chown 1000:1001 /home/app\nUSER app\nRUN id -u > ~/told && id -G >> ~/told && umask >> ~/told && echo $HOME >> ~/told\n",
    );
    let found = built(&host, &["--platform", "linux/arm64"], &context, "home/app/told");
    assert_eq!(found, "1000\n1001 50\n0022\n/home/app\n");
}

#[test]
fn a_missing_emulator_is_named_and_only_when_it_is_needed() {
    let Some((host, _registry)) = host() else { return };
    let context = context(&host, "FROM busybox\nRUN uname -m > /m\n");
    let build = ["build", "--platform", "linux/s390x", &context];
    let without = "[emulation]\ndirectories = [\"/opt/none\"]\n";
    let config = fs::read_to_string(host.dir().join("config.toml")).expect("config");
    host.write_config(&format!("{config}{without}")).expect("config");
    let text = host.run(build).expect("ran").failure(1);
    for part in
        ["linux/s390x", "qemu-s390x-static", "/opt/none", "`qemu-user-static`", "Dockerfile:2", "rhost emulation ls"]
    {
        assert!(text.contains(part), "wanted {part}: {text}");
    }
    let listed = host.run(["emulation", "ls"]).expect("ran").success();
    let line = listed.lines().find(|line| line.starts_with("linux/s390x ")).expect("a line");
    assert!(line.contains(" no ") && line.contains("/opt/none"), "{line}");
    // With it the step runs; afterwards its result serves those who have none.
    host.write_config(&config).expect("config");
    host.run(build).expect("ran").success();
    host.write_config(&format!("{config}{without}")).expect("config");
    host.run(build).expect("ran").success();
}

#[test]
fn the_list_tells_how_each_platform_runs() {
    if !is_root() || !Path::new("/usr/bin/qemu-aarch64-static").exists() {
        return skip("wants root and QEMU for arm64");
    }
    let host = TestHost::new().expect("a host");
    let listed = host.run(["emulation", "ls", "--json"]).expect("ran").success();
    let rows: Vec<serde_json::Value> = listed.lines().map(|line| serde_json::from_str(line).expect("json")).collect();
    let how = |platform: &str| {
        let row = rows.iter().find(|row| row["platform"] == platform).unwrap_or_else(|| panic!("{platform}: {listed}"));
        row["how"].as_str().unwrap_or_default().to_owned()
    };
    assert_eq!(how(if cfg!(target_arch = "x86_64") { "linux/amd64" } else { "linux/arm64" }), "native");
    if cfg!(target_arch = "x86_64") {
        assert!(["emulator", "registered"].contains(&how("linux/arm64").as_str()), "{listed}");
    }
    assert!(host.root().symlink_metadata().is_err(), "a question makes no store");
    let text = host.run(["emulation", "install", "linux/vax"]).expect("ran").failure(2);
    assert!(text.contains("linux/vax"), "{text}");
}

/// `rhost` as another user, its store and context open to that user.
fn as_user(host: &TestHost, ids: &[&str], arguments: &[&str]) -> (bool, String) {
    use std::os::unix::fs::PermissionsExt as _;
    let (binary, store) = (host.dir().join("rhost"), host.dir().join(format!("store-{}", ids[0].replace('=', "-"))));
    fs::copy(host.binary(), &binary).expect("copied");
    fs::create_dir_all(&store).expect("made");
    for path in [host.dir(), &binary, &store, &host.work(), &host.home(), &host.dir().join("tmp")] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o777)).expect("mode");
    }
    let inner = host.command(arguments);
    let mut command = Command::new("setpriv");
    command.args(ids).arg(&binary).arg("--root").arg(&store).args(inner.get_args());
    command.env_clear().envs(inner.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let ran = command.current_dir(host.work()).output().expect("setpriv");
    (ran.status.success(), String::from_utf8_lossy(&ran.stderr).into_owned() + &String::from_utf8_lossy(&ran.stdout))
}

#[test]
fn a_plain_user_builds_for_other_platforms() {
    let Some((host, _registry)) = host() else { return };
    if !is_root() {
        return skip("wants root, to become somebody else");
    }
    let context = context(&host, CHILDREN);
    let build = ["build", "--platform", "linux/arm64,linux/amd64", "--progress", "plain", "-t", "many", &context];
    let nobody = ["--reuid=54321", "--regid=54321", "--clear-groups"];
    let (fine, text) = as_user(&host, &nobody, &build);
    assert!(fine, "one id: {text}");
    let (fine, text) = as_user(&host, &nobody, &["emulation", "install"]);
    assert!(!fine && text.contains("root"), "{text}");
    let subordinate = fs::read_to_string("/etc/subuid").unwrap_or_default();
    let Some(name) = subordinate.lines().filter_map(|line| line.split(':').next()).find(|name| *name != "root") else {
        return skip("nobody has subordinate ids here");
    };
    let (reuid, regid) = (format!("--reuid={name}"), format!("--regid={name}"));
    let (fine, text) = as_user(&host, &[&reuid, &regid, "--init-groups"], &build);
    assert!(fine, "{name}: {text}");
}
