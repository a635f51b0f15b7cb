//! Trying it out: the smallest program of an architecture, run by this binary's other self in an empty root.
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use rhost_llb::Platform;
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::mount::MountAttrFlags;

use super::machine::Machine;
use crate::error::{ExecError, Result};
use crate::step::{Emulator, Step, Tree};
use crate::system_mounts::{new_filesystem, put};
use crate::{run, sys, trees, userns};

/// `argv[0]` of a probe; the architecture and perhaps an emulator's path follow.
pub const PROBE_NAME: &str = "rhost-exec-probe";

/// Whether this machine runs programs of `platform` in containers without rhost's help.
pub fn runs_here(platform: &Platform) -> bool {
    launch(platform, None).is_ok()
}

/// Runs a program with `emulator`, registered as for a step.
///
/// # Errors
/// What kept it from running.
pub fn try_emulator(emulator: &Emulator) -> Result<()> {
    launch(&emulator.platform, Some(emulator))
}

fn launch(platform: &Platform, emulator: Option<&Emulator>) -> Result<()> {
    let mut command = Command::new(run::program());
    command.arg0(PROBE_NAME).arg(&platform.architecture).args(emulator.map(|emulator| &emulator.program));
    command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").current_dir("/");
    let output = command
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .map_err(|e| ExecError::system("starting a probe of emulation", e))?;
    if output.status.success() {
        return Ok(());
    }
    match serde_json::from_slice(&output.stdout) {
        Ok(error) => Err(error),
        Err(_) => Err(ExecError::Lost(format!("the program for {platform} ended with {}", output.status))),
    }
}

/// The probe's side: becomes the program, or says why not and exits with 1.
pub fn probe_main(arguments: &[&[u8]]) {
    let error = match become_program(arguments) {
        Ok(error) | Err(error) => error,
    };
    let mut out = std::io::stdout();
    let _ = out.write_all(&serde_json::to_vec(&error).unwrap_or_default()).and_then(|()| out.flush());
    sys::exit_now(1);
}

fn become_program(arguments: &[&[u8]]) -> Result<ExecError> {
    let wrong = || ExecError::Invalid("a probe wants an architecture".into());
    let architecture = arguments.first().and_then(|name| std::str::from_utf8(name).ok()).ok_or_else(wrong)?;
    let platform = Platform::new("linux", architecture, "");
    let machine = Machine::of(&platform).ok_or_else(wrong)?;
    if userns::enter_user_namespace()? == userns::UserNamespace::NotNeeded {
        sys::unshare(libc::CLONE_NEWNS).map_err(|e| ExecError::system("making a mount namespace", e))?;
    }
    let emulator =
        |path: &&[u8]| Emulator { program: std::ffi::OsStr::from_bytes(path).into(), platform: platform.clone() };
    let mut step = Step::new(Tree::Dir("/".into()), ["/program"]);
    step.emulator = arguments.get(1).map(emulator);
    trees::scratch_for(&step)?;
    let said = |e: rustix::io::Errno| ExecError::system("making a root for a probe", e);
    rustix::fs::mkdirat(CWD, "root", Mode::from_raw_mode(0o755)).map_err(said)?;
    let target = openat(CWD, "root", OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).map_err(said)?;
    let root = new_filesystem("tmpfs", &[("mode", "0755")], MountAttrFlags::MOUNT_ATTR_NODEV).map_err(said)?;
    put(root.as_fd(), target.as_fd()).map_err(said)?;
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
    let file = openat(CWD, "root/program", flags, Mode::from_raw_mode(0o755)).map_err(said)?;
    std::fs::File::from(file)
        .write_all(&machine.program())
        .map_err(|e| ExecError::system("writing the program of a probe", e))?;
    if let Some(emulator) = &step.emulator {
        super::register(emulator)?;
    }
    rustix::process::chdir("root").and_then(|()| rustix::process::chroot(".")).map_err(said)?;
    let error = sys::execve(c"/program", &[c"/program".into()], &[]);
    Ok(ExecError::Start { program: format!("a program for {platform}"), reason: error.to_string(), code: 126 })
}
