//! `Torture`: builds are killed at random points, again and again; after each nothing is left behind and the next build is right.
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};

use crate::{Registry, TestHost, busybox};

/// Until processes and mounts of a killed build must be gone, on however loaded a machine.
const GONE: Duration = Duration::from_secs(30);

const DOCKERFILE: &str = "\
FROM busybox AS one
ARG ROUND
RUN echo $ROUND > /round && mkdir -p /a/b && for i in 1 2 3 4 5 6 7 8; do echo $i > /a/b/$i; done
FROM busybox AS two
COPY data /data
ARG ROUND
RUN echo of two $ROUND && rm -r /data/gone && ln -s kept /data/link && chmod 4750 /data/kept
FROM one
COPY --from=two /data /data
RUN cat /round /data/kept > /both && rm /a/b/3
";

/// Files of a tree: mode, then content or target of a link.
pub type Files = BTreeMap<PathBuf, (u32, Vec<u8>)>;

/// One store that is tortured.
pub struct Torture {
    host: TestHost,
    _registry: Registry,
    context: String,
    reference: Files,
    random: u64,
    longest: Duration,
    round: u64,
}

impl Torture {
    /// A store and what a build in it must give. `seed` makes the kills the same again, as far as the machine is.
    ///
    /// # Errors
    /// What tests stand on is not there; the undisturbed build fails.
    pub fn new(host: TestHost, seed: u64) -> Result<Self> {
        let registry = Registry::start()?;
        registry.push(&busybox()?, "library/busybox:latest")?;
        host.mirror_docker_io(registry.address())?;
        host.write("ctx/Dockerfile", DOCKERFILE)?;
        host.write("ctx/data/kept", "kept\n")?;
        host.write("ctx/data/gone/file", "gone\n")?;
        let context = host.work().join("ctx").display().to_string();
        let random = seed | 1;
        let mut this = Self {
            host,
            _registry: registry,
            context,
            reference: Files::new(),
            random,
            longest: Duration::ZERO,
            round: 0,
        };
        // Once for the frontend and the base image, once to see how long the rest takes.
        this.build("reference")?;
        let begun = Instant::now();
        this.reference = this.build("reference")?;
        this.longest = begun.elapsed();
        Ok(this)
    }

    /// The machine that it happens on.
    pub fn host(&self) -> &TestHost {
        &self.host
    }

    fn next(&mut self, below: u64) -> u64 {
        // xorshift64: any sequence will do, as long as the seed repeats it.
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % below.max(1)
    }

    fn arguments(&self, argument: &str, output: &str) -> Vec<String> {
        let argument = format!("ROUND={argument}");
        ["build", "--progress", "plain", "--build-arg", &argument, "-o", output, &self.context]
            .map(str::to_owned)
            .to_vec()
    }

    fn build(&self, argument: &str) -> Result<Files> {
        let tree = self.host.dir().join("tree");
        if tree.exists() {
            fs::remove_dir_all(&tree)?;
        }
        let ran = self.host.run(self.arguments(argument, &tree.display().to_string()))?;
        ensure!(ran.code == 0, "the build after a kill failed with {}:\n{}", ran.code, ran.stderr);
        files(&tree)
    }

