//! The tree of a mount: one JSON object a line for each thing in it, parents before children, siblings by the bytes of their names, the root first with an empty path.
//!
//! ```text
//! {"p":"npm/index.js","t":"f","m":420,"u":0,"g":0,"ns":1700000000000000000,"c":[["<blake3>",1234]]}
//! ```
//! `t` is f(ile), d(irectory), l (symlink, to `s`), h(ard link, to the path `s` that came before) or p(ipe); there are no devices and no sockets. `x` are extended attributes with their values in hex. A path or target that
//! is no UTF-8 stands in hex under `ph` and `sh`. Lines are put together to trees (blobs) of about 2,000, cut by the paths, so that a changed file changes one.
use std::collections::{BTreeMap, HashMap};

use serde::{Deserialize, Serialize};

use super::CacheFormatError;
use super::chunk::{Chunk, chunk_id};

/// No tree blob unpacks to more.
pub const MOST_TREE_BYTES: u64 = 256 << 20;
/// Things in one mount at most: each takes memory.
const MOST_ENTRIES: usize = 5_000_000;
/// A tree ends when it has so many bytes.
const TREE_BYTES: usize = 4 << 20;
/// Or after one path of so many.
const TREE_LINES: u64 = 2048;
/// Kernel's limits (limits.h, xattr(7)).
const MOST_PATH: usize = 4095;
const MOST_NAME: usize = 255;
const MOST_ATTRIBUTE: usize = 64 << 10;

/// What an entry is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Node {
    /// A directory.
    Dir,
    /// A regular file of these chunks.
    File(Vec<Chunk>),
    /// A symbolic link to this.
    Symlink(Vec<u8>),
    /// Another name of the file with this path.
    HardLink(Vec<u8>),
    /// A named pipe.
    Fifo,
}

/// One thing in a mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TreeEntry {
    /// Without a leading `/`; empty for the mount itself.
    pub path: Vec<u8>,
    /// What it is.
    pub node: Node,
    /// Permission bits with setuid, setgid and sticky.
    pub mode: u32,
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Modification time, nanoseconds since 1970.
    pub mtime: i64,
    /// Extended attributes, sorted.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

