//! `GitServer`: real repositories behind git's own `http-backend`, on a loopback port of its own; a [`crate::Proxy`] before it tells what was asked and
//! misbehaves. `SshServer`: the same over a real sshd.
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context as _, Result, bail};
use tempfile::TempDir;

use crate::proxy::read_request;

/// Connections of one port, each answered by a thread, until it is dropped.
struct Port {
    address: String,
    ending: Arc<AtomicBool>,
    accepting: Option<std::thread::JoinHandle<()>>,
}

impl Port {
    fn open(answer: impl Fn(TcpStream) + Send + Sync + 'static) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").context("opening a port")?;
        let (address, ending, answer) =
            (listener.local_addr()?.to_string(), Arc::<AtomicBool>::default(), Arc::new(answer));
        let end = ending.clone();
        let accepting = std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if end.load(Ordering::SeqCst) {
                    return;
                }
                let answer = answer.clone();
                std::thread::spawn(move || answer(stream));
            }
        });
        Ok(Self { address, ending, accepting: Some(accepting) })
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        self.ending.store(true, Ordering::SeqCst);
        // Wakes the thread that accepts.
        let _ = TcpStream::connect(&self.address);
        if let Some(thread) = self.accepting.take() {
            let _ = thread.join();
        }
    }
}

/// A server of git repositories over http.
pub struct GitServer {
    dir: TempDir,
    port: Port,
}

