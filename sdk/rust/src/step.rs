//! Short forms for operations: run a command, with its mounts; change files.
use crate::bindings::rhost::frontend::llb::{
    self, BindMode, CacheSharing, CopyAction, Exec, File, NetworkMode, SecurityMode,
};
use crate::options::like_copy;
use crate::{Access, CacheOptions, CopyOptions, Error, FileOptions, Metadata, Platform, State};

/// Metadata with a name for progress.
pub fn named(name: &str) -> Metadata {
    let metadata = Metadata::new();
    metadata.name(name);
    metadata
}

/// A command to be run.
pub struct Run {
    /// For all that the short forms leave out.
    pub exec: Exec,
}

/// A command on a tree.
pub fn run(root: &State, platform: &Platform, args: &[&str]) -> Run {
    let args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
    let exec = Exec::new(root, &args);
    exec.platform(platform);
    Run { exec }
}

impl Run {
    /// Sets variables.
    #[must_use]
    pub fn env(self, variables: &[(String, String)]) -> Self {
        for (name, value) in variables {
            self.exec.env(name, value);
        }
        self
    }

    /// Sets the working directory.
    #[must_use]
    pub fn cwd(self, path: &str) -> Self {
        self.exec.cwd(path);
        self
    }

    /// Sets who runs it: a name or a number, of /etc/passwd in the tree.
    #[must_use]
    pub fn user(self, user: &str) -> Self {
        self.exec.user(user);
        self
    }

    /// Sets which network it sees.
    #[must_use]
    pub fn network(self, mode: NetworkMode) -> Self {
        self.exec.network(mode);
        self
    }

    /// Sets what it may do: all capabilities need the user's permission.
    #[must_use]
    pub fn security(self, mode: SecurityMode) -> Self {
        self.exec.security(mode);
        self
    }

    /// Sets the name of its machine.
    #[must_use]
    pub fn hostname(self, name: &str) -> Self {
        self.exec.hostname(name);
        self
    }

    /// Adds a line to its /etc/hosts.
    #[must_use]
    pub fn host(self, name: &str, ip: &str) -> Self {
        self.exec.extra_host(name, ip);
        self
    }

    /// Adds a resource limit, as in `nofile`.
    #[must_use]
    pub fn ulimit(self, name: &str, soft: i64, hard: i64) -> Self {
        self.exec.ulimit(name, soft, hard);
        self
    }

    /// Sets which exit codes count as success, instead of 0 alone.
    #[must_use]
    pub fn valid_exit_codes(self, codes: &[i32]) -> Self {
        self.exec.valid_exit_codes(codes);
        self
    }

    /// Makes the root file system read-only.
    #[must_use]
    pub fn read_only_root(self) -> Self {
        self.exec.read_only_root();
        self
    }

    /// Mounts `path` of a tree (empty: all of it). [`Ran::output`] has what a mount with [`BindMode::Keep`] became.
    #[must_use]
    pub fn mount(self, target: &str, tree: &State, path: &str, mode: BindMode) -> Self {
        self.exec.mount(target, tree, path, mode);
        self
    }

    /// Mounts the cache `id`, a directory that outlives the build.
    #[must_use]
    pub fn cache(self, target: &str, id: &str, sharing: CacheSharing) -> Self {
        self.cache_with(target, id, &CacheOptions { sharing, ..CacheOptions::default() })
    }

    /// As [`Run::cache`], with what it holds at first.
    #[must_use]
    pub fn cache_with(self, target: &str, id: &str, options: &CacheOptions<'_>) -> Self {
        let CacheOptions { sharing, from, path, read_only } = *options;
        match from {
            Some(tree) => self.exec.mount_cache(target, id, sharing, tree, path, read_only),
            None => self.exec.mount_cache(target, id, sharing, &llb::scratch(), path, read_only),
        }
        self
    }

    /// Mounts an empty directory in memory; `size` in bytes, 0 for no limit.
    #[must_use]
    pub fn tmpfs(self, target: &str, size: u64) -> Self {
        self.exec.mount_tmpfs(target, size);
        self
    }

    /// Mounts the user's secret `id` as a file that root alone can read. One that the user does not lend is an error.
    #[must_use]
    pub fn secret(self, target: &str, id: &str) -> Self {
        self.secret_with(target, id, Access::SECRET)
    }

    /// As [`Run::secret`]: one that may be missing, or that others may read.
    #[must_use]
    pub fn secret_with(self, target: &str, id: &str, access: Access) -> Self {
        self.exec.mount_secret(target, id, access.optional, access.file());
        self
    }

    /// Sets a variable to the user's secret `id`.
    #[must_use]
    pub fn secret_env(self, name: &str, id: &str) -> Self {
        self.exec.secret_env(name, id, false);
        self
    }

    /// As [`Run::secret_env`]; without the secret the variable is not set.
    #[must_use]
    pub fn secret_env_optional(self, name: &str, id: &str) -> Self {
        self.exec.secret_env(name, id, true);
        self
    }

