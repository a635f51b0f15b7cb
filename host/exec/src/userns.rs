//! User namespaces for plain users: one for the whole process, so that the store can write files of several owners.
//!
//! `newuidmap` must be run from outside the namespace, so a helper is forked before it is entered. Without it, or without
//! ranges in /etc/subuid, the caller alone is mapped, which needs no helper but allows only one owner.
use std::fs;
use std::io::{Read, Write};
use std::process::{Command, Stdio};

use crate::error::{ExecError, Result};
use crate::sys::{self, Forked};

/// What `enter_user_namespace` found or made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UserNamespace {
    /// Already privileged (root, or inside a user namespace with capabilities); nothing was done.
    NotNeeded,
    /// Entered; the ranges of /etc/subuid and /etc/subgid are mapped.
    Ranges,
    /// Entered with only this user mapped, as root: files cannot have other owners and steps cannot change user.
    SingleId,
}

const CAP_SYS_ADMIN: u64 = 1 << 21;

/// Whether this process can make mounts and namespaces.
pub(crate) fn is_privileged() -> bool {
    sys::capabilities().is_ok_and(|[effective, ..]| effective & CAP_SYS_ADMIN != 0)
}

/// Enters a user and a mount namespace with the whole process, in which it is root. Must be called while the process has one
/// thread (before any async runtime).
///
/// # Errors
/// `NoPrivilege` when user namespaces are forbidden.
pub fn enter_user_namespace() -> Result<UserNamespace> {
    if is_privileged() {
        return Ok(UserNamespace::NotNeeded);
    }
    let threads = fs::read_dir("/proc/self/task").map(Iterator::count).unwrap_or(1);
    if threads != 1 {
        return Err(ExecError::Unsupported(format!(
            "entering a user namespace with {threads} threads; call it before threads are started"
        )));
    }
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    let ranges = Ranges::of(uid);
    let mapped = unshare_with(move |pid| ranges.is_some_and(|ranges| ranges.apply(pid, uid, gid)))?;
    let entered = if mapped {
        UserNamespace::Ranges
    } else {
        let map = |file: &str, text: &str| {
            fs::write(format!("/proc/self/{file}"), text)
                .map_err(|error| ExecError::NoPrivilege { reason: format!("writing {file}: {error}") })
        };
        map("setgroups", "deny")?;
        map("uid_map", &format!("0 {uid} 1"))?;
        map("gid_map", &format!("0 {gid} 1"))?;
        UserNamespace::SingleId
    };
    let groups: Option<&[u32]> = mapped.then_some(&[]);
    sys::set_ids(0, 0, groups).map_err(|error| ExecError::system("becoming root of the user namespace", error))?;
    sys::unshare(libc::CLONE_NEWNS).map_err(|error| ExecError::system("making a mount namespace", error))?;
    Ok(entered)
}

/// Makes a nested user namespace that maps exactly what this one maps, and enters it. For what a namespace owns by itself
/// (binfmt_misc registrations).
pub(crate) fn enter_identical() -> Result<()> {
    let read = |file: &str| {
        let text = fs::read_to_string(format!("/proc/self/{file}"))
            .map_err(|e| ExecError::system(format!("reading {file}"), e))?;
        Ok::<_, ExecError>(identity_of(&text))
    };
    let (uids, gids) = (read("uid_map")?, read("gid_map")?);
    let mapped = unshare_with(move |pid| {
        fs::write(format!("/proc/{pid}/uid_map"), uids).is_ok()
            && fs::write(format!("/proc/{pid}/gid_map"), gids).is_ok()
    })?;
    if mapped {
        Ok(())
    } else {
        Err(ExecError::NoPrivilege { reason: "the ids of a nested user namespace could not be mapped".into() })
    }
}

/// The same inside ids on both sides.
fn identity_of(map: &str) -> String {
    let mut text = String::new();
    for line in map.lines() {
        if let [inside, _, count] = line.split_whitespace().collect::<Vec<_>>()[..] {
            text.push_str(&format!("{inside} {inside} {count}\n"));
        }
    }
    text
}

