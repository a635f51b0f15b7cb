//! Limits of steps: ulimits, cgroups.
use std::time::Instant;

use rhost_exec::{Resources, Step, Ulimit};

use crate::kit::{Room, able, run, try_run};

#[test]
fn ulimits() {
    if !able() {
        return;
    }
    let room = Room::new();
    let mut step = room.step("ulimit -n; ulimit -c");
    step.ulimits =
        vec![Ulimit { name: "nofile".into(), soft: 77, hard: 88 }, Ulimit { name: "core".into(), soft: 0, hard: 0 }];
    assert_eq!(run(step).out, "77\n0\n");
    let mut step = room.step("true");
    step.ulimits = vec![Ulimit { name: "files".into(), soft: 1, hard: 1 }];
    assert!(try_run(step).is_err());
}

#[test]
fn a_limit_is_applied_or_said_not_to_be() {
    if !able() {
        return;
    }
    let room = Room::new();
    let mut step = room.step("cat /proc/self/cgroup");
    step.resources = Resources { memory: 64 << 20, ..Resources::default() };
    let ran = run(step);
    eprintln!("cgroup of the step: {} {:?}", ran.out, ran.exit.warnings);
    assert!(
        ran.exit.warnings.is_empty() != ran.exit.warnings.iter().any(|w| w.contains("memory")),
        "{:?}",
        ran.exit.warnings
    );
}

#[test]
fn start_is_quick() {
    if !able() {
        return;
    }
    let room = Room::new();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut best = u128::MAX;
    for _ in 0..20 {
        let step = Step::new(room.overlay(), ["/bin/true"]);
        let started = Instant::now();
        runtime.block_on(rhost_exec::run(step, &mut |_, _: &[u8]| {})).unwrap();
        best = best.min(started.elapsed().as_micros());
    }
    eprintln!("best of 20 runs of /bin/true: {best} us");
    assert!(best < 100_000, "{best} us");
}
