//! Servers and repositories that mean harm, and servers that hang (SECURITY: CVE-2026-33748, GHSA-hw3h-2gp9-cxpv, GHSA-49p4, CVE-2022-39253).
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use rhost_kit::{Answer, git};

use super::*;

#[test]
fn directories_are_directories() {
    let Some((host, server, _proxy)) = room() else { return };
    let files = [("a", "1\n"), ("etc", "-> /etc"), ("up", "-> .."), ("d/l", "-> /etc"), ("here", "-> d")];
    server.commit("r", &files).expect("commit");
    let url = server.url("r");
    for (subdir, at) in
        [("etc", "etc"), ("up", "up"), ("d/l", "d/l"), ("here", "here"), ("here/l", "here"), ("a", "a"), ("a/b", "a")]
    {
        let text = build(&host, &add(&format!("{url}#main:{subdir} /x")), &[]).failure(1);
        assert!(text.contains(&format!("`{at}`")) && text.contains("non-directory"), "{subdir}: {text}");
    }
    // `..` stays inside; `.git` is never a directory of it.
    build(&host, &add(&format!("{url}#main:../../d /x")), &[]).success();
    assert_eq!(below(&tree(&out(&host)), "x/"), ["l 777 -> /etc"]);
    let text = build(&host, &add(&format!("{url}#main:.git/hooks /x")), &[]);
    assert!(text.code != 0 && text.stderr.contains("invalid subdir .git/hooks"), "{}", text.stderr);
}

#[test]
fn names_that_git_would_take_for_options() {
    let Some((host, server, proxy)) = room() else { return };
    let commit = server.commit("r", &[("a", "1\n")]).expect("commit");
    let mark = host.dir().join("mark");
    for rest in
        ["#-x".into(), format!("#--upload-pack=touch${{IFS}}{}", mark.display()), "?ref=-x".into(), "?branch=-x".into()]
    {
        let ran = build(&host, &add(&format!("{}{rest} /x", url(&proxy, "r"))), &[]);
        assert!(ran.code != 0 && ran.stderr.contains("invalid git ref"), "{rest}: {}", ran.stderr);
    }
    assert!(proxy.take().is_empty(), "nobody was asked");
    // From the remote, too: its default branch.
    let bare = server.bare("r");
    std::fs::create_dir_all(bare.join("refs/heads")).expect("made");
    std::fs::write(bare.join("refs/heads/--upload-pack=x"), format!("{commit}\n")).expect("written");
    std::fs::write(bare.join("HEAD"), "ref: refs/heads/--upload-pack=x\n").expect("written");
    let ran = build(&host, &add(&format!("{} /x", url(&proxy, "r"))), &[]);
    assert!(ran.code != 0 && !mark.exists(), "{}", ran.stderr);
}

#[test]
fn submodules_by_other_transports_are_refused() {
    let Some((host, server, _proxy)) = room() else { return };
    server.commit("inner", &[("i", "inner\n")]).expect("commit");
    server.commit("outer", &[("o", "1\n")]).expect("commit");
    let work = server.work("outer").expect("work");
    let inner = server.bare("inner").display().to_string();
    git(&work, &["submodule", "--quiet", "add", &inner, "sub"]).expect("added");
    let mark = host.dir().join("mark");
    // A command in place of a checkout: git takes none from a repository.
    let command = format!("!touch {}", mark.display());
    git(&work, &["config", "-f", ".gitmodules", "submodule.sub.update", &command]).expect("changed");
    git(&work, &["config", "-f", ".gitmodules", "submodule.sub.url", &server.url("inner")]).expect("changed");
    server.commit("outer", &[]).expect("commit");
    let ran = build(&host, &add(&format!("{} /x", server.url("outer"))), &[]);
    assert!(!mark.exists(), "{}", ran.stderr);
    git(&work, &["config", "-f", ".gitmodules", "--unset", "submodule.sub.update"]).expect("changed");
    for place in [
        inner.clone(),
        format!("file://{inner}"),
        format!("ext::sh -c touch% {}", mark.display()),
        format!("-u{inner}"),
    ] {
        git(&work, &["config", "-f", ".gitmodules", "submodule.sub.url", &place]).expect("changed");
        server.commit("outer", &[]).expect("commit");
        for flag in ["", "--keep-git-dir "] {
            let ran = build(&host, &add(&format!("{flag}{} /x", server.url("outer"))), &[]);
            assert!(ran.code != 0 && !mark.exists(), "{place}: {}", ran.stderr);
        }
    }
}

