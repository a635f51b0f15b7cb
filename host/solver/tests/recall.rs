//! Whole targets are answered by what their sources hold: nothing else is asked, and nothing else will do.
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rhost_llb::Digest;
use rhost_solver::{CacheStore, Event, Link, MemoryCache, Recollection, Solver};

use crate::text::Bed;

/// Counts the walk's questions.
#[derive(Default)]
struct Counting {
    inner: Arc<MemoryCache<String>>,
    asked: AtomicUsize,
}

impl CacheStore<String> for Counting {
    fn follow(&self, link: &Link) -> Vec<Digest> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        self.inner.follow(link)
    }
    fn has(&self, key: Digest) -> bool {
        self.asked.fetch_add(1, Ordering::Relaxed);
        self.inner.has(key)
    }
    fn load(&self, key: Digest) -> Option<String> {
        self.inner.load(key)
    }
    fn save(&self, key: Digest, links: &[Link], value: &String) {
        self.inner.save(key, links, value);
    }
    fn recall(&self, target: Digest) -> Option<Recollection> {
        self.inner.recall(target)
    }
    fn recalled(&self, target: Digest, remembered: &Recollection) -> Option<String> {
        self.inner.recalled(target, remembered)
    }
    fn remember(&self, target: Digest, found: &Recollection) {
        self.inner.remember(target, found);
    }
}

struct Solved {
    value: String,
    /// Questions of a walk.
    asked: usize,
    /// Vertices that were told to be cached.
    cached: usize,
    ran: String,
}

async fn solve(bed: &Bed, text: &str) -> Solved {
    let cache = Arc::new(Counting { inner: bed.cache.clone(), ..Counting::default() });
    let cached = Arc::new(AtomicUsize::new(0));
    let count = cached.clone();
    let solver = Solver::new(cache.clone(), NonZeroUsize::MIN, move |event| {
        if matches!(event, Event::Cached(_)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    });
    let (graph, target) = bed.graph(text);
    let value = solver.solve(&graph, &[target]).await.expect("solves").remove(0);
    let (asked, cached) = (cache.asked.load(Ordering::Relaxed), cached.load(Ordering::Relaxed));
    Solved { value, asked, cached, ran: bed.ran() }
}

const CHAIN: &str = "a = base\nb = make a\nc = test b\nd = end c b";

#[tokio::test]
async fn the_second_solve_asks_nothing_of_the_vertices_and_tells_of_each() {
    let bed = Bed::new();
    let first = solve(&bed, CHAIN).await;
    assert!(first.asked > 0 && first.cached == 0, "{} {}", first.asked, first.cached);
    let second = solve(&bed, CHAIN).await;
    assert_eq!((second.value, second.asked, second.cached, second.ran), (first.value, 0, 4, String::new()));
}

#[tokio::test]
async fn a_directory_is_asked_by_what_is_copied_of_it() {
    let bed = Bed::new();
    // The op digest of a volatile source says nothing; `!holds` is what the directory holds now.
    let with = |content: &str| format!("a = dir !volatile !holds:{content}\nb = copy a !content\nc = run b");
    let (graph_one, graph_two) = (with("one"), with("two"));
    solve(&bed, &graph_one).await;
    let same = solve(&bed, &graph_one).await;
    assert_eq!((same.asked, same.ran.as_str()), (0, "dir×1"));
    // In the text form another content is another vertex; the target's line is the same, and so is its record's name.
    let other = solve(&bed, &graph_two).await;
    assert!(other.asked > 0);
    assert_eq!((other.value.as_str(), other.ran.as_str()), ("run(copy(two))", "copy×1 dir×1 run×1"));
}

#[tokio::test]
async fn what_was_made_anew_is_not_answered_by_what_was() {
    let bed = Bed::new();
    let text = "a = base\nb = now a !tick";
    assert_eq!(solve(&bed, text).await.value, "now1");
    assert_eq!(solve(&bed, &text.replace("!tick", "!tick !ignore")).await.value, "now2");
    assert_eq!(solve(&bed, text).await.value, "now2");
}

#[tokio::test]
async fn a_lost_result_is_walked_to() {
    let bed = Bed::new();
    let first = solve(&bed, CHAIN).await;
    bed.cache.keys().into_iter().for_each(|key| drop(bed.cache.forget(key)));
    let again = solve(&bed, CHAIN).await;
    assert_eq!((again.value, again.ran.as_str()), (first.value, "base×1 end×1 make×1 test×1"));
}

#[tokio::test]
async fn what_stands_on_something_without_a_key_is_walked() {
    let bed = Bed::new();
    let text = "a = dir !volatile\nb = merge a\nc = copy b !content";
    solve(&bed, text).await;
    assert!(solve(&bed, text).await.asked > 0);
}

/// What the answer of another time stands on is asked first; that it fails is said by the walk, once.
#[tokio::test]
async fn a_failure_is_told_once() {
    let bed = Bed::new();
    let text = "a = dir !volatile\nb = copy a !content !gone";
    solve(&bed, text).await;
    bed.gone.store(true, Ordering::Relaxed);
    let failed = Arc::new(AtomicUsize::new(0));
    let count = failed.clone();
    let solver = Solver::new(bed.cache.clone(), NonZeroUsize::MIN, move |event| {
        if matches!(event, Event::Failed(..)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    });
    let (graph, target) = bed.graph(text);
    solver.solve(&graph, &[target]).await.expect_err("what is copied is gone");
    assert_eq!(failed.load(Ordering::Relaxed), 1);
}
