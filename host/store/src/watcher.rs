//! `Watcher`: told by the kernel when a file changes or is closed (inotify), one descriptor for a process.
use std::collections::HashMap;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use tokio::io::unix::AsyncFd;
use tokio::sync::Notify;
use tokio::task::AbortHandle;

/// Watches files.
pub struct Watcher {
    shared: Arc<Shared>,
    reader: AbortHandle,
}

struct Shared {
    fd: AsyncFd<OwnedFd>,
    watches: Mutex<HashMap<i32, Vec<Weak<Notify>>>>,
}

/// One watched file.
pub struct Watched {
    shared: Arc<Shared>,
    watch: i32,
    notify: Arc<Notify>,
}

impl Watcher {
    /// A watcher; must be made inside of a tokio runtime.
    ///
    /// # Errors
    /// The kernel gives no more of them (`fs.inotify.max_user_instances`).
    pub fn new() -> std::io::Result<Self> {
        let fd = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        // SAFETY: the descriptor must stay open and the same as long as it is registered: it is owned by the `AsyncFd` and never replaced.
        let fd = unsafe { AsyncFd::register(fd) }.map_err(|error| error.into_parts().1)?;
        let shared = Arc::new(Shared { fd, watches: Mutex::default() });
        let reading = shared.clone();
        let reader = tokio::spawn(async move { reading.read().await }).abort_handle();
        Ok(Self { shared, reader })
    }

    /// Watches `path` from now on.
    ///
    /// # Errors
    /// It is not there, or the kernel has no room for more.
    pub fn watch(&self, path: &Path) -> std::io::Result<Watched> {
        let flags = WatchFlags::MODIFY | WatchFlags::CLOSE_WRITE | WatchFlags::CLOSE_NOWRITE | WatchFlags::ATTRIB;
        let notify = Arc::new(Notify::new());
        let mut watches = self.shared.watches.lock().unwrap_or_else(PoisonError::into_inner);
        let watch = inotify::add_watch(&self.shared.fd, path, flags)?;
        watches.entry(watch).or_default().push(Arc::downgrade(&notify));
        Ok(Watched { shared: self.shared.clone(), watch, notify })
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

impl Shared {
    async fn read(&self) {
        let mut buffer = [MaybeUninit::uninit(); 4096];
        loop {
            let Ok(mut ready) = self.fd.readable().await else { return };
            let mut reader = inotify::Reader::new(self.fd.get_ref(), &mut buffer);
            loop {
                match reader.next() {
                    Ok(event) => self.tell(event.wd()),
                    Err(rustix::io::Errno::AGAIN) => break ready.clear_ready(),
                    Err(rustix::io::Errno::INTR) => {}
                    Err(_) => return,
                }
            }
        }
    }

    fn tell(&self, watch: i32) {
        let watches = self.watches.lock().unwrap_or_else(PoisonError::into_inner);
        for notify in watches.get(&watch).into_iter().flatten().filter_map(Weak::upgrade) {
            notify.notify_one();
        }
    }
}

impl Watched {
    /// The next change; one that came before the call counts.
    pub async fn changed(&self) {
        self.notify.notified().await;
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        let mut watches = self.shared.watches.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(all) = watches.get_mut(&self.watch) {
            all.retain(|other| other.strong_count() > 0 && !std::ptr::eq(other.as_ptr(), Arc::as_ptr(&self.notify)));
            if all.is_empty() {
                watches.remove(&self.watch);
                // A file that is gone has taken its watch along.
                let _ = inotify::remove_watch(&self.shared.fd, self.watch);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn tells_of_writes_and_of_the_end() {
        let path = std::env::temp_dir().join(format!("rhost-watcher-{}", std::process::id()));
        let file = std::fs::File::create(&path).expect("made");
        let watcher = Watcher::new().expect("inotify");
        let (one, two) = (watcher.watch(&path).expect("watched"), watcher.watch(&path).expect("watched"));
        drop(two);
        drop(file);
        one.changed().await;
        std::fs::remove_file(&path).expect("removed");
        one.changed().await;
        assert!(watcher.watch(&path).is_err(), "gone");
    }
}
