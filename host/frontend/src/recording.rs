//! `Recording`: one run of a guest, whole, in a file: the component, what it was asked, what it asked and was told, and how it ended.
//!
//! A guest's answer is a function of these, so whoever has the file can run the guest again as it ran, without network, store or context
//! ([`crate::Replay`]). It holds what the frontend has read, and nothing that it did not see: secrets of a build never reach frontends. Values of
//! build arguments that are named as secrets are left out, and so are credentials in URLs.
use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use rhost_llb::{Definition, Digest, Limits as GraphLimits, Platform};
use serde::{Deserialize, Serialize};

use crate::error::RunError;
use crate::host::{FileStat, HostError, ImageQuery, Invocation, Outcome, Report, ResolvedImage};

/// The first line of a file.
const MAGIC: &str = "rhost-frontend-recording 1";
/// What stands where something was left out.
pub(crate) const LEFT_OUT: &str = "(left out of the recording)";

/// A file that is no recording, or not ours.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecordingError {
    /// It does not begin as one.
    #[error("it is no recording of a frontend: it does not begin with `{MAGIC}`")]
    NotOne,
    /// It begins as one.
    #[error("the recording is damaged, or of another version of rhost: {0}")]
    Damaged(String),
}

/// Where a file was read.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) enum Place {
    Context(String),
    /// The tree of a solve, by its number from 0.
    Solve(usize),
}

/// What a guest asked.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) enum Asked {
    Contexts,
    ReadFile { place: Place, path: String, range: Option<(u64, u64)>, limit: u64 },
    Stat { place: Place, path: String },
    ReadDir { place: Place, path: String, pattern: Option<String> },
    Supports(String),
    Image(ImageQuery),
    Solve { definition: Digest256 },
}

impl std::fmt::Display for Asked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let name = |place: &Place| match place {
            Place::Context(name) => format!("the context `{name}`"),
            Place::Solve(number) => format!("the tree of solve {}", number + 1),
        };
        match self {
            Self::Contexts => f.write_str("the names of contexts"),
            Self::ReadFile { place, path, .. } => write!(f, "the file `{path}` of {}", name(place)),
            Self::Stat { place, path } => write!(f, "what `{path}` of {} is", name(place)),
            Self::ReadDir { place, path, .. } => write!(f, "the directory `{path}` of {}", name(place)),
            Self::Supports(feature) => write!(f, "whether there is `{feature}`"),
            Self::Image(query) => write!(f, "the image {} for {}", query.reference, query.platform),
            Self::Solve { definition } => write!(f, "to solve {}", definition.0),
        }
    }
}

/// A digest as text.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Digest256(pub String);

/// What it was told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Told {
    Names(Vec<String>),
    Bytes(Result<Base64, HostError>),
    Stat(Result<FileStat, HostError>),
    Entries(Result<Vec<FileStat>, HostError>),
    Yes(bool),
    Image(Result<ResolvedImage, HostError>),
    /// The number of the tree.
    Solved(Result<usize, HostError>),
}

/// Bytes in JSON.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Base64(pub Vec<u8>);

