//! BuildKit's content hash (spec C.2), so that cache records keyed by content can be exchanged with it.
//!
//! A file's digest covers a tar-sum v1 header (no name, no times), its attributes and its bytes; a directory's covers its own header
//! and, in byte order, names and digests of what is in it. With wildcards or filters the digest is over a list of (path, digest) of the
//! files and directory headers that matched.
use std::fs::File;
use std::io::Read;
use std::os::fd::AsFd;

use rhost_llb::{Digest, Hasher};
use rustix::fs::{Mode, OFlags};

use crate::copy_entry::open_path;
use crate::glob::{glob_match, has_wildcard, split_wildcard, validate};
use crate::path::{base, dir, os, owned};
use crate::read_ahead;
use crate::root::{Last, stat_fd};
use crate::tree::{Inner, Node};
use crate::{Error, Kind, MatchInfo, Owner, PatternMatcher, Result, Stat, xattr};

/// How a path is hashed: the fields of BuildKit's selector (spec C.1 "File: secondary input of copy").
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ChecksumOptions {
    /// Follow a symlink at the end of the path.
    pub follow_links: bool,
    /// The path is a pattern.
    pub wildcard: bool,
    /// Only what matches.
    pub include: Vec<String>,
    /// Not what matches.
    pub exclude: Vec<String>,
    /// Prefixes of which each must be among the files.
    pub required: Vec<String>,
}

/// What identifies the bytes and metadata of a file without reading it. Its path is no part of it, for it is no part of its digest either.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FileIdentity {
    /// Device.
    pub dev: u64,
    /// Inode.
    pub ino: u64,
    /// Size in bytes.
    pub size: u64,
    /// Modification time.
    pub mtime: i64,
    /// Change time.
    pub ctime: i64,
}

impl FileIdentity {
    /// Identity of a file of a context.
    pub fn new(stat: &Stat) -> Self {
        Self { dev: stat.dev, ino: stat.ino, size: stat.size, mtime: stat.mtime, ctime: stat.ctime }
    }
}

/// Remembers content digests of context files between builds. Lookups may miss at any time.
pub trait DigestCache: Send + Sync {
    /// The digest remembered for `file`.
    fn get(&self, file: &FileIdentity) -> Option<Digest>;
    /// Remembers.
    fn put(&self, file: &FileIdentity, digest: Digest);
}

/// Digest of what is at `path` (absolute and clean).
pub(crate) fn checksum(tree: &Inner, top: &mut Node, path: &[u8], options: &ChecksumOptions) -> Result<Digest> {
    if !options.wildcard && options.include.is_empty() && options.exclude.is_empty() {
        return plain(tree, top, path, if options.follow_links { Last::Follow } else { Last::Keep });
    }
    let (prefix, found) = included(tree, top, path, options)?;
    let mut records = Vec::with_capacity(found.len());
    for mut item in found {
        if item.follow {
            item.digest = plain(tree, top, &item.path, Last::Follow)?;
        }
        records.push(item);
    }
    match records.as_slice() {
        [] => Ok(Digest::of(b"")),
        [one] if base(path) == base(&one.path) => Ok(one.digest),
        many => {
            let mut hasher = Hasher::new();
            for item in many {
                let rest = item.path.strip_prefix(prefix.as_slice()).unwrap_or(&item.path);
                let key: Vec<u8> = rest.iter().map(|b| if *b == b'/' { 0 } else { *b }).collect();
                hasher.update(if key.is_empty() { vec![0] } else { key });
                hasher.update(item.digest.text());
            }
            Ok(hasher.finish())
        }
    }
}

fn plain(tree: &Inner, top: &mut Node, path: &[u8], last: Last) -> Result<Digest> {
    let resolved = tree.resolve(top, path, last)?;
    match tree.lookup(top, &resolved)? {
        Some(node) => {
            read_ahead::below(tree, node, &resolved)?;
            whole(tree, node, &resolved)
        }
        None => Err(Error::NotFound { path: owned(path) }),
    }
}

/// Digest of a file, or of a directory with all below it.
fn whole(tree: &Inner, node: &mut Node, path: &[u8]) -> Result<Digest> {
    if !node.is_dir() {
        return own(tree, node, path);
    }
    if let Some(digest) = node.whole {
        return Ok(digest);
    }
    let mut hasher = Hasher::new();
    hasher.update([0]);
    hasher.update(own(tree, node, path)?.text());
    for (name, child) in tree.children(node, path)? {
        let digest = whole(tree, child, &child_path(path, name))?;
        hasher.update([0]);
        hasher.update(name);
        hasher.update(digest.text());
    }
    let digest = hasher.finish();
    node.whole = Some(digest);
    Ok(digest)
}

/// `name` in `path`, which is clean.
pub(crate) fn child_path(path: &[u8], name: &[u8]) -> Vec<u8> {
    if path == b"/" { [path, name].concat() } else { [path, b"/", name].concat() }
}

