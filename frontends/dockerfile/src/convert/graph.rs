//! The graph that a conversion answers with: LLB without its wire format.
//!
//! Plain values with backward edges, so that an adapter can walk the nodes in order and make one host resource per node, whatever
//! the host side looks like. Fields follow the messages of spec A.1; what LLB would leave at its zero value is left out. A node that
//! is not reachable from the root must be skipped: the build context is allocated before it is known whether anybody uses it.

use std::collections::{BTreeMap, BTreeSet};

/// Index of a node in its [`Graph`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub u32);

/// One output of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Output {
    /// The node.
    pub node: NodeId,
    /// Which of its outputs; 0 for everything but steps with writable mounts.
    pub index: u32,
}

/// A platform, fields as in an OCI index.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Platform {
    /// `linux`, `windows`, …
    pub os: String,
    /// `amd64`, `arm64`, …
    pub architecture: String,
    /// `v7`, …, or empty.
    pub variant: String,
    /// Mostly for Windows, or empty.
    pub os_version: String,
    /// Mostly for Windows.
    pub os_features: Vec<String>,
}

/// A range in the build file; lines count from 1, characters from 0 (0 also means "whole line").
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Range {
    /// First line.
    pub start_line: u32,
    /// First character.
    pub start_character: u32,
    /// Last line, inclusive.
    pub end_line: u32,
    /// Last character.
    pub end_character: u32,
}

/// The nodes of one result. Inputs of a node have smaller ids than the node.
#[derive(Debug, Clone, Default)]
pub struct Graph {
    nodes: Vec<Node>,
}

/// An operation and what is said about it.
#[derive(Debug, Clone)]
pub struct Node {
    /// What is done; enters digests.
    pub op: Op,
    /// What is said; enters no digest.
    pub meta: Meta,
}

/// Everything about a node that enters no digest.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Meta {
    /// Description entries, sorted: `llb.customname` is the display name, `com.docker.dockerfile.v1.command` the instruction.
    pub description: BTreeMap<String, String>,
    /// Do not take this node from a cache.
    pub ignore_cache: bool,
    /// Group in which progress is shown.
    pub progress_group: Option<ProgressGroup>,
    /// Where in the build file it comes from.
    pub locations: Vec<Vec<Range>>,
    /// Limits of the machine for this step.
    pub resources: Option<Resources>,
}

impl Meta {
    /// Only a display name.
    pub fn named(name: impl Into<String>) -> Self {
        let mut meta = Self::default();
        meta.set_name(name);
        meta
    }

    /// Sets the display name.
    pub fn set_name(&mut self, name: impl Into<String>) {
        self.description.insert("llb.customname".into(), name.into());
    }

    /// The display name, if one was given.
    pub fn name(&self) -> Option<&str> {
        self.description.get("llb.customname").map(String::as_str)
    }
}

/// Nodes of one group are shown as one line of progress.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProgressGroup {
    /// Unique within the build.
    pub id: String,
    /// What is shown.
    pub name: String,
    /// Not shown on its own account.
    pub weak: bool,
}

/// Limits of the machine for one step; zero or empty is "no limit".
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields are those of the LinuxResources message, spec A.1")]
pub struct Resources {
    pub memory: i64,
    pub memory_swap: i64,
    pub cpu_shares: u64,
    pub cpu_period: u64,
    pub cpu_quota: i64,
    pub cpuset_cpus: String,
    pub cpuset_mems: String,
}

/// An operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Op {
    /// Files from outside.
    Source(Source),
    /// A result that the client lent, by its name ([`crate::host::Host::has_input`]).
    Input(String),
    /// A process.
    Exec(Box<Exec>),
    /// File actions.
    File(File),
    /// Layers on top of each other; `None` is an empty file system.
    Merge(Vec<Option<Output>>),
}

/// Files from outside, spec A.2.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// With its scheme, for example `docker-image://…`.
    pub identifier: String,
    /// Attributes, sorted by key.
    pub attrs: BTreeMap<String, String>,
    /// Only images have a platform.
    pub platform: Option<Platform>,
}

