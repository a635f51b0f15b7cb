//! What this process started: who ends waits for supervisors and guards, so that no mount and no cgroup outlives a command.
use std::os::fd::OwnedFd;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

static STARTED: Mutex<Vec<OwnedFd>> = Mutex::new(Vec::new());

/// Remembers a guard; forgets those that have ended. On a kernel without pidfds there is nothing to remember.
pub(crate) fn started(pid: u32) {
    let fd = i32::try_from(pid).ok().and_then(Pid::from_raw).and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
    if let Some(fd) = fd {
        let mut all = STARTED.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|fd| !has_ended(fd, Duration::ZERO));
        all.push(fd);
    }
}

fn has_ended(fd: &OwnedFd, patience: Duration) -> bool {
    let timeout = Timespec { tv_sec: patience.as_secs() as _, tv_nsec: patience.subsec_nanos() as _ };
    // An interrupted wait is asked again by the caller's next turn.
    poll(&mut [PollFd::new(fd, PollFlags::IN)], Some(&timeout)).is_ok_and(|ready| ready > 0)
}

/// Waits until every step that this process has started is gone and unmounted, at most `patience`; false when one is left. Steps must have been
/// dropped before: this waits for them, it does not tell them to stop.
pub fn settle(patience: Duration) -> bool {
    let deadline = Instant::now() + patience;
    let mut all = std::mem::take(&mut *STARTED.lock().unwrap_or_else(PoisonError::into_inner));
    // It ends after all supervisors.
    all.extend(crate::starter::end());
    all.iter().all(|fd| {
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if has_ended(fd, left) {
                return true;
            }
            if left.is_zero() {
                return false;
            }
        }
    })
}

/// From now on SIGINT, SIGTERM and SIGHUP end this process at once: for who has heard the first one and is clearing up.
pub fn stop_signals_end_us() {
    crate::sys::reset_stop_signals();
}
