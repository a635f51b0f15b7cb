//! A blob that is read while it is still coming in: what is downloaded is unpacked at once, from the file that it is written to.
//!
//! The reader follows the writer by its own descriptor and sleeps where it has caught up; nothing is buffered in memory, so a slow unpack
//! never holds up the network. The bytes are checked by the writer's side; whoever reads must throw away what it made when
//! [`Incoming::commit`] was not reached, or the source began again with other bytes.
use std::fs::File;
use std::io::{self, Read, Write as _};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use rhost_llb::BlobDigest;
use rhost_registry::BlobSink;
use rhost_store::{BlobWriter, Store};

/// How far the writer is.
#[derive(Default)]
struct State {
    written: u64,
    /// `Some(true)`: all bytes are there and right. `Some(false)`: no more will come.
    end: Option<bool>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    moved: Condvar,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn end(&self, whole: bool) {
        self.state().end.get_or_insert(whole);
        self.moved.notify_all();
    }
}

/// Where a blob is written, and what is told on the way.
pub struct Incoming {
    store: Store,
    wanted: BlobDigest,
    writer: Option<BlobWriter>,
    shared: Arc<Shared>,
    /// Told the number of bytes that are there.
    tell: Box<dyn FnMut(u64) + Send>,
    restarted: bool,
}

impl Incoming {
    /// Begins to write `wanted` to `store`. Whoever fills it checks the digest before it is committed, as every image source does.
    ///
    /// # Errors
    /// The disk.
    pub fn new(store: &Store, wanted: BlobDigest, tell: impl FnMut(u64) + Send + 'static) -> io::Result<Self> {
        let writer = store.blob_writer().map_err(io::Error::other)?.hashed_by_caller();
        let shared = Arc::new(Shared::default());
        Ok(Self { store: store.clone(), wanted, writer: Some(writer), shared, tell: Box::new(tell), restarted: false })
    }

    /// A reader from the first byte on.
    ///
    /// # Errors
    /// The disk.
    pub fn reader(&self) -> io::Result<Following> {
        let writer = self.writer.as_ref().ok_or_else(closed)?;
        Ok(Following { file: writer.reader()?, at: 0, shared: self.shared.clone() })
    }
}

fn closed() -> io::Error {
    io::Error::other("the blob is closed")
}

#[async_trait]
impl BlobSink for Incoming {
    async fn write(&mut self, bytes: Bytes) -> io::Result<()> {
        let writer = self.writer.as_mut().ok_or_else(closed)?;
        writer.write_all(&bytes)?;
        let written = writer.size();
        if !self.restarted {
            self.shared.state().written = written;
            self.shared.moved.notify_all();
        }
        (self.tell)(written);
        Ok(())
    }

    /// Readers of the first bytes are told that no more will come; the blob itself goes on.
    async fn restart(&mut self) -> io::Result<()> {
        self.restarted = true;
        self.shared.end(false);
        self.writer = None;
        self.writer = Some(self.store.blob_writer().map_err(io::Error::other)?.hashed_by_caller());
        Ok(())
    }

    async fn commit(mut self: Box<Self>) -> io::Result<()> {
        let writer = self.writer.take().ok_or_else(closed)?;
        writer.commit(Some(self.wanted)).map_err(io::Error::other)?;
        self.shared.end(true);
        Ok(())
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        self.shared.end(false);
    }
}

/// Reads what has come in, and waits for the rest.
pub struct Following {
    file: File,
    at: u64,
    shared: Arc<Shared>,
}

impl Read for Following {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut state = self.shared.state();
        let there = loop {
            match (state.written - self.at, state.end) {
                (0, Some(true)) => return Ok(0),
                (_, Some(false)) => return Err(io::Error::other("the download ended early")),
                (0, None) => state = self.shared.moved.wait(state).unwrap_or_else(PoisonError::into_inner),
                (there, _) => break there,
            }
        };
        drop(state);
        let most = usize::try_from(there).unwrap_or(usize::MAX).min(buffer.len());
        let count = self.file.read(&mut buffer[..most])?;
        self.at += count as u64;
        Ok(count)
    }
}
