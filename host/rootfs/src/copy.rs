//! The copy of BuildKit's FileOp (`FileActionCopy`, spec A.1): `cp -a` with opinions about where things land.
//!
//! The rules about destinations are BuildKit's: a directory is merged into one that exists, its own metadata then stays; a file replaces
//! a file or link; a file never replaces a directory unless asked. The walk keeps a pair of descriptors per level and no recursion, so depth
//! costs no stack, and names are only ever looked up in an open directory.
use std::collections::HashMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::fs::{AtFlags, Mode};
use rustix::io::Errno;

use crate::copy_again::CopyAgain;
use crate::copy_entry::{copy_file, finish, make_node, set_times};
use crate::copy_files::{Files, Leaf, Queue};
use crate::file_ops::{MAX_DEPTH, expand, make_dirs, parent_of, remove_all, settle};
use crate::path::{anchor, anchor_keep_tail, base, bytes, dir, join, os, owned};
use crate::root::{self, Last, try_stat_at};
use crate::{Error, MatchInfo, ModeChange, Owner, OwnerPolicy, PatternMatcher, Result, Root, Stat, Timestamp, Tree};

/// Mode given to what is copied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CopyMode {
    /// As in the source (LLB mode -1).
    Keep,
    /// These bits, up to 0o7777 (LLB mode).
    Bits(u32),
    /// A chmod expression applied to each file's mode (LLB modeStr).
    Change(ModeChange),
}

/// Where files are copied from.
#[derive(Clone)]
pub enum Source {
    /// A whole file system.
    Root(Root),
    /// The part of a directory that takes part, owned as the tree says (contexts: 0:0).
    Tree(Tree),
}

/// `FileActionCopy` (spec A.1), as values.
#[derive(Debug, Clone)]
pub struct Copy {
    /// Source path or pattern, as in LLB.
    pub src: String,
    /// Destination path; a trailing `/` means: into this directory.
    pub dest: String,
    /// New owner; `None` keeps the source's.
    pub owner: Option<Owner>,
    /// New mode.
    pub mode: CopyMode,
    /// Follow a symlink that is the source.
    pub follow_symlink: bool,
    /// Copy what is in a source directory rather than the directory.
    pub dir_contents: bool,
    /// Unpack a source that is a tar archive, compressed or not (ADD).
    pub unpack: bool,
    /// Make missing parents of `dest`; without it they must exist.
    pub create_dest_path: bool,
    /// `src` may hold wildcards.
    pub wildcard: bool,
    /// A wildcard that matches nothing is no error.
    pub empty_wildcard: bool,
    /// Access and modification time of everything made; `None` keeps the source's.
    pub timestamp: Option<Timestamp>,
    /// Only what matches one of these, relative to the source.
    pub include: Vec<String>,
    /// Not what matches these.
    pub exclude: Vec<String>,
    /// Replace whatever stands at a destination, also of another kind.
    pub always_replace: bool,
    /// What a refused change of owner means.
    pub owners: OwnerPolicy,
}

/// Copies from `source` into `dest`.
///
/// # Errors
/// [`Error::NotFound`] or [`Error::NoMatch`] for a missing source, [`Error::DirectoryInTheWay`] and [`Error::NotDirectory`] for a destination
/// of the wrong kind, [`Error::Changed`] for a file that is being written to.
pub fn copy(source: &Source, dest: &Root, options: &Copy) -> Result<()> {
    copy_from(source, dest, options, None)
}

/// As [`copy`] from a context whose digests are known; what an earlier copy with the same options made, and is still the same, is linked to.
///
/// # Errors
/// As [`copy`].
pub fn copy_again(source: &Source, dest: &Root, options: &Copy, again: &CopyAgain) -> Result<()> {
    copy_from(source, dest, options, Some(again))
}

