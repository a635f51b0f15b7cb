//! What a build is, to whoever compares it with others.
use std::collections::BTreeSet;

use rhost_llb::Digest;
use rhost_registry::redact;
use rhost_rootfs::Modes;

use super::parts::Showing;
use crate::request::{BuildFile, Context, GraphRequest};

/// What the build is.
#[derive(Debug)]
pub struct About {
    /// Names builds that are compared: of one context, one build file, one target.
    pub name: Digest,
    /// Names the build file's text, wherever it is built.
    pub text: Digest,
    /// The context, for people.
    pub context: String,
    /// Names of build arguments that were given.
    pub arguments: BTreeSet<String>,
    /// What may be shown.
    pub showing: Showing,
    /// `--normalize-modes`.
    pub normalized: bool,
}

impl About {
    /// Of the build of `request`, whose build file is `file` and says `text`.
    pub fn of(request: &GraphRequest, modes: Modes, file: &str, text: &[u8]) -> Self {
        let place = match &request.file {
            BuildFile::Path(path) => path.display().to_string(),
            BuildFile::InContext(path) => path.clone().unwrap_or_default(),
            BuildFile::Remote(url) => url.text().to_owned(),
            BuildFile::Text(_) => "-".to_owned(),
        };
        let context = match &request.context {
            Context::Directory(directory) => directory.display().to_string(),
            Context::Remote(url) => redact(url.text()).to_string(),
            Context::Empty | Context::Archive(_) => "-".to_owned(),
        };
        let target = request.target.as_deref().unwrap_or_default();
        Self {
            name: Digest::of(format!("{context}\0{place}\0{target}")),
            text: Digest::of([file.as_bytes(), b"\0", target.as_bytes(), b"\0", text].concat()),
            context,
            arguments: request.build_args.keys().cloned().collect(),
            showing: Showing {
                file: String::from_utf8_lossy(text).into_owned(),
                hidden: request.build_args.values().filter(|value| !value.is_empty()).cloned().collect(),
            },
            normalized: modes == Modes::Normalized,
        }
    }
}
