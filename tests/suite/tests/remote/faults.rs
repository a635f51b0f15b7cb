//! Servers that refuse, hang, loop and lie: each failure names the URL without credentials, what was wanted, and a way out.
use rhost_kit::{Answer, Proxy};

use super::{build, host};

/// Builds `ADD URL` and wants exit code 5 and all of `wanted`.
fn refused(server: &Proxy, path: &str, wanted: &[&str]) {
    let host = host();
    host.write_config("[http]\nconnectTimeout = 2\nidleTimeout = 1\n").expect("config");
    let url = server.url(path).replace("http://", "http://me:hunter2@");
    host.write("ctx/Dockerfile", format!("FROM scratch\nADD {url} /f\n")).expect("written");
    let text = build(&host, &["ctx"]).failure(5);
    let (_, error) = text.split_once("ERROR: ").unwrap_or_default();
    let shown = server.url(path).replace("http://", "http://xxxxx:xxxxx@");
    for part in wanted.iter().chain([&shown.as_str()]) {
        assert!(error.contains(part), "{path}: no `{part}` in\n{text}");
    }
    assert!(!error.contains("hunter2"), "{text}");
    assert!(text.contains("Dockerfile:2"), "{text}");
}

#[test]
fn bad_answers() {
    let server = Proxy::alone(|asked| match asked.path.as_str() {
        "/404" => Answer::reply(404, ""),
        "/401" => Answer::reply(401, ""),
        "/403" => Answer::reply(403, ""),
        "/503" => Answer::reply(503, "").header("retry-after", "3600"),
        "/loop" => Answer::reply(302, "").header("location", "/loop2"),
        "/loop2" => Answer::reply(302, "").header("location", "/loop"),
        "/nowhere" => Answer::reply(302, ""),
        "/ftp" => Answer::reply(302, "").header("location", "ftp://u:hunter2@h/x"),
        "/huge" => Answer::Raw(format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "y".repeat(4 << 20)).into_bytes()),
        "/noise" => Answer::Raw(b"this is no http\r\n\r\n".to_vec()),
        "/silent" => Answer::Hold(Vec::new()),
        "/stuck" => Answer::Hold(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\nbegin".to_vec()),
        "/short" => Answer::Raw(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\nbegin".to_vec()),
        path => {
            let step: usize = path.trim_start_matches("/far").parse().unwrap_or(0);
            Answer::reply(302, "").header("location", &format!("/far{}", step + 1))
        }
    })
    .expect("a server");
    let host = server.address().to_owned();
    refused(&server, "404", &[&format!("{host} answers 404 Not Found"), "check the URL"]);
    refused(&server, "401", &["answers 401 Unauthorized", "refuses the credentials"]);
    refused(&server, "403", &["answers 403 Forbidden"]);
    refused(&server, "503", &["answers 503", "try again later"]);
    refused(&server, "loop", &["redirects in a loop, back to"]);
    refused(&server, "nowhere", &["does not say where to"]);
    refused(&server, "ftp", &["neither http nor https", "ftp://xxxxx:xxxxx@h/x"]);
    refused(&server, "far0", &["more than 10 redirects"]);
    refused(&server, "huge", &["is not reached"]);
    refused(&server, "noise", &["is not reached"]);
    refused(&server, "silent", &["took the request and sent no answer for 1 s"]);
    refused(&server, "stuck", &["stopped in the middle of the file: no byte for 1 s"]);
    refused(&server, "short", &["was cut off after 5 bytes of 1000"]);
}

#[test]
fn nobody_there() {
    let host = host();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("bound");
    drop(listener);
    host.write("ctx/Dockerfile", format!("FROM scratch\nADD http://{address}/f /f\n")).expect("written");
    let text = build(&host, &["ctx"]).failure(5);
    assert!(text.contains(&format!("{address} is not reached")) && text.contains("http_proxy"), "{text}");
}

#[test]
fn a_certificate_that_nobody_vouches_for() {
    if !rhost_kit::have(&["openssl"]) {
        return;
    }
    let host = host();
    let script = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout key.pem -out cert.pem -days 2 -subj /CN=localhost \
                  -addext basicConstraints=critical,CA:FALSE -addext subjectAltName=DNS:localhost,IP:127.0.0.1 2>/dev/null";
    let made =
        std::process::Command::new("sh").args(["-c", script]).current_dir(host.work()).status().expect("openssl");
    assert!(made.success());
    host.write("www/f", "over tls").expect("written");
    let server = "import http.server,functools,ssl,sys\nh=functools.partial(http.server.SimpleHTTPRequestHandler,directory='www')\n\
                  s=http.server.ThreadingHTTPServer(('127.0.0.1',0),h)\nc=ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)\nc.load_cert_chain('cert.pem','key.pem')\n\
                  s.socket=c.wrap_socket(s.socket,server_side=True)\nprint(s.server_port,flush=True)\ns.serve_forever()";
    let (mut server, place) = super::python(server, host.work().to_path_buf());
    host.write("ctx/Dockerfile", format!("FROM scratch\nADD https://{place}/f /\n")).expect("written");
    let untrusted = build(&host, &["ctx"]);
    let ca = host.work().join("cert.pem");
    host.write_config(&format!("[registry.\"{place}\"]\nca = [{ca:?}]\n")).expect("config");
    let trusted = build(&host, &["-o", "out", "ctx"]);
    server.kill().and_then(|()| server.wait()).expect("ended");
    let text = untrusted.failure(5);
    assert!(text.contains("ertificate") && text.contains(&format!("[registry.\"{place}\"]")), "{text}");
    trusted.success();
    assert_eq!(std::fs::read_to_string(host.work().join("out/f")).expect("there"), "over tls");
}

#[test]
fn what_is_not_done_is_refused_by_name() {
    let host = host();
    for (line, wanted) in [
        ("ADD --checksum=md5:00 http://127.0.0.1:1/f /f", "checksum"),
        ("ADD --checksum=sha256:00 http://127.0.0.1:1/f /f", "sha256"),
    ] {
        host.write("ctx/Dockerfile", format!("FROM scratch\n{line}\n")).expect("written");
        let ran = build(&host, &["ctx"]);
        assert!(matches!(ran.code, 2 | 3) && ran.stderr.contains(wanted), "{line}: {}\n{}", ran.code, ran.stderr);
    }
}
