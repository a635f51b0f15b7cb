//! `ExecOp`: run a command on a root file system (spec A.1). Field numbers are the wire format's.
use crate::wire::{closed_enum, message};

/// "No input": the mount or action starts from nothing.
pub const EMPTY_INPUT: i64 = -1;
/// "No output": what the mount or action changed is thrown away.
pub const NO_OUTPUT: i64 = -1;
/// Where the root file system is mounted.
pub const ROOT_MOUNT: &str = "/";

message! {
    /// A command, its file systems, and how isolated it runs.
    pub struct ExecOp {
        /// The process. Required.
        meta: Option<Meta> = 1 "meta",
        /// The file systems; one has `dest` `/`.
        mounts: Vec<Mount> = 2 "mounts",
        /// The network.
        network: NetMode = 3 "network",
        /// Sandboxed, or with all privileges.
        security: SecurityMode = 4 "security",
        /// Secrets as environment variables.
        secret_env: Vec<SecretEnv> = 5 "secretenv",
        /// Devices by their CDI names.
        cdi_devices: Vec<CdiDevice> = 6 "cdiDevices",
    }
}

message! {
    /// The process.
    pub struct Meta {
        /// Program and arguments.
        args: Vec<String> = 1 "args",
        /// `NAME=value`, in the order of their last setting.
        env: Vec<String> = 2 "env",
        /// Working directory, absolute; made when absent.
        cwd: String = 3 "cwd",
        /// `user`, `uid`, `user:group`, `uid:gid`; empty is root.
        user: String = 4 "user",
        /// Proxies. Enter no cache key.
        proxy_env: Option<ProxyEnv> = 5 "proxy_env",
        /// Lines for /etc/hosts. Addresses enter no cache key.
        extra_hosts: Vec<HostIp> = 6 "extraHosts",
        /// Host name; empty for the default.
        hostname: String = 7 "hostname",
        /// Resource limits of the process.
        ulimits: Vec<Ulimit> = 9 "ulimit",
        /// Parent cgroup.
        cgroup_parent: String = 10 "cgroupParent",
        /// Also remove the parents made for mount points. Always set by clients of today.
        remove_mount_stubs_recursive: bool = 11 "removeMountStubsRecursive",
        /// Exit codes that mean success; empty means only 0.
        valid_exit_codes: Vec<i32> = 12 "validExitCodes",
    }
}

message! {
    /// Proxies for the process.
    pub struct ProxyEnv {
        /// `http_proxy`.
        http_proxy: String = 1 "http_proxy",
        /// `https_proxy`.
        https_proxy: String = 2 "https_proxy",
        /// `ftp_proxy`.
        ftp_proxy: String = 3 "ftp_proxy",
        /// `no_proxy`.
        no_proxy: String = 4 "no_proxy",
        /// `all_proxy`.
        all_proxy: String = 5 "all_proxy",
    }
}

message! {
    /// A line for /etc/hosts.
    pub struct HostIp {
        /// Name.
        host: String = 1 "Host",
        /// Address.
        ip: String = 2 "IP",
    }
}

message! {
    /// A resource limit, as setrlimit(2) has it.
    pub struct Ulimit {
        /// `nofile`, `nproc`, …
        name: String = 1 "Name",
        /// Soft limit.
        soft: i64 = 2 "Soft",
        /// Hard limit.
        hard: i64 = 3 "Hard",
    }
}

closed_enum! {
    /// Network of a step.
    pub enum NetMode {
        /// The sandbox's own.
        #[default]
        Sandbox = 0 "UNSET",
        /// The host's. An entitlement.
        Host = 1 "HOST",
        /// None at all.
        None = 2 "NONE",
    }
}

closed_enum! {
    /// Privileges of a step.
    pub enum SecurityMode {
        /// Default capabilities and seccomp.
        #[default]
        Sandbox = 0 "SANDBOX",
        /// Everything. An entitlement.
        Insecure = 1 "INSECURE",
    }
}

message! {
    /// A secret as an environment variable.
    pub struct SecretEnv {
        /// The secret.
        id: String = 1 "ID",
        /// The variable.
        name: String = 2 "name",
        /// Whether a missing secret is no error.
        optional: bool = 3 "optional",
    }
}