impl TreeEntry {
    /// Bytes of the file, 0 for other things.
    pub fn size(&self) -> u64 {
        match &self.node {
            Node::File(chunks) => chunks.iter().map(|chunk| u64::from(chunk.len)).sum(),
            _ => 0,
        }
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    p: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ph: Option<String>,
    t: char,
    m: u32,
    u: u32,
    g: u32,
    ns: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    s: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sh: Option<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    x: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    c: Vec<(String, u32)>,
}

/// A text as it is, or its bytes in hex.
fn text(bytes: &[u8]) -> (Option<String>, Option<String>) {
    match std::str::from_utf8(bytes) {
        Ok(text) => (Some(text.to_owned()), None),
        Err(_) => (None, Some(hex::encode(bytes))),
    }
}

impl Line {
    fn of(entry: &TreeEntry) -> Self {
        let (t, target, chunks) = match &entry.node {
            Node::Dir => ('d', None, &[][..]),
            Node::File(chunks) => ('f', None, chunks.as_slice()),
            Node::Symlink(target) => ('l', Some(target), &[][..]),
            Node::HardLink(target) => ('h', Some(target), &[][..]),
            Node::Fifo => ('p', None, &[][..]),
        };
        let ((p, ph), (s, sh)) = (text(&entry.path), target.map(|target| text(target)).unwrap_or_default());
        // Names that are no text are left out where the tree is read from a disk.
        let attribute =
            |(name, value): &(Vec<u8>, Vec<u8>)| Some((String::from_utf8(name.clone()).ok()?, hex::encode(value)));
        Self {
            p,
            ph,
            t,
            m: entry.mode,
            u: entry.uid,
            g: entry.gid,
            ns: entry.mtime,
            s,
            sh,
            x: entry.xattrs.iter().filter_map(attribute).collect(),
            c: chunks.iter().map(|chunk| (hex::encode(chunk.id), chunk.len)).collect(),
        }
    }
}

/// Where `entries` are cut into tree blobs.
pub fn tree_segments(entries: &[TreeEntry]) -> Vec<std::ops::Range<usize>> {
    let (mut found, mut from, mut bytes) = (Vec::new(), 0, 0);
    for (at, entry) in entries.iter().enumerate() {
        let chunks = if let Node::File(chunks) = &entry.node { chunks.len() } else { 0 };
        bytes += 100 + entry.path.len() + 80 * chunks;
        let mut first = [0; 8];
        first.copy_from_slice(&chunk_id(&entry.path)[..8]);
        if bytes >= TREE_BYTES || u64::from_be_bytes(first) < u64::MAX / TREE_LINES {
            found.push(from..at + 1);
            (from, bytes) = (at + 1, 0);
        }
    }
    if from < entries.len() {
        found.push(from..entries.len());
    }
    found
}

/// The lines of `entries`.
///
/// # Errors
/// JSON cannot be written; it can.
pub fn write_entries(entries: &[TreeEntry]) -> serde_json::Result<Vec<u8>> {
    let mut out = Vec::new();
    for entry in entries {
        serde_json::to_writer(&mut out, &Line::of(entry))?;
        out.push(b'\n');
    }
    Ok(out)
}

/// Puts a tree together again from its blobs, and takes nothing that could not have been made by looking at a directory.
#[derive(Default)]
pub struct TreeReader {
    entries: Vec<TreeEntry>,
    /// The directories that the next entry may lie in, from the root on, as numbers.
    open: Vec<usize>,
    files: HashMap<Vec<u8>, usize>,
    bytes: u64,
}

impl TreeReader {
    /// Reads the lines of one blob.
    ///
    /// # Errors
    /// Anything that is not as it must be.
    pub fn read(&mut self, lines: &[u8]) -> Result<(), CacheFormatError> {
        for line in lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            let number = self.entries.len() + 1;
            let broken = |reason: String| CacheFormatError::Broken { what: format!("tree, line {number},"), reason };
            let line: Line = serde_json::from_slice(line).map_err(|e| broken(format!("it is not valid: {e}")))?;
            let entry = entry(line).map_err(broken)?;
            self.add(entry).map_err(broken)?;
        }
        Ok(())
    }

    fn add(&mut self, entry: TreeEntry) -> Result<(), String> {
        if self.entries.len() >= MOST_ENTRIES {
            return Err(format!("it has more than {MOST_ENTRIES} entries"));
        }
        let number = self.entries.len();
        let shown = || String::from_utf8_lossy(&entry.path).into_owned();
        if number == 0 {
            if !entry.path.is_empty() || entry.node != Node::Dir {
                return Err("it does not begin with the mount's own directory".to_owned());
            }
        } else {
            check_path(&entry.path).map_err(|reason| format!("path {:?}: {reason}", shown()))?;
            let (parent, name) = split(&entry.path);
            while self.open.last().is_some_and(|at| self.entries[*at].path != parent) {
                self.open.pop();
            }
            if self.open.is_empty() {
                return Err(format!("path {:?}: it does not lie in a directory that came before", shown()));
            }
            // Siblings come in order, which also says that none comes twice.
            let depth = self.open.len();
            let before = self.entries[number - 1].path.split(|byte| *byte == b'/').nth(depth - 1);
            let sibling = number - 1 != self.open[depth - 1];
            if sibling && before.is_none_or(|before| before >= name) {
                return Err(format!("path {:?}: it is out of order, or comes twice", shown()));
            }
        }
        if let Node::HardLink(first) = &entry.node
            && !self.files.contains_key(first)
        {
            let reason = "is a hard link to what is no file before it";
            return Err(format!("path {:?}: {reason}", shown()));
        }
        let size = entry.size();
        self.bytes =
            self.bytes.checked_add(size).filter(|sum| *sum <= i64::MAX as u64).ok_or("its files are too large")?;
        match &entry.node {
            Node::Dir => self.open.push(number),
            Node::File(_) => drop(self.files.insert(entry.path.clone(), number)),
            _ => {}
        }
        self.entries.push(entry);
        Ok(())
    }

