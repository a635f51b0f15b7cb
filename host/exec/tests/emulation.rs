//! Programs of other architectures: what the machine runs by itself, what QEMU runs for it, and what neither does.
use std::fs;
use std::path::{Path, PathBuf};

use rhost_exec::{
    Emulator, ExecError, NoRunner, Runner, install_on_host, registrations, remove_from_host, runner, runs_here,
    try_emulator,
};
use rhost_llb::Platform;

use crate::kit::{Room, able, run, try_run};

fn platform(text: &str) -> Platform {
    text.parse().unwrap()
}

/// QEMU for a platform; loud where it is not installed.
fn qemu(of: &str) -> Option<Emulator> {
    if !able() {
        return None;
    }
    match runner(&platform(of), &[PathBuf::from("/usr/bin")]) {
        Ok(Runner::Emulator(emulator)) => Some(emulator),
        Ok(other) => {
            eprintln!("SKIP: {of} runs here without an emulator: {other:?}");
            None
        }
        Err(error) => {
            assert!(std::env::var_os("CI").is_none(), "this test must run in CI: {error}");
            eprintln!("SKIP: {error}");
            None
        }
    }
}

#[test]
fn every_installed_emulator_runs_its_smallest_program() {
    for of in rhost_exec::KNOWN {
        let Some(emulator) = qemu(of) else { continue };
        assert!(!runs_here(&platform(of)), "{of}");
        assert_eq!(try_emulator(&emulator), Ok(()), "{of}");
    }
}

#[test]
fn the_wrong_emulator_is_found_out() {
    let Some(mut emulator) = qemu("linux/arm64") else { return };
    emulator.platform = platform("linux/s390x");
    assert!(try_emulator(&emulator).is_err());
    emulator.program = "/nowhere/at/all".into();
    let error = try_emulator(&emulator).unwrap_err();
    assert!(error.to_string().contains("/nowhere/at/all"), "{error}");
}

#[test]
fn the_machine_s_own_programs_want_nothing() {
    if !able() {
        return;
    }
    assert_eq!(runner(&Platform::host(), &[]), Ok(Runner::Native));
    assert!(runs_here(&Platform::host()));
    if cfg!(target_arch = "x86_64") && runs_here(&platform("linux/386")) {
        assert_eq!(runner(&platform("linux/386"), &[]), Ok(Runner::Native));
    }
}

#[test]
fn what_is_missing_is_named() {
    if !able() || runs_here(&platform("linux/s390x")) {
        return;
    }
    let room = Room::new();
    let places = [room.path("one"), room.path("two")];
    for place in &places {
        fs::create_dir(place).unwrap();
    }
    let told = || {
        let error = runner(&platform("linux/s390x"), &places).unwrap_err();
        assert!(matches!(error, NoRunner::NoEmulator { .. }));
        format!("{error}; {}", error.hint())
    };
    let text = told();
    for part in ["linux/s390x", "`qemu-s390x-static`", "`qemu-s390x`", "/one or ", "/two", "`qemu-user-static`"] {
        assert!(text.contains(part), "wanted {part}: {text}");
    }
    fs::copy("/bin/cat", places[1].join("qemu-s390x")).unwrap();
    fs::write(places[0].join("qemu-s390x"), "#!/bin/sh\n").unwrap();
    let text = told();
    assert!(text.contains("two/qemu-s390x` is dynamically linked") && text.contains("is no program"), "{text}");
    assert!(matches!(runner(&platform("linux/vax"), &places), Err(NoRunner::Unknown { .. })));
    assert!(matches!(runner(&platform("windows/amd64"), &places), Err(NoRunner::Unknown { .. })));
}

#[test]
fn a_program_of_another_platform_is_named() {
    if !able() || runs_here(&platform("linux/arm64")) {
        return;
    }
    let room = Room::new();
    foreign(&room.path("base/bin/foreign"));
    let mut step = room.step("");
    step.args = vec!["/bin/foreign".into()];
    let Err(ExecError::Start { code: 126, reason, .. }) = try_run(step) else { panic!("it cannot run") };
    assert!(reason.contains("is a program for arm64"), "{reason}");
}

/// A registration with the kernel, in a user namespace of the test's own: the machine's is left alone.
#[test]
fn a_registration_that_is_there_is_used() {
    if qemu("linux/arm64").is_none() {
        return;
    }
    let output = std::process::Command::new("unshare")
        .args(["--user", "--map-root-user", "--mount"])
        .arg(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "emulation::inner_registration", "--nocapture", "--test-threads", "1"])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}

