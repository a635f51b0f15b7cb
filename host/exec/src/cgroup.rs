//! The step's cgroup: made only where limits or a parent are asked for, on unified, split and hybrid layouts, never a reason to fail.
//!
//! The supervisor joins it, clones the container, and goes back: so the container starts inside. Killing does not need it (the
//! pid namespace does that).
use std::fs;
use std::io::Result;
use std::path::{Path, PathBuf};

use crate::step::{Resources, Step};

/// Directories of one step, one for each hierarchy.
pub struct Cgroup {
    places: Vec<Place>,
}

struct Place {
    directory: PathBuf,
    /// Where the supervisor came from.
    home: PathBuf,
    unified: bool,
}

/// A hierarchy that is mounted.
#[derive(Debug, PartialEq, Eq)]
struct Hierarchy {
    mount: PathBuf,
    /// Path of this process, relative to the mount.
    own: String,
    /// Empty for the unified one.
    controllers: Vec<String>,
}

impl Cgroup {
    /// Makes and enters what the step needs.
    pub fn enter(step: &Step, warn: impl Fn(String)) -> Self {
        let mut places = Vec::new();
        if step.resources != Resources::default() || !step.cgroup_parent.is_empty() {
            let hierarchies = own_hierarchies();
            let settings = if hierarchies.iter().any(|h| h.controllers.iter().any(|c| c == "memory" || c == "cpu")) {
                version1(&step.resources)
            } else {
                version2(&step.resources)
            };
            for (controller, files) in settings {
                let unified = |h: &&Hierarchy| h.controllers.is_empty();
                let found = hierarchies
                    .iter()
                    .find(|h| h.controllers.iter().any(|c| c == controller))
                    .or_else(|| hierarchies.iter().find(unified));
                let Some(hierarchy) = found else {
                    warn(format!("no cgroup controller `{controller}` here: its limits are not applied"));
                    continue;
                };
                match place(hierarchy, step, controller, &files) {
                    Ok(place) => {
                        if !places.iter().any(|other: &Place| other.directory == place.directory) {
                            places.push(place);
                        }
                    }
                    Err(error) => warn(format!("cgroup limits of `{controller}` are not applied: {error}")),
                }
            }
            for place in &places {
                if let Err(error) = fs::write(place.directory.join("cgroup.procs"), "0") {
                    warn(format!("the step is outside of {}: {error}", place.directory.display()));
                }
            }
        }
        Self { places }
    }

    /// The step's directory in the unified hierarchy.
    pub fn unified(&self) -> Option<&Path> {
        self.places.iter().find(|place| place.unified).map(|place| place.directory.as_path())
    }

    /// The supervisor goes back where it came from.
    pub fn leave(&self) {
        for place in &self.places {
            let _ = fs::write(place.home.join("cgroup.procs"), "0");
        }
    }

    /// Removes the directories; all processes in them are gone.
    pub fn remove(&self) {
        for place in &self.places {
            let _ = fs::remove_dir(&place.directory);
        }
    }
}

fn place(hierarchy: &Hierarchy, step: &Step, controller: &str, files: &[(&str, String)]) -> Result<Place> {
    let home = hierarchy.mount.join(hierarchy.own.trim_start_matches('/'));
    let parent = match step.cgroup_parent.trim_matches('/') {
        "" => home.clone(),
        asked => hierarchy.mount.join(asked),
    };
    fs::create_dir_all(&parent)?;
    if hierarchy.controllers.is_empty() && !files.is_empty() {
        // Refused where the parent has processes of its own; the limits then fail below, and say so.
        let _ = fs::write(parent.join("cgroup.subtree_control"), format!("+{controller}"));
    }
    let directory = parent.join(format!("rhost-step-{}", std::process::id()));
    fs::create_dir_all(&directory)?;
    let write = |(name, value): &(&str, String)| {
        fs::write(directory.join(name), value)
            .map_err(|e| std::io::Error::new(e.kind(), format!("{name} = {value}: {e}")))
    };
    if controller == "cpuset" && !hierarchy.controllers.is_empty() {
        for file in ["cpuset.cpus", "cpuset.mems"] {
            // Empty by birth in version 1, and then nothing can enter.
            fs::write(directory.join(file), fs::read(parent.join(file))?)?;
        }
    }
    match files.iter().try_for_each(write) {
        Ok(()) => Ok(Place { directory, home, unified: hierarchy.controllers.is_empty() }),
        Err(error) => {
            let _ = fs::remove_dir(&directory);
            Err(error)
        }
    }
}

type Settings = Vec<(&'static str, Vec<(&'static str, String)>)>;

