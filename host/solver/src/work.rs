//! `Work`: something done exactly once however many want it, stopped when nobody does.
//!
//! The work runs in a task of its own, so it goes on while anybody waits, on whichever build's behalf it was started. The last
//! waiter that goes away aborts it; the next one to come starts it anew.
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;
use tokio::task::AbortHandle;

/// A value to be made once. Failures are values: they are made once, too.
pub struct Work<T> {
    state: Arc<Mutex<State<T>>>,
}

enum State<T> {
    Idle,
    Running { waiters: usize, run: u64, abort: AbortHandle, done: watch::Receiver<Option<T>> },
    Done(T),
}

impl<T> Default for Work<T> {
    fn default() -> Self {
        Self { state: Arc::new(Mutex::new(State::Idle)) }
    }
}

/// Counts one waiter of one run; the last to be dropped stops the work.
struct Waiter<T> {
    state: Arc<Mutex<State<T>>>,
    run: u64,
}

impl<T> Drop for Waiter<T> {
    fn drop(&mut self) {
        let mut state = lock(&self.state);
        if let State::Running { waiters, run, abort, .. } = &mut *state
            && *run == self.run
        {
            *waiters -= 1;
            if *waiters == 0 {
                abort.abort();
                *state = State::Idle;
            }
        }
    }
}

fn lock<T>(state: &Mutex<State<T>>) -> MutexGuard<'_, State<T>> {
    // A panic while the lock was held is impossible: nothing foreign runs under it.
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<T: Clone + Send + Sync + 'static> Work<T> {
    /// The value if it is made already.
    pub fn peek(&self) -> Option<T> {
        match &*lock(&self.state) {
            State::Done(value) => Some(value.clone()),
            _ => None,
        }
    }

    /// The value; made by `make` if nobody has made it or is about to. `None` when the work panicked.
    pub async fn get<F>(&self, make: impl FnOnce() -> F) -> Option<T>
    where
        F: Future<Output = T> + Send + 'static,
    {
        let (mut done, waiter) = {
            let mut state = lock(&self.state);
            match &mut *state {
                State::Done(value) => return Some(value.clone()),
                State::Running { waiters, run, done, .. } => {
                    *waiters += 1;
                    (done.clone(), Waiter { state: self.state.clone(), run: *run })
                }
                State::Idle => {
                    let (sender, receiver) = watch::channel(None);
                    let (run, work, shared) = (next_run(), make(), self.state.clone());
                    let task = tokio::spawn(async move {
                        let value = work.await;
                        let mut state = lock(&shared);
                        if matches!(&*state, State::Running { run: current, .. } if *current == run) {
                            *state = State::Done(value.clone());
                        }
                        drop(state);
                        // Nobody may be waiting any more.
                        let _ = sender.send(Some(value));
                    });
                    *state = State::Running { waiters: 1, run, abort: task.abort_handle(), done: receiver.clone() };
                    (receiver, Waiter { state: self.state.clone(), run })
                }
            }
        };
        let value = done.wait_for(Option::is_some).await.ok().and_then(|value| value.clone());
        drop(waiter);
        value
    }
}

/// A number that no other run has.
fn next_run() -> u64 {
    static NEXT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
    NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[tokio::test]
    async fn many_waiters_one_run() {
        let (work, runs) = (Arc::new(Work::default()), Arc::new(AtomicUsize::new(0)));
        let waiters: Vec<_> = (0..50)
            .map(|_| {
                let (work, runs) = (work.clone(), runs.clone());
                tokio::spawn(async move {
                    work.get(|| async move {
                        tokio::task::yield_now().await;
                        runs.fetch_add(1, Ordering::SeqCst)
                    })
                    .await
                })
            })
            .collect();
        for waiter in waiters {
            assert_eq!(waiter.await.expect("no panic"), Some(0));
        }
        assert_eq!(runs.load(Ordering::SeqCst), 1);
    }

    #[tokio::test]
    async fn the_work_goes_on_while_anybody_waits_and_stops_with_the_last() {
        struct Guard(Arc<AtomicUsize>);
        impl Drop for Guard {
            fn drop(&mut self) {
                self.0.fetch_add(1, Ordering::SeqCst);
            }
        }
        let (work, stopped) = (Arc::new(Work::<u32>::default()), Arc::new(AtomicUsize::new(0)));
        let wait = || {
            let (work, guard) = (work.clone(), Guard(stopped.clone()));
            tokio::spawn(async move {
                work.get(|| async move {
                    let _guard = guard;
                    std::future::pending().await
                })
                .await
            })
        };
        let (first, second) = (wait(), wait());
        while !matches!(&*lock(&work.state), State::Running { waiters: 2, .. }) {
            tokio::task::yield_now().await;
        }
        // The second waiter's own guard went with its unused closure.
        let before = stopped.load(Ordering::SeqCst);
        first.abort();
        assert!(first.await.is_err());
        tokio::task::yield_now().await;
        assert_eq!(stopped.load(Ordering::SeqCst), before, "the second still waits");
        second.abort();
        assert!(second.await.is_err());
        while stopped.load(Ordering::SeqCst) == before {
            tokio::task::yield_now().await;
        }
        assert_eq!(work.get(|| async { 7 }).await, Some(7), "the next one starts it anew");
    }

    #[tokio::test]
    async fn a_panic_is_none_and_not_a_hang() {
        let work = Work::<u32>::default();
        assert_eq!(work.get(|| async { panic!("on purpose") }).await, None);
    }
}
