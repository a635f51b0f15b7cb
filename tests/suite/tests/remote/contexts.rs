//! `rhost build https://…`: archives and build files at URLs as contexts, named contexts at URLs.
use std::path::Path;

use rhost_kit::{Proxy, TestHost};

use super::{build, host, members, pack, server};

const DOCKERFILE: &str = "FROM scratch\nCOPY a.txt sub /x/\n";

/// A host whose directory `src` is worth packing.
fn with_sources() -> TestHost {
    let host = host();
    for (path, text) in [
        ("src/Dockerfile", DOCKERFILE),
        ("src/other/Dockerfile", "FROM scratch\nCOPY other/b.txt /\n"),
        ("src/other/b.txt", "other"),
        ("src/a.txt", "a"),
        ("src/sub/c.txt", "c"),
        ("src/.dockerignore", "a.txt\n"),
    ] {
        host.write(path, text).expect("written");
    }
    host
}

#[test]
fn archives_of_every_compression_and_plain() {
    let host = with_sources();
    let kinds = [
        ("tar", &[][..]),
        ("gz", &["-z"]),
        ("bz2", &["-j"]),
        ("xz", &["-J"]),
        ("zst", &["--zstd"]),
        ("v7", &["--format=v7"]),
    ];
    let tools = rhost_kit::have(&["bzip2", "xz", "zstd"]);
    let kinds = kinds.into_iter().filter(|(name, _)| tools || matches!(*name, "tar" | "gz" | "v7"));
    let archives: Vec<_> = kinds.map(|(name, flags)| (name, pack(&host, flags, "src"))).collect();
    let files = archives.iter().map(|(name, bytes)| (&*format!("/{name}").leak(), Vec::new(), bytes.clone())).collect();
    let server = server(files);
    for (name, _) in &archives {
        build(&host, &["-o", "type=tar,dest=out.tar", &server.url(name)]).success();
        // An ignore file of a remote context counts for nothing, as with BuildKit.
        let found: Vec<String> = members(&host, "out.tar").into_iter().filter(|line| line.contains(".txt")).collect();
        let wanted = ["a", "c"].map(|file| format!("-rw-r--r-- 0/0 1 2020-09-13 12:26:40 x/{file}.txt"));
        assert_eq!(found, wanted, "{name}: times are the archive's");
    }
}

#[test]
fn a_context_is_fetched_once_and_asked_about_after_that() {
    let host = with_sources();
    let archive = pack(&host, &["-z"], "src");
    let server = server(vec![("/ctx.tgz", vec![("etag", "\"1\"".into())], archive)]);
    let url = server.url("ctx.tgz");
    build(&host, &["-o", "out", &url]).success();
    assert_eq!(server.take(), ["GET /ctx.tgz"], "the engine, the frontend and the build share one download");
    let ran = build(&host, &["-o", "out", &url]);
    assert_eq!(server.take(), ["GET /ctx.tgz"]);
    assert!(ran.stderr.contains("CACHED") && !ran.stderr.contains("DONE 1"), "{}", ran.stderr);
    ran.success();
    // Another file in the archive is seen.
    host.write("src/a.txt", "changed").expect("written");
    let archive = pack(&host, &["-z"], "src");
    server.answer(move |asked| super::serve(asked, &[("etag", "\"2\"".into())], &archive));
    build(&host, &["-o", "out", &url]).success();
    assert_eq!(std::fs::read_to_string(host.work().join("out/x/a.txt")).expect("there"), "changed");
}

#[test]
fn where_the_build_file_is() {
    let host = with_sources();
    let archive = pack(&host, &["-z"], "src");
    host.write("mine.Dockerfile", "FROM scratch\nCOPY a.txt /mine\n").expect("written");
    let server = server(vec![
        ("/ctx.tgz", vec![], archive),
        ("/Dockerfile", vec![], b"FROM scratch\nADD http://HOST/ctx.tgz /\n".to_vec()),
        ("/remote.Dockerfile", vec![], b"FROM scratch\nCOPY a.txt /remote\n".to_vec()),
    ]);
    let url = server.url("ctx.tgz");
    let out = |name: &str| host.work().join("out").join(name);
    build(&host, &["-f", "other/Dockerfile", "-o", "out", &url]).success();
    assert!(out("b.txt").exists(), "relative to the context");
    let mine = host.work().join("mine.Dockerfile").display().to_string();
    build(&host, &["-f", &mine, "-o", "out", &url]).success();
    assert!(out("mine").exists(), "an absolute path is this machine's");
    build(&host, &["-f", &server.url("remote.Dockerfile"), "-o", "out", &url]).success();
    assert!(out("remote").exists(), "a URL");
    build(&host, &["-f", &server.url("remote.Dockerfile"), "-o", "out2", "src"]).failure(1);
    let text = build(&host, &["-f", "mine.Dockerfile", &url]).failure(2);
    assert!(text.contains("has no build file `mine.Dockerfile`") && text.contains("-f Dockerfile"), "{text}");
    let text = build(&host, &["-f", "../x", &url]).failure(2);
    assert!(text.contains("wanted the path of a file in the context"), "{text}");
}

