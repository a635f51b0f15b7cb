//! `Tape` writes down what a guest asks and is told; `Replay` tells it again.
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use rhost_llb::{Definition, Digest};

use crate::error::{Identity, RunError};
use crate::host::{
    ByteRange, FileStat, FrontendHost, HostError, ImageQuery, Invocation, Outcome, Report, ResolvedImage, SolvedTree,
};
use crate::recording::{Asked, Base64, Digest256, Place, Recording, Run, Told};

/// Bytes of answers that are written down; what comes later is not.
const LONGEST: usize = 4 << 20;

/// A host in front of another that writes down what it is asked and what that answers. One for each run of a guest.
pub struct Tape {
    host: Arc<dyn FrontendHost>,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    calls: Vec<(Asked, Told)>,
    bytes: usize,
    solves: usize,
    reports: Vec<Report>,
}

fn lock<T>(state: &Mutex<T>) -> MutexGuard<'_, T> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Roughly how many bytes an answer is.
fn size(told: &Told) -> usize {
    let entries = |entries: &[FileStat]| entries.iter().map(|entry| 100 + entry.name.len()).sum();
    100 + match told {
        Told::Bytes(Ok(bytes)) => bytes.0.len(),
        Told::Entries(Ok(found)) => entries(found),
        Told::Image(Ok(image)) => image.config.len(),
        _ => 0,
    }
}

impl State {
    fn note(&mut self, asked: Asked, told: Told) {
        self.bytes = self.bytes.saturating_add(size(&told));
        if self.bytes <= LONGEST {
            self.calls.push((asked, told));
        }
    }
}

fn read(place: Place, path: &str, range: Option<ByteRange>, limit: u64) -> Asked {
    Asked::ReadFile { place, path: path.to_owned(), range: range.map(|range| (range.offset, range.length)), limit }
}

fn bytes(answer: &Result<Vec<u8>, HostError>) -> Told {
    Told::Bytes(answer.clone().map(Base64))
}

fn list(place: Place, path: &str, pattern: Option<&str>) -> Asked {
    Asked::ReadDir { place, path: path.to_owned(), pattern: pattern.map(str::to_owned) }
}

fn solve(definition: &Definition) -> Asked {
    Asked::Solve { definition: Digest256(Digest::of(definition.encode()).to_string()) }
}

impl Tape {
    /// In front of `host`.
    pub fn new(host: Arc<dyn FrontendHost>) -> Self {
        Self { host, state: Arc::default() }
    }

    /// The run, now that it has ended. `component` may be empty where everybody has it.
    pub fn recording(
        &self,
        identity: &Identity,
        component: &[u8],
        invocation: &Invocation,
        result: Result<&Outcome, &RunError>,
    ) -> Recording {
        let state = lock(&self.state);
        let run = Run { name: &identity.name, component, digest: &identity.digest, invocation, result };
        Recording::new(&run, state.calls.clone(), state.bytes <= LONGEST, state.reports.clone())
    }

    fn note(&self, asked: Asked, told: Told) {
        lock(&self.state).note(asked, told);
    }
}

#[async_trait]
impl FrontendHost for Tape {
    fn contexts(&self) -> Vec<String> {
        let names = self.host.contexts();
        self.note(Asked::Contexts, Told::Names(names.clone()));
        names
    }

    async fn read_file(
        &self,
        context: &str,
        path: &str,
        range: Option<ByteRange>,
        limit: u64,
    ) -> Result<Vec<u8>, HostError> {
        let answer = self.host.read_file(context, path, range, limit).await;
        self.note(read(Place::Context(context.to_owned()), path, range, limit), bytes(&answer));
        answer
    }

    async fn stat(&self, context: &str, path: &str) -> Result<FileStat, HostError> {
        let answer = self.host.stat(context, path).await;
        let place = Place::Context(context.to_owned());
        self.note(Asked::Stat { place, path: path.to_owned() }, Told::Stat(answer.clone()));
        answer
    }