fn version1(r: &Resources) -> Settings {
    let mut memory = Vec::new();
    if r.memory > 0 {
        memory.push(("memory.limit_in_bytes", r.memory.to_string()));
    }
    if r.memory_swap != 0 {
        memory.push(("memory.memsw.limit_in_bytes", r.memory_swap.to_string()));
    }
    let mut cpu = Vec::new();
    for (name, value) in
        [("cpu.shares", r.cpu_shares), ("cpu.cfs_period_us", r.cpu_period), ("cpu.cfs_quota_us", r.cpu_quota)]
    {
        if value != 0 {
            cpu.push((name, value.to_string()));
        }
    }
    with_cpuset(r, vec![("memory", memory), ("cpu", cpu)])
}

fn version2(r: &Resources) -> Settings {
    let mut memory = Vec::new();
    if r.memory > 0 {
        memory.push(("memory.max", r.memory.to_string()));
    }
    if r.memory_swap < 0 {
        memory.push(("memory.swap.max", "max".into()));
    } else if r.memory_swap > 0 {
        memory.push(("memory.swap.max", (r.memory_swap - r.memory.max(0)).max(0).to_string()));
    }
    let mut cpu = Vec::new();
    if r.cpu_shares > 0 {
        // Linear from 2..=262144 to 1..=10000, as runtimes agreed on.
        cpu.push(("cpu.weight", (1 + (r.cpu_shares.clamp(2, 262_144) - 2) * 9999 / 262_142).to_string()));
    }
    if r.cpu_quota != 0 || r.cpu_period != 0 {
        let quota = if r.cpu_quota > 0 { r.cpu_quota.to_string() } else { "max".into() };
        cpu.push(("cpu.max", format!("{quota} {}", if r.cpu_period > 0 { r.cpu_period } else { 100_000 })));
    }
    with_cpuset(r, vec![("memory", memory), ("cpu", cpu)])
}

fn with_cpuset(r: &Resources, mut settings: Settings) -> Settings {
    let named = [("cpuset.cpus", &r.cpuset_cpus), ("cpuset.mems", &r.cpuset_mems)];
    let set: Vec<_> = named.into_iter().filter(|(_, v)| !v.is_empty()).map(|(n, v)| (n, v.clone())).collect();
    if !set.is_empty() {
        settings.push(("cpuset", set));
    }
    settings
}

fn own_hierarchies() -> Vec<Hierarchy> {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    hierarchies(&read("/proc/self/mountinfo"), &read("/proc/self/cgroup"))
}

/// Where this process is in the unified hierarchy.
pub fn unified_directory() -> Option<PathBuf> {
    let found = own_hierarchies().into_iter().find(|hierarchy| hierarchy.controllers.is_empty())?;
    Some(found.mount.join(found.own.trim_start_matches('/')))
}

fn hierarchies(mountinfo: &str, cgroups: &str) -> Vec<Hierarchy> {
    let own: Vec<(Vec<&str>, &str)> = cgroups
        .lines()
        .filter_map(|line| {
            let mut fields = line.splitn(3, ':').skip(1);
            let controllers = fields.next()?.split(',').filter(|c| !c.is_empty()).collect();
            Some((controllers, fields.next()?))
        })
        .collect();
    mountinfo
        .lines()
        .filter_map(|line| {
            let (left, right) = line.split_once(" - ")?;
            let mut left = left.split(' ').skip(3);
            let (root, mount) = (left.next()?, left.next()?);
            let right: Vec<&str> = right.split(' ').collect();
            let options: Vec<&str> = right.get(2)?.split(',').collect();
            let (controllers, path) = match right[0] {
                "cgroup2" => own.iter().find(|(c, _)| c.is_empty())?,
                "cgroup" => own.iter().find(|(c, _)| !c.is_empty() && c.iter().all(|name| options.contains(name)))?,
                _ => return None,
            };
            let own = path.strip_prefix(root.trim_end_matches('/')).unwrap_or(path);
            Some(Hierarchy {
                mount: Path::new(mount).to_owned(),
                own: own.into(),
                controllers: controllers.iter().map(|c| (*c).into()).collect(),
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hybrid_layout_is_read() {
        let mounts = "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
        let found = hierarchies(mounts, "4:memory:/a/b\n0::/u\n1:cpu:/\n");
        let expect = |mount: &str, own: &str, controllers: &[&str]| Hierarchy {
            mount: mount.into(),
            own: own.into(),
            controllers: controllers.iter().map(|c| (*c).into()).collect(),
        };
        assert_eq!(
            found,
            [expect("/sys/fs/cgroup/memory", "/a/b", &["memory"]), expect("/sys/fs/cgroup/unified", "/u", &[])]
        );
        assert_eq!(hierarchies("", ""), []);
    }

    #[test]
    fn version2_numbers() {
        let r =
            Resources { memory: 1000, memory_swap: 1500, cpu_shares: 1024, cpu_quota: 50000, ..Resources::default() };
        let text = format!("{:?}", version2(&r));
        for part in [
            "\"memory.max\", \"1000\"",
            "\"memory.swap.max\", \"500\"",
            "\"cpu.weight\", \"39\"",
            "\"cpu.max\", \"50000 100000\"",
        ] {
            assert!(text.contains(part), "{text}");
        }
    }
}
