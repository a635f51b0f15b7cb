//! Who the step runs as: `user[:group]` looked up in the image's own /etc/passwd and /etc/group.
//!
//! Both are opened inside the root, must be regular files and at most 10 MiB. Semantics are those of BuildKit: two numbers are
//! taken as they are, without supplementary groups; a user found in passwd brings its groups, but only when none was asked for.
use std::fs::File;
use std::io::Read;
use std::os::fd::BorrowedFd;

use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};

use crate::error::{ExecError, Result};

const MAX_BYTES: u64 = 10 << 20;

/// A resolved user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    pub uid: u32,
    pub gid: u32,
    /// Exactly the image user's groups, with `gid` among them.
    pub groups: Vec<u32>,
    /// Home directory.
    pub home: String,
}

/// Looks up `spec` in the root.
pub fn resolve(root: BorrowedFd<'_>, spec: &str) -> Result<Identity> {
    resolve_with(spec, |path| read_in_root(root, path))
}

fn resolve_with(spec: &str, read: impl Fn(&str) -> std::result::Result<Option<String>, String>) -> Result<Identity> {
    let refuse = |reason: String| ExecError::User { user: spec.chars().take(80).collect(), reason };
    let (user, group) = spec.split_once(':').unwrap_or((spec, ""));
    let user = if user.is_empty() { "0" } else { user };
    let number = |text: &str| match text {
        "root" => Some(0),
        _ if text.bytes().all(|b| b.is_ascii_digit()) => text.parse::<u32>().ok().filter(|id| *id != u32::MAX),
        _ => None,
    };
    let strict = |text: &str| if text.bytes().all(|b| b.is_ascii_digit()) { number(text) } else { None };
    for part in [user, group] {
        if !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit()) && number(part).is_none() {
            return Err(refuse(format!("{part} is not an id; wanted 0 to 4294967294")));
        }
    }
    let home_of = |uid: u32| if uid == 0 { "/root" } else { "/" }.to_owned();
    let passwd = read("/etc/passwd");
    if let (Some(uid), Some(gid)) = (number(user), (!group.is_empty()).then(|| number(group)).flatten()) {
        // Only the home directory is of interest, and it may be absent.
        let entry = passwd.ok().flatten().and_then(|text| find_user(&text, |_, id| id == uid));
        return Ok(Identity { uid, gid, groups: vec![gid], home: entry.map_or_else(|| home_of(uid), |e| e.home) });
    }
    let wanted_default = spec.is_empty();
    let passwd = match passwd {
        Ok(text) => text.unwrap_or_default(),
        Err(_) if wanted_default => String::new(),
        Err(reason) => return Err(refuse(reason)),
    };
    let uid = strict(user);
    let entry = find_user(&passwd, |name, id| uid.map_or(name == user, |uid| uid == id));
    let (uid, mut gid, name, home) = match (entry, uid) {
        (Some(entry), _) => (entry.uid, entry.gid, Some(entry.name), entry.home),
        (None, Some(uid)) => (uid, 0, None, home_of(uid)),
        (None, None) if user == "root" => (0, 0, None, home_of(0)),
        (None, None) => return Err(refuse("the image's /etc/passwd has no such user".into())),
    };
    let mut groups = Vec::new();
    if !group.is_empty() || name.is_some() {
        let text = match read("/etc/group") {
            Ok(text) => text.unwrap_or_default(),
            Err(_) if wanted_default => String::new(),
            Err(reason) => return Err(refuse(reason)),
        };
        if group.is_empty() {
            groups = memberships(&text, name.as_deref().unwrap_or_default());
        } else if let Some(id) = strict(group) {
            gid = id;
        } else {
            gid = find_group(&text, group)
                .or_else(|| (group == "root").then_some(0))
                .ok_or_else(|| refuse(format!("the image's /etc/group has no group `{group}`")))?;
        }
    }
    if !groups.contains(&gid) {
        groups.insert(0, gid);
    }
    Ok(Identity { uid, gid, groups, home: if home.is_empty() { "/".into() } else { home } })
}

struct Entry {
    name: String,
    uid: u32,
    gid: u32,
    home: String,
}

