//! `rhost build -`: archives and build files on stdin. And archives that want out.
use std::io::Write as _;
use std::process::Stdio;

use rhost_kit::{Ran, TestHost};

use super::{host, members, pack};

/// Runs `rhost build` with `input` on stdin.
fn feed(host: &TestHost, arguments: &[&str], input: &[u8]) -> Ran {
    let mut command = host.command(["build", "--progress", "plain"].iter().chain(arguments));
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("started");
    let mut stdin = child.stdin.take().expect("piped");
    let input = input.to_vec();
    // Whoever refuses early reads no more.
    let feeding = std::thread::spawn(move || drop(stdin.write_all(&input)));
    let out = child.wait_with_output().expect("ended");
    feeding.join().expect("fed");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ran { code: out.status.code().unwrap_or(-1), stdout: text(&out.stdout), stderr: text(&out.stderr) }
}

fn sources() -> TestHost {
    let host = host();
    host.write("src/Dockerfile", "FROM scratch\nCOPY . /all/\n").expect("written");
    host.write("src/sub/Dockerfile", "FROM scratch\nCOPY sub/Dockerfile /sub\n").expect("written");
    host.write("src/a", "a").expect("written");
    host
}

/// What lies in the store only while a build runs.
fn leftovers(host: &TestHost) -> Vec<String> {
    let find = std::process::Command::new("find").arg(host.root()).args(["-name", "upload"]).output().expect("find");
    String::from_utf8_lossy(&find.stdout).lines().map(str::to_owned).collect()
}

#[test]
fn an_archive_is_a_context() {
    let host = sources();
    for flags in [&[][..], &["-z"], &["--owner=12", "--group=34"]] {
        let archive = pack(&host, flags, "src");
        feed(&host, &["-o", "out", "-"], &archive).success();
        assert_eq!(std::fs::read_to_string(host.work().join("out/all/a")).expect("there"), "a");
    }
    feed(&host, &["-o", "type=tar,dest=out.tar", "-"], &pack(&host, &["--owner=12", "--group=34"], "src")).success();
    let found = members(&host, "out.tar");
    let wanted = "-rw-r--r-- 12/34 1 2020-09-13 12:26:40 all/a";
    assert!(found.iter().any(|line| line == wanted), "owners and times are the archive's: {found:#?}");
    feed(&host, &["-f", "sub/Dockerfile", "-o", "out", "-"], &pack(&host, &["-z"], "src")).success();
    assert!(host.work().join("out/sub").exists());
    assert_eq!(leftovers(&host), [""; 0], "the archive itself is gone");
}

#[test]
fn the_same_bytes_are_the_same_build() {
    let host = sources();
    let archive = pack(&host, &["-z"], "src");
    feed(&host, &["-"], &archive).success();
    let ran = feed(&host, &["-"], &archive);
    assert!(ran.stderr.contains("CACHED"), "{}", ran.stderr);
    let ran_steps = ran.stderr.lines().filter(|line| line.contains(" DONE ")).count();
    ran.success();
    host.write("src/a", "b").expect("written");
    let changed = feed(&host, &["-o", "out", "-"], &pack(&host, &["-z"], "src"));
    assert!(changed.stderr.lines().filter(|line| line.contains(" DONE ")).count() > ran_steps, "{}", changed.stderr);
    changed.success();
    assert_eq!(std::fs::read_to_string(host.work().join("out/all/a")).expect("there"), "b");
}

#[test]
fn a_build_file_on_stdin_has_an_empty_context() {
    let host = sources();
    host.write("work", "not to be seen").expect("written");
    feed(&host, &["-o", "out", "-"], b"FROM scratch\nCOPY <<EOF /f\nhere\nEOF\n").success();
    assert_eq!(std::fs::read_to_string(host.work().join("out/f")).expect("there"), "here\n");
    let text = feed(&host, &["-"], b"FROM scratch\nCOPY work /\n").failure(1);
    assert!(text.contains("not found"), "{text}");
    feed(&host, &["-f", "-", "-o", "out", "src"], b"FROM scratch\nCOPY a /from-directory\n").success();
    assert!(host.work().join("out/from-directory").exists());
}

#[test]
fn stdin_that_is_wrong() {
    let host = sources();
    for (arguments, input, wanted) in [
        (&["-"][..], &b""[..], "stdin is empty"),
        (&["-f", "-", "src"], b"", "stdin is empty"),
        (&["-f", "-", "-"], b"FROM scratch\n", "both the context and the build file are wanted from stdin"),
        (&["-f", "Dockerfile", "-"], b"FROM scratch\n", "stdin is a build file, too"),
        (&["-"], b"\x1f\x8b\x08\0garbage", "no tar archive"),
        (&["-"], &[0; 2048], ""),
    ] {
        let ran = feed(&host, arguments, input);
        assert!(
            matches!(ran.code, 2 | 3) && ran.stderr.contains(wanted),
            "{arguments:?}: {}\n{}",
            ran.code,
            ran.stderr
        );
    }
    let cut = pack(&host, &[], "src");
    let ran = feed(&host, &["-"], &cut[..1200]);
    assert!(ran.code != 0 && ran.stderr.contains("stdin"), "{}", ran.stderr);
    assert_eq!(leftovers(&host), [""; 0]);
}

