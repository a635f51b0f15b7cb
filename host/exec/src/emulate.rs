//! Emulation without touching the host: a binfmt_misc of the step's own user namespace (Linux 6.7).
//!
//! The registration opens the emulator at once (flag F), so nothing of it has to exist in the root; P keeps `argv[0]`, C keeps
//! set-user-ID programs working, O hands the program over as a descriptor.
use std::io::Write;
use std::os::fd::AsFd;

use rustix::fs::{CWD, Mode, OFlags, mkdirat, openat};
use rustix::mount::MountAttrFlags;

use crate::error::{ExecError, Result};
use crate::step::Emulator;
use crate::system_mounts::{new_filesystem, put};
use crate::{sys, userns};

/// (architecture, 64-bit, big-endian, ELF machine)
const MACHINES: [(&str, bool, bool, u16); 9] = [
    ("amd64", true, false, 0x3e),
    ("386", false, false, 0x03),
    ("arm64", true, false, 0xb7),
    ("arm", false, false, 0x28),
    ("riscv64", true, false, 0xf3),
    ("ppc64le", true, false, 0x15),
    ("s390x", true, true, 0x16),
    ("mips64le", true, false, 0x08),
    ("loong64", true, false, 0x102),
];

/// Enters a nested user namespace and registers the emulator there.
pub fn register(emulator: &Emulator) -> Result<()> {
    let rule = rule(emulator)?;
    userns::enter_identical()?;
    sys::unshare(libc::CLONE_NEWNS).map_err(|e| ExecError::system("making a mount namespace for emulation", e))?;
    let said = |doing: &'static str| {
        move |e: rustix::io::Errno| {
            ExecError::Unsupported(format!(
                "emulation: {doing}: {e} (a binfmt_misc of one's own wants Linux 6.7 or newer)"
            ))
        }
    };
    let mount =
        new_filesystem("binfmt_misc", &[], MountAttrFlags::MOUNT_ATTR_NOSUID).map_err(said("mounting binfmt_misc"))?;
    mkdirat(CWD, "binfmt", Mode::from_raw_mode(0o755)).map_err(said("making its directory"))?;
    let target =
        openat(CWD, "binfmt", OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).map_err(said("opening its directory"))?;
    put(mount.as_fd(), target.as_fd()).map_err(said("mounting binfmt_misc"))?;
    let file = openat(CWD, "binfmt/register", OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())
        .map_err(said("opening `register`"))?;
    std::fs::File::from(file).write_all(rule.as_bytes()).map_err(|e| ExecError::System {
        doing: format!("registering the emulator {}", emulator.program.display()),
        reason: e.to_string(),
    })
}

fn rule(emulator: &Emulator) -> Result<String> {
    let architecture = emulator.platform.architecture.as_str();
    let Some((_, wide, big, machine)) = MACHINES.into_iter().find(|(name, ..)| *name == architecture) else {
        return Err(ExecError::Unsupported(format!("emulation of {}", emulator.platform)));
    };
    let program = emulator.program.to_str().filter(|p| !p.contains(':') && p.len() < 120).ok_or_else(|| {
        ExecError::Invalid(format!(
            "the emulator's path {} must be short, UTF-8 and without colons",
            emulator.program.display()
        ))
    })?;
    // e_ident, then e_type (ET_EXEC or ET_DYN: the lowest bit is masked) and e_machine.
    let mut magic = vec![0x7f, b'E', b'L', b'F', 1 + u8::from(wide), 1 + u8::from(big), 1, 0];
    magic.resize(16, 0);
    let mut mask = [0xff_u8; 20];
    mask[7] = 0;
    if big {
        magic.extend([0, 2]);
        magic.extend(machine.to_be_bytes());
        mask[17] = 0xfe;
    } else {
        magic.extend([2, 0]);
        magic.extend(machine.to_le_bytes());
        mask[16] = 0xfe;
    }
    let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("\\x{b:02x}")).collect::<String>();
    Ok(format!(":rhost-{architecture}:M:0:{}:{}:{program}:POCF", hex(&magic), hex(&mask)))
}
