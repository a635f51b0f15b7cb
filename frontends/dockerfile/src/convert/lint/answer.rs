//! The answer to `frontend.lint`: findings and the fault of the file as JSON in BuildKit's shape, and the findings as text for people.

use serde_json::{Map, Value, json};

use crate::convert::error::ConvertError;
use crate::convert::graph::Range;
use crate::convert::outline::{Answer, location, pretty};
use crate::convert::{SourceFile, golang};
use crate::host::Warning;

/// Puts the answer together.
pub(crate) fn answer(warnings: &[Warning], fault: Option<&ConvertError>, source: &SourceFile) -> Answer {
    let listed: Vec<Value> = warnings
        .iter()
        .map(|warning| {
            let mut one = Map::new();
            one.insert("ruleName".into(), warning.rule.as_str().into());
            one.insert("description".into(), warning.detail.as_str().into());
            if !warning.url.is_empty() {
                one.insert("url".into(), warning.url.as_str().into());
            }
            one.insert("detail".into(), warning.message.as_str().into());
            one.insert("location".into(), location(&warning.ranges));
            Value::Object(one)
        })
        .collect();
    let mut object = Map::new();
    object.insert("warnings".into(), if listed.is_empty() { Value::Null } else { listed.into() });
    let info = json!({"filename": source.name, "data": golang::base64(&source.data), "language": source.language});
    object.insert("sources".into(), json!([info]));
    if let Some(fault) = fault {
        let error = json!({"message": fault.kind.to_string(), "location": location(&fault.ranges)});
        object.insert("buildError".into(), error);
    }

    let mut sorted: Vec<&Warning> = warnings.iter().collect();
    sorted.sort_by_key(|w| w.ranges.first().map_or(0, |r| r.start_line));
    let mut text = String::new();
    for warning in sorted {
        text.push_str(&format!("\nWARNING: {}", warning.rule));
        if !warning.url.is_empty() {
            text.push_str(&format!(" - {}", warning.url));
        }
        text.push_str(&format!("\n{}\n", warning.message));
        text.push_str(&snippet(source, &warning.ranges));
    }
    let status = u8::from(!warnings.is_empty() || fault.is_some());
    Answer { json: pretty(&Value::Object(object)), text, version: "1.0.0", status: Some(status) }
}

/// The lines of `ranges`, marked, as BuildKit shows them: a single line with two around it, several with one.
fn snippet(source: &SourceFile, ranges: &[Range]) -> String {
    let (Some(first), Some(last)) =
        (ranges.iter().map(|r| r.start_line).min(), ranges.iter().map(|r| r.end_line.max(r.start_line)).max())
    else {
        return String::new();
    };
    let data = String::from_utf8_lossy(&source.data);
    let lines: Vec<&str> = data.split('\n').collect();
    let count = u32::try_from(lines.len()).unwrap_or(u32::MAX);
    if first == 0 || first > count {
        return String::new();
    }
    let last = last.min(count);
    let around = if first == last { 2 } else { 1 };
    let (from, to) = (first.saturating_sub(around).max(1), last.saturating_add(around).min(count));
    let mut out = format!("{}:{first}\n--------------------\n", source.name);
    for (number, line) in (1u32..).zip(&lines).skip(from as usize - 1).take_while(|(number, _)| *number <= to) {
        let marked = ranges.iter().any(|r| (r.start_line..=r.end_line.max(r.start_line)).contains(&number));
        let mark = if marked { ">>>" } else { "   " };
        out.push_str(&format!(" {number:3} | {mark} {line}\n"));
    }
    out.push_str("--------------------\n");
    out
}