    /// Kills one command at a random point, and looks whether all is well.
    ///
    /// # Errors
    /// Something was left behind, or the next build is wrong; the message says what.
    pub fn round(&mut self) -> Result<()> {
        self.round += 1;
        let name = format!("{}", self.round);
        let archive = format!("type=oci,dest={}", self.host.dir().join("out.tar").display());
        let arguments = match self.next(10) {
            0 => vec!["prune".to_owned(), "--all".to_owned()],
            1 => self.arguments(&name, &archive),
            2 => self.arguments("reference", "type=image"),
            _ => self.arguments(&name, "type=image"),
        };
        let longest = u64::try_from(self.longest.as_micros()).unwrap_or(u64::MAX);
        let delay = Duration::from_micros(self.next(longest + longest / 4));
        let mut child = self.host.command(&arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        std::thread::sleep(delay);
        // It may have ended by itself.
        let _ = child.kill();
        child.wait()?;
        self.look(&name)
            .with_context(|| format!("round {}: `rhost {}` killed after {delay:?}", self.round, arguments.join(" ")))
    }

    fn look(&self, name: &str) -> Result<()> {
        nothing_left(self.host.dir())?;
        let partial =
            fs::read_dir(self.host.dir())?.flatten().find(|e| e.file_name().to_string_lossy().contains("partial"));
        ensure!(partial.is_none(), "a half-written output was left: {partial:?}");
        let mut wanted = self.reference.clone();
        for (path, text) in [("round", format!("{name}\n")), ("both", format!("{name}\nkept\n"))] {
            wanted.get_mut(Path::new(path)).context("no such file in the reference")?.1 = text.into_bytes();
        }
        let found = self.build(name)?;
        compare(&wanted, &found)
    }

    /// After the last round: what a prune leaves of the store is nothing but what it is made of.
    ///
    /// # Errors
    /// Rubbish is left.
    pub fn finish(self) -> Result<()> {
        let ran = self.host.run(["prune", "--all"])?;
        ensure!(ran.code == 0, "prune failed with {}:\n{}", ran.code, ran.stderr);
        for directory in ["ingest-v1", "work-v1", "uses-v1", "snapshots-v1", "snapshots-user-v1", "build-files-v1"] {
            let Ok(mut entries) = fs::read_dir(self.host.root().join(directory)) else { continue };
            if let Some(entry) = entries.next() {
                bail!("left in the store after prune: {}", entry?.path().display());
            }
        }
        Ok(())
    }
}

fn compare(wanted: &Files, found: &Files) -> Result<()> {
    for (path, file) in wanted {
        match found.get(path) {
            None => bail!("`{}` is missing", path.display()),
            Some(other) if other != file => bail!("`{}` is {other:?}, wanted {file:?}", path.display()),
            Some(_) => {}
        }
    }
    match found.keys().find(|path| !wanted.contains_key(*path)) {
        Some(path) => bail!("`{}` should not be there", path.display()),
        None => Ok(()),
    }
}

/// All files below `root`.
///
/// # Errors
/// Those of the disk.
pub fn files(root: &Path) -> Result<Files> {
    let mut found = Files::new();
    let mut stack = vec![root.to_path_buf()];
    while let Some(directory) = stack.pop() {
        for entry in fs::read_dir(&directory).with_context(|| format!("listing `{}`", directory.display()))? {
            let path = entry?.path();
            let facts = fs::symlink_metadata(&path)?;
            let content = if facts.is_symlink() {
                fs::read_link(&path)?.into_os_string().into_encoded_bytes()
            } else if facts.is_file() {
                fs::read(&path)?
            } else {
                Vec::new()
            };
            if facts.is_dir() {
                stack.push(path.clone());
            }
            found.insert(path.strip_prefix(root)?.to_owned(), (facts.permissions().mode(), content));
        }
    }
    Ok(found)
}

/// Waits until no process and no mount knows `directory`, and no cgroup of a dead step is there.
///
/// # Errors
/// Something stays; the message names it.
pub fn nothing_left(directory: &Path) -> Result<()> {
    let deadline = Instant::now() + GONE;
    loop {
        let left = leftovers(directory)?;
        match left.first() {
            None => return Ok(()),
            Some(_) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(5)),
            Some(_) => bail!("left behind: {}", left.join("; ")),
        }
    }
}

fn leftovers(directory: &Path) -> Result<Vec<String>> {
    let needle = directory.to_str().context("not UTF-8")?;
    let own = fs::metadata("/proc/self/ns/mnt")?.ino();
    let mut left = Vec::new();
    for entry in fs::read_dir("/proc")?.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.parse::<u32>().is_err() || name == std::process::id().to_string() {
            continue;
        }
        // A process may end at any of these looks.
        let read = |file: &str| fs::read(entry.path().join(file)).unwrap_or_default();
        let knows = |file: &str| String::from_utf8_lossy(&read(file)).contains(needle);
        let elsewhere = fs::metadata(entry.path().join("ns/mnt")).is_ok_and(|ns| ns.ino() != own);
        if knows("cmdline") || (elsewhere && knows("mountinfo")) {
            let command = String::from_utf8_lossy(&read("cmdline")).replace('\0', " ");
            left.push(format!("process {name} `{command}`"));
        }
    }
    if let Some(line) = fs::read_to_string("/proc/self/mountinfo")?.lines().find(|line| line.contains(needle)) {
        left.push(format!("mount {line}"));
    }
    let mut groups = vec![PathBuf::from("/sys/fs/cgroup")];
    while let Some(group) = groups.pop() {
        for entry in fs::read_dir(&group).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if let Some(pid) = name.strip_prefix("rhost-step-") {
                if !Path::new("/proc").join(pid).exists() {
                    left.push(format!("cgroup {}", entry.path().display()));
                }
            } else if entry.file_type().is_ok_and(|kind| kind.is_dir()) && groups.len() < 4096 {
                groups.push(entry.path());
            }
        }
    }
    Ok(left)
}
