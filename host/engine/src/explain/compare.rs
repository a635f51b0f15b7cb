//! How a build differs from an earlier one, step by step. Two steps are compared by what the solver looked them up by: what they do, what they read, and
//! the keys of what they stand on. Where such a key is another the answer lies below, so the difference is followed down to the steps that have it.
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use rhost_llb::VertexDigest;
use rhost_rootfs::Owner;
use rhost_solver::Answer;

use super::align::{Place, pair};
use super::cause::{Cause, Values, Why};
use super::files::{File, decode, differences};
use super::parts::{Part, PartKind};
use super::record::{Build, Input, Step};

/// Causes of one step that are told apart.
const MOST: usize = 1000;

/// A step of the build that is under way.
#[derive(Debug, Clone)]
pub struct NowStep {
    /// Which vertex.
    pub vertex: VertexDigest,
    /// What will be kept of it.
    pub step: Step,
    /// How the cache answered; `None` while it was not looked up.
    pub seen: Option<Answer>,
    /// It was run.
    pub began: bool,
    /// The cache was not to be asked for it.
    pub ignored: bool,
    /// It stands on something that was made anew on purpose.
    pub forced: bool,
    /// Its keys mean nothing later.
    pub volatile: bool,
}

/// What was read in the build that is under way.
pub trait Reads {
    /// The files under the content digest that begins with `content`.
    fn list(&self, content: u64) -> Option<Vec<File>>;
    /// The digest that one of them would have with another mode and owner.
    fn as_before(&self, content: u64, path: &[u8], mode: u32, owner: Owner) -> Option<u64>;
}

/// Both builds.
#[derive(Clone, Copy)]
pub struct Both<'a> {
    /// This build's steps, each after those that it stands on.
    pub now: &'a [NowStep],
    /// The earlier one.
    pub then: &'a Build,
    /// The files that it read.
    pub lists: &'a BTreeMap<u64, Vec<u8>>,
    /// Whether `--build-arg` sets a variable, now or then.
    pub arguments: &'a dyn Fn(&str) -> bool,
    /// The files that this one reads.
    pub reads: &'a dyn Reads,
}

/// This build beside an earlier one, as far as it was compared.
pub struct Comparison {
    /// For each step of this build the one that it was.
    pairs: Vec<Option<usize>>,
    known: HashMap<usize, Arc<[Cause]>>,
}

/// A comparison under way.
struct Beside<'a> {
    now: &'a [NowStep],
    then: &'a Build,
    lists: &'a BTreeMap<u64, Vec<u8>>,
    arguments: &'a dyn Fn(&str) -> bool,
    reads: &'a dyn Reads,
    pairs: &'a [Option<usize>],
    known: &'a mut HashMap<usize, Arc<[Cause]>>,
}

impl Comparison {
    /// Lays the steps of `now` beside those of `then`. They may not be looked up yet: only their names count.
    pub fn new(now: &[NowStep], then: &Build) -> Self {
        let mine: Vec<&Step> = now.iter().map(|now| &now.step).collect();
        Self { pairs: pair(&mine, &then.steps.iter().collect::<Vec<_>>()), known: HashMap::new() }
    }

    /// The number of the earlier step that step `at` was.
    pub fn earlier(&self, at: usize) -> Option<usize> {
        *self.pairs.get(at)?
    }

    /// Why step `at` is not the earlier one; empty where nothing differs. `None` where there was no such step.
    pub fn causes(&mut self, at: usize, both: Both<'_>) -> Option<Arc<[Cause]>> {
        self.earlier(at)?;
        let Both { now, then, lists, arguments, reads } = both;
        let beside = Beside { now, then, lists, arguments, reads, pairs: &self.pairs, known: &mut self.known };
        // What differs below comes first, without recursion: steps stand on those of smaller numbers.
        let (mut wanted, mut stack) = (BTreeSet::new(), vec![at]);
        while let Some(step) = stack.pop() {
            if !beside.known.contains_key(&step) && wanted.insert(step) {
                stack.extend(beside.below(step));
            }
        }
        for step in wanted {
            let causes = beside.compare(step);
            beside.known.insert(step, causes.into());
        }
        self.known.get(&at).cloned()
    }
}

