//! What the host keeps of one run of a guest: its handles, its graph, its budgets. A guest that passes a budget is stopped by a
//! [`Stop`] that travels as wasmtime's error.
use std::sync::Arc;
use std::time::{Duration, Instant};

use rhost_llb::GraphBuilder;
use tokio::sync::Semaphore;
use wasmtime::component::ResourceTable;

use crate::error::Stop;
use crate::host::{FrontendHost, Invocation, Range, Report, SourceText};
use crate::limits::{Limits, TICK};

/// Promises at work at once; the others wait their turn.
const CONCURRENT_PROMISES: usize = 64;
/// Build files and the like that a guest may register.
const SOURCE_MAPS: usize = 1_000;

/// One run.
pub(crate) struct Guest {
    pub table: ResourceTable,
    pub graph: GraphBuilder,
    pub host: Arc<dyn FrontendHost>,
    pub invocation: Invocation,
    pub limits: Limits,
    pub turns: Arc<Semaphore>,
    /// Last line of level `error`: where a panic leaves its words.
    pub last_words: Option<String>,
    /// Findings of severity `error`.
    pub errors: usize,
    /// Why memory was refused, if it was.
    pub denied_memory: Option<usize>,
    /// Elements of a table that was refused, if one was.
    pub denied_table: Option<usize>,
    /// The place in a build file that the guest spoke of last.
    pub last_place: Option<(Arc<SourceText>, Range)>,
    /// The guest waited for the host since it was looked at last: the tick is not its own.
    waited: bool,
    reading: Duration,
    read_bytes: u64,
    computed: Duration,
    memory: usize,
    handed_over: usize,
    promises: usize,
    source_maps: usize,
    reports: usize,
    report_bytes: usize,
    dropped_reports: usize,
}

impl Guest {
    pub fn new(host: Arc<dyn FrontendHost>, invocation: Invocation, limits: &Limits) -> Self {
        let mut table = ResourceTable::new();
        table.set_max_capacity(limits.handles);
        Self {
            table,
            graph: GraphBuilder::new(invocation.build_platform.clone(), limits.graph),
            host,
            invocation,
            limits: limits.clone(),
            turns: Arc::new(Semaphore::new(CONCURRENT_PROMISES)),
            last_words: None,
            errors: 0,
            denied_memory: None,
            denied_table: None,
            last_place: None,
            waited: false,
            reading: Duration::ZERO,
            read_bytes: 0,
            computed: Duration::ZERO,
            memory: 0,
            handed_over: 0,
            promises: 0,
            source_maps: 0,
            reports: 0,
            report_bytes: 0,
            dropped_reports: 0,
        }
    }

    /// Called once per tick in which the guest ran; says whether it may go on.
    pub fn tick(&mut self) -> Result<(), Stop> {
        if std::mem::take(&mut self.waited) {
            return Ok(());
        }
        self.spend(TICK)
    }

    /// Takes note that the guest waited for the host.
    pub fn waited(&mut self, since: Instant) {
        self.waited |= since.elapsed() >= TICK;
    }

    /// Takes note that the guest waited for a file. A guest that reads for ever is no better than one that computes for ever.
    pub fn read(&mut self, since: Instant) -> Result<(), Stop> {
        self.waited(since);
        self.reading += since.elapsed();
        let limit = self.limits.reading;
        if self.reading > limit { Err(Stop::Reading { limit }) } else { Ok(()) }
    }

    /// Does work for the guest on its time.
    pub fn on_its_time<T>(&mut self, work: impl FnOnce(&mut Self) -> T) -> Result<T, Stop> {
        let start = Instant::now();
        let answer = work(self);
        self.spend(start.elapsed())?;
        Ok(answer)
    }

    fn spend(&mut self, time: Duration) -> Result<(), Stop> {
        self.computed += time;
        if self.computed > self.limits.compute {
            return Err(Stop::Time { limit: self.limits.compute });
        }
        Ok(())
    }

    /// Takes note of bytes that the guest leaves with the host.
    pub fn hand_over(&mut self, bytes: usize) -> Result<(), Stop> {
        self.handed_over = self.handed_over.saturating_add(bytes);
        let limit = self.limits.handed_over;
        bound(self.handed_over, limit, "it handed over too many bytes")
    }

    /// Takes note of bytes of a file that the guest gets.
    pub fn got(&mut self, bytes: usize) -> Result<(), Stop> {
        self.read_bytes = self.read_bytes.saturating_add(bytes as u64);
        let limit = self.limits.read;
        if self.read_bytes <= limit {
            return Ok(());
        }
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        Err(Stop::Limit { what: "it read too many bytes of files".to_owned(), limit })
    }

    /// Takes note of a promise.
    pub fn promise(&mut self) -> Result<(), Stop> {
        self.promises += 1;
        bound(self.promises, self.limits.promises, "it started too many resolves and solves")
    }

    /// Takes note of a source map.
    pub fn source_map(&mut self) -> Result<(), Stop> {
        self.source_maps += 1;
        bound(self.source_maps, SOURCE_MAPS, "it made too many source maps")
    }

    /// Passes something on to the user, up to a volume.
    pub fn report(&mut self, report: Report, bytes: usize) {
        self.reports = self.reports.saturating_add(1);
        self.report_bytes = self.report_bytes.saturating_add(bytes);
        if self.reports > self.limits.reports || self.report_bytes > self.limits.report_bytes {
            self.dropped_reports += 1;
        } else {
            self.host.report(report);
        }
    }

    /// At the end of a run: says how much was not passed on, if anything was.
    pub fn close_reports(&self) {
        let dropped = self.dropped_reports;
        if dropped > 0 {
            let (count, bytes) = (self.limits.reports, self.limits.report_bytes >> 20);
            let message =
                format!("{dropped} more lines of the frontend are not shown (limit: {count} lines, {bytes} MiB)");
            self.host.report(Report::Log { level: crate::Level::Warn, message });
        }
    }
}

/// Refuses what is more than `limit`.
pub(super) fn bound(count: usize, limit: usize, what: &str) -> Result<(), Stop> {
    if count > limit { Err(Stop::Limit { what: what.to_owned(), limit }) } else { Ok(()) }
}

/// One budget over all memories of the component.
impl wasmtime::ResourceLimiter for Guest {
    fn memory_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        if maximum.is_some_and(|maximum| desired > maximum) {
            return Ok(false);
        }
        let total = self.memory.saturating_sub(current).saturating_add(desired);
        if total > self.limits.memory {
            self.denied_memory = Some(total);
            return Ok(false);
        }
        self.memory = total;
        Ok(true)
    }

    fn table_growing(&mut self, _current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        if maximum.is_some_and(|maximum| desired > maximum) {
            return Ok(false);
        }
        if desired > self.limits.table_elements {
            self.denied_table = Some(desired);
            return Ok(false);
        }
        Ok(true)
    }

    fn instances(&self) -> usize {
        64
    }

    fn memories(&self) -> usize {
        8
    }

    fn tables(&self) -> usize {
        64
    }
}
