//! The repositories that the store keeps: shared by builds at once, thrown away when damaged, seen and removed.
use std::path::PathBuf;

use super::*;

/// The one repository of the store.
fn repository(host: &TestHost) -> PathBuf {
    let mut found = std::fs::read_dir(host.root().join("git-v1")).expect("there");
    let place = found.next().expect("one").expect("an entry").path();
    assert!(found.next().is_none());
    place.join("repository")
}

#[test]
fn builds_at_once_share_a_repository() {
    let Some((host, server, proxy)) = room() else { return };
    for number in 0..6 {
        server
            .commit("r", &[("a", &format!("{number}\n")), (&format!("d{number}/f"), &format!("{number}\n"))])
            .expect("commit");
    }
    let work = server.work("r").expect("work");
    let commits = rhost_kit::git(&work, &["rev-list", "--reverse", "HEAD"]).expect("commits");
    let mut children = Vec::new();
    for (number, commit) in commits.lines().enumerate() {
        let to = host.dir().join(format!("at-once-{number}")).display().to_string();
        let lines = [
            format!("ADD {}#{commit}:d{number} /d", url(&proxy, "r")),
            format!("ADD {}#{commit} /all", url(&proxy, "r")),
        ];
        let mut command = command(&host, &lines, &["-o", &to]);
        children.push((number, command.stderr(std::process::Stdio::piped()).spawn().expect("started"), to));
    }
    for (number, child, to) in children {
        let output = child.wait_with_output().expect("waited");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let found = tree(Path::new(&to));
        assert_eq!((found["d/f"].clone(), found["all/a"].clone()), (format!("644 {number}"), format!("644 {number}")));
    }
    repository(&host);
}

#[test]
fn a_damaged_repository_is_begun_anew() {
    let Some((host, server, proxy)) = room() else { return };
    server.commit("r", &[("a", "0\n"), ("kept", "kept\n"), ("sub/f", "f\n")]).expect("commit");
    let lines = add(&format!("{} /x", url(&proxy, "r")));
    build(&host, &lines, &[]).success();
    type Damage = fn(&Path);
    let damages: [(&str, Damage); 6] = [
        ("config", |dir| std::fs::write(dir.join("config"), "[core\nnonsense").expect("written")),
        ("HEAD", |dir| std::fs::write(dir.join("HEAD"), "").expect("written")),
        ("shallow", |dir| std::fs::write(dir.join("shallow"), "nonsense\n").expect("written")),
        ("objects", |dir| std::fs::remove_dir_all(dir.join("objects")).expect("removed")),
        ("each object", |dir| {
            let mut todo = vec![dir.join("objects")];
            while let Some(at) = todo.pop() {
                for entry in std::fs::read_dir(at).expect("there").flatten() {
                    if entry.path().is_dir() {
                        todo.push(entry.path());
                    } else {
                        let mode: std::fs::Permissions = std::os::unix::fs::PermissionsExt::from_mode(0o644);
                        std::fs::set_permissions(entry.path(), mode).expect("opened");
                        let bytes = std::fs::read(entry.path()).expect("read");
                        std::fs::write(entry.path(), &bytes[..bytes.len() / 2]).expect("cut");
                    }
                }
            }
        }),
        ("a lock that was left", |dir| {
            std::fs::write(dir.join("shallow.lock"), "").expect("written");
            std::fs::write(dir.join("config.lock"), "").expect("written");
        }),
    ];
    for (number, (what, damage)) in damages.into_iter().enumerate() {
        damage(&repository(&host));
        // With a new commit, and without the results of earlier builds.
        server.commit("r", &[("a", &format!("{}\n", number + 1))]).expect("commit");
        let ran = build(&host, &lines, &["--no-cache"]);
        assert_eq!(ran.code, 0, "{what}: {}", ran.stderr);
        let found = tree(&out(&host));
        assert_eq!(
            (found["x/a"].clone(), found["x/kept"].as_str()),
            (format!("644 {}", number + 1), "644 kept"),
            "{what}"
        );
        proxy.take();
        // Checked out once more: its directory is another source.
        build(&host, &add(&format!("{}#:sub /y", url(&proxy, "r"))), &[]).success();
        assert_eq!(fetches(&proxy.take_asked()), 0, "{what}: whole again");
    }
}

#[test]
fn it_is_seen_and_removed() {
    let Some((host, server, _proxy)) = room() else { return };
    server.commit("r", &[("a", "1\n")]).expect("commit");
    let lines = add(&format!("{} /x", server.url("r")));
    build(&host, &lines, &[]).success();
    let text = host.run(["du", "--filter", "type==source.git.checkout"]).expect("ran").success();
    assert!(text.contains(&format!("git repository of {}", server.url("r"))), "{text}");
    let text = host.run(["prune", "--filter", "type==source.git.checkout"]).expect("ran").success();
    assert!(text.contains("source.git.checkout"), "{text}");
    assert_eq!(std::fs::read_dir(host.root().join("git-v1")).expect("there").count(), 0);
    host.run(["prune"]).expect("ran").success();
    build(&host, &lines, &[]).success();
    repository(&host);
}
