//! `rhost frontend test`: a line for each test, what differs below it, and a sum at the end.

use rhost_engine::{BuildError, Engine, Kind};
use rhost_testing::{CaseError, CaseResult, Verdict, find_cases, run_cases};

use crate::arguments::TestFrontendArguments;

/// Runs the tests, prints, and gives the exit code.
///
/// # Errors
/// There is nothing to run, or the frontend cannot be loaded.
pub async fn test(engine: &Engine, arguments: &TestFrontendArguments) -> Result<u8, BuildError> {
    let cases = find_cases(&arguments.directory, &arguments.filter).map_err(|error| {
        let nothing = matches!(error, CaseError::Nothing(_) | CaseError::Read { .. });
        let error = BuildError::new(Kind::Request, error);
        if nothing {
            error.hint("docs/frontends/testing.md has the format; name another folder: `rhost frontend test DIR`")
        } else {
            error
        }
    })?;
    if cases.is_empty() {
        let filters = arguments.filter.join("`, `");
        return Err(BuildError::new(Kind::Request, format!("no test has `{filters}` in its name")));
    }
    let frontend = engine.load_frontend(&super::source(&arguments.frontend)?).await?;
    let jobs = rhost_engine::processors();
    let show = |result: &CaseResult| {
        if !arguments.json {
            print(result);
        }
    };
    let results = run_cases(&frontend, cases, &engine.frontend_limits(), arguments.update, jobs, show).await;
    let count = |verdict| results.iter().filter(|result| result.verdict == verdict).count();
    let (passed, failed, updated) = (count(Verdict::Passed), count(Verdict::Failed), count(Verdict::Updated));
    if arguments.json {
        let cases: Vec<_> = results
            .iter()
            .map(|result| serde_json::json!({ "name": result.name, "result": word(result.verdict), "problems": result.problems }))
            .collect();
        let identity = frontend.identity();
        let value = serde_json::json!({
            "frontend": { "name": identity.name, "digest": identity.digest.to_string() },
            "cases": cases,
            "passed": passed,
            "failed": failed,
            "updated": updated,
        });
        println!("{value:#}");
    } else {
        let updated = if updated > 0 { format!(", {updated} updated") } else { String::new() };
        println!("{passed} passed, {failed} failed{updated}");
    }
    Ok(u8::from(failed > 0))
}

fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Passed => "passed",
        Verdict::Failed => "failed",
        Verdict::Updated => "updated",
    }
}

fn print(result: &CaseResult) {
    println!("{:8} {}", word(result.verdict), result.name);
    for problem in &result.problems {
        for line in problem.lines() {
            println!("    {line}");
        }
    }
}
