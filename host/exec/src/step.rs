//! `Step`: one container run as plain values. Who made the mounts (overlayfs snapshots, caches, contexts) is not known here;
//! every source is a trusted directory, every subpath and destination is untrusted and resolved inside its root.
use std::path::PathBuf;

use rhost_llb::Platform;
use serde::{Deserialize, Serialize};

use crate::lend::{Held, SecretBytes, Service};

/// A directory tree that can be mounted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Tree {
    /// An overlay of directories. `lowers[0]` is the topmost lower layer, as in overlayfs' `lowerdir`.
    Overlay {
        /// At least one directory, topmost first.
        lowers: Vec<PathBuf>,
        /// Where changes go; `None` makes a read-only view.
        upper: Option<OverlayUpper>,
    },
    /// One directory, bound as it is; writes go straight to it.
    Dir(PathBuf),
}

/// The writable part of an overlay. Both directories are on one file system, `work` is empty.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OverlayUpper {
    /// Holds what the step changed; left as the kernel wrote it, ready to be diffed.
    pub upper: PathBuf,
    /// overlayfs' scratch directory.
    pub work: PathBuf,
}

/// Whether a mount can be written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Access {
    /// Writes reach the source.
    ReadWrite,
    /// Writes fail with EROFS.
    ReadOnly,
}

/// What is mounted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MountSource {
    /// A tree, or what `subpath` names inside it (a directory or a regular file). `subpath` is untrusted: it is resolved
    /// with RESOLVE_IN_ROOT, and mounted through the descriptor that was found. Empty or `/` is the whole tree.
    Tree {
        /// The tree.
        tree: Tree,
        /// Inside it.
        subpath: String,
    },
    /// An empty tmpfs, nosuid, mode 1777. `size` in bytes; `None` is the kernel's default (half of the memory).
    Tmpfs {
        /// Limit in bytes.
        size: Option<u64>,
    },
    /// A secret: these bytes as a file on a memory file system, read-only, nosuid, nodev, and noexec unless `mode` has an x. Never
    /// written to a disk.
    Secret {
        /// The content.
        #[serde(skip)]
        bytes: SecretBytes,
        /// Owner inside the container.
        uid: u32,
        /// Group inside the container.
        gid: u32,
        /// Permission bits, as in `0o400`.
        mode: u32,
    },
    /// A socket that the caller answers: whoever connects to it in the step is handed to `service`. It is made on a memory file
    /// system of the step's own, so that nothing is left on a disk.
    Socket {
        /// Who answers.
        #[serde(skip)]
        service: Service,
        /// Owner inside the container.
        uid: u32,
        /// Group inside the container.
        gid: u32,
        /// Permission bits, as in `0o600`.
        mode: u32,
    },
    /// One file or socket of the host. The path is trusted; its last component is not followed.
    HostFile(PathBuf),
}

/// One mount, made in the order of `Step::mounts`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// Absolute path in the container; untrusted, resolved in-root. Missing parts are created and removed afterwards.
    pub destination: String,
    /// What is mounted there.
    pub source: MountSource,
    /// Whether it can be written to. Secrets are always read-only.
    pub access: Access,
}

/// Which network the step sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Network {
    /// The one that rhost itself has.
    Host,
    /// A new one with only `lo`.
    None,
}

/// How much the step is trusted. A closed enum: nothing but `Insecure` itself lifts the sandbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Security {
    /// Docker's default capabilities and system calls, masked and read-only paths, no device access.
    Sandbox,
    /// All capabilities that rhost itself has, no seccomp, nothing masked. The caller has checked the entitlement.
    Insecure,
}

/// `/etc/resolv.conf` of the container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ResolvConf {
    /// What the host has (loopback servers kept: the network is the host's).
    Host,
    /// This text.
    Text(String),
    /// What the image has; nothing is mounted.
    Image,
}

/// How programs of another architecture run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Emulator {
    /// Statically linked user-mode emulator on the host (`qemu-aarch64-static`).
    pub program: PathBuf,
    /// The architecture whose programs it runs; chooses the ELF magic that is registered.
    pub platform: Platform,
}