    async fn read_dir(&self, context: &str, path: &str, pattern: Option<&str>) -> Result<Vec<FileStat>, HostError> {
        let answer = self.host.read_dir(context, path, pattern).await;
        self.note(list(Place::Context(context.to_owned()), path, pattern), Told::Entries(answer.clone()));
        answer
    }

    async fn resolve_image(&self, query: ImageQuery) -> Result<ResolvedImage, HostError> {
        let answer = self.host.resolve_image(query.clone()).await;
        self.note(Asked::Image(query), Told::Image(answer.clone()));
        answer
    }

    async fn solve(&self, definition: Definition) -> Result<Arc<dyn SolvedTree>, HostError> {
        let asked = solve(&definition);
        let answer = self.host.solve(definition).await;
        let number = {
            let mut state = lock(&self.state);
            let number = state.solves;
            state.solves += usize::from(answer.is_ok());
            state.note(asked, Told::Solved(answer.as_ref().map(|_| number).map_err(Clone::clone)));
            number
        };
        let tree = answer?;
        Ok(Arc::new(TapedTree { tree, number, state: self.state.clone() }))
    }

    fn supports(&self, feature: &str) -> bool {
        let supported = self.host.supports(feature);
        self.note(Asked::Supports(feature.to_owned()), Told::Yes(supported));
        supported
    }

    fn report(&self, report: Report) {
        lock(&self.state).reports.push(report.clone());
        self.host.report(report);
    }
}

struct TapedTree {
    tree: Arc<dyn SolvedTree>,
    number: usize,
    state: Arc<Mutex<State>>,
}

#[async_trait]
impl SolvedTree for TapedTree {
    async fn read_file(&self, path: &str, range: Option<ByteRange>, limit: u64) -> Result<Vec<u8>, HostError> {
        let answer = self.tree.read_file(path, range, limit).await;
        lock(&self.state).note(read(Place::Solve(self.number), path, range, limit), bytes(&answer));
        answer
    }

    async fn stat(&self, path: &str) -> Result<FileStat, HostError> {
        let answer = self.tree.stat(path).await;
        let asked = Asked::Stat { place: Place::Solve(self.number), path: path.to_owned() };
        lock(&self.state).note(asked, Told::Stat(answer.clone()));
        answer
    }

    async fn read_dir(&self, path: &str, pattern: Option<&str>) -> Result<Vec<FileStat>, HostError> {
        let answer = self.tree.read_dir(path, pattern).await;
        lock(&self.state).note(list(Place::Solve(self.number), path, pattern), Told::Entries(answer.clone()));
        answer
    }
}

/// A host that answers from a [`Recording`]. Answers go by the question: guests start promises in one order, and these end in another.
#[derive(Clone)]
pub struct Replay(Arc<ReplayState>);

struct ReplayState {
    recording: Arc<Recording>,
    /// Answers to each question, in order; the last is given again.
    answers: Mutex<HashMap<Asked, VecDeque<Told>>>,
    asked: Mutex<Vec<Asked>>,
    departures: Mutex<Vec<String>>,
    reports: Mutex<Vec<Report>>,
}

impl Replay {
    pub(crate) fn new(recording: Arc<Recording>) -> Self {
        let mut answers: HashMap<Asked, VecDeque<Told>> = HashMap::new();
        for (asked, told) in recording.calls() {
            answers.entry(asked.clone()).or_default().push_back(told.clone());
        }
        Self(Arc::new(ReplayState {
            recording,
            answers: Mutex::new(answers),
            asked: Mutex::default(),
            departures: Mutex::default(),
            reports: Mutex::default(),
        }))
    }

    /// Where the run left the recording: what it asked that it had not asked then, and what it did not ask any more; in order.
    pub fn departures(&self) -> Vec<String> {
        let mut all = lock(&self.0.departures).clone();
        let asked = lock(&self.0.asked);
        let mut forgotten: Vec<&Asked> = Vec::new();
        for (question, _) in self.0.recording.calls() {
            if !asked.contains(question) && !forgotten.contains(&question) {
                forgotten.push(question);
            }
        }
        all.extend(forgotten.iter().map(|question| format!("it did not ask for {question} any more")));
        all
    }

    /// What was reported.
    pub fn reports(&self) -> Vec<Report> {
        lock(&self.0.reports).clone()
    }

