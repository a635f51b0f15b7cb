//! Entry of the re-executed supervisor.

/// `argv[0]` of the supervisor.
pub const INIT_NAME: &str = "rhost-exec-init";

/// Call first thing in `main`, before threads and async runtimes. Returns at once in an ordinary process; in a supervisor it
/// runs the step and never returns.
pub fn init_main() {}
