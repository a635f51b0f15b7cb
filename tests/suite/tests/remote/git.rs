//! `rhost build https://….git#ref:dir`: repositories as contexts, through git's own server.
use rhost_kit::{GitServer, Proxy};

use super::{build, host};

#[test]
fn repositories_are_contexts() {
    if !rhost_kit::have(&["git"]) {
        return;
    }
    let server = GitServer::start().expect("a git server");
    let proxy = Proxy::start(server.address()).expect("a proxy");
    let url = proxy.url("app.git");
    let files = [
        ("Dockerfile", "FROM scratch\nCOPY . /all/\n"),
        ("a.txt", "one"),
        ("sub/Dockerfile", "FROM scratch\nCOPY b.txt /\n"),
        ("sub/b.txt", "below"),
        ("sub/other", "FROM scratch\nCOPY b.txt /other\n"),
    ];
    let first = server.commit("app", &files).expect("a commit");
    let host = host();
    let out = |name: &str| host.work().join("out").join(name);
    let read = |name: &str| std::fs::read_to_string(out(name)).expect(name);
    build(&host, &["-o", "out", &url]).success();
    assert_eq!(read("all/a.txt"), "one");
    assert!(!out("all/.git").exists());
    let asked = |proxy: &Proxy| proxy.take().iter().filter(|line| line.contains("/info/refs")).count();
    assert!(asked(&proxy) <= 2, "resolved and fetched, once for the engine, the frontend and the build");
    // Nothing has changed: what the branch stands for is asked, once.
    let ran = build(&host, &["-o", "out", &url]);
    assert_eq!(asked(&proxy), 1, "{}", ran.stderr);
    let loads = ran.stderr.lines().filter(|line| line.contains("load git source")).count();
    assert!(loads == 1 && ran.stderr.contains("CACHED"), "{}", ran.stderr);
    ran.success();
    // A directory of it, and a build file in that.
    build(&host, &["-o", "out", &format!("{url}#main:sub")]).success();
    assert_eq!(read("b.txt"), "below");
    build(&host, &["-f", "other", "-o", "out", &format!("{url}?branch=main&subdir=sub")]).success();
    assert_eq!(read("other"), "below");
    // The branch moves; the commit that was stays to be had.
    server.commit("app", &[("a.txt", "two")]).expect("a commit");
    build(&host, &["-o", "out", &url]).success();
    assert_eq!(read("all/a.txt"), "two");
    build(&host, &["-o", "out", &format!("{url}#{first}")]).success();
    assert_eq!(read("all/a.txt"), "one");
    build(&host, &["--build-arg", "BUILDKIT_CONTEXT_KEEP_GIT_DIR=1", "-o", "out", &url]).success();
    assert!(out("all/.git").exists());
    // As a context by name, and asked about.
    host.write("ctx/Dockerfile", "FROM scratch\nCOPY --from=repo a.txt /named\n").expect("written");
    build(&host, &["--build-context", &format!("repo={url}#main"), "-o", "out", "ctx"]).success();
    assert_eq!(read("named"), "two");
    let said = host.run(["build", "--print-frontend", &url]).expect("ran").success();
    assert!(said.contains("built in"), "{said}");
    let said = host.run(["build", "--call", "targets", &url]).expect("ran").success();
    assert!(said.contains("default"), "{said}");
}

#[test]
fn repositories_that_are_not_there_or_have_no_build_file() {
    if !rhost_kit::have(&["git"]) {
        return;
    }
    let server = GitServer::start().expect("a git server");
    server.commit("empty", &[("docker/app.Dockerfile", "FROM scratch\n")]).expect("a commit");
    let host = host();
    let url = server.url("empty");
    let text = build(&host, &[url.as_str()]).failure(2);
    assert!(text.contains(&url) && text.contains("-f docker/app.Dockerfile"), "{text}");
    for (context, wanted) in [
        (format!("{url}#nowhere"), "nowhere"),
        (format!("{url}#main:missing"), "missing"),
        (server.url("gone").replace("http://", "http://me:hunter2@"), "gone.git"),
    ] {
        let ran = build(&host, &[context.as_str()]);
        assert!(
            ran.code != 0 && ran.stderr.contains(wanted) && ran.stderr.contains("hint"),
            "{context}: {}",
            ran.stderr
        );
        assert!(!ran.stderr.contains("hunter2"), "{}", ran.stderr);
    }
}
