//! What is in an instance, told as chunks: only what its notes do not know is read, by several threads.
use std::collections::HashMap;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use rhost_export::cache::{Chunk, Node, TreeEntry, chunk_id, chunks_of};
use rhost_rootfs::{FileIdentity, Kind, Root, Scanned, Stat, read_unchanged, scan, stat_now};
use rhost_store::{CacheMount, Settled};

use super::CacheFailure;
use super::notes::{Known, Notes};

/// How often a file that changes while it is read is tried again.
const TRIES: usize = 5;
/// Threads that read; more only wait for the disk.
const MOST_THREADS: usize = 8;

/// An instance as it was found.
pub struct Looked {
    /// Its directory.
    pub root: Root,
    /// What is in it.
    pub entries: Vec<TreeEntry>,
    /// What each was; of the same length.
    pub stats: Vec<Stat>,
    /// What is known of it now.
    pub notes: Notes,
    /// Whether that is more than its notes said.
    pub learnt: bool,
    /// Devices and sockets, which do not travel.
    pub left_out: usize,
}

impl Looked {
    /// Nothing, in an empty directory.
    pub fn nothing(root: Root) -> Self {
        Self { root, entries: Vec::new(), stats: Vec::new(), notes: Notes::default(), learnt: false, left_out: 0 }
    }
}

/// Looks at what `mount` holds. Others may be at work in it: what went away meanwhile is as if it had never been there.
///
/// # Errors
/// The disk; a file that changes whenever it is read.
pub fn look(mount: &CacheMount) -> Result<Looked, CacheFailure> {
    let dir = mount.dir();
    let (settled, root) = (Settled::now(&dir), Root::open(&dir)?);
    let old = mount.notes().map(|bytes| Notes::from_bytes(&bytes)).unwrap_or_default();
    let scanned = scan(&root, &|file| old.get(file).map(|known| known.xattrs.clone()))?;
    let mut chunks: Vec<Option<Vec<Chunk>>> = vec![None; scanned.len()];
    let mut first_names: HashMap<(u64, u64), usize> = HashMap::new();
    let (mut links, mut unread) = (HashMap::new(), Vec::new());
    for (number, Scanned { stat, .. }) in scanned.iter().enumerate().filter(|(_, found)| found.stat.is_file()) {
        if stat.links > 1
            && let Some(first) = first_names.insert((stat.dev, stat.ino), number)
        {
            first_names.insert((stat.dev, stat.ino), first);
            links.insert(number, first);
            continue;
        }
        match old.get(&FileIdentity::new(stat)) {
            _ if stat.size == 0 => chunks[number] = Some(Vec::new()),
            Some(known) => chunks[number] = Some(known.chunks.clone()),
            None => unread.push(number),
        }
    }
    let mut stats: Vec<Stat> = scanned.iter().map(|found| found.stat.clone()).collect();
    for (number, stat, found) in read(&root, &scanned, &unread)? {
        (chunks[number], stats[number]) = (found, stat);
    }
    let mut looked = Looked::nothing(root);
    // Where a file went away while it was read, all its names are left out.
    for ((number, found), stat) in scanned.iter().enumerate().zip(stats) {
        let node = match stat.kind {
            Kind::Dir => Node::Dir,
            Kind::Symlink => Node::Symlink(found.target.clone()),
            Kind::Fifo => Node::Fifo,
            Kind::File => match (links.get(&number), chunks[number].take()) {
                (Some(first), _) if chunks_were_read(&looked, &scanned[*first].path) => {
                    Node::HardLink(scanned[*first].path.clone())
                }
                (_, Some(chunks)) => Node::File(chunks),
                _ => continue,
            },
            Kind::CharDevice | Kind::BlockDevice | Kind::Socket => {
                looked.left_out += 1;
                continue;
            }
        };
        let file = FileIdentity::new(&stat);
        if settled.is_settled(&file) && !matches!(node, Node::HardLink(_)) {
            let chunks = if let Node::File(chunks) = &node { chunks.clone() } else { Vec::new() };
            looked.learnt |= old.get(&file).is_none();
            looked.notes.put(Known { file, xattrs: found.xattrs.clone(), chunks });
        }
        let mut xattrs = found.xattrs.clone();
        // The format has text there.
        xattrs.retain(|(name, _)| std::str::from_utf8(name).is_ok());
        looked.entries.push(TreeEntry {
            path: found.path.clone(),
            node,
            mode: if stat.is_symlink() { 0o777 } else { stat.mode },
            uid: stat.owner.uid,
            gid: stat.owner.gid,
            mtime: stat.mtime,
            xattrs,
        });
        looked.stats.push(stat);
    }
    looked.notes.packs = old.packs;
    Ok(looked)
}

