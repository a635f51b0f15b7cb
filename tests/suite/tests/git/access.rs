//! Who may fetch: tokens and headers, for the one host they are for, and nowhere to be seen afterwards; ssh with a lent agent.
use base64::Engine as _;
use rhost_kit::{Answer, SshServer};

use super::*;

const TOKEN: &str = "tok3n-that-nobody-sees";

fn basic(user: &str, word: &str) -> String {
    base64::engine::general_purpose::STANDARD.encode(format!("{user}:{word}"))
}

fn authorization(asked: &Asked) -> Option<String> {
    asked.headers.iter().find(|(name, _)| name == "authorization").map(|(_, value)| value.to_ascii_lowercase())
}

/// From now on only who sends `wanted` comes in.
fn lock(proxy: &Proxy, wanted: String) {
    proxy.answer(move |asked| {
        if authorization(asked).is_some_and(|found| found == wanted.to_ascii_lowercase()) {
            return Answer::Forward;
        }
        let headers = vec![("www-authenticate", "Basic realm=\"git\"".to_owned())];
        Answer::Reply { status: 401, headers, body: Vec::new() }
    });
}

/// No file of the host's store, and no text, has one of these.
fn nowhere(host: &TestHost, texts: &[&str], secrets: &[&str]) {
    for secret in secrets {
        assert!(texts.iter().all(|text| !text.contains(secret)), "{secret} is told: {texts:?}");
        let mut todo = vec![host.root()];
        while let Some(at) = todo.pop() {
            for entry in std::fs::read_dir(at).into_iter().flatten().flatten() {
                if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    todo.push(entry.path());
                } else if entry.file_type().is_ok_and(|kind| kind.is_file()) {
                    let bytes = std::fs::read(entry.path()).unwrap_or_default();
                    let found = bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
                    assert!(!found, "{secret} is in {}", entry.path().display());
                }
            }
        }
    }
}

