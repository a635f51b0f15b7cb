//! Guests that loop, hoard, recurse, trap and lie: each is stopped soon, with its name, its digest and the limit.
mod bytes;
mod guests;
mod table;

use std::time::{Duration, Instant};

use rhost_frontend::{RunError, Stop};

use crate::guests::with_build;
use crate::kit::kit;

async fn stop(build: &str) -> (Stop, String) {
    let error = kit().run(&with_build(build)).await.unwrap_err();
    let text = error.to_string();
    assert!(text.starts_with("frontend x.wasm (sha256:"), "{text}");
    match error {
        RunError::Stopped { stop, .. } => (stop, text),
        other => panic!("{other}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_loop_ends() {
    let kit = kit();
    let bytes = with_build("(loop (br 0)) (unreachable)");
    kit.load(&bytes).await.unwrap();
    let start = Instant::now();
    let error = kit.run(&bytes).await.unwrap_err();
    assert!(
        matches!(&error, RunError::Stopped { stop: Stop::Time { limit }, .. } if *limit == Duration::from_secs(1)),
        "{error}"
    );
    assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_loop_can_be_dropped() {
    let kit = kit();
    let bytes = with_build("(loop (br 0)) (unreachable)");
    kit.load(&bytes).await.unwrap();
    let dropped = tokio::time::timeout(Duration::from_millis(50), kit.run(&bytes)).await;
    assert!(dropped.is_err());
}

#[tokio::test]
async fn hoarding_ends() {
    let grow = "(loop (br_if 0 (i32.ne (memory.grow (i32.const 16)) (i32.const -1)))) (unreachable)";
    let (stop, text) = stop(grow).await;
    assert_eq!(stop, Stop::Memory { wanted: 65, limit: 64 });
    assert!(text.contains("limit: 64 MiB"), "{text}");
}

#[tokio::test]
async fn recursion_ends() {
    assert_eq!(stop("(call $build (local.get 0))").await.0, Stop::Stack);
}

#[tokio::test]
async fn traps_are_told() {
    assert!(matches!(stop("(unreachable)").await.0, Stop::Trap { .. }));
    assert!(
        matches!(stop("(i32.load (i32.const -8))").await.0, Stop::Trap { reason } if reason.contains("out of bounds"))
    );
    assert!(matches!(stop("(i32.div_u (i32.const 1) (i32.const 0))").await.0, Stop::Trap { .. }));
}

#[tokio::test]
async fn a_made_up_handle_is_no_outcome() {
    // result::ok with handle 7, which was never given.
    let build = "(i32.store8 (i32.const 16) (i32.const 0)) (i32.store (i32.const 20) (i32.const 7)) (i32.const 16)";
    assert!(matches!(stop(build).await.0, Stop::Trap { .. }));
}

#[tokio::test]
async fn an_error_is_the_guests_own() {
    // result::err(error::failed("")): tag 1, then the variant's case 5 at 4, its text at 8.
    let build = "(i32.store8 (i32.const 16) (i32.const 1)) (i32.store8 (i32.const 20) (i32.const 5)) (i32.const 16)";
    let error = kit().run(&with_build(build)).await.unwrap_err();
    assert!(matches!(error, RunError::Refused { reported_errors: 0, .. }), "{error}");
}
