//! `GitError`: why a git source cannot be had. No message holds a credential.
use std::path::PathBuf;

use crate::error::Kind;

/// Why a git source cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum GitError {
    /// git is not installed.
    #[error(
        "failed to find git binary: git sources are fetched by the program `git`, and it is in no directory of PATH"
    )]
    NoProgram,
    /// It is no remote that is fetched from.
    #[error("git remote `{remote}`: {reason}")]
    Remote {
        /// As written, credentials masked.
        remote: String,
        /// Why not.
        reason: String,
    },
    /// A name that git would take for something else.
    #[error("invalid git ref {reference:?}: {reason}")]
    Ref {
        /// The name.
        reference: String,
        /// Why.
        reason: &'static str,
    },
    /// An attribute of the source.
    #[error("`{name}` of a git source: {reason}")]
    Attribute {
        /// Which.
        name: String,
        /// Why.
        reason: String,
    },
    /// git ended with an error.
    #[error("failed to fetch remote {remote}: git {doing} ended with {status}:\n{said}")]
    Failed {
        /// Without credentials.
        remote: String,
        /// What it was to do.
        doing: &'static str,
        /// How it ended.
        status: String,
        /// What it said.
        said: String,
    },
    /// Nobody may be asked.
    #[error("offline: git remote {remote} is not asked")]
    Offline {
        /// Without credentials.
        remote: String,
    },
    /// A server that does not answer.
    #[error("git remote {remote} does not answer: git {doing} heard nothing for {seconds} s{last}")]
    Silent {
        /// Without credentials.
        remote: String,
        /// What it was to do.
        doing: &'static str,
        /// Its patience.
        seconds: u64,
        /// The last that it said, as the end of the message.
        last: String,
    },
    /// The remote has no such branch or tag.
    #[error("repository does not contain ref {reference}: git remote {remote} has neither branch nor tag of that name")]
    NoRef {
        /// Without credentials.
        remote: String,
        /// The name.
        reference: String,
    },
    /// The remote has no branch to begin with.
    #[error("could not find default branch for repository: {remote}: it is empty")]
    Empty {
        /// Without credentials.
        remote: String,
    },
    /// What a remote answers is no answer.
    #[error("git remote {remote} answers what cannot be: {reason}")]
    Answer {
        /// Without credentials.
        remote: String,
        /// What.
        reason: String,
    },
    /// The remote has no such commit.
    #[error("git remote {remote} has no commit {commit}, neither by its name nor in any branch or tag")]
    NoCommit {
        /// Without credentials.
        remote: String,
        /// The commit.
        commit: String,
    },
    /// Another commit than it must be.
    #[error("expected checksum to match {wanted}, got {found}: `{reference}` of git remote {remote} is another commit")]
    Checksum {
        /// Without credentials.
        remote: String,
        /// The name.
        reference: String,
        /// What it must be, or how that begins.
        wanted: String,
        /// What it is.
        found: String,
    },
    /// The directory is not in the commit, or is no directory.
    #[error("invalid subdir {subdir}: `{at}` {reason} in {commit} of git remote {remote}")]
    Subdir {
        /// Without credentials.
        remote: String,
        /// The commit.
        commit: String,
        /// What was asked for.
        subdir: String,
        /// The part of it.
        at: String,
        /// What about it.
        reason: &'static str,
    },
    /// A file.
    #[error("{doing} `{path}`: {source}", path = path.display())]
    Io {
        /// What was being done.
        doing: &'static str,
        /// To which file.
        path: PathBuf,
        /// The kernel's answer.
        source: std::io::Error,
    },
}

impl GitError {
    /// Whose fault.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Failed { .. } | Self::Silent { .. } | Self::Answer { .. } => Kind::Network,
            Self::Io { .. } => Kind::Store,
            Self::Offline { .. } => Kind::Sources,
            _ => Kind::Build,
        }
    }

    /// Ways out.
    pub fn hint(&self) -> Option<String> {
        let text = match self {
            Self::NoProgram => "install git (package `git`)",
            Self::Failed { said, .. } => return hint_for(said).map(str::to_owned),
            Self::Silent { .. } => {
                "is the host reachable from here? `timeout` in `[git]` of the configuration says how long is waited"
            }
            Self::NoRef { .. } => "write a branch, a tag, refs/… or a whole commit after `#`",
            Self::NoCommit { .. } => "was it pushed? A commit that only a fork has is fetched from the fork",
            _ => return None,
        };
        Some(text.to_owned())
    }

    pub(crate) fn io(doing: &'static str, path: impl Into<PathBuf>, source: std::io::Error) -> Self {
        Self::Io { doing, path: path.into(), source }
    }
}

/// The way out of what git says.
fn hint_for(said: &str) -> Option<&'static str> {
    let has = |texts: &[&str]| texts.iter().any(|text| said.contains(text));
    if has(&["could not read Username", "could not read Password", "Authentication failed", "error: 401", "error: 403"])
    {
        Some(
            "a private repository wants a token: `--secret id=GIT_AUTH_TOKEN,env=VARIABLE` (or id=GIT_AUTH_TOKEN.HOST)",
        )
    } else if has(&["Permission denied (publickey"]) {
        Some(
            "lend a key that the server knows: `--ssh default` (the agent of SSH_AUTH_SOCK) or `--ssh default=KEYFILE`",
        )
    } else if has(&["Host key verification failed"]) {
        Some("the server's host key is not the known one; if it was changed on purpose, correct known_hosts")
    } else if has(&["ssh: not found", "cannot run ssh"]) {
        Some("install the ssh client (package `openssh-client`)")
    } else if has(&["transport 'file' not allowed", "transport 'ext' not allowed", "not allowed"]) {
        Some("only http, https, ssh and git remotes are fetched from, in submodules too")
    } else {
        None
    }
}
