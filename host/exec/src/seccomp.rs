//! The sandbox's system call filter: Docker's default profile for Docker's default capabilities, as classic BPF.
//!
//! One filter serves all the instruction sets that the machine runs (amd64 with x32 and i386, arm64 with arm): a 32-bit program
//! in an image must work, and must not be a way around. Numbers and the choice of calls are facts from the kernel's tables and
//! the published profile (`seccomp/syscalls.txt`); lookups are a binary search over runs of equal verdicts.
//!
//! Calls newer than the table answer ENOSYS, so that a libc falls back; refused ones answer EPERM.
use libc::sock_filter;

const TABLE: &str = include_str!("seccomp/syscalls.txt");

const LD: u16 = 0x20;
const JEQ: u16 = 0x15;
const JGE: u16 = 0x35;
const JSET: u16 = 0x45;
const JA: u16 = 0x05;
const RET: u16 = 0x06;

const ALLOW: u32 = 0x7fff_0000;
const ERRNO: u32 = 0x0005_0000;
const KILL_PROCESS: u32 = 0x8000_0000;
const EPERM: u32 = ERRNO | libc::EPERM as u32;
const ENOSYS: u32 = ERRNO | libc::ENOSYS as u32;

const NR: u32 = 0;
const ARCH: u32 = 4;
const ARG0_LOW: u32 = 16;
const ARG0_HIGH: u32 = 20;

const X32_BIT: u32 = 0x4000_0000;
/// CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID and NEWNET.
const NEW_NAMESPACES: u32 = 0x7e02_0000;

/// Verdict for one call number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Verdict {
    Return(u32),
    /// All but AF_ALG and AF_VSOCK.
    Socket,
    /// The five personalities that programs ask for.
    Personality,
    /// Without new namespaces.
    Clone,
}

/// Where a table's column applies.
struct Abi {
    /// AUDIT_ARCH_*.
    audit: u32,
    /// Index of the column in the table.
    column: usize,
    /// Column for numbers with the x32 bit.
    x32: Option<usize>,
}

const AMD64: &[Abi] =
    &[Abi { audit: 0xc000_003e, column: 0, x32: Some(1) }, Abi { audit: 0x4000_0003, column: 2, x32: None }];
const ARM64: &[Abi] =
    &[Abi { audit: 0xc000_00b7, column: 3, x32: None }, Abi { audit: 0x4000_0028, column: 4, x32: None }];

/// The filter for this machine; `None` where no table for its architecture exists.
pub fn sandbox_filter() -> Option<Vec<sock_filter>> {
    filter_for(std::env::consts::ARCH)
}

fn filter_for(architecture: &str) -> Option<Vec<sock_filter>> {
    let abis = match architecture {
        "x86_64" => AMD64,
        "aarch64" => ARM64,
        _ => return None,
    };
    let mut code = vec![op(LD, ARCH)];
    for abi in abis {
        let mut body = vec![op(LD, NR)];
        let native = search(&runs(abi.column));
        if let Some(column) = abi.x32 {
            body.extend([jump(JGE, X32_BIT, 0, 1), op(JA, native.len() as u32)]);
            body.extend(native);
            // x32 numbers carry the bit; they are shared with amd64 below it.
            body.extend(search(&runs(column).into_iter().map(|(start, v)| (start | X32_BIT, v)).collect::<Vec<_>>()));
        } else {
            body.extend(native);
        }
        code.extend([jump(JEQ, abi.audit, 1, 0), op(JA, body.len() as u32)]);
        code.extend(body);
    }
    code.push(op(RET, KILL_PROCESS));
    Some(code)
}

fn op(code: u16, k: u32) -> sock_filter {
    sock_filter { code, jt: 0, jf: 0, k }
}

fn jump(code: u16, k: u32, jt: u8, jf: u8) -> sock_filter {
    sock_filter { code, jt, jf, k }
}

/// Runs of numbers with one verdict: (first number, verdict), ascending from 0. The last one is ENOSYS without end.
fn runs(column: usize) -> Vec<(u32, Verdict)> {
    let mut calls: Vec<(u32, Verdict)> = TABLE
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| {
            let mut fields = line.split(' ');
            let name = fields.next()?;
            let number = fields.nth(column)?.parse().ok()?;
            Some((number, verdict(name)))
        })
        .collect();
    calls.sort_unstable_by_key(|(number, _)| *number);
    let mut runs: Vec<(u32, Verdict)> = vec![];
    let mut next = 0;
    let mut add = |start, verdict| {
        if runs.last().is_none_or(|(_, last)| *last != verdict) {
            runs.push((start, verdict));
        }
    };
    for (number, verdict) in calls {
        if number > next {
            add(next, Verdict::Return(EPERM));
        }
        add(number, verdict);
        next = number + 1;
    }
    add(next, Verdict::Return(ENOSYS));
    runs
}

fn verdict(name: &str) -> Verdict {
    match name {
        "socket" => Verdict::Socket,
        "personality" => Verdict::Personality,
        "clone" => Verdict::Clone,
        "clone3" => Verdict::Return(ENOSYS),
        _ => Verdict::Return(ALLOW),
    }
}