/// A process, spec A.1 ExecOp.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exec {
    /// Platform of the root file system.
    pub platform: Platform,
    /// Command and arguments, at least one.
    pub args: Vec<String>,
    /// `K=V` in the order of the last write.
    pub env: Vec<String>,
    /// Absolute.
    pub cwd: String,
    /// User, or empty for root.
    pub user: String,
    /// Host name, or empty.
    pub hostname: String,
    /// Parent control group, or empty.
    pub cgroup_parent: String,
    /// Network mode.
    pub network: Network,
    /// With all privileges of the machine.
    pub insecure: bool,
    /// Proxies that the step sees but which enter no key.
    pub proxy: Option<Proxy>,
    /// `(host, address)` lines of its hosts file.
    pub extra_hosts: Vec<(String, String)>,
    /// `(name, soft, hard)`.
    pub ulimits: Vec<(String, i64, i64)>,
    /// `(name, optional)` of devices.
    pub devices: Vec<(String, bool)>,
    /// Mounts in the order in which they were declared; the root is one of them. LLB wants them sorted by `dest`, secrets and
    /// agents last in this order.
    pub mounts: Vec<Mount>,
    /// Secrets that come as variables.
    pub secret_env: Vec<SecretEnv>,
}

/// Proxies of a step.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields are those of the ProxyEnv message, spec A.1")]
pub struct Proxy {
    pub http: String,
    pub https: String,
    pub ftp: String,
    pub no: String,
    pub all: String,
}

/// Network of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Network {
    /// The host's default, isolated.
    Sandbox,
    /// The machine's own; needs an entitlement.
    Host,
    /// Loopback only.
    None,
}

/// A secret that a step gets as a variable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretEnv {
    /// Id of the secret.
    pub id: String,
    /// Name of the variable.
    pub name: String,
    /// The step runs without it too.
    pub optional: bool,
}

/// A mount of a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// Absolute path in the step.
    pub dest: String,
    /// What is mounted.
    pub kind: MountKind,
}

/// What is mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MountKind {
    /// A file system of the graph, or an empty one.
    Bind {
        /// The file system.
        input: Option<Output>,
        /// Path in it, or empty.
        selector: String,
        /// Cannot be written.
        readonly: bool,
        /// What the step writes is thrown away.
        no_output: bool,
    },
    /// A directory that survives the step.
    Cache {
        /// Initial contents.
        input: Option<Output>,
        /// Path in them, or empty.
        selector: String,
        /// Cannot be written.
        readonly: bool,
        /// Name of the directory.
        id: String,
        /// Who else may use it meanwhile.
        sharing: Sharing,
    },
    /// Memory.
    Tmpfs {
        /// Bytes, 0 for no limit.
        size: i64,
    },
    /// A secret as a file.
    Secret(Access),
    /// An SSH agent; an empty `dest` is chosen by LLB's rule (spec A.3), an empty id means `default`.
    Ssh(Access),
}

/// A secret or an agent, and how its file looks.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields are those of the SecretOpt message, spec A.1")]
pub struct Access {
    pub id: String,
    pub uid: u32,
    pub gid: u32,
    pub mode: u32,
    pub optional: bool,
}

/// Who else may use a cache directory meanwhile.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names are those of the CacheSharingOpt enum, spec A.1")]
pub enum Sharing {
    Shared,
    Private,
    Locked,
}

/// File actions on a base; each action works on the result of the one before, the last one's result is the node's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// What the first action works on; `None` is an empty file system.
    pub base: Option<Output>,
    /// At least one.
    pub actions: Vec<FileAction>,
}

/// One file action, spec A.1 FileAction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileAction {
    /// A directory.
    Mkdir {
        /// Absolute path.
        path: String,
        /// Permission bits.
        mode: u32,
        /// Make missing parents.
        parents: bool,
        /// Owner, root if absent.
        owner: Option<Owner>,
        /// Unix nanoseconds, -1 for now.
        timestamp: i64,
    },
    /// A file.
    Mkfile {
        /// Absolute path.
        path: String,
        /// Permission bits.
        mode: u32,
        /// Contents.
        data: Vec<u8>,
        /// Owner, root if absent.
        owner: Option<Owner>,
        /// Unix nanoseconds, -1 for now.
        timestamp: i64,
    },
    /// A copy from another file system.
    Copy(Box<Copy>),
}

