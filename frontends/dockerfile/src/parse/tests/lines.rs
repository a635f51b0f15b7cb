//! Directives, comments, continuations, heredocs, places.

use super::*;

#[test]
fn continuations() {
    for (body, expect) in [
        ("RUN a \\\n b", "a  b"),
        ("RUN a \\  \n b", "a  b"),
        ("RUN a\\\nb", "ab"),
        ("RUN a \\\r\n b\r\n", "a  b"),
        ("RUN a \\\\\nRUN b", "a \\\\"),
        ("RUN a \\", "a"),
        ("RUN a \\\n", "a"),
        ("RUN a \\\n\n\n b", "a  b"),
        ("RUN a \\\n# c\n b", "a  b"),
        ("RUN a \\\n  # c\\\n b", "a  b"),
        ("RUN a \\\n\\\n b", "a  b"),
        ("RUN a # not a comment", "a # not a comment"),
        ("RUN \\\n a", "a"),
        ("\\\nRUN a", "a"),
        ("   RUN a   ", "a"),
        ("\tRUN\ta", "a"),
        ("RUN a \\\n  \t \\\n b", "a   \t  b"),
        ("RUN\u{b}a", "a"),
    ] {
        assert_eq!(runs(body)[0], expect, "{body:?}");
    }
    assert_eq!(runs("RUN a \\\\\nRUN b"), ["a \\\\", "b"]);
    // The empty line does not end the instruction: the next one is swallowed.
    assert_eq!(runs("RUN a \\\n\nRUN b"), ["a RUN b"]);
    assert_eq!(runs("\\\n\\\nRUN a"), ["a"]);
}

#[test]
fn empty_continuation_lines_warn() {
    let file = parse(b"FROM a\nRUN x \\\n\n y\n").unwrap();
    let [Warning::EmptyContinuation { line, span }] = file.warnings.as_slice() else { panic!("{:?}", file.warnings) };
    assert_eq!((line.as_str(), span.first_line, span.last_line), ("RUN x  y", 2, 4));
    assert!(parse(b"FROM a\nRUN x \\\n# c\n y\n").unwrap().warnings.is_empty());
}

#[test]
fn escape_directive() {
    let file = parse(b"# escape=`\nFROM a\nRUN a `\n b \\\n").unwrap();
    assert_eq!(file.escape, '`');
    assert!(matches!(&file.stages[0].instructions[0].kind, Kind::Run(r) if r.command.args == ["a  b \\"]));
    for (source, escape) in [
        ("#escape=`\nFROM a", '`'),
        ("#  ESCAPE = ` \nFROM a", '`'),
        ("  # escape=`\nFROM a", '`'),
        ("\u{feff}# escape=`\nFROM a", '`'),
        ("# syntax=x\n# escape=`\nFROM a", '`'),
        ("# hello\n# escape=`\nFROM a", '\\'),
        ("\n# escape=`\nFROM a", '\\'),
        ("# unknown=1\n# escape=`\nFROM a", '\\'),
        ("#!/bin/x\n# escape=`\nFROM a", '\\'),
        ("# escape=\\\nFROM a", '\\'),
        ("FROM a\n# escape=`\n", '\\'),
    ] {
        assert_eq!(parse(source.as_bytes()).unwrap().escape, escape, "{source:?}");
    }
}

#[test]
fn bad_directives() {
    assert_eq!(refused("# escape=x\nFROM a").kind, ErrorKind::EscapeDirective("x".into()));
    assert_eq!(refused("# escape= \nFROM a").kind, ErrorKind::EscapeDirective(" ".into()));
    let error = refused("# escape=`\n# escape=`\nFROM a");
    assert_eq!((error.kind, error.span.first_line), (ErrorKind::RepeatedDirective("escape".into()), 2));
    assert_eq!(refused("#check=a\n#CHECK=b\nFROM a").kind, ErrorKind::RepeatedDirective("check".into()));
}

#[test]
fn syntax() {
    let find = |source: &str| detect_syntax(source.as_bytes()).map(|s| (s.reference, s.command_line, s.line));
    let found = |r: &str, c: &str, line| Some((r.to_owned(), c.to_owned(), line));
    assert_eq!(find("# syntax=a/b:1 x y\nFROM a"), found("a/b:1", "a/b:1 x y", 1));
    assert_eq!(find("#syntax = a\r\n"), found("a", "a", 1));
    assert_eq!(find("# check=x\n# syntax=a"), found("a", "a", 2));
    assert_eq!(find("#!/x\n# syntax=a"), found("a", "a", 2));
    assert_eq!(find("\u{feff}# syntax=a"), found("a", "a", 1));
    assert_eq!(find("// syntax=a\n{}"), found("a", "a", 1));
    assert_eq!(find("{\"syntax\": \"a b\"}"), found("a b", "a b", 0));
    assert_eq!(find("{\"syntax\": 1}"), None);
    assert_eq!(find("FROM a\n# syntax=a"), None);
    assert_eq!(find(" # syntax=a"), None);
    assert_eq!(find("# x\n# syntax=a"), None);
    assert_eq!(find(""), None);
    assert_eq!(check_directive(b"# syntax=a\n# check=skip=all\n"), Some(("skip=all".into(), 2)));
}