/// Digest of a file, or of a directory's own metadata.
pub(crate) fn own(tree: &Inner, node: &mut Node, path: &[u8]) -> Result<Digest> {
    if let Some(digest) = node.own {
        return Ok(digest);
    }
    let digest = match (&node.stat, &tree.root) {
        // The top of an uploaded context has no metadata.
        (None, _) | (_, None) => Digest::of(b""),
        (Some(stat), Some(root)) => {
            let cache = tree.cache.as_ref().filter(|_| stat.is_file() && stat.size > 0);
            let identity = FileIdentity::new(stat);
            match cache.and_then(|c| c.get(&identity)) {
                Some(digest) => digest,
                None => {
                    let owner = if tree.is_context { Owner::default() } else { stat.owner };
                    let parent = root.open_dir(&dir(path))?;
                    let name = if path == b"/" { b".".as_slice() } else { base(path) };
                    let digest = read_digest(parent.as_fd(), name, stat, owner, &node.link, path)?;
                    if let Some(cache) = cache {
                        cache.put(&identity, digest);
                    }
                    digest
                }
            }
        }
    };
    node.own = Some(digest);
    Ok(digest)
}

pub(crate) fn read_digest(
    parent: std::os::fd::BorrowedFd<'_>,
    name: &[u8],
    stat: &Stat,
    owner: Owner,
    link: &[u8],
    path: &[u8],
) -> Result<Digest> {
    let shown = owned(path);
    let failed = |e| Error::io("list attributes of", &shown, e);
    let (attributes, file) = if stat.is_file() && stat.size > 0 {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let fd =
            rustix::fs::openat(parent, os(name), flags, Mode::empty()).map_err(|e| Error::io("open", &shown, e))?;
        (xattr::list_open(&fd).map_err(failed)?, Some(File::from(fd)))
    } else {
        (xattr::list(open_path(parent, name, &shown)?).map_err(failed)?, None)
    };
    let mut hasher = Hasher::new();
    header(&mut hasher, stat, owner, link);
    for (key, value) in attributes.iter().filter(|(key, _)| counts(key)) {
        hasher.update(key);
        hasher.update(value);
    }
    if let Some(mut file) = file {
        let mut buffer = vec![0; usize::try_from(stat.size.clamp(1, 256 << 10)).unwrap_or(1)];
        let mut read = 0;
        while read < stat.size {
            match file.read(&mut buffer).map_err(|e| Error::io("read", &shown, e))? {
                0 => break,
                count => {
                    read += count as u64;
                    hasher.update(&buffer[..count]);
                }
            }
        }
        let after = stat_fd(&file, &shown)?;
        if (read, after.size) != (stat.size, stat.size) || after.mtime != stat.mtime || after.ino != stat.ino {
            return Err(Error::Changed { path: shown });
        }
    }
    Ok(hasher.finish())
}

/// Attributes that are part of the content.
fn counts(key: &[u8]) -> bool {
    key == b"security.capability"
        || !(key.starts_with(b"security.") || key.starts_with(b"system.") || xattr::is_overlay(key))
}

/// The tar-sum v1 header with an empty name.
fn header(hasher: &mut Hasher, stat: &Stat, owner: Owner, link: &[u8]) {
    let (flag, size, mode) = match stat.kind {
        Kind::File => ('0', stat.size, stat.mode),
        Kind::Socket => ('0', 0, stat.mode),
        Kind::Symlink => ('2', 0, 0o777),
        Kind::CharDevice => ('3', 0, stat.mode),
        Kind::BlockDevice => ('4', 0, stat.mode),
        Kind::Dir => ('5', 0, stat.mode),
        Kind::Fifo => ('6', 0, stat.mode),
    };
    let (major, minor) = stat.rdev;
    hasher.update(format!("namemode{mode}uid{}gid{}size{size}typeflag{flag}linkname", owner.uid, owner.gid));
    hasher.update(link);
    hasher.update(format!("unamegnamedevmajor{major}devminor{minor}"));
}

pub(crate) struct Item {
    /// Path as asked for: below the prefix as it was written, not as it was resolved.
    pub(crate) path: Vec<u8>,
    pub(crate) digest: Digest,
    /// A symlink at the top that is to be followed.
    pub(crate) follow: bool,
}

struct Selection<'a> {
    tree: &'a Inner,
    pattern: &'a [u8],
    wildcard: bool,
    depth: usize,
    follow_links: bool,
    include: Option<PatternMatcher>,
    exclude: Option<PatternMatcher>,
    found: Vec<Item>,
    /// Headers of the directories above the current one, with whether they are in `found`.
    parents: Vec<(Item, bool)>,
}

