//! What a step wanted of a source that does not have it: where it was looked for, and why it may be missing. Nothing is looked at before
//! something failed.
use std::path::{Path, PathBuf};

use rhost_llb::{Vertex, VertexDigest};
use rhost_rootfs::{Last, Root, Tree};

use crate::op_error::OpFailure;
use crate::shared::Shared;
use crate::value::Value;

/// Names that are compared with the one that is missing, at most.
const LARGEST_DIRECTORY: usize = 10_000;

/// `failure`, told with its place and ways out if it is a path that input `input` of `vertex` does not have.
pub fn explain(shared: &Shared, vertex: &Vertex, input: usize, value: &Value, failure: OpFailure) -> OpFailure {
    let OpFailure::Files(rhost_rootfs::Error::NotFound { path }) = failure else { return failure };
    let source = vertex.inputs.get(input).map(|edge| edge.vertex);
    let mut hints = Vec::new();
    let place = match value {
        Value::Context(tree) => {
            let directory = directory(shared, tree);
            let wanted = tree.root().zip(Some(&path)).filter(|(root, path)| is_there(root, path)).is_some();
            if wanted {
                hints.push(format!(
                    "it is in that directory, but `.dockerignore` (or the build file's own ignore file) keeps it out: add a line `!{}`",
                    path.display().to_string().trim_start_matches('/')
                ));
            } else {
                hints.extend(tree.root().and_then(|root| near(root, &path)));
                hints.push("paths begin at the top of the context; nothing outside of it can be copied".into());
            }
            directory.map_or("the build context".to_owned(), |found| format!("the build context `{}`", found.display()))
        }
        Value::Scratch => "an empty file system".into(),
        Value::Snapshot(id) => {
            if let Ok(root) = shared.view(*id) {
                hints.extend(near(&root, &path));
            }
            format!("the result of {}", name(shared, source))
        }
    };
    OpFailure::NoSource { path, place, hints }
}

fn name(shared: &Shared, vertex: Option<VertexDigest>) -> String {
    vertex.map_or("an earlier step".into(), |vertex| format!("`{}`", shared.vertex(vertex).name))
}

/// The directory that the user knows `tree` by.
fn directory<'a>(shared: &'a Shared, tree: &Tree) -> Option<&'a PathBuf> {
    use std::os::unix::fs::MetadataExt as _;
    let own = tree.root()?.stat("/", Last::Follow).ok()?;
    shared
        .locals
        .values()
        .find(|path| std::fs::metadata(path).is_ok_and(|found| (found.dev(), found.ino()) == (own.dev, own.ino)))
}

fn is_there(root: &Root, path: &Path) -> bool {
    matches!(root.try_stat(path, Last::Keep), Ok(Some(_)))
}

/// A name like the first part of `path` that is not there.
fn near(root: &Root, path: &Path) -> Option<String> {
    let parent = path.ancestors().skip(1).find(|parent| is_there(root, parent))?;
    let rest = path.strip_prefix(parent).ok()?;
    let wanted = rest.iter().next()?.to_str()?;
    let entries = root.read_dir(parent).ok()?;
    let names = entries.iter().take(LARGEST_DIRECTORY).filter_map(|entry| entry.name.to_str());
    let best = closest(wanted, names)?;
    Some(format!("did you mean `{}`?", parent.join(best).display()))
}

/// The one of `names` that `wanted` was probably meant to be: the same in other letters' case, one that it begins (or the other way round)
/// up to a dot, or one that a slip of the keyboard away.
fn closest<'a>(wanted: &str, names: impl Iterator<Item = &'a str>) -> Option<String> {
    let stem = |name: &str| name.rsplit_once('.').map_or(name, |(stem, _)| stem).to_lowercase();
    let distance = |name: &str| {
        if name.to_lowercase() == wanted.to_lowercase() {
            return Some(0);
        }
        let edits = edits(&wanted.to_lowercase(), &name.to_lowercase());
        if edits <= 2 && edits * 3 <= wanted.chars().count() {
            return Some(edits);
        }
        (stem(name) == stem(wanted) && !stem(name).is_empty()).then_some(3)
    };
    names.filter_map(|name| Some((distance(name)?, name.to_owned()))).min().map(|(_, name)| name)
}

/// How many letters must be changed, added, left out or exchanged with their neighbour (optimal string alignment), of the first 64.
fn edits(left: &str, right: &str) -> usize {
    let left: Vec<char> = left.chars().take(64).collect();
    let right: Vec<char> = right.chars().take(64).collect();
    let mut rows = vec![vec![0; right.len() + 1]; left.len() + 1];
    for i in 0..=left.len() {
        for j in 0..=right.len() {
            rows[i][j] = if i == 0 || j == 0 {
                i + j
            } else {
                let changed = rows[i - 1][j - 1] + usize::from(left[i - 1] != right[j - 1]);
                let mut best = changed.min(rows[i - 1][j] + 1).min(rows[i][j - 1] + 1);
                if i > 1 && j > 1 && left[i - 1] == right[j - 2] && left[i - 2] == right[j - 1] {
                    best = best.min(rows[i - 2][j - 2] + 1);
                }
                best
            };
        }
    }
    rows[left.len()][right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_keyboard_is_understood() {
        let names = ["package.json", "Makefile", "src", "README.md", "main.go"];
        let found = |wanted| closest(wanted, names.into_iter());
        assert_eq!(found("pakcage.json").as_deref(), Some("package.json"));
        assert_eq!(found("makefile").as_deref(), Some("Makefile"));
        assert_eq!(found("README").as_deref(), Some("README.md"));
        assert_eq!(found("main.c").as_deref(), Some("main.go"));
        assert_eq!((found("x"), found("target"), found("srcdir")), (None, None, None));
    }
}
