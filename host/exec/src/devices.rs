//! Which device nodes a sandboxed step may open: Docker's list, judged by a program on a cgroup of the step's own.
//!
//! Build files make nodes and use them: `mknod` in a tree that is then changed into with chroot, package managers with
//! `--installroot` or `--root`, debootstrap. So nodes must work, but only the harmless ones. The kernel asks the program for every
//! open and every mknod; the step is cloned into the cgroup, so that no process of it was ever outside.
//!
//! Where there is no unified hierarchy to write to, or no privilege over the machine's devices anyway (a user namespace), every mount
//! is `nodev` instead, and no node of the step's own can be opened.
use std::fs;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, openat};

use crate::cgroup::unified_directory;
use crate::step::{Security, Step};
use crate::{sys, userns};

/// What becomes of device nodes in the step's own trees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nodes {
    /// They can be opened as far as the gate lets them.
    Gated,
    /// Mounts are `nodev`.
    Closed,
    /// Nobody judges: the step is not sandboxed.
    Open,
}

impl Nodes {
    /// Flags for mounts of the step's trees.
    pub fn attributes(self) -> u64 {
        if self == Self::Closed { libc::MOUNT_ATTR_NODEV } else { 0 }
    }
}

/// A cgroup with the program on it.
pub struct Gate {
    directory: PathBuf,
    descriptor: OwnedFd,
    /// Whether it was made for this alone.
    own: bool,
}

impl Gate {
    /// Makes one; `existing` is the step's cgroup in the unified hierarchy where it has one. `None` where that cannot be had.
    pub fn make(step: &Step, existing: Option<&Path>) -> Option<Self> {
        if step.security == Security::Insecure || userns::in_user_namespace() {
            return None;
        }
        let directory = match existing {
            Some(directory) => directory.to_owned(),
            None => {
                let parent = unified_directory()?;
                remove_stale(&parent);
                let directory = parent.join(name(std::process::id()));
                fs::create_dir(&directory).ok()?;
                directory
            }
        };
        let open = || openat(CWD, &directory, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
        let made = open().map_err(std::io::Error::from).and_then(|descriptor| {
            let program = sys::load_device_program(&program())?;
            sys::attach_device_program(descriptor.as_fd(), program.as_fd())?;
            Ok(descriptor)
        });
        match made {
            Ok(descriptor) => Some(Self { directory, descriptor, own: existing.is_none() }),
            Err(_) => {
                if existing.is_none() {
                    let _ = fs::remove_dir(&directory);
                }
                None
            }
        }
    }

    /// To clone into.
    pub fn descriptor(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }

    /// Removes the cgroup; all processes in it are gone.
    pub fn remove(self) {
        drop(self.descriptor);
        if self.own {
            let _ = fs::remove_dir(&self.directory);
        }
    }
}

const PREFIX: &str = "rhost-gate-";

fn name(pid: u32) -> String {
    format!("{PREFIX}{pid}")
}

/// What supervisors left that were killed.
fn remove_stale(parent: &Path) {
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.strip_prefix(PREFIX)) else { continue };
        if pid.bytes().all(|b| b.is_ascii_digit()) && !Path::new("/proc").join(pid).exists() {
            // Refused as long as a process is in it.
            let _ = fs::remove_dir(entry.path());
        }
    }
}

/// Character devices that may be read and written: (major, minor), `None` for every minor. Terminals, the memory devices that hold
/// nothing, tun: runc's list, which Docker and BuildKit have.
const ALLOWED: [(u32, Option<u32>); 9] = [
    (1, Some(3)),
    (1, Some(5)),
    (1, Some(7)),
    (1, Some(8)),
    (1, Some(9)),
    (5, Some(0)),
    (5, Some(2)),
    (10, Some(200)),
    (136, None),
];