    /// The tree, and the bytes of all its files.
    ///
    /// # Errors
    /// There is none.
    pub fn finish(self) -> Result<(Vec<TreeEntry>, u64), CacheFormatError> {
        if self.entries.is_empty() {
            return Err(CacheFormatError::Broken { what: "tree".to_owned(), reason: "it is empty".to_owned() });
        }
        Ok((self.entries, self.bytes))
    }
}

fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(at) => (&path[..at], &path[at + 1..]),
        None => (&[], path),
    }
}

fn check_path(path: &[u8]) -> Result<(), &'static str> {
    if path.len() > MOST_PATH {
        return Err("it is too long");
    }
    let good = |name: &[u8]| !matches!(name, b"" | b"." | b"..") && name.len() <= MOST_NAME && !name.contains(&0);
    if path.split(|byte| *byte == b'/').all(good) { Ok(()) } else { Err("a part of it cannot be a file's name") }
}

fn entry(line: Line) -> Result<TreeEntry, String> {
    let unhex = |text: &str| hex::decode(text).map_err(|_| format!("`{text:.80}` is no hex"));
    let bytes = |text: Option<String>, coded: Option<String>| match (text, coded) {
        (Some(text), None) => Ok(Some(text.into_bytes())),
        (None, Some(coded)) => unhex(&coded).map(Some),
        (None, None) => Ok(None),
        (Some(_), Some(_)) => Err("a text stands there twice".to_owned()),
    };
    let path = bytes(line.p, line.ph)?.ok_or("it has no path")?;
    let target = bytes(line.s, line.sh)?;
    if line.t != 'f' && !line.c.is_empty() {
        return Err("only files have chunks".to_owned());
    }
    let chunk = |(id, len): (String, u32)| {
        let mut raw = [0; 32];
        hex::decode_to_slice(&id, &mut raw).map_err(|_| format!("`{id:.80}` names no chunk"))?;
        if len == 0 || len > Chunk::MOST {
            return Err(format!("a chunk of {len} bytes; there are 1 to {}", Chunk::MOST));
        }
        Ok(Chunk { id: raw, len })
    };
    let node = match (line.t, target) {
        ('d', None) => Node::Dir,
        ('f', None) => Node::File(line.c.into_iter().map(chunk).collect::<Result<_, _>>()?),
        ('p', None) => Node::Fifo,
        ('l', Some(target)) if !target.is_empty() && target.len() <= MOST_PATH && !target.contains(&0) => {
            Node::Symlink(target)
        }
        ('h', Some(target)) => Node::HardLink(target),
        (other, _) => return Err(format!("type `{other}` is unknown, or its target is wrong")),
    };
    if line.m > 0o7777 || line.u == u32::MAX || line.g == u32::MAX {
        return Err("its mode or owner is none".to_owned());
    }
    let mut xattrs = Vec::new();
    for (name, value) in line.x {
        let known = name.starts_with("user.") || name == "security.capability" || name.starts_with("system.posix_acl_");
        let value = unhex(&value)?;
        // What marks files for overlayfs would change what a step sees.
        let mark = name.starts_with("user.overlay.");
        if !known || mark || name.len() > MOST_NAME || name.contains('\0') || value.len() > MOST_ATTRIBUTE {
            return Err(format!("attribute {name:?} is none that a cache mount has"));
        }
        xattrs.push((name.into_bytes(), value));
    }
    Ok(TreeEntry { path, node, mode: line.m, uid: line.u, gid: line.g, mtime: line.ns, xattrs })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(path: &[u8], node: Node) -> TreeEntry {
        TreeEntry { path: path.to_vec(), node, mode: 0o755, uid: 1, gid: 2, mtime: -5, xattrs: Vec::new() }
    }

    fn read(entries: &[TreeEntry]) -> Result<Vec<TreeEntry>, String> {
        let mut reader = TreeReader::default();
        for range in tree_segments(entries) {
            reader.read(&write_entries(&entries[range]).expect("written")).map_err(|e| e.to_string())?;
        }
        reader.finish().map(|(entries, _)| entries).map_err(|e| e.to_string())
    }

    #[test]
    fn a_tree_is_what_it_was() {
        let chunk = Chunk::of(b"x");
        let mut entries = vec![at(b"", Node::Dir), at(b"a", Node::Dir)];
        entries.extend((0..5000).map(|n| at(format!("a/{n:05}").as_bytes(), Node::File(vec![chunk; n % 3]))));
        entries.push(at(b"a.b", Node::Symlink(b"\xff/..".to_vec())));
        entries.push(at(b"b\xfe", Node::HardLink(b"a/00007".to_vec())));
        entries.push(at(b"c", Node::Fifo));
        entries[3].xattrs = vec![(b"security.capability".to_vec(), vec![1, 0]), (b"user.x".to_vec(), Vec::new())];
        assert!(tree_segments(&entries).len() > 1);
        assert_eq!(read(&entries).expect("read"), entries);
    }

    #[test]
    fn hostile_trees_are_refused() {
        let (dir, file) = (Node::Dir, Node::File(Vec::new()));
        let top = at(b"", Node::Dir);
        for (wrong, why) in [
            (vec![], "empty"),
            (vec![at(b"a", dir.clone())], "does not begin"),
            (vec![at(b"", file.clone())], "does not begin"),
            (vec![top.clone(), at(b"../x", file.clone())], "file's name"),
            (vec![top.clone(), at(b"..", dir.clone())], "file's name"),
            (vec![top.clone(), at(b"/x", file.clone())], "file's name"),
            (vec![top.clone(), at(b"a//x", file.clone())], "file's name"),
            (vec![top.clone(), at(b"", dir.clone())], "file's name"),
            (vec![top.clone(), at(&[b'n'; 256], file.clone())], "file's name"),
            (vec![top.clone(), at(b"a/x", file.clone())], "does not lie in"),
            (vec![top.clone(), at(b"a", Node::Symlink(b"/".to_vec())), at(b"a/x", file.clone())], "does not lie in"),
            (vec![top.clone(), at(b"a", file.clone()), at(b"a", file.clone())], "comes twice"),
            (vec![top.clone(), at(b"b", file.clone()), at(b"a", file.clone())], "out of order"),
            (vec![top.clone(), at(b"a", dir.clone()), at(b"a/x", file.clone()), at(b"a", dir.clone())], "comes twice"),
            (
                vec![top.clone(), at(b"a", dir.clone()), at(b"b", dir.clone()), at(b"a/x", file.clone())],
                "does not lie in",
            ),
            (vec![top.clone(), at(b"a", Node::HardLink(b"b".to_vec()))], "hard link"),
            (vec![top.clone(), at(b"a", dir.clone()), at(b"b", Node::HardLink(b"a".to_vec()))], "hard link"),
            (vec![top.clone(), at(b"a", Node::Symlink(Vec::new()))], "target"),
            (vec![top.clone(), TreeEntry { mode: 0o170_000, ..at(b"a", file.clone()) }], "mode"),
            (vec![top.clone(), TreeEntry { uid: u32::MAX, ..at(b"a", file.clone()) }], "owner"),
            (vec![top.clone(), at(b"a", Node::File(vec![Chunk { id: [0; 32], len: u32::MAX }]))], "chunk"),
        ] {
            let error = read(&wrong).expect_err(why);
            assert!(error.contains(why), "{error}; wanted {why}");
        }
        for (name, why) in [("trusted.overlay.opaque", "attribute"), ("user.overlay.opaque", "attribute")] {
            let mut marked = at(b"a", Node::Dir);
            marked.xattrs = vec![(name.as_bytes().to_vec(), b"y".to_vec())];
            assert!(read(&[top.clone(), marked]).expect_err(why).contains(why));
        }
        for (line, why) in [
            ("{\"p\":\"\",\"t\":\"c\",\"m\":0,\"u\":0,\"g\":0,\"ns\":0}", "unknown"),
            ("{\"p\":\"\",\"t\":\"d\",\"m\":0,\"u\":0,\"g\":0,\"ns\":0,\"rdev\":5}", "rdev"),
            ("{\"t\":\"d\",\"m\":0,\"u\":0,\"g\":0,\"ns\":0}", "no path"),
            ("[", "not valid"),
        ] {
            let error = TreeReader::default().read(line.as_bytes()).expect_err(why).to_string();
            assert!(error.contains(why) && error.contains("line 1"), "{error}");
        }
    }
}
