//! `Tree`: which files take part, under which owner, and what they hash to. One tree serves all the selectors and copies of a build from
//! one context or snapshot, so that a file is read for its digest once.
//!
//! A snapshot's directories are listed when first asked about; a context is listed whole, because its filter decides by what lies below.
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rhost_llb::Digest;

use crate::content_hash;
use crate::listing::{MAX_TREE_DEPTH, list};
use crate::path::{anchor, bytes, join, owned};
use crate::root::{self, Last, stat_fd, try_stat_at};
use crate::walk::patterns;
use crate::{ChecksumOptions, DigestCache, Error, Filter, Modes, Owner, Result, Root, Stat};

/// A view of a directory: which files take part, who owns them, what they hash to. Cheap to clone, shared between threads.
#[derive(Clone)]
pub struct Tree {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) root: Option<Root>,
    /// A context: listed whole, owned by 0:0, the top directory's own metadata counts for nothing.
    pub(crate) is_context: bool,
    modes: Modes,
    pub(crate) cache: Option<Arc<dyn DigestCache>>,
    top: Mutex<Node>,
}

/// One file. Digests are filled in when they are first wanted.
#[derive(Default)]
pub(crate) struct Node {
    pub(crate) stat: Option<Stat>,
    /// Target of a symlink.
    pub(crate) link: Vec<u8>,
    /// `None`: a directory that was not listed yet.
    pub(crate) children: Option<BTreeMap<Vec<u8>, Node>>,
    /// Digest of a file, or of a directory's own metadata.
    pub(crate) own: Option<Digest>,
    /// Digest of a directory with all below it.
    pub(crate) whole: Option<Digest>,
}

impl Node {
    pub(crate) fn is_dir(&self) -> bool {
        self.stat.as_ref().is_none_or(Stat::is_dir)
    }

    pub(crate) fn is_symlink(&self) -> bool {
        self.stat.as_ref().is_some_and(Stat::is_symlink)
    }
}

impl std::fmt::Debug for Tree {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tree").field("context", &self.inner.is_context).finish_non_exhaustive()
    }
}

impl Tree {
    /// Everything below `root`, with the owners on disk: a snapshot, mounted read-only (it must not change while the tree is used).
    pub fn of_root(root: Root) -> Self {
        // An open descriptor can be asked; a file system that fails even that fails at the first listing, too.
        let stat = stat_fd(root.fd(), Path::new("/")).ok();
        let top = Node { stat, ..Node::default() };
        let modes = Modes::AsTheyAre;
        Self {
            inner: Arc::new(Inner { root: Some(root), is_context: false, modes, cache: None, top: Mutex::new(top) }),
        }
    }

    /// What `filter` lets through of a build context, read in place, everything owned by 0:0 (spec C.2), with `modes`. `cache` remembers digests
    /// between builds, for these `modes` alone: a digest covers the mode.
    ///
    /// # Errors
    /// A broken pattern, or a directory that takes part and cannot be read.
    pub fn of_context(root: Root, filter: &Filter, modes: Modes, cache: Option<Arc<dyn DigestCache>>) -> Result<Self> {
        let children = list(&root, &patterns(&root, filter)?, modes)?;
        let top = Node { children: Some(children), ..Node::default() };
        Ok(Self { inner: Arc::new(Inner { root: Some(root), is_context: true, modes, cache, top: Mutex::new(top) }) })
    }

    /// The empty tree, `FROM scratch`: its `/` hashes to the digest of nothing, and there is nothing else.
    pub fn empty() -> Self {
        let top = Node { children: Some(BTreeMap::new()), whole: Some(Digest::of(b"")), ..Node::default() };
        let modes = Modes::AsTheyAre;
        Self { inner: Arc::new(Inner { root: None, is_context: true, modes, cache: None, top: Mutex::new(top) }) }
    }

    /// The root that files are read from; `None` for the empty tree.
    pub fn root(&self) -> Option<&Root> {
        self.inner.root.as_ref()
    }

    /// True when `path` (absolute, free of symlinks) takes part. For a snapshot that is everything.
    pub fn contains(&self, path: impl AsRef<Path>) -> bool {
        if !self.inner.is_context {
            return true;
        }
        let mut top = self.top();
        matches!(self.inner.lookup(&mut top, &anchor(bytes(path.as_ref()))), Ok(Some(_)))
    }

    /// `None` when `path` takes no part; else the digest of a context's file, if it was asked for before.
    pub(crate) fn known(&self, path: &[u8]) -> Option<Option<Digest>> {
        if !self.inner.is_context {
            return Some(None);
        }
        let mut top = self.top();
        let mut node = &mut *top;
        for part in path.split(|b| *b == b'/').filter(|part| !part.is_empty()) {
            // A context is listed whole.
            node = node.children.as_mut()?.get_mut(part)?;
        }
        Some(node.own)
    }

