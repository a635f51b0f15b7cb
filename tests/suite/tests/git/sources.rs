//! What is fetched: refs of all kinds, directories, submodules, with and without `.git`; and what is not fetched again.
use rhost_kit::{Ran, git};

use super::*;

#[test]
fn refs_of_all_kinds() {
    let Some((host, server, _proxy)) = room() else { return };
    let first = server.commit("r", &[("a", "1\n"), ("d/e/f*", "#!/bin/sh\n"), ("l", "-> d/e")]).expect("commit");
    let work = server.work("r").expect("work");
    git(&work, &["tag", "light"]).expect("tag");
    git(&work, &["tag", "-a", "noted", "-m", "noted"]).expect("tag");
    let second = server.commit("r", &[("a", "2\n")]).expect("commit");
    git(&server.bare("r"), &["update-ref", "refs/pull/7/head", &first]).expect("ref");
    server.commit("r", &[("a", "3\n")]).expect("commit");
    let url = server.url("r");
    let wanted = [
        (String::new(), "3"),
        ("#main".into(), "3"),
        ("#refs/heads/main".into(), "3"),
        ("#light".into(), "1"),
        ("#noted".into(), "1"),
        ("?tag=noted".into(), "1"),
        ("#refs/pull/7/head".into(), "1"),
        (format!("#{second}"), "2"),
        (format!("?ref=light&checksum={first}"), "1"),
        (format!("#{}", &first), "1"),
    ];
    let lines: Vec<String> =
        wanted.iter().enumerate().map(|(at, (rest, _))| format!("ADD {url}{rest} /{at}")).collect();
    let mut masked = Command::new("sh");
    let inner = command(&host, &lines, &[]);
    masked.args(["-c", "umask 077; exec \"$0\" \"$@\""]).arg(inner.get_program()).args(inner.get_args());
    masked.env_clear().envs(inner.get_envs().filter_map(|(name, value)| Some((name, value?)))).current_dir(host.work());
    Ran::of(&mut masked).expect("ran").success();
    let found = tree(&out(&host));
    for (at, (rest, text)) in wanted.iter().enumerate() {
        let files = [
            "a 644 ".to_owned() + text,
            "d 755 /".into(),
            "d/e 755 /".into(),
            "d/e/f 755 #!/bin/sh".into(),
            "l 777 -> d/e".into(),
        ];
        assert_eq!(below(&found, &format!("{at}/")), files, "{rest}");
    }
    // One directory of it.
    build(&host, &add(&format!("{url}#main:d/e /e")), &[]).success();
    assert_eq!(below(&tree(&out(&host)), "e/"), ["f 755 #!/bin/sh"]);
}

#[test]
fn with_its_git_directory() {
    let Some((host, server, _proxy)) = room() else { return };
    server.commit("r", &[("a", "1\n")]).expect("commit");
    let first = server.commit("r", &[("a", "2\n")]).expect("commit");
    let url = server.url("r");
    let lines = [format!("ADD --keep-git-dir {url} /k"), format!("ADD {url}?keep-git-dir=true&ref={first} /c")];
    build(&host, &lines, &[]).success();
    for dir in ["k", "c"] {
        let kept = out(&host).join(dir);
        assert_eq!(git(&kept, &["rev-parse", "HEAD"]).expect("a repository"), first);
        assert_eq!(git(&kept, &["status", "--porcelain"]).expect("a repository"), "");
        assert_eq!(git(&kept, &["rev-list", "--count", "HEAD"]).expect("a repository"), "1", "shallow");
        assert_eq!(git(&kept, &["config", "remote.origin.url"]).expect("a repository"), url);
    }
    let text = String::from_utf8_lossy(&std::fs::read(out(&host).join("k/.git/config")).expect("there")).into_owned();
    assert!(!text.contains("file:"), "{text}");
}

