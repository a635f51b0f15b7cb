//! Real OpenSSH against both kinds of agents.
use std::path::Path;
use std::process::{Command, Output};

use super::*;

fn have_openssh() -> bool {
    let found =
        Command::new("ssh-keygen").arg("-?").output().is_ok() && Command::new("ssh-add").arg("-?").output().is_ok();
    if !found {
        assert!(std::env::var_os("CI").is_none(), "this test must run in CI: no openssh-client");
        eprintln!("SKIP: no openssh-client");
    }
    found
}

fn run(command: &mut Command) -> Output {
    command.output().expect("started")
}

fn keygen(dir: &Path, name: &str, args: &[&str]) -> PathBuf {
    let path = dir.join(name);
    let made = run(Command::new("ssh-keygen").args(["-q", "-C", name, "-f"]).arg(&path).args(args));
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    path
}

/// Serves `agent` at a socket and runs `command` with it.
async fn with_agent(agent: &SshAgent, dir: &Path, args: &[&str]) -> Output {
    let path = dir.join(format!("sock{}", args.len()));
    let _ = std::fs::remove_file(&path);
    let listener = tokio::net::UnixListener::bind(&path).expect("bound");
    let agent = agent.clone();
    let server = tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(match agent.clone() {
                SshAgent::Socket(path) => tokio::spawn(relay(stream, path)),
                SshAgent::Keys(keys) => tokio::spawn(serve(stream, keys)),
            });
        }
    });
    let mut command = tokio::process::Command::new(args[0]);
    command.args(&args[1..]).current_dir(dir).env("SSH_AUTH_SOCK", &path).stdin(std::process::Stdio::null());
    let output = command.output().await.expect("started");
    server.abort();
    output
}

/// Signs a file with the key of `name` through the agent; ssh-keygen itself checks the signature.
async fn sign(agent: &SshAgent, dir: &Path, name: &str) {
    let file = dir.join(format!("data-{name}"));
    std::fs::write(&file, "signed").expect("written");
    let public = format!("{name}.pub");
    let data = file.display().to_string();
    let made = with_agent(agent, dir, &["ssh-keygen", "-Y", "sign", "-n", "test", "-f", &public, &data]).await;
    assert!(made.status.success(), "{name}: {}", String::from_utf8_lossy(&made.stderr));
    let signers = dir.join(format!("signers-{name}"));
    let key = std::fs::read_to_string(dir.join(&public)).expect("public key");
    std::fs::write(&signers, format!("me {key}")).expect("written");
    let mut check = Command::new("ssh-keygen");
    check.args(["-Y", "verify", "-I", "me", "-n", "test", "-f"]).arg(&signers);
    check.arg("-s").arg(dir.join(format!("data-{name}.sig"))).stdin(std::fs::File::open(&file).expect("there"));
    let checked = run(&mut check);
    assert!(checked.status.success(), "{name}: {}", String::from_utf8_lossy(&checked.stdout));
}