/// `unshare(CLONE_NEWUSER)` with `map` run by a helper that stayed outside; its answer.
fn unshare_with(map: impl FnOnce(u32) -> bool) -> Result<bool> {
    let pipes = || std::io::pipe().map_err(|error| ExecError::system("making a pipe", error));
    let ((go, said), target) = (pipes()?, std::process::id());
    match sys::fork_into(0).map_err(|error| ExecError::system("forking", error))? {
        Forked::Child => {
            drop(said);
            let ok = matches!((&go).read(&mut [0]), Ok(1)) && map(target);
            sys::exit_now(i32::from(!ok));
        }
        Forked::Parent(pid, _) => {
            drop(go);
            let entered = sys::unshare(libc::CLONE_NEWUSER);
            if entered.is_ok() {
                let _ = (&said).write_all(&[1]);
            }
            drop(said);
            let status = sys::wait(pid).map_err(|error| ExecError::system("waiting for the id mapper", error))?;
            entered
                .map_err(|error| ExecError::NoPrivilege { reason: format!("unshare of a user namespace: {error}") })?;
            Ok(status == 0)
        }
    }
}

/// Subordinate ids of one user.
struct Ranges {
    uids: Vec<(u32, u32)>,
    gids: Vec<(u32, u32)>,
}

impl Ranges {
    fn of(uid: u32) -> Option<Self> {
        let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
        let name = passwd.lines().find_map(|line| {
            let mut fields = line.split(':');
            let name = fields.next()?;
            (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
        });
        let read = |file: &str| subordinate(&fs::read_to_string(file).unwrap_or_default(), name.as_deref(), uid);
        let ranges = Self { uids: read("/etc/subuid"), gids: read("/etc/subgid") };
        (!ranges.uids.is_empty() && !ranges.gids.is_empty()).then_some(ranges)
    }

    fn apply(&self, pid: u32, uid: u32, gid: u32) -> bool {
        let run = |program: &str, own: u32, ranges: &[(u32, u32)]| {
            let mut command = Command::new(program);
            command.arg(pid.to_string()).args(["0".to_owned(), own.to_string(), "1".into()]);
            let mut inside = 1_u32;
            for (start, count) in ranges {
                command.args([inside.to_string(), start.to_string(), count.to_string()]);
                inside = inside.saturating_add(*count);
            }
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            command.status().is_ok_and(|status| status.success())
        };
        run("newuidmap", uid, &self.uids) && run("newgidmap", gid, &self.gids)
    }
}

/// Lines of /etc/subuid (`user:start:count`) of a user, by name or number.
fn subordinate(text: &str, name: Option<&str>, uid: u32) -> Vec<(u32, u32)> {
    let own = |who: &str| Some(who) == name || who.parse() == Ok(uid);
    text.lines()
        .filter_map(|line| match line.trim().split(':').collect::<Vec<_>>()[..] {
            [who, start, count] if own(who) => Some((start.parse().ok()?, count.parse().ok()?)),
            _ => None,
        })
        .filter(|(_, count)| *count > 0)
        .collect()
}

/// Whether this process is in a user namespace other than the machine's first. There overlayfs needs `userxattr`, so opaque
/// directories are marked with `user.overlay.opaque` instead of `trusted.overlay.opaque`.
pub fn in_user_namespace() -> bool {
    fs::read_to_string("/proc/self/uid_map").is_ok_and(|map| !map.split_whitespace().eq(["0", "0", "4294967295"]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subordinate_ids_by_name_and_number() {
        let text = "alice:100000:65536\n1000:300000:10\nbob:1:2\nalice:x:1\nalice:5:0\n";
        assert_eq!(subordinate(text, Some("alice"), 1000), [(100_000, 65536), (300_000, 10)]);
        assert_eq!(subordinate(text, None, 7), []);
    }

    #[test]
    fn nested_map_repeats_inside_ids() {
        assert_eq!(identity_of("  0  1000  1\n  1  100000  65536\n"), "0 0 1\n1 1 65536\n");
    }
}
