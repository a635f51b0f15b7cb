//! Limits of steps: ulimits, cgroups.
use std::time::Instant;

use rhost_exec::{Emulator, Resources, Step, Ulimit};

use crate::kit::{Room, able, run, try_run};

#[test]
fn ulimits() {
    if !able() {
        return;
    }
    let room = Room::new();
    let mut step = room.step("ulimit -n; ulimit -c");
    step.ulimits =
        vec![Ulimit { name: "nofile".into(), soft: 77, hard: 88 }, Ulimit { name: "core".into(), soft: 0, hard: 0 }];
    assert_eq!(run(step).out, "77\n0\n");
    let mut step = room.step("true");
    step.ulimits = vec![Ulimit { name: "files".into(), soft: 1, hard: 1 }];
    assert!(try_run(step).is_err());
}

#[test]
fn a_limit_is_applied_or_said_not_to_be() {
    if !able() {
        return;
    }
    let room = Room::new();
    let mut step = room.step("cat /proc/self/cgroup");
    step.resources = Resources { memory: 64 << 20, ..Resources::default() };
    let ran = run(step);
    eprintln!("cgroup of the step: {} {:?}", ran.out, ran.exit.warnings);
    assert!(
        ran.exit.warnings.is_empty() != ran.exit.warnings.iter().any(|w| w.contains("memory")),
        "{:?}",
        ran.exit.warnings
    );
}

#[test]
fn start_is_quick() {
    if !able() {
        return;
    }
    let room = Room::new();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut best = u128::MAX;
    for _ in 0..20 {
        let step = Step::new(room.overlay(), ["/bin/true"]);
        let started = Instant::now();
        runtime.block_on(rhost_exec::run(step, &mut |_, _: &[u8]| {})).unwrap();
        best = best.min(started.elapsed().as_micros());
    }
    eprintln!("best of 20 runs of /bin/true: {best} us");
    assert!(best < 100_000, "{best} us");
}

#[test]
fn foreign_programs_run_where_an_emulator_is_given() {
    if !able() {
        return;
    }
    let program = std::path::PathBuf::from("/usr/bin/qemu-aarch64-static");
    if !program.exists() {
        assert!(std::env::var_os("CI").is_none(), "this test must run in CI: no qemu-aarch64-static");
        eprintln!("SKIP: no qemu-aarch64-static");
        return;
    }
    // Smallest arm64 program: write(1, "hi\n"), exit(7).
    let mut elf = Vec::new();
    elf.extend(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\xb7\0\x01\0\0\0");
    elf.extend(0x40_0078_u64.to_le_bytes());
    elf.extend(64_u64.to_le_bytes());
    elf.extend([0; 12]);
    elf.extend([64, 0, 56, 0, 1, 0, 0, 0, 0, 0, 0, 0]);
    elf.extend(1_u32.to_le_bytes());
    elf.extend(5_u32.to_le_bytes());
    for value in [0_u64, 0x40_0000, 0x40_0000, 0x9c, 0x9c, 0x1000] {
        elf.extend(value.to_le_bytes());
    }
    for code in
        [0xd280_0020_u32, 0x1000_00e1, 0xd280_0062, 0xd280_0808, 0xd400_0001, 0xd280_00e0, 0xd280_0ba8, 0xd400_0001]
    {
        elf.extend(code.to_le_bytes());
    }
    elf.extend(b"hi\n\0");
    let room = Room::new();
    let file = room.path("base/bin/foreign");
    std::fs::write(&file, elf).unwrap();
    std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let mut step = room.step("/bin/foreign; echo $?; id -u");
    step.emulator = Some(Emulator { program, platform: "linux/arm64".parse().unwrap() });
    let ran = run(step);
    assert_eq!(ran.out, "hi\n7\n0\n", "{}", ran.err);
}
