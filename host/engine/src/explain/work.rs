//! The work beside the build: steps as they are looked up, each that runs compared with what it was, and at the end what is kept.
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use jiff::Timestamp;
use rhost_llb::{Digest, DigestMap, OpKind, Vertex, VertexDigest};
use rhost_rootfs::Owner;
use rhost_solver::{Answer, Seen};
use rhost_store::SnapshotId;

use super::align::Place;
use super::cause::{Cause, Why};
use super::compare::{Both, Comparison, NowStep, Reads};
use super::files::{File, decode};
use super::parts::{Part, PartKind, parts};
use super::reads::Read;
use super::record::{Build, History, Input, State, Step};
use super::report::{Compared, Explanation, KeyInput, KeyPart, StepExplained, because, hint};
use super::{About, Inner, lock, short};
use crate::engine::{SNAPSHOTS, snapshot_in};
use crate::event::Event;

/// The description that holds an instruction as it is written.
const CODE: &str = "com.docker.dockerfile.v1.command";

/// What the solver says.
pub enum Message {
    /// The last one is about to run.
    Runs(Vec<Seen>),
    /// The rest, at the end of a solve.
    Rest(Vec<Seen>),
}

/// One build's explanations.
pub struct Work {
    inner: Arc<Inner>,
    /// Graphs whose steps are in `now`.
    graphs: usize,
    now: Vec<NowStep>,
    index: DigestMap<VertexDigest, usize>,
    /// The key of each step's first output, as the store knows it.
    results: HashMap<usize, Digest>,
    /// Inputs that count by content, though it was not asked.
    unread: Vec<(usize, usize)>,
    known: Known,
    history: Option<History>,
    comparisons: Vec<Comparison>,
    explained: HashMap<usize, Reason>,
}

/// Why a step ran.
struct Reason {
    causes: Vec<Cause>,
    compared: Compared,
}

/// What was read, by content.
struct Known {
    inner: Arc<Inner>,
    reads: HashMap<u64, Arc<Read>>,
}

impl Reads for Known {
    fn list(&self, content: u64) -> Option<Vec<File>> {
        self.reads.get(&content)?.files()
    }

    fn as_before(&self, content: u64, path: &[u8], mode: u32, owner: Owner) -> Option<u64> {
        self.reads.get(&content)?.as_before(&self.inner.store, path, mode, owner)
    }
}

impl Work {
    /// Nothing was looked up yet.
    pub fn new(inner: Arc<Inner>) -> Self {
        let known = Known { inner: inner.clone(), reads: HashMap::new() };
        Self {
            inner,
            graphs: 0,
            now: Vec::new(),
            index: DigestMap::default(),
            results: HashMap::new(),
            unread: Vec::new(),
            known,
            history: None,
            comparisons: Vec::new(),
            explained: HashMap::new(),
        }
    }

    /// Takes in what the solver says.
    pub fn take(&mut self, message: Message) {
        self.take_graphs();
        let (seen, runs) = match message {
            Message::Runs(seen) => (seen, true),
            Message::Rest(seen) => (seen, false),
        };
        let last = seen.last().map(|seen| seen.vertex);
        seen.into_iter().for_each(|seen| self.saw(seen));
        if let Some(at) = last.filter(|_| runs).and_then(|vertex| self.index.get(&vertex).copied()) {
            self.now[at].began = true;
            self.explain(at);
        }
    }

    /// Steps for the vertices of graphs that came since, in their order.
    fn take_graphs(&mut self) {
        let inner = self.inner.clone();
        let graphs = lock(&inner.graphs)[self.graphs..].to_vec();
        if graphs.is_empty() {
            return;
        }
        self.graphs += graphs.len();
        for graph in graphs {
            for vertex in graph.vertices() {
                if !self.index.contains_key(&vertex.digest) {
                    self.index.insert(vertex.digest, self.now.len());
                    let step = self.step(vertex);
                    let (ignored, forced, volatile) = (false, false, false);
                    let vertex = vertex.digest;
                    self.now.push(NowStep { vertex, step, seen: None, began: false, ignored, forced, volatile });
                }
            }
        }
        self.comparisons.clear();
    }

