//! Laying down a tree beside the instance that it will stand for: what the old instance has is linked or copied from there, the rest comes in packs, in the order of the tree.
//!
//! A file of the old instance is linked only where content and metadata are the same: nobody has the old one while its successor is made, and it goes when that takes its place, so no
//! file is ever writable through two instances. Every chunk is checked by its name before it is written, wherever it comes from.
use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt as _;

use rhost_export::cache::{CacheFormatError, Chunk, Node, PackConfig, Sequenced, TreeEntry, chunk_id, is_zeros};
use rhost_rootfs::{Owner, OwnerPolicy, Root, TreeMeta, TreeWriter, stat_now};

use super::CacheFailure;
use super::look::{Looked, read_chunks, shown};

/// What is to be laid down.
pub struct Plan {
    /// The tree that is imported.
    pub entries: Vec<TreeEntry>,
    /// Its chunks.
    pub chunks: Vec<Sequenced>,
    /// Where each pack begins among them; one more at the end.
    pub starts: Vec<usize>,
    /// Which packs must come, in order.
    pub needed: Vec<usize>,
    /// The instance that it replaces.
    pub old: Looked,
    /// Where the old one has chunks: number of the file, and where in it.
    held: HashMap<Chunk, (usize, u64)>,
    /// Whether what only the old one has stays.
    merge: bool,
}

/// How much came from where.
#[derive(Debug, Clone, Copy, Default)]
pub struct Laid {
    /// Things in the mount now.
    pub entries: u64,
    /// Files that were taken over as they were.
    pub linked: u64,
}

impl Plan {
    /// Plans `entries`, whose chunks lie in `packs`, over `old`.
    ///
    /// # Errors
    /// The packs do not go with the tree.
    pub fn new(
        entries: Vec<TreeEntry>,
        packs: &[PackConfig],
        old: Looked,
        merge: bool,
    ) -> Result<Self, CacheFormatError> {
        let chunks = rhost_export::cache::sequence(&entries);
        let broken = |reason: &str| CacheFormatError::Broken { what: "config".to_owned(), reason: reason.to_owned() };
        let mut starts = vec![0usize];
        for pack in packs {
            let from = starts[starts.len() - 1];
            let to = usize::try_from(pack.chunks).ok().and_then(|count| from.checked_add(count));
            let to = to.filter(|to| *to <= chunks.len() && *to > from);
            let to = to.ok_or_else(|| broken("its packs have other chunks than the tree"))?;
            let bytes: u64 = chunks[from..to].iter().map(|c| u64::from(c.chunk.len)).sum();
            if bytes != pack.bytes {
                return Err(broken("a pack has another size than its chunks"));
            }
            starts.push(to);
        }
        if starts[starts.len() - 1] != chunks.len() {
            return Err(broken("its packs have other chunks than the tree"));
        }
        let mut held = HashMap::new();
        for (number, entry) in old.entries.iter().enumerate() {
            let Node::File(own) = &entry.node else { continue };
            let mut offset = 0;
            for chunk in own {
                held.entry(*chunk).or_insert((number, offset));
                offset += u64::from(chunk.len);
            }
        }
        let lacks =
            |pack: &usize| chunks[starts[*pack]..starts[*pack + 1]].iter().any(|c| !held.contains_key(&c.chunk));
        let needed = (0..packs.len()).filter(lacks).collect();
        Ok(Self { entries, chunks, starts, needed, old, held, merge })
    }

    /// Bytes that will be written: all files but those that are linked, and but holes.
    pub fn bytes(&self) -> u64 {
        let known = self.old_by_path();
        let zeros = Chunk::of(&vec![0; Chunk::MOST as usize]);
        let written = self
            .entries
            .iter()
            .filter(|entry| !known.get(&entry.path[..]).is_some_and(|old| self.is_same(*old, entry)));
        let sizes = written.map(|entry| match &entry.node {
            Node::File(chunks) => {
                chunks.iter().filter(|chunk| **chunk != zeros).map(|chunk| u64::from(chunk.len)).sum()
            }
            _ => 0,
        });
        sizes.fold(0u64, u64::saturating_add)
    }

    fn old_by_path(&self) -> HashMap<&[u8], usize> {
        self.old.entries.iter().enumerate().map(|(number, entry)| (&entry.path[..], number)).collect()
    }

    /// Whether the old file will do as it is: one that has no other name there, because names that are not one file must not become one.
    fn is_same(&self, old: usize, new: &TreeEntry) -> bool {
        matches!(new.node, Node::File(_)) && self.old.entries[old] == *new && self.old.stats[old].links == 1
    }

