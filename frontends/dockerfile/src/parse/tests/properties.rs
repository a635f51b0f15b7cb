//! Nothing panics, and places stay inside the file.

use super::*;
use proptest::prelude::*;

fn soup() -> impl Strategy<Value = Vec<u8>> {
    let word = prop_oneof![
        Just("FROM a\n"),
        Just("RUN "),
        Just("COPY "),
        Just("ENV "),
        Just("ONBUILD "),
        Just("HEALTHCHECK "),
        Just("ARG "),
        Just("\n"),
        Just("\\\n"),
        Just("\r\n"),
        Just(" "),
        Just("\t"),
        Just("# c\n"),
        Just("# escape=`\n"),
        Just("<<E"),
        Just("<<-'E F'"),
        Just("E\n"),
        Just("\""),
        Just("'"),
        Just("["),
        Just("]"),
        Just("[\"a\"]"),
        Just(","),
        Just("--x="),
        Just("--mount=type=cache,"),
        Just("a=b"),
        Just("$"),
        Just("${"),
        Just("}"),
        Just("é"),
        Just("\u{a0}"),
        Just("\u{feff}"),
        Just("CMD "),
        Just("--interval=1.5h "),
        Just("日"),
        Just("`"),
    ];
    let piece =
        prop_oneof![9 => word.prop_map(|w| w.as_bytes().to_vec()), 1 => prop::collection::vec(any::<u8>(), 0..4)];
    prop::collection::vec(piece, 0..30).prop_map(|pieces| pieces.concat())
}

fn inside(span: crate::Span, source: &[u8]) -> bool {
    let lines = source.split_inclusive(|b| *b == b'\n').count().max(1) as u32;
    span.start <= span.end
        && span.end <= source.len()
        && 1 <= span.first_line
        && span.first_line <= span.last_line
        && span.last_line <= lines
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn hostile_files(source in soup()) {
        match parse(&source) {
            Ok(file) => {
                for instruction in file.stages.iter().flat_map(|s| &s.instructions).chain(&file.global_args) {
                    prop_assert!(inside(instruction.span, &source), "{:?}", instruction);
                    for span in instruction.argument_spans.iter().chain(instruction.flags.iter().map(|f| &f.span)) {
                        prop_assert!(inside(*span, &source), "{:?}", instruction);
                    }
                    if let Kind::Onbuild(trigger) = &instruction.kind {
                        let _ = parse_trigger(trigger);
                    }
                }
            }
            Err(error) => {
                prop_assert!(inside(error.span, &source), "{:?}", error);
                prop_assert!(!error.to_string().is_empty());
            }
        }
        let _ = detect_syntax(&source);
        let _ = crate::dockerignore::read(&source);
    }

    #[test]
    fn any_bytes(source in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = parse(&source);
    }

    #[test]
    fn a_trigger_is_the_line_behind_the_keyword(text in "RUN [a-z ]{1,20}[a-z]") {
        prop_assert_eq!(one(&format!("ONBUILD {text}")), Kind::Onbuild(text.clone()));
        prop_assert_eq!(parse_trigger(&text).unwrap().code, text);
    }
}
