//! Registrations with the host's kernel: read always, changed only when a person asks for it.
use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use rhost_llb::Platform;
use rustix::mount::{MountAttrFlags, MoveMountFlags, move_mount};

use super::machine::{Machine, entry};
use super::register::rule_of;
use crate::error::ExecError;
use crate::step::Emulator;
use crate::system_mounts::new_filesystem;

const PLACE: &str = "/proc/sys/fs/binfmt_misc";

/// One entry of the host's binfmt_misc.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registration {
    /// As it was registered.
    pub name: String,
    /// The program that runs others.
    pub interpreter: PathBuf,
    /// As in `POCF`. Without F it does not work inside of containers.
    pub flags: String,
    /// Whether it is switched on.
    pub enabled: bool,
    /// The architecture it is for; empty for scripts, byte code and others.
    pub architecture: String,
}

/// The host's registrations could not be changed.
#[derive(Debug, thiserror::Error)]
pub enum HostEmulationError {
    /// The kernel refused.
    #[error("{doing}: {reason}")]
    Refused {
        /// What was being done.
        doing: String,
        /// The kernel's answer.
        reason: io::Error,
    },
    /// The emulator cannot be written into a registration.
    #[error(transparent)]
    Rule(#[from] ExecError),
}

fn refused(doing: impl Into<String>) -> impl FnOnce(io::Error) -> HostEmulationError {
    let doing = doing.into();
    move |reason| HostEmulationError::Refused { doing, reason }
}

/// The entries that are in sight; none where binfmt_misc is not mounted.
pub fn registrations() -> Vec<Registration> {
    registrations_in(Path::new(PLACE))
}

fn registrations_in(place: &Path) -> Vec<Registration> {
    let Ok(entries) = fs::read_dir(place) else { return Vec::new() };
    let mut found: Vec<Registration> = entries
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let name = entry.file_name().into_string().ok()?;
            let text = fs::read_to_string(entry.path()).ok()?;
            parse(name, &text)
        })
        .collect();
    found.sort_by(|a, b| a.name.cmp(&b.name));
    found
}

fn parse(name: String, text: &str) -> Option<Registration> {
    let field = |key: &str| text.lines().find_map(|line| line.strip_prefix(key)).map(str::trim);
    let magic = field("magic ").unwrap_or_default();
    let bytes: Option<Vec<u8>> =
        (0..magic.len() / 2).map(|at| u8::from_str_radix(magic.get(at * 2..at * 2 + 2)?, 16).ok()).collect();
    Some(Registration {
        name,
        interpreter: field("interpreter ")?.into(),
        flags: field("flags:").unwrap_or_default().to_owned(),
        enabled: text.lines().next() == Some("enabled"),
        architecture: bytes.and_then(|bytes| super::name_of_program(&bytes)).unwrap_or_default().to_owned(),
    })
}

/// Registers an emulator with the host's kernel until it is restarted, for every process of the host. Mounts binfmt_misc where
/// that has not been done.
///
/// # Errors
/// No root, a read-only /proc/sys, or a name that is taken.
pub fn install_on_host(emulator: &Emulator) -> Result<(), HostEmulationError> {
    let rule = rule_of(emulator)?;
    let register = Path::new(PLACE).join("register");
    if !register.exists() {
        let mount = || {
            let mount = new_filesystem("binfmt_misc", &[], MountAttrFlags::MOUNT_ATTR_NOSUID)?;
            move_mount(mount.as_fd(), "", rustix::fs::CWD, PLACE, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
        };
        mount().map_err(|e| refused(format!("mounting binfmt_misc at {PLACE}"))(e.into()))?;
    }
    // One that is there and does not work would only be in the way.
    let _ = remove_from_host(&emulator.platform);
    fs::write(&register, rule).map_err(refused(format!("registering {} with the kernel", emulator.program.display())))
}

/// Takes rhost's own registration for a platform back; `false` when there is none.
///
/// # Errors
/// The kernel refused.
pub fn remove_from_host(platform: &Platform) -> Result<bool, HostEmulationError> {
    let Some(machine) = Machine::of(platform) else { return Ok(false) };
    let file = Path::new(PLACE).join(entry(&machine));
    if !file.exists() {
        return Ok(false);
    }
    fs::write(&file, "-1").map_err(refused(format!("removing the registration for {platform}")))?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_read() {
        let text = "enabled\ninterpreter /usr/libexec/qemu-binfmt/aarch64-binfmt-P\nflags: POCF\noffset 0\n\
            magic 7f454c460201010000000000000000000200b700\nmask ffffffffffffff00fffffffffffffffffeffffff\n";
        let found = parse("qemu-aarch64".into(), text).expect("an entry");
        assert_eq!((found.architecture.as_str(), found.flags.as_str(), found.enabled), ("arm64", "POCF", true));
        assert_eq!(found.interpreter, Path::new("/usr/libexec/qemu-binfmt/aarch64-binfmt-P"));
        let script = "disabled\ninterpreter /usr/bin/python3\nflags: \nextension .py\n";
        let found = parse("python".into(), script).expect("an entry");
        assert_eq!((found.architecture.as_str(), found.enabled), ("", false));
        assert_eq!(parse("status".into(), "enabled\n"), None);
        assert_eq!(parse("odd".into(), "enabled\ninterpreter /x\nmagic 7é4\n").expect("an entry").architecture, "");
    }
}
