//! What becomes of a build file.
use super::*;

fn expand(files: &[(&str, &str)], arguments: &[(&str, &str)]) -> Result<Rewritten, Box<Fault>> {
    let read =
        |name: &str| Ok(files.iter().find(|(known, _)| *known == name).map(|(_, text)| text.as_bytes().to_vec()));
    let arguments: Vec<_> = arguments.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Plus.rewrite(files[0].0, files[0].1.as_bytes().to_vec(), &arguments, &read)
}

fn text(files: &[(&str, &str)], arguments: &[(&str, &str)]) -> String {
    String::from_utf8(expand(files, arguments).expect("it is right").text).expect("text")
}

fn refused(files: &[(&str, &str)]) -> String {
    expand(files, &[]).expect_err("it is wrong").to_string()
}

#[test]
fn a_dockerfile_stays_what_it_is() {
    let plain = "# syntax=x\n# escape=`\nFROM a AS b # not a comment\n\nRUN <<EOF\nIF this is text\nINCLUDE too\nEOF\nRUN one `\n  # between\n  two\nCOPY a b /\n";
    let made = expand(&[("Dockerfile", plain)], &[]).expect("right");
    assert_eq!(String::from_utf8_lossy(&made.text), plain);
    assert_eq!(made.lines(9, 11), (Origin { file: 0, line: 9 }, 11));
}

#[test]
fn files_are_included_where_they_are_named_and_lines_remember_them() {
    let files = [
        ("d/Dockerfile", "FROM a\nINCLUDE sub/one.part\nRUN last\n"),
        ("d/sub/one.part", "RUN one\nINCLUDE two.part /three.part\nINCLUDE --optional none"),
        ("d/sub/two.part", "RUN two"),
        ("three.part", "# only a comment\n"),
    ];
    let made = expand(&files, &[]).expect("right");
    assert_eq!(String::from_utf8_lossy(&made.text), "FROM a\nRUN one\nRUN two\n# only a comment\nRUN last\n");
    let places: Vec<_> =
        made.origins.iter().map(|origin| (made.files[origin.file].name.as_str(), origin.line)).collect();
    assert_eq!(
        places,
        [("d/Dockerfile", 1), ("d/sub/one.part", 1), ("d/sub/two.part", 1), ("three.part", 1), ("d/Dockerfile", 3)]
    );
    assert_eq!(
        made.told("dockerfile parse error on line 3: no", 3),
        "dockerfile parse error on line 1 of d/sub/two.part: no"
    );
}

#[test]
fn lines_count_by_build_arguments_and_defaults() {
    let file = "ARG MODE=debug\nFROM a\nIF $MODE == debug\nRUN debug\nIF $DEEP\nRUN deep\nELSE\nRUN flat\nENDIF\nELIF $MODE == test\nRUN test\nELSE\nRUN release\nENDIF\n";
    let lines = |arguments: &[(&str, &str)]| {
        text(&[("D", file)], arguments).lines().filter(|line| line.starts_with("RUN")).collect::<Vec<_>>().join(",")
    };
    assert_eq!(lines(&[]), "RUN debug,RUN flat");
    assert_eq!(lines(&[("DEEP", "1")]), "RUN debug,RUN deep");
    assert_eq!(lines(&[("MODE", "test"), ("DEEP", "1")]), "RUN test");
    assert_eq!(lines(&[("MODE", "")]), "RUN release");
}

#[test]
fn optional_sources_become_patterns_of_themselves() {
    let copy =
        |line: &str| text(&[("D", &format!("FROM a\n{line}\n"))], &[]).lines().skip(1).collect::<Vec<_>>().join("\n");
    assert_eq!(copy("COPY --optional a.lock dir/ /x/"), "COPY  a.loc[k] di[r]/ /x/");
    assert_eq!(copy("COPY --from=b --optional --chown=1:1 yarn.lock ./"), "COPY --from=b  --chown=1:1 yarn.loc[k] ./");
    assert_eq!(copy("COPY --optional a* $X . /"), "COPY  a* $X . /");
    assert_eq!(copy("COPY --optional a \\\n # why\n  b \\\n  /x/"), "COPY  [a] \\\n # why\n  [b] \\\n  /x/");
    assert_eq!(copy("COPY --link a /"), "COPY --link a /");
    assert!(
        refused(&[("D", "FROM a\nCOPY --optional [\"a\", \"/\"]\n")])
            .contains("D:2: COPY --optional takes plain sources")
    );
}

#[test]
fn what_is_wrong_has_its_file_and_line() {
    assert_eq!(refused(&[("D", "FROM a\nINCLUDE none\n")]), "D:2: there is no file `none`");
    assert_eq!(
        refused(&[("D", "FROM a\nINCLUDE x\n"), ("x", "RUN a\nINCLUDE D\n")]),
        "x:2: `D` includes itself: D -> x -> D"
    );
    assert_eq!(refused(&[("D", "INCLUDE ../x\n")]), "D:1: `../x` leads out of the context");
    assert_eq!(refused(&[("D", "IF 1\nFROM a\n")]), "D:1: IF without ENDIF in this file");
    assert_eq!(refused(&[("D", "FROM a\nENDIF\n")]), "D:2: ENDIF without an IF before it in this file");
    assert_eq!(refused(&[("D", "IF 1\nELSE\nELSE\nENDIF\n")]), "D:3: ELSE after the ELSE of the IF in line 1");
    assert!(refused(&[("D", "IF $TARGETARCH == arm64\nENDIF\n")]).contains("FROM build-$TARGETARCH"));
    assert!(
        refused(&[("D", "FROM a\nINCLUDE x\n"), ("x", "# escape=`\nRUN x\n")]).starts_with("x:1: its escape character")
    );
    assert!(refused(&[("D", "FROM a\nINCLUDE x\n"), ("x", "RUN <<EOF\n")]).starts_with("x:1: "));
    assert!(refused(&[("D", "INCLUDE --all x\n")]).contains("unknown flag --all"));
}
