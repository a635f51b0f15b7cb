//! What a step read, file by file, in few bytes: path, kind, mode, owner and a short digest of each; and how two such lists differ.
//!
//! A list is as long as what was read, up to a limit; of a larger tree the deepest directories are folded into one entry each, so that it can still be said
//! where something changed.
use std::collections::HashMap;

use rhost_rootfs::{Kind, Owner, SelectedFile};
use serde::Serialize;

use super::digest;

/// Entries of a list. Beyond, directories are folded.
const MOST: usize = 50_000;
/// Depths that are told apart when folding.
const DEEPEST: usize = 64;

/// A file of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// Absolute path.
    pub path: Vec<u8>,
    /// What it is; `None` for a directory with all that is below it.
    pub kind: Option<u8>,
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub owner: Owner,
    /// Of the file with its metadata.
    pub digest: u64,
}

fn kind_number(kind: Kind) -> u8 {
    match kind {
        Kind::File => 0,
        Kind::Dir => 1,
        Kind::Symlink => 2,
        Kind::CharDevice => 3,
        Kind::BlockDevice => 4,
        Kind::Fifo => 5,
        Kind::Socket => 6,
    }
}

const DIRECTORY: u8 = 1;
const SYMLINK: u8 = 2;
const FOLDED: u8 = 7;

fn kind_name(kind: Option<u8>) -> &'static str {
    match kind {
        Some(0) => "file",
        Some(DIRECTORY) | None => "directory",
        Some(SYMLINK) => "symbolic link",
        Some(3) => "character device",
        Some(4) => "block device",
        Some(5) => "pipe",
        _ => "socket",
    }
}

fn depth(path: &[u8]) -> usize {
    path.split(|b| *b == b'/').filter(|part| !part.is_empty()).count().min(DEEPEST)
}

/// Collects files as they are told.
#[derive(Default)]
pub struct Collector {
    files: Vec<File>,
    /// Directories deeper than this are folded into those at it.
    fold: Option<usize>,
}

impl Collector {
    /// Adds a file.
    pub fn add(&mut self, file: SelectedFile<'_>) {
        let digest = u64::from_le_bytes(std::array::from_fn(|at| file.digest.as_raw()[at]));
        let (kind, mode, owner) = (Some(kind_number(file.kind)), file.mode, file.owner);
        let fold = self.fold.filter(|fold| depth(file.path) > *fold);
        let Some(fold) = fold else {
            self.files.push(File { path: file.path.to_vec(), kind, mode, owner, digest });
            if self.files.len() > MOST {
                self.fold_more();
            }
            return;
        };
        self.fold_in(above(file.path, fold), &[file.path, &digest.to_le_bytes()].concat());
    }

    /// What is told comes in the order of a walk, so what belongs into one directory comes together.
    fn fold_in(&mut self, directory: &[u8], what: &[u8]) {
        let fits = self.files.last().is_some_and(|last| last.path == directory && last.kind.is_none());
        if !fits {
            let (path, kind, owner) = (directory.to_vec(), None, Owner::default());
            self.files.push(File { path, kind, mode: 0, owner, digest: 0 });
        }
        if let Some(last) = self.files.last_mut() {
            last.digest = digest(&[&last.digest.to_le_bytes(), what].concat());
        }
    }

    /// Folds at the greatest depth that leaves half of the room.
    fn fold_more(&mut self) {
        let mut count = [0usize; DEEPEST + 1];
        for file in &self.files {
            count[depth(&file.path)] += 1;
        }
        let mut sum = 0;
        let kept = (0..=DEEPEST).take_while(|depth| {
            sum += count[*depth];
            sum <= MOST / 2
        });
        // All in one directory: that it changed is all that can be said.
        let fold = kept.last().unwrap_or(0).min(self.fold.unwrap_or(DEEPEST).saturating_sub(1));
        self.fold = Some(fold);
        for file in std::mem::take(&mut self.files) {
            if depth(&file.path) > fold {
                let what = [file.path.as_slice(), &file.digest.to_le_bytes()].concat();
                self.fold_in(&above(&file.path, fold).to_vec(), &what);
            } else {
                self.files.push(file);
            }
        }
    }

