//! Flags, JSON forms, name=value words.

use super::*;

fn copy(body: &str) -> Copy {
    match one(body) {
        Kind::Copy(copy) => copy,
        other => panic!("{other:?}"),
    }
}

#[test]
fn flag_values() {
    for (body, chown) in [
        ("COPY --chown=a:b x y", "a:b"),
        ("COPY --chown=\"a b\" x y", "a b"),
        ("COPY --chown='a' x y", "a"),
        ("COPY --cho\"wn=a\" x y", "a"),
        ("COPY --chown=a\\ b x y", "a b"),
        ("COPY --chown=a=b x y", "a=b"),
        ("COPY --chown= x y", ""),
        ("COPY --chown=$u x y", "$u"),
        ("COPY --chown=é x y", "Ã©"),
        ("COPY   --chown=a\tx y", "a"),
        ("COPY --chown=a -- x y", "a"),
    ] {
        let copy = copy(body);
        assert_eq!(
            (copy.chown.as_deref(), copy.sources.paths.as_slice()),
            (Some(chown), ["x".to_owned()].as_slice()),
            "{body}"
        );
    }
    assert_eq!(copy("COPY -- --x y").sources.paths, ["--x"]);
    assert_eq!(copy("COPY x --chown=a y").sources.paths, ["x", "--chown=a"]);
    assert_eq!(copy("COPY -x y").sources.paths, ["-x"]);
    assert_eq!(copy("COPY --exclude=a --exclude=b x y").exclude, ["a", "b"]);
    assert_eq!(runs("RUN -- --x"), ["--x"]);
}

#[test]
fn flag_booleans() {
    for (flag, link) in [("--link", true), ("--link=true", true), ("--link=TRUE", true), ("--link=False", false)] {
        assert_eq!(copy(&format!("COPY {flag} x y")).link, link, "{flag}");
    }
    refuse(&[
        ("COPY --link= x y", "missing a value on flag: --link"),
        ("COPY --link=1 x y", "expecting boolean value for flag link, not: 1"),
        ("COPY --link --link x y", "duplicate flag specified"),
        ("COPY --from x y", "missing a value on flag: --from"),
        ("COPY --chown=a --chown=b x y", "duplicate flag specified"),
        ("COPY --chwon=a x y", "did you mean chown?"),
        ("COPY --bogus x y", "--from"),
        ("COPY --=a x y", "unknown flag: --"),
        ("ENV --x a=b", "unknown flag: --x"),
        ("FROM --platfrom=x a", "did you mean platform?"),
        ("CMD --x a", "no flags"),
    ]);
}

#[test]
fn flags_that_nobody_looks_at() {
    assert!(matches!(one("ARG --x a=b"), Kind::Arg(a) if a[0].key == "a"));
    assert!(matches!(one("STOPSIGNAL --x 9"), Kind::Stopsignal(s) if s == "9"));
    assert!(matches!(one("HEALTHCHECK --x NONE"), Kind::Healthcheck(h) if h.test == ["NONE"]));
}

