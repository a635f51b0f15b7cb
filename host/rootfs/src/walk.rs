//! Which files of a context take part: include, exclude and followed paths, with the meaning that BuildKit's client gives them when it uploads
//! a context (spec A.2 `local.*`, F.2). `listing` does the listing.
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use crate::glob::{glob_match, has_wildcard};
use crate::listing::{Patterns, list};
use crate::path::{anchor, base, clean, dir, join, owned, relative};
use crate::root::Last;
use crate::tree::Node;
use crate::{Kind, PatternMatcher, Result, Root, Stat};

/// Which files of a directory take part: the `local.*` attributes of spec A.2, with the same meaning as in BuildKit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// At least one must match (or a parent directory); empty: everything.
    pub include: Vec<String>,
    /// None may match, after negations (`!pattern`).
    pub exclude: Vec<String>,
    /// Paths with wildcards whose symlinks are followed: the links and what they lead to are included. `None`: not used.
    pub follow_paths: Option<Vec<String>>,
}

/// Which permission bits the files of a context have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Modes {
    /// Those on disk.
    #[default]
    AsTheyAre,
    /// Those that git keeps, whatever the umask of a checkout was: 0755 for directories and for files that their owner may execute, else 0644. No
    /// set-id and sticky bits.
    Normalized,
}

impl Modes {
    /// The permission bits under which a file takes part.
    pub fn of(self, stat: &Stat) -> u32 {
        match self {
            Self::AsTheyAre => stat.mode,
            Self::Normalized if stat.is_symlink() => 0o777,
            Self::Normalized if stat.is_dir() || stat.mode & 0o100 != 0 => 0o755,
            Self::Normalized => 0o644,
        }
    }
}

/// One file that passed a filter.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Path relative to the root, without leading `/`.
    pub path: PathBuf,
    /// Metadata, owner as on disk.
    pub stat: Stat,
}

/// Lists what passes `filter`, parents before children, siblings sorted by bytes.
///
/// # Errors
/// A broken pattern, or a directory that takes part and cannot be read.
pub fn walk(root: &Root, filter: &Filter) -> Result<Vec<Entry>> {
    let mut found = Vec::new();
    flatten(list(root, &patterns(root, filter)?, Modes::AsTheyAre)?, &[], &mut found);
    Ok(found)
}

fn flatten(nodes: BTreeMap<Vec<u8>, Node>, parent: &[u8], found: &mut Vec<Entry>) {
    for (name, node) in nodes {
        let path = if parent.is_empty() { name } else { [parent, b"/", &name].concat() };
        if let Some(stat) = node.stat {
            found.push(Entry { path: owned(&path), stat });
        }
        flatten(node.children.unwrap_or_default(), &path, found);
    }
}

/// `filter` compiled; the paths that it follows are looked up in `root`.
pub(crate) fn patterns(root: &Root, filter: &Filter) -> Result<Patterns> {
    Ok(Patterns {
        include: Matcher::new(&include_patterns(root, filter)?, false)?,
        exclude: Matcher::new(&filter.exclude, true)?,
    })
}

/// Patterns, and whether a directory that they do not select can be passed over without a look inside.
pub(crate) struct Matcher {
    pub(crate) patterns: PatternMatcher,
    /// Literal beginnings of those that select something, each ending in `/`; `None` when one has wildcards and could match anywhere.
    literals: Option<Vec<Vec<u8>>>,
}

impl Matcher {
    /// `negated`: what selects something below a directory are the negations (an exclude list), else the plain patterns.
    fn new(patterns: &[String], negated: bool) -> Result<Option<Self>> {
        if patterns.is_empty() {
            return Ok(None);
        }
        let patterns = PatternMatcher::new(patterns)?;
        let mut literals = Some(Vec::new());
        for pattern in patterns.patterns().iter().filter(|p| p.negated == negated) {
            let text = pattern.text.strip_suffix(b"/**").unwrap_or(&pattern.text);
            let text = text.strip_suffix(b"/*").unwrap_or(text);
            if text.iter().any(|b| b"*[]?^\\".contains(b)) {
                literals = None;
                break;
            }
            if let Some(list) = &mut literals {
                list.push([text, b"/"].concat());
            }
        }
        Ok(Some(Self { patterns, literals }))
    }