#[test]
fn a_url_that_is_a_build_file() {
    let host = host();
    let server = server(vec![
        ("/file", vec![], b"data".to_vec()),
        ("/Dockerfile", vec![], b"# comment\nFROM scratch\nCOPY context /self\n".to_vec()),
    ]);
    build(&host, &["-o", "out", &server.url("Dockerfile")]).success();
    let text = std::fs::read_to_string(host.work().join("out/self")).expect("there");
    assert!(text.contains("COPY context"), "the context is the build file alone: {text}");
    let text = build(&host, &["-f", "x", &server.url("Dockerfile")]).failure(2);
    assert!(text.contains("itself a build file"), "{text}");
}

#[test]
fn other_languages_read_remote_contexts_too() {
    let lines = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/guests/lines.wasm");
    if !lines.exists() {
        return rhost_kit::skip("target/guests/lines.wasm is not built; run `cargo xtask guests`");
    }
    let host = with_sources();
    host.write("src/build.lines", "from scratch\ncopy sub /srv/\n").expect("written");
    let server = server(vec![("/ctx.tgz", vec![], pack(&host, &["-z"], "src"))]);
    let (url, lines) = (server.url("ctx.tgz"), lines.display().to_string());
    let arguments = ["--frontend", &lines, "-f", "build.lines", "-o", "out", &url];
    build(&host, &arguments).success();
    assert_eq!(std::fs::read_to_string(host.work().join("out/srv/c.txt")).expect("there"), "c");
    // A transcript is kept, and the context that it stands on is looked at.
    host.write("src/build.lines", "from scratch\ncopy a.txt /srv/\n").expect("written");
    let archive = pack(&host, &["-z"], "src");
    server.answer(move |asked| super::serve(asked, &[], &archive));
    build(&host, &arguments).success();
    assert_eq!(std::fs::read_to_string(host.work().join("out/srv/a.txt")).expect("there"), "a");
}

#[test]
fn the_syntax_line_and_questions_are_answered_from_the_context() {
    let host = with_sources();
    host.write("src/Dockerfile", "# syntax=registry.invalid/lang:1\nFROM scratch AS one\nCOPY a.txt /\n")
        .expect("written");
    let server = server(vec![("/ctx.tgz", vec![], pack(&host, &["-z"], "src"))]);
    let url = server.url("ctx.tgz");
    let said = host.run(["build", "--print-frontend", &url]).expect("ran").success();
    assert!(said.contains("registry.invalid/lang:1") && said.contains("Dockerfile:1 says"), "{said}");
    let syntax = "--build-arg=BUILDKIT_SYNTAX=docker/dockerfile:1";
    let said = host.run(["build", syntax, "--call", "targets", &url]).expect("ran").success();
    assert!(said.contains("one"), "{said}");
    host.run(["build", syntax, "--check", &url]).expect("ran").success();
    let said = host.run(["debug", "dump-llb", "--json", syntax, &url]).expect("ran").success();
    assert!(said.contains("attemptUnpackDockerCompatibility") && said.contains(&url), "{said}");
}

#[test]
fn named_contexts_at_urls() {
    let host = host();
    let server = server(vec![("/data.bin", vec![], b"bytes".to_vec())]);
    host.write("ctx/Dockerfile", "FROM scratch\nCOPY --from=extra / /got/\n").expect("written");
    let context = format!("extra={}", server.url("data.bin"));
    build(&host, &["--build-context", &context, "-o", "type=tar,dest=out.tar", "ctx"]).success();
    let found = members(&host, "out.tar");
    assert!(found.iter().any(|line| line.starts_with("-rw------- 0/0 5 1970-01-01 00:00:00 got/")), "{found:?}");
}