#[test]
#[ignore = "run by `a_registration_that_is_there_is_used` in a user namespace"]
fn inner_registration() {
    let arm64 = platform("linux/arm64");
    let directories = [PathBuf::from("/usr/bin")];
    let Ok(Runner::Emulator(emulator)) = runner(&arm64, &directories) else { panic!("installed") };
    assert!(!remove_from_host(&arm64).unwrap(), "nothing to remove");
    install_on_host(&emulator).unwrap();
    assert_eq!(runner(&arm64, &directories), Ok(Runner::Registered));
    assert_eq!(runner(&arm64, &[]), Ok(Runner::Registered), "no emulator of ours is needed");
    let seen = registrations();
    let entry = seen.iter().find(|entry| entry.architecture == "arm64").unwrap();
    assert_eq!((entry.name.as_str(), &entry.interpreter, entry.enabled), ("rhost-arm64", &emulator.program, true));
    for flag in ["P", "O", "C", "F"] {
        assert!(entry.flags.contains(flag), "{}", entry.flags);
    }
    let room = Room::new();
    foreign(&room.path("base/bin/foreign"));
    assert_eq!(run(room.step("/bin/foreign; echo $?")).out, "hi\n7\n");
    install_on_host(&emulator).unwrap();
    assert!(remove_from_host(&arm64).unwrap());
    assert!(matches!(runner(&arm64, &directories), Ok(Runner::Emulator(_))));
}

/// An arm64 program of this machine code at 0x400078.
fn arm64_program(file: &Path, code: &[u32], data: &[u8]) {
    let mut elf = Vec::new();
    elf.extend(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\xb7\0\x01\0\0\0");
    elf.extend(0x40_0078_u64.to_le_bytes());
    elf.extend(64_u64.to_le_bytes());
    elf.extend([0; 12]);
    elf.extend([64, 0, 56, 0, 1, 0, 0, 0, 0, 0, 0, 0]);
    elf.extend(1_u32.to_le_bytes());
    elf.extend(5_u32.to_le_bytes());
    let size = 0x78 + code.len() as u64 * 4 + data.len() as u64;
    for value in [0_u64, 0x40_0000, 0x40_0000, size, size, 0x1000] {
        elf.extend(value.to_le_bytes());
    }
    for word in code {
        elf.extend(word.to_le_bytes());
    }
    elf.extend(data);
    fs::write(file, elf).unwrap();
    fs::set_permissions(file, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
}

/// write(1, "hi\n"), exit(7).
fn foreign(file: &Path) {
    let code = [0xd280_0020, 0x1000_00e1, 0xd280_0062, 0xd280_0808, 0xd400_0001, 0xd280_00e0, 0xd280_0ba8, 0xd400_0001];
    arm64_program(file, &code, b"hi\n\0");
}

/// exit(geteuid()).
#[test]
fn set_user_id_programs_keep_working_under_emulation() {
    let Some(emulator) = qemu("linux/arm64") else { return };
    let room = Room::new();
    let file = room.path("base/bin/whoami");
    arm64_program(&file, &[0xd280_15e8, 0xd400_0001, 0xd280_0ba8, 0xd400_0001], b"");
    let mut step = room.step("/bin/whoami; echo $?; /bin/suid; echo $?");
    fs::copy(&file, room.path("base/bin/suid")).unwrap();
    fs::set_permissions(room.path("base/bin/suid"), std::os::unix::fs::PermissionsExt::from_mode(0o4755)).unwrap();
    step.user = "7:7".into();
    step.emulator = Some(emulator);
    let ran = run(step);
    assert_eq!(ran.out, "7\n0\n", "{}", ran.err);
}

#[test]
fn foreign_programs_run_where_an_emulator_is_given() {
    let Some(emulator) = qemu("linux/arm64") else { return };
    let room = Room::new();
    foreign(&room.path("base/bin/foreign"));
    let mut step = room
        .step("/bin/foreign; echo $?; id -u; ls -id / /.. | busybox awk '{print $1}' | busybox uniq | busybox wc -l");
    step.emulator = Some(emulator);
    let ran = run(step);
    assert_eq!(ran.out, "hi\n7\n0\n1\n", "{}", ran.err);
}