impl Serialize for Base64 {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&BASE64.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Base64 {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        BASE64.decode(text).map(Self).map_err(serde::de::Error::custom)
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Request {
    build_file: String,
    target: Option<String>,
    platforms: Vec<Platform>,
    multi_platform: bool,
    build_platform: Platform,
    build_args: Vec<(String, String)>,
    labels: Vec<(String, String)>,
    named_contexts: Vec<(String, String)>,
    options: BTreeMap<String, String>,
    inputs: BTreeMap<String, Base64>,
    session: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
enum End {
    Answered { targets: Vec<(Platform, String, String)>, metadata: BTreeMap<String, String> },
    Failed(String),
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Head {
    program: String,
    name: String,
    digest: String,
    request: Request,
    calls: Vec<(Asked, Told)>,
    /// Whether `calls` are all.
    whole: bool,
    left_out: Vec<String>,
    reports: Vec<Report>,
    end: End,
}

/// One run of a guest.
#[derive(Debug, Clone)]
pub struct Recording {
    head: Head,
    component: Vec<u8>,
    /// Texts that the file must not hold, wherever they come up.
    secrets: Vec<String>,
}

/// Whether a value is nobody's business, by its name; as the linter of Dockerfiles judges names.
fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    let words = ["apikey", "auth", "credential", "key", "password", "pword", "passwd", "secret", "token"];
    !name.contains("public") && words.iter().any(|word| name.contains(word))
}

/// `text` without the user and password of a URL in it.
fn without_credentials(text: &str) -> Option<String> {
    let (scheme, rest) = text.split_once("://")?;
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let at = rest[..end].rfind('@')?;
    Some(format!("{scheme}://{}", &rest[at + 1..]))
}

impl Request {
    fn of(invocation: &Invocation, left_out: &mut Vec<String>, secrets: &mut Vec<String>) -> Self {
        let mut checked = |prefix: &str, name: &str, value: &str| -> String {
            if prefix == "build-arg:" && is_secret(name) {
                left_out.push(format!("{prefix}{name}"));
                secrets.push(value.to_owned());
                return LEFT_OUT.to_owned();
            }
            match without_credentials(value) {
                Some(bare) => {
                    left_out.push(format!("the credentials in {prefix}{name}"));
                    bare
                }
                None => value.to_owned(),
            }
        };
        let mut pairs = |prefix: &str, pairs: &[(String, String)]| -> Vec<(String, String)> {
            pairs.iter().map(|(name, value)| (name.clone(), checked(prefix, name, value))).collect()
        };
        let build_args = pairs("build-arg:", &invocation.build_args);
        let labels = pairs("label:", &invocation.labels);
        let named_contexts = pairs("context:", &invocation.named_contexts);
        let options: Vec<_> = invocation.options.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
        Self {
            build_file: invocation.build_file.clone(),
            target: invocation.target.clone(),
            platforms: invocation.platforms.clone(),
            multi_platform: invocation.multi_platform,
            build_platform: invocation.build_platform.clone(),
            build_args,
            labels,
            named_contexts,
            options: pairs("", &options).into_iter().collect(),
            inputs: invocation.inputs.iter().map(|(name, input)| (name.clone(), Base64(input.encode()))).collect(),
            session: invocation.session.clone(),
        }
    }
}

impl End {
    fn of(result: Result<&Outcome, &RunError>) -> Self {
        match result {
            Err(error) => Self::Failed(error.what()),
            Ok(outcome) => {
                // Digests: what was asked with secrets may hold them.
                let text = |bytes: &[u8]| Digest::of(bytes).to_string();
                let target = |target: &crate::host::Target| {
                    let definition = Digest::of(target.definition.encode()).to_string();
                    (target.platform.clone(), definition, text(&target.config))
                };
                Self::Answered {
                    targets: outcome.targets.iter().map(target).collect(),
                    metadata: outcome.metadata.iter().map(|(name, value)| (name.clone(), text(value))).collect(),
                }
            }
        }
    }
}

/// What a run was, beside its calls.
pub(crate) struct Run<'r> {
    pub name: &'r str,
    pub component: &'r [u8],
    pub digest: &'r Digest,
    pub invocation: &'r Invocation,
    pub result: Result<&'r Outcome, &'r RunError>,
}

impl Recording {
    pub(crate) fn new(run: &Run<'_>, calls: Vec<(Asked, Told)>, whole: bool, reports: Vec<Report>) -> Self {
        let (mut left_out, mut secrets) = (Vec::new(), Vec::new());
        let request = Request::of(run.invocation, &mut left_out, &mut secrets);
        let head = Head {
            program: concat!("rhost ", env!("CARGO_PKG_VERSION")).to_owned(),
            name: run.name.to_owned(),
            digest: run.digest.to_string(),
            request,
            calls,
            whole,
            left_out,
            reports,
            end: End::of(run.result),
        };
        Self { head, component: run.component.to_vec(), secrets }
    }

    /// A line that says what it is, a line of JSON, and the component.
    pub fn encode(&self) -> Vec<u8> {
        let mut head = serde_json::to_string(&self.head).unwrap_or_default();
        for secret in &self.secrets {
            // As it stands in JSON. What is shorter than this says nothing.
            let written = serde_json::to_string(secret).unwrap_or_default();
            let written = written.trim_matches('"');
            if written.len() > 3 {
                head = head.replace(written, LEFT_OUT);
            }
        }
        [MAGIC.as_bytes(), b"\n", head.as_bytes(), b"\n", &self.component].concat()
    }

    /// # Errors
    /// The bytes are something else.
    pub fn decode(bytes: &[u8]) -> Result<Self, RecordingError> {
        let rest = bytes.strip_prefix(MAGIC.as_bytes()).and_then(|rest| rest.strip_prefix(b"\n"));
        let rest = rest.ok_or(RecordingError::NotOne)?;
        let end = rest.iter().position(|byte| *byte == b'\n');
        let end = end.ok_or_else(|| RecordingError::Damaged("it ends too early".into()))?;
        let head: Head =
            serde_json::from_slice(&rest[..end]).map_err(|error| RecordingError::Damaged(error.to_string()))?;
        let component = rest[end + 1..].to_vec();
        if !component.is_empty() && Digest::of(&component).to_string() != head.digest {
            return Err(RecordingError::Damaged("the component in it has another digest".into()));
        }
        if head.request.platforms.is_empty() {
            return Err(RecordingError::Damaged("it has no platform".into()));
        }
        Ok(Self { head, component, secrets: Vec::new() })
    }

