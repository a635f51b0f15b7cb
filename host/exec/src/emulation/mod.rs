//! How a program of some platform runs on this machine: by the processor, by a registration that the host has, or by QEMU in a
//! binfmt_misc of the step's own.
//!
//! Nothing is believed that can be tried: whether the machine runs an architecture is found out by running a program of a few
//! bytes in an empty root, as a step would. So 32-bit support of the kernel, registrations of a host whose binfmt_misc is out of
//! sight (rhost in a container), and registrations that do not work inside of containers (no flag F) all get the right answer.
mod cpu;
mod host;
mod machine;
mod probe;
mod register;

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use rhost_llb::Platform;

pub use host::{HostEmulationError, Registration, install_on_host, registrations, remove_from_host};
pub(crate) use machine::name_of_program;
pub(crate) use probe::{PROBE_NAME, probe_main};
pub use probe::{runs_here, try_emulator};
pub(crate) use register::register;

use crate::step::Emulator;
use machine::Machine;

/// How programs of a platform run here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Runner {
    /// The processor and the kernel run them.
    Native,
    /// Somebody registered an emulator with the host's kernel.
    Registered,
    /// QEMU, registered for one step at a time.
    Emulator(Emulator),
}

/// Programs of a platform do not run here.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoRunner {
    /// Another operating system, or an architecture that nobody emulates here.
    #[error("{wanted} programs do not run on this {host} machine, and rhost knows no emulator for them")]
    Unknown {
        /// What was asked for.
        wanted: Platform,
        /// What this machine is.
        host: Platform,
    },
    /// The architecture is right, the processor too old.
    #[error("{wanted} wants a processor with {missing}, which this one does not have")]
    Processor {
        /// What was asked for.
        wanted: Platform,
        /// First feature that is missing, as /proc/cpuinfo names it.
        missing: &'static str,
    },
    /// No emulator is installed.
    #[error("no emulator for {wanted} on this {host} machine: there is no {names} in {looked}{rejected}")]
    NoEmulator {
        /// What was asked for.
        wanted: Platform,
        /// What this machine is.
        host: Platform,
        /// File names that were looked for, quoted.
        names: String,
        /// Directories that were looked in.
        looked: String,
        /// What was found there and is of no use; empty, or `; …`.
        rejected: String,
    },
}

impl NoRunner {
    /// What to do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Unknown { .. } => "build it on a machine of that platform",
            Self::Processor { .. } => "build for a lower variant, or on a newer machine",
            Self::NoEmulator { .. } => {
                "install the Debian package `qemu-user-static` (Debian 13 and newer: `qemu-user`), or name its directory under \
                 [emulation] in the configuration; `rhost emulation ls` shows what runs"
            }
        }
    }
}

/// Platforms that `rhost emulation ls` tells of, the usual ones first.
pub const KNOWN: [&str; 9] = [
    "linux/amd64",
    "linux/arm64",
    "linux/arm/v7",
    "linux/386",
    "linux/riscv64",
    "linux/ppc64le",
    "linux/s390x",
    "linux/mips64le",
    "linux/loong64",
];

/// Where distributions put QEMU's user-mode emulators.
pub const DIRECTORIES: [&str; 2] = ["/usr/bin", "/usr/local/bin"];

/// Finds out how programs of `wanted` run here. Costs a few milliseconds for a foreign platform: callers keep the answer.
///
/// # Errors
/// They do not run; with the reason.
pub fn runner(wanted: &Platform, directories: &[PathBuf]) -> Result<Runner, NoRunner> {
    let host = Platform::host();
    let unknown = || NoRunner::Unknown { wanted: wanted.clone(), host: host.clone() };
    if wanted.os != host.os {
        return Err(unknown());
    }
    if wanted.architecture == host.architecture {
        return match cpu::missing(wanted) {
            None => Ok(Runner::Native),
            Some(missing) => Err(NoRunner::Processor { wanted: wanted.clone(), missing }),
        };
    }
    let machine = Machine::of(wanted).ok_or_else(unknown)?;
    if runs_here(wanted) {
        let sibling = matches!((&*host.architecture, &*wanted.architecture), ("amd64", "386") | ("arm64", "arm"));
        return Ok(if sibling { Runner::Native } else { Runner::Registered });
    }
    let mut rejected = String::new();
    for directory in directories {
        for name in machine.emulators() {
            let program = directory.join(name);
            match usable(&program) {
                Ok(true) => return Ok(Runner::Emulator(Emulator { program, platform: wanted.clone() })),
                Ok(false) => {}
                Err(reason) => rejected.push_str(&format!("; `{}` {reason}", program.display())),
            }
        }
    }
    let quoted = |list: Vec<String>| list.join(" or ");
    Err(NoRunner::NoEmulator {
        wanted: wanted.clone(),
        host,
        names: quoted(machine.emulators().iter().map(|name| format!("`{name}`")).collect()),
        looked: match directories {
            [] => "any directory (none is configured)".into(),
            some => quoted(some.iter().map(|d| d.display().to_string()).collect()),
        },
        rejected,
    })
}

/// Whether there is a program that can be an emulator: the kernel starts it inside of roots that have none of its libraries.
fn usable(program: &Path) -> Result<bool, String> {
    let mut file = match File::open(program) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(format!("cannot be read ({error})")),
    };
    let mut start = Vec::new();
    // Program headers follow the file header in every linker's output.
    file.by_ref().take(8192).read_to_end(&mut start).map_err(|error| format!("cannot be read ({error})"))?;
    match machine::is_static(&start) {
        Some(true) => Ok(true),
        Some(false) => Err("is dynamically linked; a static one is wanted".into()),
        None => Err("is no program of this machine".into()),
    }
}