    fn step(&self, vertex: &Vertex) -> Step {
        let about = self.inner.about.get();
        let nothing = Default::default();
        let showing = about.map_or(&nothing, |about| &about.showing);
        let line = vertex.locations.iter().flat_map(|location| &location.ranges).filter_map(|r| r.start.as_ref());
        Step {
            name: showing.whole(&vertex.name),
            code: vertex.metadata.description.get(CODE).map(|code| showing.whole(code)).unwrap_or_default(),
            line: line.map(|position| position.line.max(0) as u32).next().unwrap_or(0),
            source: matches!(vertex.kind(), OpKind::Source(_)),
            digest: 0,
            keys: Vec::new(),
            parts: parts(&vertex.op, &self.inner.host, showing),
            inputs: Vec::new(),
            state: State::Unfinished,
            snapshot: None,
        }
    }

    fn saw(&mut self, seen: Seen) {
        let Some(at) = self.index.get(&seen.vertex).copied() else { return };
        let mut inputs = Vec::with_capacity(seen.inputs.len());
        for (number, input) in seen.inputs.iter().enumerate() {
            // A graph has what its vertices stand on, before them.
            let Some(step) = self.index.get(&input.vertex).copied().filter(|step| *step < at) else { return };
            let content = input.content.as_ref().map(short);
            match content {
                Some(content) => {
                    if let Some(read) = lock(&self.inner.reads).get(&(seen.vertex, number)) {
                        self.known.reads.insert(content, read.clone());
                    }
                }
                None if seen.map.inputs.get(number).is_some_and(|input| input.by_content) => {
                    self.unread.push((at, number));
                }
                None => {}
            }
            inputs.push(Input { step, output: input.output, content });
        }
        if let Some(key) = seen.keys.first().and_then(|keys| keys.first()) {
            self.results.insert(at, *key);
        }
        let version = lock(&self.inner.versions).get(&seen.vertex).cloned();
        let now = &mut self.now[at];
        if let Some(version) = version.filter(|_| now.step.parts.iter().all(|part| part.kind != PartKind::Version)) {
            now.step.parts.push(Part::version(&version));
        }
        now.seen = Some(seen.answer);
        (now.ignored, now.forced, now.volatile) = (seen.ignored, seen.forced, seen.volatile);
        now.step.digest = short(&seen.map.digest);
        now.step.keys = seen.keys.iter().map(|keys| keys.iter().map(short).collect()).collect();
        now.step.inputs = inputs;
    }

    /// Earlier builds of the same; else of the same build file elsewhere, as another checkout is.
    fn history(&mut self) {
        // Before the build file is known only contexts are fetched.
        let Some(about) = self.inner.about.get() else { return };
        if self.history.is_none() {
            let store = &self.inner.store;
            let read = |name| History::decode(&store.history(name)?);
            let elsewhere = || store.history_of(about.text).filter(|name| *name != about.name).and_then(read);
            self.history = Some(read(about.name).or_else(elsewhere).unwrap_or_default());
        }
        if let Some(history) = self.history.as_ref().filter(|_| self.comparisons.is_empty()) {
            self.comparisons = history.builds.iter().map(|build| Comparison::new(&self.now, build)).collect();
        }
    }

    /// Compares step `at` with each earlier build that had it; the one that is nearest tells why it is not the same.
    fn explain(&mut self, at: usize) {
        self.history();
        let (Some(history), Some(about)) = (&self.history, self.inner.about.get()) else { return };
        let mut best: Option<(usize, Arc<[Cause]>)> = None;
        for (number, (build, comparison)) in history.builds.iter().zip(&mut self.comparisons).enumerate() {
            let arguments = |name: &str| build.arguments.contains(name) || about.arguments.contains(name);
            let (now, lists, reads) = (&self.now, &history.lists, &self.known);
            let both = Both { now, then: build, lists, arguments: &arguments, reads };
            let Some(causes) = comparison.causes(at, both) else { continue };
            if best.as_ref().is_none_or(|(_, before)| causes.len() < before.len()) {
                best = Some((number, causes));
            }
        }
        let Some((number, causes)) = best else { return };
        let build = &history.builds[number];
        let Some(then) = self.comparisons[number].earlier(at).and_then(|step| build.steps.get(step)) else { return };
        let causes = if causes.is_empty() { self.without_difference(at, then, build) } else { causes.to_vec() };
        let compared = self.compared(about, build);
        self.explained.insert(at, Reason { causes, compared });
        let told = self.explained_step(at);
        let place = Place::of(&told.step);
        if !self.now[at].step.source && place.stage != "internal" {
            let vertex = self.now[at].vertex;
            self.inner.events.send(Event::Because { vertex, step: Arc::new(told) });
        }
    }