/// What a wildcard or filter selects, in the order of the hash, and the prefix that is cut from the paths.
pub(crate) fn included(
    tree: &Inner,
    top: &mut Node,
    path: &[u8],
    options: &ChecksumOptions,
) -> Result<(Vec<u8>, Vec<Item>)> {
    // The root has the empty name here, as in BuildKit's keys.
    let pattern = if path == b"/" { b"".as_slice() } else { path };
    let matcher = |p: &[String]| if p.is_empty() { Ok(None) } else { PatternMatcher::new(p).map(Some) };
    let (prefix, wild) = if options.wildcard { split_wildcard(path) } else { (path.to_vec(), Vec::new()) };
    validate(&wild)?;
    let last = if wild.is_empty() { Last::Keep } else { Last::Follow };
    let prefix = if prefix == b"/" { Vec::new() } else { prefix };
    let resolved = tree.resolve(top, if prefix.is_empty() { b"/" } else { &prefix }, last)?;
    let mut selection = Selection {
        tree,
        pattern,
        wildcard: options.wildcard && has_wildcard(path),
        depth: pattern.iter().filter(|b| **b == b'/').count(),
        follow_links: options.follow_links,
        include: matcher(&options.include)?,
        exclude: matcher(&options.exclude)?,
        found: Vec::new(),
        parents: Vec::new(),
    };
    if let Some(node) = tree.lookup(top, &resolved)? {
        if selection.takes_everything() {
            read_ahead::below(tree, node, &resolved)?;
        }
        let none = (MatchInfo::default(), MatchInfo::default());
        selection.visit(node, &resolved, &prefix, None, &none)?;
    }
    for required in &options.required {
        if !selection.found.iter().any(|item| item.path.starts_with(required.as_bytes())) {
            return Err(Error::NotFound { path: required.into() });
        }
    }
    Ok((prefix, selection.found))
}

impl Selection<'_> {
    fn takes_everything(&self) -> bool {
        !self.wildcard && self.include.is_none() && self.exclude.is_none()
    }

    /// `path` is where the node is, `name` how it is called in the answer; `matched` the directory that the pattern matched above it.
    fn visit(
        &mut self,
        node: &mut Node,
        path: &[u8],
        name: &[u8],
        matched: Option<&[u8]>,
        parent: &(MatchInfo, MatchInfo),
    ) -> Result<()> {
        let mut matched = matched.map(<[u8]>::to_vec);
        if self.wildcard && matched.is_none() && !self.pattern.is_empty() {
            if !glob_match(self.pattern, name)? {
                let deeper = name.iter().filter(|b| **b == b'/').count() < self.depth;
                return if deeper { self.below(node, path, name, None, parent) } else { Ok(()) };
            }
            matched = Some(name.to_vec());
        }
        // Relative to what matched, or to the path asked for.
        let from = matched.as_deref().unwrap_or(self.pattern);
        let candidate = name.strip_prefix(from).map(|r| r.strip_prefix(b"/").unwrap_or(r)).unwrap_or(name);
        let is_dir = node.is_dir();
        // The root as a whole is asked for as "/": its own metadata is left out.
        if is_dir && name.is_empty() && self.pattern.is_empty() {
            return self.below(node, path, name, matched, parent);
        }
        let (mut wanted, mut info) = (true, (MatchInfo::default(), MatchInfo::default()));
        if let Some(matcher) = &self.include {
            (wanted, info.0) = matcher.matches_below(candidate, &parent.0);
        }
        if wanted && let Some(matcher) = &self.exclude {
            let (hit, exclude) = matcher.matches_below(candidate, &parent.1);
            info.1 = exclude;
            wanted = !hit;
        }
        if !wanted && !is_dir {
            return Ok(());
        }
        let follow = self.parents.is_empty() && self.follow_links && node.is_symlink();
        let digest = own(self.tree, node, path)?;
        if wanted {
            for (parent, told) in self.parents.iter_mut().filter(|(_, told)| !told) {
                *told = true;
                self.found.push(Item { path: parent.path.clone(), digest: parent.digest, follow: false });
            }
            self.found.push(Item { path: name.to_vec(), digest, follow });
        }
        if is_dir {
            self.parents.push((Item { path: name.to_vec(), digest, follow }, wanted));
            self.below(node, path, name, matched, &info)?;
            self.parents.pop();
        }
        Ok(())
    }

    fn below(
        &mut self,
        node: &mut Node,
        path: &[u8],
        name: &[u8],
        matched: Option<Vec<u8>>,
        info: &(MatchInfo, MatchInfo),
    ) -> Result<()> {
        if !node.is_dir() {
            return Ok(());
        }
        let tree = self.tree;
        for (child_name, child) in tree.children(node, path)? {
            let child_path = child_path(path, child_name);
            let shown = [name, b"/", child_name].concat();
            self.visit(child, &child_path, &shown, matched.as_deref(), info)?;
        }
        Ok(())
    }
}
