//! `Engine`: the one wasmtime engine of a process, its clock, and the settings that compiled code depends on.
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};

use wasmtime::component::Component;
use wasmtime::{Config, InstanceAllocationStrategy, PoolingAllocationConfig};

use crate::compile::CodePages;
use crate::limits::{ASYNC_STACK, TICK, WASM_STACK};

/// How instances get their memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Allocation {
    /// Each by itself. For a process that runs a few builds.
    OnDemand,
    /// From a pool made in advance. For a daemon.
    Pooled,
}

/// Runs guests. Cheap to clone; one per process is enough.
#[derive(Clone)]
pub struct Engine {
    inner: Arc<Inner>,
}

struct Inner {
    wasmtime: wasmtime::Engine,
    linker: wasmtime::component::Linker<crate::v0_1::Guest>,
    /// Components whose code is run in its place, by its address: the tables for unwinding are those of that place, and can be registered once.
    in_place: Mutex<Vec<(usize, Component)>>,
}

/// The runtime cannot start: the machine lacks what wasmtime needs.
#[derive(Debug, thiserror::Error)]
#[error("the WebAssembly runtime cannot start: {reason}")]
pub struct EngineError {
    /// In wasmtime's words.
    pub reason: String,
}

impl Engine {
    /// Starts the engine, and the thread that is its clock: it ends with the last clone.
    pub fn new(allocation: Allocation) -> Result<Self, EngineError> {
        let failed = |error: wasmtime::Error| EngineError { reason: format!("{error:#}") };
        let mut config = config(Some(allocation));
        if CodePages::WORKS {
            config.with_custom_code_memory(Some(Arc::new(CodePages)));
        }
        let wasmtime = wasmtime::Engine::new(&config).map_err(failed)?;
        let linker = crate::v0_1::linker(&wasmtime).map_err(failed)?;
        let weak = wasmtime.weak();
        std::thread::Builder::new()
            .name("guest clock".into())
            .spawn(move || {
                loop {
                    std::thread::sleep(TICK);
                    let Some(engine) = weak.upgrade() else { return };
                    engine.increment_epoch();
                }
            })
            .map_err(|error| EngineError { reason: format!("its clock: {error}") })?;
        Ok(Self { inner: Arc::new(Inner { wasmtime, linker, in_place: Mutex::default() }) })
    }

    pub(crate) fn wasmtime(&self) -> &wasmtime::Engine {
        &self.inner.wasmtime
    }

    /// The component whose code is `code`, made by `load` at the first time.
    pub(crate) fn once(
        &self,
        code: &'static [u8],
        load: impl FnOnce() -> Result<Component, String>,
    ) -> Result<Component, String> {
        let mut known = self.inner.in_place.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, component)) = known.iter().find(|(at, _)| *at == code.as_ptr().addr()) {
            return Ok(component.clone());
        }
        let component = load()?;
        known.push((code.as_ptr().addr(), component.clone()));
        Ok(component)
    }

    pub(crate) fn linker(&self) -> &wasmtime::component::Linker<crate::v0_1::Guest> {
        &self.inner.linker
    }
}

/// All that compiled code depends on is the same with and without an allocation (in the compiling child).
pub(crate) fn config(allocation: Option<Allocation>) -> Config {
    const RESERVATION: u64 = 256 << 20;
    let mut config = Config::new();
    config
        .wasm_component_model(true)
        .epoch_interruption(true)
        .max_wasm_stack(WASM_STACK)
        .async_stack_size(ASYNC_STACK)
        .wasm_backtrace_max_frames(NonZeroUsize::new(20))
        .memory_init_cow(true)
        // The default reserves tens of GiB of addresses for each memory, which containers and rlimits refuse.
        .memory_reservation(RESERVATION);
    if allocation == Some(Allocation::Pooled) {
        let mut pool = PoolingAllocationConfig::new();
        pool.total_component_instances(64)
            .total_core_instances(1024)
            .total_memories(64)
            .total_tables(256)
            .total_stacks(64)
            .max_memory_size(RESERVATION as usize)
            .table_elements(20_000)
            .max_memories_per_component(4)
            .max_tables_per_component(16)
            .max_core_instances_per_component(64)
            .max_unused_warm_slots(8)
            .linear_memory_keep_resident(1 << 20)
            .table_keep_resident(64 << 10)
            .async_stack_keep_resident(64 << 10);
        config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    }
    config
}
