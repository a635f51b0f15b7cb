//! What ELF says about architectures: header magic for binfmt_misc, names of QEMU's programs, and for each the smallest program.
//!
//! Numbers are facts of the ELF supplements and the kernel's system call tables.
use std::path::Path;

use rhost_llb::Platform;

/// One architecture as ELF sees it.
#[derive(Clone, Copy, Debug)]
pub struct Machine {
    /// OCI's name.
    architecture: &'static str,
    wide: bool,
    big: bool,
    /// `e_machine`.
    number: u16,
    /// `e_flags` of its usual ABI.
    flags: u32,
    /// QEMU's name.
    qemu: [&'static str; 2],
    /// `exit(0)` in machine code.
    exit: &'static [u8],
}

macro_rules! machines {
    ($($architecture:literal $wide:literal $big:literal $number:literal $flags:literal $qemu:literal $exit:expr;)*) => {
        &[$(Machine {
            architecture: $architecture, wide: $wide, big: $big, number: $number, flags: $flags,
            qemu: [concat!("qemu-", $qemu, "-static"), concat!("qemu-", $qemu)], exit: $exit,
        }),*]
    };
}

const MACHINES: &[Machine] = machines! {
    "amd64" true false 0x3e 0 "x86_64" b"\x31\xff\xb8\x3c\0\0\0\x0f\x05";
    "386" false false 0x03 0 "i386" b"\x31\xdb\xb8\x01\0\0\0\xcd\x80";
    "arm64" true false 0xb7 0 "aarch64" b"\0\0\x80\xd2\xa8\x0b\x80\xd2\x01\0\0\xd4";
    "arm" false false 0x28 0x0500_0000 "arm" b"\0\0\xa0\xe3\x01\x70\xa0\xe3\0\0\0\xef";
    "riscv64" true false 0xf3 0 "riscv64" b"\x13\x05\0\0\x93\x08\xd0\x05\x73\0\0\0";
    "ppc64le" true false 0x15 2 "ppc64le" b"\x01\0\0\x38\0\0\x60\x38\x02\0\0\x44";
    "s390x" true true 0x16 0 "s390x" b"\xa7\x29\0\0\x0a\x01\0\0";
    "mips64le" true false 0x08 0x8000_0007 "mips64el" b"\xc2\x13\x02\x24\0\0\x04\x24\x0c\0\0\0";
    "loong64" true false 0x102 3 "loongarch64" b"\x04\0\x80\x03\x0b\x74\x81\x03\0\0\x2b\0";
};

impl Machine {
    /// The machine of a platform's architecture.
    pub fn of(platform: &Platform) -> Option<Self> {
        MACHINES.iter().find(|machine| machine.architecture == platform.architecture).copied()
    }

    /// File names of its emulator: Debian up to 12 and Fedora mark the static one, Debian from 13 has only static ones.
    pub fn emulators(&self) -> &[&'static str] {
        &self.qemu
    }

    fn half(&self, value: u16) -> [u8; 2] {
        if self.big { value.to_be_bytes() } else { value.to_le_bytes() }
    }

    fn word(&self, value: u32) -> [u8; 4] {
        if self.big { value.to_be_bytes() } else { value.to_le_bytes() }
    }

    /// A number of the class's width.
    fn address(&self, value: u32) -> Vec<u8> {
        match (self.wide, self.big) {
            (false, _) => self.word(value).to_vec(),
            (true, false) => u64::from(value).to_le_bytes().to_vec(),
            (true, true) => u64::from(value).to_be_bytes().to_vec(),
        }
    }

    /// The header's first 20 bytes and which bits of them count: not the OS ABI, and ET_EXEC as ET_DYN.
    pub fn magic(&self) -> ([u8; 20], [u8; 20]) {
        let (mut magic, mut mask) = ([0; 20], [0xff; 20]);
        magic[..7].copy_from_slice(&[0x7f, b'E', b'L', b'F', 1 + u8::from(self.wide), 1 + u8::from(self.big), 1]);
        mask[7] = 0;
        magic[16..18].copy_from_slice(&self.half(2));
        mask[if self.big { 17 } else { 16 }] = 0xfe;
        magic[18..].copy_from_slice(&self.half(self.number));
        (magic, mask)
    }

