//! Lists a context: which files take part and their metadata, directories by several threads at once.
//!
//! What takes part is what BuildKit's client would upload (spec A.2 `local.*`, F.2). A directory that does not match is listed only where
//! something below it could, and appears only when something below it did.
use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;

use crate::path::{os, owned};
use crate::root;
use crate::tree::Node;
use crate::walk::Matcher;
use crate::{Error, MatchInfo, Modes, Result, Root, Stat};

/// Deepest nesting that is listed: digests are computed recursively.
pub(crate) const MAX_TREE_DEPTH: usize = 500;

/// Directories that wait before other threads are asked to help: below it they cost more than they bring.
const WORTH_HELP: usize = 8;

/// More threads than this wait for each other in the kernel.
const MOST_THREADS: usize = 8;

/// The patterns that decide, compiled.
#[derive(Default)]
pub(crate) struct Patterns {
    pub(crate) include: Option<Matcher>,
    pub(crate) exclude: Option<Matcher>,
}

/// A directory to be listed.
struct Job {
    /// Where it lies, and its name there; `None` for the top.
    parent: Option<(Arc<OwnedFd>, Vec<u8>)>,
    /// Relative, empty for the top.
    path: Vec<u8>,
    depth: usize,
    /// Where its entries go.
    slot: usize,
    /// It did not match itself.
    skipped: bool,
    include: MatchInfo,
    exclude: MatchInfo,
}

/// A name in a directory that takes part, or may because of what is below it.
struct Entry {
    name: Vec<u8>,
    stat: Stat,
    link: Vec<u8>,
    /// For a directory: the slot of its entries, and whether it takes part only if there are some.
    below: Option<(usize, bool)>,
}

#[derive(Default)]
struct State {
    jobs: Vec<Job>,
    /// Entries by slot. A directory's slot is before those of the directories in it.
    listed: Vec<Vec<Entry>>,
    running: usize,
    failed: Option<Error>,
}

struct Lister<'a> {
    root: &'a Root,
    patterns: &'a Patterns,
    state: Mutex<State>,
    changed: Condvar,
}

/// The children of the top directory, with all below them, under `modes`.
///
/// # Errors
/// A directory that takes part and cannot be read; nesting beyond [`MAX_TREE_DEPTH`].
pub(crate) fn list(root: &Root, patterns: &Patterns, modes: Modes) -> Result<BTreeMap<Vec<u8>, Node>> {
    let top = Job {
        parent: None,
        path: Vec::new(),
        depth: 0,
        slot: 0,
        skipped: false,
        include: MatchInfo::default(),
        exclude: MatchInfo::default(),
    };
    let state = State { jobs: vec![top], listed: vec![Vec::new()], ..State::default() };
    let lister = Lister { root, patterns, state: Mutex::new(state), changed: Condvar::new() };
    lister.work(|state| state.jobs.len() < WORTH_HELP);
    if !lister.state().jobs.is_empty() {
        let threads = crate::processors().min(MOST_THREADS);
        std::thread::scope(|scope| {
            for _ in 1..threads {
                scope.spawn(|| lister.work(|_| true));
            }
            lister.work(|_| true);
        });
    }
    let state = lister.state.into_inner().unwrap_or_else(PoisonError::into_inner);
    match state.failed {
        Some(error) => Err(error),
        None => Ok(assemble(state.listed, modes)),
    }
}

