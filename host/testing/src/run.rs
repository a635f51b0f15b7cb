//! Runs tests: each in an instance of its own, several at once, and compares what came of them with what was kept.
use std::sync::Arc;

use futures_util::StreamExt;
use rhost_frontend::{Frontend, Limits, RunError};

use crate::case::Case;
use crate::diff::unified_diff;
use crate::fake::FakeHost;
use crate::golden::Golden;

/// How a test went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// All is as it was kept.
    Passed,
    /// It is not.
    Failed,
    /// What was kept has been written anew.
    Updated,
}

/// What became of a test.
#[derive(Debug, Clone)]
pub struct CaseResult {
    /// Its name.
    pub name: String,
    /// How it went.
    pub verdict: Verdict,
    /// What is wrong, each of several lines: differences, what the test does not have, a failure.
    pub problems: Vec<String>,
}

/// Runs `cases` under `limits`, `jobs` at once; `done` hears of each in their order.
pub async fn run_cases(
    frontend: &Frontend,
    cases: Vec<Case>,
    limits: &Limits,
    update: bool,
    jobs: usize,
    mut done: impl FnMut(&CaseResult),
) -> Vec<CaseResult> {
    let runs = cases.into_iter().map(|case| {
        let (frontend, limits) = (frontend.clone(), limits.clone());
        async move {
            let name = case.name.clone();
            // A task of its own: guests compute, and there are several processors.
            let run = tokio::spawn(async move { run_case(&frontend, case, &limits, update).await });
            run.await.unwrap_or_else(|error| failed(name, vec![format!("the test itself broke: {error}")]))
        }
    });
    let mut runs = futures_util::stream::iter(runs).buffered(jobs.max(1));
    let mut all = Vec::new();
    while let Some(result) = runs.next().await {
        done(&result);
        all.push(result);
    }
    all
}

fn failed(name: String, problems: Vec<String>) -> CaseResult {
    CaseResult { name, verdict: Verdict::Failed, problems }
}

/// Runs one test; with `update`, what it keeps is written anew.
pub async fn run_case(frontend: &Frontend, case: Case, limits: &Limits, update: bool) -> CaseResult {
    let (name, directory, wanted_error) = (case.name.clone(), case.directory.clone(), case.error.clone());
    let host = Arc::new(FakeHost::new(case.clone()));
    let outcome = frontend.build(host.clone(), case.invocation, limits).await;
    let mut problems: Vec<String> = host
        .missing()
        .iter()
        .map(|missing| {
            let lines: String = missing.lines.lines().map(|line| format!("    {line}\n")).collect();
            format!("the test does not have {}; add to case.toml, as it should be:\n{lines}", missing.what)
        })
        .collect();
    match (&outcome, &wanted_error) {
        (Err(error), None) if problems.is_empty() => problems.push(unexpected(error)),
        (Err(error), Some(wanted)) if !error.what().contains(wanted) => {
            problems.push(format!("it is to fail with `{wanted}`, and fails with `{}`\n", error.what()));
        }
        (Ok(_), Some(wanted)) => problems.push(format!("it is to fail with `{wanted}`, and does not fail\n")),
        _ => {}
    }
    let found = match Golden::of(outcome.as_ref(), &host.reports()) {
        Ok(found) => found,
        Err(reason) => return failed(name, vec![format!("{reason}\n")]),
    };
    if !problems.is_empty() {
        let reports = crate::golden::report_text(&host.reports());
        problems.extend((!reports.is_empty()).then(|| format!("it reported:\n{reports}")));
        return failed(name, problems);
    }
    if update {
        return match found.write(&directory) {
            Ok(changed) if changed.is_empty() => CaseResult { name, verdict: Verdict::Passed, problems },
            Ok(_) => CaseResult { name, verdict: Verdict::Updated, problems },
            Err(error) => failed(name, vec![format!("cannot write in `{}`: {error}\n", directory.display())]),
        };
    }
    let kept = match Golden::read(&directory) {
        Ok(kept) => kept,
        Err(error) => return failed(name, vec![format!("cannot read what is kept: {error}\n")]),
    };
    if kept.0.is_empty() {
        return failed(
            name,
            vec!["nothing is kept yet to compare with: run with --update, and read what that writes\n".into()],
        );
    }
    let names: std::collections::BTreeSet<_> = kept.0.keys().chain(found.0.keys()).collect();
    for file in names {
        let text = |golden: &Golden| golden.0.get(file).cloned().unwrap_or_default();
        let kept_name = format!("{name}/{file}");
        let difference = unified_diff(&kept_name, "as it is now", &text(&kept), &text(&found));
        problems.extend((!difference.is_empty()).then_some(difference));
    }
    let verdict = if problems.is_empty() { Verdict::Passed } else { Verdict::Failed };
    CaseResult { name, verdict, problems }
}

fn unexpected(error: &RunError) -> String {
    let mut text = format!("it fails: {}\n", error.what());
    if let RunError::Stopped { backtrace, .. } = error
        && !backtrace.is_empty()
    {
        text += &format!("    in the frontend: {}\n", backtrace.join(" <- "));
    }
    text + "    if that is right, say so in case.toml with a piece of the text: error = \"…\"\n"
}
