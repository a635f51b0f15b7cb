//! Cache mounts, tmpfs and binds.
use std::fs;
use std::path::PathBuf;

use rhost_kit::TestHost;

use super::{Background, build, command, files_with, said, until};
use crate::build::{as_plain_user, host, open_to_all, write};

/// Where the store keeps cache mounts: a plain user's in another directory than root's.
pub(super) fn bucket(host: &TestHost) -> PathBuf {
    host.root().join(if rhost_kit::is_root() { "cache-mounts-v1" } else { "cache-mounts-user-v1" })
}

#[test]
fn a_cache_mount_lives_between_builds_and_in_no_layer() {
    let Some((host, _registry)) = host() else { return };
    let step = |text: &str| format!("FROM busybox\nRUN --mount=type=cache,id=k,target=/c {text}\n");
    assert_eq!(said(build(&host, &step("echo hidden-content >> /c/f; wc -l < /c/f"), &[])), "1\n");
    // The content is no part of the key: another command finds it, the same one is not run again.
    assert_eq!(said(build(&host, &step("wc -l < /c/f"), &[])), "1\n");
    assert_eq!(said(build(&host, &step("echo hidden-content >> /c/f; wc -l < /c/f"), &[])), "");
    assert_eq!(said(build(&host, &step("ls /c; echo other"), &["-o", "type=tar,dest=out.tar"])), "f\nother\n");
    let tree = host.dir().join("tree");
    let output = format!("type=local,dest={}", tree.display());
    build(&host, &step("ls /c; echo other"), &["-o", &output]).success();
    assert!(!tree.join("c").exists(), "the mount point goes, too");
    let found = files_with(&host.root(), b"hidden-content\n");
    assert!(found.len() == 1 && found[0].starts_with(bucket(&host)), "{found:?}");
    assert!(files_with(&host.work(), b"hidden-content\n").is_empty());
}

#[test]
fn without_the_cache_it_begins_anew_once_in_a_build() {
    let Some((host, _registry)) = host() else { return };
    let dockerfile = "FROM busybox\nRUN --mount=type=cache,target=/c echo 1 >> /c/f; wc -l < /c/f\n\
        RUN --mount=type=cache,target=/c echo 2 >> /c/f; wc -l < /c/f\n";
    assert_eq!(said(build(&host, dockerfile, &[])), "1\n2\n");
    assert_eq!(said(build(&host, dockerfile, &["--no-cache"])), "1\n2\n", "as BuildKit");
    let other = "FROM busybox\nRUN --mount=type=cache,target=/c cat /c/f\n";
    assert_eq!(said(build(&host, other, &[])), "1\n2\n");
}

#[test]
fn options_of_a_cache_mount() {
    if !rhost_kit::have_users() {
        return;
    }
    let Some((host, _registry)) = host() else { return };
    let run = |mounts: &str, text: &str| {
        said(build(
            &host,
            &format!(
                "FROM busybox AS b\nRUN mkdir -p /seed/d && echo s > /seed/d/s && chmod 750 /seed && ln -s seed /link\nFROM busybox\nRUN {mounts} {text}\n"
            ),
            &[],
        ))
    };
    assert_eq!(run("--mount=type=cache,target=/c,mode=0710,uid=5,gid=6", "stat -c %a:%u:%g /c"), "710:5:6\n");
    let from = "--mount=type=cache,target=/c,id=f,from=b,source=/seed";
    assert_eq!(run(from, "stat -c %a /c; cat /c/d/s; echo new > /c/n"), "750\ns\n");
    assert_eq!(run(from, "ls /c"), "d\nn\n");
    assert_eq!(run("--mount=type=cache,target=/c,id=f,from=b,source=/link", "ls /c/"), "d\n");
    assert_eq!(run("--mount=type=cache,target=/c,id=f,from=b", "ls -d /c/seed /c/bin"), "/c/bin\n/c/seed\n");
    assert_eq!(run("--mount=type=cache,target=/c,id=f", "ls /c; echo empty"), "empty\n");
    assert_eq!(
        run("--mount=type=cache,target=/c,id=f,from=b,source=/seed,ro", "touch /c/x 2>&1 || ls /c"),
        "touch: /c/x: Read-only file system\nd\nn\n"
    );
    // Two mounts of one id in one step are one directory, whatever they say of sharing.
    let two = "--mount=type=cache,target=/c,id=z,sharing=private --mount=type=cache,target=/d,id=z,sharing=locked";
    assert_eq!(run(two, "touch /c/f; ls /d"), "f\n");
    let escape = "--mount=type=cache,target=/c,id=../../../../../../tmp";
    assert_eq!(run(escape, "touch /c/escaped; ls /c"), "escaped\n");
    assert!(!std::path::Path::new("/tmp/escaped").exists());
}