/// Runs git in `dir`, as somebody with a name, at a fixed time. Gives what it prints.
///
/// # Errors
/// git's, with what it says.
pub fn git(dir: &Path, arguments: &[&str]) -> Result<String> {
    let mut command = Command::new("git");
    command
        .args(["-c", "protocol.file.allow=always", "-c", "init.defaultBranch=main"])
        .args(arguments)
        .current_dir(dir);
    for (name, value) in [
        ("GIT_CONFIG_NOSYSTEM", "1"),
        ("GIT_CONFIG_GLOBAL", "/dev/null"),
        ("GIT_AUTHOR_NAME", "A"),
        ("GIT_AUTHOR_EMAIL", "a@example.org"),
        ("GIT_COMMITTER_NAME", "C"),
        ("GIT_COMMITTER_EMAIL", "c@example.org"),
        ("GIT_AUTHOR_DATE", "1700000000 +0000"),
        ("GIT_COMMITTER_DATE", "1700000001 +0100"),
    ] {
        command.env(name, value);
    }
    let output = command.stdin(Stdio::null()).output().context("starting git")?;
    if !output.status.success() {
        bail!("git {arguments:?}: {}\n{}", output.status, String::from_utf8_lossy(&output.stderr));
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

impl GitServer {
    /// A server without repositories.
    ///
    /// # Errors
    /// No port is free.
    pub fn start() -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("rhost-git-").tempdir()?;
        let root = dir.path().to_owned();
        // A client that goes away in the middle is its own business.
        let port = Port::open(move |stream| drop(backend(&stream, &root)))?;
        Ok(Self { dir, port })
    }

    /// `127.0.0.1:PORT`.
    pub fn address(&self) -> &str {
        &self.port.address
    }

    /// The URL of repository `name`.
    pub fn url(&self, name: &str) -> String {
        format!("http://{}/{name}.git", self.port.address)
    }

    /// Where the bare repository `name` lies.
    pub fn bare(&self, name: &str) -> PathBuf {
        self.dir.path().join(format!("{name}.git"))
    }

    /// A directory beside the repositories.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Adds a commit with these files (`-> TARGET` as text is a symbolic link; a name that ends in `*` is executable) to branch `main` of repository
    /// `name`, which is made when it is not there. Gives the commit.
    ///
    /// # Errors
    /// git's.
    pub fn commit(&self, name: &str, files: &[(&str, &str)]) -> Result<String> {
        let work = self.work(name)?;
        for (path, text) in files {
            let place = work.join(path.trim_end_matches('*'));
            std::fs::create_dir_all(place.parent().context("no directory")?)?;
            if let Some(target) = text.strip_prefix("-> ") {
                std::os::unix::fs::symlink(target, &place)?;
                continue;
            }
            std::fs::write(&place, text)?;
            if path.ends_with('*') {
                git(&work, &["add", "."])?;
                git(&work, &["update-index", "--chmod=+x", path.trim_end_matches('*')])?;
                std::fs::set_permissions(&place, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
            }
        }
        git(&work, &["add", "--all", "."])?;
        git(&work, &["commit", "--quiet", "--allow-empty", "-m", "a change"])?;
        self.push(name)
    }

    /// The working copy of repository `name`, which is made when it is not there.
    ///
    /// # Errors
    /// git's.
    pub fn work(&self, name: &str) -> Result<PathBuf> {
        let (bare, work) = (self.bare(name), self.dir.path().join(format!("{name}.work")));
        if !bare.exists() {
            let path = |path: &Path| path.display().to_string();
            git(self.dir.path(), &["init", "--quiet", "--bare", &path(&bare)])?;
            git(self.dir.path(), &["init", "--quiet", &path(&work)])?;
            git(&work, &["remote", "add", "origin", &path(&bare)])?;
        }
        Ok(work)
    }

    /// Pushes what the working copy of `name` has. Gives its commit.
    ///
    /// # Errors
    /// git's.
    pub fn push(&self, name: &str) -> Result<String> {
        let work = self.work(name)?;
        git(&work, &["push", "--quiet", "--force", "origin", "HEAD:main", "--tags"])?;
        git(&self.bare(name), &["update-server-info"])?;
        git(&work, &["rev-parse", "HEAD"])
    }
}

/// One request, answered by git.
fn backend(client: &TcpStream, root: &Path) -> Result<()> {
    let asked = read_request(client)?;
    let header = |wanted: &str| {
        asked.headers.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.clone()).unwrap_or_default()
    };
    let (path, query) = asked.path.split_once('?').unwrap_or((&asked.path, ""));
    let mut command = Command::new("git");
    command.arg("http-backend").env_clear().env("PATH", "/usr/local/bin:/usr/bin:/bin");
    for (name, value) in [
        ("GIT_PROJECT_ROOT", root.display().to_string()),
        ("GIT_HTTP_EXPORT_ALL", "1".into()),
        ("GIT_CONFIG_NOSYSTEM", "1".into()),
        ("GIT_CONFIG_GLOBAL", "/dev/null".into()),
        ("PATH_INFO", path.to_owned()),
        ("QUERY_STRING", query.to_owned()),
        ("REQUEST_METHOD", asked.method.clone()),
        ("CONTENT_TYPE", header("content-type")),
        ("CONTENT_LENGTH", asked.body.len().to_string()),
        ("HTTP_CONTENT_ENCODING", header("content-encoding")),
        ("HTTP_GIT_PROTOCOL", header("git-protocol")),
        ("GIT_PROTOCOL", header("git-protocol")),
        ("REMOTE_ADDR", "127.0.0.1".into()),
    ] {
        command.env(name, value);
    }
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
    let mut input = child.stdin.take().context("no input")?;
    let body = asked.body;
    let writing = std::thread::spawn(move || input.write_all(&body));
    let mut output = BufReader::new(child.stdout.take().context("no output")?);
    let (mut status, mut head) = ("200 OK".to_owned(), String::new());
    loop {
        let mut line = String::new();
        if output.read_line(&mut line)? == 0 || line.trim().is_empty() {
            break;
        }
        match line.trim().strip_prefix("Status: ") {
            Some(text) => text.clone_into(&mut status),
            None => head += &format!("{}\r\n", line.trim()),
        }
    }
    let mut out = client;
    out.write_all(format!("HTTP/1.1 {status}\r\nconnection: close\r\n{head}\r\n").as_bytes())?;
    std::io::copy(&mut output, &mut out)?;
    client.shutdown(std::net::Shutdown::Both)?;
    let _ = writing.join();
    child.wait()?;
    Ok(())
}

/// A real sshd for the user who runs the test, with a host key and an authorized key of its own.
pub struct SshServer {
    port: Port,
    dir: TempDir,
}

impl SshServer {
    /// Whoever has the private half of `authorized` (a file) may come in.
    ///
    /// # Errors
    /// There is no `ssh-keygen`, no port.
    pub fn start(authorized: &Path) -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("rhost-sshd-").tempdir()?;
        let host_key = dir.path().join("host");
        let mut keygen = Command::new("ssh-keygen");
        keygen.args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&host_key);
        anyhow::ensure!(keygen.status()?.success(), "ssh-keygen failed");
        if crate::is_root() {
            // Where a root's sshd locks itself in.
            std::fs::create_dir_all("/run/sshd")?;
        }
        let config = dir.path().join("config");
        std::fs::write(
            &config,
            format!(
                "HostKey {}\nAuthorizedKeysFile {}\nStrictModes no\nUsePAM no\nPasswordAuthentication no\nPermitRootLogin yes\nPidFile none\n",
                host_key.display(),
                authorized.display()
            ),
        )?;
        let port = Port::open(move |stream| {
            let Ok(input) = stream.try_clone() else { return };
            let mut sshd = Command::new("/usr/sbin/sshd");
            sshd.arg("-i").arg("-f").arg(&config).stderr(Stdio::null());
            sshd.stdin(Stdio::from(OwnedFd::from(input))).stdout(Stdio::from(OwnedFd::from(stream)));
            // A client that goes away in the middle is its own business.
            let _ = sshd.status();
        })?;
        Ok(Self { port, dir })
    }

    /// The URL of a repository by its path.
    ///
    /// # Errors
    /// There is no `id`.
    pub fn url(&self, bare: &Path) -> Result<String> {
        let name = Command::new("id").arg("-un").output()?.stdout;
        Ok(format!("ssh://{}@{}{}", String::from_utf8_lossy(&name).trim(), self.port.address, bare.display()))
    }

    /// A line of known_hosts for this server.
    ///
    /// # Errors
    /// The key is gone.
    pub fn known_host(&self) -> Result<String> {
        let mut text = String::new();
        std::fs::File::open(self.dir.path().join("host.pub"))?.read_to_string(&mut text)?;
        let (host, port) = self.port.address.split_once(':').context("no port")?;
        let key: Vec<&str> = text.split(' ').take(2).collect();
        Ok(format!("[{host}]:{port} {}\n", key.join(" ")))
    }
}
