//! What the machine must have: Debian packages by name, installed with apt-get as root or through sudo.
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

/// What the demo uses, each with a file that shows it is there.
pub const DEMO_PACKAGES: &[(&str, &str)] = &[
    ("docker-registry", "/usr/bin/docker-registry"),
    ("skopeo", "/usr/bin/skopeo"),
    ("busybox-static", "/bin/busybox"),
    ("mmdebstrap", "/usr/bin/mmdebstrap"),
    ("runc", "/usr/sbin/runc"),
    ("umoci", "/usr/bin/umoci"),
    ("uidmap", "/usr/bin/newuidmap"),
];

/// What the tests use beyond a compiler and Rust.
pub const TEST_PACKAGES: &[(&str, &str)] = &[
    ("docker-registry", "/usr/bin/docker-registry"),
    ("skopeo", "/usr/bin/skopeo"),
    ("busybox-static", "/bin/busybox"),
    ("mmdebstrap", "/usr/bin/mmdebstrap"),
    ("runc", "/usr/sbin/runc"),
    ("umoci", "/usr/bin/umoci"),
    ("uidmap", "/usr/bin/newuidmap"),
    ("qemu-user-static", "/usr/bin/qemu-aarch64-static"),
    ("attr", "/usr/bin/setfattr"),
    ("libcap2-bin", "/sbin/setcap"),
    ("apache2-utils", "/usr/bin/htpasswd"),
    ("openssl", "/usr/bin/openssl"),
    ("python3", "/usr/bin/python3"),
    ("xz-utils", "/usr/bin/xz"),
    ("zstd", "/usr/bin/zstd"),
    ("git", "/usr/lib/git-core/git-http-backend"),
    ("openssh-server", "/usr/sbin/sshd"),
    ("openssh-client", "/usr/bin/ssh-agent"),
];

/// Installs what is missing of `packages`; says what it does. Needs no privilege when nothing is missing.
pub fn install(packages: &[(&str, &str)]) -> Result<()> {
    let missing: Vec<&str> =
        packages.iter().filter(|(_, file)| !std::path::Path::new(file).exists()).map(|(name, _)| *name).collect();
    if missing.is_empty() {
        return Ok(());
    }
    eprintln!("xtask: installing Debian packages: {}", missing.join(" "));
    apt(&["update", "-qq"])?;
    let mut arguments = vec!["install", "-y", "-qq", "--no-install-recommends"];
    arguments.extend(&missing);
    apt(&arguments)
}

fn apt(arguments: &[&str]) -> Result<()> {
    let root = Command::new("id").arg("-u").output().context("running `id -u`")?.stdout == b"0\n";
    let mut command = if root {
        Command::new("apt-get")
    } else {
        let mut sudo = Command::new("sudo");
        sudo.args(["--preserve-env=DEBIAN_FRONTEND", "apt-get"]);
        sudo
    };
    command.args(arguments).env("DEBIAN_FRONTEND", "noninteractive").stdin(Stdio::null()).stdout(Stdio::null());
    let status = command.status().with_context(|| format!("running {command:?}"))?;
    if !status.success() {
        bail!("{command:?} ended with {status}; install these packages yourself and run the job again");
    }
    Ok(())
}

/// Runs `command` to its end; an error names it.
pub fn run(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("running {command:?}"))?;
    ensure!(status.success(), "{command:?} ended with {status}");
    Ok(())
}
