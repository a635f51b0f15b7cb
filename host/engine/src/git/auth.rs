//! What is lent for one git source: a token or a header for the one host that it is for, an ssh agent behind a socket, known host keys.
//!
//! The secret goes to git in its environment, as configuration of the URLs that it is for; it stands on no command line and in no file. ssh gets
//! nothing of the user but the lent agent: no configuration, no keys, no other agent.
use std::fmt::Write as _;
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use base64::Engine as _;
use rhost_exec::SecretBytes;
use rhost_store::BuildFiles;
use tokio::net::UnixListener;
use tokio::task::JoinSet;

use super::error::GitError;
use super::remote::Transport;
use super::source::GitSource;
use crate::lent::agent_id;
use crate::op_error::OpFailure;
use crate::shared::Shared;

/// Longest path of a socket, with its end.
const LONGEST_SOCKET: usize = 107;

/// What one source is lent, for as long as this lives.
pub struct Lent {
    /// Configuration: key and value.
    pub config: Vec<(String, String)>,
    /// Texts that nobody may see.
    pub secrets: Vec<String>,
    /// Whether a credential is sent along.
    pub has_credential: bool,
    /// `GIT_SSH_COMMAND`.
    pub ssh: String,
    /// `SSH_AUTH_SOCK`.
    pub agent: Option<String>,
    /// Answers the agent's socket.
    _answering: JoinSet<()>,
    /// Where the socket and the known hosts lie.
    _files: Option<BuildFiles>,
}

impl Lent {
    /// `text` without what nobody may see.
    pub fn redact(&self, text: &str) -> String {
        let mut text = rhost_registry::redact(text);
        for secret in self.secrets.iter().filter(|secret| secret.len() > 3) {
            text = text.replace(secret.as_str(), "xxxxx");
        }
        text
    }
}

fn text_of(id: &str, bytes: &SecretBytes) -> Result<String, GitError> {
    let wrong = |reason: &str| GitError::Attribute { name: id.to_owned(), reason: format!("the secret {reason}") };
    let text = std::str::from_utf8(bytes.expose()).map_err(|_| wrong("is no text"))?;
    // Files end in a newline, which is no part of the token.
    let text = text.trim_end_matches(['\r', '\n']);
    if text.chars().any(char::is_control) {
        return Err(wrong("has more than one line, or control characters"));
    }
    Ok(text.to_owned())
}

/// The header to send to `source`'s remote, if there is one: the secret for its host, else the general one, as in BuildKit; else what stood in
/// the URL. With texts to hide.
fn header(shared: &Shared, source: &GitSource) -> Result<Option<(String, Vec<String>)>, OpFailure> {
    if source.remote.transport != Transport::Http {
        return Ok(None);
    }
    let basic = |user: &str, word: &str| {
        let encoded = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{word}"));
        (format!("basic {encoded}"), vec![word.to_owned(), encoded])
    };
    let (header, token, host) = (&source.header_secret, &source.token_secret, &source.remote.host);
    let of_host =
        [(header, false), (token, true)].map(|(id, is_token)| (format!("{id}.{host}"), !id.is_empty(), is_token));
    let general = [(header, false), (token, true)].map(|(id, is_token)| (id.clone(), !id.is_empty(), is_token));
    for (id, named, is_token) in of_host.into_iter().chain(general) {
        if !named {
            continue;
        }
        let Some(bytes) = shared.lent.secret(&id)? else { continue };
        let text = text_of(&id, &bytes)?;
        return Ok(Some(if is_token {
            basic("x-access-token", &text)
        } else {
            let words = text.split(' ').map(str::to_owned).chain([text.clone()]);
            (text.clone(), words.collect())
        }));
    }
    Ok(source.remote.login.as_ref().map(|(user, word)| basic(user, word)))
}

fn quoted(path: &Path) -> String {
    // Within ssh's own quotes, within those of a shell.
    path.display().to_string().replace('\\', "\\\\").replace('"', "\\\"").replace('\'', "'\\''")
}