fn find_user(text: &str, wanted: impl Fn(&str, u32) -> bool) -> Option<Entry> {
    text.lines().find_map(|line| {
        let fields: Vec<&str> = line.trim().split(':').collect();
        let [name, _, uid, gid, ..] = fields[..] else { return None };
        let (uid, gid) = (uid.parse().ok()?, gid.parse().ok()?);
        wanted(name, uid).then(|| Entry { name: name.into(), uid, gid, home: (*fields.get(5).unwrap_or(&"")).into() })
    })
}

fn find_group(text: &str, wanted: &str) -> Option<u32> {
    text.lines().find_map(|line| match line.trim().split(':').collect::<Vec<_>>()[..] {
        [name, _, gid, ..] if name == wanted => gid.parse().ok(),
        _ => None,
    })
}

fn memberships(text: &str, user: &str) -> Vec<u32> {
    text.lines()
        .filter_map(|line| match line.trim().split(':').collect::<Vec<_>>()[..] {
            [_, _, gid, members, ..] if members.split(',').any(|member| member == user) => gid.parse().ok(),
            _ => None,
        })
        .collect()
}

/// `Ok(None)` when there is no such file; the reason when there is something else than a fitting one.
fn read_in_root(root: BorrowedFd<'_>, path: &str) -> std::result::Result<Option<String>, String> {
    // Non-blocking: a fifo must not stop us before its type was seen.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let fd = match openat2(root, path, flags, Mode::empty(), ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS) {
        Ok(fd) => fd,
        Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => return Ok(None),
        Err(error) => return Err(format!("{path}: {error}")),
    };
    let file = File::from(fd);
    let meta = file.metadata().map_err(|error| format!("{path}: {error}"))?;
    if !meta.is_file() {
        return Err(format!("{path} of the image is not a regular file"));
    }
    let mut bytes = Vec::new();
    file.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(|error| format!("{path}: {error}"))?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(format!("{path} of the image is larger than 10 MiB"));
    }
    Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str =
        "root:x:0:0:root:/root:/bin/sh\n# c\nbroken\napp:x:1000:1001:App:/home/app:/bin/sh\napp:x:5:5::/x:\n";
    const GROUP: &str = "root:x:0:root\nwheel:x:10:root,app\napp:x:1001:\nbad\naudio:x:29:app\nmapp:x:30:mapp\n";

    fn check(spec: &str) -> (u32, u32, Vec<u32>, String) {
        let read = |path: &str| Ok(Some(if path.ends_with("passwd") { PASSWD } else { GROUP }.to_owned()));
        let id = resolve_with(spec, read).unwrap();
        (id.uid, id.gid, id.groups, id.home)
    }

    #[test]
    fn forms() {
        assert_eq!(check(""), (0, 0, vec![0, 10], "/root".into()));
        assert_eq!(check("root"), (0, 0, vec![0, 10], "/root".into()));
        assert_eq!(check("app"), (1000, 1001, vec![1001, 10, 29], "/home/app".into()));
        assert_eq!(check("1000"), (1000, 1001, vec![1001, 10, 29], "/home/app".into()));
        assert_eq!(check("app:wheel"), (1000, 10, vec![10], "/home/app".into()));
        assert_eq!(check("app:77"), (1000, 77, vec![77], "/home/app".into()));
        assert_eq!(check("1000:77"), (1000, 77, vec![77], "/home/app".into()));
        assert_eq!(check("4242"), (4242, 0, vec![0], "/".into()));
    }

    #[test]
    fn refusals() {
        let none = |_: &str| Ok(None);
        for spec in ["nobody-here", "app:nogroup", "4294967295", "99999999999", "0:4294967295", "-1"] {
            assert!(matches!(resolve_with(spec, none), Err(ExecError::User { .. })), "{spec}");
        }
        assert_eq!(resolve_with("root", none).unwrap().uid, 0);
        let bad = |_: &str| Err("too large".to_owned());
        assert!(resolve_with("app", bad).is_err());
        assert_eq!(resolve_with("", bad).unwrap().uid, 0);
    }
}
