//! Small graphs as text: `name = label input… [!content] [!ignore] [!fail] [!volatile] [!tick] [!holds:TEXT]`; the last line is the target.
//! `!tick` gives another result each time it runs, `!holds:TEXT` gives exactly that, `!meet` waits until three run at once, `!gone` cannot tell contents
//! once [`Bed::gone`] is set.
use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use rhost_llb::{Digest, VertexDigest};
use rhost_solver::{
    CacheMap, CacheMapInput, CacheStore, Edge, Graph, GraphError, MemoryCache, Op, OpError, Ports, SolveError, Solver,
    Turn, Turns, Vertex,
};

use tokio::sync::Barrier;

type Runs = Arc<Mutex<BTreeMap<String, usize>>>;

struct TextOp {
    label: String,
    inputs: usize,
    flags: Vec<String>,
    runs: Runs,
    ticks: Arc<AtomicUsize>,
    meeting: Arc<Barrier>,
    gone: Arc<AtomicBool>,
}

#[derive(Debug, thiserror::Error)]
#[error("{0} failed")]
struct Failed(String);

impl TextOp {
    fn has(&self, flag: &str) -> bool {
        self.flags.iter().any(|f| f == flag)
    }
}

#[async_trait]
impl Op<String> for TextOp {
    fn outputs(&self) -> usize {
        1
    }
    async fn cache_map(&self) -> Result<CacheMap, OpError> {
        let input = CacheMapInput { selector: None, by_content: self.has("!content") };
        Ok(CacheMap {
            digest: Digest::of(&self.label),
            inputs: vec![input; self.inputs],
            volatile: self.has("!volatile"),
        })
    }
    async fn content_key(&self, _: usize, output: &String) -> Result<Digest, OpError> {
        if self.has("!gone") && self.gone.load(Ordering::Relaxed) {
            return Err(OpError::new(Failed(self.label.clone())));
        }
        Ok(Digest::of(output))
    }
    async fn run(&self, inputs: &[String]) -> Result<Vec<String>, OpError> {
        tokio::task::yield_now().await;
        *self.runs.lock().expect("no panic").entry(self.label.clone()).or_default() += 1;
        if self.has("!meet") {
            self.meeting.wait().await;
        }
        if self.has("!fail") {
            return Err(OpError::new(Failed(self.label.clone())));
        }
        if let Some(text) = self.flags.iter().find_map(|flag| flag.strip_prefix("!holds:")) {
            return Ok(vec![text.to_owned()]);
        }
        if self.has("!tick") {
            return Ok(vec![format!("{}{}", self.label, self.ticks.fetch_add(1, Ordering::SeqCst) + 1)]);
        }
        // `same*` labels all hold the same content.
        let label = if self.label.starts_with("same") { "same" } else { &self.label };
        let text = format!("{label}({})", inputs.join(","));
        // A long chain's text would grow with its square.
        Ok(vec![if text.len() > 200 { Digest::of(text).to_string() } else { text }])
    }
}

pub struct Bed {
    pub cache: Arc<MemoryCache<String>>,
    runs: Runs,
    ticks: Arc<AtomicUsize>,
    meeting: Arc<Barrier>,
    /// Whether what `!gone` reads is no longer there.
    pub gone: Arc<AtomicBool>,
}

impl Bed {
    pub fn new() -> Self {
        let meeting = Arc::new(Barrier::new(3));
        Self { cache: Arc::default(), runs: Runs::default(), ticks: Arc::default(), meeting, gone: Arc::default() }
    }

    pub fn graph(&self, text: &str) -> (Graph<String>, Edge) {
        let mut digests = BTreeMap::new();
        let (mut vertices, mut target) = (Vec::new(), None);
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
            let (name, rest) = line.split_once(" = ").expect("name = label …");
            let mut words = rest.split(' ');
            let label = words.next().expect("label").to_owned();
            let (flags, inputs): (Vec<_>, Vec<_>) = words.map(str::to_owned).partition(|word| word.starts_with('!'));
            let digest = VertexDigest(Digest::of(line));
            let inputs: Vec<_> =
                inputs.iter().map(|input| Edge { vertex: digests[input.as_str()], output: 0 }).collect();
            let ignore_cache = flags.iter().any(|flag| flag == "!ignore");
            let (runs, ticks, meeting) = (self.runs.clone(), self.ticks.clone(), self.meeting.clone());
            let gone = self.gone.clone();
            let op = TextOp { label, inputs: inputs.len(), flags, runs, ticks, meeting, gone };
            vertices.push(Vertex { digest, op: Arc::new(op), inputs, ignore_cache });
            digests.insert(name, digest);
            target = Some(Edge { vertex: digest, output: 0 });
        }
        (Graph::new(vertices).expect("valid"), target.expect("a line"))
    }

    async fn solve(&self, text: &str) -> Result<String, SolveError> {
        let (graph, target) = self.graph(text);
        let solver = Solver::new(self.cache.clone(), NonZeroUsize::MIN, |_| {});
        Ok(solver.solve(&graph, &[target]).await?.remove(0))
    }

    /// What ran since the last call.
    pub fn ran(&self) -> String {
        let runs = std::mem::take(&mut *self.runs.lock().expect("no panic"));
        runs.iter().map(|(label, count)| format!("{label}×{count}")).collect::<Vec<_>>().join(" ")
    }
}

