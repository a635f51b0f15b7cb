//! Attributes of git sources that no Dockerfile sets, on a real server.
use rhost_kit::{GitServer, SshServer, git};
use rhost_llb::{GraphBuilder, Limits, Platform, SourceOp, SourceScheme, VertexOptions, attr};
use rhost_rootfs::Last;

use super::tests::{Room, room};
use crate::value::Value;

/// The whole definition of one source.
fn definition(source: SourceOp) -> rhost_llb::Definition {
    let mut builder = GraphBuilder::new(Platform::host(), Limits::HOSTILE);
    let head = builder.source(source, &VertexOptions::default()).unwrap();
    builder.marshal(Some(head)).unwrap()
}

fn source(url: &str, fragment: &str, attrs: &[(&str, &str)]) -> rhost_llb::Definition {
    let source = SourceOp::new(SourceScheme::Git, &format!("127.0.0.1/r{fragment}")).with_attr(attr::GIT_FULL_URL, url);
    definition(attrs.iter().fold(source, |source, (name, value)| source.with_attr(name, *value)))
}

/// The time of `path` in `value`, in seconds.
fn time(room: &Room, value: &Value, path: &str) -> i64 {
    let Value::Snapshot(id) = value else { panic!("a checkout is a snapshot") };
    room.shared.view(*id).unwrap().stat(path, Last::Keep).unwrap().mtime / 1_000_000_000
}

#[test]
fn files_have_the_time_of_the_commit() {
    let Some(room) = room() else { return };
    let server = GitServer::start().unwrap();
    server.commit("r", &[("a", "1\n"), ("d/e", "e\n"), ("l", "-> a")]).unwrap();
    let url = server.url("r");
    let commit = room.solve(&source(&url, "", &[(attr::GIT_MTIME, "commit")]), 0);
    for path in ["/", "a", "d", "d/e", "l"] {
        assert_eq!(time(&room, &commit, path), 1_700_000_001, "{path}");
    }
    let now = room.solve(&source(&url, "", &[(attr::GIT_MTIME, "checkout")]), 0);
    assert!(time(&room, &now, "a") > 1_700_000_001);
    // Times are no content.
    let content = |value: &Value| room.shared.tree(value).unwrap().checksum("/", &Default::default()).unwrap();
    assert_eq!(content(&commit), content(&now));
    let kept = [(attr::GIT_MTIME, "commit"), (attr::GIT_KEEP_DIR, "true")];
    let kept = room.solve(&source(&url, "#main", &kept), 0);
    for path in [".git", ".git/config", "a"] {
        assert_eq!(time(&room, &kept, path), 1_700_000_001, "{path}");
    }
}

#[test]
fn a_commit_is_fetched_whatever_its_ref_stands_for() {
    let Some(room) = room() else { return };
    let server = GitServer::start().unwrap();
    let first = server.commit("r", &[("a", "1\n")]).unwrap();
    server.commit("r", &[("a", "2\n")]).unwrap();
    let attrs = [(attr::GIT_FETCH_BY_COMMIT, "true"), (attr::GIT_CHECKSUM, first.as_str())];
    let value = room.solve(&source(&server.url("r"), "#main", &attrs), 0);
    assert_eq!(room.list(&value), ["a = 1\n"]);
    // The ref's name goes into the copy.
    let attrs = [attrs[0], attrs[1], (attr::GIT_KEEP_DIR, "true")];
    let Value::Snapshot(id) = room.solve(&source(&server.url("r"), "#main", &attrs), 0) else { panic!("a snapshot") };
    let text = room.shared.view(id).unwrap().read(".git/refs/heads/main", 100).unwrap();
    assert_eq!(String::from_utf8(text).unwrap().trim(), first);
}

#[test]
fn sha256_repositories() {
    let Some(room) = room() else { return };
    let server = GitServer::start().unwrap();
    let (bare, work) = (server.bare("r").display().to_string(), server.dir().join("w"));
    git(server.dir(), &["init", "--quiet", "--bare", "--object-format=sha256", &bare]).unwrap();
    git(server.dir(), &["init", "--quiet", "--object-format=sha256", "w"]).unwrap();
    std::fs::write(work.join("a"), "long\n").unwrap();
    git(&work, &["add", "."]).unwrap();
    git(&work, &["commit", "--quiet", "-m", "a"]).unwrap();
    git(&work, &["push", "--quiet", &bare, "HEAD:main"]).unwrap();
    let commit = git(&work, &["rev-parse", "HEAD"]).unwrap();
    for (fragment, keep) in [(String::new(), "false"), (format!("#{commit}"), "true")] {
        let value = room.solve(&source(&server.url("r"), &fragment, &[(attr::GIT_KEEP_DIR, keep)]), 0);
        let Value::Snapshot(id) = value else { panic!("a snapshot") };
        assert_eq!(room.shared.view(id).unwrap().read("a", 100).unwrap(), b"long\n", "{fragment}");
    }
}

#[test]
fn given_host_keys_are_the_only_ones() {
    let Some(room) = room() else { return };
    if !rhost_kit::have(&["sshd", "ssh", "ssh-keygen"]) {
        return;
    }
    let server = GitServer::start().unwrap();
    server.commit("r", &[("a", "1\n")]).unwrap();
    let sshd = SshServer::start(&server.dir().join("nobody.pub")).unwrap();
    let url = sshd.url(&server.bare("r")).unwrap();
    let strange = sshd.known_host().unwrap().replace("127.0.0.1", "example.org");
    for (keys, wanted) in [(strange, "Host key verification failed"), (sshd.known_host().unwrap(), "Permission denied")]
    {
        let error = room.fail(&source(&url, "", &[(attr::GIT_KNOWN_SSH_HOSTS, &keys)]));
        assert!(error.contains(wanted), "{error}");
    }
}