#[test]
fn what_is_no_context() {
    let host = with_sources();
    let empty = pack(&host, &["-z", "--files-from=/dev/null"], "src").len();
    assert!(empty > 0);
    let gz = |bytes: &[u8]| {
        use std::io::Write as _;
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).expect("memory");
        encoder.finish().expect("memory")
    };
    let server = server(vec![
        ("/page", vec![], b"<!DOCTYPE html>\n<html></html>".to_vec()),
        ("/nothing", vec![], Vec::new()),
        ("/zeros.tar", vec![], vec![0; 10240]),
        ("/zeros.tgz", vec![], gz(&[0; 10240])),
        ("/text.gz", vec![], gz(b"FROM scratch")),
        ("/program", vec![], b"\x7fELF\0\0\0".to_vec()),
        ("/nofile.tgz", vec![], pack(&host, &["-z"], "src/sub")),
    ]);
    let refuse = |path: &str, wanted: &[&str], code: i32| {
        let url = server.url(path);
        let text = build(&host, &[url.as_str()]).failure(code);
        for part in wanted.iter().chain([&url.as_str()]) {
            assert!(text.contains(part), "{path}: no `{part}` in\n{text}");
        }
    };
    refuse("page", &["is a web page", "ends in .git"], 2);
    refuse("nothing", &["is empty"], 2);
    refuse("zeros.tar", &["archive without files"], 2);
    refuse("zeros.tgz", &["no tar archive with files"], 2);
    refuse("text.gz", &["is compressed (gzip)", "no tar archive"], 2);
    refuse("program", &["is binary, and no archive"], 2);
    refuse("nofile.tgz", &["has no build file `Dockerfile`", "name it with -f"], 2);
    refuse("missing", &["404 Not Found"], 5);
    for (context, wanted) in [
        ("ftp://h/x", "`ftp` is no kind of context"),
        ("s3://bucket/x", "`s3` is no kind of context"),
        ("https://", "https://"),
        ("https://h/x.git?what=1", "unknown key `what`"),
    ] {
        let text = build(&host, &[context]).failure(2);
        assert!(text.contains(wanted), "{context}: {text}");
    }
    let text = build(&host, &["--build-context", "a=ftp://h/x", "src"]).failure(2);
    assert!(text.contains("--build-context a=ftp://h/x") && text.contains("docker-image://"), "{text}");
}

#[test]
fn a_private_context_takes_its_credentials_from_the_url_or_a_secret() {
    let host = with_sources();
    let archive = pack(&host, &["-z"], "src");
    let server = Proxy::alone(move |asked| match asked.header("authorization") {
        Some("Basic bWU6czNjcmV0dDI=" | "Bearer s3crett2") => super::serve(asked, &[], &archive),
        _ => rhost_kit::Answer::reply(401, ""),
    })
    .expect("a server");
    let url = server.url("ctx.tgz").replace("http://", "http://me:s3crett2@");
    let ran = build(&host, &["-o", "out", &url]);
    assert!(!ran.stderr.contains("s3crett2"), "{}", ran.stderr);
    ran.success();
    host.write("token", "s3crett2").expect("written");
    let lend = "--secret=id=HTTP_AUTH_TOKEN_127.0.0.1,src=token";
    build(&host, &[lend, "-o", "out", &server.url("ctx.tgz")]).success();
    host.run(["build", lend, "--call", "targets", &server.url("ctx.tgz")]).expect("ran").success();
    let found = std::process::Command::new("grep").args(["-rla", "s3crett2"]).arg(host.root()).output().expect("grep");
    assert_eq!(String::from_utf8_lossy(&found.stdout), "", "credentials in the store");
}

#[test]
fn an_archive_larger_than_what_a_frontend_may_read() {
    let host = with_sources();
    let noise: Vec<u8> =
        (0..5_000_000u32).flat_map(|number| number.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    host.write("src/sub/large", &noise).expect("written");
    let archive = pack(&host, &[], "src");
    let server = server(vec![("/ctx.tar", vec![], archive)]);
    build(&host, &["-o", "out", &server.url("ctx.tar")]).success();
    assert!(std::fs::read(host.work().join("out/x/large")).expect("there") == noise);
}
