//! `Proxy`: stands before a real registry (or alone, as a server of files), writes down what is asked, and misbehaves as a test says: what a
//! real server does not do on demand. What it has no rule for it hands through, byte for byte.
//!
//! One request a connection, HTTP/1.1, no TLS. Requests are noted before they are answered, so that a client that has its answer is
//! in the list.
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, Result, bail};

/// What a client asked. Header names are in lower case.
#[derive(Clone, Debug)]
pub struct Asked {
    /// `GET`.
    pub method: String,
    /// With the query.
    pub path: String,
    /// As they came.
    pub headers: Vec<(String, String)>,
    /// Whole, decoded where it came in chunks.
    pub body: Vec<u8>,
}

/// How a request is answered.
#[derive(Clone, Debug)]
pub enum Answer {
    /// By the registry.
    Forward,
    /// By this, the registry is not asked.
    Reply {
        /// Status.
        status: u16,
        /// Further headers.
        headers: Vec<(&'static str, String)>,
        /// Body.
        body: Vec<u8>,
    },
    /// By these bytes, whatever they are, and the end of the connection.
    Raw(Vec<u8>),
    /// By these bytes, and then by nothing until the client goes away.
    Hold(Vec<u8>),
    /// By the registry, but the connection is cut after so many bytes of the body.
    Cut(usize),
    /// By the registry, but the body has only so many bytes, and says so.
    Short(usize),
    /// By the registry, but the last byte of the body is another.
    Spoil,
}

impl Answer {
    /// A status and a body of distribution's error form.
    pub fn error(status: u16, code: &str, message: &str) -> Self {
        let body = serde_json::json!({"errors": [{"code": code, "message": message}]}).to_string();
        Self::Reply { status, headers: Vec::new(), body: body.into_bytes() }
    }

    /// A status and a body.
    pub fn reply(status: u16, body: impl AsRef<[u8]>) -> Self {
        Self::Reply { status, headers: Vec::new(), body: body.as_ref().to_vec() }
    }

    /// The same reply with one more header; other answers stay as they are.
    #[must_use]
    pub fn header(mut self, name: &'static str, value: &str) -> Self {
        if let Self::Reply { headers, .. } = &mut self {
            headers.push((name, value.to_owned()));
        }
        self
    }
}

type Rule = dyn Fn(&Asked) -> Answer + Send + Sync;

/// A proxy that runs until it is dropped.
pub struct Proxy {
    address: String,
    asked: Arc<Mutex<Vec<Asked>>>,
    rule: Arc<Mutex<Arc<Rule>>>,
    ending: Arc<AtomicBool>,
    accepting: Option<std::thread::JoinHandle<()>>,
}

impl Asked {
    /// The header `name`, in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }
}

impl Proxy {
    /// A server of its own: everything must have a rule.
    ///
    /// # Errors
    /// No port is free.
    pub fn alone(rule: impl Fn(&Asked) -> Answer + Send + Sync + 'static) -> Result<Self> {
        let server = Self::start("127.0.0.1:1")?;
        server.answer(rule);
        Ok(server)
    }

    /// `http://127.0.0.1:PORT/path`.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}/{path}", self.address)
    }

    /// A proxy before the registry at `upstream` (`127.0.0.1:PORT`) that hands everything through.
    ///
    /// # Errors
    /// No port is free.
    pub fn start(upstream: &str) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").context("opening a port")?;
        let address = listener.local_addr()?.to_string();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let rule: Arc<Mutex<Arc<Rule>>> = Arc::new(Mutex::new(Arc::new(|_: &Asked| Answer::Forward)));
        let ending = Arc::new(AtomicBool::new(false));
        let (log, rules, end, upstream) = (asked.clone(), rule.clone(), ending.clone(), upstream.to_owned());
        let accepting = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if end.load(Ordering::SeqCst) {
                    return;
                }
                let Ok(stream) = stream else { continue };
                let (log, rules, upstream) = (log.clone(), rules.clone(), upstream.clone());
                std::thread::spawn(move || {
                    // A client that goes away in the middle is its own business.
                    let _ = serve(&stream, &upstream, &log, &rules);
                });
            }
        });
        Ok(Self { address, asked, rule, ending, accepting: Some(accepting) })
    }

    /// `127.0.0.1:PORT`.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// `127.0.0.1:PORT/image`.
    pub fn name(&self, image: &str) -> String {
        format!("{}/{image}", self.address)
    }

    /// From now on requests are answered as `rule` says.
    pub fn answer(&self, rule: impl Fn(&Asked) -> Answer + Send + Sync + 'static) {
        *self.rule.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(rule);
    }

    /// What was asked since the last call, as `GET /v2/…`.
    pub fn take(&self) -> Vec<String> {
        self.take_asked().iter().map(|asked| format!("{} {}", asked.method, asked.path)).collect()
    }

    /// What was asked since the last call, whole.
    pub fn take_asked(&self) -> Vec<Asked> {
        std::mem::take(&mut *self.asked.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.ending.store(true, Ordering::SeqCst);
        // Wakes the thread that accepts.
        let _ = TcpStream::connect(&self.address);
        if let Some(thread) = self.accepting.take() {
            let _ = thread.join();
        }
    }
}

