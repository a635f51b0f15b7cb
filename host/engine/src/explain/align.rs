//! Which step of an earlier build is which of this one. Instructions are put in and taken out, so it is not the number that tells: within a stage the steps
//! of both builds are laid side by side as lines of text are by diff(1), and what stands between equal ones and does the same kind of thing is taken for
//! one step that was edited.
use std::collections::{HashMap, HashSet};

use super::record::Step;

/// Products of lengths above this are paired from both ends only.
const LARGEST: usize = 4 << 20;

/// Where a step stands and what it says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The platform, where the name has one.
    pub platform: String,
    /// The stage; empty where there is one without a name.
    pub stage: String,
    /// What stands in front of the instruction, with its brackets; else empty.
    pub label: String,
    /// The instruction.
    pub text: String,
}

impl Place {
    /// Of a progress name: `[PLATFORM STAGE N/M] TEXT`, all but the text optional.
    pub fn of(name: &str) -> Self {
        let split = name.strip_prefix('[').and_then(|rest| rest.split_once("] "));
        let Some((inside, text)) = split else {
            return Self { platform: String::new(), stage: String::new(), label: String::new(), text: name.to_owned() };
        };
        let mut words: Vec<&str> = inside.split_whitespace().collect();
        let is_number = |word: &&str| {
            let number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
            word.split_once('/').is_some_and(|(at, of)| number(at) && number(of))
        };
        if words.last().is_some_and(|word| is_number(&word)) {
            words.pop();
        }
        let platform = match words.first() {
            Some(word) if word.contains('/') => words.remove(0).to_owned(),
            _ => String::new(),
        };
        Self { platform, stage: words.join(" "), label: format!("[{inside}]"), text: text.to_owned() }
    }
}

/// `text` without what says which image a name stands for today.
fn unpinned(text: &str) -> String {
    match text.split_once("@sha256:") {
        Some((before, after)) => {
            let rest = after.trim_start_matches(|c: char| c.is_ascii_hexdigit());
            format!("{before}{rest}")
        }
        None => text.to_owned(),
    }
}

struct Line {
    step: usize,
    text: String,
    /// What kind of thing it does.
    word: String,
}

type Group = (String, String);

fn groups(steps: &[&Step]) -> (Vec<Group>, HashMap<Group, Vec<Line>>) {
    let (mut order, mut lines): (Vec<Group>, HashMap<Group, Vec<Line>>) = Default::default();
    for (number, step) in steps.iter().enumerate() {
        let place = Place::of(&step.name);
        let text = if step.code.is_empty() { unpinned(&place.text) } else { step.code.clone() };
        let word = text.split_whitespace().next().unwrap_or_default().to_owned();
        let group = (place.platform, place.stage);
        let known = lines.entry(group.clone()).or_insert_with(|| {
            order.push(group);
            Vec::new()
        });
        known.push(Line { step: number, text, word });
    }
    (order, lines)
}

/// For each step of `now` the one of `then` that it was.
pub fn pair(now: &[&Step], then: &[&Step]) -> Vec<Option<usize>> {
    let mut pairs = vec![None; now.len()];
    let ((order, mine), (other_order, mut others)) = (groups(now), groups(then));
    let mut left = Vec::new();
    for group in order {
        match others.remove(&group) {
            Some(theirs) => lay_side_by_side(&mine[&group], &theirs, Stage::Same, &mut pairs),
            None => left.push(group),
        }
    }
    // A stage of another platform, or of another name: in the order in which they stand.
    let mut free: Vec<Group> = other_order.into_iter().filter(|group| others.contains_key(group)).collect();
    for by_name in [true, false] {
        left.retain(|group| {
            let at =
                free.iter().position(|other| other.1 == group.1 || (!by_name && is_stage(group) && is_stage(other)));
            let Some(theirs) = at.and_then(|at| others.remove(&free.remove(at))) else { return true };
            lay_side_by_side(&mine[group], &theirs, Stage::Other, &mut pairs);
            false
        });
    }
    pairs
}

fn is_stage((_, name): &Group) -> bool {
    !matches!(name.as_str(), "internal" | "auth")
}

/// Whether two rows of lines are known to be of one stage.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Same,
    Other,
}

/// Whether one line could be the other, edited: they share three words of ten, the first not counted.
fn is_like(a: &Line, b: &Line) -> bool {
    let words = |line: &Line| line.text.split_whitespace().skip(1).map(str::to_owned).collect::<HashSet<_>>();
    let (a, b) = (words(a), words(b));
    a.intersection(&b).count() * 10 >= a.union(&b).count() * 3
}

