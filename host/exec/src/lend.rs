//! What a caller lends to one step: secrets, services behind sockets, locks. None of it is ever printed or serialised.
use std::fmt;
use std::future::Future;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::sync::Arc;

use tokio::net::UnixStream;
use zeroize::Zeroizing;

/// Bytes that are shown to nobody: `Debug` tells only how many, and they are wiped when the last copy goes.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct SecretBytes(Arc<Zeroizing<Vec<u8>>>);

impl SecretBytes {
    /// The bytes themselves.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl From<Vec<u8>> for SecretBytes {
    fn from(bytes: Vec<u8>) -> Self {
        Self(Arc::new(Zeroizing::new(bytes)))
    }
}

impl fmt::Debug for SecretBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<secret of {} bytes>", self.0.len())
    }
}

type Answer = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Who answers a socket of a step: called once for each connection. What it does ends with the step.
#[derive(Clone)]
pub struct Service(Arc<dyn Fn(UnixStream) -> Answer + Send + Sync>);

impl Service {
    /// `answer` serves one connection.
    pub fn new<F: Future<Output = ()> + Send + 'static>(
        answer: impl Fn(UnixStream) -> F + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(move |stream| Box::pin(answer(stream))))
    }

    pub(crate) fn answer(&self, stream: UnixStream) -> Answer {
        (self.0)(stream)
    }
}

/// Hangs up.
impl Default for Service {
    fn default() -> Self {
        Self::new(|stream| async move { drop(stream) })
    }
}

impl PartialEq for Service {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Service {}

impl fmt::Debug for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Service")
    }
}

/// Descriptors that the step's supervisor holds for as long as anything of the step is there. An `flock` on one of them outlives
/// a caller that is killed, and ends with the step.
#[derive(Clone, Debug, Default)]
pub struct Held(pub(crate) Vec<Arc<OwnedFd>>);

impl Held {
    /// Adds one.
    pub fn push(&mut self, descriptor: OwnedFd) {
        self.0.push(Arc::new(descriptor));
    }
}

impl PartialEq for Held {
    fn eq(&self, other: &Self) -> bool {
        self.0.len() == other.0.len() && self.0.iter().zip(&other.0).all(|(a, b)| Arc::ptr_eq(a, b))
    }
}

impl Eq for Held {}