#[test]
fn json_forms() {
    for (text, expect) in [
        (r#"["a","b"]"#, exec(&["a", "b"])),
        (r#"  [ "a" , "b" ]  "#, exec(&["a", "b"])),
        ("[]", exec(&[])),
        (r#"["a\n\"\\\/\u00e9"]"#, exec(&["a\n\"\\/é"])),
        (r#"["\ud83d\ude00\ud800x"]"#, exec(&["😀\u{fffd}x"])),
        (r#"["\ud800\u0041"]"#, exec(&["\u{fffd}A"])),
        (r#"["a"] b"#, shell(r#"["a"] b"#)),
        (r#"["a",]"#, shell(r#"["a",]"#)),
        (r#"["a""#, shell(r#"["a""#)),
        ("['a']", shell("['a']")),
        ("[ -f x ]", shell("[ -f x ]")),
        ("[1e999]", shell("[1e999]")),
        ("[01]", shell("[01]")),
        ("[\"a\tb\"]", shell("[\"a\tb\"]")),
        (r#"["\x"]"#, shell(r#"["\x"]"#)),
        (r#"["\u12"]"#, shell(r#"["\u12"]"#)),
        (r#"[{"a":1,}]"#, shell(r#"[{"a":1,}]"#)),
        (r#""a""#, shell(r#""a""#)),
    ] {
        assert!(matches!(one(&format!("CMD {text}")), Kind::Cmd(c) if c == expect), "{text}");
    }
    for text in ["[1]", "[null]", "[[\"a\"]]", "[{}]", r#"["a",{"b":[1,2,{"c":null}]}]"#, "[true,-1.5e3]"] {
        assert_eq!(refused(&format!("FROM a\nRUN {text}")).kind, ErrorKind::JsonNotStrings, "{text}");
    }
    assert_eq!(copy(r#"COPY ["a b", "c"]"#).sources.paths, ["a b"]);
    assert_eq!(copy(r#"COPY ["a"] b"#).sources.paths, [r#"["a"]"#]);
    let deep = format!("[{}]", "[".repeat(20_000));
    assert!(matches!(one(&format!("CMD {deep}")), Kind::Cmd(c) if c.form == Form::Shell));
    let deep = format!("{}{}", "[".repeat(10_001), "]".repeat(10_001));
    assert!(matches!(one(&format!("CMD {deep}")), Kind::Cmd(c) if c.form == Form::Shell));
}

fn pairs(body: &str) -> Vec<(String, String, bool)> {
    match one(body) {
        Kind::Env(pairs) | Kind::Label(pairs) => pairs.into_iter().map(|p| (p.key, p.value, p.legacy)).collect(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn assignments() {
    let new = |list: &[(&str, &str)]| -> Vec<_> {
        list.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned(), false)).collect()
    };
    for (text, expect) in [
        ("a=b", new(&[("a", "b")])),
        ("a=b c=d", new(&[("a", "b"), ("c", "d")])),
        ("a=\"b c\" d='e f'", new(&[("a", "\"b c\""), ("d", "'e f'")])),
        ("a=b\\ c d=", new(&[("a", "b\\ c"), ("d", "")])),
        ("a=b=c", new(&[("a", "b=c")])),
        ("\"a b\"=c", new(&[("\"a b\"", "c")])),
        ("a=\"x\\\"y\" b=1", new(&[("a", "\"x\\\"y\""), ("b", "1")])),
        ("a='x\\' b=1", new(&[("a", "'x\\'"), ("b", "1")])),
        ("a=b\\", new(&[("a", "b\\")])),
        ("a=\"unclosed b=1", new(&[("a", "\"unclosed b=1")])),
        ("a=\\\n b", new(&[("a", "")])),
        ("a=b \\\n c=d", new(&[("a", "b"), ("c", "d")])),
    ] {
        let body = format!("ENV {text}");
        if text == "a=\\\n b" {
            assert!(refused(&format!("FROM a\n{body}")).to_string().contains("can't find ="));
            continue;
        }
        if text == "a=b\\" {
            assert_eq!(pairs(&body), new(&[("a", "b")]));
            continue;
        }
        assert_eq!(pairs(&body), expect, "{text}");
    }
    let old = |k: &str, v: &str| vec![(k.to_owned(), v.to_owned(), true)];
    assert_eq!(pairs("ENV a b c"), old("a", "b c"));
    assert_eq!(pairs("ENV a   b=c  d"), old("a", "b=c  d"));
    assert_eq!(pairs("ENV a \"b\""), old("a", "\"b\""));
    assert_eq!(pairs("LABEL a b"), old("a", "b"));
}

#[test]
fn args() {
    let args = |body: &str| match one(body) {
        Kind::Arg(args) => args.into_iter().map(|a| (a.key, a.value)).collect::<Vec<_>>(),
        other => panic!("{other:?}"),
    };
    let some = |v: &str| Some(v.to_owned());
    assert_eq!(args("ARG a"), [("a".into(), None)]);
    assert_eq!(args("ARG a b=c d="), [("a".into(), None), ("b".into(), some("c")), ("d".into(), some(""))]);
    assert_eq!(args("ARG a=\"b c\" d"), [("a".into(), some("\"b c\"")), ("d".into(), None)]);
    let file = parse(b"ARG v=1\narg w\nFROM a:$v\nARG x").unwrap();
    assert_eq!((file.global_args.len(), file.stages[0].instructions.len()), (2, 1));
}
