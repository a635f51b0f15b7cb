//! Short forms for operations: run a command, with its mounts; change files.
use crate::bindings::rhost::frontend::llb::{
    self, BindMode, CacheSharing, CopyAction, CopyFlags, Exec, File, NetworkMode,
};
use crate::{Error, Metadata, Platform, State};

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

    /// Mounts `path` of a tree (empty: all of it). [`Ran::output`] has what a mount with [`BindMode::Keep`] became.
    #[must_use]
    pub fn mount(self, target: &str, tree: &State, path: &str, mode: BindMode) -> Self {
        self.exec.mount(target, tree, path, mode);
        self
    }

    /// Mounts the cache `id`, a directory that outlives the build.
    #[must_use]
    pub fn cache(self, target: &str, id: &str, sharing: CacheSharing) -> Self {
        self.exec.mount_cache(target, id, sharing, &llb::scratch(), "", false);
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
        self.exec.mount_secret(target, id, false, llb::FileAccess { uid: 0, gid: 0, mode: 0o400 });
        self
    }

    /// Sets a variable to the user's secret `id`.
    #[must_use]
    pub fn secret_env(self, name: &str, id: &str) -> Self {
        self.exec.secret_env(name, id, false);
        self
    }

    /// Lends it the user's ssh agent `id` (`default` by custom), by SSH_AUTH_SOCK.
    #[must_use]
    pub fn ssh(self, id: &str) -> Self {
        self.exec.mount_ssh("", id, false, llb::FileAccess { uid: 0, gid: 0, mode: 0o600 });
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
            action.options(
                CopyFlags::FOLLOW_SYMLINKS
                    | CopyFlags::CONTENTS_ONLY
                    | CopyFlags::CREATE_DESTINATION
                    | CopyFlags::WILDCARD
                    | CopyFlags::ALLOW_EMPTY_WILDCARD,
            );
        }
        self.file.copy(&action);
        self
    }

    /// Adds a directory, with missing ones above it.
    #[must_use]
    pub fn mkdir(self, path: &str, mode: u32) -> Self {
        self.file.mkdir(path, mode, true, None, None);
        self
    }

    /// Adds a file.
    #[must_use]
    pub fn mkfile(self, path: &str, mode: u32, data: &[u8]) -> Self {
        self.file.mkfile(path, mode, data, None, None);
        self
    }

    /// Adds a symbolic link at `path`.
    #[must_use]
    pub fn symlink(self, points_to: &str, path: &str) -> Self {
        self.file.symlink(points_to, path, None, None);
        self
    }

    /// Removes a file or tree; with wildcards, and no error where nothing is.
    #[must_use]
    pub fn rm(self, path: &str) -> Self {
        self.file.rm(path, true, true);
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