#[tokio::test(flavor = "multi_thread")]
async fn served_keys_of_every_form_sign_for_openssh() {
    if !have_openssh() {
        return;
    }
    let dir = tempfile::tempdir().expect("a directory");
    let cases: [(&str, &[&str]); 8] = [
        ("ed25519", &["-t", "ed25519", "-N", ""]),
        ("rsa", &["-t", "rsa", "-b", "2048", "-N", ""]),
        ("p256", &["-t", "ecdsa", "-b", "256", "-N", ""]),
        ("p384", &["-t", "ecdsa", "-b", "384", "-N", ""]),
        ("rsa-pem", &["-t", "rsa", "-b", "3072", "-N", "", "-m", "PEM"]),
        ("rsa-pkcs8", &["-t", "rsa", "-b", "2048", "-N", "", "-m", "PKCS8"]),
        ("p256-pem", &["-t", "ecdsa", "-b", "256", "-N", "", "-m", "PEM"]),
        ("p384-pkcs8", &["-t", "ecdsa", "-b", "384", "-N", "", "-m", "PKCS8"]),
    ];
    let paths: Vec<PathBuf> = cases.iter().map(|(name, args)| keygen(dir.path(), name, args)).collect();
    let agent = SshAgent::open(&paths).expect("keys");
    for (name, _) in cases {
        sign(&agent, dir.path(), name).await;
    }
    let listed = with_agent(&agent, dir.path(), &["ssh-add", "-l"]).await;
    let text = String::from_utf8_lossy(&listed.stdout).into_owned();
    assert_eq!(text.lines().count(), cases.len(), "{text}");
    assert!(text.contains(" ed25519 (ED25519)") && !format!("{agent:?}").contains("BEGIN"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn neither_agent_takes_orders() {
    if !have_openssh() {
        return;
    }
    let dir = tempfile::tempdir().expect("a directory");
    let key = keygen(dir.path(), "one", &["-t", "ed25519", "-N", ""]);
    keygen(dir.path(), "two", &["-t", "ed25519", "-N", ""]);
    let socket = dir.path().join("agent");
    let started = run(Command::new("ssh-agent").arg("-a").arg(&socket));
    let text = String::from_utf8_lossy(&started.stdout).into_owned();
    let pid = text.split("SSH_AGENT_PID=").nth(1).and_then(|rest| rest.split(';').next()).expect("a pid").to_owned();
    assert!(run(Command::new("ssh-add").env("SSH_AUTH_SOCK", &socket).arg(&key)).status.success());
    let real = SshAgent::open(std::slice::from_ref(&socket)).expect("a socket");
    assert!(real.check().await.is_ok());
    for agent in [real.clone(), SshAgent::open(&[key]).expect("a key")] {
        sign(&agent, dir.path(), "one").await;
        for order in [&["ssh-add", "two"][..], &["ssh-add", "-D"], &["ssh-add", "-d", "one"], &["ssh-add", "-x"]] {
            with_agent(&agent, dir.path(), order).await;
        }
        let listed = with_agent(&agent, dir.path(), &["ssh-add", "-L"]).await;
        let text = String::from_utf8_lossy(&listed.stdout).into_owned();
        assert!(text.lines().count() == 1 && text.contains(" one"), "{text}");
    }
    run(Command::new("kill").arg(pid));
    assert!(matches!(
        SshAgent::open(&[socket, dir.path().join("one")]),
        Err(SshAgentError::Mixed { .. } | SshAgentError::Read { .. })
    ));
}

#[test]
fn keys_that_cannot_be_served_say_why() {
    if !have_openssh() {
        return;
    }
    let dir = tempfile::tempdir().expect("a directory");
    let refusal = |path: PathBuf| SshAgent::open(&[path]).expect_err("refused").to_string();
    for (name, format) in [("new", "RFC4716"), ("pem", "PEM"), ("pkcs8", "PKCS8")] {
        let path = keygen(dir.path(), name, &["-t", "rsa", "-b", "2048", "-N", "passphrase", "-m", format]);
        let text = refusal(path);
        assert!(text.contains("encrypted") && text.contains("ssh-add"), "{name}: {text}");
    }
    let text = refusal(keygen(dir.path(), "p521", &["-t", "ecdsa", "-b", "521", "-N", ""]));
    assert!(text.contains("nistp521") && text.contains("ssh-add"), "{text}");
    let text = refusal(keygen(dir.path(), "weak", &["-t", "rsa", "-b", "1024", "-N", ""]));
    assert!(text.contains("RSA"), "{text}");
    assert!(refusal(dir.path().join("new.pub")).contains("no private key"));
    assert!(refusal(dir.path().join("none")).contains("cannot read"));
    assert!(matches!(SshAgent::open(&[]), Err(SshAgentError::Nothing)));
    // Cut at every place: an error, never a panic.
    let whole = std::fs::read(keygen(dir.path(), "whole", &["-t", "ed25519", "-N", ""])).expect("there");
    for end in 0..whole.len() - 40 {
        assert!(AgentKey::parse(&whole[..end], "cut").is_err());
    }
}
