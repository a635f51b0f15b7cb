//! Builds that are watched, held up and killed while they run.
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use rhost_kit::{Ran, Registry, TestHost, busybox};

/// More than any wait takes on a loaded machine; reaching it is a failure.
pub const CEILING: Duration = Duration::from_secs(120);

/// A host whose docker.io is a registry with busybox; `None`, said aloud, where the machine lacks what that takes.
pub fn host() -> Option<(TestHost, Registry)> {
    if !rhost_kit::have(&["docker-registry", "skopeo"]) {
        rhost_kit::skip("docker-registry and skopeo are not installed");
        return None;
    }
    let registry = Registry::start().expect("a registry");
    registry.push(&busybox().expect("busybox"), "library/busybox:latest").expect("pushed");
    let host = TestHost::new().expect("a host");
    host.mirror_docker_io(registry.address()).expect("config");
    Some((host, registry))
}

/// Writes the context `ctx` and names it.
pub fn context(host: &TestHost, name: &str, files: &[(&str, &str)]) -> String {
    for (path, text) in files {
        host.write(&format!("{name}/{path}"), text).expect("written");
    }
    host.work().join(name).display().to_string()
}

/// A `rhost` that runs; killed when dropped.
pub struct Running {
    child: Child,
    lines: Receiver<String>,
    seen: String,
}

impl Running {
    /// Starts `command`, whose stderr is read line by line.
    pub fn start(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("started");
        let (told, lines) = channel();
        let stderr = BufReader::new(child.stderr.take().expect("piped"));
        std::thread::spawn(move || {
            for line in stderr.split(b'\n').map_while(Result::ok) {
                if told.send(String::from_utf8_lossy(&line).into_owned() + "\n").is_err() {
                    return;
                }
            }
        });
        Self { child, lines, seen: String::new() }
    }

    /// Waits until what it says contains `text`.
    #[track_caller]
    pub fn until(&mut self, text: &str) {
        let deadline = Instant::now() + CEILING;
        while !self.seen.contains(text) {
            match self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => self.seen.push_str(&line),
                Err(RecvTimeoutError::Timeout) => panic!("`{text}` does not come:\n{}", self.seen),
                Err(RecvTimeoutError::Disconnected) => panic!("ended without `{text}`:\n{}", self.seen),
            }
        }
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends `signal` by name.
    pub fn signal(&self, signal: &str) {
        let sent = Command::new("kill").args(["-s", signal, &self.id().to_string()]).status().expect("kill");
        assert!(sent.success(), "no process to send {signal} to");
    }

    /// Waits for its end.
    pub fn end(mut self) -> Ran {
        use std::os::unix::process::ExitStatusExt as _;
        let status = self.child.wait().expect("waited");
        self.seen.extend(self.lines.iter());
        let code = status.code().or(status.signal().map(|s| 128 + s)).unwrap_or(-1);
        Ran { code, stdout: String::new(), stderr: std::mem::take(&mut self.seen) }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended long ago.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Where steps knock and wait until they are let in: `wget -q -O- URL`.
pub struct Gate(TcpListener);

/// A step that waits.
pub struct Visitor(TcpStream);

impl Gate {
    /// A gate on loopback.
    pub fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        listener.set_nonblocking(true).expect("nonblocking");
        Self(listener)
    }

    /// A shell command that knocks and waits.
    pub fn knock(&self) -> String {
        format!("wget -q -O- http://{}/", self.0.local_addr().expect("bound"))
    }

    /// The next one that knocks.
    #[track_caller]
    pub fn visitor(&self) -> Visitor {
        let deadline = Instant::now() + CEILING;
        loop {
            match self.0.accept() {
                Ok((stream, _)) => return Visitor(stream),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(error) => panic!("{error}"),
            }
            assert!(Instant::now() < deadline, "nobody knocks");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// True when nobody else has knocked.
    pub fn is_quiet(&self) -> bool {
        self.0.accept().is_err()
    }
}

impl Visitor {
    /// Lets it in.
    pub fn let_in(mut self) {
        self.0.set_nonblocking(false).expect("blocking");
        let mut request = [0; 1024];
        let _ = self.0.read(&mut request);
        self.0.write_all(b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n").expect("answered");
    }
}
