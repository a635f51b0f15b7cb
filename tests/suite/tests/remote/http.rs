//! `ADD https://…`: name, mode, time, what is asked of the server and when.
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use rhost_kit::{Answer, Proxy};
use rhost_llb::Digest;

use super::{build, host, members, serve, server};

const DATE: &str = "Sun, 06 Nov 1994 08:49:37 GMT";

#[test]
fn a_file_has_the_name_mode_and_time_of_its_url() {
    let (host, server) = (
        host(),
        server(vec![
            ("/dir/a%20file.txt", vec![("last-modified", DATE.into())], b"dated".to_vec()),
            ("/named", vec![("content-disposition", "attachment; filename=\"../said.txt\"".into())], b"said".to_vec()),
            ("/plain", vec![], b"plain".to_vec()),
        ]),
    );
    let [dated, named, plain] = ["dir/a%20file.txt", "named", "plain"].map(|path| server.url(path));
    host.write(
        "ctx/Dockerfile",
        format!("FROM scratch\nADD {dated} /d/\nADD {named} /d/\nADD --chmod=755 --chown=5:6 {plain} /d/\n"),
    )
    .expect("written");
    build(&host, &["-o", "type=tar,dest=out.tar", "ctx"]).success();
    // The frontend names files by their URL, as BuildKit's does; what the server says counts where nobody says a name.
    let found = members(&host, "out.tar");
    for wanted in [
        "-rw------- 0/0 5 1994-11-06 08:49:37 d/a file.txt",
        "-rw------- 0/0 4 1970-01-01 00:00:00 d/named",
        "-rwxr-xr-x 5/6 5 1970-01-01 00:00:00 d/plain",
    ] {
        assert!(found.iter().any(|line| line == wanted), "no `{wanted}` in {found:#?}");
    }
}

#[test]
fn an_unchanged_file_costs_one_request_and_no_step() {
    let version = std::sync::Arc::new(AtomicUsize::new(1));
    let now = version.clone();
    let server = Proxy::alone(move |asked| {
        let version = now.load(Ordering::SeqCst);
        let body = format!("version {version}");
        match asked.path.as_str() {
            "/tagged" => serve(asked, &[("etag", format!("\"v{version}\""))], body.as_bytes()),
            // It has tags and does not know conditions.
            "/stubborn" => Answer::reply(200, body).header("etag", &format!("W/\"v{version}\"")),
            "/dated" if asked.header("if-modified-since") == Some(DATE) => Answer::reply(304, ""),
            "/dated" => Answer::reply(200, "dated").header("last-modified", DATE),
            _ => Answer::reply(200, "untold"),
        }
    })
    .expect("a server");
    let host = host();
    let add = |name: &str| format!("ADD {} /{name}\n", server.url(name));
    let names = ["tagged", "stubborn", "dated", "untold"];
    host.write("ctx/Dockerfile", format!("FROM scratch\n{}", names.map(add).concat())).expect("written");
    let run = |what: &str| {
        let ran = build(&host, &["-o", "out", "ctx"]);
        let (text, asked) = (ran.stderr.clone(), server.take());
        ran.success();
        let mut asked: Vec<String> = asked.into_iter().collect();
        asked.sort();
        assert_eq!(
            asked,
            ["GET /dated", "GET /stubborn", "GET /tagged", "GET /untold"],
            "{what}: one request each\n{text}"
        );
        text
    };
    run("cold");
    let text = run("unchanged");
    assert_eq!(text.matches("CACHED").count(), 4 + 4, "sources and copies\n{text}");
    version.store(2, Ordering::SeqCst);
    let text = run("changed");
    assert_eq!(std::fs::read_to_string(host.work().join("out/tagged")).expect("there"), "version 2");
    assert_eq!(std::fs::read_to_string(host.work().join("out/stubborn")).expect("there"), "version 2");
    assert!(text.matches("CACHED").count() < 8, "{text}");
}

