//! `Golden`: what came of a run, as the files that a test keeps and people review.
use std::collections::BTreeMap;
use std::path::Path;

use rhost_frontend::{Diagnostic, Mark, Outcome, Report, RunError, Severity};
use rhost_llb::{Graph, Limits};
use serde_json::{Map, Value};

/// The files of one run by name; what is empty has no file.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Golden(pub BTreeMap<&'static str, String>);

/// Graphs.
const LLB: &str = "expected.llb";
/// Image configurations, by platform.
const CONFIG: &str = "expected.config.json";
/// Result metadata, as of subrequests.
const METADATA: &str = "expected.metadata.json";
/// Log lines, warnings, errors.
const REPORT: &str = "expected.report";
/// All that a test may have.
const FILES: [&str; 4] = [LLB, CONFIG, METADATA, REPORT];

impl Golden {
    /// Of a run.
    ///
    /// # Errors
    /// A graph that is not valid.
    pub fn of(outcome: Result<&Outcome, &RunError>, reports: &[Report]) -> Result<Self, String> {
        let mut files = BTreeMap::new();
        let mut report = report_text(reports);
        match outcome {
            Ok(outcome) => {
                let mut graphs = String::new();
                let mut configs = Map::new();
                for target in &outcome.targets {
                    if outcome.targets.len() > 1 {
                        graphs += &format!("# {}\n\n", target.platform);
                    }
                    if target.definition.is_empty() {
                        graphs += "result scratch\n";
                    } else {
                        let graph = Graph::load(&target.definition, &Limits::HOSTILE);
                        graphs += &graph.map_err(|error| format!("its graph is not valid: {error}"))?.to_text();
                    }
                    graphs += "\n";
                    configs.insert(target.platform.to_string(), json(&target.config));
                }
                files.insert(LLB, graphs.trim_end_matches('\n').to_owned());
                if outcome.targets.iter().any(|target| !target.config.is_empty()) {
                    files.insert(CONFIG, format!("{:#}", Value::Object(configs)));
                }
                if !outcome.metadata.is_empty() {
                    let all = outcome.metadata.iter().map(|(name, bytes)| (name.clone(), json(bytes)));
                    files.insert(METADATA, format!("{:#}", Value::Object(all.collect())));
                }
            }
            Err(error) => report += &format!("failed: {}\n", error.what()),
        }
        files.insert(REPORT, report.trim_end_matches('\n').to_owned());
        files.retain(|_, text| !text.is_empty());
        files.values_mut().for_each(|text| text.push('\n'));
        Ok(Self(files))
    }

    /// What lies in `directory`.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn read(directory: &Path) -> std::io::Result<Self> {
        let mut files = BTreeMap::new();
        for name in FILES {
            match std::fs::read_to_string(directory.join(name)) {
                Ok(text) => drop(files.insert(name, text)),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return Err(std::io::Error::new(error.kind(), format!("{name}: {error}"))),
            }
        }
        Ok(Self(files))
    }

    /// Makes `directory` hold these files and no other golden ones. Says which it changed.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn write(&self, directory: &Path) -> std::io::Result<Vec<&'static str>> {
        let before = Self::read(directory)?;
        let mut changed = Vec::new();
        for name in FILES {
            match (before.0.get(name), self.0.get(name)) {
                (old, Some(new)) if old != Some(new) => std::fs::write(directory.join(name), new)?,
                (Some(_), None) => std::fs::remove_file(directory.join(name))?,
                _ => continue,
            }
            changed.push(name);
        }
        Ok(changed)
    }
}

/// JSON for people where it is JSON, else the text.
fn json(bytes: &[u8]) -> Value {
    match serde_json::from_slice(bytes) {
        Ok(value) => value,
        Err(_) => Value::from(String::from_utf8_lossy(bytes)),
    }
}

/// Log lines and findings as text, one block each.
pub fn report_text(reports: &[Report]) -> String {
    reports
        .iter()
        .map(|report| match report {
            Report::Log { level, message } => format!("log {}: {message}\n", format!("{level:?}").to_lowercase()),
            Report::Diagnostic(finding) => finding_text(finding),
        })
        .collect()
}

fn finding_text(finding: &Diagnostic) -> String {
    let severity = match finding.severity {
        Severity::Note => "note",
        Severity::Warning => "warning",
        Severity::Error => "error",
    };
    let code = if finding.code.is_empty() { String::new() } else { format!(" {}", finding.code) };
    let mut text = format!("{severity}{code}: {}\n", finding.message);
    finding.marks.iter().for_each(|mark| text += &mark_text(mark));
    finding.details.iter().for_each(|detail| text += &format!("  detail: {detail}\n"));
    text += &finding.help.as_ref().map_or(String::new(), |help| format!("  help: {help}\n"));
    text += &finding.url.as_ref().map_or(String::new(), |url| format!("  url: {url}\n"));
    text
}

/// The place, and its lines.
fn mark_text(mark: &Mark) -> String {
    let place = |(line, character): (u32, u32)| {
        if character == 0 { line.to_string() } else { format!("{line}:{character}") }
    };
    let (start, end) = (place(mark.range.start), place(mark.range.end));
    let range = if start == end { start } else { format!("{start}-{end}") };
    let says = if mark.text.is_empty() { String::new() } else { format!(" {}", mark.text) };
    let mut text = format!("  at {}:{range}{says}\n", mark.source.filename);
    let source = String::from_utf8_lossy(&mark.source.data);
    let lines = source.lines().enumerate().skip(mark.range.start.0.saturating_sub(1) as usize);
    for (index, line) in lines.take_while(|(index, _)| *index < mark.range.end.0 as usize) {
        text += &format!("  {:4} | {line}\n", index + 1);
    }
    text
}