impl<'a> Beside<'a> {
    fn earlier(&self, at: usize) -> Option<&'a Step> {
        self.then.steps.get((*self.pairs.get(at)?)?)
    }

    /// Inputs of both, in pairs.
    fn inputs(&self, at: usize) -> Vec<(&'a Input, &'a Input)> {
        let Some(then) = self.earlier(at) else { return Vec::new() };
        self.now[at].step.inputs.iter().zip(&then.inputs).collect()
    }

    /// Steps that `at` stands on and that explain it.
    fn below(&self, at: usize) -> Vec<usize> {
        let differs = self.inputs(at).into_iter().filter(|(now, then)| self.is_upstream(at, now, then));
        differs.filter(|(now, then)| self.pairs[now.step] == Some(then.step)).map(|(now, _)| now.step).collect()
    }

    /// Whether the difference of an input lies in the step that made it.
    fn is_upstream(&self, at: usize, now: &Input, then: &Input) -> bool {
        if now.content.is_some() && then.content.is_some() {
            return false;
        }
        let keys = |steps: &Step, output: usize| steps.keys.get(output).cloned().unwrap_or_default();
        let Some(before) = self.then.steps.get(then.step) else { return true };
        let before = keys(before, then.output);
        let below = &self.now[now.step];
        let same = keys(&below.step, now.output).iter().any(|key| before.contains(key));
        !same || (self.now[at].forced && (below.ignored || below.forced))
    }

    fn compare(&self, at: usize) -> Vec<Cause> {
        let (now, Some(then)) = (&self.now[at], self.earlier(at)) else { return Vec::new() };
        if now.ignored {
            return vec![Cause::own(Why::NoCache)];
        }
        if now.step.source {
            return origin(&now.step, then).into_iter().map(Cause::own).collect();
        }
        let mut causes: Vec<Cause> = Vec::new();
        let differing = differing(&now.step.parts, &then.parts);
        let (soft, hard): (Vec<_>, Vec<_>) = differing.into_iter().partition(|(kind, ..)| kind.is_soft());
        let hard: Vec<_> = if now.step.digest == then.digest { Vec::new() } else { hard };
        let mut add = |why: Why| {
            let cause = Cause::own(why);
            if causes.len() < MOST && !causes.contains(&cause) {
                causes.push(cause);
            }
        };
        let part = |(part, name, values): &(PartKind, String, Values)| {
            let argument = *part == PartKind::Environment && (self.arguments)(name);
            Why::Part { part: *part, name: name.clone(), argument, values: values.clone() }
        };
        let kinds: Vec<PartKind> = hard.iter().map(|(kind, ..)| *kind).collect();
        let mut other = Vec::new();
        for (input, (mine, theirs)) in self.inputs(at).into_iter().enumerate() {
            match (mine.content, theirs.content) {
                (Some(a), Some(b)) if a == b => {}
                (Some(a), Some(b)) => {
                    // What is read elsewhere is another thing altogether.
                    let moved: Vec<Why> = soft.iter().map(part).collect();
                    let renamed = kinds.contains(&PartKind::Source);
                    if !moved.is_empty() {
                        moved.into_iter().for_each(&mut add);
                    } else if !renamed {
                        self.files(mine.step, a, b).into_iter().for_each(&mut add);
                    }
                }
                _ if self.is_upstream(at, mine, theirs) => other.push((input, mine, theirs)),
                _ => {}
            }
        }
        hard.iter().filter(|(kind, ..)| !kind.is_implied(&kinds)).map(part).for_each(&mut add);
        if now.step.digest != then.digest && hard.is_empty() {
            add(Why::Key);
        }
        for (_, mine, theirs) in other {
            let name = &self.now[mine.step].step.name;
            let found = match (self.pairs[mine.step], self.then.steps.get(theirs.step)) {
                (Some(pair), Some(_)) if pair == theirs.step => {
                    let below = self.known.get(&mine.step).cloned().unwrap_or_default();
                    match below.is_empty() {
                        true if self.now[mine.step].forced || self.now[mine.step].ignored => {
                            vec![Cause::own(Why::NoCache)]
                        }
                        true => vec![Cause::own(Why::Anew)],
                        false => below.to_vec(),
                    }
                }
                (None, _) => vec![Cause::own(Why::NewStep)],
                (_, Some(before)) if !self.pairs.contains(&Some(theirs.step)) => {
                    causes.push(Cause::own(Why::RemovedStep { removed: before.name.clone() }));
                    continue;
                }
                (_, before) => {
                    let before = before.map(|step| step.name.clone()).unwrap_or_default();
                    causes.push(Cause::own(Why::OtherStep { before }));
                    continue;
                }
            };
            for cause in found.iter().map(|cause| cause.seen_from_above(name)) {
                // What is the step's own as well, as a variable of its stage, is said once.
                let known =
                    causes.iter().any(|known| *known == cause || (known.step.is_none() && known.why == cause.why));
                if causes.len() < MOST && !known {
                    causes.push(cause);
                }
            }
        }
        causes
    }

    fn files(&self, from: usize, now: u64, then: u64) -> Vec<Why> {
        let step = &self.now[from].step;
        let is_local = step.parts.iter().any(|part| {
            part.kind == PartKind::Origin && part.text.as_deref().is_some_and(|text| text.starts_with("local://"))
        });
        // A context that was fetched is a context, too.
        let is_context = is_local || (step.source && Place::of(&step.name).stage == "internal");
        let of = (!is_context).then(|| step.name.clone());
        let lists = self.lists.get(&then).and_then(|bytes| decode(bytes)).zip(self.reads.list(now));
        let found = lists.map(|(before, after)| {
            let as_before = |path: &[u8], mode: u32, owner: Owner| self.reads.as_before(now, path, mode, owner);
            differences(&before, &after, &as_before)
        });
        match found {
            Some(found) if !found.is_empty() => {
                found.into_iter().take(MOST).map(|change| Why::File { change, of: of.clone() }).collect()
            }
            _ => vec![Why::Content { of }],
        }
    }
}