    fn tell(&self, asked: Asked) -> Result<Told, HostError> {
        let told = {
            let mut answers = lock(&self.0.answers);
            answers
                .get_mut(&asked)
                .and_then(|known| if known.len() > 1 { known.pop_front() } else { known.front().cloned() })
        };
        let answer = told.ok_or_else(|| {
            let number = lock(&self.0.asked).len() + 1;
            let why = if self.0.recording.is_whole() { "" } else { "; the recording does not hold all that was asked" };
            let text = format!("question {number} is new: it asked for {asked}{why}");
            lock(&self.0.departures).push(text);
            HostError::Failed(format!("the recording has no answer: {asked}"))
        });
        lock(&self.0.asked).push(asked);
        answer
    }

    fn bytes(&self, asked: Asked) -> Result<Vec<u8>, HostError> {
        match self.tell(asked)? {
            Told::Bytes(answer) => answer.map(|bytes| bytes.0),
            _ => Err(mixed_up()),
        }
    }

    fn facts(&self, asked: Asked) -> Result<FileStat, HostError> {
        match self.tell(asked)? {
            Told::Stat(answer) => answer,
            _ => Err(mixed_up()),
        }
    }

    fn entries(&self, asked: Asked) -> Result<Vec<FileStat>, HostError> {
        match self.tell(asked)? {
            Told::Entries(answer) => answer,
            _ => Err(mixed_up()),
        }
    }
}

/// Somebody has edited it.
fn mixed_up() -> HostError {
    HostError::Failed("the recording's answer is of another kind than the question".into())
}

#[async_trait]
impl FrontendHost for Replay {
    fn contexts(&self) -> Vec<String> {
        match self.tell(Asked::Contexts) {
            Ok(Told::Names(names)) => names,
            _ => Vec::new(),
        }
    }

    async fn read_file(
        &self,
        context: &str,
        path: &str,
        range: Option<ByteRange>,
        limit: u64,
    ) -> Result<Vec<u8>, HostError> {
        self.bytes(read(Place::Context(context.to_owned()), path, range, limit))
    }

    async fn stat(&self, context: &str, path: &str) -> Result<FileStat, HostError> {
        self.facts(Asked::Stat { place: Place::Context(context.to_owned()), path: path.to_owned() })
    }

    async fn read_dir(&self, context: &str, path: &str, pattern: Option<&str>) -> Result<Vec<FileStat>, HostError> {
        self.entries(list(Place::Context(context.to_owned()), path, pattern))
    }

    async fn resolve_image(&self, query: ImageQuery) -> Result<ResolvedImage, HostError> {
        match self.tell(Asked::Image(query))? {
            Told::Image(answer) => answer,
            _ => Err(mixed_up()),
        }
    }

    async fn solve(&self, definition: Definition) -> Result<Arc<dyn SolvedTree>, HostError> {
        match self.tell(solve(&definition))? {
            Told::Solved(answer) => Ok(Arc::new(ReplayedTree { replay: self.clone(), number: answer? })),
            _ => Err(mixed_up()),
        }
    }

    fn supports(&self, feature: &str) -> bool {
        matches!(self.tell(Asked::Supports(feature.to_owned())), Ok(Told::Yes(true)))
    }

    fn report(&self, report: Report) {
        lock(&self.0.reports).push(report);
    }
}

struct ReplayedTree {
    replay: Replay,
    number: usize,
}

#[async_trait]
impl SolvedTree for ReplayedTree {
    async fn read_file(&self, path: &str, range: Option<ByteRange>, limit: u64) -> Result<Vec<u8>, HostError> {
        self.replay.bytes(read(Place::Solve(self.number), path, range, limit))
    }

    async fn stat(&self, path: &str) -> Result<FileStat, HostError> {
        self.replay.facts(Asked::Stat { place: Place::Solve(self.number), path: path.to_owned() })
    }

    async fn read_dir(&self, path: &str, pattern: Option<&str>) -> Result<Vec<FileStat>, HostError> {
        self.replay.entries(list(Place::Solve(self.number), path, pattern))
    }
}