/// One resource limit (`ulimit`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ulimit {
    /// `nofile`, `nproc`, … as `docker run --ulimit` names them.
    pub name: String,
    /// Soft limit; -1 is unlimited.
    pub soft: i64,
    /// Hard limit; -1 is unlimited.
    pub hard: i64,
}

/// Limits for the step's cgroup. Where a controller is missing the limit is not applied and `Exit::warnings` says so.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resources {
    /// Bytes; 0 is no limit.
    pub memory: i64,
    /// Memory plus swap in bytes; 0 is not said, -1 is no limit.
    pub memory_swap: i64,
    /// Relative weight, 2..=262144; 0 is not said.
    pub cpu_shares: i64,
    /// Microseconds; 0 is the default of 100000.
    pub cpu_period: i64,
    /// Microseconds per period; 0 is no limit.
    pub cpu_quota: i64,
    /// As in `0-3,5`; empty is not said.
    pub cpuset_cpus: String,
    /// As in `0`; empty is not said.
    pub cpuset_mems: String,
}

/// One container run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// The root file system. Only this step may have it mounted writable.
    pub root: Tree,
    /// Read-only roots are for steps whose root has no output.
    pub root_access: Access,
    /// Further mounts, in order.
    pub mounts: Vec<Mount>,
    /// Program and arguments; a program without `/` is looked up in `PATH` of `env`.
    pub args: Vec<String>,
    /// `NAME=value`. `HOME` is added from the image's passwd where absent.
    pub env: Vec<String>,
    /// Variables whose values are secrets; they win over `env`.
    #[serde(skip)]
    pub secret_env: Vec<(String, SecretBytes)>,
    /// Absolute working directory, created where missing. Empty is `/`.
    pub cwd: String,
    /// `user`, `uid`, `user:group`, `uid:gid`, or empty for root; names come from the image.
    pub user: String,
    /// Host name; empty is `buildkitsandbox`.
    pub hostname: String,
    /// Network.
    pub network: Network,
    /// Sandbox or not.
    pub security: Security,
    /// Additional lines of `/etc/hosts`: (name, address).
    pub extra_hosts: Vec<(String, String)>,
    /// `/etc/resolv.conf`.
    pub resolv_conf: ResolvConf,
    /// Emulator for `args`' architecture when it is not the host's and the host has no registration.
    pub emulator: Option<Emulator>,
    /// Below which cgroup the step's is made; empty is beside rhost's own. Untrusted: `..` is refused.
    pub cgroup_parent: String,
    /// Limits of the step's cgroup.
    pub resources: Resources,
    /// Limits of each process.
    pub ulimits: Vec<Ulimit>,
    /// Size of `/dev/shm` in bytes; `None` is 64 MiB.
    pub shm_size: Option<u64>,
    /// Exit codes that count as success; empty is only 0.
    pub valid_exit_codes: Vec<i32>,
    /// LLB's `removeMountStubsRecursive`: also remove the parents that were made for a mount's destination, not only the last
    /// component.
    pub remove_mount_stubs_recursive: bool,
    /// Kept open until all of the step is gone, even when the caller is killed: locks on what the step writes to.
    #[serde(skip)]
    pub held: Held,
}

impl Step {
    /// A step that runs `args` in `root` as root, sandboxed, with rhost's network and nothing else mounted.
    pub fn new(root: Tree, args: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self {
            root,
            root_access: Access::ReadWrite,
            mounts: Vec::new(),
            args: args.into_iter().map(Into::into).collect(),
            env: vec!["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".into()],
            secret_env: Vec::new(),
            cwd: "/".into(),
            user: String::new(),
            hostname: String::new(),
            network: Network::Host,
            security: Security::Sandbox,
            extra_hosts: Vec::new(),
            resolv_conf: ResolvConf::Host,
            emulator: None,
            cgroup_parent: String::new(),
            resources: Resources::default(),
            ulimits: Vec::new(),
            shm_size: None,
            valid_exit_codes: Vec::new(),
            remove_mount_stubs_recursive: true,
            held: Held::default(),
        }
    }
}