#[test]
fn comments_stay_with_the_instruction_below() {
    let all = stage("# a\n# b\nRUN x\n# c\n#\n# d\nARG k\n");
    assert_eq!(all[0].comments, ["a", "b"]);
    assert_eq!(all[1].comments, ["d"]);
    let Kind::Arg(args) = one("# k the key\nARG j k=1") else { panic!() };
    assert_eq!((args[0].doc.as_deref(), args[1].doc.as_deref()), (None, Some("the key")));
    let file = parse(b"# syntax=x\n# b base image\nFROM a AS B").unwrap();
    assert_eq!((file.stages[0].comments.len(), file.stages[0].doc.as_deref()), (1, Some("base image")));
}

#[test]
fn heredocs_of_run() {
    let files = |body: &str| match one(body) {
        Kind::Run(run) => run.command.files,
        _ => Vec::new(),
    };
    let doc = |body: &str| {
        let mut all = files(body);
        assert_eq!(all.len(), 1, "{body:?}");
        let doc = all.remove(0);
        (doc.name, doc.descriptor, doc.expand, doc.chomp, doc.content)
    };
    let expect = |n: &str, d, e, c, t: &str| (n.to_owned(), d, e, c, t.to_owned());
    assert_eq!(doc("RUN <<EOF\na\n b\nEOF\n"), expect("EOF", 0, true, false, "a\n b\n"));
    assert_eq!(doc("RUN <<EOF\nEOF"), expect("EOF", 0, true, false, ""));
    assert_eq!(doc("RUN <<'EOF'\n$a\nEOF\n"), expect("EOF", 0, false, false, "$a\n"));
    assert_eq!(doc("RUN <<\"E F\"\nx\nE F\n"), expect("E F", 0, false, false, "x\n"));
    assert_eq!(doc("RUN <<E\"O\"F\nx\nEOF\n"), expect("EOF", 0, false, false, "x\n"));
    assert_eq!(doc("RUN <<-EOF\n\tx\n\t\tEOF\n"), expect("EOF", 0, true, true, "\tx\n"));
    assert_eq!(doc("RUN 3<<EOF\nx\nEOF\n"), expect("EOF", 3, true, false, "x\n"));
    assert_eq!(doc("RUN << EOF\nx\nEOF\n"), expect("EOF", 0, true, false, "x\n"));
    assert_eq!(doc("RUN a <<EOF b\n# no comment\n\n\\\nEOF\n").4, "# no comment\n\n\\\n");
    assert_eq!(doc("RUN <<EOF\r\nx\r\nEOF\r\n").4, "x\r\n");
    assert_eq!(doc("RUN a \\\n <<EOF\nx\nEOF\n").4, "x\n");
    let two = files("RUN <<A <<B\na\nA\nb\nB\n");
    assert_eq!((two[0].content.as_str(), two[1].content.as_str()), ("a\n", "b\n"));
    for none in [
        "RUN cat<<EOF",
        "RUN \"<<EOF\"",
        "RUN '<<EOF'",
        "RUN [\"<<EOF\"]",
        "RUN a <<",
        "RUN 'x <<EOF",
        "CMD <<EOF",
        "RUN <<<EOF",
        "RUN $((1<<2))",
    ] {
        let all = stage(none);
        assert!(!matches!(&all[0].kind, Kind::Run(r) if !r.command.files.is_empty()), "{none}");
    }
}

#[test]
fn an_arithmetic_shift_opens_a_heredoc() {
    // `1 << 2` is a heredoc named 2 to BuildKit.
    assert!(
        matches!(refused("FROM a\nRUN echo $((1 << 2))").kind, ErrorKind::UnterminatedHeredoc(name) if name.starts_with('2'))
    );
}

#[test]
fn heredocs_of_copy() {
    let Kind::Copy(copy) = one("COPY <<-a x <<'b' /d/\n\t1\n\t\t2\na\n$v\nb\n") else { panic!() };
    assert_eq!(copy.sources.paths, ["x"]);
    let inline: Vec<_> = copy.sources.inline.iter().map(|f| (f.name.as_str(), f.content.as_str(), f.expand)).collect();
    assert_eq!(inline, [("a", "1\n2\n", true), ("b", "$v\n", false)]);
    assert_eq!(copy.sources.dest, "/d/");
    let Kind::Add(add) = one("ADD <<a /d\nx\na") else { panic!() };
    assert_eq!(add.sources.inline[0].content, "x\n");
    // By name: the last body counts. In JSON form there is none.
    let Kind::Copy(copy) = one("COPY <<a <<a /d/\n1\na\n2\na\n") else { panic!() };
    assert_eq!(copy.sources.inline.iter().map(|f| f.content.as_str()).collect::<Vec<_>>(), ["2\n", "2\n"]);
    let Kind::Copy(copy) = one("COPY [\"<<a\", \"/d\"]") else { panic!() };
    assert_eq!((copy.sources.inline[0].content.as_str(), copy.sources.paths.len()), ("", 0));
}