fn serve(client: &TcpStream, upstream: &str, log: &Mutex<Vec<Asked>>, rules: &Mutex<Arc<Rule>>) -> Result<()> {
    let asked = read_request(client)?;
    let rule = rules.lock().unwrap_or_else(PoisonError::into_inner).clone();
    log.lock().unwrap_or_else(PoisonError::into_inner).push(asked.clone());
    let mut out = client;
    match rule(&asked) {
        Answer::Reply { status, headers, body } => {
            let mut head = format!("HTTP/1.1 {status} X\r\nconnection: close\r\ncontent-length: {}\r\n", body.len());
            for (name, value) in headers {
                head += &format!("{name}: {value}\r\n");
            }
            out.write_all(format!("{head}\r\n").as_bytes())?;
            if asked.method != "HEAD" {
                out.write_all(&body)?;
            }
        }
        Answer::Raw(bytes) => out.write_all(&bytes)?,
        Answer::Hold(bytes) => {
            out.write_all(&bytes)?;
            std::io::copy(&mut &*client, &mut std::io::sink())?;
        }
        Answer::Forward => std::io::copy(&mut forward(&asked, upstream)?, &mut out).map(drop)?,
        bent => {
            let mut reader = BufReader::new(forward(&asked, upstream)?);
            let (first, headers) = read_head(&mut reader)?;
            let mut body = Vec::new();
            reader.read_to_end(&mut body)?;
            let (said, sent) = match bent {
                Answer::Cut(length) => (body.len(), length.min(body.len())),
                Answer::Short(length) => (length.min(body.len()), length.min(body.len())),
                _ => (body.len(), body.len()),
            };
            if let (Answer::Spoil, Some(last)) = (bent, body.last_mut()) {
                *last ^= 0xff;
            }
            let mut head = format!("{first}\r\n");
            for (name, value) in headers.iter().filter(|(name, _)| name != "content-length") {
                head += &format!("{name}: {value}\r\n");
            }
            out.write_all(format!("{head}content-length: {said}\r\n\r\n").as_bytes())?;
            out.write_all(&body[..sent])?;
        }
    }
    client.shutdown(std::net::Shutdown::Both)?;
    Ok(())
}

/// The registry's answer to `asked`, to be read to its end.
fn forward(asked: &Asked, upstream: &str) -> Result<TcpStream> {
    let mut stream = TcpStream::connect(upstream).context("reaching the registry")?;
    let mut head = format!("{} {} HTTP/1.1\r\nconnection: close\r\n", asked.method, asked.path);
    let ours = ["connection", "content-length", "transfer-encoding", "expect"];
    for (name, value) in asked.headers.iter().filter(|(name, _)| !ours.contains(&name.as_str())) {
        head += &format!("{name}: {value}\r\n");
    }
    if !matches!(asked.method.as_str(), "GET" | "HEAD") {
        head += &format!("content-length: {}\r\n", asked.body.len());
    }
    stream.write_all(format!("{head}\r\n").as_bytes())?;
    stream.write_all(&asked.body)?;
    Ok(stream)
}

/// The first line and the headers, names in lower case.
fn read_head(reader: &mut BufReader<TcpStream>) -> Result<(String, Vec<(String, String)>)> {
    let line = |reader: &mut BufReader<TcpStream>| -> Result<String> {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            bail!("the connection ended");
        }
        Ok(line.trim_end().to_owned())
    };
    let first = line(reader)?;
    let mut headers = Vec::new();
    loop {
        let text = line(reader)?;
        if text.is_empty() {
            return Ok((first, headers));
        }
        let (name, value) = text.split_once(':').context("a header without a colon")?;
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
}

pub(crate) fn read_request(client: &TcpStream) -> Result<Asked> {
    let mut reader = BufReader::new(client.try_clone()?);
    let (first, headers) = read_head(&mut reader)?;
    let mut words = first.split(' ');
    let (method, path) = (words.next().unwrap_or_default().to_owned(), words.next().unwrap_or_default().to_owned());
    let header = |wanted: &str| headers.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.as_str());
    if header("expect").is_some() {
        let mut out = client;
        out.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
    }
    let mut body = Vec::new();
    if header("transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked")) {
        loop {
            let mut size = String::new();
            reader.read_line(&mut size)?;
            let size = u64::from_str_radix(size.trim().split(';').next().unwrap_or_default(), 16)?;
            (&mut reader).take(size).read_to_end(&mut body)?;
            let mut end = String::new();
            reader.read_line(&mut end)?;
            if size == 0 {
                break;
            }
        }
    } else if let Some(length) = header("content-length") {
        (&mut reader).take(length.parse()?).read_to_end(&mut body)?;
    }
    Ok(Asked { method, path, headers, body })
}
