//! Trees from elsewhere and from one another: local directories, git, URLs, merge, diff.
use crate::bindings::rhost::frontend::{llb, solve};
use crate::{Error, State, named};

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

/// A git checkout: of `remote` (`https://host/path.git`, `ssh://…`) the branch, tag or commit `reference` (empty: the default branch), of that the directory
/// `subdir` (empty: all of it). Tokens come from the secrets GIT_AUTH_TOKEN and GIT_AUTH_HEADER, if the user lends them.
///
/// # Errors
/// When the remote is none.
pub fn git(remote: &str, reference: &str, subdir: &str) -> Result<State, Error> {
    let (scheme, place) = remote.split_once("://").unwrap_or(("", remote));
    let host_and_path = place.rsplit_once('@').map_or(place, |(_, rest)| rest);
    let mut identifier = format!("git://{host_and_path}");
    if !reference.is_empty() || !subdir.is_empty() {
        identifier = format!("{identifier}#{reference}");
    }
    if !subdir.is_empty() {
        identifier = format!("{identifier}:{subdir}");
    }
    let mut attributes = vec![
        ("git.fullurl".to_owned(), remote.to_owned()),
        ("git.authheadersecret".to_owned(), "GIT_AUTH_HEADER".to_owned()),
        ("git.authtokensecret".to_owned(), "GIT_AUTH_TOKEN".to_owned()),
    ];
    if scheme == "ssh" {
        attributes.push(("git.mountsshsock".to_owned(), "default".to_owned()));
    }
    llb::source(&identifier, &attributes, None, &named(&format!("git {remote} {reference}")))
}

/// The file at a URL, as a tree of one file named `filename`. `checksum` is `sha256:…`, or empty: then the server is asked whether the file has changed.
///
/// # Errors
/// When the URL is none.
pub fn http(url: &str, filename: &str, checksum: &str) -> Result<State, Error> {
    let mut attributes = vec![("http.filename".to_owned(), filename.to_owned())];
    if !checksum.is_empty() {
        attributes.push(("http.checksum".to_owned(), checksum.to_owned()));
    }
    llb::source(url, &attributes, None, &named(url))
}

/// Trees laid over one another, the last on top.
///
/// # Errors
/// When the host will not.
pub fn merge(trees: &[&State], name: &str) -> Result<State, Error> {
    llb::merge(trees, &named(name))
}

/// What `upper` adds to, changes in and removes from `lower`.
///
/// # Errors
/// When the host will not.
pub fn diff(lower: &State, upper: &State, name: &str) -> Result<State, Error> {
    llb::diff(lower, upper, &named(name))
}

/// Starts to run what leads to a tree, while the frontend still works. Start many, then wait.
pub fn solve(tree: &State) -> PendingTree {
    PendingTree(solve::start(tree))
}

/// A tree on its way. Dropping it cancels what nobody else waits for.
pub struct PendingTree(solve::PendingTree);

/// A tree that exists, to be read.
pub struct Tree(solve::Tree);

impl PendingTree {
    /// Whether [`PendingTree::wait`] would return at once.
    pub fn ready(&self) -> bool {
        self.0.ready()
    }

    /// Waits for it.
    ///
    /// # Errors
    /// When a step failed.
    pub fn wait(self) -> Result<Tree, Error> {
        self.0.wait().map(Tree)
    }
}

impl Tree {
    /// The bytes of a file.
    ///
    /// # Errors
    /// When it is not there, or is larger than the host's limit.
    pub fn read(&self, path: &str) -> Result<Vec<u8>, Error> {
        self.0.read_file(path, None)
    }

    /// `length` bytes of a file from `offset`, or fewer where it ends.
    ///
    /// # Errors
    /// As [`Tree::read`].
    pub fn read_range(&self, path: &str, offset: u64, length: u64) -> Result<Vec<u8>, Error> {
        self.0.read_file(path, Some(crate::types::ByteRange { offset, length }))
    }

    /// The text of a file.
    ///
    /// # Errors
    /// As [`Tree::read`], or it is not UTF-8.
    pub fn read_text(&self, path: &str) -> Result<String, Error> {
        String::from_utf8(self.read(path)?).map_err(|_| crate::fail(format!("{path} is not UTF-8")))
    }

    /// The entries of a directory, sorted by name.
    ///
    /// # Errors
    /// When it is not there.
    pub fn read_dir(&self, path: &str) -> Result<Vec<crate::types::FileStat>, Error> {
        self.0.read_dir(path, None)
    }

    /// Those whose name matches a pattern.
    ///
    /// # Errors
    /// As [`Tree::read_dir`].
    pub fn read_dir_matching(&self, path: &str, pattern: &str) -> Result<Vec<crate::types::FileStat>, Error> {
        self.0.read_dir(path, Some(pattern))
    }

    /// Facts on one path.
    ///
    /// # Errors
    /// When it is not there.
    pub fn stat(&self, path: &str) -> Result<crate::types::FileStat, Error> {
        self.0.stat(path)
    }
}