message! {
    /// A device, by its CDI name.
    pub struct CdiDevice {
        /// `vendor.com/class=name`.
        name: String = 1 "name",
        /// Whether a missing device is no error.
        optional: bool = 2 "optional",
    }
}

message! {
    /// A file system of a step.
    pub struct Mount {
        /// Index into the op's inputs, or [`EMPTY_INPUT`].
        input: i64 = 1 "input",
        /// Path inside the input; empty for all of it.
        selector: String = 2 "selector",
        /// Where it is mounted.
        dest: String = 3 "dest",
        /// Number of the op's output that it becomes, or [`NO_OUTPUT`]. See [`Mount::output_index`].
        output: i64 = 4 "output",
        /// Not writable.
        readonly: bool = 5 "readonly",
        /// What it is.
        mount_type: MountType = 6 "mountType",
        /// For [`MountType::Tmpfs`].
        tmpfs_opt: Option<TmpfsOpt> = 19 "TmpfsOpt",
        /// For [`MountType::Cache`].
        cache_opt: Option<CacheOpt> = 20 "cacheOpt",
        /// For [`MountType::Secret`].
        secret_opt: Option<SecretOpt> = 21 "secretOpt",
        /// For [`MountType::Ssh`].
        ssh_opt: Option<SshOpt> = 22 "SSHOpt",
        /// Used by gateway containers only.
        result_id: String = 23 "resultID",
        /// Whether the input's content, rather than how it was made, is the key.
        content_cache: ContentCache = 24 "contentCache",
    }
}

impl Mount {
    /// The input's index; `None` when it starts from nothing.
    pub fn input_index(&self) -> Option<usize> {
        usize::try_from(self.input).ok()
    }

    /// The output's index; `None` when there is none. Secret and ssh mounts never have one: BuildKit's client leaves their `output`
    /// at 0 (spec A.1), and so must everyone who reads it ignore it.
    pub fn output_index(&self) -> Option<usize> {
        match self.mount_type {
            MountType::Secret | MountType::Ssh => None,
            _ => usize::try_from(self.output).ok(),
        }
    }
}

closed_enum! {
    /// What is mounted.
    pub enum MountType {
        /// An input, or an empty directory.
        #[default]
        Bind = 0 "BIND",
        /// A secret's file.
        Secret = 1 "SECRET",
        /// An ssh agent's socket.
        Ssh = 2 "SSH",
        /// A directory that lives on between builds.
        Cache = 3 "CACHE",
        /// A directory in memory.
        Tmpfs = 4 "TMPFS",
    }
}

closed_enum! {
    /// Whether a mount's content is its key.
    pub enum ContentCache {
        /// Where it is safe and cheap (spec C.1).
        #[default]
        Default = 0 "DEFAULT",
        /// Always; an error where it is unsafe.
        On = 1 "ON",
        /// Never.
        Off = 2 "OFF",
    }
}

message! {
    /// Options of a tmpfs.
    pub struct TmpfsOpt {
        /// Bytes; 0 for no limit.
        size: i64 = 1 "size",
    }
}

message! {
    /// Options of a cache mount.
    pub struct CacheOpt {
        /// Its name. Never a path: hash it.
        id: String = 1 "ID",
        /// Who may have it at once.
        sharing: CacheSharing = 2 "sharing",
    }
}

closed_enum! {
    /// Who may have a cache mount at once.
    pub enum CacheSharing {
        /// Everyone.
        #[default]
        Shared = 0 "SHARED",
        /// Each its own.
        Private = 1 "PRIVATE",
        /// One after the other.
        Locked = 2 "LOCKED",
    }
}

message! {
    /// Options of a secret's file.
    pub struct SecretOpt {
        /// The secret.
        id: String = 1 "ID",
        /// Owner.
        uid: u32 = 2 "uid",
        /// Group.
        gid: u32 = 3 "gid",
        /// Permission bits.
        mode: u32 = 4 "mode",
        /// Whether a missing secret is no error.
        optional: bool = 5 "optional",
    }
}

message! {
    /// Options of an ssh agent's socket.
    pub struct SshOpt {
        /// The agent.
        id: String = 1 "ID",
        /// Owner.
        uid: u32 = 2 "uid",
        /// Group.
        gid: u32 = 3 "gid",
        /// Permission bits.
        mode: u32 = 4 "mode",
        /// Whether a missing agent is no error.
        optional: bool = 5 "optional",
    }
}