fn copy_from(source: &Source, dest: &Root, options: &Copy, again: Option<&CopyAgain>) -> Result<()> {
    let (from, tree) = match source {
        Source::Root(root) => (root, None),
        Source::Tree(tree) => match tree.root() {
            Some(root) => (root, Some(tree)),
            None => return Err(Error::NotFound { path: options.src.clone().into() }),
        },
    };
    let src = anchor_keep_tail(options.src.as_bytes());
    let dst = anchor_keep_tail(options.dest.as_bytes());
    if !options.create_dest_path {
        let resolved = dest.resolve(owned(&anchor(&dst)), Last::Follow)?;
        let parent = owned(&dir(bytes(&resolved)));
        dest.stat(&parent, Last::Keep)?;
    }
    let last = if options.follow_symlink { Last::Follow } else { Last::Keep };
    let visible = |path: &[u8]| tree.is_none_or(|t| t.contains(owned(path)));
    let sources = if options.wildcard {
        let mut found = expand(from, &src, last)?;
        if src.iter().any(|b| matches!(b, b'*' | b'?' | b'[')) {
            found.retain(|path| visible(&anchor(path)));
        }
        found
    } else {
        vec![src]
    };
    if sources.is_empty() {
        return if options.empty_wildcard { Ok(()) } else { Err(Error::NoMatch { pattern: options.src.clone() }) };
    }
    // Two sources may have become one file.
    let again = again.filter(|_| sources.len() == 1 && tree.is_some());
    let mut copier = Copier {
        from,
        tree,
        dest,
        options,
        files: Files { tree, options, again },
        include: matcher(&options.include)?,
        exclude: matcher(&options.exclude)?,
        inodes: HashMap::new(),
    };
    for path in sources {
        if options.unpack && copier.unpack(&path, &dst)? {
            continue;
        }
        copier.inodes.clear();
        copier.copy_source(&path, &dst, last)?;
    }
    Ok(())
}

fn matcher(patterns: &[String]) -> Result<Option<PatternMatcher>> {
    if patterns.is_empty() { Ok(None) } else { PatternMatcher::new(patterns).map(Some) }
}

struct Copier<'a> {
    from: &'a Root,
    tree: Option<&'a Tree>,
    dest: &'a Root,
    options: &'a Copy,
    files: Files<'a>,
    include: Option<PatternMatcher>,
    exclude: Option<PatternMatcher>,
    /// (device, inode) of a source with several links to the first path it was copied to.
    inodes: HashMap<(u64, u64), Vec<u8>>,
}

/// One directory of the walk.
struct Level {
    src: Arc<OwnedFd>,
    /// Path relative to the source; empty at the top.
    relative: Vec<u8>,
    /// Path in the destination, resolved.
    target: Vec<u8>,
    stat: Stat,
    /// Open once it exists in the destination.
    dst: Option<Arc<OwnedFd>>,
    /// It was made here, so nothing of a lower layer is in it: `dst` is the directory of the layer itself, even where the destination is a mounted view.
    is_new: bool,
    /// What it became in an earlier copy.
    earlier: Option<Arc<OwnedFd>>,
    todo: Vec<Vec<u8>>,
    after: After,
    include: MatchInfo,
    exclude: MatchInfo,
    is_top: bool,
}

/// What is left to do for a directory when its children are there.
enum After {
    /// Owner, mode, times, attributes.
    Everything,
    /// Its times only.
    Times,
    Nothing,
}

