//! What a guest may use. Every bound has a clear refusal; see [`crate::Stop`].
use std::time::Duration;

/// Bounds on one run of a guest. All are the engine's to choose.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Bytes of linear memory, all memories of the component together.
    pub memory: usize,
    /// Elements of one table.
    pub table_elements: usize,
    /// Time that the guest computes. Waiting for the host does not count; work that the host does for a guest on the spot does.
    pub compute: Duration,
    /// Time that the guest waits for files of contexts and solved trees, one call after the other. Promises do not count.
    pub reading: Duration,
    /// Bytes of files that a guest reads in its life.
    pub read: u64,
    /// Bytes that one call may hand from the guest to the host.
    pub call_payload: usize,
    /// Bytes of a file that one call may hand to the guest.
    pub file_payload: u64,
    /// Entries of a directory that one call may hand to the guest.
    pub directory_entries: usize,
    /// Live handles.
    pub handles: usize,
    /// Bytes of texts, options and file contents that a guest hands over in its life.
    pub handed_over: usize,
    /// Promises that a guest makes in its life.
    pub promises: usize,
    /// Lines and findings that reach the user.
    pub reports: usize,
    /// Their bytes.
    pub report_bytes: usize,
    /// What a graph may be.
    pub graph: rhost_llb::Limits,
}

impl Limits {
    /// For guests from anywhere, the stock ones included: 64 MiB, one second of computing, 32 MiB a call.
    pub const HOSTILE: Self = Self {
        memory: 64 << 20,
        table_elements: 20_000,
        compute: Duration::from_secs(1),
        reading: Duration::from_secs(300),
        read: 2 << 30,
        call_payload: 32 << 20,
        file_payload: 16 << 20,
        directory_entries: 100_000,
        handles: 200_000,
        handed_over: 256 << 20,
        promises: 10_000,
        reports: 10_000,
        report_bytes: 4 << 20,
        graph: rhost_llb::Limits::HOSTILE,
    };
}

/// Depth of the guest's own stack, and of the host's stack it runs on. Part of the compiled code.
pub(crate) const WASM_STACK: usize = 512 << 10;
/// See [`WASM_STACK`]: what is left is for host functions.
pub(crate) const ASYNC_STACK: usize = 2 << 20;
/// How often a running guest is looked at.
pub(crate) const TICK: Duration = Duration::from_millis(5);
