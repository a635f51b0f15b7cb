//! `UrlError`: why a file at a URL was not had. Each names the URL without its credentials, what was wanted, and a way out.
use std::sync::Arc;
use std::time::Duration;

use crate::Error;

/// What a server was waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UrlStage {
    /// A connection.
    Connect,
    /// The beginning of its answer.
    Answer,
    /// The next byte of the file.
    Body,
}

/// Why a file at a URL was not had.
#[derive(Debug, Clone, thiserror::Error)]
pub enum UrlError {
    /// It is no URL, or none that can be fetched.
    #[error("`{url}` cannot be fetched: {reason}")]
    Wrong {
        /// The URL.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The server did not move for so long.
    #[error("`{url}`: {}", hung(host, *stage, *after))]
    Hung {
        /// The URL.
        url: String,
        /// Who was asked at last.
        host: String,
        /// What was waited for.
        stage: UrlStage,
        /// How long.
        after: Duration,
    },
    /// No connection, or one that broke.
    #[error("`{url}`: {host} is not reached: {reason}")]
    Unreachable {
        /// The URL.
        url: String,
        /// Who was asked at last.
        host: String,
        /// Why.
        reason: String,
    },
    /// The server does not give the file.
    #[error("`{url}`: {host} answers {status}{}{}", spaced(reason), via(at))]
    Status {
        /// The URL.
        url: String,
        /// Who was asked at last.
        host: String,
        /// HTTP status.
        status: u16,
        /// Its usual words.
        reason: String,
        /// The URL that was asked at last, when it is another.
        at: Option<String>,
        /// Whether credentials went with the request.
        authenticated: bool,
    },
    /// The server sends us elsewhere without end, or where we cannot go.
    #[error("`{url}`: {reason}")]
    Redirect {
        /// The URL.
        url: String,
        /// Where it led.
        reason: String,
    },
    /// The server sends us to where the caller does not let us go.
    #[error("`{url}`: it redirects to `{at}`, which may not be asked")]
    Forbidden {
        /// The URL.
        url: String,
        /// Where it led.
        at: String,
    },
    /// The file came to an early end again and again.
    #[error("`{url}`: the file was cut off after {got} bytes{}: {reason}", of(*wanted))]
    Truncated {
        /// The URL.
        url: String,
        /// Its size, where the server says it.
        wanted: Option<u64>,
        /// What came.
        got: u64,
        /// Why.
        reason: String,
    },
    /// It cannot be written here.
    #[error("`{url}`: writing it to the store: {source}")]
    Local {
        /// The URL.
        url: String,
        /// Why.
        source: Arc<std::io::Error>,
    },
    /// The configuration of the host is wrong.
    #[error(transparent)]
    Client(Box<Error>),
}

fn hung(host: &str, stage: UrlStage, after: Duration) -> String {
    let seconds = after.as_secs_f64();
    match stage {
        UrlStage::Connect => format!("{host} took no connection within {seconds} s"),
        UrlStage::Answer => format!("{host} took the request and sent no answer for {seconds} s"),
        UrlStage::Body => format!("{host} stopped in the middle of the file: no byte for {seconds} s"),
    }
}

fn spaced(reason: &str) -> String {
    if reason.is_empty() { String::new() } else { format!(" {reason}") }
}

fn via(at: &Option<String>) -> String {
    at.as_ref().map(|at| format!(" (it was asked for `{at}`, by a redirect)")).unwrap_or_default()
}

fn of(wanted: Option<u64>) -> String {
    wanted.map(|wanted| format!(" of {wanted}")).unwrap_or_default()
}

impl UrlError {
    /// A way out.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Wrong { .. } => Some("wanted `http://HOST/PATH` or `https://HOST/PATH`".into()),
            Self::Hung { host, .. } => Some(format!(
                "try again later; see whether {host} is up, or wants a proxy (http_proxy, https_proxy, no_proxy)"
            )),
            Self::Unreachable { reason, host, .. } if reason.contains("ertificate") => Some(format!(
                "if you trust it, name its authority with `ca` in the table [registry.\"{host}\"] of the configuration file"
            )),
            Self::Unreachable { reason, .. } if reason.contains("ail") && reason.contains("lookup") => {
                Some("check the name of the host, and this machine's DNS".into())
            }
            Self::Unreachable { .. } => {
                Some("check host and port, and whether a proxy is wanted (http_proxy, https_proxy, no_proxy)".into())
            }
            Self::Status { status: 404 | 410, .. } => Some("check the URL: the server has no such file".into()),
            Self::Status { status: 401 | 403, authenticated: true, .. } => {
                Some("the server refuses the credentials that were sent: check them".into())
            }
            Self::Status { status: 401 | 403, host, .. } => {
                let host = host
                    .rsplit_once(':')
                    .filter(|(_, port)| port.parse::<u16>().is_ok())
                    .map_or(host.as_str(), |(host, _)| host);
                Some(format!(
                    "lend credentials: `--secret id=HTTP_AUTH_TOKEN_{host},…` (a bearer token) or `--secret id=HTTP_AUTH_HEADER_{host},…` (a whole Authorization header)"
                ))
            }
            Self::Status { status: 500..=599 | 429, .. } => Some("the server's fault: try again later".into()),
            Self::Status { .. } => None,
            Self::Redirect { .. } => Some("name the URL that it leads to in the end".into()),
            Self::Truncated { .. } => Some("try again; if it goes on, the server's copy is short".into()),
            Self::Local { .. } | Self::Forbidden { .. } => None,
            Self::Client(error) => error.hint(),
        }
    }
}