#[test]
fn tokens_and_headers() {
    let Some((host, server, proxy)) = room() else { return };
    server.commit("r", &[("a", "1\n")]).expect("commit");
    let place = url(&proxy, "r");
    let lines = add(&format!("--keep-git-dir {place} /x"));
    lock(&proxy, format!("basic {}", basic("x-access-token", TOKEN)));
    let text = build(&host, &lines, &[]).failure(5);
    assert!(text.contains("hint: a private repository wants a token") && text.contains("GIT_AUTH_TOKEN"), "{text}");
    let token = host.write("token", format!("{TOKEN}\n")).expect("written").display().to_string();
    let secret = format!("id=GIT_AUTH_TOKEN,src={token}");
    let ran = build(&host, &lines, &["--secret", &secret]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert_eq!(tree(&out(&host))["x/a"], "644 1");
    nowhere(&host, &[&ran.stderr, &ran.stdout], &[TOKEN, &basic("x-access-token", TOKEN)]);
    // For one host, before the general one.
    let wrong = host.write("wrong", "another").expect("written").display().to_string();
    let (general, of_host) =
        (format!("id=GIT_AUTH_TOKEN,src={wrong}"), format!("id=GIT_AUTH_TOKEN.{},src={token}", proxy.address()));
    build(&host, &lines, &["--no-cache", "--secret", &general, "--secret", &of_host]).success();
    let text = build(&host, &lines, &["--no-cache", "--secret", &general]).failure(5);
    nowhere(&host, &[&text], &["another"]);
    // A whole header, and one that would be two.
    lock(&proxy, "Bearer b3arer-word".into());
    let header = host.write("header", "Bearer b3arer-word").expect("written").display().to_string();
    let ran = build(&host, &lines, &["--no-cache", "--secret", &format!("id=GIT_AUTH_HEADER,src={header}")]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    nowhere(&host, &[&ran.stderr], &["b3arer-word"]);
    let two = host.write("two", "Bearer x\nX-Other: y").expect("written").display().to_string();
    let ran = build(&host, &lines, &["--no-cache", "--secret", &format!("id=GIT_AUTH_HEADER,src={two}")]);
    assert!(ran.code != 0 && ran.stderr.contains("more than one line"), "{}", ran.stderr);
    // In the URL: as good, and not told either.
    lock(&proxy, format!("basic {}", basic("me", "p4ssword")));
    let with = place.replace("http://", "http://me:p4ssword@");
    let other = TestHost::new().expect("a host");
    let ran = build(&other, &add(&format!("--keep-git-dir {with} /x")), &["--no-cache"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let config = std::fs::read_to_string(out(&other).join("x/.git/config")).expect("there");
    assert!(config.contains(&format!("url = {place}\n")), "{config}");
    let image = format!("type=oci,tar=false,dest={}", other.dir().join("image").display());
    let again =
        Ran::of(&mut command(&other, &add(&format!("--keep-git-dir {with} /x")), &["-o", &image])).expect("ran");
    assert_eq!(again.code, 0, "{}", again.stderr);
    nowhere(&other, &[&ran.stderr, &again.stderr], &["p4ssword", &basic("me", "p4ssword")]);
    for (path, text) in tree(&other.dir().join("image")) {
        assert!(!text.contains("p4ssword"), "{path}: {text}");
    }
    lock(&proxy, "nobody".into());
    let text = build(&TestHost::new().expect("a host"), &add(&format!("{with} /x")), &[]).failure(5);
    assert!(!text.contains("p4ssword"), "{text}");
}

#[test]
fn redirects_and_who_gets_the_token() {
    let Some((host, server, proxy)) = room() else { return };
    server.commit("new", &[("a", "1\n")]).expect("commit");
    let token = host.write("token", TOKEN).expect("written").display().to_string();
    let secret = format!("id=GIT_AUTH_TOKEN,src={token}");
    let elsewhere = Proxy::start(server.address()).expect("a proxy");
    // Renamed on the same host: goes along. To another: goes without.
    let other = format!("http://{}", elsewhere.address().replace("127.0.0.1", "localhost"));
    for (number, (base, trusted)) in [(String::new(), true), (other, false)].into_iter().enumerate() {
        server.commit("new", &[("a", &format!("{number}\n"))]).expect("commit");
        let moved = move |asked: &Asked| match asked.path.strip_prefix("/old.git") {
            Some(rest) => Answer::Reply {
                status: 301,
                headers: vec![("location", format!("{base}/new.git{rest}"))],
                body: Vec::new(),
            },
            None => Answer::Forward,
        };
        proxy.answer(moved);
        proxy.take();
        let ran = build(&host, &add(&format!("{} /x", url(&proxy, "old"))), &["--no-cache", "--secret", &secret]);
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        assert_eq!(tree(&out(&host))["x/a"], format!("644 {number}"));
        let (here, there) = (proxy.take_asked(), elsewhere.take_asked());
        assert!(here.iter().all(|asked| authorization(asked).is_some()), "{here:?}");
        assert_eq!(there.is_empty(), trusted);
        assert!(there.iter().all(|asked| authorization(asked).is_none()), "{there:?}");
    }
    // Without a token, redirects are git's business.
    build(&host, &add(&format!("{} /x", url(&proxy, "old"))), &["--no-cache"]).success();
}

#[test]
fn over_ssh_with_a_lent_agent() {
    let Some((host, server, _proxy)) = room() else { return };
    if !rhost_kit::have(&["sshd", "ssh", "ssh-keygen", "ssh-agent", "ssh-add"]) {
        return;
    }
    server.commit("r", &[("a", "1\n")]).expect("commit");
    let key = |name: &str| {
        let path = host.dir().join(name);
        let made = Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&path).status();
        assert!(made.expect("ssh-keygen").success());
        path
    };
    let (mine, strange) = (key("mine"), key("strange"));
    let sshd = SshServer::start(&mine.with_extension("pub")).expect("sshd");
    let lines = add(&format!("{} /x", sshd.url(&server.bare("r")).expect("url")));
    let text = build(&host, &lines, &[]).failure(1);
    assert!(text.contains("no ssh agent `default`") && text.contains("--ssh default"), "{text}");
    let lend = |path: &Path| format!("default={}", path.display());
    let text = build(&host, &lines, &["--ssh", &lend(&strange)]).failure(5);
    assert!(text.contains("Permission denied") && text.contains("hint: lend a key that the server knows"), "{text}");
    // A key that rhost serves, then a real agent.
    build(&host, &lines, &["--ssh", &lend(&mine)]).success();
    assert_eq!(tree(&out(&host))["x/a"], "644 1");
    let socket = host.dir().join("agent");
    let started = Command::new("ssh-agent").arg("-a").arg(&socket).output().expect("ssh-agent");
    let said = String::from_utf8_lossy(&started.stdout).into_owned();
    let pid = said.split("SSH_AGENT_PID=").nth(1).and_then(|rest| rest.split(';').next()).expect("a pid").to_owned();
    let added = Command::new("ssh-add").arg("-q").arg(&mine).env("SSH_AUTH_SOCK", &socket).status().expect("ssh-add");
    assert!(added.success());
    server.commit("r", &[("a", "2\n")]).expect("commit");
    let mut real = command(&host, &lines, &["--ssh", "default"]);
    let ran = Ran::of(real.env("SSH_AUTH_SOCK", &socket)).expect("ran");
    let _ = Command::new("kill").arg(&pid).status();
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert_eq!(tree(&out(&host))["x/a"], "644 2");
    // A host that the user knows by another key is refused, and the right key is fine.
    let known = sshd.known_host().expect("a key");
    let strange_key = std::fs::read_to_string(strange.with_extension("pub")).expect("read");
    let strange_key = strange_key.split(' ').nth(1).expect("a key").to_owned();
    let other: Vec<&str> = known.split(' ').take(2).chain([strange_key.as_str()]).collect();
    std::fs::create_dir_all(host.home().join(".ssh")).expect("made");
    let file = host.home().join(".ssh/known_hosts");
    std::fs::write(&file, other.join(" ") + "\n").expect("written");
    let text = build(&host, &lines, &["--no-cache", "--ssh", &lend(&mine)]).failure(5);
    assert!(text.contains("Host key verification failed") && text.contains("known_hosts"), "{text}");
    std::fs::write(&file, &known).expect("written");
    build(&host, &lines, &["--no-cache", "--ssh", &lend(&mine)]).success();
    assert_eq!(std::fs::read_to_string(&file).expect("read"), known, "nothing is written there");
}