#[test]
fn wrong_cache_mounts_say_where_and_why() {
    let Some((host, _registry)) = host() else { return };
    let refused = |mount: &str, code: i32| {
        build(&host, &format!("FROM busybox AS b\nFROM busybox\nRUN --mount=type=cache,{mount} true\n"), &[])
            .failure(code)
    };
    let text = refused("target=/c,sharing=sometimes", 3);
    assert!(text.contains("Dockerfile:3") && text.contains("sometimes") && text.contains("locked"), "{text}");
    let text = refused("target=/c,from=b,source=/nowhere", 1);
    assert!(text.contains("Dockerfile:3") && text.contains("/nowhere") && text.contains("at `/c`"), "{text}");
    assert!(text.contains("hint: check `from=`"), "{text}");
    let text = refused("target=/c,uid=x", 3);
    assert!(text.contains("Dockerfile:3") && text.contains("uid"), "{text}");
    let text = refused("target=/c,required", 3);
    assert!(text.contains("required"), "{text}");
}

#[test]
fn of_two_mounts_on_one_target_the_later_is_seen() {
    let Some((host, _registry)) = host() else { return };
    let secret = format!("id=s,src={}", host.write("secret", "hush").expect("written").display());
    let run = |mounts: &str, text: &str| {
        said(build(&host, &format!("FROM busybox\nRUN {mounts} {text}\n"), &["--secret", &secret]))
    };
    let (one, two) = ("--mount=type=cache,id=one,target=/c", "--mount=type=cache,id=two,target=/c");
    assert_eq!(run(&format!("{one} {two}"), "touch /c/f; ls /c"), "f\n");
    assert_eq!(
        run("--mount=type=cache,id=one,target=/a --mount=type=cache,id=two,target=/b", "ls /a /b"),
        "/a:\n\n/b:\nf\n"
    );
    assert_eq!(run(&format!("{two} {one} --mount=type=cache,id=two,target=/c/in"), "ls /c; ls /c/in"), "in\nf\n");
    assert_eq!(run(&format!("{two} --mount=type=tmpfs,target=/c"), "ls /c; echo empty"), "empty\n");
    assert_eq!(
        run("--mount=type=secret,id=none,target=/s --mount=type=secret,id=s,target=/s", "cat /s; echo"),
        "hush\n"
    );
}

/// The cache mount in which a step of [`holder`] has begun.
fn begun(host: &TestHost, id: &str) -> PathBuf {
    until(id, || {
        let mounts = fs::read_dir(bucket(host)).ok()?;
        mounts.flatten().map(|entry| entry.path().join("fs")).find(|dir| dir.join(format!("begun-{id}")).exists())
    })
}

/// A step that says it has the mount, and keeps it until there is a file `go`.
fn holder(id: &str, sharing: &str) -> String {
    format!(
        "FROM busybox\nRUN --mount=type=cache,id={id},target=/c,sharing={sharing} touch /c/begun-{id}; while [ ! -e /c/go ]; do usleep 20000; done; rm /c/go; touch /c/finished\n"
    )
}

/// A step that tells what it finds; sharing is not in its key, so it is in its text.
fn second(id: &str, sharing: &str) -> String {
    format!(
        "FROM busybox\nRUN --mount=type=cache,id={id},target=/c,sharing={sharing} ls /c | grep -v go; : {id} {sharing}; echo done\n"
    )
}

#[test]
fn sharing_between_processes() {
    let Some((host, _registry)) = host() else { return };
    let first = Background::start(&host, command(&host, &holder("l", "locked"), &[]), "first");
    let dir = begun(&host, "l");
    // A private one does not wait, and neither does a shared one: each has another instance.
    assert_eq!(said(build(&host, &second("l", "private"), &[])), "done\n");
    assert_eq!(said(build(&host, &second("l", "shared"), &[])), "done\n");
    fs::write(dir.join("go"), "").expect("written");
    first.ended().success();

    let first = Background::start(&host, command(&host, &holder("s", "shared"), &[]), "shared");
    let dir = begun(&host, "s");
    assert_eq!(said(build(&host, &second("s", "shared"), &[])), "begun-s\ndone\n");
    fs::write(dir.join("go"), "").expect("written");
    first.ended().success();
}

#[test]
fn locked_waits_and_says_for_what_and_a_killed_holder_lets_go() {
    let Some((host, _registry)) = host() else { return };
    for (id, kill) in [("kept", false), ("killed", true)] {
        let mut first = Background::start(&host, command(&host, &holder(id, "locked"), &[]), "first");
        let dir = begun(&host, id);
        let waiting = Background::start(&host, command(&host, &second(id, "locked"), &[]), "waiting");
        let who = first.child.id();
        waiting.says(&format!("waiting for cache mount `/{id}` (sharing=locked), which process {who} has"));
        if kill {
            first.child.kill().expect("killed");
            first.child.wait().expect("waited");
            assert_eq!(said(waiting.ended()), format!("begun-{id}\ndone\n"));
        } else {
            fs::write(dir.join("go"), "").expect("written");
            first.ended().success();
            assert_eq!(said(waiting.ended()), format!("begun-{id}\nfinished\ndone\n"));
        }
    }
}