async fn check(builds: &[(&str, &str)]) {
    let bed = Bed::new();
    for (text, wanted) in builds {
        bed.solve(text).await.expect("solves");
        assert_eq!(bed.ran(), *wanted, "after {text}");
    }
}

#[tokio::test]
async fn a_diamond_runs_each_vertex_once_and_then_never() {
    let diamond = "a = base\nb = left a\nc = right a\nd = join b c";
    check(&[(diamond, "base×1 join×1 left×1 right×1"), (diamond, "")]).await;
}

#[tokio::test]
async fn equal_keys_of_different_vertices_are_one_run() {
    // Two lines, two vertex digests, one operation.
    check(&[("a = base\nb = make a\nc =  make a\nd = join b c".replace("=  ", "= ").as_str(), "base×1 join×1 make×1")])
        .await;
}

#[tokio::test]
async fn another_definition_with_the_same_content_is_a_hit() {
    check(&[
        ("a = same1\nb = use a !content", "same1×1 use×1"),
        ("a = same2\nb = use a !content", "same2×1"),
        ("a = same3\nb = use a", "same3×1 use×1"),
    ])
    .await;
}

#[tokio::test]
async fn a_hit_by_content_lets_what_stands_on_it_hit_by_definition() {
    check(&[
        ("a = same1 !volatile\nb = copy a !content\nc = run b", "copy×1 run×1 same1×1"),
        ("a = same2 !volatile\nb = copy a !content\nc = run b", "same2×1"),
    ])
    .await;
}

#[tokio::test]
async fn nothing_is_recorded_under_a_volatile_key() {
    let bed = Bed::new();
    let text = "a = now !volatile\nb = use a";
    bed.solve(text).await.expect("solves");
    assert!(bed.cache.keys().is_empty());
    bed.ran();
    bed.solve(text).await.expect("solves");
    assert_eq!(bed.ran(), "now×1 use×1");
}

#[tokio::test]
async fn ignore_cache_runs_and_records_for_the_next() {
    check(&[
        ("a = base\nb = make a", "base×1 make×1"),
        ("a = base\nb = make a !ignore", "make×1"),
        ("a = base\nb = make a", ""),
    ])
    .await;
}

#[tokio::test]
async fn a_lost_result_is_a_miss() {
    let bed = Bed::new();
    let text = "a = base\nb = make a\nc = end b";
    bed.solve(text).await.expect("solves");
    for key in bed.cache.keys() {
        bed.cache.forget(key);
    }
    bed.ran();
    assert_eq!(bed.solve(text).await.expect("solves"), "end(make(base()))");
    assert_eq!(bed.ran(), "base×1 end×1 make×1");
}

/// Three stages, each copied by what they hold onto what the one before left: they do not wait for each other, whether they are new or made anew.
#[tokio::test]
async fn stages_that_are_copied_one_after_the_other_run_at_once() {
    for flags in ["!meet", "!meet !ignore"] {
        let bed = Bed::new();
        let text = format!(
            "base = base\na = a base {flags}\nb = b base {flags}\nc = c base {flags}\nx = copy1 base a !content\ny = copy2 x b !content\nz = copy3 y c !content"
        );
        for _ in 0..2 {
            let (graph, target) = bed.graph(&text);
            let solver = Solver::new(bed.cache.clone(), NonZeroUsize::new(4).expect("not 0"), |_| {});
            let solved =
                tokio::time::timeout(std::time::Duration::from_secs(60), solver.solve(&graph, &[target])).await;
            solved.expect("they wait for each other").expect("solves");
        }
        let again = if flags.contains("!ignore") { 2 } else { 1 };
        assert_eq!(bed.ran(), format!("a×{again} b×{again} base×1 c×{again} copy1×1 copy2×1 copy3×1"));
    }
}

#[tokio::test]
async fn a_failure_names_its_vertex_and_leaves_no_record() {
    let bed = Bed::new();
    let text = "a = base\nb = make a !fail\nc = end b";
    let (graph, _) = bed.graph(text);
    drop(graph);
    let error = bed.solve(text).await.expect_err("fails");
    let SolveError::Op { vertex, error } = error else { panic!("{error:?}") };
    assert_eq!(vertex, VertexDigest(Digest::of("b = make a !fail")));
    assert_eq!(error.to_string(), "make failed");
    assert_eq!(bed.cache.keys().len(), 1, "only base");
}

#[tokio::test]
async fn a_chain_of_twenty_thousand_needs_no_stack() {
    let bed = Bed::new();
    let mut text = String::from("v0 = l0\n");
    for i in 1..20_000 {
        text.push_str(&format!("v{i} = l{i} v{}\n", i - 1));
    }
    bed.solve(&text).await.expect("solves");
    bed.ran();
    bed.solve(&text).await.expect("solves");
    assert_eq!(bed.ran(), "");
}