    pub(crate) fn could_match_below(&self, dir: &[u8]) -> bool {
        let Some(literals) = &self.literals else { return true };
        let below = [dir, b"/"].concat();
        literals.iter().any(|l| l.starts_with(&below))
    }
}

fn include_patterns(root: &Root, filter: &Filter) -> Result<Vec<String>> {
    let Some(paths) = &filter.follow_paths else { return Ok(filter.include.clone()) };
    let followed = follow(root, paths)?;
    // The whole directory is among them: nothing is left out.
    let Some(followed) = drop_covered(followed.into_iter()) else { return Ok(filter.include.clone()) };
    let all = filter.include.iter().cloned().chain(followed);
    Ok(drop_covered(all).unwrap_or_default())
}

/// The paths with every symlink on the way resolved, the links themselves included; sorted.
fn follow(root: &Root, paths: &[String]) -> Result<BTreeSet<String>> {
    let mut resolved: BTreeSet<Vec<u8>> = BTreeSet::new();
    let mut todo: Vec<Vec<u8>> = paths.iter().map(|p| anchor(p.as_bytes())).collect();
    while let Some(path) = todo.pop() {
        let path = relative(&path);
        if path == b"." {
            resolved.insert(b".".to_vec());
            continue;
        }
        let parts: Vec<&[u8]> = path.split(|b| *b == b'/').collect();
        let mut current = Vec::new();
        for (at, part) in parts.iter().enumerate() {
            current = if current.is_empty() { part.to_vec() } else { join(&current, part) };
            let targets = link_targets(root, &current, true)?;
            let is_last = at + 1 == parts.len();
            if is_last || !targets.is_empty() {
                if resolved.insert(current.clone()) {
                    let rest = parts[at + 1..].join(&b'/');
                    todo.extend(targets.into_iter().map(|t| anchor(&join(&t, &rest))));
                }
                break;
            }
        }
    }
    Ok(resolved.into_iter().map(|p| String::from_utf8_lossy(&p).into_owned()).collect())
}

/// Where the symlink at `path`, or the symlinks that its last component matches, lead: absolute paths in the root.
fn link_targets(root: &Root, path: &[u8], wildcard: bool) -> Result<Vec<Vec<u8>>> {
    let name = base(path);
    if wildcard && has_wildcard(name) {
        let entries = match root.read_dir(owned(&anchor(&dir(path)))) {
            Ok(entries) => entries,
            Err(error) if error.is_not_found() => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut targets = Vec::new();
        for entry in entries.iter().filter(|e| e.stat.kind == Kind::Symlink) {
            let found = crate::path::bytes(entry.name.as_ref());
            if glob_match(name, found).unwrap_or(false) {
                targets.extend(link_targets(root, &join(&dir(path), found), false)?);
            }
        }
        return Ok(targets);
    }
    let at = owned(&anchor(path));
    match root.try_stat(&at, Last::Keep)? {
        Some(stat) if stat.is_symlink() => {
            let link = root.read_link(&at)?;
            let link = clean(crate::path::bytes(&link));
            Ok(vec![if link.first() == Some(&b'/') { link } else { anchor(&join(&dir(path), &link)) }])
        }
        _ => Ok(Vec::new()),
    }
}

/// Leaves out what lies below a path before it (the list is sorted); `None` when the whole directory is in it.
fn drop_covered(paths: impl Iterator<Item = String>) -> Option<Vec<String>> {
    let mut kept: Vec<String> = Vec::new();
    for path in paths {
        if path == "." {
            return None;
        }
        let covered =
            kept.last().is_some_and(|last| path.strip_prefix(last.as_str()).is_some_and(|rest| rest.starts_with('/')));
        if !covered {
            kept.push(path);
        }
    }
    Some(kept)
}