#[test]
fn steps_of_one_build_that_want_two_locked_mounts_in_either_order_all_run() {
    let Some((host, _registry)) = host() else { return };
    let mut dockerfile = String::new();
    for number in 0..6 {
        let (one, two) = if number % 2 == 0 { ("x", "y") } else { ("y", "x") };
        dockerfile.push_str(&format!("FROM busybox AS s{number}\nRUN --mount=type=cache,id={one},target=/a,sharing=locked --mount=type=cache,id={two},target=/b,sharing=locked [ ! -e /a/in ] && [ ! -e /b/in ] && touch /a/in /b/in && usleep 10000 && rm /a/in /b/in && echo {number} >> /a/all; touch /done\n"));
    }
    dockerfile.push_str("FROM busybox\n");
    for number in 0..6 {
        dockerfile.push_str(&format!("COPY --from=s{number} /done /{number}\n"));
    }
    build(&host, &dockerfile, &["--jobs", "6"]).success();
    let mounts = fs::read_dir(bucket(&host)).expect("there");
    let all: Vec<String> = mounts.flatten().filter_map(|m| fs::read_to_string(m.path().join("fs/all")).ok()).collect();
    assert_eq!(all.iter().map(|text| text.lines().count()).sum::<usize>(), 6, "one at a time: {all:?}");
}

#[test]
fn binds_and_tmpfs() {
    let Some((host, _registry)) = host() else { return };
    let named = host.write("named/sub/n", "named").expect("written");
    let named = format!("extra={}", named.ancestors().nth(2).expect("a parent").display());
    let run = |mounts: &str, text: &str| {
        let dockerfile = format!(
            "FROM busybox AS b\nRUN mkdir /s && echo 1 > /s/f && ln -s f /s/l\nFROM busybox\nRUN {mounts} {text}\n"
        );
        said(build(&host, &dockerfile, &["--build-context", &named]))
    };
    assert_eq!(run("--mount=from=b,source=/s,target=/m,rw", "echo x > /m/n; ls /m"), "f\nl\nn\n");
    assert_eq!(
        run("--mount=from=b,source=/s,target=/m", "ls /m; touch /m/x 2>&1 || true"),
        "f\nl\ntouch: /m/x: Read-only file system\n"
    );
    assert_eq!(run("--mount=from=b,source=/s/f,target=/deep/er/f", "cat /deep/er/f"), "1\n");
    assert_eq!(run("--mount=from=b,source=/s/l,target=/m", "cat /m; stat -c %F /m"), "1\nregular file\n");
    assert_eq!(run("--mount=source=kept,target=/k", "cat /k"), "1\n");
    assert_eq!(run("--mount=target=/all,rw", "cat /all/kept; echo 2 > /all/kept"), "1\n");
    assert_eq!(fs::read_to_string(host.work().join("ctx/kept")).expect("there"), "1", "the context is never written");
    assert_eq!(run("--mount=from=extra,source=sub,target=/e", "cat /e/n"), "named\n");
    assert_eq!(run("--mount=from=busybox,source=/bin,target=/img", "[ -e /img/sh ] && echo image"), "image\n");
    let small = run(
        "--mount=type=tmpfs,target=/t,size=64k",
        "grep ' /t ' /proc/mounts; head -c 100000 /dev/zero > /t/x 2>/dev/null || echo full",
    );
    assert!(small.contains("nosuid") && small.contains("size=64k") && small.ends_with("full\n"), "{small}");
    let text = build(&host, "FROM busybox AS b\nFROM busybox\nRUN --mount=from=b,source=/none,target=/m true\n", &[])
        .failure(1);
    assert!(text.contains("Dockerfile:3") && text.contains("/none") && text.contains("at `/m`"), "{text}");
}

#[test]
fn a_plain_user_has_cache_mounts_and_secrets() {
    let Some((host, _registry)) = host() else { return };
    if !rhost_kit::is_root() {
        return rhost_kit::skip("only root can become another user");
    }
    let secret = host.write("secret", "hush").expect("written");
    let mounts = "--mount=type=cache,target=/c,mode=0700,uid=7 --mount=type=secret,id=s,env=S --mount=type=secret,id=s --mount=type=tmpfs,target=/t";
    let dockerfile = format!("FROM busybox\nRUN {mounts} ls /c; echo 1 >> /c/$S; cat /run/secrets/s\n");
    let context =
        write(&host, &[("ctx/Dockerfile", &dockerfile), ("ctx/again", &dockerfile.replace("ls /c", "ls /c; true"))]);
    let (binary, store) = (host.dir().join("rhost"), host.dir().join("plain-store"));
    fs::copy(host.binary(), &binary).expect("copied");
    fs::create_dir(&store).expect("made");
    for path in [host.dir(), &binary, &store, &host.work(), &host.home(), &secret] {
        open_to_all(path);
    }
    let (store, secret) = (store.display().to_string(), format!("id=s,src={}", secret.display()));
    for (file, expect) in [("Dockerfile", "hush"), ("again", "hush\nhush")] {
        let file = format!("{context}/{file}");
        let arguments = ["--root", &store, "build", "--progress", "plain", "--secret", &secret, "-f", &file, &context];
        let ran = rhost_kit::Ran::of(&mut as_plain_user(&host, &binary, &arguments)).expect("ran");
        assert_eq!(said(ran).trim(), expect, "{file}");
    }
}
