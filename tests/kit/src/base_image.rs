//! Base images from Debian packages: `busybox` (amd64, arm64), `busybox_everywhere` (and five more), and `debian` with a C compiler (this machine's architecture).
//!
//! No image registry is needed to test, only a Debian mirror, once. Packages of another architecture are fetched with
//! apt's own machinery in private directories: the machine's package state is not touched.
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::json;

use crate::cache::cached;
use crate::layout::{Platform, write_layout};

/// An image on disk: an OCI layout with one tag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// The layout's directory. Shared between tests and runs: not to be written to.
    pub layout: PathBuf,
    /// The tag inside it.
    pub tag: &'static str,
}

const TAG: &str = "latest";
const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Debian's busybox-static with all applets as links, `/etc/passwd`, `/etc/group`, `/tmp` 1777; an index of linux/amd64
/// and linux/arm64.
///
/// # Errors
/// When packages cannot be fetched; the message has the tool's own words.
pub fn busybox() -> Result<Image> {
    busybox_of("busybox-v1", &[("amd64", "", "amd64", Suite::Machine), ("arm64", "", "arm64", Suite::Machine)])
}

/// [`busybox`] for every platform that Debian is made for and rhost emulates: linux/amd64, arm64, arm/v7, 386, riscv64, ppc64le
/// and s390x.
///
/// # Errors
/// As [`busybox`].
pub fn busybox_everywhere() -> Result<Image> {
    // The release alone: mirrors of its security suite lag behind for the lesser ports.
    let own = Suite::Named(codename()?);
    busybox_of(
        "busybox-everywhere-v1",
        &[
            ("amd64", "", "amd64", own.clone()),
            ("arm64", "", "arm64", own.clone()),
            ("arm", "v7", "armhf", own.clone()),
            ("386", "", "i386", own.clone()),
            // An official port only since Debian 13.
            ("riscv64", "", "riscv64", Suite::Named("trixie".into())),
            ("ppc64le", "", "ppc64el", own.clone()),
            ("s390x", "", "s390x", own),
        ],
    )
}

/// Which Debian a package comes from.
#[derive(Clone)]
enum Suite {
    /// This machine's, with all of its sources.
    Machine,
    /// Only the main archive of this one, from the same mirror.
    Named(String),
}

/// Busybox for (architecture, variant, Debian's name for it, suite).
fn busybox_of(recipe: &str, wanted: &[(&str, &str, &str, Suite)]) -> Result<Image> {
    let layout = cached(&format!("{recipe}-debian{}", debian_version()?), |to| {
        let scratch = tempfile::tempdir()?;
        let mut tars = Vec::new();
        for (architecture, variant, debian, suite) in wanted {
            let deb = download("busybox-static", debian, suite, &scratch.path().join(debian))?;
            let root = scratch.path().join(format!("{debian}-root"));
            let tar = scratch.path().join(format!("{debian}.tar"));
            busybox_root(&deb, &root)?;
            pack(&root, &tar)?;
            tars.push((architecture, variant, tar));
        }
        let config = json!({"Env": [PATH], "Cmd": ["sh"]});
        let platform = |(architecture, variant, tar)| Platform { architecture, variant, tar, config: config.clone() };
        write_layout(to, TAG, &tars.iter().map(|(a, v, tar)| platform((*a, *v, tar))).collect::<Vec<_>>())
    })?;
    Ok(Image { layout, tag: TAG })
}

