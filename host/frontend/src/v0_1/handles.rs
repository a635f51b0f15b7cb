//! What the handles of guests stand for.
use std::sync::Arc;
use std::task::Poll;

use rhost_llb::{ExecOutputs, ExecSpec, FileActionCopy, FileChain, Platform, VertexOptions};
use tokio::task::JoinHandle;

use crate::host::{self, HostError, ResolvedImage, SolvedTree, SourceText};

pub struct SourceMap {
    pub text: Arc<SourceText>,
    /// In the graph.
    pub index: i32,
}

pub struct Diagnostic {
    pub finding: host::Diagnostic,
    pub emitted: bool,
}

/// `None` is scratch.
#[derive(Clone, Copy)]
pub struct State(pub Option<rhost_llb::State>);

pub struct Metadata(pub VertexOptions);

pub struct Exec {
    /// Taken by `run`.
    pub spec: Option<ExecSpec>,
    pub platform: Option<Platform>,
    /// Targets of the spec's mounts.
    pub targets: Vec<String>,
    pub outputs: Option<ExecOutputs>,
}

pub struct CopyAction {
    pub from: Option<rhost_llb::State>,
    pub copy: FileActionCopy,
}

/// Taken by `apply`.
pub struct File(pub Option<FileChain>);

pub struct PendingImage(pub Promise<ResolvedImage>);

pub struct PendingTree(pub Promise<Arc<dyn SolvedTree>>);

pub struct Tree(pub Arc<dyn SolvedTree>);

pub struct Invocation;

#[derive(Default)]
pub struct Outcome {
    pub targets: Vec<(Platform, Option<rhost_llb::State>, Vec<u8>)>,
    pub metadata: std::collections::BTreeMap<String, Vec<u8>>,
}

/// An answer on its way; dropping it cancels the work.
pub enum Promise<T> {
    Pending(JoinHandle<Result<T, HostError>>),
    Done(Result<T, HostError>),
}

impl<T: Clone + Send + 'static> Promise<T> {
    /// Begins the work. What is at hand is there at once, and so is as ready the next time; anything else goes on beside the guest.
    pub async fn start(work: impl Future<Output = Result<T, HostError>> + Send + 'static) -> Self {
        let mut work = Box::pin(work);
        match std::future::poll_fn(|context| Poll::Ready(work.as_mut().poll(context))).await {
            Poll::Ready(answer) => Self::Done(answer),
            Poll::Pending => Self::Pending(tokio::spawn(work)),
        }
    }

    pub fn is_ready(&self) -> bool {
        match self {
            Self::Pending(task) => task.is_finished(),
            Self::Done(_) => true,
        }
    }

    pub async fn wait(&mut self) -> Result<T, HostError> {
        if let Self::Pending(task) = self {
            let answer = task
                .await
                .unwrap_or_else(|error| Err(HostError::Failed(format!("the host's work was cut off: {error}"))));
            *self = Self::Done(answer);
        }
        match self {
            Self::Done(answer) => answer.clone(),
            Self::Pending(_) => unreachable!("replaced above"),
        }
    }
}

impl<T> Drop for Promise<T> {
    fn drop(&mut self) {
        if let Self::Pending(task) = self {
            task.abort();
        }
    }
}