/// The program: mknod of everything, use of what is allowed. Answers 1 or 0 in r0.
fn program() -> Vec<u64> {
    const LOAD_WORD: u8 = 0x61;
    const SHIFT_RIGHT: u8 = 0x77;
    const AND: u8 = 0x57;
    const MOVE: u8 = 0xb7;
    const COPY: u8 = 0xbf;
    const JUMP_IF: u8 = 0x15;
    const JUMP_UNLESS: u8 = 0x55;
    const EXIT: u8 = 0x95;
    const MKNOD: u32 = 1;
    const CHARACTER: u32 = 2;
    let op = |code: u8, to: u8, from: u8, offset: i16, value: u32| {
        u64::from(code)
            | u64::from(to | from << 4) << 8
            | u64::from(offset.cast_unsigned()) << 16
            | u64::from(value) << 32
    };
    // Argument: kind in the lower and access in the upper half of the first word, then major and minor.
    let mut code = vec![
        op(LOAD_WORD, 2, 1, 0, 0),
        op(LOAD_WORD, 3, 1, 4, 0),
        op(LOAD_WORD, 4, 1, 8, 0),
        op(COPY, 5, 2, 0, 0),
        op(SHIFT_RIGHT, 5, 0, 0, 16),
        op(AND, 2, 0, 0, 0xffff),
        op(MOVE, 0, 0, 0, 1),
        op(JUMP_UNLESS, 5, 0, 1, MKNOD),
        op(EXIT, 0, 0, 0, 0),
        op(JUMP_IF, 2, 0, 2, CHARACTER),
        op(MOVE, 0, 0, 0, 0),
        op(EXIT, 0, 0, 0, 0),
    ];
    for (major, minor) in ALLOWED {
        match minor {
            Some(minor) => code.extend([op(JUMP_UNLESS, 3, 0, 2, major), op(JUMP_UNLESS, 4, 0, 1, minor)]),
            None => code.push(op(JUMP_UNLESS, 3, 0, 1, major)),
        }
        code.push(op(EXIT, 0, 0, 0, 0));
    }
    code.extend([op(MOVE, 0, 0, 0, 0), op(EXIT, 0, 0, 0, 0)]);
    code
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs the program as the kernel would.
    fn allows(kind: u32, access: u32, major: u32, minor: u32) -> bool {
        let context = [access << 16 | kind, major, minor];
        let (mut registers, mut at) = ([0_u64; 11], 0);
        let code = program();
        loop {
            let word = code[at];
            at += 1;
            let (to, from) = ((word >> 8 & 15) as usize, (word >> 12 & 15) as usize);
            let (offset, value) = (word >> 16 & 0xffff, word >> 32);
            match word as u8 {
                0x61 => registers[to] = context[offset as usize / 4].into(),
                0x77 => registers[to] >>= value,
                0x57 => registers[to] &= value,
                0xb7 => registers[to] = value,
                0xbf => registers[to] = registers[from],
                0x15 => at += if registers[to] == value { offset as usize } else { 0 },
                0x55 => at += if registers[to] != value { offset as usize } else { 0 },
                0x95 => return registers[0] == 1,
                other => panic!("instruction {other:#x}"),
            }
        }
    }

    #[test]
    fn only_harmless_devices_open_and_every_node_can_be_made() {
        let (block, character, mknod, read, write) = (1, 2, 1, 2, 4);
        for (kind, major, minor) in [(character, 1, 1), (block, 7, 0), (block, 8, 0), (character, 1, 3)] {
            assert!(allows(kind, mknod, major, minor));
        }
        for access in [read, write, read | write, mknod | read] {
            for (major, minor) in [(1, 3), (1, 5), (1, 9), (5, 0), (5, 2), (10, 200), (136, 0), (136, 77)] {
                assert!(allows(character, access, major, minor), "{major}:{minor}");
                assert!(!allows(block, access, major, minor), "block {major}:{minor}");
            }
            for (major, minor) in [(1, 1), (1, 2), (1, 4), (1, 11), (5, 1), (10, 229), (10, 232), (254, 0), (137, 0)] {
                assert!(!allows(character, access, major, minor), "{major}:{minor}");
            }
        }
    }
}
