//! `Registry`: a real `docker-registry` on an ephemeral loopback port, gone when it is dropped or its test dies.
//!
//! It listens on port 0 and its log tells the port: no port is guessed. A [`Keeper`] holds it, so that even a killed test leaves no server
//! behind.
use std::ffi::OsStr;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, bail};

use crate::base_image::{Image, output};
use crate::keeper::Keeper;

/// User and password of a registry that was started with [`Registry::start_with_login`].
pub const LOGIN: (&str, &str) = ("builder", "letmein");
/// The same for its file: bcrypt, the only form that the registry reads.
const HTPASSWD: &str = "builder:$2b$04$8bNjMuV.O2QOEhhGXEL0jugPbQGJ55c5RD/MNGgwBXwdpG3iMlI8e\n";

/// A running registry.
#[derive(Debug)]
pub struct Registry {
    _keeper: Keeper,
    address: String,
    login: bool,
    dir: PathBuf,
}

impl Registry {
    /// An empty registry, open to all.
    ///
    /// # Errors
    /// When `docker-registry` is not installed or does not come up; the message has its log.
    pub fn start() -> Result<Self> {
        Self::launch(Door::Open)
    }

    /// An empty registry that wants [`LOGIN`] for everything.
    ///
    /// # Errors
    /// As [`Registry::start`].
    pub fn start_with_login() -> Result<Self> {
        Self::launch(Door::Login)
    }

    /// An empty registry that speaks https with a certificate of its own, see [`Registry::certificate`].
    ///
    /// # Errors
    /// As [`Registry::start`], and when `openssl` is not installed.
    pub fn start_with_tls() -> Result<Self> {
        Self::launch(Door::Tls)
    }

    /// The certificate (PEM) to trust, of a registry that was started with [`Registry::start_with_tls`].
    pub fn certificate(&self) -> PathBuf {
        self.dir.join("certificate.pem")
    }

    fn launch(door: Door) -> Result<Self> {
        let login = matches!(door, Door::Login);
        let dir = tempfile::Builder::new().prefix("rhost-registry-").tempdir()?.keep();
        let (storage, htpasswd) = (dir.join("storage"), dir.join("htpasswd"));
        let mut config = format!(
            "version: 0.1\nlog: {{level: info, accesslog: {{disabled: true}}}}\n\
             storage: {{filesystem: {{rootdirectory: {storage:?}}}, delete: {{enabled: true}}}}\n\
             http: {{addr: \"127.0.0.1:0\", secret: test{}}}\n",
            match door {
                Door::Tls => {
                    let (certificate, key) = certify(&dir)?;
                    format!(", tls: {{certificate: {certificate:?}, key: {key:?}}}")
                }
                Door::Open | Door::Login => String::new(),
            }
        );
        if login {
            std::fs::write(&htpasswd, HTPASSWD)?;
            config += &format!("auth: {{htpasswd: {{realm: tests, path: {htpasswd:?}}}}}\n");
        }
        let config_path = dir.join("config.yml");
        std::fs::write(&config_path, config)?;
        let arguments = [OsStr::new("serve"), config_path.as_os_str()];
        let (keeper, log) = Keeper::server(OsStr::new("docker-registry"), &arguments, &dir)?;
        let mut log = BufReader::new(log);
        let mut said = String::new();
        let port = loop {
            let from = said.len();
            if log.read_line(&mut said)? == 0 {
                bail!("docker-registry did not come up:\n{said}");
            }
            let line = &said[from..];
            if let Some(port) = line.split("listening on 127.0.0.1:").nth(1) {
                break port.chars().take_while(char::is_ascii_digit).collect::<String>();
            }
            if line.contains("docker-registry: not found") || line.contains("docker-registry: command not found") {
                bail!("docker-registry is not installed (`cargo xtask setup` installs it)");
            }
        };
        // The rest of the log is read, so that the registry never waits for us.
        std::thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
        Ok(Self { _keeper: keeper, address: format!("127.0.0.1:{port}"), login, dir })
    }

    /// `127.0.0.1:PORT`.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// `127.0.0.1:PORT/image`.
    pub fn name(&self, image: &str) -> String {
        format!("{}/{image}", self.address)
    }

    /// Where the registry keeps its files, for tests that damage them:
    /// `docker/registry/v2/blobs/sha256/ab/abcd…/data`.
    pub fn storage(&self) -> PathBuf {
        self.dir.join("storage")
    }

    /// The file that holds a blob. `digest` is `sha256:<hex>`.
    pub fn blob_path(&self, digest: &str) -> PathBuf {
        let hex = digest.trim_start_matches("sha256:");
        let short = hex.get(..2).unwrap_or_default();
        self.storage().join("docker/registry/v2/blobs/sha256").join(short).join(hex).join("data")
    }

    /// Pushes `image` as `name` (`library/busybox:latest`), all its platforms, with skopeo. Returns its full name.
    ///
    /// # Errors
    /// Those of `skopeo`.
    pub fn push(&self, image: &Image, name: &str) -> Result<String> {
        self.push_layout(&image.layout, image.tag, name)
    }

    /// Pushes what `tag` names in the OCI layout `layout` as `name`. Returns its full name.
    ///
    /// # Errors
    /// Those of `skopeo`.
    pub fn push_layout(&self, layout: &Path, tag: &str, name: &str) -> Result<String> {
        let full = self.name(name);
        let mut command = Command::new("skopeo");
        command.args([
            "--insecure-policy",
            "copy",
            "--quiet",
            "--all",
            "--preserve-digests",
            "--dest-tls-verify=false",
        ]);
        if self.login {
            command.arg(format!("--dest-creds={}:{}", LOGIN.0, LOGIN.1));
        }
        output(command.arg(format!("oci:{}:{tag}", layout.display())).arg(format!("docker://{full}")))?;
        Ok(full)
    }

    /// A `config.json` of docker's form with [`LOGIN`] for this registry.
    pub fn docker_config(&self) -> String {
        // base64 of `builder:letmein`.
        serde_json::json!({"auths": {self.address(): {"auth": "YnVpbGRlcjpsZXRtZWlu"}}}).to_string()
    }
}

/// Who may come in, and how.
enum Door {
    Open,
    Login,
    Tls,
}

/// A certificate for 127.0.0.1 that signs itself, and its key.
fn certify(dir: &Path) -> Result<(PathBuf, PathBuf)> {
    let (certificate, key) = (dir.join("certificate.pem"), dir.join("key.pem"));
    let mut command = Command::new("openssl");
    command.args([
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
        "-days",
        "30",
    ]);
    command.args(["-subj", "/CN=rhost test", "-addext", "subjectAltName=IP:127.0.0.1"]);
    command.args(["-addext", "basicConstraints=critical,CA:FALSE"]);
    output(command.arg("-keyout").arg(&key).arg("-out").arg(&certificate))?;
    Ok((certificate, key))
}