#[test]
fn a_cycle_is_told_with_its_path() {
    let bed = Bed::new();
    let digest = |name: &str| VertexDigest(Digest::of(name));
    let vertex = |name: &str, input: &str| Vertex {
        digest: digest(name),
        op: Arc::new(TextOp {
            label: name.into(),
            inputs: 1,
            flags: vec![],
            runs: bed.runs.clone(),
            ticks: Arc::default(),
            meeting: bed.meeting.clone(),
            gone: Arc::default(),
        }) as Arc<dyn Op<String>>,
        inputs: vec![Edge { vertex: digest(input), output: 0 }],
        ignore_cache: false,
    };
    let Err(GraphError::Cycle(path)) = Graph::new([vertex("a", "b"), vertex("b", "c"), vertex("c", "a")]) else {
        panic!("a cycle")
    };
    assert_eq!((path.len(), path.first()), (4, path.last()));
    let Err(GraphError::MissingInput { .. }) = Graph::new([vertex("a", "b")]) else { panic!("b is missing") };
}

#[tokio::test]
async fn what_stands_on_a_forced_vertex_is_not_answered_by_what_stood_on_the_old_one() {
    let bed = Bed::new();
    let plain = "a = now !tick\nb = use a\nc = end b";
    assert_eq!(bed.solve(plain).await.expect("solves"), "end(use(now1))");
    assert_eq!(bed.ran(), "end×1 now×1 use×1");
    assert_eq!(bed.solve("a = now !tick !ignore\nb = use a\nc = end b").await.expect("solves"), "end(use(now2))");
    assert_eq!(bed.ran(), "end×1 now×1 use×1");
    assert_eq!(bed.solve(plain).await.expect("solves"), "end(use(now2))", "and that is what is remembered");
    assert_eq!(bed.ran(), "");
}

#[tokio::test]
async fn a_forced_vertex_that_holds_the_same_as_before_changes_nothing() {
    check(&[
        ("a = same1\nb = use a !content\nc = end b", "end×1 same1×1 use×1"),
        ("a = same1 !ignore\nb = use a !content\nc = end b", "same1×1"),
    ])
    .await;
}

#[tokio::test]
async fn a_replaced_result_is_not_found_by_the_old_content() {
    let bed = Bed::new();
    assert_eq!(bed.solve("a = now !tick\nb = use a !content").await.expect("solves"), "use(now1)");
    assert_eq!(bed.solve("a = now !tick !ignore\nb = use a !content").await.expect("solves"), "use(now2)");
    bed.ran();
    assert_eq!(bed.solve("a = other !holds:now1\nb = use a !content").await.expect("solves"), "use(now1)");
    assert_eq!(bed.ran(), "other×1 use×1");
    assert_eq!(bed.solve("a = another !holds:now2\nb = use a !content").await.expect("solves"), "use(now2)");
}

/// Turns that another process has: the first taker is refused, and finds the other's record when it has waited.
struct Elsewhere {
    cache: Arc<MemoryCache<String>>,
    records: bool,
    asked: AtomicUsize,
}

#[async_trait]
impl Turns for Elsewhere {
    fn take(&self, _: VertexDigest, _: Digest) -> Option<Turn> {
        (self.asked.fetch_add(1, Ordering::SeqCst) > 0).then(|| Box::new(()) as Turn)
    }

    async fn wait(&self, _: VertexDigest, key: Digest) {
        if self.records {
            self.cache.save(key, &[], &"made elsewhere".to_owned());
        }
    }
}

#[tokio::test]
async fn what_another_process_does_is_waited_for_and_taken_over_when_it_comes_to_nothing() {
    for (records, wanted, ran) in [(true, "made elsewhere", ""), (false, "base()", "base×1")] {
        let bed = Bed::new();
        let (graph, target) = bed.graph("a = base");
        let turns = Arc::new(Elsewhere { cache: bed.cache.clone(), records, asked: AtomicUsize::new(0) });
        let events = Arc::new(Mutex::new(String::new()));
        let told = events.clone();
        let solver = Solver::with(
            bed.cache.clone(),
            Ports { turns: turns.clone(), ..Ports::default() },
            NonZeroUsize::MIN,
            move |event| {
                let text = format!("{event:?}");
                told.lock().expect("no panic").push_str(&text[..text.find('(').expect("of a vertex")]);
            },
        );
        assert_eq!(solver.solve(&graph, &[target]).await.expect("solves"), [wanted]);
        assert_eq!(bed.ran(), ran);
        assert_eq!(*events.lock().expect("no panic"), "StartedCompleted");
        let again = solver.solve(&graph, &[target]).await.expect("solves");
        assert_eq!(
            (again[0].as_str(), turns.asked.load(Ordering::SeqCst)),
            (wanted, 2 - usize::from(records)),
            "no turn for a hit"
        );
    }
}