#[test]
fn submodules_of_submodules() {
    let Some((host, server, _proxy)) = room() else { return };
    server.commit("inner", &[("i", "inner\n")]).expect("commit");
    for (outer, inner) in [("middle", "inner"), ("outer", "middle")] {
        server.commit(outer, &[(outer, "here\n")]).expect("commit");
        let work = server.work(outer).expect("work");
        git(&work, &["submodule", "--quiet", "add", &server.bare(inner).display().to_string(), "sub"]).expect("added");
        git(&work, &["config", "-f", ".gitmodules", "submodule.sub.url", &format!("../{inner}.git")])
            .expect("relative");
        server.commit(outer, &[]).expect("commit");
    }
    let url = server.url("outer");
    let lines = [
        format!("ADD {url} /all"),
        format!("ADD {url}?submodules=false /none"),
        format!("ADD {url}?subdir=sub/sub /sub"),
        format!("ADD --keep-git-dir {url} /kept"),
    ];
    build(&host, &lines, &[]).success();
    let found = tree(&out(&host));
    assert_eq!(found["all/outer"], "644 here");
    assert_eq!(found["all/sub/sub/i"], "644 inner");
    assert!(found.keys().all(|path| path.starts_with("kept") || !path.contains(".git/") && !path.ends_with(".git")));
    assert_eq!(below(&found, "none/sub"), [" 755 /"]);
    assert_eq!(below(&found, "sub/"), ["i 644 inner"]);
    assert_eq!(found["kept/sub/sub/i"], "644 inner");
    assert_eq!(git(&out(&host).join("kept/sub/sub"), &["status", "--porcelain"]).expect("a repository"), "");
}

#[test]
fn a_branch_that_moved_is_new_and_one_that_did_not_is_only_asked_for() {
    let Some((host, server, proxy)) = room() else { return };
    let first = server.commit("r", &[("a", "1\n"), ("d/b", "b\n")]).expect("commit");
    let lines = add(&format!("{} /x", url(&proxy, "r")));
    build(&host, &lines, &[]).success();
    assert_eq!(fetches(&proxy.take_asked()), 1);
    let ran = build(&host, &lines, &[]);
    assert!(ran.stderr.contains("CACHED"), "{}", ran.stderr);
    ran.success();
    let asked = proxy.take_asked();
    assert!(!asked.is_empty() && fetches(&asked) == 0, "{asked:?}");
    // The same commit by its name, and a directory of it: there is nothing to ask.
    build(&host, &add(&format!("{}#{first}:d /x", url(&proxy, "r"))), &[]).success();
    assert_eq!((tree(&out(&host))["x/b"].as_str(), proxy.take().len()), ("644 b", 0));
    server.commit("r", &[("a", "2\n")]).expect("commit");
    let ran = build(&host, &lines, &[]);
    assert!(!ran.stderr.contains("CACHED"), "{}", ran.stderr);
    ran.success();
    assert_eq!((tree(&out(&host))["x/a"].as_str(), fetches(&proxy.take_asked())), ("644 2", 1));
    // Two lines, one name: it is asked for once, and is one commit.
    server.commit("r", &[("a", "3\n")]).expect("commit");
    let both = [format!("ADD {} /x", url(&proxy, "r")), format!("ADD {}#:d /y", url(&proxy, "r"))];
    build(&host, &both, &[]).success();
    let refs = proxy.take_asked().iter().filter(|asked| asked.body.windows(7).any(|part| part == b"ls-refs")).count();
    assert!(refs <= 2, "one question and one fetch: {refs}");
}

#[test]
fn what_is_not_there_is_said() {
    let Some((host, server, proxy)) = room() else { return };
    let commit = server.commit("r", &[("a", "1\n")]).expect("commit");
    let url = url(&proxy, "r");
    let none = "0123456789012345678901234567890123456789";
    for (rest, code, texts) in [
        ("#nope", 1, vec!["repository does not contain ref nope"]),
        (&format!("#{none}")[..], 1, vec!["no commit", none]),
        ("#main:no/such", 1, vec!["invalid subdir no/such", "`no`"]),
        ("?checksum=abcdef", 1, vec!["expected checksum to match abcdef", &commit]),
        (&format!("?ref={commit}&checksum=abcdef"), 1, vec!["expected checksum to match abcdef", &commit]),
        ("?checksum=xyz", 1, vec!["xyz"]),
    ] {
        let text = build(&host, &add(&format!("{url}{rest} /x")), &[]);
        let text = if rest == "?checksum=xyz" { text.stderr } else { text.failure(code) };
        assert!(texts.iter().all(|part| text.contains(part)) && text.contains("Dockerfile:2"), "{rest}: {text}");
    }
    let text = build(&host, &add("http://127.0.0.1:1/x.git /x"), &[]).failure(5);
    assert!(text.contains("failed to fetch remote http://127.0.0.1:1/x.git"), "{text}");
    // Without git there is a way out.
    let mut bare = command(&host, &add(&format!("{url} /x")), &[]);
    let text = Ran::of(bare.env("PATH", host.dir())).expect("ran").failure(1);
    assert!(text.contains("git") && text.contains("hint: install git"), "{text}");
}
