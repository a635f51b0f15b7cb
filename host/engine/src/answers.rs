//! What a frontend answers: as it did before, where everything that it asked for is as it was, else by running it.
//!
//! A guest knows nothing but what the host tells it, so its answer can be believed again ([`Transcript`]). What is not the guest's is in the key:
//! the component, this program, the options, and where the contexts lie (no answer depends on that; it keeps two projects from
//! overwriting each other's).
use std::fmt::Write as _;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;

use rhost_frontend::{Frontend, Invocation, LoadError, Outcome, Recorder, RunError, Tape, Transcript};
use rhost_llb::{Digest, Graph as LlbGraph, Limits as GraphLimits, OpKind};
use rhost_registry::Reference;

use crate::blame;
use crate::engine::Engine;
use crate::error::{BuildError, Kind, Place};
use crate::frontends::{Because, ChosenFrontend, FrontendBytes, FrontendSource};
use crate::recordings;
use crate::session::Session;

/// The kind of facts that hold transcripts.
const TRANSCRIPTS: &str = rhost_store::TRANSCRIPTS;

/// The frontend of one build, and what it is asked.
pub(crate) struct Consultation<'b> {
    pub(crate) engine: &'b Engine,
    pub(crate) session: &'b Arc<Session>,
    pub(crate) chosen: &'b ChosenFrontend,
    /// The build file's name and text.
    pub(crate) file: &'b str,
    pub(crate) text: &'b [u8],
    pub(crate) invocation: Invocation,
    /// Where its run is to be written to.
    pub(crate) record: Option<&'b std::path::Path>,
}

/// Whether a source's URL holds a user's name or password: these are in nothing that is kept.
fn names_credentials(outcome: &Outcome) -> bool {
    let held = |text: &str| {
        text.split_once("://").is_some_and(|(_, rest)| rest.split('/').next().is_some_and(|host| host.contains('@')))
    };
    outcome.targets.iter().any(|target| {
        let Ok(graph) = LlbGraph::load(&target.definition, &GraphLimits::HOSTILE) else { return false };
        graph.vertices().iter().any(|vertex| match vertex.kind() {
            OpKind::Source(source) => held(&source.identifier) || source.attrs.values().any(|value| held(value)),
            _ => false,
        })
    })
}

/// What is at hand to answer with.
struct Ready {
    /// `None` for the stock one.
    bytes: Option<FrontendBytes>,
    key: Option<Digest>,
    transcript: Option<Arc<Transcript>>,
    /// Loaded already where there is no transcript.
    frontend: Option<Frontend>,
}

