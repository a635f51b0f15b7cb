//! The same repositories through a real BuildKit: what a checkout holds is equal.
use std::process::Stdio;

use rhost_kit::{Buildkitd, git};

use super::*;

/// Files whose text is a matter of time, place or chance: the index has times and inodes, logs have times; packs have the order in
/// which they were made.
fn comparable(mut found: BTreeMap<String, String>) -> BTreeMap<String, String> {
    for (path, text) in &mut found {
        if path.ends_with("/index") || path.contains("/objects/pack/") || path.contains("/logs/") {
            *text = text.split(' ').next().unwrap_or_default().to_owned();
        }
    }
    found
}

#[test]
fn checkouts_are_buildkits() {
    let Some((host, server, _proxy)) = room() else { return };
    if !rhost_kit::is_root() {
        return rhost_kit::skip("a real buildkitd needs root");
    }
    if !rhost_kit::have(&["runc"]) {
        return;
    }
    server.commit("inner", &[("i", "inner\n"), ("x*", "#!/bin/sh\n")]).expect("commit");
    let files = [
        ("a", "1\n"),
        ("d/e/f*", "#!/bin/sh\n"),
        ("l", "-> d/e"),
        ("sp ace/ü", "u\n"),
        (".gitattributes", "*.crlf eol=crlf\n"),
        ("t.crlf", "a\nb\n"),
    ];
    let first = server.commit("r", &files).expect("commit");
    let work = server.work("r").expect("work");
    git(&work, &["tag", "-a", "noted", "-m", "noted"]).expect("tag");
    git(&work, &["submodule", "--quiet", "add", &server.bare("inner").display().to_string(), "sub"]).expect("added");
    git(&work, &["config", "-f", ".gitmodules", "submodule.sub.url", "../inner.git"]).expect("relative");
    server.commit("r", &[]).expect("commit");
    let buildkitd = Buildkitd::start("127.0.0.1:9").expect("buildkitd");
    let url = server.url("r");
    for (number, source) in [
        format!("{url}#{first}"),
        format!("{url}#noted"),
        format!("{url}#main"),
        format!("{url}#main:d/e"),
        format!("{url}?submodules=false"),
        format!("--keep-git-dir {url}#{first}"),
        format!("--keep-git-dir {url}#noted"),
        format!("--keep-git-dir {url}"),
    ]
    .into_iter()
    .enumerate()
    {
        let lines = add(&format!("{source} /x"));
        let context = host.dir().join(format!("buildkit-{number}"));
        std::fs::create_dir(&context).expect("made");
        std::fs::write(context.join("Dockerfile"), format!("FROM scratch\n{}\n", lines[0])).expect("written");
        let theirs = context.join("out");
        let local = |name: &str| format!("{name}={}", context.display());
        let mut buildctl = buildkitd.command(["build", "--frontend", "dockerfile.v0", "--progress", "plain"]);
        buildctl.args(["--local", &local("context"), "--local", &local("dockerfile"), "--output"]);
        buildctl.arg(format!("type=local,dest={}", theirs.display()));
        let said = buildctl.stdout(Stdio::null()).output().expect("buildctl");
        assert!(said.status.success(), "{source}: {}", String::from_utf8_lossy(&said.stderr));
        build(&host, &lines, &[]).success();
        let (mut theirs, ours) = (comparable(tree(&theirs)), comparable(tree(&out(&host))));
        if !source.starts_with("--keep") {
            // It leaves the name of a directory of its own store there.
            theirs.remove("x/sub/.git");
        }
        // It keeps branches as tags in its store, and git follows tags into the copy.
        theirs.remove("x/.git/refs/tags/main");
        let differ: Vec<String> = theirs
            .keys()
            .chain(ours.keys())
            .filter(|path| theirs.get(*path) != ours.get(*path))
            .map(|path| format!("{path}: {:?} | {:?}", theirs.get(path), ours.get(path)))
            .collect();
        assert!(differ.is_empty(), "{source}:\n{}", differ.join("\n"));
    }
}
