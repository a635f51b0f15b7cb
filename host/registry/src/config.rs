//! Registry configuration: buildkitd.toml's `[registry."host"]` tables, as values.
//!
//! Paths in it are read when a client is made for that host, not before; so a wrong certificate of a registry that a
//! build does not use does no harm.
use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// All `[registry."host"]` tables, by host (`docker.io`, `127.0.0.1:5000`). Deserialize it from the `registry` key.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RegistryConfig {
    /// Host to its settings.
    pub hosts: BTreeMap<String, HostConfig>,
}

/// Settings of one registry host (spec D: `registry."host"`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HostConfig {
    /// Hosts to pull from before this one, each `HOST[:PORT][/PREFIX]`; their own tables apply to them.
    pub mirrors: Vec<String>,
    /// `true`: plain http only. `false`: https only. Absent: https, but for loopback http first.
    pub http: Option<bool>,
    /// `true`: certificates are not checked, and plain http is tried when https fails.
    pub insecure: Option<bool>,
    /// PEM files with certificates of authorities to trust besides the system's.
    pub ca: Vec<PathBuf>,
    /// Client certificates; the first is used.
    pub keypair: Vec<KeyPair>,
    /// Directories with `*.crt` (authorities) and `*.cert` + `*.key` (client certificates).
    pub tlsconfigdir: Vec<PathBuf>,
}

/// A client certificate and its key, PEM files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyPair {
    /// The private key.
    pub key: PathBuf,
    /// The certificate chain.
    pub cert: PathBuf,
}

/// The configuration of a registry is wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("configuration of registry `{host}`: {reason}")]
pub struct ConfigError {
    /// The table.
    pub host: String,
    /// What is wrong, and what would be right.
    pub reason: String,
}

impl ConfigError {
    pub(crate) fn new(host: &str, reason: impl Into<String>) -> Self {
        Self { host: crate::redact(host), reason: reason.into() }
    }
}

impl RegistryConfig {
    /// The tables under the key `registry` of a TOML document; other keys are not looked at.
    ///
    /// # Errors
    /// When the document is not TOML, a key of a table is unknown, or a mirror is no host.
    pub fn from_toml(text: &str) -> Result<Self, ConfigError> {
        #[derive(Deserialize)]
        struct Document {
            #[serde(default)]
            registry: RegistryConfig,
        }
        let document: Document = toml::from_str(text).map_err(|e| ConfigError::new("*", e.to_string()))?;
        document.registry.check()?;
        Ok(document.registry)
    }

    /// Checks hosts and mirrors.
    ///
    /// # Errors
    /// When one is no `HOST[:PORT][/PREFIX]`.
    pub fn check(&self) -> Result<(), ConfigError> {
        for (host, settings) in &self.hosts {
            crate::reference::check_registry(host).map_err(|reason| ConfigError::new(host, reason))?;
            for mirror in &settings.mirrors {
                split_mirror(mirror).map_err(|reason| ConfigError::new(host, reason))?;
            }
        }
        Ok(())
    }

    /// Settings for `host`; all absent if it has no table.
    pub fn host(&self, host: &str) -> HostConfig {
        self.hosts.get(host).cloned().unwrap_or_default()
    }
}

/// `HOST[:PORT][/PREFIX]` as host and prefix (no slashes at its ends).
pub(crate) fn split_mirror(mirror: &str) -> Result<(&str, &str), String> {
    if mirror.contains("://") {
        return Err(format!(
            "mirror `{}` has a scheme; write HOST[:PORT][/PREFIX], and `http = true` in that host's own table",
            crate::redact(mirror)
        ));
    }
    let (host, prefix) = mirror.split_once('/').unwrap_or((mirror, ""));
    crate::reference::check_registry(host)?;
    let prefix = prefix.trim_matches('/');
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-' | b'/');
    match prefix.bytes().all(plain) && !prefix.split('/').any(|c| c == "." || c == "..") {
        true => Ok((host, prefix)),
        false => Err(format!("mirror `{mirror}` has a prefix that is no path")),
    }
}

/// Whether `registry` (`HOST[:PORT]`) is this machine: `localhost`, 127.0.0.0/8 or `::1`.
pub(crate) fn is_loopback(registry: &str) -> bool {
    let host = match registry.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => registry.split(':').next().unwrap_or_default(),
    };
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buildkit_tables_are_read() {
        let text = r#"
            debug = true
            [registry."docker.io"]
              mirrors = ["127.0.0.1:5000", "core.example.com/proxy.docker.io"]
            [registry."r.example.com:5443"]
              http = false
              insecure = true
              ca = ["/etc/ca.pem"]
              [[registry."r.example.com:5443".keypair]]
                key = "/k.pem"
                cert = "/c.pem"
        "#;
        let config = RegistryConfig::from_toml(text).unwrap();
        assert_eq!(config.host("docker.io").mirrors.len(), 2);
        let other = config.host("r.example.com:5443");
        assert_eq!((other.http, other.insecure, other.keypair.len()), (Some(false), Some(true), 1));
        assert_eq!(config.host("absent"), HostConfig::default());
    }

    #[test]
    fn wrong_tables_are_refused() {
        for (text, want) in [
            ("[registry.\"a.io\"]\nmirror = []", "mirror"),
            ("[registry.\"a.io\"]\nmirrors = [\"https://u:p@m.io\"]", "scheme"),
            ("[registry.\"a.io\"]\nmirrors = [\"m.io/../x\"]", "no path"),
            ("[registry.\"https://a.io\"]", "not a registry"),
            ("registry = 3", "registry"),
        ] {
            let message = RegistryConfig::from_toml(text).unwrap_err().to_string();
            assert!(message.contains(want), "{text}: {message}");
            assert!(!message.contains("u:p"), "{message}");
        }
    }

    #[test]
    fn loopback_is_known() {
        for yes in ["localhost", "localhost:5000", "127.0.0.1:5000", "127.8.8.8", "[::1]:5000", "[::1]"] {
            assert!(is_loopback(yes), "{yes}");
        }
        for no in ["docker.io", "localhost.example.com", "128.0.0.1", "127.0.0.1.example.com", "[::2]:1", ""] {
            assert!(!is_loopback(no), "{no}");
        }
    }
}
