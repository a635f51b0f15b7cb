//! What is told of a build's steps, as data: one step in a line of progress, all of them for `--explain`. The names of the fields are the schema of
//! `--explain=json` (docs/explain.md).
use serde::Serialize;

use super::align::Place;
use super::cause::{Cause, Why, brief, sentence};
use super::files::How;
use super::parts::PartKind;
use super::record::State;

/// One step, and why it ran or did not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StepExplained {
    /// The vertex's digest.
    pub vertex: String,
    /// Its name, as progress shows it.
    pub step: String,
    /// Its line in the build file; 0 is unknown.
    pub line: u32,
    /// How it went.
    pub state: State,
    /// By what the cache knew it: `definition` (how it is made) or `content` (what it reads); `None` where it did not.
    pub matched_by: Option<&'static str>,
    /// The earlier build that had this step; `None` where no known one had.
    pub compared_with: Option<Compared>,
    /// What differs from there. Empty for what did not run, and for what is new.
    pub causes: Vec<Cause>,
    /// The causes in words.
    pub because: Option<String>,
    /// What a person may do about it.
    pub hint: Option<&'static str>,
    /// What it does: all that enters its key.
    pub parts: Vec<KeyPart>,
    /// What it stands on.
    pub inputs: Vec<KeyInput>,
}

/// An earlier build.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Compared {
    /// When it ended.
    pub at: String,
    /// Its context, if it is another than this build's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub context: Option<String>,
    /// Its frontend, if it is another than this build's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub frontend: Option<String>,
}

/// One thing of what a step does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct KeyPart {
    /// What it is.
    pub part: PartKind,
    /// Which of its kind.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Its value, if it may be shown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
}

/// One input of a step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct KeyInput {
    /// The step that it comes from.
    pub step: String,
    /// `content` where what is read of it counts, else `definition`.
    pub by: &'static str,
    /// How many files are read of it, where that is known and not too many.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub files: Option<usize>,
}

/// All steps of a build.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// The version of this schema.
    pub version: u32,
    /// The context's directory.
    pub context: String,
    /// The frontend.
    pub frontend: String,
    /// In the order of the graph, inputs first.
    pub steps: Vec<StepExplained>,
}

const NORMALIZE: &str = "--normalize-modes makes checkouts under different umasks alike";

/// What may be done about `causes`.
pub(super) fn hint(causes: &[Cause], normalized: bool) -> Option<&'static str> {
    let is_mode = |cause: &Cause| {
        cause.step.is_none()
            && matches!(&cause.why, Why::File { change, of: None } if matches!(change.how, How::Mode { .. }))
    };
    (!normalized && causes.iter().any(is_mode)).then_some(NORMALIZE)
}

/// The causes in words, with what they are compared with.
pub(super) fn because(causes: &[Cause], compared: &Compared) -> String {
    let mut text = sentence(causes);
    if let Some(frontend) =
        compared.frontend.as_ref().filter(|_| causes.iter().any(|c| matches!(c.why, Why::Part { .. } | Why::Key)))
    {
        text.push_str(&format!(" (that build had the frontend {frontend})"));
    }
    let own = causes.iter().any(|cause| cause.step.is_none());
    if let Some(context) = compared.context.as_ref().filter(|_| own) {
        text.push_str(&format!(" (compared with the build of {context})"));
    }
    text
}

impl StepExplained {
    /// The one line: `[build 3/7] RUN npm ci: ran, because package-lock.json changed`. `None` for what did not run or is new.
    pub fn line(&self) -> Option<String> {
        let because = self.because.as_ref()?;
        let hint = self.hint.map(|hint| format!("; {hint}")).unwrap_or_default();
        Some(format!("{}: ran, because {because}{hint}", self.short_name()))
    }

    /// The step's name, on one line and not too long.
    pub fn short_name(&self) -> String {
        let place = Place::of(&self.step);
        let text = brief(&place.text);
        if place.label.is_empty() { text } else { format!("{} {text}", place.label) }
    }
}