#[test]
fn a_checksum_is_checked_and_then_nobody_is_asked() {
    let (host, server) = (host(), server(vec![("/f", vec![], b"content".to_vec())]));
    let (right, wrong) = (Digest::of("content"), Digest::of("other"));
    let write = |checksum: &str| {
        host.write("ctx/Dockerfile", format!("FROM scratch\nADD --checksum={checksum} {} /f\n", server.url("f")))
            .expect("written");
    };
    write(&wrong.to_string());
    let text = build(&host, &["ctx"]).failure(1);
    assert!(
        text.contains(&right.to_string()) && text.contains(&wrong.to_string()) && text.contains(&server.url("f")),
        "{text}"
    );
    assert!(text.contains("Dockerfile:2"), "{text}");
    write(&right.to_string());
    build(&host, &["-o", "out", "ctx"]).success();
    assert_eq!(std::fs::read(host.work().join("out/f")).expect("there"), b"content");
    assert_eq!(server.take().len(), 1, "the file that was there was good");
    build(&host, &["-o", "out", "ctx"]).success();
    build(&host, &["--no-cache", "-o", "out", "ctx"]).success();
    assert_eq!(server.take(), [""; 0], "it is known by its checksum");
    // Of other kinds than the store's own.
    let sha512 = "b2d1d285b5199c85f988d03649c37e44fd3dde01e5d69c50fef90651962f48110e9340b60d49a479c4c0b53f5f07d690686dd87d2481937a512e8b85ee7c617f";
    write(&format!("sha512:{sha512}"));
    build(&host, &["-o", "out", "ctx"]).success();
    write(&format!("sha512:{}", sha512.replace('b', "c")));
    let text = build(&host, &["ctx"]).failure(1);
    assert!(text.contains(sha512), "{text}");
}

#[test]
fn credentials_are_sent_where_they_belong_and_are_nowhere_afterwards() {
    let other = Proxy::alone(|_| Answer::reply(200, "elsewhere")).expect("a server");
    let target = other.url("far");
    let server = Proxy::alone(move |asked| match asked.path.as_str() {
        "/near" => Answer::reply(302, "").header("location", "/file"),
        "/leave" => Answer::reply(307, "").header("location", &target),
        _ if asked.header("authorization").is_none() => Answer::reply(401, ""),
        _ => Answer::reply(200, "private"),
    })
    .expect("a server");
    let host = host();
    let url = |path: &str| server.url(path).replace("http://", "http://someone:hunter%2D22@");
    let dockerfile =
        |path: &str| host.write("ctx/Dockerfile", format!("FROM scratch\nADD {} /f\n", path)).expect("written");
    let auth = |server: &Proxy| -> Vec<Option<String>> {
        server.take_asked().iter().map(|asked| asked.header("authorization").map(str::to_owned)).collect()
    };
    let basic = Some("Basic c29tZW9uZTpodW50ZXItMjI=".to_owned());
    dockerfile(&url("near"));
    let ran = build(&host, &["-o", "out", "ctx"]);
    assert!(!ran.stderr.contains("hunter"), "{}", ran.stderr);
    ran.success();
    assert_eq!(auth(&server), [basic.clone(), basic.clone()]);
    dockerfile(&url("leave"));
    build(&host, &["-o", "out", "ctx"]).success();
    assert_eq!((auth(&server), auth(&other)), (vec![basic], vec![None]), "not to another port");
    // By a secret: a token for the host's name.
    std::fs::write(host.work().join("token"), "t0psecret\n").expect("written");
    dockerfile(&server.url("file"));
    let text = build(&host, &["ctx"]).failure(5);
    assert!(text.contains("401") && text.contains("HTTP_AUTH_TOKEN_127.0.0.1"), "{text}");
    build(&host, &["--secret", "id=HTTP_AUTH_TOKEN_127.0.0.1,src=token", "-o", "out", "ctx"]).success();
    assert_eq!(auth(&server).last(), Some(&Some("Bearer t0psecret".to_owned())));
    // The whole store, and all that was said of it.
    let said = host.run(["du", "--json"]).expect("ran").success();
    assert!(said.contains("http url http://"), "{said}");
    let mut grep = std::process::Command::new("grep");
    let found = grep.args(["-rlaE", "hunter|t0psecret"]).arg(host.root()).output().expect("grep");
    assert_eq!(String::from_utf8_lossy(&found.stdout), "", "credentials in the store");
}