    fn compared(&self, about: &About, build: &Build) -> Compared {
        let at = Timestamp::from_second(build.at).map(|at| at.to_string()).unwrap_or_default();
        let context = (build.context != about.context).then(|| build.context.clone());
        let frontend = (build.frontend != self.frontend()).then(|| build.frontend.clone());
        Compared { at, context, frontend }
    }

    fn frontend(&self) -> &str {
        self.inner.frontend.get().map_or("", String::as_str)
    }

    /// Why a step runs that differs in nothing from an earlier one.
    fn without_difference(&self, at: usize, then: &Step, build: &Build) -> Vec<Cause> {
        let now = &self.now[at];
        let why = if now.forced {
            let above = |input: &&Input| self.now[input.step].ignored || self.now[input.step].forced;
            let below = now.step.inputs.iter().find(above).map(|input| &self.now[input.step].step.name);
            let cause = Cause::own(Why::NoCache);
            return vec![below.map_or(cause.clone(), |name| cause.seen_from_above(name))];
        } else if now.volatile {
            Why::Unkeyed
        } else {
            match then.state {
                State::Failed => Why::Failed,
                State::Unfinished => Why::Unfinished,
                State::Ran | State::Cached => Why::Lost { how: self.lost(then, build) },
            }
        };
        vec![Cause::own(why)]
    }

    fn lost(&self, then: &Step, build: &Build) -> String {
        let store = &self.inner.store;
        let removal = then.snapshot.and_then(|id| store.removal(SnapshotId(id)));
        if let Some(removal) = removal {
            let at = Timestamp::from_second(removal.at).unwrap_or_default().strftime("%Y-%m-%d %H:%M UTC");
            return format!("was pruned at {at} ({})", removal.reason);
        }
        if store.records_lost_since(build.at) {
            return "is lost with the store's records, which were damaged".into();
        }
        match then.snapshot.map(|id| store.record(SnapshotId(id))) {
            Some(Ok(Some(_))) => "is damaged, or gone from the disk".into(),
            _ => String::new(),
        }
    }

    fn state(&self, at: usize, whole: bool) -> State {
        let now = &self.now[at];
        match lock(&self.inner.ended).get(&now.vertex) {
            Some(state) => *state,
            None if now.seen.is_some_and(|answer| answer != Answer::Nothing) => State::Cached,
            // Of two with the same key one ran.
            None if whole && !now.began => State::Cached,
            None => State::Unfinished,
        }
    }

    fn explained_step(&self, at: usize) -> StepExplained {
        let now = &self.now[at];
        let reason = self.explained.get(&at);
        let causes = reason.map(|reason| reason.causes.clone()).unwrap_or_default();
        let normalized = self.inner.about.get().is_some_and(|about| about.normalized);
        let part =
            |part: &super::parts::Part| KeyPart { part: part.kind, name: part.name.clone(), value: part.text.clone() };
        let input = |input: &Input| KeyInput {
            step: self.now[input.step].step.name.clone(),
            by: if input.content.is_some() { "content" } else { "definition" },
            files: input.content.and_then(|content| self.files(content)),
        };
        StepExplained {
            vertex: now.vertex.to_string(),
            step: now.step.name.clone(),
            line: now.step.line,
            state: if now.began { State::Ran } else { now.step.state },
            matched_by: match now.seen {
                Some(Answer::Definition) => Some("definition"),
                Some(Answer::Content) => Some("content"),
                Some(Answer::Nothing) | None => None,
            },
            compared_with: reason.map(|reason| reason.compared.clone()),
            because: reason.map(|reason| because(&reason.causes, &reason.compared)),
            hint: hint(&causes, normalized),
            causes,
            parts: now.step.parts.iter().map(part).collect(),
            inputs: now.step.inputs.iter().map(input).collect(),
        }
    }

