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
struct Group {
    path: Vec<u8>,
    files: Vec<(Vec<u8>, Stat)>,
}

/// Fills in the digests of the files below `node`, where that can be done faster than one by one.
pub(crate) fn below(tree: &Inner, node: &mut Node, path: &[u8]) -> Result<()> {
    if !tree.is_context || tree.root.is_none() || !node.is_dir() {
        return Ok(());
    }
    let mut groups = Vec::new();
    collect(tree, node, path.to_vec(), &mut groups);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let count: usize = groups.iter().map(|group| group.files.len()).sum();
    let bytes: u64 = groups.iter().flat_map(|group| &group.files).map(|(_, stat)| stat.size).sum();
    if threads < 2 || (count < WORTH_FILES && (bytes < WORTH_BYTES || count < 2)) {
        return Ok(());
    }
    for (group, digests) in groups.iter().zip(read(tree, &groups, threads)?) {
        let rest = group.path.strip_prefix(path).unwrap_or(&group.path);
        let mut parts = rest.split(|b| *b == b'/').filter(|part| !part.is_empty());
        let directory = parts.try_fold(&mut *node, |at, part| at.children.as_mut()?.get_mut(part));
        let Some(children) = directory.and_then(|directory| directory.children.as_mut()) else { continue };
        for ((name, _), digest) in group.files.iter().zip(digests) {
            if let Some(child) = children.get_mut(name) {
                child.own = Some(digest);
            }
        }
    }
    Ok(())
}

/// Fills in what is remembered, and tells the rest. Trees are no deeper than their listing allows.
fn collect(tree: &Inner, node: &mut Node, path: Vec<u8>, groups: &mut Vec<Group>) {
    let mut files = Vec::new();
    for (name, child) in node.children.iter_mut().flatten() {
        match &child.stat {
            Some(stat) if stat.is_file() => {
                if child.own.is_none() && stat.size > 0 {
                    child.own = tree.cache.as_ref().and_then(|cache| cache.get(&FileIdentity::new(stat)));
                }
                if child.own.is_none() {
                    files.push((name.clone(), stat.clone()));
                }
            }
            _ if child.is_dir() => collect(tree, child, child_path(&path, name), groups),
            _ => {}
        }
    }
    if !files.is_empty() {
        groups.push(Group { path, files });
    }
}

/// The digests of all `groups`, in their order. One directory may be most of it, so large ones are cut.
fn read(tree: &Inner, groups: &[Group], threads: usize) -> Result<Vec<Vec<Digest>>> {
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
    let mut digests: Vec<Vec<Digest>> = groups.iter().map(|group| Vec::with_capacity(group.files.len())).collect();
    for (at, part) in found {
        digests[parts[at].0].extend(part);
    }
    Ok(digests)
}

fn read_part(tree: &Inner, group: &Group, range: std::ops::Range<usize>) -> Result<Vec<Digest>> {
    let Some(root) = &tree.root else { return Ok(Vec::new()) };
    let parent = root.open_dir(&group.path)?;
    let one = |(name, stat): &(Vec<u8>, Stat)| {
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