    /// The list.
    pub fn finish(self) -> Vec<File> {
        self.files
    }
}

/// The directory above `path` at `depth`.
fn above(path: &[u8], depth: usize) -> &[u8] {
    let mut seen = 0;
    for (at, byte) in path.iter().enumerate() {
        if *byte == b'/' && at > 0 {
            seen += 1;
            if seen == depth {
                return &path[..at];
            }
        }
    }
    if depth == 0 { b"/" } else { path }
}

/// The bytes of `files`: for each what it shares with the path before, the rest of the path, then the numbers.
pub fn encode(files: &[File]) -> Vec<u8> {
    let mut out = Vec::with_capacity(files.len() * 24);
    let mut before: &[u8] = &[];
    for file in files {
        let shared = file.path.iter().zip(before).take_while(|(a, b)| a == b).count();
        number(&mut out, shared as u64);
        number(&mut out, (file.path.len() - shared) as u64);
        out.extend(&file.path[shared..]);
        number(&mut out, u64::from(file.kind.unwrap_or(FOLDED)) | u64::from(file.mode) << 3);
        number(&mut out, file.owner.uid.into());
        number(&mut out, file.owner.gid.into());
        out.extend(file.digest.to_le_bytes());
        before = &file.path;
    }
    out
}

/// The files in `bytes`; `None` for what was not written by [`encode`].
pub fn decode(mut bytes: &[u8]) -> Option<Vec<File>> {
    let mut files: Vec<File> = Vec::new();
    while !bytes.is_empty() {
        let (shared, length) = (usize::try_from(take(&mut bytes)?).ok()?, usize::try_from(take(&mut bytes)?).ok()?);
        let (rest, after) = bytes.split_at_checked(length)?;
        bytes = after;
        let before = files.last().map_or(&[][..], |file| &file.path);
        let path = [before.get(..shared)?, rest].concat();
        // Paths of a file system are short; what claims otherwise would grow with each entry.
        if path.len() > 1 << 16 || files.len() > 2 * MOST {
            return None;
        }
        let kind_and_mode = take(&mut bytes)?;
        let kind = (kind_and_mode & 7) as u8;
        let mode = u32::try_from(kind_and_mode >> 3).ok()?;
        let owner = Owner { uid: take(&mut bytes)?.try_into().ok()?, gid: take(&mut bytes)?.try_into().ok()? };
        let (digest, after) = bytes.split_first_chunk()?;
        bytes = after;
        let digest = u64::from_le_bytes(*digest);
        files.push(File { path, kind: (kind != FOLDED).then_some(kind), mode, owner, digest });
    }
    Some(files)
}

