//! Reading answers: bounded bodies, what an error body says, what an HTTP error means.
use bytes::{Bytes, BytesMut};
use reqwest::Response;
use serde::Deserialize;

use crate::redact;

/// Why a body was not read whole.
#[derive(Debug, Clone)]
pub(crate) enum Cut {
    TooLarge,
    Broken(String),
}

impl std::fmt::Display for Cut {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::TooLarge => f.write_str("its answer is too large"),
            Self::Broken(reason) => write!(f, "its answer was cut: {reason}"),
        }
    }
}

/// The body of `response`, of at most `limit` bytes.
pub(crate) async fn collect(mut response: Response, limit: u64) -> Result<Bytes, Cut> {
    let mut body = BytesMut::new();
    loop {
        match response.chunk().await {
            Ok(Some(chunk)) if (body.len() + chunk.len()) as u64 > limit => return Err(Cut::TooLarge),
            Ok(Some(chunk)) => body.extend_from_slice(&chunk),
            Ok(None) => return Ok(body.freeze()),
            Err(e) => return Err(Cut::Broken(explain(&e))),
        }
    }
}

/// What a registry's error body says (distribution API: `{"errors":[{"code","message"}]}`), short and without control
/// characters.
pub(crate) fn reason(body: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Body {
        #[serde(default)]
        errors: Vec<Entry>,
        details: Option<String>,
    }
    #[derive(Deserialize)]
    struct Entry {
        #[serde(default)]
        code: String,
        #[serde(default)]
        message: String,
    }
    let text = match serde_json::from_slice::<Body>(body) {
        Ok(body) if !body.errors.is_empty() => {
            let one = |e: Entry| if e.message.is_empty() { e.code } else { e.message };
            body.errors.into_iter().take(3).map(one).collect::<Vec<_>>().join("; ")
        }
        Ok(body) => body.details?,
        Err(_) => String::from_utf8_lossy(body).into_owned(),
    };
    let text: String = text.trim().chars().take(300).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if text.is_empty() { None } else { Some(redact(&text)) }
}

/// The innermost cause of an HTTP error (reqwest's own text only repeats the URL), without credentials.
pub(crate) fn explain(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    let text = cause.to_string();
    redact(if text.is_empty() { "connection lost" } else { &text })
}
