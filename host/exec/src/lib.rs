//! Container launch: one `Step` of plain values in, streamed output and an `Exit` out.
//!
//! - It does not know snapshots, caches or images: it is handed mounts as values.
//! - It never opens a path inside a rootfs or a context except through a directory descriptor with RESOLVE_IN_ROOT.
//! - The threaded parent never forks: it spawns the same binary again (`init_main`), which has one thread and forks a supervisor for each step. That makes
//!   the mounts, clones the container's pid 1 and outlives it to clean up. Losing the parent ends the supervisors, losing a supervisor
//!   ends its container.
mod arenas;
mod cgroup;
mod container;
mod devices;
mod emulation;
mod error;
mod guard;
mod init;
mod launch;
mod lend;
mod run;
mod seccomp;
mod settle;
mod starter;
mod step;
mod stubs;
mod sys;
mod system_mounts;
mod trees;
mod user;
mod userns;
mod validate;
mod wire;

pub use arenas::share_arenas;
pub use emulation::{
    DIRECTORIES, HostEmulationError, KNOWN, NoRunner, Registration, Runner, install_on_host, registrations,
    remove_from_host, runner, runs_here, try_emulator,
};
pub use error::ExecError;
pub use guard::{HostCommand, HostExit, find_program};
pub use init::{INIT_NAME, init_main};
pub use lend::{Held, SecretBytes, Service};
pub use run::{Exit, ExitStatus, OutputSink, OutputStream, run, run_until};
pub use settle::{settle, stop_signals_end_us};
pub use step::{
    Access, Emulator, Mount, MountSource, Network, OverlayUpper, ResolvConf, Resources, Security, Step, Tree, Ulimit,
};
pub use userns::{UserNamespace, enter_user_namespace, in_user_namespace};

/// Makes the enclosing binary answer as a step's supervisor before its `main` runs. For test binaries, whose `main` is the
/// harness's; other binaries call [`init_main`] first thing in `main`.
#[macro_export]
macro_rules! init_before_main {
    () => {
        const _: () = {
            extern "C" fn start() {
                $crate::init_main();
            }
            // SAFETY: the section holds function pointers that libc calls once, single-threaded, before `main`.
            #[used]
            #[unsafe(link_section = ".init_array")]
            static START: extern "C" fn() = start;
        };
    };
}