    /// What the frontend was called.
    pub fn name(&self) -> &str {
        &self.head.name
    }

    /// The digest of its component.
    pub fn digest(&self) -> &str {
        &self.head.digest
    }

    /// Its component; empty where that is known otherwise (the built-in one).
    pub fn component(&self) -> &[u8] {
        &self.component
    }

    /// What is not in it although the frontend saw it.
    pub fn left_out(&self) -> &[String] {
        &self.head.left_out
    }

    /// Whether all that the frontend asked is in it.
    pub fn is_whole(&self) -> bool {
        self.head.whole
    }

    pub(crate) fn calls(&self) -> &[(Asked, Told)] {
        &self.head.calls
    }

    /// How the run ended: what it failed with, or that it answered.
    pub fn ended(&self) -> String {
        match &self.head.end {
            End::Failed(text) => text.clone(),
            End::Answered { targets, metadata } if targets.is_empty() => {
                format!("an answer of {} metadata values", metadata.len())
            }
            End::Answered { targets, .. } => {
                let graphs = targets.iter().map(|(platform, digest, _)| format!("{platform} {digest}"));
                format!("an answer: {}", graphs.collect::<Vec<_>>().join(", "))
            }
        }
    }

    /// What the frontend was asked.
    ///
    /// # Errors
    /// An input that is no graph.
    pub fn invocation(&self) -> Result<Invocation, RecordingError> {
        let request = self.head.request.clone();
        let input = |(name, bytes): (String, Base64)| {
            let definition = Definition::decode(&bytes.0, &GraphLimits::HOSTILE);
            Ok((name, definition.map_err(|error| RecordingError::Damaged(error.to_string()))?))
        };
        Ok(Invocation {
            build_file: request.build_file,
            target: request.target,
            platforms: request.platforms,
            multi_platform: request.multi_platform,
            build_platform: request.build_platform,
            build_args: request.build_args,
            labels: request.labels,
            named_contexts: request.named_contexts,
            options: request.options,
            inputs: request.inputs.into_iter().map(input).collect::<Result<_, _>>()?,
            session: request.session,
        })
    }

    /// In what another run ended otherwise; empty where it is the same.
    pub fn differences(&self, result: Result<&Outcome, &RunError>, reports: &[Report]) -> Vec<String> {
        let mut all = Vec::new();
        let (was, is) = (&self.head.end, End::of(result));
        if let (End::Answered { targets: was, .. }, End::Answered { targets, .. }, false) =
            (was, &is, self.head.left_out.is_empty())
        {
            // Of other values it cannot make the same.
            if was.len() != targets.len() {
                all.push(format!("it answered for {} platforms, and now for {}", was.len(), targets.len()));
            }
            return all;
        }
        match (was, &is) {
            (was, is) if was == is => {}
            (End::Answered { targets: was, metadata: meta }, End::Answered { targets, metadata }) => {
                if was.len() != targets.len() {
                    all.push(format!("it answered for {} platforms, and now for {}", was.len(), targets.len()));
                }
                for (was, is) in was.iter().zip(targets).filter(|(was, is)| was != is) {
                    let what = match (was.0 == is.0, was.1 == is.1) {
                        (false, _) => format!("the platform {} became {}", was.0, is.0),
                        (_, false) => format!("the graph for {} is another: {} became {}", was.0, was.1, is.1),
                        _ => format!("the image configuration for {} is another", was.0),
                    };
                    all.push(what);
                }
                all.extend((meta != metadata).then(|| "the metadata is another".to_owned()));
            }
            (was, is) => {
                let text = |end: &End| match end {
                    End::Failed(text) => format!("with `{text}`"),
                    End::Answered { .. } => "with an answer".to_owned(),
                };
                all.push(format!("it ended {}, and now {}", text(was), text(is)));
            }
        }
        if self.head.reports != reports {
            let (was, is) = (self.head.reports.len(), reports.len());
            all.push(format!("what it reported is something else ({was} before, {is} now)"));
        }
        all
    }

    /// To be answered from.
    pub fn replay(self: Arc<Self>) -> crate::Replay {
        crate::Replay::new(self)
    }
}
