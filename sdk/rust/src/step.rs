//! Short forms for operations: run a command, change files, take a local directory.
use crate::bindings::rhost::frontend::llb::{self, CopyAction, CopyFlags, Exec, File};
use crate::{Error, Metadata, Platform, State};

/// Metadata with a name for progress.
pub fn named(name: &str) -> Metadata {
    let metadata = Metadata::new();
    metadata.name(name);
    metadata
}

/// A directory that the client lends: `context` is the build context. `paths`: only these are wanted (empty: all).
///
/// # Errors
/// When the name is no name.
pub fn local(name: &str, paths: &[String]) -> Result<State, Error> {
    let mut attributes = vec![("local.sharedkeyhint".to_owned(), name.to_owned())];
    if !paths.is_empty() {
        attributes.push(("local.followpaths".to_owned(), serde_json::json!(paths).to_string()));
    }
    llb::source(&format!("local://{name}"), &attributes, None, &named(&format!("[internal] load {name}")))
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
