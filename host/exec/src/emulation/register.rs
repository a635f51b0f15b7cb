//! Emulation without touching the host: a binfmt_misc of the step's own user namespace (Linux 6.7).
use std::io::Write;
use std::os::fd::AsFd;

use rustix::fs::{CWD, Mode, OFlags, mkdirat, openat};
use rustix::mount::MountAttrFlags;

use super::machine::{Machine, rule};
use crate::error::{ExecError, Result};
use crate::step::Emulator;
use crate::system_mounts::{new_filesystem, put};
use crate::{sys, userns};

/// Enters a nested user namespace and registers the emulator there. The working directory is a tmpfs of ours.
pub fn register(emulator: &Emulator) -> Result<()> {
    let rule = rule_of(emulator)?;
    userns::enter_identical()?;
    sys::unshare(libc::CLONE_NEWNS).map_err(|e| ExecError::system("making a mount namespace for emulation", e))?;
    let said = |doing: &'static str| {
        move |e: rustix::io::Errno| {
            ExecError::Unsupported(format!(
                "emulation: {doing}: {e}; a binfmt_misc of one's own wants Linux 6.7 or newer (before that, `rhost emulation \
                 install` registers emulators for the whole host, as root)"
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

/// The registration of an emulator.
pub fn rule_of(emulator: &Emulator) -> Result<String> {
    let machine = Machine::of(&emulator.platform)
        .ok_or_else(|| ExecError::Unsupported(format!("emulation of {}", emulator.platform)))?;
    rule(&machine, &emulator.program).ok_or_else(|| {
        ExecError::Invalid(format!(
            "the emulator's path {} must be absolute, short, UTF-8 and without colons",
            emulator.program.display()
        ))
    })
}
