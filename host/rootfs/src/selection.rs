//! What a selector selects, file by file: the same files over which [`Tree::checksum`] is made, so that of two checksums that differ it can be said
//! which file is to blame.
use std::os::fd::AsFd;
use std::path::Path;

use rhost_llb::Digest;

use crate::content_hash::{child_path, included, own, read_digest};
use crate::path::{anchor, base, bytes, dir};
use crate::root::Last;
use crate::tree::{Inner, Node};
use crate::{ChecksumOptions, Error, Kind, Owner, Result, Stat, Tree};

/// One file under a checksum.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SelectedFile<'a> {
    /// Absolute path in the tree.
    pub path: &'a [u8],
    /// What it is.
    pub kind: Kind,
    /// Permission bits under which it takes part.
    pub mode: u32,
    /// The owner under which it takes part.
    pub owner: Owner,
    /// Digest of the file; of a directory that of its own metadata.
    pub digest: Digest,
}

impl Tree {
    /// Tells of every file over which [`Tree::checksum`] of the same `path` and `options` goes, parents first.
    ///
    /// # Errors
    /// As [`Tree::checksum`].
    pub fn selected(
        &self,
        path: &str,
        options: &ChecksumOptions,
        told: &mut dyn FnMut(SelectedFile<'_>),
    ) -> Result<()> {
        let (inner, path) = (&self.inner, anchor(path.as_bytes()));
        let mut top = self.top();
        if !options.wildcard && options.include.is_empty() && options.exclude.is_empty() {
            let last = if options.follow_links { Last::Follow } else { Last::Keep };
            return below(self, inner, &mut top, &path, last, told);
        }
        for item in included(inner, &mut top, &path, options)?.1 {
            let path = if item.path.is_empty() { b"/".as_slice() } else { &item.path };
            if item.follow {
                below(self, inner, &mut top, path, Last::Follow, told)?;
                continue;
            }
            let resolved = inner.resolve(&mut top, path, Last::Keep)?;
            if let Some(node) = inner.lookup(&mut top, &resolved)? {
                tell(self, node, path, item.digest, told);
            }
        }
        Ok(())
    }

    /// The digest that the file at `path` would have under `mode` and `owner`. It is read for it.
    ///
    /// # Errors
    /// It is not there, or cannot be read.
    pub fn digest_as(&self, path: impl AsRef<Path>, mode: u32, owner: Owner) -> Result<Digest> {
        let (inner, path) = (&self.inner, anchor(bytes(path.as_ref())));
        let mut top = self.top();
        let not_found = || Error::NotFound { path: crate::path::owned(&path) };
        let resolved = inner.resolve(&mut top, &path, Last::Keep)?;
        let node = inner.lookup(&mut top, &resolved)?.ok_or_else(not_found)?;
        let (Some(stat), Some(root)) = (&node.stat, &inner.root) else { return Err(not_found()) };
        let (stat, link) = (Stat { mode, ..stat.clone() }, node.link.clone());
        drop(top);
        let parent = root.open_dir(&dir(&resolved))?;
        let name = if resolved == b"/" { b".".as_slice() } else { base(&resolved) };
        read_digest(parent.as_fd(), name, &stat, owner, &link, &resolved)
    }
}

fn tell(tree: &Tree, node: &Node, path: &[u8], digest: Digest, told: &mut dyn FnMut(SelectedFile<'_>)) {
    let Some(stat) = &node.stat else { return };
    told(SelectedFile { path, kind: stat.kind, mode: stat.mode, owner: tree.owner(stat), digest });
}

/// What is at `path`, with all below it.
fn below(
    tree: &Tree,
    inner: &Inner,
    top: &mut Node,
    path: &[u8],
    last: Last,
    told: &mut dyn FnMut(SelectedFile<'_>),
) -> Result<()> {
    let resolved = inner.resolve(top, path, last)?;
    match inner.lookup(top, &resolved)? {
        Some(node) => walk(tree, inner, node, &resolved, told),
        None => Ok(()),
    }
}

/// Trees are no deeper than their listing allows.
fn walk(
    tree: &Tree,
    inner: &Inner,
    node: &mut Node,
    path: &[u8],
    told: &mut dyn FnMut(SelectedFile<'_>),
) -> Result<()> {
    let digest = own(inner, node, path)?;
    tell(tree, node, path, digest, told);
    if node.is_dir() {
        for (name, child) in inner.children(node, path)? {
            walk(tree, inner, child, &child_path(path, name), told)?;
        }
    }
    Ok(())
}
