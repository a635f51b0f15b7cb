//! The checks that every frontend should pass, whatever its language: the same answer each time, no fall on bad input, errors that name their
//! place, requests for information that are answered or refused by name.
//!
//! What a language means is in its tests; those that succeed are the samples here. Checks that need one do not apply without.
use std::collections::BTreeMap;
use std::sync::Arc;

use rhost_frontend::{Frontend, HostError, Invocation, Limits, Outcome, Report, RunError, Severity};
use rhost_llb::{Graph, Platform};

use crate::altered::{Alteration, Altered};
use crate::case::Case;
use crate::golden::Golden;

/// What a check found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Conforms {
    /// As it should be.
    Yes,
    /// Not so, and why.
    No(String),
    /// It cannot be told, or need not be.
    NotApplicable(String),
}

use Conforms::{No, NotApplicable, Yes};

/// Bytes of the large build file.
const LARGE: usize = 1 << 20;
/// What nothing is called.
const NOBODY: &str = "conformance-nobody";

struct Run {
    result: Result<Outcome, RunError>,
    reports: Vec<Report>,
}

/// What the checks have: a frontend, and samples of its language.
struct Checker<'f> {
    frontend: &'f Frontend,
    limits: &'f Limits,
    samples: Vec<Case>,
}

/// Checks everything, each run under `limits`; `done` hears of each check as it ends.
pub async fn check_conformance(
    frontend: &Frontend,
    cases: &[Case],
    limits: &Limits,
    mut done: impl FnMut(&str, &Conforms),
) -> Vec<(String, Conforms)> {
    let plain = |case: &&Case| case.error.is_none() && !case.invocation.options.contains_key("requestid");
    let checker = Checker { frontend, limits, samples: cases.iter().filter(plain).cloned().collect() };
    let mut all = Vec::new();
    let mut tell = |name: String, found: Conforms| {
        done(&name, &found);
        all.push((name, found));
    };
    tell("samples build".into(), checker.samples_build().await);
    tell("the same answer each time".into(), checker.deterministic().await);
    tell("one result for each platform".into(), checker.platforms().await);
    for (what, bytes) in checker.files() {
        tell(format!("a build file that is {what}"), checker.bears(Some(bytes)).await);
    }
    tell("a build file of 1 MiB".into(), checker.large().await);
    tell("a build file that is not there".into(), checker.missing_file().await);
    tell("errors name file and line".into(), checker.places().await);
    tell("options that it does not know".into(), checker.unknown_options().await);
    tell("a target that is not there".into(), checker.unknown_target().await);
    let denied = HostError::Denied(format!("{NOBODY}: the context is denied"));
    tell(
        "a context that is denied".into(),
        checker.handed_on(Alteration { contexts: Some(denied), ..Alteration::default() }, true).await,
    );
    let gone = HostError::NotFound(format!("{NOBODY}: not found"));
    tell(
        "an image that is not found".into(),
        checker.handed_on(Alteration { promises: Some(gone), ..Alteration::default() }, false).await,
    );
    let failed = HostError::Failed(format!("{NOBODY}: the network is down"));
    tell(
        "a promise that fails".into(),
        checker.handed_on(Alteration { promises: Some(failed), ..Alteration::default() }, false).await,
    );
    let bare = Alteration { no_features: true, ..Alteration::default() };
    tell("a host without any feature".into(), checker.sample_with(|_| {}, bare).await);
    for request in
        ["frontend.lint", "frontend.outline", "frontend.targets", "frontend.convertllb", "frontend.conformance-nobody"]
    {
        tell(format!("the request {request}"), checker.request(request).await);
    }
    all
}

/// Why a run that was stopped or makes no sense is a fault; `None` for an answer or a refusal.
fn fall(run: &Run) -> Option<String> {
    match &run.result {
        Err(error @ (RunError::Stopped { .. } | RunError::BadAnswer { .. })) => Some(error.what()),
        _ => None,
    }
}

fn golden(run: &Run) -> Result<Golden, String> {
    Golden::of(run.result.as_ref(), &run.reports)
}