/// Debian with apt, gcc, libc6-dev and make, for this machine's architecture (in an index of one).
///
/// # Errors
/// When `mmdebstrap` fails; the message has its own words.
pub fn debian() -> Result<Image> {
    let architecture = output(Command::new("dpkg").arg("--print-architecture"))?.trim().to_owned();
    let layout = cached(&format!("debian-v1-debian{}-{architecture}", debian_version()?), |to| {
        let scratch = tempfile::tempdir()?;
        let tar = scratch.path().join("debian.tar");
        let mut command = mmdebstrap()?;
        command
            .args(["--variant=apt", "--include=gcc,libc6-dev,make"])
            .args(["--dpkgopt=path-exclude=/usr/share/doc/*", "--dpkgopt=path-exclude=/usr/share/man/*"])
            .arg("--dpkgopt=path-exclude=/usr/share/locale/*")
            .arg(codename()?)
            .arg(&tar);
        output(&mut command)?;
        let config = json!({"Env": [PATH], "Cmd": ["bash"]});
        write_layout(to, TAG, &[Platform { architecture: &architecture, variant: "", tar: &tar, config }])
    })?;
    Ok(Image { layout, tag: TAG })
}

/// mmdebstrap: it must be root for a moment, in a user namespace of its own where the user has subordinate ids, else through sudo.
fn mmdebstrap() -> Result<Command> {
    const EPOCH: &str = "SOURCE_DATE_EPOCH=1735689600";
    let mut command = if crate::is_root() || has_subordinate_ids()? {
        Command::new("env")
    } else {
        eprintln!("kit: no range for this user in /etc/subuid: mmdebstrap runs through sudo");
        let mut sudo = Command::new("sudo");
        sudo.arg("env");
        sudo
    };
    command.args([EPOCH, "mmdebstrap"]);
    Ok(command)
}

/// Whether /etc/subuid has a range for this user, by name or by number.
pub(crate) fn has_subordinate_ids() -> Result<bool> {
    let id = |flag| output(Command::new("id").arg(flag));
    let (name, number) = (id("-un").unwrap_or_default(), id("-u")?);
    let ranges = fs::read_to_string("/etc/subuid").unwrap_or_default();
    let owners = ranges.lines().filter_map(|line| line.split(':').next());
    Ok(owners.into_iter().any(|owner| owner == name.trim() || owner == number.trim()))
}

/// Downloads the newest `package` of `architecture` into the new directory `dir`.
fn download(package: &str, architecture: &str, suite: &Suite, dir: &Path) -> Result<PathBuf> {
    for sub in ["state/lists/partial", "cache/archives/partial", "deb"] {
        fs::create_dir_all(dir.join(sub))?;
    }
    let sources = dir.join("sources.list");
    if let Suite::Named(name) = suite {
        fs::write(&sources, format!("deb {} {name} main\n", mirror()?))?;
    }
    let apt = |args: &[&str]| {
        let mut command = Command::new("apt-get");
        if let Suite::Named(_) = suite {
            command.args(["-o", &format!("Dir::Etc::SourceList={}", sources.display())]);
            command.args(["-o", "Dir::Etc::SourceParts=/dev/null"]);
        }
        command.current_dir(dir.join("deb")).arg("-qq");
        for option in [
            format!("Dir::State={}", dir.join("state").display()),
            format!("Dir::Cache={}", dir.join("cache").display()),
            "Dir::State::status=/dev/null".into(),
            format!("APT::Architecture={architecture}"),
            format!("APT::Architectures={architecture}"),
            "APT::Sandbox::User=".into(),
            "Acquire::Languages=none".into(),
            "Acquire::Retries=3".into(),
        ] {
            command.args(["-o", &option]);
        }
        output(command.args(args))
    };
    apt(&["update"])?;
    apt(&["download", package])?;
    let entry = fs::read_dir(dir.join("deb"))?.next().with_context(|| format!("apt-get downloaded no `{package}`"))?;
    Ok(entry?.path())
}

/// Where this machine has its own packages from.
fn mirror() -> Result<String> {
    let list = output(Command::new("apt-get").args(["indextargets", "--format", "$(REPO_URI) $(RELEASE)"]))?;
    let own = codename()?;
    let found = list.lines().filter_map(|line| line.split_once(' ')).find(|(_, release)| *release == own);
    Ok(found.with_context(|| format!("apt has no source for `{own}`"))?.0.to_owned())
}