impl Lister<'_> {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lists directories until there are none left, or `go_on` says no.
    fn work(&self, go_on: impl Fn(&State) -> bool) {
        let mut state = self.state();
        loop {
            if state.failed.is_some() || (state.jobs.is_empty() && state.running == 0) || !go_on(&state) {
                return;
            }
            // The last one first: so few directories are open at once.
            let Some(job) = state.jobs.pop() else {
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            state.running += 1;
            drop(state);
            let answer = self.directory(&job);
            state = self.state();
            state.running -= 1;
            match answer {
                Ok((mut entries, mut below)) => {
                    let first = state.listed.len();
                    state.listed.resize_with(first + below.len(), Vec::new);
                    for (slot, job) in (first..).zip(&mut below) {
                        job.slot = slot;
                    }
                    for (slot, _) in entries.iter_mut().filter_map(|entry| entry.below.as_mut()) {
                        *slot += first;
                    }
                    state.listed[job.slot] = entries;
                    state.jobs.append(&mut below);
                }
                Err(error) => state.failed = Some(error),
            }
            self.changed.notify_all();
        }
    }

    /// The entries of one directory; slots in them count from 0 over the directories that are returned beside them.
    fn directory(&self, job: &Job) -> Result<(Vec<Entry>, Vec<Job>)> {
        let (mut entries, mut below) = (Vec::new(), Vec::new());
        let Some(fd) = self.open(job)? else { return Ok((entries, below)) };
        let fd = Arc::new(fd);
        for name in root::names(&*fd, &owned(&job.path))? {
            let path = || if job.path.is_empty() { name.clone() } else { [&job.path[..], b"/", &name].concat() };
            let stat = match rustix::fs::statat(&*fd, os(&name), AtFlags::SYMLINK_NOFOLLOW) {
                Ok(raw) => Stat::from_raw(&raw),
                // Gone meanwhile.
                Err(Errno::NOENT) => continue,
                Err(error) => return Err(Error::io("stat", owned(&path()), error)),
            };
            let Some((skipped, include, exclude)) = self.selects(job, &stat, path) else { continue };
            let link = match stat.is_symlink() {
                true => root::read_link_at(&*fd, &name, &owned(&path()))?,
                false => Vec::new(),
            };
            let mut entry = Entry { name, stat, link, below: None };
            if entry.stat.is_dir() {
                let name = entry.name.clone();
                let path = if job.path.is_empty() { name.clone() } else { [&job.path[..], b"/", &name].concat() };
                let depth = job.depth + 1;
                if depth > MAX_TREE_DEPTH {
                    return Err(Error::TooDeep { path: owned(&path), limit: MAX_TREE_DEPTH });
                }
                entry.below = Some((below.len(), skipped));
                below.push(Job { parent: Some((fd.clone(), name)), path, depth, slot: 0, skipped, include, exclude });
            }
            entries.push(entry);
        }
        Ok((entries, below))
    }

    fn open(&self, job: &Job) -> Result<Option<OwnedFd>> {
        let Some((parent, name)) = &job.parent else { return self.root.open_dir(b"/").map(Some) };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match rustix::fs::openat(&**parent, os(name), flags, Mode::empty()) {
            Ok(fd) => Ok(Some(fd)),
            // Gone meanwhile, or not to be read and not wanted either.
            Err(Errno::NOENT) => Ok(None),
            Err(Errno::ACCESS | Errno::PERM) if job.skipped => Ok(None),
            Err(error) => Err(Error::io("open directory", owned(&job.path), error)),
        }
    }

    /// `None` for what takes no part; else whether it is a directory that takes part only for what is below it, and what its children are
    /// to know.
    fn selects(&self, job: &Job, stat: &Stat, path: impl Fn() -> Vec<u8>) -> Option<(bool, MatchInfo, MatchInfo)> {
        let (mut skipped, mut include, mut exclude) = (false, MatchInfo::default(), MatchInfo::default());
        if self.patterns.include.is_none() && self.patterns.exclude.is_none() {
            return Some((skipped, include, exclude));
        }
        let path = path();
        if let Some(matcher) = &self.patterns.include {
            let (hit, info) = matcher.patterns.matches_below(&path, &job.include);
            include = info;
            if !hit {
                skipped = true;
                if !stat.is_dir() || !matcher.could_match_below(&path) {
                    return None;
                }
            }
        }
        if let Some(matcher) = &self.patterns.exclude {
            let (hit, info) = matcher.patterns.matches_below(&path, &job.exclude);
            exclude = info;
            if hit {
                skipped = true;
                if !stat.is_dir() || !matcher.could_match_below(&path) {
                    return None;
                }
            }
        }
        Some((skipped, include, exclude))
    }
}

/// Nodes from entries, the deepest first, without recursion.
fn assemble(listed: Vec<Vec<Entry>>, modes: Modes) -> BTreeMap<Vec<u8>, Node> {
    let mut done: Vec<BTreeMap<Vec<u8>, Node>> = Vec::new();
    done.resize_with(listed.len(), BTreeMap::new);
    for (slot, entries) in listed.into_iter().enumerate().rev() {
        let nodes = entries.into_iter().filter_map(|entry| {
            let stat = Stat { mode: modes.of(&entry.stat), ..entry.stat };
            let mut node = Node { stat: Some(stat), link: entry.link, ..Node::default() };
            if let Some((slot, skipped)) = entry.below {
                let children = std::mem::take(&mut done[slot]);
                if skipped && children.is_empty() {
                    return None;
                }
                node.children = Some(children);
            }
            Some((entry.name, node))
        });
        let nodes = nodes.collect();
        done[slot] = nodes;
    }
    done.into_iter().next().unwrap_or_default()
}