/// Takes what `source` needs of what this build is lent.
///
/// # Errors
/// An agent that the source wants and nobody lends, or that does not answer; a secret that is none.
pub async fn lend(shared: &Shared, source: &GitSource, seconds: u64) -> Result<Lent, OpFailure> {
    let mut lent = Lent {
        config: Vec::new(),
        secrets: Vec::new(),
        has_credential: false,
        ssh: String::new(),
        agent: None,
        _answering: JoinSet::new(),
        _files: None,
    };
    if let Some((header, secrets)) = header(shared, source)? {
        let scope = source.remote.scope();
        lent.config.push((format!("http.{scope}.extraheader"), format!("Authorization: {header}")));
        // What a redirect would get is for `redirect` to say.
        lent.config.push((format!("http.{scope}.followRedirects"), "false".into()));
        lent.secrets = secrets;
        lent.has_credential = true;
    }
    let mut ssh = format!(
        "ssh -F /dev/null -o BatchMode=yes -o LogLevel=ERROR -o ControlMaster=no -o ControlPath=none -o ForwardAgent=no \
         -o ClearAllForwardings=yes -o PermitLocalCommand=no -o IdentityFile=none -o ConnectTimeout={seconds} -o ServerAliveInterval={seconds} -o ServerAliveCountMax=1"
    );
    let files = if source.agent.is_some() || source.known_hosts.is_some() {
        let files = shared.store.build_files()?;
        let closed = std::fs::set_permissions(files.path(), std::fs::Permissions::from_mode(0o700));
        closed.map_err(|error| GitError::io("close", files.path(), error))?;
        Some(files)
    } else {
        None
    };
    let dir = files.as_ref().map(BuildFiles::path);
    if let (Some(id), Some(dir)) = (&source.agent, dir) {
        let agent = shared.lent.agent(id).ok_or_else(|| OpFailure::NoAgent { id: agent_id(id).to_owned() })?.clone();
        agent.check().await.map_err(|(path, source)| OpFailure::AgentRefuses {
            id: agent_id(id).to_owned(),
            path,
            source,
        })?;
        let path = dir.join("agent");
        let failed = |error| GitError::io("make a socket", &path, error);
        let (listener, name) = if path.as_os_str().len() < LONGEST_SOCKET {
            (UnixListener::bind(&path).map_err(failed)?, path.display().to_string())
        } else {
            // By a descriptor, whose name is short: ours for us, and ours for ssh by the number of this process.
            let held = std::fs::File::open(dir).map_err(failed)?;
            let number = held.as_raw_fd();
            let listener = UnixListener::bind(format!("/proc/self/fd/{number}/agent")).map_err(failed)?;
            lent._answering.spawn(async move {
                let _held = held;
                std::future::pending::<()>().await;
            });
            (listener, format!("/proc/{}/fd/{number}/agent", std::process::id()))
        };
        lent._answering.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let agent = agent.clone();
                connections.spawn(async move { agent.answer(stream).await });
                while connections.try_join_next().is_some() {}
            }
        });
        lent.agent = Some(name);
    } else {
        ssh += " -o IdentityAgent=none";
    }
    match (&source.known_hosts, dir) {
        (Some(keys), Some(dir)) => {
            let path = dir.join("known_hosts");
            std::fs::write(&path, keys).map_err(|error| GitError::io("write", &path, error))?;
            let path = quoted(&path);
            let _ = write!(ssh, " -o StrictHostKeyChecking=yes -o 'UserKnownHostsFile=\"{path}\"'");
        }
        // As BuildKit, a server is taken whose key nobody knows; but not one that the user knows with another key. Nothing is written down.
        _ => {
            let known = shared.git.options.known_hosts.as_ref();
            let known = known.map(|path| format!(" \"{}\"", quoted(path))).unwrap_or_default();
            let _ = write!(ssh, " -o StrictHostKeyChecking=accept-new -o 'UserKnownHostsFile=/dev/null{known}'");
        }
    }
    lent.ssh = ssh;
    lent._files = files;
    Ok(lent)
}