#[test]
fn heredocs_of_onbuild() {
    let Kind::Onbuild(trigger) = one("ONBUILD RUN <<EOF\nx\nEOF\n") else { panic!() };
    assert_eq!(trigger, "RUN <<EOF\nx\nEOF");
    let Kind::Run(run) = parse_trigger(&trigger).unwrap().kind else { panic!() };
    assert_eq!(run.command.files[0].content, "x\n");
}

#[test]
fn triggers() {
    assert_eq!(parse_trigger("RUN a").unwrap().code, "RUN a");
    assert_eq!(parse_trigger("RUN a\nRUN b").unwrap_err().kind, ErrorKind::TriggerCount(2));
    assert_eq!(parse_trigger("").unwrap_err().kind, ErrorKind::NoInstructions);
    assert_eq!(parse_trigger("FROM a").unwrap_err().kind, ErrorKind::ForbiddenTrigger("FROM".into()));
    assert!(parse_trigger("FOO a").is_err());
}

#[test]
fn places() {
    let source = "# c\nFROM  a\nCOPY --from=b \\\n  # c\n  x \\\n  /y\nRUN <<E\n1\nE\nENV a=\"b c\" d=é\n";
    let file = parse(source.as_bytes()).unwrap();
    let at = |s: crate::Span| (&source[s.start..s.end], s.first_line, s.last_line);
    let stage = &file.stages[0];
    assert_eq!(at(stage.span), ("FROM  a", 2, 2));
    assert_eq!(at(stage.base_span), ("a", 2, 2));
    let [copy, run, env] = stage.instructions.as_slice() else { panic!() };
    assert_eq!(at(copy.span), ("COPY --from=b \\\n  # c\n  x \\\n  /y", 3, 6));
    assert_eq!(at(copy.keyword_span), ("COPY", 3, 3));
    assert_eq!(at(copy.flag_span("from").unwrap()), ("--from=b", 3, 3));
    assert_eq!(copy.flag_span("chown"), None);
    assert_eq!(copy.argument_spans.iter().map(|s| at(*s)).collect::<Vec<_>>(), [("x", 5, 5), ("/y", 6, 6)]);
    assert_eq!(copy.code, "COPY --from=b   x   /y");
    assert_eq!(at(run.span), ("RUN <<E\n1\nE", 7, 9));
    assert_eq!(run.span.lines().collect::<Vec<_>>(), [7, 8, 9]);
    let args: Vec<_> = env.argument_spans.iter().map(|s| at(*s)).collect();
    assert_eq!(args, [("a=\"b c\"", 10, 10), ("d=é", 10, 10)]);
}

#[test]
fn places_behind_a_mark_and_broken_text() {
    let source = b"\xef\xbb\xbfFROM a\nENV \xff\xfe=1 b=2\n";
    let file = parse(source).unwrap();
    assert_eq!(file.stages[0].span.start, 3);
    let env = &file.stages[0].instructions[0];
    let texts: Vec<_> = env.argument_spans.iter().map(|s| &source[s.start..s.end]).collect();
    assert_eq!(texts, [b"\xff\xfe=1".as_slice(), b"b=2"]);
    assert!(matches!(&env.kind, Kind::Env(p) if p[0].key == "\u{fffd}\u{fffd}"));
}

#[test]
fn text_that_is_no_utf8() {
    let kind = |body: &[u8]| parse(&[b"FROM a\n", body].concat()).map(|f| f.stages[0].instructions.len());
    let error = parse(b"FROM a\nRUN a \\\n \xe9x").unwrap_err();
    assert_eq!((&error.kind, error.span.start, error.span.first_line), (&ErrorKind::NotUtf8("RUN"), 16, 3));
    for body in [b"run <<E\n\xe9\nE\n".as_slice(), b"COPY <<'E' /a\n\xe9\nE\n", b"ADD <<'E' /a\n\xe9\nE\n"] {
        assert!(matches!(kind(body).unwrap_err().kind, ErrorKind::NotUtf8(_)), "{body:?}");
    }
    for body in [
        b"MAINTAINER Jos\xe9".as_slice(),
        b"# \xe9\nRUN a",
        b"RUN a \\\n# \xe9\n b",
        b"RUN [\"\xe9\"]",
        b"RUN a \xef\xbf\xbd",
        b"CMD \xe9",
        b"COPY <<E /a\n\xe9\nE\n",
        b"ONBUILD RUN \xe9",
        b"LABEL a=\xe9",
    ] {
        assert_eq!(kind(body), Ok(1), "{body:?}");
    }
}

#[test]
fn long_lines() {
    let line = |n: usize| format!("FROM a\nRUN {}", "x".repeat(n - 4));
    assert!(parse(line(65535).as_bytes()).is_ok());
    assert!(parse((line(65535) + "\n").as_bytes()).is_ok());
    assert_eq!(refused(&line(65536)).kind, ErrorKind::LineTooLong { line: 2, length: 65536 });
    assert!(parse(("FROM a\nRUN ".to_owned() + &"xxxxxxxx \\\n".repeat(20_000)).as_bytes()).is_ok());
}