    fn files(&self, content: u64) -> Option<usize> {
        let read = self.known.reads.get(&content).map(|read| read.bytes());
        let bytes = read.or_else(|| self.history.as_ref()?.lists.get(&content).map(Vec::as_slice))?;
        decode(bytes).map(|files| files.len())
    }

    /// Keeps what the next build is compared with, and tells of `all` steps if that is wanted.
    pub fn finish(&mut self, whole: bool, all: bool) -> Option<Explanation> {
        self.take_graphs();
        for at in 0..self.now.len() {
            self.now[at].step.state = self.state(at, whole);
        }
        let ran = self.now.iter().any(|now| now.began);
        if ran {
            self.keep();
        }
        let about = self.inner.about.get().filter(|_| all)?;
        let steps = (0..self.now.len()).filter(|at| self.now[*at].seen.is_some());
        let steps = steps.map(|at| StepExplained { state: self.now[at].step.state, ..self.explained_step(at) });
        Some(Explanation {
            version: 1,
            context: about.context.clone(),
            frontend: self.frontend().to_owned(),
            steps: steps.collect(),
        })
    }

    fn keep(&mut self) {
        self.history();
        self.inherit();
        let Some(about) = self.inner.about.get() else { return };
        let keys: Vec<Digest> = self.results.values().copied().collect();
        let snapshots = self.inner.store.result_snapshots(SNAPSHOTS, &keys, snapshot_in);
        let (mut steps, mut number) = (Vec::new(), HashMap::new());
        for (at, now) in self.now.iter().enumerate().filter(|(_, now)| now.seen.is_some()) {
            let mut step = now.step.clone();
            let placed = |input: &Input| Some(Input { step: *number.get(&input.step)?, ..input.clone() });
            // What was looked up stands on what was looked up.
            let Some(inputs) = step.inputs.iter().map(placed).collect() else { continue };
            step.inputs = inputs;
            step.snapshot = self.results.get(&at).and_then(|key| snapshots.get(key)).map(|id| id.0);
            number.insert(at, steps.len());
            steps.push(step);
        }
        let mut history = self.history.take().unwrap_or_default();
        let mut lists = BTreeMap::new();
        for content in steps.iter().flat_map(|step| &step.inputs).filter_map(|input| input.content) {
            if !history.lists.contains_key(&content)
                && let Some(read) = self.known.reads.get(&content)
            {
                lists.insert(content, read.bytes().to_vec());
            }
        }
        let build = Build {
            at: Timestamp::now().as_second(),
            context: about.context.clone(),
            frontend: self.frontend().to_owned(),
            arguments: about.arguments.clone(),
            steps,
        };
        history.add(build, lists);
        if let Some(bytes) = history.encode() {
            self.inner.store.set_history(about.name, &bytes);
            self.inner.store.set_history_of(about.text, about.name);
        }
        self.history = Some(history);
    }

    /// A step that the cache knew by how it is made was not asked what it reads; an earlier build that asked knows.
    fn inherit(&mut self) {
        let Some(history) = &self.history else { return };
        for (at, number) in std::mem::take(&mut self.unread) {
            let found = history.builds.iter().zip(&self.comparisons).find_map(|(build, comparison)| {
                let then = build.steps.get(comparison.earlier(at)?)?;
                let now = &self.now[at].step;
                let same = then.digest == now.digest
                    && then.keys.iter().flatten().any(|key| now.keys.iter().flatten().any(|other| other == key));
                then.inputs.get(number).filter(|_| same)?.content
            });
            if let Some(input) = self.now[at].step.inputs.get_mut(number)
                && input.content.is_none()
            {
                input.content = found;
            }
        }
    }
}
