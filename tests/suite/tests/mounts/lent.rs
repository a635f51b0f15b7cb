//! Secrets and ssh agents: there for the one step, and nowhere afterwards.
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use rhost_kit::{Ran, TestHost};

use super::{build, command, files_with, said};
use crate::build::host;

/// Bytes that occur nowhere else.
fn random() -> String {
    let mut bytes = [0; 24];
    std::io::Read::read_exact(&mut fs::File::open("/dev/urandom").expect("there"), &mut bytes).expect("read");
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn a_secret_is_nowhere_afterwards() {
    let Some((host, _registry)) = host() else { return };
    let (in_file, in_variable) = (random(), random());
    let file = host.dir().join("outside-secret");
    fs::write(&file, &in_file).expect("written");
    let dockerfile = "FROM busybox\n\
        RUN --mount=type=secret,id=f --mount=type=secret,id=v,env=V --mount=type=cache,target=/c wc -c < /run/secrets/f > /used; echo ${#V} >> /used; mkdir /dir; ls -la /run/secrets >> /used\n\
        RUN --mount=type=secret,id=f,target=/etc/secret,required --mount=type=secret,id=v,target=/v [ -s /etc/secret ] && [ -s /v ] && ulimit -c >> /used\n\
        RUN cat /used; [ ! -e /etc/secret ] && [ ! -e /v ] && [ ! -e /run/secrets ]\n";
    let out = host.dir().join("out");
    fs::create_dir(&out).expect("made");
    let path = |name: &str| out.join(name).display().to_string();
    let outputs = [
        format!("type=oci,compression=uncompressed,dest={}", path("oci.tar")),
        format!("type=tar,dest={}", path("tree.tar")),
        format!("type=local,dest={}", path("tree")),
        "type=image,name=kept,compression=uncompressed".to_owned(),
    ];
    let secret = format!("id=f,src={}", file.display());
    let (meta, iid) = (path("metadata.json"), path("iid"));
    for (progress, output) in ["plain", "rawjson", "plain", "rawjson"].into_iter().zip(&outputs) {
        let mut run = command(&host, dockerfile, &["--secret", &secret, "--secret", "id=v,env=LENT", "-o", output]);
        run.args(["--no-cache", "--metadata-file", &meta, "--iidfile", &iid]).env("BUILDKIT_PROGRESS", progress);
        let ran = Ran::of(run.env("LENT", &in_variable)).expect("ran");
        fs::write(out.join(format!("{progress}.log")), format!("{}{}", ran.stdout, ran.stderr)).expect("written");
        ran.success();
    }
    // A step that fails tells its command and its output, not what it was lent.
    let failing = "FROM busybox\nRUN --mount=type=secret,id=f --mount=type=secret,id=v,env=V false\n";
    let mut run = command(&host, failing, &["--secret", &secret, "--secret", "id=v,env=LENT"]);
    let text = Ran::of(run.env("LENT", &in_variable)).expect("ran").failure(1);
    fs::write(out.join("failing.log"), text).expect("written");
    let used = fs::read_to_string(out.join("tree/used")).expect("built");
    assert!(used.starts_with("48\n48\n"), "the step had them: {used}");
    for needle in [&in_file, &in_variable] {
        for dir in [host.root(), out.clone(), host.work(), host.home(), host.dir().join("tmp"), host.dir().join("run")]
        {
            assert_eq!(files_with(&dir, needle.as_bytes()), Vec::<PathBuf>::new());
        }
    }
    // The same search finds what is there.
    assert_eq!(files_with(host.dir(), in_file.as_bytes()), [file]);
    assert!(!files_with(&host.root(), b"drwxr-xr-x").is_empty(), "the layers were searched");
}

#[test]
fn forms_of_secrets() {
    let Some((host, _registry)) = host() else { return };
    let secret = host.write("dir/the-secret", "hush\n").expect("written");
    let by_file = format!("id=s,src={}", secret.display());
    let run = |mount: &str, text: &str| {
        let mut run = command(
            &host,
            &format!("FROM busybox\nRUN {mount} {text}\n"),
            &[
                "--secret",
                &by_file,
                "--secret",
                "id=FROM_ENV",
                "--secret",
                "type=env,id=e,src=FROM_ENV",
                "--secret",
                "id=unset,env=UNSET",
            ],
        );
        said(Ran::of(run.env("FROM_ENV", "loud")).expect("ran"))
    };
    assert_eq!(
        run("--mount=type=secret,id=s", "stat -c %a:%u:%g /run/secrets/s; cat /run/secrets/s"),
        "400:0:0\nhush\n"
    );
    if rhost_kit::have_users() {
        let mount = "--mount=type=secret,id=s,target=/a/b,mode=0440,uid=3,gid=4";
        assert_eq!(run(mount, "stat -c %a:%u:%g /a/b"), "440:3:4\n");
    }
    assert_eq!(run("--mount=type=secret,source=s", "cat /run/secrets/s"), "hush\n");
    assert_eq!(run("--mount=type=secret,target=/x/s", "cat /x/s"), "hush\n");
    assert_eq!(
        run("--mount=type=secret,id=FROM_ENV,env=V", "echo $V; ls /run/secrets 2>&1 || true"),
        "loud\nls: /run/secrets: No such file or directory\n"
    );
    assert_eq!(run("--mount=type=secret,id=e,env=V,target=/v", "echo $V; cat /v"), "loud\nloud\n");
    assert_eq!(
        run(
            "--mount=type=secret,id=none --mount=type=secret,id=none,env=N",
            "ls /run/secrets 2>/dev/null; env | grep ^N="
        ),
        "N=\n"
    );
    assert_eq!(run("--mount=type=secret,id=unset,required", "wc -c < /run/secrets/unset"), "0\n");
    assert_eq!(
        run("--mount=type=secret,id=s", "(echo no >> /run/secrets/s) 2>&1 || true"),
        "/bin/sh: can't create /run/secrets/s: Read-only file system\n"
    );
}

#[test]
fn values_of_secrets_are_in_no_key() {
    let Some((host, _registry)) = host() else { return };
    let secret = host.write("secret", "one").expect("written");
    let lend = format!("id=s,src={}", secret.display());
    let dockerfile = "FROM busybox\nRUN --mount=type=secret,id=s,required cat /run/secrets/s\n";
    assert_eq!(said(build(&host, dockerfile, &["--secret", &lend])), "one\n");
    fs::write(&secret, "two").expect("written");
    assert_eq!(said(build(&host, dockerfile, &["--secret", &lend])), "");
    assert_eq!(said(build(&host, dockerfile, &[])), "", "what is in the cache needs no secret");
}

#[test]
fn missing_and_wrong_secrets() {
    let Some((host, _registry)) = host() else { return };
    let dockerfile = "FROM busybox\nRUN --mount=type=secret,id=npm,required true\n";
    let text = build(&host, dockerfile, &[]).failure(1);
    assert!(text.contains("Dockerfile:2") && text.contains("secret npm: not found"), "{text}");
    assert!(text.contains("hint: lend it with `--secret id=npm,src=FILE`"), "{text}");
    let variable = dockerfile.replace("npm,", "npm,env=N,");
    assert!(build(&host, &variable, &[]).failure(1).contains("secret npm: not found"));
    for (flag, reason) in [
        ("id=a,src=/nowhere", "cannot read `/nowhere`"),
        ("id=a,value=x", "`value` is no key"),
        ("src=/etc/passwd", "no id"),
        ("id=a,type=vault", "no type"),
    ] {
        let text = build(&host, dockerfile, &["--secret", flag]).failure(2);
        assert!(text.contains(reason) && text.contains("hint: wanted id=ID,src=FILE"), "{text}");
    }
    let text = build(&host, dockerfile, &["--secret", "id=a,src=/etc/passwd", "--secret", "id=a,env=B"]).failure(2);
    assert!(text.contains("`a` is given twice"), "{text}");
    let large = host.write("large", vec![b'x'; 600 << 10]).expect("written");
    let text = build(&host, dockerfile, &["--secret", &format!("id=a,src={}", large.display())]).failure(2);
    assert!(text.contains("larger than"), "{text}");
    // Changed between the look and the use.
    let gone = host.write("gone", "x").expect("written");
    let dockerfile = "FROM busybox\nRUN --mount=type=bind,target=/x --mount=type=secret,id=a true\n";
    let mut run = command(&host, dockerfile, &["--secret", &format!("id=a,src={}", gone.display())]);
    fs::remove_file(&gone).expect("removed");
    fs::create_dir(&gone).expect("made");
    assert!(Ran::of(&mut run).expect("ran").failure(2).contains("is a directory"));
}

/// ssh-add and ssh-keygen of this machine with their libraries, as a context; and how to start one of them in a step.
fn tools(host: &TestHost) -> Option<String> {
    if !rhost_kit::have(&["ssh-agent", "ssh-add", "ssh-keygen", "ldd"]) {
        return None;
    }
    let dir = host.dir().join("tools");
    fs::create_dir(&dir).expect("made");
    for program in ["ssh-add", "ssh-keygen"] {
        let path = PathBuf::from("/usr/bin").join(program);
        fs::copy(&path, dir.join(program)).expect("copied");
        let libraries = Command::new("ldd").arg(&path).output().expect("ldd").stdout;
        for word in String::from_utf8_lossy(&libraries).split_whitespace().filter(|word| word.starts_with('/')) {
            let name = Path::new(word).file_name().expect("a name");
            let name = if name.to_string_lossy().starts_with("ld-") { "ld.so".as_ref() } else { name };
            fs::copy(word, dir.join(name)).expect("copied");
        }
    }
    Some(format!("tools={}", dir.display()))
}

/// A step with the tools, that signs with the lent key, and checks the signature.
const SIGN: &str = "--mount=from=tools,target=/t \
    T='/t/ld.so --library-path /t'; $T /t/ssh-add -L > /k.pub && stat -c %F:%a $SSH_AUTH_SOCK && echo data > /d && $T /t/ssh-keygen -q -Y sign -n file -f /k.pub /d && echo \"me $(cat /k.pub)\" > /a && $T /t/ssh-keygen -Y verify -f /a -I me -n file -s /d.sig < /d; echo $?";

struct Agent {
    socket: PathBuf,
    pid: String,
}

impl Agent {
    fn start(host: &TestHost, key: &Path) -> Self {
        let socket = host.dir().join("agent.sock");
        let output = Command::new("ssh-agent").arg("-a").arg(&socket).output().expect("ssh-agent");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let pid = text.split("SSH_AGENT_PID=").nth(1).and_then(|rest| rest.split(';').next()).expect("a pid");
        let added = Command::new("ssh-add").arg(key).env("SSH_AUTH_SOCK", &socket).output().expect("ssh-add");
        assert!(added.status.success());
        Self { socket, pid: pid.to_owned() }
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        // It ends with its machine at the latest.
        let _ = Command::new("kill").arg(&self.pid).status();
    }
}

fn key(host: &TestHost, name: &str, passphrase: &str) -> PathBuf {
    let path = host.dir().join(name);
    let mut command = Command::new("ssh-keygen");
    command.args(["-q", "-t", "ed25519", "-N", passphrase, "-C", name, "-f"]).arg(&path);
    assert!(command.status().expect("ssh-keygen").success());
    path
}

#[test]
fn a_real_agent_signs_in_a_step_and_takes_no_orders() {
    let Some((host, _registry)) = host() else { return };
    let Some(tools) = tools(&host) else { return };
    let key = key(&host, "real", "");
    let agent = Agent::start(&host, &key);
    let dockerfile = format!(
        "FROM busybox\nRUN --mount=type=ssh {SIGN}\nRUN --network=none --mount=type=ssh,required,mode=0666,target=/run/a --mount=from=tools,target=/t \\
        echo $SSH_AUTH_SOCK; stat -c %a /run/a; T='/t/ld.so --library-path /t /t/ssh-add'; $T -D 2>&1; $T -l\n"
    );
    let mut run = command(&host, &dockerfile, &["--ssh", "default", "--build-context", &tools]);
    let text = said(Ran::of(run.env("SSH_AUTH_SOCK", &agent.socket)).expect("ran"));
    assert!(
        text.starts_with("socket:600\n") && text.contains("Good \"file\" signature for me") && text.contains("\n0\n"),
        "{text}"
    );
    assert!(text.contains("\n/run/a\n666\n") && text.contains("real (ED25519)"), "{text}");
    let listed = Command::new("ssh-add").arg("-l").env("SSH_AUTH_SOCK", &agent.socket).output().expect("ssh-add");
    assert!(String::from_utf8_lossy(&listed.stdout).contains("real"), "the step could not remove it");
    // By path, under an id of its own.
    let named = format!("deploy={}", agent.socket.display());
    let dockerfile = format!("FROM busybox\nRUN --mount=type=ssh,id=deploy {SIGN}\n");
    let text = said(build(&host, &dockerfile, &["--ssh", &named, "--build-context", &tools]));
    assert!(text.contains("Good \"file\" signature for me"), "{text}");
}

#[test]
fn keys_are_served_and_are_nowhere_afterwards() {
    let Some((host, _registry)) = host() else { return };
    let Some(tools) = tools(&host) else { return };
    let key = key(&host, "served", "");
    let lend = format!("default={}", key.display());
    let dockerfile = format!("FROM busybox\nRUN --mount=type=ssh {SIGN}\n");
    let text = said(build(&host, &dockerfile, &["--ssh", &lend, "--build-context", &tools]));
    assert!(text.contains("Good \"file\" signature for me") && text.ends_with("\n0\n"), "{text}");
    let private = fs::read_to_string(&key).expect("there");
    let line = private.lines().nth(3).expect("a line of the key");
    assert_eq!(files_with(&host.root(), line.as_bytes()), Vec::<PathBuf>::new());
}

#[test]
fn missing_and_refusing_agents() {
    let Some((host, _registry)) = host() else { return };
    if !rhost_kit::have(&["ssh-keygen"]) {
        return;
    }
    let dockerfile = "FROM busybox\nRUN --mount=type=ssh echo \"<$SSH_AUTH_SOCK>\"; ls $SSH_AUTH_SOCK || true\n";
    let text = said(build(&host, dockerfile, &[]));
    assert!(text.contains("</run/buildkit/ssh_agent.0>\n") && text.contains("No such file"), "{text}");
    let required = "FROM busybox\nRUN --mount=type=ssh,required true\n";
    let text = build(&host, required, &[]).failure(1);
    assert!(text.contains("Dockerfile:2") && text.contains("no ssh agent `default`"), "{text}");
    assert!(text.contains("hint: lend it with `--ssh default`"), "{text}");
    let text = build(&host, &required.replace("required", "required,id=deploy"), &[]).failure(1);
    assert!(text.contains("`deploy`") && text.contains("--ssh deploy=SOCKET"), "{text}");
    // A socket that nobody answers any more.
    let socket = host.dir().join("dead.sock");
    drop(std::os::unix::net::UnixListener::bind(&socket).expect("bound"));
    let text = build(&host, required, &["--ssh", &format!("default={}", socket.display())]).failure(1);
    assert!(text.contains("does not answer") && text.contains("Dockerfile:2") && text.contains("ssh-add"), "{text}");
    for (flag, reason) in [
        ("default", "SSH_AUTH_SOCK is not set"),
        ("default=/nowhere", "cannot read `/nowhere`"),
        ("a=/etc/passwd", "no private key"),
    ] {
        let text = build(&host, required, &["--ssh", flag]).failure(2);
        assert!(text.contains(reason), "{text}");
    }
    let locked = format!("default={}", key(&host, "locked", "passphrase").display());
    let text = build(&host, required, &["--ssh", &locked]).failure(2);
    assert!(text.contains("encrypted") && text.contains("ssh-add"), "{text}");
    let open = format!("default={}", key(&host, "open", "").display());
    let text = build(&host, required, &["--ssh", &open, "--ssh", &open]).failure(2);
    assert!(text.contains("`default` is given twice"), "{text}");
}

#[test]
fn what_an_agent_refuses_the_step_is_told() {
    use std::io::{Read as _, Write as _};
    let Some((host, _registry)) = host() else { return };
    let Some(tools) = tools(&host) else { return };
    let socket = host.dir().join("refusing.sock");
    let listener = std::os::unix::net::UnixListener::bind(&socket).expect("bound");
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            std::thread::spawn(move || {
                let mut length = [0; 4];
                while stream.read_exact(&mut length).is_ok() {
                    let mut message = vec![0; u32::from_be_bytes(length) as usize];
                    // SSH_AGENT_FAILURE, to everything.
                    if stream.read_exact(&mut message).is_err() || stream.write_all(&[0, 0, 0, 1, 5]).is_err() {
                        return;
                    }
                }
            });
        }
    });
    let lend = format!("default={}", socket.display());
    let dockerfile = "FROM busybox\nRUN --mount=type=ssh,required --mount=from=tools,target=/t /t/ld.so --library-path /t /t/ssh-add -l 2>&1\n";
    let text = build(&host, dockerfile, &["--ssh", &lend, "--build-context", &tools]).failure(1);
    assert!(text.contains("agent refused operation") && text.contains("Dockerfile:2"), "{text}");
    assert!(text.contains("exit code: 1") || text.contains("exit code 1"), "{text}");
}