fn lay_side_by_side(now: &[Line], then: &[Line], stage: Stage, pairs: &mut [Option<usize>]) {
    let same = |a: &Line, b: &Line| a.text == b.text;
    let head = now.iter().zip(then).take_while(|(a, b)| same(a, b)).count();
    let tail = now[head..].iter().rev().zip(then[head..].iter().rev()).take_while(|(a, b)| same(a, b)).count();
    let mut put = |a: &Line, b: &Line| pairs[a.step] = Some(b.step);
    now.iter().zip(then).take(head).for_each(|(a, b)| put(a, b));
    now.iter().rev().zip(then.iter().rev()).take(tail).for_each(|(a, b)| put(a, b));
    let (now, then) = (&now[head..now.len() - tail], &then[head..then.len() - tail]);
    let mut common = if now.len().saturating_mul(then.len()) <= LARGEST { longest(now, then) } else { Vec::new() };
    common.iter().for_each(|(a, b)| put(&now[*a], &then[*b]));
    common.push((now.len(), then.len()));
    let (mut a, mut b) = (0, 0);
    for (next_a, next_b) in common {
        // Between two that are equal: as many of a kind as there were are the same ones; of more or fewer the like ones are.
        let mut free: Vec<&Line> = then[b..next_b].iter().collect();
        let is_kind = |line: &Line, other: &Line| other.word.eq_ignore_ascii_case(&line.word);
        let count = |lines: &[Line], line: &Line| lines.iter().filter(|other| is_kind(line, other)).count();
        for line in &now[a..next_a] {
            let as_many = stage == Stage::Same && count(&now[a..next_a], line) == count(&then[b..next_b], line);
            let was = |other: &&Line| is_kind(line, other) && (as_many || is_like(line, other));
            if let Some(at) = free.iter().position(was) {
                put(line, free.remove(at));
            }
        }
        (a, b) = (next_a + 1, next_b + 1);
    }
}

/// The longest sequence of equal lines of both, by their places.
fn longest(now: &[Line], then: &[Line]) -> Vec<(usize, usize)> {
    let width = then.len() + 1;
    let mut lengths = vec![0u32; (now.len() + 1) * width];
    for a in (0..now.len()).rev() {
        for b in (0..then.len()).rev() {
            lengths[a * width + b] = match now[a].text == then[b].text {
                true => lengths[(a + 1) * width + b + 1] + 1,
                false => lengths[(a + 1) * width + b].max(lengths[a * width + b + 1]),
            };
        }
    }
    let (mut found, mut a, mut b) = (Vec::new(), 0, 0);
    while a < now.len() && b < then.len() {
        if now[a].text == then[b].text {
            found.push((a, b));
            (a, b) = (a + 1, b + 1);
        } else if lengths[(a + 1) * width + b] >= lengths[a * width + b + 1] {
            a += 1;
        } else {
            b += 1;
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::super::record::State;
    use super::*;

    fn steps(names: &[&str]) -> Vec<Step> {
        let step = |name: &&str| Step {
            name: (*name).into(),
            code: String::new(),
            line: 0,
            source: false,
            digest: 0,
            keys: Vec::new(),
            parts: Vec::new(),
            inputs: Vec::new(),
            state: State::Ran,
            snapshot: None,
        };
        names.iter().map(step).collect()
    }

    fn told(now: &[&str], then: &[&str]) -> Vec<Option<usize>> {
        let (now, then) = (steps(now), steps(then));
        pair(&now.iter().collect::<Vec<_>>(), &then.iter().collect::<Vec<_>>())
    }

    #[test]
    fn names_are_taken_apart() {
        let place = Place::of("[linux/arm64->amd64 build  3/12] RUN make");
        assert_eq!((place.platform.as_str(), place.stage.as_str()), ("linux/arm64->amd64", "build"));
        assert_eq!((place.label.as_str(), place.text.as_str()), ("[linux/arm64->amd64 build  3/12]", "RUN make"));
        assert_eq!(Place::of("[2/3] COPY a b").stage, "");
        assert_eq!(Place::of("[internal] load build context").stage, "internal");
        assert_eq!(Place::of("make [all] x").text, "make [all] x");
    }

    #[test]
    fn an_edited_step_is_the_one_it_was_and_a_new_one_is_new() {
        let then = ["[1/4] FROM a@sha256:00ff", "[2/4] COPY p .", "[3/4] RUN one", "[4/4] RUN two"];
        assert_eq!(told(&then, &then), [Some(0), Some(1), Some(2), Some(3)]);
        let edited = ["[1/4] FROM a@sha256:1234", "[2/4] COPY p .", "[3/4] RUN other", "[4/4] RUN two"];
        assert_eq!(told(&edited, &then), [Some(0), Some(1), Some(2), Some(3)]);
        let more = ["[1/5] FROM a", "[2/5] RUN new", "[3/5] COPY p .", "[4/5] RUN one", "[5/5] RUN two"];
        assert_eq!(told(&more, &then), [Some(0), None, Some(1), Some(2), Some(3)]);
        let fewer = ["[1/3] FROM a", "[2/3] COPY p .", "[3/3] RUN two"];
        assert_eq!(told(&fewer, &then), [Some(0), Some(1), Some(3)]);
    }

    #[test]
    fn stages_are_found_again_under_another_name_or_platform() {
        let then = ["[build 1/2] FROM a", "[build 2/2] RUN make", "[stage-1 1/1] COPY --from=build /x /"];
        let renamed = ["[maker 1/2] FROM a", "[maker 2/2] RUN make", "[stage-1 1/1] COPY --from=maker /x /"];
        assert_eq!(told(&renamed, &then), [Some(0), Some(1), Some(2)]);
        let other = ["[1/3] FROM a", "[2/3] RUN nothing alike", "[3/3] RUN two"];
        assert_eq!(
            told(&other, &["[1/4] FROM a", "[2/4] RUN x", "[3/4] RUN y", "[4/4] RUN two"]),
            [Some(0), None, Some(3)]
        );
        let several = ["[linux/amd64 build 1/2] FROM a", "[linux/amd64 build 2/2] RUN make"];
        assert_eq!(told(&several, &then), [Some(0), Some(1)]);
        assert_eq!(told(&["[internal] load"], &["[2/2] RUN x"]), [None]);
    }
}
