//! Programs of the host below a guard: what they see, and that nothing of them is left.
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rhost_exec::{ExitStatus, HostCommand, HostExit, OutputStream, find_program};

fn shell(script: &str) -> HostCommand {
    let mut command = HostCommand::new("/bin/sh".into(), ["-c", script], "/tmp".into());
    command.environment.push(("PATH".into(), "/usr/bin:/bin".into()));
    command
}

fn run(command: &HostCommand) -> (HostExit, String) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let mut text = String::new();
    let mut sink = |stream: OutputStream, chunk: &[u8]| {
        let mark = if stream == OutputStream::Stdout { "" } else { "!" };
        text.push_str(&format!("{mark}{}", String::from_utf8_lossy(chunk)));
    };
    let exit = runtime.block_on(command.run(&mut sink)).unwrap();
    (exit, text)
}

/// Waits for the end of process `pid`.
fn gone(pid: &str) {
    let start = Instant::now();
    while PathBuf::from(format!("/proc/{pid}")).exists() {
        assert!(start.elapsed() < Duration::from_secs(30), "{pid} is left");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn it_has_what_it_is_given_and_ends_as_it_ends() {
    let (exit, text) = run(&shell(
        "umask; ulimit -c; pwd; env | grep -v -e ^PWD -e ^_ -e ^SHLVL -e ^OLDPWD; read x || echo none; exit 7",
    ));
    assert_eq!(exit, HostExit::Ended(ExitStatus::Code(7)));
    assert_eq!(text, "0022\n0\n/tmp\nPATH=/usr/bin:/bin\nnone\n");
    assert_eq!(run(&shell("kill -9 $$")).0, HostExit::Ended(ExitStatus::Signal(9)));
    let missing = HostCommand::new("/nowhere/git".into(), ["x"], "/".into());
    let (exit, text) = run(&missing);
    assert!(exit == HostExit::Ended(ExitStatus::Code(127)) && text.contains("cannot start `/nowhere/git`"), "{text}");
    assert_eq!(find_program("sh", &["relative".into(), "/nowhere".into(), "/bin".into()]), Some("/bin/sh".into()));
}

#[test]
fn its_children_go_with_it() {
    let (exit, text) = run(&shell("sleep 1000 >/dev/null 2>&1 & echo $!"));
    assert_eq!(exit, HostExit::Ended(ExitStatus::Code(0)));
    gone(text.trim());
}

#[test]
fn silence_ends_it() {
    let mut command = shell("echo said; sleep 1000 & echo $!; wait");
    command.patience = Some(Duration::from_millis(200));
    let (exit, text) = run(&command);
    assert_eq!(exit, HostExit::Silent);
    let pid = text.lines().nth(1).unwrap().to_owned();
    gone(&pid);
}

#[test]
fn dropping_it_ends_it() {
    let dir = tempfile::tempdir().unwrap();
    let mark = dir.path().join("pid");
    let command = shell(&format!("sleep 1000 & echo $! > {0}.new; mv {0}.new {0}; wait", mark.display()));
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let pid = runtime.block_on(async {
        let mut sink = |_: OutputStream, _: &[u8]| ();
        let running = command.run(&mut sink);
        let waiting = async {
            while !mark.exists() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            std::fs::read_to_string(&mark).unwrap()
        };
        tokio::select! {
            _ = running => panic!("it does not end by itself"),
            pid = waiting => pid,
        }
    });
    gone(pid.trim());
}