/// Parts that differ.
pub(super) fn differing(now: &[Part], then: &[Part]) -> Vec<(PartKind, String, Values)> {
    type Named<'p> = BTreeMap<(PartKind, &'p str, usize), &'p Part>;
    fn named(parts: &[Part]) -> Named<'_> {
        let mut found: Named<'_> = BTreeMap::new();
        for part in parts {
            // Of several with one name the first is the first.
            let mut number = 0;
            while found.contains_key(&(part.kind, part.name.as_str(), number)) {
                number += 1;
            }
            found.insert((part.kind, &part.name, number), part);
        }
        found
    }
    let (before, after) = (named(then), named(now));
    let mut found = Vec::new();
    for ((kind, name, number), part) in &after {
        let values = match before.get(&(*kind, *name, *number)) {
            Some(old) if old.digest == part.digest => continue,
            Some(old) => Values::Changed { from: old.text.clone(), to: part.text.clone() },
            None => Values::Added { to: part.text.clone() },
        };
        found.push((*kind, (*name).to_owned(), values));
    }
    for (key, old) in before.iter().filter(|(key, _)| !after.contains_key(*key)) {
        found.push((key.0, key.1.to_owned(), Values::Removed { from: old.text.clone() }));
    }
    found
}

/// What of a source is not what it was.
fn origin(now: &Step, then: &Step) -> Vec<Why> {
    let text = |step: &Step, kind: PartKind| {
        step.parts.iter().find(|part| part.kind == kind).and_then(|part| part.text.clone()).unwrap_or_default()
    };
    let (from, to) = (text(then, PartKind::Origin), text(now, PartKind::Origin));
    let (old, new) = (text(then, PartKind::Platform), text(now, PartKind::Platform));
    let mut found = Vec::new();
    let unpinned = |text: &str| text.split('@').next().unwrap_or_default().to_owned();
    if old != new {
        let values = Values::Changed { from: Some(old), to: Some(new) };
        found.push(Why::Part { part: PartKind::Platform, name: String::new(), argument: false, values });
    }
    // Of another platform it has another digest, too.
    if now.digest != then.digest && (found.is_empty() || unpinned(&from) != unpinned(&to)) {
        let version = |step: &Step| Some(text(step, PartKind::Version)).filter(|version| !version.is_empty());
        found.push(Why::Origin { from, to, was: version(then), is: version(now) });
    }
    found
}
