//! Several processes on one store: equal work runs once, its log is seen by all, a killed holder hands it over; prune takes nothing from anybody.
use std::collections::HashSet;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rhost_kit::{TestHost, nothing_left};

use crate::running::{Gate, Running, context, host};

fn plain(host: &TestHost, arguments: &[&str]) -> Running {
    Running::start(host.command(["build", "--progress", "plain"].iter().chain(arguments)))
}

#[test]
fn two_builds_that_want_the_same_step_run_it_once_and_both_see_its_log() {
    let Some((host, _registry)) = host() else { return };
    let gate = Gate::new();
    let dockerfile =
        format!("FROM busybox\nRUN echo said-by-the-step; {}; date > /when\nRUN cat /when\n", gate.knock());
    let ctx = context(&host, "ctx", &[("Dockerfile", &dockerfile)]);
    let mut first = plain(&host, &["-t", "one", &ctx]);
    first.until(" said-by-the-step");
    let visitor = gate.visitor();
    let mut second = plain(&host, &["-t", "two", &ctx]);
    second.until(" said-by-the-step");
    visitor.let_in();
    let (first, second) = (first.end(), second.end());
    assert_eq!((first.code, second.code), (0, 0), "{}\n{}", first.stderr, second.stderr);
    assert!(gate.is_quiet(), "the step ran twice");
    let digests = host.run(["images", "--quiet"]).expect("ran").success();
    let digests: Vec<&str> = digests.lines().collect();
    assert_eq!(digests.len(), 2);
    assert_eq!(fs::read_dir(host.root().join("work-v1")).expect("there").count(), 0, "work is cleared away");
}

#[test]
fn a_killed_build_hands_its_step_over() {
    let Some((host, _registry)) = host() else { return };
    let gate = Gate::new();
    let dockerfile = format!("FROM busybox\nRUN echo said-by-the-step; {}; echo made > /out\n", gate.knock());
    let ctx = context(&host, "ctx", &[("Dockerfile", &dockerfile)]);
    let mut first = plain(&host, &[&ctx]);
    first.until(" said-by-the-step");
    let _lost = gate.visitor();
    let tree = host.dir().join("tree").display().to_string();
    let mut second = plain(&host, &["-o", &tree, &ctx]);
    second.until(" said-by-the-step");
    first.signal("KILL");
    assert_eq!(first.end().code, 137);
    gate.visitor().let_in();
    second.end().success();
    assert_eq!(fs::read_to_string(format!("{tree}/out")).expect("made"), "made\n");
}

#[test]
fn a_step_that_failed_elsewhere_is_tried_here() {
    let Some((host, _registry)) = host() else { return };
    let gate = Gate::new();
    let dockerfile = format!("FROM busybox\nRUN echo said-by-the-step; {} && echo made > /out\n", gate.knock());
    let ctx = context(&host, "ctx", &[("Dockerfile", &dockerfile)]);
    let mut first = plain(&host, &[&ctx]);
    first.until(" said-by-the-step");
    let visitor = gate.visitor();
    let mut second = plain(&host, &[&ctx]);
    second.until(" said-by-the-step");
    // Closed without an answer: wget fails, and with it the first build.
    drop(visitor);
    assert_eq!(first.end().code, 1);
    gate.visitor().let_in();
    second.end().success();
}

#[test]
fn builds_that_only_look_alike_do_not_wait_for_each_other() {
    let Some((host, _registry)) = host() else { return };
    let gate = Gate::new();
    let dockerfile = format!("FROM busybox\nARG WHO\nRUN echo said-by-$WHO; {}\n", gate.knock());
    let ctx = context(&host, "ctx", &[("Dockerfile", &dockerfile)]);
    let first = plain(&host, &["--build-arg", "WHO=first", &ctx]);
    let one = gate.visitor();
    let second = plain(&host, &["--build-arg", "WHO=second", &ctx]);
    let two = gate.visitor();
    // Nor do those that were told to run everything anew.
    let third = plain(&host, &["--no-cache", "--build-arg", "WHO=first", &ctx]);
    let three = gate.visitor();
    for visitor in [three, two, one] {
        visitor.let_in();
    }
    for build in [first, second, third] {
        build.end().success();
    }
}

/// Hears when steps begin and end, and notes what began while it was under way.
struct Witness {
    address: String,
    seen: Arc<Mutex<Seen>>,
}

#[derive(Default)]
struct Seen {
    under_way: HashSet<String>,
    ended: usize,
    twice: Vec<String>,
}

impl Witness {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("bound").to_string();
        let seen = Arc::<Mutex<Seen>>::default();
        let (noted, own) = (seen.clone(), address.clone());
        std::thread::spawn(move || {
            for mut stream in listener.incoming().map_while(Result::ok) {
                let mut line = String::new();
                let heard = BufReader::new(&mut stream).read_line(&mut line);
                if heard.is_err() {
                    continue;
                }
                let mut seen = noted.lock().unwrap_or_else(PoisonError::into_inner);
                match line.split_whitespace().nth(1).and_then(|path| path.strip_prefix('/')?.split_once('/')) {
                    Some(("begin", step)) if !seen.under_way.insert(step.to_owned()) => {
                        seen.twice.push(step.to_owned());
                    }
                    Some(("end", step)) => {
                        seen.under_way.remove(step);
                        seen.ended += 1;
                    }
                    Some(("stop", _)) => return,
                    _ => {}
                }
                drop(seen);
                // Whoever was killed does not hear it.
                let _ = stream.write_all(b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n");
            }
        });
        Self { address: own, seen }
    }

