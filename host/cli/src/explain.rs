//! `--explain`: the comparison with earlier builds, step by step, for people or as JSON.
use std::fmt::Write as _;

use rhost_engine::{Explanation, PartKind, State, StepExplained};

/// Causes of one step that are listed for people.
const LISTED: usize = 50;

/// As one JSON object (docs/explain.md).
///
/// # Errors
/// None that is known: all of it is text and numbers.
pub fn json(explanation: &Explanation) -> serde_json::Result<String> {
    let mut value = serde_json::to_value(explanation)?;
    for (step, cause) in value["steps"].as_array_mut().into_iter().flatten().zip(&explanation.steps) {
        let texts = cause.causes.iter().map(|cause| serde_json::Value::from(cause.text()));
        for (cause, text) in step["causes"].as_array_mut().into_iter().flatten().zip(texts) {
            cause["text"] = text;
        }
    }
    serde_json::to_string_pretty(&value)
}

/// For people: a block for each step.
pub fn text(explanation: &Explanation) -> String {
    let mut out = String::new();
    for step in &explanation.steps {
        block(&mut out, step);
    }
    out
}

fn block(out: &mut String, step: &StepExplained) {
    let word = match (step.state, &step.compared_with) {
        (State::Cached, _) => "cached",
        (State::Failed, _) => "failed",
        (State::Unfinished, _) => "stopped",
        (State::Ran, None) => "new",
        (State::Ran, Some(_)) => "ran",
    };
    let line = if step.line > 0 { format!(" (line {})", step.line) } else { String::new() };
    // Writing to a text does not fail.
    let _ = writeln!(out, "{word:<8}{}{line}", step.short_name());
    let mut say = |text: &str| {
        let _ = writeln!(out, "        {text}");
    };
    match (step.matched_by, &step.compared_with, step.causes.is_empty()) {
        (Some("definition"), ..) => say("known by how it is made"),
        (Some(_), ..) => say("known by what it reads"),
        (None, None, _) if step.state == State::Cached => say("another step with the same key ran"),
        (None, None, _) if step.parts.iter().any(|part| is_local(part.part, part.value.as_deref())) => {
            say("read by each build; what is copied of it counts")
        }
        (None, None, _) => say("no earlier build is known that had it"),
        (None, Some(_), _) => {}
    }
    for cause in step.causes.iter().take(LISTED) {
        let place = cause.step.as_ref().map(|step| format!(" (in {step})")).unwrap_or_default();
        say(&format!("- {}{place}", cause.text()));
    }
    if step.causes.len() > LISTED {
        say(&format!("- and {} more", step.causes.len() - LISTED));
    }
    if let Some(hint) = step.hint {
        say(&format!("hint: {hint}"));
    }
    if let Some(compared) = &step.compared_with {
        let context = compared.context.as_ref().map(|context| format!(" of {context}")).unwrap_or_default();
        let frontend = compared.frontend.as_ref().map(|name| format!(", frontend {name}")).unwrap_or_default();
        say(&format!("compared with the build{context} that ended at {}{frontend}", compared.at));
    }
    say(&format!("keyed by {}", keyed_by(step)));
}

fn is_local(part: PartKind, value: Option<&str>) -> bool {
    part == PartKind::Origin && value.is_some_and(|value| value.starts_with("local://"))
}

fn keyed_by(step: &StepExplained) -> String {
    let mut words = Vec::new();
    let mut variables = Vec::new();
    for part in &step.parts {
        let kind = serde_json::to_value(part.part).ok();
        let kind = kind.as_ref().and_then(serde_json::Value::as_str).unwrap_or_default().replace('-', " ");
        let name = if part.name.is_empty() { String::new() } else { format!(" {}", part.name) };
        match (part.part, &part.value) {
            (PartKind::Environment, _) => variables.push(part.name.as_str()),
            (PartKind::EnvironmentOrder | PartKind::MountOrder, _) | (PartKind::Options, None) => {}
            (_, Some(value)) => words.push(format!("{kind}{name} `{}`", value.replace(char::is_control, " "))),
            (_, None) => words.push(format!("{kind}{name}")),
        }
    }
    if !variables.is_empty() {
        words.push(format!("variables {}", variables.join(" ")));
    }
    for input in &step.inputs {
        words.push(match (input.by, input.files) {
            ("content", Some(1)) => format!("1 file of {}", input.step),
            ("content", Some(files)) => format!("{files} files of {}", input.step),
            ("content", None) => format!("what is read of {}", input.step),
            _ => format!("the key of {}", input.step),
        });
    }
    words.join("; ")
}
