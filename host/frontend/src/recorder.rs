//! `Recorder`: a guest's run as the host sees it, to be believed again without running the guest.
//!
//! A guest's answer is a function of (component, invocation, answers of the host): it has no clock, no randomness, nothing else to ask. So
//! what it asked and was told, with its answer, is a [`Transcript`]; and whoever asks the same questions again and is told the same has the
//! guest's answer too. A guest that had something solved has no transcript: what it read is in no answer that could be compared.
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use rhost_llb::{Definition, Digest, Limits as GraphLimits, Platform};
use serde::{Deserialize, Serialize};

use crate::host::{
    ByteRange, FileStat, FrontendHost, HostError, ImageQuery, Outcome, Report, ResolvedImage, SolvedTree, Target,
};

/// A guest that asks more than this is run each time.
const MOST_QUESTIONS: usize = 4096;
/// Nor is a longer transcript worth keeping, in bytes.
const LONGEST: usize = 64 << 20;
/// And in bytes as it is kept.
const LONGEST_KEPT: usize = 2 << 20;
/// From so many bytes on it is kept compressed: graphs say much the same of every vertex.
const WORTH_PACKING: usize = 256 << 10;
/// Begins a compressed one, where another has the length of its head.
const PACKED: [u8; 4] = [0xff; 4];

#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
enum Question {
    Contexts,
    ReadFile { context: String, path: String, range: Option<(u64, u64)>, limit: u64 },
    Stat { context: String, path: String },
    ReadDir { context: String, path: String, pattern: Option<String> },
    Supports(String),
    Image(ImageQuery),
}

/// What a guest asked and was told, and what it answered.
#[derive(Debug, Clone)]
pub struct Transcript {
    head: Head,
    definitions: Vec<Vec<u8>>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Head {
    /// Each with the digest of its answer.
    questions: Vec<(Question, String)>,
    reports: Vec<Report>,
    /// Configurations are JSON, so text.
    targets: Vec<(Platform, String)>,
    metadata: BTreeMap<String, String>,
}

impl Transcript {
    /// The length of the head (4 bytes, little endian), the head in JSON, then each definition with its length before it. Long ones as a zstd frame behind
    /// four bytes 0xff. `None` for what is not worth keeping.
    pub fn encode(&self) -> Option<Vec<u8>> {
        let head = serde_json::to_vec(&self.head).ok()?;
        let mut out = Vec::new();
        for part in std::iter::once(&head).chain(&self.definitions) {
            out.extend(u32::try_from(part.len()).ok()?.to_le_bytes());
            out.extend(part);
        }
        if out.len() > LONGEST {
            return None;
        }
        if out.len() >= WORTH_PACKING {
            out = [PACKED.as_slice(), &zstd::bulk::compress(&out, 1).ok()?].concat();
        }
        (out.len() <= LONGEST_KEPT).then_some(out)
    }

    /// `None` for what another version has written.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        match bytes.strip_prefix(&PACKED) {
            Some(packed) => Self::decode_plain(&zstd::bulk::decompress(packed, LONGEST).ok()?),
            None => Self::decode_plain(bytes),
        }
    }

    fn decode_plain(mut bytes: &[u8]) -> Option<Self> {
        let mut parts = Vec::new();
        while !bytes.is_empty() {
            let (length, rest) = bytes.split_first_chunk()?;
            let (part, rest) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
            parts.push(part);
            bytes = rest;
        }
        let (head, definitions) = parts.split_first()?;
        let head: Head = serde_json::from_slice(head).ok()?;
        let definitions: Vec<Vec<u8>> = definitions.iter().map(|part| part.to_vec()).collect();
        (definitions.len() == head.targets.len()).then_some(Self { head, definitions })
    }

    fn outcome(&self) -> Option<Outcome> {
        let targets = self.head.targets.iter().zip(&self.definitions).map(|((platform, config), definition)| {
            let definition = Definition::decode(definition, &GraphLimits::HOSTILE).ok()?;
            Some(Target { platform: platform.clone(), definition, config: config.clone().into_bytes() })
        });
        let metadata = self.head.metadata.iter().map(|(name, text)| (name.clone(), text.clone().into_bytes()));
        Some(Outcome { targets: targets.collect::<Option<_>>()?, metadata: metadata.collect() })
    }
}

/// A host that writes down what it is asked. One for each run of a guest.
pub struct Recorder {
    host: Arc<dyn FrontendHost>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    questions: HashMap<Question, Digest>,
    reports: Vec<Report>,
    /// Answers on images: a guest that runs after all is told what its transcript was compared with, and nobody is asked twice.
    images: HashMap<ImageQuery, Result<ResolvedImage, HostError>>,
    /// It did what no transcript can tell.
    untold: bool,
}

fn digest(answer: &Result<impl Serialize, HostError>) -> Digest {
    Digest::of(serde_json::to_vec(answer).unwrap_or_default())
}

fn digest_of_bytes(answer: &Result<Vec<u8>, HostError>) -> Digest {
    match answer {
        Ok(bytes) => Digest::of([b"bytes ".as_slice(), bytes].concat()),
        Err(error) => digest(&Err::<(), _>(error.clone())),
    }
}

