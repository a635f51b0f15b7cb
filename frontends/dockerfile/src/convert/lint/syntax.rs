//! Rules that need nothing but the parsed file.

use std::collections::BTreeSet;

use super::{Linter, rules};
use crate::convert::stage::ranges;
use crate::instruction::{Dockerfile, Instruction, Kind, Stage, Warning};
use crate::span::Span;
use crate::text::{lower, upper};

/// Applies them in BuildKit's order: as lines are read, then to the stages as a whole.
pub(crate) fn check_file(lint: &Linter<'_>, file: &Dockerfile) {
    check_part(lint, file);
    stage_names(lint, &file.stages);
    casing(lint, &file.stages);
}

/// What is found in each instruction by itself: all that BuildKit says of a file with a wrong instruction, of those before it.
pub(crate) fn check_part(lint: &Linter<'_>, file: &Dockerfile) {
    lint.leave();
    for Warning::EmptyContinuation { span, .. } in &file.warnings {
        // BuildKit notices it when the instruction is over, and names that line.
        let last = Span { first_line: span.last_line, ..*span };
        lint.found_at(&rules::NO_EMPTY_CONTINUATION, &ranges(last), "Empty continuation line");
    }
    for instruction in &file.global_args {
        instruction_alone(lint, instruction);
    }
    for stage in &file.stages {
        from(lint, stage);
        for instruction in &stage.instructions {
            instruction_alone(lint, instruction);
        }
    }
    lint.leave();
}

fn instruction_alone(lint: &Linter<'_>, instruction: &Instruction) {
    lint.enter(&instruction.comments, &ranges(instruction.span));
    match &instruction.kind {
        Kind::Maintainer(_) => {
            lint.found(&rules::MAINTAINER_DEPRECATED, "Maintainer instruction is deprecated in favor of using label");
        }
        Kind::Arg(args) => {
            let keys: Vec<&str> = args.iter().map(|arg| arg.key.as_str()).collect();
            description(lint, "ARG", &keys, &instruction.comments);
        }
        _ => {}
    }
}

fn from(lint: &Linter<'_>, stage: &Stage) {
    lint.enter(&stage.comments, &ranges(stage.span));
    // The keywords as they were written; the parser keeps only what they mean.
    let words: Vec<&str> = stage.code.split_whitespace().skip(1).skip_while(|word| word.starts_with("--")).collect();
    if let [_, keyword, name] = words.as_slice() {
        if *name != lower(name) {
            lint.found(&rules::STAGE_NAME_CASING, format!("Stage name '{name}' should be lowercase"));
        }
        let from = stage.keyword.as_str();
        let matches = match (from == lower(from), from == upper(from)) {
            (false, false) => true,
            (true, _) => *keyword == lower(keyword),
            (false, true) => *keyword == upper(keyword),
        };
        if !matches {
            lint.found(&rules::FROM_AS_CASING, format!("'{keyword}' and '{from}' keywords' casing do not match"));
        }
    }
    if let Some(name) = &stage.name {
        description(lint, "FROM", &[name], &stage.comments);
    }
}

/// The comment line right above should begin with the name that it describes.
fn description(lint: &Linter<'_>, instruction: &str, names: &[&str], comments: &[String]) {
    let (Some(comment), Some(first)) = (comments.last(), names.first()) else { return };
    if names.contains(&comment.split(' ').next().unwrap_or_default()) {
        return;
    }
    let example = if names.len() > 1 { "<arg_key>" } else { first };
    lint.found(
        &rules::INVALID_DEFINITION_DESCRIPTION,
        format!("Comment for {instruction} should follow the format: `# {example} <description>`"),
    );
}

fn stage_names(lint: &Linter<'_>, stages: &[Stage]) {
    let mut seen = BTreeSet::new();
    for stage in stages {
        let Some(name) = &stage.name else { continue };
        if matches!(name.as_str(), "context" | "scratch") {
            let message = format!("Stage name should not use the same name as reserved stage \"{name}\"");
            lint.found_at(&rules::RESERVED_STAGE_NAME, &ranges(stage.span), message);
        }
        if !seen.insert(name) {
            let message = format!("Duplicate stage name \"{name}\", stage names should be unique");
            lint.found_at(&rules::DUPLICATE_STAGE_NAME, &ranges(stage.span), message);
        }
    }
}

fn casing(lint: &Linter<'_>, stages: &[Stage]) {
    let keywords: Vec<(&str, Span)> = stages
        .iter()
        .flat_map(|stage| {
            let rest = stage.instructions.iter().map(|i| (i.keyword.as_str(), i.span));
            std::iter::once((stage.keyword.as_str(), stage.span)).chain(rest)
        })
        .collect();
    let small = keywords.iter().filter(|(word, _)| *word == lower(word)).count();
    let capital = keywords.iter().filter(|(word, _)| *word != lower(word) && *word == upper(word)).count();
    let (right, wanted): (fn(&str) -> String, _) =
        if small > capital { (|w| lower(w), "lowercase") } else { (|w| upper(w), "uppercase") };
    for (word, span) in keywords {
        if word != right(word) {
            let message = format!("Command '{word}' should match the case of the command majority ({wanted})");
            lint.found_at(&rules::CONSISTENT_INSTRUCTION_CASING, &ranges(span), message);
        }
    }
}
