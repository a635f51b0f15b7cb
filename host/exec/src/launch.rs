//! The last part of a container's start: limits, standard streams, filter, capabilities, ids, descriptors, `execve`.
//!
//! The filter is loaded while CAP_SYS_ADMIN is still there, so that `no_new_privs` stays off as in Docker (sudo works in steps).
use std::ffi::CString;
use std::os::fd::AsFd;

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat, openat2};
use rustix::io::Errno;

use crate::container::{Teller, c_string};
use crate::error::{ExecError, Result};
use crate::step::{MountSource, Security, Step, Ulimit};
use crate::sys;
use crate::user::Identity;

/// Docker's default capabilities: CHOWN, DAC_OVERRIDE, FOWNER, FSETID, KILL, SETGID, SETUID, SETPCAP, NET_BIND_SERVICE, NET_RAW,
/// SYS_CHROOT, MKNOD, AUDIT_WRITE, SETFCAP.
const DEFAULT_CAPABILITIES: u64 = 1
    | 1 << 1
    | 1 << 3
    | 1 << 4
    | 1 << 5
    | 1 << 6
    | 1 << 7
    | 1 << 8
    | 1 << 10
    | 1 << 13
    | 1 << 18
    | 1 << 27
    | 1 << 29
    | 1 << 31;

const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Runs the program; answers why not.
pub fn program(step: &Step, identity: &Identity, filter: &[libc::sock_filter], teller: Teller<'_>) -> ExecError {
    match become_user(step, identity, filter, teller) {
        Ok(()) => execute(step, identity).unwrap_or_else(|error| error),
        Err(error) => error,
    }
}

fn become_user(step: &Step, identity: &Identity, filter: &[libc::sock_filter], teller: Teller<'_>) -> Result<()> {
    for limit in &step.ulimits {
        apply(limit, teller)?;
    }
    let has_secrets =
        !step.secret_env.is_empty() || step.mounts.iter().any(|m| matches!(m.source, MountSource::Secret { .. }));
    if has_secrets && !step.ulimits.iter().any(|limit| limit.name == "core") {
        // A program that crashes must not write its memory into the layer.
        let (_, hard) = sys::rlimit(libc::RLIMIT_CORE as i32).map_err(|e| ExecError::system("ulimit core", e))?;
        sys::set_rlimit(libc::RLIMIT_CORE as i32, 0, hard).map_err(|e| ExecError::system("ulimit core", e))?;
    }
    streams(identity)?;
    sys::reset_signals();
    let sandboxed = step.security == Security::Sandbox;
    if sandboxed {
        sys::load_filter(filter).map_err(|e| ExecError::system("loading the seccomp filter", e))?;
        for capability in (0..64).filter(|c| DEFAULT_CAPABILITIES & 1 << c == 0) {
            // EINVAL: beyond the last one that this kernel knows.
            match sys::prctl(libc::PR_CAPBSET_DROP, capability) {
                Err(error) if error.raw_os_error() == Some(libc::EINVAL) => break,
                other => other.map_err(|e| ExecError::system("dropping capabilities", e))?,
            }
        }
    }
    let [_, all, _] = sys::capabilities().map_err(|e| ExecError::system("reading capabilities", e))?;
    if !sandboxed {
        sys::prctl(libc::PR_SET_KEEPCAPS, 1).map_err(|e| ExecError::system("keeping capabilities", e))?;
    }
    match sys::set_ids(identity.uid, identity.gid, Some(&identity.groups)) {
        Err(error) if error.raw_os_error() == Some(libc::EPERM) => {
            teller.warn("supplementary groups cannot be set where only one user is mapped (no /etc/subgid range)".into());
            sys::set_ids(identity.uid, identity.gid, None)
        }
        other => other,
    }
    .map_err(|error| ExecError::User {
        user: step.user.clone(),
        reason: format!(
            "uid {}, gid {} and groups {:?}: {error}; in a user namespace they must be mapped (ranges in /etc/subuid and /etc/subgid)",
            identity.uid, identity.gid, identity.groups
        ),
    })?;
    if sandboxed && identity.uid == 0 {
        let [_, permitted, _] = sys::capabilities().map_err(|e| ExecError::system("reading capabilities", e))?;
        sys::set_capabilities(permitted & DEFAULT_CAPABILITIES, 0)
            .map_err(|e| ExecError::system("dropping capabilities", e))?;
    }
    if !sandboxed {
        // For every user, as BuildKit: ambient ones survive the program's start.
        sys::set_capabilities(all, all).map_err(|e| ExecError::system("keeping capabilities", e))?;
        for capability in (0..64).filter(|capability| all & 1 << capability != 0) {
            sys::raise_ambient(capability).map_err(|e| ExecError::system("keeping capabilities", e))?;
        }
    }
    // Changing ids cleared it.
    sys::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as _).map_err(|e| ExecError::system("tying to the supervisor", e))
}