impl Recorder {
    /// In front of `host`.
    pub fn new(host: Arc<dyn FrontendHost>) -> Self {
        Self { host, state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, question: Question, answer: Digest) {
        let mut state = self.state();
        // Told two things at one question: a file that changed meanwhile.
        let differs = state.questions.insert(question, answer).is_some_and(|before| before != answer);
        state.untold |= differs || state.questions.len() > MOST_QUESTIONS;
    }

    async fn ask(&self, question: &Question) -> Digest {
        match question.clone() {
            Question::Contexts => digest(&Ok(self.host.contexts())),
            Question::ReadFile { context, path, range, limit } => {
                let range = range.map(|(offset, length)| ByteRange { offset, length });
                digest_of_bytes(&self.host.read_file(&context, &path, range, limit).await)
            }
            Question::Stat { context, path } => digest(&self.host.stat(&context, &path).await),
            Question::ReadDir { context, path, pattern } => {
                digest(&self.host.read_dir(&context, &path, pattern.as_deref()).await)
            }
            Question::Supports(feature) => digest(&Ok(self.host.supports(&feature))),
            Question::Image(query) => digest(&self.image(query).await),
        }
    }

    async fn image(&self, query: ImageQuery) -> Result<ResolvedImage, HostError> {
        if let Some(known) = self.state().images.get(&query) {
            return known.clone();
        }
        let answer = self.host.resolve_image(query.clone()).await;
        self.state().images.insert(query, answer.clone());
        answer
    }

    /// The guest's answer by `transcript`, if the host's answers are all as they were. What the guest reported is reported again.
    pub async fn replay(&self, transcript: &Arc<Transcript>) -> Option<Outcome> {
        let is_far = |(question, _): &&(Question, String)| matches!(question, Question::Image(_));
        let (far, near): (Vec<_>, Vec<_>) = transcript.head.questions.iter().partition(is_far);
        // What is at hand first, and one after the other: a build file that was changed may name other images, and files are not worth a thread each.
        for (question, was) in near {
            if self.ask(question).await.to_string() != *was {
                return None;
            }
        }
        let outcome = if far.is_empty() {
            transcript.outcome()?
        } else {
            // What the guest answered is read while registries are asked.
            let read = {
                let transcript = transcript.clone();
                tokio::task::spawn_blocking(move || transcript.outcome())
            };
            let same = far.into_iter().map(async |(question, was)| self.ask(question).await.to_string() == *was);
            if !futures_util::future::join_all(same).await.into_iter().all(|same| same) {
                return None;
            }
            read.await.ok()??
        };
        transcript.head.reports.iter().for_each(|report| self.host.report(report.clone()));
        Some(outcome)
    }

    /// What this run was, if it can be told.
    pub fn transcript(&self, outcome: &Outcome) -> Option<Transcript> {
        let state = self.state();
        if state.untold {
            return None;
        }
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).ok();
        let mut questions: Vec<_> = state.questions.iter().map(|(q, answer)| (q.clone(), answer.to_string())).collect();
        questions.sort_by_cached_key(|(question, _)| format!("{question:?}"));
        let targets = outcome.targets.iter().map(|target| Some((target.platform.clone(), text(&target.config)?)));
        let metadata = outcome.metadata.iter().map(|(name, value)| Some((name.clone(), text(value)?)));
        let head = Head {
            questions,
            reports: state.reports.clone(),
            targets: targets.collect::<Option<_>>()?,
            metadata: metadata.collect::<Option<_>>()?,
        };
        Some(Transcript {
            head,
            definitions: outcome.targets.iter().map(|target| target.definition.encode()).collect(),
        })
    }
}

#[async_trait]
impl FrontendHost for Recorder {
    fn contexts(&self) -> Vec<String> {
        let contexts = self.host.contexts();
        self.note(Question::Contexts, digest(&Ok(&contexts)));
        contexts
    }

    async fn read_file(
        &self,
        context: &str,
        path: &str,
        range: Option<ByteRange>,
        limit: u64,
    ) -> Result<Vec<u8>, HostError> {
        let answer = self.host.read_file(context, path, range, limit).await;
        let range = range.map(|range| (range.offset, range.length));
        let question = Question::ReadFile { context: context.into(), path: path.into(), range, limit };
        self.note(question, digest_of_bytes(&answer));
        answer
    }

    async fn stat(&self, context: &str, path: &str) -> Result<FileStat, HostError> {
        let answer = self.host.stat(context, path).await;
        self.note(Question::Stat { context: context.into(), path: path.into() }, digest(&answer));
        answer
    }

    async fn read_dir(&self, context: &str, path: &str, pattern: Option<&str>) -> Result<Vec<FileStat>, HostError> {
        let answer = self.host.read_dir(context, path, pattern).await;
        let pattern = pattern.map(str::to_owned);
        self.note(Question::ReadDir { context: context.into(), path: path.into(), pattern }, digest(&answer));
        answer
    }

    async fn resolve_image(&self, query: ImageQuery) -> Result<ResolvedImage, HostError> {
        let answer = self.image(query.clone()).await;
        self.note(Question::Image(query), digest(&answer));
        answer
    }

    async fn solve(&self, definition: Definition) -> Result<Arc<dyn SolvedTree>, HostError> {
        self.state().untold = true;
        self.host.solve(definition).await
    }

    fn supports(&self, feature: &str) -> bool {
        let supported = self.host.supports(feature);
        self.note(Question::Supports(feature.into()), digest(&Ok(supported)));
        supported
    }

    fn report(&self, report: Report) {
        self.state().reports.push(report.clone());
        self.host.report(report);
    }
}