    /// What the new instance will have, in order: parents before children.
    fn merged(&self) -> Vec<Origin> {
        // A path's parts compare as the tree orders them when nothing sorts before their separator.
        let key = |path: &[u8]| path.iter().map(|byte| if *byte == b'/' { 0 } else { *byte }).collect::<Vec<u8>>();
        let mut all: BTreeMap<Vec<u8>, Origin> = BTreeMap::new();
        if self.merge {
            all.extend(self.old.entries.iter().enumerate().map(|(n, entry)| (key(&entry.path), Origin::Old(n))));
        }
        all.extend(self.entries.iter().enumerate().map(|(n, entry)| (key(&entry.path), Origin::New(n))));
        let mut dirs: HashSet<&[u8]> = HashSet::new();
        let mut found = Vec::with_capacity(all.len());
        for origin in all.into_values() {
            let entry = self.entry(origin);
            let parent = entry.path.iter().rposition(|byte| *byte == b'/').map_or(&[][..], |at| &entry.path[..at]);
            // What lay in a directory that is something else now.
            if !entry.path.is_empty() && !dirs.contains(parent) {
                continue;
            }
            if entry.node == Node::Dir {
                dirs.insert(&entry.path);
            }
            found.push(origin);
        }
        found
    }

    fn entry(&self, origin: Origin) -> &TreeEntry {
        match origin {
            Origin::Old(number) => &self.old.entries[number],
            Origin::New(number) => &self.entries[number],
        }
    }

    /// Lays it down in the empty directory `root`. `next` gives what the needed packs hold, one after the other.
    ///
    /// # Errors
    /// The disk; a pack that does not come, or holds something else.
    pub fn lay(
        &self,
        root: Root,
        owners: OwnerPolicy,
        next: impl FnMut(usize) -> Result<Vec<u8>, CacheFailure>,
    ) -> Result<Laid, CacheFailure> {
        let mut laying = Laying {
            plan: self,
            writer: TreeWriter::new(root, owners),
            next,
            waiting: self.needed.iter().copied().collect(),
            pack: Vec::new(),
            in_pack: HashMap::new(),
            placed: HashMap::new(),
            laid: Laid::default(),
        };
        let known = self.old_by_path();
        for origin in self.merged() {
            laying.entry(origin, &known)?;
        }
        let Laying { writer, laid, .. } = laying;
        writer.finish()?;
        Ok(laid)
    }
}

/// Which tree an entry is of, and its number there.
#[derive(Clone, Copy)]
enum Origin {
    Old(usize),
    New(usize),
}

struct Laying<'a, N> {
    plan: &'a Plan,
    writer: TreeWriter,
    next: N,
    /// Packs that have not come yet.
    waiting: std::collections::VecDeque<usize>,
    /// What the last one holds, and where.
    pack: Vec<u8>,
    in_pack: HashMap<Chunk, usize>,
    /// Where chunks lie in what was laid down: number of the entry, offset.
    placed: HashMap<Chunk, (usize, u64)>,
    laid: Laid,
}

fn meta(entry: &TreeEntry) -> TreeMeta {
    TreeMeta {
        mode: entry.mode,
        owner: Owner { uid: entry.uid, gid: entry.gid },
        mtime: entry.mtime,
        xattrs: entry.xattrs.clone(),
    }
}

