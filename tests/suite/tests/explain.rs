//! Why steps ran: what a build says of those that an earlier one had, and what makes them hit after all.
use std::path::Path;

use rhost_kit::{Ran, TestHost, host_with_busybox};

/// Runs `rhost build --progress plain` and gives what it said.
fn build(host: &TestHost, context: &str, more: &[&str]) -> String {
    let arguments = ["build", "--progress", "plain"].iter().chain(more).copied().chain([context]);
    let ran = host.run(arguments).expect("ran");
    let text = ran.stderr.clone();
    ran.success();
    text
}

fn cached(text: &str) -> usize {
    text.matches(" CACHED\n").count()
}

/// A context as a checkout under `umask` leaves it: git keeps nothing of modes but who may execute.
fn check_out(host: &TestHost, name: &str, umask: &str) -> String {
    let script = format!(
        "umask {umask}; mkdir -p {name}/src && cd {name} && echo data > src/a.txt && : > src/empty && echo 'echo hello' > src/run.sh && chmod +x src/run.sh && ln -s a.txt src/link && printf 'FROM busybox\\nCOPY src /src\\nRUN find /src -exec stat -c \"%%a %%n\" {{}} + | sort > /modes\\nRUN --mount=target=/ctx stat -c %%a /ctx/src/a.txt > /bound\\n' > Dockerfile"
    );
    let done = std::process::Command::new("/bin/sh").args(["-c", &script]).current_dir(host.work()).status();
    assert!(done.expect("sh").success());
    host.work().join(name).display().to_string()
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).expect("there")
}

#[test]
fn a_checkout_with_another_umask_hits_with_normalized_modes() {
    let Some((host, _registry)) = host_with_busybox() else { return };
    let (open, private) = (check_out(&host, "open", "022"), check_out(&host, "private", "077"));
    let out = |name: &str| host.dir().join(name);
    let into = |name: &str| format!("type=local,dest={}", out(name).display());
    assert_eq!(cached(&build(&host, &open, &["-o", &into("a")])), 0);
    assert_eq!(cached(&build(&host, &private, &["-o", &into("b")])), 1, "only FROM");
    assert_ne!(read(&out("a/modes")), read(&out("b/modes")));
    // The modes of the first are normal: what it made is what is wanted.
    assert_eq!(cached(&build(&host, &private, &["--normalize-modes", "-o", &into("c")])), 4);
    assert_eq!(read(&out("c/modes")), read(&out("a/modes")));
    let wanted = "644 /src/a.txt\n644 /src/empty\n755 /src\n755 /src/run.sh\n777 /src/link\n";
    assert_eq!(read(&out("a/modes")), wanted);
    assert_eq!(cached(&build(&host, &open, &["--normalize-modes"])), 4);
    // What is built with it is the same whoever builds it.
    let anew = build(&host, &private, &["--normalize-modes=true", "--no-cache", "-o", &into("d")]);
    assert_eq!(cached(&anew), 1, "{anew}");
    assert_eq!(read(&out("d/modes")), wanted);
    assert_eq!(read(&out("d/bound")), "644\n", "a mounted context has them too");
    // The configuration may say it, the command line may say otherwise.
    let config = read(&host.dir().join("config.toml"));
    host.write_config(&format!("{config}\n[build]\nnormalizeModes = true\n")).expect("written");
    assert_eq!(cached(&build(&host, &private, &["-o", &into("e")])), 4);
    assert_eq!(read(&out("e/modes")), wanted);
    assert_eq!(cached(&build(&host, &private, &["--normalize-modes=false", "-o", &into("f")])), 4);
    assert_eq!(read(&out("f/modes")), read(&out("b/modes")));
    let wrong = host.run(["build", "--normalize-modes=perhaps", &open]).expect("ran");
    assert!(Ran::failure(wrong, 2).contains("perhaps"));
}
