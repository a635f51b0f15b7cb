//! Credentials: docker's `config.json` and podman's `auth.json`, and the helpers that they name.
//!
//! Files are read anew at each lookup (a login during a long build counts); lookups are rare because tokens are cached.
//! Nothing here prints a secret: `Debug` of [`Credential`] is masked, and a helper's output enters no message.
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use async_trait::async_trait;
use base64::Engine as _;
use serde::Deserialize;
use tokio::io::AsyncWriteExt as _;

/// What opens a registry.
#[derive(Clone, PartialEq, Eq)]
pub enum Credential {
    /// A user name and a password (or an access token in its place).
    Basic {
        /// The user.
        username: String,
        /// The secret.
        password: String,
    },
    /// An OAuth2 refresh token, exchanged for bearer tokens.
    IdentityToken(String),
    /// A bearer token to send as it is.
    RegistryToken(String),
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Basic { .. } => "Basic(xxxxx)",
            Self::IdentityToken(_) => "IdentityToken(xxxxx)",
            Self::RegistryToken(_) => "RegistryToken(xxxxx)",
        })
    }
}

/// Credentials could not be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CredentialError {
    /// A file cannot be read or understood.
    #[error("credentials file `{}`: {reason}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it (never its contents).
        reason: String,
    },
    /// A helper cannot be run or failed.
    #[error("credential helper `{helper}` for `{registry}`: {reason}")]
    Helper {
        /// `docker-credential-<name>`.
        helper: String,
        /// The registry asked for.
        registry: String,
        /// What is wrong.
        reason: String,
    },
}

/// Finds credentials. `registry` is a host as in a reference (`docker.io`, `127.0.0.1:5000`).
#[async_trait]
pub trait CredentialSource: Send + Sync {
    /// The credential for `repository` of `registry`; `None` to go without.
    async fn find(&self, registry: &str, repository: &str) -> Result<Option<Credential>, CredentialError>;
}

/// Goes without credentials everywhere.
#[derive(Debug, Clone, Copy)]
pub struct NoCredentials;

#[async_trait]
impl CredentialSource for NoCredentials {
    async fn find(&self, _: &str, _: &str) -> Result<Option<Credential>, CredentialError> {
        Ok(None)
    }
}

/// The same credential for one registry, and none for others.
#[async_trait]
impl CredentialSource for BTreeMap<String, Credential> {
    async fn find(&self, registry: &str, _: &str) -> Result<Option<Credential>, CredentialError> {
        Ok(self.get(registry).cloned())
    }
}

/// How credential helpers are started. They get this environment and no other.
#[derive(Clone, Default)]
pub struct HelperEnvironment {
    /// Directories where `docker-credential-*` is looked for, first match wins.
    pub search: Vec<PathBuf>,
    /// Their whole environment (they want `HOME`, `PATH`, a session bus, …).
    pub variables: Vec<(OsString, OsString)>,
}

impl fmt::Debug for HelperEnvironment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.variables.iter().map(|(name, _)| name).collect();
        f.debug_struct("HelperEnvironment").field("search", &self.search).field("variables", &names).finish()
    }
}