/// What a request is held by until the test lets it go.
struct Gate {
    reached: Receiver<()>,
    _open: Sender<()>,
}

/// From now on requests for which `holds` says so are not answered.
fn hold(proxy: &Proxy, holds: impl Fn(&Asked) -> bool + Send + Sync + 'static) -> Gate {
    let ((reached, arrived), (open, opened)) = (channel(), channel());
    let opened = Arc::new(std::sync::Mutex::new(opened));
    proxy.answer(move |asked| {
        if holds(asked) {
            let _ = reached.send(());
            // Until the gate is gone.
            let _ = opened.lock().map(|opened| opened.recv());
        }
        Answer::Forward
    });
    Gate { reached: arrived, _open: open }
}

fn gone(address: &str) {
    let start = Instant::now();
    while !processes(address).is_empty() {
        assert!(start.elapsed() < Duration::from_secs(30), "left: {:?}", processes(address));
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_server_that_hangs_is_named_with_what_hung() {
    let Some((host, server, proxy)) = room() else { return };
    server.commit("r", &[("a", "1\n")]).expect("commit");
    host.write_config("[git]\ntimeout = \"2s\"\n").expect("config");
    let lines = add(&format!("{} /x", url(&proxy, "r")));
    let gate = hold(&proxy, |asked| asked.body.windows(13).any(|part| part == b"command=fetch"));
    let text = build(&host, &lines, &[]).failure(5);
    assert!(
        text.contains(&url(&proxy, "r")) && text.contains("does not answer: git fetch heard nothing for 2 s"),
        "{text}"
    );
    assert!(text.contains("hint:") && text.contains("[git]"), "{text}");
    drop(gate);
    let gate = hold(&proxy, |_| true);
    let text = build(&host, &lines, &[]).failure(5);
    assert!(text.contains("does not answer: git ls-remote heard nothing for 2 s"), "{text}");
    drop(gate);
    gone(proxy.address());
    proxy.answer(|_| Answer::Forward);
    build(&host, &lines, &[]).success();
    for wrong in ["0s", "soon"] {
        host.write_config(&format!("[git]\ntimeout = \"{wrong}\"\n")).expect("config");
        build(&host, &lines, &[]).failure(2);
    }
}

#[test]
fn nothing_of_git_outlives_a_build() {
    let Some((host, server, proxy)) = room() else { return };
    server.commit("r", &[("a", "1\n")]).expect("commit");
    let lines = add(&format!("{} /x", url(&proxy, "r")));
    for (signal, code) in [("INT", 130), ("TERM", 143), ("KILL", 137)] {
        let gate = hold(&proxy, |asked| asked.body.windows(13).any(|part| part == b"command=fetch"));
        let mut child = command(&host, &lines, &[]).stderr(std::process::Stdio::null()).spawn().expect("started");
        gate.reached.recv_timeout(Duration::from_secs(60)).expect("fetching");
        assert!(!processes(proxy.address()).is_empty());
        let sent = Command::new("kill").args(["-s", signal, &child.id().to_string()]).status().expect("kill");
        assert!(sent.success());
        let status = child.wait().expect("waited");
        let found =
            status.code().unwrap_or_else(|| 128 + std::os::unix::process::ExitStatusExt::signal(&status).unwrap_or(0));
        assert_eq!(found, code, "{signal}");
        gone(proxy.address());
        drop(gate);
    }
    proxy.answer(|_| Answer::Forward);
    build(&host, &lines, &[]).success();
    assert_eq!(tree(&out(&host))["x/a"], "644 1");
}