fn number(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn take(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let (first, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(first & 0x7f).checked_shl(shift)?;
        if first & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

/// How a file differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "how", rename_all = "kebab-case")]
pub enum How {
    /// Other bytes, or other attributes.
    Changed,
    /// The symbolic link leads elsewhere.
    Target,
    /// It is new.
    Added,
    /// It is no more.
    Removed,
    /// It is at another path, and the same.
    Renamed {
        /// Where it was.
        from: String,
    },
    /// Only its mode is another.
    Mode {
        /// Before.
        from: u32,
        /// Now.
        to: u32,
    },
    /// Only its owner is another.
    Owner {
        /// Before.
        from: String,
        /// Now.
        to: String,
    },
    /// It is something else.
    Kind {
        /// Before.
        from: &'static str,
        /// Now.
        to: &'static str,
    },
    /// Something in the directory; which file is not remembered of so many.
    Below,
}

/// A file that differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Change {
    /// Its path, from the top of what was read.
    pub path: String,
    /// How.
    #[serde(flatten)]
    pub how: How,
}

fn shown(path: &[u8]) -> String {
    let text = String::from_utf8_lossy(path);
    let text = text.trim_start_matches('/');
    let text = if text.is_empty() { "/" } else { text };
    // One line each, whatever a name holds.
    text.chars().flat_map(|c| if c.is_control() { c.escape_default().collect::<Vec<_>>() } else { vec![c] }).collect()
}

/// How many files are read again to tell a changed mode from changed bytes.
const EXAMINED: usize = 64;

/// How `now` differs from `then`, the changed bytes first. `as_before` is the digest that a file of now would have with the mode and owner given.
pub fn differences(then: &[File], now: &[File], as_before: &dyn Fn(&[u8], u32, Owner) -> Option<u64>) -> Vec<Change> {
    let before: HashMap<(&[u8], bool), &File> =
        then.iter().map(|f| ((f.path.as_slice(), f.kind.is_none()), f)).collect();
    let after: HashMap<(&[u8], bool), &File> = now.iter().map(|f| ((f.path.as_slice(), f.kind.is_none()), f)).collect();
    let mut found: Vec<Change> = Vec::new();
    let mut added: Vec<&File> = Vec::new();
    let mut examined = 0;
    for file in now {
        let Some(old) = before.get(&(file.path.as_slice(), file.kind.is_none())) else {
            added.push(file);
            continue;
        };
        if (old.digest, old.kind) == (file.digest, file.kind) {
            continue;
        }
        let how = if old.kind != file.kind {
            How::Kind { from: kind_name(old.kind), to: kind_name(file.kind) }
        } else if file.kind.is_none() {
            How::Below
        } else if file.kind == Some(SYMLINK) && old.owner == file.owner {
            How::Target
        } else if old.mode == file.mode && old.owner == file.owner {
            How::Changed
        } else {
            examined += 1;
            let same_bytes = match file.kind {
                Some(0) if examined <= EXAMINED => as_before(&file.path, old.mode, old.owner) == Some(old.digest),
                // Of a directory it is all there is; of so many files it is what they have in common.
                _ => true,
            };
            match (same_bytes, old.mode != file.mode) {
                (false, _) => How::Changed,
                (true, true) => How::Mode { from: old.mode, to: file.mode },
                (true, false) => {
                    let text = |owner: Owner| format!("{}:{}", owner.uid, owner.gid);
                    How::Owner { from: text(old.owner), to: text(file.owner) }
                }
            }
        };
        found.push(Change { path: shown(&file.path), how });
    }
    let mut removed: Vec<&File> =
        then.iter().filter(|f| !after.contains_key(&(f.path.as_slice(), f.kind.is_none()))).collect();
    // A file that went and one that came with the same bytes are one that was renamed.
    let mut gone: HashMap<u64, Vec<&File>> = HashMap::new();
    for file in removed.iter().rev().filter(|file| file.kind == Some(0)) {
        gone.entry(file.digest).or_default().push(file);
    }
    let mut renamed = Vec::new();
    added.retain(|file| {
        let from = if file.kind == Some(0) { gone.get_mut(&file.digest).and_then(Vec::pop) } else { None };
        if let Some(from) = from {
            renamed.push(from.path.as_slice());
            found.push(Change { path: shown(&file.path), how: How::Renamed { from: shown(&from.path) } });
        }
        from.is_none()
    });
    removed.retain(|file| !renamed.contains(&file.path.as_slice()));
    for (files, how) in [(&added, How::Added), (&removed, How::Removed)] {
        for (at, file) in files.iter().enumerate() {
            // A walk tells a directory before what is in it: what is in it says more.
            let holds = |next: &&File| next.path.starts_with(&[file.path.as_slice(), b"/"].concat());
            if file.kind == Some(DIRECTORY) && files.get(at + 1).is_some_and(holds) {
                continue;
            }
            found.push(Change { path: shown(&file.path), how: how.clone() });
        }
    }
    let rank = |how: &How| match how {
        How::Changed | How::Target | How::Kind { .. } => 0,
        How::Renamed { .. } => 1,
        How::Added => 2,
        How::Removed => 3,
        How::Below => 4,
        How::Mode { .. } => 5,
        How::Owner { .. } => 6,
    };
    found.sort_by_key(|change| rank(&change.how));
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, mode: u32, digest: u64) -> File {
        File { path: path.into(), kind: Some(0), mode, owner: Owner::default(), digest }
    }

    fn told(then: &[File], now: &[File], bytes_same: bool) -> Vec<String> {
        let as_before = |path: &[u8], _, _| {
            let old = then.iter().find(|file| file.path == path).map(|file| file.digest);
            if bytes_same { old } else { Some(0) }
        };
        differences(then, now, &as_before).iter().map(|c| format!("{} {:?}", c.path, c.how)).collect()
    }

    #[test]
    fn each_difference_is_told_as_what_it_is() {
        let then = [file("/a", 0o644, 1), file("/b", 0o644, 2), file("/c", 0o644, 3)];
        assert_eq!(told(&then, &then, true), Vec::<String>::new());
        assert_eq!(told(&then, &[file("/a", 0o644, 9), then[1].clone(), then[2].clone()], true), ["a Changed"]);
        let mode = [file("/a", 0o600, 9), then[1].clone(), then[2].clone()];
        assert_eq!(told(&then, &mode, true), ["a Mode { from: 420, to: 384 }"]);
        assert_eq!(told(&then, &mode, false), ["a Changed"]);
        assert_eq!(told(&then, &then[1..], true), ["a Removed"]);
        assert_eq!(told(&then[1..], &then, true), ["a Added"]);
        let renamed = [file("/z", 0o644, 1), then[1].clone(), then[2].clone()];
        assert_eq!(told(&then, &renamed, true), ["z Renamed { from: \"a\" }"]);
        let link = [File { kind: Some(2), ..file("/a", 0o644, 7) }, then[1].clone(), then[2].clone()];
        assert_eq!(told(&then, &link, true), ["a Kind { from: \"file\", to: \"symbolic link\" }"]);
        let mut owned = then.clone();
        owned[0] = File { owner: Owner { uid: 5, gid: 6 }, digest: 8, ..file("/a", 0o644, 8) };
        assert_eq!(told(&then, &owned, true), ["a Owner { from: \"0:0\", to: \"5:6\" }"]);
        let directory = File { kind: Some(1), ..file("/new", 0o755, 4) };
        let more = [&then[..], &[directory, file("/new/x\ny", 0o644, 5)]].concat();
        assert_eq!(told(&then, &more, true), ["new/x\\ny Added"]);
    }

    fn collected(paths: impl Iterator<Item = (String, u8)>) -> Vec<File> {
        let mut collector = Collector::default();
        for (path, byte) in paths {
            let digest = rhost_llb::Digest::from_raw([byte; 32]);
            let (kind, owner) = (Kind::File, Owner::default());
            collector.add(SelectedFile { path: path.as_bytes(), kind, mode: 0o644, owner, digest });
        }
        collector.finish()
    }

    #[test]
    fn a_list_is_read_as_it_was_written_and_a_damaged_one_is_none_or_another() {
        let files = collected((0..300).map(|n| (format!("/d{}/file-{n}", n / 50), n as u8)));
        let bytes = encode(&files);
        assert!(bytes.len() < files.len() * 22, "{} bytes", bytes.len());
        assert_eq!(decode(&bytes), Some(files));
        for length in 0..bytes.len() {
            let _ = decode(&bytes[..length]);
        }
        assert_eq!(decode(&[0, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255]), None);
        assert_eq!(decode(&[5, 0]), None, "shares more than there is");
    }

    #[test]
    fn of_too_many_files_directories_are_kept_and_the_one_that_changed_is_found() {
        let tree = |changed: usize| {
            collected((0..120_000).map(move |n| {
                (format!("/top{}/d{}/file-{n}", n / 60_000, n / 100), if n == changed { 99 } else { n as u8 })
            }))
        };
        let (then, now) = (tree(usize::MAX), tree(70_001));
        assert!(then.len() <= MOST, "{}", then.len());
        let found = differences(&then, &now, &|_, _, _| None);
        assert_eq!(found, [Change { path: "top1/d700".into(), how: How::Below }]);
        // All in one directory.
        let flat =
            |byte| collected((0..60_000).map(move |n| (format!("/file-{n}"), if n == 59_999 { byte } else { 1 })));
        assert_eq!(differences(&flat(1), &flat(2), &|_, _, _| None), [Change { path: "/".into(), how: How::Below }]);
    }
}