    /// The smallest program: it exits with 0.
    pub fn program(&self) -> Vec<u8> {
        const BASE: u32 = 0x40_0000;
        let (header, entry) = if self.wide { (64_u16, 56_u16) } else { (52, 32) };
        let start = u32::from(header + entry);
        let size = start + self.exit.len() as u32;
        let mut elf = self.magic().0.to_vec();
        elf.extend(self.word(1));
        elf.extend(self.address(BASE + start));
        elf.extend(self.address(header.into()));
        elf.extend(self.address(0));
        elf.extend(self.word(self.flags));
        for value in [header, entry, 1, 0, 0, 0] {
            elf.extend(self.half(value));
        }
        // One segment to load, readable and executable; its flags stand second in 64-bit files and seventh in others.
        elf.extend(self.word(1));
        if self.wide {
            elf.extend(self.word(5));
        }
        for value in [0, BASE, BASE, size, size] {
            elf.extend(self.address(value));
        }
        if !self.wide {
            elf.extend(self.word(5));
        }
        elf.extend(self.address(0x1000));
        elf.extend(self.exit);
        elf
    }
}

/// Whether the start of a file is a program of this machine that needs no dynamic loader; `None` when it is no such program.
pub fn is_static(start: &[u8]) -> Option<bool> {
    let own = Machine::of(&Platform::host())?;
    if !is_of(&own, start) {
        return None;
    }
    const INTERPRETER: u32 = 3;
    let at = |offset: usize, len: usize| {
        let bytes = start.get(offset..offset + len)?;
        let fold = |sum: u64, byte: &u8| sum << 8 | u64::from(*byte);
        let value = if own.big { bytes.iter().fold(0, fold) } else { bytes.iter().rev().fold(0, fold) };
        usize::try_from(value).ok()
    };
    let (table, size, count) =
        if own.wide { (at(32, 8)?, at(54, 2)?, at(56, 2)?) } else { (at(28, 4)?, at(42, 2)?, at(44, 2)?) };
    let mut kinds = (0..count).map(|index| at(table.checked_add(index * size)?, 4));
    Some(!kinds.any(|kind| kind == Some(INTERPRETER as usize)))
}

fn is_of(machine: &Machine, start: &[u8]) -> bool {
    let (magic, mask) = machine.magic();
    start.len() >= 20 && (0..20).all(|at| start[at] & mask[at] == magic[at] & mask[at])
}

/// The architecture that the start of a file is a program for.
pub fn name_of_program(start: &[u8]) -> Option<&'static str> {
    MACHINES.iter().find(|machine| is_of(machine, start)).map(|machine| machine.architecture)
}

/// A registration for binfmt_misc. Flags: P keeps `argv[0]`, O hands the program over as a descriptor, C keeps set-user-ID programs
/// working, F opens the emulator now, so that nothing of it has to exist in any root. `None` when the path cannot be written in one.
pub fn rule(machine: &Machine, program: &Path) -> Option<String> {
    // The whole line has at most 1920 bytes, the path at most 127.
    let path =
        program.to_str().filter(|path| path.starts_with('/') && !path.contains([':', '\n']) && path.len() < 120)?;
    let (magic, mask) = machine.magic();
    let hex = |bytes: [u8; 20]| bytes.iter().map(|b| format!("\\x{b:02x}")).collect::<String>();
    Some(format!(":{}:M:0:{}:{}:{path}:POCF", entry(machine), hex(magic), hex(mask)))
}

/// The name under which rhost registers.
pub fn entry(machine: &Machine) -> String {
    format!("rhost-{}", machine.architecture)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_recognised_and_rules_are_as_qemu_publishes_them() {
        for machine in MACHINES {
            let program = machine.program();
            assert_eq!(name_of_program(&program), Some(machine.architecture));
            let (entry, bytes) = if machine.wide { (24, 8) } else { (24, 4) };
            let read = |at: usize, len: usize| {
                let part = program[at..at + len].iter();
                let fold = |sum: u64, b: &u8| sum << 8 | u64::from(*b);
                if machine.big { part.fold(0, fold) } else { part.rev().fold(0, fold) }
            };
            let start = (read(entry, bytes) - 0x40_0000) as usize;
            assert_eq!(&program[start..], machine.exit, "{}: entry point", machine.architecture);
        }
        let arm64 = Machine::of(&"linux/arm64".parse().expect("a platform")).expect("known");
        assert_eq!(
            rule(&arm64, Path::new("/q")).expect("a rule"),
            ":rhost-arm64:M:0:\\x7f\\x45\\x4c\\x46\\x02\\x01\\x01\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x02\\x00\\xb7\\x00:\
             \\xff\\xff\\xff\\xff\\xff\\xff\\xff\\x00\\xff\\xff\\xff\\xff\\xff\\xff\\xff\\xff\\xfe\\xff\\xff\\xff:/q:POCF"
        );
        for bad in ["q", "/a:b", "/a\nb", &format!("/{}", "x".repeat(200))] {
            assert_eq!(rule(&arm64, Path::new(bad)), None, "{bad}");
        }
    }

    #[test]
    fn static_and_dynamic_programs_differ() {
        let own = Machine::of(&Platform::host()).expect("known");
        assert_eq!(is_static(&own.program()), Some(true));
        let mut dynamic = own.program();
        let at = if own.wide { 64 } else { 52 };
        dynamic[at] = 3;
        assert_eq!(is_static(&dynamic), Some(false));
        let other = MACHINES.iter().find(|m| m.number != own.number).expect("another");
        assert_eq!(is_static(&other.program()), None);
        for len in 0..dynamic.len() {
            let _ = is_static(&dynamic[..len]);
        }
        assert_eq!(is_static(b"#!/bin/sh\n"), None);
    }
}
