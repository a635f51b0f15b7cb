//! What everybody gets wrong once: each mistake is named with its place and a way out, with the documented exit code, before anything is
//! built for nothing.
use std::fs;
use std::path::Path;

use rhost_kit::TestHost;

use crate::build::{host, write};

/// Runs `arguments`, which must fail with `code` and say all of `wanted`.
fn fails(host: &TestHost, arguments: &[&str], code: i32, wanted: &[&str]) {
    let text = host.run(arguments).expect("ran").failure(code);
    for part in wanted {
        assert!(text.contains(part), "rhost {}: no `{part}` in\n{text}", arguments.join(" "));
    }
}

#[test]
fn of_the_command_line() {
    let host = TestHost::new().expect("a host");
    write(
        &host,
        &[
            ("ctx/Dockerfile", "FROM scratch\nCOPY a /\n"),
            ("ctx/a", "a"),
            ("other/deploy/app.Dockerfile", "FROM scratch\n"),
        ],
    );
    for (arguments, wanted) in [
        (&["build"][..], &["wants a context", "rhost build ."][..]),
        (&["build", "nowhere"], &["no such directory", "rhost build ."]),
        (&["build", "ctx/Dockerfile"], &["is no directory", "-f ctx/Dockerfile"]),
        (&["build", "example.com/team/app"], &["no such directory", "https://example.com/team/app"]),
        (&["build", "-f", "Dockerfile", "ctx"], &["relative to the working directory", "-f ctx/Dockerfile"]),
        (&["build", "other"], &["cannot read the build file", "deploy/app.Dockerfile"]),
        (&["build", "-t", "A", "ctx"], &["-t A", "lower case"]),
        (&["build", "--build-arg", "=1", "ctx"], &["--build-arg =1", "NAME"]),
        (&["build", "--label", "=1", "ctx"], &["--label =1", "NAME"]),
        (&["build", "--jobs", "0", "ctx"], &["--jobs", "1 or more"]),
        (&["build", "--add-host", "a:b", "ctx"], &["--add-host a:b", "no IP address"]),
        (&["build", "--ulimit", "nofile", "ctx"], &["--ulimit nofile", "nofile=1024:2048"]),
        (&["build", "--platfrom", "linux/arm64", "ctx"], &["--platform"]),
        (&["--config", "/nowhere.toml", "images"], &["/nowhere.toml", "--config"]),
    ] {
        fails(&host, arguments, 2, wanted);
    }
    fails(&host, &["--root", "/proc/nowhere", "images"], 6, &["/proc/nowhere", "--root"]);
}

#[test]
fn of_a_destination_before_anything_is_built() {
    let Some((host, _registry)) = host() else { return };
    let ctx = write(&host, &[("ctx/Dockerfile", "FROM busybox\nRUN touch /built\n"), ("file", "")]);
    for (output, wanted) in [
        ("type=oci,dest=nowhere/x.tar", &["no directory `nowhere`"][..]),
        ("type=docker,dest=file/x.tar", &["is a file"]),
        ("type=tar,dest=ctx", &["is a directory"]),
        ("type=local,dest=file", &["is a file", "directory is wanted"]),
        ("type=oci,tar=false,dest=file/layout", &["is a file"]),
    ] {
        let text = host.run(["build", "--progress", "plain", "-o", output, &ctx]).expect("ran").failure(2);
        assert!(wanted.iter().all(|part| text.contains(part)), "{output}: {text}");
        assert!(!text.contains("#1"), "something was begun: {text}");
    }
    for flag in ["--iidfile", "--metadata-file"] {
        fails(&host, &["build", flag, "nowhere/id", &ctx], 2, &["no directory `nowhere`"]);
    }
    if !rhost_kit::is_root() {
        fails(&host, &["build", "-o", "type=oci,dest=/usr/x.tar", &ctx], 2, &["no permission to write in `/usr`"]);
    }
    let ran = host.run(["build", "-o", "out", &ctx]).expect("ran");
    assert!(ran.stderr.contains("wrote out"), "{}", ran.stderr);
    ran.success();
    assert!(host.work().join("out/built").exists());
}

#[test]
fn of_what_is_copied() {
    let Some((host, _registry)) = host() else { return };
    let ctx = write(
        &host,
        &[
            ("ctx/package.json", "{}"),
            ("ctx/dist/app", "x"),
            ("ctx/src/main.c", "int main;"),
            ("ctx/.dockerignore", "dist\n"),
        ],
    );
    let copy = |from: &str| {
        fs::write(Path::new(&ctx).join("Dockerfile"), format!("FROM busybox AS build\nFROM busybox\nCOPY {from} /x\n"))
            .expect("written");
    };
    let place = format!("is not in the build context `{ctx}`");
    for (from, wanted) in [
        ("pakcage.json", &[&*place, "Dockerfile:3", "did you mean `/package.json`?"][..]),
        ("src/Main.c", &[&*place, "did you mean `/src/main.c`?"]),
        ("dist/app", &[&*place, ".dockerignore", "`!dist/app`"]),
        ("../ctx", &[&*place, "nothing outside"]),
        (
            "--from=build /etc/paswd",
            &["`/etc/paswd` is not in the result of `[build 1/1] FROM", "did you mean `/etc/passwd`?"],
        ),
    ] {
        copy(from);
        fails(&host, &["build", &ctx], 1, wanted);
    }
}

#[test]
fn of_a_stage_and_a_step() {
    let Some((host, registry)) = host() else { return };
    let ctx = write(&host, &[]);
    fs::create_dir_all(&ctx).expect("made");
    // A registry that is there: an unknown image is then an unknown image.
    host.write_config(&format!(
        "[registry.\"docker.io\"]\nmirrors = [{:?}]\n[registry.\"docker.invalid\"]\nhttp = true\n",
        registry.address()
    ))
    .expect("config");
    let dockerfile = |text: &str| fs::write(Path::new(&ctx).join("Dockerfile"), text).expect("written");
    dockerfile("FROM busybox AS build\nFROM busybox\nCOPY --from=biuld /x /x\n");
    let text = host.run(["build", &ctx]).expect("ran").stderr;
    assert!(text.contains("Dockerfile:3") && text.contains("did you mean the stage `build`?"), "{text}");
    dockerfile("FROM busybox AS build\nFROM busybox AS test\n");
    fails(
        &host,
        &["build", "--target", "tset", &ctx],
        3,
        &["target stage \"tset\" could not be found (did you mean test?)", "build, test"],
    );
    dockerfile("FROM scratch\nRUN echo\n");
    fails(&host, &["build", &ctx], 1, &["`/bin/sh`", "scratch"]);
    // What a step said is said again where the build ends, even where nothing else is shown.
    dockerfile("FROM busybox\nRUN seq 1 300; nosuchcommand\n");
    let wanted =
        ["> [2/2] RUN seq 1 300; nosuchcommand:", "\n300\n", "nosuchcommand: not found", "Dockerfile:2", "127"];
    fails(&host, &["build", "--progress", "plain", &ctx], 1, &wanted);
    fails(&host, &["build", "-q", &ctx], 1, &wanted);
}