impl<N: FnMut(usize) -> Result<Vec<u8>, CacheFailure>> Laying<'_, N> {
    fn entry(&mut self, origin: Origin, known: &HashMap<&[u8], usize>) -> Result<(), CacheFailure> {
        let entry = self.plan.entry(origin);
        self.laid.entries += 1;
        match (&entry.node, origin) {
            (Node::Dir, _) => Ok(self.writer.dir(&entry.path, &meta(entry))?),
            (Node::Symlink(target), _) => Ok(self.writer.symlink(&entry.path, target, &meta(entry))?),
            (Node::Fifo, _) => Ok(self.writer.fifo(&entry.path, &meta(entry))?),
            (Node::HardLink(first), Origin::New(_)) => Ok(self.writer.hard_link(&entry.path, first)?),
            (Node::File(_) | Node::HardLink(_), Origin::Old(number)) => self.keep(number),
            (Node::File(chunks), Origin::New(number)) => {
                if let Some(old) = known.get(&entry.path[..]).filter(|old| self.plan.is_same(**old, entry))
                    && self.link(*old)?
                {
                    self.place(number, chunks);
                    return Ok(());
                }
                self.write(number, entry, chunks)
            }
        }
    }

    fn link(&mut self, old: usize) -> Result<bool, CacheFailure> {
        let (from, path) = (&self.plan.old, &self.plan.old.entries[old].path);
        let linked = self.writer.link_from(path, &from.root, path, &now(from, old)?)?;
        self.laid.linked += u64::from(linked);
        Ok(linked)
    }

    /// Takes over a file that only the old instance has.
    fn keep(&mut self, number: usize) -> Result<(), CacheFailure> {
        if self.link(number)? {
            return Ok(());
        }
        let (old, entry) = (&self.plan.old, &self.plan.old.entries[number]);
        // Another name's chunks are this one's.
        let first = match &entry.node {
            Node::HardLink(first) => old.entries.iter().position(|entry| entry.path == *first),
            _ => Some(number),
        };
        let Some((first, Node::File(chunks))) = first.map(|first| (first, &old.entries[first].node)) else {
            return Err(CacheFailure::WrongNotes { path: shown(&entry.path) });
        };
        let mut file = self.writer.file(&entry.path)?;
        let mut offset = 0;
        for chunk in chunks {
            let bytes = self.from_old(first, offset, *chunk)?;
            write(&mut file, &bytes, &entry.path)?;
            offset += u64::from(chunk.len);
        }
        Ok(self.writer.finish_file(&entry.path, &file, &meta(entry))?)
    }

    fn from_old(&self, number: usize, offset: u64, chunk: Chunk) -> Result<Vec<u8>, CacheFailure> {
        let (old, path) = (&self.plan.old, &self.plan.old.entries[number].path);
        let found = read_chunks(&old.root, path, &now(old, number)?, offset, &[chunk])?;
        found.ok_or_else(|| CacheFailure::WrongNotes { path: shown(path) })
    }

    fn write(&mut self, number: usize, entry: &TreeEntry, chunks: &[Chunk]) -> Result<(), CacheFailure> {
        let mut file = self.writer.file(&entry.path)?;
        let mut offset = 0;
        for chunk in chunks {
            let bytes = match self.placed.get(chunk) {
                // Earlier in this file, or in another.
                Some(&(of, at)) if of == number => read_at(&file, at, chunk.len, &entry.path)?,
                Some(&(of, at)) => self.from_placed(of, at, *chunk)?,
                None => match self.plan.held.get(chunk) {
                    Some(&(old, at)) => self.from_old(old, at, *chunk)?,
                    None => self.from_pack(*chunk)?,
                },
            };
            write(&mut file, &bytes, &entry.path)?;
            self.placed.entry(*chunk).or_insert((number, offset));
            offset += u64::from(chunk.len);
        }
        Ok(self.writer.finish_file(&entry.path, &file, &meta(entry))?)
    }

    fn place(&mut self, number: usize, chunks: &[Chunk]) {
        let mut offset = 0;
        for chunk in chunks {
            self.placed.entry(*chunk).or_insert((number, offset));
            offset += u64::from(chunk.len);
        }
    }

    fn from_placed(&self, number: usize, offset: u64, chunk: Chunk) -> Result<Vec<u8>, CacheFailure> {
        let path = &self.plan.entries[number].path;
        let gone = || CacheFailure::WrongNotes { path: shown(path) };
        let stat = stat_now(self.writer.root(), path)?.ok_or_else(gone)?;
        read_chunks(self.writer.root(), path, &stat, offset, &[chunk])?.ok_or_else(gone)
    }

    /// The bytes of a chunk that only a pack has. Chunks come in the order of packs.
    fn from_pack(&mut self, chunk: Chunk) -> Result<Vec<u8>, CacheFailure> {
        loop {
            if let Some(&at) = self.in_pack.get(&chunk) {
                return Ok(self.pack[at..at + chunk.len as usize].to_vec());
            }
            let gone = || CacheFormatError::Broken { what: "tree".into(), reason: "a chunk is in no pack".into() };
            let number = self.waiting.pop_front().ok_or_else(gone)?;
            self.pack = (self.next)(number)?;
            self.in_pack.clear();
            let (mut from, chunks) = (0, &self.plan.chunks[self.plan.starts[number]..self.plan.starts[number + 1]]);
            for Sequenced { chunk, .. } in chunks {
                let to = from + chunk.len as usize;
                if self.pack.get(from..to).map(chunk_id) != Some(chunk.id) {
                    let (what, reason) =
                        (format!("pack {number}"), "it holds other chunks than the tree says".to_owned());
                    return Err(CacheFormatError::Broken { what, reason }.into());
                }
                self.in_pack.insert(*chunk, from);
                from = to;
            }
        }
    }
}

/// What an old file is now: a link to it that was made meanwhile moves its change time. Nobody else has the instance.
fn now(old: &Looked, number: usize) -> Result<rhost_rootfs::Stat, CacheFailure> {
    let (path, before) = (&old.entries[number].path, &old.stats[number]);
    let found = stat_now(&old.root, path)?
        .filter(|now| (now.ino, now.size, now.mtime) == (before.ino, before.size, before.mtime));
    found.ok_or_else(|| CacheFailure::WrongNotes { path: shown(path) })
}

fn failed(action: &'static str, path: &[u8]) -> impl FnOnce(std::io::Error) -> CacheFailure {
    let path = shown(path);
    move |source| CacheFailure::Rootfs(rhost_rootfs::Error::Io { action, path, source })
}

fn read_at(file: &File, offset: u64, length: u32, path: &[u8]) -> Result<Vec<u8>, CacheFailure> {
    let mut bytes = vec![0; length as usize];
    file.read_exact_at(&mut bytes, offset).map_err(failed("read", path))?;
    Ok(bytes)
}

/// Appends; a long run of zeros as a hole.
fn write(file: &mut File, bytes: &[u8], path: &[u8]) -> Result<(), CacheFailure> {
    if bytes.len() >= 64 << 10 && is_zeros(bytes) {
        // Long enough at once: a later chunk may be read from here.
        let end = file.seek(SeekFrom::Current(bytes.len() as i64));
        return end.and_then(|end| file.set_len(end)).map_err(failed("write", path));
    }
    file.write_all(bytes).map_err(failed("write", path))
}
