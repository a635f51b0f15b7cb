//! `rhost frontend conformance`: a table of checks with reasons.
use rhost_engine::{BuildError, Engine, Kind};
use rhost_testing::{CaseError, Conforms, check_conformance, find_cases};

use crate::arguments::ConformanceArguments;

/// Runs the checks, prints the table, and gives the exit code.
///
/// # Errors
/// The samples are wrong; the frontend cannot be loaded.
pub async fn conformance(engine: &Engine, arguments: &ConformanceArguments) -> Result<u8, BuildError> {
    let samples = match find_cases(&arguments.directory, &[]) {
        Ok(cases) => cases,
        // Without samples there is still much to check.
        Err(CaseError::Nothing(_) | CaseError::Read { .. }) => Vec::new(),
        Err(error) => return Err(BuildError::new(Kind::Request, error)),
    };
    let frontend = engine.load_frontend(&super::source(&arguments.frontend)?).await?;
    let show = |name: &str, found: &Conforms| {
        if !arguments.json {
            let (word, reason) = words(found);
            let reason = if reason.is_empty() { String::new() } else { format!(": {reason}") };
            println!("{word:8} {name}{reason}");
        }
    };
    let found = check_conformance(&frontend, &samples, &engine.frontend_limits(), show).await;
    let count = |wanted: &str| found.iter().filter(|(_, found)| words(found).0 == wanted).count();
    let (pass, fail, not) = (count("pass"), count("FAIL"), count("n/a"));
    if arguments.json {
        let checks: Vec<_> = found
            .iter()
            .map(|(name, found)| {
                let (word, reason) = words(found);
                serde_json::json!({ "check": name, "result": word.to_lowercase(), "reason": reason })
            })
            .collect();
        let identity = frontend.identity();
        let value = serde_json::json!({
            "frontend": { "name": identity.name, "digest": identity.digest.to_string() },
            "samples": samples.len(),
            "checks": checks,
            "pass": pass,
            "fail": fail,
            "notApplicable": not,
        });
        println!("{value:#}");
    } else {
        println!("{pass} pass, {fail} fail, {not} do not apply");
    }
    Ok(u8::from(fail > 0))
}

fn words(found: &Conforms) -> (&'static str, &str) {
    match found {
        Conforms::Yes => ("pass", ""),
        Conforms::No(reason) => ("FAIL", reason),
        Conforms::NotApplicable(reason) => ("n/a", reason),
    }
}
