//! SSH agents that a build is lent: a real one, or keys that are served here.
//!
//! A step reaches an agent only through this filter: it may ask which keys there are and have something signed, nothing else, as
//! with BuildKit. It cannot add, remove or lock keys, and no private key ever enters the container.
pub(crate) mod der;
mod keys;
mod protocol;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rhost_exec::Service;
use tokio::net::UnixStream;

pub use keys::{AgentKey, KeyError};

use protocol::{FAILURE, IDENTITIES_ANSWER, REQUEST_IDENTITIES, SIGN_REQUEST};

/// What `--ssh` lends under one id.
#[derive(Clone, Debug)]
pub enum SshAgent {
    /// An agent's socket.
    Socket(PathBuf),
    /// Private keys, served by rhost itself.
    Keys(Arc<Vec<AgentKey>>),
}

/// What a path given to `--ssh` cannot be used for.
#[derive(Debug, thiserror::Error)]
pub enum SshAgentError {
    /// The file cannot be read.
    #[error("cannot read `{path}`: {source}", path = path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It is no private key that can be used.
    #[error("`{path}`: {error}", path = path.display())]
    Key {
        /// Which.
        path: PathBuf,
        /// Why.
        error: KeyError,
    },
    /// Sockets go alone.
    #[error("`{path}` is a socket: an id takes one agent's socket, or private keys, not both", path = path.display())]
    Mixed {
        /// The socket.
        path: PathBuf,
    },
    /// No path.
    #[error("neither a socket nor a key is given")]
    Nothing,
}

/// Largest key file, in bytes.
const LARGEST_KEY: u64 = 100 << 10;

impl SshAgent {
    /// One socket, or any number of key files.
    ///
    /// # Errors
    /// A path that is neither.
    pub fn open(paths: &[PathBuf]) -> Result<Self, SshAgentError> {
        let mut keys = Vec::new();
        for path in paths {
            let read = |source| SshAgentError::Read { path: path.clone(), source };
            let found = std::fs::metadata(path).map_err(read)?;
            if std::os::unix::fs::FileTypeExt::is_socket(&found.file_type()) {
                if paths.len() > 1 {
                    return Err(SshAgentError::Mixed { path: path.clone() });
                }
                return Ok(Self::Socket(path.clone()));
            }
            let wrong = |error| SshAgentError::Key { path: path.clone(), error };
            if !found.is_file() || found.len() > LARGEST_KEY {
                return Err(wrong(KeyError::NoKey));
            }
            let text = zeroize::Zeroizing::new(std::fs::read(path).map_err(read)?);
            keys.push(AgentKey::parse(&text, &path.display().to_string()).map_err(wrong)?);
        }
        if keys.is_empty() { Err(SshAgentError::Nothing) } else { Ok(Self::Keys(Arc::new(keys))) }
    }

    /// Whether anybody answers.
    ///
    /// # Errors
    /// The socket's refusal.
    pub async fn check(&self) -> Result<(), (PathBuf, std::io::Error)> {
        match self {
            Self::Socket(path) => UnixStream::connect(path).await.map(drop).map_err(|error| (path.clone(), error)),
            Self::Keys(_) => Ok(()),
        }
    }

    /// Answers one connection to its end.
    pub async fn answer(&self, stream: UnixStream) {
        match self {
            Self::Socket(path) => relay(stream, path.clone()).await,
            Self::Keys(keys) => serve(stream, keys.clone()).await,
        }
    }

    /// Answers connections of a step.
    pub fn service(&self) -> Service {
        match self {
            Self::Socket(path) => {
                let path = path.clone();
                Service::new(move |step| relay(step, path.clone()))
            }
            Self::Keys(keys) => {
                let keys = keys.clone();
                Service::new(move |step| serve(step, keys.clone()))
            }
        }
    }
}

/// Between a step and a real agent: question by question, the forbidden ones answered here.
async fn relay(mut step: UnixStream, path: PathBuf) {
    let mut agent: Option<UnixStream> = None;
    while let Ok(Some(question)) = protocol::read(&mut step).await {
        let answer = match question.first() {
            Some(&REQUEST_IDENTITIES | &SIGN_REQUEST) => ask(&mut agent, &path, &question).await,
            _ => None,
        };
        if protocol::write(&mut step, answer.as_deref().unwrap_or(&[FAILURE])).await.is_err() {
            return;
        }
    }
}

async fn ask(agent: &mut Option<UnixStream>, path: &Path, question: &[u8]) -> Option<Vec<u8>> {
    let stream = match agent {
        Some(stream) => stream,
        None => agent.insert(UnixStream::connect(path).await.ok()?),
    };
    protocol::write(stream, question).await.ok()?;
    protocol::read(stream).await.ok()?
}

async fn serve(mut step: UnixStream, keys: Arc<Vec<AgentKey>>) {
    while let Ok(Some(question)) = protocol::read(&mut step).await {
        let answer = answer(&keys, &question).unwrap_or_else(|| vec![FAILURE]);
        if protocol::write(&mut step, &answer).await.is_err() {
            return;
        }
    }
}

fn answer(keys: &[AgentKey], question: &[u8]) -> Option<Vec<u8>> {
    let (kind, mut rest) = question.split_first()?;
    let mut out = Vec::new();
    match *kind {
        REQUEST_IDENTITIES => {
            out.push(IDENTITIES_ANSWER);
            out.extend((keys.len() as u32).to_be_bytes());
            for key in keys {
                protocol::put(&mut out, key.public());
                protocol::put(&mut out, key.comment().as_bytes());
            }
        }
        SIGN_REQUEST => {
            let (public, data) = (protocol::take(&mut rest)?, protocol::take(&mut rest)?);
            let flags = u32::from_be_bytes(rest.get(..4)?.try_into().ok()?);
            let signature = keys.iter().find(|key| key.public() == public)?.sign(data, flags)?;
            out.push(protocol::SIGN_RESPONSE);
            protocol::put(&mut out, &signature);
        }
        _ => return None,
    }
    Some(out)
}

#[cfg(test)]
mod tests;