impl Consultation<'_> {
    /// The frontend's outcome.
    pub(crate) async fn outcome(&self) -> Result<Outcome, BuildError> {
        let outcome = self.consult().await;
        let failed = outcome.as_ref().err().map(|error| error.message.as_str());
        self.session.said.end(&self.session.shared.events, failed);
        outcome
    }

    async fn consult(&self) -> Result<Outcome, BuildError> {
        let shared = &self.session.shared;
        let title = match (&self.chosen.source, &self.chosen.because) {
            // Said where it happens: nobody looks for it in a registry.
            (FrontendSource::Stock, Because::SyntaxLine { syntax, .. }) => {
                format!("[internal] load frontend {}, which is {syntax}", self.chosen.source)
            }
            _ => format!("[internal] load frontend {}", self.chosen.source),
        };
        let ready = shared.internal(&title, self.ready()).await?;
        let version = match &ready.bytes {
            Some(bytes) => bytes.digest().to_string(),
            None => format!("of rhost {}", env!("CARGO_PKG_VERSION")),
        };
        shared.explainer.frontend(format!("{} {version}", self.chosen.source));
        let recorder = Arc::new(Recorder::new(self.session.clone()));
        if let Some(transcript) = &ready.transcript
            && self.record.is_none()
            && let Some(outcome) = recorder.replay(transcript).await
        {
            return Ok(outcome);
        }
        let frontend = match ready.frontend {
            Some(frontend) => frontend,
            None => self.frontend(ready.bytes.as_ref()).await?,
        };
        let tape = Arc::new(Tape::new(recorder.clone()));
        let outcome = frontend.build(tape.clone(), self.invocation.clone(), &shared.rules.guest_limits()).await;
        if shared.pins.refusal().is_some() {
            // What the frontend made of what is not here is worth nothing, but that it tells what else would be wanted.
            for target in outcome.iter().flat_map(|outcome| &outcome.targets) {
                if let Ok(graph) = LlbGraph::load(&target.definition, &GraphLimits::HOSTILE) {
                    shared.pins.check(&graph);
                }
            }
        }
        if let Some(refusal) = shared.pins.refusal() {
            return Err(refusal);
        }
        let recording = || {
            // Everybody has the built-in one.
            let component = ready.bytes.as_ref().map_or(&[][..], |found| &found.bytes);
            tape.recording(frontend.identity(), component, &self.invocation, outcome.as_ref()).encode()
        };
        if let Some(path) = self.record {
            recordings::write(path, &recording()).map_err(|error| recordings::unwritable(path, &error))?;
        }
        let kept = match (&outcome, self.record) {
            (Err(RunError::Stopped { .. } | RunError::BadAnswer { .. }), Some(path)) => Some(path.to_owned()),
            (Err(RunError::Stopped { .. } | RunError::BadAnswer { .. }), None) => {
                recordings::keep(&shared.store, &recording())
            }
            _ => None,
        };
        let outcome = outcome.map_err(|error| {
            let error = blame::frontend(self.session, self.file, error);
            match kept {
                Some(path) => {
                    error.hint(format!("to run it again as it ran: `rhost frontend replay {}`", path.display()))
                }
                None => error,
            }
        })?;
        if let Some(key) = ready.key
            && !names_credentials(&outcome)
            && let Some(bytes) = recorder.transcript(&outcome).and_then(|transcript| transcript.encode())
            && let Err(error) = shared.store.set_fact(TRANSCRIPTS, key.as_raw(), &bytes)
        {
            tracing::debug!(%error, "the frontend's answer is not remembered");
        }
        Ok(outcome)
    }

    async fn ready(&self) -> Result<Ready, BuildError> {
        let rules = &self.session.shared.rules;
        let allowed = rules.check_frontend(&self.chosen.source);
        allowed.map_err(|refusal| self.placed(blame::policy(&refusal, refusal.to_string())))?;
        let bytes = match &self.chosen.source {
            FrontendSource::Stock => None,
            source => {
                let pins = &self.session.shared.pins;
                let client = self.engine.client_for(pins.offline())?;
                let found = self.engine.pinned_frontend_bytes(source, pins, &client).await;
                Some(found.map_err(|error| self.placed(error))?)
            }
        };
        if let (FrontendSource::Image(text), Some(manifest)) =
            (&self.chosen.source, bytes.as_ref().and_then(|bytes| bytes.manifest))
            && let Ok(image) = text.parse::<Reference>()
        {
            let checked = self.session.shared.images.check_signatures(&image.tagged(), manifest).await;
            checked.map_err(|error| self.placed(blame::signature(&error, format!("frontend: {error}"))))?;
        }
        let key = self.key(bytes.as_ref());
        let known = key.and_then(|key| self.session.shared.store.fact(TRANSCRIPTS, key.as_raw()).ok().flatten());
        let transcript = known.and_then(|bytes| Transcript::decode(&bytes)).map(Arc::new);
        let frontend = match transcript {
            Some(_) => None,
            None => Some(self.frontend(bytes.as_ref()).await?),
        };
        Ok(Ready { bytes, key, transcript, frontend })
    }

    /// Under what the answer is remembered; `None` where this program cannot be told from another.
    fn key(&self, bytes: Option<&FrontendBytes>) -> Option<Digest> {
        let program = std::fs::metadata(&self.engine.options.compiler.0).ok()?;
        let program = (program.dev(), program.ino(), program.size(), program.mtime(), program.mtime_nsec());
        let component = bytes.map(FrontendBytes::digest);
        let mut text = format!("{program:?}\n{component:?}\n{:?}\n", self.invocation);
        for (name, directory) in &self.session.shared.locals {
            // A build file that was given on stdin lies in another directory each time.
            let place =
                if directory.starts_with(self.session.shared.store.root()) { "" } else { &directory.to_string_lossy() };
            let _ = writeln!(text, "{name} {place:?}");
        }
        Some(Digest::of(text))
    }

    /// The frontend, ready to run. An error that the `# syntax=` line is to blame for has its place.
    async fn frontend(&self, bytes: Option<&FrontendBytes>) -> Result<Frontend, BuildError> {
        let load = async {
            let (engine, compiler) = self.engine.runtime()?;
            let loaded = match bytes {
                None => {
                    let name = self.chosen.source.to_string();
                    engine.embedded(&name, &self.engine.options.stock_frontend, &compiler).await
                }
                Some(found) => engine.compile(&found.name, &found.bytes, &compiler).await,
            };
            loaded.map_err(|error: LoadError| BuildError::new(Kind::Frontend, error))
        };
        load.await.map_err(|error| self.placed(error))
    }

    fn placed(&self, mut error: BuildError) -> BuildError {
        if let Because::SyntaxLine { file, line, .. } = &self.chosen.because {
            let text = String::from_utf8_lossy(self.text).into_owned();
            error.place = Some(Place { file: file.clone(), first_line: *line, last_line: *line, text });
        }
        error
    }
}
