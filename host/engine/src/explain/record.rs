//! What is kept of a build for the next ones: its steps with all by which they were looked up. JSON for what is small, then the lists of files, each once.
//!
//! Whatever is wrong with the bytes makes them none, and no index in them is trusted.
use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::parts::Part;

/// The layout; another one is read as none.
const LAYOUT: u32 = 1;
/// Builds that are kept, the newest first.
const BUILDS: usize = 8;
/// Of large ones fewer: so many steps in all, but two builds.
const STEPS: usize = 4000;
/// Bytes that the lists of files of older builds may take with those of newer ones.
const LISTS: usize = 8 << 20;

/// How it went with a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// The cache had it.
    Cached,
    /// It ran.
    Ran,
    /// It ran and failed.
    Failed,
    /// The build ended before it did.
    Unfinished,
}

/// What a step stands on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Input {
    /// Which step of the same build: a smaller number than its own.
    #[serde(rename = "s")]
    pub step: usize,
    /// Which of its outputs.
    #[serde(rename = "o", default, skip_serializing_if = "is_zero")]
    pub output: usize,
    /// What was read of it, as far as that counts and was asked; names a list of files, too.
    #[serde(rename = "c", default, skip_serializing_if = "Option::is_none")]
    pub content: Option<u64>,
}

fn is_zero(number: &usize) -> bool {
    *number == 0
}

/// One step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// As progress names it.
    #[serde(rename = "n")]
    pub name: String,
    /// Its instruction as it is written, where that is known.
    #[serde(rename = "i", default, skip_serializing_if = "String::is_empty")]
    pub code: String,
    /// Its line in the build file; 0 is unknown.
    #[serde(rename = "l", default)]
    pub line: u32,
    /// It brings something from outside.
    #[serde(rename = "x", default, skip_serializing_if = "std::ops::Not::not")]
    pub source: bool,
    /// Digest of what it does.
    #[serde(rename = "d")]
    pub digest: u64,
    /// The keys of each output.
    #[serde(rename = "k")]
    pub keys: Vec<Vec<u64>>,
    /// What it does.
    #[serde(rename = "p")]
    pub parts: Vec<Part>,
    /// What it stands on.
    #[serde(rename = "s")]
    pub inputs: Vec<Input>,
    /// How it went.
    #[serde(rename = "r")]
    pub state: State,
    /// The snapshot of its first output.
    #[serde(rename = "o", default, skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<i64>,
}

/// One build.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Build {
    /// When it ended, in Unix seconds.
    pub at: i64,
    /// The context's directory.
    pub context: String,
    /// Which frontend.
    pub frontend: String,
    /// Names of build arguments that were given.
    pub arguments: BTreeSet<String>,
    /// Each after those it stands on.
    pub steps: Vec<Step>,
}

/// Earlier builds, the newest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct History {
    /// The builds.
    pub builds: Vec<Build>,
    /// Lists of files by what names them.
    pub lists: BTreeMap<u64, Vec<u8>>,
}

#[derive(Serialize, Deserialize)]
struct Head {
    layout: u32,
    builds: Vec<Build>,
    lists: Vec<u64>,
}

impl History {
    /// Adds `build`, and forgets those that are too many. One that did not come to its end does not push out the last one that did.
    pub fn add(&mut self, build: Build, lists: BTreeMap<u64, Vec<u8>>) {
        self.builds.insert(0, build);
        self.lists.extend(lists);
        let steps = |builds: &[Build]| builds.iter().map(|build| build.steps.len()).sum::<usize>();
        while self.builds.len() > BUILDS || (self.builds.len() > 2 && steps(&self.builds) > STEPS) {
            let whole = |build: &Build| build.steps.iter().all(|s| matches!(s.state, State::Ran | State::Cached));
            let newest_whole = self.builds.iter().position(whole).unwrap_or(0);
            let last = if newest_whole == self.builds.len() - 1 { newest_whole - 1 } else { self.builds.len() - 1 };
            self.builds.remove(last);
        }
        let (mut kept, mut size) = (BTreeMap::new(), 0);
        for (age, build) in self.builds.iter().enumerate() {
            for content in build.steps.iter().flat_map(|step| &step.inputs).filter_map(|input| input.content) {
                if let Some(list) = self.lists.remove(&content) {
                    size += list.len();
                    if age == 0 || size <= LISTS {
                        kept.insert(content, list);
                    }
                }
            }
        }
        self.lists = kept;
    }