/// Credentials from files of docker's form, tried in order: `~/.docker/config.json`, podman's `auth.json`.
#[derive(Clone, Debug, Default)]
pub struct DockerConfig {
    files: Vec<PathBuf>,
    helpers: HelperEnvironment,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct File {
    auths: BTreeMap<String, Entry>,
    creds_store: Option<String>,
    cred_helpers: BTreeMap<String, String>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Entry {
    auth: Option<String>,
    username: Option<String>,
    password: Option<String>,
    identitytoken: Option<String>,
    registrytoken: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct HelperAnswer {
    #[serde(default)]
    username: String,
    #[serde(default)]
    secret: String,
}

impl DockerConfig {
    /// Looks in `files`, in this order. A file that is absent is passed over.
    pub fn new(files: Vec<PathBuf>, helpers: HelperEnvironment) -> Self {
        Self { files, helpers }
    }

    async fn in_file(
        &self,
        path: &Path,
        registry: &str,
        repository: &str,
    ) -> Result<Option<Credential>, CredentialError> {
        let broken = |reason: String| CredentialError::File { path: path.to_owned(), reason };
        let bytes = match tokio::fs::read(path).await {
            Ok(bytes) => bytes,
            Err(e) if matches!(e.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) => {
                return Ok(None);
            }
            Err(e) => return Err(broken(e.to_string())),
        };
        if bytes.iter().all(u8::is_ascii_whitespace) {
            return Ok(None);
        }
        // serde's message quotes values: say only where.
        let file: File = serde_json::from_slice(&bytes).map_err(|e| {
            broken(format!("not the JSON of docker's config.json (line {}, column {})", e.line(), e.column()))
        })?;
        for key in keys(registry, repository) {
            if let Some(helper) = file.cred_helpers.get(&key) {
                return self.ask_helper(helper, &key).await;
            }
        }
        for key in keys(registry, repository) {
            let spellings = [
                key.clone(),
                format!("https://{key}"),
                format!("http://{key}"),
                format!("https://{key}/v1/"),
                format!("https://{key}/v2/"),
            ];
            for entry in spellings.iter().filter_map(|spelling| file.auths.get(spelling)) {
                if let Some(credential) =
                    entry.credential().map_err(|reason| broken(format!("entry `{key}`: {reason}")))?
                {
                    return Ok(Some(credential));
                }
            }
        }
        match &file.creds_store {
            Some(helper) if !helper.is_empty() => {
                let server = match registry {
                    "docker.io" => "https://index.docker.io/v1/",
                    other => other,
                };
                self.ask_helper(helper, server).await
            }
            _ => Ok(None),
        }
    }

    /// docker-credential-helpers protocol: `get`, the server on stdin, JSON on stdout.
    async fn ask_helper(&self, name: &str, server: &str) -> Result<Option<Credential>, CredentialError> {
        let helper = format!("docker-credential-{name}");
        let failed =
            |reason: String| CredentialError::Helper { helper: helper.clone(), registry: server.to_owned(), reason };
        if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.')) {
            return Err(failed("its name may have letters, digits, `-`, `_` and `.` only".into()));
        }
        let program = (self.helpers.search.iter().map(|dir| dir.join(&helper)).find(|path| path.is_file()))
            .ok_or_else(|| {
                failed("not found on the search path; install it, or remove it from the credentials file".into())
            })?;
        let mut child = tokio::process::Command::new(program)
            .arg("get")
            .env_clear()
            .envs(self.helpers.variables.iter().map(|(k, v)| (k, v)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .map_err(|e| failed(e.to_string()))?;
        let mut stdin = child.stdin.take().ok_or_else(|| failed("no standard input".into()))?;
        // A helper that does not read its input is not an error by itself.
        let _ = stdin.write_all(server.as_bytes()).await;
        drop(stdin);
        let output = tokio::time::timeout(std::time::Duration::from_secs(60), child.wait_with_output())
            .await
            .map_err(|_| failed("no answer within 60 seconds".into()))?
            .map_err(|e| failed(e.to_string()))?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stdout).to_ascii_lowercase();
            // The protocol's own sentence for "none stored".
            return match said.contains("credentials not found") {
                true => Ok(None),
                false => Err(failed(format!("{}; run it by hand to see why", output.status))),
            };
        }
        let answer: HelperAnswer = serde_json::from_slice(&output.stdout)
            .map_err(|_| failed("its answer is not JSON with `Username` and `Secret`".into()))?;
        Ok(match (answer.username.as_str(), answer.secret.as_str()) {
            (_, "") => None,
            ("<token>", _) => Some(Credential::IdentityToken(answer.secret)),
            _ => Some(Credential::Basic { username: answer.username, password: answer.secret }),
        })
    }
}

#[async_trait]
impl CredentialSource for DockerConfig {
    async fn find(&self, registry: &str, repository: &str) -> Result<Option<Credential>, CredentialError> {
        for path in &self.files {
            if let Some(credential) = self.in_file(path, registry, repository).await? {
                return Ok(Some(credential));
            }
        }
        Ok(None)
    }
}

impl Entry {
    fn credential(&self) -> Result<Option<Credential>, String> {
        let some = |text: &Option<String>| text.clone().filter(|t| !t.is_empty());
        if let Some(token) = some(&self.registrytoken) {
            return Ok(Some(Credential::RegistryToken(token)));
        }
        if let Some(token) = some(&self.identitytoken) {
            return Ok(Some(Credential::IdentityToken(token)));
        }
        if let (Some(username), Some(password)) = (some(&self.username), some(&self.password)) {
            return Ok(Some(Credential::Basic { username, password }));
        }
        let Some(auth) = some(&self.auth) else { return Ok(None) };
        let decoded = base64::engine::general_purpose::STANDARD.decode(auth.trim()).ok();
        let text = decoded.and_then(|bytes| String::from_utf8(bytes).ok());
        match text.as_deref().and_then(|text| text.split_once(':')) {
            Some((username, password)) => Ok(Some(Credential::Basic {
                username: username.to_owned(),
                password: password.trim_end_matches('\0').to_owned(),
            })),
            None => Err("`auth` is not base64 of USER:PASSWORD".into()),
        }
    }
}

/// Keys under which a registry's entry may stand, most specific first: podman allows paths, docker has one for its hub.
fn keys(registry: &str, repository: &str) -> Vec<String> {
    let mut keys = Vec::new();
    let mut path = repository;
    while !path.is_empty() {
        keys.push(format!("{registry}/{path}"));
        path = path.rsplit_once('/').map_or("", |(parent, _)| parent);
    }
    keys.push(registry.to_owned());
    if registry == "docker.io" {
        keys.extend(["https://index.docker.io/v1/", "index.docker.io", "registry-1.docker.io"].map(String::from));
    }
    keys
}