/// A binary search tree over the runs, with the number in the accumulator.
fn search(runs: &[(u32, Verdict)]) -> Vec<sock_filter> {
    if let [(_, verdict)] = runs {
        return decide(*verdict);
    }
    let (low, high) = runs.split_at(runs.len() / 2);
    let (low, high_code) = (search(low), search(high));
    // Conditional jumps reach 255 instructions, plain ones any distance.
    let mut code = vec![jump(JGE, high[0].0, 0, 1), op(JA, low.len() as u32)];
    code.extend(low);
    code.extend(high_code);
    code
}

fn decide(verdict: Verdict) -> Vec<sock_filter> {
    match verdict {
        Verdict::Return(value) => vec![op(RET, value)],
        // The kernel takes an int: the upper half of the argument is not looked at, there and here.
        Verdict::Socket => vec![
            op(LD, ARG0_LOW),
            jump(JEQ, libc::AF_ALG as u32, 2, 0),
            jump(JEQ, libc::AF_VSOCK as u32, 1, 0),
            op(RET, ALLOW),
            op(RET, EPERM),
        ],
        Verdict::Clone => vec![op(LD, ARG0_LOW), jump(JSET, NEW_NAMESPACES, 1, 0), op(RET, ALLOW), op(RET, EPERM)],
        Verdict::Personality => vec![
            op(LD, ARG0_HIGH),
            jump(JEQ, 0, 0, 6),
            op(LD, ARG0_LOW),
            jump(JEQ, 0, 5, 0),
            jump(JEQ, 8, 4, 0),
            jump(JEQ, 0x2_0000, 3, 0),
            jump(JEQ, 0x2_0008, 2, 0),
            jump(JEQ, u32::MAX, 1, 0),
            op(RET, EPERM),
            op(RET, ALLOW),
        ],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs the filter as the kernel would.
    fn verdict_of(filter: &[sock_filter], arch: u32, nr: u32, arg0: u64) -> u32 {
        let (mut at, mut acc) = (0, 0);
        loop {
            let i = filter[at];
            at += 1;
            let mut branch = |yes: bool| at += usize::from(if yes { i.jt } else { i.jf });
            match i.code {
                LD => {
                    acc = match i.k {
                        NR => nr,
                        ARCH => arch,
                        ARG0_LOW => arg0 as u32,
                        ARG0_HIGH => (arg0 >> 32) as u32,
                        other => panic!("load of {other}"),
                    }
                }
                JEQ => branch(acc == i.k),
                JGE => branch(acc >= i.k),
                JSET => branch(acc & i.k != 0),
                JA => at += i.k as usize,
                RET => return i.k,
                other => panic!("instruction {other:#x}"),
            }
        }
    }

    #[test]
    fn every_row_of_the_table_is_found_on_every_abi() {
        for (name, abis) in [("x86_64", AMD64), ("aarch64", ARM64)] {
            let filter = filter_for(name).unwrap();
            assert!(filter.len() < 4096, "{} instructions", filter.len());
            for line in TABLE.lines().filter(|line| !line.starts_with('#')) {
                let fields: Vec<&str> = line.split(' ').collect();
                if matches!(fields[0], "clone3" | "socket" | "personality" | "clone") {
                    continue;
                }
                for abi in abis {
                    if let Ok(nr) = fields[1 + abi.column].parse() {
                        assert_eq!(verdict_of(&filter, abi.audit, nr, 0), ALLOW, "{line}");
                    }
                    if let Some(Ok(nr)) = abi.x32.map(|column| fields[1 + column].parse::<u32>()) {
                        assert_eq!(verdict_of(&filter, abi.audit, nr | X32_BIT, 0), ALLOW, "x32 {line}");
                    }
                }
            }
        }
    }

    #[test]
    fn refusals() {
        let filter = filter_for("x86_64").unwrap();
        let amd64 = |nr, arg| verdict_of(&filter, 0xc000_003e, nr, arg);
        for (what, nr) in
            [("mount", 165), ("unshare", 272), ("setns", 308), ("bpf", 321), ("keyctl", 250), ("kexec_load", 246)]
        {
            assert_eq!(amd64(nr, 0), EPERM, "{what}");
            assert_eq!(amd64(nr | X32_BIT, 0), EPERM, "x32 {what}");
        }
        assert_eq!(verdict_of(&filter, 0x4000_0003, 21, 0), EPERM, "mount on i386");
        assert_eq!(amd64(100_000, 0), ENOSYS);
        assert_eq!(amd64(435, 0), ENOSYS, "clone3");
        assert_eq!(verdict_of(&filter, 0xc000_00b7, 0, 0), KILL_PROCESS, "another machine's calls");
    }

    #[test]
    fn arguments() {
        let filter = filter_for("x86_64").unwrap();
        let amd64 = |nr, arg| verdict_of(&filter, 0xc000_003e, nr, arg);
        assert_eq!(amd64(41, 2), ALLOW, "AF_INET");
        for family in [38_u64, 40] {
            assert_eq!(amd64(41, family), EPERM);
            assert_eq!(amd64(41, family | 1 << 32), EPERM, "the kernel ignores the upper half");
        }
        assert_eq!(amd64(41, 39), ALLOW);
        assert_eq!(amd64(56, 0x0120_0011), ALLOW, "fork");
        assert_eq!(amd64(56, 0x1000_0000), EPERM, "a user namespace");
        for persona in [0_u64, 8, 0x2_0000, 0x2_0008, 0xffff_ffff] {
            assert_eq!(amd64(135, persona), ALLOW);
        }
        assert_eq!(amd64(135, 0x40000), EPERM);
        assert_eq!(amd64(135, 1 << 32), EPERM);
    }
}
