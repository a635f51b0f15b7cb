//! Several processes on one store: equal work runs once, its log is seen by all, a killed holder hands it over.
use std::fs;

use rhost_kit::TestHost;

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

#[test]
fn sixty_four_builds_at_once_on_one_store() {
    let Some((host, _registry)) = host() else { return };
    let dockerfile = "FROM busybox AS base\nRUN echo shared > /shared\nFROM base\nARG N\nCOPY a /a\nRUN cat /a /shared > /both && echo $N > /n\n";
    let ctx = context(&host, "ctx", &[("Dockerfile", dockerfile), ("a", "from the context\n")]);
    let tree = |n: usize| host.dir().join(format!("tree{n}"));
    // Eight results, each wanted by eight builds.
    let builds: Vec<Running> = (0..64)
        .map(|n| {
            let (argument, dest) = (format!("N={}", n % 8), tree(n).display().to_string());
            plain(&host, &["--build-arg", &argument, "-o", &dest, &ctx])
        })
        .collect();
    for (n, build) in builds.into_iter().enumerate() {
        build.end().success();
        let read = |name: &str| fs::read_to_string(tree(n).join(name)).expect("there");
        assert_eq!(read("n"), format!("{}\n", n % 8));
        assert_eq!(read("both"), "from the context\nshared\n");
    }
}