    /// Metadata of `path`: symlinks on the way are followed inside the tree, the last one is not.
    ///
    /// # Errors
    /// [`Error::NotFound`] when it does not take part.
    pub fn stat(&self, path: impl AsRef<Path>) -> Result<Stat> {
        let path = path.as_ref();
        let mut top = self.top();
        let resolved = self.inner.resolve(&mut top, &anchor(bytes(path)), Last::Keep)?;
        let not_found = || Error::NotFound { path: path.to_path_buf() };
        let node = self.inner.lookup(&mut top, &resolved)?.ok_or_else(not_found)?;
        let stat = match &node.stat {
            Some(stat) => stat.clone(),
            None => stat_fd(self.root().ok_or_else(not_found)?.fd(), path)?,
        };
        Ok(Stat { owner: self.owner(&stat), ..stat })
    }

    /// Every file of a context with its path (relative, no leading `/`), parents first. For a snapshot it lists all of it.
    pub fn entries(&self) -> Result<Vec<crate::Entry>> {
        let mut top = self.top();
        let mut found = Vec::new();
        self.list(&mut top, b"", &mut found)?;
        Ok(found)
    }

    fn list(&self, node: &mut Node, path: &[u8], found: &mut Vec<crate::Entry>) -> Result<()> {
        if !node.is_dir() {
            return Ok(());
        }
        for (name, child) in self.inner.children(node, path)? {
            let path = join(path, name);
            if let Some(stat) = &child.stat {
                let stat = Stat { owner: self.owner(stat), ..stat.clone() };
                found.push(crate::Entry { path: owned(&path), stat });
            }
            self.list(child, &path, found)?;
        }
        Ok(())
    }

    /// Digest of the content at `path`, by BuildKit's formula (spec C.2). `path` is taken below `/`.
    ///
    /// # Errors
    /// [`Error::NotFound`], a broken pattern, or a file that cannot be read.
    pub fn checksum(&self, path: &str, options: &ChecksumOptions) -> Result<Digest> {
        content_hash::checksum(&self.inner, &mut self.top(), &anchor(path.as_bytes()), options)
    }

    /// The owner under which a file takes part.
    pub(crate) fn owner(&self, stat: &Stat) -> Owner {
        if self.inner.is_context { Owner::default() } else { stat.owner }
    }

    /// The permission bits under which a file takes part; `stat` is what is on disk.
    pub(crate) fn mode(&self, stat: &Stat) -> u32 {
        self.inner.modes.of(stat)
    }

    pub(crate) fn top(&self) -> MutexGuard<'_, Node> {
        self.inner.top.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// The children of directory `node` at `path`, listed now if they were not.
    pub(crate) fn children<'n>(&self, node: &'n mut Node, path: &[u8]) -> Result<&'n mut BTreeMap<Vec<u8>, Node>> {
        if node.children.is_none() {
            node.children = Some(self.load(path)?);
        }
        Ok(node.children.as_mut().expect("filled in above"))
    }

    fn load(&self, path: &[u8]) -> Result<BTreeMap<Vec<u8>, Node>> {
        let mut children = BTreeMap::new();
        let Some(root) = &self.root else { return Ok(children) };
        if path.iter().filter(|b| **b == b'/').count() > MAX_TREE_DEPTH {
            return Err(Error::TooDeep { path: owned(path), limit: MAX_TREE_DEPTH });
        }
        let fd = root.open_dir(path)?;
        for name in root::names(&fd, &owned(path))? {
            let shown = owned(&join(path, &name));
            let Some(stat) = try_stat_at(&fd, &name, &shown)? else { continue };
            let link = if stat.is_symlink() { root::read_link_at(&fd, &name, &shown)? } else { Vec::new() };
            children.insert(name, Node { stat: Some(stat), link, ..Node::default() });
        }
        Ok(children)
    }

    /// The node at `path`: absolute, clean, free of symlinks.
    pub(crate) fn lookup<'n>(&self, top: &'n mut Node, path: &[u8]) -> Result<Option<&'n mut Node>> {
        let mut node = top;
        let mut at = Vec::from(*b"/");
        for part in path.split(|b| *b == b'/').filter(|p| !p.is_empty()) {
            if !node.is_dir() {
                return Ok(None);
            }
            let Some(next) = self.children(node, &at)?.get_mut(part) else { return Ok(None) };
            node = next;
            at = content_hash::child_path(&at, part);
        }
        Ok(Some(node))
    }

    /// `path` with its symlinks followed inside the tree; components that are not there are kept.
    pub(crate) fn resolve(&self, top: &mut Node, path: &[u8], last: Last) -> Result<Vec<u8>> {
        let split = |p: &[u8]| -> Vec<Vec<u8>> {
            p.split(|b| *b == b'/').filter(|p| !p.is_empty() && *p != b".").map(<[u8]>::to_vec).rev().collect()
        };
        let mut todo = split(path);
        let mut current = Vec::from(*b"/");
        let mut links = 0;
        while let Some(part) = todo.pop() {
            let next = join(&current, &part);
            let link = match self.lookup(top, &next)? {
                Some(node) if node.is_symlink() && !(last == Last::Keep && todo.is_empty()) => node.link.clone(),
                _ => {
                    current = next;
                    continue;
                }
            };
            links += 1;
            if links > 255 {
                return Err(Error::TooManyLinks { path: owned(path) });
            }
            if link.first() == Some(&b'/') {
                current = Vec::from(*b"/");
            }
            todo.extend(split(&link));
        }
        Ok(current)
    }
}
