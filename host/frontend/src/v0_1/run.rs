//! One run: an instance with its limits, the call, and the reading of what came of it.
use std::sync::Arc;
use std::time::Instant;

use rhost_llb::Platform;
use wasmtime::component::{Component, Resource};
use wasmtime::{Store, Trap, UpdateDeadline};

use super::bindings::FrontendPre;
use super::guest::Guest;
use super::handles::{Invocation as InvocationHandle, Outcome as OutcomeHandle};
use crate::engine::Engine;
use crate::error::{Identity, RunError, Stop};
use crate::frontend::ANSWERED;
use crate::host::{FrontendHost, Invocation, Outcome, Target};
use crate::limits::Limits;

/// A component whose imports are bound and whose exports are known to be there.
#[derive(Clone)]
pub(crate) struct Prepared(FrontendPre<Guest>);

impl Prepared {
    pub fn new(engine: &Engine, component: &Component) -> wasmtime::Result<Self> {
        Ok(Self(FrontendPre::new(engine.linker().instantiate_pre(component)?)?))
    }

    /// Runs it once. Where it is stopped, `offsets` are the places of the backtrace's frames in the component.
    pub async fn build(
        &self,
        engine: &Engine,
        identity: &Identity,
        host: Arc<dyn FrontendHost>,
        invocation: Invocation,
        limits: &Limits,
        offsets: &mut Vec<Option<usize>>,
    ) -> Result<Outcome, RunError> {
        let bad = |reason: String| RunError::BadAnswer { identity: identity.clone(), reason };
        let mut store = Store::new(engine.wasmtime(), Guest::new(host, invocation, limits));
        store.limiter(|guest| guest);
        store.set_hostcall_fuel(limits.call_payload);
        store.set_max_component_handles(limits.handles);
        store.set_epoch_deadline(1);
        store.epoch_deadline_callback(|mut context| {
            context.data_mut().tick()?;
            // Others want to run too, and a dropped future can be dropped only here.
            Ok(UpdateDeadline::Yield(1))
        });
        let begun = Instant::now();
        let called = self.call(&mut store).await;
        tracing::trace!(target: ANSWERED, "{:.2}", begun.elapsed().as_secs_f64() * 1e3);
        store.data().close_reports();
        let answer = match called {
            Err(error) => {
                if let Some(trace) = error.downcast_ref::<wasmtime::WasmBacktrace>() {
                    offsets.extend(trace.frames().iter().map(wasmtime::FrameInfo::module_offset));
                }
                return Err(stopped(identity, &error, store.data()));
            }
            Ok(Err(error)) => {
                return Err(RunError::Refused {
                    identity: identity.clone(),
                    error: error.into(),
                    reported_errors: store.data().errors,
                });
            }
            Ok(Ok(outcome)) => outcome,
        };
        let guest = store.data_mut();
        let OutcomeHandle { targets, metadata } =
            guest.table.delete(answer).map_err(|error| bad(format!("its outcome is no handle: {error}")))?;
        // An answer to a request for information has no result but its metadata.
        if targets.is_empty() && metadata.is_empty() {
            return Err(bad("its outcome holds no result for any platform and no metadata".into()));
        }
        let mut outcome = Outcome { targets: Vec::new(), metadata };
        for (platform, edge, config) in targets {
            let word = |text: &str| text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
            let Platform { os, architecture, variant, .. } = &platform;
            if os.is_empty()
                || architecture.is_empty()
                || ![os, architecture, variant].into_iter().all(|text| word(text))
            {
                return Err(bad(format!("`{}` is no platform", platform.to_string().escape_debug())));
            }
            if !config.is_empty()
                && !serde_json::from_slice::<serde_json::Value>(&config).is_ok_and(|config| config.is_object())
            {
                return Err(bad(format!("the image configuration for {platform} is no JSON object")));
            }
            let definition = guest.graph.marshal(edge).map_err(|error| bad(error.to_string()))?;
            outcome.targets.push(Target { platform, definition, config });
        }
        Ok(outcome)
    }

    async fn call(
        &self,
        store: &mut Store<Guest>,
    ) -> wasmtime::Result<Result<Resource<OutcomeHandle>, super::bindings::rhost::frontend::types::Error>> {
        let instance = self.0.instantiate_async(&mut *store).await?;
        let invocation = store.data_mut().table.push(InvocationHandle)?;
        instance.call_build(&mut *store, invocation).await
    }
}

/// What became of a guest that did not answer.
fn stopped(identity: &Identity, error: &wasmtime::Error, guest: &Guest) -> RunError {
    let backtrace = error.downcast_ref::<wasmtime::WasmBacktrace>().map_or(Vec::new(), frames);
    RunError::Stopped {
        identity: identity.clone(),
        stop: reason(error, guest),
        backtrace,
        place: guest.last_place.clone(),
    }
}

/// Names of functions, innermost first. Only wasmtime's own printing knows how names of Rust and C++ are written.
fn frames(trace: &wasmtime::WasmBacktrace) -> Vec<String> {
    // `  0:   0x2a - module!name`
    let name = |line: &str| {
        let (_, name) = line.split_once(" - ")?;
        let name = name.split_once('!').map_or(name, |(_, name)| name);
        Some(name.trim().replace("<wasm function ", "function ").trim_end_matches('>').to_owned())
    };
    trace.to_string().lines().skip(1).filter_map(name).collect()
}

fn reason(error: &wasmtime::Error, guest: &Guest) -> Stop {
    if let Some(stop) = error.downcast_ref::<Stop>() {
        return stop.clone();
    }
    if let Some(wanted) = guest.denied_memory {
        return Stop::Memory { wanted: wanted.div_ceil(1 << 20), limit: guest.limits.memory >> 20 };
    }
    if let Some(wanted) = guest.denied_table {
        let limit = guest.limits.table_elements;
        return Stop::Limit { what: format!("it asked for a table of {wanted} elements"), limit };
    }
    match error.downcast_ref::<Trap>() {
        Some(Trap::StackOverflow) => Stop::Stack,
        Some(Trap::Interrupt) => Stop::Time { limit: guest.limits.compute },
        // A panic arrives as a bare `unreachable`; the SDK's hook has logged its words before.
        Some(Trap::UnreachableCodeReached) => match &guest.last_words {
            Some(message) => Stop::Panic { message: message.clone() },
            None => Stop::Trap { reason: "it aborted without a word".into() },
        },
        Some(Trap::MemoryOutOfBounds) => Stop::Trap {
            reason: "memory access out of bounds (a bug in the frontend, or calls nested so deeply that its own stack overflowed)".into(),
        },
        Some(trap) => Stop::Trap { reason: trap.to_string() },
        // The guest's side of the handles is wasmtime's own table, whose refusal has no type.
        None if error.downcast_ref::<wasmtime::component::ResourceTableError>().is_some()
            || error.root_cause().to_string().contains("handle limit exceeded") =>
        Stop::Limit {
            what: "it holds too many handles, or used one that is gone".into(),
            limit: guest.limits.handles,
        },
        // Nor has that of a call which hands over too much.
        None if error.root_cause().to_string().contains("fuel allocated for hostcalls") => {
            Stop::Limit { what: "it handed over too much in one call".into(), limit: guest.limits.call_payload }
        }
        None => Stop::Trap { reason: format!("{:#}", error.root_cause()) },
    }
}