    /// Lends it the user's ssh agent `id` (`default` by custom), by SSH_AUTH_SOCK.
    #[must_use]
    pub fn ssh(self, id: &str) -> Self {
        self.ssh_with("", id, Access::SSH)
    }

    /// As [`Run::ssh`]: at `target`, one that may be missing, or that others may ask.
    #[must_use]
    pub fn ssh_with(self, target: &str, id: &str, access: Access) -> Self {
        self.exec.mount_ssh(target, id, access.optional, access.file());
        self
    }

    /// Puts it into the graph under a name; the tree after it.
    ///
    /// # Errors
    /// When it makes no sense to the host.
    pub fn done(self, name: &str) -> Result<State, Error> {
        self.with(&named(name))
    }

    /// Puts it into the graph; the tree after it.
    ///
    /// # Errors
    /// When it makes no sense to the host.
    pub fn with(self, metadata: &Metadata) -> Result<State, Error> {
        self.exec.run(metadata)
    }

    /// Puts it into the graph; all trees after it.
    ///
    /// # Errors
    /// When it makes no sense to the host.
    pub fn ran(self, metadata: &Metadata) -> Result<Ran, Error> {
        let root = self.exec.run(metadata)?;
        Ok(Ran { root, exec: self.exec })
    }
}

/// A command in the graph.
pub struct Ran {
    /// The root file system after it.
    pub root: State,
    exec: Exec,
}

impl Ran {
    /// What was mounted at `target` with [`BindMode::Keep`], after it.
    ///
    /// # Errors
    /// When there is no such mount.
    pub fn output(&self, target: &str) -> Result<State, Error> {
        self.exec.output(target)
    }
}

/// Changes of files, as one operation.
pub struct Files {
    /// For all that the short forms leave out.
    pub file: File,
}

/// Changes of files on a tree.
pub fn files(base: &State) -> Files {
    Files { file: File::new(base) }
}

/// How [`Files::copy`] goes about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Copy {
    /// As a build file's COPY: links followed, a directory's contents, wildcards, directories made.
    LikeCopy,
    /// Exactly the one path.
    Exact,
}

impl Files {
    /// Adds a copy.
    #[must_use]
    pub fn copy(self, from: &State, source: &str, destination: &str, how: Copy) -> Self {
        let action = CopyAction::new(from, source, destination);
        if how == Copy::LikeCopy {
            action.options(like_copy());
        }
        self.file.copy(&action);
        self
    }

    /// Adds a copy, with all that can be said of one.
    #[must_use]
    pub fn copy_with(self, from: &State, source: &str, destination: &str, options: &CopyOptions<'_>) -> Self {
        self.file.copy(&options.action(from, source, destination));
        self
    }

    /// Adds a directory, with missing ones above it.
    #[must_use]
    pub fn mkdir(self, path: &str, mode: u32) -> Self {
        self.mkdir_with(path, mode, &FileOptions::default())
    }

    /// As [`Files::mkdir`], with an owner or a time.
    #[must_use]
    pub fn mkdir_with(self, path: &str, mode: u32, options: &FileOptions) -> Self {
        self.file.mkdir(path, mode, !options.alone, options.owner.as_ref(), options.timestamp);
        self
    }

    /// Adds a file.
    #[must_use]
    pub fn mkfile(self, path: &str, mode: u32, data: &[u8]) -> Self {
        self.mkfile_with(path, mode, data, &FileOptions::default())
    }

    /// As [`Files::mkfile`], with an owner or a time.
    #[must_use]
    pub fn mkfile_with(self, path: &str, mode: u32, data: &[u8], options: &FileOptions) -> Self {
        self.file.mkfile(path, mode, data, options.owner.as_ref(), options.timestamp);
        self
    }

    /// Adds a symbolic link at `path`.
    #[must_use]
    pub fn symlink(self, points_to: &str, path: &str) -> Self {
        self.symlink_with(points_to, path, &FileOptions::default())
    }

    /// As [`Files::symlink`], with an owner or a time.
    #[must_use]
    pub fn symlink_with(self, points_to: &str, path: &str, options: &FileOptions) -> Self {
        self.file.symlink(points_to, path, options.owner.as_ref(), options.timestamp);
        self
    }

    /// Removes a file or tree; with wildcards, and no error where nothing is.
    #[must_use]
    pub fn rm(self, path: &str) -> Self {
        self.file.rm(path, true, true);
        self
    }

    /// Removes just this one, which must be there.
    #[must_use]
    pub fn rm_exact(self, path: &str) -> Self {
        self.file.rm(path, false, false);
        self
    }

    /// Puts it into the graph under a name; the tree after it.
    ///
    /// # Errors
    /// When it makes no sense to the host.
    pub fn done(self, name: &str) -> Result<State, Error> {
        self.with(&named(name))
    }

    /// Puts it into the graph; the tree after it.
    ///
    /// # Errors
    /// When it makes no sense to the host.
    pub fn with(self, metadata: &Metadata) -> Result<State, Error> {
        self.file.apply(metadata)
    }
}