impl Copier<'_> {
    fn unpack(&mut self, src: &[u8], dst: &[u8]) -> Result<bool> {
        let resolved = self.from.resolve(owned(src), Last::Follow)?;
        if !self.visible(bytes(&resolved)) || !self.from.try_stat(&resolved, Last::Keep)?.is_some_and(|s| s.is_file()) {
            return Ok(false);
        }
        let mut file = self.from.open_file(&resolved)?;
        if !crate::is_archive(&mut file)? {
            return Ok(false);
        }
        let o = self.options;
        let target = self.dest.resolve(owned(&anchor(dst)), Last::Follow)?;
        let made = make_dirs(self.dest, bytes(&target), 0o755, o.owner, o.timestamp, o.owners)?;
        drop(made);
        crate::archive::unpack_into(file, self.dest, bytes(&target), o.owner, o.owners)?;
        Ok(true)
    }

    fn visible(&self, path: &[u8]) -> bool {
        self.tree.is_none_or(|tree| tree.contains(owned(path)))
    }

    /// `None` for what takes no part; else the digest of a context's file, where it is known.
    fn known(&self, path: &[u8]) -> Option<Option<rhost_llb::Digest>> {
        self.tree.map_or(Some(None), |tree| tree.known(path))
    }

    fn dir_mode(&self) -> u32 {
        match self.options.mode {
            CopyMode::Bits(bits) => bits & 0o777,
            _ => 0o755,
        }
    }

    fn make_dirs(&self, path: &[u8]) -> Result<Vec<std::path::PathBuf>> {
        make_dirs(self.dest, path, self.dir_mode(), self.options.owner, self.options.timestamp, self.options.owners)
    }

    fn copy_source(&mut self, src: &[u8], dst: &[u8], last: Last) -> Result<()> {
        // The directory that a destination with a trailing slash names, or that a plain one lies in.
        let tail = dst.rsplit(|b| *b == b'/').next().unwrap_or_default();
        let ensure = if tail.is_empty() || tail == b"." { dst } else { &dst[..dst.len() - tail.len()] };
        let ensure = self.dest.resolve(owned(ensure), Last::Follow)?;
        let mut made = self.make_dirs(bytes(&ensure))?;

        let mut target = bytes(&self.dest.resolve(owned(&anchor(dst)), Last::Follow)?).to_vec();
        let resolved = self.from.resolve(owned(&anchor(src)), last)?;
        if !self.visible(bytes(&resolved)) {
            return Err(Error::NotFound { path: owned(src) });
        }
        let stat = self.from.stat(&resolved, Last::Keep)?;
        let existing = self.dest.try_stat(owned(&target), Last::Keep)?;
        let contents = self.options.dir_contents;
        let into = match &existing {
            Some(there) => (stat.is_dir() && !contents) || (!stat.is_dir() && there.is_dir()),
            None => false,
        };
        if into {
            target = join(&target, base(src));
        }
        let parent = if contents && stat.is_dir() && existing.is_none() { target.clone() } else { dir(&target) };
        made.extend(self.make_dirs(&parent)?);
        self.copy_tree(bytes(&resolved), &stat, &target)?;
        settle(self.dest, &made, self.options.timestamp)
    }

    fn copy_tree(&mut self, src: &[u8], stat: &Stat, target: &[u8]) -> Result<()> {
        let parent = self.from.open_dir(&dir(src))?;
        let mut levels: Vec<Level> = Vec::new();
        let mut queue = Queue::new(self.files);
        let nothing = (MatchInfo::default(), MatchInfo::default());
        if !stat.is_dir() {
            let (dst, name) = self.dest_parent(target)?;
            return self.copy_leaf((parent.as_fd(), base(src)), (dst.as_fd(), &name), target, stat);
        }
        let top = self.from.open_dir(src)?;
        let mut top = Self::enter(top, Vec::new(), target.to_vec(), stat.clone(), true, nothing)?;
        self.make_level(&mut top, None)?;
        levels.push(top);
        while let Some(level) = levels.last_mut() {
            let Some(name) = level.todo.pop() else {
                // Its times are set when all that goes into it is there.
                queue.leave(levels.pop().expect("the loop's condition"));
                if queue.is_full() {
                    self.empty(&mut queue)?;
                }
                continue;
            };
            let relative = if level.relative.is_empty() { name.clone() } else { join(&level.relative, &name) };
            let shown = owned(&join(src, &relative));
            let Some(known) = self.known(bytes(&shown)) else { continue };
            let Some(stat) = try_stat_at(&level.src, &name, &shown)? else { continue };
            let (mut wanted, mut include, mut exclude, mut excluded) =
                (true, MatchInfo::default(), MatchInfo::default(), false);
            if let Some(matcher) = &self.include {
                (wanted, include) = matcher.matches_below(&relative, &level.include);
            }
            if let Some(matcher) = &self.exclude {
                (excluded, exclude) = matcher.matches_below(&relative, &level.exclude);
                wanted &= !excluded;
            }
            if !wanted {
                let may_hold =
                    stat.is_dir() && (!excluded || self.exclude.as_ref().is_some_and(PatternMatcher::has_negation));
                if !may_hold {
                    continue;
                }
            }
            let target = join(&level.target, &name);
            if stat.is_dir() {
                if levels.len() >= MAX_DEPTH {
                    return Err(Error::TooDeep { path: shown, limit: MAX_DEPTH });
                }
                if wanted {
                    self.make_pending(&mut levels)?;
                }
                let above = levels.last().expect("not empty");
                let fd = root::open_subdir(&above.src, &name, &shown)?;
                let mut next = Self::enter(fd, relative, target, stat, false, (include, exclude))?;
                if wanted {
                    self.make_level(&mut next, Some(above))?;
                }
                levels.push(next);
            } else {
                self.make_pending(&mut levels)?;
                let above = levels.last().expect("not empty");
                let dst = above.dst.as_ref().expect("made just now");
                if stat.is_file() && stat.links == 1 {
                    let again = self.files.again.and(known.as_ref()).map(|digest| {
                        // A link cannot lead from a mounted view to what is below it.
                        let reached = above.is_new || self.files.again.is_some_and(|again| again.upper().is_none());
                        (CopyAgain::key(&target, digest), above.earlier.clone().filter(|_| reached))
                    });
                    queue.push(Leaf { src: above.src.clone(), dst: dst.clone(), name, target, stat, again });
                    if queue.is_full() {
                        self.empty(&mut queue)?;
                    }
                    continue;
                }
                self.copy_leaf((above.src.as_fd(), &name), (dst.as_fd(), &name), &target, &stat)?;
            }
        }
        self.empty(&mut queue)
    }

    /// Copies the files that wait, then gives the directories that were left their times.
    fn empty(&self, queue: &mut Queue<'_, Level>) -> Result<()> {
        queue.copy()?.into_iter().try_for_each(|level| self.leave(level))
    }

    fn dest_parent(&self, target: &[u8]) -> Result<(OwnedFd, Vec<u8>)> {
        parent_of(self.dest, &owned(target))?.ok_or(Error::DirectoryInTheWay { path: owned(target) })
    }

    /// Begins a directory. One that did not match by itself is made later, when something in it matches.
    fn enter(
        src: OwnedFd,
        relative: Vec<u8>,
        target: Vec<u8>,
        stat: Stat,
        is_top: bool,
        (include, exclude): (MatchInfo, MatchInfo),
    ) -> Result<Level> {
        let mut todo = root::names(&src, &owned(&relative))?;
        todo.reverse();
        let src = Arc::new(src);
        let after = After::Nothing;
        let (dst, is_new, earlier) = (None, false, None);
        Ok(Level { src, relative, target, stat, dst, is_new, earlier, todo, after, include, exclude, is_top })
    }

    fn make_pending(&self, levels: &mut [Level]) -> Result<()> {
        for at in 0..levels.len() {
            let (above, rest) = levels.split_at_mut(at);
            if rest[0].dst.is_none() {
                self.make_level(&mut rest[0], above.last())?;
            }
        }
        Ok(())
    }

    /// Makes the directory of `level` in `above`, which is looked up for the topmost.
    fn make_level(&self, level: &mut Level, above: Option<&Level>) -> Result<()> {
        let shown = owned(&level.target);
        if let Some(again) = self.files.again {
            let above = above.map(|above| above.earlier.as_ref());
            level.earlier = match above {
                Some(None) => None,
                above => again.directory(above.flatten(), base(&level.target), &level.target),
            };
        }
        if level.target == b"/" {
            level.dst = Some(Arc::new(self.dest.open_dir(b"/")?));
            level.after = After::Times;
            return Ok(());
        }
        let (parent, name) = match above.and_then(|above| above.dst.as_ref()) {
            Some(above) => (above.clone(), base(&level.target).to_vec()),
            None => self.dest_parent(&level.target).map(|(parent, name)| (Arc::new(parent), name))?,
        };
        let mut there = try_stat_at(&parent, &name, &shown)?;
        if self.options.always_replace && there.as_ref().is_some_and(|s| !s.is_dir()) {
            remove_all(parent.as_fd(), &name, &shown)?;
            there = None;
        }
        level.after = match there {
            Some(stat) if !stat.is_dir() => return Err(Error::NotDirectory { path: shown }),
            // The metadata of the directory copied into stays, that of those below it is the source's.
            Some(_) if level.is_top => After::Times,
            Some(_) => After::Everything,
            None => {
                rustix::fs::mkdirat(&parent, os(&name), Mode::from_raw_mode(0o700))
                    .map_err(|e| Error::io("create directory", &shown, e))?;
                level.is_new = true;
                After::Everything
            }
        };
        let upper = self.files.again.and_then(CopyAgain::upper).filter(|_| level.is_new);
        level.dst = Some(Arc::new(match upper {
            Some(upper) if !above.is_some_and(|above| above.is_new) => upper.open_dir(&level.target)?,
            _ => root::open_subdir(&parent, &name, &shown)?,
        }));
        Ok(())
    }

    fn leave(&self, level: Level) -> Result<()> {
        let shown = owned(&level.target);
        let Some(dst) = &level.dst else { return Ok(()) };
        let (atime, mtime) = self.files.times(&level.stat);
        match level.after {
            After::Nothing => Ok(()),
            After::Times => set_times(dst.as_fd(), b".", atime, mtime, &shown),
            After::Everything => {
                let xattrs = self.files.attributes(level.src.as_fd(), b".", &shown)?;
                finish(dst.as_fd(), b".", &self.files.finish(&level.stat, &xattrs), &shown)
            }
        }
    }

    fn copy_leaf(
        &mut self,
        from: (BorrowedFd<'_>, &[u8]),
        to: (BorrowedFd<'_>, &[u8]),
        target: &[u8],
        stat: &Stat,
    ) -> Result<()> {
        let shown = owned(target);
        // A file of several names is copied once.
        let several = (stat.is_file() && stat.links > 1).then_some((stat.dev, stat.ino));
        let first = several.and_then(|id| self.inodes.get(&id).cloned());
        if stat.is_file() && first.is_none() {
            if let Some(id) = several {
                self.inodes.insert(id, target.to_vec());
            }
            return self.files.copy(from, to, stat, &shown);
        }
        self.files.make_room(to, &shown)?;
        let xattrs = self.files.attributes(from.0, from.1, &shown)?;
        match (stat.kind, first) {
            (crate::Kind::File, Some(first)) => self.link(&first, to, &shown)?,
            (crate::Kind::Symlink, _) => {
                let link = root::read_link_at(from.0, from.1, &shown)?;
                rustix::fs::symlinkat(os(&link), to.0, os(to.1)).map_err(|e| Error::io("create symlink", &shown, e))?;
            }
            (kind, _) => make_node(to.0, to.1, kind, stat.rdev, &shown)?,
        }
        finish(to.0, to.1, &self.files.finish(stat, &xattrs), &shown)
    }

    fn link(&self, first: &[u8], to: (BorrowedFd<'_>, &[u8]), shown: &std::path::Path) -> Result<()> {
        let (parent, name) = self.dest_parent(first)?;
        let linked = match rustix::fs::linkat(&parent, os(&name), to.0, os(to.1), AtFlags::empty()) {
            // From the view to the layer itself: the file is in the layer, too.
            Err(Errno::XDEV) if let Some(upper) = self.files.again.and_then(CopyAgain::upper) => {
                let parent = upper.open_dir(&dir(first))?;
                rustix::fs::linkat(&parent, os(&name), to.0, os(to.1), AtFlags::empty())
            }
            other => other,
        };
        match linked {
            Err(Errno::MLINK) => copy_file((parent.as_fd(), &name), to, shown).map(drop),
            other => other.map_err(|e| Error::io("create hard link", shown, e)),
        }
    }
}
