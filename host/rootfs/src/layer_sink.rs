//! The second half of writing a layer: headers and open files as the walk finds them, in order, into the stream.
//!
//! Half of a small file's cost is to find and open it, half to read and close it: of a large layer the first is done by a thread of its own, a little ahead of
//! the second. A small layer is written by who asked for it.
use std::fs::File;
use std::io::{Read, Write};
use std::sync::mpsc::{SyncSender, sync_channel};

use crate::layer_diff::Walk;
use crate::path::owned;
use crate::root::stat_fd;
use crate::{Error, Result, Stat};

/// Files handed over at once, and bytes of headers.
const FILES: usize = 16;
const BYTES: usize = 64 << 10;
/// How many times that the walk is ahead at most: so many files are open.
const AHEAD: usize = 4;
/// What is read at once.
const READ: usize = 256 << 10;

/// A part of a layer.
enum Item {
    Bytes(Vec<u8>),
    /// The bytes of a file, and what fills up its last record.
    File {
        file: File,
        path: Vec<u8>,
        size: u64,
        ino: u64,
    },
}

/// Parts of a layer, in order.
#[derive(Default)]
pub(crate) struct Items {
    items: Vec<Item>,
    files: usize,
    size: usize,
}

impl Items {
    /// Adds `bytes`.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        self.size += bytes.len();
        match self.items.last_mut() {
            Some(Item::Bytes(before)) => before.extend_from_slice(bytes),
            _ => self.items.push(Item::Bytes(bytes.to_vec())),
        }
    }

    /// Adds what `file`, which is `path` and had `stat` when it was found, holds.
    pub(crate) fn file(&mut self, file: File, path: &[u8], stat: &Stat) {
        if stat.size > 0 {
            self.files += 1;
            self.items.push(Item::File { file, path: path.to_vec(), size: stat.size, ino: stat.ino });
        }
    }

    pub(crate) fn is_full(&self) -> bool {
        self.files >= FILES || self.size >= BYTES
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }
}

/// The stream.
pub(crate) struct Sink<W> {
    out: W,
    size: u64,
    buffer: Vec<u8>,
}

impl<W: Write> Sink<W> {
    pub(crate) fn new(out: W) -> Self {
        Self { out, size: 0, buffer: Vec::new() }
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.size += bytes.len() as u64;
        self.out.write_all(bytes).map_err(|source| Error::Sink { source })
    }

    /// Writes `items`.
    pub(crate) fn put(&mut self, items: Items) -> Result<()> {
        for item in items.items {
            match item {
                Item::Bytes(bytes) => self.write(&bytes)?,
                Item::File { file, path, size, ino } => self.file(file, &path, size, ino)?,
            }
        }
        Ok(())
    }

    /// Writes all that `walk` finds from here on; answers its entries.
    pub(crate) fn follow(&mut self, walk: Walk) -> Result<u64> {
        std::thread::scope(|scope| {
            let (sender, receiver) = sync_channel(AHEAD);
            let walker = scope.spawn(move || go(walk, &sender));
            // Where this fails the walker finds nobody who takes what it has, and ends.
            receiver.into_iter().try_for_each(|items| self.put(items))?;
            let stopped = || Error::Sink { source: std::io::Error::other("the walk over the layer stopped") };
            walker.join().unwrap_or_else(|_| Err(stopped()))
        })
    }

    /// Ends the archive; answers its size.
    pub(crate) fn end(mut self) -> Result<u64> {
        self.write(&[0; 1024])?;
        self.out.flush().map_err(|source| Error::Sink { source })?;
        Ok(self.size)
    }

    fn file(&mut self, mut file: File, path: &[u8], size: u64, ino: u64) -> Result<()> {
        let shown = || owned(path);
        let mut buffer = std::mem::take(&mut self.buffer);
        let most = usize::try_from(size).unwrap_or(READ).min(READ);
        if buffer.len() < most {
            buffer.resize(most, 0);
        }
        let mut left = size;
        while left > 0 {
            let wanted = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
            let count = file.read(&mut buffer[..wanted]).map_err(|e| Error::io("read", shown(), e))?;
            if count == 0 {
                return Err(Error::Changed { path: shown() });
            }
            self.write(&buffer[..count])?;
            left -= count as u64;
        }
        self.buffer = buffer;
        let after = stat_fd(&file, &shown())?;
        if (after.size, after.ino) != (size, ino) {
            return Err(Error::Changed { path: shown() });
        }
        let padding = usize::try_from(size.next_multiple_of(512) - size).unwrap_or(0);
        self.write(&[0; 512][..padding])
    }
}

/// Walks to the end, or until nobody listens.
fn go(mut walk: Walk, sender: &SyncSender<Items>) -> Result<u64> {
    loop {
        let items = walk.some()?;
        if items.is_empty() || sender.send(items).is_err() {
            return Ok(walk.entries());
        }
    }
}