impl Checker<'_> {
    async fn run(&self, case: &Case, alteration: Alteration) -> Run {
        let host = Arc::new(Altered::new(case.clone(), alteration));
        let result = self.frontend.build(host.clone(), case.invocation.clone(), self.limits).await;
        Run { result, reports: host.reports() }
    }

    /// A world with a build file and nothing else.
    fn bare(&self) -> Case {
        if let Some(sample) = self.samples.first() {
            return sample.clone();
        }
        Case {
            name: String::new(),
            directory: std::path::PathBuf::new(),
            invocation: Invocation::new("Dockerfile", Platform::new("linux", "amd64", "")),
            // Nothing is there but the build file.
            contexts: ["context", "dockerfile"].map(|name| (name.to_owned(), "/nonexistent".into())).into(),
            images: BTreeMap::new(),
            solves: Vec::new(),
            unsupported: Vec::new(),
            error: None,
        }
    }

    fn sample_text(&self) -> Option<Vec<u8>> {
        let sample = self.samples.first()?;
        std::fs::read(sample.contexts.get("dockerfile")?.join(&sample.invocation.build_file)).ok()
    }

    fn no_sample() -> Conforms {
        NotApplicable("there is no sample: name a folder with tests that succeed".into())
    }

    async fn samples_build(&self) -> Conforms {
        if self.samples.is_empty() {
            return Self::no_sample();
        }
        for sample in &self.samples {
            if let Err(error) = self.run(sample, Alteration::default()).await.result {
                return No(format!("`{}`: {}", sample.name, error.what()));
            }
        }
        Yes
    }

    async fn deterministic(&self) -> Conforms {
        if self.samples.is_empty() {
            return Self::no_sample();
        }
        for sample in &self.samples {
            let first = golden(&self.run(sample, Alteration::default()).await);
            // Several at once; and one in which what was asked for first is answered last.
            let again =
                (0..5).map(|run| self.run(sample, Alteration { first_is_late: run == 4, ..Alteration::default() }));
            for run in futures_util::future::join_all(again).await {
                if golden(&run) != first {
                    return No(format!("`{}` answers differently when it is run again", sample.name));
                }
            }
        }
        Yes
    }

    async fn platforms(&self) -> Conforms {
        let Some(sample) = self.samples.first() else { return Self::no_sample() };
        let mut case = sample.clone();
        case.images.values_mut().for_each(|image| image.platforms.clear());
        let names = ["linux/amd64", "linux/arm64", "linux/arm/v7", "linux/s390x", "linux/ppc64le", "linux/riscv64"];
        case.invocation.platforms = names.iter().filter_map(|name| name.parse().ok()).collect();
        case.invocation.multi_platform = true;
        case.invocation.options.insert("platform".into(), names.join(","));
        let run = self.run(&case, Alteration::default()).await;
        match (&run.result, fall(&run)) {
            (_, Some(fall)) => No(fall),
            (Err(error), None) => NotApplicable(format!("it refuses: {}", error.what())),
            (Ok(outcome), None) => {
                let found: Vec<&Platform> = outcome.targets.iter().map(|target| &target.platform).collect();
                if let Some(missing) = case.invocation.platforms.iter().find(|platform| !found.contains(platform)) {
                    return No(format!("of {} platforms it gives no result for {missing}", names.len()));
                }
                if found.len() != names.len() {
                    return No(format!("asked for {} platforms it gives {} results", names.len(), found.len()));
                }
                let valid = |target: &&rhost_frontend::Target| {
                    !target.definition.is_empty()
                        && Graph::load(&target.definition, &rhost_llb::Limits::HOSTILE).is_err()
                };
                outcome
                    .targets
                    .iter()
                    .find(valid)
                    .map_or(Yes, |target| No(format!("the graph for {} is not valid", target.platform)))
            }
        }
    }

    fn files(&self) -> Vec<(&'static str, Vec<u8>)> {
        let text = self.sample_text().unwrap_or_else(|| b"one\ntwo\n".to_vec());
        let noise = (0..4096u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        let crlf = String::from_utf8_lossy(&text).replace('\n', "\r\n").into_bytes();
        let nul = [&text[..text.len() / 2], b"\0", &text[text.len() / 2..]].concat();
        let cut = text[..text.len() - text.len() / 3].to_vec();
        vec![
            ("empty", Vec::new()),
            ("only blank", b" \n\t\n\n".to_vec()),
            ("binary", noise),
            ("no UTF-8", [&text[..], b"\xff\xfe\xc3\x28\n"].concat()),
            ("written with a NUL byte", nul),
            ("written with CRLF", crlf),
            ("written with a byte order mark", [b"\xef\xbb\xbf", &text[..]].concat()),
            ("cut in its middle", cut),
            ("one line of 100 KiB", [&text[..], &b"x".repeat(100 << 10)].concat()),
            ("nested a thousand times", "([{\"".repeat(1000).into_bytes()),
        ]
    }

    /// Whatever it says, it does not fall.
    async fn bears(&self, bytes: Option<Vec<u8>>) -> Conforms {
        let run = self.run(&self.bare(), Alteration { build_file: Some(bytes), ..Alteration::default() }).await;
        fall(&run).map_or(Yes, No)
    }

    async fn large(&self) -> Conforms {
        let text = self.sample_text().filter(|text| !text.is_empty()).unwrap_or_else(|| b"line\n".to_vec());
        // As comments are written in most languages, and as steps: the first may be the whole of it.
        let comments = [&text[..], &b"# a comment of some length, as people write them\n".repeat(LARGE / 48)].concat();
        let noise = b"a line of no meaning\n".repeat(LARGE / 21);
        for bytes in [comments, noise] {
            if let No(reason) = self.bears(Some(bytes)).await {
                return No(reason);
            }
        }
        Yes
    }

    async fn missing_file(&self) -> Conforms {
        let case = self.bare();
        let run = self.run(&case, Alteration { build_file: Some(None), ..Alteration::default() }).await;
        match (&run.result, fall(&run)) {
            (_, Some(fall)) => No(fall),
            (Ok(_), None) => No("it answers although there is no build file".into()),
            (Err(error), None) if error.what().contains(&case.invocation.build_file) => Yes,
            (Err(error), None) => No(format!("its error does not name the file: {}", error.what())),
        }
    }

    async fn places(&self) -> Conforms {
        let mut case = self.bare();
        case.invocation.target = None;
        let nonsense = "%%% conformance: no language says this ((( \u{2603}\n";
        let file = case.invocation.build_file.clone();
        let run =
            self.run(&case, Alteration { build_file: Some(Some(nonsense.into())), ..Alteration::default() }).await;
        let marked = run.reports.iter().any(|report| match report {
            Report::Diagnostic(finding) => {
                finding.severity == Severity::Error && finding.marks.iter().any(|mark| mark.range.start.0 > 0)
            }
            Report::Log { .. } => false,
        });
        match (&run.result, fall(&run)) {
            (_, Some(fall)) => No(fall),
            (Ok(_), None) => NotApplicable("it takes nonsense for a build file".into()),
            (Err(_), None) if marked => Yes,
            (Err(error), None) if error.what().contains(&format!("{file}:1")) => Yes,
            (Err(error), None) => {
                No(format!("its error has no place, neither as a diagnostic nor as `{file}:1`: {}", error.what()))
            }
        }
    }

    /// A sample with a change that is to make no difference to whether it stands.
    async fn sample_with(&self, change: impl FnOnce(&mut Case), alteration: Alteration) -> Conforms {
        let Some(sample) = self.samples.first() else { return Self::no_sample() };
        let mut case = sample.clone();
        change(&mut case);
        let run = self.run(&case, alteration).await;
        fall(&run).map_or(Yes, No)
    }

    async fn unknown_options(&self) -> Conforms {
        let Some(sample) = self.samples.first() else { return Self::no_sample() };
        let mut case = sample.clone();
        case.invocation.options.insert(NOBODY.into(), "1".into());
        case.invocation.labels.push((NOBODY.into(), String::new()));
        case.invocation.build_args.push((NOBODY.into(), "1".into()));
        let run = self.run(&case, Alteration::default()).await;
        match (&run.result, fall(&run)) {
            (_, Some(fall)) => No(fall),
            (Err(error), None) => No(format!("an option that it does not know makes it fail: {}", error.what())),
            (Ok(_), None) => Yes,
        }
    }

    async fn unknown_target(&self) -> Conforms {
        let Some(sample) = self.samples.first() else { return Self::no_sample() };
        let mut case = sample.clone();
        case.invocation.target = Some(NOBODY.into());
        let run = self.run(&case, Alteration::default()).await;
        match (&run.result, fall(&run)) {
            (_, Some(fall)) => No(fall),
            (Ok(_), None) => NotApplicable("its language has no targets, or it takes any".into()),
            (Err(error), None) if error.what().contains(NOBODY) => Yes,
            (Err(error), None) => No(format!("its error does not name the target: {}", error.what())),
        }
    }

    /// What the host refuses reaches the user in the host's words.
    async fn handed_on(&self, alteration: Alteration, asked_always: bool) -> Conforms {
        if self.samples.is_empty() {
            return Self::no_sample();
        }
        let mut asked = false;
        for sample in &self.samples {
            let run = self.run(sample, alteration.clone()).await;
            match (&run.result, fall(&run)) {
                (_, Some(fall)) => return No(format!("`{}`: {fall}", sample.name)),
                (Ok(_), None) => {}
                (Err(error), None) if error.what().contains(NOBODY) => asked = true,
                (Err(error), None) => {
                    return No(format!(
                        "`{}`: its error does not say what the host said: {}",
                        sample.name,
                        error.what()
                    ));
                }
            }
        }
        match asked {
            true => Yes,
            false if asked_always => No("it answers although it can read nothing".into()),
            false => NotApplicable("no sample asks for one".into()),
        }
    }

    async fn request(&self, method: &str) -> Conforms {
        let mut case = self.bare();
        case.invocation.options.insert("requestid".into(), method.into());
        case.invocation.options.insert("frontend.caps".into(), "moby.buildkit.frontend.subrequests".into());
        let text = self.sample_text();
        let file = if text.is_some() { None } else { Some(Some(Vec::new())) };
        let run = self.run(&case, Alteration { build_file: file, ..Alteration::default() }).await;
        match (&run.result, fall(&run)) {
            (_, Some(fall)) => No(fall),
            (Ok(outcome), None) if !outcome.metadata.is_empty() && outcome.targets.is_empty() => Yes,
            // The graph is the answer to this one.
            (Ok(outcome), None) if method == "frontend.convertllb" && !outcome.targets.is_empty() => Yes,
            (Ok(_), None) => No("it builds, as if nothing else had been asked".into()),
            (Err(RunError::Refused { error: HostError::Unsupported(_), .. }), None) => Yes,
            (Err(error), None) if error.what().contains("support") || error.what().contains(method) => Yes,
            (Err(error), None) if text.is_none() => {
                NotApplicable(format!("there is no sample, and it refuses an empty build file: {}", error.what()))
            }
            (Err(error), None) => {
                No(format!("it neither answers nor says that it does not support this: {}", error.what()))
            }
        }
    }
}