#[test]
fn a_cut_file_is_resumed_if_it_is_the_same_and_begun_anew_if_not() {
    let body: Vec<u8> = (0..200_000u32).flat_map(|number| number.to_le_bytes()).collect();
    let whole = body.clone();
    let seen = Mutex::new(0);
    let server = Proxy::alone(move |asked| {
        let mut seen = seen.lock().expect("no panic");
        *seen += 1;
        let tag = if asked.path == "/same" { "\"one\"".to_owned() } else { format!("\"{seen}\"") };
        let cut = |from: usize, to: usize, status: &str, range: &str| {
            let mut out =
                format!("HTTP/1.1 {status}\r\netag: {tag}\r\n{range}content-length: {}\r\n\r\n", body.len() - from)
                    .into_bytes();
            out.extend(&body[from..to]);
            Answer::Raw(out)
        };
        let from = asked
            .header("range")
            .and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse::<usize>().ok());
        let from = from.filter(|_| asked.header("if-range") == Some(tag.as_str()));
        match (*seen, from) {
            (1 | 4, _) => cut(0, 300_000, "200 OK", ""),
            (_, Some(from)) => {
                let range = format!("content-range: bytes {from}-{}/{}\r\n", body.len() - 1, body.len());
                let to = if *seen == 2 { from + 1000 } else { body.len() };
                cut(from, to, "206 Partial Content", &range)
            }
            _ => cut(0, body.len(), "200 OK", ""),
        }
    })
    .expect("a server");
    let host = host();
    for (path, requests) in [("same", 3), ("other", 2)] {
        host.write("ctx/Dockerfile", format!("FROM scratch\nADD {} /f\n", server.url(path))).expect("written");
        build(&host, &["-o", "out", "ctx"]).success();
        assert_eq!(std::fs::read(host.work().join("out/f")).expect("there"), whole, "{path}");
        assert_eq!(server.take().len(), requests, "{path}");
    }
}

#[test]
fn what_comes_compressed_without_being_asked_is_what_is_inside() {
    use std::io::Write as _;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(b"inside").expect("memory");
    let packed = encoder.finish().expect("memory");
    let (host, server) = (host(), server(vec![("/f", vec![("content-encoding", "gzip".into())], packed)]));
    let checksum = Digest::of("inside");
    host.write("ctx/Dockerfile", format!("FROM scratch\nADD --checksum={checksum} {} /f\n", server.url("f")))
        .expect("written");
    build(&host, &["-o", "out", "ctx"]).success();
    assert_eq!(std::fs::read(host.work().join("out/f")).expect("there"), b"inside");
}

#[test]
fn a_real_server_of_files() {
    if !rhost_kit::have(&["python3"]) {
        return;
    }
    let host = host();
    host.write("www/sub/file.txt", "from python").expect("written");
    let script = "import http.server,functools,sys\nh=functools.partial(http.server.SimpleHTTPRequestHandler,directory='.')\n\
                  s=http.server.ThreadingHTTPServer(('127.0.0.1',0),h)\nprint(s.server_port,flush=True)\ns.serve_forever()";
    let (mut server, place) = super::python(script, host.work().join("www"));
    let url = format!("http://{place}/sub/file.txt");
    host.write("ctx/Dockerfile", format!("FROM scratch\nADD {url} /\n")).expect("written");
    let ran = [build(&host, &["-o", "out", "ctx"]), build(&host, &["-o", "out", "ctx"])];
    server.kill().and_then(|()| server.wait()).expect("ended");
    let [cold, again] = ran;
    cold.success();
    assert!(again.stderr.matches("CACHED").count() >= 2, "{}", again.stderr);
    again.success();
    assert_eq!(std::fs::read_to_string(host.work().join("out/file.txt")).expect("there"), "from python");
}