    fn say(&self, word: &str) -> String {
        format!("wget -q -O- http://{}/{word}", self.address)
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        if let Ok(mut stream) = std::net::TcpStream::connect(&self.address) {
            let _ = stream.write_all(b"GET /stop/ HTTP/1.0\r\n\r\n");
        }
    }
}

/// Prunes again and again until it is dropped.
struct Pruning {
    over: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<usize>>,
}

impl Pruning {
    fn start(host: &Arc<TestHost>) -> Self {
        let over = Arc::<AtomicBool>::default();
        let (host, stop) = (host.clone(), over.clone());
        let thread = std::thread::spawn(move || {
            let mut count = 0;
            while !stop.load(Ordering::Relaxed) {
                for arguments in [&["prune"][..], &["prune", "--all"]] {
                    host.run(arguments).expect("ran").success();
                    count += 1;
                }
            }
            count
        });
        Self { over, thread: Some(thread) }
    }

    /// How often it did.
    fn end(mut self) -> usize {
        self.over.store(true, Ordering::Relaxed);
        self.thread.take().map_or(0, |thread| thread.join().expect("every prune succeeds"))
    }
}

impl Drop for Pruning {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
    }
}

#[test]
fn sixty_four_builds_some_killed_while_everything_is_pruned() {
    let Some((host, _registry)) = host() else { return };
    let (host, witness) = (Arc::new(host), Witness::start());
    let dockerfile = format!(
        "FROM busybox AS base\nARG F\nRUN {} && echo said && usleep 20000 && echo shared-$F > /shared && {}\n\
         FROM base\nARG N\nCOPY a /a\nRUN --mount=type=cache,target=/c echo $N >> /c/all && cat /a /shared > /both && echo $N > /n\n",
        witness.say("begin/$F"),
        witness.say("end/$F")
    );
    let ctx = context(&host, "ctx", &[("Dockerfile", &dockerfile), ("a", "from the context\n")]);
    let tree = |n: usize| host.dir().join(format!("tree{n}"));
    // Four first steps, eight second ones. Nobody of families 0 and 1 is killed.
    let family = |n: usize| n % 4;
    let mut builds: Vec<Running> = (0..64)
        .map(|n| {
            let (f, argument, dest) =
                (format!("F={}", family(n)), format!("N={}", n % 8), tree(n).display().to_string());
            plain(&host, &["--build-arg", &f, "--build-arg", &argument, "-o", &dest, &ctx])
        })
        .collect();
    let pruning = Pruning::start(&host);
    // Each at another point of its way; some have ended before their turn comes.
    let points = ["#1 ", "] FROM", "RUN wget", " said", "COPY a /a", "RUN --mount=type=cache", "exporting"];
    let (mut random, mut victims) = (42u64, HashSet::new());
    for (n, build) in builds.iter_mut().enumerate().filter(|(n, _)| family(*n) >= 2) {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        if random >> 63 == 0 {
            build.until(points[(random >> 40) as usize % points.len()]);
            build.signal("KILL");
            victims.insert(n);
        }
    }
    let mut killed = 0;
    for (n, build) in builds.into_iter().enumerate() {
        let ran = build.end();
        if ran.code == 137 && victims.contains(&n) {
            killed += 1;
            continue;
        }
        // One that was not killed, or too late.
        ran.success();
        let read = |name: &str| fs::read_to_string(tree(n).join(name)).expect("there");
        assert_eq!(read("n"), format!("{}\n", n % 8));
        assert_eq!(read("both"), format!("from the context\nshared-{}\n", family(n)));
    }
    let prunes = pruning.end();
    assert!(prunes >= 2 && killed > 0);
    let seen = witness.seen.lock().unwrap_or_else(PoisonError::into_inner);
    let twice: Vec<_> = seen.twice.iter().filter(|step| ["0", "1"].contains(&step.as_str())).collect();
    assert!(twice.is_empty() && seen.ended >= 4, "a step ran twice at once: {twice:?}");
    drop(seen);
    nothing_left(host.dir()).unwrap_or_else(|error| panic!("{error:#}"));
    // The store is as good as new, and once a build has swept it nothing of the dead is left.
    let dest = tree(64).display().to_string();
    plain(&host, &["--build-arg", "F=9", "--build-arg", "N=9", "-o", &dest, &ctx]).end().success();
    assert_eq!(fs::read_to_string(tree(64).join("both")).expect("there"), "from the context\nshared-9\n");
    let count = |name: &str| fs::read_dir(host.root().join(name)).map_or(0, Iterator::count);
    assert_eq!((count("work-v1"), count("uses-v1"), count("ingest-v1")), (0, 0, 0));
    host.run(["prune", "--all"]).expect("ran").success();
    let left = host.run(["du", "--json"]).expect("ran").success();
    assert!(left.lines().all(|line| !line.contains("\"type\":\"regular\"")), "{left}");
    assert_eq!(
        dirs_below(&host.root().join(if rhost_kit::is_root() { "snapshots-v1" } else { "snapshots-user-v1" })),
        0
    );
}

fn dirs_below(path: &Path) -> usize {
    fs::read_dir(path).map_or(0, Iterator::count)
}