    /// Each part with its length before it: the head, then the lists in its order.
    pub fn encode(&self) -> Option<Vec<u8>> {
        let lists = self.lists.keys().copied().collect();
        let head = Head { layout: LAYOUT, builds: self.builds.clone(), lists };
        let head = serde_json::to_vec(&head).ok()?;
        let mut out = Vec::new();
        for part in std::iter::once(&head).chain(self.lists.values()) {
            out.extend(u32::try_from(part.len()).ok()?.to_le_bytes());
            out.extend(part);
        }
        Some(out)
    }

    /// `None` for what another version has written, or nobody.
    pub fn decode(mut bytes: &[u8]) -> Option<Self> {
        let mut part = || {
            let (length, rest) = bytes.split_first_chunk()?;
            let (part, rest) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
            bytes = rest;
            Some(part)
        };
        let head: Head = serde_json::from_slice(part()?).ok()?;
        if head.layout != LAYOUT || head.builds.len() > 2 * BUILDS {
            return None;
        }
        let lists = head.lists.iter().map(|name| Some((*name, part()?.to_vec()))).collect::<Option<_>>()?;
        let ordered = |build: &Build| {
            build.steps.iter().enumerate().all(|(at, step)| step.inputs.iter().all(|input| input.step < at))
        };
        (bytes.is_empty() && head.builds.iter().all(ordered)).then_some(Self { builds: head.builds, lists })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    pub fn history() -> History {
        let step = |name: &str, inputs: Vec<Input>| Step {
            name: name.into(),
            code: String::new(),
            line: 3,
            source: inputs.is_empty(),
            digest: 7,
            keys: vec![vec![1, u64::MAX]],
            parts: Vec::new(),
            inputs,
            state: State::Ran,
            snapshot: Some(9),
        };
        let inputs = vec![Input { step: 0, output: 1, content: Some(5) }];
        let build = Build {
            at: 1,
            context: "/c".into(),
            frontend: "f".into(),
            arguments: BTreeSet::new(),
            steps: vec![step("[1/2] FROM x", Vec::new()), step("[2/2] RUN y", inputs)],
        };
        let mut history = History::default();
        history.add(build, BTreeMap::from([(5, vec![1, 2, 3]), (6, vec![4])]));
        history
    }

    #[test]
    fn it_is_read_as_written_and_nothing_else_is() {
        let history = history();
        assert_eq!(history.lists.len(), 1, "a list that nobody names is not kept");
        let bytes = history.encode().expect("small");
        assert_eq!(History::decode(&bytes), Some(history.clone()));
        for length in 0..bytes.len() {
            assert_eq!(History::decode(&bytes[..length]), None, "{length} bytes");
        }
        assert_eq!(History::decode(&[bytes.as_slice(), &[0]].concat()), None);
        let mut circular = history;
        circular.builds[0].steps[0].inputs = vec![Input { step: 1, output: 0, content: None }];
        assert_eq!(History::decode(&circular.encode().expect("small")), None, "a step that stands on a later one");
    }

    #[test]
    fn a_build_that_failed_does_not_push_out_the_last_whole_one() {
        let mut all = history();
        let whole = all.builds[0].clone();
        for at in 2..19 {
            let mut failed = whole.clone();
            failed.at = at;
            failed.steps[1].state = State::Failed;
            all.add(failed, BTreeMap::new());
        }
        let times: Vec<i64> = all.builds.iter().map(|build| build.at).collect();
        assert_eq!(times, [18, 17, 16, 15, 14, 13, 12, 1]);
        assert_eq!(all.lists.len(), 1);
    }

    proptest! {
        #[test]
        fn hostile_bytes_are_none_or_well_formed(at in 0usize..400, byte: u8, tail in proptest::collection::vec(any::<u8>(), 0..40)) {
            let mut bytes = history().encode().expect("small");
            let at = at % bytes.len();
            bytes[at] = byte;
            bytes.extend(tail);
            if let Some(read) = History::decode(&bytes) {
                prop_assert!(read.builds.iter().all(|b| b.steps.iter().enumerate().all(|(n, s)| s.inputs.iter().all(|i| i.step < n))));
            }
        }
    }
}