/// Standard input is the container's /dev/null; the output pipes belong to the step's user, who may reopen /dev/stdout.
fn streams(identity: &Identity) -> Result<()> {
    let said = |e: Errno| ExecError::system("setting up standard input", e);
    let null = openat(CWD, "/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).map_err(said)?;
    rustix::stdio::dup2_stdin(&null).map_err(said)?;
    let (uid, gid) = (rustix::fs::Uid::from_raw(identity.uid), rustix::fs::Gid::from_raw(identity.gid));
    for stream in [rustix::stdio::stdout().as_fd(), rustix::stdio::stderr().as_fd()] {
        // A refusal (id not mapped) is met again, with its reason, when the ids are set.
        let _ = rustix::fs::fchown(stream, Some(uid), Some(gid));
    }
    Ok(())
}

fn apply(limit: &Ulimit, teller: Teller<'_>) -> Result<()> {
    let resource = resource(&limit.name).ok_or_else(|| {
        ExecError::Invalid(format!("`{}` is no resource limit; wanted nofile, nproc, core, …", limit.name))
    })?;
    let value = |n: i64| u64::try_from(n).unwrap_or(u64::MAX);
    let (soft, hard) = (value(limit.soft), value(limit.hard));
    if soft > hard {
        return Err(ExecError::Invalid(format!(
            "ulimit {}: soft {} is above hard {}",
            limit.name, limit.soft, limit.hard
        )));
    }
    if sys::set_rlimit(resource, soft, hard).is_ok() {
        return Ok(());
    }
    // Raising the hard limit wants CAP_SYS_RESOURCE: as far as it goes.
    let (_, most) = sys::rlimit(resource).map_err(|e| ExecError::system(format!("ulimit {}", limit.name), e))?;
    sys::set_rlimit(resource, soft.min(most), hard.min(most))
        .map_err(|e| ExecError::system(format!("ulimit {}", limit.name), e))?;
    teller.warn(format!("ulimit {}={}:{} lowered to the host's {most}", limit.name, limit.soft, limit.hard));
    Ok(())
}

/// Numbers of `RLIMIT_*`, which amd64 and arm64 share.
fn resource(name: &str) -> Option<i32> {
    const NAMES: [&str; 16] = [
        "cpu",
        "fsize",
        "data",
        "stack",
        "core",
        "rss",
        "nproc",
        "nofile",
        "memlock",
        "as",
        "locks",
        "sigpending",
        "msgqueue",
        "nice",
        "rtprio",
        "rttime",
    ];
    NAMES.iter().position(|known| *known == name).map(|at| at as i32)
}

fn execute(step: &Step, identity: &Identity) -> Result<ExecError> {
    let args = step.args.iter().map(|text| c_string(text)).collect::<Result<Vec<_>>>()?;
    let secret = |text: &str| {
        let name = text.split('=').next().unwrap_or_default();
        step.secret_env.iter().any(|(secret, _)| secret == name)
    };
    let plain = step.env.iter().filter(|text| !secret(text));
    let mut env = plain.map(|text| c_string(text)).collect::<Result<Vec<_>>>()?;
    for (name, value) in &step.secret_env {
        let text = [name.as_bytes(), b"=", value.expose()].concat();
        env.push(CString::new(text).map_err(|_| ExecError::Invalid(format!("the secret `{name}` has a NUL byte")))?);
    }
    if !step.env.iter().any(|entry| entry.starts_with("HOME=")) {
        env.push(c_string(&format!("HOME={}", identity.home))?);
    }
    let program = step.args[0].as_str();
    let candidates: Vec<String> = if program.contains('/') {
        vec![program.to_owned()]
    } else {
        let path = step.env.iter().rev().find_map(|entry| entry.strip_prefix("PATH=")).unwrap_or(DEFAULT_PATH);
        path.split(':').map(|d| if d.is_empty() { format!("./{program}") } else { format!("{d}/{program}") }).collect()
    };
    sys::cloexec_from(3).map_err(|e| ExecError::system("closing descriptors", e))?;
    let mut refusal = None;
    for candidate in &candidates {
        // A magic link could name the executor's own binary (CVE-2019-5736).
        match openat2(
            CWD,
            candidate.as_str(),
            OFlags::PATH | OFlags::CLOEXEC,
            Mode::empty(),
            ResolveFlags::NO_MAGICLINKS,
        ) {
            Err(Errno::NOENT | Errno::NOTDIR) => continue,
            Err(Errno::LOOP) => {
                refusal.get_or_insert((126, format!("{candidate} leads through a link of /proc")));
                continue;
            }
            Err(error) => {
                refusal.get_or_insert((126, format!("{candidate}: {error}")));
                continue;
            }
            Ok(file) => {
                if rustix::fs::fstat(&file).is_ok_and(|s| rustix::fs::FileType::from_raw_mode(s.st_mode).is_dir()) {
                    refusal.get_or_insert((126, format!("{candidate} is a directory")));
                    continue;
                }
            }
        }
        let error = sys::execve(&c_string(candidate)?, &args, &env);
        let reason = match error.raw_os_error() {
            Some(libc::ENOENT) => {
                format!("{candidate}: its interpreter (the `#!` line or the dynamic loader) is not in the image")
            }
            Some(libc::ENOEXEC) => not_executable(candidate),
            _ => format!("{candidate}: {error}"),
        };
        refusal.get_or_insert((126, reason));
    }
    let (code, reason) = refusal.unwrap_or_else(|| {
        let reason = if program.contains('/') {
            "no such file in the image".to_owned()
        } else {
            "not found in PATH of the image".to_owned()
        };
        (127, reason)
    });
    Ok(ExecError::Start { program: program.to_owned(), reason, code })
}

/// Why the kernel takes a file for no program.
fn not_executable(path: &str) -> String {
    let mut start = [0; 20];
    let read = std::fs::File::open(path).and_then(|file| std::io::Read::read_exact(&mut &file, &mut start));
    match read.ok().and_then(|()| crate::emulation::name_of_program(&start)) {
        Some(architecture) => format!(
            "{path} is a program for {architecture}, which the platform of this step ({}) does not run",
            rhost_llb::Platform::host()
        ),
        None => format!("{path} is neither a program for this machine nor a script with a `#!` line"),
    }
}