/// One member of a hostile archive.
struct Member<'a> {
    name: &'a str,
    kind: u8,
    link: &'a str,
    body: &'a [u8],
}

fn tar(members: &[Member<'_>]) -> Vec<u8> {
    let mut out = Vec::new();
    for member in members {
        let mut header = [0u8; 512];
        let mut put = |at: usize, text: &[u8]| header[at..at + text.len()].copy_from_slice(text);
        put(0, member.name.as_bytes());
        put(100, b"0000644\0");
        put(108, b"0000000\0");
        put(116, b"0000000\0");
        put(124, format!("{:011o}\0", member.body.len()).as_bytes());
        put(136, b"00000000000\0");
        put(156, &[member.kind]);
        put(157, member.link.as_bytes());
        put(257, b"ustar\x0000");
        put(329, b"0000001\0");
        put(337, b"0000003\0");
        put(148, b"        ");
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        out.extend(header);
        out.extend(member.body);
        out.resize(out.len().next_multiple_of(512), 0);
    }
    out.resize(out.len() + 1024, 0);
    out
}

#[test]
fn an_archive_writes_nothing_outside_and_reads_nothing_outside() {
    let file = |name, body| Member { name, kind: b'0', link: "", body };
    let link = |name, kind, link| Member { name, kind, link, body: b"" };
    let dockerfile = file("Dockerfile", b"FROM scratch\nCOPY . /all/\n");
    let host = host();
    let secret = host.write("secret", "a file of nobody else").expect("written").display().to_string();
    let target = host.work().join("victim");
    std::fs::create_dir(&target).expect("made");
    let victim = target.display().to_string();
    let up = "../".repeat(12);
    let (zip_slip, slip_link) = (format!("{up}{}/slip", &victim[1..]), format!("{up}{}", &victim[1..]));
    let absolute = format!("{victim}/absolute");
    for (what, members) in [
        ("names with ..", vec![file(&zip_slip, b"x")]),
        ("absolute names", vec![file(&absolute, b"x")]),
        ("through a symlink", vec![link("way", b'2', &victim), file("way/through", b"x")]),
        ("through a relative symlink", vec![link("way", b'2', &slip_link), file("way/through", b"x")]),
        ("a hard link to outside", vec![link("stolen", b'1', &secret), file("b", b"x")]),
        ("a hard link through a symlink", vec![link("way", b'2', "/"), link("stolen", b'1', "way/etc/passwd")]),
        ("a symlink that is read", vec![link("a", b'2', &secret)]),
        ("a build file that is a symlink", vec![link("Dockerfile", b'2', &secret)]),
        ("a device", vec![link("null", b'3', ""), file("b", b"x")]),
        ("a pipe", vec![link("pipe", b'6', ""), file("b", b"x")]),
    ] {
        let own = members.iter().any(|member| member.name == "Dockerfile");
        let mut all = if own { Vec::new() } else { vec![dockerfile_of(&dockerfile)] };
        all.extend(members);
        let ran = feed(&host, &["-o", "out", "-"], &tar(&all));
        let left: Vec<_> = std::fs::read_dir(&target).expect("read").collect();
        assert!(left.is_empty(), "{what}: something was written outside: {left:?}");
        assert!(
            !ran.stderr.contains("a file of nobody else") && !ran.stdout.contains("a file of nobody else"),
            "{what}: {}",
            ran.stderr
        );
        let grep = std::process::Command::new("grep")
            .args(["-rla", "a file of nobody else"])
            .arg(host.root())
            .output()
            .expect("grep");
        assert_eq!(String::from_utf8_lossy(&grep.stdout), "", "{what}: a file of the host is in the store");
        if ran.code != 0 {
            assert!(ran.stderr.contains("stdin") || ran.stderr.contains("Dockerfile"), "{what}: {}", ran.stderr);
        }
        let _ = std::fs::remove_dir_all(host.work().join("out"));
    }
    assert_eq!(std::fs::read_to_string(host.work().join("secret")).expect("there"), "a file of nobody else");
}

fn dockerfile_of<'a>(member: &Member<'a>) -> Member<'a> {
    Member { name: member.name, kind: member.kind, link: member.link, body: member.body }
}