fn busybox_root(deb: &Path, root: &Path) -> Result<()> {
    let unpacked = root.with_extension("deb-root");
    output(Command::new("dpkg-deb").arg("-x").arg(deb).arg(&unpacked))?;
    for dir in ["bin", "dev", "etc", "home", "proc", "root", "sbin", "sys", "tmp", "usr/bin", "usr/sbin", "var/tmp"] {
        fs::create_dir_all(root.join(dir))?;
    }
    let busybox = root.join("bin/busybox");
    // Debian 13 moved it.
    let places = ["bin/busybox", "usr/bin/busybox"].map(|place| unpacked.join(place));
    let found = places.iter().find(|place| place.is_file()).context("the package has no busybox")?;
    fs::copy(found, &busybox)?;
    fs::set_permissions(&busybox, fs::Permissions::from_mode(0o755))?;
    for dir in ["tmp", "var/tmp"] {
        fs::set_permissions(root.join(dir), fs::Permissions::from_mode(0o1777))?;
    }
    fs::set_permissions(root.join("root"), fs::Permissions::from_mode(0o700))?;
    for applet in applets()? {
        let (dir, name) = applet.rsplit_once('/').unwrap_or(("bin", &applet));
        // Only plain names in the four directories: the list comes from a program.
        if matches!(dir, "bin" | "sbin" | "usr/bin" | "usr/sbin") && name != "busybox" && !name.is_empty() {
            symlink("/bin/busybox", root.join(dir).join(name))?;
        }
    }
    fs::write(root.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n")?;
    fs::write(root.join("etc/group"), "root:x:0:\ntty:x:5:\nnogroup:x:65534:\n")?;
    Ok(())
}

/// The applets of Debian's busybox with their directories: the same for every architecture of one version.
fn applets() -> Result<Vec<String>> {
    let list = output(Command::new("busybox").arg("--list-full")).context("busybox-static must be installed")?;
    Ok(list.lines().map(|line| line.trim().to_owned()).filter(|line| !line.is_empty()).collect())
}

/// A tar of `root` that depends on its contents only, all owned by root.
fn pack(root: &Path, tar: &Path) -> Result<()> {
    let mut command = Command::new("tar");
    command.args(["--sort=name", "--mtime=@1735689600", "--owner=0", "--group=0", "--numeric-owner", "--format=pax"]);
    command.args(["--pax-option=exthdr.name=%d/PaxHeaders/%f,delete=atime,delete=ctime,delete=mtime", "-C"]);
    output(command.arg(root).arg("-cf").arg(tar).arg("."))?;
    Ok(())
}

/// `12.11`: what the caches are keyed by.
fn debian_version() -> Result<String> {
    let text =
        fs::read_to_string("/etc/debian_version").context("base images are made from Debian packages, on Debian")?;
    let version: String =
        text.trim().chars().map(|c| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' }).collect();
    ensure!(!version.is_empty(), "/etc/debian_version is empty");
    Ok(version)
}

fn codename() -> Result<String> {
    let text = fs::read_to_string("/etc/os-release")?;
    let line = text.lines().find_map(|line| line.strip_prefix("VERSION_CODENAME="));
    Ok(line.context("/etc/os-release has no VERSION_CODENAME")?.trim_matches('"').to_owned())
}

/// Standard output of a command that must succeed; its standard error is in the message if it does not.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let out = command.output().with_context(|| format!("running `{program}` (`cargo xtask setup` installs it)"))?;
    if !out.status.success() {
        let stderr = String::from_utf8_lossy(&out.stderr);
        let tail: Vec<&str> = stderr.lines().rev().take(15).collect();
        bail!("`{program}`: {}\n{}", out.status, tail.into_iter().rev().collect::<Vec<_>>().join("\n"));
    }
    Ok(String::from_utf8_lossy(&out.stdout).into_owned())
}