/// A copy from another file system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Copy {
    /// Where from; `None` is an empty file system.
    pub from: Option<Output>,
    /// Absolute path, may hold wildcards.
    pub src: String,
    /// Absolute path; a trailing `/` or `/.` says directory.
    pub dest: String,
    /// Owner; keeps root if absent.
    pub owner: Option<Owner>,
    /// Permission bits, -1 keeps.
    pub mode: i32,
    /// Symbolic mode (`u=rwX`), or empty.
    pub mode_str: String,
    /// Follow a link at `src`.
    pub follow_symlink: bool,
    /// Copy what a directory holds, not the directory.
    pub dir_copy_contents: bool,
    /// Unpack archives.
    pub attempt_unpack: bool,
    /// Make the parents of `dest`.
    pub create_dest_path: bool,
    /// `src` is a pattern.
    pub allow_wildcard: bool,
    /// A pattern that matches nothing is no error.
    pub allow_empty_wildcard: bool,
    /// Unix nanoseconds, -1 keeps.
    pub timestamp: i64,
    /// Only these, if any.
    pub include_patterns: Vec<String>,
    /// But not these.
    pub exclude_patterns: Vec<String>,
    /// Paths that must exist.
    pub required_paths: Vec<String>,
}

/// Owner of what an action makes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// User.
    pub user: Option<User>,
    /// Group.
    pub group: Option<User>,
}

/// A user or a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum User {
    /// By number.
    Id(u32),
    /// By a name that is looked up in the file system that the *first* action works on (the node's `base`).
    Name(String),
}

impl Graph {
    /// Adds a node; its inputs must be in the graph.
    ///
    /// # Panics
    /// After 2^32 nodes.
    pub fn add(&mut self, op: Op, meta: Meta) -> Output {
        let node = NodeId(u32::try_from(self.nodes.len()).expect("a build file has fewer nodes"));
        self.nodes.push(Node { op, meta });
        Output { node, index: 0 }
    }

    /// The node.
    pub fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id.0 as usize]
    }

    /// The node, to be filled in once the uses of a context are known.
    pub(crate) fn node_mut(&mut self, id: NodeId) -> &mut Node {
        &mut self.nodes[id.0 as usize]
    }

    /// All nodes in order.
    pub fn nodes(&self) -> impl Iterator<Item = (NodeId, &Node)> {
        (0u32..).map(NodeId).zip(&self.nodes)
    }

    /// Nodes that `root` needs, itself included, in order.
    pub fn reachable(&self, root: Output) -> Vec<NodeId> {
        let mut seen = BTreeSet::new();
        let mut todo = vec![root.node];
        while let Some(id) = todo.pop() {
            if seen.insert(id) {
                todo.extend(self.node(id).op.inputs().into_iter().map(|o| o.node));
            }
        }
        seen.into_iter().collect()
    }
}

impl Op {
    /// The outputs that the operation reads, in the order of its fields, with repetitions.
    pub fn inputs(&self) -> Vec<Output> {
        match self {
            Self::Source(_) | Self::Input(_) => Vec::new(),
            Self::Exec(exec) => exec.mounts.iter().filter_map(Mount::input).collect(),
            Self::File(file) => {
                let copies = file.actions.iter().filter_map(|a| match a {
                    FileAction::Copy(copy) => copy.from,
                    _ => None,
                });
                file.base.into_iter().chain(copies).collect()
            }
            Self::Merge(inputs) => inputs.iter().flatten().copied().collect(),
        }
    }
}

impl Mount {
    /// The file system that is mounted, for those that have one.
    pub fn input(&self) -> Option<Output> {
        match &self.kind {
            MountKind::Bind { input, .. } | MountKind::Cache { input, .. } => *input,
            MountKind::Tmpfs { .. } | MountKind::Secret(_) | MountKind::Ssh(_) => None,
        }
    }
}
