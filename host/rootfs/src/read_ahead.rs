//! Reads the files of a context for their digests with several threads, before the digests are put together.
//!
//! Only what no cache remembers, and only where there is enough of it: a thread costs as much as a few small files.
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use rhost_llb::Digest;

use crate::content_hash::{FileIdentity, child_path, read_digest};
use crate::tree::{Inner, Node};
use crate::{Owner, Result, Stat};

/// Files, or bytes, from which on it is worth it.
const WORTH_FILES: usize = 32;
const WORTH_BYTES: u64 = 1 << 20;
/// Directories that a thread takes at once.
const BATCH: usize = 4;

/// The files of one directory that are to be read.
struct Group<'a> {
    path: Vec<u8>,
    files: Vec<(&'a [u8], &'a Stat)>,
}

/// Fills in the digests of the files below `node`, where that can be done faster than one by one.
pub(crate) fn below(tree: &Inner, node: &mut Node, path: &[u8]) -> Result<()> {
    if !tree.is_context || tree.root.is_none() || !node.is_dir() {
        return Ok(());
    }
    remembered(tree, node);
    let mut groups = Vec::new();
    collect(node, path.to_vec(), &mut groups);
    let threads = crate::processors();
    let count: usize = groups.iter().map(|group| group.files.len()).sum();
    let bytes: u64 = groups.iter().flat_map(|group| &group.files).map(|(_, stat)| stat.size).sum();
    if threads < 2 || (count < WORTH_FILES && (bytes < WORTH_BYTES || count < 2)) {
        return Ok(());
    }
    let digests = read(tree, &groups, threads)?;
    drop(groups);
    fill_in(node, &mut digests.into_iter());
    Ok(())
}

/// Whether the node is a file whose digest is not known.
fn is_unread(node: &Node) -> bool {
    node.own.is_none() && node.stat.as_ref().is_some_and(Stat::is_file)
}

/// Fills in what is remembered. Trees are no deeper than their listing allows.
fn remembered(tree: &Inner, node: &mut Node) {
    let Some(cache) = &tree.cache else { return };
    for child in node.children.iter_mut().flatten().map(|(_, child)| child) {
        if child.is_dir() {
            remembered(tree, child);
        } else if is_unread(child)
            && let Some(stat) = child.stat.as_ref().filter(|stat| stat.size > 0)
        {
            child.own = cache.get(&FileIdentity::new(stat));
        }
    }
}

/// Tells the rest: directories below first, then the files.
fn collect<'a>(node: &'a Node, path: Vec<u8>, groups: &mut Vec<Group<'a>>) {
    let mut files = Vec::new();
    for (name, child) in node.children.iter().flatten() {
        match &child.stat {
            Some(stat) if is_unread(child) => files.push((name.as_slice(), stat)),
            _ if child.is_dir() => collect(child, child_path(&path, name), groups),
            _ => {}
        }
    }
    if !files.is_empty() {
        groups.push(Group { path, files });
    }
}

/// Puts digests where [`collect`] found the files, in its order.
fn fill_in(node: &mut Node, digests: &mut impl Iterator<Item = Digest>) {
    let mut children: Vec<&mut Node> = node.children.iter_mut().flatten().map(|(_, child)| child).collect();
    children.iter_mut().filter(|child| child.is_dir()).for_each(|child| fill_in(child, digests));
    for child in children.into_iter().filter(|child| is_unread(child)) {
        child.own = digests.next();
    }
}

/// The digests of all `groups`, in their order. One directory may be most of it, so large ones are cut.
fn read(tree: &Inner, groups: &[Group<'_>], threads: usize) -> Result<Vec<Digest>> {
    let parts: Vec<(usize, std::ops::Range<usize>)> = groups
        .iter()
        .enumerate()
        .flat_map(|(index, group)| {
            let count = group.files.len();
            (0..count).step_by(64).map(move |from| (index, from..count.min(from + 64)))
        })
        .collect();
    let (next, failed) = (AtomicUsize::new(0), Mutex::new(None));
    let found: Mutex<Vec<(usize, Vec<Digest>)>> = Mutex::default();
    std::thread::scope(|scope| {
        for _ in 0..threads.min(parts.len()) {
            scope.spawn(|| {
                loop {
                    let first = next.fetch_add(BATCH, Ordering::Relaxed);
                    for (at, (group, range)) in parts.iter().enumerate().skip(first).take(BATCH) {
                        match read_part(tree, &groups[*group], range.clone()) {
                            Ok(digests) => {
                                found.lock().unwrap_or_else(PoisonError::into_inner).push((at, digests));
                            }
                            Err(error) => {
                                failed.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
                                next.store(parts.len(), Ordering::Relaxed);
                            }
                        }
                    }
                    if first >= parts.len() {
                        return;
                    }
                }
            });
        }
    });
    if let Some(error) = failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
        return Err(error);
    }
    let mut found = found.into_inner().unwrap_or_else(PoisonError::into_inner);
    found.sort_unstable_by_key(|(at, _)| *at);
    Ok(found.into_iter().flat_map(|(_, part)| part).collect())
}

fn read_part(tree: &Inner, group: &Group<'_>, range: std::ops::Range<usize>) -> Result<Vec<Digest>> {
    let Some(root) = &tree.root else { return Ok(Vec::new()) };
    let parent = root.open_dir(&group.path)?;
    let one = |&(name, stat): &(&[u8], &Stat)| {
        let digest = read_digest(parent.as_fd(), name, stat, Owner::default(), &[], &child_path(&group.path, name))?;
        if stat.size > 0
            && let Some(cache) = &tree.cache
        {
            cache.put(&FileIdentity::new(stat), digest);
        }
        Ok(digest)
    };
    group.files[range].iter().map(one).collect()
}
