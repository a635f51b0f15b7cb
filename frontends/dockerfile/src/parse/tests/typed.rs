//! Instructions one by one.

use super::*;

#[test]
fn from() {
    let stage = |text: &str| parse(text.as_bytes()).unwrap().stages.remove(0);
    let from = stage("FROM --platform=$P a:1 AS Build-1.x_y");
    assert_eq!(
        (from.base.as_str(), from.name.as_deref(), from.platform.as_deref()),
        ("a:1", Some("build-1.x_y"), Some("$P"))
    );
    assert_eq!((from.code.as_str(), from.keyword.as_str()), ("FROM --platform=$P a:1 AS Build-1.x_y", "FROM"));
    for text in ["from a as b", "From a aS b", "FROM\ta\tAS\tb", "FROM a \\\n AS b"] {
        assert_eq!(stage(text).name.as_deref(), Some("b"), "{text}");
    }
    assert_eq!(stage("FROM scratch").name, None);
    let file = parse(b"FROM a\nRUN x\nFROM b\nFROM c\nRUN y\nRUN z").unwrap();
    assert_eq!(file.stages.iter().map(|s| s.instructions.len()).collect::<Vec<_>>(), [1, 0, 2]);
}

#[test]
fn commands() {
    assert!(matches!(one("run a && b"), Kind::Run(r) if r.command == shell("a && b")));
    assert!(matches!(one("RUN"), Kind::Run(r) if r.command.args.is_empty() && r.command.form == Form::Shell));
    assert!(matches!(one("RUN  [\"a\"]"), Kind::Run(r) if r.command == exec(&["a"])));
    assert!(matches!(one("CMD"), Kind::Cmd(c) if c.args.is_empty()));
    assert!(matches!(one("CMD \"a b\""), Kind::Cmd(c) if c == shell("\"a b\"")));
    assert!(matches!(one("ENTRYPOINT []"), Kind::Entrypoint(c) if c.args.is_empty() && c.form == Form::Exec));
    assert!(matches!(one("ENTRYPOINT [\"a\",\"\"]"), Kind::Entrypoint(c) if c == exec(&["a", ""])));
    assert!(matches!(one("SHELL [\"/bin/bash\",\"-c\"]"), Kind::Shell(s) if s == ["/bin/bash", "-c"]));
}

#[test]
fn run_flags() {
    let run = |text: &str| match one(text) {
        Kind::Run(run) => run,
        other => panic!("{other:?}"),
    };
    let all = run(
        "RUN --mount=type=cache,target=/c --network=none --security=insecure --mount=type=tmpfs,target=/t --device=d,required x",
    );
    assert_eq!(
        all.mounts.iter().map(|m| m.text.as_str()).collect::<Vec<_>>(),
        ["type=cache,target=/c", "type=tmpfs,target=/t"]
    );
    assert_eq!((all.network, all.security, all.devices.len()), (Network::None, Security::Insecure, 1));
    let none = run("RUN x");
    assert_eq!((none.network, none.security), (Network::Default, Security::Sandbox));
    assert_eq!(run("RUN --network=host x").network, Network::Host);
    assert_eq!(run("RUN --network=default x").network, Network::Default);
}

#[test]
fn copy_and_add() {
    let Kind::Copy(copy) = one("COPY --from=b --chown=1:2 --chmod=755 --link --parents --exclude=*.o a b /c/") else {
        panic!()
    };
    let sources = Sources { paths: vec!["a".into(), "b".into()], inline: Vec::new(), dest: "/c/".into() };
    let expect = Copy {
        sources: sources.clone(),
        from: Some("b".into()),
        chown: Some("1:2".into()),
        chmod: Some("755".into()),
        link: true,
        parents: true,
        exclude: vec!["*.o".into()],
    };
    assert_eq!(copy, expect);
    let Kind::Add(add) = one("ADD --keep-git-dir --unpack=false --checksum=sha256:0 a b /c/") else { panic!() };
    let expect = Add {
        sources,
        keep_git_dir: Some(true),
        unpack: Some(false),
        checksum: Some("sha256:0".into()),
        ..Add::default()
    };
    assert_eq!(add, expect);
}

#[test]
fn single_words() {
    assert!(matches!(one("WORKDIR /a b"), Kind::Workdir(p) if p == "/a b"));
    assert!(matches!(one("USER a:b"), Kind::User(u) if u == "a:b"));
    assert!(matches!(one("STOPSIGNAL  SIGTERM "), Kind::Stopsignal(s) if s == "SIGTERM"));
    assert!(matches!(one("MAINTAINER A B <c@d>"), Kind::Maintainer(m) if m == "A B <c@d>"));
}

#[test]
fn lists() {
    assert!(matches!(one("EXPOSE 90 80/tcp  $p"), Kind::Expose(p) if p == ["$p", "80/tcp", "90"]));
    assert!(matches!(one("VOLUME /a /b"), Kind::Volume(v) if v == ["/a", "/b"]));
    assert!(matches!(one("VOLUME [\" /a \"]"), Kind::Volume(v) if v == ["/a"]));
}

#[test]
fn healthcheck() {
    let health = |text: &str| match one(&format!("HEALTHCHECK {text}")) {
        Kind::Healthcheck(h) => h,
        other => panic!("{other:?}"),
    };
    assert_eq!(health("none").test, ["NONE"]);
    assert_eq!(health("CMD a b").test, ["CMD-SHELL", "a b"]);
    assert_eq!(health("cmd [\"a\",\"b\"]").test, ["CMD", "a", "b"]);
    let all = health("--interval=5s --timeout=1m30s --start-period=1ms --start-interval=0 --retries=3 CMD x");
    assert_eq!(all.interval, 5_000_000_000);
    assert_eq!(all.timeout, 90_000_000_000);
    assert_eq!(all.start_period, 1_000_000);
    assert_eq!((all.start_interval, all.retries), (0, 3));
    assert_eq!(health("--interval= --retries=+2 CMD x").retries, 2);
}

#[test]
fn onbuild() {
    for (body, expect) in [
        ("ONBUILD RUN a", "RUN a"),
        ("onbuild  copy a b", "copy a b"),
        ("ONBUILD ENV a=b \\\n c=d", "ENV a=b  c=d"),
        ("ONBUILD nonsense is kept", "nonsense is kept"),
        ("ONBUILD RUN --x y", "RUN --x y"),
    ] {
        assert!(matches!(one(body), Kind::Onbuild(t) if t == expect), "{body}");
    }
}

#[test]
fn names_of_kinds() {
    for body in [
        "ADD a b",
        "ARG a",
        "CMD a",
        "COPY a b",
        "ENTRYPOINT a",
        "ENV a=b",
        "EXPOSE 1",
        "HEALTHCHECK NONE",
        "LABEL a=b",
        "MAINTAINER a",
        "ONBUILD RUN a",
        "RUN a",
        "SHELL [\"a\"]",
        "STOPSIGNAL 9",
        "USER a",
        "VOLUME /a",
        "WORKDIR /a",
    ] {
        let instruction = stage(&body.to_lowercase()).remove(0);
        assert_eq!(instruction.kind.name(), body.split(' ').next().unwrap());
        assert_eq!(instruction.keyword, instruction.kind.name().to_lowercase());
    }
}
