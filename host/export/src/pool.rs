//! `Pool`: threads that compress blocks for every layer, started when the first block comes.
use std::num::NonZeroUsize;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;

type Job = Box<dyn FnOnce() + Send>;

/// Threads that live as long as the pool. Started when the first job comes.
pub(crate) struct Pool {
    threads: usize,
    started: AtomicUsize,
    queue: Mutex<Option<Sender<Job>>>,
    jobs: Arc<Mutex<Receiver<Job>>>,
}

impl Pool {
    pub(crate) fn new(threads: NonZeroUsize) -> Self {
        let (queue, jobs) = channel();
        Self {
            threads: threads.get(),
            started: AtomicUsize::new(0),
            queue: Mutex::new(Some(queue)),
            jobs: Arc::new(Mutex::new(jobs)),
        }
    }

    /// How many threads it has at most.
    pub(crate) fn threads(&self) -> usize {
        self.threads
    }

    /// Runs `work` on a thread of the pool; the receiver is closed without a value when it panicked.
    pub(crate) fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Receiver<T> {
        let (answer, receiver) = channel();
        let job: Job = Box::new(move || {
            // Nobody waits any more when the layer failed elsewhere.
            let _ = answer.send(work());
        });
        if self.start() {
            if let Some(queue) = &*lock(&self.queue) {
                // The pool itself holds a receiver: this cannot fail.
                let _ = queue.send(job);
            }
        } else {
            job();
        }
        receiver
    }

    /// Whether there is at least one thread; the caller does the work itself otherwise.
    fn start(&self) -> bool {
        let started = self.started.load(Ordering::Acquire);
        if started > 0 {
            return true;
        }
        let _queue = lock(&self.queue);
        while self.started.load(Ordering::Acquire) < self.threads {
            let jobs = Arc::clone(&self.jobs);
            let spawned = thread::Builder::new().name("compress".to_owned()).spawn(move || {
                loop {
                    let job = lock(&jobs).recv();
                    let Ok(job) = job else { return };
                    // A panic has closed the job's channel, which is how its layer learns of it.
                    let _ = catch_unwind(AssertUnwindSafe(job));
                }
            });
            if spawned.is_err() {
                break;
            }
            self.started.fetch_add(1, Ordering::AcqRel);
        }
        self.started.load(Ordering::Acquire) > 0
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        // Closing the queue ends the threads once it is empty.
        *lock(&self.queue) = None;
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|e| e.into_inner())
}
