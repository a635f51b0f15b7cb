//! `Once`: equal work of several processes on one store is done by one; the others show its progress and take the result.
//!
//! The solver's port [`Turns`] over the store's work files. Whoever waits is woken by the kernel (inotify on the work file) when the holder has said
//! something or has closed it, which its death does too. Where inotify is used up, the file is looked at every 50 ms.
use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use rhost_llb::{Digest, VertexDigest};
use rhost_solver::{Turn, Turns};
use rhost_store::{Frame, OthersWork, Store, Watcher, Work};

use crate::event::{Event, Events};

/// Kinds of frames: output of a step (1 and 2 are its stream), a part's progress.
const STATUS: u8 = 3;

/// Where inotify works, how often it is made sure that nothing was missed; where it does not, how often it is looked.
const MADE_SURE: Duration = Duration::from_secs(2);
const LOOKED: Duration = Duration::from_millis(50);

/// Work of this build that other processes may want too.
pub struct Once {
    store: Store,
    events: Events,
    held: Arc<Mutex<HashMap<VertexDigest, Arc<Work>>>>,
    watcher: OnceLock<Option<Watcher>>,
}

/// A turn at a vertex: while it is held, what the vertex says is heard elsewhere.
struct Held {
    held: Arc<Mutex<HashMap<VertexDigest, Arc<Work>>>>,
    vertex: VertexDigest,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.vertex);
    }
}

impl Once {
    /// For one build on `store`.
    pub fn new(store: Store, events: Events) -> Self {
        Self { store, events, held: Arc::default(), watcher: OnceLock::new() }
    }

    /// Tells of `event`, here and to whoever waits for the same work elsewhere.
    pub fn send(&self, event: Event) {
        if let Some((vertex, kind, bytes)) = frame_of(&event) {
            let work = self.held.lock().unwrap_or_else(PoisonError::into_inner).get(&vertex).cloned();
            if let Some(work) = work {
                work.say(kind, &bytes);
            }
        }
        self.events.send(event);
    }

    /// The right to do the work `name`, once whoever does it elsewhere is done or gone: look then whether it is still to be done. `None`
    /// where such rights cannot be kept.
    pub async fn lead(&self, name: &str) -> Option<Work> {
        loop {
            match self.store.try_work(name) {
                Ok(Some(work)) => return Some(work),
                Ok(None) => self.listen(name, |_| ()).await,
                Err(error) => {
                    unshared(name, &error);
                    return None;
                }
            }
        }
    }

    /// Hears what the holder of `name` says until it is done or gone.
    async fn listen(&self, name: &str, mut hear: impl FnMut(Frame) + Send) {
        let mut work = match self.store.others_work(name) {
            Ok(Some(work)) => work,
            Ok(None) => return,
            Err(error) => return unshared(name, &error),
        };
        let watcher = self.watcher.get_or_init(|| Watcher::new().ok()).as_ref();
        let watched = watcher.and_then(|watcher| watcher.watch(work.path()).ok());
        let mut look = |work: &mut OthersWork| -> rhost_store::Result<bool> {
            // In this order: what was said before the end is heard.
            let over = work.is_over()?;
            work.heard()?.into_iter().for_each(&mut hear);
            Ok(over)
        };
        loop {
            match look(&mut work) {
                Ok(false) => {}
                Ok(true) => return,
                Err(error) => return unshared(name, &error),
            }
            match &watched {
                Some(watched) => drop(tokio::time::timeout(MADE_SURE, watched.changed()).await),
                None => tokio::time::sleep(LOOKED).await,
            }
        }
    }
}

fn unshared(name: &str, error: &rhost_store::Error) {
    tracing::warn!(%error, "work `{name}` is not shared with other processes");
}

fn name_of(key: Digest) -> String {
    format!("step {key}")
}

#[async_trait]
impl Turns for Once {
    fn take(&self, vertex: VertexDigest, key: Digest) -> Option<Turn> {
        match self.store.try_work(&name_of(key)) {
            Ok(Some(work)) => {
                self.held.lock().unwrap_or_else(PoisonError::into_inner).insert(vertex, Arc::new(work));
                Some(Box::new(Held { held: self.held.clone(), vertex }))
            }
            Ok(None) => None,
            Err(error) => {
                unshared(&name_of(key), &error);
                Some(Box::new(()))
            }
        }
    }

    async fn wait(&self, vertex: VertexDigest, key: Digest) {
        let events = self.events.clone();
        self.listen(&name_of(key), move |frame| {
            if let Some(event) = event_of(vertex, frame) {
                events.send(event);
            }
        })
        .await;
    }
}

fn frame_of(event: &Event) -> Option<(VertexDigest, u8, Vec<u8>)> {
    match event {
        Event::Log { vertex, stream, bytes, .. } => Some((*vertex, *stream, bytes.to_vec())),
        Event::Status { vertex, id, current, total, done, .. } => {
            let mut bytes = vec![u8::from(*done)];
            bytes.extend(current.to_le_bytes());
            bytes.extend(total.to_le_bytes());
            bytes.extend(id.as_bytes());
            Some((*vertex, STATUS, bytes))
        }
        _ => None,
    }
}

fn event_of(vertex: VertexDigest, (kind, bytes): Frame) -> Option<Event> {
    let at = Timestamp::now();
    if kind != STATUS {
        return matches!(kind, 1 | 2).then(|| Event::Log { vertex, stream: kind, bytes: bytes.into(), at });
    }
    let (done, rest) = bytes.split_first()?;
    let (current, rest) = rest.split_first_chunk()?;
    let (total, id) = rest.split_first_chunk()?;
    let (current, total) = (u64::from_le_bytes(*current), u64::from_le_bytes(*total));
    let id = String::from_utf8_lossy(id).as_ref().into();
    Some(Event::Status { vertex, id, current, total, started: at, at, done: *done != 0 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_and_events_are_inverse() {
        let vertex = VertexDigest(Digest::of("v"));
        let at = Timestamp::now();
        let log = Event::Log { vertex, stream: 2, bytes: b"out\xff".as_slice().into(), at };
        let status = Event::Status { vertex, id: "sha256:1".into(), current: 7, total: 9, started: at, at, done: true };
        for event in [log, status] {
            let (found, kind, bytes) = frame_of(&event).expect("said");
            let again = event_of(found, (kind, bytes)).expect("heard");
            let shape = |event: &Event| match event {
                Event::Log { stream, bytes, .. } => format!("{stream} {bytes:?}"),
                Event::Status { id, current, total, done, .. } => format!("{id} {current} {total} {done}"),
                other => format!("{other:?}"),
            };
            assert_eq!(shape(&event), shape(&again));
        }
        assert!(event_of(vertex, (STATUS, vec![1, 2])).is_none(), "cut short");
        assert!(event_of(vertex, (9, vec![])).is_none(), "from a newer rhost");
    }
}
