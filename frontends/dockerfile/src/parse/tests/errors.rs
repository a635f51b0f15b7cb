//! What is refused, and what is said about it.

use super::*;

#[test]
fn whole_files() {
    for source in ["", "\n\n", "# c\n", "\u{feff}", "  \t\n#\n"] {
        assert_eq!(refused(source).kind, ErrorKind::NoInstructions, "{source:?}");
    }
    assert_eq!(refused("RUN a\nFROM a").kind, ErrorKind::NoStage("RUN".into()));
    assert_eq!(refused("ARG a\nenv b=c\nFROM a").kind, ErrorKind::NoStage("env".into()));
    assert!(parse(b"ARG a\n").unwrap().stages.is_empty());
}

#[test]
fn unknown_instructions() {
    for (source, name, suggestion) in [
        ("FORM a", "FORM", Some("FROM")),
        ("FROM a\ncpoy b c", "cpoy", Some("copy")),
        ("FROM a\nWORKDR /x", "WORKDR", Some("WORKDIR")),
        ("FROM a\nHELLO", "HELLO", Some("SHELL")),
        ("FROM a\nBUILD", "BUILD", Some("ONBUILD")),
        ("FROM a\nINCLUDE", "INCLUDE", None),
        ("FROM a\nRUN[\"x\"]", "RUN[\"x\"]", None),
        ("FROM a\nRUNx y", "RUNx", Some("RUN")),
        ("\\\n", "", None),
        ("\u{feff}\u{feff}FROM a", "\u{feff}FROM", Some("FROM")),
    ] {
        let error = refused(source);
        let expect = ErrorKind::UnknownInstruction { name: name.into(), suggestion: suggestion.map(Into::into) };
        assert_eq!((&error.kind, error.suggestion()), (&expect, suggestion), "{source:?}");
    }
    let error = refused("FROM a\n\nCPOY b c");
    assert_eq!((error.span.start, error.span.end, error.span.first_line), (8, 12, 3));
    assert_eq!(error.to_string(), "unknown instruction: CPOY (did you mean COPY?)");
}

#[test]
fn mistakes_of_form_come_first() {
    // The whole file is cut before any instruction is understood.
    assert_eq!(refused("NONSENSE\nFROM a\nRUN <<E\n").kind, ErrorKind::UnterminatedHeredoc("E".into()));
    assert_eq!(refused("FROM a\nRUN <<\"A B\" <<C\nx\nA B\n").kind, ErrorKind::UnterminatedHeredoc("C".into()));
}

#[test]
fn arity() {
    refuse(&[
        ("FROM", "FROM requires either one or three"),
        ("FROM a b", "FROM requires either one or three"),
        ("FROM a IS b", "FROM requires either one or three"),
        ("FROM a AS", "FROM requires either one or three"),
        ("FROM a AS b c", "FROM requires either one or three"),
        ("FROM a AS 1b", "invalid name for build stage: \"1b\""),
        ("FROM a AS b/c", "invalid name for build stage"),
        ("FROM a AS é", "invalid name for build stage"),
        ("COPY a", "at least two"),
        ("COPY", "at least two"),
        ("ADD [\"a\"]", "at least two"),
        ("COPY a <<E\nx\nE\n", "heredoc as a destination"),
        ("ENV", "at least one"),
        ("ENV a", "must have two arguments"),
        ("ENV a=b c", "can't find = in \"c\""),
        ("ENV =a", "names can not be blank"),
        ("LABEL", "LABEL requires at least one"),
        ("ARG", "ARG requires at least one"),
        ("ARG =a", "names can not be blank"),
        ("EXPOSE", "at least one"),
        ("VOLUME", "at least one"),
        ("VOLUME []", "at least one"),
        ("VOLUME [\" \"]", "can not be an empty string"),
        ("WORKDIR", "exactly one"),
        ("USER", "exactly one"),
        ("STOPSIGNAL", "exactly one"),
        ("MAINTAINER", "exactly one"),
        ("SHELL", "at least one"),
        ("SHELL []", "at least one"),
        ("SHELL bash -c", "in JSON form"),
    ]);
}

#[test]
fn onbuild() {
    refuse(&[
        ("ONBUILD", "at least one"),
        ("ONBUILD ONBUILD RUN a", "ONBUILD ONBUILD"),
        ("ONBUILD FROM a", "FROM isn't allowed"),
        ("ONBUILD maintainer a", "MAINTAINER isn't allowed"),
        ("ONBUILD --x RUN a", "unknown flag"),
        ("ONBUILD ENV a", "must have two arguments"),
        ("ONBUILD CMD [1]", "strings only"),
        (&"ONBUILD ".repeat(5000), "ONBUILD ONBUILD"),
    ]);
}

#[test]
fn healthcheck() {
    refuse(&[
        ("HEALTHCHECK", "at least one"),
        ("HEALTHCHECK NONE a", "takes no arguments"),
        ("HEALTHCHECK CMD", "Missing command"),
        ("HEALTHCHECK CMD []", "Missing command"),
        ("HEALTHCHECK curl x", "Unknown type \"curl\""),
        ("HEALTHCHECK --interval=5 CMD x", "is no duration"),
        ("HEALTHCHECK --interval=1us CMD x", "cannot be less than 1ms"),
        ("HEALTHCHECK --timeout=-5s CMD x", "cannot be less than 1ms"),
        ("HEALTHCHECK --retries=-1 CMD x", "--retries"),
        ("HEALTHCHECK --retries=3000000000 CMD x", "--retries"),
        ("HEALTHCHECK --retires=1 CMD x", "did you mean retries?"),
    ]);
}

#[test]
fn run() {
    refuse(&[
        ("RUN --network=bridge a", "network mode \"bridge\""),
        ("RUN --network=$n a", "network mode \"$n\""),
        ("RUN --security=none a", "security \"none\" is not valid"),
        ("RUN --mount=from=$x a", "doesn't support variable expansion"),
        ("RUN --mount= a", "it is empty"),
        ("RUN --device=a,b=c a", "unexpected key 'b'"),
        ("RUN --mout=type=cache a", "did you mean mount?"),
    ]);
    // Options with variables are judged when the variables have values.
    assert_eq!(runs("RUN --mount=bogus=1 a"), ["a"]);
}

#[test]
fn flags_are_blamed_by_place() {
    let source = "FROM a\nCOPY --link \\\n  --form=b x y";
    let error = refused(source);
    assert_eq!(&source[error.span.start..error.span.end], "--form=b");
    assert_eq!((error.span.first_line, error.suggestion()), (3, Some("from")));
}
