//! The first-party guests, where `cargo xtask guests` has built them.
use rhost_frontend::{Invocation, Limits, Outcome, Report, RunError, Severity};
use rhost_llb::{Graph, Platform};

use crate::kit::{Host, kit};

/// The component, or a loud skip; in CI the guests must be there.
fn built(name: &str) -> Option<Vec<u8>> {
    let path = format!("{}/../../target/guests/{name}.wasm", env!("CARGO_MANIFEST_DIR"));
    let bytes = std::fs::read(&path).ok();
    if bytes.is_none() {
        assert!(std::env::var_os("CI").is_none(), "{path} is not built: run `cargo xtask guests`");
        eprintln!("SKIP: {path} is not built: run `cargo xtask guests`");
    }
    bytes
}

async fn build(guest: &str, file: &str, text: &str) -> Option<(Result<Outcome, RunError>, Vec<Report>)> {
    let kit = kit();
    let frontend = kit.load(&built(guest)?).await.unwrap();
    let host = Host::new(&[(file, text)]);
    let invocation = Invocation::new(file, Platform::new("linux", "amd64", ""));
    let answer = frontend.build(host.clone(), invocation, &Limits::HOSTILE).await;
    let reports = host.reports.lock().unwrap().clone();
    Some((answer, reports))
}

#[tokio::test]
async fn lines_grows_a_graph() {
    let text = "from busybox\nenv A=1\ncopy src /srv/\nrun echo $A > /a\ncmd cat /a\n";
    let Some((answer, _)) = build("lines", "build.lines", text).await else { return };
    let outcome = answer.unwrap();
    let target = &outcome.targets[0];
    let graph = Graph::load(&target.definition, &rhost_llb::Limits::HOSTILE).unwrap();
    assert_eq!(graph.vertices().len(), 4);
    let config = String::from_utf8(target.config.clone()).unwrap();
    assert!(config.contains(r#""Env":["PATH=/bin","A=1"]"#) && config.contains(r#""Cmd":["cat","/a"]"#), "{config}");
}

#[tokio::test]
async fn lines_names_every_bad_line() {
    let Some((answer, reports)) = build("lines", "build.lines", "from busybox\nRUN x\ncopy a\n").await else { return };
    let error = answer.unwrap_err();
    assert!(matches!(error, RunError::Refused { reported_errors: 2, .. }), "{error}");
    assert_eq!(error.to_string(), "build.lines:2: `RUN` is no verb");
    let lines: Vec<u32> = reports
        .iter()
        .filter_map(|report| match report {
            Report::Diagnostic(finding) if finding.severity == Severity::Error => Some(finding.marks[0].range.start.0),
            _ => None,
        })
        .collect();
    assert_eq!(lines, [2, 3]);
}

#[tokio::test]
async fn dockerfile_grows_a_graph() {
    let text = "FROM busybox AS a\nRUN echo hi > /x\nFROM scratch\nCOPY --from=a /x /y\nENV K=V\n";
    let Some((answer, _)) = build("dockerfile", "Dockerfile", text).await else { return };
    let outcome = answer.unwrap();
    let graph = Graph::load(&outcome.targets[0].definition, &rhost_llb::Limits::HOSTILE).unwrap();
    assert_eq!(graph.vertices().len(), 3);
}

#[tokio::test]
async fn dockerfile_errors_have_places() {
    let Some((answer, reports)) =
        build("dockerfile", "Dockerfile", "FROM busybox\nCOPY --from=nope:: /a /b\nRUM x\n").await
    else {
        return;
    };
    let error = answer.unwrap_err();
    assert!(error.to_string().starts_with("Dockerfile:"), "{error}");
    assert!(!reports.is_empty());
}
