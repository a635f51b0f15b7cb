//! Small build files: what they become, or how they are refused. Checked against BuildKit's parser.

use crate::error::{ErrorKind, ParseError};
use crate::instruction::*;
use crate::parse::{check_directive, detect_syntax, parse, parse_trigger};

/// The instructions of `FROM a` followed by `body`.
fn stage(body: &str) -> Vec<Instruction> {
    let source = format!("FROM a\n{body}");
    parse(source.as_bytes()).unwrap_or_else(|e| panic!("{body:?}: {e}")).stages.remove(0).instructions
}

fn one(body: &str) -> Kind {
    let mut all = stage(body);
    assert_eq!(all.len(), 1, "{body:?}");
    all.remove(0).kind
}

fn refused(source: &str) -> ParseError {
    parse(source.as_bytes()).err().unwrap_or_else(|| panic!("accepted: {source:?}"))
}

/// Refused with this text in the message, for a file with `FROM a` before.
fn refuse(table: &[(&str, &str)]) {
    for (body, expect) in table {
        let error = refused(&format!("FROM a\n{body}")).to_string();
        assert!(error.contains(expect), "{body:?}: {error}");
    }
}

fn shell(text: &str) -> CommandLine {
    CommandLine { args: vec![text.into()], form: Form::Shell, files: Vec::new() }
}

fn exec(args: &[&str]) -> CommandLine {
    CommandLine { args: args.iter().map(|a| (*a).into()).collect(), form: Form::Exec, files: Vec::new() }
}

/// The commands of RUN lines.
fn runs(body: &str) -> Vec<String> {
    let text = |i: Instruction| match i.kind {
        Kind::Run(run) => run.command.args.join("|"),
        other => other.name().into(),
    };
    stage(body).into_iter().map(text).collect()
}

mod errors;
mod lines;
mod properties;
mod typed;
mod words;