/// Whether the first name of a file is among what was found: it comes before the others.
fn chunks_were_read(looked: &Looked, path: &[u8]) -> bool {
    let found = looked.entries.binary_search_by(|entry| order(&entry.path).cmp(order(path)));
    found.is_ok()
}

/// In the order of a tree: by names, not by the bytes of paths.
pub fn order(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.split(|byte| *byte == b'/')
}

/// Number, what the file was when it was read, and its chunks; `None` when it is gone.
type Read1 = (usize, Stat, Option<Vec<Chunk>>);

fn read(root: &Root, scanned: &[Scanned], unread: &[usize]) -> Result<Vec<Read1>, CacheFailure> {
    let next = AtomicUsize::new(0);
    let (found, failed) = (Mutex::new(Vec::with_capacity(unread.len())), Mutex::new(None));
    let work = || {
        let (mut buffer, mut mine) = (Vec::new(), Vec::new());
        while let Some(&number) = unread.get(next.fetch_add(1, Ordering::Relaxed)) {
            match read_one(root, &scanned[number], &mut buffer) {
                Ok((stat, chunks)) => mine.push((number, stat, chunks)),
                Err(error) => {
                    next.store(unread.len(), Ordering::Relaxed);
                    failed.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
                }
            }
        }
        found.lock().unwrap_or_else(PoisonError::into_inner).extend(mine);
    };
    let threads = rhost_rootfs::processors().min(MOST_THREADS).min(unread.len() / 8);
    std::thread::scope(|scope| {
        (1..threads).for_each(|_| drop(scope.spawn(work)));
        work();
    });
    match failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
        Some(error) => Err(error),
        None => Ok(found.into_inner().unwrap_or_else(PoisonError::into_inner)),
    }
}

fn read_one(root: &Root, found: &Scanned, buffer: &mut Vec<u8>) -> Result<(Stat, Option<Vec<Chunk>>), CacheFailure> {
    let mut stat = found.stat.clone();
    for _ in 0..TRIES {
        if let Some(chunks) = read_unchanged(root, &found.path, &stat, |file| chunks_of(file, buffer))? {
            return Ok((stat, Some(chunks)));
        }
        match stat_now(root, &found.path)? {
            Some(now) if now.is_file() => stat = now,
            // Gone, or replaced by something else: as if it had gone before.
            _ => return Ok((stat, None)),
        }
    }
    Err(CacheFailure::Changing { path: shown(&found.path) })
}

/// The bytes of `chunks`, which lie one after the other from `offset` on in the file `path` that was seen as `stat`; `None` when they do not any more.
///
/// # Errors
/// The disk.
pub fn read_chunks(
    root: &Root,
    path: &[u8],
    stat: &Stat,
    offset: u64,
    chunks: &[Chunk],
) -> Result<Option<Vec<u8>>, CacheFailure> {
    let length: u64 = chunks.iter().map(|chunk| u64::from(chunk.len)).sum();
    let read = read_unchanged(root, path, stat, |file| {
        let mut bytes = vec![0; usize::try_from(length).unwrap_or(usize::MAX)];
        if offset > 0 {
            file.seek(SeekFrom::Start(offset))?;
        }
        file.read_exact(&mut bytes)?;
        Ok(bytes)
    })?;
    Ok(read.filter(|bytes| {
        let mut from = 0;
        chunks.iter().all(|chunk| {
            let to = from + chunk.len as usize;
            let right = chunk_id(&bytes[from..to]) == chunk.id;
            from = to;
            right
        })
    }))
}

/// A path inside a mount for people.
pub fn shown(path: &[u8]) -> PathBuf {
    use std::os::unix::ffi::OsStrExt as _;
    Path::new(std::ffi::OsStr::from_bytes(path)).to_owned()
}
