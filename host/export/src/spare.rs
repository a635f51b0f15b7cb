//! Buffers of blocks, used again: memory that comes anew from the kernel for each block costs a tenth of the time that compressing it takes.
use std::ops::Deref;
use std::sync::{Arc, Mutex, PoisonError};

/// Buffers that nobody uses just now.
pub(crate) struct Spare {
    buffers: Mutex<Vec<Vec<u8>>>,
    most: usize,
}

/// Bytes in a buffer that goes back where it came from, if it came from there.
pub(crate) struct Block {
    buffer: Vec<u8>,
    length: usize,
    home: Option<Arc<Spare>>,
}

impl Spare {
    /// Keeps up to `most` buffers.
    pub(crate) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { buffers: Mutex::default(), most })
    }

    /// A buffer with whatever was in it.
    pub(crate) fn take(&self) -> Vec<u8> {
        self.buffers.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default()
    }

    /// The first `length` bytes of a buffer that was taken.
    pub(crate) fn block(self: &Arc<Self>, buffer: Vec<u8>, length: usize) -> Block {
        Block { buffer, length, home: Some(self.clone()) }
    }
}

impl Block {
    /// Of a buffer that is not used again.
    pub(crate) fn alone(buffer: Vec<u8>) -> Self {
        Self { length: buffer.len(), buffer, home: None }
    }
}

impl Deref for Block {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.buffer[..self.length]
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        let Some(home) = &self.home else { return };
        let mut buffers = home.buffers.lock().unwrap_or_else(PoisonError::into_inner);
        if buffers.len() < home.most {
            buffers.push(std::mem::take(&mut self.buffer));
        }
    }
}
